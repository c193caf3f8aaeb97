#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;

const VECTORS: &str = include_str!("../../../../tests/vectors/sendgrid_events.json");

fn verify(callback: &Callback<'_>, key: &WebhookKey, now: DateTime<Utc>) -> bool {
    callback.is_signed(key) && callback.is_recent(now)
}

/// Whether this server takes the request that a vector describes for one of SendGrid's, at the time when it was signed.
fn accepts(vector: &Value) -> bool {
    let text = |field: &str| vector[field].as_str().unwrap();
    let body = STANDARD.decode(text("payload_base64")).unwrap();
    let callback = Callback { timestamp: Some(text("timestamp")), signature: Some(text("signature")), body: &body };
    let now = DateTime::from_timestamp(text("timestamp").parse().unwrap(), 0).unwrap();
    verify(&callback, &WebhookKey::parse(text("public_key")).unwrap(), now)
}

#[test]
fn every_vector_and_variant_is_judged_as_it_says() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let (mut good, mut bad) = (0, 0);
    for vector in vectors["vectors"].as_array().unwrap() {
        let id = vector["id"].as_str().unwrap();
        assert_eq!(accepts(vector), vector["expected"], "{id}");
        let payload = STANDARD.decode(vector["payload_base64"].as_str().unwrap()).unwrap();
        assert_eq!(payload, vector["payload_text"].as_str().unwrap().as_bytes(), "{id}");
        for variant in vector["variants"].as_array().unwrap() {
            let mut varied = vector.clone();
            for (field, value) in variant["set"].as_object().unwrap() {
                varied[field] = value.clone();
            }
            assert_eq!(accepts(&varied), variant["expected"], "{id}: {}", variant["why"]);
            *(if variant["expected"] == true { &mut good } else { &mut bad }) += 1;
        }
    }
    assert_eq!((good, bad), (2, 28));
}

#[test]
fn a_vectors_events_are_read() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let read = |n: usize| parse(vectors["vectors"][n]["payload_text"].as_str().unwrap().as_bytes()).unwrap().remove(0);
    let delivered = read(0);
    assert_eq!((delivered.told, delivered.message.as_deref()), (Told::Delivered, Some("abc123")));
    assert_eq!((delivered.mailbox.as_str(), delivered.failure), ("pat@example.test", None));
    assert_eq!(delivered.time.unwrap().timestamp(), 1_795_417_200);
    assert_eq!(delivered.token, None);
    let dropped = read(1);
    assert_eq!((dropped.told, dropped.message.as_deref()), (Told::Dropped, Some("LRzXl_NHStOGhQ4kofSm_A")));
    assert_eq!((dropped.code.as_str(), dropped.failure), ("bounced address", Some(FailureReason::InvalidAddress)));
}

/// Vector A, signed at 1795417203.
fn signed() -> (WebhookKey, String, Vec<u8>) {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let vector = &vectors["vectors"][0];
    let text = |field: &str| vector[field].as_str().unwrap().to_owned();
    let key = WebhookKey::parse(&text("public_key")).unwrap();
    (key, text("signature"), STANDARD.decode(text("payload_base64")).unwrap())
}

#[test]
fn what_was_signed_longer_ago_than_sendgrid_repeats_it_is_refused() {
    let (key, signature, body) = signed();
    let callback = Callback { timestamp: Some("1795417203"), signature: Some(&signature), body: &body };
    for (hours, seconds, expected) in [
        (0, 0, true),
        (24, 0, true),
        (26, 0, true),
        (26, 1, false),
        (-26, 0, true),
        (-26, -1, false),
        (24 * 365, 0, false),
    ] {
        let now = DateTime::from_timestamp(1_795_417_203 + hours * 3_600 + seconds, 0).unwrap();
        assert_eq!(verify(&callback, &key, now), expected, "{hours} h {seconds} s");
    }
}

#[test]
fn a_request_without_one_of_its_headers_is_nobodys() {
    let (key, signature, body) = signed();
    let now = DateTime::from_timestamp(1_795_417_203, 0).unwrap();
    let good = Callback { timestamp: Some("1795417203"), signature: Some(&signature), body: &body };
    assert!(verify(&good, &key, now));
    for bad in [
        Callback { timestamp: None, ..good },
        Callback { signature: None, ..good },
        Callback { timestamp: Some(""), ..good },
        Callback { timestamp: Some("now"), ..good },
        Callback { timestamp: Some("99999999999999999999"), ..good },
        Callback { signature: Some("!"), ..good },
    ] {
        assert!(!verify(&bad, &key, now));
    }
    assert_eq!(format!("{good:?}"), "Callback([hidden])");
}

fn read(event: &Value) -> Option<Event> {
    parse(&serde_json::to_vec(&json!([event])).unwrap()).unwrap().pop()
}

/// Each event, the word and facts that it comes to, its code, and why it failed.
#[test]
#[expect(clippy::too_many_lines, reason = "a table reads best whole")]
fn every_event_has_its_meaning() {
    use FailureReason::{Blocked, InvalidAddress, OptedOutAtProvider, Unreachable};
    let complained = Facts::COMPLAINED.and(Facts::ACCEPTED);
    for (event, word, facts, code, failure) in [
        (json!({"event": "processed"}), "processed", Facts::QUEUED, "", None),
        (
            json!({"event": "delivered", "response": "250 2.0.0 OK pat@example.test"}),
            "delivered",
            Facts::DELIVERED,
            "",
            None,
        ),
        (
            json!({"event": "deferred", "response": "451 4.7.1 Later", "attempt": "5"}),
            "deferred",
            Facts::DEFERRED,
            "451 4.7.1",
            None,
        ),
        (json!({"event": "deferred", "response": "400 try again"}), "deferred", Facts::DEFERRED, "400", None),
        (json!({"event": "deferred"}), "deferred", Facts::DEFERRED, "", None),
        (
            json!({"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no pat@example.test"}),
            "bounce",
            Facts::BOUNCED,
            "550 5.1.1",
            Some(InvalidAddress),
        ),
        (
            json!({"event": "bounce", "type": "bounce", "status": "5.0.0", "reason": "500 unknown recipient"}),
            "bounce",
            Facts::BOUNCED,
            "500 5.0.0",
            Some(InvalidAddress),
        ),
        (
            json!({"event": "bounce", "type": "bounce", "reason": "552-5.2.2 over quota"}),
            "bounce",
            Facts::BOUNCED,
            "552 5.2.2",
            Some(Unreachable),
        ),
        (
            json!({"event": "bounce", "type": "bounce", "status": "5.5.4", "reason": "501 5.5.4 bad command"}),
            "bounce",
            Facts::BOUNCED,
            "501 5.5.4",
            Some(Unreachable),
        ),
        (
            json!({"event": "bounce", "type": "bounce", "status": "5.6.1", "reason": "554 5.6.1 not supported"}),
            "bounce",
            Facts::BOUNCED,
            "554 5.6.1",
            Some(Blocked),
        ),
        (
            json!({"event": "bounce", "type": "bounce", "status": "5.3.4", "reason": "552 5.3.4 too big"}),
            "bounce",
            Facts::BOUNCED,
            "552 5.3.4",
            Some(Blocked),
        ),
        (
            json!({"event": "bounce", "type": "bounce", "status": "5.7.1", "reason": "550 not accepted"}),
            "bounce",
            Facts::BOUNCED,
            "550 5.7.1",
            Some(Blocked),
        ),
        (
            json!({"event": "bounce", "type": "blocked", "status": "4.0.0", "reason": "unable to connect"}),
            "blocked",
            Facts::BOUNCED,
            "4.0.0",
            Some(Blocked),
        ),
        (
            json!({"event": "bounce", "type": "blocked", "status": "5.1.1", "reason": "550 5.1.1 x"}),
            "blocked",
            Facts::BOUNCED,
            "550 5.1.1",
            Some(Blocked),
        ),
        // An asynchronous one may lack its type.
        (json!({"event": "bounce", "status": "5.1.10"}), "bounce", Facts::BOUNCED, "5.1.10", Some(InvalidAddress)),
        (json!({"event": "bounce", "status": "5.3.0"}), "blocked", Facts::BOUNCED, "5.3.0", Some(Blocked)),
        (json!({"event": "bounce", "type": 7}), "blocked", Facts::BOUNCED, "", Some(Blocked)),
        (
            json!({"event": "dropped", "reason": "Bounced Address"}),
            "dropped",
            Facts::UNDELIVERED,
            "bounced address",
            Some(InvalidAddress),
        ),
        (
            json!({"event": "dropped", "reason": "Invalid"}),
            "dropped",
            Facts::UNDELIVERED,
            "invalid",
            Some(InvalidAddress),
        ),
        (
            json!({"event": "dropped", "reason": "Unsubscribed Address"}),
            "dropped",
            Facts::UNDELIVERED,
            "unsubscribed address",
            Some(OptedOutAtProvider),
        ),
        (
            json!({"event": "dropped", "reason": "Spam Reporting Address"}),
            "dropped",
            Facts::UNDELIVERED,
            "spam reporting address",
            Some(OptedOutAtProvider),
        ),
        (
            json!({"event": "dropped", "reason": "Spam Content"}),
            "dropped",
            Facts::UNDELIVERED,
            "spam content",
            Some(Blocked),
        ),
        (
            json!({"event": "dropped", "reason": "Invalid SMTPAPI header"}),
            "dropped",
            Facts::UNDELIVERED,
            "invalid smtpapi header",
            Some(Blocked),
        ),
        (
            json!({"event": "dropped", "reason": "Recipient List over Package Quota"}),
            "dropped",
            Facts::UNDELIVERED,
            "recipient list over package quota",
            Some(Blocked),
        ),
        (
            json!({"event": "dropped", "reason": "for pat@example.test"}),
            "dropped",
            Facts::UNDELIVERED,
            "dropped",
            Some(Blocked),
        ),
        (json!({"event": "dropped"}), "dropped", Facts::UNDELIVERED, "dropped", Some(Blocked)),
        (json!({"event": "spamreport"}), "spamreport", complained, "", None),
        (json!({"event": "unsubscribe"}), "unsubscribe", Facts::NONE, "", None),
        (json!({"event": "group_unsubscribe", "asm_group_id": 1}), "group_unsubscribe", Facts::NONE, "", None),
    ] {
        let found = read(&event).unwrap();
        assert_eq!((found.told.word(), found.told.facts()), (word, facts), "{event}");
        assert_eq!((found.code.as_str(), found.failure), (code, failure), "{event}");
        let opts_out = matches!(word, "spamreport" | "unsubscribe" | "group_unsubscribe");
        assert_eq!(found.told.opts_out(), opts_out, "{event}");
    }
}

#[test]
fn opens_clicks_and_what_is_new_mean_nothing() {
    for word in ["open", "click", "group_resubscribe", "account_status_change", "teleported", "Delivered", ""] {
        assert_eq!(read(&json!({"event": word, "n": "t"})), None, "{word}");
    }
    assert_eq!(read(&json!({"email": "pat@example.test"})), None);
    assert_eq!(read(&json!({"event": ["delivered"]})), None);
}

#[test]
fn fields_of_other_types_or_forms_are_as_good_as_missing() {
    let odd = read(&json!({
        "event": "bounce", "type": "bounce", "n": 5, "sg_message_id": "", "timestamp": "soon", "email": null,
        "reason": {"a": 1}, "status": "5.1.1 for pat@example.test", "category": ["a", "b"], "pool": {"name": "p"},
    }))
    .unwrap();
    assert_eq!((odd.token, odd.message, odd.time, odd.code), (None, None, None, String::new()));
    assert!(odd.mailbox.is_empty());
    let message = |id: &str| read(&json!({"event": "processed", "sg_message_id": id})).unwrap().message;
    assert_eq!(message("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0").as_deref(), Some("14c5d75ce93"));
    assert_eq!(message("abc").as_deref(), Some("abc"));
    assert_eq!(message(&"x".repeat(101)), None);
    assert_eq!(message("a b.c"), None);
}

#[test]
fn a_body_that_is_no_array_of_objects_is_malformed() {
    assert_eq!(parse(b"[]").unwrap(), []);
    let deep = "[".repeat(10_000);
    for body in ["", "{}", "null", "[1]", r#"[{"event":"delivered"}, "x"]"#, "[{]", "\u{0}", &deep] {
        assert_eq!(parse(body.as_bytes()), Err(Malformed), "{body:.20}");
    }
    assert_eq!(parse(b"[{\"event\":\"\xff\"}]"), Err(Malformed));
}

#[test]
fn an_event_shows_neither_mailbox_nor_token() {
    let found = read(&json!({"event": "deferred", "email": "pat@example.test", "n": "secret-token"})).unwrap();
    let shown = format!("{found:?}");
    assert!(!shown.contains("pat@") && !shown.contains("secret"), "{shown}");
}
