//! The wording that a practice has put in the place of ours, and its own templates: what is in use of it at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use super::{
    compiled::{Compiled, Wording},
    source::TemplateError,
    token::Form,
};
use crate::domain::{Channel, Custom, Kind, Locale, Payload};

/// What wording is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A kind, in the place of our wording.
    Kind(Kind),
    /// A template that the practice made, by its key.
    Custom(String),
}

impl Purpose {
    /// What a message about `payload` wants.
    pub(super) fn of(payload: &Payload) -> Self {
        match payload {
            Payload::Custom(custom) => Self::Custom(custom.template_key.clone()),
            other => Self::Kind(other.kind()),
        }
    }

    /// The kind of the messages that it is for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Kind(kind) => *kind,
            Self::Custom(_) => Kind::Custom,
        }
    }

    /// Its name in what was sent. A practice may call a template of its own as we call a kind.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            // It was written for this once.
            Self::Kind(Kind::Announcement) => "broadcast".to_owned(),
            Self::Kind(kind) => format!("own/{}", super::key(*kind)),
            Self::Custom(key) => format!("custom/{key}"),
        }
    }
}

/// Which wording: what for, where, and in which language.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateRef {
    /// What for.
    pub purpose: Purpose,
    /// Where it is read.
    pub channel: Channel,
    /// In which language.
    pub locale: Locale,
}

impl TemplateRef {
    /// The form that a practice's wording has there. Mail that may give nothing away is in ours alone.
    #[must_use]
    pub const fn form(&self) -> Form {
        Form::of(self.channel, true)
    }
}

/// A version in use.
#[derive(Debug)]
pub struct Active {
    version: i32,
    wording: Wording,
    variables: Vec<String>,
    compiled: OnceLock<Result<Compiled, TemplateError>>,
}

impl Active {
    /// A version; `variables` are those of a template of the practice's own.
    #[must_use]
    pub const fn new(version: i32, wording: Wording, variables: Vec<String>) -> Self {
        Self { version, wording, variables, compiled: OnceLock::new() }
    }

    /// Its number; 0: it is only being tried.
    #[must_use]
    pub const fn version(&self) -> i32 {
        self.version
    }

    /// What it says.
    #[must_use]
    pub const fn wording(&self) -> &Wording {
        &self.wording
    }

    /// The variables that it wants.
    #[must_use]
    pub fn variables(&self) -> &[String] {
        &self.variables
    }

    /// Compiled, once.
    pub(super) fn compiled(&self, at: &TemplateRef) -> Result<&Compiled, TemplateError> {
        let compile = || Compiled::own(&self.wording, (&at.purpose, at.form(), &at.locale), &self.variables);
        self.compiled.get_or_init(compile).as_ref().map_err(|error| *error)
    }
}

/// What is in use of a practice's own wording.
#[derive(Debug, Default)]
pub struct OwnWording(BTreeMap<TemplateRef, Active>);

impl OwnWording {
    /// Nothing: all is ours.
    pub const NONE: Self = Self(BTreeMap::new());

    /// These versions, each in its place.
    pub fn new(active: impl IntoIterator<Item = (TemplateRef, Active)>) -> Self {
        Self(active.into_iter().collect())
    }

    /// What is in use in exactly that place.
    #[must_use]
    pub fn get(&self, at: &TemplateRef) -> Option<&Active> {
        self.0.get(at)
    }

    /// What somebody reads who reads `locale`: the same or a broader tag, or else any of the same language.
    pub(super) fn find(&self, purpose: &Purpose, channel: Channel, locale: &Locale) -> Option<(&TemplateRef, &Active)> {
        if self.0.is_empty() {
            return None;
        }
        let kin = || self.of(purpose, channel).filter(|(at, _)| at.locale.language() == locale.language());
        let broader = locale.and_broader().find_map(|tag| kin().find(|(at, _)| at.locale.as_str() == tag));
        broader.or_else(|| kin().next())
    }

    /// All languages of one wording.
    pub(super) fn of(&self, purpose: &Purpose, channel: Channel) -> impl Iterator<Item = (&TemplateRef, &Active)> {
        self.0.iter().filter(move |(at, _)| at.channel == channel && at.purpose == *purpose)
    }

    /// Whether the practice has a template of that key in use, on whatever channel.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.templates(key).next().is_some()
    }

    fn templates(&self, key: &str) -> impl Iterator<Item = &Active> {
        let is_it = move |at: &TemplateRef| matches!(&at.purpose, Purpose::Custom(known) if known == key);
        self.0.iter().filter(move |(at, _)| is_it(at)).map(|(_, active)| active)
    }

    /// What is wrong with the variables that come with `custom`: each of them with a sentence. All that any channel or language
    /// of the template wants must be there, so that it does not hang on the patient whether a request is good.
    #[must_use]
    pub fn variable_faults(&self, custom: &Custom) -> Vec<(String, &'static str)> {
        let wanted: BTreeSet<&str> =
            self.templates(&custom.template_key).flat_map(Active::variables).map(String::as_str).collect();
        if !self.has(&custom.template_key) {
            return Vec::new();
        }
        let missing = wanted.iter().filter(|name| !custom.variables.contains_key(**name));
        let unknown = custom.variables.keys().filter(|name| !wanted.contains(name.as_str()));
        missing
            .map(|name| ((*name).to_owned(), "is required by the template"))
            .chain(unknown.map(|name| (name.clone(), "is not a variable of the template")))
            .collect()
    }
}
