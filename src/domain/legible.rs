//! Names as people see them: without characters that are drawn as nothing and change how others are drawn or read. By those a
//! name can be made to look like another, or turn the words around it.

/// Whether `c` is seen only in what it does to others: Unicode's format characters (general category Cf of Unicode 16) without
/// those that have a shape of their own, and the two separators of lines. The joiners stay, since Persian, Hindi and emoji are
/// not spelt without them.
#[must_use]
pub const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// What is wrong with a text that has one, as a sentence.
pub const HIDDEN: &str =
    "must not have characters that are not seen, such as marks of direction or spaces without width";

/// The text without them.
#[must_use]
pub fn legible(text: &str) -> String {
    text.chars().filter(|c| !is_hidden(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_what_is_seen_and_loses_what_only_turns_or_hides() {
        for (text, left) in [
            ("Mar\u{ed}a", "Mar\u{ed}a"),
            ("Pat\u{202e}eoD\u{202c}", "PateoD"),
            ("\u{2067}\u{feff}Lee\u{200b}\u{ad}\u{e0041}", "Lee"),
            ("a\u{2028}b\u{2029}c", "abc"),
            // Ali-Reza with a joiner within it, and a family.
            (
                "\u{639}\u{644}\u{6cc}\u{200c}\u{631}\u{636}\u{627}",
                "\u{639}\u{644}\u{6cc}\u{200c}\u{631}\u{636}\u{627}",
            ),
            (
                "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{fe0f}",
                "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}\u{fe0f}",
            ),
        ] {
            assert_eq!(legible(text), left, "{text:?}");
        }
    }
}
