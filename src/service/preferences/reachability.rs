//! Over which channels patients could be reached now, for whoever is about to write to them.

use std::collections::BTreeSet;

use super::Preferences;
use crate::{
    domain::{Channel, ChannelSet, ConsentState, Grounds, Kind, PatientId, Scope, SkipReason},
    service::Error,
    store::GroundsRow,
};

/// One channel to one patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelReach {
    /// The channel.
    pub channel: Channel,
    /// Unset: it could be used.
    pub skip_reason: Option<SkipReason>,
    /// Masked address; empty where there is none.
    pub address_hint: String,
    /// Consent in force.
    pub consent: ConsentState,
}

/// Who can be reached how.
#[derive(Clone, Debug, Default)]
pub struct Reachability {
    /// One entry per patient, each with one per channel, in the order in which they were asked for.
    pub patients: Vec<(PatientId, Vec<ChannelReach>)>,
    /// Those whom the practice does not have.
    pub missing: Vec<PatientId>,
}

impl Preferences {
    /// Says for each of the patients over which channels something of `kind` could go now, and why not over the others.
    /// Whoever is named twice is answered for once. Answers do not bind: a send decides anew.
    ///
    /// # Errors
    /// `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn reachability(
        &self,
        scope: &Scope,
        kind: Kind,
        patients: Vec<PatientId>,
    ) -> Result<Reachability, Error> {
        let mut rows = self.store.grounds_of_all(scope, &patients).await?;
        // Hundreds of decisions do not belong on a thread that serves connections.
        let answer = tokio::task::spawn_blocking(move || {
            let (mut answer, mut named) = (Reachability::default(), BTreeSet::new());
            for patient in patients.into_iter().filter(|patient| named.insert(patient.clone())) {
                match rows.remove(patient.as_str()) {
                    Some(row) => answer.patients.push((patient, reach(&row, kind))),
                    None => answer.missing.push(patient),
                }
            }
            answer
        });
        answer.await.map_err(|error| Error::Internal(error.into()))
    }
}

/// One answer per channel. Whatever channel a composer may think of is asked for; a broadcast, too, could name it.
fn reach(row: &GroundsRow, kind: Kind) -> Vec<ChannelReach> {
    let grounds = Grounds { requested: Some(ChannelSet::ALL), ..row.grounds(kind) };
    let reach = |channel| ChannelReach {
        channel,
        skip_reason: grounds.decide(channel).skip_reason,
        address_hint: row.patient.address_hint(channel),
        consent: row.gates.get(&channel).copied().unwrap_or_default().consent(),
    };
    Channel::ALL.map(reach).into()
}
