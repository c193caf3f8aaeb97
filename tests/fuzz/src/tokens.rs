//! Cursors and page tokens. One that was made up or changed is refused; one that is ours, but holds what no server of this version
//! would put into it, is refused or understood, and breaks nothing.

use std::{collections::BTreeMap, sync::OnceLock};

use heedwell::crypto::{MAX_PAYLOAD, Purpose};

use crate::{
    bytes::Bytes,
    contract::{Method, contract},
    limits::reached,
    server::{Server, framed, with},
};

const PURPOSES: [Purpose; 7] = [
    Purpose::DeliveryCursor,
    Purpose::InboxCursor,
    Purpose::ConversationCursor,
    Purpose::PageToken,
    Purpose::Unsubscribe,
    Purpose::SecureLink,
    Purpose::Media,
];
/// Of a page token, what says which list it is for.
const ARGUMENTS: usize = 32;

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    with(|server| match input.byte() % 4 {
        0 => changed(server, &mut input),
        1 => page(server, &mut input),
        2 => cursor(server, &mut input),
        _ => made_up(server, &mut input),
    });
}

/// A token opens for what it was made, and with one bit changed for nothing.
fn changed(server: &Server, input: &mut Bytes<'_>) {
    let (purpose, other) = (input.one_of(&PURPOSES), input.one_of(&PURPOSES));
    let (at, with) = (usize::from(input.byte()), input.byte());
    let payload = input.some(MAX_PAYLOAD);
    let token = server.keys.mint(purpose, "acme", payload);
    assert_eq!(server.keys.open(purpose, "acme", &token).as_deref(), Some(payload));
    assert_eq!(server.keys.open(other, "acme", &token).is_some(), other == purpose);
    assert!(server.keys.open(purpose, "Acme", &token).is_none());
    let mut bytes = token.clone().into_bytes();
    let at = at % bytes.len();
    bytes[at] = with;
    if let Ok(other) = String::from_utf8(bytes) {
        assert_eq!(server.keys.open(purpose, "acme", &other).is_some(), other == token);
    }
    let text = String::from_utf8_lossy(input.0);
    assert!(server.keys.open(purpose, "acme", &text).is_none(), "made up, and it opens");
}

/// The lists, each with a token of its own second page.
fn pages(server: &Server) -> &'static Vec<(&'static Method, Vec<u8>)> {
    static PAGES: OnceLock<Vec<(&'static Method, Vec<u8>)>> = OnceLock::new();
    PAGES.get_or_init(|| {
        let lists = contract().methods.iter().filter(|method| tags(method).contains_key("page_token"));
        let second = |method: &'static Method| {
            let body = with_fields(method, &BTreeMap::from([("page_size", "1")]));
            let answer = server.call(method, &server.tokens[0], &framed(&body));
            let mut known = BTreeMap::new();
            crate::plan::learn(&method.output, answer.messages.get(5..).unwrap_or_default(), &mut known);
            let token = known.get("page_token")?.first()?.clone();
            let payload = server.keys.open(Purpose::PageToken, "acme", &token).expect("ours");
            Some((method, payload[..ARGUMENTS].to_vec()))
        };
        let pages: Vec<_> = lists.filter_map(second).collect();
        assert!(pages.len() >= 3, "lists with a second page: {}", pages.len());
        pages
    })
}

fn page(server: &Server, input: &mut Bytes<'_>) {
    let pages = pages(server);
    let (method, arguments) = &pages[usize::from(input.byte()) % pages.len()];
    let payload = [arguments.as_slice(), input.some(MAX_PAYLOAD - ARGUMENTS)].concat();
    let token = server.keys.mint(Purpose::PageToken, "acme", &payload);
    let body = with_fields(method, &BTreeMap::from([("page_size", "1"), ("page_token", &token)]));
    asked(server, method, &body);
}

fn cursor(server: &Server, input: &mut Bytes<'_>) {
    let (name, purpose) = input.one_of(&[
        ("WatchDeliveries", Purpose::DeliveryCursor),
        ("WatchInbox", Purpose::InboxCursor),
        ("WatchConversations", Purpose::ConversationCursor),
    ]);
    let mut payload = input.number().to_be_bytes().to_vec();
    if purpose == Purpose::InboxCursor {
        payload.extend(b"pat");
    }
    payload.extend(input.some(MAX_PAYLOAD - payload.len()));
    let token = server.keys.mint(purpose, "acme", &payload);
    let method = contract().method(name);
    asked(server, method, &with_fields(method, &BTreeMap::from([("patient_id", "pat"), ("cursor", &token)])));
}

fn made_up(server: &Server, input: &mut Bytes<'_>) {
    let choice = input.byte();
    let lists: Vec<_> = contract().methods.iter().filter(|method| tags(method).contains_key("page_token")).collect();
    let method = lists[usize::from(choice) % lists.len()];
    let token = String::from_utf8_lossy(input.0);
    let body = with_fields(method, &BTreeMap::from([("page_size", "1"), ("page_token", &token)]));
    let answer = server.call(method, &server.tokens[0], &framed(&body));
    assert!(token.is_empty() || answer.code != 0, "made up, and there is a page");
}

fn asked(server: &Server, method: &Method, body: &[u8]) {
    let (answer, trace) = server.leaves_a_trace(|| server.call(method, &server.tokens[0], &framed(body)));
    // Invalid argument, out of range, not found; or it was understood.
    assert!([0, 3, 5, 11].contains(&answer.code), "{} ended with {}", method.path, answer.code);
    assert!(!trace, "{} changed something", method.path);
    if answer.code == 0 {
        reached();
    }
}

/// The tags of its fields, by their names.
fn tags(method: &Method) -> BTreeMap<&'static str, u32> {
    let fields = &contract().messages[&method.input].field;
    fields.iter().map(|field| (field.name(), field.number().cast_unsigned())).collect()
}

/// A request of the practice with these fields, of those that it has.
fn with_fields(method: &Method, values: &BTreeMap<&str, &str>) -> Vec<u8> {
    use prost::encoding::{string, uint32};
    let mut out = Vec::new();
    for (name, tag) in tags(method) {
        match (name, values.get(name)) {
            ("practice_id", _) => string::encode(tag, &"acme".to_owned(), &mut out),
            ("page_size", Some(size)) => uint32::encode(tag, &size.parse().unwrap(), &mut out),
            (_, Some(value)) => string::encode(tag, &(*value).to_owned(), &mut out),
            (_, None) => {}
        }
    }
    out
}
