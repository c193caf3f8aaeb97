//! Held against another implementation of the zones: what Python's zoneinfo says, minute by minute, around both changes of the
//! clock in each zone of the United States (`tests/peers/support/wall_clock.py`).

#![expect(clippy::unwrap_used, reason = "tests")]

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use super::{QuietHours, moment};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/wall_clock.json")).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn time(value: &Value) -> NaiveTime {
    NaiveTime::parse_from_str(value.as_str().unwrap(), "%H:%M").unwrap()
}

/// Minutes since 1970.
fn minute(value: &Value) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(value.as_i64().unwrap())
}

/// Each change of a clock: where, when, the day that it falls on there, and what was found about it.
fn changes(vectors: &Value) -> Vec<(Tz, DateTime<Utc>, NaiveDate, &Value)> {
    let mut changes = Vec::new();
    for (zone, found) in vectors["zones"].as_object().unwrap() {
        for change in list(found) {
            let day = change["day"].as_str().unwrap().parse().unwrap();
            changes.push((zone.parse().unwrap(), minute(&change["change"]), day, change));
        }
    }
    assert_eq!(changes.len(), 33 * 10, "ten changes in each zone");
    changes
}

#[test]
fn each_time_of_a_day_on_which_the_clock_changes_is_when_zoneinfo_says() {
    let vectors = vectors();
    for (zone, _, day, change) in changes(&vectors) {
        for (local, expected) in list(&vectors["times"]).iter().zip(list(&change["times"])) {
            let found = moment(zone, day.and_time(time(local)));
            assert_eq!(found, Some(minute(expected)), "{local} on {day} in {zone}");
        }
    }
}

#[test]
fn quiet_hours_around_each_change_of_the_clock_last_as_long_as_zoneinfo_says() {
    let vectors = vectors();
    let (mut held, mut free) = (0, 0);
    for (zone, change, day, found) in changes(&vectors) {
        for (span, waits) in list(&vectors["spans"]).iter().zip(list(&found["waits"])) {
            let hours = QuietHours::new(time(&span[0]), time(&span[1])).unwrap();
            for (offset, wait) in list(&vectors["offsets"]).iter().zip(list(waits)) {
                let at = change + TimeDelta::minutes(offset.as_i64().unwrap());
                let wait = wait.as_i64().unwrap();
                assert_eq!(
                    (hours.after(at, zone) - at).num_minutes(),
                    wait,
                    "{span} at {offset} min on {day} in {zone}"
                );
                *(if wait > 0 { &mut held } else { &mut free }) += 1;
            }
        }
    }
    assert!(held > 5_000 && free > 5_000, "{held} held, {free} free");
}
