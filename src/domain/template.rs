//! ◆ What a patient reads: wording with tokens, ours or the practice's own, the values that go in, and the finished text per
//! channel. A channel never shows a token of a class that it may not hold, because such a token is not even bound when its text
//! is rendered.

mod announcement;
mod blank;
mod builtin;
mod choice;
mod compiled;
mod filled;
mod format;
mod html;
mod layout;
mod lint;
mod mail;
mod message;
mod own;
mod prefix;
mod sample;
mod source;
mod token;
mod warnings;
mod words;

use std::fmt;

pub use announcement::{Announced, announcement_faults, announcement_problems, reader_of_samples};
pub use blank::{is_blank, is_legible};
pub use builtin::{Language, wording};
pub use compiled::Wording;
pub use lint::{Part, Problem, problems, variable_problems};
pub use own::{Active, OwnWording, Purpose, TemplateRef};
pub use prefix::prefix_fault;
pub use sample::Invented;
pub use source::{Escape, Fault, LONGEST_SOURCE, Template, TemplateError, escape_html};
pub use token::{Form, Token, TokenClass, Values};
pub use warnings::{hanging_lines, warnings};
pub use words::{asks_for_a_keyword, has_address};

use choice::Choice;
use filled::Fill;

use super::{Channel, Content, Kind, Patient, Payload, Phi, Practice, sms};

/// All that one message is made from.
#[derive(Clone, Copy)]
pub struct Rendering<'a> {
    /// Where it will be read.
    pub channel: Channel,
    /// What it is about.
    pub payload: &'a Payload,
    /// What the sender typed; our wording has it in the portal and in mail that may carry health information.
    pub custom_content: Option<&'a Phi<String>>,
    /// Who writes.
    pub practice: &'a Practice,
    /// Who reads.
    pub patient: &'a Patient,
    /// What the practice says in words of its own.
    pub own: &'a OwnWording,
    /// Put before a text message.
    pub sms_prefix: &'a str,
    /// Whether mail may carry more than the minimal wording.
    pub phi_permitted: bool,
    /// The short https address made for this message; unset: the portal's.
    pub link: Option<&'a str>,
    /// Where the reader of a mail unsubscribes. Every mail has it, whatever its wording.
    pub unsubscribe: Option<&'a str>,
    /// It is a test, and says so.
    pub test: bool,
}

impl Rendering<'_> {
    /// The form that its wording has.
    #[must_use]
    pub const fn form(&self) -> Form {
        Form::of(self.channel, self.phi_permitted)
    }
}

impl fmt::Debug for Rendering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever has the link can open it, so that it is hidden like the rest.
        f.debug_struct("Rendering")
            .field("channel", &self.channel)
            .field("payload", self.payload)
            .finish_non_exhaustive()
    }
}

/// There is no text to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The payload names a template of the practice that does not exist.
    #[error("there is no template for this")]
    UnknownTemplate,
    /// That template has no wording for the channel.
    #[error("the template has no wording for the channel")]
    NoWording,
    /// The text exceeds what its channel can carry.
    #[error("the text is longer than the channel allows")]
    TooLong,
    /// Nothing that counts is left of the text with these values.
    #[error("nothing is left of the text")]
    Blank,
    /// What the sender typed has an address of the web, and would stand in a text message.
    #[error("a text message holds no address but the link")]
    Address,
    /// What the sender typed asks for an answer that is taken for STOP or START, and would stand in a text message.
    #[error("a text message asks for no answer that is taken for STOP or START")]
    Keyword,
    /// The wording itself is at fault.
    #[error("the wording cannot be used")]
    Template(#[source] TemplateError),
}

impl RenderError {
    /// Whether our wording may do better than the practice's own.
    const fn is_of_the_wording(self) -> bool {
        matches!(self, Self::TooLong | Self::Blank | Self::Template(_))
    }
}

impl From<TemplateError> for RenderError {
    fn from(error: TemplateError) -> Self {
        if error.fault == Fault::OutputTooLong { Self::TooLong } else { Self::Template(error) }
    }
}

/// The most that the title and the words of a push message may take in JSON, in bytes. FCM takes 4,096 with all that goes along
/// (firebase.google.com/docs/cloud-messaging/customize-messages/set-message-type).
const LONGEST_PUSH: usize = 3_584;

/// Renders one message. Where nothing can be made of a practice's wording with these values, ours takes its place.
///
/// # Errors
/// `UnknownTemplate`, `NoWording` and `Blank` for a template of the practice's own; `TooLong` for a text message of more than 1,600
/// characters with its prefix, for a push message of more than 3,584 bytes, and for any other text of more than 100 KiB; `Address`
/// and `Keyword`.
pub fn render(ask: &Rendering) -> Result<Content, RenderError> {
    let error = match as_worded(ask) {
        Err(error) if error.is_of_the_wording() => error,
        done => return done,
    };
    match choice::builtin(ask) {
        Some(ours) => composed(ask, &ours?, |values| values),
        None => Err(error),
    }
}

/// Renders one message in the wording that it has, come what may.
fn as_worded(ask: &Rendering) -> Result<Content, RenderError> {
    composed(ask, &choice::choose(ask)?, |values| values)
}

/// Renders one message with its values, or what `with` makes of them.
fn composed(ask: &Rendering, choice: &Choice, with: impl Fn(Values) -> Values) -> Result<Content, RenderError> {
    let (wording, mark) = (choice.compiled, choice.test_mark(ask));
    let values = with(message::values(ask, &choice.manner));
    let filled = wording.text.fill(&values, Escape::None)?;
    let filled = if matches!(ask.payload, Payload::Announcement) { filled.in_prose() } else { filled };
    if filled.is_blank() || (choice.version.is_some() && filled.lacks_the_matter(&values)) {
        return Err(RenderError::Blank);
    }
    let content = Content {
        template_key: choice.key.clone(),
        template_version: choice.version.unwrap_or_default(),
        ..Content::default()
    };
    if ask.channel == Channel::Sms {
        return text_message(content, (ask, mark), &filled, &values);
    }
    let mut subject = wording.subject.render(&values, Escape::None)?;
    if is_blank(&subject) {
        subject = wording.spare_subject.render(&values, Escape::None)?;
    }
    if let Some(mark) = mark {
        subject = format!("{mark} {subject}");
    }
    let mut html = String::new();
    let text = if ask.channel == Channel::Email {
        let (lines, page) = mail::parts(ask, choice, filled, (&subject, &values))?;
        html = page;
        filled::joined(&lines)
    } else {
        filled::joined(&filled.lines)
    };
    if ask.channel == Channel::Push
        && [&subject, &text].map(|text| length_in_json(text)).iter().sum::<usize>() > LONGEST_PUSH
    {
        return Err(RenderError::TooLong);
    }
    Ok(Content { subject: subject.into(), text: text.into(), html: html.into(), ..content })
}

/// In bytes, without the quotes (RFC 8259, 7). Values hold no control characters but line ends.
fn length_in_json(text: &str) -> usize {
    text.len() + text.matches(['"', '\\', '\n']).count()
}

fn text_message(
    content: Content,
    (ask, mark): (&Rendering, Option<&str>),
    filled: &Fill,
    values: &Values,
) -> Result<Content, RenderError> {
    let mark = mark.map_or_else(String::new, |mark| format!("{mark} "));
    let text = sms::compose(&format!("{mark}{}", ask.sms_prefix), &filled::joined(&filled.lines));
    if text.chars().count() > sms::LONGEST_MESSAGE {
        return Err(RenderError::TooLong);
    }
    let of_the_sender = |name: &&str| Token::named(name).is_none_or(|token| token.class() == TokenClass::SenderWords);
    let typed = filled.shown.iter().any(|name| of_the_sender(name) && values.has(name));
    if typed {
        let read = words_alone(ask, text.strip_prefix(&mark).unwrap_or(&text));
        if words::has_address(&read) {
            return Err(RenderError::Address);
        }
        if words::asks_for_a_keyword(&read) {
            return Err(RenderError::Keyword);
        }
    }
    let counted = sms::segments(&text);
    let sms_segments = i32::try_from(counted.count).map_err(|_| RenderError::TooLong)?;
    Ok(Content { text: text.into(), sms_segments, sms_gsm7: counted.gsm7, ..content })
}

/// A text message without what stands before it, without the addresses that are ours, and without the practice's name, which is known
/// to whoever knows that it wrote.
fn words_alone(ask: &Rendering, text: &str) -> String {
    let text = text.strip_prefix(&sms::compose(ask.sms_prefix, "")).unwrap_or(text);
    let known = [ask.link, ask.practice.portal_url.as_deref(), Some(ask.practice.display_name.as_str())];
    let known = known.into_iter().flatten().filter(|known| !known.is_empty());
    known.fold(text.to_owned(), |rest, known| words::without(&rest, known))
}

/// The name of a kind's wording.
const fn key(kind: Kind) -> &'static str {
    match kind {
        Kind::AppointmentReminder => "appointment_reminder",
        Kind::AppointmentConfirmed => "appointment_confirmed",
        Kind::AppointmentCancelled => "appointment_cancelled",
        Kind::PaymentDue => "payment_due",
        Kind::PaymentReceived => "payment_received",
        Kind::PaymentFailed => "payment_failed",
        Kind::MessageReceived => "message_received",
        Kind::DocumentShared => "document_shared",
        Kind::System => "system",
        Kind::Announcement => "announcement",
        Kind::Custom => "custom",
    }
}

#[cfg(test)]
mod tests;
