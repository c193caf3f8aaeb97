//! What is said from an address: a text with STOP, START or a request to stop, and what a provider reports of it. It binds the
//! number: every patient of the practice who has it, and whoever gets it later.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Standing, waiting};
use crate::{
    crypto,
    domain::{
        Author, Channel, Closure, ConsentEntry, ConsentRecord, ConsentSource, ConsentState, EmailAddress, PatientId,
        Phi, PhoneNumber, PracticeId, Scope, effective_now, start_opts_in,
    },
    store::{
        Store, StoreError,
        draft::{Draft, save_all_on},
        grounds,
        ledger::{self, NewEntry},
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// An opt-out that somebody reports of an address.
pub(in crate::store) struct Report<'a> {
    pub(in crate::store) channel: Channel,
    /// Its blind index.
    pub(in crate::store) address: Vec<u8>,
    pub(in crate::store) address_hint: String,
    pub(in crate::store) source: ConsentSource,
    pub(in crate::store) author: &'a Author,
    pub(in crate::store) evidence: String,
    /// When it was decided; unset: now. What a patient decided since stands.
    pub(in crate::store) decided: Option<DateTime<Utc>>,
}

impl Store {
    /// Puts on record that a provider reported an opt-out or a complaint of a mailbox: every patient who has it is opted out of
    /// mail, but for those who agreed to it after `decided`. Yields how many entries followed; a repeat adds none, however late
    /// it comes.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn mailbox_opted_out(
        &self,
        scope: &Scope,
        mailbox: &EmailAddress,
        decided: DateTime<Utc>,
        evidence: String,
    ) -> Result<usize, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (scope, address, address_hint) = (scope.clone(), keys.email_index(mailbox), mailbox.mask());
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let (channel, source, author) = (Channel::Email, ConsentSource::Provider, scope.author());
                let decided = Some(decided);
                let report = Report { channel, address, address_hint, source, author, evidence, decided };
                let (records, drafts) = report_on(tx, &keys, &report, &BTreeSet::new()).await?;
                save_all_on(tx, drafts).await?;
                Ok(records.len())
            })
        })
        .await
    }
}

/// Takes the gates of an address and of everybody who has it. Whoever is given a number takes its gate first, so that none is
/// missed; one who was given it while we waited is taken after, out of order, which a deadlock would only delay.
async fn take_holders_on<'a>(tx: &Tx, keys: &'a PracticeKeys, report: &Report<'_>) -> Result<Standing<'a>, StoreError> {
    let holders = grounds::holders_on(tx, keys.practice(), report.channel, &report.address).await?;
    let numbers = (report.channel == Channel::Sms).then(|| report.address.clone()).into_iter().collect();
    let mut standing = Standing::take_on(tx, keys, report.channel, holders, numbers).await?;
    let now = grounds::holders_on(tx, keys.practice(), report.channel, &report.address).await?;
    let late: BTreeSet<String> = now.difference(standing.patients()).cloned().collect();
    if !late.is_empty() {
        standing.add_on(tx, late).await?;
    }
    Ok(standing)
}

/// Takes the gates of several reports of a practice in one order, before any of them is put on record.
pub(in crate::store) async fn take_all_on(
    tx: &Tx,
    practice: &PracticeId,
    addresses: &BTreeSet<(Channel, Vec<u8>)>,
) -> Result<(), StoreError> {
    let mut gates = BTreeSet::new();
    for (channel, address) in addresses {
        gates.insert(grounds::address_gate(*channel, address));
        let holders = grounds::holders_on(tx, practice.as_str(), *channel, address).await?;
        gates.extend(holders.iter().map(|patient| grounds::patient_gate(*channel, patient)));
    }
    let gates: Vec<_> = gates.into_iter().collect();
    grounds::gates_take_on(tx, practice.as_str(), &gates).await.map(drop)
}

/// Opts out everybody who has the address, one entry each, and closes the number. What waits for them is skipped, but for
/// `except`, which the caller writes.
pub(in crate::store) async fn report_on(
    tx: &Tx,
    keys: &PracticeKeys,
    report: &Report<'_>,
    except: &BTreeSet<Uuid>,
) -> Result<(Vec<ConsentRecord>, Vec<Draft>), StoreError> {
    let mut standing = take_holders_on(tx, keys, report).await?;
    let soft = report.source == ConsentSource::SmsFreeText;
    let mut entries = Vec::new();
    for patient in standing.patients() {
        let in_force = standing.in_force(patient);
        let known = match report.channel {
            Channel::Sms => {
                in_force.is_some_and(|entry| entry.is_stop_from(&report.address) && (soft || entry.is_hard_stop()))
            }
            // What a link did can be taken back by it; a complaint cannot.
            _ => {
                in_force.is_some_and(|entry| entry.is_opt_out() && entry.source == report.source)
                    || standing.entries(patient).iter().any(|entry| report.is_old_beside(entry))
            }
        };
        if !known {
            let decided = report.decided.unwrap_or(tx.now).min(tx.now);
            let time = effective_now(ConsentState::OptedOut, in_force, decided);
            entries.push(report.entry(tx, Some(patient), ConsentState::OptedOut, time)?);
        }
    }
    let asked = if soft { Closure::ByRequest } else { Closure::ByStop };
    if entries.is_empty() && report.channel == Channel::Sms && standing.number(&report.address).closure < asked {
        entries.push(report.entry(tx, None, ConsentState::OptedOut, tx.now)?);
    }
    let records = standing.append_on(tx, report.author, entries).await?;
    // A number that is closed closes the channel for everybody who has it; a mailbox binds nobody by itself.
    let is_out =
        |id: &&String| report.channel == Channel::Sms || standing.in_force(id).is_some_and(ConsentEntry::is_opt_out);
    let out = standing.patients().iter().filter(is_out).cloned().collect();
    let drafts = waiting::skip_on(tx, keys.practice(), report.channel, &out, report.author, except).await?;
    Ok((records, drafts))
}

/// START: opens the number, and opts in whoever was opted out by a text from it. From a number that is open it is a text like
/// any other.
pub(in crate::store) async fn start_on(
    tx: &Tx,
    keys: &PracticeKeys,
    report: &Report<'_>,
) -> Result<Vec<ConsentRecord>, StoreError> {
    let mut standing = take_holders_on(tx, keys, report).await?;
    let number = standing.number(&report.address);
    let mut entries = Vec::new();
    for patient in standing.patients().iter().filter(|id| start_opts_in(standing.entries(id), &report.address)) {
        let time = effective_now(ConsentState::OptedIn, standing.in_force(patient), tx.now);
        entries.push(report.entry(tx, Some(patient), ConsentState::OptedIn, time)?);
    }
    if entries.is_empty() && number.closure != Closure::Open {
        entries.push(report.entry(tx, None, ConsentState::OptedIn, tx.now)?);
    }
    standing.append_on(tx, report.author, entries).await
}

impl Report<'_> {
    /// Whether it repeats what is on record, or was decided before the patient opted in again.
    fn is_old_beside(&self, entry: &ConsentEntry) -> bool {
        self.decided.is_some_and(|decided| match entry.state {
            ConsentState::OptedOut => entry.source == self.source && entry.effective_time >= decided,
            _ => entry.source != ConsentSource::Unsubscribe && entry.effective_time > decided,
        })
    }

    fn entry(
        &self,
        tx: &Tx,
        patient: Option<&String>,
        state: ConsentState,
        effective_time: DateTime<Utc>,
    ) -> Result<NewEntry, StoreError> {
        let patient = patient.map(|id| id.parse().map_err(|_| StoreError::Corrupt("patient"))).transpose()?;
        Ok(NewEntry {
            id: crypto::new_id(tx.now),
            patient,
            channel: self.channel,
            state,
            source: self.source,
            address: Some(self.address.clone()),
            address_hint: self.address_hint.clone(),
            effective_time,
            evidence: Phi::new(self.evidence.clone()),
        })
    }
}

/// Opts out patients who were given a number that is closed, as everybody was who had it. The gates of the numbers are taken
/// also where they are open, so that a STOP which comes at the same moment finds these patients, or is found here.
pub(in crate::store) async fn inherit_on(
    tx: &Tx,
    keys: &PracticeKeys,
    author: &Author,
    given: &[(PatientId, PhoneNumber)],
) -> Result<Vec<Draft>, StoreError> {
    if given.is_empty() {
        return Ok(Vec::new());
    }
    let patients = given.iter().map(|(patient, _)| patient.as_str().to_owned()).collect();
    let numbers = given.iter().map(|(_, number)| keys.phone_index(number)).collect();
    let mut standing = Standing::take_on(tx, keys, Channel::Sms, patients, numbers).await?;
    let (mut entries, mut opted_out) = (Vec::new(), BTreeSet::new());
    for (patient, number) in given {
        let address = keys.phone_index(number);
        let state = standing.number(&address);
        let in_force = standing.in_force(patient.as_str());
        if state.closure == Closure::Open || in_force.is_some_and(|entry| entry.is_stop_from(&address)) {
            continue;
        }
        let stop = ledger::row_at_on(&tx.db, keys.practice(), state.position).await?;
        let source = stop.and_then(|row| ConsentSource::from_number(row.source)).unwrap_or(ConsentSource::SmsKeyword);
        let report = Report {
            channel: Channel::Sms,
            address,
            address_hint: number.mask(),
            source,
            author,
            evidence: format!("the number was opted out by entry {}", state.position),
            decided: None,
        };
        let id = patient.as_str().to_owned();
        let time = effective_now(ConsentState::OptedOut, in_force, tx.now);
        entries.push(report.entry(tx, Some(&id), ConsentState::OptedOut, time)?);
        opted_out.insert(id);
    }
    standing.append_on(tx, author, entries).await?;
    waiting::skip_on(tx, keys.practice(), Channel::Sms, &opted_out, author, &BTreeSet::new()).await
}
