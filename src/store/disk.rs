//! The disk under a SQLite file. While little of it is left nothing new is taken on, and when nothing is left a ballast is
//! let go, so that what was accepted can be finished. The disk of a PostgreSQL server is its operator's.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::Store;
use crate::domain::Engine;

/// Bytes of ballast at most.
const LARGEST_BALLAST: u64 = 64 << 20;

/// How much of the disk is kept for what was accepted already: the larger of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// In bytes.
    pub bytes: u64,
    /// In hundredths of the disk.
    pub percent: u64,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { bytes: 256 << 20, percent: 5 }
    }
}

impl Reserve {
    const fn of(self, disk: u64) -> u64 {
        let share = disk / 100 * self.percent;
        if share > self.bytes { share } else { self.bytes }
    }

    /// Less than the reserve, so that nothing new is taken on because the ballast was let go.
    const fn ballast(self) -> u64 {
        let quarter = self.bytes / 4;
        if quarter < LARGEST_BALLAST { quarter } else { LARGEST_BALLAST }
    }
}

/// What a disk has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free.
    pub free: u64,
    /// How much of that is kept for what was accepted already.
    pub reserve: u64,
}

/// The disk that the file is on.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    ballast: PathBuf,
    reserve: Reserve,
    told: Mutex<State>,
}

/// What the operator was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Roomy,
    Low,
    LetGo,
    NoBallast(io::ErrorKind),
}

impl Disk {
    /// The disk of the SQLite file; the ballast lies beside it.
    pub(super) fn of(file: &Path, reserve: Reserve) -> Self {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut ballast = file.as_os_str().to_owned();
        ballast.push(".ballast");
        Self { folder: folder.to_owned(), ballast: ballast.into(), reserve, told: Mutex::new(State::Roomy) }
    }

    /// Whether more is free than the reserve and `more`. A disk that cannot be asked is not refused for that: if it is in
    /// trouble, the database will say so.
    fn has_room_for(&self, more: u64) -> bool {
        self.room().is_none_or(|room| room.free >= room.reserve + more)
    }

    /// How much is free, and how much of it is kept; unset: the disk cannot be asked.
    pub(super) fn room(&self) -> Option<Room> {
        let disk = statvfs(&self.folder).ok()?;
        let block = disk.f_frsize;
        let reserve = self.reserve.of(disk.f_blocks.saturating_mul(block));
        Some(Room { free: disk.f_bavail.saturating_mul(block), reserve })
    }

    /// Gives the space of the ballast back, for whoever writes next.
    pub(super) fn let_go(&self) {
        let ballast = OpenOptions::new().write(true).open(&self.ballast);
        if ballast.and_then(|ballast| ballast.set_len(0)).is_ok() {
            self.tell(State::LetGo);
        }
    }

    /// Takes the ballast again if there is room for it, and tells the operator how things are.
    fn tend(&self) {
        let wanted = self.reserve.ballast();
        let held = self.holds_ballast();
        let state = match self.has_room_for(if held { 0 } else { wanted }) {
            false => State::Low,
            true if held => State::Roomy,
            true => self.take(wanted).map_or_else(|error| State::NoBallast(error.kind()), |()| State::Roomy),
        };
        self.tell(state);
    }

    fn take(&self, bytes: u64) -> io::Result<()> {
        let ballast = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&self.ballast)?;
        // Blocks, not only a length: a hole would hold nothing.
        Ok(fallocate(&ballast, FallocateFlags::empty(), 0, bytes)?)
    }

    fn holds_ballast(&self) -> bool {
        let wanted = self.reserve.ballast();
        fs::metadata(&self.ballast).is_ok_and(|ballast| ballast.len() == wanted && ballast.blocks() * 512 >= wanted)
    }

    /// Says how things are, once.
    fn tell(&self, state: State) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // After it was let go little is left in any case.
        if *told == state || (*told, state) == (State::LetGo, State::Low) {
            return;
        }
        *told = state;
        match state {
            State::Roomy => tracing::info!("the database's disk has room again: new work is accepted"),
            State::Low => tracing::warn!("little is left of the database's disk: no new work is accepted"),
            State::LetGo => {
                tracing::error!("the database's disk is full: the ballast was let go for what was accepted");
            }
            State::NoBallast(error) => tracing::warn!(%error, "there is no ballast for the day when the disk is full"),
        }
    }
}

impl Store {
    /// Whether the disk has room for more than what was accepted already needs.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.inner.connections.disk.as_ref().is_none_or(|disk| disk.has_room_for(0))
    }

    /// Takes the ballast again once there is room for it, and tells the operator of a disk that fills up.
    pub async fn disk_tend(&self, _: &Engine) {
        let store = self.clone();
        // A disk may take its time.
        let tended = self.inner.tasks.spawn_blocking(move || {
            if let Some(disk) = &store.inner.connections.disk {
                disk.tend();
            }
        });
        let _ = tended.await;
    }
}

#[cfg(test)]
mod tests;
