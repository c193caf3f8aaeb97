//! Many notifications in one call: each stands and falls alone, and the answers keep the order.

use heedwell::grpc::proto::{
    BatchSendNotificationsRequest, Channel, ItemError, Notification, NotificationInput, PaymentDetails,
    batch_send_notifications_request::BatchItem,
    batch_send_notifications_response::{BatchResult, batch_result::Outcome},
    notification_input::Payload,
};
use tonic::{Code, Status};

use super::{
    given::{new_key, payment, practice, reminder, send, try_send},
    seen::{everything, fields, refused, settled},
};
use crate::support::app::{ACME, TestApp, on_a_server};

pub(super) async fn send_all(t: &TestApp, items: Vec<BatchItem>) -> Result<Vec<BatchResult>, Status> {
    let request = BatchSendNotificationsRequest { practice_id: ACME.into(), items };
    Ok(t.sender().batch_send_notifications(request).await?.into_inner().results)
}

pub(super) fn item(key: &str, input: NotificationInput) -> BatchItem {
    BatchItem { request_id: key.into(), notification: Some(input) }
}

fn made(result: &BatchResult) -> &Notification {
    match &result.outcome {
        Some(Outcome::Notification(notification)) => notification,
        _ => panic!("it was made"),
    }
}

fn error(result: &BatchResult) -> &ItemError {
    match &result.outcome {
        Some(Outcome::Error(error)) => error,
        _ => panic!("it failed"),
    }
}

on_a_server! {
    async fn results_are_in_the_order_of_the_items_and_bad_ones_hold_nobody_up(t: &mut TestApp) {
        practice(t).await;
        let numbered =
            |n: usize| NotificationInput { reference: format!("r-{n}"), ..reminder(t, "pat", &[Channel::InApp]) };
        let mut items: Vec<_> = (0..60).map(|n| item(&new_key(), numbered(n))).collect();
        let no_currency = PaymentDetails { amount: Some(Default::default()), ..payment(t) };
        items[7] = item(&new_key(), NotificationInput { patient_id: "canary-nobody".into(), ..numbered(7) });
        items[13] = item("", NotificationInput { payload: None, ..numbered(13) });
        items[29] =
            item(&new_key(), NotificationInput { payload: Some(Payload::PaymentDue(no_currency)), ..numbered(29) });
        items[31].notification = None;
        let results = send_all(t, items).await.unwrap();
        assert_eq!(results.len(), 60);
        for (n, result) in results.iter().enumerate().filter(|(n, _)| ![7, 13, 29, 31].contains(n)) {
            assert_eq!((made(result).reference.clone(), result.replayed), (format!("r-{n}"), false));
        }
        let paths = |n: usize| {
            let violations = error(&results[n]).field_violations.iter();
            let mut paths: Vec<_> = violations.map(|violation| violation.field.as_str()).collect();
            paths.sort_unstable();
            paths
        };
        let kind = |n: usize| (error(&results[n]).code, error(&results[n]).reason().as_str_name());
        assert_eq!(kind(7), (5, "ERROR_REASON_NOT_FOUND"));
        assert_eq!(kind(13), (3, "ERROR_REASON_FIELD_INVALID"));
        assert_eq!(paths(13), ["notification.payload", "request_id"]);
        assert_eq!(kind(29), (3, "ERROR_REASON_FIELD_INVALID"));
        assert_eq!(paths(29), ["notification.payment_due.amount.currency_code"]);
        assert_eq!(paths(31), ["notification"]);
        assert!(results.iter().all(|result| match &result.outcome {
            Some(Outcome::Error(error)) => !error.message.contains("canary"),
            _ => true,
        }));
        assert_eq!(everything(t).await.len(), 56);
    }

    async fn an_item_repeats_a_single_call_and_a_call_repeats_an_item(t: &mut TestApp) {
        practice(t).await;
        let (single, batched) = (new_key(), new_key());
        let input = reminder(t, "pat", &[Channel::Sms]);
        let first = try_send(t, &single, input.clone()).await.unwrap().notification.unwrap();
        let items = vec![item(&single, input.clone()), item(&batched, input.clone())];
        let results = send_all(t, items.clone()).await.unwrap();
        assert_eq!((results[0].replayed, results[1].replayed), (true, false));
        assert_eq!(made(&results[0]).notification_id, first.notification_id);
        let again = try_send(t, &batched, input.clone()).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.notification.unwrap().notification_id, made(&results[1]).notification_id);

        let repeated = send_all(t, items).await.unwrap();
        assert!(repeated.iter().all(|result| result.replayed));
        let other = NotificationInput { reference: "other".into(), ..input };
        let reused = send_all(t, vec![item(&single, other)]).await.unwrap();
        assert_eq!(
            (error(&reused[0]).code, error(&reused[0]).reason().as_str_name()),
            (6, "ERROR_REASON_REQUEST_ID_REUSED")
        );
        settled(t, &first.deliveries, ["DELIVERED"]).await;
        settled(t, &made(&results[1]).deliveries, ["DELIVERED"]).await;
        assert_eq!(everything(t).await.len(), 2);
    }

    async fn twins_within_a_batch_are_one(t: &mut TestApp) {
        practice(t).await;
        let key = new_key();
        let input = reminder(t, "pat", &[Channel::InApp]);
        let results = send_all(t, vec![item(&key, input); 20]).await.unwrap();
        assert_eq!(results.iter().filter(|result| !result.replayed).count(), 1);
        assert!(results.iter().all(|result| made(result).notification_id == made(&results[0]).notification_id));
        assert_eq!(everything(t).await.len(), 1);
    }

    async fn five_hundred_items_are_taken_and_one_more_is_refused_whole(t: &mut TestApp) {
        practice(t).await;
        let input = reminder(t, "pat", &[Channel::InApp]);
        let items = |count: usize| (0..count).map(|_| item(&new_key(), input.clone())).collect::<Vec<_>>();
        for bad in [items(0), items(501)] {
            let status = refused(send_all(t, bad).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["items"]);
        }
        assert!(everything(t).await.is_empty());
        let results = send_all(t, items(500)).await.unwrap();
        assert!(results.len() == 500 && results.iter().all(|result| made(result).deliveries.len() == 1));
        send(t, input).await;
    }
}
