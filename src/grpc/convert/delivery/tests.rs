#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use chrono::DateTime;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{DeliveryId, FailureReason, NotificationId, SkipReason},
    service::watch::News,
    store::FeedPage,
};

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn fault<T>(result: Result<T, Error>) -> String {
    match result.err() {
        Some(Error::FieldInvalid(violations)) => violations[0].field.clone(),
        _ => String::new(),
    }
}

#[test]
fn filters_are_bounded_and_known() {
    type Change = fn(&mut proto::DeliveryFilter);
    let rows: [(&str, Change); 9] = [
        ("patient_ids", |it| it.patient_ids = vec!["p".into(); 101]),
        ("patient_ids[1]", |it| it.patient_ids = vec!["p".into(), "a b".into()]),
        ("channels[0]", |it| it.channels = vec![5]),
        ("kinds[0]", |it| it.kinds = vec![12]),
        ("states[0]", |it| it.states = vec![8]),
        ("states[1]", |it| it.states = vec![1, 0]),
        ("notification_id", |it| it.notification_id = "n".into()),
        ("broadcast_id", |it| it.broadcast_id = "b".into()),
        ("reference", |it| it.reference = "x".repeat(129)),
    ];
    for (field, change) in rows {
        let mut filter = proto::DeliveryFilter::default();
        change(&mut filter);
        let request = proto::ListDeliveriesRequest { filter: Some(filter.clone()), ..Default::default() };
        assert_eq!(fault(list(request)), format!("filter.{field}"));
        let request = proto::WatchDeliveriesRequest { filter: Some(filter), ..Default::default() };
        assert_eq!(fault(watch(request, None)), format!("filter.{field}"));
    }
}

#[test]
fn a_page_token_is_bound_to_all_but_size_and_token() {
    let request = |size, token: &str, reference: &str| proto::ListDeliveriesRequest {
        page_size: size,
        page_token: token.into(),
        filter: Some(proto::DeliveryFilter { reference: reference.into(), ..Default::default() }),
        ..Default::default()
    };
    let first = list(request(0, "", "a")).unwrap();
    let second = list(request(1_000, "t", "a")).unwrap();
    assert_eq!((first.page_size, second.page_size, second.page_token.as_str()), (50, 500, "t"));
    assert_eq!(first.canonical, second.canonical);
    assert_ne!(first.canonical, list(request(0, "", "b")).unwrap().canonical);
}

#[test]
fn a_watch_beats_every_5_to_60_seconds() {
    let watch = |seconds: Option<i64>| {
        let heartbeat_interval = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        watch(proto::WatchDeliveriesRequest { heartbeat_interval, ..Default::default() }, None)
    };
    assert_eq!(watch(None).unwrap().heartbeat, Duration::from_secs(15));
    assert_eq!(watch(Some(60)).unwrap().heartbeat, Duration::from_secs(60));
    for seconds in [0, 4, 61, -1] {
        assert_eq!(fault(watch(Some(seconds))), "heartbeat_interval", "{seconds}");
    }
}

#[test]
fn a_watch_begins_where_it_is_told() {
    let start = |start| watch(proto::WatchDeliveriesRequest { start, ..Default::default() }, None).map(|it| it.start);
    assert!(matches!(start(None), Ok(Start::Now)));
    assert!(matches!(start(Some(Beginning::Cursor("c".into()))), Ok(Start::Cursor(cursor)) if cursor == "c"));
    let epoch = prost_types::Timestamp::default();
    assert!(matches!(start(Some(Beginning::StartTime(epoch))), Ok(Start::Time(time)) if time == DateTime::UNIX_EPOCH));
    let bad = prost_types::Timestamp { seconds: 0, nanos: -1 };
    assert_eq!(fault(start(Some(Beginning::StartTime(bad)))), "start_time");
}

fn delivery() -> Delivery {
    let time = DateTime::from_timestamp(1_700_000_000, 5_000).unwrap();
    Delivery {
        trace: None,
        id: DeliveryId(Uuid::try_parse(ID).unwrap()),
        patient: Some("p1".parse().unwrap()),
        revision: 4,
        kind: Some(Kind::PaymentDue),
        channel: Channel::Sms,
        state: DeliveryState::Failed,
        skip_reason: None,
        failure: Some(Failure { reason: FailureReason::Unreachable, provider_code: "30003".into(), fail_time: time }),
        address_hint: "(•••) •••-4821".into(),
        provider: Some(Provider::Twilio),
        provider_message_id: "SM1".into(),
        attempts: 2,
        next_action_time: None,
        possible_duplicate: true,
        create_time: time,
        send_time: Some(time),
        deliver_time: None,
        update_time: time,
        open_time: None,
        sms_segments: 1,
        source: Source::Notification(NotificationId(Uuid::try_parse(ID).unwrap())),
        broadcast: None,
        reference: "inv-1".into(),
        retry_of: None,
        retried_by: Some(DeliveryId(Uuid::try_parse(ID).unwrap())),
    }
}

#[test]
fn a_delivery_is_shown_whole() {
    let shown = shown(delivery());
    assert_eq!((shown.delivery_id.as_str(), shown.patient_id.as_str(), shown.revision), (ID, "p1", 4));
    assert!(shown.kind() == proto::NotificationKind::PaymentDue && shown.channel() == proto::Channel::Sms);
    assert!(shown.state() == proto::DeliveryState::Failed && shown.skip_reason == 0);
    let failure = shown.failure.unwrap();
    assert!(failure.reason() == proto::FailureReason::Unreachable);
    assert_eq!(
        (failure.provider_code.as_str(), failure.message.as_str()),
        ("30003", FailureReason::Unreachable.message())
    );
    assert_eq!((shown.provider.as_str(), shown.attempts, shown.possible_duplicate), ("twilio", 2, true));
    assert_eq!(shown.create_time.map(|time| (time.seconds, time.nanos)), Some((1_700_000_000, 5_000)));
    assert!(shown.send_time.is_some() && shown.deliver_time.is_none() && shown.next_action_time.is_none());
    assert!(matches!(shown.source, Some(proto::delivery::Source::NotificationId(id)) if id == ID));
    assert_eq!((shown.broadcast_id.as_str(), shown.reference.as_str()), ("", "inv-1"));
    assert_eq!((shown.retry_of_delivery_id.as_str(), shown.retry_delivery_id.as_str()), ("", ID));
}

#[test]
fn numbers_of_the_domain_are_those_of_the_contract() {
    let names = |values: &[&'static str]| values.iter().map(|name| name.replace('_', "")).collect::<Vec<_>>();
    let shown: Vec<_> = SkipReason::ALL.iter().map(|it| format!("SkipReason{it:?}").to_uppercase()).collect();
    let contract: Vec<_> = SkipReason::ALL
        .iter()
        .map(|it| proto::SkipReason::try_from(i32::from(it.number())).unwrap().as_str_name())
        .collect();
    assert_eq!(shown, names(&contract));
    let shown: Vec<_> = Kind::ALL.iter().map(|it| format!("NotificationKind{it:?}").to_uppercase()).collect();
    let contract: Vec<_> = Kind::ALL
        .iter()
        .map(|it| proto::NotificationKind::try_from(i32::from(it.number())).unwrap().as_str_name())
        .collect();
    assert_eq!(shown, names(&contract));
    let shown: Vec<_> = DeliveryState::ALL.iter().map(|it| format!("DeliveryState{it:?}").to_uppercase()).collect();
    let contract: Vec<_> = DeliveryState::ALL
        .iter()
        .map(|it| proto::DeliveryState::try_from(i32::from(it.number())).unwrap().as_str_name())
        .collect();
    assert_eq!(shown, names(&contract));
}

#[test]
fn a_step_is_shown_with_its_cursor() {
    let change = DeliveryChange { delivery: delivery(), previous_state: None };
    let other = DeliveryChange { previous_state: Some(DeliveryState::Pending), ..change.clone() };
    let page = Arc::new(FeedPage {
        changes: vec![other, change],
        marked: Vec::new(),
        talk: Vec::new(),
        position: 2,
        full: false,
        gap: false,
    });
    let of = |shown| {
        let news = News::Deliveries(shown);
        step(&Step { cursor: "c".into(), server_time: DateTime::UNIX_EPOCH, news })
    };
    let shown = of(Some((page, vec![1])));
    assert_eq!((shown.cursor.as_str(), shown.changes.len(), shown.changes[0].previous_state), ("c", 1, 0));
    assert!(of(None).changes.is_empty());
}
