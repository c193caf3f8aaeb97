//! Published key sets (RFC 7517): where they come from, and which of their keys are for us. A key's algorithm is read
//! off the key, never off a token.

use std::{error::Error, fs::File, io::Read, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse, RSAKeyParameters},
};
use reqwest::{Client, StatusCode};
use url::Url;

/// The largest set in bytes that is read.
const MAX_SET_LEN: usize = 256 * 1024;
/// How long a set may take to arrive.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the issuer's keys are.
#[derive(Clone, Debug)]
pub enum JwksSource {
    /// A file.
    File(PathBuf),
    /// An address, https only.
    Url(Url),
}

/// Why there is no key set. The text is for the operator; it never quotes the set.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct JwksError {
    what: &'static str,
    #[source]
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl JwksError {
    fn new(what: &'static str) -> Self {
        Self { what, cause: None }
    }

    fn because(what: &'static str, cause: impl Error + Send + Sync + 'static) -> Self {
        Self { what, cause: Some(Box::new(cause)) }
    }
}

/// A source that is ready to be asked.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Url(Url, Client),
}

impl Source {
    pub(super) fn new(source: JwksSource) -> Result<Self, JwksError> {
        match source {
            JwksSource::File(path) => Ok(Self::File(path)),
            JwksSource::Url(url) if url.scheme() == "https" => Ok(Self::Url(url, client(true)?)),
            JwksSource::Url(_) => Err(JwksError::new("its address must begin with https://")),
        }
    }

    /// Reads the set anew.
    pub(super) async fn load(&self) -> Result<KeySet, JwksError> {
        match self {
            // A small local file, once a minute at most: not worth a thread of its own.
            Self::File(path) => {
                let mut json = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(MAX_SET_LEN as u64 + 1).read_to_end(&mut json))
                    .map_err(|error| JwksError::because("its file cannot be read", error))?;
                KeySet::parse(&json)
            }
            Self::Url(url, client) => KeySet::parse(&fetch(url, client).await?),
        }
    }
}

pub(super) fn client(https_only: bool) -> Result<Client, JwksError> {
    // Without a provider the builder panics. Installing a second one does nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .timeout(FETCH_TIMEOUT)
        .https_only(https_only)
        .no_proxy()
        .build()
        .map_err(|error| JwksError::because("no client to fetch it with", error))
}

async fn fetch(url: &Url, client: &Client) -> Result<Vec<u8>, JwksError> {
    let failed = |error: reqwest::Error| JwksError::because("it cannot be fetched", error.without_url());
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(JwksError::new("its server answered other than 200"));
    }
    let mut json = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        json.extend_from_slice(&chunk);
        if json.len() > MAX_SET_LEN {
            break;
        }
    }
    Ok(json)
}

/// A key that verifies, with the one algorithm it is for.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
    /// Other tokens that it signed are refused.
    pub(super) emergencies_only: bool,
}

/// The keys of a set that are for us; at least one.
#[derive(Debug)]
pub(super) struct KeySet(Vec<Arc<Key>>);

#[derive(serde::Deserialize)]
struct Published {
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Takes what is usable and passes over the rest, also what is malformed (RFC 7517, 5).
    pub(super) fn parse(json: &[u8]) -> Result<Self, JwksError> {
        if json.len() > MAX_SET_LEN {
            return Err(JwksError::new("it is larger than 256 KiB"));
        }
        // The error would quote the set.
        let published: Published =
            serde_json::from_slice(json).map_err(|_| JwksError::new("it is no JSON object with a list `keys`"))?;
        let keys: Vec<_> = published
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok())
            .filter_map(|jwk| usable(&jwk))
            .map(Arc::new)
            .collect();
        if keys.is_empty() {
            return Err(JwksError::new("it holds no key for EdDSA, ES256 or RS256"));
        }
        Ok(Self(keys))
    }

    /// The key of that name and algorithm. A token that names none means the only key of its algorithm.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Arc<Key>> {
        let mut fitting =
            self.0.iter().filter(|key| key.algorithm == algorithm && (kid.is_none() || key.kid.as_deref() == kid));
        let found = fitting.next()?;
        // Several: there is no telling which, and trying them all would let whoever calls choose our work.
        fitting.next().is_none().then(|| Arc::clone(found))
    }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let (algorithm, decoding) = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, DecodingKey::from_jwk(jwk).ok()?)
        }
        AlgorithmParameters::EllipticCurve(parameters) if parameters.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, DecodingKey::from_jwk(jwk).ok()?)
        }
        AlgorithmParameters::RSA(parameters) => (Algorithm::RS256, rsa(parameters)?),
        _ => return None,
    };
    let named = jwk.common.key_algorithm.is_none_or(|named| named == algorithm.into());
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let verifies = jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let kid = jwk.common.key_id.clone();
    (named && signs && verifies).then(|| Key { kid, algorithm, decoding, emergencies_only: false })
}

/// Some issuers write the modulus with a zero in front, as in DER; `ring` would then refuse every signature.
fn rsa(parameters: &RSAKeyParameters) -> Option<DecodingKey> {
    let decode = |number: &str| BASE64_URL_SAFE_NO_PAD.decode(number).ok();
    let (modulus, exponent) = (decode(&parameters.n)?, decode(&parameters.e)?);
    let first = modulus.iter().position(|byte| *byte != 0)?;
    Some(DecodingKey::from_rsa_raw_components(modulus.get(first..)?, &exponent))
}

#[cfg(test)]
mod tests;
