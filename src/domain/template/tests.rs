#![expect(clippy::unwrap_used, reason = "tests")]

use std::{env, fs, path::Path};

use chrono::{NaiveDate, TimeDelta, TimeZone};
use chrono_tz::{America, Tz};

use super::{format::Manner, source::escape_html, *};
use crate::domain::{
    Appointment, Custom, DocumentAction, Documents, Locale, MessageReceived, Money, Notice, Payment, PhoneNumber,
    SecureLink,
};

mod bombs;
mod guards;
mod own;
mod tricks;

const LINK: &str = "https://hw.example/l/0123456789abcdefghijklmn";
const UNSUBSCRIBE: &str = "https://hw.example/u/zyxwvutsrqponmlkjihgfe";

fn practice() -> Practice {
    Practice {
        legal_name: "Acme Primary Care, PLLC".into(),
        display_name: "Acme Primary Care".into(),
        phone: Some(PhoneNumber::from_trusted("+12025550142".into())),
        time_zone: America::New_York,
        locale: "en-US".into(),
        portal_url: Some("https://portal.acme.example".into()),
        postal_address: "12 Main Street, Springfield, VA 22150".into(),
    }
}

fn patient(name: &str) -> Patient {
    Patient {
        id: "patient-7".parse().unwrap(),
        first_name: name.to_owned().into(),
        last_name: "Silva".to_owned().into(),
        email: None,
        mobile_phone: None,
        locale: None,
        time_zone: None,
        portal_enabled: true,
        inactive: false,
        tags: Default::default(),
    }
}

fn phi(text: &str) -> Phi<String> {
    text.to_owned().into()
}

fn link() -> SecureLink {
    SecureLink { target_url: "https://portal.acme.example/secret-target".into(), ttl: None, max_opens: 0 }
}

fn visit() -> Appointment {
    Appointment {
        start_time: "2026-03-03T19:30:00Z".parse().unwrap(),
        duration: Some(TimeDelta::minutes(45)),
        time_zone: None,
        provider_name: phi("Dr. Ray"),
        location_name: phi("North Office"),
        location_address: phi("500 Elm Street, Suite 3"),
        link: Some(link()),
    }
}

fn payment() -> Payment {
    Payment {
        amount: Money { currency_code: "USD".into(), units: 1_234, nanos: 500_000_000 },
        invoice_number: phi("INV-2041"),
        payment_time: Some("2026-04-15T16:00:00Z".parse().unwrap()),
        method_hint: phi("Visa 4242"),
        link: Some(link()),
    }
}

fn documents(action: DocumentAction, titles: &[&str]) -> Documents {
    Documents {
        action,
        document_count: i32::try_from(titles.len()).unwrap(),
        titles: titles.iter().copied().map(phi).collect(),
        link: link(),
        due_time: Some("2026-03-06T22:00:00Z".parse().unwrap()),
    }
}

fn notice(security: bool) -> Notice {
    Notice { title: phi("New sign-in"), body: phi("Someone signed in from a new device.\nWas it you?"), security }
}

/// One payload for each thing that our wording can say.
fn payloads() -> Vec<Payload> {
    let message = MessageReceived { sender_name: phi("Nurse Kim"), conversation_id: None, link: Some(link()) };
    vec![
        Payload::AppointmentReminder(visit()),
        Payload::AppointmentConfirmed(visit()),
        Payload::AppointmentCancelled(visit()),
        Payload::PaymentDue(payment()),
        Payload::PaymentReceived(payment()),
        Payload::PaymentFailed(payment()),
        Payload::MessageReceived(message),
        Payload::DocumentShared(documents(DocumentAction::Sign, &["Intake Form", "Privacy Notice"])),
        Payload::DocumentShared(documents(DocumentAction::Review, &["Care Plan"])),
        Payload::System(notice(false)),
        Payload::System(notice(true)),
    ]
}

const PLACES: [(Channel, bool); 5] = [
    (Channel::InApp, true),
    (Channel::Email, true),
    (Channel::Email, false),
    (Channel::Sms, true),
    (Channel::Push, true),
];

/// All that a message is made from but its payload.
struct Scene {
    practice: Practice,
    own: OwnWording,
    patient: Patient,
    words: Option<Phi<String>>,
    prefix: String,
    link: Option<String>,
    unsubscribe: Option<String>,
}

impl Scene {
    fn new() -> Self {
        Self {
            practice: practice(),
            own: OwnWording::NONE,
            patient: patient("Maria"),
            words: Some(phi("Please bring your insurance card.")),
            prefix: "Acme Primary Care".into(),
            link: Some(LINK.into()),
            unsubscribe: Some(UNSUBSCRIBE.into()),
        }
    }

    /// Before somebody who reads `language`.
    fn read_in(language: Language) -> Self {
        let patient = Patient { locale: Some(language.tag().into()), ..patient("Maria") };
        Self { patient, ..Self::new() }
    }

    fn values(&self, payload: &Payload, place: (Channel, bool)) -> Values {
        let locale = self.patient.locale.as_deref().unwrap_or(&self.practice.locale);
        message::values(&self.ask(payload, place), &Manner::of(&Locale::new(locale)))
    }

    fn ask<'a>(&'a self, payload: &'a Payload, (channel, phi_permitted): (Channel, bool)) -> Rendering<'a> {
        Rendering {
            channel,
            payload,
            custom_content: self.words.as_ref(),
            practice: &self.practice,
            patient: &self.patient,
            own: &self.own,
            sms_prefix: &self.prefix,
            phi_permitted,
            link: self.link.as_deref(),
            unsubscribe: self.unsubscribe.as_deref(),
            test: false,
        }
    }

    fn render(&self, payload: &Payload, place: (Channel, bool)) -> Content {
        render(&self.ask(payload, place)).unwrap()
    }
}

fn rendered(payload: &Payload, place: (Channel, bool)) -> Content {
    Scene::new().render(payload, place)
}

/// Compares with a file of tests/golden, or writes it if HEEDWELL_BLESS is set.
fn check_golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("HEEDWELL_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, actual).unwrap();
    }
    assert_eq!(actual, fs::read_to_string(&path).unwrap(), "{name}; HEEDWELL_BLESS=1 accepts the change");
}

#[test]
fn the_wording_is_as_it_was_agreed() {
    for (language, name) in [(Language::English, "builtin.txt"), (Language::Spanish, "builtin.es.txt")] {
        let scene = Scene::read_in(language);
        let mut golden = String::new();
        for payload in payloads() {
            for place @ (channel, phi_permitted) in PLACES {
                let content = scene.render(&payload, place);
                let minimal = if phi_permitted { "" } else { ", minimal" };
                golden += &format!("=== {}, {}{minimal}\n", content.template_key, channel.label());
                if !content.subject.expose().is_empty() {
                    golden += &format!("Subject: {}\n\n", content.subject.expose());
                }
                golden += &format!("{}\n\n", content.text.expose());
            }
        }
        check_golden(name, &golden);
    }
}

#[test]
fn the_layout_is_as_it_was_agreed() {
    let html = |payload: &Payload| rendered(payload, (Channel::Email, true)).html.into_inner();
    check_golden("appointment_reminder.html", &html(&Payload::AppointmentReminder(visit())));
    let documents = Payload::DocumentShared(documents(DocumentAction::Sign, &["A", "B"]));
    check_golden("document_shared.html", &html(&documents));
    let spanish = Scene::read_in(Language::Spanish).render(&documents, (Channel::Email, true));
    check_golden("document_shared.es.html", spanish.html.expose());
    let minimal = rendered(&Payload::AppointmentReminder(visit()), (Channel::Email, false));
    check_golden("appointment_reminder.minimal.html", minimal.html.expose());
    check_golden("appointment_reminder.own.html", own::in_html().html.expose());
    check_golden(
        "appointment_reminder.hebrew.html",
        &turned_around().render(&Payload::AppointmentReminder(visit()), (Channel::Email, true)).html.into_inner(),
    );
}

/// A practice whose name is read from right to left, before somebody who reads from left to right.
fn turned_around() -> Scene {
    let practice = Practice {
        display_name: "\u{5de}\u{5e8}\u{5e4}\u{5d0}\u{5d4} \u{5e9}\u{5dc}\u{5d5}\u{5dd} 24/7".into(),
        legal_name: "\u{5de}\u{5e8}\u{5e4}\u{5d0}\u{5d4} \u{5e9}\u{5dc}\u{5d5}\u{5dd}, PLLC".into(),
        ..practice()
    };
    Scene { practice, ..Scene::new() }
}

#[test]
fn a_name_that_is_read_from_right_to_left_turns_nothing_else_around() {
    let scene = turned_around();
    let all = payloads().into_iter().flat_map(|payload| [true, false].map(|permitted| (payload.clone(), permitted)));
    for (payload, phi_permitted) in all {
        let html = scene.render(&payload, (Channel::Email, phi_permitted)).html.into_inner();
        let body = html.split("opacity:0\">").nth(1).unwrap().split("</div>").nth(1).unwrap().to_owned();
        for name in [&scene.practice.display_name, &scene.practice.legal_name] {
            let apart = format!("<bdi>{name}</bdi>");
            assert!(body.contains(&apart), "{body}");
            assert_eq!(body.matches(name.as_str()).count(), body.matches(&apart).count(), "{body}");
        }
        let number = "<bdi>(202)&nbsp;555-0142</bdi>";
        assert!(body.contains(number) && !body.contains("(202) 555"), "{body}");
    }
}

#[test]
fn every_kind_with_wording_of_ours_compiles_in_every_form() {
    for kind in Kind::ALL {
        for form in Form::ALL {
            let expected = match kind {
                Kind::Announcement => false,
                Kind::Custom => form == Form::MinimalEmail,
                _ => true,
            };
            for language in Language::ALL {
                let compiled = builtin::compiled(kind, form, language);
                assert_eq!(compiled.is_some(), expected, "{kind:?} {form:?} {language:?}");
                assert!(compiled.is_none_or(|compiled| compiled.is_ok()), "{kind:?} {form:?} {language:?}");
            }
        }
    }
}

#[test]
fn a_text_message_fits_one_segment_with_the_longest_prefix_and_link() {
    let link = format!("https://{}", "h".repeat(37));
    assert_eq!(link.len(), 45);
    for (language, prefix) in [
        (Language::English, "P".repeat(30)),
        (Language::Spanish, "P".repeat(30)),
        (Language::Spanish, "Familia Nu\u{f1}ez, San Jos\u{e9} Juarez".into()),
        // Quotes and dashes as word processors write them are no reason for another alphabet.
        (Language::English, "Women\u{2019}s Care \u{2013} North Hills".into()),
    ] {
        assert!(prefix.chars().count() <= 30);
        let scene = Scene { prefix, link: Some(link.clone()), ..Scene::read_in(language) };
        check_texts(&scene, &link);
    }
}

fn check_texts(scene: &Scene, link: &str) {
    let check = |payload: &Payload| {
        let content = scene.render(payload, (Channel::Sms, true));
        let text = content.text.expose();
        assert_eq!((content.sms_segments, content.sms_gsm7), (1, true), "{text}");
        let prefix = scene.prefix.replace('\u{2019}', "'").replace('\u{2013}', "-");
        assert!(text.starts_with(&prefix) && text.ends_with(link), "{text}");
    };
    payloads().iter().for_each(check);
    check(&Payload::DocumentShared(Documents { document_count: i32::MAX, ..documents(DocumentAction::Review, &[]) }));
    // No time on the clock is longer than this one, in whatever zone.
    let longest = NaiveDate::from_ymd_opt(2026, 9, 30).unwrap().and_hms_opt(12, 30, 0).unwrap();
    for zone in chrono_tz::TZ_VARIANTS {
        let start_time = zone.from_local_datetime(&longest).earliest().unwrap().to_utc();
        let visit = Appointment { start_time, time_zone: Some(zone), ..visit() };
        check(&Payload::AppointmentReminder(visit.clone()));
        check(&Payload::AppointmentConfirmed(visit.clone()));
        check(&Payload::AppointmentCancelled(visit));
    }
}

#[test]
fn no_detail_leaves_the_places_that_may_hold_it() {
    let details = [
        "Dr. Ray",
        "North Office",
        "Elm Street",
        "1,234",
        "INV-2041",
        "April 15",
        "de abril",
        "2026",
        "Visa",
        "4242",
        "Nurse Kim",
        "Intake Form",
        "Privacy Notice",
        "Care Plan",
        "March 6",
        "6 de marzo",
        "sign-in",
        "new device",
        "insurance card",
        "secret-target",
        "Silva",
    ];
    let times = ["March 3", "3 de marzo", "2:30", "45 minut"];
    let scenes = Language::ALL.map(Scene::read_in);
    for (scene, payload) in scenes.iter().flat_map(|scene| payloads().into_iter().map(move |payload| (scene, payload)))
    {
        for place @ (channel, phi_permitted) in PLACES {
            let content = scene.render(&payload, place);
            let (subject, text, html) = (content.subject.expose(), content.text.expose(), content.html.expose());
            let mut closed = if channel == Channel::InApp { String::new() } else { subject.clone() };
            if !matches!((channel, phi_permitted), (Channel::InApp, _) | (Channel::Email, true)) {
                closed = format!("{closed}{text}{html}");
            }
            let leaked =
                details.iter().chain(times.iter().filter(|_| channel != Channel::Sms)).find(|v| closed.contains(**v));
            assert_eq!(leaked, None, "{} {channel:?}", content.template_key);
        }
    }
}

#[test]
fn what_shows_beside_the_subject_of_a_mail_gives_nothing_away() {
    let scenes = Language::ALL.map(Scene::read_in);
    for (scene, payload) in scenes.iter().flat_map(|scene| payloads().into_iter().map(move |payload| (scene, payload)))
    {
        let html = scene.render(&payload, (Channel::Email, true)).html.into_inner();
        let shown = html.split("opacity:0\">").nth(1).unwrap().split("</div>").next().unwrap();
        let sentence = shown.split("&#847;").next().unwrap();
        assert!((20..=90).contains(&sentence.len()) && sentence.ends_with('.'), "{sentence}");
        assert!(shown.matches("&zwnj;").count() + sentence.len() > 100, "room for a detail to show");
    }
}

#[test]
fn both_parts_of_a_mail_hold_the_same_facts() {
    let all = Language::ALL.into_iter().flat_map(|language| payloads().into_iter().map(move |it| (language, it)));
    for (language, payload) in all {
        let scene = Scene::read_in(language);
        for phi_permitted in [true, false] {
            let content = scene.render(&payload, (Channel::Email, phi_permitted));
            let source = wording(payload.kind(), Form::of(Channel::Email, phi_permitted), language).unwrap().text;
            let values = scene.values(&payload, (Channel::Email, phi_permitted));
            let used = Token::ALL.iter().filter(|token| source.contains(&format!("{{{{{}", token.name())));
            for value in used.map(|token| values.get(*token)).filter(|value| !value.is_empty()) {
                let value = value.to_owned();
                let found = |text: &str, value: &str| text.to_lowercase().contains(&value.to_lowercase());
                assert!(found(content.text.expose(), &value), "{value} in text");
                let html =
                    ["<bdi>", "</bdi>"].iter().fold(content.html.expose().clone(), |html, mark| html.replace(mark, ""));
                assert!(found(&html.replace("&nbsp;", " "), &escape_html(&value)), "{value} in html");
            }
        }
    }
}

#[test]
fn every_mail_names_the_patient_and_the_practice_and_holds_one_address_and_the_way_out() {
    let all = Language::ALL.into_iter().flat_map(|language| payloads().into_iter().map(move |it| (language, it)));
    for (language, payload) in all {
        let (greeting, way_out) = match language {
            Language::English => ("Hi Maria,", "Unsubscribe from these emails"),
            Language::Spanish => ("Hola, Maria:", "Dejar de recibir estos correos"),
        };
        for place in [(Channel::Email, true), (Channel::Email, false), (Channel::Sms, true)] {
            let content = Scene::read_in(language).render(&payload, place);
            let is_mail = place.0 == Channel::Email;
            assert_eq!(content.text.expose().matches("https://").count(), 1 + usize::from(is_mail));
            assert!(content.text.expose().contains(LINK));
            if is_mail {
                let html = content.html.expose();
                let ours = html.matches(LINK).count() + html.matches(UNSUBSCRIBE).count();
                assert_eq!(html.matches("https://").count(), ours);
                let last = format!("\n{way_out}: {UNSUBSCRIBE}");
                assert!(content.text.expose().ends_with(&last));
                assert_eq!(html.matches(&format!("href=\"{UNSUBSCRIBE}\"")).count(), 1);
                assert_eq!(
                    html.matches("http:").count() + html.matches("src=").count() + html.matches("url(").count(),
                    0
                );
                for part in [content.text.expose(), html] {
                    assert!(part.contains(greeting) && part.contains("Acme Primary Care, PLLC"));
                }
            }
        }
    }
}

/// What was stored before such characters were left out, and what senders put in a name.
#[test]
fn what_is_not_seen_turns_nothing_around() {
    let hidden = "\u{202e}\u{2066}\u{feff}";
    let visit = Appointment { provider_name: phi(&format!("Dr.{hidden} Ray")), ..visit() };
    let scene = Scene { patient: patient(&format!("Ma{hidden}ria")), ..Scene::new() };
    for place in PLACES {
        let content = scene.render(&Payload::AppointmentReminder(visit.clone()), place);
        let all = [content.subject.expose(), content.text.expose(), content.html.expose()].map(String::as_str).concat();
        assert!(!all.contains(['\u{202e}', '\u{2066}', '\u{feff}']), "{all}");
    }
}

#[test]
fn two_patients_get_two_texts() {
    for payload in payloads() {
        for phi_permitted in [true, false] {
            let [first, second] = ["Sam", "Lee"].map(|name| {
                let scene = Scene { patient: patient(name), ..Scene::new() };
                let content = scene.render(&payload, (Channel::Email, phi_permitted));
                content.text.into_inner() + content.html.expose()
            });
            assert!(first.contains("Sam") && !first.contains("Lee"));
            assert!(second.contains("Lee") && !second.contains("Sam"));
        }
    }
}

#[test]
fn markup_in_any_field_is_shown_and_not_obeyed() {
    let evil = || phi("<script>alert('x')</script>\"><img src=x>");
    let visit = Appointment { provider_name: evil(), location_name: evil(), location_address: evil(), ..visit() };
    let payment = Payment {
        amount: Money { currency_code: "<script>".into(), units: 1, nanos: 0 },
        invoice_number: evil(),
        method_hint: evil(),
        ..payment()
    };
    let message = MessageReceived { sender_name: evil(), conversation_id: None, link: None };
    let documents = Documents { titles: vec![evil(), evil()], ..documents(DocumentAction::Sign, &[]) };
    let practice = Practice {
        legal_name: evil().into_inner(),
        display_name: evil().into_inner(),
        postal_address: evil().into_inner(),
        ..practice()
    };
    let scene = Scene {
        practice,
        patient: Patient { first_name: evil(), ..patient("") },
        words: Some(evil()),
        link: Some("https://x.example/\"><script>".into()),
        unsubscribe: Some("https://x.example/\"><script>".into()),
        ..Scene::new()
    };
    for payload in [
        Payload::AppointmentReminder(visit.clone()),
        Payload::AppointmentConfirmed(visit.clone()),
        Payload::AppointmentCancelled(visit),
        Payload::PaymentDue(payment.clone()),
        Payload::PaymentReceived(payment.clone()),
        Payload::PaymentFailed(payment),
        Payload::MessageReceived(message),
        Payload::DocumentShared(documents),
        Payload::System(Notice { title: evil(), body: evil(), security: true }),
    ] {
        for phi_permitted in [true, false] {
            let html = scene.render(&payload, (Channel::Email, phi_permitted)).html.into_inner();
            assert_eq!(html.matches("<script").count() + html.matches("<img").count(), 0, "{html}");
            assert!(html.contains("&lt;script&gt;"));
        }
    }
}

#[test]
fn an_absent_value_takes_its_line_along() {
    for language in Language::ALL {
        let bare = Practice { phone: None, portal_url: None, postal_address: String::new(), ..practice() };
        check_absent(&Scene { practice: bare, words: None, link: None, unsubscribe: None, ..Scene::read_in(language) });
    }
}

fn check_absent(scene: &Scene) {
    let none = || phi("");
    let payment = Payment { invoice_number: none(), payment_time: None, method_hint: none(), link: None, ..payment() };
    let visit = Appointment {
        duration: None,
        provider_name: none(),
        location_name: none(),
        location_address: none(),
        link: None,
        ..visit()
    };
    let message = MessageReceived { sender_name: none(), conversation_id: None, link: None };
    for payload in [
        Payload::AppointmentReminder(visit),
        Payload::PaymentDue(payment),
        Payload::MessageReceived(message),
        Payload::DocumentShared(Documents { due_time: None, ..documents(DocumentAction::Sign, &[]) }),
    ] {
        for place in PLACES {
            let content = scene.render(&payload, place);
            let text = content.text.expose();
            assert!(!text.is_empty() && text.trim() == text && !text.contains("\n\n\n"), "{text:?}");
            for line in text.lines().filter(|line| *line != filled::SIGNATURE) {
                assert!(!line.ends_with([':', ' ', ',']) || ["Hi Maria,", "Hola, Maria:"].contains(&line), "{line:?}");
            }
            for gone in
                ["Call us", "http", "With:", "Invoice:", "Due:", "Documents:", "None", "Llámenos", "Con:", "Factura:"]
            {
                assert!(!text.contains(gone), "{text}");
            }
            assert!(
                ["\"></td>", "<bdi></bdi>"].iter().all(|empty| !content.html.expose().contains(empty))
                    && !content.html.expose().contains("href")
            );
        }
    }
}

#[test]
fn wording_asks_for_no_reply_that_the_carrier_would_take_as_stop_or_start_and_names_nothing_clinical() {
    let places = Kind::ALL.into_iter().flat_map(|kind| Form::ALL.map(|form| (kind, form)));
    for (kind, form) in places {
        for language in Language::ALL {
            let Some(wording) = wording(kind, form, language) else { continue };
            let all = format!("{} {} {}", wording.subject, wording.text, wording.preview).to_lowercase();
            let words: Vec<_> = all.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            assert!(!words::is_clinical(&all) && !words::asks_for_a_keyword(&all), "{kind:?} {form:?} {language:?}");
            for bad in [
                "reply",
                "respond",
                "text",
                "yes",
                "cancel",
                "stop",
                "start",
                "diagnosis",
                "test",
                "result",
                "results",
                "lab",
                "medication",
                "prescription",
                "treatment",
                "therapy",
                "condition",
                "symptom",
                "symptoms",
                "doctor",
                "health",
                "responda",
                "cancelar",
                "alto",
                "parar",
                "salud",
                "médico",
            ] {
                assert!(!words.contains(&bad), "{kind:?} {form:?}: {bad}");
            }
            assert!(all.is_ascii() || language == Language::Spanish, "{kind:?} {form:?}");
        }
    }
}

#[test]
fn times_are_shown_in_the_zone_of_the_visit() {
    let text = |time_zone: Option<Tz>| {
        let visit = Payload::AppointmentReminder(Appointment { time_zone, ..visit() });
        rendered(&visit, (Channel::Sms, true)).text.into_inner()
    };
    assert!(text(None).contains("on Tuesday, March 3 at 2:30 PM."));
    assert!(text(Some(America::New_York)).contains("on Tuesday, March 3 at 2:30 PM."));
    assert!(text(Some(America::Chicago)).contains("on Tuesday, March 3 at 1:30 PM CST."));
}

#[test]
fn without_an_address_of_its_own_a_message_leads_to_the_portal() {
    let scene = Scene { link: None, ..Scene::new() };
    let content = scene.render(&Payload::System(notice(false)), (Channel::Sms, true));
    assert!(content.text.expose().ends_with("https://portal.acme.example"));
}

#[test]
fn a_text_message_that_the_carrier_would_refuse_is_refused() {
    let payload = Payload::System(notice(false));
    let with_prefix = |length: usize| {
        let scene = Scene { prefix: "é".repeat(length), ..Scene::new() };
        render(&scene.ask(&payload, (Channel::Sms, true))).map(|content| content.sms_segments)
    };
    let bare = Scene { prefix: String::new(), ..Scene::new() }.render(&payload, (Channel::Sms, true));
    let base = bare.text.expose().chars().count();
    assert_eq!(with_prefix(1_600 - base), Ok(11));
    assert_eq!(with_prefix(1_601 - base), Err(RenderError::TooLong));
}

#[test]
fn a_payload_for_a_template_of_the_practice_has_no_wording_of_ours() {
    let payload = Payload::Custom(Custom { template_key: "flu-season".into(), variables: Default::default() });
    for place in PLACES {
        assert_eq!(render(&Scene::new().ask(&payload, place)), Err(RenderError::UnknownTemplate));
    }
}

#[test]
fn nothing_about_a_patient_shows_in_debug_output() {
    let scene = Scene::new();
    for payload in payloads() {
        let ask = scene.ask(&payload, (Channel::Email, true));
        let shown = format!(
            "{payload:?} {ask:?} {:?} {:?}",
            scene.values(&payload, (Channel::Email, true)),
            render(&ask).unwrap()
        );
        let canaries = [
            "Maria",
            "Silva",
            "Ray",
            "March",
            "2026",
            "1234",
            "1,234",
            "INV",
            "Visa",
            "Kim",
            "Intake",
            "device",
            "insurance",
            "secret",
            "0123456789abc",
        ];
        assert_eq!(canaries.iter().find(|canary| shown.contains(**canary)), None, "{shown}");
    }
}

#[test]
fn a_test_says_so_first_in_the_language_of_its_text_and_pays_for_it() {
    for (language, mark) in [(Language::English, "[Test]"), (Language::Spanish, "[Prueba]")] {
        let scene = Scene::read_in(language);
        let payload = Payload::AppointmentReminder(visit());
        let plain = scene.render(&payload, (Channel::Sms, true));
        let text = render(&Rendering { test: true, ..scene.ask(&payload, (Channel::Sms, true)) }).unwrap();
        assert_eq!(*text.text.expose(), format!("{mark} {}", plain.text.expose()));
        assert!(text.sms_gsm7 && text.sms_segments == i32::try_from(sms::segments(text.text.expose()).count).unwrap());
        for phi_permitted in [true, false] {
            let place = (Channel::Email, phi_permitted);
            let plain = scene.render(&payload, place);
            let mail = render(&Rendering { test: true, ..scene.ask(&payload, place) }).unwrap();
            assert_eq!(*mail.subject.expose(), format!("{mark} {}", plain.subject.expose()));
            assert_eq!(*mail.text.expose(), format!("{mark}\n\n{}", plain.text.expose()));
            assert!(mail.html.expose().contains(&format!(">{mark}</p>")) && !plain.html.expose().contains(mark));
        }
    }
}
