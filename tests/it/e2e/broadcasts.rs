//! Broadcasts, as staff see them: what a preview says is what becomes of it, each recipient has their own words once, and whoever
//! does not get it stands in the report with the reason. That the counts add up is checked after each test.

mod refusals;
mod reports;
mod runs;
mod streams;

use std::collections::BTreeMap;

use heedwell::{
    domain::Role,
    grpc::proto::{
        Audience, Broadcast, BroadcastInput, CancelBroadcastRequest, Channel, ChannelSet, CreateBroadcastRequest,
        CreateBroadcastResponse, Delivery, DeliveryFilter, GetBroadcastRequest, KindChoice, ListDeliveriesRequest,
        Patient, PreviewBroadcastRequest, PreviewBroadcastResponse, UpdatePatientPreferencesRequest,
        WatchBroadcastRequest,
        audience::{AllPatients, PatientIds, Selection, Tags},
        broadcast::State,
    },
    sandbox::Entry,
};
use tokio::time::timeout;
use tonic::Status;

use super::{
    given::{new_key, patient, practice, put_patient},
    seen::{skipped, state},
};
use crate::support::app::{ACME, LIMIT, TestApp};

const BOTH: [Channel; 2] = [Channel::Email, Channel::Sms];

fn all() -> Selection {
    Selection::All(AllPatients {})
}

fn named(ids: &[&str]) -> Selection {
    Selection::PatientIds(PatientIds { values: ids.iter().map(|&id| id.into()).collect() })
}

fn tagged(tags: &[&str]) -> Selection {
    Selection::Tags(Tags { values: tags.iter().map(|&tag| tag.into()).collect() })
}

/// An announcement to them over these channels.
fn input(selection: Selection, channels: &[Channel]) -> BroadcastInput {
    BroadcastInput {
        title: "Closed on Friday".into(),
        audience: Some(Audience { selection: Some(selection) }),
        channels: channels.iter().map(|&channel| channel.into()).collect(),
        subject: "{{practice_name}} is closed on Friday".into(),
        body: "Dear {{first_name}},\n\nwe are closed on Friday. Questions: {{practice_phone}}".into(),
        schedule_time: None,
    }
}

async fn try_preview(t: &TestApp, input: BroadcastInput, sample: &str) -> Result<PreviewBroadcastResponse, Status> {
    let request =
        PreviewBroadcastRequest { practice_id: ACME.into(), broadcast: Some(input), sample_patient_id: sample.into() };
    Ok(t.caller(Role::Staff).broadcasts.preview_broadcast(request).await?.into_inner())
}

async fn preview(t: &TestApp, input: BroadcastInput) -> PreviewBroadcastResponse {
    try_preview(t, input, "").await.unwrap()
}

fn request(key: &str, input: BroadcastInput, expected: i64) -> CreateBroadcastRequest {
    CreateBroadcastRequest {
        practice_id: ACME.into(),
        request_id: key.into(),
        broadcast: Some(input),
        expected_recipients: expected,
    }
}

async fn try_create(t: &TestApp, request: CreateBroadcastRequest) -> Result<CreateBroadcastResponse, Status> {
    Ok(t.caller(Role::PracticeAdmin).broadcasts.create_broadcast(request).await?.into_inner())
}

/// Previews and sends.
async fn create(t: &TestApp, input: BroadcastInput) -> Broadcast {
    let expected = preview(t, input.clone()).await.recipient_count;
    let created = try_create(t, request(&new_key(), input, expected)).await.unwrap();
    assert!(!created.replayed);
    created.broadcast.unwrap()
}

async fn get(t: &TestApp, id: &str) -> Broadcast {
    let request = GetBroadcastRequest { practice_id: ACME.into(), broadcast_id: id.into() };
    t.caller(Role::Staff).broadcasts.get_broadcast(request).await.unwrap().into_inner().broadcast.unwrap()
}

async fn cancel(t: &TestApp, id: &str) -> Broadcast {
    let request = CancelBroadcastRequest { practice_id: ACME.into(), broadcast_id: id.into() };
    t.caller(Role::PracticeAdmin).broadcasts.cancel_broadcast(request).await.unwrap().into_inner().broadcast.unwrap()
}

/// Watches until `wanted` holds, and yields the broadcast as it was then.
async fn until(t: &TestApp, id: &str, wanted: impl Fn(&Broadcast) -> bool) -> Broadcast {
    let request = WatchBroadcastRequest { practice_id: ACME.into(), broadcast_id: id.into() };
    let mut steps = t.caller(Role::Staff).broadcasts.watch_broadcast(request).await.unwrap().into_inner();
    let seen = async {
        loop {
            let step = steps.message().await.unwrap().expect("the watch goes on");
            let broadcast = step.broadcast.unwrap();
            if wanted(&broadcast) {
                return broadcast;
            }
        }
    };
    timeout(LIMIT, seen).await.expect("seen in time")
}

/// Waits until nothing is pending any more.
async fn over(t: &TestApp, id: &str) -> Broadcast {
    until(t, id, |broadcast| broadcast.complete_time.is_some()).await
}

/// Waits until so many are in none of the states that may still change by themselves here.
async fn settled(t: &TestApp, id: &str, delivered: i64) -> Broadcast {
    until(t, id, |broadcast| broadcast.counts.as_ref().is_some_and(|counts| counts.delivered == delivered)).await
}

/// Pending, unconfirmed, sent, delivered, failed, skipped, cancelled.
fn counts(broadcast: &Broadcast) -> [i64; 7] {
    let counts = broadcast.counts.as_ref().unwrap();
    [counts.pending, counts.unconfirmed, counts.sent, counts.delivered, counts.failed, counts.skipped, counts.cancelled]
}

/// The whole report, page by page.
async fn report(t: &TestApp, id: &str) -> Vec<Delivery> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListDeliveriesRequest {
            practice_id: ACME.into(),
            filter: Some(DeliveryFilter { broadcast_id: id.into(), ..Default::default() }),
            page_size: 7,
            page_token,
            ..Default::default()
        };
        let page = t.staff().list_deliveries(request).await.unwrap().into_inner();
        all.extend(page.deliveries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

/// What became of each recipient on a channel: the reason of a skip, else the state.
async fn fates(t: &TestApp, id: &str, channel: Channel) -> BTreeMap<String, &'static str> {
    let of_it = report(t, id).await.into_iter().filter(|it| it.channel() == channel);
    of_it
        .map(|it| {
            let fate = if state(&it) == "SKIPPED" { skipped(&it) } else { state(&it) };
            (it.patient_id, fate)
        })
        .collect()
}

/// Acme with patients of every sort besides `pat`: two who share a number, and some who do not get it for one reason or another.
async fn family(t: &TestApp) {
    practice(t).await;
    let named = |id: &str, name: &str, email: &str, phone: &str| Patient {
        first_name: name.into(),
        ..patient(id, email, phone)
    };
    for one in [
        named("ann", "Ann", "ann@example.com", "+12025550150"),
        named("ben", "Ben", "ben@example.com", "+12025550150"),
        named("cat", "Cat", "cat@example.com", "+12025550151"),
        Patient { portal_enabled: false, ..named("dan", "Dan", "", "") },
        Patient { inactive: true, ..named("eve", "Eve", "eve@example.com", "+12025550152") },
        named("fay", "Fay", "fay@example.com", "+12025550153"),
        named("gus", "Gus", "", "+18765550154"),
    ] {
        put_patient(t, ACME, one).await;
    }
    let no_text = super::consent::decision(Channel::Sms, heedwell::grpc::proto::ConsentState::OptedOut);
    let no_text = heedwell::grpc::proto::RecordConsentRequest { patient_id: "cat".into(), ..no_text };
    super::consent::record(&mut t.caller(Role::Staff), no_text).await.unwrap();
    let choice = UpdatePatientPreferencesRequest {
        practice_id: ACME.into(),
        patient_id: "fay".into(),
        choices: vec![KindChoice { kind: 10, channels: Some(ChannelSet { values: vec![Channel::Email.into()] }) }],
        etag: String::new(),
    };
    t.caller(Role::Portal).preferences.update_patient_preferences(choice).await.unwrap();
}

/// So many patients with numbers of their own, besides `pat`, who are tagged.
async fn crowd(t: &TestApp, count: usize) {
    let one = |n: usize| Patient {
        tags: vec!["crowd".into()],
        ..patient(&format!("p{n:03}"), "", &format!("+1202555{:04}", 2000 + n))
    };
    let patients = (0..count).map(one).collect();
    let request = heedwell::grpc::proto::BatchPutPatientsRequest { practice_id: ACME.into(), patients };
    t.caller(Role::Directory).directory.batch_put_patients(request).await.unwrap();
}

fn is(broadcast: &Broadcast, state: State) -> bool {
    broadcast.state() == state
}

/// How many texts Twilio took for the first so many of the crowd.
fn texts_of(t: &TestApp, count: usize) -> usize {
    let numbers: std::collections::BTreeSet<_> = (0..count).map(|n| format!("+1202555{:04}", 2000 + n)).collect();
    let taken = t.sandbox.journal().entries().into_iter();
    taken.filter(|entry| matches!(entry, Entry::TwilioCreate { to, .. } if numbers.contains(to))).count()
}
