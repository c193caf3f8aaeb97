//! Requests for an answer that Twilio takes for STOP or START though nobody would mean that
//! (help.twilio.com/articles/223134027). They are found by lists, in English and Spanish.

use unicode_normalization::char::is_combining_mark;

use super::seen;
use crate::domain::keyword::spelt;

/// Verbs that ask for an answer.
const ASKING: &[&str] = &[
    "reply",
    "replying",
    "respond",
    "responding",
    "answer",
    "answering",
    "text",
    "texting",
    "txt",
    "type",
    "send",
    "sending",
    "write",
    "responda",
    "responde",
    "responder",
    "conteste",
    "contesta",
    "contestar",
    "envie",
    "envia",
    "enviar",
    "escriba",
    "escribe",
    "escribir",
    "mande",
    "manda",
    "mandar",
];
/// Verbs that ask for it where the word beside them stands out.
const PRESSING: &[&str] =
    &["press", "tap", "enter", "choose", "select", "pulse", "presione", "oprima", "ingrese", "teclee", "marque"];
/// Answers that are taken for STOP or START, and that people would take for something else.
const KEYWORDS: &[&str] =
    &["cancel", "yes", "end", "quit", "revoke", "optout", "unsubscribe", "stopall", "start", "unstop"];
/// Words after which a keyword says what something is for: "Reply X to cancel".
const PURPOSE: &[&str] = &["to", "para"];
/// Words after which "end" and "start" are parts of a sentence.
const DETERMINING: &[&str] = &["the", "a", "an", "your", "our", "its", "this", "that", "each", "any"];
/// So many words after the verb a keyword is asked for however it is written: "Reply with the word yes".
const REACH: usize = 5;
/// So many words after it one is that stands out: "Reply with one of these, if you can come: YES".
const FARTHEST: usize = 20;

/// A word of a text.
#[derive(Clone)]
struct Word {
    /// In small letters as they look, without signs.
    plain: String,
    capital: bool,
    quoted: bool,
    /// It is all that stands between two signs, the first of which leads to it.
    alone: bool,
    /// The sentence that it stands in.
    sentence: usize,
}

impl Word {
    fn is(&self, list: &[&str]) -> bool {
        list.contains(&self.plain.as_str())
    }
}

/// Whether `text` asks to be answered with a word that is taken for STOP or START and does not mean it.
#[must_use]
pub fn asks_for_a_keyword(text: &str) -> bool {
    let words = words(&seen(text));
    let verbs = words.iter().enumerate().filter(|(_, word)| word.is(ASKING) || word.is(PRESSING));
    verbs.into_iter().any(|(at, _)| asks(words.get(at..).unwrap_or_default()))
}

/// Whether the verb at the start of `words` asks for one of those behind it.
fn asks(words: &[Word]) -> bool {
    let Some((verb, rest)) = words.split_first() else { return false };
    let pressing = verb.is(PRESSING);
    let farthest = if pressing { REACH } else { FARTHEST };
    let (mut before, mut stop) = (verb, false);
    for (place, word) in rest.iter().take(farthest).enumerate() {
        if word.is(ASKING) {
            return false;
        }
        let purpose = before.is(PURPOSE) && !word.quoted;
        // "Reply STOP to end, START to come back" asks for both, and means it.
        stop |= before.is(&["stop"]) && word.is(PURPOSE);
        let meant = purpose || stop && word.is(&["start", "unstop"]);
        let part = before.is(DETERMINING) && word.is(&["end", "start"]);
        let stands_out = word.quoted || word.capital && !verb.capital;
        let near = place < REACH && !part || word.alone;
        let quiet = !pressing && !stop && near && word.sentence == verb.sentence;
        if word.is(KEYWORDS) && !meant && (stands_out || quiet) {
            return true;
        }
        before = word;
    }
    false
}

/// The words of a text. Letters with a sign between each two are one: "Y.E.S".
fn words(text: &str) -> Vec<Word> {
    let is_part = |c: char| c.is_alphanumeric() || is_combining_mark(c) || "-'".contains(c);
    let (mut words, mut rest, mut sentence) = (Vec::<Word>::new(), text, 0);
    while let Some((signs, from)) = rest.find(is_part).and_then(|at| rest.split_at_checked(at)) {
        let end = from.find(|c: char| !is_part(c)).unwrap_or(from.len());
        let (word, behind) = from.split_at_checked(end).unwrap_or((from, ""));
        sentence += usize::from(signs.contains(['.', '!', '?']));
        let led = signs.trim_end().ends_with([':', '=', '>']);
        let ended = behind.trim_start_matches(' ').chars().next().is_none_or(|c| !c.is_alphanumeric());
        let plain = spelt(word);
        if !plain.is_empty() {
            words.push(Word {
                capital: word.chars().any(char::is_uppercase) && !word.chars().any(char::is_lowercase),
                quoted: signs.ends_with(['"', '\u{201c}', '\u{201d}', '\u{ab}', '*', '\u{2018}'])
                    || word.starts_with('\''),
                alone: led && ended,
                sentence,
                plain,
            });
        }
        rest = behind;
    }
    joined(&words)
}

/// With three letters or more that stand one by one as one word.
fn joined(words: &[Word]) -> Vec<Word> {
    let is_letter = |word: &Word| word.plain.chars().count() == 1;
    let mut joined = Vec::with_capacity(words.len());
    for run in words.chunk_by(|one, other| is_letter(one) && is_letter(other)) {
        match run {
            [first, _, _, ..] => {
                let plain = run.iter().map(|word| word.plain.as_str()).collect();
                joined.push(Word { plain, ..first.clone() });
            }
            few => joined.extend(few.iter().cloned()),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_the_carrier_takes_are_found() {
        for text in [
            "Reply YES to confirm",
            "Reply \"cancel\" to cancel.",
            "Text CANCEL if you cannot come",
            "Answer with the word Yes, please.",
            "Responda YES para confirmar",
            "Env\u{ed}e CANCEL",
            "reply C or R, or send quit",
            "Reply REVOKE to go back.",
            "Text START to get news",
            "Send unstop",
            "Reply OPT-OUT",
            "Reply STOPALL or unsubscribe",
            "Press CANCEL",
            "Presione \"YES\"",
            "reply with one word of these if you like it: YES",
            "reply with one word of these if you like it: yes",
            "reply Y.E.S",
            "Reply Y E S now",
            "Reply Y-E-S",
            "Reply \u{423}\u{415}\u{405}",
            "Reply Y\u{200b}ES",
            "Reply \u{ff39}\u{ff25}\u{ff33}",
            "Confirm by replying YES",
            "Reply STOP to opt out or YES to come",
            "REPLY YES",
        ] {
            assert!(asks_for_a_keyword(text), "{text}");
        }
    }

    #[test]
    fn what_means_it_or_asks_for_nothing_is_none() {
        for text in [
            "Reply C to confirm, R to reschedule.",
            "Reply X to cancel your visit.",
            "Reply STOP to opt out.",
            "Reply STOP to unsubscribe.",
            "Reply STOP to end or cancel messages, HELP for help.",
            "Reply STOP to opt out, START to opt back in.",
            "Yes, we are open! Call to cancel.",
            "To cancel, call us.",
            "Your answer is important. Please call by the end of the day.",
            "Text us by the end of the week.",
            "Please enter through the end door.",
            "Responda C para confirmar.",
            "Write down the start of your symptoms.",
            "Please answer the phone. Yes, it is us.",
        ] {
            assert!(!asks_for_a_keyword(text), "{text}");
        }
    }
}
