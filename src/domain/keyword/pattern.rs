//! Patterns over words: a small language for grammars that are data.
//!
//! A pattern is a row of elements, each of which takes one word: `stop`, `stop|quit` (one of them), `<class>` (one of a named
//! class). `?` before it: may be missing. `*3`: up to three words of any kind. `^` and `$`: the clause
//! begins or ends here. `¿`: it is a question (only in what says otherwise).

/// The last word of a question, for what says otherwise.
const QUESTION: &str = "¿";

/// A clause: its words, and whether a question mark ends it.
#[derive(Clone, Debug)]
pub(super) struct Clause {
    words: Vec<String>,
    asked: bool,
}

/// A grammar of one language.
pub(super) struct Language {
    /// Words that are read as others, `|` between them: contractions, abbreviations and misspellings.
    pub(super) same: &'static [(&'static str, &'static str)],
    /// Classes of words by name.
    pub(super) classes: &'static [(&'static str, &'static str)],
    /// What asks to stop, whatever else the clause says.
    pub(super) always: &'static [&'static str],
    /// What asks to stop unless the clause says otherwise.
    pub(super) asks: &'static [&'static str],
    /// What says otherwise.
    pub(super) unless: &'static [&'static str],
    /// What asks to stop as the whole of a text that is no question, but for [`Self::around`]: elsewhere it may mean anything.
    pub(super) whole: &'static [&'static str],
    /// The same, also of a question.
    pub(super) whole_question: &'static [&'static str],
    /// Words that change nothing before and after a whole text.
    pub(super) around: &'static str,
    /// What takes a request back, after it.
    pub(super) back: &'static [&'static str],
    /// A clause of nothing but these words, with one of [`Self::bare`] among them, asks to stop.
    pub(super) bare: &'static str,
    pub(super) polite: &'static str,
}

impl Clause {
    pub(super) const fn new(words: Vec<String>, asked: bool) -> Self {
        Self { words, asked }
    }
}

impl Language {
    /// Whether the clause asks to stop.
    pub(super) fn asks(&self, clause: &Clause) -> bool {
        let words = self.read(&clause.words);
        let any = |patterns| self.finds_any(patterns, &words);
        let asks = any(self.asks) || self.is_bare(&words, clause.asked);
        let otherwise = || {
            let mark = clause.asked.then_some(QUESTION);
            self.finds_any(self.unless, &words.iter().copied().chain(mark).collect::<Vec<_>>())
        };
        any(self.always) || (asks && !otherwise())
    }

    /// Whether the text of these clauses asks to stop as a whole.
    pub(super) fn asks_as_whole(&self, clauses: &[Clause]) -> bool {
        let words = self.read_all(clauses);
        let counts = |word: &&str| !self.around.split(' ').any(|known| known == *word);
        let first = words.iter().position(counts).unwrap_or_default();
        let end = words.iter().rposition(counts).map_or(first, |last| last + 1);
        let whole = if clauses.iter().any(|clause| clause.asked) { &[] } else { self.whole };
        whole.iter().chain(self.whole_question).any(|pattern| {
            let elements: Vec<&str> = pattern.split(' ').chain(["$"]).collect();
            self.fits(&elements, words.get(first..end).unwrap_or_default())
        })
    }

    /// Whether these clauses take back the request before them.
    pub(super) fn takes_back(&self, clauses: &[Clause]) -> bool {
        self.finds_any(self.back, &self.read_all(clauses))
    }

    fn read_all<'a>(&self, clauses: &'a [Clause]) -> Vec<&'a str> {
        clauses.iter().flat_map(|clause| self.read(&clause.words)).collect()
    }

    /// The words, with those replaced that are read as others. Two that are read as one are tried first.
    fn read<'a>(&self, words: &'a [String]) -> Vec<&'a str> {
        let mut read = Vec::with_capacity(words.len());
        let mut rest = words.iter().map(String::as_str).peekable();
        let known = |from: &str, word: &str| from.split('|').any(|one| one == word);
        let same = |word: &str| self.same.iter().find(|(from, _)| known(from, word)).map(|(_, to)| *to);
        while let Some(word) = rest.next() {
            let two = rest.peek().and_then(|next| same(&format!("{word} {next}")));
            if two.is_some() {
                rest.next();
            }
            let word = two.or_else(|| same(word)).unwrap_or(word);
            read.extend(word.split(' '));
        }
        read
    }

    fn is_bare(&self, words: &[&str], asked: bool) -> bool {
        let is = |list: &str, word: &str| list.split(' ').any(|known| known == word);
        let all = words.iter().all(|word| is(self.bare, word) || is(self.polite, word));
        // A bare question asks whether somebody should stop, unless it is put to us.
        all && words.iter().any(|word| is(self.bare, word)) && (!asked || words.contains(&"you"))
    }

    fn finds_any(&self, patterns: &[&str], words: &[&str]) -> bool {
        patterns.iter().any(|pattern| self.finds(pattern, words))
    }

    fn finds(&self, pattern: &str, words: &[&str]) -> bool {
        let elements: Vec<&str> = pattern.split(' ').collect();
        let (anchored, elements) = match elements.split_first() {
            Some((&"^", rest)) => (true, rest),
            _ => (false, elements.as_slice()),
        };
        let starts = if anchored { 0..1 } else { 0..words.len().max(1) };
        starts.into_iter().any(|start| self.fits(elements, words.get(start..).unwrap_or_default()))
    }

    fn fits(&self, elements: &[&str], words: &[&str]) -> bool {
        let Some((element, rest)) = elements.split_first() else { return true };
        if *element == "$" {
            return words.is_empty();
        }
        if let Some(most) = element.strip_prefix('*') {
            let most = most.parse().unwrap_or(0_usize).min(words.len());
            return (0..=most).any(|skipped| self.fits(rest, words.get(skipped..).unwrap_or_default()));
        }
        let (may_be_missing, element) = element.strip_prefix('?').map_or((false, *element), |element| (true, element));
        let taken = words.split_first().is_some_and(|(word, after)| self.is(element, word) && self.fits(rest, after));
        taken || (may_be_missing && self.fits(rest, words))
    }

    fn is(&self, element: &str, word: &str) -> bool {
        element.split('|').any(|one| match one.strip_prefix('<').and_then(|name| name.strip_suffix('>')) {
            Some("digit") => word.starts_with(|c: char| c.is_ascii_digit()),
            Some(name) => {
                let class = self.classes.iter().find(|(known, _)| *known == name);
                class.is_some_and(|(_, words)| words.split(' ').any(|known| known == word))
            }
            None => one == word,
        })
    }

    /// Every class that a pattern names, for the test that there is one.
    #[cfg(test)]
    pub(super) fn unknown_classes(&self) -> Vec<&'static str> {
        let clauses = self.always.iter().chain(self.asks).chain(self.unless);
        let patterns = clauses.chain(self.whole).chain(self.whole_question).chain(self.back);
        let elements = patterns.flat_map(|pattern| pattern.split([' ', '|']));
        let named = elements.filter_map(|element| element.trim_start_matches('?').strip_prefix('<')?.strip_suffix('>'));
        named.filter(|name| *name != "digit" && !self.classes.iter().any(|(known, _)| known == name)).collect()
    }
}
