//! What a client does about errors.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

/// The limit of a call that is no stream. `service_config.json` names some that may take 30 s.
const DEADLINE: Duration = Duration::from_secs(10);

/// Makes a call as `service_config.json` says, which tonic does not read. That bridges a moment; `pause` bridges the rest.
pub(crate) async fn call<T>(attempt: impl AsyncFn() -> Result<Response<T>, Status>) -> Result<T, Status> {
    let attempts = async {
        for backoff in [0.2, 0.4, 0.8] {
            match attempt().await {
                Err(status) if is_unavailable(&status) => {
                    sleep(Duration::from_secs_f64(rand::random_range(0.0..backoff))).await;
                }
                done => return done,
            }
        }
        attempt().await
    };
    let done = timeout(DEADLINE, attempts).await;
    done.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))).map(Response::into_inner)
}

/// The server is not there. What breaks a connection under a call has one of many codes in tonic; the server's own errors, of
/// whatever code, come with a reason.
fn is_unavailable(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Cancelled => reason(status).is_empty(),
        _ => false,
    }
}

/// Whether the same call may do after a while. Every call may be repeated: `request_id` sees to it that it happens once.
pub(crate) fn passes(status: &Status) -> bool {
    match status.code() {
        Code::DeadlineExceeded | Code::ResourceExhausted | Code::Internal => true,
        // By then there may be a new token.
        Code::Unauthenticated => true,
        _ => is_unavailable(status),
    }
}

/// Waits longer each time, never less than the server asks for, and not as long as everybody else.
pub(crate) async fn pause(status: &Status, failures: u32) {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    let most = 29_f64.min(2_f64.powf(failures.into()));
    sleep(asked.max(Duration::from_secs_f64(1.0 + rand::random_range(0.0..most)))).await;
}

/// One of the reasons in errors.proto.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The code as the gRPC specification writes it: `DEADLINE_EXCEEDED`.
pub(crate) fn code_name(status: &Status) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", status.code()).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
