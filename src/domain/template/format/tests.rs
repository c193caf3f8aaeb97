#![expect(clippy::unwrap_used, reason = "tests")]

use chrono::TimeZone;
use chrono_tz::{America, Asia};

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn manner(tag: &str) -> Manner {
    Manner::of(&Locale::new(tag))
}

#[test]
fn times_are_those_of_the_zone_on_that_day() {
    let home = America::New_York;
    let shown = |text: &str| manner("en-US").time(utc(text), home, home, false);
    assert_eq!(shown("2026-03-03T19:30:00Z"), "Tuesday, March 3 at 2:30 PM");
    assert_eq!(shown("2026-03-08T06:59:00Z"), "Sunday, March 8 at 1:59 AM");
    assert_eq!(shown("2026-03-08T07:00:00Z"), "Sunday, March 8 at 3:00 AM");
    assert_eq!(shown("2026-07-04T16:00:00Z"), "Saturday, July 4 at 12:00 PM");
    assert_eq!(shown("2027-01-01T05:00:00Z"), "Friday, January 1 at 12:00 AM");
    assert_eq!(manner("en-US").date(utc("2027-01-01T04:59:59Z"), home), "December 31, 2026");
}

#[test]
fn times_are_written_as_their_reader_writes_them() {
    let home = America::New_York;
    let shown = |tag: &str, text: &str, short| manner(tag).time(utc(text), home, home, short);
    assert_eq!(shown("es", "2026-03-07T19:30:00Z", false), "sábado 7 de marzo a las 2:30 PM");
    assert_eq!(shown("es-MX", "2026-03-04T18:05:00Z", false), "miércoles 4 de marzo a la 1:05 PM");
    assert_eq!(shown("es-419", "2026-03-07T19:30:00Z", true), "7 de marzo a las 2:30 PM");
    assert_eq!(shown("es-US", "2026-03-07T06:30:00Z", true), "7 de marzo a la 1:30 AM");
    assert_eq!(shown("en", "2026-03-07T19:30:00Z", true), "Saturday, March 7 at 2:30 PM");
    assert_eq!(shown("fr", "2026-03-07T19:30:00Z", false), "samedi, 07/03/2026, 14:30");
    assert_eq!(shown("de-AT", "2026-03-07T19:30:00Z", false), "Samstag, 2026-03-07, 14:30");
    assert_eq!(shown("tlh", "2026-03-07T19:30:00Z", false), "Saturday, 03/07/2026, 14:30");
    assert_eq!(manner("es").date(utc("2026-09-05T12:00:00Z"), home), "5 de septiembre de 2026");
    assert_eq!(manner("vi").date(utc("2026-09-05T12:00:00Z"), home), "05/09/2026");
}

#[test]
fn another_zone_is_named() {
    let shown = |text: &str, zone| manner("en-US").time(utc(text), zone, America::New_York, false);
    assert_eq!(shown("2026-03-03T19:30:00Z", America::Los_Angeles), "Tuesday, March 3 at 11:30 AM PST");
    assert_eq!(shown("2026-07-03T19:30:00Z", America::Los_Angeles), "Friday, July 3 at 12:30 PM PDT");
    assert_eq!(shown("2026-07-03T19:30:00Z", Asia::Kathmandu), "Saturday, July 4 at 1:15 AM +0545");
    let spanish = manner("es").time(utc("2026-03-03T19:30:00Z"), America::Chicago, America::New_York, true);
    assert_eq!(spanish, "3 de marzo a la 1:30 PM CST");
}

#[test]
fn lengths_are_hours_and_minutes() {
    for (minutes, english, spanish, french) in [
        (0, "", "", ""),
        (-30, "", "", ""),
        (1, "1 minute", "1 minuto", "1 min"),
        (45, "45 minutes", "45 minutos", "45 min"),
        (60, "1 hour", "1 hora", "1 h"),
        (150, "2 hours 30 minutes", "2 horas 30 minutos", "2 h 30 min"),
    ] {
        let length = |tag| manner(tag).length(TimeDelta::minutes(minutes));
        assert_eq!([length("en-US"), length("es"), length("fr")], [english, spanish, french]);
    }
    assert_eq!(manner("en").length(TimeDelta::seconds(59)), "");
}

fn amount(tag: &str, currency: &str, units: i64, nanos: i32) -> String {
    manner(tag).money(&Money { currency_code: currency.into(), units, nanos })
}

#[test]
fn amounts_are_exact() {
    let shown = |currency: &str, units, nanos| amount("en-US", currency, units, nanos);
    assert_eq!(shown("USD", 1_234, 500_000_000), "$1,234.50");
    assert_eq!(shown("USD", 0, 0), "$0.00");
    assert_eq!(shown("USD", 0, 50_000_000), "$0.05");
    assert_eq!(shown("USD", 0, -50_000_000), "-$0.05");
    assert_eq!(shown("USD", -12, -990_000_000), "-$12.99");
    assert_eq!(shown("USD", 1, 5_000_000), "$1.005");
    assert_eq!(shown("USD", 0, 1), "$0.000000001");
    assert_eq!(shown("USD", 999, 0), "$999.00");
    assert_eq!(shown("USD", 1_000_000, 0), "$1,000,000.00");
    assert_eq!(shown("USD", i64::MIN, -999_999_999), "-$9,223,372,036,854,775,808.999999999");
    assert_eq!(shown("EUR", 12, 0), "EUR 12.00");
    assert_eq!(shown("EUR", -12, 0), "-EUR 12.00");
    assert_eq!(shown("JPY", 1_200, 0), "JPY 1,200");
    assert_eq!(shown("KWD", 1, 250_000_000), "KWD 1.250");
}

#[test]
fn amounts_have_the_marks_of_their_reader_and_the_same_digits() {
    assert_eq!(amount("es", "USD", 1_234, 500_000_000), "$1,234.50");
    assert_eq!(amount("es-US", "USD", 1_234, 500_000_000), "$1,234.50");
    assert_eq!(amount("es-MX", "USD", 1_234, 500_000_000), "USD 1,234.50");
    assert_eq!(amount("es-ES", "EUR", 1_234, 500_000_000), "EUR 1.234,50");
    assert_eq!(amount("de", "USD", -1_234_567, 0), "-$1.234.567,00");
    assert_eq!(amount("hi", "INR", 12_345_678, 0), "INR 1,23,45,678.00");
    for posix in ["en-US", "es-MX", "es-ES", "fr", "pt", "ar", "fa", "vi", "zh-TW", "so", "xx"] {
        let digits =
            amount(posix, "EUR", 9_876_543_210, 12_000_000).chars().filter(char::is_ascii_digit).collect::<String>();
        assert_eq!(digits, "9876543210012", "{posix}");
    }
}

#[test]
fn no_time_of_the_year_is_longer_than_the_wording_reckons_with() {
    let start = America::New_York.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap().to_utc();
    let (english, spanish) = (manner("en"), manner("es"));
    for zone in chrono_tz::TZ_VARIANTS {
        for day in (0..400).step_by(13) {
            let time = start + TimeDelta::days(day) + TimeDelta::minutes(day * 7);
            for (manner, most) in [(&english, 41), (&spanish, 37)] {
                let shown = manner.time(time, zone, chrono_tz::UTC, true);
                assert!(shown.len() <= most, "{shown}");
            }
        }
    }
}
