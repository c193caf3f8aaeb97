//! Messages of the contract, made from an input: which fields they have and what stands in those. Bytes alone would hardly ever get
//! past the decoder. Also the other way: what stands in the fields of an answer, so that requests can ask for what is there.

use std::collections::BTreeMap;

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};

use crate::{bytes::Bytes, contract::contract};

/// Texts that answers had in a field, by its name.
pub(crate) type Known = BTreeMap<String, Vec<String>>;

/// Deeper than anything of the contract.
const DEEPEST: usize = 8;
/// How many times the most of a repeated field.
const MANY: usize = 600;

/// Texts that mean something somewhere.
const TEXTS: &[&str] = &[
    "acme",
    "pat",
    "sam",
    "nobody",
    "en-US",
    "es",
    "America/New_York",
    "+12025550142",
    "+447400123456",
    "pat@example.com",
    "https://portal.acme.example/visits/1",
    "https://u:p@[::ffff:10.0.0.1]:0/../%2e%2e?#",
    "12.30",
    "USD",
    "Dr. Ray",
    "STOP",
    "{{first_name}} {{link}}",
    "{{ a[a[a[a[ }}",
    "flu-season",
    "mail.acme.example",
    "127.1",
    "a\r\nBcc: x@example.com",
    "\u{202e}\u{200b}\u{0}",
    "sms",
    "email.smtp.host",
    "kind_channels",
];

/// A message of that name.
pub(crate) fn message(name: &str, input: &mut Bytes<'_>, known: &Known) -> Vec<u8> {
    let mut out = Vec::new();
    write(name, input, known, DEEPEST, &mut out);
    out
}

fn write(name: &str, input: &mut Bytes<'_>, known: &Known, deeper: usize, out: &mut Vec<u8>) {
    let Some(message) = contract().messages.get(name) else { return };
    for field in &message.field {
        let roll = input.byte();
        let tag = u32::try_from(field.number()).unwrap();
        if field.name() == "practice_id" {
            let practice = if roll == 1 { text(field.name(), input, known) } else { "acme".into() };
            bytes(tag, practice.as_bytes(), out);
            continue;
        }
        let count = match (roll, field.label()) {
            (0..=79, _) => 0,
            (255, Label::Repeated) => MANY,
            (254, Label::Repeated) => 22,
            (_, Label::Repeated) => usize::from(roll % 3) + 1,
            // Of one that is repeated though it may not be, the last counts.
            (253, _) => 2,
            _ => 1,
        };
        for at in 0..count {
            // Beyond a few they are empty: the input is not endless.
            let mut none = Bytes(&[]);
            let input = if at < 4 { &mut *input } else { &mut none };
            match field.r#type() {
                Type::Message if deeper > 0 => {
                    let mut within = Vec::new();
                    write(field.type_name(), input, known, deeper - 1, &mut within);
                    bytes(tag, &within, out);
                }
                Type::Message | Type::Group => {}
                Type::String => bytes(tag, text(field.name(), input, known).as_bytes(), out),
                Type::Bytes => bytes(tag, input.piece(), out),
                Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                    encode_key(tag, WireType::SixtyFourBit, out);
                    out.extend(input.number().to_le_bytes());
                }
                Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                    encode_key(tag, WireType::ThirtyTwoBit, out);
                    out.extend(&input.number().to_le_bytes()[..4]);
                }
                Type::Enum | Type::Bool => varint(tag, u64::from(input.byte() % 16), out),
                _ => varint(tag, number(field.name(), input), out),
            }
        }
    }
}

/// Moments are near the one at which the server stands, or anywhere.
fn number(name: &str, input: &mut Bytes<'_>) -> u64 {
    let choice = input.byte();
    match (name, choice) {
        ("seconds", 0..=199) => crate::server::START.cast_unsigned() + u64::from(choice) * 3_600,
        ("nanos", 0..=199) => 0,
        (_, 0..=239) => u64::from(choice),
        (_, 240) => u64::MAX,
        (_, 241) => i64::MIN.cast_unsigned(),
        _ => input.number(),
    }
}

fn text(name: &str, input: &mut Bytes<'_>, known: &Known) -> String {
    let choice = input.byte();
    let of_name = known.get(name).map_or(&[][..], Vec::as_slice);
    match usize::from(choice) {
        // Where answers name such a thing, it is likelier asked for than not.
        choice @ 0..=95 if !of_name.is_empty() => of_name[choice % of_name.len()].clone(),
        choice @ 0..=199 => TEXTS[choice % TEXTS.len()].to_owned(),
        200 => "x".repeat(5_000),
        201 => String::new(),
        202 => {
            let other: Vec<_> = known.values().flatten().collect();
            other.get(usize::from(input.byte()) % other.len().max(1)).map_or_else(String::new, |it| (*it).clone())
        }
        _ => String::from_utf8_lossy(input.piece()).into_owned(),
    }
}

fn bytes(tag: u32, value: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn varint(tag: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

/// Adds the texts of an answer that name something: up to three for each name.
pub(crate) fn learn(name: &str, mut answer: &[u8], known: &mut Known) {
    const MOST: usize = 3;
    let Some(message) = contract().messages.get(name) else { return };
    while let Ok((tag, wire)) = prost::encoding::decode_key(&mut answer) {
        if wire != WireType::LengthDelimited {
            let context = prost::encoding::DecodeContext::default();
            prost::encoding::skip_field(wire, tag, &mut answer, context).unwrap();
            continue;
        }
        let length = usize::try_from(prost::encoding::decode_varint(&mut answer).unwrap()).unwrap();
        let (value, rest) = answer.split_at(length);
        answer = rest;
        let Some(field) = message.field.iter().find(|field| field.number().cast_unsigned() == tag) else { continue };
        match field.r#type() {
            Type::Message => learn(field.type_name(), value, known),
            Type::String if ["_id", "token", "cursor", "etag"].iter().any(|end| field.name().ends_with(end)) => {
                let text = String::from_utf8(value.to_vec()).unwrap();
                // A page token of an answer is asked for under another name.
                let place = field.name().trim_start_matches("next_").trim_start_matches("watch_");
                let texts = known.entry(place.to_owned()).or_default();
                if texts.len() < MOST && !text.is_empty() && !texts.contains(&text) {
                    texts.push(text);
                }
            }
            _ => {}
        }
    }
}
