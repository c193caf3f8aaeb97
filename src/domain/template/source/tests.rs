#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::{super::token::Token, *};

fn values(pairs: &[(Token, &str)]) -> Values {
    let mut values = Values::default();
    pairs.iter().for_each(|(token, value)| values.set(*token, value));
    values
}

fn fault(source: &str) -> Option<Fault> {
    Template::compile(source, TokenClass::ALL, &[]).err().map(|error| error.fault)
}

fn rendered(source: &str, pairs: &[(Token, &str)], escape: Escape) -> String {
    Template::compile(source, TokenClass::ALL, &[]).unwrap().render(&values(pairs), escape).unwrap()
}

#[test]
fn what_is_no_token_with_a_safe_filter_is_refused() {
    for (source, expected) in [
        ("{% if first_name %}", Fault::Block),
        ("{%- assign x = 1 -%}", Fault::Block),
        ("{{ first_name", Fault::Unclosed),
        ("{{ first_name }", Fault::Unclosed),
        ("{{ first_name\n}}", Fault::Unclosed),
        ("{{ \"}}\"", Fault::Unclosed),
        ("{{- first_name }}", Fault::Dash),
        ("{{ first_name -}}", Fault::Dash),
        ("{{}}", Fault::Unreadable),
        ("{{{ first_name }}}", Fault::Unreadable),
        ("{{ (1..20000000) }}", Fault::Unreadable),
        ("{{ first_name | append: first_name }}", Fault::Unreadable),
        ("{{ first_name | times: 9 }}", Fault::Unreadable),
        ("{{ first_name | date: '%Y' }}", Fault::Unreadable),
        ("{{ first_nam }}", Fault::Unknown),
        ("{{ first_nam | default: 'you' }}", Fault::Unknown),
        ("{{ first_name.link }}", Fault::Unknown),
        ("{{ first_name[link] }}", Fault::Unknown),
        ("{{ first_name | truncate: practice_name }}", Fault::Unknown),
        ("{{ first_name | truncate: 99999999999999999999 }}", Fault::Number),
        ("{{ first_name | truncate: 1234567890 }}", Fault::Number),
        ("{{ first_name | truncate: -1 }}", Fault::Number),
        ("{{ 99999999999999999999 }}", Fault::Number),
        ("{{ link | upcase }}", Fault::ChangedLink),
        ("{{ first_name | truncate: 5, '<u>' }}", Fault::Ellipsis),
        ("{{ first_name | upcase | truncate: 5, \"a|b\" }}", Fault::Ellipsis),
        ("{{ first_name | truncate: 5, amount }}", Fault::Ellipsis),
        ("{{link}}x", Fault::GluedLink),
        ("{first_name}", Fault::Braces),
        ("{{ link | default: first_name | truncate: 9 }}", Fault::ChangedLink),
        ("{{ first_name | default: link | downcase }}", Fault::ChangedLink),
        (&format!("{{{{ a{} }}}}", "[".repeat(17)), Fault::Brackets),
        (&"x".repeat(16 * 1024 + 1), Fault::SourceTooLong),
    ] {
        assert_eq!(fault(source), Some(expected), "{source:.40}");
    }
    assert_eq!(fault(&"x".repeat(16 * 1024)), None);
    for good in [
        "{{ link | default: 'x' }}",
        "{{ first_name | truncate: 999999999 }}",
        "{{ first_name | default: '-1 99999999999' }}",
    ] {
        assert_eq!(fault(good), None, "{good}");
    }
}

#[test]
fn a_fault_names_its_line() {
    let error = Template::compile("Hi\n\n{{ nobody }}", TokenClass::ALL, &[]).unwrap_err();
    assert_eq!(error, TemplateError { line: 3, fault: Fault::Unknown });
}

#[test]
fn a_token_of_a_class_that_the_place_may_not_hold_is_refused_however_it_is_reached() {
    for token in Token::ALL {
        for source in [format!("{{{{{}}}}}", token.name()), format!("{{{{ link | default: {} }}}}", token.name())] {
            for classes in [&[TokenClass::Open][..], &[TokenClass::Open, TokenClass::VisitTime], TokenClass::ALL] {
                let expected = (!classes.contains(&token.class())).then_some(Fault::Forbidden);
                assert_eq!(
                    Template::compile(&source, classes, &[]).err().map(|error| error.fault),
                    expected,
                    "{source}"
                );
            }
        }
    }
}

#[test]
fn a_subject_is_one_line() {
    for source in ["a\nb", "a\rb", "a\r\n", "\n"] {
        assert_eq!(Template::compile_subject(source, TokenClass::ALL, &[]).unwrap_err().fault, Fault::LineBreak);
    }
    let subject = Template::compile_subject("{{custom_content}}", TokenClass::ALL, &[]).unwrap();
    let values = values(&[(Token::CustomContent, "one\r\nBcc: two")]);
    assert_eq!(subject.render(&values, Escape::None).unwrap(), "one Bcc: two");
}

#[test]
fn a_line_without_its_value_is_left_out_whole() {
    let source =
        "Hi {{first_name}},\n\nCall {{practice_phone}}.\n\nWith: {{provider_name}}\nWhere: {{location_name}}\n\nBye";
    assert_eq!(
        rendered(source, &[(Token::FirstName, "Pat"), (Token::LocationName, "Main office")], Escape::None),
        "Hi Pat,\n\nWhere: Main office\n\nBye"
    );
    assert_eq!(rendered(source, &[], Escape::None), "Bye");
    assert_eq!(rendered("Hi {{first_name}},\nBye", &[(Token::FirstName, "\u{200b}\u{feff}")], Escape::None), "Bye");
    assert_eq!(rendered("{{link}}\n\n{{ amount }}", &[(Token::Amount, "  \t ")], Escape::None), "");
}

#[test]
fn filters_work() {
    for (source, expected) in [
        ("Dear {{ last | default: first_name }}", "Dear pat"),
        ("{{first_name|capitalize}} {{ first_name | upcase }}", "Pat PAT"),
        ("{{ practice_name | truncate: 7 }}", "Acme..."),
        ("{{ practice_name | downcase | strip }}", "acme primary care"),
        ("{{ \"a }} b\" }} 'x' }}", "a }} b 'x' }}"),
        ("{{ practice_phone | default: \"our office\" }}", "our office"),
    ] {
        let source = source.replace("last", "provider_name");
        let pairs = [(Token::FirstName, "pat"), (Token::PracticeName, "Acme Primary Care")];
        assert_eq!(rendered(&source, &pairs, Escape::None), expected);
    }
}

#[test]
fn what_a_filter_yields_is_escaped_whole() {
    let pairs = [(Token::FirstName, "<b>&\"'"), (Token::CustomContent, "one\ntwo")];
    let source = "<p>{{first_name}}{{ amount | default: '<i>' }}</p>{{custom_content}}{{first_name | truncate: 4}}";
    assert_eq!(rendered(source, &pairs, Escape::Html), "<p>&lt;b&gt;&amp;&quot;&#39;&lt;i&gt;</p>one<br>two&lt;...");
}

#[test]
fn output_is_bounded() {
    let source = "{{custom_content}}".repeat(200);
    let template = Template::compile(&source, TokenClass::ALL, &[]).unwrap();
    let filled = |length| template.render(&values(&[(Token::CustomContent, &"x".repeat(length))]), Escape::None);
    assert_eq!(filled(512).unwrap().len(), 100 * 1024);
    assert_eq!(filled(513).unwrap_err().fault, Fault::OutputTooLong);
}

#[test]
fn the_shape_of_a_line_is_that_of_its_source_and_not_of_a_value() {
    let template = Template::compile(
        "When: {{visit_time}}\n{{custom_content}}\nOpen: {{ link }}\nat: {{link}}.",
        TokenClass::ALL,
        &[],
    );
    let values =
        values(&[(Token::VisitTime, "noon: sharp"), (Token::CustomContent, "A: b\n-- "), (Token::Link, "https://x")]);
    let template = template.unwrap();
    let lines = template.fill(&values, Escape::None).unwrap().lines;
    let expected = [
        Filled::Detail("When".into(), "noon: sharp".into()),
        Filled::Words("A: b\n--".into()),
        Filled::Link("Open".into(), "https://x".into()),
        Filled::Words("at: https://x.".into()),
    ];
    assert!(lines == expected);
}

#[test]
fn values_hold_no_control_characters_and_stay_in_their_line() {
    let values = values(&[(Token::FirstName, " Pat\r\nBcc:\tx\0\u{2028}y "), (Token::NoticeBody, "a\r\rb\u{7}\n")]);
    assert_eq!(values.get(Token::FirstName), "Pat Bcc: x y");
    assert_eq!(values.get(Token::NoticeBody), "a\n\nb");
}

proptest! {
    #[test]
    fn any_source_is_answered(source in "([a-z {}%|:'\"\\[\\]().-]|\\{\\{|\\}\\}|first_name|truncate|\n){0,40}") {
        if let Ok(template) = Template::compile(&source, TokenClass::ALL, &[]) {
            prop_assert!(template.render(&Values::sample(&[]), Escape::Html).is_ok());
        }
    }

    #[test]
    fn no_value_makes_markup(value in "\\PC{0,30}|[<>&\"'a-z/= ]{0,30}") {
        let html = rendered("{{first_name}}{{first_name | upcase}}x", &[(Token::FirstName, &value)], Escape::Html);
        prop_assert!(!html.contains(['<', '>', '"', '\'']));
    }
}
