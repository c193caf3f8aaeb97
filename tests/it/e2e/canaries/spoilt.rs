//! Requests with something in every field: each is refused for what is wrong in it, and repeats none of it.

use heedwell::grpc::proto::DESCRIPTOR;
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

/// Deeper than anything in a request.
const DEPTH: usize = 6;

/// Requests of every call. Of each field that excludes others, each is in one of them.
pub(super) fn all(word: &str) -> Vec<(String, Value)> {
    let pool = DescriptorPool::decode(DESCRIPTOR).unwrap();
    let methods = pool.services().filter(|service| service.package_name() == "heedwell.v1").flat_map(|service| {
        let name = service.name().to_owned();
        service.methods().map(move |method| (format!("{name}/{}", method.name()), method.input())).collect::<Vec<_>>()
    });
    let requests = methods.flat_map(|(call, input)| {
        (0..arms(&input, DEPTH)).map(move |arm| (call.clone(), message(&input, word, arm, DEPTH)))
    });
    requests.collect()
}

/// The most fields that exclude each other.
fn arms(of: &MessageDescriptor, depth: usize) -> usize {
    let here = of.oneofs().map(|oneof| oneof.fields().count());
    let below = of.fields().filter_map(|field| match field.kind() {
        Kind::Message(below) if depth > 0 => Some(arms(&below, depth - 1)),
        _ => None,
    });
    here.chain(below).max().unwrap_or(1).max(1)
}

fn message(of: &MessageDescriptor, word: &str, arm: usize, depth: usize) -> Value {
    let mut fields = Map::new();
    for field in of.fields() {
        let others = field.containing_oneof().filter(|oneof| oneof.fields().count() > 1);
        let left_out = others.is_some_and(|oneof| {
            let all: Vec<_> = oneof.fields().collect();
            all[arm % all.len()] != field
        });
        if !left_out && let Some(value) = value(&field, word, arm, depth) {
            fields.insert(field.name().to_owned(), value);
        }
    }
    Value::Object(fields)
}

fn value(field: &FieldDescriptor, word: &str, arm: usize, depth: usize) -> Option<Value> {
    // Ids are the caller's own, and may be repeated: they say nothing of anybody.
    let is_name = ["_id", "_ids", "key", "values"].iter().any(|end| field.name().ends_with(end));
    let text = || {
        json!(format!(
            "{}-{}",
            if is_name { word.replace("kestrel", "starling") } else { word.to_owned() },
            field.name()
        ))
    };
    if field.is_map() {
        return Some(json!({ format!("{word}-key"): text() }));
    }
    let one = match field.kind() {
        Kind::String => text(),
        // "kestrel" again and again, and not what it is said to be.
        Kind::Bytes => json!("a2VzdHJlbGtlc3RyZWxrZXN0cmVs"),
        Kind::Bool => json!(true),
        Kind::Enum(_) => json!(1),
        Kind::Message(below) => match below.full_name() {
            "google.protobuf.Timestamp" => json!("2031-01-01T00:00:00Z"),
            "google.protobuf.Duration" => json!("60s"),
            "google.protobuf.FieldMask" => {
                json!(format!("{}Path", word.to_lowercase().replace(|c: char| !c.is_ascii_alphabetic(), "")))
            }
            _ if depth == 0 => return None,
            _ => message(&below, word, arm, depth - 1),
        },
        _ => json!(1),
    };
    Some(if field.is_list() { json!([one]) } else { one })
}
