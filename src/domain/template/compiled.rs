//! Wording, and the form of it that values are filled in to.

use std::fmt;

use super::{
    builtin::{self, Language, SENDER},
    own::Purpose,
    source::{SIGNATURE, Template, TemplateError},
    token::{Form, Token},
};
use crate::domain::{Kind, Locale};

/// Wording before it is compiled.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Wording {
    /// Empty for text messages.
    pub subject: String,
    /// The text; mail in HTML is made from it where there is no `html`.
    pub text: String,
    /// The middle of a mail in HTML; may be empty.
    pub html: String,
    /// What a mailbox shows beside the subject; empty for other forms.
    pub preview: String,
}

impl fmt::Debug for Wording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Somebody may have written to one patient in it.
        f.write_str("Wording([hidden])")
    }
}

/// Wording, ready to be filled in.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) subject: Template,
    pub(super) text: Template,
    pub(super) html: Option<Template>,
    pub(super) preview: Template,
}

impl Compiled {
    /// Compiles wording that stands in `form` and may use `variables`.
    pub(super) fn new(wording: &Wording, form: Form, variables: &[String]) -> Result<Self, TemplateError> {
        let html = Some(&wording.html).filter(|html| !html.is_empty());
        let html = html.map(|html| Template::compile(html, form.text_classes(), variables)).transpose()?;
        Ok(Self {
            subject: Template::compile_subject(&wording.subject, form.subject_classes(), variables)?,
            text: Template::compile(&wording.text, form.text_classes(), variables)?,
            html,
            preview: Template::compile_subject(&wording.preview, form.subject_classes(), &[])?,
        })
    }

    /// Compiles a practice's wording. What it says nothing of is as in ours: the subject, what shows beside it, and who wrote,
    /// which every mail must say (16 CFR 316; 15 USC 7704(a)(5)).
    pub(super) fn own(
        wording: &Wording,
        (purpose, form, locale): (&Purpose, Form, &Locale),
        variables: &[String],
    ) -> Result<Self, TemplateError> {
        let language = Language::of(locale);
        let ours = |form| language.and_then(|language| builtin::wording(purpose.kind(), form, language));
        let or_name = |text: Option<String>| text.unwrap_or_else(|| format!("{{{{{}}}}}", Token::PracticeName.name()));
        let mut wording = wording.clone();
        if wording.subject.is_empty() && form != Form::Sms {
            let form = if purpose.kind() == Kind::Custom { Form::MinimalEmail } else { form };
            wording.subject = or_name(ours(form).map(|ours| ours.subject));
        }
        if form == Form::Email {
            wording.preview = or_name(ours(Form::MinimalEmail).map(|ours| ours.preview));
        }
        let mut compiled = Self::new(&wording, form, variables)?;
        if form == Form::Email && !compiled.text.names(Token::LegalName.name()) {
            let begun = wording.text.lines().any(|line| line == SIGNATURE);
            let sender = if begun { SENDER.to_owned() } else { format!("\n{SIGNATURE}\n{SENDER}") };
            compiled.text.extend(Template::compile(&sender, form.text_classes(), &[])?);
        }
        Ok(compiled)
    }
}
