//! What operators do to a database, also while a server has it, and the entries that this leaves on the audit trails.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;

use super::runtime;
use crate::{
    app,
    clock::SystemClock,
    config::Config,
    custody,
    domain::{AuditEvent, Engine, PracticeId, Practices},
    store::{self, Store, StoreError, Time},
    telemetry,
};

/// Does `work` with the database, and closes it.
pub(super) fn with(
    config: Config,
    work: impl AsyncFnOnce(Store, Engine) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let keys = custody::load(&config.custody).await?;
        let store = Store::open_beside(config.store, keys, time()).await.context("HEEDWELL_DATABASE_URL")?;
        let done = work(store.clone(), app::operator()).await;
        store.close().await;
        done.map(|()| ExitCode::SUCCESS)
    })
}

/// Puts it on the trail of each practice that still has keys.
pub(super) async fn note_all(
    store: &Store,
    engine: &Engine,
    event: impl Fn(&PracticeId) -> AuditEvent,
) -> anyhow::Result<()> {
    for practice in store.ledgers(engine).await? {
        let event = event(&practice);
        match store.audit_append(engine, practice, vec![event]).await {
            Ok(()) | Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error).context("the audit trail"),
        }
    }
    Ok(())
}

/// Puts on the trails of these practices what an operator does beside the database. Where there is none of this release yet, there
/// is nobody whom it could concern.
pub(super) fn tell(config: Config, practices: &Practices, event: &AuditEvent) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        if !store::is_there(&config.store).await.context("HEEDWELL_DATABASE_URL")? {
            return Ok(());
        }
        // None are made here: with others than the database's nothing could be written.
        let Some(keys) = custody::look(&config.custody).await? else { return Ok(()) };
        let store = Store::open_beside(config.store, keys, time()).await.context("HEEDWELL_DATABASE_URL")?;
        let told = tell_in(&store, practices, event).await;
        store.close().await;
        told
    })
}

/// The same, of what nobody shall be kept from for want of a database: that it stands on no trail is said then.
pub(super) fn tell_or_say(config: Config, practices: &Practices, event: &AuditEvent) {
    if let Err(error) = tell(config, practices, event) {
        say(&format!("this stands on no audit trail: {}", telemetry::chain(error.as_ref())));
    }
}

async fn tell_in(store: &Store, practices: &Practices, event: &AuditEvent) -> anyhow::Result<()> {
    let engine = app::operator();
    match practices {
        Practices::All => note_all(store, &engine, |_| event.clone()).await,
        Practices::Named(ids) => {
            for practice in ids {
                match store.audit_append(&engine, practice.clone(), vec![event.clone()]).await {
                    Ok(()) | Err(StoreError::NotFound(_)) => {}
                    Err(error) => return Err(error).context("the audit trail"),
                }
            }
            Ok(())
        }
    }
}

fn time() -> Time {
    Time::Database(Arc::new(SystemClock))
}

#[expect(clippy::print_stderr, reason = "said beside the result")]
fn say(text: &str) {
    eprintln!("heedwell: {text}");
}
