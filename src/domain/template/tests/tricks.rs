//! Wording that says one thing to whoever reads its source and another to a patient. Each is refused when it is saved.

use super::{
    own::{custom, flu, own, parts, reads, reminder, text, told_by},
    *,
};

/// What is wrong with a mail whose text says all that its HTML may.
fn html(html: &str) -> Vec<&'static str> {
    let wording = Wording { html: html.into(), ..text("{{first_name}}, {{visit_time}} {{link}}") };
    parts(&reminder(Channel::Email, "en"), &wording, &[])
}

#[test]
fn html_shows_what_it_says() {
    let all = "{{first_name}}, {{visit_time}} {{link}}";
    assert_eq!(html(&format!("<p>{all}</p>")), Vec::<&str>::new());
    for bad in [
        format!("<div style=\"display:table-column\">{all}</div>"),
        format!("<p style=\"color:#ffffff\">{all}</p>"),
        format!("<p style=\"color:black;background-color:black\">{all}</p>"),
        format!("<p><small><small><small><small>{all}</small></small></small></small></p>"),
        format!("<p style=\"font-family:Wingdings\">{all}</p>"),
        "<p>{{first_name}}, {{visit_time}} <a href=\"https://evil.example\">{{link}}</a></p>".to_owned(),
        "<p>{{first_name}}, {{visit_time}} <a href=\"{{link}}\"></a></p>".into(),
        "<p title=\"{{visit_time}}\">{{first_name}} {{link}}</p>".into(),
        format!("<p>\u{202e}{all}</p>"),
        format!("{}{all}", "<div>".repeat(65)),
    ] {
        assert_eq!(html(&bad), ["html"], "{bad}");
    }
    // A tooltip may say again what is said.
    assert_eq!(html(&format!("<p title=\"{{{{visit_time}}}}\">{all}</p>")), Vec::<&str>::new());
}

#[test]
fn a_tooltip_that_was_stored_gives_way_to_html_made_from_the_text() {
    let sent = |html: &str| {
        let wording = Wording { html: html.into(), ..text("On {{visit_time}}.") };
        let scene = reads(None, own([(reminder(Channel::Email, "en-US"), wording)]));
        scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true)).html.into_inner()
    };
    assert!(sent("<p>{{visit_time}}</p>").contains("class=\"own\""));
    let html = sent("<p title=\"{{visit_time}}\">Hello</p>");
    assert!(!html.contains("class=\"own\"") && html.contains("March 3"), "{html}");
}

#[test]
fn nests_cost_nothing_and_have_no_mail() {
    let nest = Wording { html: format!("{}{{{{visit_time}}}}", "<div>".repeat(3_000)), ..text("On {{visit_time}}.") };
    let scene = reads(None, own([(reminder(Channel::Email, "en-US"), nest)]));
    let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true));
    assert_eq!(content.template_key, "builtin/appointment_reminder");
}

/// The most that HTML within bounds can cost, checked, cleaned and filled in: a thousand elements, as deep as they may be.
#[test]
fn the_largest_html_takes_no_time() {
    let nest = format!("{}x{}", "<div>".repeat(64), "</div>".repeat(64));
    let wide = format!("{}{}", nest.repeat(15), "<b>y</b>".repeat(40));
    let wording = Wording { html: format!("{wide}{{{{visit_time}}}}"), ..text("On {{visit_time}}.") };
    let mail = reminder(Channel::Email, "en-US");
    assert_eq!(parts(&mail, &wording, &[]), Vec::<&str>::new());
    let scene = reads(None, own([(mail.clone(), wording.clone())]));
    let payload = Payload::AppointmentReminder(visit());
    let begun = bombs::processor_time();
    assert_eq!(parts(&mail, &wording, &[]), Vec::<&str>::new());
    scene.render(&payload, (Channel::Email, true));
    let took = bombs::processor_time() - begun;
    // A build for tests is some ten times slower than what is shipped.
    assert!(took < if cfg!(debug_assertions) { 500_000_000 } else { 50_000_000 }, "{took} ns");
}

#[test]
fn a_page_is_at_most_as_long_as_other_output() {
    let quotes = "\"".repeat(15_000);
    let scene = reads(None, own([(reminder(Channel::Email, "en-US"), text(&format!("{quotes}\n{{{{visit_time}}}}")))]));
    let content = scene.render(&Payload::AppointmentReminder(visit()), (Channel::Email, true));
    assert!(content.html.expose().len() <= 100 * 1024);
    let scene = reads(None, own([(custom(Channel::Email, "en-US"), text(&"{{when}}".repeat(20)))]));
    let refused = render(&scene.ask(&flu(&[("when", &"\"".repeat(1_000))]), (Channel::Email, true)));
    assert_eq!(refused.err(), Some(RenderError::TooLong));
}

#[test]
fn a_text_message_has_no_link_that_only_some_patients_get() {
    let sms = reminder(Channel::Sms, "en");
    for bad in [
        "Hi {{ first_name | truncate: 6, 'evil.c' }}om/pay",
        "Hi {{ first_name | truncate: 6, '.' }}com",
        "Hi {{ first_name | truncate: 6, practice_name }}",
        "Hi {{first_name}}{{ custom_content | default: '.com' }}",
        "{{ custom_content | default: 'evil' }}.{{ visit_length | default: 'com' }}",
        "Hi {{ first_name | truncate: 20, '' }}.com",
        "Pay at evil.zone:443/pay",
        "Acme Primary Care.com",
        "{{link}}@evil.zone",
    ] {
        assert_eq!(parts(&sms, &text(bad), &[]), ["text"], "{bad}");
    }
    for good in ["Hi {{ first_name | truncate: 20, '...' }}, come", "Hi {{ first_name | truncate: 20, \"\" }}, come"] {
        assert_eq!(parts(&sms, &text(good), &[]), Vec::<&str>::new(), "{good}");
    }
}

#[test]
fn the_link_stands_by_itself() {
    let sms = reminder(Channel::Sms, "en");
    for bad in [
        "{{link}}abc",
        "{{link}}{{visit_time}}",
        "{{visit_time}}{{link}}",
        "at:{{link}}",
        "{{link}}.x",
        "{{link}}-",
        "{{ link | default: 'x' }}abc",
    ] {
        assert_eq!(parts(&sms, &text(bad), &[]), ["text"], "{bad}");
        let found = told_by(Some(LINK), &sms, &text(bad), &[]);
        assert!(found[0].1.contains("must stand by itself"), "{found:?}");
    }
    for good in [
        "{{link}}, {{visit_time}}",
        "See {{link}}.",
        "({{link}})",
        "\"{{link}}\"",
        "{{link}}\n{{visit_time}}",
        "{{link}}...",
    ] {
        assert_eq!(parts(&sms, &text(good), &[]), Vec::<&str>::new(), "{good}");
    }
}

#[test]
fn a_token_in_one_brace_or_three_is_a_slip() {
    for channel in Channel::ALL {
        for bad in ["Hi {first_name}!", "Hi { first_name } !", "Hi {{first_name}}}", "Hi { {first_name} }"] {
            assert_eq!(parts(&reminder(channel, "en"), &text(bad), &[]), ["text"], "{bad}");
        }
    }
    assert_eq!(parts(&custom(Channel::Sms, "en"), &text("{{when}} {when}"), &["when"]), ["text"]);
    assert_eq!(parts(&reminder(Channel::Sms, "en"), &text("Hi {you} :} {"), &[]), Vec::<&str>::new());
}

#[test]
fn what_is_not_seen_is_refused_in_wording() {
    for hidden in ["\u{202e}", "\u{2066}", "\u{2028}", "\u{2029}", "\u{200b}"] {
        for channel in Channel::ALL {
            let bad = format!("Hi{hidden} {{{{first_name}}}}");
            assert_eq!(parts(&reminder(channel, "en"), &text(&bad), &[]), ["text"], "{hidden:?}");
            if channel != Channel::Sms {
                let wording = Wording { subject: bad, ..text("Hi") };
                assert_eq!(parts(&reminder(channel, "en"), &wording, &[]), ["subject"], "{hidden:?}");
            }
        }
    }
}

#[test]
fn what_the_sender_types_asks_for_no_keyword_in_a_text_message() {
    let scene = reads(None, own([(custom(Channel::Sms, "en-US"), text("News: {{when}}"))]));
    for (words, expected) in [
        ("Reply YES", Some(RenderError::Keyword)),
        ("evil.zone:443/x", Some(RenderError::Address)),
        ("evil.com\u{2013}now", Some(RenderError::Address)),
        ("evil.com&x", Some(RenderError::Address)),
        ("\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.\u{440}\u{444}", Some(RenderError::Address)),
        ("Text us by the end of the day. See Dr. Li at 9 a.m.", None),
    ] {
        let payload = flu(&[("when", words)]);
        assert_eq!(render(&scene.ask(&payload, (Channel::Sms, true))).err(), expected, "{words}");
    }
}
