//! The file of a Firebase service account (cloud.google.com/iam/docs/keys-create-delete), as a practice enters it. It is
//! tried whole before it is kept, the key included, so that a mistake shows at once and not with the first push. What is
//! wrong is said without a word of what was entered.

use ring::signature::RsaKeyPair;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::domain::{EmailAddress, ServiceAccount};

/// Such files have about 2,400 bytes.
const LONGEST: usize = 16 * 1024;

/// What is read of the file; the rest is for people and other libraries.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    r#type: String,
    project_id: String,
    client_email: String,
    #[serde(deserialize_with = "secret")]
    private_key: SecretString,
    token_uri: String,
}

fn secret<'de, D: Deserializer<'de>>(text: D) -> Result<SecretString, D::Error> {
    String::deserialize(text).map(SecretString::from)
}

/// Reads the file.
///
/// # Errors
/// Says what it must be.
pub fn parse(text: &str) -> Result<ServiceAccount, &'static str> {
    if text.len() > LONGEST {
        return Err("must be the file of a service account: it is too long to be one");
    }
    let file: File = serde_json::from_str(text).map_err(|_| "must be the file of a service account, whole, as JSON")?;
    if file.r#type != "service_account" {
        return Err("must be the file of a service account: its type is another");
    }
    if !is_project(&file.project_id) {
        return Err("must be the file of a service account: its project_id is not one of a project");
    }
    let client_email = EmailAddress::parse(&file.client_email)
        .map_err(|_| "must be the file of a service account: its client_email is no address")?;
    // It is not called: where tokens come from is the operator's to say.
    if !Url::parse(&file.token_uri).is_ok_and(|url| url.scheme() == "https" && url.has_host()) {
        return Err("must be the file of a service account: its token_uri is no https address");
    }
    if !is_signing_key(file.private_key.expose_secret()) {
        return Err("must be the file of a service account: its private_key is no RSA key in PKCS#8 and PEM");
    }
    Ok(ServiceAccount {
        project_id: file.project_id,
        client_email: client_email.as_str().to_owned(),
        private_key: file.private_key,
    })
}

/// Ids of projects are of a narrow alphabet; old ones have a domain before them, as in `example.com:project`.
fn is_project(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    (4..=100).contains(&id.len()) && id.bytes().all(allowed) && id.starts_with(|first: char| first.is_ascii_lowercase())
}

/// Whether it can sign as Google demands: RSA of 2048 to 4096 bits.
fn is_signing_key(pem: &str) -> bool {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes());
    der.is_ok_and(|der| RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).is_ok())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::{Value, json};

    use super::*;

    /// The stand-in's, which anybody may read.
    fn good() -> Value {
        serde_json::from_str(crate::sandbox::SERVICE_ACCOUNT).unwrap()
    }

    #[test]
    fn of_a_good_file_what_is_needed_is_kept() {
        let account = parse(&good().to_string()).unwrap();
        let file = good();
        assert_eq!(
            (account.project_id.as_str(), account.client_email.as_str(), account.private_key.expose_secret()),
            (
                file["project_id"].as_str().unwrap(),
                file["client_email"].as_str().unwrap(),
                file["private_key"].as_str().unwrap()
            )
        );
        assert!(!format!("{account:?}").contains("PRIVATE"));
    }

    #[test]
    fn each_fault_is_named_and_nothing_is_repeated() {
        let ec = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgKoRCW51Fc8n5UF13\nTaqMHzKiXjuZhX2EygpbYFt+/EehRANCAAR4bRkgLQdb5ZLLwOEXPPPkXJJ0nVHt\nGQZkUYJTyV4gmHxwPWj9OvGhi0KPSzRwl2qxPKWr0xjgTz6IkY5fXkTa\n-----END PRIVATE KEY-----\n";
        let pkcs1 = good()["private_key"].as_str().unwrap().replace("PRIVATE KEY", "RSA PRIVATE KEY");
        for (field, value, word) in [
            ("type", json!("authorized_user"), "type"),
            ("type", Value::Null, "JSON"),
            ("project_id", json!(""), "project_id"),
            ("project_id", json!("../acme"), "project_id"),
            ("project_id", json!("Canary"), "project_id"),
            ("client_email", json!("canary"), "client_email"),
            ("token_uri", json!("http://canary.example/token"), "token_uri"),
            ("token_uri", json!(""), "token_uri"),
            ("private_key", json!("canary"), "private_key"),
            ("private_key", json!(ec), "private_key"),
            ("private_key", json!(pkcs1), "private_key"),
            ("private_key", json!(7), "JSON"),
        ] {
            let mut file = good();
            file[field] = value;
            let fault = parse(&file.to_string()).unwrap_err();
            assert!(fault.contains(word) && !fault.to_lowercase().contains("canary"), "{field}: {fault}");
        }
        for text in ["", "{}", "[]", "canary", "{\"type\":\"service_account\"", &"x".repeat(LONGEST + 1)] {
            assert!(parse(text).is_err());
        }
        for missing in ["type", "project_id", "client_email", "private_key", "token_uri"] {
            let mut file = good();
            file.as_object_mut().unwrap().remove(missing);
            assert!(parse(&file.to_string()).unwrap_err().contains(missing));
        }
    }
}
