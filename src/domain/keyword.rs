//! ◆ What an incoming text means for consent: STOP, START, HELP and their like as the whole of it, in any spelling, and other
//! words that a reasonable reader takes for a request to stop (47 CFR 64.1200(a)(10)), in English and Spanish. The same text
//! always means the same: words and patterns are data, and there is no model behind them.

mod english;
mod pattern;
mod spanish;
mod spelling;

use spelling::{clauses, plain, word};

pub(super) use spelling::word as spelt;

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// STOP or the like.
    Stop,
    /// START or the like.
    Start,
    /// HELP or the like.
    Help,
    /// Other words that ask to stop.
    StopRequest,
    /// Anything else.
    Other,
}

/// Twilio's words (twilio.com/docs/messaging/tutorials/advanced-opt-out), those of 47 CFR 64.1200(a)(10), and theirs in French
/// and Spanish. They hold also where a practice took one out of Twilio's list.
const STOP: &[&str] =
    &["stop", "unsubscribe", "end", "quit", "stopall", "revoke", "optout", "cancel", "arret", "alto", "parar"];
const START: &[&str] = &["start", "yes", "unstop"];
const HELP: &[&str] = &["help", "info"];

impl Meaning {
    /// What `text` means. `opt_out_type` is what Twilio says of it where it knows more words than we do (Advanced Opt-Out);
    /// then ours do not count.
    #[must_use]
    pub fn of(text: &str, opt_out_type: Option<&str>) -> Self {
        match opt_out_type {
            Some("STOP") => return Self::Stop,
            Some("START") => return Self::Start,
            Some("HELP") => return Self::Help,
            // A word that is not known says nothing.
            _ => {}
        }
        let word = word(text);
        let is = |words: &[&str]| words.contains(&word.as_str());
        if is(STOP) {
            Self::Stop
        } else if is(START) {
            Self::Start
        } else if is(HELP) {
            Self::Help
        } else if asks_to_stop(text) {
            Self::StopRequest
        } else {
            Self::Other
        }
    }

    /// Whether nobody need read it: Twilio answers keywords. A START that opts nobody in is read like any other text, since
    /// "yes" is one, and patients answer questions with it.
    #[must_use]
    pub const fn is_quiet(self, changed_consent: bool) -> bool {
        match self {
            Self::Stop | Self::Help => true,
            Self::Start => changed_consent,
            Self::StopRequest | Self::Other => false,
        }
    }
}

/// Whether a clause asks to stop and nothing after it takes that back, or the whole text asks to.
fn asks_to_stop(text: &str) -> bool {
    let clauses = clauses(&plain(text));
    let languages = [&english::LANGUAGE, &spanish::LANGUAGE];
    let asked = clauses.iter().enumerate().any(|(at, clause)| {
        let rest = clauses.get(at + 1..).unwrap_or_default();
        languages.iter().any(|language| language.asks(clause))
            && !languages.iter().any(|language| language.takes_back(rest))
    });
    asked || languages.iter().any(|language| language.asks_as_whole(&clauses))
}

#[cfg(test)]
mod tests;
