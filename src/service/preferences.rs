//! What a practice set up, and whether it can send with it; what its patients want, and how they can be reached.

mod patients;
mod reachability;
pub mod service_account;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    crypto::{SigningKey, UnfitKey},
    domain::{Channel, DkimKey, EmailProvider, Finding, PracticeSettings, Scope, Stored},
    service::Error,
    store::{ChannelHealth, Store, StoreError},
};

pub use patients::{NewChoice, PatientView};
pub use reachability::{ChannelReach, Reachability};

/// How far a channel is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupState {
    /// Something required is missing.
    NotSetUp,
    /// Set up, but the provider has been refusing.
    Failing,
    /// It can send.
    Ready,
}

/// Whether a channel can send, and what to put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// The channel.
    pub channel: Channel,
    /// How far it is.
    pub state: SetupState,
    /// What is missing or wrong.
    pub findings: Vec<Finding>,
    /// When a provider last accepted a message.
    pub last_success_time: Option<DateTime<Utc>>,
}

/// Settings as they are read.
#[derive(Clone, Debug)]
pub struct SettingsView {
    /// The settings, secrets among them: whoever shows this leaves them out.
    pub settings: Stored<PracticeSettings>,
    /// One per channel.
    pub statuses: Vec<ChannelStatus>,
    /// How long texts and files are kept; unset: for good.
    pub content_retention: Option<TimeDelta>,
    /// Where Twilio must send incoming messages.
    pub inbound_webhook_url: String,
    /// Where SendGrid must send its events.
    pub event_webhook_url: String,
    /// Where mail that came back must be posted.
    pub bounce_webhook_url: String,
}

/// A private key that signs mail, with what the domain has to publish for it (RFC 6376, section 3.6.1).
///
/// # Errors
/// Says what it must be.
pub fn dkim_key(pem: &str) -> Result<DkimKey, UnfitKey> {
    let key = SigningKey::from_pem(pem)?;
    let record = format!("v=DKIM1; k={}; p={}", key.algorithm(), BASE64_STANDARD.encode(key.public_key()));
    Ok(DkimKey { pem: pem.into(), record })
}

/// Settings of practices, and preferences of patients.
#[derive(Clone, Debug)]
pub struct Preferences {
    store: Store,
    public_url: String,
    content_retention: Option<TimeDelta>,
    any_relay_port: bool,
}

impl Preferences {
    /// Over `store`; `public_url` is where providers reach this server, without a slash at the end.
    #[must_use]
    pub const fn new(
        store: Store,
        public_url: String,
        content_retention: Option<TimeDelta>,
        any_relay_port: bool,
    ) -> Self {
        Self { store, public_url, content_retention, any_relay_port }
    }

    /// Whether a relay may be at other ports than those of [`SmtpSettings::PORTS`](crate::domain::SmtpSettings::PORTS): where the
    /// operator allows providers at private addresses.
    #[must_use]
    pub const fn any_relay_port(&self) -> bool {
        self.any_relay_port
    }

    /// Reads the settings of a practice.
    ///
    /// # Errors
    /// `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn settings_get(&self, scope: &Scope) -> Result<SettingsView, Error> {
        let settings = self.store.settings_get(scope).await?;
        self.view(scope, settings).await
    }

    /// Changes the settings of a practice by `change`, which says what is invalid in the result. `etag`, if given, must
    /// match.
    ///
    /// # Errors
    /// `ETAG_MISMATCH`, and what `change` says.
    pub async fn settings_update(
        &self,
        scope: &Scope,
        etag: Option<i64>,
        change: impl Fn(PracticeSettings) -> Result<PracticeSettings, Error>,
    ) -> Result<SettingsView, Error> {
        loop {
            let before = self.store.settings_get(scope).await?;
            if etag.is_some_and(|etag| etag != before.revision) {
                return Err(Error::EtagMismatch { current: before.revision.to_string() });
            }
            let after = change(before.value)?;
            match self.store.settings_put(scope, after, before.revision).await {
                Ok(stored) => return self.view(scope, stored).await,
                // Somebody else was quicker. Their change stays; ours is made on top of it.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn view(&self, scope: &Scope, settings: Stored<PracticeSettings>) -> Result<SettingsView, Error> {
        let health = self.store.channel_health(scope).await?;
        let statuses = Channel::ALL.into_iter().map(|channel| status(channel, &settings.value, &health)).collect();
        let inbound_webhook_url =
            format!("{}/webhooks/twilio/{}/inbound#rc=3&rp=all", self.public_url, scope.practice());
        let event_webhook_url = format!("{}/webhooks/sendgrid/{}", self.public_url, scope.practice());
        let bounce_webhook_url = format!("{}/webhooks/bounce/{}", self.public_url, scope.practice());
        Ok(SettingsView {
            settings,
            statuses,
            content_retention: self.content_retention,
            inbound_webhook_url,
            event_webhook_url,
            bounce_webhook_url,
        })
    }
}

fn status(channel: Channel, settings: &PracticeSettings, health: &[ChannelHealth]) -> ChannelStatus {
    let mut findings = settings.findings(channel);
    let health = health.iter().find(|health| health.channel == channel);
    let failing = health.and_then(|health| health.failing.as_ref());
    let state = match (findings.iter().any(|finding| finding.blocking), failing) {
        (true, _) => SetupState::NotSetUp,
        (false, Some(code)) => {
            findings.push(refused(channel, settings, code));
            SetupState::Failing
        }
        (false, None) => SetupState::Ready,
    };
    ChannelStatus { channel, state, findings, last_success_time: health.and_then(|health| health.last_success_time) }
}

/// What to do about an account that the provider refuses.
fn refused(channel: Channel, settings: &PracticeSettings, code: &str) -> Finding {
    let field = match (channel, &settings.email.provider) {
        (Channel::Sms, _) => "sms.auth_token",
        (Channel::Push, _) => "push.fcm_service_account_json",
        (_, Some(EmailProvider::SendGrid(_))) => "email.sendgrid.api_key",
        _ => "email.smtp",
    };
    let message = format!(
        "The provider has been refusing the account or the sender (code {code}). Check the credentials and the sender there."
    );
    Finding { field, message, blocking: true }
}
