//! What each call puts on the audit trail, and what refusals do; and that nothing on it tells more than it should.

mod calls;
mod refusals;

use std::time::Duration;

use heedwell::{
    domain::Role,
    grpc::proto::{AuditEvent, ListAuditEventsRequest},
};
use tokio::time::{interval, timeout};

use super::given::token;
use crate::support::app::{LIMIT, Pass, TestApp};

pub(super) use calls::{CANARIES, every_call};

/// Everything on a trail, the oldest first, but for what its readers leave on it.
pub(super) async fn trail(t: &TestApp, practice: &str) -> Vec<AuditEvent> {
    let mut audit = t.caller_with(&token(t, Role::Auditor, practice)).audit;
    let mut request = ListAuditEventsRequest { practice_id: practice.into(), page_size: 1_000, ..Default::default() };
    let mut events = Vec::new();
    loop {
        let page = audit.list_audit_events(request.clone()).await.unwrap().into_inner();
        events.extend(page.events.into_iter().filter(|event| !(event.resource == "audit" && event.code == 0)));
        if page.next_page_token.is_empty() {
            events.reverse();
            return events;
        }
        request.page_token = page.next_page_token;
    }
}

/// Waits until `wanted` holds for a trail, and yields it as it is then. What is refused gets there by itself.
pub(super) async fn until_trail(
    t: &TestApp,
    practice: &str,
    wanted: impl Fn(&[AuditEvent]) -> bool,
) -> Vec<AuditEvent> {
    let seen = async {
        let mut look = interval(Duration::from_millis(20));
        loop {
            look.tick().await;
            let events = trail(t, practice).await;
            if wanted(&events) {
                return events;
            }
        }
    };
    timeout(LIMIT, seen).await.expect("it is on the trail in time")
}

/// The call without its package.
fn short(event: &AuditEvent) -> &str {
    event.action.trim_start_matches("heedwell.v1.")
}

/// A token of somebody whom no other test calls by that name.
fn of(t: &TestApp, subject: &str, roles: &[Role], practices: &[&str]) -> String {
    t.token_of(&Pass { subject: subject.into(), ..Pass::new(roles, practices) })
}
