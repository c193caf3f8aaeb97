use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

#[test]
fn a_verdict_is_written_once_and_then_only_refined() {
    use Known::{Absent, Accepted, No, Reconciled, Unknown};
    for (before, news, after) in [
        (None, Accepted, Some(Accepted)),
        (None, No, Some(No)),
        (None, Unknown, Some(Unknown)),
        // A report during the call leaves the verdict to the call's own end.
        (None, Reconciled, None),
        (Some(Unknown), Accepted, Some(Reconciled)),
        (Some(Unknown), Reconciled, Some(Reconciled)),
        (Some(Unknown), Absent, Some(Absent)),
        (Some(Absent), Accepted, Some(Reconciled)),
        (Some(Absent), Reconciled, Some(Reconciled)),
    ] {
        assert_eq!(Known::after(before, news, false), after, "{before:?}, then {news:?}");
    }
    assert_eq!(Known::after(None, Unknown, true), Some(Reconciled));
    assert_eq!(Known::after(None, Accepted, true), Some(Accepted));
    assert_eq!(Known::after(None, No, true), Some(No));
    for proved in [false, true] {
        for news in Known::ALL {
            for last in [Accepted, No, Reconciled] {
                assert_eq!(Known::after(Some(last), news, proved), Some(last), "{news:?}");
            }
            let absent = Known::after(Some(Absent), news, proved);
            assert!(matches!(absent, Some(Absent | Reconciled)), "{news:?}");
        }
        assert_eq!(Known::after(Some(Unknown), No, proved), Some(Unknown), "a look settles it, not a late answer");
    }
}

#[test]
fn what_may_be_written_at_the_end_depends_on_the_tries() {
    use Ending::{Cancelled, Expired, GaveUp, Refused, Skipped};
    let tries = |count, unknown, absent| Tries { count, unknown, absent };
    for (ending, untried, refused, absent) in [
        (Skipped, Facts::SKIPPED, Facts::SKIPPED, Facts::UNKNOWN_CLOSED),
        (Cancelled, Facts::CANCELLED, Facts::CANCELLED, Facts::UNKNOWN_CLOSED),
        (Refused, Facts::REFUSED, Facts::REFUSED, Facts::REFUSED),
        (Expired, Facts::SKIPPED, Facts::EXPIRED, Facts::EXPIRED),
        (GaveUp, Facts::GAVE_UP, Facts::GAVE_UP, Facts::GAVE_UP),
    ] {
        assert_eq!(ending.fact(tries(0, false, false)), untried, "{ending:?}");
        assert_eq!(ending.fact(tries(2, false, false)), refused, "{ending:?}");
        assert_eq!(ending.fact(tries(2, false, true)), absent, "{ending:?}");
        for absent in [false, true] {
            assert_eq!(ending.fact(tries(2, true, absent)), Facts::UNKNOWN_CLOSED, "{ending:?}");
        }
    }
}

fn standing() -> (Standing, DateTime<Utc>) {
    let now = DateTime::UNIX_EPOCH;
    let limit = now + TimeDelta::hours(12);
    (Standing { attempts: 1, expires_at: limit, give_up_at: limit, undecided: false }, now)
}

#[test]
fn a_refusal_after_an_unknown_outcome_is_no_failure() {
    let (standing, now) = standing();
    let refused = Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() };
    let undecided = Standing { undecided: true, ..standing };
    assert_eq!(refused.next(undecided, now, 0.0), Next::Close { facts: Facts::UNKNOWN_CLOSED, failure: None });
    assert!(matches!(refused.next(standing, now, 0.0), Next::Close { facts: Facts::REFUSED, failure: Some(_) }));
}

#[test]
fn waits_grow_respect_the_provider_and_end_at_expiry() {
    let (standing, now) = standing();
    let busy = |after| Verdict::NotTaken { retry_after: after, code: "20429".into() };
    let wait = |verdict: &Verdict, standing, random| match verdict.next(standing, now, random) {
        Next::TryAt(at) => (at - now).num_seconds(),
        other => panic!("{other:?}"),
    };
    let full = Verdict::Unreachable { code: "552 5.2.2".into() };
    assert_eq!(wait(&full, standing, 0.5), 15 * 60, "a full mailbox is not emptied at once");
    let spent = Standing { give_up_at: now, ..standing };
    let Next::Close { facts, failure: Some(failure) } = full.next(spent, now, 0.5) else { panic!("it is given up") };
    assert_eq!((facts, failure.reason), (Facts::GAVE_UP, FailureReason::Unreachable));
    assert_eq!(wait(&busy(None), standing, 1.0), 2);
    assert_eq!(wait(&busy(None), Standing { attempts: 40, ..standing }, 1.0), 900);
    assert_eq!(wait(&busy(Some(Duration::from_secs(7))), standing, 0.0), 7);
    assert_eq!(wait(&busy(Some(Duration::from_secs(86_400))), standing, 0.0), 900);
    let soon = Standing { expires_at: now + TimeDelta::seconds(1), ..standing };
    assert_eq!(wait(&busy(Some(Duration::from_secs(7))), soon, 0.0), 1);
}

#[test]
fn retries_end_at_the_limit_with_the_last_reason() {
    let (standing, now) = standing();
    let over = Standing { give_up_at: now, ..standing };
    let verdict = Verdict::Misconfigured { code: "20003".into(), account: true };
    let Next::Close { facts, failure: Some(failure) } = verdict.next(over, now, 0.5) else { panic!("closes") };
    assert_eq!((facts, failure.reason), (Facts::GAVE_UP, FailureReason::ProviderConfig));
}

/// Any standing, around the present, and what the provider may ask for.
fn case() -> impl Strategy<Value = (Standing, Option<Duration>)> {
    let day = 24 * 3_600_000_i64;
    let attempts = prop_oneof![8 => 0..20_i32, 1 => any::<i32>()];
    let from_now = prop_oneof![4 => -day..2 * day, 1 => -3..3_i64];
    let retry_after = prop::option::of(prop_oneof![3 => 0..1_000_000_u64, 1 => 0..90_000_000_u64]);
    (attempts, from_now.clone(), from_now, any::<bool>(), retry_after).prop_map(
        |(attempts, expires, gives_up, undecided, retry_after)| {
            let at = |millis| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis);
            let standing = Standing { attempts, expires_at: at(expires), give_up_at: at(gives_up), undecided };
            (standing, retry_after.map(Duration::from_millis))
        },
    )
}

/// What stood in the way.
fn busy(retry_after: Option<Duration>) -> Verdict {
    Verdict::NotTaken { retry_after, code: "20429".into() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn another_try_comes_within_its_window_as_late_as_the_provider_wishes_and_not_after_the_end(
        (standing, retry_after) in case(),
        random in 0.0..1.0_f64,
    ) {
        let now = DateTime::UNIX_EPOCH;
        let next = busy(retry_after).next(standing, now, random);
        if now >= standing.give_up_at {
            let facts = if standing.undecided { Facts::UNKNOWN_CLOSED } else { Facts::GAVE_UP };
            let Next::Close { facts: closed, failure } = next else { return Err(TestCaseError::fail("it closes")) };
            prop_assert_eq!(closed, facts);
            // Of what may have arrived nothing is called a failure.
            prop_assert_eq!(failure.is_none(), standing.undecided);
            return Ok(());
        }
        let Next::TryAt(at) = next else { return Err(TestCaseError::fail("it is tried again")) };
        let quarter = TimeDelta::minutes(15);
        let wish = TimeDelta::from_std(retry_after.unwrap_or_default()).unwrap_or_default().min(quarter);
        let window = quarter.min(TimeDelta::seconds(1 << standing.attempts.clamp(0, 15)));
        let end = standing.expires_at.max(now);
        prop_assert!(now <= at && at <= (now + window.max(wish)).min(end), "{at}");
        prop_assert!(at >= (now + wish).min(end), "before the provider wishes: {at}");
        prop_assert_eq!(at, at.trunc_subsecs(6), "the databases keep no more");
    }

    /// Full jitter: every moment of the window is as likely as any other, so that many who failed together do not come back
    /// together.
    #[test]
    fn the_window_is_used_from_end_to_end(attempts in 0..40_i32, random in 0.0..1.0_f64) {
        let now = DateTime::UNIX_EPOCH;
        let far = now + TimeDelta::days(1);
        let standing = Standing { attempts, expires_at: far, give_up_at: far, undecided: false };
        let seconds = f64::from(2_u32.pow(attempts.clamp(0, 15).unsigned_abs()).min(900));
        for verdict in [busy(None), Verdict::Misconfigured { code: "20003".into(), account: true }] {
            let Next::TryAt(at) = verdict.next(standing, now, random) else {
                return Err(TestCaseError::fail("it is tried again"));
            };
            prop_assert!(((at - now).as_seconds_f64() - seconds * random).abs() < 0.000_002, "{at}");
        }
    }

    #[test]
    fn what_follows_any_other_verdict_does_not_depend_on_the_clock((standing, _) in case(), random in 0.0..1.0_f64) {
        let now = DateTime::UNIX_EPOCH;
        let accepted = Verdict::Accepted { provider_ref: None, status: "queued".into(), sms_segments: None };
        prop_assert_eq!(
            accepted.next(standing, now, random),
            Next::Close { facts: Facts::ACCEPTED, failure: None }
        );
        prop_assert_eq!(Verdict::NotStarted.next(standing, now, random), Next::GiveBack);
        let Next::LookAt(at) = (Verdict::Unknown { code: "timeout".into() }).next(standing, now, random) else {
            return Err(TestCaseError::fail("it is looked for"));
        };
        let late = at - now - TimeDelta::seconds(15);
        prop_assert!(late >= TimeDelta::zero() && late <= TimeDelta::seconds(3), "{late}");
        let refused = Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() };
        let Next::Close { facts, failure } = refused.next(standing, now, random) else {
            return Err(TestCaseError::fail("it closes"));
        };
        let fact = if standing.undecided { Facts::UNKNOWN_CLOSED } else { Facts::REFUSED };
        prop_assert_eq!((facts, failure.is_none()), (fact, standing.undecided));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// A provider that never takes it: tries end with the message or a quarter of an hour after they should, at the latest.
    #[test]
    fn tries_in_vain_come_to_an_end(
        (standing, retry_after) in case(),
        shares in prop::collection::vec(0.05..1.0_f64, 1..8),
    ) {
        let mut now = DateTime::UNIX_EPOCH;
        let last = standing.give_up_at.min(standing.expires_at).max(now) + TimeDelta::minutes(15);
        let mut tries = Standing { attempts: 1, ..standing };
        // What has expired is not claimed any more.
        while now < standing.expires_at {
            match busy(retry_after).next(tries, now, shares[tries.attempts.unsigned_abs() as usize % shares.len()]) {
                Next::TryAt(at) => {
                    prop_assert!(at > now && at - now <= TimeDelta::minutes(15));
                    (now, tries.attempts) = (at, tries.attempts + 1);
                }
                Next::Close { .. } => break,
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
        prop_assert!(now <= last, "{now}");
    }
}
