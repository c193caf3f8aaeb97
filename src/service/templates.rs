//! Wording: what a practice says in words of its own, and ours where it does not.

mod preview;
mod send_test;

use chrono::{DateTime, Utc};

use crate::{
    crypto::FingerprintKey,
    domain::{
        Channel, Kind, Locale, Phi, Practice, Scope,
        template::{self, Form, Language, Purpose, TemplateRef, Token, Wording},
    },
    service::{Error, admission::Admission, pages::Pages},
    store::{NewVersion, Store, StoreError, StoredTemplate, StoredVersion, WordingHome},
};

pub use preview::{Preview, Trial};
pub use send_test::{TestOrder, TestOutcome};

/// The list that page tokens of templates are for.
const LIST: &str = "templates";

/// Which wording is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedRef {
    /// What for.
    pub purpose: Purpose,
    /// Where it is read.
    pub channel: Channel,
    /// In which language; unset: the practice's.
    pub locale: Option<Locale>,
}

impl AskedRef {
    fn of(self, practice: &Practice) -> TemplateRef {
        let locale = self.locale.unwrap_or_else(|| Locale::new(&practice.locale));
        TemplateRef { purpose: self.purpose, channel: self.channel, locale }
    }
}

/// Wording for one place, and what is in use there.
#[derive(Clone, Debug)]
pub struct TemplateView {
    /// Which.
    pub at: TemplateRef,
    /// 0: ours, or none for a template of the practice's own.
    pub active_version: i32,
    /// Tokens that may stand in it, or the variables of a template of the practice's own.
    pub variables: Vec<String>,
    /// What is in use.
    pub content: Option<Wording>,
    /// When the practice last changed it; unset: never.
    pub update_time: Option<DateTime<Utc>>,
    /// For the etag.
    pub revision: i64,
}

/// A version that a practice wants to have.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where.
    pub at: AskedRef,
    /// What it says.
    pub wording: Wording,
    /// The variables that it declares.
    pub variables: Vec<String>,
    /// Whether it is used at once.
    pub active: bool,
}

/// What a list of templates is asked for.
#[derive(Clone, Debug)]
pub struct TemplateQuery {
    /// At most this many.
    pub page_size: u64,
    /// Where the page begins; empty: at the first.
    pub page_token: String,
    /// The request without page size and token, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
}

/// A page of templates.
#[derive(Debug)]
pub struct TemplatePage {
    /// The templates: those of kinds in their order, then those that the practice made, by key.
    pub templates: Vec<TemplateView>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// Keeps wording.
#[derive(Clone, Debug)]
pub struct Templates {
    store: Store,
    admission: Admission,
    fingerprints: FingerprintKey,
    pages: Pages,
    public_url: String,
}

impl Templates {
    /// Over `store`; `public_url` is where patients reach this server, without a slash at the end.
    #[must_use]
    pub const fn new(
        store: Store,
        admission: Admission,
        fingerprints: FingerprintKey,
        pages: Pages,
        public_url: String,
    ) -> Self {
        Self { store, admission, fingerprints, pages, public_url }
    }

    /// The practice's wording, and ours that it has not replaced.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn list(&self, scope: &Scope, query: TemplateQuery) -> Result<TemplatePage, Error> {
        let after = self.pages.open(scope, LIST, query.canonical.expose(), &query.page_token)?;
        let home = self.store.wording_home(scope).await?;
        let own = self.store.template_places(scope).await?;
        let replaced = |at: &TemplateRef| {
            own.iter().any(|(_, own)| {
                (&own.purpose, own.channel) == (&at.purpose, at.channel)
                    && own.locale.language() == at.locale.language()
            })
        };
        // Without their texts: only those of the page are opened.
        let mut places: Vec<_> = builtin_places().filter(|at| !replaced(at)).map(|at| (at, None)).collect();
        places.extend(own.iter().map(|(id, at)| (at.clone(), Some(*id))));
        places.sort();
        let start = after.map_or(0, |after| places.partition_point(|(at, _)| position(at) <= after));
        let rest = places.split_off(start.min(places.len()));
        let size = usize::try_from(query.page_size).unwrap_or(usize::MAX);
        let page = rest.get(..size).unwrap_or(&rest);
        let ids: Vec<_> = page.iter().filter_map(|(_, id)| *id).collect();
        let opened = self.store.templates(scope, &ids).await?;
        let mut opened = opened.into_iter().map(|own| view(&home, own));
        let shown = page.iter().map_while(|(at, id)| match id {
            Some(_) => opened.next(),
            None => Some(builtin_view(&home, at.clone())),
        });
        let templates: Vec<_> = shown.collect();
        let last = templates.last().filter(|_| templates.len() < rest.len());
        let mint = |view: &TemplateView| self.pages.mint(scope, LIST, query.canonical.expose(), &position(&view.at));
        let next_page_token = last.map(mint).unwrap_or_default();
        Ok(TemplatePage { templates, next_page_token })
    }

    /// The wording for one place, with the newest versions that the practice has written, newest first.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn get(&self, scope: &Scope, at: AskedRef) -> Result<(TemplateView, Vec<StoredVersion>), Error> {
        let home = self.store.wording_home(scope).await?;
        let at = at.of(&home.practice);
        match self.store.template_get(scope, &at).await {
            Ok(history) => Ok((view(&home, history.template), history.versions)),
            Err(error) => Ok((unwritten(&home, at, error)?, Vec::new())),
        }
    }

    /// Adds a version. One that says the same as the newest is that one.
    ///
    /// # Errors
    /// `FIELD_INVALID` with everything that is wrong with it; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn create(&self, scope: &Scope, draft: Draft) -> Result<(TemplateView, StoredVersion), Error> {
        let home = self.store.wording_home(scope).await?;
        let Draft { at, wording, variables, active } = draft;
        let at = at.of(&home.practice);
        let new = NewVersion { at, wording, variables, active };
        let new = self.reviewed(home.clone(), new).await?;
        let (template, version) = self.store.template_version_add(scope, new).await.map_err(|error| match error {
            StoreError::StateForbids { message, .. } => Error::field("ref", message),
            error => error.into(),
        })?;
        Ok((view(&home, template), version))
    }

    /// Takes a version into use; 0: ours, or none for a template of the practice's own. `etag`, if given, must match.
    ///
    /// # Errors
    /// `NOT_FOUND`, `ETAG_MISMATCH`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn activate(
        &self,
        scope: &Scope,
        at: AskedRef,
        version: i32,
        etag: Option<i64>,
    ) -> Result<TemplateView, Error> {
        let home = self.store.wording_home(scope).await?;
        let at = at.of(&home.practice);
        match self.store.template_activate(scope, at.clone(), version, etag).await {
            Ok(template) => Ok(view(&home, template)),
            // Ours is in use where the practice never wrote anything: that is nothing to change, and revision 0.
            Err(error) if version == 0 => {
                let view = unwritten(&home, at, error)?;
                match etag {
                    Some(etag) if etag != 0 => Err(Error::EtagMismatch { current: "0".into() }),
                    _ => Ok(view),
                }
            }
            Err(error) => Err(named(error, &at)),
        }
    }
}

/// Ours, where `error` says that the practice has no wording there.
fn unwritten(home: &WordingHome, at: TemplateRef, error: StoreError) -> Result<TemplateView, Error> {
    match (&error, &at.purpose) {
        (StoreError::NotFound("template"), Purpose::Kind(_)) => Ok(builtin_view(home, at)),
        _ => Err(named(error, &at)),
    }
}

fn named(error: StoreError, at: &TemplateRef) -> Error {
    let name = match &at.purpose {
        Purpose::Kind(_) => String::new(),
        Purpose::Custom(key) => key.clone(),
    };
    Error::from(error).named(name)
}

/// Where there is wording of ours.
fn builtin_places() -> impl Iterator<Item = TemplateRef> {
    let kinds = Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Announcement | Kind::Custom));
    let places = kinds.flat_map(|kind| Channel::ALL.map(|channel| (kind, channel)));
    places.flat_map(|(kind, channel)| {
        Language::ALL.map(|language| TemplateRef {
            purpose: Purpose::Kind(kind),
            channel,
            locale: Locale::new(language.tag()),
        })
    })
}

fn view(home: &WordingHome, template: StoredTemplate) -> TemplateView {
    let ours = builtin_view(home, template.at);
    let (update_time, revision) = (Some(template.update_time), template.revision);
    let Some(active) = template.active else {
        // A template of the practice's own that is switched off says nothing, not even in our words.
        let content = ours.content.filter(|_| matches!(ours.at.purpose, Purpose::Kind(_)));
        return TemplateView { update_time, revision, content, ..ours };
    };
    let variables = match &ours.at.purpose {
        Purpose::Kind(_) => ours.variables,
        Purpose::Custom(_) => active.variables().to_vec(),
    };
    let (active_version, content) = match form(home, ours.at.channel) {
        // What was chosen is kept, and is not what goes out.
        Form::MinimalEmail => (0, ours.content),
        _ => (active.version(), Some(active.wording().clone())),
    };
    TemplateView { active_version, variables, content, update_time, revision, ..ours }
}

/// What is in use where the practice has nothing.
fn builtin_view(home: &WordingHome, at: TemplateRef) -> TemplateView {
    let kind = at.purpose.kind();
    let (content, variables) = match &at.purpose {
        Purpose::Kind(_) => (builtin(home, &at), tokens(at.form(), kind)),
        Purpose::Custom(_) => (builtin(home, &at), Vec::new()),
    };
    TemplateView { at, active_version: 0, variables, content, update_time: None, revision: 0 }
}

/// Our wording, in the language asked for, in the practice's, or in English.
fn builtin(home: &WordingHome, at: &TemplateRef) -> Option<Wording> {
    let locales = [at.locale.clone(), Locale::new(&home.practice.locale)];
    let language = locales.iter().find_map(Language::of).unwrap_or(Language::English);
    template::wording(at.purpose.kind(), form(home, at.channel), language)
}

/// The form that messages of the practice have there.
fn form(home: &WordingHome, channel: Channel) -> Form {
    Form::of(channel, home.settings.email.phi_permitted())
}

/// The names of the tokens that wording of `kind` in `form` may hold.
fn tokens(form: Form, kind: Kind) -> Vec<String> {
    let held = |token: &&Token| token.fits(kind) && form.text_classes().contains(&token.class());
    Token::ALL.iter().filter(held).map(|token| token.name().to_owned()).collect()
}

/// Where a page ends, in the order of the list.
fn position(at: &TemplateRef) -> Vec<u8> {
    let (kind, key) = match &at.purpose {
        // Those that the practice made come last.
        Purpose::Kind(kind) => (kind.number(), ""),
        Purpose::Custom(key) => (i16::MAX, key.as_str()),
    };
    let [kind, channel] = [kind, at.channel.number()].map(i16::to_be_bytes);
    [&kind, key.as_bytes(), &[0], &channel, at.locale.as_str().as_bytes()].concat()
}
