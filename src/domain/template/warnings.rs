//! What whoever composes a message should know of how it will read. Nothing here keeps it from being sent.

use super::{Rendering, choice::choose, token::Form, token::Token, words};
use crate::domain::{Channel, Content};

/// What is remarkable about `content`, which was rendered from `ask`: sentences fit to show to staff, without any of the text.
#[must_use]
pub fn warnings(ask: &Rendering, content: &Content) -> Vec<String> {
    let mut warnings = Vec::new();
    if ask.channel == Channel::Sms && content.sms_segments > 1 {
        warnings.push(format!("The text takes {} segments, each of which is billed.", content.sms_segments));
    }
    if ask.channel == Channel::Sms && !content.sms_gsm7 {
        warnings
            .push("A character outside the GSM-7 alphabet leaves 70 instead of 160 characters to a segment.".into());
    }
    if ask.form() == Form::MinimalEmail {
        warnings.push(
            "The mail provider may not carry health information, so that the wording is minimal, without any details."
                .into(),
        );
    }
    let shows_words = choose(ask).is_ok_and(|choice| choice.compiled.text.names(Token::CustomContent.name()));
    if ask.custom_content.is_some() && !shows_words {
        warnings.push(format!("custom_content is left out of {}.", ask.channel.label()));
    }
    warnings.extend(about_words(ask, content));
    warnings
}

/// Words that should not stand where the patient is not alone with them. In the portal and in mail that may carry health information
/// they may.
fn about_words(ask: &Rendering, content: &Content) -> Vec<String> {
    let (subject, text) = (content.subject.expose(), content.text.expose());
    let mut warnings = Vec::new();
    let open = match ask.form() {
        Form::InApp => return warnings,
        Form::Email | Form::MinimalEmail => subject.clone(),
        Form::Push => format!("{subject}\n{text}"),
        Form::Sms => text.strip_prefix(ask.sms_prefix).unwrap_or(text).to_owned(),
    };
    // What the practice is called is known to whoever knows that it wrote.
    let open = open.replace(&ask.practice.display_name, " ");
    if words::is_clinical(&open) {
        let place = if ask.channel == Channel::Email { "The subject of the mail" } else { "The text" };
        warnings.push(format!("{place} has a word that may tell others something about the patient's health."));
    }
    if ask.channel == Channel::Sms && words::asks_for_a_keyword(&open) {
        warnings.push("The text asks for an answer that Twilio takes for STOP or START.".into());
    }
    let ours = [ask.link, ask.practice.portal_url.as_deref()].into_iter().flatten();
    if ask.channel == Channel::Sms && words::has_address(&ours.fold(open, |rest, link| rest.replace(link, " "))) {
        warnings.push("The text has an address of the web besides the secure link; carriers may filter it.".into());
    }
    warnings
}
