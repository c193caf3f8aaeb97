//! Connections that wait for the account's next mail.
//!
//! Guarantee: a connection is only handed to whoever has the same log-in, password included. Host and user alone would let
//! one practice send as another.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lettre::transport::smtp::client::AsyncSmtpConnection;
use ring::digest::{Context, SHA256};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use crate::{
    domain::{SmtpAccount, SmtpSecurity},
    providers::net,
};

/// Connections kept in all.
const CAPACITY: usize = 64;
/// Relays often end a connection after a hundred mails.
const MAILS: u32 = 100;

/// A relay and a log-in, as a hash: no password lies about in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(account: &SmtpAccount) -> Self {
        let (user, password) = match &account.credentials {
            Some((user, password)) => (user.as_str(), password.expose_secret()),
            None => ("", ""),
        };
        let security = match account.security {
            SmtpSecurity::StartTls => "starttls",
            SmtpSecurity::Tls => "tls",
        };
        let mut hash = Context::new(&SHA256);
        let reports = if account.bounces_to.is_some() { "reports" } else { "" };
        for field in [&account.host, &account.port.to_string(), security, user, password, reports] {
            // The length keeps apart what would look the same when joined.
            hash.update(&field.len().to_be_bytes());
            hash.update(field.as_bytes());
        }
        let mut key = Self([0; 32]);
        key.0.copy_from_slice(hash.finish().as_ref());
        key
    }
}

/// A connection that is logged in, and between two mails.
pub(super) struct Connection {
    pub(super) smtp: AsyncSmtpConnection,
    /// The relay lets us say which reports are wanted, and was asked.
    pub(super) reports: bool,
    /// Mails taken over it.
    pub(super) mails: u32,
}

struct Entry {
    key: Key,
    connection: Connection,
    since: Instant,
}

/// The waiting connections, the longest waiting first.
#[derive(Default)]
pub(super) struct Idle(Mutex<VecDeque<Entry>>);

impl Idle {
    /// The connection that has waited least.
    pub(super) fn take(&self, key: Key) -> Option<Connection> {
        let mut entries = self.fresh();
        let index = entries.iter().rposition(|entry| entry.key == key)?;
        entries.remove(index).map(|entry| entry.connection)
    }

    /// Keeps `connection` for the next mail, and gives back what has to be closed instead.
    pub(super) fn put(&self, key: Key, connection: Connection) -> Option<Connection> {
        if connection.mails >= MAILS {
            return Some(connection);
        }
        let mut entries = self.fresh();
        entries.push_back(Entry { key, connection, since: Instant::now() });
        if entries.len() > CAPACITY { entries.pop_front().map(|entry| entry.connection) } else { None }
    }

    /// The entries without those that have waited too long; a relay may have given those up.
    fn fresh(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while entries.front().is_some_and(|entry| entry.since.elapsed() > net::IDLE) {
            entries.pop_front();
        }
        entries
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").finish_non_exhaustive()
    }
}
