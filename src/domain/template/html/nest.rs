//! Elements in one another, as far as it has to be known: which are open where something stands.

use html5ever::tokenizer::{Tag, TagKind};

/// Elements that hold nothing.
const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "image", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// The open elements, each with what is known of it.
pub(super) struct Nest<T>(Vec<(String, T)>);

impl<T> Nest<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The innermost one.
    pub(super) fn innermost(&self) -> Option<&T> {
        self.0.last().map(|(_, known)| known)
    }

    pub(super) const fn depth(&self) -> usize {
        self.0.len()
    }

    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|(_, known)| known)
    }

    /// Those that a tag ends, the innermost last: by its name, or because they have no end of their own before the like
    /// (HTML Standard, 13.1.2.4).
    pub(super) fn ended_by(&mut self, tag: &Tag) -> Vec<(String, T)> {
        let name = &*tag.name;
        let from = match tag.kind {
            TagKind::EndTag => self.0.iter().rposition(|(open, _)| open == name),
            TagKind::StartTag => self.implied(name),
        };
        self.0.split_off(from.unwrap_or(self.0.len()))
    }

    /// Begins the element of a start tag, if it can hold something.
    pub(super) fn begin(&mut self, tag: &Tag, known: T) {
        if !VOID.contains(&&*tag.name) {
            self.0.push((tag.name.to_string(), known));
        }
    }

    pub(super) fn end_all(&mut self) -> Vec<(String, T)> {
        std::mem::take(&mut self.0)
    }

    fn implied(&self, name: &str) -> Option<usize> {
        let ends: &[&[&str]] = match name {
            "li" => &[&["li"]],
            "p" => &[&["p"]],
            "td" | "th" => &[&["td", "th"]],
            "tr" => &[&["td", "th"], &["tr"]],
            "tbody" | "thead" | "tfoot" => &[&["td", "th"], &["tr"], &["tbody", "thead", "tfoot"]],
            _ => &[],
        };
        let mut left = self.0.len();
        for ended in ends {
            let last = left.checked_sub(1).and_then(|at| self.0.get(at));
            if last.is_some_and(|(open, _)| ended.contains(&open.as_str())) {
                left -= 1;
            }
        }
        Some(left)
    }
}
