//! Each list that a request can hold has a most, which is told by the list's own name: a message of 4 MiB has room for millions of
//! entries, and none may be looked at for each.

use std::collections::BTreeSet;

use heedwell::{domain::Role, grpc::proto::DESCRIPTOR};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};
use tonic::Status;
use tonic_types::StatusExt;

use crate::{
    e2e::{given::practice, isolation::wire::Wire},
    support::app::{ACME, Pass, on_a_server},
};

/// Deeper than anything in a request.
const DEPTH: usize = 6;
/// Of lists in which no value may be there twice, and that are longer than any has values.
const EACH_ONCE: usize = 32;

/// Every list, map and mask that a request can hold.
const MOST: &[(&str, usize)] = &[
    ("AfterHoursReply.open_spans", 70),
    ("Audience.PatientIds.values", 10_000),
    ("Audience.Tags.values", 100),
    ("BatchGetReachabilityRequest.patient_ids", 500),
    ("BatchPutPatientsRequest.patients", 500),
    ("BatchSendNotificationsRequest.items", 500),
    ("BroadcastInput.channels", 4),
    ("ChannelSet.values", EACH_ONCE),
    ("ConversationFilter.assignee_ids", 100),
    ("ConversationFilter.states", EACH_ONCE),
    ("CreateTemplateVersionRequest.variables", 50),
    ("CustomDetails.variables", 50),
    ("DeliveryFilter.channels", EACH_ONCE),
    ("DeliveryFilter.kinds", EACH_ONCE),
    ("DeliveryFilter.patient_ids", 100),
    ("DeliveryFilter.states", EACH_ONCE),
    ("DocumentDetails.titles", 20),
    ("GetDeliveryStatsRequest.kinds", EACH_ONCE),
    ("KindChannels.channels", EACH_ONCE),
    ("KindChannels.offered_channels", EACH_ONCE),
    ("ListBroadcastsRequest.states", EACH_ONCE),
    ("ListConsentRecordsRequest.channels", EACH_ONCE),
    ("ListPatientsRequest.tags", 50),
    ("MarkInboxItemsRequest.ItemIds.values", 100),
    ("NotificationInput.channels", EACH_ONCE),
    ("Patient.tags", 50),
    ("PracticeSettings.kind_channels", 11),
    ("PracticeSettings.link_hosts", 50),
    ("PracticeSettings.opt_in_channels", EACH_ONCE),
    ("PracticeSettings.test_contacts", 10),
    ("PreviewTemplateRequest.variables", 50),
    ("SendMessageRequest.attachment_ids", 10),
    ("SendTestMessageRequest.variables", 50),
    ("UpdateConversationRequest.update_mask", 20),
    ("UpdatePatientPreferencesRequest.choices", 11),
    ("UpdatePracticeSettingsRequest.update_mask", 100),
];

/// What is shown, and passed over where it comes back.
const OUTPUT_ONLY: [&str; 2] = ["PracticeSettings.channel_statuses", "Conversation.candidate_patient_ids"];

/// A list of a call's request, by the fields that lead to it.
struct Place {
    call: String,
    fields: Vec<FieldDescriptor>,
}

fn name(field: &FieldDescriptor) -> String {
    format!("{}.{}", field.parent_message().full_name().trim_start_matches("heedwell.v1."), field.name())
}

fn is_mask(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask")
}

/// Every list of every request.
fn places() -> Vec<Place> {
    let mut found = Vec::new();
    let pool = DescriptorPool::decode(DESCRIPTOR).unwrap();
    for service in pool.services().filter(|service| service.package_name() == "heedwell.v1") {
        for method in service.methods() {
            let call = format!("{}/{}", service.name(), method.name());
            below(&call, &method.input(), &[], &mut found);
        }
    }
    found
}

fn below(call: &str, message: &MessageDescriptor, path: &[FieldDescriptor], found: &mut Vec<Place>) {
    assert!(path.len() <= DEPTH, "{} is too deep", message.full_name());
    for field in message.fields().filter(|field| !OUTPUT_ONLY.contains(&name(field).as_str())) {
        let fields = [path, std::slice::from_ref(&field)].concat();
        if let Kind::Message(message) = field.kind()
            && message.package_name() == "heedwell.v1"
            && !field.is_map()
        {
            below(call, &message, &fields, found);
        }
        if field.is_list() || field.is_map() || is_mask(&field) {
            found.push(Place { call: call.to_owned(), fields });
        }
    }
}

impl Place {
    fn list(&self) -> &FieldDescriptor {
        self.fields.last().unwrap()
    }

    /// As a violation names it.
    fn path(&self) -> String {
        let (last, above) = self.fields.split_last().unwrap();
        let above = above.iter().map(|field| format!("{}{}.", field.name(), if field.is_list() { "[0]" } else { "" }));
        above.chain([last.name().to_owned()]).collect()
    }

    /// A request with so many entries there, and nothing else that it does not need.
    fn request(&self, count: usize) -> Value {
        let list = self.list();
        let last = if is_mask(list) {
            json!(vec!["a"; count].join(","))
        } else if list.is_map() {
            (0..count).map(|n| (format!("name_{n}"), json!("a"))).collect::<Map<_, _>>().into()
        } else {
            let one = |n: usize| match list.kind() {
                Kind::String => json!(format!("a{n}")),
                Kind::Message(_) => json!({}),
                _ => json!(1),
            };
            (0..count).map(one).collect::<Vec<_>>().into()
        };
        let mut request = self.fields.iter().rev().fold(last, |inner, field| {
            let inner = if field != list && field.is_list() { json!([inner]) } else { inner };
            json!({ field.name(): inner })
        });
        request["practice_id"] = json!(ACME);
        if self.call.ends_with("/UpdatePracticeSettings") && !is_mask(list) {
            request["update_mask"] = json!(self.fields[1].json_name());
        }
        request
    }

    /// Whether it was refused for how long that list is.
    fn is_too_long(&self, status: &Status) -> bool {
        let path = self.path();
        let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        violations.iter().any(|violation| {
            let is_there = path.starts_with(&violation.field) || violation.field.starts_with(&path);
            !violation.field.is_empty() && is_there && violation.description.ends_with(" entries")
        })
    }
}

#[test]
fn the_table_names_each_list_of_each_request() {
    let found: BTreeSet<_> = places().iter().map(|place| name(place.list())).collect();
    let known: BTreeSet<_> = MOST.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known);
}

on_a_server! {
    sqlite:
    async fn every_list_of_every_request_has_a_most(t: &mut TestApp) {
        practice(t).await;
        // In every role but that of a patient, who would have to be one.
        let roles: Vec<_> = Role::ALL.into_iter().filter(|role| *role != Role::Patient).collect();
        let (wire, token) = (Wire::new(), t.token_of(&Pass::new(&roles, &[ACME])));
        let mut wrong = Vec::new();
        // An item of a batch is refused by itself, and read as one that comes alone.
        let is_of_an_item = |place: &Place| place.fields[0].name() == "items" && place.fields.len() > 1;
        for place in places().into_iter().filter(|place| !is_of_an_item(place)) {
            let (_, most) = MOST.iter().find(|(known, _)| *known == name(place.list())).unwrap();
            for (count, is_wrong) in [(*most, false), (most + 1, true)] {
                let answer = wire.call(t.channel(), &token, &place.call, &place.request(count)).await;
                let told = answer.as_ref().err().is_some_and(|status| place.is_too_long(status));
                if told != is_wrong {
                    wrong.push(format!("{} {} with {count}: {:?}", place.call, place.path(), answer.err()));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
