//! From an order to what is stored: the checks that want the clock or the settings, the decisions, the texts.

pub(super) mod render;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Input, Notify, Order};
use crate::{
    crypto,
    domain::{
        Channel, ChannelSet, Content, Decision, DeliveryId, Expiry, Grounds, NotificationId, Payload, Priority,
        SecureLink,
    },
    service::{Error, Violation},
    store::{GroundsRow, NewDelivery, NewLink, NewNotification},
};

/// Longest time ahead for which a notification may be scheduled.
const FARTHEST_SCHEDULE: TimeDelta = TimeDelta::days(400);
/// How long a secure link opens unless the caller says otherwise.
const DEFAULT_LINK_LIFE: TimeDelta = TimeDelta::days(14);

/// The addresses in a text that lead back here.
pub(super) struct Addresses {
    /// Of the sender's link, if there is one.
    pub(super) link: Option<String>,
    /// Where the reader of a mail unsubscribes.
    pub(super) unsubscribe: String,
}

/// What is decided about an input: all that a send and a preview of it have in common.
pub(super) struct Plan {
    not_before: DateTime<Utc>,
    visit_time: Option<DateTime<Utc>>,
    expire_time: DateTime<Utc>,
    /// One per channel.
    pub(super) decisions: Vec<Decision>,
}

impl Plan {
    /// Decides on each channel.
    ///
    /// # Errors
    /// `FIELD_INVALID` for what only the clock or the settings can tell.
    pub(super) fn of(input: &Input, row: &GroundsRow) -> Result<Self, Error> {
        let now = row.now;
        let violations: Vec<_> = check_times(input, now)
            .into_iter()
            .chain(check_link(input, row))
            .chain(check_template(input, row))
            .collect();
        if !violations.is_empty() {
            return Err(Error::FieldInvalid(violations));
        }
        let not_before = first_time(input, now);
        let visit_time = visit_time(&input.payload);
        let grounds = Grounds {
            requested: input.channels,
            urgent: input.priority == Priority::Urgent,
            not_before,
            ..row.grounds(input.payload.kind())
        };
        // Its time begins once all of it may go: what waits out a night shall not be too late in the morning.
        let first = grounds.considered().iter().map(|channel| grounds.first_time(channel)).max();
        let expire_time = Expiry { asked: input.expire_time, visit_time, share: false }.of(first.unwrap_or(not_before));
        let grounds = Grounds { expires_at: expire_time, ..grounds };
        let decisions = Channel::ALL.into_iter().map(|channel| grounds.decide(channel)).collect();
        Ok(Self { not_before, visit_time, expire_time, decisions })
    }
}

impl Notify {
    /// What is stored of an order that can be met: decided on, rendered, and nothing written yet.
    pub(in crate::service) async fn prepare(
        &self,
        order: Order,
        grounds: GroundsRow,
        fingerprint: [u8; 32],
    ) -> Result<NewNotification, Error> {
        let Order { request_id, input, .. } = order;
        let plan = Plan::of(&input, &grounds)?;
        let (link, links) = self.link(&input, plan.not_before);
        let id = NotificationId(crypto::new_id(self.clock.now()));
        // The mail has its id before it is rendered: the link in it names it.
        let mail = DeliveryId(crypto::new_id(self.clock.now()));
        let addresses = Addresses { link, unsubscribe: self.way_out(mail) };
        let used = plan.decisions.iter().filter(|decision| decision.uses()).map(|it| it.channel).collect();
        let (input, grounds, contents) = rendered(input, grounds, used, addresses).await?;
        let considered = plan.decisions.iter().filter(|decision| decision.considered);
        let mut contents = contents.into_iter().peekable();
        let deliveries = considered.map(|decision| NewDelivery {
            id: match decision.channel {
                Channel::Email => mail,
                _ => DeliveryId(crypto::new_id(self.clock.now())),
            },
            channel: decision.channel,
            content: contents.next_if(|(channel, _)| *channel == decision.channel).map(|(_, content)| content),
            over: None,
        });
        Ok(NewNotification {
            id,
            request_id,
            fingerprint,
            deliveries: deliveries.collect(),
            kind: input.payload.kind(),
            security: matches!(&input.payload, Payload::System(notice) if notice.security),
            patient: grounds.patient,
            reference: input.reference,
            urgent: input.priority == Priority::Urgent,
            requested: input.channels,
            schedule_time: input.schedule_time,
            expire_time: plan.expire_time,
            default_expiry: input.expire_time.is_none(),
            visit_time: plan.visit_time,
            decisions: plan.decisions,
            links,
            broadcast: None,
        })
    }

    /// The short address that stands for the sender's link, and what is kept of it.
    fn link(&self, input: &Input, not_before: DateTime<Utc>) -> (Option<String>, Vec<NewLink>) {
        let Some(SecureLink { target_url, ttl, max_opens }) = input.payload.link() else { return (None, Vec::new()) };
        let token = crypto::random_token();
        let new = NewLink {
            token_digest: self.fingerprints.fingerprint(&token),
            target_url: target_url.clone(),
            expire_time: not_before + ttl.unwrap_or(DEFAULT_LINK_LIFE),
            max_opens: i32::try_from(*max_opens).unwrap_or(i32::MAX),
        };
        (Some(self.short_address(&token)), vec![new])
    }

    /// Where a secure link with this token is opened.
    pub(super) fn short_address(&self, token: &[u8]) -> String {
        format!("{}/l/{}", self.public_url, crypto::base64url(token))
    }

    /// Where the reader of that mail unsubscribes.
    pub(super) fn way_out(&self, mail: DeliveryId) -> String {
        format!("{}/u/{}", self.public_url, self.store.unsubscribe_token(mail))
    }
}

/// Renders the text of each channel, in the order of the channels. It is bounded, but it is work: it does not belong on a
/// thread that serves connections.
async fn rendered(
    input: Input,
    grounds: GroundsRow,
    used: ChannelSet,
    addresses: Addresses,
) -> Result<(Input, GroundsRow, Vec<(Channel, Content)>), Error> {
    let work = tokio::task::spawn_blocking(move || {
        let render = |channel| {
            let content = render::content(&input, &grounds, channel, &addresses);
            Ok((channel, content.map_err(|error| render::refused(&input, channel, error))?))
        };
        let contents: Result<_, Error> = used.iter().map(render).collect();
        contents.map(|contents| (input, grounds, contents))
    });
    work.await.map_err(|error| Error::Internal(error.into()))?
}

/// The earliest time at which it may go.
fn first_time(input: &Input, now: DateTime<Utc>) -> DateTime<Utc> {
    input.schedule_time.unwrap_or(now).max(now)
}

/// What only the clock can tell of the input's times.
fn check_times(input: &Input, now: DateTime<Utc>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if input.schedule_time.is_some_and(|time| time > now + FARTHEST_SCHEDULE) {
        violations.push(Violation::new("notification.schedule_time", "must be at most 400 days ahead"));
    }
    if input.expire_time.is_some_and(|time| time <= first_time(input, now)) {
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

/// What only the practice's settings can tell of the input's link.
fn check_link(input: &Input, grounds: &GroundsRow) -> Option<Violation> {
    let link = input.payload.link()?;
    // Another port is another service, which nobody has put on the list.
    let url = url::Url::parse(&link.target_url).ok().filter(|url| url.port().is_none());
    let host = url.and_then(|url| url.host_str().map(str::to_lowercase));
    if host.is_some_and(|host| grounds.settings.link_hosts.contains(&host)) {
        return None;
    }
    let field = format!("notification.{}.link.target_url", arm(&input.payload));
    Some(Violation::new(field, "must lead to a host that is in the practice's link_hosts, without another port"))
}

/// Whether there is the template, and the variables are those that it wants, which only the practice can tell: whatever channels
/// the patient can be reached on.
fn check_template(input: &Input, grounds: &GroundsRow) -> Vec<Violation> {
    let Payload::Custom(custom) = &input.payload else { return Vec::new() };
    if !grounds.own_wording.has(&custom.template_key) {
        return vec![Violation::new(render::TEMPLATE_KEY, render::NO_TEMPLATE)];
    }
    let faults = grounds.own_wording.variable_faults(custom).into_iter();
    faults.map(|(name, fault)| Violation::new(format!("notification.custom.variables.{name}"), fault)).collect()
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
        // No sender writes one.
        Payload::Announcement => "announcement",
    }
}
