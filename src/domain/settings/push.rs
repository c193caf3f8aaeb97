//! A practice's account at Firebase Cloud Messaging.

use secrecy::SecretString;

use super::Finding;

/// Push.
#[derive(Clone, Debug, Default)]
pub struct PushSettings {
    /// Sends; unset: push is not set up.
    pub service_account: Option<ServiceAccount>,
}

/// A service account of a Firebase project, of which its file tells more than is needed.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    /// The project, which is part of every call's address.
    pub project_id: String,
    /// Who signs.
    pub client_email: String,
    /// Signs: an RSA key in PKCS#8, as PEM.
    pub private_key: SecretString,
}

impl PushSettings {
    pub(super) fn findings(&self) -> Vec<Finding> {
        match self.service_account {
            Some(_) => Vec::new(),
            None => vec![Finding::missing(
                "push.fcm_service_account_json",
                "Push is not set up: enter the Firebase service account.",
            )],
        }
    }
}
