//! What may stand in a `style` attribute: known properties with plain values. None of them loads anything, moves an element out of
//! its place, or hides what it holds.

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

/// `style` without what may not stand there.
pub(super) fn kept(style: &str) -> String {
    if !is_plain(style) {
        return String::new();
    }
    let good = declarations(style)
        .filter(|(property, value)| PROPERTIES.contains(&property.as_str()) && fits(property, value));
    good.map(|(property, value)| format!("{property}:{value}")).collect::<Vec<_>>().join(";")
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
    if property == "font-family" {
        return !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || " ,-_'\"".contains(c));
    }
    let Some(value) = without_colours(&value.to_ascii_lowercase()) else { return false };
    let mut words = value.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()).peekable();
    words.peek().is_some() && words.all(|word| is_hex(word) || is_word(property, word) || is_length(property, word))
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

fn is_word(property: &str, word: &str) -> bool {
    let letters = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    letters && !matches!((property, word), ("display", "none" | "contents") | ("color", "transparent"))
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
