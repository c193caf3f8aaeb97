#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// Sentences that the grammar was written from.
const KNOWN: &str = include_str!("../../../tests/vectors/stop_requests.tsv");
/// Sentences labelled before it was first run on them, and from which no request was added to it since.
const UNSEEN: &str = include_str!("../../../tests/vectors/stop_requests_unseen.tsv");

/// Label, language and text of each sentence.
fn corpus(vectors: &'static str) -> Vec<(bool, &'static str, &'static str)> {
    let lines = vectors.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let mut fields = line.split('\t');
        let (label, language, text) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        assert!(matches!(label, "stop" | "other") && matches!(language, "en" | "es"), "{line}");
        (label == "stop", language, text)
    };
    lines.map(read).collect()
}

/// Says what the grammar is worth on the sentences of one language, and holds it to `recall` and to no false alarm.
#[expect(clippy::print_stdout, reason = "what was measured")]
fn assert_told_apart(part: &str, vectors: &'static str, language: &str, least: f64) {
    let (mut found, mut missed, mut false_alarms, mut quiet) = (0, Vec::new(), Vec::new(), 0);
    for (stop, _, text) in corpus(vectors).into_iter().filter(|(_, of, _)| *of == language) {
        let taken = matches!(Meaning::of(text, None), Meaning::Stop | Meaning::StopRequest);
        match (stop, taken) {
            (true, true) => found += 1,
            (true, false) => missed.push(text),
            (false, true) => false_alarms.push(text),
            (false, false) => quiet += 1,
        }
    }
    let precision = f64::from(found) / (f64::from(found) + false_alarms.len() as f64);
    let recall = f64::from(found) / (f64::from(found) + missed.len() as f64);
    println!(
        "{part} {language}: precision {precision:.3}, recall {recall:.3} over {} requests and {} others",
        found as usize + missed.len(),
        quiet + false_alarms.len()
    );
    println!("  missed: {missed:#?}\n  false alarms: {false_alarms:#?}");
    assert!(false_alarms.is_empty(), "{part} {language}: {false_alarms:#?}");
    assert!(recall >= least, "{part} {language}: {missed:#?}");
}

/// The floors are below what it reaches: a change that costs more than a few requests is seen. None may cost a reminder.
#[test]
fn requests_to_stop_are_told_from_other_texts() {
    assert_told_apart("known", KNOWN, "en", 0.98);
    assert_told_apart("known", KNOWN, "es", 0.99);
    assert_told_apart("unseen", UNSEEN, "en", 0.90);
    assert_told_apart("unseen", UNSEEN, "es", 0.94);
}

#[test]
fn a_sentence_is_in_one_part_only() {
    let mut seen = HashSet::new();
    for (_, language, text) in corpus(KNOWN).into_iter().chain(corpus(UNSEEN)) {
        assert!(seen.insert((language, text.to_lowercase())), "{text}");
    }
}

/// What cannot be seen changes nothing wherever it stands, nor does the sign that stands for an apostrophe.
#[test]
fn what_looks_the_same_means_the_same() {
    for unseen in
        ['\u{200b}', '\u{ad}', '\u{fe0f}', '\u{feff}', '\u{200d}', '\u{2060}', '\u{202e}', '\u{3164}', '\u{e0001}']
    {
        for (text, meaning) in
            [("stop", Meaning::Stop), ("stop texting me", Meaning::StopRequest), ("I'll stop by at 5", Meaning::Other)]
        {
            for at in 0..=text.len() {
                let text = format!("{}{unseen}{}", &text[..at], &text[at..]);
                assert_eq!(Meaning::of(&text, None), meaning, "{text:?}");
            }
        }
    }
    for apostrophe in "'`´ʹʻʼʽʾʿˈˊˋ΄՚‘’‛′‵ꞌ＇｀".chars() {
        for text in [format!("Don{apostrophe}t text me"), format!("please don{apostrophe}t send me messages")] {
            assert_eq!(Meaning::of(&text, None), Meaning::StopRequest, "{text}");
        }
        let text = format!("don{apostrophe}t stop the texts");
        assert_eq!(Meaning::of(&text, None), Meaning::Other, "{text}");
    }
}

/// A keyword in other letters that look like its own, as the whole text and only there.
#[test]
fn a_keyword_is_known_by_its_looks() {
    for (text, meaning) in [
        ("ЅТОР", Meaning::Stop),
        ("ѕtор", Meaning::Stop),
        ("ΤΟΡ", Meaning::Other),
        ("ЅΤΟΡ!", Meaning::Stop),
        ("ꜱᴛᴏᴘ", Meaning::Stop),
        ("ᴜɴꜱᴜʙꜱᴄʀɪʙᴇ", Meaning::Stop),
        ("ᴇɴᴅ", Meaning::Stop),
        ("🆂🆃🅾🅿", Meaning::Stop),
        ("🆂🆃🅾️🅿️", Meaning::Stop),
        ("🅢🅣🅞🅟", Meaning::Stop),
        ("🇸 🇹 🇴 🇵", Meaning::Stop),
        ("🅂🅃🄾🄿", Meaning::Stop),
        ("Ⓢⓣⓞⓟ", Meaning::Stop),
        ("S⃣T⃣O⃣P⃣", Meaning::Stop),
        ("𝐒𝐓𝐎𝐏", Meaning::Stop),
        ("ST0P", Meaning::Stop),
        ("СANCEL", Meaning::Stop),
        ("ΑΡΡΕΤ", Meaning::Other),
        ("ΥΕЅ", Meaning::Start),
        ("НЕLР", Meaning::Help),
        ("ɪɴꜰᴏ", Meaning::Help),
        ("сторож", Meaning::Other),
        ("ѕtор by at 5", Meaning::Other),
    ] {
        assert_eq!(Meaning::of(text, None), meaning, "{text}");
    }
}

/// Such texts are requests, which staff may undo, and no keywords: the provider would not have taken them for one.
#[test]
fn what_is_no_keyword_may_be_a_request() {
    for text in [
        "STOP - John",
        "STOP 1",
        "stop1",
        "Text STOP",
        "STOP to end",
        "cancel all",
        "stop 5",
        "arrêter",
        "halt",
        "Wrong # please remove",
        "No más",
    ] {
        assert_eq!(Meaning::of(text, None), Meaning::StopRequest, "{text}");
    }
}

#[test]
fn a_word_is_known_in_any_spelling_and_only_as_the_whole_text() {
    for (words, meaning) in [
        (
            &["STOP", "UNSUBSCRIBE", "END", "QUIT", "STOPALL", "REVOKE", "OPTOUT", "CANCEL", "ARRET", "ALTO", "PARAR"]
                [..],
            Meaning::Stop,
        ),
        (&["START", "YES", "UNSTOP"], Meaning::Start),
        (&["HELP", "INFO"], Meaning::Help),
    ] {
        for word in words {
            let small = word.to_lowercase();
            let wide: String =
                word.chars().map(|c| char::from_u32(u32::from(c) - u32::from('A') + 0xff21).unwrap()).collect();
            for text in [
                (*word).to_owned(),
                small.clone(),
                format!("  {small}.\n"),
                format!("“{word}!!”"),
                format!("{word} 🛑"),
                format!("{}-{}", &word[..2], &word[2..]),
                format!("{} {}", &word[..2], &word[2..]),
                wide,
            ] {
                assert_eq!(Meaning::of(&text, None), meaning, "{text}");
            }
        }
    }
    for (text, meaning) in [
        ("Opt Out", Meaning::Stop),
        ("opt-out", Meaning::Stop),
        ("stop all", Meaning::Stop),
        ("ARRÊT", Meaning::Stop),
        ("yes please", Meaning::Other),
        ("help me", Meaning::Other),
        ("stopwatch", Meaning::Other),
        ("stop by 5", Meaning::Other),
        ("", Meaning::Other),
        ("🛑", Meaning::Other),
    ] {
        assert_eq!(Meaning::of(text, None), meaning, "{text}");
    }
}

#[test]
fn what_twilio_says_of_a_text_goes_before_our_own_words() {
    for (said, meaning) in [("STOP", Meaning::Stop), ("START", Meaning::Start), ("HELP", Meaning::Help)] {
        for text in ["baja", "STOP", "START", "HELP", "please stop texting me", "", "thanks"] {
            assert_eq!(Meaning::of(text, Some(said)), meaning, "{said}: {text}");
        }
    }
    assert_eq!(Meaning::of("STOP", Some("MAYBE")), Meaning::Stop);
    assert_eq!(Meaning::of("thanks", Some("MAYBE")), Meaning::Other);
}

#[test]
fn every_class_that_a_pattern_names_is_there() {
    for language in [english::LANGUAGE, spanish::LANGUAGE] {
        assert_eq!(language.unknown_classes(), Vec::<&str>::new());
    }
}

#[test]
fn the_longest_text_is_read_at_once() {
    let start = tokio::time::Instant::now();
    for text in ["stop ".repeat(400), "do not opt out of the ".repeat(80), "a".repeat(1_600), "no more ".repeat(200)] {
        let _ = Meaning::of(&text, None);
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn spelling_does_not_change_what_is_asked(which in any::<prop::sample::Index>(), loud in any::<bool>(), end in "[!. ]{0,4}") {
        let corpus = corpus(KNOWN);
        let text = which.get(&corpus).2;
        // Capital letters mean nothing; what follows the end means nothing but for a question mark.
        prop_assume!(!text.ends_with('?'));
        let changed = if loud { text.to_uppercase() } else { text.to_lowercase() };
        let meaning = Meaning::of(text, None);
        prop_assert_eq!(Meaning::of(&format!("  {changed}{end}"), None), meaning, "{}", text);
    }

    #[test]
    fn any_text_is_read(text in "\\PC{0,200}") {
        let _ = Meaning::of(&text, None);
    }
}
