//! Mail that goes by SendGrid: how it is sent, what the stand-in's events make of it, and what an account lacks.

mod events;

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ChannelStatus, EmailSettings, GetPracticeSettingsRequest, NotificationView, PracticeSettings,
        SendGridSettings, UpdatePracticeSettingsRequest, channel_status::State, email_settings::Provider,
    },
    sandbox::Entry,
};
use serde_json::{Value, json};

use super::{
    consent::{all_said, ledger},
    given::{mask, practice, send_over, somebody_with_mailbox, token},
    mails::second_look,
    seen::{delivery, failed, notification_id, read, skipped, state, states, time, until, until_state},
};
use crate::support::app::{ACME, LIMIT, TestApp, on_a_server};

/// Sends; it must never come back.
const API_KEY: &str = "SG.api-key-canary";
const EVENTS: &str = "/webhooks/sendgrid/acme";

/// Has Acme's mail go by the stand-in, which reports to where the settings say.
async fn by_sendgrid(t: &TestApp) {
    practice(t).await;
    let key = t.sandbox.sendgrid_webhook(API_KEY, &t.url(EVENTS));
    let shown = use_sendgrid(t, ACME, &key).await;
    assert_eq!((shown.event_webhook_url, shown.webhook_public_key), (t.url(EVENTS), key));
    assert!(shown.api_key_set && shown.api_key.is_empty());
}

/// Has a practice's mail go by SendGrid, whose events are verified by `key`.
async fn use_sendgrid(t: &TestApp, practice: &str, key: &str) -> SendGridSettings {
    let sendgrid = SendGridSettings { api_key: API_KEY.into(), webhook_public_key: key.into(), ..Default::default() };
    let settings = update(t, practice, sendgrid).await;
    match settings.email.and_then(|email| email.provider) {
        Some(Provider::Sendgrid(sendgrid)) => sendgrid,
        _ => panic!("another provider"),
    }
}

async fn update(t: &TestApp, practice: &str, sendgrid: SendGridSettings) -> PracticeSettings {
    let email = EmailSettings {
        provider: Some(Provider::Sendgrid(sendgrid)),
        from_address: "no-reply@mail.acme.example".into(),
        ..Default::default()
    };
    let request = UpdatePracticeSettingsRequest {
        practice_id: practice.into(),
        settings: Some(PracticeSettings { email: Some(email), ..Default::default() }),
        update_mask: Some(mask(&["email"])),
    };
    let mut admin = t.caller_with(&token(t, Role::PracticeAdmin, practice)).preferences;
    admin.update_practice_settings(request).await.unwrap().into_inner().settings.unwrap()
}

/// Stores a patient with that mailbox, whose name says what SendGrid makes of it, and writes to it.
async fn mail_to(t: &TestApp, mailbox: &str) -> String {
    by_sendgrid(t).await;
    somebody_with_mailbox(t, "lee", mailbox).await;
    send_over(t, "lee", Channel::Email).await
}

/// A mail that SendGrid took.
struct Taken {
    id: String,
    token: String,
    mail: Value,
    uses: usize,
}

/// The mails that SendGrid took for `mailbox`, oldest first.
fn taken(t: &TestApp, mailbox: &str) -> Vec<Taken> {
    let taken = t.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
        Entry::SendGridMail { to, mut custom_args, message_id, mail, token_uses, .. } if to == mailbox => {
            assert_eq!(custom_args.len(), 1, "nothing but the token is told");
            Some(Taken { id: message_id, token: custom_args.remove("n").unwrap(), mail, uses: token_uses })
        }
        _ => None,
    });
    taken.collect()
}

/// Waits until the stand-in's event with that word was taken.
async fn until_told(t: &TestApp, word: &str) {
    let told =
        |entry: &Entry| matches!(entry, Entry::EventsSent { words, http_status: Some(204), .. } if words == &[word]);
    t.sandbox.journal().wait_for(LIMIT, |entries| entries.iter().any(told)).await.expect("the event is told");
}

/// The words and codes of a delivery's timeline.
pub(super) async fn timeline(t: &TestApp, id: &str) -> Vec<(String, String)> {
    let full = read(t, notification_id(&delivery(t, id).await), NotificationView::Full).await;
    let events = full.details.into_iter().flat_map(|detail| detail.events);
    events.map(|event| (event.provider_status, event.provider_code)).filter(|(word, _)| !word.is_empty()).collect()
}

async fn settings(t: &TestApp) -> PracticeSettings {
    let request = GetPracticeSettingsRequest { practice_id: ACME.into() };
    t.caller(Role::Staff).preferences.get_practice_settings(request).await.unwrap().into_inner().settings.unwrap()
}

fn email_status(settings: PracticeSettings) -> ChannelStatus {
    settings.channel_statuses.into_iter().find(|status| status.channel() == Channel::Email).unwrap()
}

/// The findings of mail, with whether each keeps it from going.
fn findings(status: &ChannelStatus) -> Vec<(&str, bool)> {
    status.findings.iter().map(|finding| (finding.field.as_str(), finding.blocking)).collect()
}

on_a_server! {
    async fn mail_goes_by_sendgrid_and_its_events_tell_what_became_of_it(t: &mut TestApp) {
        by_sendgrid(t).await;
        let id = send_over(t, "pat", Channel::Email).await;
        let now = until_state(t, &id, "DELIVERED").await;
        let [mail] = &taken(t, "pat@example.com")[..] else { panic!("one mail") };
        assert_eq!((now.provider.as_str(), &now.provider_message_id), ("sendgrid", &mail.id));
        assert!(now.attempts == 1 && now.failure.is_none() && now.deliver_time.is_some() && !now.possible_duplicate);
        assert_eq!(states(t, &id).await, ["PENDING", "SENT", "DELIVERED"]);
        let words: Vec<_> = timeline(t, &id).await.into_iter().map(|(word, _)| word).collect();
        assert!(words.contains(&"processed".into()) && words.contains(&"delivered".into()), "{words:?}");

        let Taken { mail, token, uses, .. } = mail;
        assert_eq!((token.len(), *uses), (22, 1));
        assert_eq!(mail["from"], json!({ "email": "no-reply@mail.acme.example", "name": "Acme Primary Care" }));
        assert_eq!(mail["headers"]["Message-ID"], format!("<{}@mail.acme.example>", id.replace('-', "")));
        for off in ["click_tracking", "open_tracking", "subscription_tracking", "ganalytics"] {
            assert_eq!(mail["tracking_settings"][off]["enable"], false, "{off}");
        }
        // It is not covered by any agreement, so that its mail says no more than it must.
        let all = mail.to_string();
        for told in ["Dr. Ray", "North Office", "Elm Street", "2026", "acme\"", "lee"] {
            assert!(!all.contains(told), "{told} in {all}");
        }
        let status = email_status(settings(t).await);
        assert!(status.state() == State::Ready && status.findings.is_empty() && status.last_success_time.is_some());
    }

    async fn each_end_of_a_mail_has_its_reason(t: &mut TestApp) {
        by_sendgrid(t).await;
        for (mailbox, reason, code, next) in [
            ("nouser@example.com", "INVALID_ADDRESS", "550 5.1.1", "ADDRESS_SUPPRESSED"),
            ("suppressed@example.com", "INVALID_ADDRESS", "bounced address", "ADDRESS_SUPPRESSED"),
            ("refused@example.com", "INVALID_ADDRESS", "http 400", "ADDRESS_SUPPRESSED"),
            ("unsubscribed@example.com", "OPTED_OUT_AT_PROVIDER", "unsubscribed address", "OPTED_OUT"),
            ("full@example.com", "UNREACHABLE", "552 5.2.2", ""),
            ("spam@example.com", "BLOCKED", "550 5.7.1", ""),
        ] {
            let patient = mailbox.split('@').next().unwrap();
            somebody_with_mailbox(t, patient, mailbox).await;
            let id = send_over(t, patient, Channel::Email).await;
            assert_eq!(failed(&until_state(t, &id, "FAILED").await), (reason, code), "{mailbox}");
            let again = send_over(t, patient, Channel::Email).await;
            if next.is_empty() {
                assert_eq!(failed(&until_state(t, &again, "FAILED").await), (reason, code), "{mailbox}");
            } else {
                assert_eq!(skipped(&until_state(t, &again, "SKIPPED").await), next, "{mailbox}");
            }
        }
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER")]);
        assert_eq!(ledger(t).await.remove(0).patient_id, "unsubscribed");
    }

    async fn mail_that_has_to_wait_says_so_and_arrives(t: &mut TestApp) {
        let id = mail_to(t, "greylist@example.com").await;
        until_state(t, &id, "DELIVERED").await;
        assert!(timeline(t, &id).await.contains(&("deferred".into(), "451 4.7.1".into())));
        assert_eq!(states(t, &id).await, ["PENDING", "SENT", "DELIVERED"]);
    }

    async fn a_complaint_opts_out_everybody_with_the_mailbox(t: &mut TestApp) {
        let id = mail_to(t, "complains@example.com").await;
        somebody_with_mailbox(t, "kim", "Complains@example.com").await;
        until_told(t, "spamreport").await;
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED", "a complaint is no failure");
        assert!(timeline(t, &id).await.contains(&("spamreport".into(), String::new())));
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER"); 2]);
        for record in ledger(t).await {
            assert!(record.channel() == Channel::Email && record.evidence.starts_with("spamreport of message "));
        }
        for patient in ["lee", "kim"] {
            let next = send_over(t, patient, Channel::Email).await;
            assert_eq!(skipped(&until_state(t, &next, "SKIPPED").await), "OPTED_OUT");
        }
        until_state(t, &send_over(t, "pat", Channel::Email).await, "DELIVERED").await;
    }

    async fn whoever_unsubscribes_at_sendgrid_is_opted_out(t: &mut TestApp) {
        let id = mail_to(t, "unsubscribes@example.com").await;
        until_told(t, "unsubscribe").await;
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER")]);
        assert_eq!(skipped(&until_state(t, &send_over(t, "lee", Channel::Email).await, "SKIPPED").await), "OPTED_OUT");
    }

    async fn mail_whose_answer_was_lost_is_settled_by_its_events(t: &mut TestApp) {
        let id = mail_to(t, "drop-after-dot@example.com").await;
        let now = until_state(t, &id, "DELIVERED").await;
        let [mail] = &taken(t, "drop-after-dot@example.com")[..] else { panic!("one mail") };
        assert_eq!((now.attempts, now.possible_duplicate, &now.provider_message_id), (1, false, &mail.id));
    }

    async fn mail_of_which_nothing_is_heard_is_sent_once_more_and_marked(t: &mut TestApp) {
        let id = mail_to(t, "drop-silently@example.com").await;
        let doubt = until_state(t, &id, "UNCONFIRMED").await;
        t.sandbox.rules().set("drop-silently@example.com", "sendgrid_delivered").unwrap();
        second_look(t, &doubt).await;
        let now = until_state(t, &id, "DELIVERED").await;
        assert_eq!((now.attempts, now.possible_duplicate), (2, true));
        let [first, second] = &taken(t, "drop-silently@example.com")[..] else { panic!("two mails") };
        assert_eq!(first.mail["headers"]["Message-ID"], second.mail["headers"]["Message-ID"], "receivers can fold the two");
        assert!(first.token != second.token && first.uses == 1 && second.uses == 1);
    }

    async fn a_resend_that_is_in_doubt_as_well_is_the_last(t: &mut TestApp) {
        let id = mail_to(t, "failed@example.com").await;
        let doubt = until_state(t, &id, "UNCONFIRMED").await;
        second_look(t, &doubt).await;
        let again = until(t, &id, |it| it.attempts == 2 && state(it) == "UNCONFIRMED").await;
        t.advance(time(again.next_action_time).unwrap() - t.now());
        let again = until(t, &id, |it| it.revision > again.revision).await;
        t.advance(time(again.next_action_time).unwrap() - t.now());
        let closed = until(t, &id, |it| it.next_action_time.is_none()).await;
        assert_eq!((state(&closed), closed.attempts), ("UNCONFIRMED", 2));
        assert!(taken(t, "failed@example.com").is_empty());
    }

    async fn a_limit_is_waited_for(t: &mut TestApp) {
        let id = mail_to(t, "limited@example.com").await;
        let waiting = until(t, &id, |it| it.attempts == 1).await;
        assert_eq!(state(&waiting), "PENDING");
        t.advance(TimeDelta::seconds(16));
        let now = until_state(t, &id, "DELIVERED").await;
        assert_eq!((now.attempts, taken(t, "limited@example.com").len()), (2, 1));
    }

    async fn reports_before_the_answer_and_all_at_once_and_again_add_up(t: &mut TestApp) {
        by_sendgrid(t).await;
        for mailbox in ["early@example.com", "reordered@example.com", "repeated@example.com"] {
            let patient = mailbox.split('@').next().unwrap();
            somebody_with_mailbox(t, patient, mailbox).await;
            let id = send_over(t, patient, Channel::Email).await;
            let now = until_state(t, &id, "DELIVERED").await;
            assert_eq!((now.attempts, taken(t, mailbox).len()), (1, 1), "{mailbox}");
        }
    }
}

on_a_server! {
    sqlite:
    async fn a_practice_is_told_what_its_account_lacks(t: &mut TestApp) {
        practice(t).await;
        let nothing = email_status(update(t, ACME, SendGridSettings::default()).await);
        let missing = ["email.sendgrid.api_key", "email.sendgrid.webhook_public_key"];
        assert_eq!(findings(&nothing), missing.map(|field| (field, true)));
        assert!(nothing.state() == State::NotSetUp);
        let id = send_over(t, "pat", Channel::Email).await;
        assert_eq!(skipped(&until_state(t, &id, "SKIPPED").await), "CHANNEL_NOT_CONFIGURED");
        let key = t.sandbox.sendgrid_webhook(API_KEY, &t.url(EVENTS));
        use_sendgrid(t, ACME, &key).await;
        assert!(email_status(settings(t).await).state() == State::Ready);

        // That SendGrid may carry health information is for nobody to attest.
        let email = EmailSettings { phi_permitted: Some(true), ..Default::default() };
        let request = UpdatePracticeSettingsRequest {
            practice_id: ACME.into(),
            settings: Some(PracticeSettings { email: Some(email), ..Default::default() }),
            update_mask: Some(mask(&["email.phi_permitted"])),
        };
        t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await.unwrap();
        let status = email_status(settings(t).await);
        assert!(status.state() == State::Ready);
        assert_eq!(findings(&status), [("email.phi_permitted", false)]);
    }

    async fn an_account_that_is_refused_is_told_to_staff(t: &mut TestApp) {
        let id = mail_to(t, "unauthorised@example.com").await;
        let waiting = until(t, &id, |it| it.attempts == 1).await;
        assert_eq!(state(&waiting), "PENDING");
        let status = email_status(settings(t).await);
        assert!(status.state() == State::Failing);
        assert_eq!(findings(&status), [("email.sendgrid.api_key", true)]);
        assert!(status.findings[0].message.contains("http 401"));
    }
}
