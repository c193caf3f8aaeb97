//! A look at a database that changes nothing in it, for an operator who wants to know what is wrong: no schema is brought up to date,
//! no lock taken, and no key tied to it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{DatabaseConnection, EntityTrait, QueryOrder, QuerySelect};

use super::{
    KeyRecord, OpenError, Settings, StoreError,
    dialect::{self, Binding, Look, Time},
    disk::Room,
    entity::{installation, practice},
    instance::{self, Standing},
    keys, preferences, schema,
    vault::Vault,
};
use crate::{
    crypto::{DATA_KEY_USES, KeyFile},
    domain::{Engine, PracticeId, PracticeSettings},
};

/// What a database is like.
#[derive(Debug)]
pub enum Examined {
    /// There is none yet: the first start makes it.
    Absent,
    /// There is one.
    There(Box<Examination>),
}

/// What was found in a database.
#[derive(Debug)]
pub struct Examination {
    /// Whether its schema is that of this binary.
    pub schema: SchemaState,
    /// Whether PostgreSQL seals practices from each other; unset: SQLite, which has nothing of the kind.
    pub sealing: Option<Sealing>,
    /// The database's clock minus the local one, and by how much that may be wrong; unset where there is only one.
    pub clock: Option<(TimeDelta, TimeDelta)>,
    /// The disk of a SQLite file.
    pub room: Option<Room>,
    /// Whether it may send; unset: no schema, or no start yet.
    pub standing: Option<Standing>,
    /// Whether the key file belongs to it; unset: no schema, no key file, or no start yet.
    pub key_belongs: Option<bool>,
    /// The data keys.
    pub keys: Vec<KeyRecord>,
    /// How often a data key may seal before another takes its place.
    pub key_uses: i64,
    /// What each practice has set up, where that opens; empty without the right key file.
    pub practices: BTreeMap<PracticeId, Result<PracticeSettings, StoreError>>,
}

/// A schema, beside that of this binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The same.
    Current,
    /// None at all.
    Empty,
    /// So many changes are missing.
    Older(usize),
    /// It has this change, which the binary does not know, and may be worked with all the same.
    Ahead(String),
    /// It has this change, which the binary does not know.
    Newer(String),
}

/// What keeps the rows of practices apart.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// Whom the server works as.
    pub binding: Binding,
    /// Tables whose policy is missing, or does not bind their owner.
    pub open_tables: Vec<String>,
}

/// Looks at the database.
///
/// # Errors
/// [`OpenError`] when it cannot be looked at.
pub async fn examine(
    settings: &Settings,
    keys: Option<KeyFile>,
    time: Time,
    _: &Engine,
) -> Result<Examined, OpenError> {
    let Some(look) = dialect::look(settings, time.clock()).await? else { return Ok(Examined::Absent) };
    let Look { db, clock, room, place } = &look;
    let found = async {
        let state = schema(db).await?;
        let known = state.missing.len();
        let schema = match state.unknown.into_iter().next() {
            Some(name) if state.open_to_us => SchemaState::Ahead(name),
            Some(name) => SchemaState::Newer(name),
            None if known == 0 => SchemaState::Current,
            None if state.applied == 0 => SchemaState::Empty,
            None => SchemaState::Older(known),
        };
        let mut found = Examination {
            sealing: None,
            clock: *clock,
            room: *room,
            standing: None,
            key_belongs: None,
            keys: Vec::new(),
            key_uses: settings.key_uses,
            practices: BTreeMap::new(),
            schema,
        };
        // What an older or newer schema holds, this binary cannot tell.
        if matches!(found.schema, SchemaState::Current | SchemaState::Ahead(_)) {
            if let Some((binding, open_tables)) = dialect::sealing(db).await? {
                found.sealing = Some(Sealing { binding, open_tables });
            }
            let place = place.as_ref();
            let own = dialect::identity(db, place).await.map_err(|error| sea_orm::DbErr::Custom(error.to_string()))?;
            if let Some((row, is_other)) = instance::look(db, place, &own).await? {
                found.standing = Some(instance::standing(&row, is_other, time.clock().now()).map_err(as_db)?);
            }
            found.keys = keys::records(db).await.map_err(as_db)?;
            let stored = installation::Entity::find_by_id(1_i16).one(db).await?;
            found.key_belongs = keys.as_ref().zip(stored).map(|(keys, row)| row.key_check == keys.key_check());
            if let Some(keys) = keys.filter(|_| found.key_belongs != Some(false)) {
                found.practices = practices(db, keys, time.clone()).await?;
            }
        }
        Ok(found)
    };
    let found = found.await.map_err(OpenError::Statement);
    let _ = look.db.close().await;
    found.map(|found| Examined::There(Box::new(found)))
}

async fn practices(
    db: &DatabaseConnection,
    keys: KeyFile,
    time: Time,
) -> Result<BTreeMap<PracticeId, Result<PracticeSettings, StoreError>>, sea_orm::DbErr> {
    // Nothing is sealed with them.
    let vault = Vault::new(keys, time, DATA_KEY_USES);
    let ids: Vec<String> = practice::Entity::find()
        .select_only()
        .column(practice::Column::PracticeId)
        .order_by_asc(practice::Column::PracticeId)
        .into_tuple()
        .all(db)
        .await?;
    let mut found = BTreeMap::new();
    for id in ids.into_iter().filter_map(|id| id.parse::<PracticeId>().ok()) {
        let settings = async { preferences::load(db, &vault.load(db, &id).await?).await.map(|stored| stored.value) };
        let settings = settings.await;
        found.insert(id, settings);
    }
    Ok(found)
}

/// A bad row is told of where it counts: with the practice that it belongs to.
fn as_db(error: StoreError) -> sea_orm::DbErr {
    sea_orm::DbErr::Custom(error.to_string())
}

/// The clock of a database beside the local one, which was read just before and just after.
pub(super) fn skew(before: DateTime<Utc>, theirs: DateTime<Utc>, after: DateTime<Utc>) -> (TimeDelta, TimeDelta) {
    let half = (after - before) / 2;
    (theirs - (before + half), half)
}
