//! A whole server, called over TCP: what is accepted reaches the stand-ins, and its fate comes back.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails where it stands")]

mod given;
mod seen;

mod access;
mod after_hours;
mod attachments;
mod audit;
mod bad_input;
mod batch;
mod bounces;
mod broadcasts;
mod callbacks;
mod cancels;
mod certificates;
mod consent;
mod conversations;
mod dashboard;
mod decisions;
mod erasure;
mod fairness;
mod identity;
mod inbound;
mod inbox;
mod kinds;
mod links;
mod mails;
mod media;
mod overload;
mod ports;
mod preferences;
mod preview;
mod pumping;
mod push;
mod quiet;
mod reachability;
mod readers;
mod reference;
mod replicas;
mod retries;
mod schedule;
mod sendgrid;
mod settings;
mod start;
mod stats;
mod stop;
mod templates;
mod test_messages;
mod texts;
mod unsubscribe;
mod watch;
mod web;
mod wording;
mod worlds;
