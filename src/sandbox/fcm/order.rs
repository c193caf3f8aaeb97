//! The body of a send and what FCM checks in it. Guarantee: pure; an [`Order`] exists only if FCM would take it.

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::Refusal;

/// Of what reaches the device, in bytes.
const LARGEST_PAYLOAD: usize = 4_096;
/// Four weeks, in seconds.
const LONGEST_TTL: u64 = 2_419_200;
/// What Apple takes as `apns-collapse-id`, in bytes.
const LONGEST_COLLAPSE_ID: usize = 64;

/// The fields that are known, by the path of their message.
const FIELDS: [(&str, &[&str]); 6] = [
    ("", &["message", "validate_only"]),
    (
        "message",
        &[
            "android",
            "apns",
            "condition",
            "data",
            "fcm_options",
            "fid",
            "name",
            "notification",
            "token",
            "topic",
            "webpush",
        ],
    ),
    ("message.notification", &["title", "body", "image"]),
    (
        "message.android",
        &[
            "collapse_key",
            "priority",
            "ttl",
            "restricted_package_name",
            "data",
            "notification",
            "fcm_options",
            "direct_boot_ok",
        ],
    ),
    (
        "message.android.notification",
        &[
            "title",
            "body",
            "icon",
            "color",
            "sound",
            "tag",
            "click_action",
            "channel_id",
            "visibility",
            "notification_priority",
        ],
    ),
    ("message.apns", &["headers", "payload", "fcm_options"]),
];

/// A valid send, to one device.
pub(super) struct Order {
    /// A registration token, or the id of an installation.
    pub(super) token: String,
    /// What a later message has to have to take its place on Android; may be empty.
    pub(super) tag: String,
    /// All of it.
    pub(super) message: Value,
}

impl Order {
    /// Checks the body.
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let root: Value = match content_type.split(';').next() {
            Some("application/json") => serde_json::from_slice(body).unwrap_or_default(),
            _ => Value::Null,
        };
        for (path, known) in FIELDS {
            let message = path.split('.').filter(|name| !name.is_empty()).fold(&root, |value, name| &value[name]);
            check_names(path, message, known)?;
        }
        let message = &root["message"];
        let targets =
            ["token", "fid", "topic", "condition"].map(|target| message[target].as_str().map(|it| (target, it)));
        let token = match targets.into_iter().flatten().collect::<Vec<_>>().as_slice() {
            // A topic or condition has many devices, which is never what is wanted here.
            [("token" | "fid", token)] if !token.is_empty() => (*token).to_owned(),
            _ => return Err(Refusal::field("message.token")),
        };
        check_data(&message["data"])?;
        check_android(&message["android"])?;
        check_apns(&message["apns"])?;
        let parts = [&message["notification"], &message["data"], &message["apns"]["payload"]];
        if parts.iter().map(|part| part.to_string().len()).sum::<usize>() > LARGEST_PAYLOAD {
            return Err(Refusal::field("message"));
        }
        let tag = message["android"]["notification"]["tag"].as_str().unwrap_or_default().to_owned();
        Ok(Self { token, tag, message: message.clone() })
    }
}

/// A message that is there is an object with nothing but known names.
fn check_names(path: &str, message: &Value, known: &[&str]) -> Result<(), Refusal> {
    match message {
        Value::Null if !path.is_empty() && path != "message" => Ok(()),
        Value::Object(fields) => match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Refusal::field(format!("{path}.{name}").trim_start_matches('.'))),
            None => Ok(()),
        },
        _ => Err(Refusal::field(path)),
    }
}

/// Values are text, and some names are Google's own.
fn check_data(data: &Value) -> Result<(), Refusal> {
    let reserved = |name: &str| {
        matches!(name, "from" | "message_type" | "gcm" | "google")
            || name.starts_with("google.")
            || name.starts_with("gcm.")
    };
    match data.as_object().is_none_or(|data| texts(data) && !data.keys().any(|name| reserved(name))) {
        true => Ok(()),
        false => Err(Refusal::field("message.data")),
    }
}

fn texts(map: &Map<String, Value>) -> bool {
    map.values().all(Value::is_string)
}

fn check_android(android: &Value) -> Result<(), Refusal> {
    let one_of =
        |value: &Value, known: &[&str]| value.is_null() || value.as_str().is_some_and(|it| known.contains(&it));
    let seconds = |ttl: &str| ttl.strip_suffix('s')?.parse::<u64>().ok();
    let ttl = &android["ttl"];
    if !ttl.is_null() && ttl.as_str().and_then(seconds).is_none_or(|ttl| ttl > LONGEST_TTL) {
        return Err(Refusal::field("message.android.ttl"));
    }
    if !one_of(&android["priority"], &["NORMAL", "HIGH"]) {
        return Err(Refusal::field("message.android.priority"));
    }
    if !one_of(&android["notification"]["visibility"], &["PRIVATE", "PUBLIC", "SECRET"]) {
        return Err(Refusal::field("message.android.notification.visibility"));
    }
    Ok(())
}

fn check_apns(apns: &Value) -> Result<(), Refusal> {
    let headers = &apns["headers"];
    let collapse_id = headers["apns-collapse-id"].as_str().unwrap_or_default();
    match headers.as_object().is_none_or(texts) && collapse_id.len() <= LONGEST_COLLAPSE_ID {
        true => Ok(()),
        false => Err(Refusal::field("message.apns.headers")),
    }
}
