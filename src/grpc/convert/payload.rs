//! The content of a notification. The names of the fields are those of the contract, since they are what a caller is told.

use chrono::TimeDelta;

use super::check::{Check, time_zone};
use crate::{
    domain::{
        Appointment, ConversationId, Custom, DocumentAction, Documents, MessageReceived, Money, Notice, Payload,
        Payment, Phi, SecureLink,
    },
    grpc::proto::{self, notification_input::Payload as Arm},
};

/// Longest name of a person, place or thing.
const NAME: usize = 200;

/// Reads the arm that is set. One that this server does not know looks unset, and there is no kind to fall back to.
pub(super) fn payload(check: &mut Check, arm: Option<Arm>) -> Option<Payload> {
    let Some(arm) = arm else { return check.at("payload", |check| check.fail("is required")) };
    match arm {
        Arm::AppointmentReminder(visit) => {
            check.at("appointment_reminder", |check| appointment(check, visit)).map(Payload::AppointmentReminder)
        }
        Arm::AppointmentConfirmed(visit) => {
            check.at("appointment_confirmed", |check| appointment(check, visit)).map(Payload::AppointmentConfirmed)
        }
        Arm::AppointmentCancelled(visit) => {
            check.at("appointment_cancelled", |check| appointment(check, visit)).map(Payload::AppointmentCancelled)
        }
        Arm::PaymentDue(it) => check.at("payment_due", |check| payment(check, it)).map(Payload::PaymentDue),
        Arm::PaymentReceived(it) => {
            check.at("payment_received", |check| payment(check, it)).map(Payload::PaymentReceived)
        }
        Arm::PaymentFailed(it) => check.at("payment_failed", |check| payment(check, it)).map(Payload::PaymentFailed),
        Arm::MessageReceived(it) => {
            check.at("message_received", |check| message_received(check, it)).map(Payload::MessageReceived)
        }
        Arm::DocumentShared(it) => {
            check.at("document_shared", |check| documents(check, it)).map(Payload::DocumentShared)
        }
        Arm::System(it) => Some(Payload::System(check.at("system", |check| notice(check, it)))),
        Arm::Custom(it) => check.at("custom", |check| custom(check, it)).map(Payload::Custom),
    }
}

fn appointment(check: &mut Check, visit: proto::AppointmentDetails) -> Option<Appointment> {
    let start_time = check.required_time("start_time", visit.start_time);
    let allowed = TimeDelta::zero()..=TimeDelta::days(31);
    let duration = check.length("duration", visit.duration, allowed, "must be 0 to 31 days");
    let time_zone = check.parsed_if_set("time_zone", &visit.time_zone, time_zone);
    let provider_name = Phi::new(check.line("provider_name", visit.provider_name, NAME));
    let location_name = Phi::new(check.line("location_name", visit.location_name, NAME));
    let location_address = Phi::new(check.line("location_address", visit.location_address, NAME));
    let link = check.optional("link", visit.link, secure_link);
    let start_time = start_time?;
    Some(Appointment { start_time, duration, time_zone, provider_name, location_name, location_address, link })
}

fn payment(check: &mut Check, payment: proto::PaymentDetails) -> Option<Payment> {
    let amount = check.required("amount", payment.amount, money);
    let invoice_number = Phi::new(check.line("invoice_number", payment.invoice_number, NAME));
    let payment_time = check.time("payment_time", payment.payment_time);
    let method_hint = Phi::new(check.line("method_hint", payment.method_hint, NAME));
    let link = check.optional("link", payment.link, secure_link);
    Some(Payment { amount: amount?, invoice_number, payment_time, method_hint, link })
}

fn money(check: &mut Check, money: proto::Money) -> Option<Money> {
    let proto::Money { currency_code, units, nanos } = money;
    let code = currency_code.len() == 3 && currency_code.bytes().all(|byte| byte.is_ascii_uppercase());
    check.expect("currency_code", code, "must be an ISO 4217 code such as USD");
    check.number("nanos", nanos, -999_999_999..=999_999_999);
    let one_sign = units == 0 || nanos == 0 || (units > 0) == (nanos > 0);
    check.expect("nanos", one_sign, "must have the same sign as units");
    Some(Money { currency_code, units, nanos })
}

fn message_received(check: &mut Check, message: proto::MessageReceivedDetails) -> Option<MessageReceived> {
    let sender_name = Phi::new(check.required_line("sender_name", message.sender_name, 100));
    let conversation_id = check.id_if_set::<ConversationId>("conversation_id", &message.conversation_id);
    let conversation_id = conversation_id.map(|id| id.to_string());
    let link = check.optional("link", message.link, secure_link);
    Some(MessageReceived { sender_name, conversation_id, link })
}

fn documents(check: &mut Check, documents: proto::DocumentDetails) -> Option<Documents> {
    let action = check.choice("action", documents.action, |number| match number {
        1 => Some(DocumentAction::Sign),
        2 => Some(DocumentAction::Review),
        _ => None,
    });
    let document_count = check.number("document_count", documents.document_count, 1..=100);
    check.count("titles", documents.titles.len(), 0..=20);
    let titles = documents.titles.into_iter().take(20).enumerate();
    let titles = titles.map(|(place, title)| Phi::new(check.line(&format!("titles[{place}]"), title, NAME))).collect();
    let link = check.required("link", documents.link, secure_link);
    let due_time = check.time("due_time", documents.due_time);
    Some(Documents { action: action?, document_count, titles, link: link?, due_time })
}

fn notice(check: &mut Check, notice: proto::SystemDetails) -> Notice {
    Notice {
        title: Phi::new(check.required_line("title", notice.title, 120)),
        body: Phi::new(check.required_lines("body", notice.body, 2_000)),
        security: notice.security,
    }
}

fn custom(check: &mut Check, custom: proto::CustomDetails) -> Option<Custom> {
    let key_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_./-".contains(&byte);
    let key = check.parsed("template_key", &custom.template_key, |key| {
        let good = key.len() <= 64 && key.bytes().all(key_byte);
        if good { Ok(key.to_owned()) } else { Err("must be 1 to 64 characters of a-z, 0-9, '_', '.', '/' or '-'") }
    });
    check.count("variables", custom.variables.len(), 0..=50);
    let mut variables = std::collections::BTreeMap::new();
    for (name, value) in custom.variables.into_iter().take(50) {
        // A malformed name may be anything, so that it is not repeated in the path.
        if !is_variable(&name) {
            check.expect("variables", false, "must have names of 1 to 64 characters of a-z, 0-9 or '_'");
            continue;
        }
        let value = Phi::new(check.seen_lines(&format!("variables.{name}"), value, 1_000));
        variables.insert(name, value);
    }
    Some(Custom { template_key: key?, variables })
}

/// Whether a variable of a template may be called that.
pub(super) fn is_variable(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn secure_link(check: &mut Check, link: proto::SecureLink) -> Option<SecureLink> {
    let target_url = check.https("target_url", &link.target_url);
    let allowed = TimeDelta::nanoseconds(1)..=TimeDelta::days(90);
    let ttl = check.length("ttl", link.ttl, allowed, "must be more than 0 and at most 90 days");
    let max_opens = check.number("max_opens", link.max_opens, 0..=10_000).unsigned_abs();
    Some(SecureLink { target_url: target_url?, ttl, max_opens })
}
