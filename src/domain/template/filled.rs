//! Wording with its values in, line by line.

use std::{collections::BTreeSet, fmt};

use super::{
    blank::is_blank,
    token::{Token, Values},
};

/// Says that what follows is the signature (RFC 3676, 4.3).
pub(super) const SIGNATURE: &str = "-- ";

/// A line with its values in.
#[derive(PartialEq, Eq)]
pub(super) enum Filled {
    /// Nothing; parts paragraphs.
    Blank,
    /// Words.
    Words(String),
    /// "When: Tuesday".
    Detail(String, String),
    /// "View appointment: https://…".
    Link(String, String),
}

/// All lines that stay.
pub(super) struct Fill<'a> {
    pub(super) lines: Vec<Filled>,
    /// Which lines of the source those are, without the blank ones.
    pub(super) kept: Vec<usize>,
    /// The names in tokens of the lines that stay, but for those below the signature.
    pub(super) shown: BTreeSet<&'a str>,
    /// The names in tokens of the lines that are left out.
    pub(super) dropped: BTreeSet<&'a str>,
}

impl Fill<'_> {
    /// With each line as words, as whoever wrote it to everybody left it: nothing becomes a table.
    pub(super) fn in_prose(mut self) -> Self {
        for line in &mut self.lines {
            if matches!(line, Filled::Detail(..)) {
                *line = Filled::Words(line.to_string());
            }
        }
        self
    }

    /// Whether nothing is said above the signature.
    pub(super) fn is_blank(&self) -> bool {
        self.lines.iter().take_while(|line| !line.is_signature()).all(|line| is_blank(&line.to_string()))
    }

    /// Whether something that the message is about had a value and was left out with its line.
    pub(super) fn lacks_the_matter(&self, values: &Values) -> bool {
        let lost = self.dropped.difference(&self.shown);
        lost.filter_map(|name| Token::named(name)).any(|token| token.is_the_matter() && !is_blank(values.get(token)))
    }

    /// Whether all values that `other` shows are shown here as well.
    pub(super) fn says_all_of(&self, other: &Self, values: &Values) -> bool {
        other.shown.iter().all(|name| self.shown.contains(name) || !values.has(name))
    }
}

impl Filled {
    pub(super) fn is_signature(&self) -> bool {
        matches!(self, Self::Words(words) if words == SIGNATURE)
    }
}

/// Ends a mail with who wrote it, as far as that does not stand below the signature yet: there it is in both parts of the mail,
/// whatever the wording (16 CFR 316; 15 USC 7704(a)(5)).
pub(super) fn sign(lines: &mut Vec<Filled>, values: &Values) {
    let at = lines.iter().position(Filled::is_signature);
    let below = joined(at.and_then(|at| lines.get(at..)).unwrap_or_default());
    let sender = [Token::LegalName, Token::PostalAddress, Token::PracticePhone].map(|token| values.get(token));
    let missing: Vec<_> = sender.into_iter().filter(|value| !is_blank(value) && !names(&below, value)).collect();
    if at.is_none() && !missing.is_empty() {
        begin_signature(lines);
    }
    lines.extend(missing.into_iter().map(|value| Filled::Words(value.to_owned())));
}

/// Whether `value` stands in `text` as words of its own.
fn names(text: &str, value: &str) -> bool {
    text.match_indices(value).any(|(at, found)| {
        let around = [
            text.get(..at).and_then(|it| it.chars().next_back()),
            text.get(at + found.len()..).and_then(|it| it.chars().next()),
        ];
        around.into_iter().flatten().all(|c| !c.is_alphanumeric())
    })
}

/// Ends a mail with the link by which its reader unsubscribes, below the signature.
pub(super) fn sign_off(lines: &mut Vec<Filled>, label: &str, address: &str) {
    if !lines.iter().any(Filled::is_signature) {
        begin_signature(lines);
    }
    lines.push(Filled::Link(label.to_owned(), address.to_owned()));
}

fn begin_signature(lines: &mut Vec<Filled>) {
    lines.extend([Filled::Blank, Filled::Words(SIGNATURE.to_owned())]);
}

/// The lines as one text.
pub(super) fn joined(lines: &[Filled]) -> String {
    lines.iter().map(Filled::to_string).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => Ok(()),
            Self::Words(words) => f.write_str(words),
            Self::Detail(label, value) | Self::Link(label, value) => write!(f, "{label}: {value}"),
        }
    }
}
