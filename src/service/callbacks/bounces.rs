//! Mail that came back, as whoever takes it for the practice hands it over. Anybody can write to where it comes back to, so
//! that only a report about an attempt's own token is believed, and the rest is passed over.

use std::net::IpAddr;

use secrecy::ExposeSecret;

use super::{Answer, Callbacks, unavailable};
use crate::{
    crypto,
    domain::{Provider, Scope},
    providers::smtp::callback::{self, Report, Reports},
    store::{MailAttempt, Receipt, StoreError},
};

/// Where mail comes back to a practice, for somebody who knows its secret.
#[derive(Debug)]
pub struct Door(Scope);

impl Callbacks {
    /// Lets in who shows the practice's secret. Asked before the mail is read: anybody can begin to send one.
    ///
    /// # Errors
    /// How to answer the others.
    pub async fn bounce_door(
        &self,
        practice: &str,
        secret: Option<&str>,
        source: Option<IpAddr>,
    ) -> Result<Door, Answer> {
        let (scope, settings) = match self.home(practice, Provider::Smtp).await {
            Ok(Some(home)) => home,
            Ok(None) => return Err(self.refuse_nobodys()),
            Err(error) => return Err(unavailable(&error)),
        };
        // The address may be another one by now, or none: what is under way comes back to the one that it left from.
        let known = settings.email.bounces.secret.as_ref().map(ExposeSecret::expose_secret);
        match (known, secret) {
            (Some(known), Some(shown)) if crypto::is_same(known, shown) => Ok(Door(scope)),
            _ => Err(self.refuse(&scope, ("webhook.bounce", source), "bad secret")),
        }
    }

    /// A mail that came back to the practice, byte for byte.
    pub async fn bounce(&self, door: &Door, mail: &[u8]) -> Answer {
        match callback::parse(mail) {
            Ok(Some(reports)) => self.bounced(&door.0, reports).await,
            Ok(None) => {
                tracing::info!(practice.id = %door.0.practice(), "a mail that came back without meaning here");
                Answer::Stored
            }
            Err(_) => Answer::Malformed,
        }
    }

    /// Applies what is said of an attempt's mail. Its token was stored before it left, so that one which is not here never will
    /// be: it is not kept, since strangers could fill up what others wait in.
    async fn bounced(&self, scope: &Scope, reports: Reports) -> Answer {
        let (token, attempt) = match self.attempt(scope, &reports.tokens).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                tracing::info!(practice.id = %scope.practice(), "a mail that came back about none that left here");
                return Answer::Stored;
            }
            Err(error) => return unavailable(&error),
        };
        match reports.about(|mailbox| attempt.is_to(mailbox)) {
            Some(report) => self.apply(scope, Provider::Smtp, receipt(token, report)).await,
            None => Answer::Stored,
        }
    }

    /// The first of the tokens that an attempt of the practice has, with that attempt.
    async fn attempt(&self, scope: &Scope, tokens: &[[u8; 16]]) -> Result<Option<([u8; 16], MailAttempt)>, StoreError> {
        for token in tokens {
            if let Some(attempt) = self.store.mail_attempt(scope, *token).await? {
                return Ok(Some((*token, attempt)));
            }
        }
        Ok(None)
    }
}

fn receipt(token: [u8; 16], report: Report) -> Receipt {
    Receipt {
        token,
        provider_ref: String::new(),
        facts: report.told.facts(),
        status: report.told.word().to_owned(),
        code: report.code,
        failure: report.failure,
    }
}
