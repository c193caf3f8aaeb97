//! ◆ What is kept of a text that came in. Whoever writes may put anything into it, and it is read on screens beside the words of
//! others: what a patient wrote stays, and what no screen, line of JSON or database can bear does not.

use super::{PhoneNumber, is_hidden};

/// The longest text that is kept, in characters: as much as a message in the portal may have. Twilio passes on 1,600.
pub const LONGEST_TEXT: usize = 20_000;
/// The longest name of a sender or a recipient that is kept, in characters.
pub const LONGEST_NAME: usize = 100;
/// What stands in the place of what was left out.
const ELLIPSIS: char = '…';

/// A text as it is kept: with one kind of line end, without marks that only embed or isolate a direction of writing (phones put
/// them around numbers), and with U+FFFD in the place of control characters and of marks that turn letters around.
#[must_use]
pub fn text(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    bounded(text.chars().filter_map(shown), LONGEST_TEXT)
}

/// What a sender or a recipient is called that is no number, on one line: with U+FFFD in the place of whatever is not seen, so that it
/// looks like nobody else.
#[must_use]
pub fn name(text: &str) -> String {
    let seen = |c: char| if c.is_control() || is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c };
    bounded(text.chars().map(seen), LONGEST_NAME)
}

/// The number of whoever wrote, if it is one in plain characters, with nothing beside it: Twilio posts E.164, and short codes
/// without a plus. Anything else is nobody's number, however it looks.
#[must_use]
pub fn number(text: &str) -> Option<PhoneNumber> {
    let digits = text.strip_prefix('+')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| PhoneNumber::parse(text, "").ok()).flatten()
}

/// What a file is said to be, in small letters and without parameters. What is no name of a type (RFC 6838, 4.2) says nothing
/// (RFC 2046, 4.5.1).
#[must_use]
pub fn media_type(said: &str) -> String {
    let name = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_name = name.split_once('/').is_some_and(|(kind, subtype)| is_restricted(kind) && is_restricted(subtype));
    if is_name { name } else { "application/octet-stream".to_owned() }
}

fn is_restricted(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    (1..=127).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(allowed)
}

/// The character in the place of this one; unset: none.
fn shown(c: char) -> Option<char> {
    match c {
        '\n' | '\t' => Some(c),
        // Of old systems, of mainframes, and Unicode's own.
        '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some('\n'),
        // Unicode Standard Annex 9, 2.1 and 2.3 to 2.5.
        '\u{202a}'..='\u{202c}' | '\u{2066}'..='\u{2069}' => None,
        '\u{202d}' | '\u{202e}' => Some(char::REPLACEMENT_CHARACTER),
        _ if c.is_control() => Some(char::REPLACEMENT_CHARACTER),
        _ => Some(c),
    }
}

/// At most `longest` of the characters; where there are more, the last one says so.
fn bounded(mut chars: impl Iterator<Item = char>, longest: usize) -> String {
    let mut kept: String = chars.by_ref().take(longest).collect();
    if chars.next().is_some() {
        kept.pop();
        kept.push(ELLIPSIS);
    }
    kept
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// Any characters, and often such as do something.
    fn wild() -> impl Strategy<Value = String> {
        const ODD: &[char] = &[
            '\0', '\u{1}', '\u{8}', '\t', '\n', '\r', '\u{1b}', '\u{7f}', '\u{85}', '\u{9b}', '\u{ad}', '\u{200b}',
            '\u{200d}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
            '\u{202e}', '\u{2066}', '\u{2069}', '\u{feff}', '\u{fffd}', '\u{ffff}', '+', '1', 'a', '/', '…',
        ];
        let one = prop_oneof![any::<char>(), prop::sample::select(ODD)];
        prop::collection::vec(one, 0..200).prop_map(String::from_iter)
    }

    fn letters(text: &str) -> String {
        text.chars().filter(|c| c.is_alphanumeric()).collect()
    }

    proptest! {
        #[test]
        fn whatever_came_is_kept_as_something_that_all_can_bear(came in wild()) {
            let kept = text(&came);
            let bears = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
            prop_assert!(kept.chars().all(bears), "{kept:?}");
            let turns = |c: char| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            prop_assert!(!kept.chars().any(turns), "{kept:?}");
            prop_assert_eq!(letters(&kept), letters(&came), "what can be read stays, in its order");
            prop_assert_eq!(text(&kept), kept, "and what is kept is kept again as it is");
        }

        #[test]
        fn what_anything_can_bear_is_kept_as_it_came(came in "[^\\p{Cc}\u{2028}\u{2029}\u{202a}-\u{202e}\u{2066}-\u{2069}]{0,200}") {
            prop_assert_eq!(text(&came), came);
        }

        #[test]
        fn a_name_is_one_line_of_what_is_seen(came in wild()) {
            let kept = name(&came);
            prop_assert!(!kept.chars().any(|c| c.is_control() || is_hidden(c)), "{kept:?}");
            prop_assert!(kept.chars().count() <= LONGEST_NAME);
            prop_assert_eq!(name(&kept), kept);
        }

        #[test]
        fn a_number_with_anything_in_it_is_nobodys(at in 0_usize..=12, odd in any::<char>()) {
            let mut came = "+12025550142".to_owned();
            came.insert(at, odd);
            let digit = odd.is_ascii_digit() && at > 0;
            prop_assert!(digit || number(&came).is_none(), "{came:?}");
        }

        #[test]
        fn a_type_is_a_name_or_says_nothing(said in wild()) {
            let kept = media_type(&said);
            prop_assert!(kept.len() <= 255 && kept.bytes().all(|byte| byte.is_ascii_graphic()), "{kept:?}");
            prop_assert_eq!(media_type(&kept), kept);
        }
    }

    #[test]
    fn what_is_left_out_and_what_stands_in_its_place() {
        for (came, kept) in [
            ("Sí, mañana 👍\r\na\tb", "Sí, mañana 👍\na\tb"),
            ("a\0b\u{1b}[2Jc", "a\u{fffd}b\u{fffd}[2Jc"),
            ("pay \u{202e}001$\u{202c} now", "pay \u{fffd}001$ now"),
            ("call \u{202a}+1 (202) 555-0142\u{202c}!", "call +1 (202) 555-0142!"),
            ("\u{2068}Pat\u{2069}", "Pat"),
            ("a\u{2028}b\rc\u{85}d", "a\nb\nc\nd"),
            // Hebrew with its marks, and a family.
            ("\u{200f}\u{5e9}\u{5dc}!\u{200f}", "\u{200f}\u{5e9}\u{5dc}!\u{200f}"),
            ("\u{1f468}\u{200d}\u{1f469}", "\u{1f468}\u{200d}\u{1f469}"),
        ] {
            assert_eq!(text(came), kept, "{came:?}");
        }
        assert_eq!(name("whatsapp:+12025550142\u{202e}\n"), "whatsapp:+12025550142\u{fffd}\u{fffd}");
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        assert_eq!(text(&"ñ".repeat(LONGEST_TEXT)), "ñ".repeat(LONGEST_TEXT));
        assert_eq!(text(&"ñ".repeat(LONGEST_TEXT + 1)), "ñ".repeat(LONGEST_TEXT - 1) + "…");
        assert_eq!(name(&"n".repeat(300)), "n".repeat(LONGEST_NAME - 1) + "…");
    }

    #[test]
    fn only_plain_digits_are_a_number() {
        assert_eq!(number("+12025550142").unwrap().e164(), "+12025550142");
        for other in [
            "",
            "+",
            "12345",
            "+1",
            "2025550142",
            "+1 202 555 0142",
            "+1(202)5550142",
            "\u{202e}+12025550142",
            "+12025550142\u{202e}",
            "+1202555\u{200b}0142",
            "+１２０２５５５０１４２",
            "whatsapp:+12025550142",
            "+12025550142 ",
            "+12025550142\n",
            "+1202555014a",
        ] {
            assert!(number(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn types_keep_their_names() {
        for (said, kept) in [
            ("video/mp4", "video/mp4"),
            ("Text/X-vCard; charset=utf-8", "text/x-vcard"),
            (" application/vnd.ms-excel ", "application/vnd.ms-excel"),
            ("", "application/octet-stream"),
            ("image", "application/octet-stream"),
            ("image/", "application/octet-stream"),
            ("image/png/x", "application/octet-stream"),
            ("image/p\u{202e}ng", "application/octet-stream"),
            ("image/p ng", "application/octet-stream"),
            ("a/b\0", "application/octet-stream"),
        ] {
            assert_eq!(media_type(said), kept, "{said:?}");
        }
        assert_eq!(media_type(&format!("a/{}", "b".repeat(128))), "application/octet-stream");
    }
}
