//! A run of words in HTML. The practice's name is read in its own direction whatever stands around it, so that a Hebrew or Arabic
//! one turns nothing else around (Unicode's UAX #9, isolates); telephone numbers and times of day stay on one line.

use std::cmp::Reverse;

use crate::domain::template::source::escape_html;

/// What is known of the words.
pub(super) struct Run<'a> {
    /// What the practice is called.
    pub(super) names: [&'a str; 2],
    /// Its number, as people write it; may be empty.
    pub(super) phone: &'a str,
}

impl Run<'_> {
    /// The words as HTML. Names are found before anything is escaped: one of them may look like a part of an escape.
    pub(super) fn html(&self, text: &str) -> String {
        let (mut html, mut done) = (String::new(), 0);
        for (start, end) in self.named(text) {
            html.push_str(&self.plain(text.get(done..start).unwrap_or_default()));
            html.push_str(&format!("<bdi>{}</bdi>", escape_html(text.get(start..end).unwrap_or_default())));
            done = end;
        }
        html.push_str(&self.plain(text.get(done..).unwrap_or_default()));
        html
    }

    /// Words that stand by themselves, and are read in their own direction.
    pub(super) fn apart(&self, text: &str) -> String {
        let html = self.html(text);
        if self.names.contains(&text) { html } else { format!("<bdi>{html}</bdi>") }
    }

    /// Where the practice is named by words of their own, from the first; of two names that begin alike the longer one counts.
    fn named(&self, text: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for name in self.names.into_iter().filter(|name| !name.is_empty()) {
            let places = text.match_indices(name).map(|(start, name)| (start, start + name.len()));
            found.extend(places.filter(|(start, end)| {
                let before = text.get(..*start).and_then(|before| before.chars().next_back());
                let behind = text.get(*end..).and_then(|behind| behind.chars().next());
                !before.into_iter().chain(behind).any(char::is_alphanumeric)
            }));
        }
        found.sort_unstable_by_key(|(start, end)| (*start, Reverse(*end)));
        let mut free = 0;
        found.retain(|(start, end)| {
            let fits = *start >= free;
            if fits {
                free = *end;
            }
            fits
        });
        found
    }

    /// Words without a name.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if self.phone.contains(' ') {
            text = text.replace(self.phone, &self.phone.replace(' ', NO_BREAK));
        }
        escape_html(&with_clocks(&text)).replace(NO_BREAK, "&nbsp;")
    }
}

const NO_BREAK: &str = "\u{a0}";

/// With "2:30 PM" in one piece.
fn with_clocks(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let is_clock = character == ' ' && {
            let behind = text.get(at + 1..).unwrap_or_default();
            let mark = behind.strip_prefix("AM").or_else(|| behind.strip_prefix("PM"));
            let ends = mark.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
            ends && text.get(..at).is_some_and(|before| before.ends_with(|c: char| c.is_ascii_digit()))
        };
        if is_clock { whole.push_str(NO_BREAK) } else { whole.push(character) }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(name: &str, text: &str) -> String {
        Run { names: [name, "Acme, PLLC"], phone: "(202) 555-0142" }.html(text)
    }

    #[test]
    fn a_name_stands_apart_and_only_where_it_is_a_name() {
        for (name, text, expected) in [
            ("Acme", "Acme wrote.", "<bdi>Acme</bdi> wrote."),
            ("Acme", "By Acme, PLLC and Acme", "By <bdi>Acme, PLLC</bdi> and <bdi>Acme</bdi>"),
            ("Acme", "Acmeville, preAcme", "Acmeville, preAcme"),
            (
                "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
                "Call \u{5e9}\u{5dc}\u{5d5}\u{5dd} 24/7",
                "Call <bdi>\u{5e9}\u{5dc}\u{5d5}\u{5dd}</bdi> 24/7",
            ),
            // What looks like a part of an escape is none.
            ("amp", "A & amp; <b>", "A &amp; <bdi>amp</bdi>; &lt;b&gt;"),
            ("lt", "<lt>", "&lt;<bdi>lt</bdi>&gt;"),
            ("<b>", "x <b> y", "x <bdi>&lt;b&gt;</bdi> y"),
            ("", "nothing", "nothing"),
        ] {
            assert_eq!(html(name, text), expected);
        }
    }

    #[test]
    fn numbers_and_times_stay_on_their_line() {
        for (text, expected) in [
            ("Call (202) 555-0142.", "Call (202)&nbsp;555-0142."),
            ("March 3 at 2:30 PM EST", "March 3 at 2:30&nbsp;PM EST"),
            ("a las 9:05 AM", "a las 9:05&nbsp;AM"),
            ("5 PMs, 5 AMY, I AM", "5 PMs, 5 AMY, I AM"),
            ("Room 5 AM", "Room 5&nbsp;AM"),
            ("a\u{a0}b", "a&nbsp;b"),
        ] {
            assert_eq!(html("Acme", text), expected);
        }
    }
}
