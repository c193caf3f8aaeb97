//! Texts of patients. One is acted on once, however often it is posted and to however many replicas.

use super::{Answer, Callbacks, Incoming, unavailable};
use crate::{
    domain::{Meaning, Phi, PhoneNumber, SmsSender, SmsSettings},
    providers::twilio::callback::inbound::{self, Inbound},
    store::{Heard, InboundText},
};

impl Callbacks {
    /// A text that a patient sent, as Twilio posts it. Nobody but Twilio answers STOP, START and HELP: a second answer would be
    /// a second text, or be refused with 21610.
    pub async fn twilio_inbound(&self, incoming: Incoming<'_>) -> Answer {
        // A body of another type is signed by its hash only, and Twilio sends none.
        if !inbound::is_form(incoming.content_type) {
            tracing::warn!("incoming text refused: no form");
            return Answer::Forbidden;
        }
        let (scope, settings) = match self.verify(&incoming).await {
            Ok(Some(verified)) => verified,
            Ok(None) => {
                tracing::warn!("incoming text refused: bad signature");
                return Answer::Forbidden;
            }
            Err(error) => return unavailable(&error),
        };
        let Ok(read) = inbound::parse(incoming.body) else { return Answer::Malformed };
        if !is_ours(&settings.sms, &read) {
            tracing::warn!(practice.id = %scope.practice(), "incoming text refused: not of the practice's account or number");
            return Answer::Forbidden;
        }
        match self.store.text_take(&scope, text(read)).await {
            Ok(Heard::New { entries }) => {
                tracing::info!(practice.id = %scope.practice(), entries, "incoming text stored");
                Answer::Stored
            }
            Ok(Heard::Repeat) => Answer::Stored,
            Err(error) => unavailable(&error),
        }
    }
}

/// Whether it came to the practice's own account, and to the number or service that it texts from. Twilio names the service
/// beside any of its numbers.
fn is_ours(settings: &SmsSettings, read: &Inbound) -> bool {
    let to_ours = match &settings.sender {
        Some(SmsSender::Number(number)) => read.to == number.e164(),
        Some(SmsSender::MessagingService(sid)) => read.service_sid == *sid,
        None => false,
    };
    to_ours && read.account_sid == settings.account_sid
}

fn text(read: Inbound) -> InboundText {
    InboundText {
        // Only what is written in full names a phone: Twilio posts E.164, and short codes without a plus.
        from: read.from.starts_with('+').then(|| PhoneNumber::parse(&read.from, "").ok()).flatten(),
        meaning: Meaning::of(&read.body, read.opt_out_type.as_deref()),
        sid: read.sid,
        from_text: Phi::new(read.from),
        to: read.to,
        body: Phi::new(read.body),
        media: read.media,
    }
}
