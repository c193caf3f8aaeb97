//! What strangers can send, one input at a time. Each target takes any bytes, makes of them what a stranger may hand over at one
//! place, and checks what has to hold whatever that is: no panic, no more time and memory than [`limits`] allows, answers that are
//! bounded, and no trace of what was refused.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "whatever goes wrong here ends the run, and the input is kept"
)]

mod addresses;
mod bytes;
mod contract;
mod frames;
mod hosts;
pub mod limits;
mod mails;
mod plan;
mod requests;
mod sealed;
mod sendgrid;
mod server;
mod settings;
mod templates;
mod tokens;
mod twilio;

use limits::Limits;

/// Where input is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every call of the contract: decoded, checked, and carried out or refused.
    Requests,
    /// Twilio's forms and their signature.
    Twilio,
    /// SendGrid's batches of events and their signature.
    SendGrid,
    /// Wording: judged, compiled, rendered.
    Templates,
    /// Numbers, mailboxes, words that ask to stop, and links that unsubscribe.
    Addresses,
    /// Cursors and page tokens.
    Tokens,
    /// Mail that is written and read back, and reports of mail that came back.
    Mails,
    /// Hosts that may be called.
    Hosts,
    /// Sealed values.
    Sealed,
    /// The configuration, and the files that it names.
    Settings,
    /// Frames of HTTP/2, to a server that listens.
    Frames,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Requests,
        Self::Twilio,
        Self::SendGrid,
        Self::Templates,
        Self::Addresses,
        Self::Tokens,
        Self::Mails,
        Self::Hosts,
        Self::Sealed,
        Self::Settings,
        Self::Frames,
    ];

    /// Its name, and that of the folder of its inputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Twilio => "twilio",
            Self::SendGrid => "sendgrid",
            Self::Templates => "templates",
            Self::Addresses => "addresses",
            Self::Tokens => "tokens",
            Self::Mails => "mails",
            Self::Hosts => "hosts",
            Self::Sealed => "sealed",
            Self::Settings => "settings",
            Self::Frames => "frames",
        }
    }

    /// The target of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// The names of all.
    #[must_use]
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    fn take(self, input: &[u8]) {
        match self {
            Self::Requests => requests::take(input),
            Self::Twilio => twilio::take(input),
            Self::SendGrid => sendgrid::take(input),
            Self::Templates => templates::take(input),
            Self::Addresses => addresses::take(input),
            Self::Tokens => tokens::take(input),
            Self::Mails => mails::take(input),
            Self::Hosts => hosts::take(input),
            Self::Sealed => sealed::take(input),
            Self::Settings => settings::take(input),
            Self::Frames => frames::take(input),
        }
    }
}

/// Has the target take the input, and holds it to the limits.
///
/// # Panics
/// When anything does not hold.
pub fn run(target: Target, input: &[u8]) {
    // What is made once (tables, a server) is made before anything is measured.
    static READY: std::sync::OnceLock<Limits> = std::sync::OnceLock::new();
    let limits = READY.get_or_init(|| {
        target.take(&[]);
        Limits::of_process()
    });
    limits.hold(target.name(), || target.take(input));
}
