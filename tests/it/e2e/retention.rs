//! Texts and histories whose time is over: they go, and what became of them stays and can be proven.

use chrono::TimeDelta;
use heedwell::{
    config::Config,
    domain::Role,
    grpc::proto::{
        AppointmentDetails, AuditEvent, Channel, DeliveryFilter, GetPracticeSettingsRequest, MessageRoute,
        NotificationInput, NotificationView, RetryDeliveryRequest, SecureLink, notification_input::Payload,
    },
};
use tonic::Code;

use super::{
    attachments::{say, to_pat},
    callbacks::{browser, report},
    consent::{all_said, ledger},
    erasure::{erase, inbox, reminded},
    fairness::{count, wait_for},
    given::{PHONE, documents, link, new_key, practice, reminder, send, send_over, visit},
    inbound::says,
    media::all,
    proof::audit,
    seen::{Text, list, read, refused, settled, texts, until_state},
    stats,
    trail::trail,
};
use crate::support::app::{ACME, TestApp, on_a_server};

async fn keep_for(t: &mut TestApp, days: i64) {
    // The duty begins with the server.
    t.restart_with(move |config: &mut Config| config.duties.content_retention = Some(TimeDelta::days(days))).await;
}

/// What the trail says was removed, the oldest first.
async fn removed(t: &TestApp) -> Vec<String> {
    let of = |event: &AuditEvent| event.action == "content.remove";
    trail(t, ACME).await.into_iter().filter(of).map(|event| event.resource).collect()
}

/// Opens a link of the server that was, at the one that is.
async fn opened(t: &TestApp, url: &str) -> u16 {
    let path = &url[url.find("/l/").unwrap()..];
    browser().post(t.url(path)).send().await.unwrap().status().as_u16()
}

on_a_server! {
    async fn what_was_said_goes_and_what_became_of_it_stays(t: &mut TestApp) {
        practice(t).await;
        let (old, url) = reminded(t, "pat", PHONE).await;
        says(t, "my rash is worse").await;
        let staff = t.caller(Role::Staff);
        let answer = say(&staff, to_pat(MessageRoute::Sms, "Come at 4.", &[])).await.unwrap();
        until_state(t, &answer.delivery_id, "DELIVERED").await;
        // One whose link opens for longer, and one that is still to be sent.
        let ttl = Some(prost_types::Duration { seconds: 60 * 86_400, nanos: 0 });
        let visit = AppointmentDetails { link: Some(SecureLink { ttl, ..link() }), ..visit(t) };
        let linked = NotificationInput {
            payload: Some(Payload::AppointmentReminder(visit)),
            ..reminder(t, "pat", &[Channel::Sms])
        };
        let linked = send(t, linked).await;
        settled(t, &linked.deliveries, ["DELIVERED"]).await;
        let linked_text = texts(t, PHONE).pop().unwrap().body;
        let linked_url = linked_text.split_whitespace().find(|word| word.contains("/l/")).unwrap().to_owned();
        let payload = Some(Payload::DocumentShared(documents()));
        let mut later = NotificationInput { payload, ..reminder(t, "pat", &[Channel::Email]) };
        later.schedule_time = Some(t.after(TimeDelta::days(40)));
        later.expire_time = Some(t.after(TimeDelta::days(45)));
        let later = send(t, later).await;
        says(t, "STOP").await;
        t.advance(TimeDelta::days(30));
        let fresh = send_over(t, "pat", Channel::InApp).await;
        says(t, "START").await;
        let before = (list(t, DeliveryFilter::default()).await.deliveries, ledger(t).await);
        t.advance(TimeDelta::days(2));
        keep_for(t, 31).await;
        wait_for("both are told", async || removed(t).await.len() == 2).await;
        let until = (t.now() - TimeDelta::days(31)).format("%Y-%m-%dT%H:%M:%SZ");
        assert_eq!(removed(t).await, [format!("messages/3/before/{until}"), format!("texts/4/before/{until}")]);

        assert!(list(t, DeliveryFilter::default()).await.deliveries == before.0);
        let full = read(t, &old, NotificationView::Full).await;
        assert!(full.details.iter().all(|it| it.content.is_none() && !it.events.is_empty()), "states and times stay");
        for kept in [&linked.notification_id, &later.notification_id] {
            let full = read(t, kept, NotificationView::Full).await;
            let shown: Vec<_> = full.details.iter().map(|it| (&it.delivery_id, it.events.len(), it.content.is_some())).collect();
            assert!(shown.iter().all(|it| it.2), "{kept}: {shown:?}");
        }
        assert_eq!(opened(t, &url).await, 404);
        assert_eq!(opened(t, &linked_url).await, 303);
        assert_eq!(inbox(t, "pat").await, 1, "the fresh one");
        until_state(t, &fresh, "DELIVERED").await;
        let said: Vec<_> = all(t).await.into_iter().map(|message| message.body).collect();
        assert_eq!(said, ["START", "", "", ""], "newest first");
        assert!(ledger(t).await == before.1);
        assert_eq!(all_said(t).await.len(), 2);

        // Nothing is left to be sent once more.
        let sms = before.0.iter().find(|it| it.delivery_id == answer.delivery_id).unwrap();
        let request = RetryDeliveryRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            delivery_id: sms.delivery_id.clone(),
        };
        refused(t.caller(Role::Staff).notify.retry_delivery(request).await, Code::FailedPrecondition, "STATE_FORBIDS");
        let rows = "SELECT count(*) FROM content";
        assert_eq!(count(t, rows, Vec::new()).await, 3);

        // Each goes when its own time is over, and what is gone is not told again.
        t.advance(TimeDelta::days(60));
        until_state(t, &later.deliveries[0].delivery_id, "SKIPPED").await;
        keep_for(t, 31).await;
        wait_for("the rest goes", async || removed(t).await.len() == 4).await;
        assert_eq!(opened(t, &linked_url).await, 404);
        assert_eq!(count(t, rows, Vec::new()).await, 0);
        let gone = "SELECT count(*) FROM link WHERE length(target_ct) > 0";
        assert_eq!(count(t, gone, Vec::new()).await, 0);
    }

}

on_a_server! {
    async fn the_steps_of_what_is_over_go_and_everybody_copes(t: &mut TestApp) {
        practice(t).await;
        let (old, url) = reminded(t, "pat", PHONE).await;
        let message = texts(t, PHONE).pop().unwrap();
        let start = t.now() - TimeDelta::hours(1);
        let everything = async |t: &TestApp| {
            let counts = stats::ask(t, (Some(start), None), Vec::new()).await.unwrap();
            (list(t, DeliveryFilter::default()).await.deliveries, counts, ledger(t).await)
        };
        t.advance(TimeDelta::days(70));
        let before = everything(t).await;
        t.restart_with(|config: &mut Config| config.duties.history_retention = Some(TimeDelta::days(60))).await;
        wait_for("it is told", async || removed(t).await.len() == 1).await;
        let until = (t.now() - TimeDelta::days(60)).format("%Y-%m-%dT00:00:00Z");
        assert_eq!(removed(t).await, [format!("histories/3/before/{until}")]);
        assert!(everything(t).await == before);
        let full = read(t, &old, NotificationView::Full).await;
        assert!(full.details.len() == 3 && full.details.iter().all(|it| it.events.is_empty() && it.content.is_some()));
        assert_eq!(opened(t, &url).await, 404);

        // Twilio is answered, where it is Twilio, and nothing comes of it.
        let callback = t.url(&message.callback[message.callback.find("/webhooks/").unwrap()..]);
        let stranger = browser().post(&callback).body("MessageStatus=undelivered").send().await.unwrap();
        assert_eq!(stranger.status().as_u16(), 403);
        assert_eq!(report(t, &Text { callback, ..message }, "undelivered").await, 204);
        assert!(everything(t).await == before);
        erase(t, "pat").await.unwrap();
        assert_eq!(list(t, DeliveryFilter::default()).await.deliveries.len(), before.0.len());
        t.stop().await;
        let (code, text) = audit(t, &["verify"]);
        assert!(code == Some(0) && text.contains(", 0 attempts, ") && text.contains("holds"), "{text}");
        t.start().await;
    }
}

on_a_server! {
    sqlite:
    async fn how_long_texts_are_kept_is_shown(t: &mut TestApp) {
        practice(t).await;
        let shown = async |t: &TestApp| {
            let request = GetPracticeSettingsRequest { practice_id: ACME.into() };
            let answer = t.caller(Role::Staff).preferences.get_practice_settings(request).await.unwrap();
            answer.into_inner().settings.unwrap().content_retention.map(|kept| kept.seconds)
        };
        assert_eq!(shown(t).await, None);
        keep_for(t, 90).await;
        assert_eq!(shown(t).await, Some(90 * 86_400));
    }
}
