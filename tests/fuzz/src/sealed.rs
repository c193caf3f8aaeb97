//! Sealed values, as whoever has the database could change them: they open as they were sealed, where they were sealed, or not at
//! all.

use std::sync::OnceLock;

use heedwell::crypto::{self, DataKey, KeyFile, Place};

use crate::{bytes::Bytes, limits::reached};

/// Version, key id, nonce and tag (crypto/seal.rs).
const AROUND: usize = 1 + 16 + 12 + 16;

fn keys() -> &'static (KeyFile, DataKey) {
    static KEYS: OnceLock<(KeyFile, DataKey)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        (KeyFile::create(&folder.path().join("keys")).unwrap(), DataKey::generate())
    })
}

pub(crate) fn take(input: &[u8]) {
    let (file, key) = keys();
    let place = Place { table: "notification", column: "body", practice: "acme", row: b"row" };
    let mut input = Bytes(input);
    let (choice, at, with) = (input.byte(), usize::from(input.byte()), input.byte());
    match choice % 4 {
        0 => assert!(crypto::open(key, &place, input.0).is_err(), "made up, and it opens"),
        1 => {
            let sealed = crypto::seal(key, &place, input.0);
            assert_eq!(sealed.len(), input.0.len() + AROUND);
            assert_eq!(crypto::open(key, &place, &sealed).unwrap().as_slice(), input.0);
            let mut changed = sealed.clone();
            let at = at % changed.len();
            changed[at] ^= with;
            assert_eq!(crypto::open(key, &place, &changed).is_ok(), with == 0);
            assert!(crypto::open(key, &place, &sealed[..at]).is_err(), "cut, and it opens");
            let row = input.0;
            assert_eq!(crypto::open(key, &Place { row, ..place }, &sealed).is_ok(), row == place.row);
            assert_eq!(crypto::key_id(&sealed), Some(key.id()));
            reached();
        }
        2 => {
            assert!(DataKey::unwrap(key.id(), input.0, file, b"acme").is_err(), "made up, and it unwraps");
            let _ = (crypto::wrapped_by(input.0), crypto::key_id(input.0));
        }
        _ => {
            let mut wrapped = key.wrap(file, input.0);
            let at = at % wrapped.len();
            wrapped[at] ^= with;
            assert_eq!(DataKey::unwrap(key.id(), &wrapped, file, input.0).is_ok(), with == 0);
        }
    }
}
