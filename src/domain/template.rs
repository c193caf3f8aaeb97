//! ◆ What a patient reads: wording with tokens, the values that go in, and the finished text per channel. A channel
//! never shows a token of a class that it may not hold, because such a token is not even bound when its text is rendered.

mod builtin;
mod format;
mod layout;
mod message;
mod source;
mod token;
mod warnings;

use std::fmt;

pub use builtin::{Wording, wording};
pub use source::{Escape, Fault, Template, TemplateError, escape_html};
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
    /// Put before a text message.
    pub sms_prefix: &'a str,
    /// Whether mail may carry more than the minimal wording.
    pub phi_permitted: bool,
    /// The short https address made for this message; unset: the portal's.
    pub link: Option<&'a str>,
    /// Where the reader of a mail unsubscribes. Every mail has it, whatever its wording.
    pub unsubscribe: Option<&'a str>,
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

/// Renders one message in our built-in wording.
///
/// # Errors
/// `UnknownTemplate` for a custom payload; `TooLong` for a text message of more than 1,600 characters with its prefix and
/// for any other text of more than 100 KiB.
pub fn render(ask: &Rendering) -> Result<Content, RenderError> {
    let kind = ask.payload.kind();
    let form = Form::of(ask.channel, ask.phi_permitted);
    let wording = builtin::compiled(kind, form).ok_or(RenderError::UnknownTemplate)??;
    let values = message::values(ask);
    let subject = wording.subject.render(&values, Escape::None)?;
    let mut lines = wording.text.fill(&values, Escape::None)?;
    if let (Channel::Email, Some(address)) = (ask.channel, ask.unsubscribe) {
        source::sign_off(&mut lines, address);
    }
    let text = source::joined(&lines);
    let mut content = Content { template_key: format!("builtin/{}", key(kind)), ..Content::default() };
    match ask.channel {
        Channel::Sms => return text_message(content, ask.sms_prefix, &text),
        Channel::Email => {
            let preview = wording.preview.render(&values, Escape::None)?;
            let practice_name = values.get(Token::PracticeName);
            let frame = layout::Frame { practice_name, subject: &subject, preview: &preview };
            content.html = layout::html(&frame, &lines).into();
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

/// The name of a kind's built-in template.
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
