//! What the tokens stand for in one message: from payload, practice and patient to values. Values are complete; which of
//! them a channel may hold is decided where they are put in.

use super::{
    Rendering, format,
    token::{Token, Values},
};
use crate::domain::{Appointment, DocumentAction, Documents, Notice, Payload, Payment, Phi, PhoneNumber};

/// The values of one message.
pub(super) fn values(ask: &Rendering) -> Values {
    let mut values = Values::default();
    let practice = ask.practice;
    values.set(Token::FirstName, ask.patient.first_name.expose());
    values.set(Token::PracticeName, &practice.display_name);
    values.set(Token::LegalName, &practice.legal_name);
    values.set(Token::PracticePhone, &practice.phone.as_ref().map(PhoneNumber::display).unwrap_or_default());
    values.set(Token::PostalAddress, &practice.postal_address);
    values.set(Token::Link, ask.link.or(practice.portal_url.as_deref()).unwrap_or_default());
    values.set(Token::CustomContent, ask.custom_content.map_or("", |words| words.expose()));
    match ask.payload {
        Payload::AppointmentReminder(visit)
        | Payload::AppointmentConfirmed(visit)
        | Payload::AppointmentCancelled(visit) => {
            set_visit(&mut values, visit, ask);
        }
        Payload::PaymentDue(payment) | Payload::PaymentReceived(payment) | Payload::PaymentFailed(payment) => {
            set_payment(&mut values, payment, ask);
        }
        Payload::MessageReceived(message) => values.set(Token::SenderName, message.sender_name.expose()),
        Payload::DocumentShared(documents) => set_documents(&mut values, documents, ask),
        Payload::System(notice) => set_notice(&mut values, notice),
        // Its variables belong to a template of the practice.
        Payload::Custom(_) => {}
    }
    values
}

fn set_visit(values: &mut Values, visit: &Appointment, ask: &Rendering) {
    let home = ask.practice.time_zone;
    values.set(Token::VisitTime, &format::time(visit.start_time, visit.time_zone.unwrap_or(home), home));
    values.set(Token::VisitLength, &visit.duration.map(format::length).unwrap_or_default());
    values.set(Token::ProviderName, visit.provider_name.expose());
    values.set(Token::LocationName, visit.location_name.expose());
    values.set(Token::LocationAddress, visit.location_address.expose());
}

fn set_payment(values: &mut Values, payment: &Payment, ask: &Rendering) {
    let date = payment.payment_time.map(|time| format::date(time, ask.practice.time_zone));
    values.set(Token::Amount, &format::money(&payment.amount));
    values.set(Token::InvoiceNumber, payment.invoice_number.expose());
    values.set(Token::PaymentDate, &date.unwrap_or_default());
    values.set(Token::PaymentMethod, payment.method_hint.expose());
}

fn set_documents(values: &mut Values, documents: &Documents, ask: &Rendering) {
    let (verb, to_do) = match documents.action {
        DocumentAction::Sign => ("Sign", "to sign"),
        DocumentAction::Review => ("Review", "to review"),
    };
    let (noun, task) = match documents.document_count {
        ..=1 => ("Document", format!("a document {to_do}")),
        count => ("Documents", format!("{count} documents {to_do}")),
    };
    let home = ask.practice.time_zone;
    let titles = documents.titles.iter().map(Phi::expose).filter(|title| !title.trim().is_empty());
    values.set(Token::DocumentVerb, verb);
    values.set(Token::DocumentNoun, noun);
    values.set(Token::DocumentTask, &task);
    values.set(Token::DocumentTitles, &titles.map(String::as_str).collect::<Vec<_>>().join(", "));
    values.set(Token::DocumentDue, &documents.due_time.map(|time| format::time(time, home, home)).unwrap_or_default());
}

fn set_notice(values: &mut Values, notice: &Notice) {
    let (kind, task) =
        if notice.security { ("Security Alert", "a security alert") } else { ("Account Update", "an account update") };
    values.set(Token::NoticeKind, kind);
    values.set(Token::NoticeTask, task);
    values.set(Token::NoticeTitle, notice.title.expose());
    values.set(Token::NoticeBody, notice.body.expose());
}
