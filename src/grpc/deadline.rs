//! Deadlines: a call that takes too long is answered with DEADLINE_EXCEEDED. tonic's own timeout answers CANCELLED and does
//! not cover the body of a stream.

use std::time::Duration;

use axum::{extract::Request, middleware::Next, response::Response};
use http::HeaderMap;
use tokio::time::{Instant, timeout};

use super::status;

/// The longest that a call with one answer may take, whatever its caller allows.
const LONGEST: Duration = Duration::from_secs(30);
/// By how much an answer comes before the caller's deadline, so that the caller, whose own timer is set to that moment, sees
/// the answer.
const MARGIN: Duration = Duration::from_millis(5);

/// The calls that go on after their first answer; they end by themselves.
const STREAMS: [&str; 5] = [
    "/heedwell.v1.BroadcastService/WatchBroadcast",
    "/heedwell.v1.ConversationsService/DownloadAttachment",
    "/heedwell.v1.ConversationsService/WatchConversations",
    "/heedwell.v1.InboxService/WatchInbox",
    "/heedwell.v1.NotifyService/WatchDeliveries",
];

/// When the caller gives up; kept with the request of a caller who said so.
#[derive(Clone, Copy, Debug)]
struct Deadline(Instant);

/// Ends the wait for an answer in time. Of a stream that is the wait for its beginning; the rest of it heeds [`of`].
pub(super) async fn limit(mut request: Request, next: Next) -> Response {
    let asked = asked(request.headers());
    if let Some(deadline) = asked.and_then(|asked| Instant::now().checked_add(asked)) {
        request.extensions_mut().insert(Deadline(deadline));
    }
    let asked = asked.map(|asked| asked - MARGIN.min(asked / 2));
    let allowed =
        if STREAMS.contains(&request.uri().path()) { asked } else { Some(asked.unwrap_or(LONGEST).min(LONGEST)) };
    let answer = next.run(request);
    match allowed {
        Some(allowed) => timeout(allowed, answer).await.unwrap_or_else(|_| status::deadline_exceeded().into_http()),
        None => answer.await,
    }
}

/// When the caller of this request gives up; unset: it did not say.
pub(super) fn of<T>(request: &tonic::Request<T>) -> Option<Instant> {
    request.extensions().get::<Deadline>().map(|deadline| deadline.0)
}

/// `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2). A malformed one is as good as none.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<u64>().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
