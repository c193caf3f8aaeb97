//! What may stand in a `style` attribute: known properties with plain values. None of them loads anything, moves an element out of
//! its place, or hides what it holds.

use super::colour::Colour;

/// Properties that mail programs know.
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
/// The most that a width may be: that of the card, in pixels.
const WIDEST: f32 = 600.0;
/// The most that any other length may be, in pixels.
const LONGEST: f32 = 200.0;
/// What `smaller` and the elements that are small make of a size.
pub(super) const SMALLER: f32 = 5.0 / 6.0;
/// Ways to show an element in its place. Others show nothing of it, such as `table-column`.
const DISPLAYS: &[&str] = &[
    "block",
    "inline",
    "inline-block",
    "inline-table",
    "list-item",
    "table",
    "table-caption",
    "table-cell",
    "table-footer-group",
    "table-header-group",
    "table-row",
    "table-row-group",
];
/// Fonts that have letters for letters: the generic ones, and those that computers and mail programs have.
const FONTS: &[&str] = &[
    "-apple-system",
    "apple color emoji",
    "arial",
    "arial black",
    "blinkmacsystemfont",
    "book antiqua",
    "calibri",
    "cambria",
    "candara",
    "cantarell",
    "century gothic",
    "consolas",
    "constantia",
    "corbel",
    "courier",
    "courier new",
    "franklin gothic medium",
    "garamond",
    "geneva",
    "georgia",
    "gill sans",
    "helvetica",
    "helvetica neue",
    "inter",
    "lato",
    "lucida grande",
    "lucida sans",
    "lucida sans unicode",
    "menlo",
    "monaco",
    "monospace",
    "montserrat",
    "noto sans",
    "open sans",
    "optima",
    "oxygen",
    "palatino",
    "palatino linotype",
    "roboto",
    "sans-serif",
    "segoe ui",
    "segoe ui emoji",
    "serif",
    "source sans pro",
    "system-ui",
    "tahoma",
    "times",
    "times new roman",
    "trebuchet ms",
    "ubuntu",
    "ui-sans-serif",
    "ui-serif",
    "verdana",
];

/// A size of letters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Size {
    Pixels(f32),
    /// Times that of the element around.
    Times(f32),
}

/// `style` without what may not stand there.
pub(super) fn kept(style: &str) -> String {
    good(style).iter().map(|(property, value)| format!("{property}:{value}")).collect::<Vec<_>>().join(";")
}

/// What may stand there: properties in small letters, with their values.
pub(super) fn good(style: &str) -> Vec<(String, String)> {
    if !is_plain(style) {
        return Vec::new();
    }
    declarations(style)
        .filter(|(property, value)| PROPERTIES.contains(&property.as_str()) && fits(property, value))
        .collect()
}

/// The colour that a value in whatever letters says.
pub(super) fn colour(value: &str) -> Option<Colour> {
    Colour::read(&value.to_ascii_lowercase())
}

/// The size of letters that a value in small letters says.
pub(super) fn size(value: &str) -> Option<Size> {
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at_checked(digits)?;
    // By CSS Fonts Module Level 4, 2.5, of 16 pixels.
    let named = match value {
        "xx-small" => Size::Pixels(16.0 * 3.0 / 5.0),
        "x-small" => Size::Pixels(16.0 * 3.0 / 4.0),
        "small" => Size::Pixels(16.0 * 8.0 / 9.0),
        "medium" => Size::Pixels(16.0),
        "large" => Size::Pixels(16.0 * 6.0 / 5.0),
        "x-large" => Size::Pixels(16.0 * 3.0 / 2.0),
        "xx-large" => Size::Pixels(32.0),
        "xxx-large" => Size::Pixels(48.0),
        "smaller" => Size::Times(SMALLER),
        "larger" => Size::Times(1.2),
        "inherit" => Size::Times(1.0),
        _ => {
            let number: f32 = number.parse().ok()?;
            return match unit {
                "px" => Some(Size::Pixels(number)),
                "pt" => Some(Size::Pixels(number * 4.0 / 3.0)),
                "rem" => Some(Size::Pixels(number * 16.0)),
                "em" => Some(Size::Times(number)),
                "%" => Some(Size::Times(number / 100.0)),
                _ => None,
            };
        }
    };
    Some(named)
}

/// Whether nothing that it says of the known properties would be left out. Others are left out in silence: each mail program has
/// some of its own.
pub(super) fn is_good(style: &str) -> bool {
    is_plain(style)
        && declarations(style)
            .all(|(property, value)| !PROPERTIES.contains(&property.as_str()) || fits(&property, &value))
}

/// Without escapes, comments, blocks and functions that load something, which hide from whoever reads it without the whole grammar
/// (CSS Syntax Level 3, 4.3).
fn is_plain(style: &str) -> bool {
    let lower = style.to_ascii_lowercase();
    !lower.contains(['\\', '{', '}', '<', '>', '@'])
        && !["/*", "url", "image", "expression"].iter().any(|bad| lower.contains(bad))
}

fn declarations(style: &str) -> impl Iterator<Item = (String, String)> {
    let declaration = |text: &str| {
        let (property, value) = text.split_once(':').unwrap_or((text, ""));
        (property.trim().to_ascii_lowercase(), value.trim().to_owned())
    };
    style.split(';').filter(|text| !text.trim().is_empty()).map(declaration)
}

/// Whether the property may have that value.
fn fits(property: &str, value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match property {
        "font-family" => return value == "inherit" || value.split(',').all(is_font),
        "display" => return DISPLAYS.contains(&value.as_str()),
        "color" => return value == "inherit" || colour(&value).is_some(),
        "background-color" => return ["inherit", "transparent"].contains(&value.as_str()) || colour(&value).is_some(),
        "font-size" if size(&value).is_none() => return false,
        _ => {}
    }
    let Some(value) = without_colours(&value) else { return false };
    let mut words = value.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()).peekable();
    words.peek().is_some() && words.all(|word| is_hex(word) || is_word(word) || is_length(property, word))
}

/// With a name in the place of each `rgb()` and `hsl()`; none if there is any other function. A colour that is seen through would
/// hide what it colours, so that there is none.
fn without_colours(value: &str) -> Option<String> {
    let (mut plain, mut rest) = (String::new(), value);
    while let Some((before, after)) = rest.split_once('(') {
        let before = before.strip_suffix("rgb").or_else(|| before.strip_suffix("hsl"))?;
        let (numbers, after) = after.split_once(')')?;
        let commas = numbers.matches(',').count();
        if commas > 2 || !numbers.chars().all(|c| c.is_ascii_digit() || " ,.%".contains(c)) {
            return None;
        }
        plain.push_str(before);
        plain.push_str("black");
        rest = after;
    }
    plain.push_str(rest);
    Some(plain)
}

fn is_hex(word: &str) -> bool {
    word.strip_prefix('#')
        .is_some_and(|hex| matches!(hex.len(), 3 | 6) && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn is_font(name: &str) -> bool {
    let name = name.trim();
    let bare = ['"', '\''].iter().find_map(|quote| name.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(name);
    FONTS.contains(&bare)
}

fn is_length(property: &str, word: &str) -> bool {
    let digits = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (number, unit) = word.split_at(digits);
    let Ok(number) = number.parse::<f32>() else { return false };
    // Of a usual letter, 16 pixels high.
    let pixels = match unit {
        "px" => number,
        "pt" => number * 4.0 / 3.0,
        "em" | "rem" => number * 16.0,
        "%" if property.ends_with("width") => return (0.0..=100.0).contains(&number),
        "%" => number * 0.16,
        "" if property == "font-weight" => return (100.0..=900.0).contains(&number),
        "" if property == "line-height" => number * 16.0,
        "" => number,
        _ => return false,
    };
    let range = match property {
        "font-size" => 8.0..=LONGEST,
        "line-height" => 12.0..=LONGEST,
        // Letters far apart are words no more.
        "letter-spacing" => 0.0..=16.0,
        "width" | "max-width" | "min-width" => 0.0..=WIDEST,
        _ => 0.0..=LONGEST,
    };
    range.contains(&pixels)
}

/// Whether an attribute for a size has a value that stays within the card.
pub(super) fn is_size(value: &str) -> bool {
    let (number, most) = match value.strip_suffix('%') {
        Some(number) => (number, 100),
        None => (value, 600),
    };
    number.parse::<u16>().is_ok_and(|number| number <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_stay_and_whatever_loads_hides_or_moves_goes() {
        for good in [
            "color:#123456",
            "margin:0 auto",
            "font-family:'Segoe UI', Arial, sans-serif",
            "background-color:rgb(1, 2, 3);border:1px solid #ddd",
            "line-height:1.5;font-size:16px",
            "padding:12px 24px;display:inline-block;text-decoration:none",
            "width:100%;border-collapse:collapse;font-weight:700",
            "display:table-cell;font-size:smaller",
            "background-color:transparent;color:inherit;font-size:1.2em",
        ] {
            assert!(is_good(good), "{good}");
            assert_eq!(kept(good), good);
        }
        for bad in [
            "background-color:url(https://x.example/a)",
            "background-color:u\\72l(https://x.example/a)",
            "background-color:image-set('https://x.example/a' 1x)",
            "color:red/**/",
            "margin:-40px",
            "margin-top:-1em",
            "height:100000px",
            "padding:9e9px",
            "margin:calc(1px - 99px)",
            "font-size:0",
            "font-size:1px",
            "line-height:0",
            "display:none",
            "display:contents",
            "display:table-column",
            "display:table-column-group",
            "display:ruby-text",
            "font-family:Wingdings",
            "font-family:Arial, Webdings",
            "font-family:",
            "font-size:math",
            "color:canvas",
            "color:initial",
            "color:currentcolor",
            "background-color:initial",
            "letter-spacing:100px",
            "color:transparent",
            "color:rgba(0,0,0,0)",
            "color:rgb(0,0,0,0)",
            "color:#fff0",
            "width:100px!important",
            "color:var(--x)",
            "color:",
        ] {
            assert!(!is_good(bad), "{bad}");
            assert_eq!(kept(bad), "", "{bad}");
        }
        assert_eq!(kept("position:fixed;top:0;color:red;margin:-1px"), "color:red");
    }
}
