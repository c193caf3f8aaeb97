//! Accepting: all or nothing, once per key, and nobody sees another practice's rows.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{
        ActorType, Channel, DeliveryFilter, DeliveryState, Kind, NotificationId, Outcome, Provider, SkipReason, Source,
    },
    store::{Accepted, StoreError},
};

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, changes, claim, claim_as, claim_one, known, patient, practices_due,
        ready_practice, settle,
    },
    *,
};
use crate::support::{Backend, run};

on_both! {
    async fn what_was_accepted_is_there_at_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = Order { reference: "visit-7".into(), ..Order::new("r1", &[Channel::Sms, Channel::Email]) };
        let new = order.prepare(t, &scope).await;
        let Accepted::New(record) = t.store.notification_accept(&scope, new.clone()).await.unwrap() else {
            panic!("new")
        };

        assert_eq!((record.id, record.request_id.as_str(), record.reference.as_str()), (new.id, "r1", "visit-7"));
        assert_eq!((record.kind, &record.patient), (Kind::AppointmentReminder, &new.patient.id));
        assert_eq!((record.create_time, record.expire_time), (t.now(), t.now() + TimeDelta::hours(12)));
        assert_eq!((record.schedule_time, record.cancel_time), (None, None));
        assert_eq!((record.creator.kind, record.creator.id.as_str()), (ActorType::Staff, "front-desk"));
        let channels: Vec<_> = record.deliveries.iter().map(|delivery| delivery.channel).collect();
        assert_eq!(channels, [Channel::Email, Channel::Sms]);
        let sms = &record.deliveries[1];
        assert_eq!((sms.state, sms.revision, sms.attempts), (DeliveryState::Pending, 1, 0));
        assert_eq!((sms.address_hint.as_str(), sms.reference.as_str()), ("(•••) •••-0142", "visit-7"));
        assert_eq!((sms.next_action_time, sms.provider, sms.sms_segments), (Some(t.now()), None, 1));
        assert_eq!(sms.source, Source::Notification(record.id));
        assert_eq!(t.store.notification_get(&scope, record.id).await.unwrap(), record);
        assert_eq!(changes(t, &scope, 0).await.len(), 2);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 2);
    }

    async fn a_detail_has_timeline_text_and_decisions_only_if_asked(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store
            .patients_put(&scope, vec![heedwell::domain::Patient { email: None, ..patient("maria") }])
            .await
            .unwrap();
        let new = Order::new("r1", &[Channel::Email, Channel::Sms]).prepare(t, &scope).await;
        t.store.notification_accept(&scope, new.clone()).await.unwrap();

        let brief = t.store.notification_detail(&scope, new.id, false).await.unwrap();
        assert!(brief.decisions.is_empty() && brief.details.iter().all(|(_, content)| content.is_none()));
        let full = t.store.notification_detail(&scope, new.id, true).await.unwrap();
        assert_eq!(full.record, brief.record);
        assert_eq!(full.decisions, new.decisions);
        assert_eq!(full.decisions[1].steps.last().map(|step| step.outcome), Some(Outcome::Refused));
        let [(email_events, email), (sms_events, sms)] = &full.details[..] else { panic!("two deliveries") };
        assert_eq!((email, sms), (&None, &new.deliveries[1].content));
        assert_eq!(email_events[0].detail, "Accepted, and not sent: see the reason.");
        let [event] = &sms_events[..] else { panic!("one line") };
        assert_eq!((event.detail.as_str(), event.state), ("Accepted for sending.", DeliveryState::Pending));
        assert_eq!((event.event_time, event.attempt, event.actor.id.as_str()), (t.now(), 0, "front-desk"));
    }

    async fn a_key_makes_one_notification_however_often_it_comes(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(known(t, &scope, "r1", [7; 32]).await, Some(Ok(first.id)));
        assert_eq!(known(t, &scope, "r1", [8; 32]).await, Some(Err(first.id)));
        assert_eq!(known(t, &scope, "r2", [7; 32]).await, None);

        t.advance(3600);
        let again = Order::new("r1", &[Channel::Sms]).prepare(t, &scope).await;
        assert_ne!(again.id, first.id);
        let replayed = t.store.notification_accept(&scope, again.clone()).await.unwrap();
        assert_eq!(replayed, Accepted::Replayed(first.clone()));
        // The record comes back as it is now.
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, accepted("SM1")).await;
        let Accepted::Replayed(now) = t.store.notification_accept(&scope, again.clone()).await.unwrap() else {
            panic!("replayed")
        };
        assert_eq!(now.deliveries[0].state, DeliveryState::Sent);

        let mut other = again;
        other.fingerprint = [8; 32];
        assert_eq!(t.store.notification_accept(&scope, other).await.unwrap(), Accepted::KeyReused(first.id));
        assert_eq!(t.number("SELECT count(*) FROM notification").await, 1);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), 2);
    }

    async fn sixteen_twins_at_once_make_one_notification(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = Order::new("r1", &[Channel::Sms, Channel::Email, Channel::InApp]);
        let mut twins = Vec::new();
        for _ in 0..16 {
            twins.push(order.prepare(t, &scope).await);
        }
        let done = join_all(twins.into_iter().map(|twin| t.store.notification_accept(&scope, twin))).await;
        let mut new = Vec::new();
        let mut replayed = Vec::new();
        for result in done {
            match result.unwrap() {
                Accepted::New(record) => new.push(record.id),
                Accepted::Replayed(record) => replayed.push(record.id),
                Accepted::KeyReused(id) => panic!("reused by {id}"),
            }
        }
        assert_eq!((new.len(), replayed.len()), (1, 15));
        assert!(replayed.iter().all(|id| *id == new[0]));
        assert_eq!(t.number("SELECT count(*) FROM delivery").await, 3);
        assert_eq!(t.number("SELECT count(*) FROM idem").await, 1);
    }

    async fn keys_of_two_practices_have_nothing_to_do_with_each_other(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let first = Order::new("r1", &[Channel::Sms]).accept(t, &north).await;
        let second = Order::new("r1", &[Channel::Sms]).accept(t, &south).await;
        assert_ne!(first.id, second.id);
        assert_eq!(known(t, &south, "r1", [7; 32]).await, Some(Ok(second.id)));
    }

    async fn an_accept_that_fails_leaves_nothing_its_key_included(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mut broken = Order::new("r1", &[Channel::Sms, Channel::Email]).prepare(t, &scope).await;
        broken.deliveries[1].id = broken.deliveries[0].id;
        // A number has its gate since it was given to a patient.
        let gates = t.number("SELECT count(*) FROM recipient_gate").await;
        assert!(matches!(t.store.notification_accept(&scope, broken).await, Err(StoreError::Internal(_))));
        assert_eq!(known(t, &scope, "r1", [7; 32]).await, None);
        for table in ["notification", "delivery", "delivery_event", "content", "feed"] {
            assert_eq!(t.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
        }
        assert_eq!(t.number("SELECT count(*) FROM recipient_gate").await, gates);
        Order::new("r1", &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
    }

    async fn an_in_app_message_that_is_due_is_delivered_when_accepted(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = Order { kind: Kind::System, security: true, ..Order::new("r1", &[Channel::InApp]) };
        let record = order.accept(t, &scope).await;
        let stored = &record.deliveries[0];
        assert_eq!((stored.state, stored.attempts), (DeliveryState::Delivered, 1));
        assert_eq!((stored.send_time, stored.deliver_time), (Some(t.now()), Some(t.now())));
        assert_eq!((stored.provider, stored.next_action_time), (Some(Provider::Inbox), None));
        assert_eq!(t.number("SELECT count(*) FROM inbox_item WHERE patient_id = 'maria' AND security").await, 1);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        assert!(claim(t, &scope, 10).await.is_empty());
        let detail = t.store.notification_detail(&scope, record.id, true).await.unwrap();
        assert_eq!(detail.details[0].0[0].detail, "Stored in the patient's inbox.");
        assert!(detail.details[0].1.is_some());
    }

    async fn a_scheduled_in_app_message_is_filed_when_its_time_has_come(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let at = t.now() + TimeDelta::hours(1);
        let order = Order {
            kind: Kind::System,
            security: true,
            schedule_time: Some(at),
            ..Order::new("r1", &[Channel::InApp])
        };
        let record = order.accept(t, &scope).await;
        let waiting = &record.deliveries[0];
        assert_eq!((waiting.state, waiting.next_action_time), (DeliveryState::Pending, Some(at)));
        assert_eq!(t.number("SELECT count(*) FROM inbox_item").await, 0);
        assert!(claim(t, &scope, 10).await.is_empty());

        t.advance(3600);
        let (claimed, seen) = claim_as(t, &scope, uuid::Uuid::nil(), 10).await;
        assert_eq!((claimed.len(), seen), (0, 1));
        let filed = t.store.notification_get(&scope, record.id).await.unwrap().deliveries.remove(0);
        assert_eq!((filed.state, filed.deliver_time), (DeliveryState::Delivered, Some(t.now())));
        assert_eq!((filed.attempts, filed.provider, filed.revision), (1, Some(Provider::Inbox), 2));
        assert_eq!(t.number("SELECT count(*) FROM inbox_item WHERE security").await, 1);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn a_channel_decided_against_is_recorded_and_never_tried(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let bare = heedwell::domain::Patient { mobile_phone: None, ..patient("maria") };
        t.store.patients_put(&scope, vec![bare]).await.unwrap();
        let record = Order::new("r1", &[Channel::Sms, Channel::Push]).accept(t, &scope).await;
        let reasons: Vec<_> = record.deliveries.iter().map(|delivery| (delivery.state, delivery.skip_reason)).collect();
        let skipped = DeliveryState::Skipped;
        assert_eq!(reasons, [(skipped, Some(SkipReason::NoAddress)), (skipped, Some(SkipReason::ChannelOffForKind))]);
        assert!(record.deliveries.iter().all(|delivery| delivery.next_action_time.is_none()));
        assert_eq!(changes(t, &scope, 0).await.len(), 2);
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        assert!(practices_due(t).await.is_empty());
    }

    async fn nothing_of_one_practice_is_seen_with_the_key_of_another(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let order = Order { reference: "visit".into(), ..Order::new("r1", &[Channel::Sms]) };
        let record = order.accept(t, &north).await;
        let claimed = claim_one(t, &north).await;
        settle(t, &claimed, accepted("SM1")).await;

        let not_found = |error: StoreError| matches!(error, StoreError::NotFound("notification"));
        assert!(not_found(t.store.notification_get(&south, record.id).await.unwrap_err()));
        for full in [false, true] {
            assert!(not_found(t.store.notification_detail(&south, record.id, full).await.unwrap_err()));
        }
        assert_eq!(known(t, &south, "r1", [7; 32]).await, None);
        let filters = [
            DeliveryFilter::default(),
            DeliveryFilter { notification: Some(record.id), ..Default::default() },
            DeliveryFilter { reference: "visit".into(), ..Default::default() },
            DeliveryFilter { patients: vec!["maria".parse().unwrap()], ..Default::default() },
        ];
        for filter in filters {
            let page = t.store.deliveries_list(&south, &filter, (None, None), None, 10).await.unwrap();
            assert!(page.deliveries.is_empty() && page.next.is_none());
        }
        assert_eq!(t.store.feed_head(&south).await.unwrap(), 0);
        assert!(changes(t, &south, 0).await.is_empty());
        assert!(t.store.channel_health(&south).await.unwrap().is_empty());
        let refs = ["SM1".to_owned()];
        let bound = t.store.refs_bound(&t.engine, south.practice(), Provider::Twilio, &refs).await.unwrap();
        assert!(bound.is_empty());
        assert!(claim(t, &south, 10).await.is_empty());
        assert!(t.store.settings_get(&south).await.unwrap().revision == 1);
    }

    async fn an_unknown_notification_is_not_found(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let id = NotificationId(uuid::Uuid::nil());
        assert!(matches!(t.store.notification_get(&scope, id).await, Err(StoreError::NotFound("notification"))));
        assert!(matches!(
            t.store.notification_detail(&scope, id, true).await,
            Err(StoreError::NotFound("notification"))
        ));
    }

    async fn a_listener_is_woken_after_the_commit_and_not_by_a_replay(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mut listener = t.store.wake().listen();
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(listener.any().await.as_ref(), Some(scope.practice()));
        let again = Order::new("r1", &[Channel::Sms]).prepare(t, &scope).await;
        t.store.notification_accept(&scope, again).await.unwrap();
        // Nothing waits: the next hint is of the other practice.
        let other = ready_practice(t, SOUTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &other).await;
        assert_eq!(listener.any().await.as_ref(), Some(other.practice()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_sqlite_ends_by_itself_shuts_nobody_out() {
    run(Backend::Sqlite, async |t| {
        let scope = ready_practice(t, NORTH).await;
        // As a full disk does.
        t.execute("CREATE TRIGGER ends BEFORE INSERT ON notification BEGIN SELECT RAISE(ROLLBACK, 'ended'); END").await;
        let new = Order::new("key", &[Channel::Sms]).prepare(t, &scope).await;
        for _ in 0..2 {
            assert!(t.store.notification_accept(&scope, new.clone()).await.is_err());
        }
        t.execute("DROP TRIGGER ends").await;
        let accepted = t.store.notification_accept(&scope, new).await.unwrap();
        assert!(matches!(accepted, Accepted::New(_)), "{accepted:?}");
    })
    .await;
}
