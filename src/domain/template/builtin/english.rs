//! What we say in English.

use super::{Letter, Texts};
use crate::domain::Kind;

pub(super) const LETTER: Letter = Letter {
    greeting: "Hi {{first_name}},",
    questions: "Questions? Call us at {{practice_phone}}.",
    unsubscribe: "Unsubscribe from these emails",
    test: "[Test]",
    push: "You have a new message.",
};

const VISIT_DETAILS: &str = "When: {{visit_time}}\nLength: {{visit_length}}\nWith: {{provider_name}}\n\
    Where: {{location_name}}\nAddress: {{location_address}}";

#[expect(clippy::too_many_lines, reason = "a table reads better whole")]
pub(super) fn texts(kind: Kind) -> Option<Texts> {
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
        Kind::Custom => Texts {
            subject: "New Message",
            portal: "",
            mail: "",
            details: "",
            note: "",
            minimal: "You have a new message from {{practice_name}}.\n\nPlease sign in to read it.",
            action: "Open patient portal",
            sms: "",
        },
        Kind::Announcement => return None,
    })
}
