//! The audit trail: who did or saw what.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Author, PatientId, Phi, PracticeId};

/// What is put on the trail. Nothing in it is a patient's data, but for whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Who.
    pub actor: Author,
    /// The call, such as `heedwell.v1.ConversationsService/ListMessages`, or what the server did by itself.
    pub action: Cow<'static, str>,
    /// About whom.
    pub patient: Option<PatientId>,
    /// About what, such as `notification/0198...`; may be empty.
    pub resource: String,
    /// How it ended: a number of google.rpc.Code.
    pub code: i32,
    /// Ties the entry to the logs; may be empty.
    pub trace_id: String,
    /// From where; empty when it is not known, or must not be kept.
    pub source_address: String,
    /// For what emergency, where it was done with a token for one.
    pub emergency: Option<Phi<String>>,
}

impl AuditEvent {
    /// That somebody opened a secure link. Who it was is not known, and nothing is kept that could tell.
    pub const LINK_OPENED: &'static str = "link.open";
    /// That somebody was refused more often than is told one by one; the resource says how often.
    pub const REFUSALS: &'static str = "calls.refused";
    /// That somebody with the keys took the trail out of the database.
    pub const EXPORTED: &'static str = "audit.export";
    /// That somebody fetched a file at the address that the provider was given. Whoever has it is taken for the provider.
    pub const FILE_FETCHED: &'static str = "media.fetch";
    /// That somebody made a token with a key of this deployment; the resource says for whom and in which roles.
    pub const TOKEN_ISSUED: &'static str = "token.issue";

    /// That a new data key takes over, some minutes later.
    pub const KEY_BEGUN: &'static str = "keys.begin";
    /// That a data key was wrapped by another master, which the resource names.
    pub const KEY_WRAPPED: &'static str = "keys.wrap";
    /// That somebody made a further master, which the resource names.
    pub const MASTER_ADDED: &'static str = "keys.master";
    /// That the keys of the practice were destroyed: what it tells itself cannot be read any more, but when that was.
    pub const KEYS_SHREDDED: &'static str = "keys.shred";
    /// That somebody made the database quiet: nothing is sent from it any more.
    pub const HELD: &'static str = "instance.hold";
    /// That somebody made it live again; the resource says what became of what waited in it.
    pub const RESUMED: &'static str = "instance.resume";
    /// That somebody began to copy the database.
    pub const COPIED: &'static str = "instance.backup";
    /// That texts, files or the histories of deliveries were removed when their time was over.
    pub const REMOVED: &'static str = "content.remove";

    /// That so many of them, which were older, were removed.
    #[must_use]
    pub fn removed(what: &str, count: u64, before: DateTime<Utc>) -> Self {
        let before = before.to_rfc3339_opts(SecondsFormat::Secs, true);
        Self::of_system(Self::REMOVED, None, format!("{what}/{count}/before/{before}"))
    }

    /// Something that the server did by itself, or let somebody do whom it does not know.
    #[must_use]
    pub fn of_system(action: &'static str, patient: Option<PatientId>, resource: String) -> Self {
        Self {
            actor: Author::system(),
            action: Cow::Borrowed(action),
            patient,
            resource,
            code: 0,
            trace_id: String::new(),
            source_address: String::new(),
            emergency: None,
        }
    }
}

/// What goes on the trail of a practice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditNote {
    /// Whose trail.
    pub practice: PracticeId,
    /// What it says.
    pub event: AuditEvent,
}

/// An entry of the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its place: 1, 2, 3, without gaps.
    pub position: i64,
    /// When it was entered.
    pub event_time: DateTime<Utc>,
    /// What it says.
    pub event: AuditEvent,
    /// Its MAC, which covers the entry before.
    pub hash: [u8; 32],
}
