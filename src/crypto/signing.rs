//! A private key that others enter, to sign in their name: RSA, or Ed25519.

use std::fmt;

use ring::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

/// An RSA key of 4096 bits has some 3,300 letters.
const LONGEST: usize = 16 * 1024;

/// A private key.
pub struct SigningKey(Pair);

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a private key in PEM, as PKCS #8 (BEGIN PRIVATE KEY): RSA of 2048, 3072 or 4096 bits, or Ed25519")]
pub struct UnfitKey;

impl SigningKey {
    /// Reads a key in PEM (RFC 7468): PKCS #8 (RFC 5208), not encrypted.
    ///
    /// # Errors
    /// [`UnfitKey`] for anything else, also for an RSA key of another length than 2048, 3072 or 4096 bits: shorter ones can be
    /// broken, receivers need not verify longer ones (RFC 8301, section 3.2), and those between are refused by what signs.
    pub fn from_pem(pem: &str) -> Result<Self, UnfitKey> {
        if pem.len() > LONGEST {
            return Err(UnfitKey);
        }
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| UnfitKey)?;
        let key = key.secret_pkcs8_der();
        let rsa = RsaKeyPair::from_pkcs8(key).map(|key| Self(Pair::Rsa(Box::new(key))));
        // Most programs write an Ed25519 key without its public half.
        rsa.or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).map(|key| Self(Pair::Ed25519(Box::new(key)))))
            .map_err(|_| UnfitKey)
    }

    /// What it is called: `rsa` or `ed25519`.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self.0 {
            Pair::Rsa(_) => "rsa",
            Pair::Ed25519(_) => "ed25519",
        }
    }

    /// The public half: of RSA as a SubjectPublicKeyInfo (RFC 5280), of Ed25519 as its 32 bytes (RFC 8463, section 4).
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        match &self.0 {
            Pair::Rsa(key) => subject_public_key_info(key.public_key().as_ref()),
            Pair::Ed25519(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// Signs a text as those who verify mail expect it: RSA with PKCS #1 v1.5 over SHA-256 (RFC 6376, section 3.3.1), or
    /// Ed25519 over the SHA-256 of the text (RFC 8463, section 3).
    ///
    /// # Errors
    /// [`UnfitKey`] when the key's parts do not fit each other.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, UnfitKey> {
        match &self.0 {
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).map_err(|_| UnfitKey)?;
                Ok(signature)
            }
            Pair::Ed25519(key) => Ok(key.sign(digest::digest(&digest::SHA256, text).as_ref()).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

/// An RSAPublicKey with the name of its algorithm before it (RFC 3279, section 2.3.1).
fn subject_public_key_info(rsa: &[u8]) -> Vec<u8> {
    /// The object identifier 1.2.840.113549.1.1.1, and no parameters.
    const RSA_ENCRYPTION: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    const BIT_STRING: u8 = 0x03;
    const SEQUENCE: u8 = 0x30;
    let bits = der(BIT_STRING, &[&[0], rsa].concat());
    der(SEQUENCE, &[&RSA_ENCRYPTION, bits.as_slice()].concat())
}

/// A value of DER with its tag and length (X.690, section 8.1).
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag];
    let length = value.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    match (value.len(), length.len()) {
        (0..=0x7f, _) => encoded.push(length.first().copied().unwrap_or_default()),
        (_, bytes) => {
            encoded.push(0x80 | u8::try_from(bytes).unwrap_or_default());
            encoded.extend_from_slice(length);
        }
    }
    encoded.extend_from_slice(value);
    encoded
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    const RSA: &str = include_str!("../../tests/vectors/keys/rsa-2048.pem");
    const RSA_PUBLIC: &str = include_str!("../../tests/vectors/keys/rsa-2048.pub.pem");
    const RSA_3072: &str = include_str!("../../tests/vectors/keys/rsa-3072.pem");
    const RSA_2560: &str = include_str!("../../tests/vectors/keys/rsa-2560.pem");
    const RSA_1024: &str = include_str!("../../tests/vectors/keys/rsa-1024.pem");
    const ED25519_KEY: &str = include_str!("../../tests/vectors/keys/ed25519.pem");
    const EC: &str = include_str!("../../tests/vectors/keys/ec-p256.pem");

    #[test]
    fn the_public_half_is_what_openssl_writes() {
        use rustls::pki_types::SubjectPublicKeyInfoDer;
        let key = SigningKey::from_pem(RSA).unwrap();
        let expected = SubjectPublicKeyInfoDer::from_pem_slice(RSA_PUBLIC.as_bytes()).unwrap();
        assert_eq!((key.algorithm(), key.public_key().as_slice()), ("rsa", expected.as_ref()));
        let key = SigningKey::from_pem(ED25519_KEY).unwrap();
        assert_eq!((key.algorithm(), key.public_key().len()), ("ed25519", 32));
    }

    #[test]
    fn the_public_half_verifies_what_the_private_one_signs() {
        let key = SigningKey::from_pem(RSA).unwrap();
        // The key alone, behind what names its algorithm.
        let public = key.public_key()[24..].to_vec();
        let verifier = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public);
        assert!(verifier.verify(b"text", &key.sign(b"text").unwrap()).is_ok());
        assert!(verifier.verify(b"texts", &key.sign(b"text").unwrap()).is_err());
        let key = SigningKey::from_pem(ED25519_KEY).unwrap();
        let verifier = UnparsedPublicKey::new(&ED25519, key.public_key());
        let digest = digest::digest(&digest::SHA256, b"text");
        assert!(verifier.verify(digest.as_ref(), &key.sign(b"text").unwrap()).is_ok());
    }

    #[test]
    fn other_keys_are_refused_and_none_is_shown() {
        let pkcs1 = RSA.replace("PRIVATE KEY", "RSA PRIVATE KEY");
        let encrypted = RSA.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let cut = RSA.lines().take(5).collect::<Vec<_>>().join("\n");
        for bad in ["", "key", RSA_1024, RSA_2560, RSA_PUBLIC, EC, &pkcs1, &encrypted, &cut] {
            assert_eq!(SigningKey::from_pem(bad).err(), Some(UnfitKey), "{}", bad.lines().next().unwrap_or_default());
        }
        assert!(SigningKey::from_pem(RSA_3072).is_ok_and(|key| key.sign(b"text").is_ok()));
        // What stands around it is no part of it (RFC 7468, section 5.2).
        assert!(SigningKey::from_pem(&format!("A key.\n\n{}\n", RSA.replace('\n', "\r\n"))).is_ok());
        assert_eq!(format!("{:?}", SigningKey::from_pem(RSA).unwrap()), "SigningKey(rsa)");
    }
}
