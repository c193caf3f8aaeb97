//! Our own wording, in English, for each kind and form. It is made of the same source as a practice's, and a test holds
//! every text message to one segment.

use std::{collections::BTreeMap, sync::LazyLock};

use super::{
    source::{Template, TemplateError},
    token::Form,
};
use crate::domain::Kind;

/// Wording before it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wording {
    /// Empty for text messages.
    pub subject: String,
    /// The text; mail in HTML is made from it.
    pub text: String,
    /// What a mailbox shows beside the subject; empty for other forms.
    pub preview: String,
}

/// Wording, ready to be filled in.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) subject: Template,
    pub(super) text: Template,
    pub(super) preview: Template,
}

/// What is said about one kind. Paragraphs are parted by empty lines.
struct Texts {
    /// Without the practice's name.
    subject: &'static str,
    /// In the portal, before the details.
    portal: &'static str,
    /// In mail, before the details.
    mail: &'static str,
    /// One to a line: a label, a colon, a token.
    details: &'static str,
    /// After the details and what the sender typed.
    note: &'static str,
    /// In mail that may give nothing away.
    minimal: &'static str,
    /// What the link does.
    action: &'static str,
    /// The text message, which ends with the link.
    sms: &'static str,
}

/// The built-in wording of `kind` in `form`. Announcements and a practice's own templates have none.
#[must_use]
pub fn wording(kind: Kind, form: Form) -> Option<Wording> {
    let texts = texts(kind)?;
    let mail_subject = format!("{} - {{{{practice_name}}}}", texts.subject);
    Some(match form {
        Form::InApp => Wording {
            subject: if kind == Kind::System { "{{notice_title}}" } else { texts.subject }.into(),
            text: paragraphs(&[texts.portal, texts.details, "{{custom_content}}", texts.note]),
            preview: String::new(),
        },
        Form::Email => mail(mail_subject, &texts, &[texts.mail, texts.details, "{{custom_content}}", texts.note]),
        Form::MinimalEmail => mail(mail_subject, &texts, &[texts.minimal]),
        Form::Sms => Wording { subject: String::new(), text: texts.sms.into(), preview: String::new() },
        // A lock screen shows it to whoever holds the phone, so that all kinds read alike.
        Form::Push => Wording {
            subject: "{{practice_name}}".into(),
            text: "You have a new message.".into(),
            preview: String::new(),
        },
    })
}

/// The built-in wording, compiled once. An error would be a mistake in this file, which a test rules out.
pub(super) fn compiled(kind: Kind, form: Form) -> Option<Result<&'static Compiled, TemplateError>> {
    static COMPILED: LazyLock<BTreeMap<(Kind, Form), Result<Compiled, TemplateError>>> = LazyLock::new(|| {
        let all = Kind::ALL.into_iter().flat_map(|kind| Form::ALL.map(|form| (kind, form)));
        all.filter_map(|(kind, form)| Some(((kind, form), compile(&wording(kind, form)?, form)))).collect()
    });
    COMPILED.get(&(kind, form)).map(|compiled| compiled.as_ref().map_err(|error| *error))
}

fn compile(wording: &Wording, form: Form) -> Result<Compiled, TemplateError> {
    Ok(Compiled {
        subject: Template::compile_subject(&wording.subject, form.subject_classes())?,
        text: Template::compile(&wording.text, form.text_classes())?,
        preview: Template::compile_subject(&wording.preview, form.subject_classes())?,
    })
}

/// A letter: greeting, what there is to say, what to do, whom to ask, who wrote.
fn mail(subject: String, texts: &Texts, said: &[&str]) -> Wording {
    const GREETING: &str = "Hi {{first_name}},";
    const QUESTIONS: &str = "Questions? Call us at {{practice_phone}}.";
    // The line of two dashes and a space begins a signature (RFC 3676, 4.3).
    const SIGNATURE: &str = "-- \n{{legal_name}}\n{{postal_address}}\n{{practice_phone}}";
    let action = format!("{}: {{{{link}}}}", texts.action);
    let parts = [&[GREETING], said, &[&action, QUESTIONS, SIGNATURE]].concat();
    // What stands first in the minimal wording is fit to be seen before the mail is opened.
    Wording { subject, text: paragraphs(&parts), preview: texts.minimal.lines().next().unwrap_or_default().into() }
}

fn paragraphs(parts: &[&str]) -> String {
    parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

const VISIT_DETAILS: &str = "When: {{visit_time}}\nLength: {{visit_length}}\nWith: {{provider_name}}\n\
    Where: {{location_name}}\nAddress: {{location_address}}";

#[expect(clippy::too_many_lines, reason = "a table reads better whole")]
fn texts(kind: Kind) -> Option<Texts> {
    Some(match kind {
        Kind::AppointmentReminder => Texts {
            subject: "Appointment Reminder",
            portal: "This is a friendly reminder of your upcoming appointment.",
            mail: "This is a friendly reminder of your upcoming appointment with {{practice_name}}.",
            details: VISIT_DETAILS,
            note: "If you can no longer make it, please let us know as soon as possible so we can find you another time.",
            minimal: "You have an upcoming appointment with {{practice_name}}.\n\nPlease sign in to see the details.",
            action: "View appointment",
            sms: "You have an appointment on {{visit_time}}.\nDetails: {{link}}",
        },
        Kind::AppointmentConfirmed => Texts {
            subject: "Appointment Confirmed",
            portal: "Your appointment is confirmed. We look forward to seeing you.",
            mail: "Your appointment with {{practice_name}} is confirmed. We look forward to seeing you.",
            details: VISIT_DETAILS,
            note: "If your plans change, please let us know as soon as possible.",
            minimal: "Your appointment with {{practice_name}} is confirmed.\n\nPlease sign in to see the details.",
            action: "View appointment",
            sms: "Your appointment is confirmed: {{visit_time}}.\nDetails: {{link}}",
        },
        Kind::AppointmentCancelled => Texts {
            subject: "Appointment Canceled",
            portal: "This appointment has been canceled.",
            mail: "Your appointment with {{practice_name}} has been canceled.",
            details: VISIT_DETAILS,
            note: "We will be glad to find you a new time.",
            minimal: "An appointment with {{practice_name}} has been canceled.\n\n\
                Please sign in to see the details or to find a new time.",
            action: "Find a new time",
            sms: "Your appointment on {{visit_time}} is canceled.\nRebook: {{link}}",
        },
        Kind::PaymentDue => Texts {
            subject: "Payment Due",
            portal: "Your bill is ready to pay.",
            mail: "Your bill from {{practice_name}} is ready to pay.",
            details: "Amount: {{amount}}\nDue: {{payment_date}}\nInvoice: {{invoice_number}}\n\
                Payment method: {{payment_method}}",
            note: "If you have already paid, thank you. There is nothing more to do.",
            minimal: "Your bill from {{practice_name}} is ready to pay.\n\nPlease sign in to view and pay it.",
            action: "View and pay",
            sms: "Your bill is ready to pay.\nView and pay securely: {{link}}",
        },
        Kind::PaymentReceived => Texts {
            subject: "Payment Received",
            portal: "Thank you! We have received your payment.",
            mail: "Thank you! {{practice_name}} has received your payment.",
            details: "Amount: {{amount}}\nPaid on: {{payment_date}}\nPaid with: {{payment_method}}\n\
                Invoice: {{invoice_number}}",
            note: "Please keep this message for your records.",
            minimal: "Thank you! {{practice_name}} has received your payment.\n\nPlease sign in to see your receipt.",
            action: "View receipt",
            sms: "Thank you! We have received your payment.\nReceipt: {{link}}",
        },
        Kind::PaymentFailed => Texts {
            subject: "Payment Unsuccessful",
            portal: "We were unable to process your payment.",
            mail: "We were unable to process your payment to {{practice_name}}.",
            details: "Amount: {{amount}}\nDate: {{payment_date}}\nPayment method: {{payment_method}}\n\
                Invoice: {{invoice_number}}",
            note: "This can happen when a card has expired or its details have changed. \
                You can try again or choose another way to pay.",
            minimal: "We were unable to process your payment to {{practice_name}}.\n\n\
                Please sign in to try again or to choose another way to pay.",
            action: "Try again",
            sms: "We were unable to process your payment.\nTry again: {{link}}",
        },
        Kind::MessageReceived => Texts {
            subject: "New Message",
            portal: "You have a new message from {{sender_name | default: practice_name}}.",
            mail: "You have a new message from {{sender_name | default: practice_name}}.\n\n\
                To protect your privacy, please sign in to read it.",
            details: "",
            note: "",
            minimal: "You have a new message from {{practice_name}}.\n\n\
                To protect your privacy, please sign in to read it.",
            action: "Read message",
            sms: "You have a new message.\nRead it securely: {{link}}",
        },
        Kind::DocumentShared => Texts {
            subject: "{{document_noun}} to {{document_verb}}",
            portal: "You have {{document_task}}.",
            mail: "{{practice_name}} has sent you {{document_task}}.",
            details: "{{document_noun}}: {{document_titles}}\nPlease complete by: {{document_due}}",
            note: "",
            minimal: "{{practice_name}} has sent you {{document_task}}.\n\n\
                The link below is private. Please do not share it.",
            action: "{{document_verb}} {{document_noun | downcase}}",
            sms: "You have {{document_task}}.\nOpen securely: {{link}}",
        },
        Kind::System => Texts {
            subject: "{{notice_kind}}",
            portal: "{{notice_body}}",
            mail: "{{notice_title}}\n\n{{notice_body}}",
            details: "",
            note: "",
            minimal: "You have {{notice_task}} from {{practice_name}}.\n\nPlease sign in to read it.",
            action: "Open patient portal",
            sms: "You have {{notice_task}}.\nSign in to read it: {{link}}",
        },
        Kind::Announcement | Kind::Custom => return None,
    })
}
