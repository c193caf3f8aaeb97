#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::domain::PhoneNumber;

fn practice() -> Practice {
    Practice {
        legal_name: "Acme Primary Care, PLLC".into(),
        display_name: "Acme Primary Care".into(),
        phone: Some(PhoneNumber::parse("+12025550100", "US").unwrap()),
        time_zone: chrono_tz::America::New_York,
        locale: "en-US".into(),
        portal_url: None,
        postal_address: "1 Main Street, Springfield".into(),
    }
}

fn announcement(subject: &str, body: &str) -> Announcement {
    Announcement { title: Phi::new("For staff".into()), subject: Phi::new(subject.into()), body: Phi::new(body.into()) }
}

fn problems(subject: &str, body: &str, channels: &[Channel], practice: &Practice) -> Vec<(&'static str, String)> {
    let channels = channels.iter().copied().collect();
    announcement_problems(&announcement(subject, body), channels, (practice, &PracticeSettings::default()))
}

#[test]
fn what_cannot_be_filled_in_for_everybody_is_refused_while_it_is_composed() {
    let check = |subject: &str, body: &str, channels: &[Channel], expect: &[&str]| {
        let found = problems(subject, body, channels, &practice());
        let fields: Vec<_> = found.iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, expect, "{subject:?} {body:?} {found:?}");
    };
    let all = Channel::ALL;
    check("Hello {{first_name}}", "From {{practice_name}}, {{practice_phone}}", &all, &[]);
    check("Hello", "{{ first_name | upcase }}", &all, &[]);
    for odd in
        ["{{last_name}}", "{{link}}", "{{legal_name}}", "{{custom_content}}", "{{amount}}", "{{first_name", "{% x %}"]
    {
        check("Hello", odd, &all, &["body"]);
        check(odd, "Hello", &all, &["subject"]);
    }
    check("{{link}}", "{{link}} and {{amount}}", &all, &["subject", "body", "body"]);
    // 1,600 characters of a text message with the practice's name before them; 3,584 bytes of a push message.
    let room = 1_600 - "Acme Primary Care: ".len();
    check("", &"x".repeat(room), &[Channel::Sms], &[]);
    check("", &"x".repeat(room + 1), &[Channel::Sms], &["body"]);
    check("", &format!("{{{{first_name}}}}{}", "x".repeat(room - 100)), &[Channel::Sms], &[]);
    check("", &format!("{{{{first_name}}}}{}", "x".repeat(room - 99)), &[Channel::Sms], &["body"]);
    check("s", &format!("{{{{first_name}}}}{}", "x".repeat(3_183)), &[Channel::Push], &[]);
    check("s", &format!("{{{{first_name}}}}{}", "x".repeat(3_184)), &[Channel::Push], &["body"]);
    check(&"{{first_name}}".repeat(2), "Hello", &[Channel::Email], &[]);
    check(&"{{first_name}}".repeat(3), "Hello", &[Channel::Email], &["subject"]);
}

#[test]
fn whoever_names_a_token_that_is_not_there_is_told_which_are() {
    for (body, told) in [
        ("Dear {{ last_name }}", "{{first_name}}, {{practice_name}} and {{practice_phone}}"),
        ("{{link}}", "{{first_name}}, {{practice_name}} and {{practice_phone}}, and not {{link}}"),
    ] {
        let found = announcement_faults(&announcement("Hello", body));
        assert!(found.len() == 1 && found[0].0 == "body" && found[0].1.contains(told), "{found:?}");
    }
    assert!(announcement_faults(&announcement("{{first_name}}", "Hello")).is_empty());
}

#[test]
fn a_line_of_a_practice_without_a_number_is_left_out_and_nothing_else_is_not_said() {
    let silent = Practice { phone: None, ..practice() };
    assert!(problems("s", "Closed.\nCall {{practice_phone}}.", &Channel::ALL, &silent).is_empty());
    let found = problems("s", "Call {{practice_phone}}.", &[Channel::Sms], &silent);
    assert_eq!(found, [("body", "says nothing on SMS with its tokens filled in".to_owned())]);
}

#[test]
fn it_goes_out_as_it_was_written_by_whatever_provider() {
    let practice = practice();
    let announced = Announced::new(
        &announcement(
            "News of {{practice_name}}",
            "Dear {{first_name}},\n\nwe move. Phone: {{practice_phone}}\nSee you!",
        ),
        &practice,
    );
    let reader = Patient { first_name: Phi::new("<b>Ann</b>".into()), ..reader_of_samples(&practice).unwrap() };
    let mut settings = PracticeSettings::default();
    settings.email.phi_permitted = Some(false);
    let made = |channel| {
        let ask = announced.for_one(channel, (&practice, &settings), &reader, "https://reach.example/u/x");
        render(&ask).unwrap()
    };
    let mail = made(Channel::Email);
    let body = "Dear <b>Ann</b>,\n\nwe move. Phone: (202) 555-0100\nSee you!";
    assert_eq!(mail.subject.expose(), "News of Acme Primary Care");
    assert!(mail.text.expose().starts_with(body), "{}", mail.text.expose());
    assert!(mail.text.expose().ends_with("https://reach.example/u/x"), "{}", mail.text.expose());
    let html = mail.html.expose();
    assert!(html.contains("&lt;b&gt;Ann&lt;/b&gt;") && !html.contains("<b>Ann"), "{html}");
    // In its order, and in no table of details.
    let [first, second] = ["we move. Phone:", "See you!"].map(|words| html.find(words).unwrap());
    assert!(first < second);
    assert_eq!(made(Channel::InApp).text.expose(), body);
    let text = made(Channel::Sms);
    assert_eq!(text.text.expose(), &format!("Acme Primary Care: {body}"));
    assert_eq!(
        (text.subject.expose().as_str(), text.sms_segments, text.template_key.as_str()),
        ("", 1, "broadcast/en-US")
    );
}

#[test]
fn readers_of_another_language_get_it_all_the_same() {
    let practice = practice();
    let announced = Announced::new(&announcement("s", "Closed on Friday."), &practice);
    let settings = PracticeSettings::default();
    for locale in ["es", "zh-Hant", "en-GB"] {
        let reader = Patient { locale: Some(locale.into()), ..reader_of_samples(&practice).unwrap() };
        let made = render(&announced.for_one(Channel::InApp, (&practice, &settings), &reader, "")).unwrap();
        assert_eq!(made.text.expose(), "Closed on Friday.", "{locale}");
    }
}
