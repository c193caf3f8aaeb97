//! From an order to what is stored: the checks that want the clock or the settings, the decisions, the texts.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Notify, Order};
use crate::{
    crypto,
    domain::{
        Channel, Decision, DeliveryId, Expiry, Grounds, NotificationId, Payload, Priority, SecureLink,
        template::{self, RenderError, Rendering},
    },
    service::{Error, Violation},
    store::{GroundsRow, NewDelivery, NewLink, NewNotification},
};

/// Longest time ahead for which a notification may be scheduled.
const FARTHEST_SCHEDULE: TimeDelta = TimeDelta::days(400);
/// How long a secure link opens unless the caller says otherwise.
const DEFAULT_LINK_LIFE: TimeDelta = TimeDelta::days(14);

impl Notify {
    /// What is stored of an order that can be met: decided on, rendered, and nothing written yet.
    pub(super) async fn prepare(
        &self,
        order: Order,
        grounds: GroundsRow,
        fingerprint: [u8; 32],
    ) -> Result<NewNotification, Error> {
        let now = grounds.now;
        let violations: Vec<_> = check_times(&order, now).into_iter().chain(check_link(&order, &grounds)).collect();
        if !violations.is_empty() {
            return Err(Error::FieldInvalid(violations));
        }
        let not_before = first_time(&order, now);
        let visit_time = visit_time(&order.payload);
        let expire_time = Expiry { asked: order.expire_time, visit_time, share: false }.of(not_before);
        let decisions: Vec<Decision> = Channel::ALL
            .into_iter()
            .map(|channel| decide(&order, &grounds, channel, not_before, expire_time))
            .collect();
        let (link, links) = self.link(&order, not_before);
        // The mail has its id before it is rendered: the link in it names it.
        let mail = DeliveryId(crypto::new_id(self.clock.now()));
        let unsubscribe = format!("{}/u/{}", self.public_url, self.store.unsubscribe_token(mail));
        let id = NotificationId(crypto::new_id(self.clock.now()));
        let considered: Vec<_> = decisions.iter().filter(|decision| decision.considered).cloned().collect();
        let used: Vec<Channel> = considered.iter().filter(|decision| decision.uses()).map(|it| it.channel).collect();
        // Rendering is bounded, but it is work: it does not belong on a thread that serves connections.
        let rendered = tokio::task::spawn_blocking(move || {
            let contents: Result<Vec<_>, _> = used
                .into_iter()
                .map(|channel| Ok((channel, render(&order, &grounds, channel, (link.as_deref(), &unsubscribe))?)))
                .collect();
            contents.map(|contents| (order, grounds, contents))
        });
        let (order, grounds, mut contents) =
            rendered.await.map_err(|error| Error::Internal(error.into()))?.map_err(unrenderable)?;
        let deliveries = considered.iter().map(|decision| NewDelivery {
            id: match decision.channel {
                Channel::Email => mail,
                _ => DeliveryId(crypto::new_id(self.clock.now())),
            },
            channel: decision.channel,
            content: contents
                .iter_mut()
                .find(|(channel, _)| *channel == decision.channel)
                .map(|(_, content)| std::mem::take(content)),
        });
        Ok(NewNotification {
            id,
            request_id: order.request_id,
            fingerprint,
            deliveries: deliveries.collect(),
            kind: order.payload.kind(),
            security: matches!(&order.payload, Payload::System(notice) if notice.security),
            patient: grounds.patient,
            reference: order.reference,
            urgent: order.priority == Priority::Urgent,
            requested: order.channels,
            schedule_time: order.schedule_time,
            expire_time,
            default_expiry: order.expire_time.is_none(),
            visit_time,
            decisions,
            links,
        })
    }

    /// The short address that stands for the sender's link, and what is kept of it.
    fn link(&self, order: &Order, not_before: DateTime<Utc>) -> (Option<String>, Vec<NewLink>) {
        let Some(SecureLink { target_url, ttl, max_opens }) = order.payload.link() else { return (None, Vec::new()) };
        let token = crypto::random_token();
        let new = NewLink {
            token_digest: self.fingerprints.fingerprint(&token),
            target_url: target_url.clone(),
            expire_time: not_before + ttl.unwrap_or(DEFAULT_LINK_LIFE),
            max_opens: i32::try_from(*max_opens).unwrap_or(i32::MAX),
        };
        (Some(format!("{}/l/{}", self.public_url, crypto::base64url(&token))), vec![new])
    }
}

/// The earliest time at which it may go.
fn first_time(order: &Order, now: DateTime<Utc>) -> DateTime<Utc> {
    order.schedule_time.unwrap_or(now).max(now)
}

/// What only the clock can tell of the order's times.
fn check_times(order: &Order, now: DateTime<Utc>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if order.schedule_time.is_some_and(|time| time > now + FARTHEST_SCHEDULE) {
        violations.push(Violation::new("notification.schedule_time", "must be at most 400 days ahead"));
    }
    if order.expire_time.is_some_and(|time| time <= first_time(order, now)) {
        violations.push(Violation::new("notification.expire_time", "must be in the future and after schedule_time"));
    }
    violations
}

/// For a reminder, the start of the visit.
const fn visit_time(payload: &Payload) -> Option<DateTime<Utc>> {
    match payload {
        Payload::AppointmentReminder(visit) => Some(visit.start_time),
        _ => None,
    }
}

/// What only the practice's settings can tell of the order's link.
fn check_link(order: &Order, grounds: &GroundsRow) -> Option<Violation> {
    let link = order.payload.link()?;
    let host = url::Url::parse(&link.target_url).ok().and_then(|url| url.host_str().map(str::to_lowercase));
    if host.is_some_and(|host| grounds.settings.link_hosts.contains(&host)) {
        return None;
    }
    let field = format!("notification.{}.link.target_url", arm(&order.payload));
    Some(Violation::new(field, "must lead to a host that is in the practice's link_hosts"))
}

/// The name of the payload's arm in the contract.
const fn arm(payload: &Payload) -> &'static str {
    match payload {
        Payload::AppointmentReminder(_) => "appointment_reminder",
        Payload::AppointmentConfirmed(_) => "appointment_confirmed",
        Payload::AppointmentCancelled(_) => "appointment_cancelled",
        Payload::PaymentDue(_) => "payment_due",
        Payload::PaymentReceived(_) => "payment_received",
        Payload::PaymentFailed(_) => "payment_failed",
        Payload::MessageReceived(_) => "message_received",
        Payload::DocumentShared(_) => "document_shared",
        Payload::System(_) => "system",
        Payload::Custom(_) => "custom",
    }
}

fn decide(
    order: &Order,
    row: &GroundsRow,
    channel: Channel,
    not_before: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Decision {
    let grounds = Grounds {
        patient: &row.patient,
        settings: &row.settings,
        kind: order.payload.kind(),
        requested: order.channels,
        gates: row.gates.get(&channel).copied().unwrap_or_default(),
        sms_regions: &row.sms_regions,
        not_before,
        expires_at,
        now: row.now,
    };
    grounds.decide(channel)
}

fn render(
    order: &Order,
    grounds: &GroundsRow,
    channel: Channel,
    (link, unsubscribe): (Option<&str>, &str),
) -> Result<crate::domain::Content, RenderError> {
    template::render(&Rendering {
        channel,
        payload: &order.payload,
        custom_content: order.custom_content.as_ref(),
        practice: &grounds.practice,
        patient: &grounds.patient,
        sms_prefix: grounds.settings.sms_prefix(&grounds.practice),
        phi_permitted: grounds.settings.email.phi_permitted(),
        link,
        unsubscribe: Some(unsubscribe),
    })
}

fn unrenderable(error: RenderError) -> Error {
    match error {
        RenderError::UnknownTemplate => {
            Error::field("notification.custom.template_key", "the practice has no template of that key")
        }
        RenderError::TooLong => Error::field("notification", "the text would be too long for the channel"),
        RenderError::Template(_) => Error::Internal(Box::new(error)),
    }
}
