#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// What is said of Pat's mail.
fn parse(mail: &[u8]) -> Result<Option<Report>, Malformed> {
    let reports = super::parse(mail)?;
    Ok(reports.and_then(|reports| reports.about(|mailbox| mailbox.as_str().eq_ignore_ascii_case("pat@example.test"))))
}

const DIGITS: &str = "000102030405060708090a0b0c0d0e0f";

fn known_token() -> [u8; 16] {
    std::array::from_fn(|n| n as u8)
}

/// A report as Postfix writes it, to this address, with this group about the recipient.
fn postfix(to: &str, recipient: &str) -> String {
    let mail = format!(
        "Return-Path: <>
Delivered-To: {to}
Received: by mx.bounces.acme.test (Postfix)
\tid 4C2F01A; Wed, 18 Nov 2026 11:06:41 +0000 (UTC)
Date: Wed, 18 Nov 2026 11:06:41 +0000 (UTC)
From: MAILER-DAEMON@mx.example.test (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: {to}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary=\"4B1.1795/mx.example.test\"
Content-Transfer-Encoding: 8bit
Message-Id: <20261118110641.4C2F01B@mx.example.test>

This is a MIME-encapsulated message.

--4B1.1795/mx.example.test
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--4B1.1795/mx.example.test
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.test
X-Postfix-Queue-ID: 4C2F01A
Arrival-Date: Wed, 18 Nov 2026 11:06:40 +0000 (UTC)

{recipient}

--4B1.1795/mx.example.test
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

From: \"Acme Primary Care\" <no-reply@mail.acme.test>
To: \"Pat Doe\" <pat@example.test>
Message-ID: <0191-a@mail.acme.test>

--4B1.1795/mx.example.test--
"
    );
    mail.replace('\n', "\r\n")
}

/// What a report to the right address makes of this group.
fn read(recipient: &str) -> Option<Report> {
    let mail = postfix(&format!("bounce+{DIGITS}@bounces.acme.test"), recipient);
    // With bare line feeds, as a pipe on a Unix system gets it, it says the same.
    let piped = parse(mail.replace("\r\n", "\n").as_bytes()).unwrap();
    assert_eq!(parse(mail.as_bytes()).unwrap(), piped);
    piped
}

fn group(action: &str, status: &str, diagnostic: &str) -> String {
    let diagnostic = if diagnostic.is_empty() { String::new() } else { format!("\nDiagnostic-Code: {diagnostic}") };
    format!("Final-Recipient: rfc822; pat@example.test\nAction: {action}\nStatus: {status}{diagnostic}")
}

#[test]
fn a_report_tells_which_attempt_it_is_about_and_what_became_of_it() {
    use FailureReason::{Blocked, InvalidAddress, Other, Unreachable};
    use Told::{Bounced, Delayed, Delivered, GivenUp};
    for (group, told, code, failure) in [
        (
            group("failed", "5.1.1", "smtp; 550 5.1.1 <pat@example.test>: No such"),
            Bounced,
            "550 5.1.1",
            Some(InvalidAddress),
        ),
        (group("Failed", "5.1.1 (bad mailbox)", ""), Bounced, "5.1.1", Some(InvalidAddress)),
        (group("failed", "5.1.10", "smtp;556 5.1.10 null MX"), Bounced, "556 5.1.10", Some(InvalidAddress)),
        (group("failed", "5.2.2", "smtp; 552-5.2.2 over quota"), Bounced, "552 5.2.2", Some(Unreachable)),
        (group("failed", "5.7.1", "smtp; 550 5.7.1 spam"), Bounced, "550 5.7.1", Some(Blocked)),
        (group("failed", "5.4.4", "X-Postfix; no route"), Bounced, "5.4.4", Some(Unreachable)),
        // What the host said counts for more than what was made of it.
        (group("failed", "5.1.1", "smtp; 550 5.7.1 spam"), Bounced, "550 5.7.1", Some(Blocked)),
        (group("failed", "5.1.1", "smtp; 550 5.2.2 full"), Bounced, "550 5.2.2", Some(Unreachable)),
        (group("failed", "5.1.1", "smtp; 550 blocked"), Bounced, "550 5.0.0", Some(Unreachable)),
        (group("failed", "5.1.1", "smtp; 550 User unknown"), Bounced, NO_SUCH_USER, Some(Unreachable)),
        (
            group("failed", "5.2.1", "smtp; 550-5.2.1 is receiving mail at a rate that"),
            Bounced,
            "550 5.2.1",
            Some(Unreachable),
        ),
        // The status says nothing; what the host said does.
        (group("failed", "5.0.0", "smtp; 550 5.1.1 no"), Bounced, "550 5.1.1", Some(InvalidAddress)),
        (group("failed", "5.0.0", "smtp; 550 User unknown"), Bounced, NO_SUCH_USER, Some(Unreachable)),
        (group("failed", "5.0.0", ""), Bounced, "5.0.0", Some(Unreachable)),
        (group("failed", "5.9.9", ""), Bounced, "5.9.9", Some(Other)),
        // That somebody else does not know us is no fault of our account at the relay.
        (group("failed", "5.7.8", "smtp; 535 5.7.8 no"), Bounced, "535 5.7.8", Some(Blocked)),
        (group("failed", "5.1.8", "smtp; 553 5.1.8 sender"), Bounced, "553 5.1.8", Some(Blocked)),
        (group("failed", "4.4.7", "smtp; 451 4.7.1 later"), GivenUp, "451 4.4.7", Some(Unreachable)),
        (group("failed", "4.2.2", ""), GivenUp, "4.2.2", Some(Unreachable)),
        (group("delayed", "4.4.1", "smtp; 450 4.4.1 later"), Delayed, "450 4.4.1", None),
        (group("delivered", "2.0.0", "smtp; 250 2.0.0 ok"), Delivered, "", None),
    ] {
        let report = read(&group).unwrap();
        assert_eq!((report.told, report.code.as_str(), report.failure), (told, code, failure), "{group}");
    }
}

/// Each class of RFC 3463 has a reason that staff can act on, and none of them sends the operator to look: what went wrong did so
/// between others.
#[test]
fn every_class_of_the_rfc_has_a_reason() {
    use FailureReason::{Blocked, InvalidAddress, Unreachable};
    for (status, reason) in [
        ("5.0.0", Unreachable),
        ("5.0.1", Unreachable),
        ("5.1.0", Unreachable),
        ("5.1.1", InvalidAddress),
        ("5.1.4", Unreachable),
        ("5.1.7", Blocked),
        ("5.2.0", Unreachable),
        ("5.2.3", Blocked),
        ("5.2.4", Unreachable),
        ("5.3.0", Unreachable),
        ("5.3.2", Unreachable),
        ("5.3.4", Blocked),
        ("5.4.6", Unreachable),
        ("5.5.0", Unreachable),
        ("5.5.1", Unreachable),
        ("5.5.2", Unreachable),
        ("5.5.4", Unreachable),
        ("5.5.6", Unreachable),
        ("5.6.0", Blocked),
        ("5.6.1", Blocked),
        ("5.6.3", Blocked),
        ("5.6.7", Blocked),
        ("5.7.0", Blocked),
        ("5.7.26", Blocked),
    ] {
        let report = read(&group("failed", status, "")).unwrap();
        assert_eq!((report.failure, report.code.as_str()), (Some(reason), status));
    }
    // Beside them, what was said over SMTP.
    for (said, reason) in
        [("501 5.5.4 bad", Unreachable), ("554 5.6.1 eight bits", Blocked), ("503 order", Unreachable)]
    {
        let report = read(&group("failed", "5.0.0", &format!("smtp; {said}"))).unwrap();
        assert_eq!(report.failure, Some(reason), "{said}");
    }
    for (subject, detail) in (0..=7).flat_map(|subject| (0..=30).map(move |detail| (subject, detail))) {
        let report = read(&group("failed", &format!("5.{subject}.{detail}"), "")).unwrap();
        assert!(matches!(report.failure, Some(InvalidAddress | Unreachable | Blocked)), "5.{subject}.{detail}");
    }
}

#[test]
fn only_a_final_no_to_the_mailbox_is_a_bounce_and_only_words_of_the_mailbox_suppress_it() {
    assert_eq!(Told::Bounced.facts(), Facts::BOUNCED);
    assert_eq!(Told::GivenUp.facts(), Facts::UNDELIVERED);
    assert_eq!(Told::Delayed.facts(), Facts::DEFERRED);
    for subject in 0..=7 {
        for detail in 0..=30 {
            let report = read(&group("failed", &format!("5.{subject}.{detail}"), "")).unwrap();
            let dead = matches!((subject, detail), (1, 1 | 2 | 3 | 6 | 10) | (2, 1));
            assert_eq!(report.failure.is_some_and(FailureReason::suppresses_address), dead, "5.{subject}.{detail}");
            assert_ne!(report.failure, Some(FailureReason::ProviderConfig), "5.{subject}.{detail}");
        }
    }
}

#[test]
fn only_what_is_said_of_the_mail_s_own_recipient_is_held_against_it() {
    let other = group("failed", "5.1.1", "").replace("pat@", "elsewhere@");
    let forwarded = read(&other).unwrap();
    assert_eq!((forwarded.told, forwarded.failure), (Told::GivenUp, Some(FailureReason::Unreachable)));
    let both = format!("{}\n\n{other}", group("delivered", "2.0.0", ""));
    assert_eq!(read(&both).unwrap().told, Told::Delivered);
    let both = format!("{other}\n\n{}", group("failed", "5.1.1", "").replace("rfc822; pat@", "RFC822;<Pat@"));
    assert_eq!(read(&both).unwrap().failure, Some(FailureReason::InvalidAddress));
    for nobody in ["X-local; pat@example.test", "rfc822; pat", "pat@example.test"] {
        let group = group("failed", "5.1.1", "").replace("rfc822; pat@example.test", nobody);
        assert_eq!(read(&group).unwrap().failure, Some(FailureReason::Unreachable), "{nobody}");
    }
    assert_eq!(read(&group("failed", "2.0.0", "")), None);
}

#[test]
fn what_is_no_report_is_passed_over() {
    for odd in [
        group("relayed", "2.0.0", ""),
        group("expanded", "2.0.0", ""),
        group("failed", "", ""),
        group("failed", "9.1.1", ""),
        group("failed", "x", ""),
        group("", "5.1.1", ""),
        "Final-Recipient: rfc822; pat@example.test".into(),
        String::new(),
    ] {
        assert_eq!(read(&odd), None, "{odd}");
    }
    let to = format!("bounce+{DIGITS}@bounces.acme.test");
    let good = postfix(&to, &group("failed", "5.1.1", ""));
    for (part, other) in [
        ("multipart/report", "multipart/mixed"),
        ("report-type=delivery-status", "report-type=disposition-notification"),
        ("message/delivery-status", "message/disposition-notification"),
        ("boundary=\"4B1.1795/mx.example.test\"", "boundary=\"other\""),
        ("boundary=", "bounds="),
    ] {
        let other = good.replace(part, other);
        assert_ne!(other, good, "{part}");
        assert_eq!(parse(other.as_bytes()), Ok(None), "{part}");
    }
    let auto_reply = "From: pat@example.test\r\nAuto-Submitted: auto-replied\r\nSubject: Away\r\n\r\nI am away.\r\n";
    assert_eq!(parse(format!("To: {to}\r\n{auto_reply}").as_bytes()), Ok(None));
    assert_eq!(parse(b""), Err(Malformed));
}

#[test]
fn only_a_token_in_its_own_place_names_an_attempt() {
    let bounced = group("failed", "5.1.1", "");
    for to in [
        "bounce@bounces.acme.test".to_owned(),
        format!("bounce+{}@bounces.acme.test", &DIGITS[1..]),
        format!("bounce+0{DIGITS}@bounces.acme.test"),
        format!("{DIGITS}@bounces.acme.test"),
        format!("bounce+{DIGITS}"),
        format!("bounce+{DIGITS}+1@bounces.acme.test"),
        format!("bounce+{}@bounces.acme.test", "g".repeat(32)),
        format!("bounce+{}@bounces.acme.test", "é".repeat(16)),
        "pat@example.test".to_owned(),
    ] {
        assert_eq!(parse(postfix(&to, &bounced).as_bytes()), Ok(None), "{to}");
    }
    // Some systems do not keep the case of letters, and some add to them.
    for to in [
        format!("BOUNCE+{}@BOUNCES.ACME.TEST", DIGITS.to_uppercase()),
        format!("\"Bounces\" <bounce+{DIGITS}@bounces.acme.test>"),
        format!("desk@acme.test, bounce+{DIGITS}@bounces.acme.test (them)"),
        // The practice had another address when the mail left.
        format!("returns+{DIGITS}@old.acme.test"),
        format!("prvs=0123abc=bounce+{DIGITS}@bounces.acme.test"),
    ] {
        let reports = super::parse(postfix(&to, &bounced).as_bytes()).unwrap().unwrap();
        assert_eq!(reports.tokens, [known_token()], "{to}");
    }
    // Where the relay was told a name for the mail, that does as well.
    let named = postfix("desk@acme.test", &bounced)
        .replace("X-Postfix-Queue-ID", &format!("Original-Envelope-Id: {DIGITS}\r\nX-Queue-ID"));
    assert_eq!(super::parse(named.as_bytes()).unwrap().unwrap().tokens, [known_token()]);
    // What was passed on names others as well: each is a candidate, once, and few are looked at.
    let [first, second] = [1_u128, 2].map(|n| format!("list+{n:032x}@lists.example.test"));
    let all = format!("{first}, bounce+{DIGITS}@bounces.acme.test, {first}, {second}");
    let found = super::parse(postfix(&all, &bounced).as_bytes()).unwrap().unwrap().tokens;
    assert_eq!(found, [1_u128.to_be_bytes(), known_token(), 2_u128.to_be_bytes()]);
    let many: Vec<_> = (0..100_u128).map(|n| format!("a+{n:032x}@b.test")).collect();
    let found = super::parse(postfix(&many.join(",\r\n "), &bounced).as_bytes()).unwrap().unwrap().tokens;
    assert_eq!(found.len(), MOST_TOKENS);
    // A text that quotes an address names nobody.
    let quoted =
        postfix("desk@acme.test", &bounced).replace("I'm sorry", &format!("bounce+{DIGITS}@bounces.acme.test"));
    assert_eq!(parse(quoted.as_bytes()), Ok(None));
}

#[test]
fn a_return_path_is_read_back() {
    let bounces = EmailAddress::from_trusted("Bounce@bounces.acme.test".into());
    let path = return_path(&bounces, DIGITS);
    assert_eq!(path, format!("Bounce+{DIGITS}@bounces.acme.test"));
    let reports = super::parse(postfix(&path, &group("delayed", "4.4.1", "")).as_bytes()).unwrap().unwrap();
    assert_eq!(reports.tokens, [known_token()]);
    assert!(!format!("{reports:?}").contains("pat@"));
}

#[test]
fn a_report_in_base64_is_read_too() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let to = format!("bounce+{DIGITS}@bounces.acme.test");
    let status = format!("Reporting-MTA: dns; mx.example.test\r\n\r\n{}\r\n", group("failed", "5.1.1", ""));
    let encoded = BASE64_STANDARD.encode(status);
    let mail = format!(
        "To: {to}\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}\r\n--b--\r\n"
    );
    assert_eq!(parse(mail.as_bytes()).unwrap().unwrap().told, Told::Bounced);
}

/// A mail may hold a mail that holds a mail, as deep as it is long.
#[test]
fn depth_is_no_danger() {
    let to = format!("bounce+{DIGITS}@bounces.acme.test");
    let deep = "Content-Type: message/rfc822\r\n\r\n".repeat(30_000);
    let status = format!("Reporting-MTA: dns; x\r\n\r\n{}", group("failed", "5.1.1", ""));
    let mail = format!(
        "To: {to}\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n{deep}\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n{status}\r\n--b--\r\n"
    );
    assert_eq!(parse(mail.as_bytes()).unwrap().unwrap().told, Told::Bounced);
    assert_eq!(parse(format!("To: {to}\r\n{deep}").as_bytes()), Ok(None));
}

/// A good report with bytes taken out, put in or changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let good = postfix(&format!("bounce+{DIGITS}@bounces.acme.test"), &group("failed", "5.1.1", "smtp; 550 5.1.1 no"));
    let length = good.len();
    let damage = (0..length, 0..60_usize, proptest::collection::vec(any::<u8>(), 0..20));
    proptest::collection::vec(damage, 0..6).prop_map(move |all| {
        let mut mail = good.clone().into_bytes();
        for (place, cut, put) in all {
            let start = place.min(mail.len());
            let end = (start + cut).min(mail.len());
            mail.splice(start..end, put);
        }
        mail
    })
}

proptest! {
    #[test]
    fn nothing_that_comes_back_is_too_odd(mail in damaged(), bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for mail in [mail, bytes] {
            if let Ok(Some(report)) = parse(&mail) {
                prop_assert!(report.code.is_ascii() && report.code.len() <= 20, "{}", report.code);
                prop_assert_eq!(report.failure.is_some(), matches!(report.told, Told::Bounced | Told::GivenUp));
            }
        }
    }
}
