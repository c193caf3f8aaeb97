//! Lists of deliveries: newest first, by any filter, page by page without gaps.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    domain::{Channel, Delivery, DeliveryFilter, DeliveryId, DeliveryState, Kind, Scope},
    store::Keyset,
};

use super::{
    given::{NORTH, Order, accepted, claim, patient, ready_practice, settle},
    *,
};

type Span = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

async fn page(
    t: &TestStore,
    scope: &Scope,
    filter: &DeliveryFilter,
    span: Span,
    after: Option<Keyset>,
    limit: u64,
) -> (Vec<Delivery>, Option<Keyset>) {
    let page = t.store.deliveries_list(scope, filter, span, after, limit).await.unwrap();
    (page.deliveries, page.next)
}

async fn all(t: &TestStore, scope: &Scope, filter: &DeliveryFilter) -> Vec<Delivery> {
    page(t, scope, filter, (None, None), None, 1000).await.0
}

on_both! {
    async fn every_filter_narrows_and_all_of_them_must_match(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        let reminder = Order { reference: "visit-7".into(), ..Order::new("r1", &[Channel::Sms, Channel::Email]) }
            .accept(t, &scope)
            .await;
        let other = Order { patient: "ann", kind: Kind::System, ..Order::new("r2", &[Channel::InApp]) };
        other.accept(t, &scope).await;
        for claimed in claim(t, &scope, 10).await {
            if claimed.channel == Channel::Sms {
                settle(t, &claimed, accepted("SM1")).await;
            }
        }
        let default = DeliveryFilter::default;
        let counts = [
            (default(), 3),
            (DeliveryFilter { patients: vec!["maria".parse().unwrap()], ..default() }, 2),
            (DeliveryFilter { patients: vec!["maria".parse().unwrap(), "ann".parse().unwrap()], ..default() }, 3),
            (DeliveryFilter { patients: vec!["nobody".parse().unwrap()], ..default() }, 0),
            (DeliveryFilter { channels: vec![Channel::Sms], ..default() }, 1),
            (DeliveryFilter { channels: vec![Channel::Sms, Channel::InApp, Channel::Push], ..default() }, 2),
            (DeliveryFilter { kinds: vec![Kind::System], ..default() }, 1),
            (DeliveryFilter { kinds: vec![Kind::PaymentDue], ..default() }, 0),
            (DeliveryFilter { states: vec![DeliveryState::Sent], ..default() }, 1),
            (DeliveryFilter { states: vec![DeliveryState::Pending, DeliveryState::Delivered], ..default() }, 2),
            (DeliveryFilter { notification: Some(reminder.id), ..default() }, 2),
            (DeliveryFilter { broadcast: Some(uuid::Uuid::nil()), ..default() }, 0),
            (DeliveryFilter { reference: "visit-7".into(), ..default() }, 2),
            (DeliveryFilter { reference: "visit".into(), ..default() }, 0),
            (
                DeliveryFilter {
                    patients: vec!["maria".parse().unwrap()],
                    channels: vec![Channel::Sms],
                    kinds: vec![Kind::AppointmentReminder],
                    states: vec![DeliveryState::Sent],
                    notification: Some(reminder.id),
                    broadcast: None,
                    reference: "visit-7".into(),
                },
                1,
            ),
            (DeliveryFilter { channels: vec![Channel::Sms], states: vec![DeliveryState::Pending], ..default() }, 0),
        ];
        for (filter, count) in counts {
            assert_eq!(all(t, &scope, &filter).await.len(), count, "{filter:?}");
        }
    }

    async fn the_span_has_its_start_and_not_its_end(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let start = t.now();
        for n in 0..4 {
            Order::new(&format!("r{n}"), &[Channel::InApp]).accept(t, &scope).await;
            t.advance(60);
        }
        let at = |minutes| Some(start + TimeDelta::minutes(minutes));
        let filter = DeliveryFilter::default();
        for (span, count) in [
            ((at(1), None), 3),
            ((None, at(1)), 1),
            ((at(1), at(3)), 2),
            ((at(1), at(1)), 0),
            ((at(9), None), 0),
            ((at(0).map(|time| time + TimeDelta::microseconds(1)), None), 3),
        ] {
            assert_eq!(page(t, &scope, &filter, span, None, 10).await.0.len(), count, "{span:?}");
        }
    }

    async fn the_newest_comes_first_and_pages_have_no_gaps_while_rows_are_added(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mut number = 0;
        let mut add = async |count: u32| {
            for _ in 0..count {
                number += 1;
                Order::new(&format!("r{number}"), &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
                // Several share a moment, so that the id must decide.
                if number % 3 == 0 {
                    t.advance(1);
                }
            }
        };
        add(20).await;
        let filter = DeliveryFilter::default();
        let expected: Vec<DeliveryId> = all(t, &scope, &filter).await.iter().map(|delivery| delivery.id).collect();
        assert_eq!(expected.len(), 40);
        let (mut seen, mut after): (Vec<Delivery>, _) = (Vec::new(), None);
        loop {
            let (deliveries, next) = page(t, &scope, &filter, (None, None), after, 7).await;
            seen.extend(deliveries);
            add(2).await;
            let Some(next) = next else { break };
            let bytes = next.to_bytes();
            after = Keyset::from_bytes(&bytes);
            assert_eq!(after, Some(next));
        }
        assert_eq!(seen.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), expected);
        assert!(seen.is_sorted_by_key(|delivery| std::cmp::Reverse((delivery.create_time, delivery.id))));
        assert_eq!(seen.iter().map(|delivery| delivery.id).collect::<BTreeSet<_>>().len(), 40);
    }

    async fn a_page_that_is_just_full_is_the_last(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
        let filter = DeliveryFilter::default();
        let (deliveries, next) = page(t, &scope, &filter, (None, None), None, 2).await;
        assert_eq!((deliveries.len(), next), (2, None));
        let (deliveries, next) = page(t, &scope, &filter, (None, None), None, 1).await;
        assert_eq!(deliveries.len(), 1);
        let (deliveries, next) = page(t, &scope, &filter, (None, None), next, 1).await;
        assert_eq!((deliveries.len(), next), (1, None));
    }
}

#[test]
fn bytes_that_are_no_keyset_are_none() {
    for bytes in [&[][..], &[0; 23], &[0; 25], &[0x7f; 24]] {
        assert_eq!(Keyset::from_bytes(bytes), None, "{}", bytes.len());
    }
}
