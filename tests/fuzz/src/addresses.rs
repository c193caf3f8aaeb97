//! Numbers and mailboxes as people write them, texts that may ask to stop, and links that unsubscribe.

use heedwell::domain::{EmailAddress, Meaning, PhoneNumber, mail_domain};
use http::{Request, StatusCode};

use crate::{bytes::Bytes, limits::reached, server::with};

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    match input.byte() % 4 {
        0 => {
            let region = input.one_of(&["", "US", "CA", "GB", "MX", "XX"]);
            number(&String::from_utf8_lossy(input.0), region);
        }
        1 => mailbox(&String::from_utf8_lossy(input.0)),
        2 => {
            let type_of_twilio = input.one_of(&[None, Some("STOP"), Some("START"), Some("HELP"), Some("x")]);
            let text = String::from_utf8_lossy(input.0);
            let meaning = Meaning::of(&text, type_of_twilio);
            assert_eq!(meaning, Meaning::of(&text, type_of_twilio));
            if type_of_twilio == Some("STOP") {
                assert_eq!(meaning, Meaning::Stop);
            }
        }
        _ => link(&mut input),
    }
}

fn number(text: &str, region: &str) {
    let Ok(number) = PhoneNumber::parse(text, region) else { return };
    reached();
    let e164 = number.e164();
    let digits = e164.strip_prefix('+').unwrap();
    assert!((7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()), "{e164}");
    assert_eq!(PhoneNumber::parse(e164, "").as_ref(), Ok(&number), "{e164} is not what it is");
    assert!(number.mask().bytes().filter(u8::is_ascii_digit).count() <= 7, "{} shows it", number.mask());
    let _ = (number.display(), number.may_be_texted(&["US", "CA"]));
}

fn mailbox(text: &str) {
    let _ = mail_domain(text);
    let Ok(mailbox) = EmailAddress::parse(text) else { return };
    reached();
    let address = mailbox.as_str();
    assert!(address.len() <= 254 && address.bytes().all(|byte| byte.is_ascii_graphic()), "{address:?}");
    assert!(address.matches('@').count() == 1 && !address.contains(['<', '>', ',', ';', '"', '\\']), "{address:?}");
    assert_eq!(EmailAddress::parse(address).as_ref(), Ok(&mailbox), "{address} is not what it is");
    assert!(mailbox.mask().ends_with(mailbox.domain()));
}

/// Nothing unsubscribes but a link that was made here, of which there are none.
fn link(input: &mut Bytes<'_>) {
    let post = input.byte() < 200;
    let token: String = input.part().chars().filter(|char| char.is_ascii_graphic()).collect();
    let escaped: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let content_type =
        input.one_of(&["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]);
    let one_click = b"List-Unsubscribe=One-Click".to_vec();
    let body = if input.byte() < 128 { one_click } else { input.0.to_vec() };
    let path = format!("/u/{escaped}");
    let request = if post { Request::post(path) } else { Request::get(path) };
    let request = request.header("content-type", content_type).body(body).unwrap();
    with(|server| {
        let (answer, trace) = server.leaves_a_trace(|| server.request(request));
        let refused = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE];
        assert!(refused.contains(&answer.status()), "answered with {}", answer.status());
        assert!(!trace, "refused, and changed something");
    });
}
