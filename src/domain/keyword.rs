//! ◆ What an incoming text means for consent: STOP, START, HELP and their like as the whole of it, in any spelling, and other
//! words that a reasonable reader takes for a request to stop (47 CFR 64.1200(a)(10)), in English and Spanish. The same text
//! always means the same: words and patterns are data, and there is no model behind them.

mod english;
mod pattern;
mod spanish;

use pattern::Clause;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

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

/// Nothing longer is a text message (Twilio: 1,600 characters); what is beyond is not read.
const LONGEST: usize = 2_000;

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
        let plain = plain(text);
        let word: String = plain.chars().filter(|c| c.is_alphanumeric()).collect();
        let is = |words: &[&str]| words.contains(&word.as_str());
        if is(STOP) {
            Self::Stop
        } else if is(START) {
            Self::Start
        } else if is(HELP) {
            Self::Help
        } else if asks_to_stop(&plain) {
            Self::StopRequest
        } else {
            Self::Other
        }
    }
}

/// The text in small letters without accents.
fn plain(text: &str) -> String {
    // Compatibility forms too: letters from keyboards of another width, or in circles.
    let text = text.chars().take(LONGEST).nfkd().filter(|c| !is_combining_mark(*c));
    text.flat_map(char::to_lowercase).collect()
}

fn asks_to_stop(plain: &str) -> bool {
    clauses(plain).iter().any(|clause| english::LANGUAGE.asks(clause) || spanish::LANGUAGE.asks(clause))
}

/// The clauses of a text, each as words. An apostrophe belongs to its word and is left out; any other sign parts words, and
/// those that end or divide a sentence part clauses.
fn clauses(plain: &str) -> Vec<Clause> {
    let mut clauses = Vec::new();
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in plain.chars().chain(['.']) {
        match c {
            '\'' | '’' | '‘' | '`' | '´' => {}
            c if c.is_alphanumeric() => word.push(c),
            c => {
                if !word.is_empty() {
                    words.push(even(&std::mem::take(&mut word)));
                }
                if matches!(c, '.' | '!' | '?' | ';' | ':' | ',' | '\n' | '¿' | '¡' | '(' | ')') && !words.is_empty()
                {
                    clauses.push(Clause::new(std::mem::take(&mut words), c == '?'));
                }
            }
        }
    }
    clauses
}

/// A word without what impatience adds: of three equal letters or more one is left.
fn even(word: &str) -> String {
    let mut even: Vec<char> = Vec::with_capacity(word.len());
    let letters: Vec<char> = word.chars().collect();
    for run in letters.chunk_by(|one, other| one == other) {
        let kept = if run.len() > 2 && run.iter().all(|c| c.is_alphabetic()) { 1 } else { run.len() };
        even.extend(run.iter().take(kept));
    }
    even.into_iter().collect()
}

#[cfg(test)]
mod tests;
