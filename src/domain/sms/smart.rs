//! What becomes of characters that the 7-bit alphabet lacks though it has something that reads alike: curly quotes, dashes, odd
//! spaces, wide letters. Twilio calls it smart encoding (twilio.com/docs/messaging/services, Smart Encoding). Letters with accents
//! stay as they are. What comes out is not changed again, neither here nor there, so that we count what is sent.

use unicode_normalization::UnicodeNormalization;

/// `text` composed (NFC), so that a letter and its accent are one character, then with everything in [`TABLE`] replaced.
pub(super) fn encoded(text: &str) -> String {
    replaced(text.nfc())
}

/// The characters as Twilio would have them.
pub(super) fn replaced(text: impl Iterator<Item = char>) -> String {
    let mut encoded = String::new();
    for c in text {
        match c {
            '\n' | ' '..='_' | 'a'..='~' => encoded.push(c),
            // Wide forms, which have no small letters in Twilio's table.
            '\u{ff01}'..='\u{ff3f}' | '\u{ff5b}'..='\u{ff5e}' => {
                encoded.extend(u32::from(c).checked_sub(0xfee0).and_then(char::from_u32));
            }
            _ => match TABLE.iter().find(|(_, from)| from.contains(c)) {
                Some((to, _)) => encoded.push_str(to),
                None => encoded.push(c),
            },
        }
    }
    encoded
}

// The table below was made from sms-segments-calculator 1.3.0 (github.com/TwilioDevEd/message-segment-calculator), which is under
// this licence:
//
// The MIT License (MIT)
//
//
// Copyright (c) 2021 Twilio Inc
//
// Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
// "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
// distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
// the following conditions:
//
// The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.
//
// THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
// MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR
// ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH
// THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

/// What is written, and instead of which characters.
#[rustfmt::skip]
const TABLE: &[(&str, &str)] = &[
    ("", "\u{0}\u{3}\u{4}\u{10}\u{11}\u{12}\u{13}\u{14}\u{17}\u{19}\u{200b}\u{200c}\u{2060}\u{feff}"),
    (" ", "\u{2001}\u{2028}\u{2029}"),
    ("!", "ǃ︕﹗"),
    ("\"", "«»\u{2ba}\u{2ee}“”„‟❝❞〝〞"),
    ("#", "﹟"),
    ("$", "﹩"),
    ("%", "﹪"),
    ("&", "﹠"),
    ("'", "\u{60}\u{b4}\u{2b9}\u{2bb}\u{2bc}\u{2bd}\u{2c8}\u{2ca}\u{2cb}\u{313}\u{314}‘’‛❛❜︐︑"),
    ("(", "❨❪⟮⦅﹙"),
    (")", "❩❫⟯⦆﹚"),
    ("*", "⁎∗⊛✢✣✤✥✱✲✳✺✻✼✽❃❉❊❋⧆﹡"),
    ("+", "\u{2d6}﹢"),
    (",", "\u{326}‚、﹐﹑､"),
    ("-", "‐–—―•⁃⎼⎽﹣"),
    (".", "。﹒｡"),
    ("/", "÷\u{337}\u{338}⁄∕⧸"),
    (":", "\u{2d0}\u{2f8}⦂\u{a789}︓"),
    (";", "⁏︔﹔"),
    ("<", "‹﹤"),
    ("=", "\u{347}\u{a78a}﹦"),
    (">", "›﹥"),
    ("?", "︖﹖"),
    ("@", "﹫"),
    ("A", "ᴀ"),
    ("B", "ʙ"),
    ("C", "ᴄ"),
    ("D", "ᴅ"),
    ("E", "ᴇ"),
    ("F", "ꜰ"),
    ("G", "ɢ"),
    ("H", "ʜ"),
    ("I", "ɪ"),
    ("J", "ᴊ"),
    ("K", "ᴋ"),
    ("L", "ʟ"),
    ("M", "ᴍ"),
    ("N", "ɴ"),
    ("O", "ᴏ"),
    ("P", "ᴘ"),
    ("R", "ʀ"),
    ("S", "ꜱ"),
    ("T", "ᴛ"),
    ("U", "ᴜ"),
    ("V", "ᴠ"),
    ("W", "ᴡ"),
    ("Y", "ʏ"),
    ("Z", "ᴢ"),
    ("\\", "\u{20e5}⧵⧹﹨"),
    ("^", "\u{2c6}\u{302}\u{1dcd}"),
    ("_", "\u{332}‗"),
    ("{", "❴﹛"),
    ("|", "\u{20d2}\u{20d3}∣⎜⎟⎸⎹⏐"),
    ("}", "❵﹜"),
    ("~", "\u{2dc}\u{2f7}\u{303}\u{330}\u{334}∼"),
    ("  ", "\u{80}\u{8d}\u{90}\u{9b}\u{9f}\u{a0}\u{2000}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{202f}\u{205f}\u{3000}"),
    ("       ", "\u{9}"),
    ("!!", "‼"),
    ("...", "…"),
    ("1/2", "½"),
    ("1/4", "¼"),
    ("3/4", "¾"),
];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::domain::sms::segments;

    /// The characters that Twilio replaces, each with what takes its place.
    fn table() -> BTreeMap<char, String> {
        let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/smart_encoding.json")).unwrap();
        let from =
            |name: &str| char::from_u32(u32::from_str_radix(name.trim_start_matches("U+"), 16).unwrap()).unwrap();
        let map = vectors["map"].as_object().unwrap();
        map.iter().map(|(name, to)| (from(name), to.as_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn every_character_becomes_what_twilio_makes_of_it_and_no_other_changes() {
        let table = table();
        assert_eq!(table.len(), 271);
        for c in '\0'..=char::MAX {
            let composed: String = std::iter::once(c).nfc().collect();
            let expected: String = composed.chars().map(|c| table.get(&c).cloned().unwrap_or(c.into())).collect();
            assert_eq!(encoded(c.encode_utf8(&mut [0; 4])), expected, "{c:?}");
        }
    }

    #[test]
    fn what_comes_out_is_of_the_alphabet_and_is_not_changed_again() {
        for to in table().into_values() {
            assert!(segments(&to).gsm7, "{to:?}");
            assert_eq!(encoded(&to), to);
        }
    }

    #[test]
    fn a_letter_and_its_accent_are_one_before_anything_is_replaced() {
        assert_eq!(encoded("man\u{303}ana, Jose\u{301}"), "ma\u{f1}ana, Jos\u{e9}");
        assert_eq!(encoded("a\u{303}b \u{303}"), "\u{e3}b ~");
    }
}
