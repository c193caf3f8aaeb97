//! Statistics: what became of the deliveries of a period.

use std::{collections::BTreeMap, ops::Range};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Channel, FailureReason, StateCounts};

/// Whole hours of UTC, by which deliveries are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours(Range<i64>);

impl Hours {
    /// The hours in which something lies of the time from `start` up to, and without, `end`.
    #[must_use]
    pub fn covering(start: DateTime<Utc>, end: DateTime<Utc>) -> Self {
        Self(Self::of(start)..Self::of(end - TimeDelta::microseconds(1)) + 1)
    }

    /// The hour in which `time` lies, counted from 1970.
    #[must_use]
    pub fn of(time: DateTime<Utc>) -> i64 {
        time.timestamp().div_euclid(3_600)
    }

    /// Whether that hour is one of them.
    #[must_use]
    pub fn contain(&self, hour: i64) -> bool {
        self.0.contains(&hour)
    }

    /// The first, and the one after the last.
    #[must_use]
    pub const fn bounds(&self) -> (i64, i64) {
        (self.0.start, self.0.end)
    }

    /// When the first begins.
    #[must_use]
    pub fn start_time(&self) -> DateTime<Utc> {
        begin(self.0.start)
    }

    /// When the last ends.
    #[must_use]
    pub fn end_time(&self) -> DateTime<Utc> {
        begin(self.0.end)
    }
}

fn begin(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(hour.saturating_mul(3_600), 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// What became of deliveries. What is not there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryStats {
    /// Of each channel, how many are in each state.
    pub states: BTreeMap<Channel, StateCounts>,
    /// Of each channel, how many failed for which reason.
    pub failures: BTreeMap<(Channel, FailureReason), i64>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_period_is_widened_to_whole_hours() {
        let time = |second: i64| DateTime::from_timestamp(second, 0).unwrap();
        for (start, end, first, after) in [
            (0, 3_600, 0, 1),
            (0, 3_601, 0, 2),
            (3_599, 3_601, 0, 2),
            (3_600, 7_200, 1, 2),
            (-1, 1, -1, 1),
            (7_199, 7_200, 1, 2),
        ] {
            let hours = Hours::covering(time(start), time(end));
            assert_eq!(hours.bounds(), (first, after), "{start} to {end}");
            assert_eq!((hours.start_time(), hours.end_time()), (time(first * 3_600), time(after * 3_600)));
            assert!(hours.contain(first) && !hours.contain(after));
        }
    }
}
