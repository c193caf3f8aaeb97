//! How much HTML may be. Whatever makes a tree of it, or shows it, takes time for each element in each other; this is one look along
//! the text.

use html5ever::tokenizer::{TagKind, Token};

use super::{nest::Nest, shape::parts_by_line};
use crate::domain::template::source::Fault;

/// Most elements.
const MOST: usize = 1_000;
/// Most elements in one another.
const DEEPEST: usize = 64;
/// Elements that are begun again where something around them ends first (HTML Standard, 13.2.4.3): a few of them can become very
/// many.
const FORMATTING: &[&str] =
    &["a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"];

/// Whether it is within bounds; if not, the line that it is not from, and why.
pub(in crate::domain::template) fn within_bounds(html: &str) -> Result<(), (usize, Fault)> {
    let (mut open, mut tags) = (Nest::new(), 0);
    for (line, token) in parts_by_line(html) {
        let Token::TagToken(tag) = token else { continue };
        let ended = open.ended_by(&tag);
        tags += 1;
        let misnested = ended.iter().skip(1).any(|(name, ())| FORMATTING.contains(&name.as_str()));
        if tag.kind == TagKind::StartTag {
            open.begin(&tag, ());
        }
        let fault = if misnested {
            Some(Fault::Misnested)
        } else if open.depth() > DEEPEST {
            Some(Fault::Nested)
        } else {
            (tags > 2 * MOST).then_some(Fault::Elements)
        };
        if let Some(fault) = fault {
            return Err((usize::try_from(line).unwrap_or(usize::MAX), fault));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_of_every_day_is_within_bounds_and_a_nest_is_not() {
        for good in [
            "<table><tr><td><p>x<br>y<td>z<tr><td>x</table>",
            "<ul><li>one<li><b>two</b></ul><hr>",
            &"<li>x".repeat(900),
            &"<br>".repeat(2_000),
            &format!("{}{}", "<div>".repeat(64), "</div>".repeat(64)),
            "</p></b>x",
        ] {
            assert_eq!(within_bounds(good), Ok(()), "{good}");
        }
        for (bad, line, fault) in [
            (format!("x\n{}", "<div>".repeat(65)), 2, Fault::Nested),
            ("<b><i><p>".repeat(400), 1, Fault::Nested),
            ("<br>".repeat(2_001), 1, Fault::Elements),
            ("<p><b title=1>x</p>".into(), 1, Fault::Misnested),
            ("<b>x<i>y</b></i>".into(), 1, Fault::Misnested),
            ("<table><tr><td><a href=x>y</table>".into(), 1, Fault::Misnested),
        ] {
            assert_eq!(within_bounds(&bad), Err((line, fault)), "{bad}");
        }
    }
}
