//! One line of wording: its words, its tokens, and what it comes to with values.

use std::{collections::BTreeSet, sync::LazyLock};

use liquid::{Object, Parser, ParserBuilder};

use super::{
    Escape, Fault, LONGEST_OUTPUT, escape_html,
    scan::{changes_the_link, glues, has_bad_number, has_own_ellipsis, in_one_brace, token_length, unquoted, words_of},
};
use crate::domain::template::{
    blank::is_blank,
    filled::{Filled, SIGNATURE},
    token::Token,
};

/// A line, and whether it is a label, a colon and one token.
pub(super) struct Line {
    pub(super) parts: Vec<Part>,
    pub(super) labelled: Option<Labelled>,
    /// The words in its tokens: names of tokens and variables among them.
    pub(super) words: BTreeSet<String>,
    /// Those of them that its reader learns of.
    pub(super) said: BTreeSet<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Labelled {
    Detail,
    Link,
}

pub(super) enum Part {
    Text(String),
    Token {
        compiled: liquid::Template,
        /// It is the link and nothing else.
        link: bool,
        /// The words in it.
        words: BTreeSet<String>,
    },
}

/// Invented values to try tokens with: all there are, and those that the place may hold.
pub(super) struct Trial {
    pub(super) all: Object,
    pub(super) permitted: Object,
}

impl Line {
    /// Each token becomes a liquid template of its own, so that what it yields can be escaped whole, whatever its
    /// filters did.
    pub(super) fn compile(source: &str, trial: &Trial) -> Result<Self, Fault> {
        if source.contains("{%") {
            return Err(Fault::Block);
        }
        let (mut parts, mut rest) = (Vec::new(), source);
        while let Some((text, from_token)) = rest.find("{{").and_then(|at| rest.split_at_checked(at)) {
            let (token, after) = from_token.split_at_checked(token_length(from_token)?).ok_or(Fault::Unclosed)?;
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            let unquoted = unquoted(token);
            let link = token.trim_matches(['{', '}', ' ']) == "link";
            let words = words_of(&unquoted).map(str::to_owned).collect();
            parts.push(Part::Token { compiled: compile_token(token, &unquoted, trial)?, link, words });
            rest = after;
        }
        let labelled = match parts.as_slice() {
            [.., Part::Text(label), Part::Token { link, .. }] if rest.is_empty() && label.ends_with(": ") => {
                Some(if *link { Labelled::Link } else { Labelled::Detail })
            }
            _ => None,
        };
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        check_around(&parts, trial)?;
        let words: BTreeSet<_> = parts.iter().flat_map(Part::words).cloned().collect();
        Ok(Self { parts, labelled, said: words.clone(), words })
    }

    pub(super) fn has_token(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Token { .. }))
    }

    pub(super) fn is_signature(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Text(text)] if text == SIGNATURE)
    }

    /// The line with its values, or nothing if one of them is empty. `length` grows by what was written.
    pub(super) fn fill(&self, values: &Object, escape: Escape, length: &mut usize) -> Result<Option<Filled>, Fault> {
        let (mut before, mut latest) = (String::new(), String::new());
        for part in &self.parts {
            before.push_str(&latest);
            latest = match part {
                Part::Text(text) => text.clone(),
                Part::Token { compiled, .. } => {
                    let value = compiled.render(values).map_err(|_| Fault::Unknown)?;
                    if is_blank(&value) {
                        return Ok(None);
                    }
                    if escape == Escape::Html { escape_html(&value) } else { value }
                }
            };
            *length += latest.len();
            if *length > LONGEST_OUTPUT {
                return Err(Fault::OutputTooLong);
            }
        }
        let label = || before.trim_end_matches(": ").to_owned();
        Ok(Some(match self.labelled {
            Some(Labelled::Detail) => Filled::Detail(label(), latest),
            Some(Labelled::Link) => Filled::Link(label(), latest),
            None if before.is_empty() && latest.trim().is_empty() => Filled::Blank,
            None => Filled::Words(before + &latest),
        }))
    }
}

impl Part {
    fn words(&self) -> impl Iterator<Item = &String> {
        let words = match self {
            Self::Token { words, .. } => Some(words),
            Self::Text(_) => None,
        };
        words.into_iter().flatten()
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Token { .. } => None,
        }
    }
}

/// Whether the text around the tokens leaves them what they are.
fn check_around(parts: &[Part], trial: &Trial) -> Result<(), Fault> {
    for (at, part) in parts.iter().enumerate() {
        let neighbours = [at.checked_sub(1), Some(at + 1)].map(|at| at.and_then(|at| parts.get(at)));
        match part {
            Part::Text(text) if in_one_brace(text).any(|name| trial.all.contains_key(name)) => {
                return Err(Fault::Braces);
            }
            Part::Text(_) => {}
            Part::Token { words, .. } => {
                let [before, behind] = neighbours.map(|part| part.map(|part| part.text().unwrap_or("x")));
                if before.is_some_and(|text| text.ends_with('{')) || behind.is_some_and(|text| text.starts_with('}')) {
                    return Err(Fault::Braces);
                }
                if words.contains(Token::Link.name()) && glues(before.unwrap_or_default(), behind.unwrap_or_default()) {
                    return Err(Fault::GluedLink);
                }
            }
        }
    }
    Ok(())
}

fn compile_token(token: &str, unquoted: &str, trial: &Trial) -> Result<liquid::Template, Fault> {
    static PARSER: LazyLock<Result<Parser, liquid::Error>> = LazyLock::new(|| {
        use liquid_lib::stdlib::{Capitalize, Default, Downcase, Strip, Truncate, Upcase};
        // None of these multiplies its input, reads a clock, or takes a value for a program.
        let filters = ParserBuilder::new().filter(Default).filter(Capitalize).filter(Upcase).filter(Downcase);
        filters.filter(Strip).filter(Truncate).build()
    });
    if token.starts_with("{{-") || token.ends_with("-}}") {
        return Err(Fault::Dash);
    }
    if has_bad_number(unquoted) {
        return Err(Fault::Number);
    }
    if changes_the_link(unquoted) {
        return Err(Fault::ChangedLink);
    }
    if has_own_ellipsis(token) {
        return Err(Fault::Ellipsis);
    }
    let parser = PARSER.as_ref().map_err(|_| Fault::Unreadable)?;
    let compiled = parser.parse(token).map_err(|_| Fault::Unreadable)?;
    // liquid cannot say which tokens are used, but it fails on those it is not given.
    compiled.render(&trial.all).map_err(|_| Fault::Unknown)?;
    compiled.render(&trial.permitted).map_err(|_| Fault::Forbidden)?;
    Ok(compiled)
}
