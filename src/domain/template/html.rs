//! HTML that a practice wrote: what of it may stand in a mail. When it is saved, whatever may not is an error; when it is sent, it
//! is cleaned once more with the values in it, since only then is it seen what they make of an attribute.

mod bounds;
mod colour;
mod nest;
mod shape;
mod sight;
mod style;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::{Builder, UrlRelative};
use html5ever::tokenizer::Tag;

pub(super) use bounds::within_bounds;
pub(super) use shape::{LINK, MARK, VALUE, is_shaped_alike, keeps_values_in_place, number, place, said, shows_nothing};
pub(super) use sight::unseen;

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
/// Attributes that editors add, and that are left out without a word: what they say is so in every mail, or for nobody in it.
const LEFT_OUT: &[&str] = &["rel", "role", "target"];
/// Attributes that give a size.
const SIZES: &[&str] = &["border", "cellpadding", "cellspacing", "colspan", "height", "rowspan", "width"];

/// `html` without anything that may not stand in a mail. `link` is the address that it may lead to whatever its scheme: a server that
/// is tried out on one machine has no https.
pub(super) fn cleaned(html: &str, link: &str) -> String {
    static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| cleaner(SCHEMES));
    static WITHOUT_TLS: LazyLock<Builder<'static>> = LazyLock::new(|| cleaner(&["http", "https", "mailto", "tel"]));
    let cleaner = if link.starts_with("http://") { &WITHOUT_TLS } else { &CLEANER };
    cleaner.clean(html).to_string()
}

fn cleaner(schemes: &'static [&'static str]) -> Builder<'static> {
    let all = |names: &[&'static str]| names.iter().copied().collect::<HashSet<_>>();
    let own: HashMap<_, _> = ELEMENTS.iter().map(|(element, attributes)| (*element, all(attributes))).collect();
    let mut cleaner = Builder::empty();
    cleaner
        .tags(own.keys().copied().collect())
        .tag_attributes(own)
        .generic_attributes(all(ANYWHERE))
        .url_schemes(all(schemes))
        .url_relative(UrlRelative::Deny)
        .link_rel(None)
        .attribute_filter(|_, attribute, value| match attribute {
            "style" => {
                let kept = style::kept(value);
                (!kept.is_empty()).then_some(Cow::Owned(kept))
            }
            "bgcolor" => style::colour(value.trim()).map(|_| Cow::Borrowed(value)),
            size if SIZES.contains(&size) => style::is_size(value.trim()).then_some(Cow::Borrowed(value)),
            _ => Some(Cow::Borrowed(value)),
        });
    cleaner
}

/// What in `html` may not stand in a mail, as sentences.
pub(super) fn refusals(html: &str) -> BTreeSet<&'static str> {
    shape::start_tags(html).flat_map(|tag| faults(&tag)).collect()
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
            } else if LEFT_OUT.contains(&attribute) || attribute.starts_with("aria-") {
                None
            } else if !own.contains(&attribute) && !ANYWHERE.contains(&attribute) {
                Some("must not have attributes that mail programs do not know, such as class or id")
            } else if attribute == "style" && value.to_ascii_lowercase().contains("url(") {
                Some("must not load images")
            } else if attribute == "style" && !style::is_good(value) {
                Some(
                    "must have styles that show all in its place: plain colours, sizes to read, fonts that mail programs have, \
                     no length below 0 or above 200px",
                )
            } else if attribute == "bgcolor" && style::colour(value).is_none() {
                Some("must have colours by their name or as #123456")
            } else if SIZES.contains(&attribute) && !style::is_size(value) {
                Some("must have sizes of at most 600 or 100%")
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
        assert_eq!(cleaned(good, ""), good);
        assert_eq!(refusals(good), BTreeSet::new());
        let edited =
            "<a href=\"https://x.example\" target=\"_blank\" rel=\"noopener\" role=\"button\" aria-label=\"x\">x</a>";
        assert_eq!((refusals(edited), &*cleaned(edited, "")), (BTreeSet::new(), "<a href=\"https://x.example\">x</a>"));
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
            ("<p style=\"background-color:u\\72l(https://x.example/a)\">x</p>", "<p>x</p>", "styles"),
            ("<p style=\"margin:-90px\">x</p>", "<p>x</p>", "styles"),
            ("<table height=\"9999\"></table>", "", "attributes"),
            ("<table width=\"9999\"></table>", "<table></table>", "sizes"),
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
            let cleaned = cleaned(bad, "");
            assert!(!cleaned.contains("script") && !cleaned.contains("img"), "{cleaned}");
            if !left.is_empty() {
                assert_eq!(cleaned, left, "{bad}");
            }
        }
    }

    #[test]
    fn a_server_without_tls_has_its_own_link_left() {
        let html = "<a href=\"http://127.0.0.1:1/l/x\">x</a>";
        assert_eq!(cleaned(html, "http://127.0.0.1:1/l/x"), html);
        assert_eq!(cleaned(html, "https://hw.example/l/x"), "<a>x</a>");
    }

    #[test]
    fn a_style_moves_nothing_out_of_its_place() {
        let html = "<p style=\"position:fixed;top:0;color:#123456;z-index:9\">x</p>";
        assert_eq!(cleaned(html, ""), "<p style=\"color:#123456\">x</p>");
        assert_eq!(cleaned("<p style=\"color:#123456;behavior:url(x)\">x</p>", ""), "<p>x</p>");
    }

    #[test]
    fn deep_nests_come_to_an_end() {
        let deep = "<div>".repeat(4_000);
        assert!(cleaned(&deep, "").len() <= 16 * 4_000);
        let mixed = "<b><i><p><table><a href=https://x>".repeat(400);
        assert!(!cleaned(&mixed, "").contains("script"));
    }
}
