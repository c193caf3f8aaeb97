//! The page that shows the contract: all of it, each part at an address of its own, and no link that leads nowhere.

use std::collections::BTreeSet;

use heedwell::grpc::proto::DESCRIPTOR;
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use reqwest::StatusCode;

use super::callbacks::browser;
use crate::support::app::on_a_server;

/// Everything of a file that one may want to read about.
fn places(file: &FileDescriptorProto) -> Vec<String> {
    let mut found = Vec::new();
    for service in &file.service {
        found.push(service.name().to_owned());
        found.extend(service.method.iter().map(|method| format!("{}.{}", service.name(), method.name())));
    }
    file.message_type.iter().for_each(|message| of_message("", message, &mut found));
    file.enum_type.iter().for_each(|each| of_enum("", each, &mut found));
    found
}

fn of_message(scope: &str, message: &DescriptorProto, found: &mut Vec<String>) {
    if message.options.as_ref().is_some_and(|options| options.map_entry()) {
        return;
    }
    let name = format!("{scope}{}", message.name());
    found.extend(message.field.iter().map(|field| format!("{name}.{}", field.name())));
    let scope = format!("{name}.");
    found.push(name);
    message.nested_type.iter().for_each(|nested| of_message(&scope, nested, found));
    message.enum_type.iter().for_each(|nested| of_enum(&scope, nested, found));
}

fn of_enum(scope: &str, each: &EnumDescriptorProto, found: &mut Vec<String>) {
    let name = format!("{scope}{}", each.name());
    found.extend(each.value.iter().map(|value| format!("{name}.{}", value.name())));
    found.push(name);
}

/// The values of an attribute, in order.
fn values<'a>(page: &'a str, attribute: &str) -> Vec<&'a str> {
    let begin = format!(" {attribute}=\"");
    page.split(begin.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// What somebody reads, its spaces aside.
fn text(page: &str) -> String {
    let words: String = page.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect();
    plain(&words.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

fn plain(text: &str) -> String {
    text.split_whitespace().collect()
}

on_a_server! {
    sqlite:
    async fn the_reference_holds_the_whole_contract_and_leads_nowhere_in_vain(t: &mut TestApp) {
        let answer = browser().get(t.url("/reference")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let page = answer.text().await.unwrap();
        let contract = FileDescriptorSet::decode(DESCRIPTOR).unwrap();
        let own: Vec<_> = contract.file.iter().filter(|file| file.package() == "heedwell.v1").collect();
        let mut expected: Vec<_> = own.iter().flat_map(|file| places(file)).collect();
        assert!(expected.iter().any(|place| place == "NotifyService.SendNotification"));
        expected.push("main".to_owned());
        expected.sort_unstable();
        let mut shown = values(&page, "id");
        shown.sort_unstable();
        assert_eq!(shown, expected);

        let shown: BTreeSet<_> = shown.into_iter().collect();
        let links = values(&page, "href");
        let lost: Vec<_> =
            links.iter().filter_map(|link| link.strip_prefix('#')).filter(|place| !shown.contains(place)).collect();
        assert!(lost.is_empty(), "{lost:?}");
        // From the list of contents, from the heading, and from where it is taken or returned.
        assert!(links.iter().filter(|link| **link == "#SendNotificationResponse").count() >= 3);
        let reason = "<a href=\"#ErrorReason.ERROR_REASON_REQUEST_ID_REUSED\">REQUEST_ID_REUSED</a>";
        assert!(page.contains(reason), "a call does not lead to the reason for which it fails");

        let text = text(&page);
        let locations = own.iter().flat_map(|file| &file.source_code_info).flat_map(|info| &info.location);
        let comments = locations.flat_map(|it| it.leading_detached_comments.iter().chain(&it.leading_comments));
        let lines: Vec<_> = comments.flat_map(|comment| comment.lines()).map(|line| line.trim()).collect();
        assert!(lines.len() > 900, "only {} lines of comments", lines.len());
        for line in lines {
            assert!(text.contains(&plain(line.trim_start_matches("* "))), "{line}");
        }
    }

    async fn the_reference_runs_nothing_and_carries_no_style_of_its_own(t: &mut TestApp) {
        let page = browser().get(t.url("/reference")).send().await.unwrap().text().await.unwrap();
        for unwanted in ["<script", "<style", " style=", " on", "<img", "javascript:"] {
            let mut tags = page.split('<').filter_map(|part| part.split_once('>')).map(|(tag, _)| format!("<{tag}"));
            assert!(!tags.any(|tag| tag.contains(unwanted)), "{unwanted}");
        }
        assert!(page.contains("<link rel=\"stylesheet\" href=\"/reference.css\">"));
    }
}
