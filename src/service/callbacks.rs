//! What providers report. The key that verifies a report is that of the practice in the address; nothing is parsed for
//! meaning, and nothing is stored, before it is verified.

mod bounces;
mod events;
mod inbound;

pub use bounces::Door;
pub use events::EventBatch;

use crate::{
    domain::{Author, Engine, PracticeId, PracticeSettings, Provider, Scope},
    providers::twilio::callback::{self, Callback},
    store::{Applied, Parked, Receipt, Store, StoreError},
};

/// A callback of Twilio as it came.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The practice in its path.
    pub practice: &'a str,
    /// The token in its path; empty: none belongs there.
    pub token: &'a str,
    /// Path and query, byte for byte.
    pub path_and_query: &'a str,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `X-Twilio-Signature`.
    pub signature: Option<&'a str>,
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// The signature is of the kind that Twilio calls `SharedKey`.
    pub shared_key: bool,
}

/// How a callback is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is committed, or there was nothing to do.
    Stored,
    /// It is not from the provider.
    Forbidden,
    /// It is verified and makes no sense.
    Malformed,
    /// It could not be stored: the provider must repeat it.
    Unavailable,
}

/// Takes callbacks.
#[derive(Clone, Debug)]
pub struct Callbacks {
    store: Store,
    engine: Engine,
    public_url: String,
}

impl Callbacks {
    /// Over `store`; `public_url` is where providers reach this server, without a slash at the end.
    #[must_use]
    pub const fn new(store: Store, engine: Engine, public_url: String) -> Self {
        Self { store, engine, public_url }
    }

    /// A status callback of Twilio.
    pub async fn twilio_status(&self, incoming: Incoming<'_>) -> Answer {
        let (scope, settings) = match self.verify(&incoming).await {
            Ok(Some(verified)) => verified,
            Ok(None) => {
                tracing::warn!("twilio status callback refused: bad signature");
                return Answer::Forbidden;
            }
            Err(error) => return unavailable(&error),
        };
        let Ok(report) = callback::parse_status(incoming.body) else { return Answer::Malformed };
        if report.account_sid != settings.sms.account_sid {
            tracing::warn!(practice.id = %scope.practice(), "twilio status callback refused: not of the practice's account");
            return Answer::Forbidden;
        }
        let (Some(token), Some(status)) = (token_of(incoming.token), report.status) else {
            tracing::info!(practice.id = %scope.practice(), "twilio status callback without meaning here");
            return Answer::Stored;
        };
        let receipt = Receipt {
            token,
            facts: status.facts(),
            status: status.word().to_owned(),
            code: report.error_code.clone().unwrap_or_default(),
            failure: report.reason(),
            provider_ref: report.sid,
        };
        self.apply(&scope, Provider::Twilio, receipt).await
    }

    /// Applies a report to the attempt that it names.
    async fn apply(&self, scope: &Scope, provider: Provider, receipt: Receipt) -> Answer {
        let applied = self.store.receipt_apply(scope, receipt.clone()).await;
        failpoint!("F13");
        match applied {
            Ok(Applied::New | Applied::Repeat) => Answer::Stored,
            // An account may be shared among practices, and tell each of them everything.
            Ok(Applied::Foreign) => Answer::Stored,
            Ok(Applied::UnknownToken) if mutant!("unknown token dropped") => Answer::Stored,
            Ok(Applied::UnknownToken) => self.park(scope, provider, &receipt).await,
            Err(error) => unavailable(&error),
        }
    }

    /// Keeps a report of an attempt that is not here, or not yet.
    async fn park(&self, scope: &Scope, provider: Provider, receipt: &Receipt) -> Answer {
        match self.store.receipt_park(scope, provider, receipt).await {
            Ok(Parked::Kept) => {
                tracing::warn!(practice.id = %scope.practice(), "a report of an unknown attempt is kept and tried again");
                Answer::Stored
            }
            Ok(Parked::Full) => {
                tracing::error!(practice.id = %scope.practice(), "too many reports of unknown attempts wait");
                Answer::Unavailable
            }
            Err(error) => unavailable(&error),
        }
    }

    /// The scope and the settings of the practice if the callback is signed with one of its secrets.
    async fn verify(&self, incoming: &Incoming<'_>) -> Result<Option<(Scope, PracticeSettings)>, StoreError> {
        let Some((scope, settings)) = self.home(incoming.practice, Provider::Twilio).await? else { return Ok(None) };
        let url = format!("{}{}", self.public_url, incoming.path_and_query);
        let callback = Callback {
            url: &url,
            content_type: incoming.content_type,
            body: incoming.body,
            signature: incoming.signature,
            shared_key: incoming.shared_key,
        };
        Ok(callback.verify(&settings.sms.callback_secrets()).then_some((scope, settings)))
    }

    /// The practice in a path, for `provider` to speak to, and its settings; unset when there is none.
    async fn home(&self, practice: &str, provider: Provider) -> Result<Option<(Scope, PracticeSettings)>, StoreError> {
        let Ok(practice) = practice.parse::<PracticeId>() else { return Ok(None) };
        let scope = self.engine.scope(practice, Author::provider(provider.name()));
        match self.store.settings_get(&scope).await {
            Ok(settings) => Ok(Some((scope, settings.value))),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The token of an attempt as it was given to the provider.
fn token_of(text: &str) -> Option<[u8; 16]> {
    crate::crypto::from_base64url(text).and_then(|bytes| bytes.try_into().ok())
}

fn unavailable(error: &StoreError) -> Answer {
    tracing::error!(error = %crate::telemetry::chain(error), "a verified callback could not be stored");
    Answer::Unavailable
}
