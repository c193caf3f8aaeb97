//! Mail that came back, as whoever takes it for the practice hands it over. Anybody can write to where it comes back to, so
//! that only a report about an attempt's own token is believed, and the rest is passed over.

use secrecy::ExposeSecret;

use super::{Answer, Callbacks, unavailable};
use crate::{
    crypto,
    domain::{EmailAddress, Provider, Scope},
    providers::smtp::callback::{self, Report},
    store::{Receipt, StoreError},
};

/// A mail as it came back.
#[derive(Debug)]
pub struct Bounce<'a> {
    /// The practice in its path.
    pub practice: &'a str,
    /// What stands behind `Bearer` in `Authorization`.
    pub secret: Option<&'a str>,
    /// The mail, byte for byte.
    pub body: &'a [u8],
}

impl Callbacks {
    /// A mail that came back to the practice.
    pub async fn bounce(&self, bounce: Bounce<'_>) -> Answer {
        let (scope, bounces) = match self.verify_bounce(&bounce).await {
            Ok(Some(verified)) => verified,
            Ok(None) => {
                tracing::warn!("a mail that came back was refused: bad secret");
                return Answer::Forbidden;
            }
            Err(error) => return unavailable(&error),
        };
        match callback::parse(bounce.body, &bounces) {
            Ok(Some(report)) => self.apply(&scope, Provider::Smtp, receipt(report)).await,
            Ok(None) => {
                tracing::info!(practice.id = %scope.practice(), "a mail that came back without meaning here");
                Answer::Stored
            }
            Err(_) => Answer::Malformed,
        }
    }

    /// The scope of the practice, and where its mail comes back to, if whoever hands it over knows the practice's secret.
    async fn verify_bounce(&self, bounce: &Bounce<'_>) -> Result<Option<(Scope, EmailAddress)>, StoreError> {
        let Some((scope, settings)) = self.home(bounce.practice, Provider::Smtp).await? else { return Ok(None) };
        let (Some((address, known)), Some(shown)) = (settings.email.bounces(), bounce.secret) else { return Ok(None) };
        let verified = crypto::is_same(known.expose_secret(), shown);
        Ok(verified.then(|| (scope, address.clone())))
    }
}

fn receipt(report: Report) -> Receipt {
    Receipt {
        token: report.token,
        provider_ref: String::new(),
        facts: report.told.facts(),
        status: report.told.word().to_owned(),
        code: report.code,
        failure: report.failure,
    }
}
