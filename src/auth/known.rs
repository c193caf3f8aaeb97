//! Tokens whose signature was found good. A caller sends the same one with every call, and to verify it each time costs more
//! than the rest of many a call.
//!
//! Guarantee: what time and keys have a say in is judged anew each time. Of tokens that were refused nothing is kept.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ring::digest::{Digest, SHA256, digest};

use super::{claims::Claims, jwks::Key};

/// Tokens kept. The longest of them make up 8 MiB.
const CAPACITY: usize = 1_024;

/// A token as it was found good.
#[derive(Clone)]
pub(super) struct Proof {
    /// The key that signed it.
    pub(super) key: Arc<Key>,
    /// What the token calls that key.
    pub(super) kid: Option<String>,
    pub(super) claims: Arc<Claims>,
}

/// A token's digest: no token lies about in memory for longer than its call takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name([u8; 32]);

impl Name {
    pub(super) fn of(token: &str) -> Self {
        let digest: Digest = digest(&SHA256, token.as_bytes());
        let mut name = Self([0; 32]);
        name.0.copy_from_slice(digest.as_ref());
        name
    }
}

#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Name, Proof>>);

impl Known {
    pub(super) fn get(&self, name: Name) -> Option<Proof> {
        self.lock().get(&name).cloned()
    }

    pub(super) fn keep(&self, name: Name, proof: Proof) {
        let mut known = self.lock();
        if known.len() >= CAPACITY {
            // It fills again with those that are still in use.
            known.clear();
        }
        known.insert(name, proof);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Proof>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}
