#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use lettre::transport::smtp::client::{Certificate, TlsParameters};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::*;
use crate::{
    domain::{EmailAddress, FailureReason},
    providers::{OutgoingEmail, mail},
};

/// A relay that answers as told: `(command, reply)`. Commands that are not listed get the usual reply; `.` is the final
/// dot. `CLOSE` closes the connection instead, `HANG` says nothing more.
#[derive(Clone, Default)]
struct Relay {
    script: Vec<(&'static str, &'static str)>,
    tls: Option<TlsAcceptor>,
    implicit: bool,
    journal: Arc<Mutex<Vec<String>>>,
}

const CLOSE: &str = "close";
const HANG: &str = "hang";

impl Relay {
    fn new(script: &[(&'static str, &'static str)]) -> Self {
        Self { script: script.to_vec(), ..Self::default() }
    }

    /// Starts to listen; each connection is served like the one before.
    async fn start(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = self.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(relay.clone().serve(tcp));
            }
        });
        port
    }

    async fn serve(self, tcp: TcpStream) -> Option<()> {
        self.note("connect");
        if self.implicit {
            let tls = self.tls.clone()?.accept(tcp).await.ok()?;
            self.converse(BufReader::new(tls), true).await
        } else {
            let plain = self.converse(BufReader::new(tcp), true).await?;
            // What was sent along with STARTTLS is lost, as it should be.
            let tls = self.tls.clone()?.accept(plain).await.ok()?;
            self.converse(BufReader::new(tls), false).await
        };
        Some(())
    }

    /// Speaks until the end, or until STARTTLS, and then gives back the stream.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: BufReader<S>, greet: bool) -> Option<S> {
        if greet {
            self.reply(&mut stream, "greeting", "220 relay ESMTP").await?;
        }
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                self.note("closed");
                return None;
            }
            let line = line.trim_end();
            self.note(line);
            let word = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let usual = match word.as_str() {
                "EHLO" if self.tls.is_some() && greet && !self.implicit => {
                    "250-relay\r\n250-STARTTLS\r\n250 AUTH PLAIN"
                }
                "EHLO" => "250-relay\r\n250 AUTH PLAIN",
                "AUTH" => "235 2.7.0 ok",
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 2.0.0 ok",
            };
            let reply = self.reply(&mut stream, &word, usual).await?;
            if word == "STARTTLS" {
                return Some(stream.into_inner());
            }
            if word == "DATA" && reply.starts_with("354") {
                self.note(&read_content(&mut stream).await?);
                self.reply(&mut stream, ".", "250 2.0.0 queued").await?;
            }
        }
    }

    /// Says what the script has for `command`, else the usual; unset: the connection is to be closed.
    async fn reply<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        command: &str,
        usual: &'static str,
    ) -> Option<&'static str> {
        let reply = self.script.iter().find(|(word, _)| *word == command).map_or(usual, |(_, reply)| *reply);
        match reply {
            CLOSE => return None,
            HANG => std::future::pending().await,
            reply => stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?,
        }
        Some(reply)
    }

    fn note(&self, line: &str) {
        self.journal.lock().unwrap().push(line.into());
    }

    fn count(&self, word: &str) -> usize {
        self.journal.lock().unwrap().iter().filter(|line| line.starts_with(word)).count()
    }
}

async fn read_content<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut content = String::new();
    while !content.ends_with("\r\n.\r\n") {
        if stream.read_line(&mut content).await.ok()? == 0 {
            return None;
        }
    }
    Some(format!("content {content}"))
}

/// As it stands in the address that reports come back to.
const TOKEN: &str = "000102030405060708090a0b0c0d0e0f";

fn account(port: u16) -> SmtpAccount {
    SmtpAccount {
        host: "127.0.0.1".into(),
        port,
        security: SmtpSecurity::StartTls,
        credentials: None,
        from_address: EmailAddress::from_trusted("no-reply@acme.test".into()),
        from_name: "Acme".into(),
        reply_to: None,
        dkim: None,
        bounces_to: None,
    }
}

fn mail(account: &SmtpAccount, text: &str) -> Mail {
    let email = OutgoingEmail {
        to: EmailAddress::from_trusted("pat@example.test".into()),
        to_name: String::new().into(),
        subject: "New message".to_owned().into(),
        text: text.to_owned().into(),
        html: "<p>Hello</p>".to_owned().into(),
        message_id: "1@acme.test".into(),
        list_unsubscribe: None,
        stream: String::new(),
        attempt_token: String::new(),
        bounce_token: TOKEN.into(),
    };
    mail::build(account, &email, chrono::DateTime::UNIX_EPOCH).unwrap()
}

fn client() -> Smtp {
    Smtp::new(Network::new(true), Duration::from_secs(3), Duration::from_secs(10))
}

/// What one mail to such a relay comes to.
async fn outcome(script: &[(&'static str, &'static str)]) -> Result<(), SendError> {
    let account = account(Relay::new(script).start().await);
    client().send(&account, &mail(&account, "Hello")).await.map(drop)
}

fn refused(reason: FailureReason, code: &str) -> Result<(), SendError> {
    Err(SendError::Refused { reason, code: code.into() })
}

#[tokio::test]
async fn a_250_to_the_dot_is_acceptance() {
    let relay = Relay::default();
    let account = account(relay.start().await);
    let accepted = client().send(&account, &mail(&account, "Hello\n.\n..leading dots")).await.unwrap();
    assert_eq!(accepted.status, ReportedStatus::Accepted);
    assert_eq!(relay.count("MAIL FROM:<no-reply@acme.test>"), 1);
    assert_eq!(relay.count("RCPT TO:<pat@example.test>"), 1);
    let journal = relay.journal.lock().unwrap().join("\n");
    assert!(journal.contains("Hello\r\n..\r\n...leading dots\r\n"), "a line's first dot is doubled");
}

#[tokio::test]
async fn a_no_is_told_by_its_code_at_every_step() {
    for command in ["RCPT", "DATA", "."] {
        let not_taken = outcome(&[(command, "451 4.3.0 later")]).await;
        assert_eq!(not_taken, Err(SendError::not_taken("451 4.3.0")), "{command}");
        let blocked = outcome(&[(command, "554 5.7.1 spam")]).await;
        assert_eq!(blocked, refused(FailureReason::Blocked, "554 5.7.1"), "{command}");
        let unknown_user = outcome(&[(command, "550-5.1.1 no\r\n550 5.1.1 such user")]).await;
        assert_eq!(unknown_user, refused(FailureReason::InvalidAddress, "550 5.1.1"), "{command}");
    }
    for command in ["greeting", "EHLO", "MAIL"] {
        assert_eq!(outcome(&[(command, "554 go away")]).await, Err(SendError::misconfigured("554")), "{command}");
        assert_eq!(outcome(&[(command, "421 busy")]).await, Err(SendError::not_taken("421")), "{command}");
    }
    assert_eq!(outcome(&[("RCPT", "550 4.1.1 odd class")]).await, refused(FailureReason::Unreachable, "550"));
}

#[tokio::test]
async fn a_lost_line_is_unknown_only_after_the_dot() {
    for command in ["greeting", "EHLO", "MAIL", "RCPT", "DATA"] {
        assert_eq!(outcome(&[(command, CLOSE)]).await, Err(SendError::not_taken("closed")), "{command}");
    }
    assert_eq!(outcome(&[(".", CLOSE)]).await, Err(SendError::unknown("closed")));
}

#[tokio::test]
async fn silence_is_unknown_only_after_the_dot() {
    for (command, expected) in [
        ("greeting", SendError::not_taken("timeout")),
        ("DATA", SendError::not_taken("timeout")),
        (".", SendError::unknown("timeout")),
    ] {
        let account = account(Relay::new(&[(command, HANG)]).start().await);
        let client = Smtp::new(Network::new(true), Duration::from_secs(3), Duration::from_millis(200));
        assert_eq!(client.send(&account, &mail(&account, "Hello")).await, Err(expected), "{command}");
    }
}

#[tokio::test]
async fn a_line_that_is_lost_within_the_mail_took_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let account = account(listener.local_addr().unwrap().port());
    let (hung_up, wait) = oneshot::channel();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(tcp);
        stream.write_all(b"220 relay\r\n").await.unwrap();
        let mut line = String::new();
        while !line.starts_with("DATA") {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            let reply: &[u8] = if line.starts_with("DATA") { b"354 go on\r\n" } else { b"250 ok\r\n" };
            stream.write_all(reply).await.unwrap();
        }
        // Closing with unread bytes resets the connection while the client is still writing.
        stream.read_line(&mut line).await.unwrap();
        drop(stream);
        hung_up.send(()).unwrap();
    });
    let mail = mail(&account, &"A line of the mail.\n".repeat(250_000));
    assert_eq!(client().send(&account, &mail).await, Err(SendError::not_taken("closed")));
    wait.await.unwrap();
}

#[tokio::test]
async fn a_success_out_of_place_is_no_success() {
    assert_eq!(outcome(&[("DATA", "250 ok")]).await, Err(SendError::not_taken("out of step")));
    assert_eq!(outcome(&[("RCPT", "354 go on")]).await, Err(SendError::not_taken("out of step")));
    assert_eq!(outcome(&[(".", "354 go on")]).await, Err(SendError::unknown("out of step")));
    assert_eq!(outcome(&[(".", "nonsense")]).await, Err(SendError::unknown("closed")));
}

#[tokio::test]
async fn a_refused_connection_has_taken_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let account = account(listener.local_addr().unwrap().port());
    drop(listener);
    assert_eq!(client().send(&account, &mail(&account, "Hello")).await, Err(SendError::not_taken("connect")));
}

#[tokio::test]
async fn the_next_mail_goes_over_the_same_connection() {
    let relay = Relay::default();
    let account = account(relay.start().await);
    let client = client();
    for _ in 0..3 {
        client.send(&account, &mail(&account, "Hello")).await.unwrap();
    }
    assert_eq!((relay.count("connect"), relay.count("content"), relay.count("QUIT")), (1, 3, 0));
}

#[tokio::test]
async fn a_connection_that_did_not_end_in_a_250_is_not_used_again() {
    for reply in ["554 5.7.1 spam", "451 later", "354 go on"] {
        let relay = Relay::new(&[(".", reply)]);
        let account = account(relay.start().await);
        let client = client();
        for _ in 0..2 {
            client.send(&account, &mail(&account, "Hello")).await.unwrap_err();
        }
        assert_eq!((relay.count("connect"), relay.count("QUIT")), (2, 2), "{reply}");
    }
}

#[tokio::test]
async fn a_hanging_goodbye_does_not_change_the_outcome() {
    let relay = Relay::new(&[("RCPT", "550 5.1.1 no"), ("QUIT", HANG)]);
    let account = account(relay.start().await);
    let outcome = client().send(&account, &mail(&account, "Hello")).await.map(drop);
    assert_eq!(outcome, refused(FailureReason::InvalidAddress, "550 5.1.1"));
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced() {
    for last_word in [CLOSE, "421 idle for too long", HANG] {
        // The first connection takes one mail and then falls silent, the second works.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let account = account(listener.local_addr().unwrap().port());
        let relay = Relay::default();
        let server = relay.clone();
        tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            one_mail(&mut tcp).await;
            match last_word {
                CLOSE => drop(tcp),
                HANG => std::mem::forget(tcp),
                reply => tcp.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap(),
            }
            let (tcp, _) = listener.accept().await.unwrap();
            server.serve(tcp).await;
        });
        let client = Smtp::new(Network::new(true), Duration::from_millis(500), Duration::from_secs(10));
        for _ in 0..2 {
            client.send(&account, &mail(&account, "Hello")).await.unwrap();
        }
        assert_eq!(relay.count("content"), 1, "{last_word}");
    }
}

async fn one_mail(tcp: &mut TcpStream) {
    let mut stream = BufReader::new(tcp);
    stream.write_all(b"220 relay\r\n").await.unwrap();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if !line.starts_with("DATA") {
            stream.write_all(b"250 ok\r\n").await.unwrap();
            continue;
        }
        stream.write_all(b"354 go on\r\n").await.unwrap();
        read_content(&mut stream).await.unwrap();
        stream.write_all(b"250 queued\r\n").await.unwrap();
        return;
    }
}

#[tokio::test]
async fn a_connection_that_waited_too_long_is_forgotten() {
    let relay = Relay::default();
    let account = account(relay.start().await);
    let client = client();
    client.send(&account, &mail(&account, "Hello")).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(21)).await;
    tokio::time::resume();
    client.send(&account, &mail(&account, "Hello")).await.unwrap();
    assert_eq!(relay.count("connect"), 2);
}

#[tokio::test]
async fn a_kept_connection_serves_only_the_very_same_log_in() {
    let relay = Relay::default();
    let base = account(relay.start().await);
    let log_in = |user: &str, password: &str| SmtpAccount {
        credentials: Some((user.into(), password.to_owned().into())),
        ..base.clone()
    };
    let client = client();
    for account in [log_in("acme", "right"), log_in("acme", "wrong"), log_in("acmer", "ight"), base.clone()] {
        client.send(&account, &mail(&account, "Hello")).await.unwrap();
    }
    assert_eq!((relay.count("connect"), relay.count("AUTH PLAIN")), (4, 3));
    client.send(&log_in("acme", "right"), &mail(&base, "Hello")).await.unwrap();
    assert_eq!((relay.count("connect"), relay.count("AUTH PLAIN")), (4, 3));
}

#[tokio::test]
async fn a_refused_log_in_waits_for_an_operator() {
    let with_login =
        |port| SmtpAccount { credentials: Some(("acme".into(), "secret".to_owned().into())), ..account(port) };
    for (script, expected) in [
        (&[("AUTH", "535 5.7.8 bad credentials")][..], SendError::misconfigured("535 5.7.8")),
        (&[("AUTH", "454 4.7.0 later")][..], SendError::from_smtp(Stage::Session, 454, Some((7, 0)), "")),
        (&[("EHLO", "250 relay")][..], SendError::misconfigured("auth")),
    ] {
        let account = with_login(Relay::new(script).start().await);
        assert_eq!(client().send(&account, &mail(&account, "Hello")).await, Err(expected));
    }
}

/// A certificate for `localhost`, and what trusts it.
fn certificate() -> (TlsAcceptor, TlsParameters) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let trusted = Certificate::from_der(made.cert.der().to_vec()).unwrap();
    let parameters = TlsParameters::builder("localhost".into()).add_root_certificate(trusted).build().unwrap();
    (TlsAcceptor::from(Arc::new(config)), parameters)
}

#[tokio::test]
async fn both_ways_of_encryption_carry_mail_and_are_kept() {
    for security in [SmtpSecurity::StartTls, SmtpSecurity::Tls] {
        let (acceptor, parameters) = certificate();
        let implicit = security == SmtpSecurity::Tls;
        let relay = Relay { tls: Some(acceptor), implicit, ..Relay::default() };
        let account = SmtpAccount { host: "localhost".into(), security, ..account(relay.start().await) };
        let client = client();
        client.tls.keep("localhost", parameters);
        for _ in 0..2 {
            client.send(&account, &mail(&account, "Hello")).await.unwrap();
        }
        assert_eq!((relay.count("connect"), relay.count("content")), (1, 2), "{security:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    for security in [SmtpSecurity::StartTls, SmtpSecurity::Tls] {
        let (acceptor, _) = certificate();
        let (_, of_another) = certificate();
        let implicit = security == SmtpSecurity::Tls;
        let relay = Relay { tls: Some(acceptor), implicit, ..Relay::default() };
        let account = SmtpAccount { host: "localhost".into(), security, ..account(relay.start().await) };
        let client = client();
        client.tls.keep("localhost", of_another);
        let outcome = client.send(&account, &mail(&account, "Hello")).await;
        assert_eq!(outcome, Err(SendError::not_taken("tls")), "{security:?}");
        assert_eq!(relay.count("MAIL"), 0, "{security:?}");
    }
}

#[tokio::test]
async fn replies_slipped_in_before_encryption_are_not_believed() {
    let (acceptor, parameters) = certificate();
    let mut relay =
        Relay::new(&[("STARTTLS", "220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n250 ok\r\n250 ok\r\n354 ok\r\n250 ok")]);
    relay.tls = Some(acceptor);
    let account = SmtpAccount { host: "localhost".into(), ..account(relay.start().await) };
    let client = client();
    client.tls.keep("localhost", parameters);
    let outcome = client.send(&account, &mail(&account, "Hello")).await;
    assert_eq!(outcome, Err(SendError::not_taken("tls")));
}

#[tokio::test]
async fn a_relay_without_encryption_gets_nothing() {
    let relay = Relay::default();
    let socket = TcpStream::connect(("127.0.0.1", relay.start().await)).await.unwrap();
    let strict = Smtp::new(Network::new(false), Duration::from_secs(3), Duration::from_secs(10));
    let error = strict.open_and_upgrade(&account(1), Socket::new(socket)).await.err().unwrap();
    assert_eq!(error, SendError::misconfigured("starttls"));
    assert_eq!(relay.count("AUTH") + relay.count("MAIL"), 0);
}

#[tokio::test]
async fn a_private_relay_is_not_called() {
    let relay = Relay::default();
    let account = account(relay.start().await);
    let strict = Smtp::new(Network::new(false), Duration::from_secs(3), Duration::from_secs(10));
    let outcome = strict.send(&account, &mail(&account, "Hello")).await;
    assert_eq!(outcome, Err(SendError::misconfigured("private address")));
    assert_eq!(relay.count("connect"), 0);
}

#[tokio::test]
async fn a_relay_that_never_stops_talking_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let account = account(listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut written = 0;
        while tcp.write_all(&[b'2'; 64 * 1024]).await.is_ok() {
            written += 64 * 1024;
        }
        written
    });
    assert_eq!(client().send(&account, &mail(&account, "Hello")).await, Err(SendError::not_taken("closed")));
    assert!(server.await.unwrap() < 64 * 1024 * 1024);
}

#[tokio::test]
async fn reports_are_asked_for_where_they_come_back_and_the_relay_offers_them() {
    let bounces = EmailAddress::from_trusted("bounce@bounces.acme.test".into());
    let hello = "250-relay\r\n250-SIZE 1000\r\n250-dsn\r\n250 8BITMIME";
    for (script, wanted) in [(vec![("EHLO", hello)], true), (vec![], false)] {
        let relay = Relay::new(&script);
        let account = SmtpAccount { bounces_to: Some(bounces.clone()), ..account(relay.start().await) };
        let client = client();
        for _ in 0..2 {
            client.send(&account, &mail(&account, "Hello")).await.unwrap();
        }
        let from = format!("MAIL FROM:<bounce+{TOKEN}@bounces.acme.test>");
        let (from, to) = if wanted {
            (
                format!("{from} RET=HDRS ENVID={TOKEN}"),
                "RCPT TO:<pat@example.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;pat@example.test",
            )
        } else {
            (from, "RCPT TO:<pat@example.test>")
        };
        let journal = relay.journal.lock().unwrap().clone();
        for line in [from.as_str(), to] {
            assert_eq!(journal.iter().filter(|said| *said == line).count(), 2, "{line}: {journal:?}");
        }
        assert_eq!(relay.count("EHLO"), 2, "asked once more on each connection, and there is one");
    }
    // Nobody is to be told of who would not hear it.
    let relay = Relay::new(&[("EHLO", hello)]);
    let account = account(relay.start().await);
    client().send(&account, &mail(&account, "Hello")).await.unwrap();
    assert_eq!((relay.count("MAIL FROM:<no-reply@acme.test>"), relay.count("EHLO")), (1, 1));
    assert!(!relay.journal.lock().unwrap().join("\n").contains("NOTIFY"));
}

#[tokio::test]
async fn a_connection_that_was_not_asked_for_reports_is_not_used_where_they_are_wanted() {
    let relay = Relay::new(&[("EHLO", "250-relay\r\n250 DSN")]);
    let plain = account(relay.start().await);
    let bounces_to = Some(EmailAddress::from_trusted("bounce@bounces.acme.test".into()));
    let wanted = SmtpAccount { bounces_to, ..plain.clone() };
    let client = client();
    for account in [&plain, &wanted, &plain, &wanted] {
        client.send(account, &mail(account, "Hello")).await.unwrap();
    }
    assert_eq!((relay.count("connect"), relay.count("MAIL FROM:<bounce+")), (2, 2));
    let journal = relay.journal.lock().unwrap().clone();
    assert_eq!(journal.iter().filter(|line| line.contains("ENVID=")).count(), 2);
}

#[test]
fn an_enhanced_code_must_agree_with_its_reply() {
    for (class, text, expected) in [
        (5, "5.1.1 user unknown", Some((1, 1))),
        (5, "5.7.515 denied", Some((7, 515))),
        (4, "4.2.1", Some((2, 1))),
        (5, "4.1.1 odd", None),
        (5, "5.1 short", None),
        (5, "5.1.1.1 long", None),
        (5, "5.1.1234 large", None),
        (5, "5.1.x odd", None),
        (5, "5..1 odd", None),
        (5, "<pat@example.test>: 5.1.1", None),
        (5, "", None),
    ] {
        assert_eq!(enhanced(class, text), expected, "{text}");
    }
}
