//! Where values stand in HTML, and what they make of it.

use std::{cell::RefCell, collections::BTreeSet};

use html5ever::{
    tendril::StrTendril,
    tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer},
};

use crate::domain::template::is_blank;

/// Stands for a value. The letter before makes a tag of it after `<`, and the blank ends an attribute that has no quotes.
pub(in crate::domain::template) const VALUE: &str = "x\u{e000} \u{e000}";
/// Stands for the link.
pub(in crate::domain::template) const LINK: &str = "x\u{e001} \u{e001}";
/// An element put before and after a line with values, which shows whether it begins and ends outside of tags.
pub(in crate::domain::template) const MARK: &str = "<hwline>";
const MARK_NAME: &str = "hwline";
/// The first character of the private plane 15.
const FIRST_PLACE: u32 = 0xf_0000;
/// Attributes that are read and do nothing.
const READ: &[&str] = &["title", "alt"];

/// What HTML consists of, besides text.
#[derive(Default)]
struct Parts(RefCell<Vec<(u64, Token)>>);

impl TokenSink for Parts {
    type Handle = ();

    fn process_token(&self, token: Token, line: u64) -> TokenSinkResult<()> {
        self.0.borrow_mut().push((line, token));
        TokenSinkResult::Continue
    }
}

pub(super) fn parts(html: &str) -> impl Iterator<Item = Token> {
    parts_by_line(html).into_iter().map(|(_, token)| token)
}

/// The parts, each with the line that it ends in, from 1.
pub(super) fn parts_by_line(html: &str) -> Vec<(u64, Token)> {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    let tokenizer = Tokenizer::new(Parts::default(), Default::default());
    // It pauses only where its sink asks it to, which this one never does.
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink.0.into_inner()
}

/// Whether values stand in `skeleton` only where they can do no harm: in text, as the whole address of a link, and between the
/// quotes of what is only read. Each line of it with a value has a [`MARK`] on both sides.
pub(in crate::domain::template) fn keeps_values_in_place(skeleton: &str) -> bool {
    let stands_well = |tag: &Tag| {
        let has_value = |text: &str| text.contains(['\u{e000}', '\u{e001}']);
        !has_value(&tag.name)
            && tag.attrs.iter().all(|attribute| {
                let (name, value) = (&*attribute.name.local, &*attribute.value);
                let place = READ.contains(&name) || (&*tag.name, name, value) == ("a", "href", LINK);
                !has_value(name) && !value.contains(MARK_NAME) && (!has_value(value) || place)
            })
    };
    let (mut marks, mut good) = (0, true);
    for token in parts(skeleton) {
        good &= match &token {
            Token::TagToken(tag) if &*tag.name == MARK_NAME => {
                marks += 1;
                tag.attrs.is_empty()
            }
            Token::TagToken(tag) => stands_well(tag),
            Token::CommentToken(text) => !text.contains(['\u{e000}', '\u{e001}']),
            _ => true,
        };
    }
    good && marks == skeleton.matches(MARK).count()
}

/// Whether `made`, with values in, has the elements and attributes of `as_seen`, which has [`VALUE`] and [`LINK`] in their place.
pub(in crate::domain::template) fn is_shaped_alike(made: &str, as_seen: &str, link: &str) -> bool {
    let tags = |html: &str| {
        let tag = |token| match token {
            // The lines of a value are parted by it.
            Token::TagToken(tag) if &*tag.name != "br" => Some(tag),
            _ => None,
        };
        parts(html).filter_map(tag).collect::<Vec<_>>()
    };
    let (made, as_seen) = (tags(made), tags(as_seen));
    made.len() == as_seen.len() && made.iter().zip(&as_seen).all(|(made, seen)| is_alike(made, seen, link))
}

fn is_alike(made: &Tag, seen: &Tag, link: &str) -> bool {
    let alike = |(made, seen): (&html5ever::Attribute, &html5ever::Attribute)| {
        let (name, value) = (&*made.name.local, &*made.value);
        made.name == seen.name
            && (made.value == seen.value
                || READ.contains(&name)
                || (name == "href" && &*seen.value == LINK && value == link))
    };
    (made.kind == seen.kind && made.name == seen.name)
        && made.attrs.len() == seen.attrs.len()
        && made.attrs.iter().zip(&seen.attrs).all(alike)
}

/// Stands for the token of that number, as one character of a private plane. Wording that has one itself loses it before.
pub(in crate::domain::template) fn place(number: usize) -> char {
    u32::try_from(number).ok().and_then(|number| char::from_u32(FIRST_PLACE + number)).unwrap_or(' ')
}

/// The number that `c` stands for.
pub(in crate::domain::template) fn number(c: char) -> Option<usize> {
    u32::from(c).checked_sub(FIRST_PLACE).filter(|number| *number < 0xffff).and_then(|it| usize::try_from(it).ok())
}

/// The numbers of the tokens that a reader learns of: those in text, or as the address of a link. One that is there twice was put
/// there by its author, as a reference to its character.
pub(in crate::domain::template) fn said(numbered: &str) -> BTreeSet<usize> {
    let (mut seen, mut said) = (BTreeSet::new(), BTreeSet::new());
    let mut look = |text: &str, tells: bool| {
        for number in text.chars().filter_map(number) {
            if seen.insert(number) && tells {
                said.insert(number)
            } else {
                said.remove(&number)
            };
        }
    };
    for token in parts(numbered) {
        match token {
            Token::CharacterTokens(text) => look(&text, true),
            Token::CommentToken(text) => look(&text, false),
            Token::TagToken(tag) => tag.attrs.iter().for_each(|attribute| {
                look(&attribute.value, (&*tag.name, &*attribute.name.local) == ("a", "href"));
            }),
            _ => {}
        }
    }
    said
}

/// The value of an attribute.
pub(super) fn attribute<'a>(tag: &'a Tag, name: &str) -> Option<&'a str> {
    let found = tag.attrs.iter().find(|attribute| &*attribute.name.local == name);
    found.map(|attribute| attribute.value.trim())
}

/// Whether `html` shows no text.
pub(in crate::domain::template) fn shows_nothing(html: &str) -> bool {
    parts(html).all(|token| !matches!(token, Token::CharacterTokens(text) if !is_blank(&text)))
}

/// The start tags of `html`.
pub(super) fn start_tags(html: &str) -> impl Iterator<Item = Tag> {
    parts(html).filter_map(|token| match token {
        Token::TagToken(tag) if tag.kind == TagKind::StartTag => Some(tag),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_text_in_quotes_that_are_read_and_as_a_whole_link() {
        let put = |line: &str| format!("{MARK}{line}{MARK}").replace("{v}", VALUE).replace("{l}", LINK);
        for good in
            ["<p>{v}</p>", "{v}<br>", "<a href=\"{l}\">{v}</a>", "<a href='{l}'>x</a>", "<p title=\"a {v} b\">x</p>"]
        {
            assert!(keeps_values_in_place(&put(good)), "{good}");
        }
        for bad in [
            "<a title={v} href=x>x</a>",
            "<a href={l}>x</a>",
            "<a href=\"https://{v}\">x</a>",
            "<a href=\"{v}\">x</a>",
            "<a href=\"{l}/x\">x</a>",
            "<p style=\"color:{v}\">x</p>",
            "<p align=\"{v}\">x</p>",
            "<p {v}>x</p>",
            "<{v}>x",
            "<p{v}>x</p>",
            "<!-- {v} -->",
            "<p title=\"{v}",
            "<p title='{v}'",
        ] {
            assert!(!keeps_values_in_place(&put(bad)), "{bad}");
        }
        let over_lines = format!("<p title=\"\n{MARK}{VALUE}{MARK}\n\">x</p>");
        assert!(!keeps_values_in_place(&over_lines));
    }

    #[test]
    fn a_value_that_makes_an_attribute_changes_the_shape() {
        let alike = |source: &str, value: &str| {
            let made = source.replace("{v}", value).replace("{l}", "https://x");
            is_shaped_alike(&made, &source.replace("{v}", VALUE).replace("{l}", LINK), "https://x")
        };
        assert!(alike("<p title=\"{v}\">{v} <a href=\"{l}\">x</a></p>", "one<br>two"));
        for bad in
            ["<p title={v}>x</p>", "<p style=\"color:{v}\">x</p>", "<a href=\"https://{v}\">x</a>", "<b{v}>x</b>"]
        {
            assert!(!alike(bad, "red align=right") && !alike(bad, "red"), "{bad}");
        }
    }

    #[test]
    fn a_tooltip_says_nothing_and_a_link_does() {
        let numbered = |html: &str| {
            said(&html.replace("{0}", &place(0).to_string()).replace("{1}", &place(1).to_string()))
                .into_iter()
                .collect()
        };
        let found: Vec<Vec<usize>> = [
            "<p>{0} <b>{1}</b></p>",
            "<a href=\"{0}\" title=\"{1}\">x</a>",
            "<p title=\"{0} {1}\">x</p>",
            "<p title=\"{0}\" title=\"{1}\">&#983040;</p>",
            "<!-- {0} --> {1}",
        ]
        .map(numbered)
        .into();
        assert_eq!(found, [vec![0, 1], vec![0], vec![], vec![], vec![1]]);
    }

    #[test]
    fn elements_alone_show_nothing() {
        assert!(shows_nothing("<p>&nbsp;<b>\u{200b}</b></p><br>"));
        assert!(!shows_nothing("<p>x</p>"));
    }
}
