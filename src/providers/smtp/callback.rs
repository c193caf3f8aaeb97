//! What mail systems say of a mail that a relay took: delivery status notifications (RFC 3464), which come back to the
//! address that the mail was sent from. That address has the attempt's token in it (VERP), and nothing that could be guessed.
//! Pure.
//!
//! Guarantee: anybody can write to such an address, so that only what names a token is believed, and only of that attempt.

use std::fmt;

use mail_parser::{ContentType, Message, MessageParser, MimeHeaders, PartType};

use super::{super::SendError, Stage, enhanced};
use crate::domain::{EmailAddress, Facts, FailureReason, NO_SUCH_USER};

/// A token as it stands in an address: two digits a byte. Some mail systems do not keep the case of letters.
const TOKEN_DIGITS: usize = 32;
/// Tokens that are looked at. A report came to one address, and was passed on by a few at most.
const MOST_TOKENS: usize = 8;
/// A report has some kilobytes; beyond this many parts or lines it is none.
const MOST_PARTS: usize = 50;
const MOST_FIELDS: usize = 1_000;

/// The address that reports about one attempt come back to.
pub(in crate::providers) fn return_path(bounces: &EmailAddress, token: &str) -> String {
    let (local, domain) = bounces.as_str().split_once('@').unwrap_or((bounces.as_str(), ""));
    format!("{local}+{token}@{domain}")
}

/// What is said of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Told {
    /// It arrived.
    Delivered,
    /// It waits on the way, and is tried again.
    Delayed,
    /// It waited on the way until it was given up.
    GivenUp,
    /// It was refused for good.
    Bounced,
}

impl Told {
    /// By the action and the class of the status (RFC 3464, sections 2.3.3 and 2.3.4). Who relays or expands an address does
    /// not know what became of it.
    fn of(action: &str, class: u16) -> Option<Self> {
        Some(match (action.to_ascii_lowercase().as_str(), class) {
            ("failed", 5) => Self::Bounced,
            ("failed", 4) => Self::GivenUp,
            ("delayed", _) => Self::Delayed,
            ("delivered", _) => Self::Delivered,
            _ => return None,
        })
    }

    /// The word of the report.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Delayed => "delayed",
            Self::GivenUp | Self::Bounced => "failed",
        }
    }

    /// What it adds to what is known of the delivery.
    #[must_use]
    pub const fn facts(self) -> Facts {
        match self {
            Self::Delivered => Facts::DELIVERED,
            Self::Delayed => Facts::DEFERRED,
            Self::GivenUp => Facts::UNDELIVERED,
            Self::Bounced => Facts::BOUNCED,
        }
    }
}

/// A report about one mail, with what it says of each recipient. The mail had one; whoever forwards it adds others.
#[derive(Clone, PartialEq, Eq)]
pub struct Reports {
    /// What may be the attempt's token, the likeliest first. At most one of them is: others send from such addresses as well,
    /// and a report may have been passed on through theirs.
    pub tokens: Vec<[u8; 16]>,
    each: Vec<(Option<EmailAddress>, Report)>,
}

impl Reports {
    /// What became of the mail: what is said of its own recipient, or else of those to whom it was forwarded, which says
    /// nothing against the mailbox.
    pub fn about(self, is_own: impl Fn(&EmailAddress) -> bool) -> Option<Report> {
        let (own, others): (Vec<_>, Vec<_>) =
            self.each.into_iter().partition(|(mailbox, _)| mailbox.as_ref().is_some_and(&is_own));
        let worst = |reports: Vec<(_, Report)>| reports.into_iter().map(|(_, report)| report).max_by_key(|it| it.told);
        worst(own).or_else(|| worst(others).map(Report::of_another))
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the token nor the mailboxes.
        f.debug_struct("Reports").field("count", &self.each.len()).finish_non_exhaustive()
    }
}

/// What is said of one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// What it says.
    pub told: Told,
    /// In short: `550 5.1.1`. Never a foreign server's text.
    pub code: String,
    /// Why it did not arrive, if it did not.
    pub failure: Option<FailureReason>,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("told", &self.told).field("code", &self.code).finish_non_exhaustive()
    }
}

impl Report {
    fn of_another(self) -> Self {
        match self.told {
            Told::Bounced => Self { told: Told::GivenUp, failure: Some(FailureReason::Unreachable), ..self },
            Told::Delivered | Told::Delayed | Told::GivenUp => self,
        }
    }
}

/// The body is no mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a mail")]
pub struct Malformed;

/// Reads a mail that came back. Before the token and behind it the address may say anything: a practice may have changed its own
/// while the mail was under way, so that the token alone tells. Unset: it is no report, or not one about a mail from here, as
/// what machines answer by themselves is (RFC 3834).
///
/// # Errors
/// When it is no mail.
pub fn parse(mail: &[u8]) -> Result<Option<Reports>, Malformed> {
    // The parts are read one by one: a mail that holds a mail that holds a mail could be as deep as it is long.
    let head = MessageParser::default().parse_headers(mail).filter(|head| !head.parts.is_empty()).ok_or(Malformed)?;
    let Some(boundary) = boundary(&head) else { return Ok(None) };
    let Some(status) = parts(mail, boundary).into_iter().find_map(delivery_status) else { return Ok(None) };
    let groups = groups(&status);
    let mut tokens = addressed(&head);
    let named = groups.first().and_then(envelope).filter(|token| !tokens.contains(token));
    tokens.extend(named);
    let each: Vec<_> = groups.iter().filter_map(|group| Some((recipient(group), told(group)?))).collect();
    Ok((!tokens.is_empty() && !each.is_empty()).then_some(Reports { tokens, each }))
}

/// The boundary of a report of delivery (RFC 6522).
fn boundary<'a>(head: &'a Message<'_>) -> Option<&'a str> {
    let kind = head.content_type().filter(|kind| is(kind, "multipart", "report"))?;
    let about = kind.attribute("report-type").unwrap_or("delivery-status");
    kind.attribute("boundary").filter(|_| about.eq_ignore_ascii_case("delivery-status"))
}

fn is(kind: &ContentType<'_>, main: &str, sub: &str) -> bool {
    kind.ctype().eq_ignore_ascii_case(main) && kind.subtype().is_some_and(|found| found.eq_ignore_ascii_case(sub))
}

/// What stands between the lines of the boundary (RFC 2046, section 5.1.1).
fn parts<'a>(mail: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let (mut parts, mut start, mut place) = (Vec::new(), None, 0);
    for line in mail.split_inclusive(|byte| *byte == b'\n') {
        let delimiter = line.strip_prefix(b"--").and_then(|rest| rest.strip_prefix(boundary.as_bytes()));
        if let Some(rest) = delimiter
            && rest.trim_ascii_end().iter().all(|byte| *byte == b'-')
        {
            parts.extend(start.and_then(|start| mail.get(start..place)));
            start = rest.trim_ascii_end().is_empty().then_some(place + line.len());
        }
        place += line.len();
        if parts.len() >= MOST_PARTS {
            return parts;
        }
    }
    parts.extend(start.and_then(|start| mail.get(start..)));
    parts
}

/// The text of the part that machines read, decoded.
fn delivery_status(part: &[u8]) -> Option<String> {
    let kind = MessageParser::default().parse_headers(part)?;
    let kind = kind.parts.first()?.content_type()?;
    if !is(kind, "message", "delivery-status") && !is(kind, "message", "global-delivery-status") {
        return None;
    }
    let mut whole = MessageParser::default().parse(part)?;
    let text = match whole.parts.drain(..).next()?.body {
        PartType::Text(text) | PartType::Html(text) => text.into_owned(),
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        PartType::Message(_) | PartType::Multipart(_) => return None,
    };
    Some(text)
}

/// Fields of one group, names in lower case.
type Group = Vec<(String, String)>;

/// The groups of fields between empty lines: of the mail first, then one for each recipient.
fn groups(text: &str) -> Vec<Group> {
    let mut groups = vec![Group::new()];
    for line in text.lines().take(MOST_FIELDS) {
        let Some(group) = groups.last_mut() else { break };
        if line.trim().is_empty() {
            if !group.is_empty() {
                groups.push(Group::new());
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = group.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            group.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    groups
}

fn field<'a>(group: &'a Group, name: &str) -> Option<&'a str> {
    group.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Whom a group is about: `rfc822; pat@example.test`. The recipient that the mail was sent to at first is what we ourselves told
/// the relay, and stands in the reports of those to whom it was forwarded as well.
fn recipient(group: &Group) -> Option<EmailAddress> {
    let (kind, mailbox) = field(group, "final-recipient")?.split_once(';')?;
    let is_mailbox = ["rfc822", "utf-8"].iter().any(|known| kind.trim().eq_ignore_ascii_case(known));
    is_mailbox.then(|| EmailAddress::parse(mailbox.trim().trim_matches(['<', '>'])).ok()).flatten()
}

/// What a group says of its recipient; unset for the one of the mail.
fn told(group: &Group) -> Option<Report> {
    let action = field(group, "action")?;
    // A comment may follow it.
    let status = field(group, "status").and_then(|status| status.split_whitespace().next()).unwrap_or_default();
    let class = status.split('.').next()?.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?;
    let told = Told::of(action, class)?;
    let (code, failure) = reason(class, status, diagnostic(group));
    let failure = failure.filter(|_| matches!(told, Told::Bounced | Told::GivenUp));
    Some(Report { told, code: if told == Told::Delivered { String::new() } else { code }, failure })
}

/// What the mail host said, where it was said over SMTP: `smtp; 550 5.1.1 No such mailbox`.
fn diagnostic(group: &Group) -> &str {
    let (kind, said) = field(group, "diagnostic-code").and_then(|code| code.split_once(';')).unwrap_or_default();
    if kind.trim().eq_ignore_ascii_case("smtp") { said.trim() } else { "" }
}

/// The code, and what it means: the same as if the relay had said it to us, but that our account is not meant.
fn reason(class: u16, status: &str, said: &str) -> (String, Option<FailureReason>) {
    let digits = said.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let reply = digits.and_then(|digits| digits.parse::<u16>().ok()).filter(|reply| reply / 100 == class);
    let rest = reply.and_then(|_| said.get(3..)).unwrap_or_default().trim_start_matches([' ', '-', '#']);
    // The status may say no more than that something is wrong.
    let specific = |codes: &(u16, u16)| *codes != (0, 0);
    let (told, said) = (enhanced(class, status).filter(specific), enhanced(class, rest).filter(specific));
    let codes = match (told, said) {
        // What the mail host said counts for more than what was made of it on the way.
        (_, Some(said)) if class == 5 => Some(said),
        // Some mail systems write 5.1.1 for whatever was refused at that step.
        (Some((1, _)), None) if class == 5 && reply.is_some() => None,
        (told, said) => told.or(said),
    };
    let error = SendError::from_smtp(Stage::Dot, reply.unwrap_or(class * 100 + 50), codes, rest);
    let failure = match (error.reason(), codes) {
        // "The user you are trying to contact is receiving mail at a rate that": 5.2.1 as well.
        (Some(FailureReason::InvalidAddress), _) if rest.to_ascii_lowercase().contains(" at a rate ") => {
            FailureReason::Unreachable
        }
        (Some(FailureReason::ProviderConfig), _) => FailureReason::Blocked,
        (None | Some(FailureReason::ProviderUnavailable), _) => FailureReason::Unreachable,
        // What two mail systems find fault with in each other's commands (x.5.x) was not made here, and nothing says more
        // than x.0.x: it did not get through.
        (Some(FailureReason::Internal), None | Some((5, _))) | (Some(FailureReason::Other), Some((0, _))) => {
            FailureReason::Unreachable
        }
        // Too long, or in a form that the mail host does not take (x.6.x): it refused the message.
        (Some(FailureReason::Internal), Some(_)) => FailureReason::Blocked,
        (Some(reason), _) => reason,
    };
    if error.code() == NO_SUCH_USER {
        return (NO_SUCH_USER.to_owned(), Some(failure));
    }
    let (subject, detail) = codes.unwrap_or_default();
    let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
    (format!("{reply}{class}.{subject}.{detail}"), Some(failure))
}

/// The tokens in the addresses that the report came to, as `local+TOKEN@domain`: whoever took it for us notes those, and it was
/// written to one.
fn addressed(head: &Message<'_>) -> Vec<[u8; 16]> {
    const NOTED_BY: [&str; 5] = ["delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "to"];
    let headers = head.parts.iter().take(1).flat_map(|part| &part.headers);
    let noted = headers.filter(|header| NOTED_BY.iter().any(|name| header.name.as_str().eq_ignore_ascii_case(name)));
    let mut tokens = Vec::new();
    for header in noted {
        let (start, end) = (header.offset_start as usize, header.offset_end as usize);
        let text = String::from_utf8_lossy(head.raw_message.get(start..end).unwrap_or_default());
        for (place, _) in text.match_indices('+') {
            let behind = text.get(place + 1..).and_then(|behind| behind.split_at_checked(TOKEN_DIGITS));
            let found = behind.filter(|(_, rest)| rest.starts_with('@')).and_then(|(digits, _)| token(digits));
            if let Some(token) = found.filter(|token| tokens.len() < MOST_TOKENS && !tokens.contains(token)) {
                tokens.push(token);
            }
        }
    }
    tokens
}

/// The token that the relay was told beside the mail (RFC 3461, section 4.4).
fn envelope(group: &Group) -> Option<[u8; 16]> {
    field(group, "original-envelope-id").and_then(token)
}

fn token(digits: &str) -> Option<[u8; 16]> {
    let plain = digits.len() == TOKEN_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(digits, 16).ok()).flatten().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests;
