//! How many watches may be open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Settings;
use crate::service::Error;

/// The open watches, by subject.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_subject: HashMap<String, usize>,
}

impl Places {
    /// Takes a place; `exempt` subjects stand for many people.
    pub(super) fn take(&self, subject: &str, exempt: bool, settings: Settings) -> Result<Place, Error> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.in_all >= settings.in_all {
            return Err(Error::TooManyWatches { limit: settings.in_all });
        }
        let own = taken.by_subject.get(subject).copied().unwrap_or_default();
        if !exempt && own >= settings.per_subject {
            return Err(Error::TooManyWatches { limit: settings.per_subject });
        }
        taken.in_all += 1;
        taken.by_subject.insert(subject.to_owned(), own + 1);
        Ok(Place { places: self.clone(), subject: subject.to_owned() })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).in_all
    }
}

/// A place among the open watches, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    subject: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all -= 1;
        if let Some(own) = taken.by_subject.get_mut(&self.subject) {
            *own -= 1;
            if *own == 0 {
                taken.by_subject.remove(&self.subject);
            }
        }
    }
}
