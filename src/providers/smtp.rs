//! One mail to one relay, step by step. lettre speaks the commands; what they mean is decided here, because "not taken"
//! and "unknown" hang on how far the dialogue had come.
//!
//! Guarantee: a mail counts as accepted only after a 250 to its final dot, and a connection is used again only after that.
//! Any other end leaves replies under way that the next mail would take for its own.

use std::{error::Error as _, fmt, iter, time::Duration};

use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::AsyncSmtpConnection,
        commands::{Data, Ehlo, Mail as MailFrom, Rcpt},
        extension::{ClientId, Extension, MailParameter, RcptParameter},
        response::{Response, Severity},
    },
};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use self::{
    idle::{Connection, Idle, Key},
    socket::{Socket, Tls},
};
use super::{Accepted, SendError, mail::Mail, net::Network, twilio::callback::ReportedStatus};
use crate::domain::{SmtpAccount, SmtpSecurity};

pub mod callback;
mod idle;
mod socket;
#[cfg(test)]
mod tests;

/// Saying goodbye is politeness; it may not hold up what is known already.
const QUIT_LIMIT: Duration = Duration::from_secs(1);

/// How far the dialogue has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, logging in, naming the sender: the relay has not heard of a recipient.
    Session,
    /// From the recipient to the last line of the mail. Without the final dot the relay has to forget it.
    Recipient,
    /// The final dot is under way: the relay may have taken the mail.
    Dot,
}

/// The client.
pub(super) struct Smtp {
    network: Network,
    connect_timeout: Duration,
    call_timeout: Duration,
    hello: ClientId,
    tls: Tls,
    idle: Idle,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("network", &self.network).field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl Smtp {
    pub(super) fn new(network: Network, connect_timeout: Duration, call_timeout: Duration) -> Self {
        Self {
            network,
            connect_timeout,
            call_timeout,
            hello: ClientId::default(),
            tls: Tls::default(),
            idle: Idle::default(),
        }
    }

    /// Hands `mail` to the account's relay.
    pub(super) async fn send(&self, account: &SmtpAccount, mail: &Mail) -> Result<Accepted, SendError> {
        let mut stage = Stage::Session;
        let key = Key::of(account);
        let dialogue = async {
            let mut connection = self.session(account, key, mail).await?;
            let verdict = content(&mut connection, mail, &mut stage).await;
            Ok::<_, SendError>((connection, verdict))
        };
        let (mut connection, verdict) = match timeout(self.call_timeout, dialogue).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => return Err(error),
            // The connection is gone with the dialogue that was cut short.
            Err(_) => return Err(SendError::lost(stage, "timeout")),
        };
        let left = if verdict.is_ok() {
            connection.mails += 1;
            self.idle.put(key, connection)
        } else {
            Some(connection)
        };
        if let Some(mut connection) = left {
            let _ = timeout(QUIT_LIMIT, connection.smtp.quit()).await;
        }
        verdict.map(|()| Accepted {
            provider_ref: None,
            status: ReportedStatus::Accepted,
            sms_segments: None,
            clock_offset: None,
        })
    }

    /// A connection whose relay has taken the sender: a kept one, or a new one. A kept one that fails in any way has taken
    /// nothing, so it is forgotten and the new one has the word.
    async fn session(&self, account: &SmtpAccount, key: Key, mail: &Mail) -> Result<Connection, SendError> {
        if let Some(mut kept) = self.idle.take(key) {
            let reply = timeout(self.connect_timeout, kept.smtp.command(sender(mail, kept.reports))).await;
            if let Ok(Ok(reply)) = reply
                && is_done(&reply)
            {
                return Ok(kept);
            }
        }
        let mut smtp = self.open(account).await?;
        let reports = account.bounces_to.is_some() && self.offers_reports(&mut smtp).await?;
        let reply = smtp.command(sender(mail, reports)).await;
        expect(Stage::Session, reply, is_done)?;
        Ok(Connection { smtp, reports, mails: 0 })
    }

    /// Whether the relay lets us say which reports are wanted (RFC 3461). lettre forgets that, so the relay is asked again.
    async fn offers_reports(&self, smtp: &mut AsyncSmtpConnection) -> Result<bool, SendError> {
        match smtp.command(Ehlo::new(self.hello.clone())).await {
            Ok(reply) => Ok(reply.message().skip(1).any(|line| line.trim().eq_ignore_ascii_case("DSN"))),
            Err(error) => Err(failure(Stage::Session, &error)),
        }
    }

    /// A new connection, encrypted and logged in.
    async fn open(&self, account: &SmtpAccount) -> Result<AsyncSmtpConnection, SendError> {
        let socket = self.network.connect(&account.host, account.port, self.connect_timeout).await?;
        let socket = Socket::new(socket);
        let mut smtp = match account.security {
            SmtpSecurity::Tls => self.open_encrypted(account, socket).await?,
            SmtpSecurity::StartTls => self.open_and_upgrade(account, socket).await?,
        };
        if let Some((user, password)) = &account.credentials {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            let reply = smtp.auth(DEFAULT_MECHANISMS, &credentials).await;
            if matches!(&reply, Err(error) if error.is_client()) {
                // The relay offers no way to log in that is known here.
                return Err(SendError::misconfigured("auth"));
            }
            expect(Stage::Session, reply, is_done)?;
        }
        Ok(smtp)
    }

    async fn open_encrypted(&self, account: &SmtpAccount, socket: Socket) -> Result<AsyncSmtpConnection, SendError> {
        let tls = self.tls.parameters(&account.host).await.ok_or(SendError::not_taken("tls"))?;
        let encrypted = timeout(self.connect_timeout, socket.encrypted(tls)).await;
        let Ok(Ok(stream)) = encrypted else { return Err(SendError::not_taken("tls")) };
        let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &self.hello).await;
        greeting.map_err(|error| failure(Stage::Session, &error))
    }

    async fn open_and_upgrade(&self, account: &SmtpAccount, socket: Socket) -> Result<AsyncSmtpConnection, SendError> {
        let plain_permitted = self.network.allow_private && socket.is_loopback();
        let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(socket), &self.hello).await;
        let mut smtp = greeting.map_err(|error| failure(Stage::Session, &error))?;
        if !smtp.server_info().supports_feature(Extension::StartTls) {
            // Somebody on the way may have taken the offer out, so there is no going on without it.
            return if plain_permitted { Ok(smtp) } else { Err(SendError::misconfigured("starttls")) };
        }
        let tls = self.tls.parameters(&account.host).await.ok_or(SendError::not_taken("tls"))?;
        match smtp.starttls(tls, &self.hello).await {
            Ok(()) => Ok(smtp),
            Err(error) if error.status().is_some() => Err(failure(Stage::Session, &error)),
            Err(_) => Err(SendError::not_taken("tls")),
        }
    }
}

/// The sender. A report shall name the mail, and hold its headers alone, so that no text comes back.
fn sender(mail: &Mail, reports: bool) -> MailFrom {
    let parameter = |(keyword, value): (&str, &str)| MailParameter::Other {
        keyword: keyword.to_owned(),
        value: Some(value.to_owned()),
    };
    let envelope_id = mail.envelope_id.as_deref().filter(|_| reports);
    let wanted = envelope_id.map(|id| [("RET", "HDRS"), ("ENVID", id)].map(parameter).to_vec());
    MailFrom::new(mail.envelope.from().cloned(), wanted.unwrap_or_default())
}

/// A recipient, and which reports about it are wanted: that it arrived is not among them, since few would tell.
fn recipient(address: &Address, reports: bool) -> Rcpt {
    let parameter =
        |(keyword, value): (&str, String)| RcptParameter::Other { keyword: keyword.to_owned(), value: Some(value) };
    let wanted = [("NOTIFY", "FAILURE,DELAY".to_owned()), ("ORCPT", format!("rfc822;{address}"))];
    Rcpt::new(address.clone(), if reports { wanted.map(parameter).to_vec() } else { Vec::new() })
}

/// The recipient and the mail. `stage` tells how far it came, even when this future is dropped.
async fn content(connection: &mut Connection, mail: &Mail, stage: &mut Stage) -> Result<(), SendError> {
    let Connection { smtp, reports, .. } = connection;
    *stage = Stage::Recipient;
    for address in mail.envelope.to() {
        let reply = smtp.command(recipient(address, *reports)).await;
        expect(*stage, reply, is_done)?;
    }
    let reply = smtp.command(Data).await;
    expect(*stage, reply, |reply| reply.has_code(354))?;

    // lettre asks for another part once the last is written, and then writes the dot.
    let mut dot = || {
        *stage = Stage::Dot;
        None
    };
    let sent = smtp.message_iter(iter::once(mail.bytes.as_slice()).chain(iter::from_fn(&mut dot)));
    let reply = failpoint!("F8", sent).await;
    expect(*stage, reply, |reply| reply.has_code(250))
}

fn is_done(reply: &Response) -> bool {
    reply.code().severity == Severity::PositiveCompletion
}

/// Any reply but the wanted one ends the dialogue. lettre counts every 2yz and 3yz as success; here one that is out of
/// place means that the two sides have lost step.
fn expect(stage: Stage, reply: Result<Response, Error>, wanted: impl Fn(&Response) -> bool) -> Result<(), SendError> {
    match reply {
        Ok(reply) if wanted(&reply) => Ok(()),
        Ok(_) => Err(SendError::lost(stage, "out of step")),
        Err(error) => Err(failure(stage, &error)),
    }
}

/// What an error of lettre means: a reply that said no, or no reply.
fn failure(stage: Stage, error: &Error) -> SendError {
    match error.status() {
        Some(code) => {
            let text = error.source().map(ToString::to_string).unwrap_or_default();
            SendError::from_smtp(stage, code.into(), enhanced(u16::from(code) / 100, &text), &text)
        }
        None => SendError::lost(stage, "closed"),
    }
}

/// Subject and detail of the enhanced status code that a reply's text begins with (RFC 2034, 3463). Its class has to agree
/// with the reply.
fn enhanced(class: u16, text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().next()?.splitn(3, '.').map(|part| {
        let fits = (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| part.parse::<u16>().ok()).flatten()
    });
    let (stated, subject, detail) = (numbers.next()??, numbers.next()??, numbers.next()??);
    (stated == class).then_some((subject, detail))
}
