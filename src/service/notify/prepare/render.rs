//! The text of one channel, from an input and what is known of its patient.

use crate::{
    domain::{
        Channel, Content, Payload,
        template::{self, RenderError, Rendering},
    },
    service::{
        Error, Violation,
        notify::{Input, prepare::Addresses},
    },
    store::GroundsRow,
};

pub(super) const TEMPLATE_KEY: &str = "notification.custom.template_key";
/// What is wrong with the key of a template that the practice does not have.
pub(super) const NO_TEMPLATE: &str = "the practice has no template of that key";

/// Renders the text.
pub(in crate::service::notify) fn content(
    input: &Input,
    row: &GroundsRow,
    channel: Channel,
    addresses: &Addresses,
) -> Result<Content, RenderError> {
    let content = template::render(&ask(input, row, channel, addresses))?;
    // In the inbox it stands beside the text.
    let link = addresses.link.clone().filter(|_| channel == Channel::InApp);
    Ok(Content { link: link.unwrap_or_default().into(), ..content })
}

/// What the text is made from.
pub(in crate::service::notify) fn ask<'a>(
    input: &'a Input,
    row: &'a GroundsRow,
    channel: Channel,
    addresses: &'a Addresses,
) -> Rendering<'a> {
    Rendering {
        channel,
        payload: &input.payload,
        custom_content: input.custom_content.as_ref(),
        practice: &row.practice,
        patient: &row.patient,
        own: &row.own_wording,
        sms_prefix: row.settings.sms_prefix(&row.practice),
        phi_permitted: row.settings.email.phi_permitted(),
        link: addresses.link.as_deref(),
        unsubscribe: Some(&addresses.unsubscribe),
        test: false,
    }
}

/// What to answer when there is no text for a channel that is used.
pub(in crate::service::notify) fn refused(input: &Input, channel: Channel, error: RenderError) -> Error {
    let label = channel.label();
    match error {
        RenderError::UnknownTemplate => Error::field(TEMPLATE_KEY, NO_TEMPLATE),
        RenderError::NoWording => Error::field(TEMPLATE_KEY, format!("the template has no wording for {label}")),
        RenderError::Template(_) => Error::field(
            TEMPLATE_KEY,
            format!("the template's wording for {label} has to be corrected before it can be used"),
        ),
        RenderError::TooLong => Error::field("notification", format!("the text would be too long for {label}")),
        RenderError::Blank => {
            let all = match &input.payload {
                Payload::Custom(_) => TEMPLATE_KEY,
                Payload::System(_) => "notification.system",
                _ => "notification",
            };
            of_the_words(input, template::is_blank, all, &format!("leaves nothing to say on {label}"))
        }
        RenderError::Address => {
            let what = format!("must have no address of the web, which would stand in {label}");
            of_the_words(input, template::has_address, typed(input), &what)
        }
        RenderError::Keyword => {
            let what = "must not ask for an answer such as CANCEL, YES or START, which Twilio takes for another";
            of_the_words(input, template::asks_for_a_keyword, typed(input), what)
        }
    }
}

/// Where all stands that the sender typed.
const fn typed(input: &Input) -> &'static str {
    match &input.payload {
        Payload::Custom(_) => "notification.custom.variables",
        _ => "notification.custom_content",
    }
}

/// A violation for each variable that is at fault, or of `all` if none is alone.
fn of_the_words(input: &Input, at_fault: fn(&str) -> bool, all: &str, description: &str) -> Error {
    let mut violations = Vec::new();
    if let Payload::Custom(custom) = &input.payload {
        let found = custom.variables.iter().filter(|(_, value)| at_fault(value.expose()));
        violations.extend(
            found.map(|(name, _)| Violation::new(format!("notification.custom.variables.{name}"), description)),
        );
    }
    if violations.is_empty() { Error::field(all, description) } else { Error::FieldInvalid(violations) }
}
