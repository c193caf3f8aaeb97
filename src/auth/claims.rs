//! What a token says of its bearer (RFC 7519), and when it holds. Types are strict: a time that is a string or a
//! fraction, or a claim given twice, is refused rather than guessed at.

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{EMERGENCY_LIFE, Refusal, Thumbprint};
use crate::domain::{Actor, Phi, Practices, Role};

/// The longest subject in characters; a display name is cut to as many.
const MAX_NAME_LEN: usize = 128;
/// The longest reason for an emergency, in characters.
const MAX_REASON_LEN: usize = 200;
/// In place of a practice: every one.
pub(super) const EVERY_PRACTICE: &str = "*";

#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    exp: i64,
    nbf: Option<i64>,
    name: Option<String>,
    #[serde(default)]
    practices: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    patient_id: Option<String>,
    cnf: Option<Confirmation>,
    /// Of any form where nothing hangs on it.
    iat: Option<Value>,
    /// Why it was necessary to issue it, for an emergency.
    emergency: Option<String>,
}

/// With what its bearer proves that it is theirs (RFC 7800). What we could not check is refused rather than passed over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// SHA-256 of the bearer's certificate, in base64url (RFC 8705, 3.1).
    #[serde(rename = "x5t#S256")]
    certificate: String,
}

/// What claims are held against.
pub(super) struct Terms<'a> {
    pub(super) issuer: &'a str,
    pub(super) leeway: Duration,
    pub(super) now: DateTime<Utc>,
    /// That with which the token came.
    pub(super) certificate: Option<&'a Thumbprint>,
}

impl Claims {
    /// The bearer. The token ends at `exp` and the leeway, for the call that brings it and for the streams it opens.
    pub(super) fn actor(&self, terms: &Terms<'_>) -> Result<Actor, Refusal> {
        if self.iss != terms.issuer {
            return Err("issuer");
        }
        let leeway = i64::try_from(terms.leeway.as_secs()).unwrap_or(i64::MAX);
        let expire_time = DateTime::from_timestamp(self.exp.saturating_add(leeway), 0).ok_or("exp")?;
        if terms.now >= expire_time {
            return Err("expired");
        }
        if self.nbf.is_some_and(|begin| begin.saturating_sub(leeway) > terms.now.timestamp()) {
            return Err("not yet");
        }
        if let Some(Confirmation { certificate }) = &self.cnf {
            let bound = BASE64_URL_SAFE_NO_PAD.decode(certificate).map_err(|_| "cnf")?;
            if terms.certificate.is_none_or(|shown| shown[..] != bound) {
                return Err("certificate");
            }
        }
        if !(1..=MAX_NAME_LEN).contains(&self.sub.chars().count()) || self.sub.contains(char::is_control) {
            return Err("subject");
        }
        if self.emergency.is_some() && !self.is_of_an_emergency(terms.now.timestamp().saturating_add(leeway)) {
            return Err("emergency");
        }
        let name = self.name.as_deref().unwrap_or_default();
        Ok(Actor {
            subject: self.sub.clone(),
            display_name: name.chars().filter(|letter| !letter.is_control()).take(MAX_NAME_LEN).collect(),
            practices: practices(&self.practices),
            roles: self.roles.iter().filter_map(|role| Role::from_name(role)).collect::<BTreeSet<_>>(),
            // An id that no patient can have binds role `patient` to nobody, as none does.
            patient: self.patient_id.as_ref().and_then(|id| id.parse().ok()),
            expire_time,
            emergency: self.emergency.clone().map(Phi::new),
        })
    }

    /// Whether a token that is said to be for an emergency says why, and is short-lived: it can neither be kept for later nor
    /// become somebody's everyday one.
    fn is_of_an_emergency(&self, latest: i64) -> bool {
        let life = i64::try_from(EMERGENCY_LIFE.as_secs()).unwrap_or(i64::MAX);
        let issued = self.iat.as_ref().and_then(Value::as_i64);
        issued.is_some_and(|iat| iat <= latest && self.exp <= iat.saturating_add(life))
            && self.emergency.as_deref().is_some_and(is_reason)
    }
}

/// Whether a text can stand on record as the reason for an emergency: a line of 200 characters at most.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_REASON_LEN && !text.contains(char::is_control)
}

fn practices(ids: &[String]) -> Practices {
    if ids.iter().any(|id| id == EVERY_PRACTICE) {
        Practices::All
    } else {
        // No practice has an id that does not parse.
        Practices::Named(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }
}
