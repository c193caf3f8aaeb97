//! What the tests of the store begin with: two practices that are set up, a patient in each, and orders.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use heedwell::{
    crypto::new_id,
    domain::{
        Channel, ChannelSet, Class, Content, Decision, Delivery, DeliveryEvent, DeliveryId, EmailAddress,
        EmailProvider, EmailSettings, Facts, FailureReason, Grounds, Kind, Look, NotificationId, Patient, Phi,
        PhoneNumber, Practice, PracticeId, PracticeSettings, Scope, SmsSender, SmsSettings, SmtpSecurity, SmtpSettings,
        Source, Verdict,
    },
    store::{
        Accepted, Applied, Asked, CLASSES, Claimed, Doubt, Leave, NewDelivery, NewLink, NewNotification,
        NotificationRecord, Receipt, Settlement, Turn,
    },
};
use uuid::Uuid;

use crate::support::TestStore;

/// The practice of most tests.
pub(super) const NORTH: &str = "north";
/// Its neighbour, with the same patients.
pub(super) const SOUTH: &str = "south";

pub(super) fn practice(name: &str) -> Practice {
    Practice {
        legal_name: format!("{name} Primary Care, PLLC"),
        display_name: format!("{name} Primary Care"),
        phone: Some(phone("+12025550100")),
        time_zone: "America/New_York".parse().unwrap(),
        locale: "en-US".into(),
        portal_url: Some("https://portal.example.com/".into()),
        postal_address: "500 Elm Street".into(),
    }
}

pub(super) fn settings() -> PracticeSettings {
    PracticeSettings {
        sms: SmsSettings {
            account_sid: "AC00000000000000000000000000000001".into(),
            auth_token: Some("twilio-auth-token".to_owned().into()),
            sender: Some(SmsSender::Number(phone("+12025550199"))),
            ..SmsSettings::default()
        },
        email: EmailSettings {
            provider: Some(EmailProvider::Smtp(SmtpSettings {
                host: "relay.example.com".into(),
                port: 587,
                security: Some(SmtpSecurity::StartTls),
                username: "north".into(),
                password: Some("relay-password".to_owned().into()),
            })),
            from_address: Some(email("hello@north.example.com")),
            ..EmailSettings::default()
        },
        ..PracticeSettings::default()
    }
}

pub(crate) fn phone(text: &str) -> PhoneNumber {
    PhoneNumber::parse(text, "US").unwrap()
}

pub(super) fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

pub(crate) fn patient(id: &str) -> Patient {
    Patient {
        id: id.parse().unwrap(),
        first_name: Phi::new("Maria".into()),
        last_name: Phi::new("Lopez".into()),
        email: Some(email(&format!("{id}@example.com"))),
        mobile_phone: Some(phone("+12025550142")),
        locale: None,
        time_zone: None,
        portal_enabled: true,
        inactive: false,
        tags: BTreeSet::new(),
    }
}

/// Stores a practice that can send over every channel, with patient `maria`.
pub(crate) async fn ready_practice(t: &TestStore, id: &str) -> Scope {
    let scope = t.scope(id);
    t.store.practice_put(&scope, practice(id), None).await.unwrap();
    t.store.settings_put(&scope, settings(), 0).await.unwrap();
    t.store.patients_put(&scope, vec![patient("maria")]).await.unwrap();
    scope
}

/// A request, as the service would prepare it.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) request_id: String,
    pub(crate) patient: &'static str,
    pub(crate) kind: Kind,
    pub(crate) channels: ChannelSet,
    pub(crate) urgent: bool,
    pub(crate) security: bool,
    pub(crate) reference: String,
    pub(crate) text: String,
    pub(crate) schedule_time: Option<DateTime<Utc>>,
    pub(crate) lasts: TimeDelta,
    pub(crate) default_expiry: bool,
    pub(crate) visit_time: Option<DateTime<Utc>>,
    pub(crate) links: Vec<NewLink>,
}

impl Order {
    /// A reminder to `maria` over `channels`, to go at once.
    pub(crate) fn new(request_id: &str, channels: &[Channel]) -> Self {
        Self {
            request_id: request_id.into(),
            patient: "maria",
            kind: Kind::AppointmentReminder,
            channels: channels.iter().copied().collect(),
            urgent: false,
            security: false,
            reference: String::new(),
            text: "Your visit is tomorrow at 9.".into(),
            schedule_time: None,
            lasts: TimeDelta::hours(12),
            default_expiry: true,
            visit_time: None,
            links: Vec::new(),
        }
    }

    /// Decides and renders.
    pub(crate) async fn prepare(&self, t: &TestStore, scope: &Scope) -> NewNotification {
        let row = t.store.grounds(scope, &self.patient.parse().unwrap()).await.unwrap();
        let not_before = self.schedule_time.unwrap_or(row.now);
        let expire_time = not_before + self.lasts;
        let grounds = Grounds {
            requested: Some(self.channels),
            urgent: self.urgent,
            not_before,
            expires_at: expire_time,
            ..row.grounds(self.kind)
        };
        let decisions: Vec<Decision> = Channel::ALL.into_iter().map(|channel| grounds.decide(channel)).collect();
        let considered = decisions.iter().filter(|decision| decision.considered);
        let deliveries = considered.map(|decision| self.delivery(decision, row.now)).collect();
        NewNotification {
            id: NotificationId(new_id(row.now)),
            request_id: self.request_id.clone(),
            fingerprint: [7; 32],
            patient: row.patient,
            kind: self.kind,
            reference: self.reference.clone(),
            urgent: self.urgent,
            security: self.security,
            requested: Some(self.channels),
            schedule_time: self.schedule_time,
            expire_time,
            default_expiry: self.default_expiry,
            visit_time: self.visit_time,
            decisions,
            deliveries,
            links: self.links.clone(),
            broadcast: None,
        }
    }

    fn delivery(&self, decision: &Decision, now: DateTime<Utc>) -> NewDelivery {
        let content = Content {
            subject: Phi::new("Appointment reminder".into()),
            text: Phi::new(self.text.clone()),
            link: Phi::default(),
            html: Phi::new(format!("<p>{}</p>", self.text)),
            sms_segments: 1,
            sms_gsm7: true,
            template_key: "builtin/appointment_reminder".into(),
            template_version: 0,
        };
        NewDelivery {
            id: DeliveryId(new_id(now)),
            channel: decision.channel,
            content: decision.uses().then_some(content),
            over: None,
        }
    }

    /// Prepares and accepts.
    pub(super) async fn accept(&self, t: &TestStore, scope: &Scope) -> NotificationRecord {
        match t.store.notification_accept(scope, self.prepare(t, scope).await).await.unwrap() {
            Accepted::New(record) => record,
            other => panic!("not accepted anew: {other:?}"),
        }
    }
}

/// What a key made before: by the same request, or (`Err`) by another one.
pub(super) async fn known(
    t: &TestStore,
    scope: &Scope,
    request_id: &str,
    fingerprint: [u8; 32],
) -> Option<Result<NotificationId, NotificationId>> {
    match t.store.notification_prior(scope, request_id, &fingerprint).await.unwrap()? {
        Accepted::Replayed(record) => Some(Ok(record.id)),
        Accepted::KeyReused(id) => Some(Err(id)),
        Accepted::New(_) => panic!("nothing is accepted by asking"),
    }
}

/// Accepts a text message that is due at once, and claims it.
pub(super) async fn claimed(t: &TestStore, scope: &Scope, request_id: &str, channel: Channel) -> Claimed {
    Order::new(request_id, &[channel]).accept(t, scope).await;
    claim_one(t, scope).await
}

/// Claims what is due, which must be one delivery.
pub(super) async fn claim_one(t: &TestStore, scope: &Scope) -> Claimed {
    let mut claimed = claim(t, scope, 10).await;
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

pub(super) async fn claim(t: &TestStore, scope: &Scope, limit: u64) -> Vec<Claimed> {
    claim_as(t, scope, Uuid::from_u128(1), limit).await.0
}

/// Claims in the name of a worker, class by class. Also says how many deliveries were looked at.
pub(super) async fn claim_as(t: &TestStore, scope: &Scope, worker: Uuid, limit: u64) -> (Vec<Claimed>, u64) {
    let (mut claimed, mut seen) = (Vec::new(), 0);
    for &class in Class::ALL {
        let turn = Turn { worker, practice: scope.practice().clone(), class, limit: limit - seen, mark: None };
        let taken = t.store.claim(&t.engine, turn, |_| Leave::Now).await.unwrap();
        claimed.extend(taken.claimed);
        seen += taken.seen;
    }
    (claimed, seen)
}

/// The practices that have something due.
pub(super) async fn practices_due(t: &TestStore) -> Vec<PracticeId> {
    let practices = t.store.practices_open(&t.engine, None).await.unwrap();
    let asked: Vec<_> = practices.into_iter().map(|practice| Asked { practice, marks: [None; CLASSES] }).collect();
    let mut due = t.store.practices_due(&t.engine, &asked).await.unwrap();
    due.dedup_by(|one, other| one.0 == other.0);
    due.into_iter().map(|(practice, _)| practice).collect()
}

/// How an attempt ended.
pub(crate) fn settlement(claimed: &Claimed, verdict: Verdict) -> Settlement {
    Settlement {
        practice: claimed.practice.clone(),
        id: claimed.id,
        epoch: claimed.epoch,
        attempt: claimed.attempt,
        verdict,
        gone: Vec::new(),
        random: 0.5,
    }
}

pub(super) async fn settle(t: &TestStore, claimed: &Claimed, verdict: Verdict) {
    t.store.settle(&t.engine, settlement(claimed, verdict)).await.unwrap();
}

/// Settles all at once.
pub(super) async fn settle_all(t: &TestStore, ended: Vec<Settlement>) {
    for settled in join_all(ended.into_iter().map(|one| t.store.settle(&t.engine, one))).await {
        settled.unwrap();
    }
}

pub(crate) fn accepted(provider_ref: &str) -> Verdict {
    Verdict::Accepted { provider_ref: Some(provider_ref.into()), status: "queued".into(), sms_segments: Some(1) }
}

pub(crate) fn unknown() -> Verdict {
    Verdict::Unknown { code: "timeout".into() }
}

/// What Twilio reports of a message.
pub(crate) fn receipt(claimed: &Claimed, facts: Facts) -> Receipt {
    let lost = facts.any(Facts::UNDELIVERED);
    Receipt {
        token: claimed.token,
        provider_ref: claimed.callback_token(),
        facts,
        status: "status".into(),
        code: if lost { "30003".into() } else { String::new() },
        failure: lost.then_some(FailureReason::Unreachable),
    }
}

pub(super) async fn report(t: &TestStore, scope: &Scope, claimed: &Claimed, facts: Facts) {
    assert_eq!(t.store.receipt_apply(scope, receipt(claimed, facts)).await.unwrap(), Applied::New);
}

/// The last line of a delivery's timeline.
pub(super) async fn last_line(t: &TestStore, scope: &Scope, delivery: &Delivery) -> DeliveryEvent {
    let Source::Notification(id) = delivery.source else { panic!("it belongs to a notification") };
    let detail = t.store.notification_detail(scope, id, false).await.unwrap();
    let place = detail.record.deliveries.iter().position(|it| it.id == delivery.id).unwrap();
    detail.details[place].0.last().unwrap().clone()
}

/// Takes both looks at the only doubt there is; each finds the same.
pub(super) async fn look_twice(t: &TestStore, look: &Look) {
    for _ in 0..2 {
        t.advance(150);
        let mut doubts = t.store.doubts_due(&t.engine, 10).await.unwrap();
        assert_eq!(doubts.len(), 1);
        t.store.doubt_settle(&t.engine, &doubts.remove(0), look.clone(), Facts::NONE, 0.0).await.unwrap();
    }
}

/// A text that was presumed absent, sent again, and is in doubt once more: its first claim, and the doubt of the second.
pub(super) async fn doubted_again(t: &TestStore, scope: &Scope) -> (Claimed, Doubt) {
    let first = claimed(t, scope, "r1", Channel::Sms).await;
    settle(t, &first, unknown()).await;
    look_twice(t, &Look::Absent).await;
    let second = claim_one(t, scope).await;
    settle(t, &second, unknown()).await;
    t.advance(20);
    (first, t.store.doubts_due(&t.engine, 10).await.unwrap().remove(0))
}

/// A delivery as it is now.
pub(super) async fn delivery(t: &TestStore, scope: &Scope, id: DeliveryId) -> Delivery {
    let page = t.store.deliveries_list(scope, &Default::default(), (None, None), None, 1000).await.unwrap();
    page.deliveries.into_iter().find(|delivery| delivery.id == id).unwrap()
}

/// Everything that the feed of a practice holds after `position`, as delivery and state.
pub(super) async fn changes(t: &TestStore, scope: &Scope, position: i64) -> Vec<Delivery> {
    let page = t.store.feed_read_after(scope, position, 1000).await.unwrap();
    page.changes.into_iter().map(|change| change.delivery).collect()
}
