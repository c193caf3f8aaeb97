//! The seam to services that seal and open a text by a key that never leaves them. Another service is one more arm of three enums,
//! and the compiler names every place.

use super::vault::{self, Vault, VaultSettings};
use crate::crypto::KeyText;

/// Which service, and how it is reached.
#[derive(Clone, Debug)]
pub enum KmsSettings {
    /// The transit engine of HashiCorp Vault, or of OpenBao, which has the same API.
    Vault(VaultSettings),
}

/// Why a service did not seal or open a text. The text names what to mend, and nothing of what the service said.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// The service cannot be reached.
    #[error("Vault cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// No client could be made.
    #[error("no HTTP client could be made for Vault: check the certificates")]
    Client(#[source] reqwest::Error),
    /// The file of the authority's certificate.
    #[error("the file cannot be read, or holds no certificates in PEM")]
    Authority(#[source] std::io::Error),
    /// 503.
    #[error("Vault is sealed, or not ready: unseal it (`vault operator unseal`), and start again")]
    ServiceSealed,
    /// Any redirection.
    #[error(
        "Vault answered with a redirection ({0}), which is not followed: name the active node, or a load balancer before it"
    )]
    Elsewhere(u16),
    /// The file of the token.
    #[error("the file cannot be read, or holds no token")]
    TokenFile(#[source] std::io::Error),
    /// Anybody could have the token.
    #[error("the file is open to everybody; run: chmod 640 {}", .0.display())]
    TokenTooOpen(std::path::PathBuf),
    /// 403.
    #[error("Vault refuses the token: it has expired, or no policy allows it to update {0}")]
    Forbidden(String),
    /// 404.
    #[error("Vault has nothing at {0}: check the name, and that the transit engine is enabled there")]
    Absent(String),
    /// 400.
    #[error("Vault has no such key, or the master keys were sealed by another one, or changed since ({0})")]
    Refused(String),
    /// Any other answer.
    #[error("Vault answered {0}")]
    Status(u16),
    /// An answer that is none.
    #[error("what Vault answered is none of its answers: is it Vault that is there?")]
    Other,
}

impl KmsError {
    /// The variable to mend.
    #[must_use]
    pub const fn variable(&self) -> &'static str {
        match self {
            Self::TokenFile(_) | Self::TokenTooOpen(_) | Self::Forbidden(_) => "HEEDWELL_VAULT_TOKEN_FILE",
            Self::Absent(_) | Self::Refused(_) => "HEEDWELL_VAULT_KEY",
            Self::Authority(_) => "HEEDWELL_VAULT_CA_FILE",
            Self::Unreachable(_)
            | Self::Client(_)
            | Self::ServiceSealed
            | Self::Elsewhere(_)
            | Self::Status(_)
            | Self::Other => "HEEDWELL_VAULT_URL",
        }
    }
}

/// A service, ready to be called.
pub(super) enum Kms {
    Vault(Vault),
}

impl Kms {
    pub(super) fn new(settings: &KmsSettings) -> Result<Self, KmsError> {
        match settings {
            KmsSettings::Vault(settings) => Vault::new(settings).map(Self::Vault),
        }
    }

    /// Whether this service has sealed the text, as it seems.
    pub(super) fn has_sealed(&self, text: &str) -> bool {
        match self {
            Self::Vault(_) => vault::has_sealed(text),
        }
    }

    pub(super) async fn seal(&self, text: &KeyText) -> Result<KeyText, KmsError> {
        match self {
            Self::Vault(vault) => vault.seal(text).await,
        }
    }

    pub(super) async fn open(&self, sealed: &str) -> Result<KeyText, KmsError> {
        match self {
            Self::Vault(vault) => vault.open(sealed).await,
        }
    }
}

/// Whether any service has sealed the text, as it seems.
pub(super) fn is_sealed(text: &str) -> bool {
    vault::has_sealed(text)
}
