#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const ALLOWED: [&str; 2] = ["US", "CA"];

#[test]
fn every_vector_gets_its_verdict() {
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/vectors/e164.json")).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 38);
    for case in cases {
        let input = case["input"].as_str().unwrap();
        let parsed = PhoneNumber::parse(input, case["default_region"].as_str().unwrap_or_default());
        match case["reason"].as_str() {
            Some("UNPARSABLE" | "INVALID_NUMBER" | "N11_EXCHANGE") => {
                assert_eq!(parsed, Err(AddressError::Phone), "{input}")
            }
            Some("HAS_EXTENSION") => assert_eq!(parsed, Err(AddressError::Extension), "{input}"),
            verdict => {
                let number = parsed.unwrap();
                assert_eq!(number.e164(), case["e164"].as_str().unwrap(), "{input}");
                let expected = match verdict {
                    None => Textability::Allowed,
                    Some("REGION_NOT_ALLOWED") => Textability::RegionNotAllowed,
                    Some("TYPE_NOT_TEXTABLE") => Textability::TypeNotTextable,
                    Some(other) => unreachable!("{other}"),
                };
                assert_eq!(number.may_be_texted(&ALLOWED), expected, "{input}");
                let region = case["region"].as_str().unwrap();
                assert_ne!(number.may_be_texted(&[region]), Textability::RegionNotAllowed, "{input}");
            }
        }
    }
}

#[test]
fn masks_show_the_end_of_a_number_and_the_host_of_a_mailbox() {
    let phone = |text: &str| PhoneNumber::from_trusted(text.into()).mask();
    assert_eq!(phone("+12025554821"), "(•••) •••-4821");
    assert_eq!(phone("+442079460018"), "+44 ••• ••• 0018");
    assert_eq!(phone("+390612345678"), "+39 ••• ••• 5678");
    assert_eq!(phone("+79161234567"), "+7 ••• ••• 4567");
    assert_eq!(phone("+3545551234"), "+354 ••• ••• 234");
    assert_eq!(phone("+2904123"), "+290 ••• ••• 23");
    let email = |text: &str| EmailAddress::from_trusted(text.into()).mask();
    assert_eq!(email("maria.silva@example.com"), "m•••@example.com");
    assert_eq!(email("m@example.com"), "m•••@example.com");
}

#[test]
fn country_codes_are_cut_as_the_numbering_plans_cut_them() {
    for (number, code) in [("+12025550142", 1), ("+79161234567", 1), ("+201001234567", 2), ("+27821234567", 2)] {
        assert_eq!(country_code_length(&number[1..]), code, "{number}");
    }
    for code in 200..1000_u16 {
        let text = code.to_string();
        let known = |code: u16| DATABASE.region(&code).is_some();
        if known(code) {
            assert_eq!(country_code_length(&text), 3, "{code}");
        } else if known(code / 10) {
            assert_eq!(country_code_length(&text), 2, "{code}");
        }
    }
}

#[test]
fn numbers_are_shown_as_people_write_them() {
    let shown = |text: &str| PhoneNumber::from_trusted(text.into()).display();
    assert_eq!(shown("+12025550142"), "(202) 555-0142");
    assert_eq!(shown("+442079460018"), "+44 20 7946 0018");
}

#[test]
fn mailboxes_keep_their_local_part_and_get_a_plain_domain() {
    for (text, kept) in [
        ("pat@example.com", "pat@example.com"),
        (" Pat.O'Neil+tag@EXAMPLE.Com ", "Pat.O'Neil+tag@example.com"),
        ("pat@müller.example", "pat@xn--mller-kva.example"),
        ("pat@xn--mller-kva.example", "pat@xn--mller-kva.example"),
        ("a@b.co", "a@b.co"),
    ] {
        assert_eq!(EmailAddress::parse(text).unwrap().as_str(), kept);
    }
    let longest = format!("{}@{}.example", "a".repeat(64), "b".repeat(63));
    assert!(EmailAddress::parse(&longest).is_ok());
    assert_eq!(EmailAddress::parse("Pat@Example.com").unwrap().canonical(), "pat@example.com");
}

#[test]
fn what_is_no_mailbox_is_refused() {
    let long_local = format!("{}@example.com", "a".repeat(65));
    let long_label = format!("a@{}.example", "b".repeat(64));
    let long_domain = format!("a@{}example", "b.".repeat(130));
    let long_whole = format!("{}@{}", "a".repeat(64), ["b".repeat(63), "c".repeat(63), "d".repeat(63)].join("."));
    for bad in [
        "",
        "@",
        "pat",
        "pat@",
        "@example.com",
        "pat@example",
        "pat@@example.com",
        "a@b@example.com",
        ".pat@example.com",
        "pat.@example.com",
        "p..at@example.com",
        "\"pat\"@example.com",
        "pat smith@example.com",
        "pat@exam ple.com",
        "pát@example.com",
        "pat@-example.com",
        "pat@example-.com",
        "pat@example..com",
        "pat@.example.com",
        "pat@example.com.",
        "pat@ex_ample.com",
        "pat@127.0.0.1",
        "pat@[::1]",
        "pat@ex%61mple.com",
        "pat@example.com\r\n",
        "pat\n@example.com",
        "pat\0@example.com",
        "pat@example.com\nBcc: x@example.com",
        "<pat@example.com>",
        "pat@example.com, sam@example.com",
        "pat(x)@example.com",
        "pat@xn--zzzzzzzz99999.example",
        &long_local,
        &long_label,
        &long_domain,
        &long_whole,
    ] {
        assert_eq!(EmailAddress::parse(bad), Err(AddressError::Email), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn every_north_american_number_reads_back_as_itself(area in 200..1000_u16, exchange in 200..1000_u16, line in 0..10_000_u16) {
        let written = format!("({area}) {exchange}-{line:04}");
        if let Ok(number) = PhoneNumber::parse(&written, "US") {
            prop_assert_eq!(number.e164(), format!("+1{area}{exchange}{line:04}"));
            prop_assert_eq!(number.display(), written);
            prop_assert!(exchange % 100 != 11);
        }
    }

    #[test]
    fn any_text_is_answered_and_what_is_kept_is_e164(text in "\\PC{0,40}|[+0-9() x;=.-]{0,30}") {
        if let Ok(number) = PhoneNumber::parse(&text, "US") {
            prop_assert!(is_e164(number.e164()));
            prop_assert_eq!(PhoneNumber::parse(number.e164(), ""), Ok(number.clone()));
        }
    }

    #[test]
    fn any_text_is_answered_and_a_mailbox_reads_back_as_itself(text in "\\PC{0,40}|[a-zA-Z0-9.@+-]{0,40}") {
        if let Ok(address) = EmailAddress::parse(&text) {
            prop_assert_eq!(EmailAddress::parse(address.as_str()), Ok(address.clone()));
            prop_assert_eq!(address.as_str().matches('@').count(), 1);
        }
    }
}
