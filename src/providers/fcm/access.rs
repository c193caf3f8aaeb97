//! Access tokens of Google, for an assertion that the service account signs
//! (developers.google.com/identity/protocols/oauth2/service-account#httprest). A token is kept until shortly before it ends,
//! and one that is missing is fetched once, however many wait for it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::{Client, StatusCode, header};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::{
    clock::SharedClock,
    domain::ServiceAccount,
    providers::{SendError, net},
};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Google refuses an assertion for longer, and its tokens last an hour at most.
const LIFE_SECONDS: i64 = 3_600;
/// A token that ends sooner is not used any more: the call that has it may take a while.
const MARGIN: Duration = Duration::from_secs(120);
/// A token counts for no less, or each message would ask for one. One that ends sooner is refused, and renewed then.
const SHORTEST_LIFE: Duration = Duration::from_secs(180);

/// Fetches tokens and keeps them.
pub(in crate::providers) struct Access {
    http: Client,
    url: Url,
    clock: SharedClock,
    accounts: Mutex<HashMap<[u8; digest::SHA256_OUTPUT_LEN], Arc<tokio::sync::Mutex<Known>>>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// What is known of an account's token.
#[derive(Default)]
struct Known {
    token: Option<(SecretString, Instant)>,
    /// How the last try failed, and when, for those who waited for it.
    failed: Option<(SendError, Instant)>,
}

impl Access {
    pub(in crate::providers) fn new(http: Client, url: Url, clock: SharedClock) -> Self {
        Self { http, url, clock, accounts: Mutex::default() }
    }

    /// A token of `account`, before `end`; another one than `stale`, which was refused.
    pub(super) async fn token(
        &self,
        account: &ServiceAccount,
        end: Instant,
        stale: Option<&SecretString>,
    ) -> Result<SecretString, SendError> {
        let asked = Instant::now();
        let known = self.known(account);
        let late = |_| SendError::not_taken("token timeout");
        let mut known = timeout_at(end, known.lock()).await.map_err(late)?;
        if let Some((token, until)) = &known.token {
            let is_stale = stale.is_some_and(|stale| stale.expose_secret() == token.expose_secret());
            if Instant::now() < *until && !is_stale {
                return Ok(token.clone());
            }
        }
        // Whoever had the turn before asked while this one waited: the answer would be the same.
        if let Some((error, at)) = &known.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let fetched = timeout_at(end, self.fetch(account, end)).await.map_err(late).flatten();
        match fetched {
            Ok((token, life)) => {
                known.token = Some((token.clone(), Instant::now() + life.saturating_sub(MARGIN)));
                known.failed = None;
                Ok(token)
            }
            Err(error) => {
                known.token = None;
                known.failed = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    fn known(&self, account: &ServiceAccount) -> Arc<tokio::sync::Mutex<Known>> {
        // With its key: whoever enters the name of somebody else's account has not its token.
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(account.client_email.as_bytes());
        context.update(&[0]);
        context.update(account.private_key.expose_secret().as_bytes());
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        key.copy_from_slice(context.finish().as_ref());
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if !accounts.contains_key(&key) {
            // Settings have changed, or the server is young. What is kept are the accounts of the last hour.
            accounts.retain(|_, known| is_of_use(known));
        }
        Arc::clone(accounts.entry(key).or_default())
    }

    /// A new token, and how long it holds.
    async fn fetch(&self, account: &ServiceAccount, end: Instant) -> Result<(SecretString, Duration), SendError> {
        let now = self.clock.now().timestamp();
        let claims = json!({
            "iss": account.client_email,
            "scope": SCOPE,
            "aud": self.url.as_str(),
            "iat": now,
            "exp": now + LIFE_SECONDS,
        });
        let assertion = assertion(&claims, &account.private_key).ok_or(SendError::misconfigured("private key"))?;
        let request = self
            .http
            .post(self.url.clone())
            .timeout(end.saturating_duration_since(Instant::now()))
            .header(header::ACCEPT, "application/json")
            .form(&[("grant_type", GRANT), ("assertion", &assertion)]);
        let response = request.send().await.map_err(|error| net::http_failure(&error).without_token())?;
        let status = response.status();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait = wait.and_then(|value| net::wait(value, self.clock.now()));
        let body = net::body(response).await.unwrap_or_default();
        let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
        // What is no word of printable ASCII could not be sent back.
        let usable = |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        match answer.access_token.filter(usable) {
            Some(token) if status == StatusCode::OK => {
                let life = life(answer.expires_in).ok_or(SendError::not_taken("token expires_in"))?;
                Ok((token.into(), life))
            }
            _ => Err(SendError::from_google(status.as_u16(), answer.error.as_deref(), wait)),
        }
    }
}

/// Whether somebody waits for an account's token, or has one that is good.
fn is_of_use(known: &Arc<tokio::sync::Mutex<Known>>) -> bool {
    let is_good = |known: &Known| known.token.as_ref().is_some_and(|(_, until)| Instant::now() < *until);
    Arc::strong_count(known) > 1 || known.try_lock().is_ok_and(|known| is_good(&known))
}

/// For how long a token counts that is said to last so many seconds; nothing where it cannot be so. What is not said (RFC 6749,
/// section 5.1, only recommends it) is the least.
fn life(seconds: Option<i64>) -> Option<Duration> {
    let Some(seconds) = seconds else { return Some(SHORTEST_LIFE) };
    let seconds = u64::try_from(seconds.min(LIFE_SECONDS)).ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds).max(SHORTEST_LIFE))
}

/// The claims, signed with RS256 (RFC 7515, RFC 7518 section 3.3); unset when the key cannot sign.
fn assertion(claims: &serde_json::Value, private_key: &SecretString) -> Option<String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(private_key.expose_secret().as_bytes()).ok()?;
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()?;
    let head = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
    let signed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
    Some(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// RFC 6749, sections 5.1 and 5.2.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<i64>,
    error: Option<String>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test(start_paused = true)]
    async fn accounts_that_are_of_no_use_any_more_are_not_kept() {
        let clock = ManualClock::new("2026-11-25T12:00:00Z".parse().unwrap());
        // Nobody is called.
        let url = "https://oauth2.googleapis.com/token".parse().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let access = Access::new(Client::new(), url, Arc::new(clock));
        let known = |name: &str| {
            access.known(&ServiceAccount {
                project_id: "acme".into(),
                client_email: name.into(),
                private_key: "key".to_owned().into(),
            })
        };
        let count = || access.accounts.lock().unwrap().len();
        let good_for = async |name: &str, seconds| {
            let until = Instant::now() + Duration::from_secs(seconds);
            known(name).lock().await.token = Some(("token".to_owned().into(), until));
        };
        good_for("short", 600).await;
        good_for("long", 3_000).await;
        known("failed").lock().await.failed = Some((SendError::misconfigured("token invalid_grant"), Instant::now()));
        let awaited = known("awaited");
        assert_eq!(count(), 3, "the one that failed has gone");
        tokio::time::advance(Duration::from_secs(600)).await;
        for name in ["long", "awaited"] {
            known(name);
        }
        assert_eq!(count(), 3, "whoever comes back disturbs nobody");
        known("new");
        assert_eq!(count(), 3, "the one whose token has ended made room");
        drop(awaited);
        for round in 0..100 {
            known(&format!("new-{round}"));
        }
        assert_eq!(count(), 2);
        assert!(known("long").lock().await.token.is_some());
    }
}
