//! What is in use of practices' own wording, at hand: it is read again only when a practice says that it changed, which whoever
//! decides on a message reads anyway. It is compiled where it lies.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{to_template, with_active};
use crate::{
    domain::{Practice, PracticeSettings, Scope, template::OwnWording},
    store::{Store, StoreError, entity::template, preferences, vault::PracticeKeys},
};

/// Most practices whose wording is kept at hand.
const MOST_PRACTICES: usize = 256;

/// The wording of some practices, each with the revision that it had or an older one.
#[derive(Debug, Default)]
pub(in crate::store) struct Shelf(RwLock<HashMap<String, (i64, Arc<OwnWording>)>>);

/// What a message of a practice is made from, whoever it goes to.
#[derive(Clone, Debug)]
pub struct WordingHome {
    /// The practice.
    pub practice: Practice,
    /// Its settings.
    pub settings: PracticeSettings,
    /// What it says in words of its own.
    pub own_wording: Arc<OwnWording>,
}

impl Shelf {
    fn get(&self, practice: &str, revision: i64) -> Option<Arc<OwnWording>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(practice).filter(|(known, _)| *known == revision).map(|(_, wording)| Arc::clone(wording))
    }

    fn put(&self, practice: &str, revision: i64, wording: &Arc<OwnWording>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_PRACTICES && !known.contains_key(practice) {
            // Whichever is at hand: the next message of that practice brings it back.
            let any = known.keys().next().cloned();
            any.and_then(|any| known.remove(&any));
        }
        known.insert(practice.to_owned(), (revision, Arc::clone(wording)));
    }
}

impl Store {
    /// What the practice says in words of its own, as of `revision` or later.
    pub(in crate::store) async fn own_wording(
        &self,
        keys: &PracticeKeys,
        revision: i64,
    ) -> Result<Arc<OwnWording>, StoreError> {
        if revision == 0 {
            return Ok(Arc::new(OwnWording::NONE));
        }
        if let Some(wording) = self.inner.wording.get(keys.practice(), revision) {
            return Ok(wording);
        }
        // Read after the revision was, so that it is never older than that.
        let used = template::Entity::find()
            .filter(template::Column::PracticeId.eq(keys.practice()))
            .filter(template::Column::Active.gt(0));
        let mut active = Vec::new();
        for (row, version) in with_active(used).all(&self.within(keys)).await? {
            let template = to_template(keys, &row, version)?;
            active.extend(template.active.map(|active| (template.at, active)));
        }
        let wording = Arc::new(OwnWording::new(active));
        self.inner.wording.put(keys.practice(), revision, &wording);
        Ok(wording)
    }

    /// What a message of the practice is made from.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn wording_home(&self, scope: &Scope) -> Result<WordingHome, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (practice, settings, revision) = preferences::home_and_wording_on(&self.within(scope), &keys).await?;
        let own_wording = self.own_wording(&keys, revision).await?;
        Ok(WordingHome { practice, settings, own_wording })
    }
}
