//! How fast this is, beside what the same machine could do at best. Each program starts what it needs (servers in processes of
//! their own, a PostgreSQL to throw away, providers), and measures ceiling and product in turn, since only a ratio within one
//! run says anything: machines differ, and are noisy.
//!
//! `cargo bench --bench load -- PROGRAM [--database sqlite|postgres|both] [--pairs 5] [--seconds 5] ...`
//!
//! * `accept [--callers 128]`: SendNotification, beside bare tonic with a group-committed insert of the same rows.
//! * `attacks [--seconds 10]`: honest sends before, during and after attacks by whoever reaches a port, beside the same attacks
//!   on a bare server; and the memory.
//! * `broadcast [--patients 100000]`: to everybody by text and mail, beside bare clients that send as much; its preview before that;
//!   and the memory of both.
//! * `callbacks [--count 8000] [--width W]`: signed reports of Twilio, 64 and 256 at once, beside a bare POST with the same check that
//!   updates one table by group commit.
//! * `conversations [--messages 50000] [--conversations 20000]`: what staff and phones do in a conversation of so many messages, in
//!   a practice of so many conversations, beside a small practice on the same server.
//! * `drain [--over http|smtp|sendgrid] [--count 4000]`: what was accepted leaves, beside a bare client that sends as much.
//! * `e2e [--callers 64]`: both at once, beside a bare server that accepts, claims, posts and marks as sent.
//! * `latency [--count 300]`: one call at a time, until its provider has it, beside a bare call that commits the same rows.
//! * `claims [--rows 10000000] [--lean] [--goal 1.1]`: all that is done beside so many finished deliveries, of 25,000 patients a
//!   practice, and without any; no more than so many times as long. And what a delivery takes on the disk; lean ones take a third (some 1.5 kB).
//! * `memory`: a server that does nothing.
//! * `noise [--count 1000000] [--made 1000000] [--quiet 49] [--sends 300]`: urgent texts and reminders of quiet practices, idle and
//!   beside so many broadcast texts of a practice whose account is out of order, of which so many are made by a broadcast, and the
//!   rest are copies.
//! * `opt-outs [--count 1000] [--patients 10000]`: so many during a broadcast, and that nobody is written to afterwards.
//! * `practices [--practices 10000] [--few 100] [--rate 200] [--seconds 60] [--streams 500]`: so many practices on one server, each with
//!   accounts and keys of its own, which send as many a second in all as a few practices do, in turn.
//! * `reads [--count 100]`: how long reachability of 500 patients and a preview take, one call at a time.
//! * `renders [--count 20000]`: our wording for each channel, on one thread, beside liquid alone on the same source; and what wording
//!   takes that was made to cost time and memory.
//! * `streams [--watchers 1000] [--events 500]`: changes to all watchers of a practice, beside bare tonic doing that; and how
//!   soon a change is seen.
//! * `timing [--pairs 1000000]`: whether comparisons of secrets, tokens and signatures take longer for a better guess.
//!
//! `HEEDWELL_BIN` names another build of the server to be measured instead. A run counts only if no message was lost or doubled,
//! and no more than a tenth of the machine worked for others.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that prints figures, and ends where it cannot go on"
)]

mod accept;
mod attacks;
mod bare;
mod broadcast;
mod callbacks;
mod claims;
mod conversations;
mod crowd;
mod database;
mod drain;
mod e2e;
mod figures;
mod latency;
mod machine;
mod memory;
mod noise;
mod opt_outs;
mod practices;
mod product;
mod reads;
mod renders;
mod sinks;
mod streams;
mod timing;

use std::env;

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().skip_while(|argument| *argument != name).nth(1).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str, default: usize) -> usize {
        self.text(name).map_or(default, |text| text.parse().unwrap())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    pub(crate) fn decimal(&self, name: &str, default: f64) -> f64 {
        self.text(name).map_or(default, |text| text.parse().unwrap())
    }

    pub(crate) fn kinds(&self) -> Vec<database::Kind> {
        match self.text("--database") {
            Some("sqlite") => vec![database::Kind::Sqlite],
            Some("postgres") => vec![database::Kind::Postgres],
            _ => vec![database::Kind::Sqlite, database::Kind::Postgres],
        }
    }
}

#[tokio::main]
async fn main() {
    // Without one reqwest panics.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = Arguments(env::args().skip(1).collect());
    match arguments.0.first().map(String::as_str) {
        Some("accept") => accept::run(&arguments).await,
        Some("attacks") => attacks::run(&arguments).await,
        Some("broadcast") => broadcast::run(&arguments).await,
        Some("callbacks") => callbacks::run(&arguments).await,
        Some("claims") => claims::run(&arguments).await,
        Some("conversations") => conversations::run(&arguments).await,
        Some("drain") => drain::run(&arguments).await,
        Some("e2e") => e2e::run(&arguments).await,
        Some("latency") => latency::run(&arguments).await,
        Some("memory") => memory::run(&arguments).await,
        Some("noise") => noise::run(&arguments).await,
        Some("opt-outs") => opt_outs::run(&arguments).await,
        Some("practices") => practices::run(&arguments).await,
        Some("reads") => reads::run(&arguments).await,
        Some("renders") => renders::run(&arguments),
        Some("streams") => streams::run(&arguments).await,
        Some("timing") => timing::run(&arguments),
        Some("bare") => bare::run(&arguments).await,
        _ => println!(
            "accept, attacks, broadcast, callbacks, claims, conversations, drain, e2e, latency, memory, noise, opt-outs, practices, reads, \
             renders, streams or timing? See the head of benches/load/main.rs."
        ),
    }
}
