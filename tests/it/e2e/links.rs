//! Secure links: what is sent is an address of this server that reveals nothing, and only its button opens it.

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::grpc::proto::{
    AppointmentDetails, Channel, Delivery, NotificationInput, NotificationView, SecureLink, notification_input::Payload,
};
use reqwest::{Method, Response, StatusCode, header::LOCATION};

use super::{
    callbacks::browser,
    given::{PHONE, TARGET, link, practice, reminder, send, visit},
    seen::{delivery, history, mails, notification_id, read, settled, state, texts, time, until},
};
use crate::support::app::{TestApp, on_a_server};

/// Sends a reminder with that link over in-app, mail and text message. Yields its deliveries and the address in the
/// text.
async fn sent(t: &TestApp, link: SecureLink) -> (Vec<Delivery>, String) {
    let visit = AppointmentDetails { link: Some(link), ..visit(t) };
    let every = [Channel::InApp, Channel::Email, Channel::Sms];
    let input = NotificationInput { payload: Some(Payload::AppointmentReminder(visit)), ..reminder(t, "pat", &every) };
    let sent = send(t, input).await;
    let deliveries = settled(t, &sent.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
    let text = texts(t, PHONE).pop().unwrap().body;
    let urls: Vec<_> = text.split_whitespace().filter(|word| word.contains("://")).collect();
    let [url] = urls[..] else { panic!("{} links", urls.len()) };
    assert!(url.starts_with(&t.url("/l/")), "{url}");
    assert!(url.len() - t.url("/l/").len() >= 22, "128 bits are not guessed");
    (deliveries.into(), url.to_owned())
}

/// When the timeline of a delivery says that its link was opened.
async fn openings(t: &TestApp, delivery: &Delivery) -> Vec<DateTime<Utc>> {
    let full = read(t, notification_id(delivery), NotificationView::Full).await;
    let detail = full.details.into_iter().find(|detail| detail.delivery_id == delivery.delivery_id).unwrap();
    let opened = detail.events.into_iter().filter(|event| event.detail.starts_with("The link was opened"));
    opened.map(|event| time(event.event_time).unwrap()).collect()
}

async fn look(url: &str) -> Response {
    browser().get(url).send().await.unwrap()
}

async fn open(url: &str) -> Response {
    browser().post(url).send().await.unwrap()
}

#[track_caller]
fn leads_to_target(answer: &Response) {
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()[LOCATION], TARGET);
}

on_a_server! {
    async fn looking_changes_nothing_and_the_button_opens(t: &mut TestApp) {
        practice(t).await;
        let (deliveries, url) = sent(t, SecureLink { max_opens: 1, ..link() }).await;
        for _ in 0..100 {
            let page = look(&url).await;
            assert_eq!(page.status(), StatusCode::OK);
            assert_eq!(page.headers()["cache-control"], "no-store");
            assert_eq!(page.headers()["referrer-policy"], "no-referrer");
            let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
            assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
            let page = page.text().await.unwrap();
            assert!(
                page.contains("<form method=\"post\"")
                    && !page.contains("portal.acme.example")
                    && !page.contains("Pat")
            );
        }
        for _ in 0..20 {
            assert_eq!(browser().head(&url).send().await.unwrap().status(), StatusCode::OK);
            // What browsers fetch ahead, and what is no method of a button.
            let ahead = browser().get(&url).header("sec-purpose", "prefetch;prerender").send().await.unwrap();
            assert_eq!(ahead.status(), StatusCode::OK);
            for method in [Method::OPTIONS, Method::PUT, Method::DELETE, Method::PATCH] {
                let refused = browser().request(method, &url).send().await.unwrap().status();
                assert_eq!(refused, StatusCode::METHOD_NOT_ALLOWED);
            }
        }
        for one in &deliveries {
            let now = delivery(t, &one.delivery_id).await;
            assert!(now.open_time.is_none() && now.revision == one.revision && openings(t, one).await.is_empty());
        }

        t.advance(TimeDelta::minutes(3));
        leads_to_target(&open(&url).await);
        for one in &deliveries {
            let opened = until(t, &one.delivery_id, |it| it.open_time.is_some()).await;
            assert_eq!((time(opened.open_time), state(&opened)), (Some(t.now()), state(one)));
            assert_eq!(opened.revision, one.revision + 1);
            history(t, &one.delivery_id).await;
            assert_eq!(openings(t, one).await, [t.now()]);
        }
        // It opens once, and what does not open says no more than that.
        let (used, unknown) = (open(&url).await, open(&t.url("/l/AAAAAAAAAAAAAAAAAAAAAA")).await);
        assert_eq!((used.status(), unknown.status()), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND));
        assert!(used.headers().get(LOCATION).is_none());
        assert_eq!(used.text().await.unwrap(), unknown.text().await.unwrap());
        assert_eq!(look(&url).await.status(), StatusCode::NOT_FOUND);
    }

    async fn a_link_opens_as_often_as_it_may_and_as_long(t: &mut TestApp) {
        practice(t).await;
        let ttl = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        let (_, twice) = sent(t, SecureLink { max_opens: 2, ttl, ..link() }).await;
        let (deliveries, always) = sent(t, SecureLink { ttl, ..link() }).await;
        assert_ne!(twice, always);
        for _ in 0..2 {
            leads_to_target(&open(&twice).await);
        }
        assert_eq!(open(&twice).await.status(), StatusCode::NOT_FOUND);
        for _ in 0..5 {
            leads_to_target(&open(&always).await);
        }
        let opened = delivery(t, &deliveries[2].delivery_id).await;
        t.advance(TimeDelta::minutes(59));
        leads_to_target(&open(&always).await);
        let again = delivery(t, &deliveries[2].delivery_id).await;
        assert_eq!(
            (again.revision, time(again.open_time)),
            (opened.revision, time(opened.open_time)),
            "the first counts"
        );
        assert_eq!(openings(t, &again).await.len(), 6, "and each is told");
        t.advance(TimeDelta::minutes(1));
        assert_eq!(open(&always).await.status(), StatusCode::NOT_FOUND);
        assert_eq!(look(&always).await.status(), StatusCode::NOT_FOUND);
    }

    async fn of_many_who_press_at_once_only_as_many_get_in_as_may(t: &mut TestApp) {
        practice(t).await;
        let (_, url) = sent(t, SecureLink { max_opens: 3, ..link() }).await;
        let answers = futures::future::join_all((0..12).map(|_| open(&url))).await;
        let opened = answers.iter().filter(|answer| answer.status() == StatusCode::SEE_OTHER).count();
        let closed = answers.iter().filter(|answer| answer.status() == StatusCode::NOT_FOUND).count();
        assert_eq!((opened, closed), (3, 9));
    }

    async fn one_that_is_asked_for_without_end_waits_and_the_others_do_not(t: &mut TestApp) {
        practice(t).await;
        let (_, first) = sent(t, link()).await;
        let (deliveries, other) = sent(t, link()).await;
        // Two hundred a minute, which may begin anew meanwhile.
        let mut last = look(&first).await;
        for _ in 0..400 {
            if last.status() == StatusCode::OK {
                last = look(&first).await;
            }
        }
        assert_eq!(last.status(), StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = last.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=61).contains(&wait));
        let pressed = open(&first).await;
        assert!(pressed.status() == StatusCode::TOO_MANY_REQUESTS && pressed.headers().get(LOCATION).is_none());
        leads_to_target(&open(&other).await);
        assert_eq!(openings(t, &deliveries[0]).await.len(), 1);
    }

    async fn a_link_lives_for_two_weeks_by_itself(t: &mut TestApp) {
        practice(t).await;
        let (_, url) = sent(t, link()).await;
        t.advance(TimeDelta::days(14) - TimeDelta::seconds(1));
        leads_to_target(&open(&url).await);
        t.advance(TimeDelta::seconds(1));
        assert_eq!(open(&url).await.status(), StatusCode::NOT_FOUND);
    }
}

on_a_server! {
    sqlite:
    async fn the_target_itself_is_in_no_message(t: &mut TestApp) {
        practice(t).await;
        let (deliveries, url) = sent(t, link()).await;
        let mail = mails(t, "pat@example.com").pop().unwrap();
        let id = notification_id(&deliveries[0]);
        let full = read(t, id, NotificationView::Full).await;
        let portal = full.details[0].content.as_ref().unwrap();
        for text in [&mail.text, &mail.html, &portal.text, &texts(t, PHONE)[0].body] {
            assert!(!text.contains(TARGET) && !text.contains("visits/8842"));
        }
        assert!(mail.text.contains(&url) && mail.html.contains(&url), "all channels share one address");
        for odd in ["/l/", "/l/x", "/l/%00", "/l/...", "/l/A/B", "/l/AAAAAAAAAAAAAAAAAAAAA="] {
            assert_eq!(open(&t.url(odd)).await.status(), StatusCode::NOT_FOUND, "{odd}");
        }
    }
}
