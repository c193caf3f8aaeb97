//! Whether what HTML says is seen: the colour of each word on what is behind it, and its size, down the tree. A practice's own HTML
//! stands on a light ground whatever its reader prefers.

use std::collections::BTreeSet;

use html5ever::tokenizer::{Tag, TagKind, Token};

use super::{
    colour::Colour,
    nest::Nest,
    shape::{attribute, number, parts},
    style::{self, Size},
};
use crate::domain::template::is_blank;

/// The least contrast of letters (WCAG 2.2, 1.4.3: that of large ones).
const LEAST_CONTRAST: f32 = 3.0;
/// The least height of letters, in pixels.
const LEAST_SIZE: f32 = 9.0;
/// What stands in the frame without colours and sizes of its own.
const PLAIN: Look = Look {
    ink: Colour::new(0x1f, 0x2a, 0x37),
    ground: Colour::new(0xff, 0xff, 0xff),
    size: 16.0,
    anchor: Anchor::None,
    worded: false,
};
/// What mail programs colour links with.
const LINK_INK: Colour = Colour::new(0, 0, 0xee);

const FAINT: &str = "must have text in colours that are told from their background, a contrast of at least 3 to 1; \
                     a background is given by background-color or bgcolor";
const TINY: &str = "must have text of at least 9 pixels, also where one size is a part of another";
const MISLED: &str = "must not have {{link}} as the words of another address";
const WORDLESS: &str = "must have words in its links";

/// How an element shows what is in it.
#[derive(Clone, Copy)]
struct Look {
    ink: Colour,
    ground: Colour,
    size: f32,
    anchor: Anchor,
    /// Words were seen in it.
    worded: bool,
}

/// The link that something stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    None,
    /// The message's own.
    Own,
    Another,
}

/// What of `html` is not seen or misleads, as sentences. Each token is [`place`](super::place) of its number; those of `links` have
/// the link in them.
pub(in crate::domain::template) fn unseen(html: &str, links: &BTreeSet<usize>) -> BTreeSet<&'static str> {
    let (mut open, mut found) = (Nest::new(), BTreeSet::new());
    for token in parts(html) {
        match token {
            Token::TagToken(tag) => {
                found.extend(wordless(open.ended_by(&tag)));
                if tag.kind == TagKind::StartTag {
                    let look = look(&tag, *open.innermost().unwrap_or(&PLAIN), links);
                    open.begin(&tag, look);
                }
            }
            Token::CharacterTokens(text) if !is_blank(&text) => {
                open.each().for_each(|look| look.worded = true);
                let look = open.innermost().unwrap_or(&PLAIN);
                let has_link = || text.chars().filter_map(number).any(|number| links.contains(&number));
                found.extend((look.ink.contrast(look.ground) < LEAST_CONTRAST).then_some(FAINT));
                found.extend((look.size < LEAST_SIZE).then_some(TINY));
                found.extend((look.anchor == Anchor::Another && has_link()).then_some(MISLED));
            }
            _ => {}
        }
    }
    found.extend(wordless(open.end_all()));
    found
}

/// Whether a link to the message's own address ended without a word to press.
fn wordless(ended: Vec<(String, Look)>) -> Option<&'static str> {
    let is_it = |(name, look): &(String, Look)| name == "a" && look.anchor == Anchor::Own && !look.worded;
    ended.iter().any(is_it).then_some(WORDLESS)
}

/// How an element in one of look `around` shows what is in it.
fn look(tag: &Tag, around: Look, links: &BTreeSet<usize>) -> Look {
    let mut look = Look { worded: false, ..around };
    look.size *= match &*tag.name {
        "h1" => 2.0,
        "h2" => 1.5,
        "h3" => 1.17,
        "small" | "sub" | "sup" => style::SMALLER,
        _ => 1.0,
    };
    if let Some(address) = attribute(tag, "href").filter(|_| &*tag.name == "a") {
        let mut characters = address.chars();
        let own = characters.next().and_then(number).is_some_and(|number| links.contains(&number));
        look.anchor = if own && characters.next().is_none() { Anchor::Own } else { Anchor::Another };
        look.ink = LINK_INK;
    }
    if let Some(colour) = attribute(tag, "bgcolor").and_then(style::colour) {
        look.ground = colour;
    }
    for (property, value) in attribute(tag, "style").map(style::good).unwrap_or_default() {
        let value = value.to_ascii_lowercase();
        match property.as_str() {
            "color" => {
                look.ink = if value == "inherit" { around.ink } else { style::colour(&value).unwrap_or(look.ink) }
            }
            "background-color" => look.ground = style::colour(&value).unwrap_or(around.ground),
            "font-size" => {
                look.size = match style::size(&value) {
                    Some(Size::Pixels(pixels)) => pixels,
                    Some(Size::Times(times)) => around.size * times,
                    None => look.size,
                }
            }
            _ => {}
        }
    }
    look
}

#[cfg(test)]
mod tests {
    use super::{super::place, *};

    fn found(html: &str) -> Vec<&'static str> {
        let (link, other) = (place(0).to_string(), place(1).to_string());
        unseen(&html.replace("{l}", &link).replace("{v}", &other), &BTreeSet::from([0])).into_iter().collect()
    }

    #[test]
    fn what_is_read_on_its_ground_is_left_alone() {
        for html in [
            "<p>{v}</p>",
            "<p style=\"color:#a02020\">{v}</p>",
            "<td bgcolor=\"#0b5cad\"><a href=\"{l}\" style=\"color:#ffffff\">{v}</a></td>",
            "<div style=\"background-color:#111;color:white\"><p style=\"background-color:white;color:black\">{v}</p></div>",
            "<p style=\"color:white\"> <span style=\"color:black\">{v}</span></p>",
            "<p style=\"color:white\">&nbsp;<p>{v}",
            "<p style=\"color:#767676;font-size:12px\">{v}</p>",
            "<h1><small>{v}</small></h1><p>H<sub>2</sub>O x<sup>2</sup></p>",
            "<p style=\"font-size:10px\"><span style=\"font-size:100%\">{v}</span></p>",
            "<h2 style=\"font-size:60%\">{v}</h2>",
            "<a href=\"{l}\">{l}</a> <a href=\"https://acme.example\">{v}</a>",
        ] {
            assert_eq!(found(html), Vec::<&str>::new(), "{html}");
        }
    }

    #[test]
    fn what_hides_or_misleads_is_found() {
        for (html, expected) in [
            ("<p style=\"color:white\">{v}</p>", FAINT),
            ("<p style=\"color:#ffffff\">{v}</p>", FAINT),
            ("<p style=\"color:#f0f0f0\">x</p>", FAINT),
            ("<p style=\"color:hsl(0, 0%, 98%)\">x</p>", FAINT),
            ("<p style=\"color:black;background-color:black\">{v}</p>", FAINT),
            ("<p style=\"background-color:black\">{v}</p>", FAINT),
            ("<table bgcolor=\"#1f2a37\"><tr><td>{v}</table>", FAINT),
            ("<div style=\"color:white\"><b><i>{v}</i></b></div>", FAINT),
            ("<p style=\"background:#000;color:#fff\">{v}</p>", FAINT),
            ("<td bgcolor=\"navy\"><a href=\"{l}\">{v}</a></td>", FAINT),
            ("<small><small><small><small>{v}</small></small></small></small>", TINY),
            ("<span style=\"font-size:50%\"><span style=\"font-size:50%\">{v}</span></span>", TINY),
            ("<p style=\"font-size:8px\">{v}</p>", TINY),
            ("<a href=\"https://evil.example\">{l}</a>", MISLED),
            ("<a href=\"tel:+1\"><b>See {l}</b></a>", MISLED),
            ("{v} <a href=\"{l}\"></a>", WORDLESS),
            ("{v} <a href=\"{l}\">&nbsp;", WORDLESS),
        ] {
            assert_eq!(found(html), [expected], "{html}");
        }
    }
}
