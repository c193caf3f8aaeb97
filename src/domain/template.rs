//! ◆ What a patient reads: wording with tokens, ours or the practice's own, the values that go in, and the finished text per
//! channel. A channel never shows a token of a class that it may not hold, because such a token is not even bound when its text
//! is rendered.

mod builtin;
mod choice;
mod compiled;
mod format;
mod html;
mod layout;
mod lint;
mod message;
mod own;
mod sample;
mod source;
mod token;
mod warnings;
mod words;

use std::fmt;

pub use builtin::{Language, wording};
pub use compiled::Wording;
pub use lint::{Part, Problem, problems, variable_problems};
pub use own::{Active, OwnWording, Purpose, TemplateRef};
pub use sample::Invented;
pub use source::{Escape, Fault, LONGEST_SOURCE, Template, TemplateError, escape_html};
pub use token::{Form, Token, TokenClass, Values};
pub use warnings::warnings;

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
    /// The wording itself is at fault.
    #[error("the wording cannot be used")]
    Template(#[source] TemplateError),
}

impl From<TemplateError> for RenderError {
    fn from(error: TemplateError) -> Self {
        if error.fault == Fault::OutputTooLong { Self::TooLong } else { Self::Template(error) }
    }
}

/// Renders one message.
///
/// # Errors
/// `UnknownTemplate` and `NoWording` for a template of the practice's own; `TooLong` for a text message of more than 1,600
/// characters with its prefix and for any other text of more than 100 KiB.
pub fn render(ask: &Rendering) -> Result<Content, RenderError> {
    let choice = choice::choose(ask)?;
    let wording = choice.compiled;
    let values = message::values(ask, &choice.manner);
    let subject = wording.subject.render(&values, Escape::None)?;
    let mut lines = wording.text.fill(&values, Escape::None)?;
    if let (Channel::Email, Some(address)) = (ask.channel, ask.unsubscribe) {
        let language = Language::of(&choice.locale).unwrap_or(choice.manner.words());
        source::sign_off(&mut lines, language.unsubscribe(), address);
    }
    let text = source::joined(&lines);
    let mut content = Content { template_key: choice.key, template_version: choice.version, ..Content::default() };
    match ask.channel {
        Channel::Sms => return text_message(content, ask.sms_prefix, &text),
        Channel::Email => {
            let own = wording.html.as_ref().map(|own| own.render(&values, Escape::Html)).transpose()?;
            let frame = layout::Frame {
                language: choice.locale.as_str(),
                practice_name: values.get(Token::PracticeName),
                subject: &subject,
                preview: &wording.preview.render(&values, Escape::None)?,
            };
            content.html = layout::html(&frame, &lines, own.map(|own| html::cleaned(&own)).as_deref()).into();
        }
        Channel::InApp | Channel::Push => {}
    }
    Ok(Content { subject: subject.into(), text: text.into(), ..content })
}

fn text_message(content: Content, prefix: &str, text: &str) -> Result<Content, RenderError> {
    let text = sms::compose(prefix, text);
    if text.chars().count() > sms::LONGEST_MESSAGE {
        return Err(RenderError::TooLong);
    }
    let counted = sms::segments(&text);
    let sms_segments = i32::try_from(counted.count).map_err(|_| RenderError::TooLong)?;
    Ok(Content { text: text.into(), sms_segments, sms_gsm7: counted.gsm7, ..content })
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
