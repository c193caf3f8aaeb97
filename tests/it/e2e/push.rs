//! Push: how it reaches each device of a patient, what each answer of FCM makes of it, and what becomes of devices.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ChannelStatus, ConsentSource, ConsentState, DeletePushDeviceRequest, Delivery,
        GetPracticeSettingsRequest, KindChannels, NotificationInput, NotificationView, PracticeSettings, PushSettings,
        RecordConsentRequest, RegisterPushDeviceRequest, RetryDeliveryRequest, UpdatePracticeSettingsRequest,
        channel_status::State,
    },
    sandbox::{Entry, SERVICE_ACCOUNT},
};
use serde_json::Value;
use tonic::{Code, Status};

use super::{
    cancels::cancel,
    given::{mask, new_key, patient, practice, put_patient, reminder, send, send_over},
    mails::second_look,
    seen::{
        delivery, failed, fields, notification_id, read, refused, skipped, state, states, time, until, until_state,
    },
};
use crate::support::app::{ACME, Pass, TestApp, on_a_server};

/// What nothing is special about.
const PHONE_TOKEN: &str = "phone-of-pat:made-up";

async fn update(t: &TestApp, paths: &[&str], settings: PracticeSettings) -> Result<PracticeSettings, Status> {
    let request = UpdatePracticeSettingsRequest {
        practice_id: ACME.into(),
        settings: Some(settings),
        update_mask: Some(mask(paths)),
    };
    let updated = t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await?;
    Ok(updated.into_inner().settings.unwrap())
}

fn account(json: &str) -> PracticeSettings {
    let push = PushSettings { fcm_service_account_json: json.into(), ..Default::default() };
    PracticeSettings { push: Some(push), ..Default::default() }
}

/// Stores the practice, and has it push every kind through the stand-in.
async fn by_push(t: &TestApp) {
    practice(t).await;
    let every = [1, 2, 3, 4].to_vec();
    let kinds = (1..=9).map(|kind| KindChannels { kind, channels: every.clone(), offered_channels: Vec::new() });
    let settings = PracticeSettings { kind_channels: kinds.collect(), ..account(SERVICE_ACCOUNT) };
    let shown = update(t, &["push", "kind_channels"], settings).await.unwrap();
    let push = shown.push.as_ref().unwrap();
    assert!(push.fcm_service_account_set && push.fcm_service_account_json.is_empty());
    assert!(push_status(&shown).state() == State::Ready);
}

fn push_status(settings: &PracticeSettings) -> &ChannelStatus {
    settings.channel_statuses.iter().find(|status| status.channel() == Channel::Push).unwrap()
}

async fn settings(t: &TestApp) -> PracticeSettings {
    let request = GetPracticeSettingsRequest { practice_id: ACME.into() };
    t.caller(Role::Staff).preferences.get_practice_settings(request).await.unwrap().into_inner().settings.unwrap()
}

async fn try_register(t: &TestApp, patient: &str, token: &str) -> Result<String, Status> {
    let request = RegisterPushDeviceRequest {
        practice_id: ACME.into(),
        patient_id: patient.into(),
        fcm_token: token.into(),
        device_name: "Phone".into(),
    };
    let registered = t.caller(Role::Portal).inbox.register_push_device(request).await?;
    Ok(registered.into_inner().device_id)
}

async fn register(t: &TestApp, patient: &str, token: &str) -> String {
    try_register(t, patient, token).await.unwrap()
}

async fn delete(t: &TestApp, patient: &str, device: &str) {
    let request =
        DeletePushDeviceRequest { practice_id: ACME.into(), patient_id: patient.into(), device_id: device.into() };
    t.caller(Role::Portal).inbox.delete_push_device(request).await.unwrap();
}

/// Stores somebody of Acme who can be reached by nothing but push.
async fn newcomer(t: &TestApp, name: &str) {
    put_patient(t, ACME, patient(name, "", "")).await;
}

/// Has Acme push to a device whose token says what FCM makes of it. Yields the id of the delivery.
async fn push_to(t: &TestApp, token: &str) -> String {
    by_push(t).await;
    register(t, "pat", token).await;
    send_over(t, "pat", Channel::Push).await
}

/// A message that FCM took.
struct Taken {
    name: String,
    message: Value,
    uses: usize,
}

/// What FCM took for the device with that token, oldest first.
fn taken(t: &TestApp, token: &str) -> Vec<Taken> {
    let taken = t.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
        Entry::FcmMessage { token: of, name, message, uses, .. } if of == token => Some(Taken { name, message, uses }),
        _ => None,
    });
    taken.collect()
}

/// How often an access token was asked for.
fn grants(t: &TestApp) -> usize {
    t.sandbox.journal().entries().iter().filter(|entry| matches!(entry, Entry::GoogleToken { .. })).count()
}

/// Lets what was not taken be tried again.
async fn again(t: &TestApp, id: &str) -> Delivery {
    let waiting = until(t, id, |it| it.attempts == 1 && it.next_action_time.is_some()).await;
    assert_eq!(state(&waiting), "PENDING");
    t.advance(time(waiting.next_action_time).unwrap() - t.now() + TimeDelta::seconds(20));
    waiting
}

on_a_server! {
    async fn a_push_reaches_every_device_and_says_nothing_of_the_patient(t: &mut TestApp) {
        by_push(t).await;
        let tokens = [PHONE_TOKEN, "tablet-of-pat:made-up"];
        for token in tokens {
            register(t, "pat", token).await;
        }
        let id = send_over(t, "pat", Channel::Push).await;
        let now = until_state(t, &id, "SENT").await;
        assert_eq!(states(t, &id).await, ["PENDING", "SENT"]);
        assert!(now.attempts == 1 && now.deliver_time.is_none() && now.address_hint.is_empty() && !now.possible_duplicate);
        let pushes = tokens.map(|token| taken(t, token).pop().unwrap());
        assert_eq!(now.provider, "fcm");
        assert!(pushes.iter().any(|push| push.name == now.provider_message_id));
        for push in &pushes {
            let notification = notification_id(&now);
            assert_eq!(push.message["notification"]["title"], "Acme Primary Care");
            assert_eq!(push.message["notification"]["body"], "You have a new message.");
            assert_eq!(push.message["data"]["notification_id"], notification);
            assert_eq!(push.message["android"]["notification"]["tag"], notification);
            assert_eq!(push.message["apns"]["headers"]["apns-collapse-id"], notification);
            let ttl = push.message["android"]["ttl"].as_str().unwrap().trim_end_matches('s').parse::<i64>().unwrap();
            assert!((43_190..=43_200).contains(&ttl), "twelve hours, as it is worth: {ttl}");
            let all = push.message.to_string().replace(notification, "").replace("of-pat", "");
            for told in ["Pat", "Doe", "pat", "Dr. Ray", "North Office", "2026", "visit", "ppointment"] {
                assert!(!all.contains(told), "{told} in {all}");
            }
        }
        assert!(push_status(&settings(t).await).last_success_time.is_some());
    }

    async fn without_a_device_a_push_is_skipped_and_nothing_is_asked(t: &mut TestApp) {
        by_push(t).await;
        let id = send_over(t, "pat", Channel::Push).await;
        let now = delivery(t, &id).await;
        assert_eq!((state(&now), skipped(&now), now.attempts), ("SKIPPED", "NO_ADDRESS", 0));
        // It is deleted between the accept and the claim.
        let device = register(t, "pat", PHONE_TOKEN).await;
        let input = NotificationInput {
            schedule_time: Some(t.after(TimeDelta::minutes(5))),
            ..reminder(t, "pat", &[Channel::Push])
        };
        let later = send(t, input).await.deliveries.remove(0).delivery_id;
        for _ in 0..2 {
            delete(t, "pat", &device).await;
        }
        t.advance(TimeDelta::minutes(5));
        let now = until_state(t, &later, "SKIPPED").await;
        assert_eq!((skipped(&now), now.attempts), ("NO_ADDRESS", 0));
        assert!(t.sandbox.journal().entries().is_empty());
        // Nobody else deletes it.
        newcomer(t, "kim").await;
        let device = register(t, "pat", PHONE_TOKEN).await;
        delete(t, "kim", &device).await;
        delete(t, "pat", "01980000-0000-7000-8000-000000000000").await;
        until_state(t, &send_over(t, "pat", Channel::Push).await, "SENT").await;
    }

    async fn a_device_that_is_gone_is_forgotten_and_its_push_skipped(t: &mut TestApp) {
        by_push(t).await;
        for (patient, token) in [("ann", "gone:made-up-device"), ("ben", "badtoken:made-up-device")] {
            newcomer(t, patient).await;
            let device = register(t, patient, token).await;
            let id = send_over(t, patient, Channel::Push).await;
            again(t, &id).await;
            let now = until_state(t, &id, "SKIPPED").await;
            assert_eq!((skipped(&now), now.attempts), ("NO_ADDRESS", 1), "{token}");
            let next = delivery(t, &send_over(t, patient, Channel::Push).await).await;
            assert_eq!((skipped(&next), next.attempts), ("NO_ADDRESS", 0), "{token}");
            assert_ne!(register(t, patient, token).await, device, "it is another one by now");
        }
    }

    async fn one_device_that_takes_it_is_enough_and_the_others_stay_unless_they_are_gone(t: &mut TestApp) {
        by_push(t).await;
        let gone = register(t, "pat", "gone:tablet-of-pat").await;
        let failing = register(t, "pat", "unavailable:watch-of-pat").await;
        register(t, "pat", PHONE_TOKEN).await;
        let id = send_over(t, "pat", Channel::Push).await;
        let now = until_state(t, &id, "SENT").await;
        assert_eq!((now.attempts, taken(t, PHONE_TOKEN).len()), (1, 1));
        assert_eq!(register(t, "pat", "unavailable:watch-of-pat").await, failing);
        assert_ne!(register(t, "pat", "gone:tablet-of-pat").await, gone);
        // It had it, and is not told twice since another one failed.
        t.advance(TimeDelta::hours(1));
        until_state(t, &send_over(t, "pat", Channel::Push).await, "SENT").await;
        assert_eq!(taken(t, PHONE_TOKEN).iter().map(|push| push.uses).collect::<Vec<_>>(), [1, 1]);
    }

    async fn a_device_moves_to_whoever_registers_it_last(t: &mut TestApp) {
        by_push(t).await;
        newcomer(t, "kim").await;
        let device = register(t, "pat", PHONE_TOKEN).await;
        assert_eq!(register(t, "pat", PHONE_TOKEN).await, device, "the same token is the same device");
        until_state(t, &send_over(t, "pat", Channel::Push).await, "SENT").await;
        assert_eq!(register(t, "kim", PHONE_TOKEN).await, device);
        let pats = delivery(t, &send_over(t, "pat", Channel::Push).await).await;
        assert_eq!(skipped(&pats), "NO_ADDRESS");
        until_state(t, &send_over(t, "kim", Channel::Push).await, "SENT").await;
        assert_eq!(taken(t, PHONE_TOKEN).len(), 2);
        // Only its owner can give it up.
        delete(t, "pat", &device).await;
        assert_eq!(register(t, "kim", PHONE_TOKEN).await, device);
    }

    async fn a_push_in_doubt_is_sent_once_more_and_takes_the_place_of_the_first(t: &mut TestApp) {
        by_push(t).await;
        for (patient, token, uses) in [
            ("ann", "drop:made-up-device", vec![1, 2]),
            ("ben", "internal:made-up-device", vec![1, 2]),
            ("cat", "unavailable:made-up-device", vec![1]),
            ("dan", "html:made-up-device", vec![1]),
        ] {
            newcomer(t, patient).await;
            register(t, patient, token).await;
            let id = send_over(t, patient, Channel::Push).await;
            let doubt = until_state(t, &id, "UNCONFIRMED").await;
            t.sandbox.rules().set(token, "push_accepted").unwrap();
            second_look(t, &doubt).await;
            let now = until_state(t, &id, "SENT").await;
            assert_eq!((now.attempts, now.possible_duplicate), (2, true), "{token}");
            let pushes = taken(t, token);
            assert_eq!(pushes.iter().map(|push| push.uses).collect::<Vec<_>>(), uses, "{token}");
            for push in pushes {
                assert_eq!(push.message["android"]["notification"]["tag"], notification_id(&now));
                assert_eq!(push.message["apns"]["headers"]["apns-collapse-id"], notification_id(&now));
            }
            // What failed was the account's way to FCM as well, which is given its time.
            t.advance(TimeDelta::minutes(30));
        }
    }

    async fn a_resend_that_is_in_doubt_as_well_is_the_last(t: &mut TestApp) {
        let id = push_to(t, "unavailable:made-up-device").await;
        let doubt = until_state(t, &id, "UNCONFIRMED").await;
        second_look(t, &doubt).await;
        let again = until(t, &id, |it| it.attempts == 2 && state(it) == "UNCONFIRMED").await;
        t.advance(time(again.next_action_time).unwrap() - t.now());
        let again = until(t, &id, |it| it.revision > again.revision).await;
        t.advance(time(again.next_action_time).unwrap() - t.now());
        let closed = until(t, &id, |it| it.next_action_time.is_none()).await;
        assert_eq!((state(&closed), closed.attempts), ("UNCONFIRMED", 2));
        assert!(taken(t, "unavailable:made-up-device").is_empty());
    }

    async fn an_answer_that_stays_away_is_no_failure(t: &mut TestApp) {
        t.restart_with(|config| config.providers.call_timeout = std::time::Duration::from_secs(4)).await;
        let id = push_to(t, "stall:made-up-device").await;
        until_state(t, &id, "UNCONFIRMED").await;
        assert_eq!(taken(t, "stall:made-up-device").len(), 1);
    }

    async fn quota_is_waited_for_as_long_as_fcm_wants(t: &mut TestApp) {
        let id = push_to(t, "quota:made-up-device").await;
        let waiting = again(t, &id).await;
        let wait = time(waiting.next_action_time).unwrap() - time(waiting.update_time).unwrap();
        assert!(wait >= TimeDelta::seconds(60), "{wait}");
        let now = until_state(t, &id, "SENT").await;
        assert_eq!((now.attempts, taken(t, "quota:made-up-device").len()), (2, 1));
    }

    async fn an_account_that_is_refused_is_told_to_staff_and_tried_again(t: &mut TestApp) {
        by_push(t).await;
        for (patient, token, code) in [
            ("ann", "apns:made-up-device", "THIRD_PARTY_AUTH_ERROR"),
            ("ben", "unauthorised:made-up-device", "UNAUTHENTICATED"),
        ] {
            newcomer(t, patient).await;
            register(t, patient, token).await;
            let id = send_over(t, patient, Channel::Push).await;
            until(t, &id, |it| it.attempts == 1).await;
            let shown = settings(t).await;
            let status = push_status(&shown);
            assert!(status.state() == State::Failing, "{token}");
            let [finding] = &status.findings[..] else { panic!("one finding") };
            assert_eq!((finding.field.as_str(), finding.blocking), ("push.fcm_service_account_json", true));
            assert!(finding.message.contains(code), "{}", finding.message);
            t.sandbox.rules().set(token, "push_accepted").unwrap();
            again(t, &id).await;
            until_state(t, &id, "SENT").await;
            assert!(push_status(&settings(t).await).state() == State::Ready);
        }
    }

    async fn a_device_of_another_project_is_kept_and_says_nothing_of_the_channel(t: &mut TestApp) {
        const TOKEN: &str = "mismatch:made-up-device";
        by_push(t).await;
        let device = register(t, "pat", TOKEN).await;
        let id = send_over(t, "pat", Channel::Push).await;
        again(t, &id).await;
        let shown = settings(t).await;
        assert!(push_status(&shown).state() == State::Ready && push_status(&shown).findings.is_empty());
        let now = delivery(t, &id).await;
        let lines = read(t, notification_id(&now), NotificationView::Basic).await.details.remove(0).events;
        let refusal = lines.iter().find(|line| line.provider_code == "SENDER_ID_MISMATCH").unwrap();
        assert!(refusal.detail.contains("this recipient"), "{}", refusal.detail);
        assert_eq!(register(t, "pat", TOKEN).await, device, "it may be the account that is wrong");
        t.sandbox.rules().set(TOKEN, "push_accepted").unwrap();
        again(t, &id).await;
        until_state(t, &id, "SENT").await;
    }

    async fn a_push_that_is_refused_fails_keeps_its_device_and_can_be_sent_again(t: &mut TestApp) {
        const TOKEN: &str = "badrequest:made-up-device";
        let id = push_to(t, TOKEN).await;
        let device = register(t, "pat", TOKEN).await;
        let now = until_state(t, &id, "FAILED").await;
        assert_eq!(failed(&now), ("INTERNAL", "INVALID_ARGUMENT"));
        assert_eq!(register(t, "pat", TOKEN).await, device, "it is no fault of the device");
        t.sandbox.rules().set(TOKEN, "push_accepted").unwrap();
        let request = RetryDeliveryRequest { practice_id: ACME.into(), request_id: new_key(), delivery_id: id };
        let retry = t.staff().retry_delivery(request).await.unwrap().into_inner().delivery.unwrap();
        until_state(t, &retry.delivery_id, "SENT").await;
        let [push] = &taken(t, TOKEN)[..] else { panic!("one push") };
        assert_eq!(push.message["android"]["notification"]["tag"], notification_id(&now));
    }

    async fn an_access_token_is_kept_and_renewed_when_it_has_ended(t: &mut TestApp) {
        let id = push_to(t, PHONE_TOKEN).await;
        until_state(t, &id, "SENT").await;
        until_state(t, &send_over(t, "pat", Channel::Push).await, "SENT").await;
        assert_eq!(grants(t), 1);
        // Its end by Google's clock; by ours no time has passed.
        t.advance(TimeDelta::hours(2));
        let now = until_state(t, &send_over(t, "pat", Channel::Push).await, "SENT").await;
        assert_eq!((grants(t), now.attempts), (2, 1));
    }

    async fn a_key_that_google_does_not_know_sends_nothing(t: &mut TestApp) {
        by_push(t).await;
        let stranger = include_str!("../../vectors/service_account_of_a_stranger.json");
        update(t, &["push"], account(stranger)).await.unwrap();
        register(t, "pat", PHONE_TOKEN).await;
        let id = send_over(t, "pat", Channel::Push).await;
        until(t, &id, |it| it.attempts == 1).await;
        let shown = settings(t).await;
        assert!(push_status(&shown).findings[0].message.contains("token invalid_grant"));
        update(t, &["push"], account(SERVICE_ACCOUNT)).await.unwrap();
        again(t, &id).await;
        until_state(t, &id, "SENT").await;
    }

    async fn what_holds_for_other_channels_holds_for_push(t: &mut TestApp) {
        by_push(t).await;
        register(t, "pat", PHONE_TOKEN).await;
        let later = || NotificationInput {
            schedule_time: Some(t.after(TimeDelta::hours(1))),
            ..reminder(t, "pat", &[Channel::Push])
        };
        let cancelled = send(t, later()).await;
        cancel(t, &cancelled.notification_id).await;
        assert_eq!(state(&delivery(t, &cancelled.deliveries[0].delivery_id).await), "CANCELLED");
        let waiting = send(t, later()).await.deliveries.remove(0).delivery_id;
        let opt_out = RecordConsentRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            patient_id: "pat".into(),
            channel: Channel::Push.into(),
            state: ConsentState::OptedOut.into(),
            source: ConsentSource::Portal.into(),
            evidence: "switched off in the app".into(),
            ..Default::default()
        };
        t.caller(Role::Portal).preferences.record_consent(opt_out).await.unwrap();
        for id in [waiting, send_over(t, "pat", Channel::Push).await] {
            assert_eq!(skipped(&delivery(t, &id).await), "OPTED_OUT");
        }
        assert!(taken(t, PHONE_TOKEN).is_empty());
    }
}

on_a_server! {
    sqlite:
    async fn a_token_that_is_none_is_refused_and_so_is_somebody_unknown(t: &mut TestApp) {
        by_push(t).await;
        let long = "a".repeat(4_097);
        for token in ["", "null", "short", "with blanks in it, which none has", "tökens-are-of-plain-letters", &long] {
            let status = refused(try_register(t, "pat", token).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["fcm_token"], "{token}");
        }
        let status = refused(try_register(t, "nobody", PHONE_TOKEN).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["patient_id"]);
        let status = refused(try_register(t, "not an id", "x").await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["fcm_token", "patient_id"], "both at once");
        let own = t.caller_with(&t.token_of(&Pass { patient: Some("pat".into()), ..Pass::new(&[Role::Patient], &[ACME]) }));
        let request = |patient: &str| RegisterPushDeviceRequest {
            practice_id: ACME.into(),
            patient_id: patient.into(),
            fcm_token: PHONE_TOKEN.into(),
            device_name: String::new(),
        };
        own.clone().inbox.register_push_device(request("pat")).await.unwrap();
        let foreign = own.clone().inbox.register_push_device(request("kim")).await;
        refused(foreign, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        let foreign = DeletePushDeviceRequest { practice_id: ACME.into(), patient_id: "kim".into(), device_id: uuid::Uuid::nil().to_string() };
        refused(own.clone().inbox.delete_push_device(foreign).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
    }

    async fn whoever_registers_one_device_too_many_gives_up_the_oldest(t: &mut TestApp) {
        by_push(t).await;
        let mut devices = Vec::new();
        for n in 0..20 {
            devices.push(register(t, "pat", &format!("device-of-pat:number-{n}")).await);
            t.advance(TimeDelta::seconds(1));
        }
        // Heard of again, so that it is not the oldest any more.
        assert_eq!(register(t, "pat", "device-of-pat:number-0").await, devices[0]);
        t.advance(TimeDelta::seconds(1));
        register(t, "pat", "device-of-pat:number-20").await;
        until_state(t, &send_over(t, "pat", Channel::Push).await, "SENT").await;
        let told = |n: usize| taken(t, &format!("device-of-pat:number-{n}")).len();
        assert_eq!((0..=20).map(told).collect::<Vec<_>>(), (0..=20).map(|n| usize::from(n != 1)).collect::<Vec<_>>());
    }

    async fn a_service_account_is_tried_before_it_is_kept_and_never_shown(t: &mut TestApp) {
        by_push(t).await;
        for bad in ["canary", "{}", "{\"type\":\"service_account\",\"project_id\":\"canary\"}"] {
            let status = refused(update(t, &["push"], account(bad)).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["settings.push.fcm_service_account_json"]);
            assert!(!format!("{status:?}").contains("canary"));
        }
        let is_set = |settings: PracticeSettings| settings.push.unwrap().fcm_service_account_set;
        assert!(is_set(settings(t).await), "what was refused changed nothing");
        assert!(is_set(update(t, &["push"], account("")).await.unwrap()), "a secret that was left empty is kept");
        assert!(!is_set(update(t, &["push.fcm_service_account_json"], account("")).await.unwrap()), "and cleared by name");
        let shown = settings(t).await;
        assert!(push_status(&shown).state() == State::NotSetUp);
        register(t, "pat", PHONE_TOKEN).await;
        let id = send_over(t, "pat", Channel::Push).await;
        assert_eq!(skipped(&delivery(t, &id).await), "CHANNEL_NOT_CONFIGURED");
    }
}
