//! The transit engine of HashiCorp Vault (developer.hashicorp.com/vault/api-docs/secret/transit): two calls, over https, to the
//! address that the operator named. That address is not filtered: it is usually a private one, and no practice chooses it.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::body::Bytes;
use reqwest::{
    Certificate, Client, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
    redirect,
};
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::KmsError;
use crate::crypto::{KeyText, MAX_FILE_LEN};

/// From the name to a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// More than any answer: base64 twice over what a key file may have, and what goes with it.
const ANSWER: usize = 4 * MAX_FILE_LEN as usize;

/// How Vault is reached, and which of its keys seals.
#[derive(Clone, Debug)]
pub struct VaultSettings {
    /// Where it is (`HEEDWELL_VAULT_URL`), without a slash at the end.
    pub url: String,
    /// Where its transit engine is, namespaces included, such as `transit`.
    pub mount: String,
    /// The name of the key there.
    pub key: String,
    /// Where the token is (`HEEDWELL_VAULT_TOKEN_FILE`); it is read for each call, since an agent may renew it.
    pub token_file: PathBuf,
    /// Whose certificates alone are trusted (`HEEDWELL_VAULT_CA_FILE`); unset: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// How long a call may take.
    pub patience: Duration,
}

impl VaultSettings {
    /// Whether `url` may be called: over http the token, and the master keys, would be anybody's on the way.
    #[must_use]
    pub fn is_callable(url: &Url) -> bool {
        let loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let safe = (url.scheme() == "https" && url.has_host()) || (url.scheme() == "http" && loopback);
        safe && bare && url.fragment().is_none()
    }
}

/// Vault, ready to be called.
pub(super) struct Vault {
    client: Client,
    settings: VaultSettings,
}

/// An answer that went well: `{"data": {…}}`. What it lacks is empty.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Data {
    ciphertext: String,
    plaintext: String,
}

/// Whether Vault has sealed the text, as it seems: `vault:v<version of the key>:<base64>`.
pub(super) fn has_sealed(text: &str) -> bool {
    text.trim_start().starts_with("vault:v")
}

impl Vault {
    pub(super) fn new(settings: &VaultSettings) -> Result<Self, KmsError> {
        // Without a process-wide provider reqwest panics. A second installation is refused, and means nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .connect_timeout(CONNECT)
            .timeout(settings.patience);
        let Some(path) = &settings.ca_file else {
            return Ok(Self { client: client.build().map_err(KmsError::Client)?, settings: settings.clone() });
        };
        let pem = fs::read(path).map_err(KmsError::Authority)?;
        let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
        let certificates = certificates.ok_or_else(|| KmsError::Authority(io::ErrorKind::InvalidData.into()))?;
        let client = client.tls_certs_only(certificates).build();
        // What else there is to build was the same without them.
        let client = client.map_err(|_| KmsError::Authority(io::ErrorKind::InvalidData.into()))?;
        Ok(Self { client, settings: settings.clone() })
    }

    /// Seals by the newest version of the key.
    pub(super) async fn seal(&self, text: &KeyText) -> Result<KeyText, KmsError> {
        let plain = Zeroizing::new(BASE64_STANDARD.encode(text.as_str()));
        let sealed = self.call("encrypt", "plaintext", &plain).await?.ciphertext;
        if !has_sealed(&sealed) {
            return Err(KmsError::Other);
        }
        Ok(KeyText::new(Zeroizing::new(sealed + "\n")))
    }

    /// Opens what any version of the key has sealed that may still open.
    pub(super) async fn open(&self, sealed: &str) -> Result<KeyText, KmsError> {
        let plain = Zeroizing::new(self.call("decrypt", "ciphertext", sealed.trim()).await?.plaintext);
        let plain = Zeroizing::new(BASE64_STANDARD.decode(&*plain).map_err(|_| KmsError::Other)?);
        let text = std::str::from_utf8(&plain).map_err(|_| KmsError::Other)?;
        Ok(KeyText::new(Zeroizing::new(text.to_owned())))
    }

    async fn call(&self, verb: &str, name: &str, value: &str) -> Result<Data, KmsError> {
        let path = format!("{}/{verb}/{}", self.settings.mount, self.settings.key);
        // Text that JSON would have to escape is none of either form; what is wiped is wiped where it was sent from, too.
        if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=:_-".contains(&byte)) {
            return Err(KmsError::Refused(path));
        }
        let body = Zeroizing::new(format!("{{\"{name}\":\"{value}\"}}"));
        let response = self
            .client
            .post(format!("{}/v1/{path}", self.settings.url))
            .header(CONTENT_TYPE, "application/json")
            .header("x-vault-token", token(&self.settings.token_file)?)
            // A Vault Agent may demand it, so that no browser is made to call it.
            .header("x-vault-request", "true")
            .body(Bytes::from_owner(body))
            .send()
            .await
            .map_err(|error| KmsError::Unreachable(error.without_url()))?;
        match response.status() {
            StatusCode::OK => answer(response).await,
            StatusCode::BAD_REQUEST => Err(KmsError::Refused(path)),
            StatusCode::FORBIDDEN => Err(KmsError::Forbidden(path)),
            StatusCode::NOT_FOUND => Err(KmsError::Absent(path)),
            StatusCode::SERVICE_UNAVAILABLE => Err(KmsError::ServiceSealed),
            status if status.is_redirection() => Err(KmsError::Elsewhere(status.as_u16())),
            status => Err(KmsError::Status(status.as_u16())),
        }
    }
}

async fn answer(mut response: Response) -> Result<Data, KmsError> {
    // Room for all of it from the start: growing would leave copies behind that nobody wipes.
    let mut body = Zeroizing::new(Vec::with_capacity(ANSWER));
    while let Some(chunk) = response.chunk().await.map_err(|error| KmsError::Unreachable(error.without_url()))? {
        if body.len() + chunk.len() > ANSWER {
            return Err(KmsError::Other);
        }
        body.extend_from_slice(&chunk);
    }
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| KmsError::Other)?;
    Ok(answer.data)
}

fn token(path: &Path) -> Result<HeaderValue, KmsError> {
    let read = || {
        let mode = fs::metadata(path)?.mode();
        Ok((mode, Zeroizing::new(fs::read_to_string(path)?)))
    };
    let (mode, text) = read().map_err(KmsError::TokenFile)?;
    // A group may read it: an agent that renews it is another user.
    if mode & 0o007 != 0 {
        return Err(KmsError::TokenTooOpen(path.to_owned()));
    }
    let token = text.trim();
    let value = HeaderValue::from_str(token).ok().filter(|_| !token.is_empty());
    let mut value = value.ok_or_else(|| KmsError::TokenFile(io::ErrorKind::InvalidData.into()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("settings", &self.settings).finish_non_exhaustive()
    }
}
