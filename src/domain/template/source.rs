//! Wording with tokens: liquid without block tags, compiled line by line. Source, nesting and output are bounded, and a
//! line in which a token has no value is left out whole, so that nothing is ever rendered blank.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use liquid::{Object, Parser, ParserBuilder};

use super::token::{TokenClass, Values};

/// The longest source, in bytes.
pub const LONGEST_SOURCE: usize = 16 * 1024;
/// The longest output, in bytes.
const LONGEST_OUTPUT: usize = 100 * 1024;
/// Brackets recurse in liquid's parser; a deep enough nest of them would end the process.
const MOST_BRACKETS: usize = 16;

/// Says that what follows is the signature (RFC 3676, 4.3).
pub(super) const SIGNATURE: &str = "-- ";

/// The wording cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct TemplateError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The source is longer than 16 KiB.
    #[error("the text must be at most 16 KiB long")]
    SourceTooLong,
    /// A subject goes over more than one line.
    #[error("a subject must be a single line")]
    LineBreak,
    /// `{% … %}`.
    #[error("there are no conditions or loops; use tokens such as {{{{first_name}}}}")]
    Block,
    /// `{{` without `}}` on the same line.
    #[error("a token is not closed; end it with }}}} on the same line")]
    Unclosed,
    /// `{{-` or `-}}`.
    #[error("write a token as {{{{first_name}}}}, without dashes inside the braces")]
    Dash,
    /// Too many `[` in one token.
    #[error("a token has too many brackets")]
    Brackets,
    /// Not liquid, or a filter that is not on the list.
    #[error("a token cannot be read; the filters are default, capitalize, upcase, downcase, strip and truncate")]
    Unreadable,
    /// A token that does not exist, or a filter with an argument that it cannot use.
    #[error("a token is unknown, or its filter cannot be used like this")]
    Unknown,
    /// A token that this channel must not hold.
    #[error("a token gives away more than this channel may hold")]
    Forbidden,
    /// The filled-in text is longer than 100 KiB.
    #[error("the text is too long when filled in")]
    OutputTooLong,
}

/// How values are put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As they are.
    None,
    /// So that they make no markup; their line ends become `<br>`. The text around them is taken as HTML.
    Html,
}

/// Wording, compiled and checked for one place.
pub struct Template {
    lines: Vec<Line>,
    classes: &'static [TokenClass],
    single_line: bool,
    /// The words in its tokens: names of tokens and variables among them.
    words: BTreeSet<String>,
}

/// A line, and whether it is a label, a colon and one token.
struct Line {
    parts: Vec<Part>,
    labelled: Option<Labelled>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Labelled {
    Detail,
    Link,
}

enum Part {
    Text(String),
    Token(liquid::Template),
}

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

impl Template {
    /// Compiles wording for a place that may hold tokens of `classes`, with these variables beside them, and tries it with
    /// invented values.
    ///
    /// # Errors
    /// The first line that cannot be used, and why.
    pub fn compile(source: &str, classes: &'static [TokenClass], variables: &[String]) -> Result<Self, TemplateError> {
        let (template, faults) = read(source, classes, variables);
        faults.first().map_or(Ok(template), |fault| Err(*fault))
    }

    /// Compiles a subject: the same, on a single line.
    ///
    /// # Errors
    /// As [`compile`](Self::compile), and `LineBreak`.
    pub fn compile_subject(
        source: &str,
        classes: &'static [TokenClass],
        variables: &[String],
    ) -> Result<Self, TemplateError> {
        if source.contains(['\r', '\n']) {
            return Err(TemplateError { line: 1, fault: Fault::LineBreak });
        }
        Ok(Self { single_line: true, ..Self::compile(source, classes, variables)? })
    }

    /// Every line that [`compile`](Self::compile) would refuse.
    pub(super) fn faults(source: &str, classes: &'static [TokenClass], variables: &[String]) -> Vec<TemplateError> {
        read(source, classes, variables).1
    }

    /// Whether the token or variable of that name stands in it.
    pub(super) fn names(&self, name: &str) -> bool {
        self.words.contains(name)
    }

    /// Goes on with the lines of `more`.
    pub(super) fn extend(&mut self, more: Self) {
        self.lines.extend(more.lines);
        self.words.extend(more.words);
    }

    /// Fills the values in. A line in which a token comes out empty is left out, and with it the blank lines that it
    /// leaves behind.
    ///
    /// # Errors
    /// `OutputTooLong`.
    pub fn render(&self, values: &Values, escape: Escape) -> Result<String, TemplateError> {
        let text = joined(&self.fill(values, escape)?);
        Ok(if self.single_line { text.replace('\n', " ") } else { text })
    }

    /// Fills the values in and keeps the lines apart.
    pub(super) fn fill(&self, values: &Values, escape: Escape) -> Result<Vec<Filled>, TemplateError> {
        let values = values.within(self.classes);
        let (mut filled, mut length) = (Vec::new(), 0);
        for (index, line) in self.lines.iter().enumerate() {
            let at_line = |fault| TemplateError { line: index + 1, fault };
            match line.fill(&values, escape, &mut length).map_err(at_line)? {
                // One blank line parts two paragraphs, however many were left out between them.
                Some(Filled::Blank) if matches!(filled.last(), None | Some(Filled::Blank)) => {}
                Some(line) => filled.push(line),
                None => {}
            }
        }
        if filled.last() == Some(&Filled::Blank) {
            filled.pop();
        }
        Ok(filled)
    }
}

/// Compiles line by line, and goes on after one that cannot be used.
fn read(source: &str, classes: &'static [TokenClass], variables: &[String]) -> (Template, Vec<TemplateError>) {
    let mut template = Template { lines: Vec::new(), classes, single_line: false, words: BTreeSet::new() };
    if source.len() > LONGEST_SOURCE {
        return (template, vec![TemplateError { line: 1, fault: Fault::SourceTooLong }]);
    }
    let sample = Values::sample(variables);
    let trial = Trial { all: sample.within(TokenClass::ALL), permitted: sample.within(classes) };
    let mut faults = Vec::new();
    for (index, line) in source.lines().enumerate() {
        match Line::compile(line, &trial, &mut template.words) {
            Ok(line) => template.lines.push(line),
            Err(fault) => faults.push(TemplateError { line: index + 1, fault }),
        }
    }
    (template, faults)
}

/// Invented values to try tokens with: all there are, and those that the place may hold.
struct Trial {
    all: Object,
    permitted: Object,
}

impl Line {
    /// Each token becomes a liquid template of its own, so that what it yields can be escaped whole, whatever its
    /// filters did.
    fn compile(source: &str, trial: &Trial, words: &mut BTreeSet<String>) -> Result<Self, Fault> {
        if source.contains("{%") {
            return Err(Fault::Block);
        }
        let (mut parts, mut rest, mut last) = (Vec::new(), source, "");
        while let Some((text, from_token)) = rest.find("{{").and_then(|at| rest.split_at_checked(at)) {
            let (token, after) = from_token.split_at_checked(token_length(from_token)?).ok_or(Fault::Unclosed)?;
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            parts.push(Part::Token(compile_token(token, trial)?));
            words.extend(unquoted_words(token));
            (rest, last) = (after, token);
        }
        let labelled = match parts.as_slice() {
            [.., Part::Text(label), Part::Token(_)] if rest.is_empty() && label.ends_with(": ") => {
                Some(if last.trim_matches(['{', '}', ' ']) == "link" { Labelled::Link } else { Labelled::Detail })
            }
            _ => None,
        };
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts, labelled })
    }

    /// The line with its values, or nothing if one of them is empty. `length` grows by what was written.
    fn fill(&self, values: &Object, escape: Escape, length: &mut usize) -> Result<Option<Filled>, Fault> {
        let (mut before, mut latest) = (String::new(), String::new());
        for part in &self.parts {
            before.push_str(&latest);
            latest = match part {
                Part::Text(text) => text.clone(),
                Part::Token(token) => {
                    let value = token.render(values).map_err(|_| Fault::Unknown)?;
                    if value.trim().is_empty() {
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

/// Where the token at the start of `text` ends. Quotes hide braces, as in liquid's grammar, which knows no escapes inside
/// them. Where the two should ever disagree, the token does not parse: a mistake is seen, and injects nothing.
fn token_length(text: &str) -> Result<usize, Fault> {
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

/// The words in a token that stand outside of quotes.
fn unquoted_words(token: &str) -> impl Iterator<Item = String> {
    let mut quote = None;
    let unquoted: String = token
        .chars()
        .map(|c| match quote {
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
        })
        .collect();
    let words: Vec<_> = unquoted.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned).collect();
    words.into_iter().filter(|word| !word.is_empty())
}

fn compile_token(token: &str, trial: &Trial) -> Result<liquid::Template, Fault> {
    static PARSER: LazyLock<Result<Parser, liquid::Error>> = LazyLock::new(|| {
        use liquid_lib::stdlib::{Capitalize, Default, Downcase, Strip, Truncate, Upcase};
        // None of these multiplies its input, reads a clock, or takes a value for a program.
        let filters = ParserBuilder::new().filter(Default).filter(Capitalize).filter(Upcase).filter(Downcase);
        filters.filter(Strip).filter(Truncate).build()
    });
    if token.starts_with("{{-") || token.ends_with("-}}") {
        return Err(Fault::Dash);
    }
    let parser = PARSER.as_ref().map_err(|_| Fault::Unreadable)?;
    let compiled = parser.parse(token).map_err(|_| Fault::Unreadable)?;
    // liquid cannot say which tokens are used, but it fails on those it is not given.
    compiled.render(&trial.all).map_err(|_| Fault::Unknown)?;
    compiled.render(&trial.permitted).map_err(|_| Fault::Forbidden)?;
    Ok(compiled)
}

/// Ends a mail with the link by which its reader unsubscribes, below the signature.
pub(super) fn sign_off(lines: &mut Vec<Filled>, label: &str, address: &str) {
    let signature = |line: &Filled| matches!(line, Filled::Words(words) if words == SIGNATURE);
    if !lines.iter().any(signature) {
        lines.extend([Filled::Blank, Filled::Words(SIGNATURE.to_owned())]);
    }
    lines.push(Filled::Link(label.to_owned(), address.to_owned()));
}

/// The lines as one text.
pub(super) fn joined(lines: &[Filled]) -> String {
    lines.iter().map(Filled::to_string).collect::<Vec<_>>().join("\n")
}

/// `text` as HTML that shows it, in an element or between quotes.
#[must_use]
pub fn escape_html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' => html.push_str("<br>"),
            other => html.push(other),
        }
    }
    html
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

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("lines", &self.lines.len()).field("classes", &self.classes).finish()
    }
}

#[cfg(test)]
mod tests;
