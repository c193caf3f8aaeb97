//! Heedwell carries messages between medical practices and their patients. This is the map of the house; each room says
//! at its door what it holds and what it must not know.
//!
//! Three rules hold everywhere. *The core is pure*: [`domain`] computes and does nothing else. *One place per decision*: a
//! second `match` on the same question is in the wrong file. *The row is the truth*: wake-ups and callbacks only say "look
//! again", and whoever is woken reads the rows.
//!
//! A send: `grpc` turns a token into a `Scope` and a request into an `Order`; [`service::notify`] loads the grounds, asks
//! `domain::decide` for each channel, renders, and has [`store`] commit everything at once. The reply is sent after the
//! commit. [`dispatch`] claims (deciding again under the locks of the recipient's gates), calls a provider outside any
//! transaction, and settles in batches.
//!
//! A callback: [`http`] takes the bytes, [`service::callbacks`] verifies them with the key of the practice in the address,
//! and [`store`] adds the facts to the attempt that the token names. 2xx only after the commit.
//!
//! A watch: [`service::watch`] registers interest, then reads the feed after a cursor, then waits; the client's flow control
//! is what holds it back.

// Faults on demand, in test builds alone. First, since its macros reach what comes after them.
#[macro_use]
mod failpoint;

// What is known and decided.
pub mod domain;

// What everything stands on.
pub mod clock;
pub mod crypto;
pub mod custody;
pub mod telemetry;
pub mod wake;

// What is kept, and who is outside.
pub mod auth;
pub mod providers;
pub mod store;

// What is done.
pub mod dispatch;
pub mod duties;
pub mod service;

// Where it comes in.
pub mod grpc;
pub mod http;
pub mod ports;

// How it is put together.
pub mod app;
pub mod cli;
pub mod config;
pub mod sandbox;
