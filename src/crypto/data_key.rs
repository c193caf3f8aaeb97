//! Data keys: what columns are sealed with. They lie in the database, wrapped by a master of the key file; without its
//! row a data key is gone, and everything it sealed with it.

use super::{
    keys::KeyFile,
    seal::{Place, SealError, open, seal},
    secret::{Secret, framed, random},
};

const VERSION: u8 = 1;

/// How often a data key seals before another takes its place: half of 2^28, beyond which two of its random nonces might meet (NIST SP
/// 800-38D sets the limit at 2^32), so that there is time for what was not counted yet.
pub const DATA_KEY_USES: i64 = 1 << 27;

/// A key that seals columns, at most [`DATA_KEY_USES`] times and some.
#[derive(Clone, Debug)]
pub struct DataKey {
    id: [u8; 16],
    key: Secret,
}

/// Why a wrapped key does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// It was wrapped by a master that the key file does not have: the operator must bring that line back.
    #[error("the key file lacks master.{0}, which wrapped a data key")]
    UnknownMaster(u32),
    /// It is not what was wrapped here, for this id and under this name.
    #[error("a wrapped data key does not open")]
    Broken,
}

impl DataKey {
    /// A new key with a new id, both random.
    #[must_use]
    pub fn generate() -> Self {
        Self { id: random(), key: Secret::generate() }
    }

    /// The id, which every value sealed with this key carries.
    #[must_use]
    pub const fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Wraps the key for the database, by AES-256-GCM under the newest master. `name` says whose key it is, such as the
    /// practice and the patient, and must be given again to unwrap.
    #[must_use]
    pub fn wrap(&self, keys: &KeyFile, name: &[u8]) -> Vec<u8> {
        let (master, wrapping) = keys.wrapping();
        let sealed = wrapping.encrypt(&binding(master, &self.id, name), self.key.bytes());
        [&[VERSION][..], &master.to_be_bytes(), &sealed].concat()
    }

    /// The key with that id out of what [`Self::wrap`] gave.
    ///
    /// # Errors
    /// [`UnwrapError::UnknownMaster`] if the key file lacks the master, [`UnwrapError::Broken`] if the bytes, the id or
    /// the name are others.
    pub fn unwrap(id: [u8; 16], wrapped: &[u8], keys: &KeyFile, name: &[u8]) -> Result<Self, UnwrapError> {
        let (master, sealed) = split(wrapped).ok_or(UnwrapError::Broken)?;
        let wrapping = keys.unwrapping(master).ok_or(UnwrapError::UnknownMaster(master))?;
        let key = wrapping
            .decrypt(&binding(master, &id, name), sealed)
            .and_then(|bytes| Secret::from_bytes(&bytes))
            .ok_or(UnwrapError::Broken)?;
        Ok(Self { id, key })
    }

    /// Seals the key under another one, for the column that keeps it.
    #[must_use]
    pub fn seal_under(&self, outer: &Self, place: &Place<'_>) -> Vec<u8> {
        seal(outer, place, self.key.bytes())
    }

    /// The key with that id out of what [`Self::seal_under`] gave.
    ///
    /// # Errors
    /// [`SealError`] unless the outer key, the place and every bit are the same.
    pub fn open_under(id: [u8; 16], sealed: &[u8], outer: &Self, place: &Place<'_>) -> Result<Self, SealError> {
        let key = Secret::from_bytes(&open(outer, place, sealed)?).ok_or(SealError)?;
        Ok(Self { id, key })
    }

    pub(super) const fn secret(&self) -> &Secret {
        &self.key
    }
}

/// The master that wrapped this key, to find those that a rotation has yet to wrap anew.
#[must_use]
pub fn wrapped_by(wrapped: &[u8]) -> Option<u32> {
    split(wrapped).map(|(master, _)| master)
}

fn split(wrapped: &[u8]) -> Option<(u32, &[u8])> {
    let (&[VERSION], rest) = wrapped.split_first_chunk()? else { return None };
    let (master, sealed) = rest.split_first_chunk()?;
    Some((u32::from_be_bytes(*master), sealed))
}

fn binding(master: u32, id: &[u8; 16], name: &[u8]) -> Vec<u8> {
    framed(&[b"data key", &[VERSION], &master.to_be_bytes(), id, name])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn keys(folder: &tempfile::TempDir) -> KeyFile {
        KeyFile::create(&folder.path().join("keys")).unwrap()
    }

    /// The same file after an operator has added a master.
    fn rotated(folder: &tempfile::TempDir) -> KeyFile {
        use std::io::Write;
        let path = folder.path().join("keys");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        writeln!(file, "master.2 AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=").unwrap();
        KeyFile::load(&path).unwrap()
    }

    #[test]
    fn a_key_survives_wrapping_and_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let old = keys(&folder);
        let key = DataKey::generate();
        let wrapped = key.wrap(&old, b"p/1");
        let new = rotated(&folder);
        let read = DataKey::unwrap(key.id(), &wrapped, &new, b"p/1").unwrap();
        assert_eq!(read.secret().bytes(), key.secret().bytes());

        let anew = read.wrap(&new, b"p/1");
        assert_eq!((wrapped_by(&wrapped), wrapped_by(&anew)), (Some(1), Some(2)));
        assert!(DataKey::unwrap(key.id(), &anew, &new, b"p/1").is_ok());
        assert_eq!(DataKey::unwrap(key.id(), &anew, &old, b"p/1").unwrap_err(), UnwrapError::UnknownMaster(2));
    }

    #[test]
    fn a_wrapped_key_opens_for_its_own_id_name_and_file_only() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [own, foreign] = [keys(&folders[0]), keys(&folders[1])];
        let key = DataKey::generate();
        let wrapped = key.wrap(&own, b"p/1");
        for refused in [
            DataKey::unwrap(DataKey::generate().id(), &wrapped, &own, b"p/1"),
            DataKey::unwrap(key.id(), &wrapped, &own, b"p/2"),
            DataKey::unwrap(key.id(), &wrapped, &foreign, b"p/1"),
            DataKey::unwrap(key.id(), &[], &own, b"p/1"),
        ] {
            assert_eq!(refused.unwrap_err(), UnwrapError::Broken);
        }
    }

    #[test]
    fn no_bit_of_a_wrapped_key_may_change_and_none_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(&folder);
        let key = DataKey::generate();
        let wrapped = key.wrap(&keys, b"");
        for bit in 0..wrapped.len() * 8 {
            let mut changed = wrapped.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(DataKey::unwrap(key.id(), &changed, &keys, b"").is_err(), "bit {bit}");
        }
        for len in 0..wrapped.len() {
            assert!(DataKey::unwrap(key.id(), &wrapped[..len], &keys, b"").is_err(), "length {len}");
        }
    }
}
