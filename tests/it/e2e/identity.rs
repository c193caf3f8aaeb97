//! The same request twice is one request.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::grpc::proto::{Channel, NotificationInput};
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    given::{PHONE, new_key, practice, practice_named, reminder, request, send_over, token, try_send},
    seen::{everything, refused, settled, state, texts, until_state},
};
use crate::support::app::{TestApp, on_a_server};

fn over_text(t: &TestApp) -> NotificationInput {
    NotificationInput { reference: "appt-8842".into(), ..reminder(t, "pat", &[Channel::Sms]) }
}

on_a_server! {
    async fn a_repeat_returns_what_the_first_made_as_it_is_now(t: &mut TestApp) {
        practice(t).await;
        let key = new_key();
        let first = try_send(t, &key, over_text(t)).await.unwrap();
        assert!(!first.replayed);
        let first = first.notification.unwrap();
        settled(t, &first.deliveries, ["DELIVERED"]).await;
        let again = try_send(t, &key, over_text(t)).await.unwrap();
        assert!(again.replayed);
        let again = again.notification.unwrap();
        assert_eq!(again.notification_id, first.notification_id);
        assert_eq!(again.request_id, key);
        assert_eq!(again.deliveries[0].delivery_id, first.deliveries[0].delivery_id);
        assert_eq!(state(&again.deliveries[0]), "DELIVERED");
        assert_eq!((everything(t).await.len(), texts(t, PHONE).len()), (1, 1));
    }

    async fn a_repeat_is_answered_also_when_its_times_have_passed(t: &mut TestApp) {
        practice(t).await;
        let key = new_key();
        let input = NotificationInput { expire_time: Some(t.after(TimeDelta::minutes(1))), ..over_text(t) };
        let first = try_send(t, &key, input.clone()).await.unwrap().notification.unwrap();
        settled(t, &first.deliveries, ["DELIVERED"]).await;
        t.advance(TimeDelta::days(3));
        t.stop().await;
        t.start().await;
        let again = try_send(t, &key, input.clone()).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.notification.unwrap().notification_id, first.notification_id);
        // The same under another key is new, and too late.
        let status = refused(try_send(t, &new_key(), input).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(crate::e2e::seen::fields(&status), ["notification.expire_time"]);
    }

    async fn other_content_under_the_same_key_is_refused_and_does_nothing(t: &mut TestApp) {
        practice(t).await;
        let key = new_key();
        let first = try_send(t, &key, over_text(t)).await.unwrap().notification.unwrap();
        let others = [
            NotificationInput { reference: "appt-8843".into(), ..over_text(t) },
            NotificationInput { channels: vec![2], ..over_text(t) },
            NotificationInput { custom_content: "Bring your card.".into(), ..over_text(t) },
        ];
        for other in others {
            let status = refused(try_send(t, &key, other).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
            let made = status.get_details_resource_info().unwrap();
            assert_eq!(made.resource_name, first.notification_id);
        }
        settled(t, &first.deliveries, ["DELIVERED"]).await;
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        assert_eq!((everything(t).await.len(), texts(t, PHONE).len()), (2, 2));
    }

    async fn sixteen_twins_at_once_are_one(t: &mut TestApp) {
        practice(t).await;
        let key = new_key();
        let input = over_text(t);
        let answers = join_all((0..16).map(|_| try_send(t, &key, input.clone()))).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
        let ids: std::collections::BTreeSet<_> =
            answers.iter().map(|answer| answer.notification.as_ref().unwrap().notification_id.clone()).collect();
        assert_eq!(ids.len(), 1);
        let [one] = &everything(t).await[..] else { panic!("there is one delivery") };
        until_state(t, &one.delivery_id, "DELIVERED").await;
        assert_eq!(texts(t, PHONE).len(), 1);
    }

    async fn of_sixteen_rivals_for_a_key_one_wins(t: &mut TestApp) {
        practice(t).await;
        let key = new_key();
        let rival = |n: i32| NotificationInput { reference: format!("appt-{n}"), ..over_text(t) };
        let answers = join_all((0..16).map(|n| try_send(t, &key, rival(n)))).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 15));
        let winner = won.into_iter().next().unwrap().unwrap().notification.unwrap();
        for answer in lost {
            let status = refused(answer, Code::AlreadyExists, "REQUEST_ID_REUSED");
            assert_eq!(status.get_details_resource_info().unwrap().resource_name, winner.notification_id);
        }
        assert_eq!(everything(t).await.len(), 1);
    }

    async fn a_key_belongs_to_its_practice(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        let key = new_key();
        let here = try_send(t, &key, over_text(t)).await.unwrap().notification.unwrap();
        let mut there = request(&key, over_text(t));
        there.practice_id = "beta".into();
        let caller = t.caller_with(&token(t, heedwell::domain::Role::Sender, "beta"));
        let there = caller.clone().notify.send_notification(there).await.unwrap().into_inner();
        assert!(!there.replayed);
        assert_ne!(there.notification.unwrap().notification_id, here.notification_id);
    }

    async fn a_refused_request_leaves_its_key_free(t: &mut TestApp) {
        practice(t).await;
        let key = new_key();
        let bad = NotificationInput { patient_id: "nobody".into(), ..over_text(t) };
        let status = refused(try_send(t, &key, bad).await, Code::NotFound, "NOT_FOUND");
        assert_eq!(status.get_details_resource_info().unwrap().resource_type, "patient");
        assert!(!try_send(t, &key, over_text(t)).await.unwrap().replayed);
    }
}
