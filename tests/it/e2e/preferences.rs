//! What patients want: who may say so, what it changes, and what it does not.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ChannelSet, GetPatientPreferencesRequest, KindChannels, KindChoice, NotificationInput,
        NotificationKind, NotificationView, PatientPreferences, PracticeSettings, UpdatePatientPreferencesRequest,
        UpdatePracticeSettingsRequest,
    },
};
use prost::Message;
use tonic::{Code, Status};

use super::{
    given::{bare_practice, mask, patient, practice, practice_named, put_patient, reminder, send, token},
    seen::{fields, metadata, read, refused, settled, skipped, state},
};
use crate::support::app::{ACME, Pass, TestApp, on_a_server};

const REMINDER: i32 = NotificationKind::AppointmentReminder as i32;
const SYSTEM: i32 = NotificationKind::System as i32;

pub(super) fn choice(kind: i32, channels: Option<&[Channel]>) -> KindChoice {
    let set = |channels: &[Channel]| ChannelSet { values: channels.iter().map(|&channel| channel.into()).collect() };
    KindChoice { kind, channels: channels.map(set) }
}

fn request(id: &str, choices: Vec<KindChoice>) -> UpdatePatientPreferencesRequest {
    UpdatePatientPreferencesRequest { practice_id: ACME.into(), patient_id: id.into(), choices, etag: String::new() }
}

async fn try_choose(t: &TestApp, request: UpdatePatientPreferencesRequest) -> Result<PatientPreferences, Status> {
    let answer = t.caller(Role::Staff).preferences.update_patient_preferences(request).await?;
    Ok(answer.into_inner().preferences.unwrap())
}

/// Staff enter one choice of a patient.
pub(super) async fn choose(t: &TestApp, id: &str, kind: i32, channels: Option<&[Channel]>) -> PatientPreferences {
    try_choose(t, request(id, vec![choice(kind, channels)])).await.unwrap()
}

fn get_request(id: &str) -> GetPatientPreferencesRequest {
    GetPatientPreferencesRequest { practice_id: ACME.into(), patient_id: id.into() }
}

async fn get(t: &TestApp, id: &str) -> PatientPreferences {
    let answer = t.caller(Role::Staff).preferences.get_patient_preferences(get_request(id)).await.unwrap();
    answer.into_inner().preferences.unwrap()
}

/// What is effective for a kind, and what may be chosen.
fn effective(preferences: &PatientPreferences, kind: i32) -> (Vec<i32>, Vec<i32>) {
    let entry = preferences.effective.iter().find(|entry| entry.kind == kind).unwrap();
    (entry.channels.clone(), entry.offered_channels.clone())
}

/// The practice's channels for reminders, and what it offers; other kinds are back to what is built in.
async fn set_kind(t: &TestApp, kind: i32, channels: &[i32], offered: &[i32]) {
    let entry = KindChannels { kind, channels: channels.into(), offered_channels: offered.into() };
    set(t, PracticeSettings { kind_channels: vec![entry], ..Default::default() }, &["kind_channels"]).await;
}

pub(super) async fn set(t: &TestApp, settings: PracticeSettings, paths: &[&str]) {
    let request = UpdatePracticeSettingsRequest {
        practice_id: ACME.into(),
        settings: Some(settings),
        update_mask: Some(mask(paths)),
    };
    t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await.unwrap();
}

/// A reminder to `pat`: the channel of each delivery, and why it was skipped if it was.
async fn reminded(t: &TestApp, channels: &[Channel]) -> Vec<(i32, &'static str)> {
    let sent = send(t, reminder(t, "pat", channels)).await;
    sent.deliveries.iter().map(|one| (one.channel, skipped(one))).collect()
}

on_a_server! {
    async fn a_choice_takes_the_place_of_the_practices_channels_in_both_directions(t: &mut TestApp) {
        practice(t).await;
        set_kind(t, REMINDER, &[2, 3], &[1, 2, 3, 4]).await;
        assert_eq!(reminded(t, &[]).await, [(2, "UNSPECIFIED"), (3, "UNSPECIFIED")]);
        assert_eq!(reminded(t, &[Channel::Push]).await, [(4, "CHANNEL_OFF_FOR_KIND")]);
        choose(t, "pat", REMINDER, Some(&[Channel::Sms])).await;
        assert_eq!(reminded(t, &[]).await, [(3, "UNSPECIFIED")]);
        assert_eq!(reminded(t, &[Channel::Email]).await, [(2, "NOT_PREFERRED")]);
        choose(t, "pat", REMINDER, Some(&[Channel::InApp, Channel::Sms])).await;
        assert_eq!(reminded(t, &[]).await, [(1, "UNSPECIFIED"), (3, "UNSPECIFIED")]);
        // Back to what the practice says, which is not the same as nothing at all.
        choose(t, "pat", REMINDER, None).await;
        assert_eq!(reminded(t, &[]).await, [(2, "UNSPECIFIED"), (3, "UNSPECIFIED")]);
        choose(t, "pat", REMINDER, Some(&[Channel::Push])).await;
        assert_eq!(reminded(t, &[]).await, [(4, "NO_ADDRESS")]);
    }

    async fn preferences_show_choices_consent_and_what_follows_in_one_answer(t: &mut TestApp) {
        practice(t).await;
        set_kind(t, REMINDER, &[2], &[2, 3]).await;
        let nothing = get(t, "pat").await;
        assert_eq!((nothing.patient_id.as_str(), nothing.etag.as_str()), ("pat", "0"));
        assert!(nothing.choices.is_empty() && nothing.update_time.is_none());
        let kinds: Vec<_> = nothing.effective.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, (1..=11).collect::<Vec<_>>());
        assert_eq!(effective(&nothing, REMINDER), (vec![2], vec![2, 3]));
        // Where the practice names none it offers what it has set up, spelled out.
        assert_eq!(effective(&nothing, SYSTEM), (vec![1], vec![1, 2, 3]));
        assert_eq!(effective(&nothing, NotificationKind::Announcement as i32), (vec![], vec![1, 2, 3]));
        let consents: Vec<_> = nothing.consents.iter().map(|it| (it.channel, it.state)).collect();
        assert_eq!(consents, [(1, 1), (2, 1), (3, 1), (4, 1)]);

        let made = try_choose(
            t,
            request(
                "pat",
                vec![choice(SYSTEM, Some(&[])), choice(REMINDER, Some(&[Channel::Sms])), choice(7, None)],
            ),
        );
        let made = made.await.unwrap();
        assert_eq!(made.etag, "1");
        assert!(made.update_time.is_some() && get(t, "pat").await == made, "what the update showed is what was stored");
        let choices: Vec<_> =
            made.choices.iter().map(|it| (it.kind, it.channels.clone().unwrap_or_default().values)).collect();
        assert_eq!(choices, [(REMINDER, vec![3]), (SYSTEM, vec![])]);
        assert_eq!((effective(&made, REMINDER).0, effective(&made, SYSTEM).0), (vec![3], vec![]));
        assert_eq!(effective(&made, 2), effective(&nothing, 2));

        // A repeat changes nothing; neither does a choice taken back that was never made.
        let again = request("pat", vec![choice(SYSTEM, Some(&[])), choice(7, None)]);
        assert!(try_choose(t, again).await.unwrap() == made);
    }

    async fn a_choice_is_one_patients_for_one_kind(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "kim@example.com", "+12025550143")).await;
        let before = get(t, "kim").await;
        choose(t, "pat", REMINDER, Some(&[Channel::Sms])).await;
        assert!(get(t, "kim").await == before);
        let kim = send(t, reminder(t, "kim", &[])).await;
        assert_eq!(kim.deliveries.len(), 3);
        let made = choose(t, "pat", SYSTEM, Some(&[Channel::Email])).await;
        assert_eq!((effective(&made, REMINDER).0, effective(&made, SYSTEM).0), (vec![3], vec![2]));
        // What the directory says of the patient later leaves it alone.
        put_patient(t, ACME, patient("pat", "new@example.com", "+12025550144")).await;
        assert!(get(t, "pat").await == made);
    }

    async fn a_channel_that_is_offered_no_longer_is_passed_over(t: &mut TestApp) {
        practice(t).await;
        set_kind(t, REMINDER, &[2], &[2, 3]).await;
        choose(t, "pat", REMINDER, Some(&[Channel::Email, Channel::Sms])).await;
        set_kind(t, REMINDER, &[2], &[1, 2]).await;
        assert_eq!(reminded(t, &[]).await, [(2, "UNSPECIFIED")]);
        assert_eq!(reminded(t, &[Channel::InApp, Channel::Sms]).await, [(1, "NOT_PREFERRED"), (3, "NOT_PREFERRED")]);
        // Nothing is left of it: nobody is cut off by that.
        choose(t, "pat", REMINDER, Some(&[Channel::Email])).await;
        set_kind(t, REMINDER, &[1], &[1, 3]).await;
        assert_eq!(reminded(t, &[]).await, [(1, "UNSPECIFIED")]);
        assert_eq!(reminded(t, &[Channel::Email]).await, [(2, "CHANNEL_OFF_FOR_KIND")]);
        let shown = get(t, "pat").await;
        assert_eq!(effective(&shown, REMINDER), (vec![1], vec![1, 3]));
        assert_eq!(shown.choices[0].channels.clone().unwrap().values, [2], "it is kept as it was made");
        set_kind(t, REMINDER, &[1], &[1, 2]).await;
        assert_eq!(reminded(t, &[]).await, [(2, "UNSPECIFIED")]);
        // None at all is a choice, whatever is offered.
        choose(t, "pat", REMINDER, Some(&[])).await;
        assert_eq!(effective(&get(t, "pat").await, REMINDER).0, [] as [i32; 0]);
        assert_eq!(reminded(t, &[Channel::InApp]).await, [(1, "NOT_PREFERRED")]);
    }

    async fn what_is_pending_is_decided_on_by_the_choice_of_that_moment(t: &mut TestApp) {
        practice(t).await;
        let schedule_time = Some(t.after(TimeDelta::hours(1)));
        let every = [Channel::InApp, Channel::Email, Channel::Sms];
        let waiting = send(t, NotificationInput { schedule_time, ..reminder(t, "pat", &every) }).await;
        choose(t, "pat", REMINDER, Some(&[Channel::Email])).await;
        t.advance(TimeDelta::hours(1));
        let done = settled(t, &waiting.deliveries, ["SKIPPED", "SENT", "SKIPPED"]).await;
        assert_eq!(done.each_ref().map(skipped), ["NOT_PREFERRED", "UNSPECIFIED", "NOT_PREFERRED"]);
        assert!(done.iter().all(|one| one.attempts == i32::from(state(one) == "SENT")));
    }

    async fn where_an_opt_in_is_demanded_nothing_goes_without_one(t: &mut TestApp) {
        practice(t).await;
        set(t, PracticeSettings { opt_in_channels: vec![3], ..Default::default() }, &["opt_in_channels"]).await;
        choose(t, "pat", REMINDER, Some(&[Channel::Email, Channel::Sms])).await;
        assert_eq!(reminded(t, &[]).await, [(2, "UNSPECIFIED"), (3, "NO_CONSENT")], "a choice is no opt-in");
        for (consent, reason, shown) in [(1, "UNSPECIFIED", 2), (2, "OPTED_OUT", 3)] {
            let subject = match t.home.backend {
                crate::support::Backend::Sqlite => "x'706174'",
                crate::support::Backend::Postgres => "'\\x706174'",
            };
            t.execute(&format!(
                "INSERT INTO recipient_gate (practice_id, channel, subject_kind, subject, consent, consent_seq) \
                 VALUES ('acme', 3, 1, {subject}, {consent}, 0) \
                 ON CONFLICT (practice_id, channel, subject_kind, subject) DO UPDATE SET consent = excluded.consent"
            ))
            .await;
            assert_eq!(reminded(t, &[]).await[1], (3, reason));
            let consents = get(t, "pat").await.consents;
            assert_eq!(consents.iter().map(|it| it.state).collect::<Vec<_>>(), [1, 1, shown, 1]);
            assert!(consents.iter().all(|it| it.record.is_none()));
        }
    }

    async fn of_two_writers_who_read_the_same_one_is_told(t: &mut TestApp) {
        practice(t).await;
        let with = |etag: &str, channels: &[Channel]| UpdatePatientPreferencesRequest {
            etag: etag.into(),
            ..request("pat", vec![choice(REMINDER, Some(channels))])
        };
        let first = try_choose(t, with("0", &[Channel::Email])).await.unwrap();
        for stale in ["0", "2", "-1", "canary"] {
            let status = refused(try_choose(t, with(stale, &[Channel::Sms])).await, Code::Aborted, "ETAG_MISMATCH");
            assert_eq!(metadata(&status, "current_etag"), first.etag);
        }
        assert!(get(t, "pat").await == first);
        let second = try_choose(t, with(&first.etag, &[Channel::Sms])).await.unwrap();
        assert_eq!((second.etag.as_str(), effective(&second, REMINDER).0), ("2", vec![3]));
    }

    async fn writers_of_different_kinds_do_not_undo_each_other(t: &mut TestApp) {
        practice(t).await;
        let all = join_all((1..=9).map(|kind| choose(t, "pat", kind, Some(&[Channel::Email])))).await;
        assert_eq!(all.len(), 9);
        let shown = get(t, "pat").await;
        assert_eq!((shown.choices.len(), shown.etag.as_str()), (9, "9"));
    }
}

on_a_server! {
    sqlite:
    async fn patients_see_and_change_what_is_their_own(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "kim@example.com", "")).await;
        let of = |id: &str| Pass { patient: Some(id.into()), ..Pass::new(&[Role::Patient], &[ACME]) };
        let mut pat = t.caller_with(&t.token_of(&of("pat"))).preferences;
        let own = pat.get_patient_preferences(get_request("pat")).await.unwrap().into_inner().preferences.unwrap();
        assert_eq!(own.patient_id, "pat");
        let update = |id: &str| request(id, vec![choice(REMINDER, Some(&[Channel::Sms]))]);
        pat.update_patient_preferences(update("pat")).await.unwrap();
        let mut answers = Vec::new();
        for other in ["kim", "nobody"] {
            answers.push(pat.get_patient_preferences(get_request(other)).await.err().unwrap());
            answers.push(pat.update_patient_preferences(update(other)).await.err().unwrap());
        }
        let first = answers.first().map(|status| (status.message().to_owned(), status.details().to_vec()));
        for status in answers {
            assert_eq!(Some((status.message().to_owned(), status.details().to_vec())), first);
            refused::<()>(Err(status), Code::PermissionDenied, "SCOPE_FORBIDDEN");
        }
        assert!(get(t, "kim").await.choices.is_empty());

        // The portal stands for all of them; a service reads only.
        let mut portal = t.caller(Role::Portal).preferences;
        portal.update_patient_preferences(update("kim")).await.unwrap();
        let mut sender = t.caller(Role::Sender).preferences;
        let read = sender.get_patient_preferences(get_request("kim")).await.unwrap().into_inner().preferences.unwrap();
        assert_eq!(effective(&read, REMINDER).0, [3]);
        refused(sender.update_patient_preferences(update("kim")).await, Code::PermissionDenied, "ROLE_REQUIRED");
        for id in ["nobody", "PAT"] {
            refused(portal.get_patient_preferences(get_request(id)).await, Code::NotFound, "NOT_FOUND");
            refused(portal.update_patient_preferences(update(id)).await, Code::NotFound, "NOT_FOUND");
        }
    }

    async fn a_patient_of_another_practice_is_not_found(t: &mut TestApp) {
        practice(t).await;
        bare_practice(t, "beta").await;
        choose(t, "pat", REMINDER, Some(&[Channel::Sms])).await;
        let mut beta = t.caller_with(&token(t, Role::Staff, "beta")).preferences;
        let get = GetPatientPreferencesRequest { practice_id: "beta".into(), ..get_request("pat") };
        refused(beta.get_patient_preferences(get).await, Code::NotFound, "NOT_FOUND");
        let update = UpdatePatientPreferencesRequest {
            practice_id: "beta".into(),
            ..request("pat", vec![choice(REMINDER, None)])
        };
        refused(beta.update_patient_preferences(update.clone()).await, Code::NotFound, "NOT_FOUND");
        practice_named(t, "beta").await;
        beta.update_patient_preferences(update).await.unwrap();
        assert_eq!(self::get(t, "pat").await.choices.len(), 1);
    }

    async fn choices_with_a_fault_are_refused_with_all_of_them_and_change_nothing(t: &mut TestApp) {
        practice(t).await;
        set_kind(t, REMINDER, &[2], &[2, 3]).await;
        let before = choose(t, "pat", REMINDER, Some(&[Channel::Sms])).await;
        let raw = |kind: i32, values: &[i32]| KindChoice { kind, channels: Some(ChannelSet { values: values.into() }) };
        let cases: [(Vec<KindChoice>, &[&str]); 9] = [
            (vec![], &["choices"]),
            (vec![raw(0, &[2])], &["choices[0].kind"]),
            (vec![raw(12, &[2])], &["choices[0].kind"]),
            (vec![raw(-1, &[2])], &["choices[0].kind"]),
            (vec![raw(REMINDER, &[0, 2, 5])], &["choices[0].channels.values[0]", "choices[0].channels.values[2]"]),
            (vec![raw(REMINDER, &[2, 2])], &["choices[0].channels.values[1]"]),
            (vec![raw(SYSTEM, &[2]), raw(REMINDER, &[2]), raw(SYSTEM, &[1])], &["choices[2].kind"]),
            // What only the settings can tell is told at once as well: in-app is not offered, and push is not set up.
            (
                vec![raw(SYSTEM, &[2]), raw(REMINDER, &[1, 2, 4]), raw(2, &[4])],
                &["choices[1].channels.values[0]", "choices[1].channels.values[2]", "choices[2].channels.values[0]"],
            ),
            (vec![raw(1, &[2]); 12], &["choices"]),
        ];
        for (choices, expected) in cases {
            let many = choices.len() == 12;
            let status = refused(try_choose(t, request("pat", choices)).await, Code::InvalidArgument, "FIELD_INVALID");
            let found = fields(&status);
            assert!(found == expected || (many && found.contains(&"choices".to_owned())), "{found:?}");
        }
        let nobody = request("not an id", vec![raw(99, &[])]);
        let status = refused(try_choose(t, nobody).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["choices[0].kind", "patient_id"]);
        assert_eq!(get(t, "pat").await.encode_to_vec(), before.encode_to_vec());
    }
}

/// Not through [`on_a_server`]: what holds after other tests, that each notification has deliveries, rightly does not here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patient_who_chose_no_channel_gets_nothing_and_the_decisions_say_so() {
    let mut t = TestApp::spawn(crate::support::Backend::Sqlite).await.unwrap();
    practice(&t).await;
    choose(&t, "pat", REMINDER, Some(&[])).await;
    let sent = send(&t, reminder(&t, "pat", &[])).await;
    assert!(sent.deliveries.is_empty());
    let decisions = read(&t, &sent.notification_id, NotificationView::Full).await.decisions;
    assert_eq!(decisions.len(), 4);
    for decision in decisions {
        let last = decision.steps.last().unwrap();
        assert_eq!((decision.considered, decision.skip_reason, last.rule), (false, 3, 3));
        assert_eq!(last.detail, "Chosen by the patient: none.");
    }
    t.stop().await;
}
