//! Trying wording with invented data: before it is stored, and whenever somebody wants to see it.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use super::{AskedRef, Templates};
use crate::{
    crypto,
    domain::{
        Channel, Content, DeliveryId, Payload, Phi, Scope,
        template::{self, Active, Invented, OwnWording, Purpose, RenderError, Rendering, TemplateRef, Wording},
    },
    service::{Error, Violation},
    store::{NewVersion, WordingHome},
};

/// Stands for the token of a link, as long as one and opening nothing.
const NO_TOKEN: [u8; 16] = [0; 16];
/// The mail that is not sent: nobody can unsubscribe by it.
const NO_MAIL: DeliveryId = DeliveryId(Uuid::nil());

/// Wording to try.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Where.
    pub at: AskedRef,
    /// What it says; unset: what is in use.
    pub wording: Option<Wording>,
    /// Values for the variables of a template of the practice's own.
    pub variables: BTreeMap<String, Phi<String>>,
}

/// How it reads.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The text.
    pub content: Content,
    /// Sentences fit to show to staff.
    pub warnings: Vec<String>,
}

/// Wording in its place, and all else that a message of it is made from.
struct Stage {
    home: WordingHome,
    at: TemplateRef,
    own: Arc<OwnWording>,
    invented: Invented,
    phi_permitted: bool,
    link: Option<String>,
    unsubscribe: String,
    /// It goes out, marked as a test.
    test: bool,
}

impl Templates {
    /// Renders wording with invented data. Nothing is stored.
    ///
    /// # Errors
    /// `FIELD_INVALID` with everything that is wrong with it; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn preview(&self, scope: &Scope, trial: Trial) -> Result<Preview, Error> {
        let home = self.store.wording_home(scope).await?;
        self.tried(home, trial, false).await
    }

    /// How wording reads: as it is, or marked as a test.
    ///
    /// # Errors
    /// `FIELD_INVALID` with everything that is wrong with it.
    pub(super) async fn tried(&self, home: WordingHome, trial: Trial, test: bool) -> Result<Preview, Error> {
        let Trial { at, wording, variables } = trial;
        let at = at.of(&home.practice);
        if matches!(at.purpose, Purpose::Kind(_)) && !variables.is_empty() {
            return Err(Error::field("variables", "only custom templates have variables"));
        }
        let Some(wording) = wording else {
            let (own, phi_permitted) = (Arc::clone(&home.own_wording), home.settings.email.phi_permitted());
            let stage = Stage { test, ..self.stage(home, at, own, variables, phi_permitted)? };
            return work(move || stage.in_use()).await;
        };
        let declared: Vec<_> = variables.keys().cloned().collect();
        let faults = template::variable_problems(&at.purpose, &declared).into_iter();
        let faults = faults.filter_map(|(place, message)| {
            Some(Violation::new(format!("variables.{}", declared.get(place)?), message))
        });
        let faults = faults.collect();
        let own = alone(&at, &wording, &declared);
        let stage = Stage { test, ..self.stage(home, at, own, variables, true)? };
        work(move || stage.tried(&wording, &declared, faults)).await
    }

    /// A version that may be stored.
    ///
    /// # Errors
    /// `FIELD_INVALID` with everything that is wrong with it.
    pub(super) async fn reviewed(&self, home: WordingHome, new: NewVersion) -> Result<NewVersion, Error> {
        let NewVersion { at, wording, variables, .. } = &new;
        let faults = template::variable_problems(&at.purpose, variables).into_iter();
        let faults = faults.map(|(place, message)| Violation::new(format!("variables[{place}]"), message)).collect();
        let invented = variables.iter().map(|name| (name.clone(), Phi::new("sample".to_owned()))).collect();
        let own = alone(at, wording, variables);
        let stage = self.stage(home, at.clone(), own, invented, true)?;
        work(move || {
            let violations = stage.violations(&new.wording, &new.variables, faults);
            if violations.is_empty() { Ok(new) } else { Err(Error::FieldInvalid(violations)) }
        })
        .await
    }

    fn stage(
        &self,
        home: WordingHome,
        at: TemplateRef,
        own: Arc<OwnWording>,
        variables: BTreeMap<String, Phi<String>>,
        phi_permitted: bool,
    ) -> Result<Stage, Error> {
        let invented = Invented::new(&at, variables).ok_or_else(no_wording)?;
        let link = invented.payload.link().map(|_| format!("{}/l/{}", self.public_url, crypto::base64url(&NO_TOKEN)));
        let unsubscribe = format!("{}/u/{}", self.public_url, self.store.unsubscribe_token(NO_MAIL));
        Ok(Stage { home, at, own, invented, phi_permitted, link, unsubscribe, test: false })
    }
}

impl Stage {
    fn ask(&self) -> Rendering<'_> {
        Rendering {
            channel: self.at.channel,
            payload: &self.invented.payload,
            custom_content: Some(&self.invented.custom_content),
            practice: &self.home.practice,
            patient: &self.invented.patient,
            own: &self.own,
            sms_prefix: self.home.settings.sms_prefix(&self.home.practice),
            phi_permitted: self.phi_permitted,
            link: self.link.as_deref(),
            unsubscribe: Some(&self.unsubscribe),
            test: self.test,
        }
    }

    /// How what is in use reads.
    fn in_use(&self) -> Result<Preview, Error> {
        if let Payload::Custom(custom) = &self.invented.payload {
            let faults = self.own.variable_faults(custom).into_iter();
            let faults: Vec<_> = faults.map(|(name, it)| Violation::new(format!("variables.{name}"), it)).collect();
            if !faults.is_empty() {
                return Err(Error::FieldInvalid(faults));
            }
        }
        self.rendered(&self.ask())
    }

    /// How `wording` reads, if it may be stored.
    fn tried(&self, wording: &Wording, declared: &[String], faults: Vec<Violation>) -> Result<Preview, Error> {
        let violations = self.violations(wording, declared, faults);
        if !violations.is_empty() {
            return Err(Error::FieldInvalid(violations));
        }
        // What goes out is the message that patients would get, and no other.
        let phi_permitted = !self.test || self.home.settings.email.phi_permitted();
        let mut preview = self.rendered(&Rendering { phi_permitted, ..self.ask() })?;
        if self.at.channel == Channel::Email && !self.home.settings.email.phi_permitted() {
            preview.warnings.push(
                "The mail provider may not carry health information: until it may, our minimal wording goes out instead."
                    .into(),
            );
        }
        preview.warnings.extend(template::hanging_lines(&self.at, wording, declared, &self.ask()));
        Ok(preview)
    }

    /// Everything that is wrong with `wording`, after `faults`.
    fn violations(&self, wording: &Wording, declared: &[String], mut faults: Vec<Violation>) -> Vec<Violation> {
        let problems = template::problems(&self.at, wording, declared, &self.ask()).into_iter();
        faults.extend(problems.map(|it| Violation::new(format!("content.{}", it.part.name()), it.message)));
        faults
    }

    fn rendered(&self, ask: &Rendering) -> Result<Preview, Error> {
        let content = template::render(ask).map_err(|error| match error {
            RenderError::UnknownTemplate => Error::field("ref.key", "the practice uses no template of that key"),
            RenderError::NoWording => no_wording(),
            RenderError::TooLong => Error::field("content.text", "is too long when filled in"),
            RenderError::Blank => Error::field("content.text", "says nothing with these values"),
            RenderError::Address => Error::field("variables", "must have no address of the web in a text message"),
            RenderError::Keyword => {
                Error::field("variables", "must not ask for an answer such as CANCEL, YES or START in a text message")
            }
            RenderError::Template(error) => Error::field("content.text", error.to_string()),
        })?;
        // What the sender would have typed is invented as well: nobody misses it.
        let ask = Rendering { custom_content: None, ..*ask };
        let warnings = template::warnings(&ask, &content);
        Ok(Preview { content, warnings })
    }
}

fn no_wording() -> Error {
    Error::field("ref", "there is no wording for this channel")
}

/// This wording and no other of the practice's own.
fn alone(at: &TemplateRef, wording: &Wording, variables: &[String]) -> Arc<OwnWording> {
    Arc::new(OwnWording::new([(at.clone(), Active::new(0, wording.clone(), variables.to_vec()))]))
}

/// Rendering is bounded, but it is work: it does not belong on a thread that serves connections.
async fn work<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(error.into()))?
}
