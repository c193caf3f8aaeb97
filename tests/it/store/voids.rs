//! What an accepted notification makes pointless: a cancelled visit its reminders, a payment its dues.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{Channel, DeliveryState, Kind, Look, NotificationId, Patient, Scope, Verdict},
    store::{Accepted, NotificationRecord, StoreError},
};

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, changes, claim, claim_one, delivery, last_line, look_twice, patient,
        ready_practice, settle, unknown,
    },
    *,
};

fn order(request_id: &str, kind: Kind, reference: &str) -> Order {
    Order { kind, reference: reference.into(), ..Order::new(request_id, &[Channel::Sms, Channel::Email]) }
}

fn reminder(request_id: &str) -> Order {
    order(request_id, Kind::AppointmentReminder, "visit-7")
}

fn visit_cancelled(request_id: &str) -> Order {
    let order = order(request_id, Kind::AppointmentCancelled, "visit-7");
    Order { channels: [Channel::Email].into_iter().collect(), ..order }
}

async fn get(t: &TestStore, scope: &Scope, id: NotificationId) -> NotificationRecord {
    t.store.notification_get(scope, id).await.unwrap()
}

on_both! {
    async fn a_cancelled_visit_stops_its_reminders_and_nothing_else(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        t.store.patients_put(&north, vec![patient("ann")]).await.unwrap();
        let due = reminder("now").accept(t, &north).await;
        let later = Order { schedule_time: Some(t.now() + TimeDelta::days(1)), ..reminder("later") };
        let later = later.accept(t, &north).await;
        let mut others = Vec::new();
        for other in [
            order("o1", Kind::AppointmentReminder, "visit-8"),
            order("o2", Kind::AppointmentReminder, ""),
            order("o3", Kind::AppointmentReminder, "visit-70"),
            order("o4", Kind::PaymentDue, "visit-7"),
            Order { patient: "ann", ..reminder("o5") },
        ] {
            others.push(other.accept(t, &north).await);
        }
        let foreign = reminder("now").accept(t, &south).await;
        let head = t.store.feed_head(&north).await.unwrap();
        t.advance(60);

        let made = visit_cancelled("cancel").accept(t, &north).await;
        assert_eq!(made.deliveries.len(), 1);
        for stopped in [due, later] {
            let now = get(t, &north, stopped.id).await;
            assert_eq!(now.cancel_time, None, "nobody cancelled the notification itself");
            assert_eq!(now.deliveries.len(), 2);
            for one in now.deliveries {
                assert_eq!((one.state, one.revision), (DeliveryState::Cancelled, 2));
                let line = last_line(t, &north, &one).await;
                assert_eq!(line.detail, "Not sent: the visit was cancelled.");
                assert_eq!((line.actor.id.as_str(), line.event_time), ("front-desk", t.now()));
            }
        }
        for other in others {
            assert_eq!(get(t, &north, other.id).await, other);
        }
        assert_eq!(get(t, &south, foreign.id).await, foreign);
        assert_eq!(changes(t, &north, head).await.len(), 5);
        assert_eq!(t.store.feed_head(&south).await.unwrap(), 2);
        // None of it goes, on its day either.
        t.advance(24 * 3_600);
        for claimed in claim(t, &north, 100).await {
            assert_ne!(delivery(t, &north, claimed.id).await.reference, "visit-7");
        }
    }

    async fn a_payment_stops_what_is_due_for_the_same_invoice(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let due = order("due", Kind::PaymentDue, "INV-1").accept(t, &scope).await;
        let other = order("other", Kind::PaymentDue, "INV-2").accept(t, &scope).await;
        let visit = order("visit", Kind::AppointmentReminder, "INV-1").accept(t, &scope).await;
        order("failed", Kind::PaymentFailed, "INV-1").accept(t, &scope).await;
        order("confirmed", Kind::AppointmentConfirmed, "INV-1").accept(t, &scope).await;
        assert_eq!(get(t, &scope, due.id).await, due, "neither of them settles an invoice");
        order("paid", Kind::PaymentReceived, "INV-1").accept(t, &scope).await;
        let now = get(t, &scope, due.id).await.deliveries;
        assert!(now.iter().all(|one| one.state != DeliveryState::Pending));
        for one in now.iter().filter(|one| one.state == DeliveryState::Cancelled) {
            assert_eq!(last_line(t, &scope, one).await.detail, "Not sent: the payment was received.");
        }
        assert_eq!((get(t, &scope, other.id).await, get(t, &scope, visit.id).await), (other, visit));
    }

    async fn an_empty_reference_stops_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let bare = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        Order { reference: String::new(), ..visit_cancelled("cancel") }.accept(t, &scope).await;
        assert_eq!(get(t, &scope, bare.id).await, bare);
    }

    async fn a_repeat_stops_nothing_that_came_since(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        reminder("r1").accept(t, &scope).await;
        let cancel = visit_cancelled("cancel");
        cancel.accept(t, &scope).await;
        // The visit was given a new time under its old number.
        let moved = reminder("r2").accept(t, &scope).await;
        let again = cancel.prepare(t, &scope).await;
        assert!(matches!(t.store.notification_accept(&scope, again).await.unwrap(), Accepted::Replayed(_)));
        assert_eq!(get(t, &scope, moved.id).await, moved);
    }

    async fn what_is_under_way_goes_its_way_and_is_not_tried_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let texts = |request_id: &str| Order { channels: [Channel::Sms].into_iter().collect(), ..reminder(request_id) };
        texts("sent").accept(t, &scope).await;
        let sent = claim_one(t, &scope).await;
        texts("again").accept(t, &scope).await;
        let again = claim_one(t, &scope).await;
        texts("unknown").accept(t, &scope).await;
        let doubt = claim_one(t, &scope).await;
        settle(t, &doubt, unknown()).await;
        let before = delivery(t, &scope, doubt.id).await;

        visit_cancelled("cancel").accept(t, &scope).await;
        assert_eq!(delivery(t, &scope, doubt.id).await, before);
        let line = last_line(t, &scope, &before).await.detail;
        assert!(line.starts_with("The visit was cancelled") && line.contains("not tried again"), "{line}");
        settle(t, &sent, accepted("SM1")).await;
        settle(t, &again, Verdict::NotTaken { retry_after: None, code: "20429".into() }).await;
        look_twice(t, &Look::Absent).await;
        for (claimed, state) in
            [(sent, DeliveryState::Sent), (again, DeliveryState::Cancelled), (doubt, DeliveryState::Unconfirmed)]
        {
            let now = delivery(t, &scope, claimed.id).await;
            assert_eq!((now.state, now.next_action_time), (state, None));
        }
        t.advance(3_600);
        assert!(claim(t, &scope, 10).await.iter().all(|claimed| claimed.channel == Channel::Email));
    }

    async fn it_counts_also_when_the_notice_itself_does_not_go(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let stopped = reminder("r1").accept(t, &scope).await;
        t.store.patients_put(&scope, vec![Patient { email: None, ..patient("maria") }]).await.unwrap();
        let made = visit_cancelled("cancel").accept(t, &scope).await;
        assert_eq!(made.deliveries[0].state, DeliveryState::Skipped);
        let now = get(t, &scope, stopped.id).await;
        assert!(now.deliveries.iter().all(|one| one.state == DeliveryState::Cancelled));
    }

    async fn an_accept_that_fails_stops_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let kept = reminder("r1").accept(t, &scope).await;
        let mut broken = visit_cancelled("cancel").prepare(t, &scope).await;
        broken.deliveries[0].id = kept.deliveries[0].id;
        assert!(matches!(t.store.notification_accept(&scope, broken).await, Err(StoreError::Internal(_))));
        assert_eq!(get(t, &scope, kept.id).await, kept);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), 2);
    }

    async fn visits_that_are_cancelled_at_once_stop_each_reminder_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for n in 0..4 {
            reminder(&format!("r{n}")).accept(t, &scope).await;
        }
        let mut cancels = Vec::new();
        for n in 0..8 {
            cancels.push(visit_cancelled(&format!("c{n}")).prepare(t, &scope).await);
        }
        let done = join_all(cancels.into_iter().map(|new| t.store.notification_accept(&scope, new))).await;
        assert!(done.into_iter().all(|done| matches!(done.unwrap(), Accepted::New(_))));
        assert_eq!(t.number("SELECT count(*) FROM delivery WHERE state = 7 AND revision = 2 AND events = 2").await, 8);
    }
}
