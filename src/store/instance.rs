//! Which database this is, and whether it may send. A copy of it says whose copy it is, and finds that it is elsewhere: it stays
//! quiet until somebody who knows what became of the original says so. Whatever calls out or makes something to be sent asks in the
//! statement that takes it, so that all replicas go by the same row, and so that one whose connections lead to another database
//! all of a sudden takes nothing there.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseConnection, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, TryInsertResult,
    sea_query::{Expr, LockType, Query},
};
use uuid::Uuid;

use super::{
    OpenError, Store, StoreError,
    dialect::{self, Connections, Dialect, NO_TOKEN, Place, Time, Tokens},
    draft::save_all_on,
    entity::{broadcast, delivery, instance},
    image::IN_FLIGHT,
    stop,
    tx::Tx,
};
use crate::{
    domain::{BroadcastId, DeliveryId, Engine, PracticeId},
    telemetry::QUIET,
};

/// The row's id.
const ONLY: i16 = 1;
const LIVE: i16 = 0;
const HELD: i16 = 1;
const COPY: i16 = 2;
const MOVED: i16 = 3;

/// Whether a database may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Live,
    /// It may not, until somebody resumes it.
    Quiet(Quiet),
}

/// Why a database is quiet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// What it is.
    pub reason: Reason,
    /// Since when it is known to be. What came to it after that cannot be in the original.
    pub since: DateTime<Utc>,
    /// When the backup was made that it came from, if it came from one.
    pub copy_time: Option<DateTime<Utc>>,
    /// Somebody began to cancel what was due by then, and has not finished.
    pub cut: Option<DateTime<Utc>>,
}

/// What a quiet database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An operator wants it so.
    Held,
    /// A copy: the original may have sent what waits in it.
    Copy,
    /// What was in it is in another database now.
    Moved,
}

/// That this database may send.
pub(super) fn may_send(dialect: Dialect) -> Expr {
    let mut live = Query::select();
    live.expr(Expr::val(1))
        .from(instance::Entity)
        .and_where(instance::Column::Id.eq(ONLY))
        .and_where(instance::Column::State.eq(LIVE))
        .and_where_option(dialect.is_here(Expr::col((instance::Entity, instance::Column::Identity))));
    Expr::exists(live)
}

/// The first start writes down which database this is; a later one finds out whether it still is.
pub(super) async fn recognise(connections: &Connections, time: &Time) -> Result<(), OpenError> {
    let (db, place) = (&connections.write, connections.place.as_ref());
    let own = dialect::identity(db, place).await?;
    let now = connections.dialect.now(db, time).await.map_err(OpenError::Statement)?;
    let row = instance::ActiveModel {
        id: Set(ONLY),
        state: Set(LIVE),
        identity: Set(own.clone()),
        token: Set(NO_TOKEN.to_owned()),
        since: Set(None),
        copy_time: Set(None),
        cut: Set(None),
    };
    let made = instance::Entity::insert(row)
        .on_conflict_do_nothing_on([instance::Column::Id])
        .exec_without_returning(db)
        .await
        .map_err(OpenError::Statement)?;
    if let Some(place) = place
        && matches!(made, TryInsertResult::Inserted(count) if count > 0)
        && place.is_ours()
    {
        // What was beside a file that was there before.
        let none = Tokens([NO_TOKEN.to_owned(), NO_TOKEN.to_owned()]);
        place.put(&none, true).map_err(|source| place.fault(source))?;
    }
    settle(connections, &own, now).await.map_err(OpenError::Statement)?;
    Ok(())
}

/// The row, once a database that is another than the row says has been marked as a copy: as one that is here, so that a copy of the
/// copy is told from it in turn, and what came to this one is not taken for what came to that.
async fn settle(
    connections: &Connections,
    own: &str,
    now: DateTime<Utc>,
) -> Result<Option<instance::Model>, sea_orm::DbErr> {
    let (db, place) = (&connections.write, connections.place.as_ref());
    if let Some(here) = connections.dialect.identity_expr() {
        // In one statement: two could run in two databases, while connections are led from one to the other.
        instance::Entity::update_many()
            .col_expr(instance::Column::State, Expr::value(COPY))
            .col_expr(instance::Column::Since, Expr::value(now))
            .col_expr(instance::Column::Identity, here.clone())
            .col_expr(instance::Column::Cut, Expr::value(None::<DateTime<Utc>>))
            .filter(instance::Column::Id.eq(ONLY))
            .filter(instance::Column::State.ne(MOVED))
            .filter(Expr::col(instance::Column::Identity).ne(here))
            .exec(db)
            .await?;
        return row_on(db).await;
    }
    match look(db, place, own).await? {
        Some((row, true)) if row.state != MOVED => {
            let token = place.and_then(Place::tokens).map_or(row.token, |Tokens([_, newest])| newest);
            instance::Entity::update_many()
                .col_expr(instance::Column::State, Expr::value(COPY))
                .col_expr(instance::Column::Since, Expr::value(now))
                .col_expr(instance::Column::Identity, Expr::value(own))
                .col_expr(instance::Column::Token, Expr::value(token))
                .col_expr(instance::Column::Cut, Expr::value(None::<DateTime<Utc>>))
                .filter(instance::Column::Id.eq(ONLY))
                // Another replica may have been first.
                .filter(instance::Column::Identity.eq(row.identity))
                .exec(db)
                .await?;
            row_on(db).await
        }
        found => Ok(found.map(|(row, _)| row)),
    }
}

/// The row, and whether it is that of another database. Unset: there is none.
pub(super) async fn look(
    db: &DatabaseConnection,
    place: Option<&Place>,
    own: &str,
) -> Result<Option<(instance::Model, bool)>, sea_orm::DbErr> {
    loop {
        let Some(row) = row_on(db).await? else { return Ok(None) };
        let is_other = match place {
            None => row.identity != own,
            Some(place) => {
                !dialect::is_same(&row.identity, own)
                    || place.tokens().is_some_and(|Tokens(known)| !known.contains(&row.token))
            }
        };
        // The token may have changed between both looks.
        if !is_other || row_on(db).await?.is_none_or(|again| again.token == row.token) {
            return Ok(Some((row, is_other)));
        }
    }
}

async fn row_on(db: &impl ConnectionTrait) -> Result<Option<instance::Model>, sea_orm::DbErr> {
    instance::Entity::find_by_id(ONLY).one(db).await
}

/// What the row says; `is_other`: it was written elsewhere.
pub(super) fn standing(row: &instance::Model, is_other: bool, now: DateTime<Utc>) -> Result<Standing, StoreError> {
    let reason = match row.state {
        MOVED => Reason::Moved,
        LIVE | HELD | COPY if is_other => Reason::Copy,
        LIVE => return Ok(Standing::Live),
        HELD => Reason::Held,
        COPY => Reason::Copy,
        _ => return Err(StoreError::Corrupt("instance")),
    };
    let (copy_time, cut) = (row.copy_time, row.cut);
    Ok(Standing::Quiet(Quiet { reason, since: row.since.unwrap_or(now), copy_time, cut }))
}

/// Makes a database quiet until what arrives in it is proven.
pub(super) async fn hold_on(db: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<(), sea_orm::DbErr> {
    instance::Entity::update_many()
        .col_expr(instance::Column::State, Expr::value(HELD))
        .col_expr(instance::Column::Since, Expr::value(now))
        .exec(db)
        .await
        .map(drop)
}

/// Has a copy of a SQLite database say that it is one, which it does wherever it is opened.
/// A copy of one that was moved stays one that was moved.
pub(super) async fn mark_backup(db: &DatabaseConnection, now: DateTime<Utc>) -> Result<(), sea_orm::DbErr> {
    instance::Entity::update_many().col_expr(instance::Column::CopyTime, Expr::value(now)).exec(db).await?;
    instance::Entity::update_many()
        .col_expr(instance::Column::State, Expr::value(COPY))
        .col_expr(instance::Column::Since, Expr::value(now))
        .filter(instance::Column::State.ne(MOVED))
        .exec(db)
        .await
        .map(drop)
}

/// Why the database is quiet, in a word; unset: it is not.
pub(super) async fn quiet_on(db: &impl ConnectionTrait) -> Result<Option<&'static str>, sea_orm::DbErr> {
    let row = row_on(db).await?;
    Ok(row.and_then(|row| usize::try_from(row.state - 1).ok()).and_then(|place| QUIET.get(place).copied()))
}

impl Store {
    /// Whether this database may send. One that is found to be a copy is marked as that.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn standing(&self, _: &Engine) -> Result<Standing, StoreError> {
        let store = self.clone();
        // Whoever goes away in the middle of it must not break the connection off.
        let task = self.inner.tasks.spawn(async move {
            let connections = &store.inner.connections;
            let own = dialect::identity(&connections.write, connections.place.as_ref()).await.map_err(nameless)?;
            let now = store.now().await?;
            let row = settle(connections, &own, now).await?.ok_or(StoreError::Corrupt("instance"))?;
            standing(&row, false, now)
        });
        task.await.map_err(|_| StoreError::Abandoned)?
    }

    /// Gives a live SQLite file another token, if it had its own for long enough: whoever copies it has the old one.
    ///
    /// # Errors
    /// [`StoreError`] when the database or the file beside it cannot be written to; the token stays then.
    pub async fn instance_tend(&self, _: &Engine) -> Result<(), StoreError> {
        let store = self.clone();
        // The file beside it may take its time, and nobody must stop half-way.
        let task = self.inner.tasks.spawn(async move { renew(&store.inner.connections).await });
        task.await.map_err(|_| StoreError::Abandoned)?
    }

    /// Makes the database quiet. Yields what it was, and how many messages are being handed over at this moment.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn instance_hold(&self, engine: &Engine) -> Result<(Standing, u64), StoreError> {
        self.quieten(engine, HELD).await
    }

    /// The same for good, of one whose rows are in another database now.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn instance_leave(&self, engine: &Engine) -> Result<(), StoreError> {
        self.quieten(engine, MOVED).await.map(drop)
    }

    async fn quieten(&self, _: &Engine, state: i16) -> Result<(Standing, u64), StoreError> {
        self.write_across(move |tx| {
            Box::pin(async move {
                let row = locked_on(tx).await?;
                let before = standing(&row, false, tx.now)?;
                if before == Standing::Live || state == MOVED {
                    let row_before = row.clone();
                    let row = instance::Model { state, since: Some(row.since.unwrap_or(tx.now)), ..row };
                    tx.update_all(&[(row_before, row)]).await?;
                }
                let calling = delivery::Entity::find().filter(delivery::Column::Phase.eq(IN_FLIGHT));
                Ok((before, calling.count(&tx.db).await?))
            })
        })
        .await
    }

    /// Settles by when something must have been due for it to be cancelled, and until when to have been there. A run that was
    /// interrupted goes on with its own.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn instance_cut(&self, _: &Engine) -> Result<[DateTime<Utc>; 2], StoreError> {
        self.write_across(move |tx| {
            Box::pin(async move {
                let before = locked_on(tx).await?;
                let cut = before.cut.unwrap_or(tx.now);
                let since = before.since.unwrap_or(cut);
                let row = instance::Model { cut: Some(cut), ..before.clone() };
                tx.update_all(&[(before, row)]).await?;
                Ok([cut, since])
            })
        })
        .await
    }

    /// Stops up to `limit` deliveries of a practice that the original may have handed over, after `after`, as of a
    /// [cut](Self::instance_cut). Yields the last of them, unset when there are no more, and how many are cancelled.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn instance_stop(
        &self,
        _: &Engine,
        practice: &PracticeId,
        [cut, since]: [DateTime<Utc>; 2],
        after: Option<DeliveryId>,
        limit: u64,
    ) -> Result<(Option<DeliveryId>, i32), StoreError> {
        let id = practice.as_str().to_owned();
        self.write_within(practice.clone(), move |tx| {
            Box::pin(async move {
                let copied = delivery::Entity::find()
                    .filter(delivery::Column::PracticeId.eq(id))
                    .filter(delivery::Column::CreateTime.lte(since))
                    .filter(delivery::Column::Id.gt(after.map_or(Uuid::nil(), |id| id.0)))
                    .limit(limit);
                let (drafts, stopped) = stop::stop_copied_on(tx, copied, cut).await?;
                let last = drafts.keys().next_back().copied().map(DeliveryId);
                save_all_on(tx, drafts.into_values()).await?;
                Ok((last, stopped))
            })
        })
        .await
    }

    /// The broadcasts of all practices that the original may have gone on with, as of a [cut](Self::instance_cut).
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn instance_broadcasts(
        &self,
        _: &Engine,
        [cut, since]: [DateTime<Utc>; 2],
    ) -> Result<Vec<(PracticeId, BroadcastId)>, StoreError> {
        let begun =
            Condition::any().add(broadcast::Column::StartTime.is_not_null()).add(broadcast::Column::WorkAt.lte(cut));
        let rows: Vec<(String, Uuid)> = broadcast::Entity::find()
            .filter(broadcast::Column::WorkAt.is_not_null())
            .filter(broadcast::Column::CancelTime.is_null())
            .filter(broadcast::Column::CreateTime.lte(since))
            .filter(begun)
            .select_only()
            .columns([broadcast::Column::PracticeId, broadcast::Column::Id])
            .order_by_asc(broadcast::Column::Id)
            .into_tuple()
            .all(self.across())
            .await?;
        let name = |id: String| id.parse().map_err(|_| StoreError::Corrupt("broadcast"));
        rows.into_iter().map(|(practice, id)| Ok((name(practice)?, BroadcastId(id)))).collect()
    }

    /// Makes the database live, as what it is and where it is now.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn instance_resume(&self, _: &Engine) -> Result<(), StoreError> {
        let place = self.inner.connections.place.as_ref();
        let own = dialect::identity(&self.inner.connections.write, place).await.map_err(nameless)?;
        let known = place.and_then(Place::tokens).map(|Tokens([_, newest])| newest);
        let token = known.unwrap_or_else(|| NO_TOKEN.to_owned());
        self.write_across(move |tx| {
            Box::pin(async move {
                let before = locked_on(tx).await?;
                // That of the database which this very transaction is in.
                let identity = dialect::identity_on(&tx.db, tx.dialect).await?.unwrap_or(own);
                let row = instance::Model {
                    state: LIVE,
                    identity,
                    token,
                    since: None,
                    copy_time: None,
                    cut: None,
                    ..before.clone()
                };
                tx.update_all(&[(before, row)]).await
            })
        })
        .await
    }
}

async fn locked_on(tx: &Tx) -> Result<instance::Model, StoreError> {
    // Claims read it all the while.
    let row = instance::Entity::find_by_id(ONLY).lock(LockType::NoKeyUpdate).one(&tx.db).await?;
    row.ok_or(StoreError::Corrupt("instance"))
}

/// It could be asked when the database was opened.
fn nameless(error: OpenError) -> StoreError {
    match error {
        OpenError::Statement(error) => error.into(),
        _ => StoreError::Corrupt("instance"),
    }
}

/// Changes the token. Beside the file stand both from before the database has the new one until after, so that there is no moment
/// at which a process that dies leaves two that do not match.
pub(super) async fn renew(connections: &Connections) -> Result<(), StoreError> {
    let Some(place) = connections.place.as_ref().filter(|place| place.is_ours()) else { return Ok(()) };
    let Some(row) = row_on(&connections.write).await?.filter(|row| row.state == LIVE) else { return Ok(()) };
    let new = Uuid::new_v4().simple().to_string();
    let put = |tokens, lasting| place.put(&Tokens(tokens), lasting).map_err(|error| untold(&error));
    put([row.token.clone(), new.clone()], true)?;
    let changed = instance::Entity::update_many()
        .col_expr(instance::Column::Token, Expr::value(new.clone()))
        .filter(instance::Column::Id.eq(ONLY))
        .filter(instance::Column::State.eq(LIVE))
        .filter(instance::Column::Token.eq(row.token))
        .exec(&connections.write)
        .await?;
    // Should the power fail before that is on the disk, the old one still stands there too.
    if changed.rows_affected > 0 { put([new.clone(), new], false) } else { Ok(()) }
}

fn untold(error: &std::io::Error) -> StoreError {
    tracing::error!(%error, "the file beside the database cannot be written to");
    StoreError::Corrupt("instance")
}
