//! What providers report. The key that verifies a report is that of the practice in the address; nothing is parsed for
//! meaning, and nothing is stored, before it is verified.

mod bounces;
mod events;
mod inbound;

pub use bounces::Door;
pub use events::EventBatch;

use std::net::IpAddr;

use crate::{
    domain::{Author, Engine, PracticeId, PracticeSettings, Provider, Scope},
    providers::twilio::callback::{self, Callback},
    service::{refusals::Refusals, strangers::Strangers},
    store::{Applied, Parked, Receipt, Store, StoreError},
};

/// A callback of Twilio as it came.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The practice in its path.
    pub practice: &'a str,
    /// The address that it came from, where that is known.
    pub source: Option<IpAddr>,
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
    refusals: Refusals,
    strangers: Strangers,
    public_url: String,
}

/// What the audit trail calls a status callback of Twilio that was refused.
const STATUS: &str = "webhook.twilio.status";

impl Callbacks {
    /// Over `store`; `public_url` is where providers reach this server, without a slash at the end.
    #[must_use]
    pub fn new(store: Store, engine: Engine, (refusals, strangers): (Refusals, Strangers), public_url: String) -> Self {
        Self { store, engine, refusals, strangers, public_url }
    }

    /// A status callback of Twilio.
    pub async fn twilio_status(&self, incoming: Incoming<'_>) -> Answer {
        let (scope, settings) = match self.home(incoming.practice, Provider::Twilio).await {
            Ok(Some(home)) => home,
            Ok(None) => return self.refuse_nobodys(),
            Err(error) => return unavailable(&error),
        };
        if !self.is_signed(&incoming, &settings) {
            return self.refuse(&scope, (STATUS, incoming.source), "bad signature");
        }
        let Ok(report) = callback::parse_status(incoming.body) else { return Answer::Malformed };
        if report.account_sid != settings.sms.account_sid {
            return self.refuse(&scope, (STATUS, incoming.source), "not of the practice's account");
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

    /// Whether the callback is signed with one of the practice's secrets.
    fn is_signed(&self, incoming: &Incoming<'_>, settings: &PracticeSettings) -> bool {
        let url = format!("{}{}", self.public_url, incoming.path_and_query);
        let callback = Callback {
            url: &url,
            content_type: incoming.content_type,
            body: incoming.body,
            signature: incoming.signature,
            shared_key: incoming.shared_key,
        };
        callback.verify(&settings.sms.callback_secrets())
    }

    /// Refuses what is not from the provider: `action` of the audit trail, from `source`. Nothing else of it is kept.
    fn refuse(&self, scope: &Scope, (action, source): (&'static str, Option<IpAddr>), why: &'static str) -> Answer {
        if self.refusals.take_stranger(scope, action, source) {
            tracing::warn!(practice.id = %scope.practice(), action, why, "callback refused");
        }
        Answer::Forbidden
    }

    /// Refuses what is for a practice that is not there. Its id may be any text.
    fn refuse_nobodys(&self) -> Answer {
        if self.refusals.take_nobodys() {
            tracing::warn!("callback refused: there is no such practice");
        }
        Answer::Forbidden
    }

    /// The practice in a path, for `provider` to speak to, and its settings; unset when there is none.
    async fn home(&self, practice: &str, provider: Provider) -> Result<Option<(Scope, PracticeSettings)>, StoreError> {
        let Ok(practice) = practice.parse::<PracticeId>() else { return Ok(None) };
        let scope = self.engine.scope(practice, Author::provider(provider.name()));
        let _turn = self.strangers.turn().await;
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
