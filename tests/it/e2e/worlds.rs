//! Random worlds: what a preview says is what a send then does, in each of them, by the same rules and for the same reasons. A
//! failure prints its world.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        ChannelSet, KindChannels, KindChoice, NotificationInput, NotificationView, Patient, PracticeSettings,
        QuietHours, RenderedContent, TimeOfDay, UpdatePatientPreferencesRequest, UpdatePracticeSettingsRequest,
        notification_input::Priority, preview_notification_response::ChannelPreview,
    },
};
use proptest::{prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use prost::Message;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tonic::Status;

use super::{
    given::{all_settings, mask, new_key, patient, payloads, practice, put_patient, try_send},
    preview::preview,
    seen::{fields, read, time},
};
use crate::support::app::{ACME, TestApp};

/// So many on each database.
const WORLDS: usize = 150;

/// By their numbers, since enums of the contract cannot be printed.
type Channels = Vec<i32>;

const EVERY: [i32; 4] = [1, 2, 3, 4];

/// Everything that a decision can rest on.
#[derive(Clone, Debug)]
struct World {
    kind: i32,
    default: Channels,
    offered: Option<Channels>,
    set_up: (bool, bool),
    phi_permitted: Option<bool>,
    opt_in: Channels,
    quiet: Option<((i32, i32), (i32, i32))>,
    person: Person,
    choice: Option<Channels>,
    /// Channel, whether of the address, what is on record, and whether it is dead.
    gates: Vec<(i32, bool, i16, bool)>,
    requested: Channels,
    urgent: bool,
    schedule: Option<i64>,
    expire: Option<i64>,
    words: bool,
    /// Since the world before.
    minutes: i64,
}

#[derive(Clone, Debug)]
struct Person {
    email: bool,
    phone: Option<u32>,
    abroad: bool,
    portal: bool,
    inactive: bool,
    zone: &'static str,
}

fn channels() -> impl Strategy<Value = Channels> {
    proptest::sample::subsequence(EVERY.to_vec(), 0..=4)
}

/// `Some` three times out of four: what matters is seldom unset.
fn often<T: Clone + std::fmt::Debug>(of: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.75, of)
}

fn person() -> impl Strategy<Value = Person> {
    let zone = select(vec!["", "America/Los_Angeles", "Pacific/Honolulu", "America/Chicago", "Europe/London"]);
    let rarely = || prop::bool::weighted(0.15);
    let now_and_then = prop::bool::weighted(0.3);
    (prop::bool::weighted(0.8), often(2_000_u32..9_000), now_and_then, prop::bool::weighted(0.8), rarely(), zone)
        .prop_map(|(email, phone, abroad, portal, inactive, zone)| Person {
            email,
            phone,
            abroad,
            portal,
            inactive,
            zone,
        })
}

fn world() -> impl Strategy<Value = World> {
    let time = || (0..24, select(vec![0, 15, 30, 59]));
    let quiet = often((time(), time()).prop_filter("nothing would ever go", |(start, end)| start != end));
    let gate = (select(EVERY.to_vec()), any::<bool>(), 0_i16..=2, any::<bool>());
    let practice = (
        1..=9,
        channels(),
        prop::option::of(channels()),
        any::<(bool, bool)>(),
        any::<Option<bool>>(),
        channels(),
        quiet,
    );
    let who = (person(), prop::option::of(channels()), prop::collection::vec(gate, 0..4));
    let asked = (
        prop_oneof![Just(Vec::new()), channels()],
        prop::bool::weighted(0.2),
        prop::option::of(1_i64..2_000),
        prop::option::of(1_i64..3_000),
        any::<bool>(),
        0_i64..400,
    );
    (practice, who, asked).prop_map(|(practice, (person, choice, gates), asked)| {
        let (kind, default, offered, set_up, phi_permitted, opt_in, quiet) = practice;
        let (requested, urgent, schedule, expire, words, minutes) = asked;
        // An offer holds the default, and so is not empty unless that is.
        let offered = offered
            .map(|more: Channels| EVERY.into_iter().filter(|it| default.contains(it) || more.contains(it)).collect());
        // Half of the worlds demand nothing.
        let opt_in = if words { opt_in } else { Vec::new() };
        World {
            kind,
            default,
            offered,
            set_up,
            phi_permitted,
            opt_in,
            quiet,
            person,
            choice,
            gates,
            requested,
            urgent,
            schedule,
            expire,
            words,
            minutes,
        }
    })
}

impl World {
    /// Makes it so, with a patient of its own.
    async fn make(&self, t: &TestApp, raw: &DatabaseConnection, id: &str) {
        // Everything may be chosen while the choice is made; what is left of it then is for the decision to say.
        self.set(
            t,
            &["kind_channels", "sms", "email"],
            KindChannels { kind: self.kind, channels: vec![], offered_channels: vec![1, 2, 3, 4] },
        )
        .await;
        let Person { email, phone, abroad, portal, inactive, zone } = self.person.clone();
        let mail = if email { format!("{id}@example.com") } else { String::new() };
        let phone = phone.map_or_else(String::new, |end| format!("+1{}555{end}", if abroad { "876" } else { "202" }));
        let person = Patient { portal_enabled: portal, inactive, time_zone: zone.into(), ..patient(id, &mail, &phone) };
        put_patient(t, ACME, person).await;
        if let Some(choice) = &self.choice {
            let update = UpdatePatientPreferencesRequest {
                practice_id: ACME.into(),
                patient_id: id.into(),
                choices: vec![KindChoice { kind: self.kind, channels: Some(ChannelSet { values: choice.clone() }) }],
                etag: String::new(),
            };
            t.caller(Role::Portal).preferences.update_patient_preferences(update).await.unwrap();
        }
        for gate in &self.gates {
            close(raw, id, *gate).await;
        }
        let offered = self.offered.clone().unwrap_or_default();
        let kind = KindChannels { kind: self.kind, channels: self.default.clone(), offered_channels: offered };
        self.set(
            t,
            &[
                "kind_channels",
                "opt_in_channels",
                "quiet_hours",
                "sms.account_sid",
                "email.from_address",
                "email.phi_permitted",
            ],
            kind,
        )
        .await;
    }

    async fn set(&self, t: &TestApp, paths: &[&str], kind: KindChannels) {
        let at = |(hours, minutes)| Some(TimeOfDay { hours, minutes });
        let mut settings = PracticeSettings {
            kind_channels: vec![kind],
            opt_in_channels: self.opt_in.clone(),
            quiet_hours: self.quiet.map(|(start, end)| QuietHours { start: at(start), end: at(end) }),
            ..all_settings(t)
        };
        let whole = paths.contains(&"sms");
        if let Some(sms) = settings.sms.as_mut().filter(|_| !whole && !self.set_up.0) {
            sms.account_sid.clear();
        }
        if let Some(email) = settings.email.as_mut().filter(|_| !whole) {
            email.phi_permitted = self.phi_permitted;
            if !self.set_up.1 {
                email.from_address.clear();
            }
        }
        let update = UpdatePracticeSettingsRequest {
            practice_id: ACME.into(),
            settings: Some(settings),
            update_mask: Some(mask(paths)),
        };
        t.caller(Role::PracticeAdmin).preferences.update_practice_settings(update).await.unwrap();
    }

    fn input(&self, t: &TestApp, id: &str) -> NotificationInput {
        let payloads = payloads(t);
        NotificationInput {
            patient_id: id.into(),
            payload: payloads.into_iter().nth(usize::try_from(self.kind - 1).unwrap()),
            custom_content: if self.words { "Bring your card.".into() } else { String::new() },
            channels: self.requested.clone(),
            schedule_time: self.schedule.map(|minutes| t.after(TimeDelta::minutes(minutes))),
            expire_time: self.expire.map(|minutes| t.after(TimeDelta::minutes(minutes))),
            priority: if self.urgent { Priority::Urgent } else { Priority::Normal }.into(),
            reference: String::new(),
        }
    }
}

/// Writes a gate as whoever records consent, or a bounce, would.
async fn close(raw: &DatabaseConnection, id: &str, (channel, of_address, consent, dead): (i32, bool, i16, bool)) {
    let (subject, kind) = match (of_address, channel) {
        (true, 2) => ("email_bi", 2),
        (true, 3) => ("phone_bi", 2),
        _ => (
            if raw.get_database_backend() == sea_orm::DbBackend::Sqlite {
                "CAST(patient_id AS BLOB)"
            } else {
                "convert_to(patient_id, 'UTF8')"
            },
            1,
        ),
    };
    let blocked = if dead && kind == 2 { "'2026-03-02 00:00:00+00:00', 1" } else { "NULL, NULL" };
    let write = format!(
        "INSERT INTO recipient_gate (practice_id, channel, subject_kind, subject, consent, consent_seq, blocked_at, block_reason) \
         SELECT practice_id, {channel}, {kind}, {subject}, {consent}, 0, {blocked} FROM patient \
         WHERE practice_id = 'acme' AND patient_id = '{id}' AND {subject} IS NOT NULL \
         ON CONFLICT (practice_id, channel, subject_kind, subject) DO UPDATE SET consent = excluded.consent"
    );
    raw.execute_raw(Statement::from_string(raw.get_database_backend(), write)).await.unwrap();
}

/// The text without the tokens of its addresses: a preview has such that open nothing, as long as real ones.
fn without_tokens(content: &RenderedContent) -> RenderedContent {
    let is_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mask = |text: &str| {
        let mut masked = String::new();
        let mut rest = text;
        while let Some(place) = ["/l/", "/u/"].iter().filter_map(|way| rest.find(way)).min() {
            let (before, token) = rest.split_at(place + 3);
            let length = token.find(|c| !is_token(c)).unwrap_or(token.len());
            masked.push_str(before);
            masked.push_str(&"A".repeat(length));
            rest = &token[length..];
        }
        masked + rest
    };
    RenderedContent { text: mask(&content.text), html: mask(&content.html), ..content.clone() }
}

/// Sends what was previewed, and compares: decisions with their traces, deliveries, and texts.
async fn compare(t: &TestApp, said: Result<Vec<ChannelPreview>, Status>, input: NotificationInput) -> Vec<i32> {
    let sent = try_send(t, &new_key(), input).await;
    let (said, sent) = match (said, sent) {
        (Ok(said), Ok(sent)) => (said, sent.notification.unwrap()),
        (Err(said), Err(sent)) => {
            assert_eq!((said.code(), fields(&said)), (sent.code(), fields(&sent)));
            return Vec::new();
        }
        (said, sent) => panic!("preview: {:?}, send: {:?}", said.err(), sent.err()),
    };
    let full = read(t, &sent.notification_id, NotificationView::Full).await;
    assert_eq!((said.len(), full.decisions.len()), (4, 4));
    for (said, made) in said.iter().zip(&full.decisions) {
        assert_eq!(said.decision.as_ref().unwrap().encode_to_vec(), made.encode_to_vec());
    }
    let considered = said.iter().filter(|said| said.decision.as_ref().unwrap().considered);
    assert_eq!(considered.clone().count(), sent.deliveries.len());
    for ((said, delivery), detail) in considered.zip(&sent.deliveries).zip(&full.details) {
        let decision = said.decision.as_ref().unwrap();
        assert_eq!((decision.channel, decision.skip_reason), (delivery.channel, delivery.skip_reason));
        assert_eq!(said.address_hint, delivery.address_hint);
        if let Some(next) = time(delivery.next_action_time) {
            assert_eq!(time(decision.attempt_time), Some(next));
        }
        match &detail.content {
            Some(made) => {
                assert_eq!(
                    without_tokens(said.content.as_ref().unwrap()).encode_to_vec(),
                    without_tokens(made).encode_to_vec()
                )
            }
            None => assert_ne!(decision.skip_reason, 0),
        }
    }
    said.iter().map(|said| said.decision.as_ref().unwrap().skip_reason).collect()
}

/// Whoever previews and sends at the same moment is told the same.
async fn worlds(t: &mut TestApp) {
    practice(t).await;
    let raw = t.home.raw().await;
    let mut runner = TestRunner::default();
    let mut reasons = std::collections::BTreeMap::<i32, usize>::new();
    for number in 0..WORLDS {
        let world = world().new_tree(&mut runner).unwrap().current();
        let id = format!("patient-{number}");
        let shown = PrintedOnPanic(&world);
        t.advance(TimeDelta::minutes(world.minutes));
        world.make(t, &raw, &id).await;
        let said = preview(t, world.input(t, &id)).await;
        for reason in compare(t, said, world.input(t, &id)).await {
            *reasons.entry(reason).or_default() += 1;
        }
        drop(shown);
    }
    raw.close().await.unwrap();
    // The worlds differ: of the eleven answers that a single notification can get, nearly all were given.
    assert!(reasons.len() >= 9 && reasons.contains_key(&0), "{reasons:?}");
}

struct PrintedOnPanic<'a>(&'a World);

impl Drop for PrintedOnPanic<'_> {
    #[expect(clippy::print_stderr, reason = "a failure has to be repeatable")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}", self.0);
        }
    }
}

/// Not through [`on_a_server`]: what holds after other tests, that each notification has deliveries, rightly does not here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_says_what_a_send_then_does_sqlite() {
    let Some(mut t) = TestApp::spawn(crate::support::Backend::Sqlite).await else { return };
    worlds(&mut t).await;
    t.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_says_what_a_send_then_does_postgres() {
    let Some(mut t) = TestApp::spawn(crate::support::Backend::Postgres).await else { return };
    worlds(&mut t).await;
    t.stop().await;
}
