//! Google's own description of the API (a discovery document, developers.google.com/discovery/v1/reference/apis), cut down to
//! what a send is made of: what is sent must fit it, field by field.

use serde_json::Value;

const DESCRIPTION: &str = include_str!("../../../../tests/vectors/fcm_v1_discovery.json");

/// Checks that `value` is a message of that name and holds nothing else.
pub(super) fn admits(schema: &str, value: &Value) {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    check(&description["schemas"], &description["schemas"][schema], value, schema);
}

fn check(schemas: &Value, schema: &Value, value: &Value, path: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return check(schemas, &schemas[name], value, path);
    }
    match schema["type"].as_str() {
        Some("object") => {
            let fields = value.as_object().unwrap_or_else(|| panic!("{path} is no object"));
            for (name, value) in fields {
                // Both spellings are understood.
                let known = &schema["properties"][camel(name)];
                let schema = if known.is_null() { &schema["additionalProperties"] } else { known };
                assert!(!schema.is_null(), "{path} has no {name}");
                assert_ne!(schema["deprecated"] == true, name != "token", "{path}.{name} is deprecated");
                check(schemas, schema, value, &format!("{path}.{name}"));
            }
        }
        Some("string") => {
            let text = value.as_str().unwrap_or_else(|| panic!("{path} is no text"));
            if let Some(words) = schema["enum"].as_array() {
                assert!(words.contains(value), "{path} is no {text}");
            }
            if schema["format"] == "google-duration" {
                let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse::<f64>().ok());
                assert!(seconds.is_some_and(|seconds| seconds >= 0.0), "{path} is no duration");
            }
        }
        Some("boolean") => assert!(value.is_boolean(), "{path} is neither true nor false"),
        Some("any") => {}
        other => panic!("{path}: {other:?}"),
    }
}

/// `apns_config` as `apnsConfig`; names of headers and data stay as they are.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    let upper = |part: &str| part[..1].to_uppercase() + &part[1..];
    parts.filter(|part| !part.is_empty()).fold(first, |name, part| name + &upper(part))
}

#[test]
fn what_does_not_fit_is_found() {
    use serde_json::json;
    let wrong = |message: Value| {
        let body = json!({ "message": message });
        std::panic::catch_unwind(|| admits("SendMessageRequest", &body)).is_err()
    };
    assert!(!wrong(json!({ "token": "x", "android": { "ttl": "3.5s", "collapse_key": "k" } })));
    for message in [
        json!({ "tokens": "x" }),
        json!({ "android": { "ttl": "3.5" } }),
        json!({ "android": { "priority": "high" } }),
        json!({ "android": { "notification": { "visibility": 1 } } }),
        json!({ "data": { "n": 1 } }),
        json!({ "apns": { "headers": { "apns-priority": 10 } } }),
        json!({ "notification": "x" }),
    ] {
        assert!(wrong(message.clone()), "{message}");
    }
}
