//! What we say in Spanish, to someone who is addressed with respect.

use super::{Letter, Texts};
use crate::domain::Kind;

pub(super) const LETTER: Letter = Letter {
    greeting: "Hola, {{first_name}}:",
    questions: "¿Tiene preguntas? Llámenos al {{practice_phone}}.",
    unsubscribe: "Dejar de recibir estos correos",
    test: "[Prueba]",
    push: "Tiene un mensaje nuevo.",
};

const VISIT_DETAILS: &str = "Cuándo: {{visit_time}}\nDuración: {{visit_length}}\nCon: {{provider_name}}\n\
    Lugar: {{location_name}}\nDirección: {{location_address}}";

#[expect(clippy::too_many_lines, reason = "a table reads better whole")]
pub(super) fn texts(kind: Kind) -> Option<Texts> {
    Some(match kind {
        Kind::AppointmentReminder => Texts {
            subject: "Recordatorio de cita",
            portal: "Le recordamos su próxima cita.",
            mail: "Le recordamos su próxima cita con {{practice_name}}.",
            details: VISIT_DETAILS,
            note: "Si ya no puede asistir, avísenos lo antes posible para que podamos buscarle otro horario.",
            minimal: "Tiene una próxima cita con {{practice_name}}.\n\nInicie sesión para ver los detalles.",
            action: "Ver cita",
            sms: "Tiene una cita el {{visit_time}}.\nDetalles: {{link}}",
        },
        Kind::AppointmentConfirmed => Texts {
            subject: "Cita confirmada",
            portal: "Su cita está confirmada. Será un gusto recibirle.",
            mail: "Su cita con {{practice_name}} está confirmada. Será un gusto recibirle.",
            details: VISIT_DETAILS,
            note: "Si sus planes cambian, avísenos lo antes posible.",
            minimal: "Su cita con {{practice_name}} está confirmada.\n\nInicie sesión para ver los detalles.",
            action: "Ver cita",
            sms: "Confirmamos su cita del {{visit_time}}.\nDetalles: {{link}}",
        },
        Kind::AppointmentCancelled => Texts {
            subject: "Cita cancelada",
            portal: "Esta cita fue cancelada.",
            mail: "Su cita con {{practice_name}} fue cancelada.",
            details: VISIT_DETAILS,
            note: "Con gusto le buscaremos un nuevo horario.",
            minimal: "Una cita con {{practice_name}} fue cancelada.\n\n\
                Inicie sesión para ver los detalles o buscar un nuevo horario.",
            action: "Buscar otro horario",
            sms: "Su cita del {{visit_time}} fue cancelada.\nNueva cita: {{link}}",
        },
        Kind::PaymentDue => Texts {
            subject: "Pago pendiente",
            portal: "Su factura está lista para pagar.",
            mail: "Su factura de {{practice_name}} está lista para pagar.",
            details: "Monto: {{amount}}\nVence: {{payment_date}}\nFactura: {{invoice_number}}\n\
                Forma de pago: {{payment_method}}",
            note: "Si ya pagó, muchas gracias. No tiene que hacer nada más.",
            minimal: "Su factura de {{practice_name}} está lista para pagar.\n\nInicie sesión para verla y pagarla.",
            action: "Ver y pagar",
            sms: "Tiene una factura por pagar.\nVer y pagar de forma segura: {{link}}",
        },
        Kind::PaymentReceived => Texts {
            subject: "Pago recibido",
            portal: "¡Gracias! Recibimos su pago.",
            mail: "¡Gracias! {{practice_name}} recibió su pago.",
            details: "Monto: {{amount}}\nFecha de pago: {{payment_date}}\nForma de pago: {{payment_method}}\n\
                Factura: {{invoice_number}}",
            note: "Conserve este mensaje como comprobante.",
            minimal: "¡Gracias! {{practice_name}} recibió su pago.\n\nInicie sesión para ver su recibo.",
            action: "Ver recibo",
            sms: "¡Gracias! Recibimos su pago.\nRecibo: {{link}}",
        },
        Kind::PaymentFailed => Texts {
            subject: "Pago no procesado",
            portal: "No pudimos procesar su pago.",
            mail: "No pudimos procesar su pago a {{practice_name}}.",
            details: "Monto: {{amount}}\nFecha: {{payment_date}}\nForma de pago: {{payment_method}}\n\
                Factura: {{invoice_number}}",
            note: "Esto puede ocurrir cuando una tarjeta venció o cambiaron sus datos. \
                Puede intentarlo de nuevo o elegir otra forma de pago.",
            minimal: "No pudimos procesar su pago a {{practice_name}}.\n\n\
                Inicie sesión para intentarlo de nuevo o elegir otra forma de pago.",
            action: "Intentar de nuevo",
            sms: "No pudimos procesar su pago.\nIntente de nuevo: {{link}}",
        },
        Kind::MessageReceived => Texts {
            subject: "Mensaje nuevo",
            portal: "Tiene un mensaje nuevo de {{sender_name | default: practice_name}}.",
            mail: "Tiene un mensaje nuevo de {{sender_name | default: practice_name}}.\n\n\
                Para proteger su privacidad, inicie sesión para leerlo.",
            details: "",
            note: "",
            minimal: "Tiene un mensaje nuevo de {{practice_name}}.\n\n\
                Para proteger su privacidad, inicie sesión para leerlo.",
            action: "Leer mensaje",
            sms: "Tiene un mensaje nuevo.\nLea de forma segura: {{link}}",
        },
        Kind::DocumentShared => Texts {
            subject: "{{document_noun}} para {{document_verb | downcase}}",
            portal: "Tiene {{document_task}}.",
            mail: "{{practice_name}} le envió {{document_task}}.",
            details: "{{document_noun}}: {{document_titles}}\nFecha límite: {{document_due}}",
            note: "",
            minimal: "{{practice_name}} le envió {{document_task}}.\n\n\
                El enlace de abajo es privado. Por favor, no lo comparta.",
            action: "{{document_verb}} {{document_noun | downcase}}",
            sms: "Tiene {{document_task}}.\nAbra de forma segura: {{link}}",
        },
        Kind::System => Texts {
            subject: "{{notice_kind}}",
            portal: "{{notice_body}}",
            mail: "{{notice_title}}\n\n{{notice_body}}",
            details: "",
            note: "",
            minimal: "{{practice_name}} le envió {{notice_task}}.\n\nInicie sesión para ver los detalles.",
            action: "Abrir portal del paciente",
            sms: "Tiene {{notice_task}}.\nDetalles: {{link}}",
        },
        Kind::Custom => Texts {
            subject: "Mensaje nuevo",
            portal: "",
            mail: "",
            details: "",
            note: "",
            minimal: "Tiene un mensaje nuevo de {{practice_name}}.\n\nInicie sesión para leerlo.",
            action: "Abrir portal del paciente",
            sms: "",
        },
        Kind::Announcement => return None,
    })
}
