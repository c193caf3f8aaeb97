//! Wording of practices. It is sealed like texts, since somebody may have written to one patient in it.

mod shelf;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, IntoActiveModel, JoinType, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, RelationDef, Select, sea_query::Expr,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Store, StoreError,
    entity::{practice, template, template_version},
    rows::these,
    tx::Tx,
    vault::{PracticeKeys, Sealed},
};
use crate::{
    crypto,
    domain::{
        ActorType, Author, Channel, Kind, Locale, Scope,
        template::{Active, Purpose, TemplateRef, Wording},
    },
};

pub(super) use shelf::Shelf;
pub use shelf::WordingHome;

const BODY: Sealed = Sealed { table: "template_version", column: "body_ct" };
/// Most places that a practice has wording for: each send may have to look through them.
const MOST_TEMPLATES: u64 = 1_000;
/// A page of wording ends before it is longer than this, in bytes: answers have a limit.
const LONGEST_PAGE: usize = 2 * 1024 * 1024;
/// How much wording is read from the database at once, and opened until a page is full.
const OPENED_AT_ONCE: usize = 50;
/// How many versions are shown.
const SHOWN_VERSIONS: u64 = 50;

/// Wording of a practice for one place, and what is in use of it.
#[derive(Debug)]
pub struct StoredTemplate {
    /// Which.
    pub at: TemplateRef,
    /// The version in use; unset: none.
    pub active: Option<Active>,
    /// When it last changed.
    pub update_time: DateTime<Utc>,
    /// Grows with each change.
    pub revision: i64,
}

/// One version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Counted from 1.
    pub version: i32,
    /// What it says.
    pub wording: Wording,
    /// The variables that a template of the practice's own declares.
    pub variables: Vec<String>,
    /// Who wrote it.
    pub author: Author,
    /// When.
    pub create_time: DateTime<Utc>,
}

/// Wording for one place with the newest of its versions, newest first.
#[derive(Debug)]
pub struct TemplateHistory {
    /// The wording.
    pub template: StoredTemplate,
    /// At most 50.
    pub versions: Vec<StoredVersion>,
}

/// A version to add.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// Where.
    pub at: TemplateRef,
    /// What it says.
    pub wording: Wording,
    /// The variables that it declares.
    pub variables: Vec<String>,
    /// Whether it is used at once.
    pub active: bool,
}

/// What of a version is sealed. Fields are only ever added, each with a default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Body {
    subject: String,
    text: String,
    html: String,
    variables: Vec<String>,
    author_type: i16,
    author_id: String,
    author_name: String,
}

impl Store {
    /// Where the practice has wording of its own, each with its id. None of it is opened.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn template_places(&self, scope: &Scope) -> Result<Vec<(Uuid, TemplateRef)>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let of = template::Entity::find().filter(template::Column::PracticeId.eq(keys.practice()));
        of.all(&self.within(scope)).await?.iter().map(|row| Ok((row.id, to_ref(row)?))).collect()
    }

    /// These of the practice's wording, in that order, until they are longer together than a page may be; at least the first.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn templates(&self, scope: &Scope, ids: &[Uuid]) -> Result<Vec<StoredTemplate>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (mut templates, mut total) = (Vec::new(), 0);
        for some in ids.chunks(OPENED_AT_ONCE) {
            let of = template::Entity::find().filter(these(
                template::Column::Id,
                some.iter().copied(),
                template::Column::PracticeId,
                keys.practice(),
            ));
            let rows = with_active(of).all(&self.within(scope)).await?;
            let mut rows: BTreeMap<_, _> = rows.into_iter().map(|(row, active)| (row.id, (row, active))).collect();
            for (row, active) in some.iter().filter_map(|id| rows.remove(id)) {
                let template = to_template(&keys, &row, active)?;
                total += template.active.as_ref().map_or(0, length);
                if total > LONGEST_PAGE && !templates.is_empty() {
                    return Ok(templates);
                }
                templates.push(template);
            }
        }
        Ok(templates)
    }

    /// The practice's wording for one place, with its versions.
    ///
    /// # Errors
    /// NotFound when it has none there; also when there is no such practice.
    pub async fn template_get(&self, scope: &Scope, at: &TemplateRef) -> Result<TemplateHistory, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let found = with_active(place(&keys, at)).one(&self.within(scope)).await?;
        let (row, active) = found.ok_or(StoreError::NotFound("template"))?;
        let versions = template_version::Entity::find()
            .filter(template_version::Column::TemplateId.eq(row.id))
            .order_by_desc(template_version::Column::Version)
            .limit(SHOWN_VERSIONS)
            .all(&self.within(scope))
            .await?;
        let versions = versions.iter().map(|version| to_version(&keys, version)).collect::<Result<_, _>>()?;
        Ok(TemplateHistory { template: to_template(&keys, &row, active)?, versions })
    }

    /// Adds a version, unless the newest one says the same: then it is that one. Used at once if it says so.
    ///
    /// # Errors
    /// NotFound when there is no such practice; StateForbids when it has as many templates as it may have.
    pub async fn template_version_add(
        &self,
        scope: &Scope,
        new: NewVersion,
    ) -> Result<(StoredTemplate, StoredVersion), StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move { add_on(tx, &keys, &scope, new).await })
        })
        .await
    }

    /// Takes a version into use; 0: none. `expected` refuses when the stored revision differs. Nothing changes if it is in use
    /// already.
    ///
    /// # Errors
    /// NotFound when there is no such version, wording or practice; Conflict when `expected` differs.
    pub async fn template_activate(
        &self,
        scope: &Scope,
        at: TemplateRef,
        version: i32,
        expected: Option<i64>,
    ) -> Result<StoredTemplate, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                lock_practice_on(tx, &keys).await?;
                let row = place(&keys, &at).one(&tx.db).await?.ok_or(StoreError::NotFound("template"))?;
                if expected.is_some_and(|expected| expected != row.revision) {
                    return Err(StoreError::Conflict { current: row.revision });
                }
                if !(0..=row.newest).contains(&version) {
                    return Err(StoreError::NotFound("template version"));
                }
                if row.active != version {
                    let change = template::ActiveModel {
                        active: Set(version),
                        update_time: Set(tx.now),
                        revision: Set(row.revision + 1),
                        ..row.into_active_model()
                    };
                    change.update(&tx.db).await?;
                    wording_changed_on(tx, &keys).await?;
                    tx.note(&scope, None, resource(&at, version));
                }
                template_on(tx, &keys, &at).await
            })
        })
        .await
    }
}

async fn add_on(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    new: NewVersion,
) -> Result<(StoredTemplate, StoredVersion), StoreError> {
    lock_practice_on(tx, keys).await?;
    let known = place(keys, &new.at).one(&tx.db).await?;
    let newest = match &known {
        Some(row) => template_version::Entity::find_by_id((row.id, row.newest)).one(&tx.db).await?,
        None => None,
    };
    let newest = newest.map(|row| to_version(keys, &row)).transpose()?;
    let same = newest.filter(|newest| newest.wording == new.wording && newest.variables == new.variables);
    let row = match known {
        Some(row) => row,
        None => blank_on(tx, keys, &new.at).await?,
    };
    let version = match same {
        Some(version) => version,
        None => insert_on(tx, keys, scope.author().clone(), (&row, &new)).await?,
    };
    let active = if new.active { version.version } else { row.active };
    if (version.version, active) != (row.newest, row.active) {
        let changed = active != row.active;
        let change = template::ActiveModel {
            newest: Set(version.version),
            active: Set(active),
            update_time: Set(tx.now),
            revision: Set(row.revision + 1),
            ..row.into_active_model()
        };
        change.update(&tx.db).await?;
        if changed {
            wording_changed_on(tx, keys).await?;
        }
        tx.note(scope, None, resource(&new.at, version.version));
    }
    Ok((template_on(tx, keys, &new.at).await?, version))
}

/// What the audit trail calls a version.
fn resource(at: &TemplateRef, version: i32) -> String {
    format!("template/{}/{}/{}/{version}", at.purpose.name(), at.channel.label(), at.locale.as_str())
}

/// Two who write wording of one practice wait for each other here, before there is any row of it.
async fn lock_practice_on(tx: &Tx, keys: &PracticeKeys) -> Result<(), StoreError> {
    let row = practice::Entity::find_by_id(keys.practice()).lock_exclusive().one(&tx.db).await?;
    row.map(drop).ok_or(StoreError::NotFound("practice"))
}

/// Counts a change of what is in use: whoever remembers the wording looks again.
async fn wording_changed_on(tx: &Tx, keys: &PracticeKeys) -> Result<(), StoreError> {
    practice::Entity::update_many()
        .col_expr(practice::Column::WordingRevision, Expr::col(practice::Column::WordingRevision).add(1))
        .filter(practice::Column::PracticeId.eq(keys.practice()))
        .exec(&tx.db)
        .await?;
    Ok(())
}

/// A place without any version yet.
async fn blank_on(tx: &Tx, keys: &PracticeKeys, at: &TemplateRef) -> Result<template::Model, StoreError> {
    let count = template::Entity::find().filter(template::Column::PracticeId.eq(keys.practice())).count(&tx.db).await?;
    if count >= MOST_TEMPLATES {
        let message = "the practice has as many templates as it may have; use one that it has for another purpose";
        return Err(StoreError::StateForbids { state: "FULL", message });
    }
    let (kind, key) = numbered(&at.purpose);
    let row = template::Model {
        id: crypto::new_id(tx.now),
        practice_id: keys.practice().to_owned(),
        kind,
        key: key.to_owned(),
        channel: at.channel.number(),
        locale: at.locale.as_str().to_owned(),
        newest: 0,
        active: 0,
        update_time: tx.now,
        revision: 0,
    };
    template::Entity::insert(row.clone().into_active_model()).exec_without_returning(&tx.db).await?;
    Ok(row)
}

async fn insert_on(
    tx: &Tx,
    keys: &PracticeKeys,
    author: Author,
    (template, new): (&template::Model, &NewVersion),
) -> Result<StoredVersion, StoreError> {
    let (version, wording) = (template.newest + 1, &new.wording);
    let body = Body {
        subject: wording.subject.clone(),
        text: wording.text.clone(),
        html: wording.html.clone(),
        variables: new.variables.clone(),
        author_type: author.kind as i16,
        author_id: author.id.clone(),
        author_name: author.display_name.clone(),
    };
    let row = template_version::Model {
        template_id: template.id,
        version,
        practice_id: keys.practice().to_owned(),
        create_time: tx.now,
        body_ct: keys.seal(BODY, &sealed_place(template.id, version), &body)?,
    };
    template_version::Entity::insert(row.into_active_model()).exec_without_returning(&tx.db).await?;
    let (wording, variables) = (wording.clone(), new.variables.clone());
    Ok(StoredVersion { version, wording, variables, author, create_time: tx.now })
}

/// The row of a place, if there is one.
fn place(keys: &PracticeKeys, at: &TemplateRef) -> Select<template::Entity> {
    let (kind, key) = numbered(&at.purpose);
    template::Entity::find()
        .filter(template::Column::PracticeId.eq(keys.practice()))
        .filter(template::Column::Kind.eq(kind))
        .filter(template::Column::Key.eq(key))
        .filter(template::Column::Channel.eq(at.channel.number()))
        .filter(template::Column::Locale.eq(at.locale.as_str()))
}

/// With the version in use beside it, where there is one.
fn with_active(templates: Select<template::Entity>) -> sea_orm::SelectTwo<template::Entity, template_version::Entity> {
    let active: RelationDef = template::Entity::belongs_to(template_version::Entity)
        .from((template::Column::Id, template::Column::Active))
        .to((template_version::Column::TemplateId, template_version::Column::Version))
        .into();
    templates.join(JoinType::LeftJoin, active).select_also(template_version::Entity)
}

async fn template_on(tx: &Tx, keys: &PracticeKeys, at: &TemplateRef) -> Result<StoredTemplate, StoreError> {
    let found = with_active(place(keys, at)).one(&tx.db).await?;
    let (row, active) = found.ok_or(StoreError::Corrupt("template"))?;
    to_template(keys, &row, active)
}

/// The number of a kind, or 0 with a key.
fn numbered(purpose: &Purpose) -> (i16, &str) {
    match purpose {
        Purpose::Kind(kind) => (kind.number(), ""),
        Purpose::Custom(key) => (0, key),
    }
}

fn to_ref(row: &template::Model) -> Result<TemplateRef, StoreError> {
    let corrupt = || StoreError::Corrupt("template");
    let purpose = match row.kind {
        0 => Purpose::Custom(row.key.clone()),
        number => Purpose::Kind(Kind::from_number(number).ok_or_else(corrupt)?),
    };
    let channel = Channel::from_number(row.channel).ok_or_else(corrupt)?;
    Ok(TemplateRef { purpose, channel, locale: Locale::new(&row.locale) })
}

fn to_template(
    keys: &PracticeKeys,
    row: &template::Model,
    active: Option<template_version::Model>,
) -> Result<StoredTemplate, StoreError> {
    let active = active.map(|version| to_version(keys, &version)).transpose()?;
    Ok(StoredTemplate {
        at: to_ref(row)?,
        active: active.map(|version| Active::new(version.version, version.wording, version.variables)),
        update_time: row.update_time,
        revision: row.revision,
    })
}

fn to_version(keys: &PracticeKeys, row: &template_version::Model) -> Result<StoredVersion, StoreError> {
    let body: Body = keys.open(BODY, &sealed_place(row.template_id, row.version), &row.body_ct)?;
    let kind = ActorType::from_number(body.author_type).ok_or(StoreError::Corrupt("template_version"))?;
    Ok(StoredVersion {
        version: row.version,
        wording: Wording { subject: body.subject, text: body.text, html: body.html, preview: String::new() },
        variables: body.variables,
        author: Author { kind, id: body.author_id, display_name: body.author_name },
        create_time: row.create_time,
    })
}

/// In bytes, as it is shown.
fn length(active: &Active) -> usize {
    let Wording { subject, text, html, .. } = active.wording();
    [subject, text, html].into_iter().chain(active.variables()).map(String::len).sum()
}

/// The place that a version is sealed for: it opens in no other.
fn sealed_place(template: Uuid, version: i32) -> Vec<u8> {
    [template.as_bytes().as_slice(), &version.to_be_bytes()].concat()
}
