//! Devices for push. Tokens are sealed and found again by blind index, so that the same token is always the same device,
//! whoever's it is. How many a patient has is kept in the patient's row, which every decision reads anyway.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::TimeDelta;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, TryInsertResult, sea_query::Expr,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Store, StoreError,
    entity::{patient, push_device},
    rows::{padded, these},
    tx::Tx,
    vault::{PracticeKeys, Sealed},
};
use crate::{
    crypto,
    domain::{Device, DeviceId, MOST_DEVICES, PatientId, PracticeId, PushToken, Registration, Scope},
};

const BODY: Sealed = Sealed { table: "push_device", column: "body_ct" };
/// The least that two times differ by, as the databases keep them.
const TICK: TimeDelta = TimeDelta::microseconds(1);

/// What is sealed of a device.
#[derive(Serialize, Deserialize)]
struct Body {
    token: String,
    name: String,
}

/// A device as it is registered.
struct New {
    scope: Scope,
    keys: Arc<PracticeKeys>,
    patient: String,
    token_bi: Vec<u8>,
    body: Body,
}

impl Store {
    /// Registers a device for a patient: a new one, or that of the token, which then is this patient's. Whoever has too many
    /// gives up the one that was registered longest ago.
    ///
    /// # Errors
    /// NotFound when there is no such practice or no such patient in it.
    pub async fn device_register(
        &self,
        scope: &Scope,
        patient: &PatientId,
        token: &PushToken,
        name: &str,
    ) -> Result<DeviceId, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let new = Arc::new(New {
            scope: scope.clone(),
            token_bi: keys.digest("push token", token.as_str()),
            patient: patient.as_str().to_owned(),
            body: Body { token: token.as_str().to_owned(), name: name.to_owned() },
            keys,
        });
        loop {
            let new = Arc::clone(&new);
            // Somebody else may register the same token at this moment: then it is looked at again.
            if let Some(id) = self
                .write_within(scope.practice().clone(), move |tx| Box::pin(async move { register_on(tx, &new).await }))
                .await?
            {
                return Ok(DeviceId(id));
            }
        }
    }

    /// Forgets a device of a patient; one that is not there, or somebody else's, is left alone.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn device_delete(&self, scope: &Scope, patient: &PatientId, id: DeviceId) -> Result<(), StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (scope, patient) = (scope.clone(), patient.clone());
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                patients_lock_on(tx, keys.practice(), [patient.as_str()]).await?;
                let gone = push_device::Entity::delete_many()
                    .filter(push_device::Column::PracticeId.eq(keys.practice()))
                    .filter(push_device::Column::PatientId.eq(patient.as_str()))
                    .filter(push_device::Column::Id.eq(id.0))
                    .exec(&tx.db)
                    .await?;
                if gone.rows_affected > 0 {
                    tx.note(&scope, Some(&patient), format_args!("device/{id}"));
                }
                count_on(tx, keys.practice(), patient.as_str()).await
            })
        })
        .await
    }
}

/// Registers the device unless somebody else came in between, for whom nothing is locked.
async fn register_on(tx: &Tx, new: &New) -> Result<Option<Uuid>, StoreError> {
    let New { scope, keys, patient, token_bi, body } = new;
    let practice = keys.practice();
    let with_token = || {
        push_device::Entity::find()
            .filter(push_device::Column::PracticeId.eq(practice))
            .filter(push_device::Column::TokenBi.eq(token_bi.clone()))
    };
    let owner = with_token().one(&tx.db).await?.map(|device| device.patient_id);
    let owners: BTreeSet<&str> = owner.as_deref().into_iter().chain([patient.as_str()]).collect();
    if !patients_lock_on(tx, practice, owners.iter().copied()).await?.contains(patient) {
        return Err(StoreError::NotFound("patient"));
    }
    let known = with_token().lock_exclusive().one(&tx.db).await?;
    if known.as_ref().map(|device| &device.patient_id) != owner.as_ref() {
        return Ok(None);
    }
    let id = known.as_ref().map_or_else(|| crypto::new_id(tx.now), |device| device.id);
    let row = push_device::Model {
        id,
        practice_id: practice.to_owned(),
        patient_id: patient.clone(),
        token_bi: token_bi.clone(),
        body_ct: keys.seal(BODY, id.as_bytes(), body)?,
        create_time: known.as_ref().map_or(tx.now, |device| device.create_time),
        // By it one registration is told from the next, whatever the clock says.
        seen_time: known.as_ref().map_or(tx.now, |device| tx.now.max(device.seen_time + TICK)),
    };
    let row = row.into_active_model();
    if known.is_some() {
        row.reset_all().update(&tx.db).await?;
    } else {
        let key = [push_device::Column::PracticeId, push_device::Column::TokenBi];
        let taken = push_device::Entity::insert(row).on_conflict_do_nothing_on(key);
        if !matches!(taken.exec_without_returning(&tx.db).await?, TryInsertResult::Inserted(1..)) {
            return Ok(None);
        }
    }
    trim_on(tx, practice, patient).await?;
    for owner in &owners {
        count_on(tx, practice, owner).await?;
    }
    // An app registers whenever it starts: what tells nothing new is not told. Who loses a device to somebody else is told too.
    if owner.as_ref() != Some(patient) {
        for owner in owners {
            tx.note(scope, owner.parse().ok().as_ref(), format_args!("device/{}", DeviceId(id)));
        }
    }
    Ok(Some(id))
}

/// Locks these patients, in the order of their ids, before any of their devices. Yields those that are there.
async fn patients_lock_on(
    tx: &Tx,
    practice: &str,
    patients: impl IntoIterator<Item = &str>,
) -> Result<BTreeSet<String>, StoreError> {
    let there = patient::Entity::find()
        .select_only()
        .column(patient::Column::PatientId)
        .filter(patient::Column::PracticeId.eq(practice))
        .filter(patient::Column::PatientId.is_in(patients))
        .order_by_asc(patient::Column::PatientId)
        .lock_exclusive()
        .into_tuple()
        .all(&tx.db)
        .await?;
    Ok(there.into_iter().collect())
}

/// Forgets what a patient has beyond the limit, the oldest first.
async fn trim_on(tx: &Tx, practice: &str, patient: &str) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = push_device::Entity::find()
        .select_only()
        .column(push_device::Column::Id)
        .filter(push_device::Column::PracticeId.eq(practice))
        .filter(push_device::Column::PatientId.eq(patient))
        .order_by_desc(push_device::Column::SeenTime)
        .order_by_desc(push_device::Column::Id)
        .into_tuple()
        .all(&tx.db)
        .await?;
    let beyond: Vec<Uuid> = ids.into_iter().skip(MOST_DEVICES).collect();
    if !beyond.is_empty() {
        push_device::Entity::delete_many().filter(push_device::Column::Id.is_in(beyond)).exec(&tx.db).await?;
    }
    Ok(())
}

/// Writes how many devices a patient has, whose row is locked.
async fn count_on(tx: &Tx, practice: &str, patient: &str) -> Result<(), StoreError> {
    let count = push_device::Entity::find()
        .filter(push_device::Column::PracticeId.eq(practice))
        .filter(push_device::Column::PatientId.eq(patient))
        .count(&tx.db)
        .await?;
    patient::Entity::update_many()
        .col_expr(patient::Column::PushDevices, Expr::value(i32::try_from(count).unwrap_or(i32::MAX)))
        .filter(patient::Column::PracticeId.eq(practice))
        .filter(patient::Column::PatientId.eq(patient))
        .exec(&tx.db)
        .await?;
    Ok(())
}

/// The devices of these patients, which the caller has locked; those that cannot be read are left out.
pub(super) async fn of_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    patients: BTreeSet<String>,
) -> Result<BTreeMap<String, Vec<Device>>, StoreError> {
    let mut devices = BTreeMap::<_, Vec<_>>::new();
    if patients.is_empty() {
        return Ok(devices);
    }
    let rows = push_device::Entity::find()
        .filter(push_device::Column::PracticeId.eq(keys.practice()))
        .filter(push_device::Column::PatientId.is_in(padded(patients)))
        .order_by_asc(push_device::Column::Id)
        .all(db)
        .await?;
    for row in rows {
        match keys.open::<Body>(BODY, row.id.as_bytes(), &row.body_ct) {
            Ok(body) => {
                let token = PushToken::from_trusted(body.token);
                let device = Device { id: DeviceId(row.id), token, register_time: row.seen_time };
                devices.entry(row.patient_id).or_default().push(device);
            }
            Err(error) => tracing::error!(device.id = %row.id, error = %error, "a device cannot be read"),
        }
    }
    Ok(devices)
}

/// Forgets devices that the provider does not know any more, in the order in which rows are locked. One that was registered
/// again while the provider was asked has a token that is good by now, as far as anybody knows, and stays.
pub(super) async fn forget_on(tx: &Tx, gone: &BTreeSet<(PracticeId, Registration)>) -> Result<(), StoreError> {
    for practice in gone.iter().map(|(practice, _)| practice).collect::<BTreeSet<_>>() {
        let registrations: Vec<Registration> =
            gone.iter().filter(|(of, _)| of == practice).map(|(_, registration)| *registration).collect();
        let ids = registrations.iter().map(|registration| registration.device.0);
        let theirs = push_device::Entity::find().filter(these(
            push_device::Column::Id,
            ids,
            push_device::Column::PracticeId,
            practice.as_str(),
        ));
        let owners: BTreeSet<String> = theirs.all(&tx.db).await?.into_iter().map(|device| device.patient_id).collect();
        patients_lock_on(tx, practice.as_str(), owners.iter().map(String::as_str)).await?;
        // One that passes to somebody else at this moment is left alone: the next push to it tells the same.
        push_device::Entity::delete_many()
            .filter(push_device::Column::PracticeId.eq(practice.as_str()))
            .filter(push_device::Column::PatientId.is_in(owners.iter().map(String::as_str)))
            .filter(registrations.iter().map(is_still).fold(Condition::any(), |any, one| any.add(one)))
            .exec(&tx.db)
            .await?;
        for owner in &owners {
            count_on(tx, practice.as_str(), owner).await?;
        }
    }
    Ok(())
}

/// The device, unless it was registered again.
fn is_still(registration: &Registration) -> Condition {
    Condition::all()
        .add(push_device::Column::Id.eq(registration.device.0))
        .add(push_device::Column::SeenTime.eq(registration.time))
}
