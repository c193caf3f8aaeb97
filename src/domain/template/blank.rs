//! Text that shows nothing.

/// Whether nothing of `text` would be seen: white space, controls, and characters that are drawn as nothing.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c.is_control() || is_invisible(c))
}

/// `Default_Ignorable_Code_Point` of Unicode 16 (DerivedCoreProperties.txt), and the empty pattern of Braille.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether there is a letter or a digit to be read in it.
#[must_use]
pub fn is_legible(text: &str) -> bool {
    text.chars().any(|c| c.is_alphanumeric() && !is_blank(c.encode_utf8(&mut [0; 4])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sms;

    #[test]
    fn what_shows_nothing_is_blank() {
        for text in ["", " \t\n", "\u{200b}", "\u{a0}\u{feff}", "\u{2800}\u{3164}", "\u{ad}\u{e0020}"] {
            assert!(is_blank(text), "{text:?}");
        }
        for text in ["x", ".", "\u{200b}-", "\u{e9}", "\u{1f600}"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    #[test]
    fn no_character_shows_until_it_is_sent_as_a_text_message() {
        for c in '\0'..=char::MAX {
            let sent = sms::compose("", &c.to_string());
            assert!(is_blank(&c.to_string()) || !is_blank(sent.strip_prefix(": ").unwrap_or(&sent)), "{c:?}");
        }
    }
}
