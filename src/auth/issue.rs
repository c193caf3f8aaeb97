//! Development tokens: signed by a local Ed25519 key, so that no identity provider is needed to begin. Whoever has the
//! key file can be anyone, so it is made and accepted for its owner's eyes only.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Thumbprint, claims::EVERY_PRACTICE, jwks::Key};
use crate::domain::{PatientId, Phi, Practices, Role};

/// Far above the 83 bytes of a key as we write it.
const MAX_FILE_LEN: u64 = 4096;

/// Why there is no local key. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// The operating system refused.
    #[error("the token key {} cannot be read or written", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// Others than its owner may read or change it.
    #[error("the token key is open to others than its owner; run: chmod 600 {}", .0.display())]
    TooOpen(PathBuf),
    /// The file is something else.
    #[error("{} holds no Ed25519 key in PKCS#8, DER", .0.display())]
    Malformed(PathBuf),
}

/// What a new token says.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Who bears it: 1 to 128 printable characters.
    pub subject: String,
    /// A name to show to staff; may be empty.
    pub name: String,
    /// The practices covered.
    pub practices: Practices,
    /// The roles held.
    pub roles: BTreeSet<Role>,
    /// The patient that role `patient` is bound to.
    pub patient: Option<PatientId>,
    /// How long it holds; whole seconds count.
    pub ttl: Duration,
}

/// What narrows a new token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bond<'a> {
    /// It is good only over a connection with that certificate (RFC 8705).
    pub certificate: Option<&'a Thumbprint>,
    /// It is for an emergency, for this reason. Then it may hold for [`EMERGENCY_LIFE`](super::EMERGENCY_LIFE) at most.
    pub emergency: Option<&'a Phi<String>>,
}

/// An Ed25519 key of this deployment.
pub struct LocalKey {
    pair: Ed25519KeyPair,
    kid: String,
}

impl LocalKey {
    /// Reads the key at `path` (PKCS#8, DER); makes one if nothing is there. Also says whether it was made.
    ///
    /// # Errors
    /// Says what is wrong with the file. An existing one is never overwritten.
    pub fn load_or_create(path: &Path) -> Result<(Self, bool), LocalKeyError> {
        let failed = |error| LocalKeyError::Io(path.to_owned(), error);
        if let Some(key) = Self::load_if_there(path)? {
            return Ok((key, false));
        }
        create(path).map_err(failed)?;
        Self::load(path, File::open(path).map_err(failed)?).map(|key| (key, true))
    }

    /// Reads the key at `path`; unset: nothing is there.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn load_if_there(path: &Path) -> Result<Option<Self>, LocalKeyError> {
        match File::open(path) {
            Ok(file) => Self::load(path, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LocalKeyError::Io(path.to_owned(), error)),
        }
    }

    fn load(path: &Path, file: File) -> Result<Self, LocalKeyError> {
        let failed = |error| LocalKeyError::Io(path.to_owned(), error);
        if open_to_others(&file.metadata().map_err(failed)?) {
            return Err(LocalKeyError::TooOpen(path.to_owned()));
        }
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(MAX_FILE_LEN as usize));
        file.take(MAX_FILE_LEN).read_to_end(&mut pkcs8).map_err(failed)?;
        // `openssl genpkey` leaves out the public half, which the stricter reading demands.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
            .map_err(|_| LocalKeyError::Malformed(path.to_owned()))?;
        let digest = digest::digest(&digest::SHA256, pair.public_key().as_ref());
        let kid = BASE64_URL_SAFE_NO_PAD.encode(digest.as_ref());
        Ok(Self { pair, kid })
    }

    /// The name of the key in tokens: a digest of its public half.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half as a key set (RFC 7517, RFC 8037), for verifiers elsewhere.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "alg": "EdDSA", "use": "sig" }] })
    }

    /// A token that holds from `now` on.
    #[must_use]
    pub fn issue(&self, token: &NewToken, issuer: &str, audience: &str, now: DateTime<Utc>) -> String {
        self.issue_bound(token, (issuer, audience), now, Bond::default())
    }

    /// The same, for that issuer and audience, and narrowed.
    #[must_use]
    pub fn issue_bound(
        &self,
        token: &NewToken,
        (issuer, audience): (&str, &str),
        now: DateTime<Utc>,
        bond: Bond<'_>,
    ) -> String {
        let practices = match &token.practices {
            Practices::All => vec![EVERY_PRACTICE],
            Practices::Named(ids) => ids.iter().map(|id| id.as_str()).collect(),
        };
        let ttl = i64::try_from(token.ttl.as_secs()).unwrap_or(i64::MAX);
        let mut claims = json!({
            "iss": issuer,
            "aud": audience,
            "iat": now.timestamp(),
            "exp": now.timestamp().saturating_add(ttl),
            "sub": token.subject,
            "name": token.name,
            "practices": practices,
            "roles": token.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
            "patient_id": token.patient.as_ref().map(PatientId::as_str),
        });
        if let Some(reason) = bond.emergency {
            claims["emergency"] = json!(reason.expose());
        }
        if let Some(certificate) = bond.certificate {
            claims["cnf"] = json!({ "x5t#S256": BASE64_URL_SAFE_NO_PAD.encode(certificate) });
        }
        let header = json!({ "typ": "JWT", "alg": "EdDSA", "kid": self.kid });
        let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    pub(super) fn verification_key(&self) -> Key {
        Key {
            emergencies_only: false,
            kid: Some(self.kid.clone()),
            algorithm: Algorithm::EdDSA,
            // The crate hands these bytes to our verifier, which wants the key itself, as a JWK has it.
            decoding: DecodingKey::from_ed_der(self.pair.public_key().as_ref()),
        }
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Writes a new key beside `path` and links it there once it is whole: of two processes that start together, both end
/// up with the key of the first, and neither reads half of one.
fn create(path: &Path) -> io::Result<()> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
        .map_err(|_| io::Error::other("no randomness to make a key from"))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", rand::random::<u64>()));
    let draft = PathBuf::from(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    let linked = file.write_all(pkcs8.as_ref()).and_then(|()| file.sync_all()).and_then(|()| {
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    });
    fs::remove_file(&draft)?;
    linked
}

#[cfg(unix)]
fn open_to_others(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o077 != 0
}

#[cfg(not(unix))]
fn open_to_others(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests;
