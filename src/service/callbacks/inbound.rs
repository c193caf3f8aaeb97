//! Texts of patients. One is acted on once, however often it is posted and to however many replicas.

use super::{Answer, Callbacks, Incoming, unavailable};
use crate::{
    domain::{Meaning, Phi, Provider, SmsSender, SmsSettings, in_pool, received},
    providers::twilio::callback::inbound::{self, Inbound},
    store::{Heard, InboundText, StoreError},
};

/// How often a text is stored at most, where others hold its number: each time they may for a second, and Twilio repeats a text
/// only where it is told to.
const TRIES: u32 = 3;
/// What the audit trail calls one that was refused.
const INBOUND: &str = "webhook.twilio.inbound";

impl Callbacks {
    /// A text that a patient sent, as Twilio posts it. Nobody but Twilio answers STOP, START and HELP: a second answer would be
    /// a second text, or be refused with 21610.
    pub async fn twilio_inbound(&self, incoming: Incoming<'_>) -> Answer {
        let (scope, settings) = match self.home(incoming.practice, Provider::Twilio).await {
            Ok(Some(home)) => home,
            Ok(None) => return self.refuse_nobodys(),
            Err(error) => return unavailable(&error),
        };
        let here = (INBOUND, incoming.source);
        // A body of another type is signed by its hash only, and Twilio sends none.
        if !inbound::is_form(incoming.content_type) {
            return self.refuse(&scope, here, "no form");
        }
        if !self.is_signed(&incoming, &settings) {
            return self.refuse(&scope, here, "bad signature");
        }
        let Ok(read) = inbound::parse(incoming.body) else { return Answer::Malformed };
        if read.account_sid != settings.sms.account_sid {
            return self.refuse(&scope, here, "not of the practice's account");
        }
        // What is for a number of somebody else is none of this practice's business.
        let Some(text) = text(&settings.sms, read) else {
            return self.refuse(&scope, here, "not to a sender of the practice");
        };
        let mut heard = self.store.text_take(&scope, text.clone()).await;
        for _ in 1..TRIES {
            if !matches!(heard, Err(StoreError::Busy(_))) {
                break;
            }
            heard = self.store.text_take(&scope, text.clone()).await;
        }
        match heard {
            Ok(Heard::New { entries }) => {
                tracing::info!(practice.id = %scope.practice(), entries, "incoming text stored");
                Answer::Stored
            }
            Ok(Heard::Repeat) => Answer::Stored,
            Err(error) => unavailable(&error),
        }
    }
}

/// Whether it came to the number or service that the practice texts from now. Twilio names the service beside any of its
/// numbers.
fn is_to_sender(settings: &SmsSettings, read: &Inbound) -> bool {
    match &settings.sender {
        Some(SmsSender::Number(number)) => read.to == number.e164(),
        Some(SmsSender::MessagingService(sid)) => read.service_sid == *sid,
        None => false,
    }
}

/// What it says, and what that means. An opt-out counts to whichever sender of the account it comes, also one that the practice
/// has given up: patients answer what they got. Anything else must have come to the sender that the practice texts from now: an
/// account may be shared, and START to another sender lifts nothing at this one.
fn text(settings: &SmsSettings, read: Inbound) -> Option<InboundText> {
    let meaning = Meaning::of(&read.body, read.opt_out_type.as_deref());
    let ours = is_to_sender(settings, &read);
    if !ours && !matches!(meaning, Meaning::Stop | Meaning::StopRequest) {
        return None;
    }
    let number = received::number(&read.to);
    let reached_at = match (&settings.sender, number) {
        (Some(SmsSender::MessagingService(sid)), Some(number)) if ours => in_pool(sid, &number),
        _ => String::new(),
    };
    Some(InboundText {
        from: received::number(&read.from),
        reached_at,
        meaning,
        sid: read.sid,
        from_text: Phi::new(received::name(&read.from)),
        to: received::name(&read.to),
        body: Phi::new(received::text(&read.body)),
        media: read.media,
    })
}
