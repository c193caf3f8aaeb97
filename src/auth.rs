//! From a bearer token to an [`Actor`]: JSON Web Tokens signed by EdDSA, ES256 or RS256, with keys from a published set
//! or a local key. No store and no transport here. What was wrong with a token is never told to whoever sent it.

mod claims;
mod issue;
mod jwks;
mod keyring;
mod known;
mod signature;

use std::{path::PathBuf, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header, Validation};

pub use self::{
    claims::is_reason,
    issue::{Bond, LocalKey, LocalKeyError, NewToken},
    jwks::{JwksError, JwksSource},
};
use self::{
    claims::{Claims, Terms},
    jwks::{Key, Source},
    keyring::Keyring,
    known::{Known, Name, Proof},
};
use crate::{clock::SharedClock, domain::Actor};

/// The longest token in bytes: longer ones are refused unread.
pub const MAX_TOKEN_LEN: usize = 8 * 1024;

/// The longest time for which a token for an emergency holds.
pub const EMERGENCY_LIFE: Duration = Duration::from_hours(1);

/// The SHA-256 of a certificate as it travels, in DER (RFC 8705, 3.1).
pub type Thumbprint = [u8; 32];

/// Which tokens are good.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the issuer publishes its keys.
    pub jwks: Option<JwksSource>,
    /// Claim `iss` of every good token.
    pub issuer: String,
    /// Claim `aud` of every good token, or one of several there.
    pub audience: String,
    /// By how much clocks may differ, when `exp` and `nbf` are checked.
    pub leeway: Duration,
    /// A key that is trusted besides: see [`LocalKey`]. It is made if it is not there.
    pub local_key: Option<PathBuf>,
    /// A key that is trusted for tokens of emergencies alone, whoever issues the others. It must be there.
    pub emergency_key: Option<PathBuf>,
}

impl Settings {
    fn emergency_key(&self) -> Result<Option<LocalKey>, SetupError> {
        let Some(path) = &self.emergency_key else { return Ok(None) };
        let missing = || LocalKeyError::Io(path.clone(), std::io::ErrorKind::NotFound.into());
        let key = LocalKey::load_if_there(path).and_then(|key| key.ok_or_else(missing));
        key.map(Some).map_err(SetupError::EmergencyKey)
    }
}

/// Where the keys are that verify, as somebody found them who only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A published set.
    Set,
    /// The local key.
    Local,
    /// No local key yet: the first start makes it.
    NoLocal,
}

/// Loads the keys once, and makes none.
///
/// # Errors
/// As [`Verifier::new`]; that a set behind a URL does not answer is an error here.
pub async fn look(settings: &Settings) -> Result<Found, SetupError> {
    settings.emergency_key()?;
    if let Some(path) = &settings.local_key {
        return Ok(if LocalKey::load_if_there(path)?.is_some() { Found::Local } else { Found::NoLocal });
    }
    let source = settings.jwks.clone().ok_or(SetupError::NoKeys)?;
    Source::new(source)?.load().await?;
    Ok(Found::Set)
}

/// Why no token can be verified at all. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Neither a set nor a local key.
    #[error("neither a key set nor a local key is set up, so that no token could be verified")]
    NoKeys,
    /// The key set's address or file is unusable.
    #[error("the key set cannot be used")]
    Jwks(#[from] JwksError),
    /// The local key is unusable.
    #[error("the local key cannot be used")]
    LocalKey(#[from] LocalKeyError),
    /// The key for emergencies is unusable.
    #[error("the key for emergencies cannot be used")]
    EmergencyKey(#[source] LocalKeyError),
}

impl SetupError {
    /// The variable to mend.
    #[must_use]
    pub const fn variable(&self) -> &'static str {
        match self {
            Self::EmergencyKey(_) => "HEEDWELL_EMERGENCY_KEY_FILE",
            Self::NoKeys | Self::Jwks(_) | Self::LocalKey(_) => "HEEDWELL_JWKS",
        }
    }
}

/// The token does not let anyone in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no good. Deliberately nothing more.
    #[error("the token is not valid")]
    Invalid,
    /// There is no telling: the issuer's keys could not be had since the start. Worth another attempt.
    #[error("tokens cannot be verified at present")]
    Unavailable,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Verifier {
    keyring: Keyring,
    known: Known,
    issuer: String,
    audience: String,
    leeway: Duration,
    clock: SharedClock,
}

/// Why a token was refused: a word for the log.
type Refusal = &'static str;

impl Verifier {
    /// Loads the keys. A set behind a URL that does not answer is no error: it is asked for again when a token comes.
    ///
    /// # Errors
    /// If there is nothing to verify with, or a file is missing or unusable.
    pub async fn new(settings: Settings, clock: SharedClock) -> Result<Self, SetupError> {
        signature::install();
        let local = settings.local_key.as_deref().map(LocalKey::load_or_create).transpose()?;
        if let (Some((key, true)), Some(path)) = (&local, &settings.local_key) {
            tracing::info!(key.id = key.kid(), path = %path.display(), "made a local key for tokens");
        }
        if local.is_none() && settings.jwks.is_none() {
            return Err(SetupError::NoKeys);
        }
        let local = local.map(|(key, _)| key.verification_key());
        let emergency = settings.emergency_key()?.map(|key| key.verification_key());
        // Where the local key is that for emergencies as well, it is trusted for all.
        let emergency = emergency.map(|key| Key { emergencies_only: true, ..key });
        let keyring = Keyring::new(settings.jwks, local.into_iter().chain(emergency)).await?;
        let Settings { issuer, audience, leeway, .. } = settings;
        Ok(Self { keyring, known: Known::default(), issuer, audience, leeway, clock })
    }

    /// The bearer of `token`, which is what follows `Bearer ` in the header, over a connection without a certificate of theirs.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] for every fault of the token, [`TokenError::Unavailable`] if no key set was ever loaded.
    pub async fn verify(&self, token: &str) -> Result<Actor, TokenError> {
        self.verify_over(token, None).await
    }

    /// The same, over a connection that began with that certificate. A token that is bound to one (RFC 8705) is good over
    /// no other connection, so that whoever has stolen it has nothing.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn verify_over(&self, token: &str, certificate: Option<&Thumbprint>) -> Result<Actor, TokenError> {
        let refused = |refusal: Refusal| {
            tracing::debug!(reason = refusal, "token refused");
            TokenError::Invalid
        };
        if token.len() > MAX_TOKEN_LEN {
            return Err(refused("length"));
        }
        let name = Name::of(token);
        if let Some(proof) = self.known.get(name) {
            let key = self.keyring.find(proof.kid.as_deref(), proof.key.algorithm).await?;
            // A set that was loaded meanwhile may have another key of that name, or none.
            if key.is_some_and(|key| Arc::ptr_eq(&key, &proof.key)) {
                return self.bearer(&proof.key, &proof.claims, certificate).map_err(refused);
            }
        }
        let header = header(token).map_err(refused)?;
        let key = self.keyring.find(header.kid.as_deref(), header.alg).await?;
        let key = key.ok_or("unknown key").map_err(refused)?;
        let claims = Arc::new(self.claims(token, &key).map_err(refused)?);
        let bearer = self.bearer(&key, &claims, certificate).map_err(refused);
        self.known.keep(name, Proof { key, kid: header.kid, claims });
        bearer
    }

    /// Whose token it is that this key signed.
    fn bearer(&self, key: &Key, claims: &Claims, certificate: Option<&Thumbprint>) -> Result<Actor, Refusal> {
        let actor = claims.actor(&self.terms(certificate))?;
        if key.emergencies_only && actor.emergency.is_none() { Err("no emergency") } else { Ok(actor) }
    }

    /// What a token says whose signature is good.
    fn claims(&self, token: &str, key: &Key) -> Result<Claims, Refusal> {
        let decoded = jsonwebtoken::decode(token, &key.decoding, &self.validation(key.algorithm));
        Ok(decoded.map_err(|error| word(error.kind()))?.claims)
    }

    fn terms<'a>(&'a self, certificate: Option<&'a Thumbprint>) -> Terms<'a> {
        Terms { issuer: &self.issuer, leeway: self.leeway, now: self.clock.now(), certificate }
    }

    /// One algorithm, that of the key: the crate refuses every token if two families are listed. Time and issuer are left
    /// to `Claims`: the crate would ask the machine's clock, and take a list of issuers of which one is right.
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        validation.set_audience(&[&self.audience]);
        validation.validate_exp = false;
        validation
    }
}

/// The header, once it is sure that the token may be looked into at all.
fn header(token: &str) -> Result<Header, Refusal> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| "header")?;
    // Extensions that must be understood; we know none (RFC 7515, 4.1.11), and the crate does not look.
    if header.crit.is_some() {
        return Err("crit");
    }
    if !signature::known(header.alg) {
        return Err("algorithm");
    }
    Ok(header)
}

fn word(kind: &jsonwebtoken::errors::ErrorKind) -> Refusal {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::InvalidSignature => "signature",
        ErrorKind::InvalidAudience => "audience",
        ErrorKind::MissingRequiredClaim(_) => "missing claim",
        ErrorKind::Json(_) => "claims",
        _ => "shape",
    }
}

#[cfg(test)]
mod tests;
