//! Ids of our own rows: UUIDs of version 7 (RFC 9562) that take their time from the caller, so that an injected clock
//! orders them. Ids made one after the other for the same millisecond are in order.

use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::{Timestamp, Uuid};

use super::secret::random;

/// 12 bits beside the version and 30 below the variant count; the 32 bits that are left are random.
const COUNTER_BITS: u8 = 42;

/// One count for the whole process that never starts over, unlike the usual one per millisecond: so it does not matter
/// whether calls for two times interleave. It starts at random in its lower half: 2^41 ids pass before it wraps.
static COUNTER: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(u64::from_be_bytes(random()) >> 23));

/// A new id for `now`, of which milliseconds since 1970 are kept.
#[must_use]
pub fn new_id(now: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed) & ((1 << COUNTER_BITS) - 1);
    let nanos = u32::try_from(millis % 1000).unwrap_or_default() * 1_000_000;
    Uuid::new_v7(Timestamp::from_unix_time(millis / 1000, nanos, count.into(), COUNTER_BITS))
}

/// A new id for `now` that also comes after `earlier`, one of ours, whatever the clock was when that one was made.
#[must_use]
pub fn new_id_after(now: DateTime<Utc>, earlier: Uuid) -> Uuid {
    let made = earlier.get_timestamp().map(|time| time.to_unix());
    let made = made.and_then(|(seconds, nanos)| DateTime::from_timestamp(seconds.cast_signed(), nanos));
    new_id(made.map_or(now, |made| now.max(made + TimeDelta::milliseconds(1))))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use uuid::{Variant, Version};

    use super::*;

    fn time() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_790_000_000_123).unwrap()
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_that_holds_the_time_given() {
        for now in [time(), DateTime::UNIX_EPOCH, time() + TimeDelta::days(20_000)] {
            let id = new_id(now);
            assert_eq!((id.get_version(), id.get_variant()), (Some(Version::SortRand), Variant::RFC4122));
            let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
            assert_eq!(DateTime::from_timestamp(seconds.cast_signed(), nanos), Some(now));
        }
    }

    #[test]
    fn ids_of_one_millisecond_are_in_order_even_between_calls_for_others() {
        let mut last = Uuid::nil();
        for count in 0..10_000 {
            let id = new_id(time());
            assert!(id > last, "{count}");
            last = id;
            assert!(new_id(time() - TimeDelta::milliseconds(1)) < id);
            assert!(new_id(time() + TimeDelta::milliseconds(1)) > id);
        }
    }

    #[test]
    fn an_id_comes_after_an_earlier_one_also_when_the_clock_went_back() {
        let earlier = new_id(time());
        assert!(new_id_after(time() - TimeDelta::minutes(5), earlier) > earlier);
        assert!(new_id_after(time(), earlier) > earlier);
        let later = new_id_after(time() + TimeDelta::minutes(5), earlier);
        assert!(later > new_id(time() + TimeDelta::minutes(4)));
    }

    #[test]
    fn threads_share_no_id() {
        let mut ids: Vec<Uuid> = std::thread::scope(|scope| {
            let made: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..5_000).map(|_| new_id(time())).collect::<Vec<_>>())).collect();
            made.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 20_000);
    }
}
