//! What tests stand on: databases of their own, a clock that they move, and checks that hold after every test.

pub(crate) mod app;
pub(crate) mod collector;
mod database;
pub(crate) mod invariants;
mod postgres;
pub(crate) mod process;
pub(crate) mod vault;

pub(crate) use database::{Backend, Home, TestStore, run};
pub(crate) use postgres::{Apart, Logging, as_superuser, dump as database_dump, restore as database_restore};

/// Writes each test for both databases: `name::sqlite` and `name::postgres`. After each, the invariants are checked.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($t:ident: &TestStore) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn test($t: &TestStore) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::support::run($crate::support::Backend::Sqlite, test).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::support::run($crate::support::Backend::Postgres, test).await;
            }
        }
    )+};
}

pub(crate) use on_both;
