//! ◆ When a message may go: what the clock on the wall shows, and the hours in which it waits. When a notification ends, and
//! when tries in vain do. When a practice is open.

mod opening;

use chrono::{DateTime, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

pub use opening::{MOST_AUTOMATIC, OpenSpan, Opening, OpeningHours};

/// Tries in vain end this long after the first might be made.
pub const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(24);

/// How long a notification waits for its chance unless its sender says otherwise.
const LIFE: TimeDelta = TimeDelta::hours(12);
/// The same for a broadcast's share.
const SHARE_LIFE: TimeDelta = TimeDelta::hours(24);

/// What decides when a notification ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// What the sender asked for.
    pub asked: Option<DateTime<Utc>>,
    /// For a reminder, the start of the visit: one that comes later is worse than none.
    pub visit_time: Option<DateTime<Utc>>,
    /// It is a broadcast's share.
    pub share: bool,
}

impl Expiry {
    /// The end of one that may first go at `first`.
    #[must_use]
    pub fn of(self, first: DateTime<Utc>) -> DateTime<Utc> {
        let life = if self.share { SHARE_LIFE } else { LIFE };
        let end = self.asked.unwrap_or(first + life);
        self.visit_time.map_or(end, |start| end.min(start))
    }
}

/// The first moment at which the clock in `zone` shows `local`, in whole minutes, or has just gone past it. A time that the
/// clock shows twice is the first of the two; one that it skips is the next that it shows. Unset beyond the calendar.
#[must_use]
pub fn moment(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    // The longest that any zone ever skipped is a day (Samoa, 2011).
    (0..=24 * 60)
        .map_while(|minutes| local.checked_add_signed(TimeDelta::minutes(minutes)))
        .find_map(|local| zone.from_local_datetime(&local).earliest())
        .map(|moment| moment.to_utc())
}

/// A daily span, by the clock on the wall, in which nothing goes that makes a phone ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    start: NaiveTime,
    end: NaiveTime,
}

impl QuietHours {
    /// From `start` until `end`, which is on the next day unless it is later than `start`. Unset if they are the same: one
    /// night would follow upon another, and nothing would ever go.
    #[must_use]
    pub fn new(start: NaiveTime, end: NaiveTime) -> Option<Self> {
        (start != end).then_some(Self { start, end })
    }

    /// When they begin.
    #[must_use]
    pub const fn start(self) -> NaiveTime {
        self.start
    }

    /// When they are over.
    #[must_use]
    pub const fn end(self) -> NaiveTime {
        self.end
    }

    /// `time`, or the end of the quiet hours that it falls into where the clock goes by `zone`.
    #[must_use]
    pub fn after(self, mut time: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
        // On a day on which the clock skips what lies between them, the next begin where these end.
        while let Some(end) = self.end_at(time, zone) {
            time = end;
        }
        time
    }

    /// When those are over into which `time` falls: they began yesterday or today.
    fn end_at(self, time: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let today = time.with_timezone(&zone).date_naive();
        [today.pred_opt(), Some(today)].into_iter().flatten().find_map(|day| {
            let last = if self.end > self.start { Some(day) } else { day.succ_opt() };
            let hours = moment(zone, day.and_time(self.start))?..moment(zone, last?.and_time(self.end))?;
            hours.contains(&time).then_some(hours.end)
        })
    }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_notification_ends_as_asked_else_in_its_time_and_a_reminder_with_the_visit_at_the_latest() {
        let first = DateTime::UNIX_EPOCH;
        let hour = |hour| first + TimeDelta::hours(hour);
        let usual = Expiry { asked: None, visit_time: None, share: false };
        assert_eq!(usual.of(first), hour(12));
        assert_eq!(Expiry { share: true, ..usual }.of(first), hour(24));
        let asked = Expiry { asked: Some(hour(30)), ..usual };
        assert_eq!(asked.of(first), hour(30));
        assert_eq!(asked.of(hour(20)), hour(30));
        assert_eq!(Expiry { visit_time: Some(hour(2)), ..usual }.of(first), hour(2));
        assert_eq!(Expiry { visit_time: Some(hour(2)), ..asked }.of(first), hour(2));
        assert_eq!(Expiry { visit_time: Some(hour(20)), ..usual }.of(first), hour(12));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn nothing_outlives_its_visit_nor_what_was_asked_for(
            first in 0..4_000_000_000_i64,
            asked in prop::option::of(0..4_000_000_000_i64),
            visit in prop::option::of(0..4_000_000_000_i64),
            share in any::<bool>(),
            later in 0..1_000_000_i64,
        ) {
            let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
            let expiry = Expiry { asked: asked.map(at), visit_time: visit.map(at), share };
            let end = expiry.of(at(first));
            let usual = at(first) + TimeDelta::hours(if share { 24 } else { 12 });
            prop_assert!(expiry.visit_time.is_none_or(|visit| end <= visit));
            prop_assert!(end <= expiry.asked.unwrap_or(usual));
            prop_assert!([expiry.asked, expiry.visit_time, Some(usual)].contains(&Some(end)), "an end of its own: {end}");
            // Sent again by staff, it has as long as before, or what is left of what it was given.
            let again = expiry.of(at(first + later));
            prop_assert!(again >= end && again <= end + TimeDelta::seconds(later));
        }
    }
}
