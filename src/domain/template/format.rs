//! Times, lengths and amounts as people in the United States write them. Integers only: no amount is ever rounded.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::domain::Money;

/// "Tuesday, March 3 at 2:30 PM" on the clocks of `zone`; with the zone's name where `home` is another one.
pub(super) fn time(time: DateTime<Utc>, zone: Tz, home: Tz) -> String {
    let pattern = if zone == home { "%A, %B %-d at %-I:%M %p" } else { "%A, %B %-d at %-I:%M %p %Z" };
    time.with_timezone(&zone).format(pattern).to_string()
}

/// "March 3, 2026".
pub(super) fn date(time: DateTime<Utc>, zone: Tz) -> String {
    time.with_timezone(&zone).format("%B %-d, %Y").to_string()
}

/// "1 hour 30 minutes"; empty if less than a minute.
pub(super) fn length(length: TimeDelta) -> String {
    let count = |number: i64, unit: &str| match number {
        ..=0 => String::new(),
        1 => format!("1 {unit}"),
        _ => format!("{number} {unit}s"),
    };
    let parts = [count(length.num_hours(), "hour"), count(length.num_minutes() % 60, "minute")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// "$1,234.50", "-$0.05", "EUR 12.00", "JPY 1,200". Digits beyond those that the currency has are shown if there are any.
pub(super) fn money(money: &Money) -> String {
    const NANOS: u128 = 1_000_000_000;
    let total = i128::from(money.units) * 1_000_000_000 + i128::from(money.nanos);
    let (whole, nanos) = (total.unsigned_abs() / NANOS, total.unsigned_abs() % NANOS);
    let sign = if total < 0 { "-" } else { "" };
    let symbol = match money.currency_code.as_str() {
        "USD" => "$".to_owned(),
        code => format!("{code} "),
    };
    let all = format!("{nanos:09}");
    let kept = all.trim_end_matches('0').len().max(minor_digits(&money.currency_code));
    let point = if kept == 0 { "" } else { "." };
    format!("{sign}{symbol}{}{point}{}", grouped(whole), all.get(..kept).unwrap_or_default())
}

/// How many digits follow the point (ISO 4217).
fn minor_digits(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// With a comma before each three digits.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use chrono::TimeZone;
    use chrono_tz::{America, Asia};

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_those_of_the_zone_on_that_day() {
        let home = America::New_York;
        let shown = |text: &str| time(utc(text), home, home);
        assert_eq!(shown("2026-03-03T19:30:00Z"), "Tuesday, March 3 at 2:30 PM");
        assert_eq!(shown("2026-03-08T06:59:00Z"), "Sunday, March 8 at 1:59 AM");
        assert_eq!(shown("2026-03-08T07:00:00Z"), "Sunday, March 8 at 3:00 AM");
        assert_eq!(shown("2026-07-04T16:00:00Z"), "Saturday, July 4 at 12:00 PM");
        assert_eq!(shown("2027-01-01T05:00:00Z"), "Friday, January 1 at 12:00 AM");
        assert_eq!(date(utc("2027-01-01T04:59:59Z"), home), "December 31, 2026");
    }

    #[test]
    fn another_zone_is_named() {
        let shown = |text: &str, zone| time(utc(text), zone, America::New_York);
        assert_eq!(shown("2026-03-03T19:30:00Z", America::Los_Angeles), "Tuesday, March 3 at 11:30 AM PST");
        assert_eq!(shown("2026-07-03T19:30:00Z", America::Los_Angeles), "Friday, July 3 at 12:30 PM PDT");
        assert_eq!(shown("2026-07-03T19:30:00Z", Asia::Kathmandu), "Saturday, July 4 at 1:15 AM +0545");
    }

    #[test]
    fn lengths_are_hours_and_minutes() {
        for (minutes, shown) in
            [(0, ""), (-30, ""), (1, "1 minute"), (45, "45 minutes"), (60, "1 hour"), (150, "2 hours 30 minutes")]
        {
            assert_eq!(length(TimeDelta::minutes(minutes)), shown);
        }
        assert_eq!(length(TimeDelta::seconds(59)), "");
    }

    #[test]
    fn amounts_are_exact() {
        let shown = |currency: &str, units, nanos| money(&Money { currency_code: currency.into(), units, nanos });
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
    fn no_time_of_the_year_is_longer_than_the_wording_reckons_with() {
        let start = America::New_York.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap().to_utc();
        for zone in chrono_tz::TZ_VARIANTS {
            for day in (0..400).step_by(13) {
                let shown = time(start + TimeDelta::days(day) + TimeDelta::minutes(day * 7), zone, chrono_tz::UTC);
                assert!(shown.len() <= 41, "{shown}");
            }
        }
    }
}
