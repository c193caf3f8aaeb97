//! What whoever composes a message should know of how it will read. Nothing here keeps it from being sent.

use super::{Rendering, builtin::wording, token::Form, token::Token};
use crate::domain::{Channel, Content};

/// What is remarkable about `content`, which was rendered from `ask`: sentences fit to show to staff, without any of the text.
#[must_use]
pub fn warnings(ask: &Rendering, content: &Content) -> Vec<String> {
    let form = Form::of(ask.channel, ask.phi_permitted);
    let mut warnings = Vec::new();
    if ask.channel == Channel::Sms && content.sms_segments > 1 {
        warnings.push(format!("The text takes {} segments, each of which is billed.", content.sms_segments));
    }
    if ask.channel == Channel::Sms && !content.sms_gsm7 {
        warnings
            .push("A character outside the GSM-7 alphabet leaves 70 instead of 160 characters to a segment.".into());
    }
    if form == Form::MinimalEmail {
        warnings.push(
            "The mail provider may not carry health information, so that the wording is minimal, without any details."
                .into(),
        );
    }
    let shows_words =
        wording(ask.payload.kind(), form).is_some_and(|wording| wording.text.contains(Token::CustomContent.name()));
    if ask.custom_content.is_some() && !shows_words {
        warnings.push(format!("custom_content is left out of {}.", ask.channel.label()));
    }
    warnings
}
