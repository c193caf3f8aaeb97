//! Adding a message. Where a notification would be skipped this fails, since a person waits and can choose another way.

use chrono::{DateTime, Utc};

use super::{
    Conversations,
    files::{not_to_be_sent, own_key},
};
use crate::{
    domain::{
        AttachmentId, Channel, ChannelSet, Class, Content, Conversation, ConversationMessage, Denied, Expiry, Grounds,
        Kind, MessageReceived, MessageRoute, PatientId, Payload, Phi, Priority, Scope, Side, SkipReason, sms,
    },
    service::{
        Error, Violation,
        notify::{Input, Order},
    },
    store::{
        Correspondent, GroundsRow, NewMessage, NewNotification, NewText, OpenDeliveries, Sent, StoreError, Target,
    },
};

/// A message to be added.
#[derive(Clone, Debug)]
pub struct MessageOrder {
    /// The caller's key.
    pub request_id: String,
    /// The request without its key, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
    /// Where it belongs.
    pub target: Target,
    /// How it travels.
    pub route: MessageRoute,
    /// What it says; valid for the route.
    pub body: Phi<String>,
    /// The files that go along, in their order.
    pub attachments: Vec<AttachmentId>,
}

/// A message that was added.
#[derive(Clone, Debug)]
pub struct SentMessage {
    /// As it is now.
    pub message: ConversationMessage,
    /// As it is now.
    pub conversation: Conversation,
    /// The key had been accepted before.
    pub replayed: bool,
}

impl Conversations {
    /// Adds a message: of staff to a patient, or of a patient to the practice. A repeat of the same request yields what the first
    /// one made, as it is now.
    ///
    /// # Errors
    /// `FIELD_INVALID`, `NOT_FOUND`, `REQUEST_ID_REUSED`, `OPTED_OUT`, `UNREACHABLE`, `CHANNEL_NOT_CONFIGURED`, `RATE_LIMITED`;
    /// `SCOPE_FORBIDDEN` when there is no such practice, or the patient is somebody else.
    pub async fn send(&self, scope: &Scope, order: MessageOrder) -> Result<SentMessage, Error> {
        failpoint!("F1");
        self.may_write(scope, &order.target).await?;
        let fingerprint = self.fingerprints.fingerprint(order.canonical.expose());
        let request_id = own_key(scope, &order.request_id);
        let key = (request_id.as_str(), fingerprint);
        let sent = match self.accept(scope, order, key).await {
            Ok(sent) => sent,
            // A repeat is told what it was told, though by now it might be refused.
            Err(refusal) => match self.store.message_prior(scope, &request_id, &fingerprint).await {
                Ok(Some(before)) => before,
                _ => return Err(refusal),
            },
        };
        failpoint!("F3");
        let (sent, replayed) = match sent {
            Sent::New(sent) => (*sent, false),
            Sent::Replayed(sent) => (*sent, true),
            Sent::KeyReused(id) => return Err(Error::request_id_reused("message", id)),
        };
        Ok(SentMessage { message: sent.0, conversation: sent.1, replayed })
    }

    /// Patients write in what is theirs.
    async fn may_write(&self, scope: &Scope, target: &Target) -> Result<(), Error> {
        match target {
            Target::Patient(patient) if scope.covers(patient) => Ok(()),
            Target::Patient(_) => Err(Denied::Scope.into()),
            Target::Conversation(id) => self.find(scope, *id).await.map(drop),
        }
    }

    async fn accept(
        &self,
        scope: &Scope,
        order: MessageOrder,
        (request_id, fingerprint): (&str, [u8; 32]),
    ) -> Result<Sent, Error> {
        let MessageOrder { target, route, body, attachments, .. } = order;
        let whom = match self.store.correspondent(scope, &target).await {
            Ok(whom) => whom,
            // Absent patients are not told from foreign ones.
            Err(StoreError::NotFound("patient")) if scope.patient().is_some() => return Err(Denied::Scope.into()),
            Err(error) => {
                return Err(match &target {
                    Target::Conversation(id) => Error::from(error).named(id),
                    Target::Patient(id) => Error::from(error).named(id),
                });
            }
        };
        self.admission.room()?;
        let by_text = Side::of(scope.author()) == Side::Staff && route == MessageRoute::Sms;
        let mut wrong = self.hindrances(scope, route, &attachments).await?;
        wrong.extend(by_text.then(|| too_long(&whom, &body)).flatten());
        if !wrong.is_empty() {
            return Err(Error::FieldInvalid(wrong));
        }
        self.admission.backlog(whom.open, Class::Urgent)?;
        let (text, notice) = match Side::of(scope.author()) {
            Side::Staff if by_text => {
                let open = whom.open;
                let text = text(whom, &body)?;
                self.affordable(scope, &text, open)?;
                (Some(text), None)
            }
            Side::Staff => (None, Some(self.notice(whom, &target).await?)),
            Side::Patient => (None, None),
        };
        let request_id = request_id.to_owned();
        let new = NewMessage { request_id, fingerprint, target: target.clone(), body, attachments, text, notice };
        self.store.message_send(scope, new).await.map_err(|error| match &target {
            // Somebody else sent it at this moment.
            _ if matches!(error, StoreError::NotFound("attachment")) => Error::FieldInvalid(vec![not_to_be_sent(None)]),
            Target::Conversation(id) => Error::from(error).named(id),
            Target::Patient(id) => Error::from(error).named(id),
        })
    }

    /// Whether there is room for the text among all that the practice texts.
    fn affordable(&self, scope: &Scope, text: &NewText, open: OpenDeliveries) -> Result<(), Error> {
        let Some(number) = text.number.as_ref().or(text.reader.mobile_phone.as_ref()) else { return Ok(()) };
        let segments = i64::from(text.content.sms_segments);
        self.admission.text(scope.practice(), (number, segments), open, self.notify.now())
    }

    /// Tells a patient that a message waits in the portal, over whatever channels they have for that.
    async fn notice(&self, whom: Correspondent, target: &Target) -> Result<NewNotification, Error> {
        let Some(patient) = whom.patient else { return Err(Error::Unlinked) };
        let Some(row) = whom.grounds else {
            return Err(Error::Unreachable { channel: Channel::InApp, reason: SkipReason::PatientInactive });
        };
        allowed(&row, Channel::InApp)?;
        let input = message_received(patient, &row, target);
        // The message's own key and request stand for it.
        let order = Order { request_id: String::new(), canonical: Phi::default(), input };
        self.notify.prepare(order, row, [0; 32]).await
    }
}

fn message_received(patient: PatientId, row: &GroundsRow, target: &Target) -> Input {
    let conversation_id = match target {
        Target::Conversation(id) => Some(id.to_string()),
        Target::Patient(_) => None,
    };
    // The practice, and not whoever wrote: names of staff belong to the conversation.
    let sender_name = Phi::new(row.practice.display_name.clone());
    Input {
        patient,
        payload: Payload::MessageReceived(MessageReceived { sender_name, conversation_id, link: None }),
        custom_content: None,
        channels: None,
        schedule_time: None,
        expire_time: None,
        reference: String::new(),
        priority: Priority::Normal,
    }
}

/// What the text message says.
fn composed(row: &GroundsRow, body: &Phi<String>) -> String {
    let prefix = row.settings.sms_prefix(&row.practice);
    match body.expose().trim() {
        "" => sms::only(prefix),
        _ => sms::compose(prefix, body.expose()),
    }
}

/// What is wrong with a body that leaves no room for the practice's name in one text message.
fn too_long(whom: &Correspondent, body: &Phi<String>) -> Option<Violation> {
    let length = composed(whom.grounds.as_ref()?, body).chars().count();
    let most = sms::LONGEST_MESSAGE;
    let fault = || Violation::new("body", format!("must be at most {most} characters long with the practice's name"));
    (length > most).then(fault)
}

/// The text message, if it may go.
fn text(whom: Correspondent, body: &Phi<String>) -> Result<NewText, Error> {
    let Some(row) = whom.grounds else {
        // Whoever left the directory is not written to, and neither is a sender that is no phone.
        let reason = if whom.patient.is_some() { SkipReason::PatientInactive } else { SkipReason::NoAddress };
        return Err(Error::Unreachable { channel: Channel::Sms, reason });
    };
    let expire_time = allowed(&row, Channel::Sms)?;
    let content = Content::of_text(composed(&row, body));
    Ok(NewText { reader: row.patient, number: whom.number, reached_at: whom.reached_at, content, expire_time })
}

/// Until when something may go over a channel at once, if every rule lets it.
fn allowed(row: &GroundsRow, channel: Channel) -> Result<DateTime<Utc>, Error> {
    let requested = Some(ChannelSet::NONE.with(channel));
    let grounds = Grounds { requested, urgent: true, ..row.grounds(None::<Kind>) };
    let expires_at = Expiry { asked: None, visit_time: None, share: false }.of(grounds.first_time(channel));
    match (Grounds { expires_at, ..grounds }).decide(channel).skip_reason {
        None => Ok(expires_at),
        Some(SkipReason::OptedOut) => Err(Error::OptedOut { channel }),
        Some(SkipReason::ChannelNotConfigured) => Err(Error::ChannelNotConfigured { channel }),
        Some(reason) => Err(Error::Unreachable { channel, reason }),
    }
}
