//! Quiet hours, as the queue sees them: what falls into them waits and is not lost, also when they begin while it is on its way.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use heedwell::{
    domain::{
        Channel, DeliveryState, FailureReason, Kind, Patient, PracticeSettings, QuietHours, Scope, SkipReason, Verdict,
    },
    store::{NewRetry, Retried},
};

use super::{
    given::{NORTH, Order, claim, claim_one, delivery, last_line, patient, ready_practice, settings, settle},
    *,
};

fn time(text: &str) -> NaiveTime {
    text.parse().unwrap()
}

/// From now on hours are quiet then, where the clock stands at ten in the morning.
async fn quiet(t: &TestStore, scope: &Scope, start: &str, end: &str) {
    let revision = t.store.settings_get(scope).await.unwrap().revision;
    let quiet_hours = QuietHours::new(time(start), time(end));
    t.store.settings_put(scope, PracticeSettings { quiet_hours, ..settings() }, revision).await.unwrap();
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn busy() -> Verdict {
    Verdict::NotTaken { retry_after: Some(std::time::Duration::from_secs(120)), code: "20429".into() }
}

on_both! {
    async fn a_text_that_falls_into_quiet_hours_waits_for_their_end_and_mail_goes(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        quiet(t, &scope, "09:00:00", "17:00:00").await;
        let order = Order { kind: Kind::DocumentShared, ..Order::new("r1", &[Channel::Sms, Channel::Email]) };
        let deliveries = order.accept(t, &scope).await.deliveries;
        let end = at("2026-03-02T22:00:00Z");
        assert_eq!(deliveries[1].next_action_time, Some(end));
        assert_eq!(claim(t, &scope, 10).await.iter().map(|one| one.channel).collect::<Vec<_>>(), [Channel::Email]);
        t.clock.advance((end - t.now() - TimeDelta::microseconds(1)).to_std().unwrap());
        assert!(claim(t, &scope, 10).await.is_empty());
        t.clock.advance(std::time::Duration::from_micros(1));
        assert_eq!(claim_one(t, &scope).await.id, deliveries[1].id);
        assert_eq!(delivery(t, &scope, deliveries[1].id).await.revision, 1);
    }

    async fn hours_that_became_quiet_meanwhile_hold_what_is_due(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let schedule_time = Some(t.now() + TimeDelta::minutes(1));
        let order = Order { schedule_time, ..Order::new("r1", &[Channel::Sms, Channel::Email]) };
        let deliveries = order.accept(t, &scope).await.deliveries;
        quiet(t, &scope, "09:00:00", "17:00:00").await;
        t.advance(60);
        assert_eq!(claim(t, &scope, 10).await.len(), 1);
        let held = delivery(t, &scope, deliveries[1].id).await;
        let end = Some(at("2026-03-02T22:00:00Z"));
        assert_eq!((held.state, held.revision, held.next_action_time), (DeliveryState::Pending, 2, end));
        assert_eq!((held.attempts, held.skip_reason), (0, None));
        assert_eq!(last_line(t, &scope, &held).await.detail, "Held until quiet hours are over.");
        assert!(claim(t, &scope, 10).await.is_empty());
        t.advance(7 * 3_600);
        assert_eq!(claim_one(t, &scope).await.id, held.id);
    }

    async fn a_try_in_vain_is_not_repeated_in_quiet_hours(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        quiet(t, &scope, "10:01:00", "17:00:00").await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        let first = claim_one(t, &scope).await;
        settle(t, &first, busy()).await;
        t.advance(120);
        assert!(claim(t, &scope, 10).await.is_empty());
        let held = delivery(t, &scope, first.id).await;
        let end = Some(at("2026-03-02T22:00:00Z"));
        assert_eq!((held.state, held.attempts, held.next_action_time), (DeliveryState::Pending, 1, end));
        t.advance(7 * 3_600);
        assert_eq!(claim_one(t, &scope).await.attempt, 2);
    }

    async fn what_is_urgent_is_not_held_at_any_time(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        quiet(t, &scope, "10:01:00", "17:00:00").await;
        Order { urgent: true, ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        let first = claim_one(t, &scope).await;
        settle(t, &first, busy()).await;
        t.advance(120);
        settle(t, &claim_one(t, &scope).await, busy()).await;
        Order { urgent: true, ..Order::new("r2", &[Channel::Sms]) }.accept(t, &scope).await;
        assert_eq!(claim(t, &scope, 10).await.len(), 1);
    }

    async fn what_would_be_over_before_the_morning_is_not_held_but_ended(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let tried = Order { lasts: TimeDelta::hours(3), ..Order::new("r1", &[Channel::Sms]) };
        tried.accept(t, &scope).await;
        let tried = claim_one(t, &scope).await;
        settle(t, &tried, busy()).await;
        let order = Order { lasts: TimeDelta::hours(3), ..Order::new("r2", &[Channel::Sms]) };
        let fresh = order.accept(t, &scope).await.deliveries.remove(0);
        quiet(t, &scope, "09:00:00", "17:00:00").await;
        t.advance(120);
        assert!(claim(t, &scope, 10).await.is_empty());
        let fresh = delivery(t, &scope, fresh.id).await;
        assert_eq!((fresh.state, fresh.skip_reason), (DeliveryState::Skipped, Some(SkipReason::Expired)));
        let tried = delivery(t, &scope, tried.id).await;
        assert_eq!(tried.state, DeliveryState::Failed);
        assert_eq!(tried.failure.map(|failure| failure.reason), Some(FailureReason::Expired));
    }

    async fn the_clock_is_the_patients_where_it_is_known_and_at_that_moment(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        quiet(t, &scope, "21:00:00", "08:00:00").await;
        let moved = |zone: &str| Patient { time_zone: Some(zone.parse().unwrap()), ..patient("maria") };
        t.store.patients_put(&scope, vec![moved("America/Los_Angeles")]).await.unwrap();
        let held = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await.deliveries.remove(0);
        // Seven in the morning there.
        assert_eq!(held.next_action_time, Some(at("2026-03-02T16:00:00Z")));
        t.store.patients_put(&scope, vec![moved("Pacific/Honolulu")]).await.unwrap();
        t.advance(3_600);
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(delivery(t, &scope, held.id).await.next_action_time, Some(at("2026-03-02T18:00:00Z")));
        t.advance(2 * 3_600);
        assert_eq!(claim_one(t, &scope).await.id, held.id);
    }

    async fn a_retry_by_staff_waits_as_well_and_has_its_time_after_that(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        let old = claim_one(t, &scope).await;
        let refused = Verdict::Refused { reason: FailureReason::Blocked, code: "30007".into() };
        settle(t, &old, refused).await;
        quiet(t, &scope, "09:00:00", "17:00:00").await;
        let retry = NewRetry { request_id: "again".into(), fingerprint: [1; 32], delivery: old.id };
        let Retried::New(new) = t.store.delivery_retry(&scope, retry).await.unwrap() else { panic!("it is new") };
        let end = at("2026-03-02T22:00:00Z");
        assert_eq!((new.state, new.next_action_time), (DeliveryState::Pending, Some(end)));
        t.clock.advance((end - t.now()).to_std().unwrap());
        let claimed = claim_one(t, &scope).await;
        assert_eq!((claimed.id, claimed.expires_at), (new.id, end + TimeDelta::hours(12)));
    }
}
