//! Wording with tokens: liquid without block tags, compiled line by line. Source, nesting and output are bounded, and a
//! line in which a token has no value is left out whole, so that nothing is ever rendered blank.

mod scan;

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use liquid::{Object, Parser, ParserBuilder};

use scan::{changes_the_link, has_bad_number, token_length, unquoted, words_of};

use super::{
    blank::is_blank,
    filled::{Fill, Filled, SIGNATURE, joined},
    token::{TokenClass, Values},
};

/// The longest source, in bytes.
pub const LONGEST_SOURCE: usize = 16 * 1024;
/// The longest output, in bytes.
const LONGEST_OUTPUT: usize = 100 * 1024;

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
    /// A number that is negative or far too large.
    #[error("a number in a token must be from 0 to 999999999")]
    Number,
    /// A filter that changes the link.
    #[error("{{{{link}}}} may only have the filter default: another would break the address")]
    ChangedLink,
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
}

/// A line, and whether it is a label, a colon and one token.
struct Line {
    parts: Vec<Part>,
    labelled: Option<Labelled>,
    /// The words in its tokens: names of tokens and variables among them.
    words: BTreeSet<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Labelled {
    Detail,
    Link,
}

enum Part {
    Text(String),
    Token {
        compiled: liquid::Template,
        /// It is the link and nothing else.
        link: bool,
    },
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
        self.lines.iter().any(|line| line.words.contains(name))
    }

    /// The words in the tokens above the signature: names of tokens and variables among them.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().take_while(|line| !line.is_signature()).flat_map(|line| &line.words).map(String::as_str)
    }

    /// The source of these lines of it, with `token` in the place of each token; it is told whether that is the link.
    /// `around` stands before and after each line that has a token.
    pub(super) fn skeleton<'a>(
        &'a self,
        lines: impl Iterator<Item = usize> + 'a,
        around: &'a str,
        token: impl Fn(bool) -> &'static str + 'a,
    ) -> String {
        let line = |line: &Line| {
            let parts = line.parts.iter().map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Token { link, .. } => token(*link),
            });
            let parts: String = parts.collect();
            if line.has_token() { format!("{around}{parts}{around}") } else { parts }
        };
        lines.filter_map(|at| self.lines.get(at)).map(line).collect::<Vec<_>>().join("\n")
    }

    /// How many lines it has.
    pub(super) const fn len(&self) -> usize {
        self.lines.len()
    }

    /// Each line that is left out without one of `names`, by its number from 1, with that name.
    pub(super) fn hanging_on<'a>(&self, values: &Values, names: &[&'a str]) -> Vec<(usize, &'a str)> {
        let mut found = Vec::new();
        for name in names {
            let without = values.without(name).within(self.classes);
            let hangs = |line: &Line| {
                line.labelled.is_none()
                    && line.words.contains(*name)
                    && line.fill(&without, Escape::None, &mut 0).is_ok_and(|filled| filled.is_none())
            };
            found.extend(self.lines.iter().enumerate().filter(|(_, line)| hangs(line)).map(|(at, _)| (at + 1, *name)));
        }
        found
    }

    /// Fills the values in. A line in which a token comes out empty is left out, and with it the blank lines that it
    /// leaves behind.
    ///
    /// # Errors
    /// `OutputTooLong`.
    pub fn render(&self, values: &Values, escape: Escape) -> Result<String, TemplateError> {
        let text = joined(&self.fill(values, escape)?.lines);
        Ok(if self.single_line { text.replace('\n', " ") } else { text })
    }

    /// Fills the values in and keeps the lines apart.
    pub(super) fn fill(&self, values: &Values, escape: Escape) -> Result<Fill<'_>, TemplateError> {
        let values = values.within(self.classes);
        let mut fill = Fill { lines: Vec::new(), kept: Vec::new(), shown: BTreeSet::new(), dropped: BTreeSet::new() };
        let (mut length, mut signed) = (0, false);
        for (index, line) in self.lines.iter().enumerate() {
            let at_line = |fault| TemplateError { line: index + 1, fault };
            let words = line.words.iter().map(String::as_str);
            match line.fill(&values, escape, &mut length).map_err(at_line)? {
                // One blank line parts two paragraphs, however many were left out between them.
                Some(Filled::Blank) if matches!(fill.lines.last(), None | Some(Filled::Blank)) => {}
                Some(Filled::Blank) => fill.lines.push(Filled::Blank),
                Some(line) => {
                    signed |= line.is_signature();
                    if !signed {
                        fill.shown.extend(words);
                    }
                    fill.lines.push(line);
                    fill.kept.push(index);
                }
                None => fill.dropped.extend(words),
            }
        }
        if fill.lines.last() == Some(&Filled::Blank) {
            fill.lines.pop();
        }
        Ok(fill)
    }
}

/// Compiles line by line, and goes on after one that cannot be used.
fn read(source: &str, classes: &'static [TokenClass], variables: &[String]) -> (Template, Vec<TemplateError>) {
    let mut template = Template { lines: Vec::new(), classes, single_line: false };
    if source.len() > LONGEST_SOURCE {
        return (template, vec![TemplateError { line: 1, fault: Fault::SourceTooLong }]);
    }
    let sample = Values::sample(variables);
    let trial = Trial { all: sample.within(TokenClass::ALL), permitted: sample.within(classes) };
    let mut faults = Vec::new();
    for (index, line) in source.lines().enumerate() {
        match Line::compile(line, &trial) {
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
    fn compile(source: &str, trial: &Trial) -> Result<Self, Fault> {
        if source.contains("{%") {
            return Err(Fault::Block);
        }
        let (mut parts, mut rest, mut words) = (Vec::new(), source, BTreeSet::new());
        while let Some((text, from_token)) = rest.find("{{").and_then(|at| rest.split_at_checked(at)) {
            let (token, after) = from_token.split_at_checked(token_length(from_token)?).ok_or(Fault::Unclosed)?;
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            let unquoted = unquoted(token);
            let link = token.trim_matches(['{', '}', ' ']) == "link";
            parts.push(Part::Token { compiled: compile_token(token, &unquoted, trial)?, link });
            words.extend(words_of(&unquoted).map(str::to_owned));
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
        Ok(Self { parts, labelled, words })
    }

    fn has_token(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Token { .. }))
    }

    fn is_signature(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Text(text)] if text == SIGNATURE)
    }

    /// The line with its values, or nothing if one of them is empty. `length` grows by what was written.
    fn fill(&self, values: &Object, escape: Escape, length: &mut usize) -> Result<Option<Filled>, Fault> {
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
    let parser = PARSER.as_ref().map_err(|_| Fault::Unreadable)?;
    let compiled = parser.parse(token).map_err(|_| Fault::Unreadable)?;
    // liquid cannot say which tokens are used, but it fails on those it is not given.
    compiled.render(&trial.all).map_err(|_| Fault::Unknown)?;
    compiled.render(&trial.permitted).map_err(|_| Fault::Forbidden)?;
    Ok(compiled)
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

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("lines", &self.lines.len()).field("classes", &self.classes).finish()
    }
}

#[cfg(test)]
mod tests;
