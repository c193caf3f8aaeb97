#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// Label, language and text of each sentence.
fn corpus() -> Vec<(bool, &'static str, &'static str)> {
    let lines = include_str!("../../../tests/vectors/stop_requests.tsv").lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let mut fields = line.split('\t');
        let (label, language, text) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        assert!(matches!(label, "stop" | "other") && matches!(language, "en" | "es"), "{line}");
        (label == "stop", language, text)
    };
    lines.map(read).collect()
}

/// What the grammar is worth on sentences of both classes. The floors are below what it reaches: a change that costs more than
/// a few sentences is seen.
#[test]
#[expect(clippy::print_stdout, reason = "what was measured")]
fn requests_to_stop_are_told_from_other_texts() {
    for language in ["en", "es"] {
        let corpus = corpus().into_iter().filter(|(_, of, _)| *of == language);
        let (mut found, mut missed, mut false_alarms, mut quiet) = (0, Vec::new(), Vec::new(), 0);
        for (stop, _, text) in corpus {
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
            "{language}: precision {precision:.3}, recall {recall:.3} over {} requests and {} others",
            found as usize + missed.len(),
            quiet + false_alarms.len()
        );
        println!("  missed: {missed:#?}\n  false alarms: {false_alarms:#?}");
        assert!(precision >= 0.97, "{language}: {false_alarms:#?}");
        assert!(recall >= 0.95, "{language}: {missed:#?}");
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
        ("stop 5", Meaning::Other),
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
        let corpus = corpus();
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
