//! What keeps a practice's wording from being stored: everything that is wrong with it, each with the part that it is wrong in.
//! What is merely unwise is a warning and stands elsewhere.

use super::{
    Escape, Fault, RenderError, Rendering, Template, TemplateRef, Token, Values, Wording, choice::choose, html,
    message, own::Purpose, render, token::Form, words,
};
use crate::domain::Channel;

/// A part of wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The subject.
    Subject,
    /// The text.
    Text,
    /// The HTML.
    Html,
}

impl Part {
    /// Its name in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub part: Part,
    /// A sentence without any of the wording.
    pub message: String,
}

/// What is wrong with `wording` for that place, all of it. `ask` renders this very wording with invented data.
#[must_use]
pub fn problems(at: &TemplateRef, wording: &Wording, variables: &[String], ask: &Rendering) -> Vec<Problem> {
    let mut problems = Problems { at, variables, found: Vec::new() };
    let form = at.form();
    problems.check_source(Part::Subject, &wording.subject, form);
    problems.check_source(Part::Text, &wording.text, form);
    problems.check_source(Part::Html, &wording.html, form);
    if at.channel == Channel::Sms {
        problems.check_text_message(&wording.text);
    }
    if at.channel == Channel::Sms && !wording.subject.is_empty() {
        problems.add(Part::Subject, "must be empty: a text message has no subject");
    }
    if at.channel != Channel::Email && !wording.html.is_empty() {
        problems.add(Part::Html, "must be empty: only mail has HTML");
    }
    // What cannot be compiled cannot be rendered either.
    if problems.found.is_empty() {
        problems.check_rendered(wording, ask);
    }
    problems.found
}

struct Problems<'a> {
    at: &'a TemplateRef,
    variables: &'a [String],
    found: Vec<Problem>,
}

impl Problems<'_> {
    fn add(&mut self, part: Part, message: impl Into<String>) {
        self.found.push(Problem { part, message: message.into() });
    }

    /// Lines that cannot be compiled, and tokens that can have no value.
    fn check_source(&mut self, part: Part, source: &str, form: Form) {
        let classes = if part == Part::Subject { form.subject_classes() } else { form.text_classes() };
        if part == Part::Subject && source.contains(['\r', '\n']) {
            self.add(part, Fault::LineBreak.to_string());
        }
        for fault in Template::faults(source, classes, self.variables) {
            self.add(part, fault.to_string());
        }
        let kind = self.at.purpose.kind();
        let template = Template::compile(source, classes, self.variables);
        for token in Token::ALL.iter().filter(|token| !token.fits(kind)) {
            if template.as_ref().is_ok_and(|template| template.names(token.name())) {
                self.add(part, format!("{{{{{}}}}} has no value in messages of this kind", token.name()));
            }
        }
    }

    /// Twilio and people's phones see more in a text message than words.
    fn check_text_message(&mut self, text: &str) {
        if words::has_address(text) {
            self.add(Part::Text, "must have no address of the web but {{link}}");
        }
        if words::asks_for_a_keyword(text) {
            self.add(
                Part::Text,
                "must not ask for the answer CANCEL or YES: Twilio reads them as STOP and START. Ask for C or R instead",
            );
        }
    }

    /// What only shows with values in it.
    fn check_rendered(&mut self, wording: &Wording, ask: &Rendering) {
        match render(ask) {
            Err(RenderError::TooLong) if self.at.channel == Channel::Sms => {
                self.add(Part::Text, "must be at most 1600 characters long, the practice's name before it included");
            }
            Err(RenderError::TooLong) => self.add(Part::Text, "is too long when filled in"),
            Ok(_) | Err(_) => {}
        }
        let Ok(choice) = choose(ask) else { return };
        let (values, classes) = (message::values(ask, &choice.manner), self.at.form().text_classes());
        // Without what is put before and below it.
        let text = Template::compile(&wording.text, classes, self.variables);
        if text.and_then(|text| text.render(&values, Escape::None)).is_ok_and(|text| text.trim().is_empty()) {
            self.add(Part::Text, "must not be empty with all of its tokens filled in");
        }
        if let Some(html) = &choice.compiled.html {
            self.check_html(html, &choice.compiled.text, &values);
        }
    }

    /// Elements that may not stand in a mail, and facts that its text does not have.
    fn check_html(&mut self, source: &Template, text: &Template, values: &Values) {
        let rendered = source.render(values, Escape::Html).unwrap_or_default();
        for refusal in html::refusals(&rendered) {
            self.add(Part::Html, refusal);
        }
        let variables = self.variables.iter().map(String::as_str);
        let names = Token::ALL.iter().map(|token| token.name()).chain(variables);
        for name in names.filter(|name| source.names(name) && !text.names(name)) {
            let message = format!("must say all that the HTML says: {{{{{name}}}}} is missing");
            self.found.push(Problem { part: Part::Text, message });
        }
    }
}

/// What is wrong with the variables that a template of the practice's own declares: each by its place, with a sentence.
#[must_use]
pub fn variable_problems(purpose: &Purpose, variables: &[String]) -> Vec<(usize, &'static str)> {
    // liquid takes these for values, and whatever begins with them for a mistake.
    const VALUES: &[&str] = &["nil", "null", "true", "false", "empty", "blank"];
    if matches!(purpose, Purpose::Kind(_)) && !variables.is_empty() {
        return vec![(0, "only custom templates have variables")];
    }
    let fault = |place: usize, name: &String| {
        let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !(1..=64).contains(&name.len()) || !letters || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            Some("must be 1 to 64 characters of a-z, 0-9 or '_', and begin with a letter")
        } else if VALUES.iter().any(|value| name.starts_with(value)) {
            Some("must not begin with nil, null, true, false, empty or blank")
        } else if Token::named(name).is_some() {
            Some("is a token that every template has")
        } else if variables.iter().take(place).any(|before| before == name) {
            Some("is there twice")
        } else {
            None
        }
    };
    variables.iter().enumerate().filter_map(|(place, name)| Some((place, fault(place, name)?))).collect()
}
