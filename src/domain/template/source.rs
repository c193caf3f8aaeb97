//! Wording with tokens: liquid without block tags, compiled line by line. Source, nesting and output are bounded, and a
//! line in which a token has no value is left out whole, so that nothing is ever rendered blank.

mod line;
mod scan;

use std::{collections::BTreeSet, fmt};

use line::{Line, Part, Trial};

use super::{
    filled::{Fill, Filled, joined},
    html,
    token::{Token, TokenClass, Values},
};

/// The longest source, in bytes.
pub const LONGEST_SOURCE: usize = 16 * 1024;
/// The longest output, in bytes.
pub(super) const LONGEST_OUTPUT: usize = 100 * 1024;

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
    /// A filter puts words of its own in the place of what it cuts off.
    #[error("truncate may only put dots in the place of what it leaves out, two or more or none")]
    Ellipsis,
    /// Something stands against the link.
    #[error(
        "{{{{link}}}} must stand by itself: with a space or a line break before and behind it, or a bracket, and behind it a full stop or the like"
    )]
    GluedLink,
    /// A token in one brace, or in three.
    #[error("a token has two braces on each side, as {{{{first_name}}}}")]
    Braces,
    /// HTML of too many elements.
    #[error("the HTML must have at most 1,000 elements")]
    Elements,
    /// HTML of elements too deep in one another.
    #[error("the HTML must have its elements at most 64 deep in one another")]
    Nested,
    /// HTML of elements that end in another order than they begin.
    #[error("the HTML must end b, i, a and the like within the element in which they begin")]
    Misnested,
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

    /// Compiles HTML: the same, within the bounds of what is done with it afterwards. It says what stands in its words or as the
    /// address of a link, and not what only a tooltip has.
    ///
    /// # Errors
    /// As [`compile`](Self::compile), and `Elements`, `Nested`, `Misnested`.
    pub(super) fn compile_html(
        source: &str,
        classes: &'static [TokenClass],
        variables: &[String],
    ) -> Result<Self, TemplateError> {
        let mut template = Self::compile(source, classes, variables)?;
        let numbered = template.numbered();
        html::within_bounds(&numbered).map_err(|(line, fault)| TemplateError { line, fault })?;
        let said = html::said(&numbered);
        let mut place = 0;
        for line in &mut template.lines {
            line.said.clear();
            for part in &line.parts {
                let Part::Token { words, .. } = part else { continue };
                if said.contains(&place) {
                    line.said.extend(words.iter().cloned());
                }
                place += 1;
            }
        }
        Ok(template)
    }

    /// Every line that [`compile`](Self::compile) would refuse.
    pub(super) fn faults(source: &str, classes: &'static [TokenClass], variables: &[String]) -> Vec<TemplateError> {
        read(source, classes, variables).1
    }

    /// Whether the token or variable of that name stands in it.
    pub(super) fn names(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.words.contains(name))
    }

    /// Whether it says what the token or variable of that name stands for.
    pub(super) fn says(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.said.contains(name))
    }

    /// The source with [`html::place`] of its number in the place of each token.
    pub(super) fn numbered(&self) -> String {
        let mut number = 0;
        let mut numbered = |part: &Part| match part {
            Part::Text(text) => text.chars().filter(|c| html::number(*c).is_none()).collect(),
            Part::Token { .. } => {
                number += 1;
                html::place(number - 1).to_string()
            }
        };
        let line = |line: &Line| line.parts.iter().map(&mut numbered).collect::<String>();
        self.lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The numbers of the tokens that have the link in them.
    pub(super) fn links(&self) -> BTreeSet<usize> {
        let tokens = self.lines.iter().flat_map(|line| &line.parts).filter_map(|part| match part {
            Part::Token { words, .. } => Some(words.contains(Token::Link.name())),
            Part::Text(_) => None,
        });
        tokens.enumerate().filter_map(|(number, link)| link.then_some(number)).collect()
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
            match line.fill(&values, escape, &mut length).map_err(at_line)? {
                // One blank line parts two paragraphs, however many were left out between them.
                Some(Filled::Blank) if matches!(fill.lines.last(), None | Some(Filled::Blank)) => {}
                Some(Filled::Blank) => fill.lines.push(Filled::Blank),
                Some(filled) => {
                    signed |= filled.is_signature();
                    if !signed {
                        fill.shown.extend(line.said.iter().map(String::as_str));
                    }
                    fill.lines.push(filled);
                    fill.kept.push(index);
                }
                None => fill.dropped.extend(line.words.iter().map(String::as_str)),
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
