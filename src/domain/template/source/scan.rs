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

/// Whether what stands around the link would be taken for a part of it, or keep it from being found. No program that finds links in
/// text takes along white space, quotes or angle brackets (RFC 3986, appendix C), nor punctuation that ends a sentence or a bracket.
pub(super) fn glues(before: &str, behind: &str) -> bool {
    let parts = |c: char| c.is_whitespace() || "\"<>\u{201c}\u{ab}".contains(c);
    let opens =
        before.chars().next_back().is_none_or(|c| parts(c) || "([{'\u{2018}\u{bf}\u{a1}\u{ff08}\u{ff1a}".contains(c));
    let closing = ".,;:!?)]}'\u{2019}\u{2026}\u{bb}\u{201d}\u{3002}\u{ff09}";
    let ends = behind.chars().find(|c| !closing.contains(*c)).is_none_or(parts);
    !opens || !ends
}

/// What stands in one brace on each side.
pub(super) fn in_one_brace(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(inside, _)| inside.trim())
}

/// Whether `truncate` puts something else than dots in the place of what it leaves out. A single dot would make a host of a name
/// and what follows it.
pub(super) fn has_own_ellipsis(token: &str) -> bool {
    let filters = split(token, '|').into_iter().skip(1);
    let truncates = filters.filter(|filter| filter.trim_start().starts_with("truncate"));
    truncates.into_iter().filter_map(|filter| split(filter, ',').get(1).copied()).any(|ellipsis| {
        let ellipsis = ellipsis.trim().trim_end_matches(['}', ' ']);
        let inside = ['"', '\''].iter().find_map(|quote| ellipsis.strip_prefix(*quote)?.strip_suffix(*quote));
        inside.is_none_or(|inside| inside == "." || !inside.chars().all(|c| c == '.' || c == '\u{2026}'))
    })
}

/// The parts between signs that stand outside of quotes.
fn split(token: &str, sign: char) -> Vec<&str> {
    let mut quote = None;
    let parts = |c: char| match quote {
        Some(open) => {
            if c == open {
                quote = None;
            }
            false
        }
        None if matches!(c, '"' | '\'') => {
            quote = Some(c);
            false
        }
        None => c == sign,
    };
    token.split(parts).collect()
}
