//! Accepting: many notifications in one transaction, each whole or not at all, and each key once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType};
use uuid::Uuid;

use super::{
    Accepted, NewNotification, NotificationRecord, record_on,
    rows::{delivery_row, first_line, inbox_row, is_filed, notification_row},
    sealed::content_row,
    to_record,
};
use crate::{
    domain::{Channel, Delivery, NotificationId, PracticeId, Scope, TraceContext},
    store::{
        Store, StoreError,
        draft::{self, Draft},
        entity::{content, delivery, delivery_event, inbox_item, notification, patient},
        feed::{self, Change},
        grounds::{self, GateKey},
        idem::{self, Prior},
        image,
        lane::Job,
        links, stop, subjects,
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// One notification to accept.
#[derive(Debug)]
pub(in crate::store) struct Accept {
    pub(super) scope: Scope,
    pub(super) keys: Arc<PracticeKeys>,
    pub(super) new: NewNotification,
}

impl Job for Accept {
    type Done = Accepted;
    const GROUP: usize = 64;

    fn practice(&self) -> &PracticeId {
        self.scope.practice()
    }

    /// What it makes pointless may be in the same group.
    fn is_alone(&self) -> bool {
        self.new.kind.voids().is_some() && !self.new.reference.is_empty()
    }

    async fn run(store: &Store, jobs: Vec<Arc<Self>>) -> Result<Vec<Accepted>, StoreError> {
        store.write_across(move |tx| Box::pin(async move { accept_all_on(tx, &jobs).await })).await
    }
}

impl Accept {
    fn key(&self) -> idem::Key<'_> {
        idem::Key {
            practice: self.keys.practice(),
            resource: idem::NOTIFICATIONS,
            request_id: &self.new.request_id,
            fingerprint: &self.new.fingerprint,
            makes: self.new.id.0,
        }
    }
}

async fn accept_all_on(tx: &Tx, jobs: &[Arc<Accept>]) -> Result<Vec<Accepted>, StoreError> {
    // Of twins in this group the first counts.
    let mut named = BTreeSet::new();
    let mut firsts: Vec<&Accept> = jobs.iter().map(Arc::as_ref).collect();
    firsts.retain(|job| named.insert((job.keys.practice(), job.new.request_id.as_str())));
    let taken = idem::take_on(tx, firsts.iter().map(|job| job.key()).collect()).await?;
    firsts.retain(|job| taken.contains(&job.new.id.0) || mutant!("read, then insert"));
    for Accept { scope, new, .. } in &firsts {
        tx.note(scope, Some(&new.patient.id), format_args!("notification/{}", new.id));
    }
    let records = store_all_on(tx, &firsts).await?;
    let mut records: BTreeMap<_, _> = records.into_iter().map(|record| (record.id.0, record)).collect();
    let mut done = Vec::with_capacity(jobs.len());
    for job in jobs {
        done.push(match records.remove(&job.new.id.0) {
            Some(record) => Accepted::New(record),
            None => repeated_on(tx, job).await?,
        });
    }
    failpoint!("F2");
    Ok(done)
}

/// What the key made before, by this request or by another.
async fn repeated_on(tx: &Tx, job: &Accept) -> Result<Accepted, StoreError> {
    accepted_before_on(&tx.db, &job.scope, job.key()).await?.ok_or(StoreError::Corrupt("idem"))
}

/// What `key` made before, as it is now.
pub(super) async fn accepted_before_on(
    db: &impl ConnectionTrait,
    scope: &Scope,
    key: idem::Key<'_>,
) -> Result<Option<Accepted>, StoreError> {
    Ok(match key.prior_on(db).await? {
        Prior::Same(id) => Some(Accepted::Replayed(record_on(db, scope, NotificationId(id)).await?)),
        Prior::Other(id) => Some(Accepted::KeyReused(NotificationId(id))),
        Prior::None => None,
    })
}

/// Stores notifications whose keys are theirs; records are in their order.
async fn store_all_on(tx: &Tx, jobs: &[&Accept]) -> Result<Vec<NotificationRecord>, StoreError> {
    let (records, changes) = write_all_on(tx, jobs).await?;
    feed::append_on(tx, changes).await?;
    Ok(records)
}

/// Stores notifications as part of something else, whose key counts for them. Yields the changes for the feed.
pub(in crate::store) async fn store_on(
    tx: &Tx,
    keys: &Arc<PracticeKeys>,
    scope: &Scope,
    all: Vec<NewNotification>,
) -> Result<Vec<Change>, StoreError> {
    let accept = |new| Accept { scope: scope.clone(), keys: Arc::clone(keys), new };
    let accepts: Vec<_> = all.into_iter().map(accept).collect();
    write_all_on(tx, &accepts.iter().collect::<Vec<_>>()).await.map(|(_, changes)| changes)
}

async fn write_all_on(tx: &Tx, jobs: &[&Accept]) -> Result<(Vec<NotificationRecord>, Vec<Change>), StoreError> {
    // First of all: deliveries are locked before patients, and those before gates.
    let mut void = Vec::new();
    for job in jobs {
        void.extend(stop::void_on(tx, &job.scope, &job.new).await?.into_values());
    }
    let inactive = inactive_on(tx, jobs).await?;
    grounds::gates_insert_on(tx, jobs.iter().flat_map(|job| gates_of(job)).collect()).await?;
    let opted_out = opted_out_on(tx, jobs).await?;
    let keys = subjects_on(tx, jobs).await?;
    let mut rows = Rows::default();
    for job in jobs {
        let keys = keys.get(job.keys.practice()).ok_or(StoreError::Corrupt("subject_key"))?;
        links::insert_on(tx, keys, &job.new).await?;
        let patient = (job.keys.practice().to_owned(), job.new.patient.id.as_str().to_owned());
        rows.add(tx, keys, job, inactive.contains(&patient) || opted_out.contains(&patient))?;
    }
    rows.insert_on(tx, void).await
}

fn gates_of(job: &Accept) -> impl Iterator<Item = (String, GateKey)> {
    let used = job.new.decisions.iter().filter(|decision| decision.uses());
    used.flat_map(|decision| grounds::gate_keys(&job.keys, decision.channel, &job.new.patient))
        .map(|gate| (job.keys.practice().to_owned(), gate))
}

/// The keys of each practice, with those of the patients.
async fn subjects_on<'a>(tx: &Tx, jobs: &[&'a Accept]) -> Result<BTreeMap<&'a str, PracticeKeys>, StoreError> {
    let mut practices = BTreeMap::<_, (&PracticeKeys, Vec<String>)>::new();
    for job in jobs {
        let (_, owners) = practices.entry(job.keys.practice()).or_insert_with(|| (&job.keys, Vec::new()));
        owners.push(subjects::of_patient(job.new.patient.id.as_str()));
    }
    let mut keys = BTreeMap::new();
    for (practice, (own, owners)) in practices {
        keys.insert(practice, subjects::take_on(tx, own, owners).await?);
    }
    Ok(keys)
}

/// The patients of those whose inbox gets something in this very transaction, by practice.
fn filing<'a>(tx: &Tx, jobs: &[&'a Accept]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut practices = BTreeMap::<_, Vec<_>>::new();
    for job in jobs.iter().filter(|job| job.new.decisions.iter().any(|decision| is_filed(decision, tx.now))) {
        practices.entry(job.keys.practice()).or_default().push(job.new.patient.id.as_str());
    }
    practices
}

/// Those who are inactive by now, though the decision did not find them so. All are locked, and stay as they are until COMMIT.
async fn inactive_on(tx: &Tx, jobs: &[&Accept]) -> Result<BTreeSet<(String, String)>, StoreError> {
    let mut inactive = BTreeSet::new();
    for (practice, patients) in filing(tx, jobs) {
        let rows: Vec<(String, bool)> = patient::Entity::find()
            .select_only()
            .columns([patient::Column::PatientId, patient::Column::Inactive])
            .filter(patient::Column::PracticeId.eq(practice))
            .filter(patient::Column::PatientId.is_in(patients))
            .order_by_asc(patient::Column::PatientId)
            .lock(LockType::Share)
            .into_tuple()
            .all(&tx.db)
            .await?;
        let gone = rows.into_iter().filter(|(_, inactive)| *inactive);
        inactive.extend(gone.map(|(patient, _)| (practice.to_owned(), patient)));
    }
    Ok(inactive)
}

/// Those who opted out of the inbox since the decision; an opt-out that is committing is waited for.
async fn opted_out_on(tx: &Tx, jobs: &[&Accept]) -> Result<BTreeSet<(String, String)>, StoreError> {
    let mut opted_out = BTreeSet::new();
    for (practice, patients) in filing(tx, jobs) {
        let gates: Vec<_> =
            patients.into_iter().map(|patient| grounds::patient_gate(Channel::InApp, patient)).collect();
        let rows = grounds::gates_on(&tx.db, practice, &gates, true).await?.into_iter();
        let shut = rows.filter(|row| row.channel == Channel::InApp.number() && grounds::is_shut(row));
        opted_out.extend(shut.map(|row| (practice.to_owned(), String::from_utf8_lossy(&row.subject).into_owned())));
    }
    Ok(opted_out)
}

/// The rows of a group, table by table.
#[derive(Default)]
struct Rows {
    notifications: Vec<notification::Model>,
    deliveries: Vec<delivery::Model>,
    contents: Vec<content::Model>,
    items: Vec<inbox_item::Model>,
    events: Vec<delivery_event::Model>,
}

impl Rows {
    /// Adds the rows of one notification. What may not be filed after all is left to the check at claim, which says why.
    fn add(&mut self, tx: &Tx, keys: &PracticeKeys, job: &Accept, shut: bool) -> Result<(), StoreError> {
        let new = &job.new;
        let owner = subjects::of_patient(new.patient.id.as_str());
        self.notifications.push(notification_row(tx, keys, &job.scope, new)?);
        for delivery in &new.deliveries {
            let decision = new.decisions.iter().find(|decision| decision.channel == delivery.channel);
            let decision = decision.ok_or(StoreError::Corrupt("decision"))?;
            let stored = is_filed(decision, tx.now) && !shut && delivery.over.is_none();
            let mut row = delivery_row(tx, keys, new, (delivery, decision), stored);
            row.trace = job.scope.trace().map(TraceContext::to_bytes);
            if let Some(content) = &delivery.content {
                self.contents.push(content_row(keys, (&owner, delivery.id), content)?);
            }
            if stored {
                self.items.push(inbox_row(&row, new.security));
            }
            self.events.push(draft::first_event(&row, job.scope.author(), first_line(&row)));
            self.deliveries.push(row);
        }
        Ok(())
    }

    /// Writes all of them and what they stopped. Yields the changes for the feed as well.
    async fn insert_on(self, tx: &Tx, void: Vec<Draft>) -> Result<(Vec<NotificationRecord>, Vec<Change>), StoreError> {
        let mut shown = BTreeMap::<Uuid, Vec<Delivery>>::new();
        let mut changes = draft::write_all_on(tx, void).await?;
        for row in &self.deliveries {
            let delivery = image::to_delivery(row)?;
            shown.entry(row.source_id).or_default().push(delivery.clone());
            changes.push(Change::created(row, delivery)?);
        }
        let notifications = self.notifications.clone();
        tx.insert_all(self.notifications).await?;
        tx.insert_all(self.deliveries).await?;
        tx.insert_all(self.contents).await?;
        tx.insert_all(self.items).await?;
        tx.insert_all(self.events).await?;
        let mut record = |row: notification::Model| {
            let deliveries = shown.remove(&row.id).unwrap_or_default();
            to_record(row, deliveries)
        };
        let records = notifications.into_iter().map(&mut record).collect::<Result<_, _>>()?;
        Ok((records, changes))
    }
}
