//! Mail that a relay took and that comes back: who may say so, and what it means. The name of a mailbox says what becomes of
//! its mail.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, EmailSettings, GetPracticeSettingsRequest, PracticeSettings, UpdatePracticeSettingsRequest,
        channel_status::State,
    },
    sandbox::Entry,
};
use reqwest::StatusCode;

use super::{
    callbacks::browser,
    fairness::count,
    given::{mask, practice, send_over, somebody_with_mailbox},
    seen::{delivery, failed, skipped, state, states, until_state},
    sendgrid::timeline,
};
use crate::support::app::{ACME, LIMIT, TestApp, on_a_server};

const SECRET: &str = "a-secret-that-nobody-would-guess";
const BOUNCES: &str = "bounces.acme.example";

/// Has Acme's mail come back to an address of its own, whose mail system hands it over.
async fn with_bounces(t: &TestApp) {
    practice(t).await;
    let shown = update(t, "bounce@bounces.acme.example", SECRET).await;
    assert_eq!(shown.bounce_webhook_url, t.url("/webhooks/bounce/acme"));
    assert!(shown.bounce_secret_set && shown.bounce_secret.is_empty());
    t.sandbox.bounce_pipe(BOUNCES, &shown.bounce_webhook_url, SECRET);
}

async fn update(t: &TestApp, address: &str, secret: &str) -> EmailSettings {
    let email = EmailSettings { bounce_address: address.into(), bounce_secret: secret.into(), ..Default::default() };
    let request = UpdatePracticeSettingsRequest {
        practice_id: ACME.into(),
        settings: Some(PracticeSettings { email: Some(email), ..Default::default() }),
        update_mask: Some(mask(&["email.bounce_address", "email.bounce_secret"])),
    };
    let mut admin = t.caller(Role::PracticeAdmin).preferences;
    admin.update_practice_settings(request).await.unwrap().into_inner().settings.unwrap().email.unwrap()
}

async fn mail_to(t: &TestApp, mailbox: &str) -> String {
    let patient = mailbox.split('@').next().unwrap();
    somebody_with_mailbox(t, patient, mailbox).await;
    send_over(t, patient, Channel::Email).await
}

/// What the relay was told beside the mails to `mailbox`: the sender, the name of the mail and the reports that are wanted.
fn envelopes(t: &TestApp, mailbox: &str) -> Vec<(String, Option<String>, Option<String>)> {
    let taken = t.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
        Entry::SmtpMessage { rcpt_to, mail_from, envelope_id, notify, .. } if rcpt_to == [mailbox] => {
            Some((mail_from, envelope_id, notify))
        }
        _ => None,
    });
    taken.collect()
}

/// Waits until so many reports were handed over.
async fn until_told(t: &TestApp, count: usize) {
    let told = |entry: &&Entry| matches!(entry, Entry::ReportSent { http_status: Some(204), .. });
    let enough = |entries: &[Entry]| entries.iter().filter(told).count() >= count;
    t.sandbox.journal().wait_for(LIMIT, enough).await.expect("the report is told");
}

/// A report that the mail with this token to Kim bounced.
fn report(token: &str) -> String {
    report_about(&format!("bounce+{token}@{BOUNCES}"), "failed", "5.1.1")
}

fn report_about(to: &str, action: &str, status: &str) -> String {
    report_of("kim@example.com", to, action, status)
}

fn report_of(mailbox: &str, to: &str, action: &str, status: &str) -> String {
    format!(
        "To: {to}\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\nFinal-Recipient: rfc822; {mailbox}\r\nAction: {action}\r\nStatus: {status}\r\n\r\n--b--\r\n"
    )
}

async fn post(t: &TestApp, practice: &str, authorization: Option<&str>, mail: impl Into<reqwest::Body>) -> StatusCode {
    let request = browser().post(t.url(&format!("/webhooks/bounce/{practice}"))).body(mail);
    let request = authorization.into_iter().fold(request, |request, value| request.header("authorization", value));
    request.send().await.unwrap().status()
}

fn bearer(secret: &str) -> String {
    format!("Bearer {secret}")
}

on_a_server! {
    async fn mail_that_comes_back_has_failed_and_says_why(t: &mut TestApp) {
        with_bounces(t).await;
        for (mailbox, reason, code, next) in [
            ("bounces@example.com", "INVALID_ADDRESS", "550 5.1.1", "ADDRESS_SUPPRESSED"),
            ("bounces-full@example.com", "UNREACHABLE", "552 5.2.2", ""),
            ("bounces-spam@example.com", "BLOCKED", "550 5.7.1", ""),
            ("given-up@example.com", "UNREACHABLE", "451 4.4.7", ""),
        ] {
            let id = mail_to(t, mailbox).await;
            assert_eq!(failed(&until_state(t, &id, "FAILED").await), (reason, code), "{mailbox}");
            assert_eq!(states(t, &id).await, ["PENDING", "SENT", "FAILED"], "{mailbox}");
            let again = send_over(t, mailbox.split('@').next().unwrap(), Channel::Email).await;
            if next.is_empty() {
                assert_eq!(failed(&until_state(t, &again, "FAILED").await), (reason, code), "{mailbox}");
            } else {
                assert_eq!(skipped(&until_state(t, &again, "SKIPPED").await), next, "{mailbox}");
            }
        }
        // The account is in order, whatever became of its mail.
        let request = GetPracticeSettingsRequest { practice_id: ACME.into() };
        let settings = t.caller(Role::Staff).preferences.get_practice_settings(request).await.unwrap().into_inner();
        let statuses = settings.settings.unwrap().channel_statuses;
        let email = statuses.iter().find(|status| status.channel() == Channel::Email).unwrap();
        assert!(email.state() == State::Ready && email.findings.is_empty());
    }

    async fn mail_that_waits_on_the_way_says_so_and_has_not_failed(t: &mut TestApp) {
        with_bounces(t).await;
        let id = mail_to(t, "delayed@example.com").await;
        until_told(t, 1).await;
        let now = delivery(t, &id).await;
        assert!(state(&now) == "SENT" && now.failure.is_none());
        assert!(timeline(t, &id).await.contains(&("delayed".into(), "450 4.4.1".into())));
    }

    async fn each_attempt_comes_back_to_an_address_of_its_own_that_reveals_nothing(t: &mut TestApp) {
        with_bounces(t).await;
        for mailbox in ["kim@example.com", "drop-after-dot@example.com"] {
            let id = mail_to(t, mailbox).await;
            until_state(t, &id, if mailbox.starts_with("kim") { "SENT" } else { "UNCONFIRMED" }).await;
            let [(from, id, notify)] = &envelopes(t, mailbox)[..] else { panic!("one mail") };
            let token = from.strip_prefix("bounce+").unwrap().strip_suffix("@bounces.acme.example").unwrap();
            assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
            assert_eq!((id.as_deref(), notify.as_deref()), (Some(token), Some("FAILURE,DELAY")));
        }
        // What was in doubt left after all, as its bounce proves.
        let id = mail_to(t, "drop-after-dot@example.com").await;
        until_state(t, &id, "UNCONFIRMED").await;
        let (from, ..) = envelopes(t, "drop-after-dot@example.com").pop().unwrap();
        let bounced = report_of("drop-after-dot@example.com", &from, "failed", "5.1.1");
        assert_eq!(post(t, ACME, Some(&bearer(SECRET)), bounced).await, StatusCode::NO_CONTENT);
        let now = until_state(t, &id, "FAILED").await;
        assert_eq!((now.attempts, failed(&now)), (1, ("INVALID_ADDRESS", "5.1.1")));
    }

    async fn a_report_counts_once_and_only_from_whom_it_may_come(t: &mut TestApp) {
        with_bounces(t).await;
        let id = mail_to(t, "kim@example.com").await;
        let sent = until_state(t, &id, "SENT").await;
        let (from, ..) = envelopes(t, "kim@example.com").remove(0);
        let token = from.split(['+', '@']).nth(1).unwrap().to_owned();
        let bad = ["Bearer", "Bearer ", "Bearer x", "Basic a-secret-that-nobody-would-guess", "a-secret-that-nobody-would-guess"];
        let close = [format!("Bearer {}", &SECRET[1..]), format!("Bearer {SECRET}x")];
        for wrong in bad.into_iter().chain(close.iter().map(String::as_str)).map(Some).chain([None]) {
            assert_eq!(post(t, ACME, wrong, report(&token)).await, StatusCode::FORBIDDEN, "{wrong:?}");
        }
        for other in ["north", "nobody", "%00", "a%20b"] {
            assert_eq!(post(t, other, Some(&bearer(SECRET)), report(&token)).await, StatusCode::FORBIDDEN, "{other}");
        }
        // Anybody can write to where mail comes back to; what names no attempt is passed over, odd or not.
        let to = format!("bounce+{token}@{BOUNCES}");
        for (mail, expected) in [
            (report(&"0".repeat(31)), StatusCode::NO_CONTENT),
            (report_about("bounce@bounces.acme.example", "failed", "5.1.1"), StatusCode::NO_CONTENT),
            (report_about(&to, "relayed", "2.0.0"), StatusCode::NO_CONTENT),
            (format!("To: {to}\r\nAuto-Submitted: auto-replied\r\n\r\nI am away.\r\n"), StatusCode::NO_CONTENT),
            (String::new(), StatusCode::BAD_REQUEST),
            ("x".repeat(1024 * 1024 + 1), StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            assert_eq!(post(t, ACME, Some(&bearer(SECRET)), mail).await, expected);
        }
        assert!(delivery(t, &id).await == sent, "nothing of it counted");

        for _ in 0..20 {
            assert_eq!(post(t, ACME, Some(&bearer(SECRET)), report(&token)).await, StatusCode::NO_CONTENT);
        }
        let bounced = delivery(t, &id).await;
        assert_eq!((bounced.revision, failed(&bounced)), (sent.revision + 1, ("INVALID_ADDRESS", "5.1.1")));
        let told = timeline(t, &id).await;
        assert_eq!(told.iter().filter(|(word, _)| word == "failed").count(), 1, "{told:?}");
        // That it arrived after all takes no bounce back.
        assert_eq!(post(t, ACME, Some("bEARER a-secret-that-nobody-would-guess"), report_about(&to, "delivered", "2.0.0")).await, StatusCode::NO_CONTENT);
        assert_eq!(state(&delivery(t, &id).await), "FAILED");
    }

    async fn only_what_is_said_of_the_mailbox_is_held_against_it(t: &mut TestApp) {
        with_bounces(t).await;
        let id = mail_to(t, "kim@example.com").await;
        until_state(t, &id, "SENT").await;
        let (from, ..) = envelopes(t, "kim@example.com").remove(0);
        let forwarded = report_of("kim@elsewhere.example", &from, "failed", "5.1.1");
        assert_eq!(post(t, ACME, Some(&bearer(SECRET)), forwarded).await, StatusCode::NO_CONTENT);
        assert_eq!(failed(&delivery(t, &id).await), ("UNREACHABLE", "5.1.1"));
        let again = send_over(t, "kim", Channel::Email).await;
        until_state(t, &again, "SENT").await;
    }

    async fn what_left_before_the_address_was_changed_still_comes_back(t: &mut TestApp) {
        with_bounces(t).await;
        for (mailbox, address) in [
            ("kim@example.com", "returns@mail.acme.example"),
            ("lou@example.com", "bounce@elsewhere.example"),
            ("max@example.com", ""),
        ] {
            update(t, "bounce@bounces.acme.example", SECRET).await;
            let id = mail_to(t, mailbox).await;
            until_state(t, &id, "SENT").await;
            let (from, ..) = envelopes(t, mailbox).remove(0);
            update(t, address, SECRET).await;
            let foreign = report_of(mailbox, &format!("list+{}@lists.example", "1f".repeat(16)), "failed", "5.1.1");
            assert_eq!(post(t, ACME, Some(&bearer(SECRET)), foreign).await, StatusCode::NO_CONTENT);
            assert_eq!(state(&delivery(t, &id).await), "SENT");
            // Passed on by somebody whose addresses look alike.
            let to = format!("list+{}@lists.example, {from}", "1f".repeat(16));
            let bounced = report_of(mailbox, &to, "failed", "5.1.1");
            assert_eq!(post(t, ACME, Some(&bearer(SECRET)), bounced).await, StatusCode::NO_CONTENT);
            assert_eq!(failed(&until_state(t, &id, "FAILED").await), ("INVALID_ADDRESS", "5.1.1"));
        }
    }

    async fn what_names_no_mail_of_the_practice_is_answered_and_forgotten(t: &mut TestApp) {
        with_bounces(t).await;
        let text = send_over(t, "pat", Channel::Sms).await;
        let sent = until_state(t, &text, "DELIVERED").await;
        let token = t.sandbox.journal().entries().into_iter().find_map(|entry| match entry {
            Entry::TwilioCreate { status_callback, .. } => status_callback,
            _ => None,
        });
        let token = token.unwrap();
        let (_, token) = token.split('#').next().unwrap().rsplit_once('/').unwrap();
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).unwrap();
        let token = token.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        for token in [token, "1f".repeat(16)] {
            assert_eq!(post(t, ACME, Some(&bearer(SECRET)), report(&token)).await, StatusCode::NO_CONTENT);
        }
        assert!(delivery(t, &text).await == sent);
        assert_eq!(count(t, "SELECT count(*) FROM callback_inbox", Vec::new()).await, 0);
    }

    async fn without_an_address_of_their_own_bounces_are_not_asked_for(t: &mut TestApp) {
        practice(t).await;
        let id = mail_to(t, "bounces@example.com").await;
        until_state(t, &id, "SENT").await;
        let expected = ("no-reply@mail.acme.example".to_owned(), None, None);
        assert_eq!(envelopes(t, "bounces@example.com"), [expected]);
        assert_eq!(post(t, ACME, Some(&bearer("")), report(&"1f".repeat(16))).await, StatusCode::FORBIDDEN);
        let shown = update(t, "bounce@bounces.acme.example", "").await;
        assert!(!shown.bounce_secret_set);
        assert_eq!(post(t, ACME, Some(&bearer("")), report(&"1f".repeat(16))).await, StatusCode::FORBIDDEN);
    }
}
