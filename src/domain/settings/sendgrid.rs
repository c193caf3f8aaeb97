//! A practice's account at SendGrid: the key that sends, and the key that verifies what SendGrid reports.

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::SecretString;

use super::{EmailAddress, Finding, is_set};

/// SendGrid.
#[derive(Clone, Debug, Default)]
pub struct SendGridSettings {
    /// Sends.
    pub api_key: Option<SecretString>,
    /// Verifies the event webhook.
    pub webhook_key: Option<WebhookKey>,
}

/// An account at SendGrid, ready to send.
#[derive(Clone, Debug)]
pub struct SendGridAccount {
    /// The bearer token of every call.
    pub api_key: SecretString,
    /// The sender's mailbox; its domain must be authenticated at SendGrid.
    pub from_address: EmailAddress,
    /// The sender's name.
    pub from_name: String,
    /// Where answers go; unset: to the sender.
    pub reply_to: Option<EmailAddress>,
}

/// The public key of an event webhook, as SendGrid shows it: base64 of a SubjectPublicKeyInfo on the curve P-256
/// (RFC 5480).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookKey {
    text: String,
    point: [u8; POINT],
}

/// An uncompressed point (SEC 1, section 2.3.3): 4, and two coordinates.
const POINT: usize = 65;
/// What stands before the point in every such key: the algorithm and the curve.
const BEFORE_POINT: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl WebhookKey {
    /// Reads a key. That its point lies on the curve shows when it verifies.
    ///
    /// # Errors
    /// Says what it must be.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str =
            "must be the verification key that SendGrid shows for the event webhook: one line of base64";
        let key = STANDARD.decode(text.trim()).map_err(|_| WRONG)?;
        let point = key.strip_prefix(&BEFORE_POINT).and_then(|point| <[u8; POINT]>::try_from(point).ok());
        let point = point.filter(|point| point[0] == 4).ok_or(WRONG)?;
        Ok(Self { text: text.trim().to_owned(), point })
    }

    /// As SendGrid shows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The point alone, which is what verifies.
    #[must_use]
    pub const fn point(&self) -> &[u8] {
        &self.point
    }
}

impl SendGridSettings {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !is_set(self.api_key.as_ref()) {
            findings.push(Finding::missing(
                "email.sendgrid.api_key",
                "Enter an API key that SendGrid lets send mail (permission Mail Send).",
            ));
        }
        if self.webhook_key.is_none() {
            findings.push(Finding::missing(
                "email.sendgrid.webhook_public_key",
                "Enter event_webhook_url at SendGrid, have it sign its events, and enter its verification key here. It is \
                 needed to send, because only those events tell what became of mail, and who does not want it.",
            ));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Of a public test of SendGrid's own library (sendgrid/sendgrid-python, test_eventwebhook.py).
    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";

    #[test]
    fn a_key_is_what_sendgrid_shows_and_nothing_else() {
        let key = WebhookKey::parse(&format!(" {KEY} ")).unwrap();
        assert_eq!((key.as_str(), key.point().len(), key.point()[0]), (KEY, 65, 4));
        let der = STANDARD.decode(KEY).unwrap();
        let with = |at: usize, byte: u8| {
            let mut der = der.clone();
            der[at] = byte;
            STANDARD.encode(der)
        };
        for bad in [
            String::new(),
            "MFkw".into(),
            KEY[..KEY.len() - 2].into(),
            format!("-----BEGIN PUBLIC KEY-----{KEY}"),
            // A byte more, a byte less, another curve, a compressed point.
            STANDARD.encode([&der[..], &[0]].concat()),
            STANDARD.encode(&der[..90]),
            with(22, 0x08),
            with(26, 2),
        ] {
            assert!(WebhookKey::parse(&bad).is_err(), "{bad}");
        }
    }
}
