#![expect(clippy::unwrap_used, reason = "tests")]

use prost_types::{Duration, Timestamp};

use super::*;
use crate::{
    domain::Kind,
    grpc::proto::{
        AppointmentDetails, CustomDetails, DocumentDetails, MessageReceivedDetails, Money, NotificationInput,
        PaymentDetails, SecureLink, SystemDetails, notification_input::Payload as Arm,
    },
};

fn link() -> SecureLink {
    SecureLink { target_url: "https://portal.example.com/x".into(), ttl: None, max_opens: 0 }
}

fn visit() -> AppointmentDetails {
    AppointmentDetails { start_time: Some(Timestamp { seconds: 1_900_000_000, nanos: 0 }), ..Default::default() }
}

fn payment() -> PaymentDetails {
    let amount = Some(Money { currency_code: "USD".into(), units: 12, nanos: 500_000_000 });
    PaymentDetails { amount, ..Default::default() }
}

fn documents() -> DocumentDetails {
    DocumentDetails { action: 1, document_count: 1, link: Some(link()), ..Default::default() }
}

fn custom() -> CustomDetails {
    let variables = [("first", "1"), ("second", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    CustomDetails { template_key: "custom/recall".into(), variables: variables.into() }
}

fn input(payload: Arm) -> NotificationInput {
    NotificationInput { patient_id: "p1".into(), payload: Some(payload), ..Default::default() }
}

fn single(input: NotificationInput) -> Result<Order, Error> {
    let notification = Some(input);
    order(proto::SendNotificationRequest { practice_id: "a".into(), request_id: "r".into(), notification })
}

fn faults(order: Result<Order, Error>) -> Vec<String> {
    match order {
        Ok(_) => Vec::new(),
        Err(Error::FieldInvalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
        Err(error) => panic!("{error}"),
    }
}

/// The faults of a good input after `change`.
fn changed(payload: Arm, change: impl FnOnce(&mut NotificationInput)) -> Vec<String> {
    let mut input = input(payload);
    change(&mut input);
    faults(single(input))
}

fn system() -> Arm {
    Arm::System(SystemDetails { title: "Hours".into(), body: "We moved.\nSee you.".into(), security: false })
}

#[test]
fn each_arm_decides_the_kind() {
    let message = MessageReceivedDetails { sender_name: "Acme".into(), ..Default::default() };
    let arms = [
        (Arm::AppointmentReminder(visit()), Kind::AppointmentReminder),
        (Arm::AppointmentConfirmed(visit()), Kind::AppointmentConfirmed),
        (Arm::AppointmentCancelled(visit()), Kind::AppointmentCancelled),
        (Arm::PaymentDue(payment()), Kind::PaymentDue),
        (Arm::PaymentReceived(payment()), Kind::PaymentReceived),
        (Arm::PaymentFailed(payment()), Kind::PaymentFailed),
        (Arm::MessageReceived(message), Kind::MessageReceived),
        (Arm::DocumentShared(documents()), Kind::DocumentShared),
        (system(), Kind::System),
        (Arm::Custom(custom()), Kind::Custom),
    ];
    for (arm, kind) in arms {
        assert_eq!(single(input(arm)).unwrap().input.payload.kind(), kind);
    }
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(faults(order(proto::SendNotificationRequest::default())), ["request_id", "notification"]);
    assert_eq!(faults(single(NotificationInput::default())), ["notification.patient_id", "notification.payload"]);
}

#[test]
fn fields_common_to_all_kinds_are_checked() {
    type Change = fn(&mut NotificationInput);
    let rows: [(&str, Change); 12] = [
        ("patient_id", |it| it.patient_id = "Pat Doe".into()),
        ("custom_content", |it| it.custom_content = "x".repeat(1_001)),
        ("custom_content", |it| it.custom_content = "a\rb".into()),
        ("channels[1]", |it| it.channels = vec![2, 2]),
        ("channels[0]", |it| it.channels = vec![0]),
        ("channels[0]", |it| it.channels = vec![9]),
        ("schedule_time", |it| it.schedule_time = Some(Timestamp { seconds: i64::MAX, nanos: 0 })),
        ("expire_time", |it| it.expire_time = Some(Timestamp { seconds: 0, nanos: -1 })),
        ("reference", |it| it.reference = "x".repeat(129)),
        ("reference", |it| it.reference = "a\nb".into()),
        ("priority", |it| it.priority = 3),
        ("payload", |it| it.payload = None),
    ];
    for (field, change) in rows {
        assert_eq!(changed(system(), change), [format!("notification.{field}")]);
    }
    assert!(changed(system(), |it| it.custom_content = "a\nb".into()).is_empty());
}

#[test]
fn appointments_are_checked() {
    type Change = fn(&mut AppointmentDetails);
    let rows: [(&str, Change); 11] = [
        ("start_time", |it| it.start_time = None),
        ("duration", |it| it.duration = Some(Duration { seconds: -1, nanos: 0 })),
        ("duration", |it| it.duration = Some(Duration { seconds: 32 * 86_400, nanos: 0 })),
        ("time_zone", |it| it.time_zone = "Mars/Olympus".into()),
        ("provider_name", |it| it.provider_name = "Dr.\r\nRay".into()),
        ("location_name", |it| it.location_name = "x".repeat(201)),
        ("location_address", |it| it.location_address = "x".repeat(201)),
        ("link.target_url", |it| it.link = Some(SecureLink::default())),
        ("link.ttl", |it| it.link = Some(SecureLink { ttl: Some(Duration::default()), ..link() })),
        ("link.ttl", |it| {
            it.link = Some(SecureLink { ttl: Some(Duration { seconds: 90 * 86_400 + 1, nanos: 0 }), ..link() });
        }),
        ("link.max_opens", |it| it.link = Some(SecureLink { max_opens: 10_001, ..link() })),
    ];
    for (field, change) in rows {
        let mut details = visit();
        change(&mut details);
        let found = faults(single(input(Arm::AppointmentReminder(details))));
        assert_eq!(found, [format!("notification.appointment_reminder.{field}")]);
    }
}

#[test]
fn money_has_one_sign_and_a_currency() {
    let money = |currency: &str, units, nanos| {
        let amount = Some(Money { currency_code: currency.into(), units, nanos });
        faults(single(input(Arm::PaymentDue(PaymentDetails { amount, ..Default::default() }))))
    };
    for (units, nanos) in [(0, 0), (1, 999_999_999), (-1, -5), (0, -5), (-3, 0), (i64::MIN, -999_999_999)] {
        assert!(money("USD", units, nanos).is_empty(), "{units} {nanos}");
    }
    for currency in ["", "usd", "US", "USDX", "U$D"] {
        assert_eq!(money(currency, 1, 0), ["notification.payment_due.amount.currency_code"], "{currency}");
    }
    for (units, nanos) in [(1, -1), (-1, 1), (0, 1_000_000_000), (0, i32::MIN)] {
        assert_eq!(money("USD", units, nanos), ["notification.payment_due.amount.nanos"], "{units} {nanos}");
    }
    let missing = faults(single(input(Arm::PaymentDue(PaymentDetails::default()))));
    assert_eq!(missing, ["notification.payment_due.amount"]);
}

#[test]
fn the_other_arms_are_checked() {
    let sender =
        |name: &str| Arm::MessageReceived(MessageReceivedDetails { sender_name: name.into(), ..Default::default() });
    let shared = |change: fn(&mut DocumentDetails)| {
        let mut details = documents();
        change(&mut details);
        Arm::DocumentShared(details)
    };
    let notice = |title: &str, body: &str| {
        Arm::System(SystemDetails { title: title.into(), body: body.into(), security: false })
    };
    let variables = |name: &str, value: String| {
        Arm::Custom(CustomDetails { variables: [(name.to_owned(), value)].into(), ..custom() })
    };
    let long = "x".repeat(2_001);
    let rows = [
        ("message_received.sender_name", sender("")),
        ("message_received.sender_name", sender("a\nBcc: b@example.com")),
        ("document_shared.action", shared(|it| it.action = 0)),
        ("document_shared.action", shared(|it| it.action = 3)),
        ("document_shared.document_count", shared(|it| it.document_count = 0)),
        ("document_shared.document_count", shared(|it| it.document_count = 101)),
        ("document_shared.titles", shared(|it| it.titles = vec!["x".into(); 21])),
        ("document_shared.titles[1]", shared(|it| it.titles = vec!["x".into(), "a\0".into()])),
        ("document_shared.link", shared(|it| it.link = None)),
        ("system.title", notice("", "b")),
        ("system.title", notice("a\nb", "b")),
        ("system.title", notice(&long[..121], "b")),
        ("system.body", notice("a", "")),
        ("system.body", notice("a", &long)),
        ("custom.template_key", Arm::Custom(CustomDetails { template_key: "Recall".into(), ..custom() })),
        ("custom.template_key", Arm::Custom(CustomDetails { template_key: String::new(), ..custom() })),
        ("custom.variables", variables("Pat Doe", "x".into())),
        ("custom.variables", variables("1st", "x".into())),
        ("custom.variables.name", variables("name", "x".repeat(1_001))),
    ];
    for (field, arm) in rows {
        assert_eq!(faults(single(input(arm))), [format!("notification.{field}")]);
    }
}

#[test]
fn descriptions_never_repeat_the_value() {
    let mut input = input(Arm::AppointmentReminder(AppointmentDetails {
        time_zone: "Hildegard".into(),
        provider_name: "Hildegard\n".into(),
        link: Some(SecureLink { target_url: "Hildegard".into(), ..link() }),
        ..visit()
    }));
    input.patient_id = "Hildegard M.".into();
    input.reference = "Hildegard\n".into();
    let Err(Error::FieldInvalid(violations)) = single(input) else { panic!("refused") };
    assert_eq!(violations.len(), 5);
    assert!(violations.iter().all(|it| !format!("{it:?}").contains("Hildegard")));
}

#[test]
fn equal_requests_have_equal_bytes_and_the_key_is_not_in_them() {
    let first = single(input(Arm::Custom(custom()))).unwrap();
    let mut reversed = CustomDetails { variables: std::collections::BTreeMap::new(), ..custom() };
    custom().variables.into_iter().rev().for_each(|(name, value)| drop(reversed.variables.insert(name, value)));
    let item = proto::batch_send_notifications_request::BatchItem {
        request_id: "another".into(),
        notification: Some(input(Arm::Custom(reversed))),
    };
    let batch = proto::BatchSendNotificationsRequest { practice_id: "a".into(), items: vec![item] };
    let second = orders(batch).unwrap().remove(0).unwrap();
    assert_ne!(first.request_id, second.request_id);
    assert_eq!(first.canonical, second.canonical);
    let other = single(NotificationInput { patient_id: "p2".into(), ..input(Arm::Custom(custom())) }).unwrap();
    assert_ne!(first.canonical, other.canonical);
}

#[test]
fn a_batch_has_1_to_500_items_each_on_its_own() {
    let batch = |count| proto::BatchSendNotificationsRequest {
        practice_id: "a".into(),
        items: vec![proto::batch_send_notifications_request::BatchItem::default(); count],
    };
    for count in [0, 501] {
        let Err(Error::FieldInvalid(violations)) = orders(batch(count)) else { panic!("refused") };
        assert_eq!(violations[0].field, "items");
    }
    let orders = orders(batch(500)).unwrap();
    assert_eq!(orders.len(), 500);
    assert_eq!(faults(orders.into_iter().next().unwrap()), ["request_id", "notification"]);
}

#[test]
fn times_and_texts_arrive() {
    let mut input = input(Arm::AppointmentReminder(AppointmentDetails { link: Some(link()), ..visit() }));
    input.schedule_time = Some(Timestamp { seconds: 1_800_000_000, nanos: 123_456_789 });
    input.channels = vec![3, 2];
    input.priority = 2;
    let order = single(input).unwrap().input;
    assert_eq!(order.schedule_time.unwrap().timestamp_subsec_nanos(), 123_456_000);
    assert_eq!(order.channels.unwrap().iter().collect::<Vec<_>>(), [Channel::Email, Channel::Sms]);
    assert_eq!((order.priority, order.custom_content.is_none()), (Priority::Urgent, true));
    assert_eq!(order.payload.link().unwrap().target_url, "https://portal.example.com/x");
}

#[test]
fn an_id_of_another_form_is_wrong_and_not_repeated() {
    let wanted = |id: &str, view| {
        wanted(&proto::GetNotificationRequest { practice_id: "a".into(), notification_id: id.into(), view })
    };
    assert!(matches!(wanted("", 0), Err(Error::FieldInvalid(_))));
    assert!(matches!(wanted("01890a5d-ac96-774b-bcce-b302099a8057", 3), Err(Error::FieldInvalid(_))));
    assert!(wanted("01890a5d-ac96-774b-bcce-b302099a8057", 2).is_ok());
    let Err(Error::FieldInvalid(violations)) = wanted("Pat Doe", 0) else { panic!("it is no id") };
    assert!(violations.len() == 1 && violations[0].field == "notification_id");
    assert!(!violations[0].description.contains("Pat"));
}
