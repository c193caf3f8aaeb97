//! Times, lengths and amounts as their reader writes them. Names of days and months, separators and the order of numbers come
//! from glibc's locales; what stands around them in English and Spanish is ours. Integers only: no amount is ever rounded.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use pure_rust_locales::{Locale as Posix, locale_match};

use super::Language;
use crate::domain::{Locale, Money};

/// How the reader of a message writes.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    locale: Locale,
    posix: Posix,
    /// The language that there are words of ours in; unset: only numbers and names of days.
    language: Option<Language>,
}

/// The region that a language is taken to be of where its tag names none and the usual guess, `fr` for `fr_FR`, is no good.
const USUAL_REGIONS: &[(&str, &str)] = &[
    ("en", "US"),
    ("es", "US"),
    ("pt", "BR"),
    ("zh", "CN"),
    ("vi", "VN"),
    ("ko", "KR"),
    ("ja", "JP"),
    ("ar", "EG"),
    ("fa", "IR"),
    ("hi", "IN"),
    ("ur", "PK"),
    ("pa", "IN"),
    ("gu", "IN"),
    ("bn", "BD"),
    ("ne", "NP"),
    ("uk", "UA"),
    ("el", "GR"),
    ("he", "IL"),
    ("da", "DK"),
    ("sv", "SE"),
    ("cs", "CZ"),
    ("fil", "PH"),
    ("ht", "HT"),
    ("am", "ET"),
    ("hy", "AM"),
];

impl Manner {
    /// How readers of `locale` write.
    pub(super) fn of(locale: &Locale) -> Self {
        Self { locale: locale.clone(), posix: posix(locale), language: Language::of(locale) }
    }

    /// The language of the words of ours that go with it.
    pub(super) fn words(&self) -> Language {
        self.language.unwrap_or(Language::English)
    }

    /// "Tuesday, March 3 at 2:30 PM" on the clocks of `zone`; with the zone's name where `home` is another one. In Spanish
    /// without the day of the week if `short`, since no text message of one part can say Saturday.
    pub(super) fn time(&self, time: DateTime<Utc>, zone: Tz, home: Tz, short: bool) -> String {
        let local = time.with_timezone(&zone);
        let shown = match self.language {
            Some(Language::English) => local.format("%A, %B %-d at %-I:%M %p").to_string(),
            Some(Language::Spanish) => {
                let day = local.format_localized(if short { "%-d de %B" } else { "%A %-d de %B" }, self.posix);
                let at = if local.hour12().1 == 1 { "a la" } else { "a las" };
                format!("{day} {at} {}", local.format("%-I:%M %p"))
            }
            None => format!("{}, {}", local.format_localized("%A, %x", self.posix), local.format("%H:%M")),
        };
        if zone == home { shown } else { format!("{shown} {}", local.format("%Z")) }
    }

    /// "March 3, 2026".
    pub(super) fn date(&self, time: DateTime<Utc>, zone: Tz) -> String {
        let local = time.with_timezone(&zone);
        match self.language {
            Some(Language::English) => local.format("%B %-d, %Y").to_string(),
            Some(Language::Spanish) => local.format_localized("%-d de %B de %Y", self.posix).to_string(),
            None => local.format_localized("%x", self.posix).to_string(),
        }
    }

    /// "1 hour 30 minutes"; empty if less than a minute.
    pub(super) fn length(&self, length: TimeDelta) -> String {
        let (hour, minute) = match self.language {
            Some(Language::English) => (("hour", "hours"), ("minute", "minutes")),
            Some(Language::Spanish) => (("hora", "horas"), ("minuto", "minutos")),
            // The symbols are the same everywhere (SI brochure, table 8).
            None => (("h", "h"), ("min", "min")),
        };
        let count = |number: i64, (one, many): (&str, &str)| match number {
            ..=0 => String::new(),
            1 => format!("1 {one}"),
            _ => format!("{number} {many}"),
        };
        let parts = [count(length.num_hours(), hour), count(length.num_minutes() % 60, minute)];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// "$1,234.50", "-$0.05", "EUR 12.00", "JPY 1,200"; in German "EUR 1.234,50". Digits beyond those that the currency has are
    /// shown if there are any. A dollar alone is that of the United States, and only to those to whom it can be no other.
    pub(super) fn money(&self, money: &Money) -> String {
        const NANOS: u128 = 1_000_000_000;
        let total = i128::from(money.units) * 1_000_000_000 + i128::from(money.nanos);
        let (whole, nanos) = (total.unsigned_abs() / NANOS, total.unsigned_abs() % NANOS);
        let sign = if total < 0 { "-" } else { "" };
        let symbol = match money.currency_code.as_str() {
            "USD" if matches!(self.locale.region(), None | Some("US" | "PR")) => "$".to_owned(),
            code => format!("{code} "),
        };
        let all = format!("{nanos:09}");
        let kept = all.trim_end_matches('0').len().max(minor_digits(&money.currency_code));
        let point = match locale_match!(self.posix => LC_MONETARY::MON_DECIMAL_POINT) {
            _ if kept == 0 => "",
            "" => ".",
            point => point,
        };
        format!("{sign}{symbol}{}{point}{}", grouped(whole, self.posix), all.get(..kept).unwrap_or_default())
    }
}

/// The nearest of glibc's locales.
fn posix(locale: &Locale) -> Posix {
    let language = locale.language();
    let usual = USUAL_REGIONS.iter().find(|(known, _)| *known == language).map(|(_, region)| *region);
    let upper = language.to_ascii_uppercase();
    let regions = [locale.region(), usual, Some(upper.as_str())];
    let found = regions.into_iter().flatten().find_map(|region| format!("{language}_{region}").parse().ok());
    found.unwrap_or(Posix::en_US)
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

/// With a mark between groups of digits: the sizes of the groups are given from the right, and the last of them repeats.
fn grouped(number: u128, posix: Posix) -> String {
    let mark: &str = locale_match!(posix => LC_MONETARY::MON_THOUSANDS_SEP);
    let sizes: &[i64] = locale_match!(posix => LC_MONETARY::MON_GROUPING);
    let (mut rest, mut groups) = (number.to_string(), Vec::new());
    let sizes = sizes.iter().chain(sizes.last().into_iter().cycle());
    for size in sizes.map(|size| usize::try_from(*size).unwrap_or_default()) {
        if size == 0 || rest.len() <= size {
            break;
        }
        groups.push(rest.split_off(rest.len() - size));
    }
    groups.push(rest);
    groups.reverse();
    groups.join(mark)
}

#[cfg(test)]
mod tests;
