//! The chain of a ledger: each entry's MAC covers the one before. Without the key no entry can be changed, added, moved
//! or left out in the middle such that the chain still holds.

use super::secret::Secret;

/// What stands before the first entry.
pub const GENESIS: [u8; 32] = [0; 32];

/// Links the entries of one practice's ledger; see [`super::KeyFile::chain`].
#[derive(Clone, Debug)]
pub struct ChainKey(pub(super) Secret);

impl ChainKey {
    /// The MAC of `entry`, which follows the entry with MAC `previous` ([`GENESIS`] if it is the first).
    #[must_use]
    pub fn link(&self, previous: &[u8; 32], entry: &[u8]) -> [u8; 32] {
        self.0.mac(&[previous, entry])
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::crypto::KeyFile;

    fn holds(key: &ChainKey, entries: &[(&[u8], [u8; 32])]) -> bool {
        let mut previous = GENESIS;
        entries.iter().all(|(entry, mac)| {
            let expected = key.link(&previous, entry);
            previous = *mac;
            expected == *mac
        })
    }

    #[test]
    fn edits_inserts_swaps_and_cuts_break_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFile::create(&folder.path().join("keys")).unwrap();
        let key = keys.chain("consent", "p");
        let mut last = GENESIS;
        let chain: Vec<(&[u8], [u8; 32])> = [&b"in"[..], b"out", b"in", b""]
            .into_iter()
            .map(|entry| {
                last = key.link(&last, entry);
                (entry, last)
            })
            .collect();
        assert!(holds(&key, &chain));
        assert!(!holds(&keys.chain("audit", "p"), &chain));
        assert!(!holds(&keys.chain("consent", "q"), &chain));
        for at in 0..chain.len() {
            let mut edited = chain.clone();
            edited[at].0 = b"edited";
            assert!(!holds(&key, &edited), "edit at {at}");
            let mut doubled = chain.clone();
            doubled.insert(at, chain[at]);
            assert!(!holds(&key, &doubled), "insert at {at}");
            if at + 1 < chain.len() {
                let mut cut = chain.clone();
                cut.remove(at);
                assert!(!holds(&key, &cut), "cut at {at}");
                let mut swapped = chain.clone();
                swapped.swap(at, at + 1);
                assert!(!holds(&key, &swapped), "swap at {at}");
            }
        }
    }
}
