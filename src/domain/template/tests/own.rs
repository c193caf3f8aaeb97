//! Wording that a practice put in the place of ours, and templates of its own.

use std::collections::BTreeMap;

use super::*;

fn at(purpose: Purpose, channel: Channel, locale: &str) -> TemplateRef {
    TemplateRef { purpose, channel, locale: Locale::new(locale) }
}

pub(super) fn reminder(channel: Channel, locale: &str) -> TemplateRef {
    at(Purpose::Kind(Kind::AppointmentReminder), channel, locale)
}

pub(super) fn custom(channel: Channel, locale: &str) -> TemplateRef {
    at(Purpose::Custom("flu-season".into()), channel, locale)
}

pub(super) fn text(text: &str) -> Wording {
    Wording { text: text.into(), ..Wording::default() }
}

/// A practice that has put these in use, each as version 7.
pub(super) fn own<const N: usize>(wordings: [(TemplateRef, Wording); N]) -> OwnWording {
    OwnWording::new(wordings.map(|(at, wording)| {
        let variables = if matches!(at.purpose, Purpose::Custom(_)) { vec!["when".into()] } else { Vec::new() };
        (at, Active::new(7, wording, variables))
    }))
}

pub(super) fn reads(locale: Option<&str>, own: OwnWording) -> Scene {
    Scene { own, patient: Patient { locale: locale.map(str::to_owned), ..patient("Maria") }, ..Scene::new() }
}

pub(super) fn flu(variables: &[(&str, &str)]) -> Payload {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), phi(value))).collect();
    Payload::Custom(Custom { template_key: "flu-season".into(), variables })
}

#[test]
fn a_practice_s_wording_takes_the_place_of_ours_where_it_is_and_nowhere_else() {
    let wording = text("See you {{visit_time}}.\nMore: {{link}}");
    let scene = reads(None, own([(reminder(Channel::Sms, "en-US"), wording)]));
    let sms = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Sms, true));
    assert_eq!(*sms.text.expose(), format!("Acme Primary Care: See you Tuesday, March 3 at 2:30 PM.\nMore: {LINK}"));
    assert_eq!((sms.template_key.as_str(), sms.template_version), ("own/appointment_reminder/en-US", 7));
    for (payload, channel) in [
        (Payload::AppointmentConfirmed(visit()), Channel::Sms),
        (Payload::AppointmentReminder(visit()), Channel::Email),
        (Payload::AppointmentReminder(visit()), Channel::InApp),
    ] {
        let content = scene.render(&payload, (channel, true));
        assert!(content.template_key.starts_with("builtin/") && content.template_version == 0);
    }
}

#[test]
fn the_reader_s_language_comes_first_then_the_practice_s_then_english() {
    let wordings = || {
        own([
            (reminder(Channel::Sms, "en-US"), text("practice")),
            (reminder(Channel::Sms, "fr"), text("pratique")),
            (reminder(Channel::Sms, "zh-Hant"), text("zhuanye")),
        ])
    };
    for (reader, key) in [
        (None, "own/appointment_reminder/en-US"),
        (Some("en-GB"), "own/appointment_reminder/en-US"),
        (Some("fr-CA"), "own/appointment_reminder/fr"),
        (Some("FR"), "own/appointment_reminder/fr"),
        (Some("zh-Hant-TW"), "own/appointment_reminder/zh-Hant"),
        (Some("zh"), "own/appointment_reminder/zh-Hant"),
        (Some("es-MX"), "builtin/appointment_reminder/es"),
        (Some("vi"), "own/appointment_reminder/en-US"),
    ] {
        let content = reads(reader, wordings()).render(&Payload::AppointmentReminder(visit()), (Channel::Sms, true));
        assert_eq!(content.template_key, key, "{reader:?}");
    }
    let spanish = Practice { locale: "es".into(), ..practice() };
    for (reader, key) in [
        (None, "builtin/appointment_reminder/es"),
        (Some("vi"), "builtin/appointment_reminder/es"),
        (Some("en"), "own/appointment_reminder/en-US"),
    ] {
        let scene = Scene { practice: spanish.clone(), ..reads(reader, wordings()) };
        let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Sms, true));
        assert_eq!(content.template_key, key, "{reader:?}");
    }
    let neither = Practice { locale: "ko".into(), ..practice() };
    let scene = Scene { practice: neither, ..reads(Some("vi"), OwnWording::NONE) };
    let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Sms, true));
    assert_eq!(content.template_key, "builtin/appointment_reminder");
}

#[test]
fn values_are_written_as_the_reader_of_the_wording_writes() {
    let french = text("Rendez-vous : {{visit_time}}\n\nDur\u{e9}e: {{visit_length}}");
    let scene = reads(Some("fr-FR"), own([(reminder(Channel::InApp, "fr"), french)]));
    let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::InApp, true));
    assert_eq!(content.text.expose(), "Rendez-vous : mardi, 03/03/2026, 14:30\n\nDur\u{e9}e: 45 min");
    // A subject of its own it does not have, and neither do we in French.
    assert_eq!(content.subject.expose(), "Acme Primary Care");
}

#[test]
fn mail_that_may_give_nothing_away_is_always_in_our_words() {
    let wording = || Wording { html: "<p>{{provider_name}}</p>".into(), ..text("With: {{provider_name}}") };
    let scene = reads(
        None,
        own([(reminder(Channel::Email, "en-US"), wording()), (custom(Channel::Email, "en-US"), text("{{when}}"))]),
    );
    let minimal = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, false));
    assert_eq!(minimal.template_key, "builtin/appointment_reminder");
    assert!(!minimal.text.expose().contains("Ray") && !minimal.html.expose().contains("Ray"));
    let minimal = scene.render(&flu(&[("when", "soon")]), (Channel::Email, false));
    assert_eq!(minimal.template_key, "builtin/custom");
    assert!(minimal.text.expose().contains("new message") && !minimal.text.expose().contains("soon"));
    let full = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true));
    assert!(full.text.expose().contains("Ray") && full.html.expose().contains("<p>Dr. Ray</p>"));
}

#[test]
fn a_mail_of_the_practice_s_own_is_signed_and_has_the_way_out_in_both_parts() {
    let signed = "Hello!\n\n-- \n{{legal_name}} since 1987";
    for (wording, signature) in [
        (text("Hello {{first_name}}!"), "-- \nAcme Primary Care, PLLC\n12 Main Street"),
        (text("Hello {{first_name}}!\n\n-- \nThe front desk"), "-- \nThe front desk\nAcme Primary Care, PLLC\n12 Main"),
        (text(signed), "-- \nAcme Primary Care, PLLC since 1987\n12 Main Street"),
    ] {
        let scene = reads(None, own([(reminder(Channel::Email, "en-US"), wording)]));
        let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true));
        let (text, html) = (content.text.expose(), content.html.expose());
        assert!(text.contains(signature), "{text}");
        assert!(text.ends_with(&format!("Unsubscribe from these emails: {UNSUBSCRIBE}")), "{text}");
        assert!(html.contains("Acme Primary Care, PLLC") && html.contains(UNSUBSCRIBE), "{html}");
        assert_eq!(content.subject.expose(), "Appointment Reminder - Acme Primary Care");
    }
}

#[test]
fn html_of_the_practice_s_own_is_cleaned_with_its_values_in() {
    let wording = Wording {
        html: "<p onclick=\"x\">Hi {{first_name}}, <a href=\"{{link}}\">see</a> {{custom_content}}</p><script>1</script>\n\
               <p>{{invoice_number}}</p>"
            .into(),
        ..text("Hi {{first_name}}, see {{link}} {{custom_content}}")
    };
    let scene = Scene {
        words: Some(phi("javascript:alert(1)")),
        patient: patient("<b onmouseover='x'>Eve</b>"),
        own: own([(reminder(Channel::Email, "en-US"), wording)]),
        ..Scene::new()
    };
    let html = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true)).html.into_inner();
    let cleaned =
        format!("<p>Hi &lt;b onmouseover='x'&gt;Eve&lt;/b&gt;, <a href=\"{LINK}\">see</a> javascript:alert(1)</p>");
    assert!(html.contains(&cleaned), "{html}");
    assert_eq!(html.matches("<script").count() + html.matches("onclick").count() + html.matches("<p></p>").count(), 0);
}

#[test]
fn a_template_of_the_practice_s_own_wants_exactly_its_variables() {
    let own = own([
        (custom(Channel::Email, "en-US"), text("Flu shots: {{ when | default: 'soon' }}")),
        (custom(Channel::Sms, "en-US"), text("We have news: {{when}}")),
    ]);
    let faults = |variables: &[(&str, &str)]| {
        let Payload::Custom(custom) = flu(variables) else { panic!() };
        own.variable_faults(&custom).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(faults(&[("when", "soon")]), Vec::<String>::new());
    assert_eq!(faults(&[]), ["when"]);
    assert_eq!(faults(&[("whence", "x")]), ["when", "whence"]);
    let unknown = Custom { template_key: "other".into(), variables: BTreeMap::new() };
    assert_eq!(own.variable_faults(&unknown), []);
    let scene = Scene { own, ..Scene::new() };
    let sms = scene.render(&flu(&[("when", "1 to 5\nMonday")]), (Channel::Sms, true));
    assert_eq!(sms.text.expose(), "Acme Primary Care: We have news: 1 to 5\nMonday");
    assert_eq!((sms.template_key.as_str(), sms.template_version), ("custom/flu-season/en-US", 7));
    // Where it has no wording there is none; elsewhere it is read in whatever language there is.
    let none = render(&scene.ask(&flu(&[("when", "x")]), (Channel::InApp, true)));
    assert_eq!(none.err(), Some(RenderError::NoWording));
    let french = reads(Some("de"), self::own([(custom(Channel::InApp, "fr"), text("{{when}}"))]));
    let content = french.render(&flu(&[("when", "x")]), (Channel::InApp, true));
    assert_eq!(content.template_key, "custom/flu-season/fr");
}

#[test]
fn a_template_is_compiled_once() {
    let at = reminder(Channel::Sms, "en");
    let active = Active::new(1, text("x"), Vec::new());
    let [first, second] = [(), ()].map(|()| std::ptr::from_ref(active.compiled(&at).unwrap()));
    assert_eq!(first, second);
}

/// Before invented data in that wording.
pub(super) fn wording_of<T>(
    at: &TemplateRef,
    wording: &Wording,
    variables: &[&str],
    link: Option<&str>,
    look: impl Fn(&Rendering) -> T,
) -> T {
    let variables: Vec<_> = variables.iter().map(|name| (*name).to_owned()).collect();
    let values = variables.iter().map(|name| (name.clone(), phi("sample"))).collect();
    let invented = Invented::new(at, values).unwrap();
    let own = OwnWording::new([(at.clone(), Active::new(0, wording.clone(), variables))]);
    let practice = practice();
    look(&Rendering {
        channel: at.channel,
        payload: &invented.payload,
        custom_content: Some(&invented.custom_content),
        practice: &practice,
        patient: &invented.patient,
        own: &own,
        sms_prefix: "Acme Primary Care",
        phi_permitted: true,
        link,
        unsubscribe: Some(UNSUBSCRIBE),
        test: false,
    })
}

/// What is wrong with that wording, as its author is told.
pub(super) fn told_by(
    link: Option<&str>,
    at: &TemplateRef,
    wording: &Wording,
    variables: &[&str],
) -> Vec<(&'static str, String)> {
    let declared: Vec<_> = variables.iter().map(|name| (*name).to_owned()).collect();
    let found = wording_of(at, wording, variables, link, |ask| problems(at, wording, &declared, ask));
    found.into_iter().map(|it| (it.part.name(), it.message)).collect()
}

fn told(at: &TemplateRef, wording: &Wording, variables: &[&str]) -> Vec<(&'static str, String)> {
    told_by(Some(LINK), at, wording, variables)
}

pub(super) fn parts(at: &TemplateRef, wording: &Wording, variables: &[&str]) -> Vec<&'static str> {
    told(at, wording, variables).into_iter().map(|(part, _)| part).collect()
}

#[test]
fn each_token_is_taken_where_its_class_and_its_kind_belong_and_refused_elsewhere() {
    for token in Token::ALL {
        for kind in [Kind::AppointmentReminder, Kind::PaymentDue, Kind::System, Kind::DocumentShared] {
            for channel in Channel::ALL {
                let at = at(Purpose::Kind(kind), channel, "en");
                let source = format!("Hello {{{{{}}}}}!", token.name());
                let classes = at.form().text_classes();
                let good = token.fits(kind) && classes.contains(&token.class());
                let found = told(&at, &text(&source), &[]);
                assert_eq!(found.is_empty(), good, "{token:?} {kind:?} {channel:?} {found:?}");
                if channel != Channel::Sms {
                    let subject = Wording { subject: source, ..text("Hello!") };
                    let good = token.fits(kind) && at.form().subject_classes().contains(&token.class());
                    assert_eq!(parts(&at, &subject, &[]).is_empty(), good, "{token:?} {kind:?} {channel:?}");
                }
            }
        }
    }
}

#[test]
fn a_text_message_holds_no_address_but_the_link_and_asks_for_no_keyword() {
    let sms = reminder(Channel::Sms, "en");
    for bad in [
        "See https://acme.example/x",
        "See acme.com/x or {{link}}",
        "Reply YES to confirm {{visit_time}}",
        "Text CANCEL to cancel.",
    ] {
        assert_eq!(parts(&sms, &text(bad), &[]), ["text"], "{bad}");
    }
    assert_eq!(parts(&sms, &text("Reply C to confirm, R to reschedule. {{link}}"), &[]), Vec::<&str>::new());
    assert_eq!(parts(&reminder(Channel::Email, "en"), &text("See https://acme.example/x"), &[]), Vec::<&str>::new());
}

#[test]
fn a_text_message_is_at_most_what_twilio_takes() {
    let sms = reminder(Channel::Sms, "en");
    let prefix = "Acme Primary Care: ".chars().count();
    assert_eq!(parts(&sms, &text(&"x".repeat(1_600 - prefix)), &[]), Vec::<&str>::new());
    assert_eq!(parts(&sms, &text(&"x".repeat(1_601 - prefix)), &[]), ["text"]);
    // A dash of typography is three dots on the air.
    assert_eq!(parts(&sms, &text(&"\u{2026}".repeat(600)), &[]), ["text"]);
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let wording = Wording {
        subject: "{{amount}}\n{{nobody}}".into(),
        text: "{{nobody}}\n{% if x %}\nfine\n{{ first_name".into(),
        html: "{{ x | shout }}".into(),
        ..Wording::default()
    };
    let found = told(&reminder(Channel::Email, "en"), &wording, &[]);
    let lines: Vec<_> = found.iter().map(|(part, message)| (*part, message.split(':').next().unwrap())).collect();
    assert_eq!(
        lines,
        [
            ("subject", "a subject must be a single line"),
            ("subject", "line 1"),
            ("subject", "line 2"),
            ("text", "line 1"),
            ("text", "line 2"),
            ("text", "line 4"),
            ("html", "line 1"),
        ]
    );
    assert!(found.iter().all(|(_, message)| !message.contains("nobody") && !message.contains("shout")));
}

#[test]
fn whoever_names_a_token_that_is_not_there_is_told_once_which_are() {
    let wording = text("{{nobody}} {{visit_time}}\n{{ first_nam }}");
    let named = |at: &TemplateRef| -> Vec<String> {
        let found = told(at, &wording, &[]).into_iter();
        let lists = found.filter_map(|(_, message)| Some(message.split_once("; there are ")?.1.to_owned()));
        lists.collect()
    };
    let [sms] = &named(&reminder(Channel::Sms, "en"))[..] else { panic!("one list") };
    assert_eq!(
        sms,
        "first_name, practice_name, legal_name, practice_phone, postal_address, link, visit_time, visit_length, custom_content"
    );
    let [mail] = &named(&reminder(Channel::Email, "en"))[..] else { panic!("one list") };
    assert!(mail.contains(", provider_name, ") && !mail.contains("amount"), "{mail}");
}

#[test]
fn both_parts_of_a_mail_say_the_same_and_neither_has_what_a_mail_may_not() {
    let mail = reminder(Channel::Email, "en");
    let with = |html: &str, text_: &str| parts(&mail, &Wording { html: html.into(), ..text(text_) }, &[]);
    assert_eq!(with("<p>{{visit_time}}</p>", "On {{visit_time}}"), Vec::<&str>::new());
    assert_eq!(with("<p>{{visit_time}} {{provider_name}}</p>", "On {{visit_time}}"), ["text"]);
    assert_eq!(with("<a href=\"{{link}}\">See</a>", "See {{link}}"), Vec::<&str>::new());
    for bad in [
        "<script>x</script>",
        "<form><input></form>",
        "<img src=\"https://x.example/a.gif\">",
        "<p onload=x>",
        "<style>p{}</style>",
        "<a href=\"javascript:x\">x</a>",
        "<a href=\"{{first_name}}\">x</a>",
    ] {
        assert_eq!(with(bad, "x"), ["html"], "{bad}");
    }
    assert_eq!(parts(&mail, &text("{{amount | default: ''}}"), &[]), ["text"]);
    assert_eq!(parts(&mail, &text("{{ '' }}"), &[]), ["text"]);
}

#[test]
fn variables_are_the_sender_s_words() {
    let all = |channel| parts(&custom(channel, "en"), &text("{{when}} {{first_name}}"), &["when"]);
    assert!(Channel::ALL.into_iter().all(|channel| all(channel).is_empty()));
    assert_eq!(parts(&custom(Channel::Email, "en"), &text("{{whence}}"), &["when"]), ["text"]);
    let subject = Wording { subject: "{{when}}".into(), ..text("x") };
    assert_eq!(parts(&custom(Channel::Email, "en"), &subject, &["when"]), ["subject"]);
    assert_eq!(parts(&custom(Channel::InApp, "en"), &subject, &["when"]), Vec::<&str>::new());
    assert_eq!(parts(&custom(Channel::Email, "en"), &text("{{visit_time}}"), &[]), ["text"]);
    let declared = ["when", "first_name", "nil_value", "When", "", "when", "9a", &"v".repeat(65), "ok_9"];
    let declared: Vec<_> = declared.iter().map(|name| (*name).to_owned()).collect();
    let purpose = Purpose::Custom("flu-season".into());
    let places: Vec<_> = variable_problems(&purpose, &declared).into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, [1, 2, 3, 4, 5, 6, 7]);
    let kind = Purpose::Kind(Kind::System);
    assert_eq!((variable_problems(&kind, &declared).len(), variable_problems(&kind, &[]).len()), (1, 0));
}

#[test]
fn words_about_health_are_warned_of_where_others_may_see_them() {
    let wording = || text("Bring {{custom_content}} {{link}}");
    let warned = |channel, phi_permitted, words: &str| {
        let at = reminder(channel, "en-US");
        let scene = Scene { words: Some(phi(words)), ..reads(None, own([(at, wording())])) };
        let payload = Payload::AppointmentReminder(visit());
        let ask = scene.ask(&payload, (channel, phi_permitted));
        let warnings = warnings(&ask, &render(&ask).unwrap());
        assert!(warnings.iter().all(|warning| !warning.contains("insulin")), "{warnings:?}");
        warnings.iter().filter(|warning| warning.contains("patient's health")).count()
    };
    assert_eq!([Channel::Sms, Channel::Push].map(|channel| warned(channel, true, "your insulin")), [1, 1]);
    assert_eq!([Channel::InApp, Channel::Email].map(|channel| warned(channel, true, "your insulin")), [0, 0]);
    assert_eq!(Channel::ALL.map(|channel| warned(channel, true, "your insurance card")), [0, 0, 0, 0]);
    let scene =
        Scene { words: Some(phi("and reply YES")), ..reads(None, own([(reminder(Channel::Sms, "en-US"), wording())])) };
    let payload = Payload::AppointmentReminder(visit());
    let ask = scene.ask(&payload, (Channel::Sms, true));
    assert_eq!(render(&ask).err(), Some(RenderError::Keyword));
}

/// A reminder in HTML of the practice's own: headings, a list, a table, a link and its own colours.
pub(super) fn in_html() -> Content {
    let wording = Wording {
        html: "<h2>Hello {{first_name}}</h2>\n<p>We look forward to seeing you <b>{{visit_time}}</b>.</p>\n\
               <table width=\"900\"><tr><th>With</th><td>{{provider_name}}</td></tr>\n\
               <tr><th>Where</th><td>{{location_name}}, {{location_address}}</td></tr></table>\n\
               <ul><li>Bring your card.</li><li style=\"color:#a02020\">Come ten minutes early.</li></ul>\n\
               <p><a href=\"{{link}}\">Open your visit</a></p>"
            .into(),
        ..text(
            "Hello {{first_name}}\n\nWe look forward to seeing you {{visit_time}}.\n\nWith: {{provider_name}}\n\
             Where: {{location_name}}, {{location_address}}\n\nBring your card. Come ten minutes early.\n\nOpen your visit: {{link}}",
        )
    };
    let scene = reads(None, own([(reminder(Channel::Email, "en-US"), wording)]));
    let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true));
    assert!(content.html.expose().contains("class=\"own\"") && content.template_version == 7);
    content
}
