//! 32 bytes of key material and the four things done with it: derive, MAC, encrypt, decrypt. Everything that goes into
//! a MAC or beside a ciphertext is framed, so that no two different lists of parts give the same bytes.

use std::fmt;

use aes_gcm::{
    Aes256Gcm, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use ring::{
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

/// Length of a key in bytes.
pub(super) const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 12;

/// A key. It is wiped when dropped and hidden in `Debug`.
#[derive(Clone)]
pub(super) struct Secret(Zeroizing<[u8; KEY_LEN]>);

impl Secret {
    pub(super) fn generate() -> Self {
        Self(Zeroizing::new(random()))
    }

    /// The key with these bytes; `None` unless there are exactly 32.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|key| Self(Zeroizing::new(key)))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// A key for one purpose and context, by HKDF-SHA256 (RFC 5869). It tells nothing about this one or its siblings.
    #[expect(clippy::expect_used, reason = "32 bytes are a single block; HKDF-SHA256 yields up to 255")]
    pub(super) fn derive(&self, purpose: &str, context: &[u8]) -> Self {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"heedwell").extract(self.bytes());
        let info = framed(&[purpose.as_bytes(), context]);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        root.expand(&[&info], hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(key.as_mut_slice()))
            .expect("one block of HKDF output");
        Self(key)
    }

    /// HMAC-SHA256 over the framed parts.
    pub(super) fn mac(&self, parts: &[&[u8]]) -> [u8; KEY_LEN] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes());
        let mut mac = [0; KEY_LEN];
        mac.copy_from_slice(hmac::sign(&key, &framed(parts)).as_ref());
        mac
    }

    /// AES-256-GCM under a random nonce, which is put in front.
    #[expect(clippy::expect_used, reason = "AES-GCM refuses only texts of 64 GiB and more, which memory does not hold")]
    pub(super) fn encrypt(&self, aad: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random();
        let sealed =
            self.cipher().encrypt(&Nonce::from(nonce), Payload { msg: plain, aad }).expect("text below 64 GiB");
        [&nonce[..], &sealed].concat()
    }

    /// What [`Self::encrypt`] was given; `None` unless key, `aad` and every bit are the same.
    pub(super) fn decrypt(&self, aad: &[u8], blob: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = blob.split_first_chunk::<NONCE_LEN>()?;
        let plain = self.cipher().decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad });
        plain.ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(<&Key<Aes256Gcm>>::from(&*self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// The parts one after the other, each behind its length in 8 bytes, so that nothing can move from one to the next.
pub(super) fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Whether both are the same, found in a time that tells nothing of where they differ: their MACs are compared, under a key
/// that nobody knows.
#[must_use]
pub fn is_same(known: &str, shown: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<KEY_LEN>());
    hmac::verify(&key, shown.as_bytes(), hmac::sign(&key, known.as_bytes()).as_ref()).is_ok()
}

/// Bytes from the operating system.
#[expect(clippy::expect_used, reason = "an operating system without randomness can do nothing here safely")]
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("randomness of the operating system");
    bytes
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn derived_keys_differ_by_purpose_and_context_and_are_stable() {
        let root = Secret::from_bytes(&[7; 32]).unwrap();
        let keys = [
            root.derive("blind", b"a"),
            root.derive("blind", b"b"),
            root.derive("blind", b""),
            root.derive("blinda", b""),
            root.derive("token", b"a"),
            Secret::from_bytes(&[8; 32]).unwrap().derive("blind", b"a"),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| other.bytes() != key.bytes()), "{at}");
        }
        assert_eq!(root.derive("blind", b"a").bytes(), keys[0].bytes());
    }

    proptest! {
        #[test]
        fn only_the_same_is_the_same(known in ".{0,40}", shown in ".{0,40}") {
            prop_assert!(is_same(&known, &known));
            prop_assert_eq!(is_same(&known, &shown), known == shown);
            let longer = format!("{known}x");
            prop_assert!(!is_same(&known, &longer) && !is_same(&longer, &known));
        }
    }

    #[test]
    fn a_key_never_shows_in_debug() {
        assert_eq!(format!("{:?}", Secret::from_bytes(&[65; 32]).unwrap()), "[hidden]");
    }

    #[test]
    fn two_encryptions_of_one_text_share_nothing() {
        let key = Secret::generate();
        let (one, two) = (key.encrypt(b"", b"text"), key.encrypt(b"", b"text"));
        assert_ne!(one[..12], two[..12]);
        assert_ne!(one[12..], two[12..]);
    }

    proptest! {
        #[test]
        fn different_lists_of_parts_frame_differently(
            one in prop::collection::vec(prop::collection::vec(0u8..2, 0..4), 0..4),
            two in prop::collection::vec(prop::collection::vec(0u8..2, 0..4), 0..4),
        ) {
            let frame = |parts: &[Vec<u8>]| framed(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(one == two, frame(&one) == frame(&two));
        }
    }
}
