//! Wording, and the form of it that values are filled in to.

use std::fmt;

use super::{
    builtin::{self, Language},
    own::Purpose,
    source::{Template, TemplateError},
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
    /// Where nothing of the subject would show.
    pub(super) spare_subject: Template,
    pub(super) text: Template,
    pub(super) html: Option<Template>,
    pub(super) preview: Template,
}

impl Compiled {
    /// Compiles wording that stands in `form` and may use `variables`.
    pub(super) fn new(wording: &Wording, form: Form, variables: &[String]) -> Result<Self, TemplateError> {
        let html = Some(&wording.html).filter(|html| !html.is_empty());
        let html = html.map(|html| Template::compile_html(html, form.text_classes(), variables)).transpose()?;
        Ok(Self {
            subject: Template::compile_subject(&wording.subject, form.subject_classes(), variables)?,
            spare_subject: Template::compile_subject(&practice_name(), form.subject_classes(), &[])?,
            text: Template::compile(&wording.text, form.text_classes(), variables)?,
            html,
            preview: Template::compile_subject(&wording.preview, form.subject_classes(), &[])?,
        })
    }

    /// Compiles a practice's wording. What it says nothing of is as in ours: the subject, and what shows beside it.
    pub(super) fn own(
        wording: &Wording,
        (purpose, form, locale): (&Purpose, Form, &Locale),
        variables: &[String],
    ) -> Result<Self, TemplateError> {
        let language = Language::of(locale);
        let ours = |form| language.and_then(|language| builtin::wording(purpose.kind(), form, language));
        let spare_form = if purpose.kind() == Kind::Custom { Form::MinimalEmail } else { form };
        let spare = ours(spare_form).map_or_else(practice_name, |ours| ours.subject);
        let mut wording = wording.clone();
        if wording.subject.is_empty() && form != Form::Sms {
            wording.subject.clone_from(&spare);
        }
        if form == Form::Email {
            wording.preview = ours(Form::MinimalEmail).map_or_else(practice_name, |ours| ours.preview);
        }
        let spare_subject = Template::compile_subject(&spare, form.subject_classes(), &[])?;
        Ok(Self { spare_subject, ..Self::new(&wording, form, variables)? })
    }
}

fn practice_name() -> String {
    format!("{{{{{}}}}}", Token::PracticeName.name())
}
