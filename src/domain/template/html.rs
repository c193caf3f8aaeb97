//! HTML that a practice wrote: what of it may stand in a mail. When it is saved, whatever may not is an error; when it is sent, it
//! is cleaned once more with the values in it, since only then is it seen what they make of an attribute.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::{Builder, UrlRelative};
use html5ever::{
    tendril::StrTendril,
    tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer},
};

/// Elements, each with the attributes that it may have besides [`ANYWHERE`].
const ELEMENTS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("b", &[]),
    ("blockquote", &[]),
    ("br", &[]),
    ("code", &[]),
    ("div", &["align"]),
    ("em", &[]),
    ("h1", &["align"]),
    ("h2", &["align"]),
    ("h3", &["align"]),
    ("h4", &["align"]),
    ("hr", &[]),
    ("i", &[]),
    ("li", &[]),
    ("ol", &["start"]),
    ("p", &["align"]),
    ("pre", &[]),
    ("s", &[]),
    ("small", &[]),
    ("span", &[]),
    ("strong", &[]),
    ("sub", &[]),
    ("sup", &[]),
    ("table", &["align", "bgcolor", "border", "cellpadding", "cellspacing", "role", "width"]),
    ("tbody", &[]),
    ("td", &["align", "bgcolor", "colspan", "height", "rowspan", "valign", "width"]),
    ("tfoot", &[]),
    ("th", &["align", "bgcolor", "colspan", "height", "rowspan", "scope", "valign", "width"]),
    ("thead", &[]),
    ("tr", &["align", "bgcolor", "valign"]),
    ("u", &[]),
    ("ul", &[]),
];
/// Elements around the whole, which the layout has itself: they are left out in silence.
const AROUND: &[&str] = &["html", "head", "body"];
/// Attributes of every element.
const ANYWHERE: &[&str] = &["dir", "lang", "style", "title"];
const SCHEMES: &[&str] = &["https", "mailto", "tel"];
/// Properties of `style`. None of them loads anything or moves an element out of its place.
const PROPERTIES: &[&str] = &[
    "background-color",
    "border",
    "border-bottom",
    "border-collapse",
    "border-color",
    "border-left",
    "border-radius",
    "border-right",
    "border-spacing",
    "border-style",
    "border-top",
    "border-width",
    "color",
    "direction",
    "display",
    "font-family",
    "font-size",
    "font-style",
    "font-weight",
    "height",
    "letter-spacing",
    "line-height",
    "list-style-type",
    "margin",
    "margin-bottom",
    "margin-left",
    "margin-right",
    "margin-top",
    "max-width",
    "min-width",
    "padding",
    "padding-bottom",
    "padding-left",
    "padding-right",
    "padding-top",
    "text-align",
    "text-decoration",
    "text-transform",
    "vertical-align",
    "white-space",
    "width",
];

/// `html` without anything that may not stand in a mail.
pub(super) fn cleaned(html: &str) -> String {
    static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
        let all = |names: &[&'static str]| names.iter().copied().collect::<HashSet<_>>();
        let own: HashMap<_, _> = ELEMENTS.iter().map(|(element, attributes)| (*element, all(attributes))).collect();
        let mut cleaner = Builder::empty();
        cleaner
            .tags(own.keys().copied().collect())
            .tag_attributes(own)
            .generic_attributes(all(ANYWHERE))
            .url_schemes(all(SCHEMES))
            .url_relative(UrlRelative::Deny)
            .link_rel(None)
            .filter_style_properties(all(PROPERTIES));
        cleaner
    });
    CLEANER.clean(html).to_string()
}

/// What in `html` may not stand in a mail, as sentences.
pub(super) fn refusals(html: &str) -> BTreeSet<&'static str> {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    let tokenizer = Tokenizer::new(Inspector::default(), Default::default());
    // It pauses only where its sink asks it to, which this one never does.
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink.found.into_inner()
}

/// Notes what may not stand in a mail.
#[derive(Default)]
struct Inspector {
    found: RefCell<BTreeSet<&'static str>>,
}

impl TokenSink for Inspector {
    type Handle = ();

    fn process_token(&self, token: Token, _: u64) -> TokenSinkResult<()> {
        if let Token::TagToken(tag) = &token
            && tag.kind == TagKind::StartTag
        {
            self.found.borrow_mut().extend(faults(tag));
        }
        TokenSinkResult::Continue
    }
}

fn faults(tag: &Tag) -> Vec<&'static str> {
    let name = &*tag.name;
    let Some((_, own)) = ELEMENTS.iter().find(|(element, _)| *element == name) else {
        return if AROUND.contains(&name) { Vec::new() } else { vec![unfit(name)] };
    };
    tag.attrs
        .iter()
        .filter_map(|attribute| {
            let (attribute, value) = (&*attribute.name.local, attribute.value.trim());
            if attribute.starts_with("on") {
                Some("must not have scripts")
            } else if !own.contains(&attribute) && !ANYWHERE.contains(&attribute) {
                Some("must not have attributes that mail programs do not know, such as class or id")
            } else if attribute == "style" && value.to_ascii_lowercase().contains("url(") {
                Some("must not load images")
            } else if attribute == "href" && !has_scheme(value) {
                Some("must have links that begin with https:, mailto: or tel:")
            } else {
                None
            }
        })
        .collect()
}

fn has_scheme(address: &str) -> bool {
    address.split_once(':').is_some_and(|(scheme, _)| SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()))
}

/// What is wrong with an element that may not stand in a mail.
fn unfit(element: &str) -> &'static str {
    match element {
        "script" | "noscript" | "template" => "must not have scripts",
        "form" | "input" | "button" | "select" | "option" | "textarea" | "label" | "fieldset" => "must not have forms",
        "img" | "picture" | "source" | "image" | "video" | "audio" | "svg" | "object" | "embed" | "iframe" => {
            "must not load images or other files"
        }
        "style" | "link" => "must not have style sheets; put style attributes on the elements",
        _ => "must only have elements for text, lists, links and tables",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_would_be_cleaned_away_is_refused_and_the_rest_stays() {
        let good = "<p style=\"color:red\">Hi <b>you</b><br><a href=\"https://x.example/?a=b\">x</a></p>\
                    <table width=\"100%\"><tbody><tr><td align=\"center\">1</td></tr></tbody></table>";
        assert_eq!(cleaned(good), good);
        assert_eq!(refusals(good), BTreeSet::new());
        assert_eq!(refusals("<!DOCTYPE html><html><head></head><body><p>x</p></body></html>"), BTreeSet::new());
        for (bad, left, why) in [
            ("<script>alert(1)</script>x", "x", "scripts"),
            ("<SCRIPT/src=//x>", "", "scripts"),
            ("<p onclick=\"x()\">x</p>", "<p>x</p>", "scripts"),
            ("<form action=\"https://x\"><input name=a></form>", "", "forms"),
            ("<img src=\"https://x.example/pixel.gif\">", "", "images"),
            ("<img src='cid:a'>", "", "images"),
            ("<svg onload=\"x()\"></svg>", "", "images"),
            ("<iframe src=\"https://x.example\"></iframe>", "", "images"),
            ("<style>p{color:red}</style>x", "x", "style sheets"),
            ("<link rel=stylesheet href=https://x.example/a.css>", "", "style sheets"),
            ("<p style=\"background-color:url(https://x.example/a)\">x</p>", "", "images"),
            ("<a href=\"javascript:alert(1)\">x</a>", "<a>x</a>", "links"),
            ("<a href=\" JaVaScRiPt:alert(1)\">x</a>", "<a>x</a>", "links"),
            ("<a href=\"http://x.example\">x</a>", "<a>x</a>", "links"),
            ("<a href=\"/relative\">x</a>", "<a>x</a>", "links"),
            ("<a href=\"data:text/html,x\">x</a>", "<a>x</a>", "links"),
            ("<p class=\"big\">x</p>", "<p>x</p>", "attributes"),
            ("<base href=\"https://x.example\">x", "x", "elements"),
            ("<meta http-equiv=refresh content=1>x", "x", "elements"),
        ] {
            let found = refusals(bad);
            assert!(found.len() == 1 && found.iter().all(|found| found.contains(why)), "{bad}: {found:?}");
            let cleaned = cleaned(bad);
            assert!(!cleaned.contains("script") && !cleaned.contains("img"), "{cleaned}");
            if !left.is_empty() {
                assert_eq!(cleaned, left, "{bad}");
            }
        }
    }

    #[test]
    fn a_style_moves_nothing_out_of_its_place() {
        let html = "<p style=\"position:fixed;top:0;color:#123456;behavior:url(x)\">x</p>";
        assert_eq!(cleaned(html), "<p style=\"color:#123456\">x</p>");
    }

    #[test]
    fn deep_nests_come_to_an_end() {
        let deep = "<div>".repeat(4_000);
        assert!(cleaned(&deep).len() <= 16 * 4_000);
        let mixed = "<b><i><p><table><a href=https://x>".repeat(400);
        assert!(!cleaned(&mixed).contains("script"));
    }
}
