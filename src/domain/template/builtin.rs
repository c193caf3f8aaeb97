//! Our own wording, in English and Spanish, for each kind and form. It is made of the same source as a practice's, and a test
//! holds every text message to one segment.

mod english;
mod spanish;

use std::{collections::BTreeMap, sync::LazyLock};

use super::{
    compiled::{Compiled, Wording},
    filled::SIGNATURE,
    source::TemplateError,
    token::Form,
};
use crate::domain::{Kind, Locale};

/// A language that there is wording of ours in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// English.
    English,
    /// Spanish.
    Spanish,
}

impl Language {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::English, Self::Spanish];

    /// The language of `locale`, if it is one of these.
    #[must_use]
    pub fn of(locale: &Locale) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == locale.language())
    }

    /// Its tag (BCP 47).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Spanish => "es",
        }
    }

    const fn letter(self) -> &'static Letter {
        match self {
            Self::English => &english::LETTER,
            Self::Spanish => &spanish::LETTER,
        }
    }

    /// What leads the reader of a mail to where they unsubscribe.
    pub(super) const fn unsubscribe(self) -> &'static str {
        self.letter().unsubscribe
    }

    /// What a test begins with.
    pub(super) const fn test_mark(self) -> &'static str {
        self.letter().test
    }
}

/// What is said whatever it is about.
struct Letter {
    /// How a mail begins.
    greeting: &'static str,
    /// Whom to ask.
    questions: &'static str,
    /// The label of that link.
    unsubscribe: &'static str,
    /// Marks what is only tried.
    test: &'static str,
    /// On a lock screen.
    push: &'static str,
}

/// What is said about one kind. Paragraphs are parted by empty lines.
struct Texts {
    /// Without the practice's name.
    subject: &'static str,
    /// In the portal, before the details.
    portal: &'static str,
    /// In mail, before the details.
    mail: &'static str,
    /// One to a line: a label, a colon, a token.
    details: &'static str,
    /// After the details and what the sender typed.
    note: &'static str,
    /// In mail that may give nothing away.
    minimal: &'static str,
    /// What the link does.
    action: &'static str,
    /// The text message, which ends with the link. In Spanish without the letters that the 7-bit alphabet lacks: á, í, ó and ú.
    sms: &'static str,
}

/// Who wrote, at the end of a mail.
const SENDER: &str = "{{legal_name}}\n{{postal_address}}\n{{practice_phone}}";

/// The built-in wording of `kind` in `form`. Announcements have none, and a practice's own templates only where mail may give
/// nothing away.
#[must_use]
pub fn wording(kind: Kind, form: Form, language: Language) -> Option<Wording> {
    if kind == Kind::Custom && form != Form::MinimalEmail {
        return None;
    }
    let texts = match language {
        Language::English => english::texts(kind),
        Language::Spanish => spanish::texts(kind),
    }?;
    let letter = language.letter();
    let mail_subject = format!("{} - {{{{practice_name}}}}", texts.subject);
    Some(match form {
        Form::InApp => Wording {
            subject: if kind == Kind::System { "{{notice_title}}" } else { texts.subject }.into(),
            text: paragraphs(&[texts.portal, texts.details, "{{custom_content}}", texts.note]),
            ..Wording::default()
        },
        Form::Email => {
            mail(mail_subject, letter, &texts, &[texts.mail, texts.details, "{{custom_content}}", texts.note])
        }
        Form::MinimalEmail => mail(mail_subject, letter, &texts, &[texts.minimal]),
        Form::Sms => Wording { text: texts.sms.into(), ..Wording::default() },
        // A lock screen shows it to whoever holds the phone, so that all kinds read alike.
        Form::Push => Wording { subject: "{{practice_name}}".into(), text: letter.push.into(), ..Wording::default() },
    })
}

/// The built-in wording, compiled once. An error would be a mistake in this file, which a test rules out.
pub(super) fn compiled(kind: Kind, form: Form, language: Language) -> Option<Result<&'static Compiled, TemplateError>> {
    type Known = BTreeMap<(Kind, Form, Language), Result<Compiled, TemplateError>>;
    static COMPILED: LazyLock<Known> = LazyLock::new(|| {
        let forms = Kind::ALL.into_iter().flat_map(|kind| Form::ALL.map(|form| (kind, form)));
        let all = forms.flat_map(|(kind, form)| Language::ALL.map(|language| (kind, form, language)));
        let compile = |key @ (kind, form, language): (Kind, Form, Language)| {
            Some((key, Compiled::new(&wording(kind, form, language)?, form, &[])))
        };
        all.filter_map(compile).collect()
    });
    COMPILED.get(&(kind, form, language)).map(|compiled| compiled.as_ref().map_err(|error| *error))
}

/// A letter: greeting, what there is to say, what to do, whom to ask, who wrote.
fn mail(subject: String, letter: &Letter, texts: &Texts, said: &[&str]) -> Wording {
    let action = format!("{}: {{{{link}}}}", texts.action);
    let signature = format!("{SIGNATURE}\n{SENDER}");
    let parts = [&[letter.greeting], said, &[&action, letter.questions, &signature]].concat();
    // What stands first in the minimal wording is fit to be seen before the mail is opened.
    let preview = texts.minimal.lines().next().unwrap_or_default().into();
    Wording { subject, text: paragraphs(&parts), preview, ..Wording::default() }
}

fn paragraphs(parts: &[&str]) -> String {
    parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}
