//! The patients of an audience, page by page, with all that is decided on. Every page is one look at the directory as it is by
//! then, in the order of the patients' ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, sea_query::Expr,
};

use crate::{
    domain::{Audience, Channel, PatientId, Scope},
    store::{
        GroundsRow, Store, StoreError,
        entity::{patient, patient_tag},
        grounds,
        rows::padded,
        vault::PracticeKeys,
    },
};

/// So many ids are asked about by one statement.
const ASKED_AT_ONCE: usize = 1_000;

/// An address, told from others of the practice and from nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressKey(pub(super) [u8; 16]);

impl AddressKey {
    /// Half of it. Of a million addresses no two will ever share that, and who keeps all of an audience's needs half the memory.
    #[must_use]
    pub fn half(self) -> [u8; 8] {
        let Self([a, b, c, d, e, f, g, h, ..]) = self;
        [a, b, c, d, e, f, g, h]
    }
}

/// One patient of an audience.
#[derive(Debug)]
pub struct Member {
    /// What a decision rests on.
    pub grounds: GroundsRow,
    /// The addresses of the channels that have such.
    pub addresses: BTreeMap<Channel, AddressKey>,
}

/// How far an audience has been gone through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(pub(super) String);

/// A page of an audience.
#[derive(Debug)]
pub struct AudiencePage {
    /// In their order.
    pub members: Vec<Member>,
    /// Where the next page begins; unset on the last.
    pub next: Option<Position>,
}

impl Store {
    /// How many patients an audience has now.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn audience_count(&self, scope: &Scope, audience: &Audience) -> Result<i64, StoreError> {
        count_on(&self.within(scope), scope.practice().as_str(), audience).await
    }

    /// Up to `limit` patients of an audience after `after`.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn audience_page(
        &self,
        scope: &Scope,
        audience: &Audience,
        after: &Position,
        limit: usize,
    ) -> Result<AudiencePage, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (ids, next) = page_on(&self.within(scope), keys.practice(), audience, after, limit).await?;
        let mut rows = self.readable(&keys, &ids).await?;
        let member = |grounds: GroundsRow| {
            let address = |channel| {
                let index = grounds::address_index(&keys, channel, &grounds.patient)?;
                Some((channel, AddressKey(index.try_into().ok()?)))
            };
            let addresses = Channel::ALL.into_iter().filter_map(address).collect();
            Member { grounds, addresses }
        };
        let members = ids.iter().filter_map(|id| rows.remove(id)).map(member).collect();
        Ok(AudiencePage { members, next })
    }

    /// The grounds of these patients. One who cannot be read is no reason to leave out the others.
    async fn readable(&self, keys: &PracticeKeys, ids: &[String]) -> Result<BTreeMap<String, GroundsRow>, StoreError> {
        match self.grounds_of(&self.within(keys), keys, ids.iter().cloned()).await {
            Err(StoreError::Corrupt(_)) => {}
            done => return done,
        }
        let mut rows = BTreeMap::new();
        for id in ids {
            match self.grounds_of(&self.within(keys), keys, [id.clone()]).await {
                Ok(one) => rows.extend(one),
                Err(StoreError::Corrupt(what)) => {
                    tracing::error!(patient.id = id, what, "a patient cannot be read and is left out of a broadcast");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(rows)
    }
}

pub(super) async fn count_on(
    db: &impl ConnectionTrait,
    practice: &str,
    audience: &Audience,
) -> Result<i64, StoreError> {
    // Of their ids alone, which an index has.
    let ids = |query: Select<patient::Entity>| query.select_only().column(patient::Column::PatientId);
    let count = match audience {
        Audience::All => ids(active(practice)).count(db).await?,
        Audience::Tags(tags) => ids(tagged(practice, tags)).count(db).await?,
        Audience::Patients(patients) => {
            let (patients, mut count) = (patients.iter().collect::<Vec<_>>(), 0);
            for part in patients.chunks(ASKED_AT_ONCE) {
                count += ids(among(practice, part)).count(db).await?;
            }
            count
        }
    };
    Ok(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The ids of a page, in its order, and where the next one begins.
async fn page_on(
    db: &impl ConnectionTrait,
    practice: &str,
    audience: &Audience,
    Position(after): &Position,
    limit: usize,
) -> Result<(Vec<String>, Option<Position>), StoreError> {
    let query = match audience {
        Audience::All => active(practice),
        Audience::Tags(tags) => tagged(practice, tags),
        Audience::Patients(patients) => return page_of_these_on(db, practice, patients, after, limit).await,
    };
    let ids: Vec<String> = query
        .select_only()
        .column(patient::Column::PatientId)
        .filter(patient::Column::PatientId.gt(after.as_str()))
        .order_by_asc(patient::Column::PatientId)
        .limit(limit as u64)
        .into_tuple()
        .all(db)
        .await?;
    let next = ids.last().filter(|_| ids.len() == limit).cloned().map(Position);
    Ok((ids, next))
}

async fn page_of_these_on(
    db: &impl ConnectionTrait,
    practice: &str,
    patients: &BTreeSet<PatientId>,
    after: &str,
    limit: usize,
) -> Result<(Vec<String>, Option<Position>), StoreError> {
    let start = after.parse::<PatientId>().map_or(Bound::Unbounded, Bound::Excluded);
    let asked: Vec<&PatientId> = patients.range((start, Bound::Unbounded)).take(limit).collect();
    let next = asked.last().filter(|_| asked.len() == limit).map(|id| Position(id.as_str().to_owned()));
    let ids = among(practice, &asked).select_only().column(patient::Column::PatientId).into_tuple::<String>();
    let active: BTreeSet<String> = ids.all(db).await?.into_iter().collect();
    let ids = asked.into_iter().map(|id| id.as_str().to_owned()).filter(|id| active.contains(id));
    Ok((ids.collect(), next))
}

/// The active patients of a practice.
fn active(practice: &str) -> Select<patient::Entity> {
    patient::Entity::find().filter(patient::Column::PracticeId.eq(practice)).filter(patient::Column::Inactive.eq(false))
}

/// Those of them who are named.
fn among(practice: &str, ids: &[&PatientId]) -> Select<patient::Entity> {
    let ids = padded(ids.iter().map(|id| id.as_str()));
    active(practice).filter(patient::Column::PatientId.is_in(ids))
}

/// Those of them who have any of the tags. Asked of each patient in turn, so that a page ends where it is full.
fn tagged(practice: &str, tags: &BTreeSet<String>) -> Select<patient::Entity> {
    let has = patient_tag::Entity::find()
        .select_only()
        .expr(Expr::val(1))
        .filter(patient_tag::Column::PracticeId.eq(practice))
        .filter(
            Expr::col((patient_tag::Entity, patient_tag::Column::PatientId))
                .eq(Expr::col((patient::Entity, patient::Column::PatientId))),
        )
        .filter(patient_tag::Column::Tag.is_in(padded(tags.iter().map(String::as_str))));
    active(practice).filter(Expr::exists(has.into_query()))
}
