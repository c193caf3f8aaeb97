//! What keeps a practice's wording from being stored: everything that is wrong with it, each with the part that it is wrong in.
//! What is merely unwise is a warning and stands elsewhere.

use std::collections::BTreeSet;

use super::{
    Escape, Fault, RenderError, Rendering, Template, TemplateRef, Token, Values, Wording,
    choice::choose,
    composed, html, message,
    own::Purpose,
    token::{Form, TokenClass},
    words, words_alone,
};
use crate::domain::{Channel, HIDDEN, Kind, is_hidden, sms};

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
        if source.chars().any(is_hidden) {
            self.add(part, HIDDEN);
        }
        let faults = Template::faults(source, classes, self.variables);
        if part == Part::Html && faults.is_empty() {
            // What can be read line by line may still be too much as a whole.
            if let Err(fault) = Template::compile_html(source, classes, self.variables) {
                self.add(part, fault.to_string());
            }
        }
        let kind = self.at.purpose.kind();
        let mut known = Some(self.tokens(classes, kind)).filter(|_| faults.iter().any(|it| it.fault == Fault::Unknown));
        for fault in faults {
            // They are named once: answers are small.
            let named = known.take_if(|_| fault.fault == Fault::Unknown);
            self.add(part, named.map_or_else(|| fault.to_string(), |known| format!("{fault}; there are {known}")));
        }
        let template = Template::compile(source, classes, self.variables);
        for token in Token::ALL.iter().filter(|token| !token.fits(kind)) {
            if template.as_ref().is_ok_and(|template| template.names(token.name())) {
                self.add(part, format!("{{{{{}}}}} has no value in messages of this kind", token.name()));
            }
        }
    }

    /// What may stand in a part of it.
    fn tokens(&self, classes: &[TokenClass], kind: Kind) -> String {
        let tokens = Token::ALL.iter().filter(|token| token.fits(kind) && classes.contains(&token.class()));
        tokens.map(|token| token.name()).chain(self.variables.iter().map(String::as_str)).collect::<Vec<_>>().join(", ")
    }

    /// Twilio and people's phones see more in a text message than words: what is read there has neither, with values and without.
    fn check_text_message(&mut self, wording: &Wording, ask: &Rendering, values: &Values) {
        let classes = self.at.form().text_classes();
        let Ok(text) = Template::compile(&wording.text, classes, self.variables) else { return };
        let read = self.extremes(&text, values).into_iter().filter_map(|it| text.render(&it, Escape::None).ok());
        let read = read.chain([wording.text.clone()]);
        let read: BTreeSet<_> = read.map(|text| words_alone(ask, &sms::compose(ask.sms_prefix, &text))).collect();
        if read.iter().any(|text| words::has_address(text)) {
            self.add(
                Part::Text,
                "must have no address of the web but {{link}}; put a space behind the full stop of a sentence",
            );
        }
        if read.iter().any(|text| words::asks_for_a_keyword(text)) {
            self.add(
                Part::Text,
                "must not ask for an answer such as CANCEL, YES or START, which Twilio takes for another. Ask for C or R instead",
            );
        }
    }

    /// `values`, those that are longest, none, and what is left where one may be missing, or all that may: somebody gets each.
    fn extremes(&self, text: &Template, values: &Values) -> Vec<Values> {
        let variables = self.variables.iter().map(String::as_str);
        let optional = Token::ALL.iter().filter(|token| token.is_optional()).map(|token| token.name());
        let missing: Vec<_> = optional.chain(variables).filter(|name| text.names(name)).collect();
        let least = missing.iter().fold(values.clone(), |values, name| values.without(name));
        let without = missing.iter().map(|name| values.without(name));
        [values.clone(), values.longest(), Values::default(), least].into_iter().chain(without).collect()
    }

    /// What only shows with values in it.
    fn check_rendered(&mut self, wording: &Wording, ask: &Rendering) {
        let Ok(choice) = choose(ask) else { return };
        match composed(ask, &choice, |values| values) {
            Err(RenderError::TooLong) => self.add_too_long(false),
            Err(RenderError::Blank) => {
                self.add(Part::Text, "must not be empty, nor lose what it is about, with its tokens filled in")
            }
            Err(_) => {}
            // Words of the sender that are too long together are refused when they are sent.
            Ok(_) if matches!(self.at.channel, Channel::Sms | Channel::Push) => {
                if matches!(composed(ask, &choice, |values| values.longest()), Err(RenderError::TooLong)) {
                    self.add_too_long(true);
                }
            }
            Ok(_) => {}
        }
        let values = message::values(ask, &choice.manner);
        if self.at.channel == Channel::Sms {
            self.check_text_message(wording, ask, &values);
        }
        if let Some(html) = &choice.compiled.html {
            self.check_html(html, &choice.compiled.text, &values);
        }
    }

    fn add_too_long(&mut self, longest: bool) {
        let bound = match self.at.channel {
            Channel::Sms => "must be at most 1600 characters long, the practice's name before it included",
            Channel::Push => "must be at most 3584 bytes long, with the subject",
            Channel::InApp | Channel::Email => "is too long when filled in",
        };
        self.add(Part::Text, if longest { format!("{bound}, with the longest values") } else { bound.to_owned() });
    }

    /// Elements that may not stand in a mail, values where they would make markup, and facts that only one part of it has.
    fn check_html(&mut self, source: &Template, text: &Template, values: &Values) {
        let mark = |link| if link { html::LINK } else { html::VALUE };
        if !html::keeps_values_in_place(&source.skeleton(0..source.len(), html::MARK, mark)) {
            self.add(
                Part::Html,
                "must have tokens only in text, as a whole address such as href=\"{{link}}\", and in title=\"\"; no tag may go on over a line with a token",
            );
            return;
        }
        // A server that is tried out on one machine has no https, which the author can do nothing about.
        let mut values = values.clone();
        if let Some(rest) = values.get(Token::Link).strip_prefix("http://") {
            let link = format!("https://{rest}");
            values.set(Token::Link, &link);
        }
        let rendered = source.render(&values, Escape::Html).unwrap_or_default();
        let refusals = html::refusals(&rendered);
        if refusals.is_empty() && html::shows_nothing(&html::cleaned(&rendered, values.get(Token::Link))) {
            self.add(Part::Html, "must show something");
        }
        for refusal in refusals.into_iter().chain(html::unseen(&source.numbered(), &source.links())) {
            self.add(Part::Html, refusal);
        }
        let variables = self.variables.iter().map(String::as_str);
        let names: Vec<_> = Token::ALL.iter().map(|token| token.name()).chain(variables).collect();
        for name in names.iter().filter(|name| source.names(name) && !text.names(name)) {
            self.add(Part::Text, format!("must say all that the HTML says: {{{{{name}}}}} is missing"));
        }
        let said: BTreeSet<_> = text.words().collect();
        for name in names.iter().filter(|name| said.contains(**name) && !source.says(name)) {
            self.add(
                Part::Html,
                format!(
                    "must say all that the text says above its signature, in words or as a link: {{{{{name}}}}} is missing"
                ),
            );
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
