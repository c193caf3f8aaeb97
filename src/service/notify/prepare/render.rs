//! The text of one channel, from an input and what is known of its patient.

use crate::{
    domain::{
        Channel, Content,
        template::{self, RenderError, Rendering},
    },
    service::{
        Error,
        notify::{Input, prepare::Addresses},
    },
    store::GroundsRow,
};

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
    }
}

/// What to answer when there is no text for a channel that is used.
pub(in crate::service::notify) fn refused(error: RenderError) -> Error {
    match error {
        RenderError::UnknownTemplate => {
            Error::field("notification.custom.template_key", "the practice has no template of that key")
        }
        RenderError::NoWording => {
            Error::field("notification.custom.template_key", "the template has no wording for a channel that is used")
        }
        RenderError::TooLong => Error::field("notification", "the text would be too long for the channel"),
        RenderError::Template(_) => Error::Internal(Box::new(error)),
    }
}
