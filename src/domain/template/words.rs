//! Words to look at twice: those that say something about somebody's health, addresses of the web, and answers that a carrier would
//! take for something else. They are found by lists, in English and Spanish, so that the same text always yields the same.

mod address;
mod keyword;

pub use address::has_address;
pub(super) use address::without;
pub use keyword::asks_for_a_keyword;

use super::blank::is_blank;

/// Beginnings of words that hardly ever stand in a harmless message of a practice. A space ends a whole word.
const CLINICAL: &[&str] = &[
    // What somebody has.
    "abnormal",
    "abortion",
    "aborto",
    "addict",
    "adiccion",
    "alzheimer",
    "anorexi",
    "anxiety",
    "ansiedad",
    "asma ",
    "asthma",
    "autis",
    "bipolar",
    "cancer",
    "chlamydia",
    "clamidia",
    "cirrosis",
    "cirrhosis",
    "dementia",
    "demencia",
    "depression",
    "depresion",
    "diabet",
    "embaraz",
    "enfermedad",
    "epilep",
    "gonorr",
    "hepatitis",
    "herpes",
    "hiv ",
    "hypertens",
    "hipertens",
    "infect",
    "infecci",
    "infertil",
    "leukemi",
    "leucemi",
    "migraine",
    "migrana",
    "miscarriage",
    "obes",
    "pregnan",
    "psych",
    "psiqui",
    "psicol",
    "schizo",
    "esquizo",
    "sida ",
    "std ",
    "sti ",
    "stroke ",
    "syphilis",
    "sifilis",
    "tubercul",
    "tumor",
    "vih ",
    // What is found out about it.
    "biops",
    "blood ",
    "colonosc",
    "diagnos",
    "glucos",
    "lab ",
    "labs ",
    "laborator",
    "mammogra",
    "mamogra",
    "mri ",
    "pap smear",
    "positive ",
    "prognos",
    "pronostico",
    "resultad",
    "results ",
    "screening",
    "sintoma",
    "symptom",
    "tests ",
    "test result",
    "ultraso",
    "ultrason",
    "x-ray",
    "radiogra",
    // What is done about it.
    "antibiotic",
    "antidepress",
    "chemo",
    "quimio",
    "cirugia",
    "surger",
    "dialy",
    "dialisis",
    "dosage",
    "dosis",
    "injection",
    "inyeccion",
    "insulin",
    "medication",
    "medicament",
    "medicina ",
    "medicine ",
    "metformin",
    "opioid",
    "prescri",
    "receta",
    "refill",
    "rehab",
    "therap",
    "terapia",
    "transfusion",
    "treatment",
    "tratamiento",
    "vaccin",
    "vacuna",
];

/// Whether `text` has a word that says something about somebody's health.
pub(super) fn is_clinical(text: &str) -> bool {
    let words = format!(" {} ", plain(text).join(" "));
    CLINICAL.iter().any(|word| words.contains(&format!(" {word}")))
}

/// The text as it is read: wide letters and dots are like others, and what shows nothing parts no words.
fn seen(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    text.chars().filter(|c| c.is_whitespace() || !is_blank(c.encode_utf8(&mut [0; 4]))).nfkc().collect()
}

/// The words of `text`, in small letters and without accents.
fn plain(text: &str) -> Vec<String> {
    use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};
    let plain: String = text.nfd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect();
    let words = plain.split(|c: char| !c.is_alphanumeric() && c != '-');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that tell somebody's health, and texts that practices send every day, as others than the author of the lists would
    /// write them.
    const LEAKS: &[&str] = &[
        "Your biopsy came back, please call us.",
        "Your lab results are in.",
        "Time for your diabetes check-up!",
        "Please refill your metformin before Friday.",
        "Your HIV test was positive.",
        "Reminder: chemo on Monday, no breakfast.",
        "Your pregnancy ultrasound is on March 3.",
        "Let's talk about your new diagnosis.",
        "Your prescription is ready at the pharmacy.",
        "Please bring your symptom diary.",
        "Your therapy session moved to 3 PM.",
        "You are due for your mammogram.",
        "The surgery is at 7, do not eat.",
        "Your blood work is back.",
        "Dr. Kim wants to see you about your depression.",
        "Second vaccine dose is due.",
        "Sus resultados de laboratorio llegaron.",
        "Su cita de quimioterapia es el lunes.",
        "Recoja su receta en la farmacia.",
        "Traiga la lista de sus medicamentos.",
        "Su diagnóstico está listo.",
        "Es hora de su vacuna.",
        "Su cirugía es mañana a las 7.",
        "Control de su embarazo el martes.",
        "Your A1C is too high.",
        "Your knee MRI is scheduled.",
    ];
    const INNOCENTS: &[&str] = &[
        "You have an appointment on Tuesday, March 3 at 2:30 PM.",
        "Please bring your insurance card.",
        "Our office is closed on Monday.",
        "We have moved to 500 Elm Street, Suite 3.",
        "Reply C to confirm, R to reschedule.",
        "Your bill is ready to pay.",
        "Thank you! We have received your payment.",
        "You have a document to sign.",
        "Please arrive 15 minutes early.",
        "Parking is free behind the building.",
        "You have a new message. Sign in to read it.",
        "Happy birthday from all of us!",
        "Please update your address in the portal.",
        "We are running 20 minutes late today.",
        "Dr. Ray is out this week; call us to rebook.",
        "The doors on Main Street are locked after 5 PM.",
        "Tiene una cita el 3 de marzo a las 2:30 PM.",
        "Por favor traiga su tarjeta del seguro.",
        "La oficina estará cerrada el lunes.",
        "Tiene un documento para firmar.",
        "Gracias, recibimos su pago.",
        "Llegue 15 minutos antes.",
        "Tiene un mensaje nuevo.",
        "Llámenos para cambiar su cita.",
        "Si sus planes cambian, avísenos.",
        "Estamos en un edificio nuevo.",
    ];

    #[test]
    fn most_leaks_are_found_and_innocents_left_alone() {
        let found = LEAKS.iter().filter(|text| is_clinical(text)).count();
        let missed: Vec<_> = LEAKS.iter().filter(|text| !is_clinical(text)).collect();
        let alarms: Vec<_> = INNOCENTS.iter().filter(|text| is_clinical(text)).collect();
        // Recall of at least 95 % and precision of 100 % on these.
        assert!(found * 100 >= LEAKS.len() * 95, "missed: {missed:?}");
        assert!(alarms.is_empty(), "{alarms:?}");
    }
}
