//! Wording: what is asked, and what is shown of it. Whether wording can be used is for the domain to say.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    author,
    check::{Check, locale, page_size, request_id},
    etag, notification,
    payload::is_variable,
    revision, timestamp,
};
use crate::{
    domain::{
        Channel, Kind, Locale, Phi, TestContact,
        template::{LONGEST_SOURCE, Purpose, TemplateRef, Wording},
    },
    grpc::proto::{self, template_ref::Target},
    service::{
        Error, StoredVersion,
        templates::{
            AskedRef, Draft, Preview, TemplatePage, TemplateQuery, TemplateView, TestOrder, TestOutcome, Trial,
        },
    },
};

/// Most variables of a template.
const MOST_VARIABLES: usize = 50;
/// The longest subject, in characters.
const LONGEST_SUBJECT: usize = 200;

/// What a list of templates is asked for.
pub(crate) fn list(mut request: proto::ListTemplatesRequest) -> TemplateQuery {
    let page_token = std::mem::take(&mut request.page_token);
    let page_size = page_size(std::mem::take(&mut request.page_size), 200, 500);
    // Without size and token: what a page token is bound to.
    TemplateQuery { page_size, page_token, canonical: Phi::new(request.encode_to_vec()) }
}

/// Which template is asked for.
pub(crate) fn wanted(request: proto::GetTemplateRequest) -> Result<AskedRef, Error> {
    let mut check = Check::default();
    let at = check.required("ref", request.r#ref, read_ref);
    check.finish(at)
}

/// A version to add.
pub(crate) fn draft(request: proto::CreateTemplateVersionRequest) -> Result<Draft, Error> {
    let mut check = Check::default();
    let at = check.required("ref", request.r#ref, read_ref);
    let wording = check.required("content", request.content, read_wording);
    check.count("variables", request.variables.len(), 0..=MOST_VARIABLES);
    let (variables, active) = (request.variables, request.active);
    check.finish(at.zip(wording).map(|(at, wording)| Draft { at, wording, variables, active }))
}

/// Which version of which template is to be used; the revision that it must have, unset: any.
pub(crate) fn to_activate(
    request: proto::ActivateTemplateVersionRequest,
) -> Result<(AskedRef, i32, Option<i64>), Error> {
    let mut check = Check::default();
    let at = check.required("ref", request.r#ref, read_ref);
    let version = check.number("version", request.version, 0..=i32::MAX);
    check.finish(at.map(|at| (at, version, revision(&request.etag))))
}

/// Wording to try.
pub(crate) fn trial(request: proto::PreviewTemplateRequest) -> Result<Trial, Error> {
    let mut check = Check::default();
    let trial = read_trial(&mut check, (request.r#ref, request.content, request.variables));
    check.finish(trial)
}

/// A test to send.
pub(crate) fn test_order(mut request: proto::SendTestMessageRequest) -> Result<TestOrder, Error> {
    let mut check = Check::default();
    let request_id = request_id(&mut check, std::mem::take(&mut request.request_id));
    let contact = check.parsed("address", &request.address, TestContact::parse);
    if let Some(contact) = &contact {
        request.address = contact.as_str().to_owned();
    }
    // Without the key, with the address as it is kept, and maps in the order of their keys: equal requests give equal bytes.
    let canonical = Phi::new(request.encode_to_vec());
    let trial = read_trial(&mut check, (request.r#ref, request.content, request.variables));
    let channel = trial.as_ref().map(|trial| trial.at.channel);
    let sent = channel.is_none_or(|channel| matches!(channel, Channel::Sms | Channel::Email));
    check.at("ref", |check| check.expect("channel", sent, "must be SMS or EMAIL: no contact has an inbox or a device"));
    check.finish(trial.zip(contact).map(|(trial, contact)| TestOrder { request_id, canonical, trial, contact }))
}

/// What a test answers.
pub(crate) fn tested(outcome: TestOutcome) -> proto::SendTestMessageResponse {
    proto::SendTestMessageResponse {
        state: outcome.state.number().into(),
        failure: outcome.failure.map(|(failure, message)| proto::DeliveryFailure {
            reason: failure.reason.number().into(),
            provider_code: failure.provider_code,
            message: message.to_owned(),
            fail_time: Some(timestamp(failure.fail_time)),
        }),
        provider_message_id: outcome.provider_message_id,
    }
}

/// Wording to try, as a preview and a test have it.
type TrialFields = (Option<proto::TemplateRef>, Option<proto::TemplateContent>, BTreeMap<String, String>);

fn read_trial(check: &mut Check, (at, content, values): TrialFields) -> Option<Trial> {
    let at = check.required("ref", at, read_ref);
    let given = content.is_some();
    let wording = check.optional("content", content, read_wording);
    let unread = given && wording.is_none();
    check.count("variables", values.len(), 0..=MOST_VARIABLES);
    let mut variables = BTreeMap::new();
    for (name, value) in values.into_iter().take(MOST_VARIABLES) {
        // A malformed name may be anything, so that it is not repeated in the path.
        if is_variable(&name) {
            let value = Phi::new(check.seen_lines(&format!("variables.{name}"), value, 1_000));
            variables.insert(name, value);
        } else {
            check.expect("variables", false, "must have names of 1 to 64 characters of a-z, 0-9 or '_'");
        }
    }
    at.filter(|_| !unread).map(|at| Trial { at, wording, variables })
}

fn read_ref(check: &mut Check, at: proto::TemplateRef) -> Option<AskedRef> {
    let purpose = match at.target {
        None => check.at("target", |check| check.fail("is required")),
        Some(Target::Kind(number)) => {
            let kind = check.choice("kind", number, Kind::from_number);
            let has_wording = !matches!(kind, Some(Kind::Announcement | Kind::Custom));
            check.expect("kind", has_wording, "has no wording of its own; a custom template is named by its key");
            kind.map(Purpose::Kind)
        }
        Some(Target::Key(key)) => check.parsed("key", &key, |key| {
            let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let good = key.len() <= 64 && key.bytes().all(good);
            if good {
                Ok(Purpose::Custom(key.to_owned()))
            } else {
                Err("must be 1 to 64 characters of a-z, 0-9 or '-'")
            }
        }),
    };
    let channel = check.choice("channel", at.channel, Channel::from_number);
    let locale = check.parsed_if_set("locale", &at.locale, locale).map(|tag| Locale::new(&tag));
    Some(AskedRef { purpose: purpose?, channel: channel?, locale })
}

fn read_wording(check: &mut Check, content: proto::TemplateContent) -> Option<Wording> {
    let proto::TemplateContent { subject, text, html } = content;
    let subject = check.name("subject", subject, LONGEST_SUBJECT);
    check.expect("text", !text.trim().is_empty(), "is required");
    let [text, html] = [("text", text), ("html", html)].map(|(field, source)| {
        let short = source.len() <= LONGEST_SOURCE;
        check.expect(field, short, "must be at most 16 KiB long");
        // The path and the bound say it; a count of characters would be another.
        check.lines(field, source, usize::MAX)
    });
    Some(Wording { subject, text, html, preview: String::new() })
}

/// A page of templates.
pub(crate) fn page(page: TemplatePage) -> proto::ListTemplatesResponse {
    proto::ListTemplatesResponse {
        templates: page.templates.into_iter().map(shown).collect(),
        next_page_token: page.next_page_token,
    }
}

/// A template with its versions.
pub(crate) fn history((template, versions): (TemplateView, Vec<StoredVersion>)) -> proto::GetTemplateResponse {
    proto::GetTemplateResponse {
        template: Some(shown(template)),
        versions: versions.into_iter().map(shown_version).collect(),
    }
}

/// What adding a version answers.
pub(crate) fn created((template, version): (TemplateView, StoredVersion)) -> proto::CreateTemplateVersionResponse {
    proto::CreateTemplateVersionResponse { template: Some(shown(template)), version: Some(shown_version(version)) }
}

/// What a preview answers.
pub(crate) fn previewed(preview: Preview) -> proto::PreviewTemplateResponse {
    proto::PreviewTemplateResponse {
        content: Some(notification::rendered(preview.content)),
        warnings: preview.warnings,
    }
}

/// A template and what is in use of it.
pub(crate) fn shown(view: TemplateView) -> proto::Template {
    proto::Template {
        r#ref: Some(shown_ref(view.at)),
        active_version: view.active_version,
        variables: view.variables,
        active_content: view.content.map(shown_content),
        update_time: view.update_time.map(timestamp),
        etag: etag(view.revision),
    }
}

fn shown_ref(at: TemplateRef) -> proto::TemplateRef {
    let target = match at.purpose {
        Purpose::Kind(kind) => Target::Kind(kind.number().into()),
        Purpose::Custom(key) => Target::Key(key),
    };
    proto::TemplateRef {
        target: Some(target),
        channel: at.channel.number().into(),
        locale: at.locale.as_str().to_owned(),
    }
}

fn shown_version(version: StoredVersion) -> proto::TemplateVersion {
    proto::TemplateVersion {
        version: version.version,
        content: Some(shown_content(version.wording)),
        creator: Some(author(version.author)),
        create_time: Some(timestamp(version.create_time)),
    }
}

fn shown_content(wording: Wording) -> proto::TemplateContent {
    proto::TemplateContent { subject: wording.subject, text: wording.text, html: wording.html }
}
