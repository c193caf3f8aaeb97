//! Mail: whatever a name, a subject or a text says, a parser that is not ours reads the same mail as was meant, with no header, part
//! or recipient more. And reports of mail that came back, which anybody may write.

use chrono::DateTime;
use heedwell::{
    domain::{EmailAddress, SmtpAccount, SmtpSecurity, is_hidden},
    providers::{OutgoingEmail, smtp, written},
};
use mail_parser::{Address, HeaderName, MessageParser, MimeHeaders, PartType};

use crate::{bytes::Bytes, limits::reached, server::START};

/// The longest line that mail may have (RFC 5322, 2.1.1).
const LONGEST_LINE: usize = 998;

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    let flags = input.byte();
    if flags & 128 == 0 {
        write(&mut input, flags);
    } else {
        let reports = smtp::callback::parse(input.0);
        if let Ok(Some(reports)) = reports {
            assert!(reports.tokens.len() <= 8, "more tokens than are looked at");
            if let Some(report) = reports.about(|_| flags & 1 == 0) {
                assert!(report.code.len() <= 64, "a code that is a text");
                reached();
            }
        }
    }
}

fn write(input: &mut Bytes<'_>, flags: u8) {
    let to = EmailAddress::parse(&input.part());
    let mailbox = |text: &str| EmailAddress::parse(text).unwrap();
    let account = SmtpAccount {
        host: "relay.example.test".into(),
        port: 587,
        security: SmtpSecurity::StartTls,
        credentials: None,
        from_address: mailbox("no-reply@mail.acme.test"),
        from_name: input.part().into_owned(),
        reply_to: (flags & 1 == 0).then(|| mailbox("desk@acme.test")),
        dkim: None,
        bounces_to: (flags & 2 == 0).then(|| mailbox("bounce@acme.test")),
    };
    let email = OutgoingEmail {
        to: to.unwrap_or_else(|_| mailbox("pat@example.test")),
        to_name: input.part().into_owned().into(),
        subject: input.part().into_owned().into(),
        text: input.part().into_owned().into(),
        html: input.part().into_owned().into(),
        message_id: if flags & 4 == 0 { "0191-a@mail.acme.test".into() } else { input.part().into_owned() },
        list_unsubscribe: (flags & 8 == 0)
            .then(|| if flags & 16 == 0 { "https://u.acme.test/u/TOKEN".into() } else { input.part().into_owned() }),
        stream: "appointment_reminder".into(),
        attempt_token: "attempt-token".into(),
        bounce_token: "000102030405060708090a0b0c0d0e0f".into(),
    };
    let now = DateTime::from_timestamp(START, 0).unwrap();
    if let Ok(bytes) = written(&account, &email, now) {
        on_the_wire(&bytes);
        read_back(&account, &email, &bytes);
        reached();
    }
}

/// Lines of ASCII that end in CRLF and in nothing else: a bare CR or LF is what smuggles a second mail past a relay.
fn on_the_wire(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_ascii() && !text.contains('\0'), "more than ASCII");
    assert!(text.split("\r\n").all(|line| !line.contains(['\r', '\n']) && line.len() <= LONGEST_LINE), "a bad line");
}

fn read_back(account: &SmtpAccount, email: &OutgoingEmail, bytes: &[u8]) {
    let mail = MessageParser::default().parse(bytes).expect("a mail");
    let mut names: Vec<_> = mail.headers().iter().map(|header| header.name().to_ascii_lowercase()).collect();
    names.sort();
    let mut expected = vec![
        "auto-submitted",
        "content-type",
        "date",
        "feedback-id",
        "from",
        "list-id",
        "message-id",
        "mime-version",
        "subject",
        "to",
        "x-auto-response-suppress",
    ];
    if account.reply_to.is_some() {
        expected.push("reply-to");
    }
    if email.list_unsubscribe.is_some() {
        expected.extend(["list-unsubscribe", "list-unsubscribe-post"]);
    }
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(seen(mail.subject().unwrap_or_default()), seen(&email.subject.expose().replace("=?", "= ?")));
    one(mail.to(), email.to.as_str(), email.to_name.expose());
    one(mail.from(), account.from_address.as_str(), &account.from_name);
    assert_eq!(mail.message_id(), Some(email.message_id.as_str()));
    assert!(mail.header(HeaderName::Bcc).is_none() && mail.attachments().count() == 0);
    // The whole, and the same message twice.
    assert_eq!(mail.parts.len(), 3, "parts");
    for (part, meant, subtype) in [(1, &email.text, "plain"), (2, &email.html, "html")] {
        let part = &mail.parts[part];
        let content_type = part.content_type().unwrap();
        assert_eq!((content_type.ctype(), content_type.subtype()), ("text", Some(subtype)));
        let (PartType::Text(read) | PartType::Html(read)) = &part.body else { panic!("no text") };
        assert_eq!(lines(read).trim_end_matches('\n'), lines(meant.expose()).trim_end_matches('\n'));
    }
}

/// Exactly that mailbox, with that name or none.
fn one(address: Option<&Address<'_>>, mailbox: &str, name: &str) {
    let all: Vec<_> = address.expect("an address").iter().collect();
    let [only] = all[..] else { panic!("{} mailboxes", all.len()) };
    assert_eq!(only.address(), Some(mailbox));
    assert_eq!(seen(only.name().unwrap_or_default()), seen(&name.replace("=?", "= ?")));
}

/// What is seen of a text; folding and unfolding may add and take spaces.
fn seen(text: &str) -> String {
    text.chars().filter(|char| !is_hidden(*char) && !char.is_whitespace()).collect()
}

fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "")
}
