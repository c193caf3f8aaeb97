//! Addresses of the web in a text message: what a phone would make a link of, or a carrier take for one.
//!
//! The rule. A host is two labels or more of letters, digits and hyphens with dots between them, of which one behind the first is a
//! top-level domain of the DNS, in any script, to its end or to a hyphen. A label that is none counts where the host is used as
//! one: with a path, a query or a port behind it, or an `@` before it. Numbers are hosts as IPv4, or as IPv6 in brackets. Besides
//! there is what begins with a scheme. So "Dr.Ray", "p.m." and "$12.50" are words; "today.Call us" has a host, and phones do make
//! a link of it.

use std::{collections::HashSet, net::Ipv6Addr, sync::LazyLock};

use unicode_normalization::char::is_combining_mark;

use super::seen;

/// Beginnings of addresses.
const SCHEMES: &[&str] = &["http:", "https:", "ftp:", "ftps:", "mailto:", "javascript:", "data:", "intent:", "market:"];
/// Beginnings of addresses of phones, before a number. "Tel: 202-555-0142" are words.
const PHONES: &[&str] = &["sms:", "smsto:", "mms:", "mmsto:", "callto:", "facetime:"];

/// Whether `text` has an address of the web, as a phone or a carrier would find it.
#[must_use]
pub fn has_address(text: &str) -> bool {
    let text = with_plain_dots(&seen(text)).to_lowercase();
    text.contains("://")
        || text.split_whitespace().any(|word| begins_as_one(word) || has_numbers(word) || has_host(word))
}

/// The full stop of Chinese and Japanese is a dot in a host (RFC 3490, 3.1), which their own sentences have none of.
fn with_plain_dots(text: &str) -> String {
    let mut before = ' ';
    let mut characters = text.chars().peekable();
    let mut plain = String::with_capacity(text.len());
    while let Some(c) = characters.next() {
        let within = before.is_ascii_alphanumeric() && characters.peek().is_some_and(char::is_ascii_alphanumeric);
        plain.push(if c == '\u{3002}' && within { '.' } else { c });
        before = c;
    }
    plain
}

fn begins_as_one(word: &str) -> bool {
    let begins = |scheme: &str, fits: fn(char) -> bool| {
        word.match_indices(scheme).any(|(at, found)| {
            let before = word.get(..at).and_then(|before| before.chars().next_back());
            let behind = word.get(at + found.len()..).and_then(|behind| behind.chars().next());
            before.is_none_or(|c| !c.is_alphanumeric()) && behind.is_some_and(fits)
        })
    };
    word.contains("www.")
        || SCHEMES.iter().any(|scheme| begins(scheme, |_| true))
        || PHONES.iter().any(|scheme| begins(scheme, |c| c == '+' || c.is_ascii_digit()))
        || begins("tel:", |c| c == '+')
}

/// Whether there is an address in numbers and brackets.
fn has_numbers(word: &str) -> bool {
    let inside = |(at, _): (usize, &str)| word.get(at + 1..)?.split_once(']').map(|(inside, _)| inside);
    word.match_indices('[').filter_map(inside).any(|inside| inside.parse::<Ipv6Addr>().is_ok())
}

fn has_host(word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || is_combining_mark(c) || c == '-' || c == '.';
    let mut rest = word;
    while let Some((skipped, from)) = rest.find(is_part).and_then(|at| rest.split_at_checked(at)) {
        let end = from.find(|c: char| !is_part(c)).unwrap_or(from.len());
        let (run, behind) = from.split_at_checked(end).unwrap_or((from, ""));
        let used = is_used(behind) || skipped.ends_with('@');
        if is_host(run.trim_matches(['.', '-']), used) {
            return true;
        }
        rest = behind;
    }
    false
}

/// Whether what stands behind a name makes a host of it: a path, a query or a port with either.
fn is_used(behind: &str) -> bool {
    let port = behind.strip_prefix(':').map(|port| port.trim_start_matches(|c: char| c.is_ascii_digit()));
    let path = port.filter(|path| behind.len() - path.len() > 1).unwrap_or(behind);
    path.starts_with(['/', '?', '#', '\\']) && path.chars().nth(1).is_some()
}

/// Whether dots part a name from what ends hosts. `used`: the last label may be any word.
fn is_host(run: &str, used: bool) -> bool {
    static TOP_LEVEL: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
        let lines = include_str!("top_level.txt").lines().filter(|line| !line.starts_with('#'));
        // For names in documents (RFC 6761, 6.2 and 6.5), and one that phones open elsewhere (RFC 7686).
        lines.flat_map(str::split_whitespace).chain(["example", "test", "onion"]).collect()
    });
    let labels: Vec<_> = run.split('.').collect();
    let ends = |(place, pair): (usize, &[&str])| {
        let [name, label] = pair else { return false };
        let word = label.chars().count() > 1 && label.chars().all(char::is_alphabetic);
        let end = label.split('-').next().unwrap_or_default();
        let known = TOP_LEVEL.contains(end) || label.starts_with("xn--");
        name.ends_with(char::is_alphanumeric) && (known || used && word && place + 2 == labels.len())
    };
    run.parse::<std::net::Ipv4Addr>().is_ok() || labels.windows(2).enumerate().any(ends)
}

/// `text` with a blank in the place of `known`, an address or a name, wherever it stands by itself: what goes on is another one.
pub(in crate::domain::template) fn without(text: &str, known: &str) -> String {
    let mut rest = text;
    let (mut left, mut before) = (String::with_capacity(text.len()), None);
    while let Some((skipped, behind)) = rest.split_once(known).filter(|_| !known.is_empty()) {
        left.push_str(skipped);
        before = skipped.chars().next_back().or(before);
        let mut next = behind.chars();
        let follows = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "-_".contains(c));
        let goes_on = match next.next() {
            Some('.' | '@' | ':') => follows(next.next()),
            c => follows(c),
        };
        let alone = !goes_on && before.is_none_or(|c| !c.is_alphanumeric() && !".-_@".contains(c));
        left.push_str(if alone { " " } else { known });
        before = Some(if alone { ' ' } else { known.chars().next_back().unwrap_or(' ') });
        rest = behind;
    }
    left + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_however_they_are_written() {
        for text in [
            "See https://acme.example/x",
            "ftp://x",
            "www.acme.example",
            "Go to acme.com.",
            "pay at bit.ly/3x?a",
            "(acme-care.org)",
            "ACME.COM:443/x",
            "Details:evil.com",
            "see evil.zone/pay",
            "see evil.madeup/pay",
            "\u{ff45}vil\u{ff0e}com",
            "evil\u{3002}com",
            "evil\u{3002}zone",
            "evil\u{2024}com",
            "evil\u{200b}.com",
            "evil.c\u{200d}om",
            "evil.com\u{2019}s",
            "evil.com_",
            "go to 203.0.113.7 now",
            "[::1]",
            "http:evil",
            "x@acme.dev",
            "{{link}}@evil.madeup",
            "xn--80ak.xn--p1ai",
            "evil.zone:443/pay",
            "evil.madeup:8080/pay",
            "evil.com\u{2013}now",
            "evil.com-now",
            "evil.com&x",
            "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.\u{440}\u{444}",
            "evil.zone",
            "acme.agency",
            "evil.com.Bye",
            "sms:+19005550100",
            "tel:+19005550100",
            "today.Call us",
        ] {
            assert!(has_address(text), "{text}");
        }
    }

    /// Sentences of every day in English and Spanish, with the dots, slashes and colons that people put in them.
    #[test]
    fn ordinary_words_are_none() {
        for text in [
            "Details: {{link}}",
            "Dr.Ray",
            "Dr. Smith and Dr. Li can see you at 9 a.m. today.",
            "9 a.m. to 5 p.m.",
            "9 a.m.-5 p.m., Mon.-Fri.",
            "No.3",
            "Ste.300, Apt.4B, St.Louis",
            "$12.50",
            "Your balance is $1,234.50. Pay by 12.31.2026.",
            "See you.Bye",
            "Thanks...see you!",
            "e.g. this",
            ".com",
            "a.m./p.m.",
            "202.555.0142",
            "Call 202.555.0142 ext.5 or +1.202.555.0142",
            "Mon./Tue.",
            "Tel:202-555-0142",
            "Tel: +1 202 555 0142",
            "1.5/2",
            "C/R",
            "Take 2.5mg w/food",
            "Version 2.0 of the form",
            "Jane Doe, M.D., Ph.D., R.N.",
            "Meet us @ 5 p.m.",
            "U.S.A. and EE.UU.",
            "Bring your I.D. and insurance card (front/back).",
            "Time: 10:30/11:00",
            "Su cita con la Dra. P\u{e9}rez es a las 9 a. m.",
            "Av. Ju\u{e1}rez No.12, Col. Centro, C.P. 06000",
            "Traiga su I.D. y su tarjeta, p. ej. la del seguro.",
            "Cons\u{e9}rvelo.S\u{ed}, gracias.",
            "Ma\u{f1}ana.Gu\u{e1}rdelo",
            "\u{60a8}\u{597d}\u{3002}\u{4e16}\u{754c}",
        ] {
            assert!(!has_address(text), "{text}");
        }
    }

    #[test]
    fn what_is_known_is_left_out_where_it_stands_by_itself() {
        let (link, name) = ("https://hw.example/l/x", "Acme");
        for (text, left) in [
            ("See https://hw.example/l/x.", "See  ."),
            ("See (https://hw.example/l/x), now", "See ( ), now"),
            ("https://hw.example/l/xyz", "https://hw.example/l/xyz"),
            ("https://hw.example/l/x@evil.zone", "https://hw.example/l/x@evil.zone"),
            ("https://hw.example/l/x.evil.zone", "https://hw.example/l/x.evil.zone"),
            ("xhttps://hw.example/l/x", "xhttps://hw.example/l/x"),
        ] {
            assert_eq!(without(text, link), left);
        }
        for (text, left) in [("Acme.com", "Acme.com"), ("my-Acme", "my-Acme"), ("Acme. AcmeAcme", " . AcmeAcme")] {
            assert_eq!(without(text, name), left);
        }
        assert_eq!(without("Acme", ""), "Acme");
    }
}
