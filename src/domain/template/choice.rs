//! ◆ Which wording a message has: the practice's own or ours, in the language of its reader, of the practice, or in English.

use super::{
    Language, RenderError, Rendering, builtin,
    compiled::Compiled,
    format::Manner,
    own::{Active, Purpose, TemplateRef},
    token::Form,
};
use crate::domain::Locale;

/// The wording of one message.
pub(super) struct Choice<'a> {
    pub(super) compiled: &'a Compiled,
    /// How values are written in it.
    pub(super) manner: Manner,
    /// The language that it is in.
    pub(super) locale: Locale,
    /// As it is put on record.
    pub(super) key: String,
    /// Unset: ours.
    pub(super) version: Option<i32>,
}

impl Choice<'_> {
    /// The language of our own words around the wording.
    pub(super) fn language(&self) -> Language {
        Language::of(&self.locale).unwrap_or(self.manner.words())
    }

    /// What a test begins with; nothing else does.
    pub(super) fn test_mark(&self, ask: &Rendering) -> Option<&'static str> {
        ask.test.then(|| self.language().test_mark())
    }
}

/// Chooses. Mail that may give nothing away is always in our words.
pub(super) fn choose<'a>(ask: &Rendering<'a>) -> Result<Choice<'a>, RenderError> {
    let (form, purpose) = (ask.form(), Purpose::of(ask.payload));
    if let Purpose::Custom(key) = &purpose
        && !ask.own.has(key)
    {
        return Err(RenderError::UnknownTemplate);
    }
    for reader in readers(ask) {
        if form != Form::MinimalEmail
            && let Some(found) = ask.own.find(&purpose, ask.channel, &reader)
        {
            return own(found, &reader);
        }
        if let Some(language) = Language::of(&reader)
            && let Some(compiled) = builtin::compiled(purpose.kind(), form, language)
        {
            return Ok(ours(compiled?, &purpose, (&reader, language)));
        }
    }
    // Whatever language the practice has written it in is better than nothing.
    match ask.own.of(&purpose, ask.channel).next() {
        Some(found) if form != Form::MinimalEmail => own(found, &found.0.locale),
        _ => Err(RenderError::NoWording),
    }
}

/// Ours, whatever the practice has: for a message that its own cannot make. None for a template of the practice's own.
pub(super) fn builtin<'a>(ask: &Rendering<'a>) -> Option<Result<Choice<'a>, RenderError>> {
    let (form, purpose) = (ask.form(), Purpose::of(ask.payload));
    readers(ask).find_map(|reader| {
        let language = Language::of(&reader)?;
        let compiled = builtin::compiled(purpose.kind(), form, language)?;
        Some(compiled.map(|compiled| ours(compiled, &purpose, (&reader, language))).map_err(RenderError::from))
    })
}

/// Whose language counts, in this order.
fn readers(ask: &Rendering) -> impl Iterator<Item = Locale> {
    let english = Language::English.tag();
    [ask.patient.locale.as_deref(), Some(ask.practice.locale.as_str()), Some(english)]
        .into_iter()
        .flatten()
        .map(Locale::new)
}

fn own<'a>((at, active): (&TemplateRef, &'a Active), reader: &Locale) -> Result<Choice<'a>, RenderError> {
    Ok(Choice {
        compiled: active.compiled(at)?,
        manner: Manner::of(reader),
        locale: at.locale.clone(),
        key: format!("{}/{}", at.purpose.name(), at.locale.as_str()),
        version: Some(active.version()),
    })
}

fn ours<'a>(compiled: &'a Compiled, purpose: &Purpose, (reader, language): (&Locale, Language)) -> Choice<'a> {
    let name = super::key(purpose.kind());
    Choice {
        compiled,
        manner: Manner::of(reader),
        locale: Locale::new(language.tag()),
        key: match language {
            Language::English => format!("builtin/{name}"),
            other => format!("builtin/{name}/{}", other.tag()),
        },
        version: None,
    }
}
