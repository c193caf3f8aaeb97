#![expect(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, time::Duration};

use lettre::{
    Address,
    address::Envelope,
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        extension::ClientId,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::super::{Entry, Raw, Sandbox, Settings, Stage};
use super::*;

const MAIL: &[u8] = b"From: <a@example.test>\r\nMessage-ID:\r\n <m1@example.test>\r\n\r\n.dots..\r\n..\r\nend";

fn envelope(to: &str) -> Envelope {
    let from: Address = "practice@example.test".parse().unwrap();
    Envelope::new(Some(from), vec![to.parse().unwrap()]).unwrap()
}

async fn connect(address: SocketAddr) -> AsyncSmtpConnection {
    AsyncSmtpConnection::connect_tokio1(address, None, &ClientId::default(), None, None).await.unwrap()
}

/// Sends one mail over a connection of its own: the code of the last reply, or `None` if the relay hung up.
async fn send(sandbox: &Sandbox, to: &str) -> Option<u16> {
    let result = connect(sandbox.smtp_addr()).await.send(&envelope(to), MAIL).await;
    match result {
        Ok(reply) => Some(reply.code().into()),
        Err(error) => error.status().map(Into::into),
    }
}

/// Says `lines` in one go and reads until the relay hangs up.
async fn talk(sandbox: &Sandbox, lines: &[u8]) -> String {
    let mut stream = TcpStream::connect(sandbox.smtp_addr()).await.unwrap();
    stream.write_all(lines).await.unwrap();
    let mut replies = String::new();
    timeout(Duration::from_secs(10), stream.read_to_string(&mut replies)).await.unwrap().unwrap();
    replies
}

#[tokio::test]
async fn a_mail_comes_through_starttls_and_login_byte_for_byte() {
    let login = Some(("heedwell".to_owned(), "secret".to_owned()));
    let sandbox =
        Sandbox::start(Settings { smtp_starttls: true, smtp_login: login, ..Settings::default() }).await.unwrap();
    let certificate = Certificate::from_pem(sandbox.smtp_certificate_pem().unwrap().as_bytes()).unwrap();
    let tls = TlsParameters::builder("localhost".to_owned()).add_root_certificate(certificate).build().unwrap();
    let mut client = connect(sandbox.smtp_addr()).await;
    client.starttls(tls, &ClientId::default()).await.unwrap();
    let wrong = Credentials::new("heedwell".to_owned(), "guess".to_owned());
    assert!(client.auth(DEFAULT_MECHANISMS, &wrong).await.is_err());

    let certificate = Certificate::from_pem(sandbox.smtp_certificate_pem().unwrap().as_bytes()).unwrap();
    let tls = TlsParameters::builder("127.0.0.1".to_owned()).add_root_certificate(certificate).build().unwrap();
    let mut client = connect(sandbox.smtp_addr()).await;
    client.starttls(tls, &ClientId::default()).await.unwrap();
    let right = Credentials::new("heedwell".to_owned(), "secret".to_owned());
    client.auth(DEFAULT_MECHANISMS, &right).await.unwrap();
    client.send(&envelope("ana@example.test"), MAIL).await.unwrap();
    client.quit().await.unwrap();

    let entries = sandbox.journal().entries();
    assert!(matches!(&entries[0], Entry::SmtpRefused { stage: Stage::Auth, .. }));
    let Entry::SmtpMessage { raw, tls, login, message_id, rcpt_to, reply, .. } = &entries[1] else {
        panic!("{entries:?}")
    };
    assert_eq!(raw.bytes(), [MAIL, b"\r\n"].concat());
    assert!(matches!(raw, Raw::Text(_)) && *tls);
    assert_eq!((login.as_deref(), message_id.as_deref()), (Some("heedwell"), Some("<m1@example.test>")));
    assert_eq!(
        (rcpt_to.as_slice(), reply.as_deref()),
        (["ana@example.test".to_owned()].as_slice(), Some("250 2.0.0 Ok: queued"))
    );
    sandbox.stop().await;
}

#[tokio::test]
async fn login_works_in_both_mechanisms_and_is_demanded() {
    let login = Some(("user".to_owned(), "pass".to_owned()));
    let sandbox = Sandbox::start(Settings { smtp_login: login, ..Settings::default() }).await.unwrap();
    let replies =
        talk(&sandbox, b"EHLO x\r\nMAIL FROM:<a@example.test>\r\nAUTH LOGIN\r\ndXNlcg==\r\ncGFzcw==\r\nQUIT\r\n").await;
    assert!(replies.contains("250-AUTH PLAIN LOGIN\r\n"), "{replies}");
    assert!(replies.contains("\r\n530 5.7.0") && replies.contains("\r\n235 2.7.0"), "{replies}");
    let replies = talk(&sandbox, b"EHLO x\r\nAUTH PLAIN AHVzZXIAcGFzcw==\r\nQUIT\r\n").await;
    assert!(replies.contains("\r\n235 2.7.0"), "{replies}");
    let replies = talk(&sandbox, b"EHLO x\r\nAUTH PLAIN\r\n*\r\nQUIT\r\n").await;
    assert!(replies.contains("\r\n334 \r\n501 5.5.2"), "{replies}");
}

#[tokio::test]
async fn a_password_in_the_clear_is_refused_where_tls_is_offered() {
    let login = Some(("user".to_owned(), "pass".to_owned()));
    let sandbox =
        Sandbox::start(Settings { smtp_starttls: true, smtp_login: login, ..Settings::default() }).await.unwrap();
    let replies = talk(&sandbox, b"EHLO x\r\nAUTH PLAIN AHVzZXIAcGFzcw==\r\nQUIT\r\n").await;
    assert!(!replies.contains("250-AUTH") && replies.contains("\r\n538 5.7.11"), "{replies}");
}

#[tokio::test]
async fn commands_sent_ahead_of_tls_are_refused() {
    let sandbox = Sandbox::start(Settings { smtp_starttls: true, ..Settings::default() }).await.unwrap();
    let replies = talk(&sandbox, b"EHLO x\r\nSTARTTLS\r\nNOOP\r\nQUIT\r\n").await;
    assert!(replies.contains("250-STARTTLS\r\n") && replies.contains("\r\n554 5.5.1"), "{replies}");
    assert!(!replies.contains("\r\n220 2.0.0"), "{replies}");
}

#[tokio::test]
async fn magic_mailboxes_misbehave_as_listed() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    sandbox.rules().set_slow_reply(Duration::ZERO);
    for (to, expect) in [
        ("ana@example.test", Some(250)),
        ("nouser@example.test", Some(550)),
        ("greylist@example.test", Some(450)),
        ("greylist@example.test", Some(250)),
        ("full@example.test", Some(452)),
        ("spam@example.test", Some(554)),
        ("drop-before-dot@example.test", None),
        ("drop-before-dot@example.test", Some(250)),
        ("slow@example.test", Some(250)),
    ] {
        assert_eq!(send(&sandbox, to).await, expect, "{to}");
    }
    let stored = sandbox.journal().entries().into_iter().filter(|entry| matches!(entry, Entry::SmtpMessage { .. }));
    assert_eq!(stored.count(), 4);
}

#[tokio::test]
async fn a_mail_dropped_after_its_dot_is_stored_and_answered_the_second_time() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    assert_eq!(send(&sandbox, "drop-after-dot@example.test").await, None);
    assert_eq!(send(&sandbox, "drop-after-dot@example.test").await, Some(250));
    let replies = sandbox.journal().entries().into_iter().map(|entry| match entry {
        Entry::SmtpMessage { message_id, reply, .. } => (message_id.unwrap(), reply.is_some()),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        replies.collect::<Vec<_>>(),
        [("<m1@example.test>".to_owned(), false), ("<m1@example.test>".to_owned(), true)]
    );
}

#[tokio::test]
async fn bare_newlines_and_long_lines_spoil_a_mail() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    let long = "x".repeat(1200);
    for (text, reply) in
        [("a\nb", "554 5.5.2"), ("a\n.\nMAIL FROM:<x@x>", "554 5.5.2"), ("a\rb", "554 5.5.2"), (&long, "500 5.5.2")]
    {
        let start = "EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n";
        let replies = talk(&sandbox, format!("{start}{text}\r\n.\r\nQUIT\r\n").as_bytes()).await;
        assert!(replies.contains(&format!("354 End with a dot\r\n{reply}")), "{replies}");
    }
    let entries = sandbox.journal().entries();
    assert!(
        entries.iter().all(|entry| matches!(entry, Entry::SmtpRefused { stage: Stage::Content, .. })),
        "{entries:?}"
    );
}

#[tokio::test]
async fn commands_out_of_order_or_malformed_are_refused() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    for (lines, reply) in [
        ("MAIL FROM:<a@example.test>", "503 5.5.1"),
        ("EHLO", "501 5.5.4"),
        ("EHLO x\r\nRCPT TO:<a@example.test>", "503 5.5.1"),
        ("EHLO x\r\nMAIL FROM:a@example.test", "501 5.1.7"),
        ("EHLO x\r\nMAIL FROM:<a@example.test> SIZE=99999999999", "552 5.3.4"),
        ("EHLO x\r\nMAIL FROM:<a@example.test> SMTPUTF8", "555 5.5.4"),
        ("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<>", "501 5.1.3"),
        ("EHLO x\r\nMAIL FROM:<>\r\nDATA", "503 5.5.1"),
        ("EHLO x\r\nMAIL FROM:<> BODY=8BITMIME SIZE=10\r\nRSET\r\nMAIL FROM:<>", "250 2.1.0"),
        ("HELO x\r\nSTARTTLS", "502 5.5.1"),
        ("TURN", "500 5.5.1"),
    ] {
        let replies = talk(&sandbox, format!("{lines}\r\nQUIT\r\n").as_bytes()).await;
        let last = replies.lines().rev().nth(1).unwrap_or_default();
        assert!(last.starts_with(reply), "{lines}: {replies}");
    }
}

#[tokio::test]
async fn a_mail_that_comes_back_is_handed_over_again_until_it_is_taken() {
    let taker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/bounce", taker.local_addr().unwrap());
    let sandbox =
        Sandbox::start(Settings { carrier_delay: Duration::from_millis(1), ..Settings::default() }).await.unwrap();
    sandbox.bounce_pipe("Bounces.Example.Test", &url, "secret");
    let lines = b"EHLO x\r\nMAIL FROM:<bounce+1@bounces.example.test> RET=HDRS ENVID=one\r\nRCPT TO:<bounces@example.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;bounces@example.test\r\nDATA\r\nSubject: Hello\r\n\r\nText\r\n.\r\nQUIT\r\n";
    let replies = talk(&sandbox, lines).await;
    assert!(replies.contains("250-DSN\r\n") && replies.contains("250 2.0.0 Ok: queued"), "{replies}");
    let mut said = Vec::new();
    for status in ["503 Later", "204 Taken"] {
        let (mut tcp, _) = taker.accept().await.unwrap();
        let mut request = Vec::new();
        // The report ends with the last line of its boundary.
        while !request.ends_with(b"--\r\n") {
            assert_ne!(tcp.read_buf(&mut request).await.unwrap(), 0);
        }
        tcp.write_all(format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .await
            .unwrap();
        said.push(String::from_utf8(request).unwrap());
    }
    assert_eq!(said[0], said[1]);
    for part in [
        "authorization: Bearer secret\r\n",
        "To: bounce+1@bounces.example.test\r\n",
        "Original-Envelope-Id: one\r\n\r\nFinal-Recipient: rfc822; bounces@example.test\r\n",
        "Action: failed\r\nStatus: 5.1.1\r\n",
        "Subject: Hello\r\n",
    ] {
        assert!(said[0].contains(part), "{part} is not in {}", said[0]);
    }
    assert!(!said[0].contains("Text\r\n"), "the headers alone come back");
    let sent = |entry: &Entry| match entry {
        Entry::ReportSent { attempt, http_status, .. } => Some((*attempt, *http_status)),
        _ => None,
    };
    let entries = sandbox
        .journal()
        .wait_for(Duration::from_secs(10), |all| all.iter().filter_map(sent).count() == 2)
        .await
        .unwrap();
    assert_eq!(entries.iter().filter_map(sent).collect::<Vec<_>>(), [(1, Some(503)), (2, Some(204))]);
    let Entry::SmtpMessage { envelope_id, notify, .. } = &entries[0] else { panic!("{entries:?}") };
    assert_eq!((envelope_id.as_deref(), notify.as_deref()), (Some("one"), Some("FAILURE,DELAY")));
    sandbox.stop().await;
}

#[tokio::test]
async fn what_is_no_word_on_reports_is_refused() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    for param in ["NOTIFY=SOON", "NOTIFY=", "ORCPT=x", "SIZE=1", "ORCPT=rfc822;a+b@example.test"] {
        let lines = format!("EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test> {param}\r\nQUIT\r\n");
        let replies = talk(&sandbox, lines.as_bytes()).await;
        assert!(replies.contains("\r\n555 5.5.4"), "{param}: {replies}");
    }
    for param in ["RET=ALL", "ENVID=", "SMTPUTF8"] {
        let lines = format!("EHLO x\r\nMAIL FROM:<a@example.test> {param}\r\nQUIT\r\n");
        assert!(talk(&sandbox, lines.as_bytes()).await.contains("\r\n555 5.5.4"), "{param}");
    }
    sandbox.stop().await;
}
