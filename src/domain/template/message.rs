//! What the tokens stand for in one message: from payload, practice and patient to values. Values are complete; which of
//! them a channel may hold is decided where they are put in.

use super::{
    Language, Rendering,
    format::Manner,
    token::{Token, Values},
};
use crate::domain::{Appointment, Channel, DocumentAction, Documents, Notice, Payload, Payment, Phi, PhoneNumber};

/// The values of one message, written as its reader writes.
pub(super) fn values(ask: &Rendering, manner: &Manner) -> Values {
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
            set_visit(&mut values, visit, ask, manner);
        }
        Payload::PaymentDue(payment) | Payload::PaymentReceived(payment) | Payload::PaymentFailed(payment) => {
            set_payment(&mut values, payment, ask, manner);
        }
        Payload::MessageReceived(message) => values.set(Token::SenderName, message.sender_name.expose()),
        Payload::DocumentShared(documents) => set_documents(&mut values, documents, ask, manner),
        Payload::System(notice) => set_notice(&mut values, notice, manner.words()),
        Payload::Announcement => {}
        Payload::Custom(custom) => {
            custom.variables.iter().for_each(|(name, value)| values.set_variable(name, value.expose()));
        }
    }
    values
}

fn set_visit(values: &mut Values, visit: &Appointment, ask: &Rendering, manner: &Manner) {
    let home = ask.practice.time_zone;
    let zone = visit.time_zone.unwrap_or(home);
    let short = ask.channel == Channel::Sms;
    values.set(Token::VisitTime, &manner.time(visit.start_time, zone, home, short));
    values.set(Token::VisitLength, &visit.duration.map(|length| manner.length(length)).unwrap_or_default());
    values.set(Token::ProviderName, visit.provider_name.expose());
    values.set(Token::LocationName, visit.location_name.expose());
    values.set(Token::LocationAddress, visit.location_address.expose());
}

fn set_payment(values: &mut Values, payment: &Payment, ask: &Rendering, manner: &Manner) {
    let date = payment.payment_time.map(|time| manner.date(time, ask.practice.time_zone));
    values.set(Token::Amount, &manner.money(&payment.amount));
    values.set(Token::InvoiceNumber, payment.invoice_number.expose());
    values.set(Token::PaymentDate, &date.unwrap_or_default());
    values.set(Token::PaymentMethod, payment.method_hint.expose());
}

fn set_documents(values: &mut Values, documents: &Documents, ask: &Rendering, manner: &Manner) {
    let (verb, to_do) = match (manner.words(), documents.action) {
        (Language::English, DocumentAction::Sign) => ("Sign", "to sign"),
        (Language::English, DocumentAction::Review) => ("Review", "to review"),
        (Language::Spanish, DocumentAction::Sign) => ("Firmar", "para firmar"),
        (Language::Spanish, DocumentAction::Review) => ("Revisar", "para revisar"),
    };
    let (one, [noun, nouns], many) = match manner.words() {
        Language::English => ("a document", ["Document", "Documents"], "documents"),
        Language::Spanish => ("un documento", ["Documento", "Documentos"], "documentos"),
    };
    let (noun, task) = match documents.document_count {
        ..=1 => (noun, format!("{one} {to_do}")),
        count => (nouns, format!("{count} {many} {to_do}")),
    };
    let home = ask.practice.time_zone;
    let titles = documents.titles.iter().map(Phi::expose).filter(|title| !title.trim().is_empty());
    values.set(Token::DocumentVerb, verb);
    values.set(Token::DocumentNoun, noun);
    values.set(Token::DocumentTask, &task);
    values.set(Token::DocumentTitles, &titles.map(String::as_str).collect::<Vec<_>>().join(", "));
    let due = documents.due_time.map(|time| manner.time(time, home, home, false));
    values.set(Token::DocumentDue, &due.unwrap_or_default());
}

fn set_notice(values: &mut Values, notice: &Notice, language: Language) {
    let (kind, task) = match (language, notice.security) {
        (Language::English, true) => ("Security Alert", "a security alert"),
        (Language::English, false) => ("Account Update", "an account update"),
        (Language::Spanish, true) => ("Alerta de seguridad", "una alerta de seguridad"),
        (Language::Spanish, false) => ("Aviso sobre su cuenta", "un aviso sobre su cuenta"),
    };
    values.set(Token::NoticeKind, kind);
    values.set(Token::NoticeTask, task);
    values.set(Token::NoticeTitle, notice.title.expose());
    values.set(Token::NoticeBody, notice.body.expose());
}
