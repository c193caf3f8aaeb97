//! One dialogue with a client: the commands, their order, and the misbehaviour of the magic mailboxes. Guarantee: every
//! refusal of a mail is journalled with its step.

use std::{borrow::Cow, io, mem};

use tokio::time::sleep;

use super::{
    super::{
        journal::{Entry, Raw, Stage},
        magic::MailPlan,
    },
    Relay, auth,
    bounces::Taken,
    wire::{COMMAND_LIMIT, Line, Stream, Wire},
};

/// RFC 5321, section 4.5.3.1.6, CRLF included.
const TEXT_LINE_LIMIT: u64 = 1000;
const MAIL_LIMIT: usize = 10 * 1024 * 1024;
const RECIPIENT_LIMIT: usize = 100;

const OK: Cow<'static, str> = Cow::Borrowed("250 2.0.0 Ok");

type Reply = Cow<'static, str>;

/// How a dialogue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing follows.
    Closed,
    /// The client was told to begin TLS.
    Upgrade,
}

/// A dialogue's state.
pub(super) struct Session<'a> {
    relay: &'a Relay,
    tls: bool,
    greeted: bool,
    login: Option<String>,
    mail_from: Option<String>,
    envelope_id: Option<String>,
    rcpt_to: Vec<String>,
    notify: Option<String>,
}

/// A mail's text as it came to an end.
enum Content {
    Whole(Vec<u8>),
    Faulty(&'static str),
    Broken,
}

impl<'a> Session<'a> {
    pub(super) fn new(relay: &'a Relay, tls: bool) -> Self {
        Self {
            relay,
            tls,
            greeted: false,
            login: None,
            mail_from: None,
            envelope_id: None,
            rcpt_to: Vec::new(),
            notify: None,
        }
    }

    /// Answers commands until the client or a fault ends it.
    pub(super) async fn converse<S: Stream>(mut self, wire: &mut Wire<S>) -> io::Result<Ending> {
        loop {
            let line = match wire.line(COMMAND_LIMIT).await? {
                Line::Whole(line) => String::from_utf8_lossy(&line).into_owned(),
                Line::Faulty(reply) => {
                    wire.say(reply).await?;
                    continue;
                }
                Line::End => return Ok(Ending::Closed),
            };
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let reply = match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.hello(rest, true),
                "HELO" => self.hello(rest, false),
                "STARTTLS" if !self.offers_tls() => "502 5.5.1 No TLS here".into(),
                "STARTTLS" if wire.has_more() => self.refuse(Stage::StartTls, "554 5.5.1 Commands after STARTTLS"),
                "STARTTLS" => {
                    wire.say("220 2.0.0 Begin").await?;
                    return Ok(Ending::Upgrade);
                }
                "AUTH" => self.auth(wire, rest).await?,
                "MAIL" => self.mail(rest),
                "RCPT" => self.rcpt(rest),
                "DATA" => match self.data(wire).await? {
                    Some(reply) => reply,
                    None => return Ok(Ending::Closed),
                },
                "RSET" => {
                    self.reset();
                    OK
                }
                "NOOP" => OK,
                "VRFY" => "252 2.5.0 Try and see".into(),
                "QUIT" => {
                    wire.say("221 2.0.0 Bye").await?;
                    wire.close().await?;
                    return Ok(Ending::Closed);
                }
                _ => "500 5.5.1 Command unknown".into(),
            };
            wire.say(&reply).await?;
        }
    }

    fn offers_tls(&self) -> bool {
        self.relay.tls.is_some() && !self.tls
    }

    /// A password is asked for only where it cannot be overheard, if there is such a place.
    fn offers_auth(&self) -> bool {
        self.relay.login.is_some() && !self.offers_tls()
    }

    fn hello(&mut self, name: &str, extended: bool) -> Reply {
        if name.trim().is_empty() {
            return "501 5.5.4 Say who you are".into();
        }
        self.reset();
        self.greeted = true;
        if !extended {
            return "250 localhost".into();
        }
        let size = format!("SIZE {MAIL_LIMIT}");
        let mut lines = vec!["localhost", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN"];
        lines.extend(self.offers_tls().then_some("STARTTLS"));
        lines.extend(self.offers_auth().then_some("AUTH PLAIN LOGIN"));
        let mut reply: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
        reply.push_str("250 ");
        reply.push_str(&size);
        reply.into()
    }

    async fn auth<S: Stream>(&mut self, wire: &mut Wire<S>, rest: &str) -> io::Result<Reply> {
        if !self.greeted || self.login.is_some() || self.mail_from.is_some() {
            return Ok("503 5.5.1 Not now".into());
        }
        if !self.offers_auth() {
            let reply = if self.offers_tls() { "538 5.7.11 STARTTLS first" } else { "502 5.5.1 No login here" };
            return Ok(self.refuse(Stage::Auth, reply));
        }
        match auth::credentials(wire, rest).await? {
            Err(reply) => Ok(self.refuse(Stage::Auth, reply)),
            Ok(given) if self.relay.login.as_ref() == Some(&given) => {
                self.login = Some(given.0);
                Ok("235 2.7.0 Welcome".into())
            }
            Ok(_) => Ok(self.refuse(Stage::Auth, "535 5.7.8 Wrong user or password")),
        }
    }

    fn mail(&mut self, rest: &str) -> Reply {
        if !self.greeted || self.mail_from.is_some() {
            return self.refuse(Stage::Mail, "503 5.5.1 Not now");
        }
        if self.relay.login.is_some() && self.login.is_none() {
            return self.refuse(Stage::Mail, "530 5.7.0 Log in first");
        }
        let Some((path, params)) = path(rest, "FROM:") else {
            return self.refuse(Stage::Mail, "501 5.1.7 Bad sender");
        };
        let mut envelope_id = None;
        for param in params.split_whitespace() {
            let (keyword, value) = param.split_once('=').unwrap_or((param, ""));
            match Some((keyword.to_ascii_uppercase().as_str(), value.to_ascii_uppercase().as_str())) {
                Some(("BODY", "7BIT" | "8BITMIME")) | Some(("AUTH", _)) | Some(("RET", "HDRS" | "FULL")) => {}
                Some(("ENVID", id)) if (1..=100).contains(&id.len()) => envelope_id = Some(value.to_owned()),
                Some(("SIZE", size)) if size.parse().is_ok_and(|size: usize| size <= MAIL_LIMIT) => {}
                Some(("SIZE", _)) => return self.refuse(Stage::Mail, "552 5.3.4 Too big"),
                _ => return self.refuse(Stage::Mail, "555 5.5.4 Parameter unknown"),
            }
        }
        self.mail_from = Some(path.to_owned());
        self.envelope_id = envelope_id;
        "250 2.1.0 Ok".into()
    }

    fn rcpt(&mut self, rest: &str) -> Reply {
        if self.mail_from.is_none() {
            return self.refuse(Stage::Rcpt, "503 5.5.1 MAIL first");
        }
        let Some((address, params)) = path(rest, "TO:").filter(|(address, _)| address.contains('@')) else {
            return self.refuse(Stage::Rcpt, "501 5.1.3 Bad recipient");
        };
        let address = address.to_lowercase();
        let reply = match self.relay.rules.mail(&address) {
            _ if !params.split_whitespace().all(|param| self.heeds(param)) => "555 5.5.4 Parameter unknown",
            _ if self.rcpt_to.len() >= RECIPIENT_LIMIT => "452 4.5.3 Too many recipients",
            MailPlan::UnknownMailbox => "550 5.1.1 No such mailbox",
            MailPlan::GreylistedOnce if self.relay.rules.first_time("greylisted", &address) => {
                "450 4.7.1 Greylisted, try later"
            }
            _ => {
                self.rcpt_to.push(address);
                return "250 2.1.5 Ok".into();
            }
        };
        self.refuse_for(Stage::Rcpt, Some(address), Some(reply));
        reply.into()
    }

    /// Whether a parameter of RCPT says which reports are wanted (RFC 3461), which is noted.
    fn heeds(&mut self, param: &str) -> bool {
        match param.split_once('=') {
            Some(("NOTIFY", "NEVER")) => {}
            Some(("NOTIFY", wanted)) if wanted.split(',').all(|it| matches!(it, "SUCCESS" | "FAILURE" | "DELAY")) => {
                self.notify = Some(wanted.to_owned());
            }
            Some(("ORCPT", address)) if address.starts_with("rfc822;") && !address.contains(['+', '=']) => {}
            _ => return false,
        }
        true
    }

    /// Takes a mail and answers it; `None` hangs up.
    async fn data<S: Stream>(&mut self, wire: &mut Wire<S>) -> io::Result<Option<Reply>> {
        let Some((mail_from, (plan, address))) = self.mail_from.clone().zip(self.plan()) else {
            return Ok(Some(self.refuse(Stage::Data, "503 5.5.1 MAIL and RCPT first")));
        };
        let plan = if plan == MailPlan::Accepted { self.relay.rules.mail_lot(&address) } else { plan };
        if plan == MailPlan::Full {
            return Ok(Some(self.refuse(Stage::Data, "452 4.2.2 Mailbox full")));
        }
        wire.say("354 End with a dot").await?;
        if plan == MailPlan::DroppedBeforeDotOnce && self.relay.rules.first_time("dropped before dot", &address) {
            // The first line shows that the client is in the midst of it.
            wire.line(TEXT_LINE_LIMIT).await?;
            self.refuse_for(Stage::Data, Some(address), None);
            return Ok(None);
        }
        let mail = match content(wire).await? {
            Content::Whole(_) if plan == MailPlan::Spam => {
                return Ok(Some(self.refuse(Stage::Content, "554 5.7.1 Refused as spam")));
            }
            Content::Whole(mail) => mail,
            Content::Faulty(reply) => return Ok(Some(self.refuse(Stage::Content, reply))),
            Content::Broken => return Ok(None),
        };
        let half = self.relay.rules.reply_time() / 2;
        sleep(half).await;
        let reply = self.store(mail_from, mail, plan, &address);
        sleep(half).await;
        if plan == MailPlan::Slow {
            sleep(self.relay.rules.slow_reply()).await;
        }
        Ok(reply.map(Into::into))
    }

    /// The plan for the mail in progress and whose it is: the first recipient with a plan of its own decides for all.
    fn plan(&self) -> Option<(MailPlan, String)> {
        let plans = self.rcpt_to.iter().map(|address| (self.relay.rules.mail(address), address));
        let chosen = plans.clone().find(|(plan, _)| *plan != MailPlan::Accepted).or_else(|| plans.clone().next());
        chosen.map(|(plan, address)| (plan, address.clone()))
    }

    /// Journals a mail and gives the reply to its dot; `None` hangs up.
    fn store(&mut self, mail_from: String, mail: Vec<u8>, plan: MailPlan, address: &str) -> Option<&'static str> {
        let message_id = message_id(&mail);
        let identity = format!("{address} {}", message_id.as_deref().unwrap_or_default());
        let hangs_up =
            plan == MailPlan::DroppedAfterDotOnce && self.relay.rules.first_time("dropped after dot", &identity);
        let reply = (!hangs_up).then_some("250 2.0.0 Ok: queued");
        let envelope_id = self.envelope_id.take();
        let taken = Taken {
            mail_from: mail_from.clone(),
            recipient: address.to_owned(),
            envelope_id: envelope_id.clone(),
            content: mail.clone(),
        };
        self.relay.journal.append(Entry::SmtpMessage {
            mail_from,
            rcpt_to: mem::take(&mut self.rcpt_to),
            envelope_id,
            notify: self.notify.take(),
            raw: Raw::new(mail),
            tls: self.tls,
            login: self.login.clone(),
            message_id,
            reply: reply.map(str::to_owned),
        });
        if let MailPlan::Reported(reports) = plan {
            self.relay.bounces.report(taken, reports);
        }
        self.reset();
        reply
    }

    /// Forgets the mail in progress.
    fn reset(&mut self) {
        self.mail_from = None;
        self.envelope_id = None;
        self.rcpt_to.clear();
        self.notify = None;
    }

    /// Journals a refusal; one of a whole mail names its first recipient and ends the transaction.
    fn refuse(&mut self, stage: Stage, reply: &'static str) -> Reply {
        self.refuse_for(stage, self.rcpt_to.first().cloned(), Some(reply));
        if stage == Stage::Content {
            self.reset();
        }
        reply.into()
    }

    fn refuse_for(&self, stage: Stage, recipient: Option<String>, reply: Option<&str>) {
        self.relay.journal.append(Entry::SmtpRefused { stage, recipient, reply: reply.map(str::to_owned) });
    }
}

/// Reads a mail up to its dot, which is taken off together with the dots stuffed before other lines. A faulty one is read
/// to its end too, so that the client hears of it.
async fn content<S: Stream>(wire: &mut Wire<S>) -> io::Result<Content> {
    let mut mail = Vec::new();
    let mut fault = None;
    loop {
        match wire.line(TEXT_LINE_LIMIT + 1).await? {
            Line::End => return Ok(Content::Broken),
            Line::Faulty(reply) => fault = Some(reply),
            Line::Whole(line) if line == b"." => break,
            Line::Whole(line) => {
                mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                mail.extend_from_slice(b"\r\n");
            }
        }
        if mail.len() > MAIL_LIMIT {
            fault = Some("552 5.3.4 Too big");
            mail.clear();
        }
    }
    Ok(fault.map_or(Content::Whole(mail), Content::Faulty))
}

/// The address between `<` and `>` after `keyword`, and the parameters after it. ASCII only, for SMTPUTF8 is not offered.
fn path<'a>(rest: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (head, tail) = rest.split_at_checked(keyword.len())?;
    let (address, params) = tail.trim_start().strip_prefix('<')?.split_once('>')?;
    (head.eq_ignore_ascii_case(keyword) && address.bytes().all(|b| b.is_ascii_graphic())).then_some((address, params))
}

/// The value of the Message-ID header, which may stand on a continuation line.
fn message_id(mail: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(mail);
    let head = text.split("\r\n\r\n").next()?.replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut ids = fields.filter(|(name, _)| name.trim_end().eq_ignore_ascii_case("Message-ID"));
    ids.next().map(|(_, value)| value.trim().to_owned())
}
