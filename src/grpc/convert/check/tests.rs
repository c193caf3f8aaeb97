use super::*;

fn paths(error: Option<Error>) -> Vec<String> {
    match error {
        Some(Error::FieldInvalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn faults_are_all_found_under_their_paths() {
    let mut check = Check::default();
    check.at("notification", |check| {
        check.at("payment_due", |check| check.expect("amount", false, "is required"));
        check.each("titles", ["a", "b"], |check, title| check.expect("text", title == "a", "is wrong"));
    });
    check.expect("request_id", false, "is required");
    let found = paths(check.finish(Some(())).err());
    assert_eq!(found, ["notification.payment_due.amount", "notification.titles[1].text", "request_id"]);
}

#[test]
fn no_more_than_twenty_faults_are_kept() {
    let mut check = Check::default();
    (0..50).for_each(|place| check.expect(&format!("items[{place}]"), false, "is wrong"));
    assert_eq!(paths(check.finish(Some(())).err()).len(), MOST_VIOLATIONS);
}

#[test]
fn a_fault_is_told_once_in_the_same_words() {
    let mut check = Check::default();
    for description in ["is wrong", "is wrong", "is too long", "is wrong"] {
        check.expect("mask", false, description);
    }
    assert_eq!(paths(check.finish(Some(())).err()), ["mask", "mask"]);
}

#[test]
fn ids_are_those_that_this_server_makes() {
    use crate::domain::MessageId;
    let good = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(Check::default().id::<MessageId>("f", good).map(|id| id.to_string()).as_deref(), Some(good));
    for bad in ["", "x", "01890a5d-ac96-774b-bcce-b302099a805", &format!("{good}\n"), "\0"] {
        assert_eq!(faults(|check| assert!(check.id::<MessageId>("f", bad).is_none())), 1, "{bad:?}");
    }
    assert_eq!(faults(|check| assert!(check.id_if_set::<MessageId>("f", "").is_none())), 0);
    assert_eq!(faults(|check| assert!(check.id_if_set::<MessageId>("f", "x").is_none())), 1);
}

/// How many faults reading finds.
fn faults(read: impl FnOnce(&mut Check)) -> usize {
    let mut check = Check::default();
    read(&mut check);
    check.found.len()
}

#[test]
fn one_line_has_no_control_characters() {
    for bad in ["a\nb", "a\rb", "a\0b", "a\tb", "a\x7fb", "a\x1bb"] {
        assert_eq!(faults(|check| drop(check.line("f", bad.into(), 9))), 1, "{bad:?}");
    }
    for good in ["", "O'Hara-Nuñez", "李", "a b"] {
        assert_eq!(faults(|check| drop(check.line("f", good.into(), 12))), 0, "{good:?}");
    }
}

#[test]
fn lines_may_be_fed_and_nothing_else() {
    assert_eq!(faults(|check| drop(check.lines("f", "a\nb".into(), 9))), 0);
    assert_eq!(faults(|check| drop(check.lines("f", "a\r\nb".into(), 9))), 1);
    assert_eq!(faults(|check| drop(check.lines("f", "a\tb".into(), 9))), 1);
}

#[test]
fn lengths_are_counted_in_characters() {
    assert_eq!(faults(|check| drop(check.line("f", "ñ".repeat(30), 30))), 0);
    assert_eq!(faults(|check| drop(check.line("f", "n".repeat(31), 30))), 1);
}

#[test]
fn what_is_required_is_not_blank() {
    assert_eq!(faults(|check| drop(check.required_line("f", String::new(), 9))), 1);
    assert_eq!(faults(|check| drop(check.required_line("f", "  ".into(), 9))), 1);
    assert_eq!(faults(|check| drop(check.required_lines("f", "\n".into(), 9))), 1);
    // A patient would get a text that says nothing.
    assert_eq!(faults(|check| drop(check.required_lines("f", "\u{200b}\u{2800}".into(), 9))), 1);
}

#[test]
fn a_name_is_seen_whole() {
    for good in ["", "Acme", "Jos\u{e9}", "\u{639}\u{644}\u{6cc}\u{200c}\u{631}\u{636}\u{627}", "\u{5d0}\u{5d1}"] {
        assert_eq!(faults(|check| drop(check.name("f", good.into(), 30))), 0, "{good}");
    }
    for bad in ["a\u{202e}b", "a\u{200b}", "\u{2066}a", "a\u{ad}", "\u{feff}a", "a\u{2028}b", "a\u{e0041}"] {
        assert_eq!(faults(|check| drop(check.name("f", bad.into(), 30))), 1, "{bad:?}");
        assert_eq!(faults(|check| drop(check.required_name("f", bad.into(), 30))), 1, "{bad:?}");
    }
    assert_eq!(faults(|check| drop(check.required_name("f", " ".into(), 30))), 1);
}

#[test]
fn times_are_of_the_years_1_to_9999_and_cut_to_microseconds() {
    let time = |seconds, nanos| Check::default().time("f", Some(Timestamp { seconds, nanos }));
    assert_eq!(time(0, 1_999).map(|time| time.timestamp_subsec_nanos()), Some(1_000));
    assert!(time(-62_135_596_800, 0).is_some() && time(253_402_300_799, 999_999_999).is_some());
    for (seconds, nanos) in [(-62_135_596_801, 0), (253_402_300_800, 0), (i64::MAX, 0), (0, -1), (0, 1_000_000_000)] {
        assert_eq!(time(seconds, nanos), None, "{seconds} {nanos}");
    }
    assert_eq!(faults(|check| assert!(check.required_time("f", None).is_none())), 1);
}

#[test]
fn lengths_of_time_stay_in_their_range() {
    let allowed = TimeDelta::seconds(5)..=TimeDelta::seconds(60);
    let length = |seconds, nanos| {
        Check::default().length("f", Some(Duration { seconds, nanos }), allowed.clone(), "must be 5 to 60 s")
    };
    assert_eq!(length(5, 0), Some(TimeDelta::seconds(5)));
    for (seconds, nanos) in [(4, 999_999_999), (60, 1), (-5, 0), (5, -1), (5, 1_000_000_000), (i64::MAX, 0)] {
        assert_eq!(length(seconds, nanos), None, "{seconds} {nanos}");
    }
}

#[test]
fn unknown_numbers_of_an_enum_are_refused() {
    let known = crate::domain::Channel::from_number;
    assert!(Check::default().choice("f", 2, known).is_some());
    for number in [0, -1, 5, 99, 65_538, i32::MAX, i32::MIN] {
        assert_eq!(faults(|check| assert!(check.choice("f", number, known).is_none())), 1, "{number}");
    }
    assert_eq!(faults(|check| drop(check.choices("f", vec![1, 2, 1], known))), 1, "one is there twice");
}

#[test]
fn only_plain_https_addresses_lead_out() {
    for good in ["https://example.com", "https://example.com:8443/a?b=c#d", "HTTPS://Example.com/ü"] {
        assert_eq!(faults(|check| drop(check.https("f", good))), 0, "{good}");
    }
    let long = format!("https://example.com/{}", "x".repeat(2_000));
    // Each letter takes six bytes in the form that is kept.
    let grows = format!("https://example.com/{}", "\u{fc}".repeat(400));
    assert_eq!(faults(|check| drop(check.https("f", &grows))), 1);
    assert_eq!(faults(|check| drop(check.https("f", &format!("https://example.com/{}", "x".repeat(1_980))))), 0);
    let bad = ["", "http://example.com", "javascript:alert(1)", "https://", "https://pat@example.com", "example.com"];
    for bad in bad.into_iter().chain(["https://:p@example.com", "https://exa\nmple.com", "https://a b.com", &long]) {
        assert_eq!(faults(|check| drop(check.https("f", bad))), 1, "{bad:?}");
    }
}

#[test]
fn keys_of_requests_are_short_printable_ascii() {
    for good in ["x", "reminder-24h:appt-8842", "a b", &"x".repeat(64)] {
        assert_eq!(faults(|check| drop(request_id(check, good.to_owned()))), 0, "{good}");
    }
    for bad in ["", "a\n", "é", "a\x7f", &"x".repeat(65)] {
        assert_eq!(faults(|check| drop(request_id(check, bad.to_owned()))), 1, "{bad:?}");
    }
}

#[test]
fn locales_and_zones_have_their_form() {
    for good in ["en", "en-US", "zh-Hant-TW", "es-419"] {
        assert!(locale(good).is_ok(), "{good}");
    }
    for bad in ["en_US", "en-", "-en", "en US", "englisheng", &"en-US-".repeat(6)] {
        assert!(locale(bad).is_err(), "{bad}");
    }
    assert!(time_zone("America/Chicago").is_ok());
    assert!(time_zone("Chicago").is_err());
}

#[test]
fn page_sizes_are_moved_into_the_range() {
    assert_eq!(
        [0, 1, 500, 501, i32::MAX, -1, i32::MIN].map(|size| page_size(size, 50, 500)),
        [50, 1, 500, 500, 500, 1, 1]
    );
}
