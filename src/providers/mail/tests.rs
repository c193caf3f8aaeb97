#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::domain::SmtpSecurity;

fn address(text: &str) -> EmailAddress {
    EmailAddress::from_trusted(text.into())
}

fn account() -> SmtpAccount {
    SmtpAccount {
        host: "relay.example.test".into(),
        port: 587,
        security: SmtpSecurity::StartTls,
        credentials: None,
        from_address: address("no-reply@mail.acme.test"),
        from_name: "Acme Primary Care".into(),
        reply_to: Some(address("desk@acme.test")),
        dkim: None,
        bounces_to: None,
    }
}

fn email() -> OutgoingEmail {
    OutgoingEmail {
        to: address("pat@example.test"),
        to_name: "Pat Doe".to_owned().into(),
        subject: "New message from Acme Primary Care".to_owned().into(),
        text: "Hello Pat\n\n.\nA line\r\nAnother\rThe last".to_owned().into(),
        html: "<p>Hello Pat</p>".to_owned().into(),
        message_id: "0191-a@mail.acme.test".into(),
        list_unsubscribe: Some("https://u.acme.test/u/TOKEN".into()),
        stream: "appointment_reminder".into(),
        attempt_token: "attempt-token".into(),
        bounce_token: "000102030405060708090a0b0c0d0e0f".into(),
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000, 0).unwrap()
}

fn text(account: &SmtpAccount, email: &OutgoingEmail) -> String {
    String::from_utf8(build(account, email, now()).unwrap().bytes).unwrap()
}

fn headers(mail: &str) -> Vec<(&str, String)> {
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    let mut headers: Vec<(&str, String)> = Vec::new();
    for line in head.split("\r\n") {
        match (line.strip_prefix(' '), headers.last_mut()) {
            (Some(folded), Some((_, value))) => *value = format!("{value} {folded}"),
            _ => {
                let (name, value) = line.split_once(": ").unwrap();
                headers.push((name, value.into()));
            }
        }
    }
    headers
}

#[test]
fn the_headers_are_those_of_a_notification() {
    let mail = text(&account(), &email());
    let headers = headers(&mail);
    let value = |wanted: &str| {
        let mut values = headers.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{wanted} must stand once");
        first
    };
    assert_eq!(value("From"), Some("\"Acme Primary Care\" <no-reply@mail.acme.test>"));
    assert_eq!(value("To"), Some("\"Pat Doe\" <pat@example.test>"));
    assert_eq!(value("Reply-To"), Some("desk@acme.test"));
    assert_eq!(value("Subject"), Some("New message from Acme Primary Care"));
    assert_eq!(value("Message-ID"), Some("<0191-a@mail.acme.test>"));
    assert_eq!(value("Date"), Some("Wed, 18 Nov 2026 11:06:40 +0000"));
    assert_eq!(value("Auto-Submitted"), Some("auto-generated"));
    assert_eq!(value("X-Auto-Response-Suppress"), Some("All"));
    assert_eq!(value("List-Id"), Some("<notifications.mail.acme.test>"));
    assert_eq!(value("Feedback-ID"), Some("appointment_reminder:mail.acme.test:transactional:heedwell"));
    assert_eq!(value("List-Unsubscribe"), Some("<https://u.acme.test/u/TOKEN>"));
    assert_eq!(value("List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));
    assert_eq!(value("MIME-Version"), Some("1.0"));
    assert!(value("Content-Type").unwrap().starts_with("multipart/alternative;"));
    assert_eq!(value("Bcc"), None);
    // A relay reports nothing that it could be repeated in.
    assert!(!mail.contains("attempt-token"));

    let plain = OutgoingEmail { list_unsubscribe: None, ..email() };
    assert!(!text(&account(), &plain).contains("List-Unsubscribe"));
    // The name of a list has its limit; the mail has none.
    let long = format!("a@{}.test", ["x".repeat(60).as_str(); 4].join("."));
    let sender = SmtpAccount { from_address: address(&long), ..account() };
    assert!(!text(&sender, &email()).contains("List-Id"));
}

#[test]
fn the_plain_part_comes_first_and_every_line_ends_in_crlf() {
    let mail = text(&account(), &email());
    let (plain, html) = (mail.find("text/plain").unwrap(), mail.find("text/html").unwrap());
    assert!(plain < html);
    assert!(mail.contains("\r\n\r\nHello Pat\r\n\r\n.\r\nA line\r\nAnother\r\nThe last\r\n"));
    assert!(mail.contains("<p>Hello Pat</p>"));
}

#[test]
fn the_envelope_names_the_sender_and_the_patient() {
    let mail = build(&account(), &email(), now()).unwrap();
    assert_eq!(mail.envelope.from().unwrap().to_string(), "no-reply@mail.acme.test");
    let to: Vec<_> = mail.envelope.to().iter().map(ToString::to_string).collect();
    assert_eq!(to, ["pat@example.test"]);
    assert_eq!(mail.envelope_id, None);

    let account = SmtpAccount { bounces_to: Some(address("bounce@bounces.acme.test")), ..account() };
    let mail = build(&account, &email(), now()).unwrap();
    let token = "000102030405060708090a0b0c0d0e0f";
    assert_eq!(mail.envelope.from().unwrap().to_string(), format!("bounce+{token}@bounces.acme.test"));
    assert_eq!(mail.envelope_id.as_deref(), Some(token));
    // It is for the way back, and not for whoever reads the mail.
    assert!(!String::from_utf8(mail.bytes).unwrap().contains(token));
}

#[test]
fn control_characters_never_reach_a_header() {
    for character in ['\r', '\n', '\0', '\u{1b}', '\u{7f}', '\u{85}'] {
        let evil = format!("a{character}Bcc: eve@example.test");
        for email in [
            OutgoingEmail { subject: evil.clone().into(), ..email() },
            OutgoingEmail { to_name: evil.clone().into(), ..email() },
            OutgoingEmail { message_id: evil.clone(), ..email() },
            OutgoingEmail { stream: evil.clone(), ..email() },
            OutgoingEmail { list_unsubscribe: Some(format!("https://{evil}")), ..email() },
        ] {
            assert_eq!(build(&account(), &email, now()).err(), Some(SendError::internal("header")));
        }
        let sender = SmtpAccount { from_name: evil, ..account() };
        assert_eq!(build(&sender, &email(), now()).err(), Some(SendError::internal("header")));
    }
}

/// RFC 5322, section 3.2.3: an atom holds no dot, so that a name with one stands in quotes.
#[test]
fn a_name_of_one_word_with_a_dot_is_quoted() {
    for (name, written) in [
        ("Acme.Care", "\"Acme.Care\" "),
        ("J.", "\"J.\" "),
        ("a.b-c_d", "\"a.b-c_d\" "),
        ("Dr. Ray", "\"Dr. Ray\" "),
        ("Acme", "Acme "),
    ] {
        let account = SmtpAccount { from_name: name.into(), ..account() };
        let email = OutgoingEmail { to_name: name.to_owned().into(), ..email() };
        let mail = text(&account, &email);
        assert!(mail.contains(&format!("\r\nFrom: {written}<no-reply@mail.acme.test>\r\n")), "{mail}");
        assert!(mail.contains(&format!("\r\nTo: {written}<pat@example.test>\r\n")), "{mail}");
    }
    let long = "x.".repeat(100);
    let mail = text(&SmtpAccount { from_name: long.clone(), ..account() }, &email());
    assert!(mail.contains(&format!("\r\nFrom: \"{long}\"\r\n <no-reply@mail.acme.test>\r\n")), "{mail}");
}

#[test]
fn what_is_not_seen_stands_in_no_header() {
    let evil = "Pat\u{202e}\u{2066}\u{feff}\u{200b}\u{ad}\u{e0041}";
    let account = SmtpAccount { from_name: evil.into(), ..account() };
    let email = OutgoingEmail { subject: evil.to_owned().into(), to_name: evil.to_owned().into(), ..email() };
    let mail = text(&account, &email);
    for line in ["From: Pat <no-reply@mail.acme.test>", "To: Pat <pat@example.test>", "Subject: Pat"] {
        assert!(mail.contains(&format!("\r\n{line}\r\n")), "{mail}");
    }
}

#[test]
fn an_address_that_no_relay_could_use_is_refused() {
    for to in ["pat", "pat@example.test\r\nRCPT TO:<eve@example.test>", "pät@example.test", "a b@example.test"] {
        let error = build(&account(), &OutgoingEmail { to: address(to), ..email() }, now()).err().unwrap();
        assert_eq!(error.reason(), Some(FailureReason::InvalidAddress), "{to}");
    }
    let sender = SmtpAccount { from_address: address("acme"), ..account() };
    assert_eq!(build(&sender, &email(), now()).err(), Some(SendError::misconfigured("from")));
}

#[test]
fn only_an_https_url_unsubscribes() {
    for url in ["http://u.acme.test/u", "mailto:unsub@acme.test", "https://u.acme.test/>,<mailto:x@y.test", ""] {
        let list = OutgoingEmail { list_unsubscribe: Some(url.into()), ..email() };
        assert!(build(&account(), &list, now()).is_err(), "{url}");
    }
}

/// Text out of whatever has ever upset a relay.
fn odd_lines() -> impl Strategy<Value = String> {
    let long = "x".repeat(400);
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n.".to_owned()),
        Just("\0".to_owned()),
        Just("word ".to_owned()),
        Just(long),
        "\\PC{0,8}",
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_mail_is_ascii_in_short_lines_without_a_bare_cr_or_lf(
        subject in "\\PC{0,200}",
        name in "\\PC{0,60}",
        plain in odd_lines(),
        html in odd_lines(),
    ) {
        let email = OutgoingEmail {
            subject: subject.into(),
            to_name: name.clone().into(),
            text: plain.into(),
            html: html.into(),
            ..email()
        };
        let account = SmtpAccount { from_name: name, ..account() };
        let mail = text(&account, &email);
        prop_assert!(mail.is_ascii());
        for line in mail.split("\r\n") {
            prop_assert!(line.len() <= 998, "{} octets", line.len());
            prop_assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
        }
        prop_assert_eq!(headers(&mail).len(), 14);
    }
}

/// A header as another parser reads it, folded lines and encoded words undone.
fn read<'a>(mail: &'a mail_parser::Message<'_>, name: &'static str) -> Option<&'a mail_parser::HeaderValue<'a>> {
    let mut found = mail.headers().iter().filter(|header| header.name.as_str().eq_ignore_ascii_case(name));
    let value = found.next().map(|header| &header.value);
    assert!(found.next().is_none(), "{name} stands there twice");
    value
}

/// White space in a name or a subject may be folded; what is at its ends is no part of it.
fn spaced(text: &str) -> String {
    // What looks like an encoded word is to be read as it was typed, and what is not seen is left out.
    legible(text).replace("=?", "= ?").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Names and subjects as people type them, and as nobody would.
fn header_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -~]{0,30}",
        "\\PC{0,12}",
        "[\\p{Latin}\\p{Cyrillic}\\p{Han}\\p{Emoji}]{0,20}",
        Just("=?utf-8?b?QmNjOiBldmVAZXhhbXBsZS50ZXN0?=".to_owned()),
        Just("\"quoted\" \\ <eve@example.test>, (comment)".to_owned()),
        "[a-z]{1,9}\\.[a-z.]{0,9}",
        Just("Bcc: eve@example.test; \u{202e}\u{feff}".to_owned()),
        Just("word ".repeat(20)),
        Just("x".repeat(120)),
        Just("é".repeat(80)),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// As many cases as `PROPTEST_CASES` says.
    #[test]
    fn another_parser_reads_the_same_headers_and_none_besides(
        subject in header_text(),
        to_name in header_text(),
        from_name in header_text(),
        text in odd_lines(),
        listed in any::<bool>(),
        dkim in any::<bool>(),
    ) {
        let fits = |text: &str| text.len() <= HEADER_LIMIT && !text.chars().any(char::is_control);
        prop_assume!([&subject, &to_name, &from_name].into_iter().all(|text| fits(text)));
        let url = "https://u.acme.test/u/TOKEN";
        let email = OutgoingEmail {
            subject: subject.clone().into(),
            to_name: to_name.clone().into(),
            text: text.clone().into(),
            list_unsubscribe: listed.then(|| url.into()),
            ..email()
        };
        let key = include_str!("../../../tests/vectors/keys/ed25519.pem").to_owned().into();
        let dkim = dkim.then(|| crate::domain::Dkim { domain: "acme.test".into(), selector: "s1".into(), pem: key });
        let signed = dkim.is_some();
        let account = SmtpAccount { from_name: from_name.clone(), dkim, ..account() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(super::signed(&Arc::default(), &account, &email, now())).unwrap().bytes;
        let mail = mail_parser::MessageParser::default().parse(&bytes).unwrap();

        let mut names: Vec<_> = mail.headers().iter().map(|header| header.name.as_str().to_ascii_lowercase()).collect();
        names.sort();
        let mut expected = vec![
            "auto-submitted", "content-type", "date", "feedback-id", "from", "list-id", "message-id", "mime-version",
            "reply-to", "subject", "to", "x-auto-response-suppress",
        ];
        expected.extend(listed.then_some(["list-unsubscribe", "list-unsubscribe-post"]).into_iter().flatten());
        expected.extend(signed.then_some("dkim-signature"));
        expected.sort_unstable();
        prop_assert_eq!(names, expected);

        let people = [("from", &from_name, "no-reply@mail.acme.test"), ("to", &to_name, "pat@example.test")];
        for (header, name, address) in people {
            let value = read(&mail, header).unwrap().as_address().unwrap();
            let all: Vec<_> = value.iter().collect();
            prop_assert_eq!(all.len(), 1, "{} has {:?}", header, all);
            prop_assert_eq!(all[0].address.as_deref(), Some(address));
            prop_assert_eq!(spaced(all[0].name.as_deref().unwrap_or_default()), spaced(name), "{}", header);
        }
        let read_subject = read(&mail, "subject").unwrap().as_text().unwrap_or_default();
        prop_assert_eq!(spaced(read_subject), spaced(&subject));
        prop_assert_eq!(mail.message_id(), Some("0191-a@mail.acme.test"));
        prop_assert_eq!(mail.parts.len(), 3);
        let body = mail.body_text(0).unwrap().replace("\r\n", "\n");
        prop_assert_eq!(body.trim_end().to_owned(), lines(&text).trim_end().to_owned());
    }
}
