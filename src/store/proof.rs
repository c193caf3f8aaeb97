//! Proof: whether the consent ledger and the audit trail are as they were written, whether the gates say what it says, and whether any attempt began
//! although the ledger, as far as it had been consulted, said no. Positions are compared and not times: a decision may be
//! back-dated, and clocks differ.

mod chain;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, JoinType, QueryFilter, QueryOrder, QuerySelect, QueryTrait, RelationDef,
    sea_query::Condition,
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    anchors::Anchored,
    entity::{attempt, audit, audit_head, consent_head, consent_ledger, delivery, practice, recipient_gate},
    grounds,
    ledger::{state_number, to_entry},
    vault::Chains,
};
use crate::domain::{
    Channel, Closure, ConsentEntry, ConsentState, DeliveryId, Engine, NumberState, PracticeId, in_force,
};

/// How many rows are read at once.
const PAGE: u64 = 1_000;

/// What is wrong with a chain of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The entry at this position is gone.
    Missing {
        /// Where it was.
        position: i64,
    },
    /// The entry at this position is not what was written, or was not written here.
    Broken {
        /// Where it is.
        position: i64,
    },
    /// The entry at this position was written at another.
    Moved {
        /// Where it is.
        position: i64,
        /// Where it was written.
        from: i64,
    },
    /// The entry before this one is gone, so that nothing can be said of this one.
    Unlinked {
        /// Where it is.
        position: i64,
    },
    /// The head is not what the last entry made of it.
    Head,
    /// There are more entries that are not what was written; they are not named one by one.
    More {
        /// How many.
        count: u64,
    },
    /// What is at this position is not what was anchored: everything up to it may have been rewritten.
    Rewritten {
        /// Where it is.
        position: i64,
        /// When it was anchored first.
        anchored: DateTime<Utc>,
    },
    /// Entries up to this position were anchored, and this one is not there.
    Cut {
        /// Where it was.
        position: i64,
        /// When it was anchored first.
        anchored: DateTime<Utc>,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { position } => write!(f, "entry {position} is missing"),
            Self::Broken { position } => write!(f, "entry {position} is not what was written there"),
            Self::Moved { position, from } => write!(f, "entry {position} was written as entry {from}"),
            Self::Unlinked { position } => write!(f, "entry {position} cannot be checked: the one before is missing"),
            Self::Head => f.write_str("the head does not fit the last entry"),
            Self::More { count } => write!(f, "{count} more entries are not what was written there"),
            Self::Rewritten { position, anchored } => {
                write!(f, "entry {position} is not what was anchored on {}", anchored.to_rfc3339())
            }
            Self::Cut { position, anchored } => {
                write!(f, "entry {position}, which was anchored on {}, is not there", anchored.to_rfc3339())
            }
        }
    }
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The consent ledger is not as it was written.
    Ledger(Flaw),
    /// The audit trail is not as it was written.
    Trail(Flaw),
    /// A gate says something else than the ledger.
    Gate {
        /// The channel.
        channel: Channel,
        /// The patient; unset: an address.
        patient: Option<String>,
        /// The entry that it should rest on; 0: none.
        position: i64,
    },
    /// An attempt began though the ledger that it consulted said no.
    SentAfterOptOut {
        /// Of this delivery.
        delivery: DeliveryId,
        /// Which.
        attempt: i32,
        /// The opt-out.
        position: i64,
        /// How far the ledger was consulted.
        consulted: i64,
    },
    /// An attempt consulted entries that are not there.
    Ahead {
        /// Of this delivery.
        delivery: DeliveryId,
        /// Which.
        attempt: i32,
        /// How far the ledger was consulted.
        consulted: i64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(flaw) => flaw.fmt(f),
            Self::Trail(flaw) => write!(f, "audit trail: {flaw}"),
            Self::Gate { channel, patient, position } => {
                let whose = patient.as_ref().map_or("an address".to_owned(), |id| format!("patient {id}"));
                write!(f, "the {} gate of {whose} does not say what entry {position} says", channel.label())
            }
            Self::SentAfterOptOut { delivery, attempt, position, consulted } => write!(
                f,
                "attempt {attempt} of delivery {delivery} began after the opt-out of entry {position} (consulted: {consulted})"
            ),
            Self::Ahead { delivery, attempt, consulted } => {
                write!(f, "attempt {attempt} of delivery {delivery} consulted entry {consulted}, which is missing")
            }
        }
    }
}

/// What was looked at, and what does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Entries of the ledger.
    pub entries: u64,
    /// Attempts.
    pub attempts: u64,
    /// Entries of the audit trail.
    pub events: u64,
    /// In the order in which it was found.
    pub findings: Vec<Finding>,
}

impl Store {
    /// The practices, each of which has a ledger.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn ledgers(&self, _: &Engine) -> Result<Vec<PracticeId>, StoreError> {
        let mut ids = Vec::<String>::new();
        // From each of them, since whoever removes one of them would rather that nobody looked.
        for query in [
            practice::Entity::find().select_only().column(practice::Column::PracticeId).into_query(),
            consent_head::Entity::find().select_only().column(consent_head::Column::PracticeId).into_query(),
            consent_ledger::Entity::find()
                .select_only()
                .column(consent_ledger::Column::PracticeId)
                .distinct()
                .into_query(),
            audit_head::Entity::find().select_only().column(audit_head::Column::PracticeId).into_query(),
            audit::Entity::find().select_only().column(audit::Column::PracticeId).distinct().into_query(),
        ] {
            for row in self.across().query_all(&query).await? {
                ids.push(row.try_get_by_index(0)?);
            }
        }
        ids.sort();
        ids.dedup();
        ids.into_iter().map(|id| id.parse().map_err(|_| StoreError::Corrupt("consent_head"))).collect()
    }

    /// Proves the ledger and the trail of a practice, as they are at one moment, by themselves and by what was anchored of them.
    ///
    /// # Errors
    /// NotFound when there is no such practice and never was; [`StoreError`] when the database refuses.
    pub async fn ledger_prove(
        &self,
        engine: &Engine,
        practice: &PracticeId,
        anchored: &Anchored,
    ) -> Result<Proof, StoreError> {
        let (consents, events) = anchored.of(practice);
        match self.keys(practice).await {
            // Whoever removes all of a practice removes the keys that say so.
            Err(StoreError::NotFound(_)) if !self.ledgers(engine).await?.contains(practice) => {
                let gone = chain::cut(consents).map(Finding::Ledger).chain(chain::cut(events).map(Finding::Trail));
                let findings: Vec<_> = gone.collect();
                let never = findings.is_empty();
                return if never {
                    Err(StoreError::NotFound("practice"))
                } else {
                    Ok(Proof { findings, ..Proof::default() })
                };
            }
            // Its keys were destroyed, and what they sealed is chained as it stands.
            Ok(_) | Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let chains = self.inner.vault.chains(practice);
        self.snapshot_within(practice.clone(), move |db| {
            Box::pin(async move {
                let mut proof = Proof::default();
                let mut entries = Vec::new();
                // What decides is read as far as it can be, also where it does not hold.
                let consent = |row: &consent_ledger::Model| entries.extend(to_entry(row).ok());
                let (count, flaws) = chain::prove_on(db, &chains, consents, consent).await?;
                proof.entries = count;
                proof.findings.extend(flaws.into_iter().map(Finding::Ledger));
                let (count, flaws) = chain::prove_on(db, &chains, events, |_: &audit::Model| ()).await?;
                proof.events = count;
                proof.findings.extend(flaws.into_iter().map(Finding::Trail));
                let known = Known::of(entries);
                prove_gates_on(db, &chains, &known, &mut proof).await?;
                prove_attempts_on(db, &chains, &known, &mut proof).await?;
                Ok(proof)
            })
        })
        .await
    }
}

/// What the ledger says, by whom it is said of. Entries are in the order of their positions.
struct Known {
    newest: i64,
    patients: BTreeMap<(i16, String), Vec<ConsentEntry>>,
    numbers: BTreeMap<Vec<u8>, Vec<ConsentEntry>>,
}

impl Known {
    fn of(entries: Vec<ConsentEntry>) -> Self {
        let mut known = Self { newest: 0, patients: BTreeMap::new(), numbers: BTreeMap::new() };
        for entry in entries {
            known.newest = known.newest.max(entry.position);
            if let (Some(number), Channel::Sms) = (&entry.address, entry.channel) {
                known.numbers.entry(number.clone()).or_default().push(entry.clone());
            }
            if let Some(patient) = &entry.patient {
                let key = (entry.channel.number(), patient.as_str().to_owned());
                known.patients.entry(key).or_default().push(entry);
            }
        }
        known
    }

    /// The patient's decision in force up to a position.
    fn patient(&self, channel: i16, patient: &str, consulted: i64) -> Option<&ConsentEntry> {
        let entries = self.patients.get(&(channel, patient.to_owned()))?;
        in_force(entries.iter().filter(|entry| entry.position <= consulted))
    }

    /// What the number was up to a position.
    fn number(&self, number: &[u8], consulted: i64) -> NumberState {
        let entries = self.numbers.get(number).map_or(&[][..], Vec::as_slice);
        let entries = entries.iter().filter(|entry| entry.position <= consulted);
        entries.fold(NumberState::default(), NumberState::after)
    }
}

async fn prove_gates_on(
    db: &impl ConnectionTrait,
    chains: &Chains,
    known: &Known,
    proof: &mut Proof,
) -> Result<(), StoreError> {
    let mut unseen: BTreeSet<&(i16, String)> = known.patients.keys().collect();
    let mut unseen_numbers: BTreeSet<&Vec<u8>> = known.numbers.keys().collect();
    let mut after: Option<recipient_gate::Model> = None;
    loop {
        let rows = gates_page_on(db, chains.practice.as_str(), after.as_ref()).await?;
        for row in &rows {
            let channel = Channel::from_number(row.channel).ok_or(StoreError::Corrupt("recipient_gate"))?;
            let (patient, expected, position) = if row.subject_kind == grounds::PATIENT {
                let id = String::from_utf8_lossy(&row.subject).into_owned();
                let entry = known.patient(row.channel, &id, i64::MAX);
                unseen.remove(&(row.channel, id.clone()));
                let state = entry.map_or(ConsentState::Unknown, |entry| entry.state);
                (Some(id), state, entry.map_or(0, |entry| entry.position))
            } else {
                if channel == Channel::Sms {
                    unseen_numbers.remove(&row.subject);
                }
                let state = known.number(&row.subject, i64::MAX);
                let closed = state.closure != Closure::Open;
                (None, if closed { ConsentState::OptedOut } else { ConsentState::Unknown }, state.position)
            };
            if row.consent != state_number(expected) || row.consent_seq != position {
                proof.findings.push(Finding::Gate { channel, patient, position });
            }
        }
        let full = rows.len() as u64 == PAGE;
        after = rows.into_iter().next_back();
        if !full {
            break;
        }
    }
    for number in unseen_numbers {
        let position = known.number(number, i64::MAX).position;
        if position != 0 {
            proof.findings.push(Finding::Gate { channel: Channel::Sms, patient: None, position });
        }
    }
    for (channel, id) in unseen {
        let channel_of = Channel::from_number(*channel).ok_or(StoreError::Corrupt("recipient_gate"))?;
        let position = known.patient(*channel, id, i64::MAX).map_or(0, |entry| entry.position);
        proof.findings.push(Finding::Gate { channel: channel_of, patient: Some(id.clone()), position });
    }
    Ok(())
}

/// The gates of a practice after one of them.
async fn gates_page_on(
    db: &impl ConnectionTrait,
    practice: &str,
    after: Option<&recipient_gate::Model>,
) -> Result<Vec<recipient_gate::Model>, StoreError> {
    use recipient_gate::Column::{Channel, PracticeId, Subject, SubjectKind};
    let mut query = recipient_gate::Entity::find()
        .filter(PracticeId.eq(practice))
        .order_by_asc(Channel)
        .order_by_asc(SubjectKind)
        .order_by_asc(Subject)
        .limit(PAGE);
    if let Some(last) = after {
        let same_channel = Condition::all().add(Channel.eq(last.channel));
        let same_kind = same_channel.clone().add(SubjectKind.eq(last.subject_kind));
        query = query.filter(
            Condition::any()
                .add(Channel.gt(last.channel))
                .add(same_channel.add(SubjectKind.gt(last.subject_kind)))
                .add(same_kind.add(Subject.gt(last.subject.clone()))),
        );
    }
    Ok(query.all(db).await?)
}

async fn prove_attempts_on(
    db: &impl ConnectionTrait,
    chains: &Chains,
    known: &Known,
    proof: &mut Proof,
) -> Result<(), StoreError> {
    let of: RelationDef =
        attempt::Entity::belongs_to(delivery::Entity).from(attempt::Column::DeliveryId).to(delivery::Column::Id).into();
    let mut after = (Uuid::nil(), 0);
    loop {
        let rows: Vec<(Uuid, i32, i64, Vec<u8>, String, i16)> =
            attempt::Entity::find()
                .select_only()
                .columns([attempt::Column::DeliveryId])
                .column(attempt::Column::N)
                .column(attempt::Column::ConsentSeq)
                .column(attempt::Column::AddressBi)
                .column(delivery::Column::PatientId)
                .column(delivery::Column::Channel)
                .join(JoinType::InnerJoin, of.clone())
                .filter(attempt::Column::PracticeId.eq(chains.practice.as_str()))
                .filter(Condition::any().add(attempt::Column::DeliveryId.gt(after.0)).add(
                    Condition::all().add(attempt::Column::DeliveryId.eq(after.0)).add(attempt::Column::N.gt(after.1)),
                ))
                .order_by_asc(attempt::Column::DeliveryId)
                .order_by_asc(attempt::Column::N)
                .limit(PAGE)
                .into_tuple()
                .all(db)
                .await?;
        for (id, n, consulted, address, patient, channel) in &rows {
            let (delivery, attempt, consulted) = (DeliveryId(*id), *n, *consulted);
            if consulted > known.newest {
                proof.findings.push(Finding::Ahead { delivery, attempt, consulted });
            }
            let refused = known.patient(*channel, patient, consulted).filter(|entry| entry.is_opt_out());
            let sms = *channel == Channel::Sms.number();
            let closed = Some(known.number(address, consulted)).filter(|state| sms && state.closure != Closure::Open);
            let position = refused.map(|entry| entry.position).or(closed.map(|state| state.position));
            if let Some(position) = position {
                proof.findings.push(Finding::SentAfterOptOut { delivery, attempt, position, consulted });
            }
        }
        proof.attempts += rows.len() as u64;
        match rows.last() {
            Some((id, n, ..)) if rows.len() as u64 == PAGE => after = (*id, *n),
            _ => return Ok(()),
        }
    }
}
