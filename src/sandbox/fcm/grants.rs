//! Google's token endpoint: access tokens for assertions that a service account signed
//! (<https://developers.google.com/identity/protocols/oauth2/service-account#httprest>). Guarantee: written without sight of
//! the code that signs.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, PoisonError},
};

use axum::{
    Json,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::Deserialize;
use serde_json::json;
use url::form_urlencoded;
use uuid::Uuid;

use super::{Refusal, SERVICE_ACCOUNT, bearer};
use crate::sandbox::{
    journal::{Entry, Journal},
    rules::Rules,
};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// How long a token holds, and an assertion may, in seconds.
const LIFE: i64 = 3_600;
/// How far the clocks may differ.
const SKEW: i64 = 60;

/// The account that is known, and the tokens that were given out for it.
pub(super) struct Grants {
    url: String,
    client_email: String,
    project: String,
    public_key: Vec<u8>,
    /// Each with its end.
    tokens: Mutex<HashMap<String, DateTime<Utc>>>,
    journal: Journal,
    rules: Rules,
}

#[derive(Deserialize)]
struct ServiceAccount {
    project_id: String,
    client_email: String,
    private_key: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    aud: String,
    iat: i64,
    exp: i64,
}

impl Grants {
    /// `url` is where the tokens are given out.
    pub(super) fn new(url: &str, journal: Journal, rules: Rules) -> io::Result<Self> {
        let account: ServiceAccount = serde_json::from_str(SERVICE_ACCOUNT)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(account.private_key.as_bytes()).map_err(io::Error::other)?;
        let key =
            RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            url: url.to_owned(),
            client_email: account.client_email,
            project: account.project_id,
            public_key: key.public_key().as_ref().to_vec(),
            tokens: Mutex::default(),
            journal,
            rules,
        })
    }

    /// Answers a request for a token.
    pub(super) fn answer(&self, body: &[u8]) -> Response {
        let (why, answer) = match self.check(body) {
            Ok(()) => {
                let token = format!("ya29.{}", Uuid::new_v4().simple());
                let end = self.rules.provider_now() + TimeDelta::seconds(LIFE);
                self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), end);
                let answer = json!({ "access_token": token, "expires_in": LIFE - 1, "token_type": "Bearer" });
                (None, Json(answer).into_response())
            }
            Err((error, why)) => {
                let answer = json!({ "error": error, "error_description": why });
                (Some(why.to_owned()), (StatusCode::BAD_REQUEST, Json(answer)).into_response())
            }
        };
        self.journal.append(Entry::GoogleToken { why });
        answer
    }

    /// What is wrong with a request: the error's code, and why.
    fn check(&self, body: &[u8]) -> Result<(), (&'static str, &'static str)> {
        let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        if form.get("grant_type").map(String::as_str) != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
            return Err(("unsupported_grant_type", "Invalid grant_type"));
        }
        let assertion = form.get("assertion").ok_or(("invalid_request", "Missing required parameter: assertion"))?;
        let invalid = |why| ("invalid_grant", why);
        let (signed, signature) = assertion.rsplit_once('.').ok_or(invalid("Not a JWT"))?;
        let (head, claims) = signed.split_once('.').ok_or(invalid("Not a JWT"))?;
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let head: Option<serde_json::Value> = bytes(head).and_then(|head| serde_json::from_slice(&head).ok());
        if head.is_none_or(|head| head["alg"] != "RS256" || head["typ"] != "JWT") {
            return Err(invalid("Invalid JWT header"));
        }
        let claims: Option<Claims> = bytes(claims).and_then(|claims| serde_json::from_slice(&claims).ok());
        let claims = claims.ok_or(invalid("Invalid JWT claims"))?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key);
        let signature = bytes(signature).ok_or(invalid("Invalid JWT Signature."))?;
        if claims.iss != self.client_email || key.verify(signed.as_bytes(), &signature).is_err() {
            return Err(invalid("Invalid JWT Signature."));
        }
        let now = self.rules.provider_now().timestamp();
        let in_time = claims.iat <= now + SKEW && claims.exp >= now - SKEW && claims.exp <= claims.iat + LIFE;
        match () {
            () if !in_time => {
                Err(invalid("Token must be a short-lived token (60 minutes) and in a reasonable timeframe."))
            }
            () if claims.aud != self.url => Err(invalid("Invalid JWT audience")),
            () if claims.scope != SCOPE => Err(("invalid_scope", "Invalid OAuth scope or ID token audience provided.")),
            () => Ok(()),
        }
    }

    /// Whether the bearer may send in the name of the project.
    pub(super) fn admit(&self, headers: &HeaderMap, project: &str) -> Result<(), Refusal> {
        let now = self.rules.provider_now();
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = bearer(headers).and_then(|token| tokens.get(token)).is_some_and(|end| now < *end);
        match holds {
            false => Err(Refusal::UNAUTHENTICATED),
            true if project != self.project => {
                Err(Refusal::new(403, "PERMISSION_DENIED", "Permission denied on resource project."))
            }
            true => Ok(()),
        }
    }
}
