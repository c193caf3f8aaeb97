//! What a client does about errors.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::say;

/// The limit of a call that is no stream. `service_config.json` names some that may take 30 s.
const DEADLINE: Duration = Duration::from_secs(10);

/// A token that is refused for so long is not going to be renewed.
const TOKEN_LIMIT: Duration = Duration::from_secs(300);

/// Makes a call as `service_config.json` says, which tonic does not read. That bridges a moment; `Pauses` bridge the rest.
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

/// Between the tries of one call.
#[derive(Default)]
pub(crate) struct Pauses {
    failures: u32,
    /// When the token was first refused, of refusals in a row.
    refused: Option<Instant>,
}

impl Pauses {
    /// Waits longer each time, never less than the server asks for, and not as long as everybody else. Gives back an error that
    /// has lasted too long.
    pub(crate) async fn wait(&mut self, status: Status) -> Result<(), Status> {
        if status.code() != Code::Unauthenticated {
            self.refused = None;
        } else if self.refused.get_or_insert_with(Instant::now).elapsed() > TOKEN_LIMIT {
            return Err(status);
        }
        say(&json!({ "waiting": code_name(&status) }));
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
        let most = 29_f64.min(2_f64.powf(self.failures.into()));
        self.failures += 1;
        sleep(asked.max(Duration::from_secs_f64(1.0 + rand::random_range(0.0..most)))).await;
        Ok(())
    }
}

/// One of the reasons in errors.proto.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The fields of a request that were wrong, and why.
pub(crate) fn violations(status: &Status) -> Vec<Value> {
    let found = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    found.into_iter().map(|each| json!({ "field": each.field, "description": each.description })).collect()
}

/// The code as the gRPC specification writes it: `DEADLINE_EXCEEDED`.
fn code_name(status: &Status) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", status.code()).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
