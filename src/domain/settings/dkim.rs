//! Signing of a practice's own mail (DKIM, RFC 6376): in whose name, and with which key.

use secrecy::SecretString;

use super::{EmailAddress, Finding};

/// DKIM as it was entered.
#[derive(Clone, Debug, Default)]
pub struct DkimSettings {
    /// Whose mail it is (`d=`): the domain of the sender or one above it. Empty: none.
    pub domain: String,
    /// Under which name the domain publishes the key (`s=`). Empty: none.
    pub selector: String,
    /// What signs.
    pub key: Option<DkimKey>,
}

/// A private key, and what the domain has to publish for it.
#[derive(Clone, Debug)]
pub struct DkimKey {
    /// PEM; its form was checked when it was entered.
    pub pem: SecretString,
    /// The TXT record with the public half (RFC 6376, section 3.6.1).
    pub record: String,
}

/// DKIM, complete enough to sign with.
#[derive(Clone, Debug)]
pub struct Dkim {
    /// Whose mail it is.
    pub domain: String,
    /// Under which name the key is published.
    pub selector: String,
    /// The private key.
    pub pem: SecretString,
}

impl DkimSettings {
    /// Where the public key has to be published; unset while that is not known.
    #[must_use]
    pub fn record_name(&self) -> Option<String> {
        let known = !self.domain.is_empty() && !self.selector.is_empty();
        known.then(|| format!("{}._domainkey.{}", self.selector, self.domain))
    }

    /// Whether another key stands where `before` has published its own. Receivers could not tell mail that is under way, or that
    /// they verify late, from forged mail then, so that a new key needs a new selector (RFC 6376, section 3.1).
    #[must_use]
    pub fn reuses_the_name_of(&self, before: &Self) -> bool {
        let published = |dkim: &Self| dkim.record_name().zip(dkim.key.as_ref().map(|key| key.record.clone()));
        let (Some((name, key)), Some((old_name, old_key))) = (published(self), published(before)) else { return false };
        name == old_name && key != old_key
    }

    /// Whether a signature speaks for mail of that sender: receivers want the domain itself or one above it (RFC 7489,
    /// section 3.1.1). While no domain is given, nothing contradicts it.
    #[must_use]
    pub fn speaks_for(&self, from: &EmailAddress) -> bool {
        let below = from.domain().strip_suffix(&self.domain);
        below.is_some_and(|below| below.is_empty() || self.domain.is_empty() || below.ends_with('.'))
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let parts = [
            (!self.domain.is_empty(), "email.dkim_domain", "the domain that signs"),
            (!self.selector.is_empty(), "email.dkim_selector", "the selector"),
            (self.key.is_some(), "email.dkim_private_key", "the private key"),
        ];
        if parts.iter().all(|(given, ..)| !given) {
            return Vec::new();
        }
        let missing = parts.into_iter().filter(|(given, ..)| !given);
        let finding = |(_, field, what)| Finding {
            field,
            message: format!("Mail goes out without a DKIM signature: enter {what}, or clear the rest."),
            blocking: false,
        };
        missing.map(finding).collect()
    }

    pub(super) fn complete(&self) -> Option<Dkim> {
        let (domain, selector) = (self.domain.clone(), self.selector.clone());
        self.record_name()?;
        Some(Dkim { domain, selector, pem: self.key.as_ref()?.pem.clone() })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn dkim(domain: &str, selector: &str, key: bool) -> DkimSettings {
        let key = key.then(|| DkimKey { pem: "PEM".to_owned().into(), record: "v=DKIM1".into() });
        DkimSettings { domain: domain.into(), selector: selector.into(), key }
    }

    #[test]
    fn the_signing_domain_is_that_of_the_sender_or_above_it() {
        for (domain, from, speaks) in [
            ("mail.acme.example", "a@mail.acme.example", true),
            ("acme.example", "a@mail.acme.example", true),
            ("acme.example", "a@acme.example", true),
            ("mail.acme.example", "a@acme.example", false),
            ("me.example", "a@acme.example", false),
            ("acme.example", "a@notacme.example", false),
            ("other.example", "a@acme.example", false),
            ("", "a@acme.example", true),
        ] {
            let from = EmailAddress::parse(from).unwrap();
            assert_eq!(dkim(domain, "s", true).speaks_for(&from), speaks, "{domain}");
        }
    }

    #[test]
    fn another_key_wants_another_name() {
        let other = |settings: DkimSettings| DkimSettings {
            key: Some(DkimKey { pem: "OTHER".to_owned().into(), record: "v=DKIM1; other".into() }),
            ..settings
        };
        let old = dkim("acme.example", "s1", true);
        for (new, reuses) in [
            (other(dkim("acme.example", "s1", true)), true),
            (other(dkim("acme.example", "s2", true)), false),
            (other(dkim("mail.acme.example", "s1", true)), false),
            (dkim("acme.example", "s1", true), false),
            (dkim("acme.example", "s1", false), false),
        ] {
            assert_eq!(new.reuses_the_name_of(&old), reuses, "{new:?}");
        }
        // Nothing was published yet.
        assert!(!other(old.clone()).reuses_the_name_of(&dkim("acme.example", "", true)));
        assert!(!other(old).reuses_the_name_of(&dkim("acme.example", "s1", false)));
    }

    #[test]
    fn it_signs_only_when_complete_and_says_what_is_missing() {
        assert!(DkimSettings::default().findings().is_empty() && DkimSettings::default().complete().is_none());
        let whole = dkim("acme.example", "s1", true);
        assert!(whole.findings().is_empty() && whole.complete().is_some());
        assert_eq!(whole.record_name().as_deref(), Some("s1._domainkey.acme.example"));
        for (partial, field) in [
            (dkim("", "s1", true), "email.dkim_domain"),
            (dkim("acme.example", "", true), "email.dkim_selector"),
            (dkim("acme.example", "s1", false), "email.dkim_private_key"),
        ] {
            let found = partial.findings();
            assert!(partial.complete().is_none() && found.len() == 1 && !found[0].blocking, "{found:?}");
            assert_eq!(found[0].field, field);
        }
    }
}
