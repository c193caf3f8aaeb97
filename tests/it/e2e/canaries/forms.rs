//! The forms in which a text may stand somewhere, and a search for all of them at once.

use std::fmt::Write as _;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};

/// A text that must not be found, and what it is.
#[derive(Clone)]
pub(super) struct Canary {
    pub(super) what: String,
    pub(super) text: String,
}

impl Canary {
    pub(super) fn new(what: impl Into<String>, text: impl Into<String>) -> Self {
        let canary = Self { what: what.into(), text: text.into() };
        // Of anything shorter there are bytes by chance, in one form or another.
        assert!(canary.text.len() >= 8, "{} is too short to be looked for", canary.what);
        canary
    }
}

/// Knows many canaries in all their forms.
pub(super) struct Seeker {
    names: Vec<String>,
    forms: AhoCorasick,
}

impl Seeker {
    pub(super) fn new(canaries: &[Canary]) -> Self {
        let all = canaries.iter().flat_map(|canary| {
            forms(&canary.text).into_iter().map(|(form, bytes)| (format!("{}, {form}", canary.what), bytes))
        });
        let (names, forms): (Vec<_>, Vec<_>) = all.unzip();
        let forms = AhoCorasickBuilder::new().ascii_case_insensitive(true).build(forms).unwrap();
        Self { names, forms }
    }

    /// What was found, each with where it stands.
    pub(super) fn found(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let found = self.forms.find_iter(bytes).map(|hit| {
            let around = &bytes[hit.start().saturating_sub(160)..bytes.len().min(hit.end() + 80)];
            format!("{place}: {} in {:?}", self.names[hit.pattern().as_usize()], String::from_utf8_lossy(around))
        });
        found.collect()
    }
}

/// A text as it is, and as it is when somebody encodes it, alone or amid other bytes.
fn forms(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = text.as_bytes();
    let each = |format: &dyn Fn(u8) -> String| bytes.iter().map(|&byte| format(byte)).collect::<Vec<_>>();
    let of_chars = |format: &dyn Fn(char) -> String| {
        text.chars().map(|c| if c.is_ascii() { c.to_string() } else { format(c) }).collect::<String>()
    };
    let mut forms = vec![
        ("as it is", bytes.to_vec()),
        ("in hex", each(&|byte| format!("{byte:02x}")).concat().into()),
        ("as numbers", each(&|byte| byte.to_string()).join(", ").into()),
        ("in a form", url::form_urlencoded::byte_serialize(bytes).collect::<String>().into()),
        ("in an address", percent(bytes, b"-._~+@:!$&'()*,;=/").into()),
        ("percent-encoded", percent(bytes, b"-._~").into()),
        ("in quotes", format!("{text:?}").trim_matches('"').into()),
        ("in JSON", serde_json::to_string(text).unwrap().trim_matches('"').into()),
        ("in JSON of ASCII", of_chars(&|c| format!("\\u{:04x}", u32::from(c))).into()),
        ("in Rust of ASCII", text.escape_default().to_string().into()),
        ("in HTML", text.replace('&', "&amp;").replace('\'', "&#39;").into()),
        (
            "quoted-printable",
            of_chars(&|c| c.to_string().bytes().fold(String::new(), |text, byte| format!("{text}={byte:02X}"))).into(),
        ),
    ];
    for offset in 0..3 {
        for (form, engine) in
            [("in Base64", &BASE64_STANDARD_NO_PAD), ("in Base64 of addresses", &BASE64_URL_SAFE_NO_PAD)]
        {
            forms.push((form, within(&engine.encode([&vec![0; offset], bytes].concat()), offset, bytes.len())));
        }
    }
    forms.sort_by(|(_, one), (_, other)| one.cmp(other));
    forms.dedup_by(|(_, one), (_, other)| one == other);
    forms
}

/// The characters of Base64 that say nothing but these bytes, which begin at `offset`.
fn within(encoded: &str, offset: usize, length: usize) -> Vec<u8> {
    let (first, end) = ((offset * 8).div_ceil(6), (offset + length) * 8 / 6);
    encoded.as_bytes()[first..end].to_vec()
}

fn percent(bytes: &[u8], kept: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || kept.contains(byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02X}").unwrap();
        }
        text
    })
}

#[test]
fn a_canary_is_found_in_every_form() {
    let text = "Zéphyrine O'Quill+oq@kestrel.example";
    let seeker = Seeker::new(&[Canary::new("a name", text)]);
    let json =
        serde_json::json!({ "name": text, "inner": serde_json::json!({ "name": text }).to_string() }).to_string();
    let address = url::Url::parse_with_params("https://x.example/", [("q", text)]).unwrap();
    let mut places = vec![
        text.to_owned(),
        text.to_uppercase().replace('É', "é"),
        format!("{:?}", text.as_bytes()),
        format!("{text:?}"),
        json,
        address.to_string(),
        format!("https://x.example/{}", percent(text.as_bytes(), b"-._~")),
        text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02X}")),
    ];
    for before in ["", "a", "ab", "abc"] {
        places.push(BASE64_STANDARD_NO_PAD.encode(format!("{before}{text}, and more")));
        places.push(BASE64_URL_SAFE_NO_PAD.encode(format!("{before}{text}")));
    }
    for place in places {
        assert!(!seeker.found("here", place.as_bytes()).is_empty(), "not found in {place}");
    }
    assert!(seeker.found("here", b"Zephyrine O'Quill, kestrel.example").is_empty());
}
