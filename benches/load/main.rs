//! How fast this is, beside what the same machine could do at best. Each program starts what it needs (servers in processes of
//! their own, a PostgreSQL to throw away, providers), and measures ceiling and product in turn, since only a ratio within one
//! run says anything: machines differ, and are noisy.
//!
//! `cargo bench --bench load -- PROGRAM [--database sqlite|postgres|both] [--pairs 5] [--seconds 5] ...`
//!
//! * `goals [--quick] [--only G3,G4] [--out FILE]`: every goal that there is, on both databases: the programs below one after the other,
//!   and a table of what they conclude. `--quick` tries in two minutes or three whether each of them works; its figures mean nothing.
//! * `costs [--out FILE]`: where the cost of a notification goes: processor time and bytes of each stage.
//! * `growth [--only practices|patients|history|watchers|broadcast] [--most 1000] [--out FILE]`: what a notification costs while these
//!   grow, up to a thousandfold.
//!
//! What these are made of:
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
//! * `lists [--rows 1000000]`: what a dashboard asks first, beside so many deliveries.
//! * `memory`: a server that does nothing.
//! * `noise [--count 1000000] [--made 1000000] [--quiet 49] [--sends 300]`: urgent texts and reminders of quiet practices, idle and
//!   beside so many broadcast texts of a practice whose account is out of order, of which so many are made by a broadcast, and the
//!   rest are copies.
//! * `opt-outs [--count 1000] [--patients 10000]`: so many during a broadcast, and that nobody is written to afterwards.
//! * `practices [--practices 10000] [--few 100] [--rate 200] [--seconds 60] [--streams 500]`: so many practices on one server, each with
//!   accounts and keys of its own, which send as many a second in all as a few practices do, in turn.
//! * `reads [--count 100]`: how long reachability of 500 patients and a preview take, one call at a time.
//! * `renders [--count 20000]`: our wording for each channel, sealed, on one thread, beside liquid alone on the same source; and what wording
//!   takes that was made to cost time and memory.
//! * `streams [--watchers 1000] [--events 500] [--servers 1]`: changes to all watchers of a practice, beside bare tonic doing that; and how
//!   soon a change is seen.
//! * `unary [--callers 128]`: GetPatient, beside bare tonic that knows only one patient.
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
mod costs;
mod crowd;
mod database;
mod drain;
mod e2e;
mod figures;
mod goals;
mod growth;
mod latency;
mod lists;
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
mod table;
mod unary;

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
        Some("costs") => costs::run(&arguments).await,
        Some("drain") => drain::run(&arguments).await,
        Some("e2e") => e2e::run(&arguments).await,
        Some("goals") => goals::run(&arguments).await,
        Some("growth") => growth::run(&arguments).await,
        Some("latency") => latency::run(&arguments).await,
        Some("lists") => lists::run(&arguments).await,
        Some("memory") => memory::run(&arguments).await,
        Some("noise") => noise::run(&arguments).await,
        Some("opt-outs") => opt_outs::run(&arguments).await,
        Some("practices") => practices::run(&arguments).await,
        Some("reads") => reads::run(&arguments).await,
        Some("renders") => renders::run(&arguments),
        Some("streams") => streams::run(&arguments).await,
        Some("unary") => unary::run(&arguments).await,
        Some("bare") => bare::run(&arguments).await,
        _ => println!(
            "goals, costs, growth, accept, attacks, broadcast, callbacks, claims, conversations, drain, e2e, latency, lists, memory, noise, \
             opt-outs, practices, reads, renders, streams or unary? See the head of benches/load/main.rs."
        ),
    }
}
