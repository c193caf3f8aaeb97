//! Texts of patients at the sidecar: who may say something there, and what STOP, START and other words do, also when the
//! patient's phone says them by itself.

use std::collections::BTreeSet;

use heedwell::{
    domain::Role,
    grpc::proto::{Channel, SmsSettings, UpdatePracticeSettingsRequest, sms_settings::Sender},
    sandbox::Entry,
};
use reqwest::{Method, StatusCode, header::CONTENT_TYPE};
use sea_orm::{ConnectionTrait, Statement};

use super::{
    callbacks::{FORM, browser, form, post, signature},
    consent::{all_said, ledger, said},
    fairness::wait_for,
    given::{
        ACCOUNT, AUTH_TOKEN, PHONE, mask, patient, practice, practice_named, put_patient, send_over,
        somebody_with_phone,
    },
    seen::{delivery, failed, refused_texts, skipped, state, texts, until_state},
};
use crate::support::app::{ACME, LIMIT, TestApp, on_a_server};

/// The practice's number.
pub(super) const OURS: &str = "+12025550199";

pub(super) fn url(t: &TestApp, practice: &str) -> String {
    t.url(&format!("/webhooks/twilio/{practice}/inbound"))
}

/// A text as Twilio posts it.
pub(super) fn text<'a>(sid: &'a str, from: &'a str, body: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("AccountSid", ACCOUNT),
        ("ApiVersion", "2010-04-01"),
        ("Body", body),
        ("From", from),
        ("FromCity", ""),
        ("MessageSid", sid),
        ("NumMedia", "0"),
        ("SmsMessageSid", sid),
        ("SmsSid", sid),
        ("SmsStatus", "received"),
        ("To", OURS),
    ]
}

pub(super) fn sid(n: u32) -> String {
    format!("SM{n:032x}")
}

pub(super) async fn posted(t: &TestApp, fields: &[(&str, &str)]) -> StatusCode {
    let url = url(t, ACME);
    post(&url, Some(&signature(AUTH_TOKEN, &url, fields)), FORM, form(fields)).await
}

/// The patient's phone says something, for the first time in these words.
pub(super) async fn says(t: &TestApp, body: &str) {
    let n = body.bytes().fold(7_u32, |n, byte| n.wrapping_mul(31).wrapping_add(byte.into()));
    assert_eq!(posted(t, &text(&sid(n), PHONE, body)).await, StatusCode::OK, "{body}");
}

on_a_server! {
    async fn stop_stops_and_start_starts_again(t: &mut TestApp) {
        practice(t).await;
        for words in ["thanks!", "HELP", "please stop by at 5", "START"] {
            says(t, words).await;
        }
        assert_eq!(all_said(t).await, [], "none of these is a decision");
        says(t, "Stop.").await;
        assert_eq!(all_said(t).await, [("OPTED_OUT", "SMS_KEYWORD")]);
        let record = ledger(t).await.remove(0);
        assert!(record.evidence.starts_with("message SM") && record.actor.unwrap().id == "twilio");
        assert_eq!(skipped(&until_state(t, &send_over(t, "pat", Channel::Sms).await, "SKIPPED").await), "OPTED_OUT");
        until_state(t, &send_over(t, "pat", Channel::Email).await, "SENT").await;
        says(t, "start").await;
        assert_eq!(all_said(t).await, [("OPTED_OUT", "SMS_KEYWORD"), ("OPTED_IN", "SMS_KEYWORD")]);
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        says(t, "please quit sending me these").await;
        assert_eq!(all_said(t).await.last(), Some(&("OPTED_OUT", "SMS_FREE_TEXT")));
        assert_eq!(skipped(&until_state(t, &send_over(t, "pat", Channel::Sms).await, "SKIPPED").await), "OPTED_OUT");
    }

    async fn what_twilio_takes_it_for_counts_before_the_words(t: &mut TestApp) {
        practice(t).await;
        for (n, word, body) in [(1, "HELP", "STOP"), (2, "STOP", "baja"), (3, "START", "quiero"), (4, "HELP", "start")] {
            let id = sid(n);
            let mut fields = text(&id, PHONE, body);
            fields.push(("OptOutType", word));
            assert_eq!(posted(t, &fields).await, StatusCode::OK);
        }
        assert_eq!(all_said(t).await, [("OPTED_OUT", "SMS_KEYWORD"), ("OPTED_IN", "SMS_KEYWORD")]);
    }

    async fn nobody_but_the_practices_own_account_says_anything(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        let id = sid(1);
        let fields = text(&id, PHONE, "STOP");
        let ours = url(t, ACME);
        let good = signature(AUTH_TOKEN, &ours, &fields);
        let beta = url(t, "beta");
        let nowhere = url(t, "nowhere");
        let with = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
            fields.iter().map(|&(known, old)| (known, if known == name { value } else { old })).collect()
        };
        let other_account = with("AccountSid", "AC00000000000000000000000000000002");
        for (what, url, signature, body) in [
            ("no signature", &ours, None, form(&fields)),
            ("another key's", &ours, Some(signature("another", &ours, &fields)), form(&fields)),
            ("another text's", &ours, Some(good.clone()), form(&with("Body", "thanks"))),
            ("another sender's", &ours, Some(good.clone()), form(&with("From", "+12025550143"))),
            ("with a field added", &ours, Some(good.clone()), form(&fields) + "&OptOutType=STOP"),
            ("with a field dropped", &ours, Some(good.clone()), form(&fields[1..])),
            ("for another practice", &beta, Some(good.clone()), form(&fields)),
            ("for none", &nowhere, Some(signature(AUTH_TOKEN, &nowhere, &fields)), form(&fields)),
            ("to another account", &ours, Some(signature(AUTH_TOKEN, &ours, &other_account)), form(&other_account)),
        ] {
            assert_eq!(post(url, signature.as_deref(), FORM, body).await, StatusCode::FORBIDDEN, "{what}");
        }
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
            let asked = browser().request(method.clone(), format!("{ours}?{}", form(&fields))).send().await.unwrap();
            assert_eq!(asked.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        }
        // JSON with the hash that Twilio would put in the address.
        let json = format!(r#"{{"MessageSid":"{id}","Body":"STOP"}}"#);
        let hash: String =
            ring::digest::digest(&ring::digest::SHA256, json.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let hashed = format!("{ours}?bodySHA256={hash}");
        let signed = signature(AUTH_TOKEN, &hashed, &[]);
        let answer = post(&hashed, Some(&signed), "application/json", json).await;
        assert_eq!(answer, StatusCode::FORBIDDEN);
        assert_eq!(posted(t, &with("MessageSid", "SM1")).await, StatusCode::BAD_REQUEST);
        assert_eq!(all_said(t).await, [], "nothing was decided");
        assert_eq!(posted(t, &fields).await, StatusCode::OK);
        assert_eq!(all_said(t).await.len(), 1);
    }

    async fn a_stop_counts_to_whichever_sender_it_comes_and_a_start_to_the_present_one(t: &mut TestApp) {
        practice(t).await;
        let to = |n: u32, number: &'static str, body: &'static str| {
            let id = sid(n);
            let fields = text(&id, PHONE, body).into_iter();
            let fields = fields.map(|(name, old)| (name.to_owned(), if name == "To" { number } else { old }.to_owned()));
            fields.collect::<Vec<_>>()
        };
        // The practice had another number before, and patients answer what they got.
        for (n, number, body, expected) in [
            (1, "+12025550198", "STOP", "OPTED_OUT"),
            (2, "+12025550198", "START", "OPTED_OUT"),
            (3, OURS, "START", "OPTED_IN"),
            (4, "+12025550198", "see you at nine", "OPTED_IN"),
            (5, "+12025550198", "please stop texting me", "OPTED_OUT"),
        ] {
            let fields = to(n, number, body);
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            // What is no opt-out may be for whoever shares the account.
            let foreign = n == 2 || n == 4;
            let expected_status = if foreign { StatusCode::FORBIDDEN } else { StatusCode::OK };
            assert_eq!(posted(t, &fields).await, expected_status, "{body}");
            assert_eq!(all_said(t).await.last().unwrap().0, expected, "{body} to {number}");
        }
    }

    async fn a_text_counts_once_and_is_answered_with_nothing_to_say(t: &mut TestApp) {
        practice(t).await;
        let id = sid(1);
        let fields = text(&id, PHONE, "STOP");
        let url = url(t, ACME);
        let signed = signature(AUTH_TOKEN, &url, &fields);
        for _ in 0..3 {
            let answer = browser()
                .post(&url)
                .header(CONTENT_TYPE, FORM)
                .header("X-Twilio-Signature", &signed)
                .body(form(&fields))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()[CONTENT_TYPE], "text/xml");
            assert_eq!(answer.text().await.unwrap(), r#"<?xml version="1.0" encoding="UTF-8"?><Response/>"#);
        }
        let id = sid(2);
        assert_eq!(posted(t, &text(&id, PHONE, "START")).await, StatusCode::OK);
        // A captured STOP is no new one.
        assert_eq!(posted(t, &fields).await, StatusCode::OK);
        assert_eq!(all_said(t).await, [("OPTED_OUT", "SMS_KEYWORD"), ("OPTED_IN", "SMS_KEYWORD")]);
        // Whoever writes without a phone number says nothing for one.
        let id = sid(3);
        assert_eq!(posted(t, &text(&id, "12345", "STOP")).await, StatusCode::OK);
        assert_eq!(all_said(t).await.len(), 2);
    }

    async fn a_messaging_service_is_known_by_its_own_name(t: &mut TestApp) {
        practice(t).await;
        const SERVICE: &str = "MG00000000000000000000000000000001";
        let settings = heedwell::grpc::proto::PracticeSettings {
            sms: Some(SmsSettings {
                sender: Some(Sender::MessagingServiceSid(SERVICE.into())),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = UpdatePracticeSettingsRequest {
            practice_id: ACME.into(),
            settings: Some(settings),
            update_mask: Some(mask(&["sms.messaging_service_sid"])),
        };
        t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await.unwrap();
        says(t, "STOP").await;
        for (n, service) in [(1, None), (2, Some("MG00000000000000000000000000000002")), (3, Some(SERVICE))] {
            assert_eq!(all_said(t).await, [("OPTED_OUT", "SMS_KEYWORD")]);
            let id = sid(n);
            let mut fields = text(&id, PHONE, "START");
            fields.extend(service.map(|service| ("MessagingServiceSid", service)));
            // Any number of the service's pool.
            fields.iter_mut().filter(|(name, _)| *name == "To").for_each(|(_, to)| *to = "+12025550111");
            let expected = if service == Some(SERVICE) { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(posted(t, &fields).await, expected);
        }
        assert_eq!(all_said(t).await, [("OPTED_OUT", "SMS_KEYWORD"), ("OPTED_IN", "SMS_KEYWORD")]);
    }

    async fn phones_that_answer_by_themselves_are_heard(t: &mut TestApp) {
        practice(t).await;
        for (id, phone) in
            [("one", "+12025550126"), ("two", "+12025550127"), ("three", "+12025550128"), ("four", "+12025550129")]
        {
            put_patient(t, ACME, patient(id, &format!("{id}@example.com"), phone)).await;
            until_state(t, &send_over(t, id, Channel::Sms).await, "DELIVERED").await;
        }
        let heard = |entries: &[Entry]| {
            let heard = |entry: &&Entry| {
                matches!(entry, Entry::CallbackSent { status, http_status: Some(200), .. } if status == "received")
            };
            entries.iter().filter(heard).count() == 5
        };
        t.sandbox.journal().wait_for(LIMIT, heard).await.expect("each of them texts back");
        for (id, next) in [("one", "SKIPPED"), ("two", "DELIVERED"), ("three", "DELIVERED"), ("four", "SKIPPED")] {
            until_state(t, &send_over(t, id, Channel::Sms).await, next).await;
        }
        let mut sources: Vec<_> = ledger(t).await.iter().map(|it| (it.patient_id.clone(), said(it))).collect();
        // Two's next message is answered HELP again, and three's STOP and START.
        sources.retain(|(id, ..)| id != "three");
        let own = |id: &str, source| (id.to_owned(), ("OPTED_OUT", source));
        sources.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(sources, [own("four", "SMS_FREE_TEXT"), own("one", "SMS_KEYWORD")]);
    }

    async fn an_opt_out_that_only_twilio_knows_is_learnt_from_its_refusal(t: &mut TestApp) {
        practice(t).await;
        somebody_with_phone(t, "lee", "+12025550113").await;
        let first = until_state(t, &send_over(t, "lee", Channel::Sms).await, "FAILED").await;
        assert_eq!(failed(&first), ("OPTED_OUT_AT_PROVIDER", "21610"));
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER")]);
        let next = until_state(t, &send_over(t, "lee", Channel::Sms).await, "SKIPPED").await;
        assert_eq!(skipped(&next), "OPTED_OUT");
        assert_eq!((refused_texts(t, "+12025550113"), texts(t, "+12025550113").len()), (1, 0), "one call, and no more");
        assert_eq!(state(&delivery(t, &first.delivery_id).await), state(&first));
    }
}

on_a_server! {
    postgres:
    async fn a_text_is_taken_though_its_number_is_held_for_longer_than_a_lock_is_waited_for(t: &mut TestApp) {
        practice(t).await;
        let (holder, observer) = (t.home.raw().await, t.home.raw().await);
        holder.execute_unprepared("BEGIN").await.unwrap();
        holder.execute_unprepared("LOCK TABLE recipient_gate IN EXCLUSIVE MODE").await.unwrap();
        let again = async {
            let mut waited = BTreeSet::new();
            let waiting = "SELECT xact_start::text FROM pg_stat_activity \
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let statement = Statement::from_string(observer.get_database_backend(), waiting);
            wait_for("a second try waits", async || {
                for row in observer.query_all_raw(statement.clone()).await.unwrap() {
                    waited.insert(row.try_get_by_index::<String>(0).unwrap());
                }
                waited.len() == 2
            })
            .await;
            holder.execute_unprepared("COMMIT").await.unwrap();
        };
        let id = sid(1);
        let fields = text(&id, PHONE, "STOP");
        let (status, ()) = tokio::join!(posted(t, &fields), again);
        assert_eq!(status, StatusCode::OK);
        assert_eq!(all_said(t).await, [("OPTED_OUT", "SMS_KEYWORD")]);
    }
}
