//! Signs how far the ledgers have come, and says it where it is kept elsewhere: each hour by one replica, and by each when it stops.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::TimeDelta;

use crate::{
    crypto::AnchorKey,
    domain::Engine,
    store::{Anchor, Store, StoreError},
    telemetry,
};

/// How often one replica signs.
const EVERY: TimeDelta = TimeDelta::hours(1);
/// Practices of one line, which then has some 60 KiB.
const PAGE: u64 = 200;

/// Signs anchors.
#[derive(Clone, Debug)]
pub struct Anchors {
    key: Arc<AnchorKey>,
    file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum AnchorError {
    #[error("the heads of the ledgers cannot be read")]
    Store(#[from] StoreError),
    #[error("the anchor cannot be written")]
    Write(#[from] io::Error),
}

impl Anchors {
    /// Signed with `key`, a line each: at the end of `file`, or on standard output.
    #[must_use]
    pub fn new(key: AnchorKey, file: Option<PathBuf>) -> Self {
        Self { key: Arc::new(key), file }
    }

    /// Signs if nobody has within the hour.
    pub(super) async fn run_once(&self, store: &Store, engine: &Engine) {
        match store.anchor_turn(engine, EVERY).await {
            Ok(true) => {
                if !self.say(store, engine).await && store.anchor_return(engine).await.is_err() {
                    tracing::error!("the ledgers are not anchored within the next hour");
                }
            }
            Ok(false) => {}
            Err(error) => tracing::error!(error = %telemetry::chain(&error), "anchoring has to wait"),
        }
    }

    /// Signs how far the ledgers have come now. False: that could not be read or written, which was said.
    pub async fn say(&self, store: &Store, engine: &Engine) -> bool {
        let said = self.try_say(store, engine).await;
        if let Err(error) = &said {
            tracing::error!(error = %telemetry::chain(error), "the ledgers could not be anchored");
        }
        said.is_ok()
    }

    async fn try_say(&self, store: &Store, engine: &Engine) -> Result<(), AnchorError> {
        let (mut lines, mut after) = (String::new(), None);
        loop {
            let time = store.now().await?;
            let heads = store.heads(engine, after.as_ref(), PAGE).await?;
            let full = heads.len() as u64 == PAGE;
            after = heads.last().map(|of| of.practice.clone());
            if !heads.is_empty() {
                lines += &self.key.sign(&Anchor { time, heads }.to_json());
                lines.push('\n');
            }
            if !full {
                break;
            }
        }
        let file = self.file.clone();
        let write = tokio::task::spawn_blocking(move || match file {
            Some(file) => append(&file, lines.as_bytes()),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(lines.as_bytes())?;
                out.flush()
            }
        });
        Ok(write.await.map_err(io::Error::other)??)
    }
}

/// Adds to a file, which may have been moved away since the last time. It is on the disk when this returns.
fn append(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}
