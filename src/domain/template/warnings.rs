//! What whoever composes a message should know of how it will read. Nothing here keeps it from being sent.

use super::{
    Escape, Rendering, Template, TemplateRef, Wording,
    choice::choose,
    message,
    token::{Form, Token},
    words, words_alone,
};
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
    let chosen = choose(ask).ok();
    if chosen.as_ref().is_none_or(|choice| choice.key != content.template_key) {
        warnings.push(
            "The practice's own wording says nothing with these values or too much: ours goes out instead.".into(),
        );
    }
    let chosen = chosen.filter(|choice| choice.key == content.template_key);
    let shows_words = chosen.is_some_and(|choice| choice.compiled.text.names(Token::CustomContent.name()));
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
        Form::Sms => text.clone(),
    };
    let open = words_alone(ask, &open);
    if words::is_clinical(&open) {
        let place = if ask.channel == Channel::Email { "The subject of the mail" } else { "The text" };
        warnings.push(format!("{place} has a word that may tell others something about the patient's health."));
    }
    if ask.channel == Channel::Sms && words::asks_for_a_keyword(&open) {
        warnings.push("The text asks for an answer that Twilio takes for STOP or START.".into());
    }
    if ask.channel == Channel::Sms && words::has_address(&open) {
        warnings.push("The text has an address of the web besides the secure link; carriers may filter it.".into());
    }
    warnings
}

/// Of which lines of a practice's wording goes out only with a value that may be missing: sentences for its author. `ask` renders
/// it with invented data.
#[must_use]
pub fn hanging_lines(at: &TemplateRef, wording: &Wording, variables: &[String], ask: &Rendering) -> Vec<String> {
    let Ok(choice) = choose(ask) else { return Vec::new() };
    let (values, classes) = (message::values(ask, &choice.manner), at.form().text_classes());
    let optional = Token::ALL.iter().filter(|token| token.is_optional() || !values.has(token.name()));
    let names: Vec<_> = optional.map(|token| token.name()).chain(variables.iter().map(String::as_str)).collect();
    let mut warnings = Vec::new();
    for (part, source) in [("text", &wording.text), ("HTML", &wording.html)] {
        let Ok(template) = Template::compile(source, classes, variables) else { continue };
        for (line, name) in template.hanging_on(&values, &names) {
            let left = template.fill(&values.without(name), Escape::None).is_ok_and(|fill| !fill.is_blank());
            let instead = if left { "" } else { ", and with it all that is said" };
            warnings.push(format!("Line {line} of the {part} is left out without {{{{{name}}}}}{instead}."));
        }
    }
    warnings
}
