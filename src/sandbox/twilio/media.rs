//! Files that patients send along, as Twilio has them: its address wants the account's log-in and redirects to a store, which
//! wants none and refuses whoever shows one (<https://www.twilio.com/docs/messaging/api/media-resource>).

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use futures::stream;

use super::{super::journal::Entry, Refusal, Twilio};

/// The smallest picture: one transparent dot.
const PNG: &[u8] =
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\
\x00\x00\x00\rIDATx\x9cc\x00\x01\x00\x00\x05\x00\x01\r\n-\xb4\x00\x00\x00\x00IEND\xaeB`\x82";
/// More than Twilio itself takes.
const HUGE: usize = 6 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// A file that may go along with a text.
#[derive(Clone, Copy)]
pub(in super::super) struct File {
    name: &'static str,
    /// What Twilio says that it is.
    pub(in super::super) declared: &'static str,
    holds: Holds,
}

/// What is in a file.
#[derive(Clone, Copy)]
enum Holds {
    Bytes(&'static [u8]),
    /// A picture without an end, whose length nobody says.
    Huge,
    /// The same, with its length said at once.
    Long,
    /// Nothing the first time, 503; then a picture.
    NotAtOnce,
    /// A redirect to itself.
    Nowhere,
}

const fn file(name: &'static str, declared: &'static str, holds: Holds) -> File {
    File { name, declared, holds }
}

const FILES: &[File] = &[
    file("picture", "image/png", Holds::Bytes(PNG)),
    file("note", "text/plain", Holds::Bytes("Grüße, Pat\n".as_bytes())),
    file("lie", "image/jpeg", Holds::Bytes(b"<html><script>alert(1)</script></html>")),
    file("empty", "text/plain", Holds::Bytes(b"")),
    file("huge", "image/png", Holds::Huge),
    file("long", "image/png", Holds::Long),
    file("late", "image/png", Holds::NotAtOnce),
    file("nowhere", "image/png", Holds::Nowhere),
    file("video", "video/mp4", Holds::Bytes(b"\x00\x00\x00\x18ftypmp42")),
    file("card", "text/x-vcard", Holds::Bytes(b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Pat Doe\r\nEND:VCARD\r\n")),
];

/// The file with that name.
pub(in super::super) fn by_name(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

/// The names of all files.
pub(in super::super) fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.name)
}

impl File {
    /// Its address, as a webhook names it.
    pub(in super::super) fn url(&self, base: &str, account: &str, message: &str) -> String {
        format!("{base}/2010-04-01/Accounts/{account}/Messages/{message}/Media/{}", self.sid())
    }

    fn sid(&self) -> String {
        let place = FILES.iter().position(|file| file.name == self.name).unwrap_or_default();
        format!("ME{place:032x}")
    }
}

/// Leads whoever may have it to the store.
pub(super) async fn redirect(
    State(twilio): State<Arc<Twilio>>,
    Path((account, message, media)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    twilio.authorise(&account, &headers)?;
    let file = FILES.iter().find(|file| file.sid() == media).ok_or(Refusal::NOT_FOUND)?;
    twilio.carrier.journal.append(Entry::TwilioMediaAsked { message: message.clone(), media });
    if matches!(file.holds, Holds::NotAtOnce) && twilio.carrier.rules.first_time("late", &message) {
        return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
    }
    Ok(Redirect::temporary(&format!("/media/{}?X-Amz-Signature=stand-in", file.name)).into_response())
}

/// The store.
pub(super) async fn stored(Path(name): Path<String>, headers: HeaderMap) -> Response {
    // S3 refuses a request with two ways of authentication.
    if headers.contains_key(header::AUTHORIZATION) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let Some(file) = by_name(&name) else { return StatusCode::NOT_FOUND.into_response() };
    let body = match file.holds {
        Holds::Bytes(bytes) => Body::from(bytes),
        Holds::NotAtOnce => Body::from(PNG),
        Holds::Long => Body::from([PNG, vec![0; HUGE].as_slice()].concat()),
        Holds::Nowhere => return Redirect::temporary("/media/nowhere").into_response(),
        Holds::Huge => {
            let zeros = stream::iter((0..HUGE / CHUNK).map(|_| Ok::<_, std::io::Error>(vec![0; CHUNK])));
            Body::from_stream(stream::StreamExt::chain(stream::iter([Ok(PNG.to_vec())]), zeros))
        }
    };
    ([(header::CONTENT_TYPE, file.declared)], body).into_response()
}
