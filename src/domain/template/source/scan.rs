//! How a token is found in a line, and what liquid would trip over in it.

use super::Fault;

/// Brackets recurse in liquid's parser; a deep enough nest of them would end the process.
const MOST_BRACKETS: usize = 16;
/// A number of more digits than this is no length of a text.
const MOST_DIGITS: usize = 9;
/// What these filters make of an address leads elsewhere or nowhere.
const CHANGING: &[&str] = &["capitalize", "upcase", "downcase", "strip", "truncate"];

/// Where the token at the start of `text` ends. Quotes hide braces, as in liquid's grammar, which knows no escapes inside
/// them. Where the two should ever disagree, the token does not parse: a mistake is seen, and injects nothing.
pub(super) fn token_length(text: &str) -> Result<usize, Fault> {
    let (mut quote, mut brackets) = (None, 0);
    for (at, c) in text.char_indices().skip(2) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') if brackets == MOST_BRACKETS => return Err(Fault::Brackets),
            (None, '[') => brackets += 1,
            (None, '}') if text.get(at..at + 2) == Some("}}") => return Ok(at + 2),
            _ => {}
        }
    }
    Err(Fault::Unclosed)
}

/// A token with blanks in the place of what stands in quotes.
pub(super) fn unquoted(token: &str) -> String {
    let mut quote = None;
    let hide = |c: char| match quote {
        Some(open) => {
            if c == open {
                quote = None;
            }
            ' '
        }
        None if matches!(c, '"' | '\'') => {
            quote = Some(c);
            ' '
        }
        None => c,
    };
    token.chars().map(hide).collect()
}

pub(super) fn words_of(unquoted: &str) -> impl Iterator<Item = &str> {
    unquoted.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether there is a number that liquid would fail at: it reads 64 bits, and takes a length below 0 for a vast one.
pub(super) fn has_bad_number(unquoted: &str) -> bool {
    let mut runs = unquoted.split(|c: char| !c.is_ascii_digit());
    let negative = unquoted.match_indices('-').any(|(at, _)| {
        unquoted.get(at + 1..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
    });
    negative || runs.any(|run| run.len() > MOST_DIGITS)
}

/// Whether a filter makes something else of the link.
pub(super) fn changes_the_link(unquoted: &str) -> bool {
    let has = |wanted: &[&str]| words_of(unquoted).any(|word| wanted.contains(&word));
    has(&["link"]) && has(CHANGING)
}
