//! ◆ How a text message is put together and how many segments it costs. The count is the one that Twilio's own
//! calculator gives for the same text; what was billed in the end is for Twilio to say.

mod smart;

use unicode_segmentation::UnicodeSegmentation;

/// The longest message that Twilio takes, in characters, prefix included.
pub const LONGEST_MESSAGE: usize = 1_600;

/// What a message costs on the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// How many segments are billed; an empty text counts as one.
    pub count: usize,
    /// Whether every character is in the 7-bit alphabet; if not, the whole message is UCS-2.
    pub gsm7: bool,
    /// Septets if `gsm7`, else UTF-16 code units.
    pub units: usize,
}

/// The message as it goes out: who speaks, then what they say, as far as can be in the 7-bit alphabet. Twilio's `SmartEncoded`
/// is left unset, and changes nothing where a messaging service has it on: what is shown, counted, sent and found again at
/// Twilio is the same text.
#[must_use]
pub fn compose(prefix: &str, text: &str) -> String {
    smart::encoded(&format!("{prefix}: {text}"))
}

/// The message that says nothing but who speaks: what it has to say goes along with it.
#[must_use]
pub fn only(prefix: &str) -> String {
    smart::encoded(prefix)
}

/// Counts segments by 3GPP TS 23.038 and 23.040. A part of a longer message loses 6 octets to its header; a character
/// that a reader sees as one is kept in one part.
#[must_use]
pub fn segments(text: &str) -> Segments {
    let gsm7 = text.chars().all(|c| septets(c).is_some());
    let cost = |c: char| if gsm7 { septets(c).unwrap_or_default() } else { c.len_utf16() };
    let units = text.chars().map(cost).sum();
    let (alone, part) = if gsm7 { (160, 153) } else { (70, 67) };
    let count = if units <= alone { 1 } else { parts(text, part, cost) };
    Segments { count, gsm7, units }
}

/// How many parts of `capacity` hold the text when no cluster is divided that fits into one.
fn parts(text: &str, capacity: usize, cost: impl Fn(char) -> usize) -> usize {
    let (mut count, mut used) = (1, 0);
    let mut put = |size: usize| {
        if used + size > capacity {
            count += 1;
            used = 0;
        }
        used += size;
    };
    for cluster in text.graphemes(true) {
        let size = cluster.chars().map(&cost).sum();
        // A cluster larger than a part, such as a letter under a tower of accents, has to be divided all the same.
        if size <= capacity { put(size) } else { cluster.chars().map(&cost).for_each(&mut put) }
    }
    count
}

/// The septets of a character in the 7-bit default alphabet and its extension (3GPP TS 23.038, 6.2.1), which is reached
/// by an escape.
fn septets(c: char) -> Option<usize> {
    const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
    const EXTENSION: &str = "\u{c}^{}\\[~]|€";
    if c.is_ascii_alphanumeric() || BASIC.contains(c) {
        Some(1)
    } else if EXTENSION.contains(c) {
        Some(2)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/sms_segments.json")).unwrap()
    }

    #[test]
    fn every_vector_has_its_count() {
        let vectors = vectors();
        let mut seen = 0;
        for case in vectors["cases"].as_array().unwrap() {
            let text: String = case["parts"]
                .as_array()
                .unwrap()
                .iter()
                .map(|part| part[0].as_str().unwrap().repeat(usize::try_from(part[1].as_u64().unwrap()).unwrap()))
                .collect();
            let text = if case["smart"] == true { smart::replaced(text.chars()) } else { text };
            let counted = segments(&text);
            assert_eq!(Some(counted.count as u64), case["segments"].as_u64(), "{}", case["name"]);
            assert_eq!(Some(counted.units as u64), case["units"].as_u64(), "{}", case["name"]);
            assert_eq!(counted.gsm7, case["encoding"] == "GSM-7", "{}", case["name"]);
            seen += 1;
        }
        assert_eq!(seen, 70);
    }

    #[test]
    fn the_alphabet_is_that_of_the_standard() {
        let vectors = vectors();
        let basic: String = vectors["gsm7_basic_by_code"].as_str().unwrap().replace('\u{1b}', "");
        let extension: String = vectors["gsm7_extension"].as_object().unwrap().keys().cloned().collect();
        for c in '\0'..=char::MAX {
            let expected = if basic.contains(c) { Some(1) } else { extension.contains(c).then_some(2) };
            assert_eq!(septets(c), expected, "{c:?}");
        }
    }

    #[test]
    fn a_tower_of_accents_is_divided() {
        assert_eq!(segments(&format!("e{}", "\u{301}".repeat(200))).count, 3);
    }

    #[test]
    fn the_practice_speaks_first() {
        assert_eq!(compose("Acme Primary Care", "Hello."), "Acme Primary Care: Hello.");
        assert_eq!(compose("Acme \u{2013} Care", "It\u{2019}s 9\u{a0}AM\u{2026}"), "Acme - Care: It's 9  AM...");
    }

    proptest! {
        #[test]
        fn a_count_lies_between_the_bare_minimum_and_one_part_per_character(text in ".{0,400}") {
            let counted = segments(&text);
            let (alone, part) = if counted.gsm7 { (160, 153) } else { (70, 67) };
            if counted.units <= alone {
                prop_assert_eq!(counted.count, 1);
            } else {
                prop_assert!(counted.count >= counted.units.div_ceil(part));
                prop_assert!(counted.count <= text.chars().count());
            }
        }
    }
}
