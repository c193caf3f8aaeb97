//! Anchors: what is signed so that it can be verified without any key of ours. Each is a JWS in its compact form (RFC 7515) with
//! EdDSA (RFC 8037), which there are libraries for in every language.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};

use super::secret::Secret;

/// Signs anchors; see [`super::KeyFile::anchor`].
pub struct AnchorKey {
    pair: Ed25519KeyPair,
    /// What stands before each payload.
    header: String,
}

impl AnchorKey {
    #[expect(clippy::expect_used, reason = "an Ed25519 key is any 32 bytes (RFC 8032, section 5.1.5)")]
    pub(super) fn of(seed: &Secret) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.bytes()).expect("32 bytes");
        let header = format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"heedwell-anchor"}}"#, kid(&pair));
        Self { pair, header: BASE64_URL_SAFE_NO_PAD.encode(header) }
    }

    /// The anchor of `payload`, in one line.
    #[must_use]
    pub fn sign(&self, payload: &[u8]) -> String {
        let signed = format!("{}.{}", self.header, BASE64_URL_SAFE_NO_PAD.encode(payload));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// What [`Self::sign`] was given; unset when this key did not sign it.
    #[must_use]
    pub fn open(&self, anchor: &str) -> Option<Vec<u8>> {
        let (signed, signature) = anchor.rsplit_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let public = UnparsedPublicKey::new(&ED25519, self.pair.public_key());
        public.verify(signed.as_bytes(), &signature).ok()?;
        let (header, payload) = signed.split_once('.')?;
        if header == self.header { BASE64_URL_SAFE_NO_PAD.decode(payload).ok() } else { None }
    }

    /// The public half as a JWK (RFC 8037, section 2), for those who verify.
    #[must_use]
    pub fn public_key(&self) -> String {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let kid = kid(&self.pair);
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","kid":"{kid}","alg":"EdDSA","use":"sig"}}"#)
    }
}

/// The name of a key: a digest of its public half.
fn kid(pair: &Ed25519KeyPair) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, pair.public_key().as_ref()))
}

impl fmt::Debug for AnchorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnchorKey")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::crypto::KeyFile;

    #[test]
    fn what_is_signed_opens_under_the_same_key_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFile::create(&folder.path().join("keys")).unwrap();
        let anchor = keys.anchor().sign(b"heads");
        assert_eq!(keys.anchor().open(&anchor).as_deref(), Some(&b"heads"[..]));
        let other = KeyFile::create(&folder.path().join("others")).unwrap();
        assert_eq!(other.anchor().open(&anchor), None);
        let parts: Vec<&str> = anchor.split('.').collect();
        let other = BASE64_URL_SAFE_NO_PAD.encode("tails");
        for forged in [
            String::new(),
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            format!("{anchor}A"),
            anchor.replace('.', ""),
        ] {
            assert_eq!(keys.anchor().open(&forged), None, "{forged}");
        }
    }

    #[test]
    fn the_public_half_and_the_anchor_are_of_the_forms_that_others_read() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFile::create(&folder.path().join("keys")).unwrap().anchor();
        let jwk: serde_json::Value = serde_json::from_str(&key.public_key()).unwrap();
        let anchor = key.sign(b"heads");
        let parts: Vec<&str> = anchor.split('.').collect();
        let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&decoded(parts[0])).unwrap();
        assert_eq!((&header["alg"], &header["kid"]), (&"EdDSA".into(), &jwk["kid"]));
        let public = UnparsedPublicKey::new(&ED25519, decoded(jwk["x"].as_str().unwrap()));
        assert!(public.verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &decoded(parts[2])).is_ok());
        assert_eq!(format!("{key:?}"), "AnchorKey");
    }
}
