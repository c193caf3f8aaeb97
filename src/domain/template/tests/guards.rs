//! Values that are missing, too long, or more than words: what goes out then says what it is about, and nothing else.

use super::{
    own::{custom, flu, own, parts, reads, reminder, text, told_by, wording_of},
    *,
};

fn bare() -> Payload {
    Payload::AppointmentReminder(Appointment { duration: None, provider_name: phi("\u{200b}"), ..visit() })
}

#[test]
fn a_message_that_would_lose_what_it_is_about_is_in_our_words() {
    for source in [
        "Appointment {{visit_time}} ({{visit_length}}) {{link}}",
        "Appointment {{visit_time}} ({{visit_length}}).\nPlease be on time.",
        "{{visit_length}}",
    ] {
        for channel in [Channel::Sms, Channel::InApp, Channel::Email] {
            let scene = reads(None, own([(reminder(channel, "en-US"), text(source))]));
            let whole = scene.render(&Payload::AppointmentReminder(visit()), (channel, true));
            assert_eq!((whole.template_key.as_str(), whole.template_version), ("own/appointment_reminder/en-US", 7));
            let content = scene.render(&bare(), (channel, true));
            assert_eq!((content.template_key.as_str(), content.template_version), ("builtin/appointment_reminder", 0));
            assert!(content.text.expose().contains("March 3"), "{}", content.text.expose());
        }
    }
    // A detail goes alone.
    let lines = text("See you {{visit_time}}.\nWith {{provider_name}} at once.");
    let scene = reads(None, own([(reminder(Channel::InApp, "en-US"), lines)]));
    assert_eq!(scene.render(&bare(), (Channel::InApp, true)).text.expose(), "See you Tuesday, March 3 at 2:30 PM.");
    // What stands in another line as well is not lost.
    let twice = text("{{visit_time}} ({{visit_length}})\nOn {{visit_time}}.");
    let scene = reads(None, own([(reminder(Channel::Sms, "en-US"), twice)]));
    assert_eq!(
        scene.render(&bare(), (Channel::Sms, true)).text.expose(),
        "Acme Primary Care: On Tuesday, March 3 at 2:30 PM."
    );
}

#[test]
fn a_template_of_the_practice_s_own_that_says_nothing_is_refused() {
    for channel in Channel::ALL {
        let scene = reads(None, own([(custom(channel, "en-US"), text("Shots: {{when}}\n\n-- \nThe front desk"))]));
        let scene = if channel == Channel::Email {
            scene
        } else {
            reads(None, own([(custom(channel, "en-US"), text("{{when}}"))]))
        };
        for blank in [" ", "\u{200b}", "\u{a0}\u{2060}", ""] {
            let payload = flu(&[("when", blank)]);
            assert_eq!(render(&scene.ask(&payload, (channel, true))).err(), Some(RenderError::Blank), "{channel:?}");
        }
        assert!(render(&scene.ask(&flu(&[("when", "now")]), (channel, true))).is_ok());
    }
}

#[test]
fn a_subject_without_its_value_is_ours() {
    for (channel, subject, expected) in [
        (Channel::InApp, "For {{provider_name}}", "Appointment Reminder"),
        (Channel::Email, "Call {{practice_phone}}", "Appointment Reminder - Acme Primary Care"),
        (Channel::Push, "Call {{practice_phone}}", "Acme Primary Care"),
    ] {
        let wording = Wording { subject: subject.into(), ..text("Hello!") };
        let scene = reads(None, own([(reminder(channel, "en-US"), wording)]));
        let scene = Scene { practice: Practice { phone: None, ..practice() }, ..scene };
        let content = scene.render(&bare(), (channel, true));
        assert_eq!((content.subject.expose().as_str(), content.template_version), (expected, 7));
    }
    let notice = Payload::System(Notice { title: phi("\u{200b}"), ..notice(false) });
    assert_eq!(rendered(&notice, (Channel::InApp, true)).subject.expose(), "Acme Primary Care");
}

/// A mail with that text and HTML.
fn mail(source: &str, html: &str, payload: &Payload) -> Content {
    let wording = Wording { html: html.into(), ..text(source) };
    reads(None, own([(reminder(Channel::Email, "en-US"), wording)])).render(payload, (Channel::Email, true))
}

#[test]
fn html_that_says_less_than_the_text_gives_way_to_html_made_from_it() {
    let source = "See you {{visit_time}}.\nWith {{provider_name}}.";
    for html in [
        "<p>{{visit_time}} with {{provider_name}}</p>",
        "<p>{{visit_time}}</p>\n<p>\n{{provider_name}}</p>",
        "<p>Hello</p>",
        "<p>\u{200b}</p>",
    ] {
        let whole = Payload::AppointmentReminder(visit());
        let content = mail(source, html, &whole);
        let is_own = html.contains("provider_name");
        assert_eq!(content.html.expose().contains("class=\"own\""), is_own, "{html}");
        let content = mail(source, html, &bare());
        assert!(content.html.expose().contains("March 3"), "{html}");
        assert_eq!(content.html.expose().contains("class=\"own\""), html.contains("\n"), "{html}");
        assert_eq!(content.template_version, 7);
    }
}

#[test]
fn a_value_that_makes_markup_has_the_html_made_from_the_text() {
    let words = |html: &str, words: &str| {
        let wording = Wording { html: html.into(), ..text("Look: {{custom_content}}") };
        let scene = reads(None, own([(reminder(Channel::Email, "en-US"), wording)]));
        let scene = Scene { words: Some(phi(words)), ..scene };
        scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true)).html.into_inner()
    };
    for bad in [
        "<a title={{custom_content}} href=\"https://x.example\">x</a>",
        "<a href=\"https://{{custom_content}}\">x</a>",
        "<a href=\"{{custom_content}}\">x</a>",
        "<p style=\"color:{{custom_content}}\">x</p>",
    ] {
        for value in ["evil.example style=color:white", "https://evil.example", "red"] {
            let html = words(bad, value);
            assert!(!html.contains("class=\"own\"") && html.contains(&escape_html(value)), "{bad}");
        }
    }
    assert!(
        words("<p title=\"{{custom_content}}\">{{custom_content}}</p>", "a \" onclick=\"x").contains("class=\"own\"")
    );
    assert!(words("<p>{{custom_content}}</p>", "one\ntwo").contains("<p>one<br>two</p>"));
}

#[test]
fn tokens_in_html_stand_where_a_value_can_do_no_harm() {
    let mail = reminder(Channel::Email, "en");
    let found = |html: &str| {
        parts(&mail, &Wording { html: html.into(), ..text("x {{first_name}} {{link}} {{custom_content}}") }, &[])
    };
    let all = "<p>{{first_name}} {{link}} {{custom_content}}</p>";
    assert_eq!(found(all), Vec::<&str>::new());
    assert_eq!(found(&format!("{all}<a href=\"{{{{link}}}}\" title='{{{{first_name}}}}'>x</a>")), Vec::<&str>::new());
    for bad in [
        "<a title={{first_name}} href=\"{{link}}\">x</a>",
        "<a href=\"https://{{custom_content}}\">x</a>",
        "<a href=\"{{link}}?x={{first_name}}\">x</a>",
        "<a href={{link}}>x</a>",
        "<a href=\"tel:{{practice_phone}}\">x</a>",
        "<p style=\"color:{{custom_content}}\">x</p>",
        "<p title=\"\n{{first_name}}\n\">x</p>",
        "<!-- {{first_name}} -->",
    ] {
        assert_eq!(found(&format!("{all}{bad}")), ["html"], "{bad}");
    }
    // What one part says the other says as well.
    assert_eq!(found("<p>{{first_name}} {{link}}</p>"), ["html"]);
    assert_eq!(parts(&mail, &Wording { html: "<p>&nbsp;</p>".into(), ..text("x") }, &[]), ["html"]);
    let signed = Wording { html: "<p>x</p>".into(), ..text("x\n\n-- \n{{legal_name}}") };
    assert_eq!(parts(&mail, &signed, &[]), Vec::<&str>::new());
}

#[test]
fn every_mail_names_who_wrote_it_below_the_signature_in_both_parts() {
    let (legal, address, phone) =
        ("Acme Primary Care, PLLC", "12 Main Street, Springfield, VA 22150", "(202) 555-0142");
    for (source, html) in [
        ("Hello!\n{{legal_name | default: 'x' | truncate: 3}}", ""),
        ("Hello from {{legal_name}}, {{postal_address}}, {{practice_phone}}!", "<p>Hello!</p>"),
        ("Hello!\n{{ practice_name | default: legal_name }}", ""),
        ("Hello!\n\n-- \nCall {{practice_phone}}", "<p>Hello!</p>"),
        ("Hello!\n\n-- \n{{legal_name}}\n{{postal_address}}", ""),
    ] {
        let content = mail(source, html, &Payload::AppointmentReminder(visit()));
        let below = content.text.expose().split("\n-- \n").nth(1).unwrap();
        let footer =
            content.html.expose().rsplit("border-top:1px solid #e6eaee").next().unwrap().replace("&nbsp;", " ");
        for value in [legal, address, phone] {
            assert_eq!((below.matches(value).count(), footer.matches(value).count()), (1, 1), "{source}: {value}");
        }
    }
}

#[test]
fn a_push_message_keeps_within_what_fcm_takes() {
    let push = reminder(Channel::Push, "en-US");
    assert_eq!(parts(&push, &text(&"\u{20ac}".repeat(1_200)), &[]), ["text"]);
    assert_eq!(parts(&push, &text(&"\"".repeat(1_800)), &[]), ["text"]);
    assert_eq!(parts(&push, &text(&"{{custom_content}}".repeat(4)), &[]), ["text"]);
    assert_eq!(parts(&push, &text(&"{{custom_content}}".repeat(3)), &[]), Vec::<&str>::new());
    let scene =
        reads(None, own([(push, text("{{custom_content}}")), (custom(Channel::Push, "en-US"), text("{{when}}"))]));
    let scene = Scene { words: Some(phi(&"\u{1f600}".repeat(1_000))), ..scene };
    let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Push, true));
    assert_eq!(
        (content.template_key.as_str(), content.text.expose().as_str()),
        ("builtin/appointment_reminder", "You have a new message.")
    );
    let long = flu(&[("when", &"\u{1f600}".repeat(1_000))]);
    assert_eq!(render(&scene.ask(&long, (Channel::Push, true))).err(), Some(RenderError::TooLong));
}

#[test]
fn a_text_message_that_is_too_long_is_in_our_words() {
    let sms = reminder(Channel::Sms, "en-US");
    assert_eq!(parts(&sms, &text("{{custom_content}} {{custom_content}}"), &[]), ["text"]);
    let long = text(&format!("{{{{custom_content}}}}{}", "x".repeat(1_000)));
    let scene = Scene { words: Some(phi(&"y".repeat(1_000))), ..reads(None, own([(sms, long)])) };
    let payload = Payload::AppointmentReminder(visit());
    let ask = scene.ask(&payload, (Channel::Sms, true));
    let content = render(&ask).unwrap();
    assert_eq!(content.template_key, "builtin/appointment_reminder");
    let warnings = warnings(&ask, &content);
    assert!(
        warnings.iter().any(|it| it.contains("ours goes out")) && warnings.iter().any(|it| it.contains("left out"))
    );
}

#[test]
fn what_the_sender_types_makes_no_link_in_a_text_message() {
    let sms = reminder(Channel::Sms, "en-US");
    let scene = |words: &str| Scene {
        words: Some(phi(words)),
        ..reads(None, own([(sms.clone(), text("Bring {{custom_content}} {{link}}"))]))
    };
    let payload = Payload::AppointmentReminder(visit());
    for words in ["see https://evil.example", "evil.zone/pay", "\u{ff45}vil\u{ff0e}com", "203.0.113.7"] {
        assert_eq!(
            render(&scene(words).ask(&payload, (Channel::Sms, true))).err(),
            Some(RenderError::Address),
            "{words}"
        );
    }
    assert!(render(&scene("your card, and Dr.Ray's letter").ask(&payload, (Channel::Sms, true))).is_ok());
    // Where it is not shown it does no harm.
    let ours = Scene { words: Some(phi("https://evil.example")), ..Scene::new() };
    assert!(render(&ours.ask(&payload, (Channel::Sms, true))).is_ok());
    for bad in [
        "See {{first_name | default: 'evil.com'}}",
        "Pay at \u{ff45}vil\u{ff0e}com",
        "Go to evil.zone/x {{link}}",
        "Details:evil.com",
    ] {
        assert_eq!(parts(&sms, &text(bad), &[]), ["text"], "{bad}");
    }
    for bad in ["Reply {{first_name | default: 'YES'}}", "Reply REVOKE", "Text \u{ff39}\u{ff25}\u{ff33}"] {
        assert_eq!(parts(&sms, &text(bad), &[]), ["text"], "{bad}");
    }
}

#[test]
fn wording_that_can_no_longer_be_compiled_gives_way_to_ours() {
    let scene = reads(
        None,
        own([
            (reminder(Channel::Sms, "en-US"), text("{{link | upcase}}")),
            (custom(Channel::Sms, "en-US"), text("{{link | upcase}}")),
        ]),
    );
    let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Sms, true));
    assert_eq!(content.template_key, "builtin/appointment_reminder");
    let refused = render(&scene.ask(&flu(&[("when", "x")]), (Channel::Sms, true))).err();
    assert!(matches!(refused, Some(RenderError::Template(TemplateError { fault: Fault::ChangedLink, .. }))));
}

#[test]
fn a_template_may_be_called_like_a_kind() {
    let at = TemplateRef { purpose: Purpose::Custom("system".into()), ..custom(Channel::Sms, "en-US") };
    let kind = TemplateRef { purpose: Purpose::Kind(Kind::System), ..at.clone() };
    let scene = reads(None, own([(at, text("Custom.")), (kind, text("Kind."))]));
    let custom = Payload::Custom(Custom { template_key: "system".into(), variables: Default::default() });
    let [custom, kind] = [custom, Payload::System(notice(false))]
        .map(|payload| scene.render(&payload, (Channel::Sms, true)).template_key);
    assert_eq!([custom.as_str(), kind.as_str()], ["custom/system/en-US", "own/system/en-US"]);
}

#[test]
fn a_server_without_tls_has_links_in_html() {
    let link = "http://127.0.0.1:8080/l/0123456789";
    let wording = Wording { html: "<a href=\"{{link}}\">x</a>".into(), ..text("x {{link}}") };
    let mail = reminder(Channel::Email, "en-US");
    assert_eq!(told_by(Some(link), &mail, &wording, &[]), []);
    let fixed = Wording { html: format!("<a href=\"{link}\">x</a> {{{{link}}}}"), ..text("x {{link}}") };
    assert_eq!(told_by(Some(link), &mail, &fixed, &[]).len(), 1);
    let scene = Scene { link: Some(link.into()), ..reads(None, own([(mail, wording)])) };
    let html = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true)).html.into_inner();
    assert!(html.contains(&format!("<a href=\"{link}\">x</a>")), "{html}");
}

#[test]
fn the_author_is_told_which_lines_hang_on_a_value() {
    let wording = Wording {
        html: "<p>{{visit_time}} {{provider_name}}</p>".into(),
        ..text(
            "On {{visit_time}}, {{first_name}}.\nWith: {{provider_name}}\nSee {{provider_name}} for {{visit_length}}.\n{{provider_name | default: 'x'}}",
        )
    };
    let mail = reminder(Channel::Email, "en-US");
    let found = wording_of(&mail, &wording, &[], Some(LINK), |ask| hanging_lines(&mail, &wording, &[], ask));
    let expected = [
        "Line 3 of the text is left out without {{visit_length}}.",
        "Line 3 of the text is left out without {{provider_name}}.",
        "Line 1 of the HTML is left out without {{provider_name}}, and with it all that is said.",
    ];
    assert_eq!(found, expected);
    let flu = custom(Channel::Sms, "en-US");
    let variables = ["when".to_owned()];
    let found = wording_of(&flu, &text("Come {{when}}."), &["when"], Some(LINK), |ask| {
        hanging_lines(&flu, &text("Come {{when}}."), &variables, ask)
    });
    assert_eq!(found, ["Line 1 of the text is left out without {{when}}, and with it all that is said."]);
}
