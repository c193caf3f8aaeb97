//! Hints between replicas that share a database: "something was committed", and no more. They travel outside of every
//! transaction, over connections of their own. One that is lost costs the pause between two looks.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures::FutureExt;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use sqlx::{
    ConnectOptions, Executor, PgConnection,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Store, StoreError, entity::feed_head, rows::padded};
use crate::{
    domain::{Engine, PracticeId},
    telemetry,
    wake::Wake,
};

/// Practices that one statement asks about.
const ASKED: usize = 1_000;
const CHANNEL: &str = "heedwell";
const TELL: &str = "NOTIFY heedwell";
/// The first hint goes at once, the next ones at most this often.
const EVERY: Duration = Duration::from_millis(10);
/// How long a connection may take for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long before the next try when there is no connection; more, by chance, so that replicas do not come all at once.
const RETRY: Duration = Duration::from_secs(1);
/// A connection on which nothing was heard for this long is asked whether it lives: one that a network dropped in silence
/// would stay mute for ever.
const PROBE: Duration = Duration::from_secs(30);

impl Store {
    /// The newest positions of the feeds of `practices`.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be asked.
    pub async fn feed_heads(&self, _: &Engine, practices: &[PracticeId]) -> Result<Vec<(PracticeId, i64)>, StoreError> {
        let mut heads = Vec::with_capacity(practices.len());
        for practices in practices.chunks(ASKED) {
            let rows: Vec<(String, i64)> = feed_head::Entity::find()
                .select_only()
                .columns([feed_head::Column::PracticeId, feed_head::Column::Seq])
                .filter(feed_head::Column::PracticeId.is_in(padded(practices.iter().map(PracticeId::as_str))))
                .into_tuple()
                .all(self.across())
                .await?;
            for (practice, newest) in rows {
                heads.push((practice.parse().map_err(|_| StoreError::Corrupt("practice id"))?, newest));
            }
        }
        Ok(heads)
    }

    /// Tells the other replicas of commits here, and hears of theirs, until `stop`. A database that no other process can
    /// have open has nobody to tell.
    pub async fn hints(self, stop: CancellationToken) {
        let Some(options) = &self.inner.connections.hints else { return };
        let own = AtomicU32::new(0);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tell(options.get(), self.wake(), &own) => {}
            () = hear(options.get(), self.wake(), &own) => {}
        }
    }
}

/// Tells of commits. `own` is by which name the server knows the connection, so that nobody listens to himself.
async fn tell(options: &PgConnectOptions, wake: &Wake, own: &AtomicU32) {
    let mut here = wake.listen();
    let mut connection = None;
    loop {
        here.here().await;
        let mut failed = false;
        // What could not be told is owed: others may have lost their connections at the same time.
        while let Err(error) = said(options, &mut connection, own).await {
            connection = None;
            // A connection may have been dropped while it was idle: the first failure means little.
            if failed {
                tracing::warn!(error = %telemetry::chain(&error), "other replicas are not told of changes; they look");
                sleep(RETRY.mul_f64(rand::random_range(1.0..2.0))).await;
            }
            failed = true;
        }
        sleep(EVERY).await;
    }
}

async fn said(
    options: &PgConnectOptions,
    connection: &mut Option<PgConnection>,
    own: &AtomicU32,
) -> Result<(), sqlx::Error> {
    if connection.is_none() {
        let mut new = in_time(options.connect()).await?;
        let pid: i32 = in_time(sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut new)).await?;
        own.store(pid.cast_unsigned(), Ordering::Relaxed);
        *connection = Some(new);
    }
    let Some(connection) = connection else { return Ok(()) };
    in_time(connection.execute(TELL)).await.map(drop)
}

/// Hears of commits elsewhere, for as long as it takes to get a connection.
async fn hear(options: &PgConnectOptions, wake: &Wake, own: &AtomicU32) {
    loop {
        let Err(error) = listen(options, wake, own).await;
        tracing::warn!(error = %telemetry::chain(&error), "changes of other replicas are not heard of; they are looked for");
        sleep(RETRY.mul_f64(rand::random_range(1.0..2.0))).await;
    }
}

async fn listen(options: &PgConnectOptions, wake: &Wake, own: &AtomicU32) -> Result<Infallible, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let pool = in_time(pool.acquire_timeout(PATIENCE).connect_with(options.clone())).await?;
    let mut listener = in_time(PgListener::connect_with(&pool)).await?;
    in_time(listener.listen(CHANNEL)).await?;
    loop {
        // Whatever was said while nobody listened is lost.
        wake.elsewhere();
        loop {
            match timeout(PROBE, listener.try_recv()).await {
                Ok(Ok(Some(hint))) => {
                    let mut heard = hint.process_id() != own.load(Ordering::Relaxed);
                    // One word stands for all that were said meanwhile.
                    while let Some(Ok(Some(hint))) = listener.try_recv().now_or_never() {
                        heard |= hint.process_id() != own.load(Ordering::Relaxed);
                    }
                    if heard {
                        wake.elsewhere();
                        sleep(EVERY).await;
                    }
                }
                // The connection was lost, and there is a new one.
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(error),
                Err(_) => in_time(listener.execute("SELECT 1")).await.map(drop)?,
            }
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(PATIENCE, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
