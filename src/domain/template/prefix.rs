//! What stands before each text message: who speaks. It is held to what is said after it.

use super::{is_legible, words};
use crate::domain::Meaning;

/// What is wrong with a prefix, as a sentence; an empty one stands for the practice's name.
#[must_use]
pub fn prefix_fault(prefix: &str) -> Option<&'static str> {
    if prefix.is_empty() {
        None
    } else if !is_legible(prefix) {
        Some("must have a letter or a digit: it says who writes")
    } else if words::has_address(prefix) {
        Some("must have no address of the web")
    } else if Meaning::of(prefix, None) != Meaning::Other || words::asks_for_a_keyword(prefix) {
        Some("must not be, or ask for, a word that is taken for STOP, START or HELP")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_says_who_writes_and_nothing_else() {
        for bad in [
            "\u{200b}",
            "\u{3164}",
            "\u{2800}",
            "\u{ad}",
            ".",
            " ",
            "***",
            "STOP",
            "St\u{f6}p",
            "Reply YES",
            "Help",
            "evil.com",
            "evil.zone/x",
            "https://evil",
        ] {
            assert!(prefix_fault(bad).is_some(), "{bad:?}");
        }
        for good in ["", "Acme", "Acme Primary Care", "Dr. Ray's office", "St. Luke's", "24/7 Care", "\u{8bca}\u{6240}"]
        {
            assert_eq!(prefix_fault(good), None, "{good:?}");
        }
    }
}
