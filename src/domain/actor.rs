//! Who calls, and what the call may touch. [`Actor::scope`] is the only way from a token to a practice's rows: every
//! method of the store wants the [`Scope`] it yields. The server's own work has [`Engine`].

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, Utc};

use super::{AuditEvent, AuditNote, PatientId, Phi, PracticeId, TraceContext};

/// What a token allows its bearer to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Internal services: send, cancel, preview, read states.
    Sender,
    /// Front desk and clinicians.
    Staff,
    /// Staff plus settings, templates, broadcasts, erasure.
    PracticeAdmin,
    /// A patient, for what is their own.
    Patient,
    /// The portal's backend: what a patient may, for all patients of the practice.
    Portal,
    /// Keeps patients in step with the practice's own system.
    Directory,
    /// Compliance: proof, never text.
    Auditor,
    /// The deployment's operator.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 8] = [
        Self::Sender,
        Self::Staff,
        Self::PracticeAdmin,
        Self::Patient,
        Self::Portal,
        Self::Directory,
        Self::Auditor,
        Self::Operator,
    ];

    /// The name used in tokens and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Staff => "staff",
            Self::PracticeAdmin => "practice_admin",
            Self::Patient => "patient",
            Self::Portal => "portal",
            Self::Directory => "directory",
            Self::Auditor => "auditor",
            Self::Operator => "operator",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// What kind of party did something; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActorType {
    /// An internal service.
    Service = 1,
    /// A member of the practice's staff.
    Staff = 2,
    /// A patient, or the portal for one.
    Patient = 3,
    /// This server, of its own accord.
    System = 4,
    /// A messaging provider, by a signed callback.
    Provider = 5,
}

impl ActorType {
    /// The type with that number of the contract.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::Service),
            2 => Some(Self::Staff),
            3 => Some(Self::Patient),
            4 => Some(Self::System),
            5 => Some(Self::Provider),
            _ => None,
        }
    }
}

/// Who did something, as it is put on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// What kind of party.
    pub kind: ActorType,
    /// The subject of the token, or the name of a provider.
    pub id: String,
    /// A name to show to staff; may be empty.
    pub display_name: String,
}

impl Author {
    /// This server.
    #[must_use]
    pub fn system() -> Self {
        Self { kind: ActorType::System, id: "heedwell".into(), display_name: String::new() }
    }

    /// A provider that reports by callback, such as `twilio`.
    #[must_use]
    pub fn provider(name: &str) -> Self {
        Self { kind: ActorType::Provider, id: name.into(), display_name: String::new() }
    }
}

/// The practices that a token covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Practices {
    /// Every one; for operators.
    All,
    /// Those named.
    Named(BTreeSet<PracticeId>),
}

/// The bearer of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Subject of the token.
    pub subject: String,
    /// Name to show to staff; may be empty.
    pub display_name: String,
    /// The practices covered.
    pub practices: Practices,
    /// The roles held.
    pub roles: BTreeSet<Role>,
    /// The patient that role `patient` is bound to.
    pub patient: Option<PatientId>,
    /// When the token ends; streams end with it.
    pub expire_time: DateTime<Utc>,
    /// For what emergency the token was issued, if it was for one: all that is done with it is marked so.
    pub emergency: Option<Phi<String>>,
}

/// Why an actor may not do something. The two are told apart only after the practice is covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token does not cover the practice, or there is none of that id: not told apart.
    #[error("the token does not cover this practice or this patient")]
    Scope,
    /// The practice is covered, but none of the roles held allows the call.
    #[error("the token lacks a role that this call needs")]
    Role {
        /// The first of the roles that would do.
        required: Role,
    },
}

impl Actor {
    /// The key to the rows of one practice, for a call that any one of `roles` may make. `practice_admin` includes
    /// `staff`. The practice is checked first, so that a foreign one reveals nothing about roles.
    ///
    /// # Errors
    /// [`Denied::Scope`] when the token does not cover the practice (or the id is malformed, which no practice has),
    /// [`Denied::Role`] when it holds none of the roles.
    pub fn scope(&self, practice: &str, roles: &[Role]) -> Result<Scope, Denied> {
        let practice: PracticeId = practice.parse().map_err(|_| Denied::Scope)?;
        let covered = match &self.practices {
            Practices::All => true,
            Practices::Named(named) => named.contains(&practice),
        };
        if !covered {
            return Err(Denied::Scope);
        }
        let held = |role: &Role| {
            self.roles.contains(role) || (*role == Role::Staff && self.roles.contains(&Role::PracticeAdmin))
        };
        let Some(role) = roles.iter().copied().find(held) else {
            return Err(Denied::Role { required: roles.first().copied().unwrap_or(Role::Operator) });
        };
        let patient = match (role, &self.patient) {
            (Role::Patient, Some(patient)) => Some(patient.clone()),
            // A patient's token that names no patient is bound to nobody.
            (Role::Patient, None) => return Err(Denied::Scope),
            _ => None,
        };
        let (author, expire_time) = (self.author(role), Some(self.expire_time));
        let emergency =
            self.emergency.clone().map(|reason| Arc::new(Emergency { reason, told: AtomicBool::default() }));
        Ok(Scope { practice, author, patient, expire_time, call: None, emergency })
    }

    /// Whether the token holds `role` itself.
    #[must_use]
    pub fn holds(&self, role: Role) -> bool {
        self.roles.contains(&role) || (role == Role::Staff && self.roles.contains(&Role::PracticeAdmin))
    }

    /// What goes on record when `call`, which named `practice`, is refused before there is a scope. It stands on the trail of that
    /// practice if the token covers it. If not, on those of the practices that it does cover, of which it says no more than that
    /// another one was asked for: whoever reads the trail of a practice learns nothing from those that the token is not for. A
    /// token for very many practices tells the first of them, so that one call never causes a thousand entries.
    #[must_use]
    pub fn refused(&self, practice: &str, call: &Call, code: i32) -> Vec<AuditNote> {
        const MOST_TRAILS: usize = 10;
        let asked = practice.parse::<PracticeId>().ok();
        let (trails, resource) = match (&self.practices, asked) {
            (Practices::All, asked) => (Vec::from_iter(asked), ""),
            (Practices::Named(named), Some(asked)) if named.contains(&asked) => (vec![asked], ""),
            (Practices::Named(named), _) => (named.iter().take(MOST_TRAILS).cloned().collect(), "another practice"),
        };
        let author = self.author(self.roles.first().copied().unwrap_or(Role::Sender));
        let event = call.event(author, None, resource.to_owned(), code);
        let event = AuditEvent { emergency: self.emergency.clone(), ..event };
        trails.into_iter().map(|practice| AuditNote { practice, event: event.clone() }).collect()
    }

    fn author(&self, role: Role) -> Author {
        let kind = match role {
            Role::Sender | Role::Directory | Role::Operator => ActorType::Service,
            Role::Staff | Role::PracticeAdmin | Role::Auditor => ActorType::Staff,
            Role::Patient | Role::Portal => ActorType::Patient,
        };
        Author { kind, id: self.subject.clone(), display_name: self.display_name.clone() }
    }
}

/// The call by which something is done, for the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, such as `heedwell.v1.NotifyService/GetNotification`.
    pub action: String,
    /// By which it is found in the logs.
    pub trace_id: String,
    /// The address that it came from.
    pub source_address: String,
    /// Its place in a trace that is recorded.
    pub trace: Option<TraceContext>,
}

impl Call {
    /// What the audit trail says of the call.
    fn event(&self, actor: Author, patient: Option<PatientId>, resource: String, code: i32) -> AuditEvent {
        let Self { action, trace_id, source_address, .. } = self.clone();
        let action = Cow::Owned(action);
        AuditEvent { actor, action, patient, resource, code, trace_id, source_address, emergency: None }
    }
}

/// The key to the rows of one practice. It cannot be made but from a token that covers the practice, or by [`Engine`].
#[derive(Clone, Debug)]
pub struct Scope {
    practice: PracticeId,
    author: Author,
    patient: Option<PatientId>,
    expire_time: Option<DateTime<Utc>>,
    call: Option<Call>,
    emergency: Option<Arc<Emergency>>,
}

/// What a token was issued for that is marked in all that is done with it.
#[derive(Debug)]
struct Emergency {
    reason: Phi<String>,
    /// Whether the trail was told of anything that was done with the scope and its clones.
    told: AtomicBool,
}

impl Scope {
    /// The same, for what this call does.
    #[must_use]
    pub fn during(self, call: Call) -> Self {
        Self { call: Some(call), ..self }
    }

    /// What the audit trail says of the call, which ends well: that it is about `patient` and `resource`. Unset where no call is
    /// behind it: what the server does by itself is told by timelines and the consent ledger.
    #[must_use]
    pub fn audit(&self, patient: Option<&PatientId>, resource: String) -> Option<AuditEvent> {
        let call = self.call.as_ref()?;
        let event = call.event(self.author.clone(), patient.cloned(), resource, 0);
        let emergency = self.emergency.as_ref().map(|emergency| {
            emergency.told.store(true, Ordering::Relaxed);
            emergency.reason.clone()
        });
        Some(AuditEvent { emergency, ..event })
    }

    /// Whether the token behind it was issued for an emergency.
    #[must_use]
    pub const fn is_emergency(&self) -> bool {
        self.emergency.is_some()
    }

    /// Whether the token behind it was issued for an emergency, and [`Self::audit`] was asked what the trail says of this call.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.emergency.as_ref().is_some_and(|emergency| emergency.told.load(Ordering::Relaxed))
    }

    /// What goes on record when the call is refused with `code`, a number of google.rpc.Code.
    #[must_use]
    pub fn refused(&self, resource: String, code: i32) -> Option<AuditNote> {
        let event = AuditEvent { code, ..self.audit(None, resource)? };
        Some(AuditNote { practice: self.practice.clone(), event })
    }

    /// Where the call stands in a trace, if that is recorded.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.call.as_ref()?.trace
    }

    /// The practice.
    #[must_use]
    pub const fn practice(&self) -> &PracticeId {
        &self.practice
    }

    /// Who acts.
    #[must_use]
    pub const fn author(&self) -> &Author {
        &self.author
    }

    /// The only patient whose rows may be touched; unset: all of the practice.
    #[must_use]
    pub const fn patient(&self) -> Option<&PatientId> {
        self.patient.as_ref()
    }

    /// When the token behind it ends; unset for the server's own work.
    #[must_use]
    pub const fn expire_time(&self) -> Option<DateTime<Utc>> {
        self.expire_time
    }

    /// The same key in the hand of `author`, on whose behalf the server goes on with something.
    #[must_use]
    pub fn by(&self, author: Author) -> Self {
        Self { author, ..self.clone() }
    }

    /// Whether this scope may touch what belongs to `patient`.
    #[must_use]
    pub fn covers(&self, patient: &PatientId) -> bool {
        self.patient.as_ref().is_none_or(|own| own == patient)
    }
}

/// The server's own key, for work that no token asked for: claims, settlements, callbacks. Made once, in `app`.
#[derive(Clone, Debug)]
pub struct Engine(());

impl Engine {
    /// Only `app` calls this; the architecture test sees to it.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }

    /// The key to one practice's rows, for something that `author` (this server or a provider) does.
    #[must_use]
    pub fn scope(&self, practice: PracticeId, author: Author) -> Scope {
        Scope { practice, author, patient: None, expire_time: None, call: None, emergency: None }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(practices: &[&str], roles: &[Role]) -> Actor {
        Actor {
            subject: "svc".into(),
            display_name: String::new(),
            practices: Practices::Named(practices.iter().filter_map(|id| id.parse().ok()).collect()),
            roles: roles.iter().copied().collect(),
            patient: None,
            expire_time: DateTime::UNIX_EPOCH,
            emergency: None,
        }
    }

    #[test]
    fn a_foreign_practice_is_refused_before_the_role_is_looked_at() {
        let actor = actor(&["a"], &[]);
        assert_eq!(actor.scope("b", &[Role::Sender]).err(), Some(Denied::Scope));
        assert_eq!(actor.scope("a", &[Role::Sender]).err(), Some(Denied::Role { required: Role::Sender }));
        assert_eq!(actor.scope("not an id", &[Role::Sender]).err(), Some(Denied::Scope));
    }

    #[test]
    fn practice_admin_includes_staff_and_nothing_else() {
        let actor = actor(&["a"], &[Role::PracticeAdmin]);
        assert!(actor.scope("a", &[Role::Staff]).is_ok());
        for role in Role::ALL.into_iter().filter(|role| !matches!(role, Role::Staff | Role::PracticeAdmin)) {
            assert!(actor.scope("a", &[role]).is_err(), "{role:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_on_the_trails_that_the_token_covers_and_on_no_other() {
        let call = Call { action: "x.Y/Z".into(), trace_id: "t".into(), source_address: "::1".into(), trace: None };
        let told = |practices: Practices, asked: &str| {
            let actor = Actor { practices, ..actor(&[], &[Role::Staff]) };
            let refused = actor.refused(asked, &call, 7).into_iter();
            refused.map(|it| (it.practice.as_str().to_owned(), it.event.resource)).collect::<Vec<_>>()
        };
        let named = |ids: &[&str]| Practices::Named(ids.iter().filter_map(|id| id.parse().ok()).collect());
        let on = |ids: &[&str], resource: &str| {
            ids.iter().map(|id| ((*id).to_owned(), resource.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(told(named(&["a", "b"]), "a"), on(&["a"], ""));
        assert_eq!(told(named(&["a", "b"]), "c"), on(&["a", "b"], "another practice"));
        assert_eq!(told(named(&["a"]), "not an id"), on(&["a"], "another practice"));
        assert_eq!(told(Practices::All, "c"), on(&["c"], ""));
        assert_eq!(told(Practices::All, "not an id"), on(&[], ""));
        let many: Vec<String> = (0..1_000).map(|n| format!("p{n}")).collect();
        assert_eq!(told(named(&many.iter().map(String::as_str).collect::<Vec<_>>()), "c").len(), 10);
    }

    #[test]
    fn what_no_call_is_behind_is_not_told() {
        let scope = actor(&["a"], &[Role::Staff]).scope("a", &[Role::Staff]);
        assert!(scope.is_ok_and(|scope| scope.audit(None, String::new()).is_none()));
    }

    #[test]
    fn what_is_done_in_an_emergency_says_so_refusals_included() {
        let call = Call { action: "x.Y/Z".into(), trace_id: "t".into(), source_address: "::1".into(), trace: None };
        let reason = Some(Phi::new("a fire".to_owned()));
        let actor = Actor { emergency: reason.clone(), ..actor(&["a"], &[Role::Staff]) };
        let scope = actor.scope("a", &[Role::Staff]).map(|scope| scope.during(call.clone()));
        assert!(scope.as_ref().is_ok_and(|scope| scope.is_emergency() && !scope.clone().is_told()));
        let event = scope.as_ref().ok().and_then(|scope| scope.clone().audit(None, String::new()));
        assert_eq!(event.map(|event| event.emergency), Some(reason.clone()));
        assert!(scope.is_ok_and(|scope| scope.is_told()), "told by one, told by all");
        assert!(actor.refused("a", &call, 7).iter().all(|note| note.event.emergency == reason));
    }

    #[test]
    fn a_patient_token_without_a_patient_covers_nothing() {
        assert_eq!(actor(&["a"], &[Role::Patient]).scope("a", &[Role::Patient]).err(), Some(Denied::Scope));
    }
}
