//! The signature of a mail (DKIM, RFC 6376), in the name of the practice's domain: relaxed in what may change on the way, and
//! strict in what may not. lettre has one as well, on other crates, and it names each header once.
//!
//! Guarantee: a header that is signed cannot be put in a second time, in front or behind, without breaking the signature.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use ring::digest;
use secrecy::ExposeSecret;

use crate::{crypto::SigningKey, domain::Dkim, providers::SendError};

/// What is signed, where it is there. Each is named once more than it is there (RFC 6376, section 8.15).
const HEADERS: [&str; 14] = [
    "from",
    "to",
    "reply-to",
    "subject",
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "list-unsubscribe",
    "list-unsubscribe-post",
    "list-id",
    "auto-submitted",
    "feedback-id",
    "x-auto-response-suppress",
];
/// A line of base64 within a header.
const LINE: usize = 72;

/// Keys that are kept ready in all: some kilobytes each. A practice has one.
const KEYS: usize = 4_096;

/// Signs, with keys that are read once.
#[derive(Default)]
pub(in crate::providers) struct Signer(Mutex<HashMap<[u8; digest::SHA256_OUTPUT_LEN], Arc<SigningKey>>>);

impl Signer {
    /// The mail with its signature before it, made at `now`. Nothing in it may change after this. A signature with RSA takes
    /// 0.7 ms for 2048 bits and 5.5 ms for 4096, so that none is made where connections are served.
    pub(in crate::providers) async fn sign(
        self: &Arc<Self>,
        dkim: &Dkim,
        mail: Vec<u8>,
        now: DateTime<Utc>,
    ) -> Result<Vec<u8>, SendError> {
        let (signer, dkim) = (Arc::clone(self), dkim.clone());
        let signed = tokio::task::spawn_blocking(move || {
            let key = signer.key(&dkim)?;
            sign(&dkim, &key, &mail, now)
        });
        signed.await.map_err(|_| SendError::internal("dkim"))?
    }

    /// The practice's key, found by its text: when another one is entered, it is another one here.
    fn key(&self, dkim: &Dkim) -> Result<Arc<SigningKey>, SendError> {
        let pem = dkim.pem.expose_secret();
        let mut name = [0; digest::SHA256_OUTPUT_LEN];
        name.copy_from_slice(digest::digest(&digest::SHA256, pem.as_bytes()).as_ref());
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(key) = known {
            return Ok(key);
        }
        // Read without the lock: others sign meanwhile.
        let key = Arc::new(SigningKey::from_pem(pem).map_err(|_| SendError::misconfigured("dkim key"))?);
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS {
            // Those that are given up would otherwise stay for ever.
            keys.clear();
        }
        keys.insert(name, Arc::clone(&key));
        Ok(key)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

fn sign(dkim: &Dkim, key: &SigningKey, mail: &[u8], now: DateTime<Utc>) -> Result<Vec<u8>, SendError> {
    let mail = std::str::from_utf8(mail).map_err(|_| SendError::internal("dkim"))?;
    let (head, body) = mail.split_once("\r\n\r\n").ok_or_else(|| SendError::internal("dkim"))?;
    let fields = fields(head);

    let mut named = Vec::new();
    let mut signed = String::new();
    for name in HEADERS {
        named.push(name);
        // The lowest is taken first (section 5.4.2).
        for value in fields.iter().rev().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value) {
            named.push(name);
            signed.push_str(&relaxed_field(name, value));
            signed.push_str("\r\n");
        }
    }
    let digest = digest::digest(&digest::SHA256, relaxed_body(body).as_bytes());
    let unsigned = format!(
        "v=1; a={algorithm}-sha256; c=relaxed/relaxed; d={domain}; s={selector};\r\n t={time};\r\n h={names};\r\n bh={digest};\r\n b=",
        algorithm = key.algorithm(),
        domain = dkim.domain,
        selector = dkim.selector,
        time = now.timestamp(),
        names = folded(&named),
        digest = BASE64_STANDARD.encode(digest),
    );
    signed.push_str(&relaxed_field("dkim-signature", &unsigned));
    let signature = key.sign(signed.as_bytes()).map_err(|_| SendError::misconfigured("dkim key"))?;
    let signature = BASE64_STANDARD.encode(signature);
    let (mut folded, mut rest) = (String::new(), signature.as_str());
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        folded.push_str("\r\n  ");
        folded.push_str(line);
        rest = more;
    }
    Ok(format!("DKIM-Signature: {unsigned}{folded}\r\n{mail}").into_bytes())
}

/// The names with colons between them, in lines of about [`LINE`] characters.
fn folded(names: &[&str]) -> String {
    let (mut folded, mut width) = (String::new(), 0);
    for name in names {
        if !folded.is_empty() {
            folded.push(':');
        }
        if width + name.len() > LINE {
            folded.push_str("\r\n  ");
            width = 0;
        }
        folded.push_str(name);
        width += name.len() + 1;
    }
    folded
}

/// The headers in their order, each with its folded value.
fn fields(head: &str) -> Vec<(&str, String)> {
    let mut fields: Vec<(&str, String)> = Vec::new();
    for line in head.split("\r\n") {
        match fields.last_mut() {
            Some((_, value)) if line.starts_with([' ', '\t']) => {
                value.push_str("\r\n");
                value.push_str(line);
            }
            _ => {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                fields.push((name.trim_end(), value.to_owned()));
            }
        }
    }
    fields
}

/// A header as it is signed (section 3.4.2): its name in lower case, unfolded, each run of white space one space.
fn relaxed_field(name: &str, value: &str) -> String {
    format!(
        "{name}:{}",
        value.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    )
}

/// The body as it is signed (section 3.4.4): each run of white space one space, none at the end of a line, no empty lines at
/// the end.
fn relaxed_body(body: &str) -> String {
    let mut relaxed = String::with_capacity(body.len());
    for line in body.split("\r\n") {
        let line = line.trim_end_matches([' ', '\t']);
        let mut space = false;
        for character in line.chars() {
            let blank = matches!(character, ' ' | '\t');
            if !blank {
                relaxed.push(character);
            } else if !space {
                relaxed.push(' ');
            }
            space = blank;
        }
        relaxed.push_str("\r\n");
    }
    let end = relaxed.trim_end_matches("\r\n").len();
    relaxed.truncate(end);
    if !relaxed.is_empty() {
        relaxed.push_str("\r\n");
    }
    relaxed
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use super::*;

    const RSA: &str = include_str!("../../../tests/vectors/keys/rsa-2048.pem");
    const ED25519: &str = include_str!("../../../tests/vectors/keys/ed25519.pem");

    /// The example of RFC 6376, section 3.4.5.
    #[test]
    fn canonical_forms_are_those_of_the_rfc() {
        assert_eq!(relaxed_field("a", " X"), "a:X");
        assert_eq!(relaxed_field("b", " Y\t\r\n\tZ  "), "b:Y Z");
        assert_eq!(relaxed_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
        assert_eq!(relaxed_body(""), "");
        assert_eq!(relaxed_body("\r\n\r\n"), "");
        assert_eq!(relaxed_body("no end"), "no end\r\n");
    }

    fn dkim(pem: &str) -> Dkim {
        Dkim { domain: "acme.test".into(), selector: "s1".into(), pem: pem.to_owned().into() }
    }

    /// What stands in the signature, without its white space.
    fn tags(signed: &str) -> BTreeMap<String, String> {
        let (head, _) = signed.split_once("\r\n\r\n").unwrap();
        let (name, value) = fields(head).into_iter().next().unwrap();
        assert_eq!(name, "DKIM-Signature");
        let value: String = value.split_whitespace().collect();
        value.split(';').filter_map(|tag| tag.split_once('=')).map(|(tag, value)| (tag.into(), value.into())).collect()
    }

    #[test]
    fn each_header_is_named_once_more_than_it_is_there() {
        let mail = "From: a@acme.test\r\nSubject: Hello\r\n there\r\nX-Other: 1\r\nSubject: again\r\n\r\nBody\r\n";
        let now = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        for (pem, algorithm) in [(RSA, "rsa-sha256"), (ED25519, "ed25519-sha256")] {
            let key = Signer::default().key(&dkim(pem)).unwrap();
            let signed = String::from_utf8(sign(&dkim(pem), &key, mail.as_bytes(), now).unwrap()).unwrap();
            assert!(signed.ends_with(mail), "nothing of it is changed");
            let tags = tags(&signed);
            let named: Vec<_> = tags["h"].split(':').collect();
            for name in HEADERS {
                let there = fields(mail.split_once("\r\n\r\n").unwrap().0);
                let there = there.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count();
                assert_eq!(named.iter().filter(|known| **known == name).count(), there + 1, "{name}");
            }
            let expected = [
                ("v", "1"),
                ("a", algorithm),
                ("c", "relaxed/relaxed"),
                ("d", "acme.test"),
                ("s", "s1"),
                ("t", "1795000000"),
            ];
            for (tag, value) in expected {
                assert_eq!(tags[tag], value, "{tag}");
            }
            assert!(!tags["b"].is_empty() && tags.len() == 9, "{tags:?}");
            assert!(signed.lines().all(|line| line.len() <= 100), "{signed}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_is_for_an_administrator_to_mend() {
        let refused = Signer::default().key(&dkim("PEM")).err();
        assert_eq!(refused, Some(SendError::misconfigured("dkim key")));
    }

    #[test]
    fn a_key_is_read_once_and_another_one_is_another_one() {
        let signer = Signer::default();
        let [first, again, other] = [RSA, RSA, ED25519].map(|pem| signer.key(&dkim(pem)).unwrap());
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        assert_eq!(signer.0.lock().unwrap().len(), 2);
        assert_eq!(format!("{signer:?}"), "Signer { .. }");
    }

    /// SHA-256 of an empty body in this form (RFC 6376, section 3.4.4).
    #[test]
    fn an_empty_body_has_the_digest_of_the_rfc() {
        let digest = digest::digest(&digest::SHA256, relaxed_body("").as_bytes());
        assert_eq!(BASE64_STANDARD.encode(digest), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
