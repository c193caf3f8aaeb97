//! Inboxes: the in-app deliveries of a patient as the portal lists them. How many are unread is counted in an index of the
//! patient's unread items alone; sending keeps no counter for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use uuid::Uuid;

use super::{
    Keyset, Store, StoreError,
    draft::{self, Note},
    entity::{content, delivery, inbox_item},
    feed::{self, Change},
    image::corrupt,
    notifications,
    queue::drafts_on,
    rows::padded,
    subjects,
    tx::Tx,
    vault::PracticeKeys,
};
use crate::domain::{
    DeliveryId, Facts, InboxItem, NotificationId, PatientId, Phi, PracticeId, ReadState, Scope, Selection,
};

/// Where a page of an inbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxPlace {
    /// Among what comes first.
    pub security: bool,
    /// The last item.
    pub last: Keyset,
}

impl InboxPlace {
    /// 25 bytes: whether it is among what comes first, then the last item.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [&[u8::from(self.security)][..], &self.last.to_bytes()].concat()
    }

    /// What [`Self::to_bytes`] made.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&security @ 0..=1, last) = bytes.split_first()? else { return None };
        Some(Self { security: security == 1, last: Keyset::from_bytes(last)? })
    }
}

/// A page of an inbox: security first, then the newest.
#[derive(Debug)]
pub struct InboxPage {
    /// The items.
    pub items: Vec<InboxItem>,
    /// Set when there may be more.
    pub next: Option<InboxPlace>,
}

/// Most items that are marked in one transaction.
const MARKED_AT_ONCE: u64 = 200;
/// A page ends before its texts are longer than this together, in bytes: answers have a limit.
const LONGEST_PAGE: usize = 2 * 1024 * 1024;

impl Store {
    /// Lists a patient's inbox.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn inbox_list(
        &self,
        scope: &Scope,
        patient: &PatientId,
        unread_only: bool,
        after: Option<InboxPlace>,
        limit: u64,
    ) -> Result<InboxPage, StoreError> {
        let mut query = of(scope, patient);
        if unread_only {
            query = query.filter(inbox_item::Column::ReadTime.is_null());
        }
        if let Some(InboxPlace { security, last }) = after {
            let same = Condition::all()
                .add(inbox_item::Column::CreateTime.eq(last.time))
                .add(inbox_item::Column::DeliveryId.lt(last.id));
            let older = Condition::any().add(inbox_item::Column::CreateTime.lt(last.time)).add(same);
            let rest = Condition::all().add(inbox_item::Column::Security.eq(security)).add(older);
            let lower = security.then(|| inbox_item::Column::Security.eq(false));
            query = query.filter(Condition::any().add(rest).add_option(lower));
        }
        let mut rows = query
            .order_by_desc(inbox_item::Column::Security)
            .order_by_desc(inbox_item::Column::CreateTime)
            .order_by_desc(inbox_item::Column::DeliveryId)
            .limit(limit + 1)
            .all(&self.within(scope))
            .await?;
        let mut more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut items = self.items(scope, rows).await?;
        more |= cut(&mut items);
        let place = |item: &InboxItem| InboxPlace {
            security: item.security,
            last: Keyset { time: item.create_time, id: item.id.0 },
        };
        let next = items.last().filter(|_| more).map(place);
        Ok(InboxPage { items, next })
    }

    /// How many items of a patient's inbox are unread.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn inbox_unread(&self, scope: &Scope, patient: &PatientId) -> Result<i32, StoreError> {
        let unread = of(scope, patient).filter(inbox_item::Column::ReadTime.is_null());
        Ok(i32::try_from(unread.count(&self.within(scope)).await?).unwrap_or(i32::MAX))
    }

    /// These items of a patient's inbox, in the order of their ids; what is not there is passed over.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn inbox_items(
        &self,
        scope: &Scope,
        patient: &PatientId,
        ids: &[DeliveryId],
    ) -> Result<Vec<InboxItem>, StoreError> {
        let wanted = inbox_item::Column::DeliveryId.is_in(padded(ids.iter().map(|id| id.0)));
        let rows = of(scope, patient).filter(wanted).order_by_asc(inbox_item::Column::DeliveryId);
        let rows = rows.all(&self.within(scope)).await?;
        self.items(scope, rows).await
    }

    /// Marks items of a patient's inbox, at most some hundred, in the order of their ids and beginning after `after`. Yields
    /// where to go on, unless that was all: who goes on from there comes to an end, whatever others do to the same items.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn inbox_mark(
        &self,
        scope: &Scope,
        patient: &PatientId,
        selection: &Selection,
        state: ReadState,
        after: Option<DeliveryId>,
    ) -> Result<Option<DeliveryId>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let marking = Marking { keys, scope: scope.clone(), patient: patient.clone(), state, after };
        let selection = selection.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move { mark_on(tx, &marking, &selection).await })
        })
        .await
    }

    /// Rows with their texts.
    async fn items(&self, scope: &Scope, rows: Vec<inbox_item::Model>) -> Result<Vec<InboxItem>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids = padded(rows.iter().map(|row| row.delivery_id));
        let sources: Vec<(Uuid, Uuid)> = delivery::Entity::find()
            .select_only()
            .columns([delivery::Column::Id, delivery::Column::SourceId])
            .filter(delivery::Column::Id.is_in(ids.clone()))
            .into_tuple()
            .all(&self.within(scope))
            .await?;
        let texts =
            content::Entity::find().filter(content::Column::DeliveryId.is_in(ids)).all(&self.within(scope)).await?;
        let keys =
            subjects::opening(&self.within(scope), &keys, texts.iter().map(|row| row.body_ct.as_slice())).await?;
        let sources: BTreeMap<_, _> = sources.into_iter().collect();
        let texts: BTreeMap<_, _> = texts.into_iter().map(|row| (row.delivery_id, row)).collect();
        let item = |row: inbox_item::Model| {
            let source = sources.get(&row.delivery_id).copied().ok_or_else(corrupt)?;
            item(&keys, row, source, &texts)
        };
        rows.into_iter().map(item).collect()
    }
}

/// A patient's items.
fn of(scope: &Scope, patient: &PatientId) -> Select<inbox_item::Entity> {
    inbox_item::Entity::find()
        .filter(inbox_item::Column::PracticeId.eq(scope.practice().as_str()))
        .filter(inbox_item::Column::PatientId.eq(patient.as_str()))
}

fn item(
    keys: &PracticeKeys,
    row: inbox_item::Model,
    source: Uuid,
    texts: &BTreeMap<Uuid, content::Model>,
) -> Result<InboxItem, StoreError> {
    let text = texts.get(&row.delivery_id).map(|text| notifications::to_content(keys, text)).transpose()?;
    let text = text.unwrap_or_default();
    Ok(InboxItem {
        id: DeliveryId(row.delivery_id),
        notification: NotificationId(source),
        title: text.subject,
        body: text.text,
        link: text.link,
        create_time: row.create_time,
        read_time: row.read_time,
        security: row.security,
    })
}

/// Cuts items off that would make a page too long, but for the first. True: there were some.
fn cut(items: &mut Vec<InboxItem>) -> bool {
    let length = |text: &Phi<String>| text.expose().len();
    let mut total = 0;
    let kept = items.iter().take_while(|item| {
        total += length(&item.title) + length(&item.body) + length(&item.link);
        total <= LONGEST_PAGE
    });
    let kept = kept.count().max(1);
    let cut = items.len() > kept;
    items.truncate(kept);
    cut
}

/// Who marks what how.
struct Marking {
    keys: Arc<PracticeKeys>,
    scope: Scope,
    patient: PatientId,
    state: ReadState,
    after: Option<DeliveryId>,
}

impl Marking {
    /// Items that are not in that state yet.
    fn changing(&self) -> Select<inbox_item::Entity> {
        of(&self.scope, &self.patient).filter(match self.state {
            ReadState::Read => inbox_item::Column::ReadTime.is_null(),
            ReadState::Unread => inbox_item::Column::ReadTime.is_not_null(),
        })
    }

    const fn read_time(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self.state {
            ReadState::Read => Some(now),
            ReadState::Unread => None,
        }
    }
}

async fn mark_on(tx: &Tx, marking: &Marking, selection: &Selection) -> Result<Option<DeliveryId>, StoreError> {
    let selected = match selection {
        Selection::Items(ids) => {
            let ids: BTreeSet<Uuid> = ids.iter().map(|id| id.0).collect();
            inbox_item::Column::DeliveryId.is_in(padded(ids))
        }
        Selection::Through(time) => inbox_item::Column::CreateTime.lte(*time),
    };
    let ids: Vec<Uuid> = marking
        .changing()
        .select_only()
        .column(inbox_item::Column::DeliveryId)
        .filter(selected)
        .apply_if(marking.after, |query, after| query.filter(inbox_item::Column::DeliveryId.gt(after.0)))
        .order_by_asc(inbox_item::Column::DeliveryId)
        .limit(MARKED_AT_ONCE)
        .into_tuple()
        .all(&tx.db)
        .await?;
    if ids.is_empty() {
        return Ok(None);
    }
    // Deliveries are locked before all else, by whoever changes them; under their locks the items are looked at again.
    let mut drafts = drafts_on(tx, ids.iter().copied().map(DeliveryId)).await?;
    let next = (ids.len() as u64 == MARKED_AT_ONCE).then(|| ids.last().copied().map(DeliveryId)).flatten();
    let items = marking.changing().filter(inbox_item::Column::DeliveryId.is_in(padded(ids))).all(&tx.db).await?;
    let practice: PracticeId = marking.keys.practice().parse().map_err(|_| corrupt())?;
    let (mut rows, mut quiet) = (Vec::with_capacity(items.len()), Vec::new());
    for before in items {
        let draft = drafts.get_mut(&before.delivery_id).ok_or_else(corrupt)?;
        if marking.state == ReadState::Read && draft.row.open_time.is_none() {
            draft.row.open_time = Some(tx.now);
            draft.add(Facts::READ, tx.now)?;
            draft.note(Note::new(marking.scope.author().clone(), "Read in the inbox."), tx.now);
        } else {
            // The delivery shows nothing of this; whoever watches the inbox is told all the same.
            quiet.push(Change::marked(practice.clone(), marking.patient.clone(), before.delivery_id));
        }
        let row = inbox_item::Model { read_time: marking.read_time(tx.now), ..before.clone() };
        rows.push((before, row));
    }
    if !rows.is_empty() {
        tx.note(&marking.scope, Some(&marking.patient), "inbox");
    }
    tx.update_all(&rows).await?;
    let mut changes = draft::write_all_on(tx, drafts.into_values()).await?;
    changes.extend(quiet);
    feed::append_on(tx, changes).await?;
    Ok(next)
}
