//! Wording of a practice: whatever it says, it is judged and rendered within bounds, and what somebody typed stays text.

use std::collections::BTreeMap;

use heedwell::domain::{
    Channel, Kind, Locale, Phi, Practice, sms,
    template::{self, Active, Form, Invented, OwnWording, Purpose, Rendering, TemplateRef, Wording},
};

use crate::{bytes::Bytes, limits::reached};

/// The longest output of a template (template/source.rs); a mail's HTML stands in a frame.
const LONGEST_TEXT: usize = 100 * 1024;
const LONGEST_HTML: usize = 1024 * 1024;
/// What a sender typed, and what it would be if it were taken for HTML.
const TYPED: &str = "<i id=typed>&\"'</i>";

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    let channel = input.one_of(&[Channel::Email, Channel::Sms, Channel::InApp, Channel::Push]);
    let which = input.byte();
    let purpose = Kind::ALL
        .get(usize::from(which) % (Kind::ALL.len() + 1))
        .filter(|kind| !matches!(kind, Kind::Announcement | Kind::Custom))
        .map_or_else(|| Purpose::Custom("flu-season".into()), |kind| Purpose::Kind(*kind));
    let flags = input.byte();
    let locale = Locale::new(if flags & 1 == 0 { "en-US" } else { "es-MX" });
    let wording = Wording {
        subject: input.part().into_owned(),
        text: input.part().into_owned(),
        html: input.part().into_owned(),
        preview: String::new(),
    };
    let prefix = input.part().into_owned();
    let mut variables = BTreeMap::new();
    while !input.is_empty() && variables.len() < 20 {
        let name = input.part().into_owned();
        variables.insert(name, Phi::new(input.part().into_owned()));
    }
    let declared: Vec<_> = variables.keys().cloned().collect();
    let variable_faults = template::variable_problems(&purpose, &declared);
    let prefix = if template::prefix_fault(&prefix).is_none() { prefix } else { "Acme: ".into() };
    let at = TemplateRef { purpose, channel, locale };
    let Some(invented) = Invented::new(&at, variables) else { return };
    let own = OwnWording::new([(at.clone(), Active::new(1, wording.clone(), declared.clone()))]);
    let (practice, typed) = (practice(), Phi::new(TYPED.to_owned()));
    let ask = Rendering {
        channel,
        payload: &invented.payload,
        custom_content: Some(&typed),
        practice: &practice,
        patient: &invented.patient,
        own: &own,
        sms_prefix: &prefix,
        phi_permitted: flags & 2 == 0,
        link: Some("https://reach.example.com/l/AAAAAAAAAAAAAAAAAAAAAA").filter(|_| flags & 4 == 0),
        unsubscribe: Some("https://reach.example.com/u/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        test: flags & 8 != 0,
    };
    let problems = template::problems(&at, &wording, &declared, &ask);
    assert!(problems.iter().all(|problem| problem.message.len() < 4_096), "a problem that is a text");
    if !variable_faults.is_empty() {
        // It would not be stored.
        return;
    }
    if let Ok(content) = template::render(&ask) {
        look(&content, channel);
        if problems.is_empty() && content.template_version == 1 {
            reached();
        }
        let _ = template::warnings(&ask, &content);
    }
    let _ = template::hanging_lines(&at, &wording, &declared, &ask);
    let _ = Form::of(channel, true);
}

/// What holds of every message, whoever worded it.
fn look(content: &heedwell::domain::Content, channel: Channel) {
    let (text, html) = (content.text.expose(), content.html.expose());
    assert!(text.len() <= LONGEST_TEXT && html.len() <= LONGEST_HTML, "{} and {} bytes", text.len(), html.len());
    assert!(!content.subject.expose().contains(['\r', '\n']), "a subject of two lines");
    assert!(!html.contains(TYPED), "what was typed became markup");
    let lower = html.to_ascii_lowercase();
    for active in ["<script", "<iframe", "<form", "<img", "<object", "javascript:"] {
        assert!(!lower.contains(active), "{active} in a mail");
    }
    if channel == Channel::Sms {
        let counted = sms::segments(text);
        assert!(text.chars().count() <= sms::LONGEST_MESSAGE);
        assert_eq!(content.sms_segments, i32::try_from(counted.count).unwrap());
    }
}

fn practice() -> Practice {
    Practice {
        legal_name: "Acme Primary Care, PLLC".into(),
        display_name: "Acme Primary Care".into(),
        phone: None,
        time_zone: "America/New_York".parse().unwrap(),
        locale: "en-US".into(),
        portal_url: Some("https://portal.example.com/".into()),
        postal_address: "500 Elm Street".into(),
    }
}
