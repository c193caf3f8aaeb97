//! Sealed columns: AES-256-GCM, each value bound to the place it belongs to. Moved to another row, column, table or
//! practice, or sealed by another key, it does not open.

use zeroize::Zeroizing;

use super::{data_key::DataKey, secret::framed};

const VERSION: u8 = 1;

/// Where a sealed value belongs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table.
    pub table: &'a str,
    /// The column.
    pub column: &'a str,
    /// The practice whose row it is.
    pub practice: &'a str,
    /// What identifies the row in its table and practice.
    pub row: &'a [u8],
}

/// The value was not sealed by this key for this place, or has been changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sealed value does not open")]
pub struct SealError;

/// Seals `plain` for its place. The result is version (1), key id (16), nonce (12), ciphertext and tag: 45 bytes more
/// than `plain`.
///
/// The nonce is random, so that replicas need not agree on it. Of the 2^27 that a key seals before another takes its place
/// ([`DATA_KEY_USES`](super::DATA_KEY_USES)) any two are the same with a probability of n²/2^97, which is 2^-43; NIST SP 800-38D
/// (section 8.3) allows 2^-32. With a million such keys it is 2^-23 that it happens to any.
#[must_use]
pub fn seal(key: &DataKey, place: &Place<'_>, plain: &[u8]) -> Vec<u8> {
    let id = key.id();
    let sealed = key.secret().encrypt(&binding(place, &id), plain);
    [&[VERSION][..], &id, &sealed].concat()
}

/// Opens what [`seal`] gave.
///
/// # Errors
/// [`SealError`] unless key, place and every bit are the same; it does not say which.
pub fn open(key: &DataKey, place: &Place<'_>, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (id, sealed) = split(blob).ok_or(SealError)?;
    if *id != key.id() {
        return Err(SealError);
    }
    key.secret().decrypt(&binding(place, id), sealed).ok_or(SealError)
}

/// The id of the key that opens this value; `None` if it is no sealed value.
#[must_use]
pub fn key_id(blob: &[u8]) -> Option<[u8; 16]> {
    split(blob).map(|(id, _)| *id)
}

fn split(blob: &[u8]) -> Option<(&[u8; 16], &[u8])> {
    let (&[VERSION], rest) = blob.split_first_chunk()? else { return None };
    rest.split_first_chunk()
}

fn binding(place: &Place<'_>, id: &[u8; 16]) -> Vec<u8> {
    let Place { table, column, practice, row } = *place;
    framed(&[b"column", &[VERSION], table.as_bytes(), column.as_bytes(), practice.as_bytes(), row, id])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::{collections::HashSet, thread};

    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'_> = Place { table: "message", column: "body", practice: "p", row: b"1" };

    #[test]
    fn what_is_sealed_opens_in_its_place() {
        let key = DataKey::generate();
        for plain in [&b""[..], b"x", "Grüße".as_bytes(), &[0; 5000]] {
            let blob = seal(&key, &PLACE, plain);
            assert_eq!(blob.len(), plain.len() + 45);
            assert_eq!(open(&key, &PLACE, &blob).unwrap().as_slice(), plain);
            assert_eq!(key_id(&blob), Some(key.id()));
        }
    }

    #[test]
    fn no_nonce_comes_twice_and_all_of_it_is_random() {
        const THREADS: usize = 4;
        let each = if cfg!(debug_assertions) { 25_000 } else { 250_000 };
        let key = DataKey::generate();
        let nonce = || <[u8; 12]>::try_from(&seal(&key, &PLACE, b"x")[17..29]).unwrap();
        let nonces: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..THREADS).map(|_| scope.spawn(|| (0..each).map(|_| nonce()).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let distinct: HashSet<_> = nonces.iter().collect();
        assert_eq!((nonces.len(), distinct.len()), (THREADS * each, THREADS * each));
        // A part of it that never changes would be a shorter nonce, which meets itself sooner than is reckoned with.
        for bit in 0..96 {
            let set = nonces.iter().filter(|nonce| (nonce[bit / 8] >> (bit % 8)) & 1 == 1).count();
            assert!((45..=55).contains(&(set * 100 / nonces.len())), "bit {bit} is set in {set}");
        }
    }

    #[test]
    fn a_value_moved_elsewhere_does_not_open() {
        let key = DataKey::generate();
        let blob = seal(&key, &PLACE, b"text");
        for place in [
            Place { table: "inbox", ..PLACE },
            Place { column: "subject", ..PLACE },
            Place { practice: "q", ..PLACE },
            Place { row: b"2", ..PLACE },
            Place { row: b"", ..PLACE },
            // The same letters, cut at other places.
            Place { table: "messageb", column: "ody", ..PLACE },
            Place { practice: "p1", row: b"", ..PLACE },
            Place { table: "body", column: "message", ..PLACE },
        ] {
            assert_eq!(open(&key, &place, &blob), Err(SealError), "{place:?}");
        }
    }

    #[test]
    fn another_key_does_not_open_it_even_under_the_same_id() {
        let [one, two] = [DataKey::generate(), DataKey::generate()];
        let blob = seal(&one, &PLACE, b"text");
        assert_eq!(open(&two, &PLACE, &blob), Err(SealError));
        let mut relabelled = blob;
        relabelled[1..17].copy_from_slice(&two.id());
        assert_eq!(open(&two, &PLACE, &relabelled), Err(SealError));
        assert_eq!(open(&one, &PLACE, &relabelled), Err(SealError));
    }

    #[test]
    fn no_bit_may_change_and_none_be_missing() {
        let key = DataKey::generate();
        let blob = seal(&key, &PLACE, b"a text of some length");
        for bit in 0..blob.len() * 8 {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, &PLACE, &changed), Err(SealError), "bit {bit}");
        }
        for len in 0..blob.len() {
            assert_eq!(open(&key, &PLACE, &blob[..len]), Err(SealError), "length {len}");
        }
        assert_eq!(open(&key, &PLACE, &[&blob[..], &[0]].concat()), Err(SealError));
    }

    #[test]
    fn what_is_no_sealed_value_has_no_key() {
        assert_eq!(key_id(&[]), None);
        assert_eq!(key_id(&[VERSION; 16]), None);
        assert_eq!(key_id(&[2; 60]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(blob in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(open(&DataKey::generate(), &PLACE, &blob), Err(SealError));
        }
    }
}
