//! When a practice is open, by the clock on its wall, and whether somebody who writes while it is not gets an answer from the
//! server.

use std::{collections::BTreeSet, ops::Range};

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::moment;

/// Most automatic replies in one conversation within a day: where a robot answers them, it ends there.
pub const MOST_AUTOMATIC: usize = 3;
const A_DAY: TimeDelta = TimeDelta::hours(24);
/// No automatic reply goes later than this after the text that it answers.
const PATIENCE: TimeDelta = TimeDelta::hours(1);
/// Spans come again every week. One that fell on a day which the zone skipped (Samoa, 2011) comes a week later.
const DAYS_TO_LOOK: u64 = 15;

/// A time on one day of each week in which a practice is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenSpan {
    weekday: u8,
    start: NaiveTime,
    end: NaiveTime,
}

impl OpenSpan {
    /// On `weekday`, by ISO 8601: 1 is Monday, 7 is Sunday; from `start` until `end`, where 00:00 is the end of the day. Unset if
    /// there is no such day of the week, or the end does not come after the start.
    #[must_use]
    pub fn new(weekday: u8, start: NaiveTime, end: NaiveTime) -> Option<Self> {
        let good = (1..=7).contains(&weekday) && (start < end || end == NaiveTime::MIN);
        good.then_some(Self { weekday, start, end })
    }

    /// The day of the week, by ISO 8601.
    #[must_use]
    pub const fn weekday(self) -> u8 {
        self.weekday
    }

    /// When it begins.
    #[must_use]
    pub const fn start(self) -> NaiveTime {
        self.start
    }

    /// When it ends; 00:00: with the day.
    #[must_use]
    pub const fn end(self) -> NaiveTime {
        self.end
    }

    /// Whether the two have a moment in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let before = |end: NaiveTime, start: NaiveTime| end != NaiveTime::MIN && end <= start;
        self.weekday == other.weekday && !before(self.end, other.start) && !before(other.end, self.start)
    }

    /// The span of that day; unset if it has none, also because the clock skips it.
    fn on(self, day: NaiveDate, zone: Tz) -> Option<Range<DateTime<Utc>>> {
        if day.weekday().number_from_monday() != u32::from(self.weekday) {
            return None;
        }
        let last = if self.end == NaiveTime::MIN { day.succ_opt()? } else { day };
        let span = moment(zone, day.and_time(self.start))?..moment(zone, last.and_time(self.end))?;
        (!span.is_empty()).then_some(span)
    }
}

/// When a practice is open; on a day without a span it is closed all day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpeningHours(BTreeSet<OpenSpan>);

/// Whether a practice is open at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is.
    Open,
    /// It is not.
    Closed {
        /// Since when; unset: it never was.
        since: Option<DateTime<Utc>>,
        /// Until when; unset: for good.
        until: Option<DateTime<Utc>>,
    },
}

impl OpeningHours {
    /// In these spans. Unset if two of them overlap.
    #[must_use]
    pub fn new(spans: impl IntoIterator<Item = OpenSpan>) -> Option<Self> {
        let mut kept = BTreeSet::new();
        for span in spans {
            if kept.iter().any(|other: &OpenSpan| other.overlaps(span)) {
                return None;
            }
            kept.insert(span);
        }
        Some(Self(kept))
    }

    /// The spans, by day and start.
    pub fn spans(&self) -> impl Iterator<Item = OpenSpan> {
        self.0.iter().copied()
    }

    /// Whether a practice with its clock in `zone` is open at `time`.
    #[must_use]
    pub fn at(&self, time: DateTime<Utc>, zone: Tz) -> Opening {
        let today = time.with_timezone(&zone).date_naive();
        let first = today.checked_sub_days(Days::new(DAYS_TO_LOOK)).unwrap_or(today);
        let days = first.iter_days().take(2 * usize::try_from(DAYS_TO_LOOK).unwrap_or_default() + 1);
        let spans: Vec<_> = days.flat_map(|day| self.spans().filter_map(move |span| span.on(day, zone))).collect();
        if spans.iter().any(|span| span.contains(&time)) {
            return Opening::Open;
        }
        Opening::Closed {
            since: spans.iter().map(|span| span.end).filter(|end| *end <= time).max(),
            until: spans.iter().map(|span| span.start).filter(|start| *start > time).min(),
        }
    }
}

impl Opening {
    /// Until when the server may answer somebody who writes at `now`, where `before` has the times of the latest automatic replies
    /// in the same conversation; unset if it shall not: while it is open, twice in one closing, or too often in a day.
    #[must_use]
    pub fn reply_until(self, before: &[DateTime<Utc>], now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let Self::Closed { since, until } = self else { return None };
        let answered = before.iter().any(|reply| since.is_none_or(|since| *reply >= since));
        let today = before.iter().filter(|reply| **reply > now - A_DAY).count();
        let end = now + PATIENCE;
        // Who is open again does not say that they are closed.
        (!answered && today < MOST_AUTOMATIC).then(|| until.map_or(end, |until| end.min(until)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use chrono::{TimeZone, Timelike};
    use chrono_tz::{America::New_York, Australia::Lord_Howe, Pacific::Apia};
    use proptest::prelude::*;

    use super::*;

    fn time(hour: u32, minute: u32) -> NaiveTime {
        NaiveTime::from_hms_opt(hour, minute, 0).unwrap()
    }

    fn span(weekday: u8, start: (u32, u32), end: (u32, u32)) -> OpenSpan {
        OpenSpan::new(weekday, time(start.0, start.1), time(end.0, end.1)).unwrap()
    }

    fn hours(spans: &[OpenSpan]) -> OpeningHours {
        OpeningHours::new(spans.iter().copied()).unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn a_span_is_on_a_day_of_the_week_and_ends_after_it_begins() {
        let nine = time(9, 0);
        for (weekday, start, end) in
            [(0, nine, time(17, 0)), (8, nine, time(17, 0)), (1, nine, nine), (1, nine, time(8, 59))]
        {
            assert_eq!(OpenSpan::new(weekday, start, end), None, "{weekday} {start} {end}");
        }
        assert!(OpenSpan::new(7, nine, time(0, 0)).is_some(), "until the end of the day");
        assert!(OpenSpan::new(7, time(0, 0), time(0, 0)).is_some(), "all day");
    }

    #[test]
    fn spans_of_one_day_may_touch_and_not_overlap() {
        let morning = span(1, (9, 0), (12, 0));
        for (other, overlaps) in [
            (span(1, (12, 0), (17, 0)), false),
            (span(1, (11, 59), (17, 0)), true),
            (span(2, (11, 0), (17, 0)), false),
            (span(1, (0, 0), (9, 0)), false),
            (span(1, (0, 0), (0, 0)), true),
            (span(1, (12, 0), (0, 0)), false),
            (morning, true),
        ] {
            assert_eq!((morning.overlaps(other), other.overlaps(morning)), (overlaps, overlaps), "{other:?}");
            assert_eq!(OpeningHours::new([morning, other]).is_none(), overlaps, "{other:?}");
        }
        assert!(span(1, (12, 0), (0, 0)).overlaps(span(1, (23, 0), (0, 0))));
    }

    #[test]
    fn a_closing_lasts_from_the_end_of_a_span_until_the_next_begins() {
        let hours = hours(&[
            span(1, (9, 0), (12, 0)),
            span(1, (13, 0), (17, 0)),
            span(5, (9, 0), (0, 0)),
            span(6, (0, 0), (1, 0)),
        ]);
        // 2 March 2026 is a Monday; New York is five hours behind.
        let closed = |since: &str, until: &str| Opening::Closed { since: Some(utc(since)), until: Some(utc(until)) };
        for (at, expected) in [
            ("2026-03-02T13:59:59Z", closed("2026-02-28T06:00:00Z", "2026-03-02T14:00:00Z")),
            ("2026-03-02T14:00:00Z", Opening::Open),
            ("2026-03-02T17:00:00Z", closed("2026-03-02T17:00:00Z", "2026-03-02T18:00:00Z")),
            ("2026-03-03T00:00:00Z", closed("2026-03-02T22:00:00Z", "2026-03-06T14:00:00Z")),
            ("2026-03-07T05:00:00Z", Opening::Open),
            ("2026-03-07T06:00:00Z", closed("2026-03-07T06:00:00Z", "2026-03-09T13:00:00Z")),
        ] {
            assert_eq!(hours.at(utc(at), New_York), expected, "{at}");
        }
        let never = Opening::Closed { since: None, until: None };
        assert_eq!(OpeningHours::default().at(utc("2026-03-02T14:00:00Z"), New_York), never);
    }

    #[test]
    fn a_span_that_the_clock_skips_is_none_and_what_it_shows_twice_begins_with_the_first() {
        // On 8 March 2026 it goes from 2:00 to 3:00, on 1 November from 2:00 back to 1:00.
        let skipped = hours(&[span(7, (2, 0), (3, 0))]);
        let Opening::Closed { since, until } = skipped.at(utc("2026-03-08T07:00:00Z"), New_York) else {
            panic!("open")
        };
        assert_eq!((since, until), (Some(utc("2026-03-01T08:00:00Z")), Some(utc("2026-03-15T06:00:00Z"))));
        let twice = hours(&[span(7, (1, 30), (2, 0))]);
        for (at, open) in [("05:29", false), ("05:30", true), ("06:15", true), ("06:59", true), ("07:00", false)] {
            let at = utc(&format!("2026-11-01T{at}:00Z"));
            assert_eq!(twice.at(at, New_York) == Opening::Open, open, "{at}");
        }
        // There was no Friday in that week.
        let fridays = hours(&[span(5, (9, 0), (17, 0))]);
        let Opening::Closed { since, .. } = fridays.at(utc("2012-01-05T12:00:00Z"), Apia) else { panic!("open") };
        assert_eq!(since, moment(Apia, utc("2011-12-23T17:00:00Z").naive_utc()));
    }

    #[test]
    fn one_reply_for_each_closing_and_few_in_a_day() {
        let now = utc("2026-03-02T23:00:00Z");
        let at = |hour: i64| now + TimeDelta::hours(hour);
        let closed = Opening::Closed { since: Some(at(-1)), until: Some(at(12)) };
        assert_eq!(Opening::Open.reply_until(&[], now), None);
        assert_eq!(closed.reply_until(&[], now), Some(at(1)));
        assert_eq!(closed.reply_until(&[at(-1)], now), None, "in this closing");
        assert_eq!(closed.reply_until(&[at(-2), at(-30)], now), Some(at(1)), "in those before");
        assert_eq!(closed.reply_until(&[at(-2), at(-5), at(-8)], now), None, "too many in a day");
        assert_eq!(closed.reply_until(&[at(-2), at(-5), at(-24)], now), Some(at(1)));
        let soon = now + TimeDelta::minutes(5);
        assert_eq!(Opening::Closed { since: None, until: Some(soon) }.reply_until(&[], now), Some(soon));
        assert_eq!(Opening::Closed { since: None, until: None }.reply_until(&[at(-9_999)], now), None, "the same one");
    }

    fn any_span() -> impl Strategy<Value = OpenSpan> {
        (1..=7_u8, 0..1_440_u32, 0..1_440_u32).prop_filter_map("ends before it begins", |(weekday, start, end)| {
            OpenSpan::new(weekday, time(start / 60, start % 60), time(end / 60, end % 60))
        })
    }

    fn any_hours() -> impl Strategy<Value = OpeningHours> {
        prop::collection::vec(any_span(), 0..10).prop_map(|spans| {
            let mut hours = OpeningHours::default();
            for span in spans {
                if !hours.spans().any(|other| other.overlaps(span)) {
                    hours.0.insert(span);
                }
            }
            hours
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// The plain way: what the clock on the wall shows, minute by minute.
        #[test]
        fn hours_are_what_the_clock_on_the_wall_shows(
            hours in any_hours(),
            zone in prop::sample::select(vec![New_York, Lord_Howe, Apia, Tz::UTC]),
            // 2009 to 2041: with the changes of each zone, and the day that Samoa left out.
            minute in 20_600_000..37_500_000_i64,
        ) {
            let now = DateTime::from_timestamp(minute * 60, 0).unwrap();
            let local = now.with_timezone(&zone).naive_local();
            let shown = hours.spans().any(|span| {
                let in_day = u32::from(span.weekday) == local.weekday().number_from_monday();
                in_day && span.start <= local.time() && (local.time() < span.end || span.end == NaiveTime::MIN)
            });
            let opening = hours.at(now, zone);
            // Around a time that is shown twice the first of the two counts.
            let twice = |moment: DateTime<Utc>| zone.from_local_datetime(&moment.with_timezone(&zone).naive_local()).single().is_none();
            if !(-120..=120).any(|minutes| twice(now + TimeDelta::minutes(minutes))) {
                prop_assert_eq!(opening == Opening::Open, shown, "{:?} {:?}", local, opening);
            }
            if let Opening::Closed { since, until } = opening {
                let minute = TimeDelta::minutes(1);
                if let Some(since) = since {
                    prop_assert!(since <= now && since.second() == 0);
                    prop_assert_eq!(hours.at(since - minute, zone), Opening::Open);
                    let again = hours.at(since, zone);
                    prop_assert!(matches!(again, Opening::Closed { since: Some(same), .. } if same == since), "{:?}", again);
                }
                if let Some(until) = until {
                    prop_assert!(until > now);
                    prop_assert_eq!(hours.at(until, zone), Opening::Open);
                    prop_assert_ne!(hours.at(until - minute, zone), Opening::Open);
                }
                prop_assert_eq!(since.is_none() && until.is_none(), hours.0.is_empty());
            }
        }
    }
}
