//! Keyed digests: equal values can be found and compared without being kept. Without the key nobody can try all phone
//! numbers against them, and equal values of two practices do not look alike.

use super::secret::Secret;

/// Makes the blind indexes of one practice; see [`super::KeyFile::blind_index`].
#[derive(Clone, Debug)]
pub struct BlindIndexKey(pub(super) Secret);

impl BlindIndexKey {
    /// HMAC-SHA256, cut to 16 bytes, of an address in its canonical spelling; `kind` is `phone` or `email`.
    #[must_use]
    pub fn index(&self, kind: &str, canonical: &str) -> [u8; 16] {
        let mut index = [0; 16];
        index.copy_from_slice(&self.0.mac(&[kind.as_bytes(), canonical.as_bytes()])[..16]);
        index
    }
}

/// Makes fingerprints; see [`super::KeyFile::fingerprints`].
#[derive(Clone, Debug)]
pub struct FingerprintKey(pub(super) Secret);

impl FingerprintKey {
    /// HMAC-SHA256: two requests under one `request_id` are the same if these are.
    #[must_use]
    pub fn fingerprint(&self, bytes: &[u8]) -> [u8; 32] {
        self.0.mac(&[bytes])
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use crate::crypto::KeyFile;

    #[test]
    fn an_index_depends_on_key_file_practice_kind_and_address() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFile::create(&folder.path().join("one")).unwrap();
        let foreign = KeyFile::create(&folder.path().join("two")).unwrap();
        let index = keys.blind_index("p").index("phone", "+12025550142");
        assert_eq!(keys.blind_index("p").index("phone", "+12025550142"), index);
        for other in [
            keys.blind_index("p").index("phone", "+12025550143"),
            keys.blind_index("p").index("email", "+12025550142"),
            keys.blind_index("p").index("phone+", "12025550142"),
            keys.blind_index("q").index("phone", "+12025550142"),
            foreign.blind_index("p").index("phone", "+12025550142"),
        ] {
            assert_ne!(other, index);
        }
    }

    #[test]
    fn fingerprints_tell_requests_apart() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFile::create(&folder.path().join("keys")).unwrap().fingerprints();
        assert_eq!(key.fingerprint(b"a"), key.fingerprint(b"a"));
        assert_ne!(key.fingerprint(b"a"), key.fingerprint(b"b"));
    }
}
