//! Cursors: a position in the feed of a practice, good for one subject. They name no filter, since that may change from one
//! watch to the next; an inbox is another subject than that of another patient.

use super::Subject;
use crate::{
    crypto::{Purpose, TokenKey},
    domain::Scope,
};

/// A cursor that says that everything up to `position` was told.
pub(super) fn mint(tokens: &TokenKey, scope: &Scope, subject: &Subject, position: i64) -> String {
    let payload = [&position.to_be_bytes()[..], whose(subject)].concat();
    tokens.mint(purpose(subject), scope.practice().as_str(), &payload)
}

/// The position in a cursor, if it was made for this subject.
pub(super) fn open(tokens: &TokenKey, scope: &Scope, subject: &Subject, cursor: &str) -> Option<i64> {
    let payload = tokens.open(purpose(subject), scope.practice().as_str(), cursor)?;
    let (position, rest) = payload.split_first_chunk()?;
    (rest == whose(subject)).then(|| i64::from_be_bytes(*position))
}

const fn purpose(subject: &Subject) -> Purpose {
    match subject {
        Subject::Deliveries(_) => Purpose::DeliveryCursor,
        Subject::Inbox(_) => Purpose::InboxCursor,
        Subject::Conversations(_) => Purpose::ConversationCursor,
    }
}

/// What a cursor names besides the position.
fn whose(subject: &Subject) -> &[u8] {
    match subject {
        Subject::Deliveries(_) | Subject::Conversations(_) => &[],
        Subject::Inbox(patient) => patient.as_str().as_bytes(),
    }
}
