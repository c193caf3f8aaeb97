//! How far the ledgers of all practices have come, as it is signed and kept elsewhere: whoever rewrites a ledger later, even with
//! the key that chains it, cannot rewrite that.

use std::{cmp::min, collections::BTreeMap};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Store, StoreError,
    chain::mac_of,
    entity::{audit_head, consent_head, lease},
};
use crate::domain::{Engine, PracticeId};

/// Whose turn it is to sign.
const LEASE: &str = "anchor";

/// The newest entry of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    /// Its place, from 1.
    pub position: i64,
    /// Its MAC, which covers all entries before.
    pub mac: [u8; 32],
}

/// How far the ledgers of a practice have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PracticeHeads {
    /// The practice.
    pub practice: PracticeId,
    /// Its consent ledger; unset: nothing is in it.
    pub consent: Option<LedgerHead>,
    /// Its audit trail; unset: nothing is on it.
    pub audit: Option<LedgerHead>,
}

/// How far some ledgers had come at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The moment.
    pub time: DateTime<Utc>,
    /// By the ids of the practices.
    pub heads: Vec<PracticeHeads>,
}

/// An anchor as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    time: DateTime<Utc>,
    heads: Vec<WrittenHeads>,
}

#[derive(Serialize, Deserialize)]
struct WrittenHeads {
    practice: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consent: Option<WrittenHead>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    audit: Option<WrittenHead>,
}

#[derive(Serialize, Deserialize)]
struct WrittenHead {
    position: i64,
    /// In hexadecimal digits.
    mac: String,
}

impl Anchor {
    /// As JSON, to be signed.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let head = |head: &LedgerHead| WrittenHead { position: head.position, mac: hex(&head.mac) };
        let heads = self.heads.iter().map(|of| WrittenHeads {
            practice: of.practice.as_str().to_owned(),
            consent: of.consent.as_ref().map(head),
            audit: of.audit.as_ref().map(head),
        });
        serde_json::to_vec(&Written { time: self.time, heads: heads.collect() }).unwrap_or_default()
    }

    /// What [`Self::to_json`] made; unset when it is something else.
    #[must_use]
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(json).ok()?;
        let head = |head: Option<WrittenHead>| match head {
            None => Some(None),
            Some(WrittenHead { position, mac }) => Some(Some(LedgerHead { position, mac: unhex(&mac)? })),
        };
        let heads = written.heads.into_iter().map(|of| {
            let practice = of.practice.parse().ok()?;
            Some(PracticeHeads { practice, consent: head(of.consent)?, audit: head(of.audit)? })
        });
        Some(Self { time: written.time, heads: heads.collect::<Option<_>>()? })
    }
}

/// What was anchored of ledgers, by practice: the consent ledger and the audit trail.
#[derive(Clone, Debug, Default)]
pub struct Anchored(BTreeMap<PracticeId, (Positions, Positions)>);

/// The MACs that entries had, by their positions, each since when: there is one, unless somebody has tampered.
pub(super) type Positions = BTreeMap<i64, Vec<([u8; 32], DateTime<Utc>)>>;

impl Anchored {
    /// Adds what an anchor says. A ledger that did not move is in many of them, and counts once.
    pub fn add(&mut self, Anchor { time, heads }: Anchor) {
        for PracticeHeads { practice, consent, audit } in heads {
            let (consents, audits) = self.0.entry(practice).or_default();
            for (positions, head) in [(consents, consent), (audits, audit)] {
                let Some(LedgerHead { position, mac }) = head else { continue };
                let known = positions.entry(position).or_default();
                match known.iter_mut().find(|(other, _)| *other == mac) {
                    Some((_, since)) => *since = min(time, *since),
                    None => known.push((mac, time)),
                }
            }
        }
    }

    /// The practices of which anything is known.
    pub fn practices(&self) -> impl Iterator<Item = &PracticeId> {
        self.0.keys()
    }

    pub(super) fn of(&self, practice: &PracticeId) -> (Positions, Positions) {
        self.0.get(practice).cloned().unwrap_or_default()
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = digits.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

impl Store {
    /// Takes the turn to sign, unless somebody had it within the last `every`.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn anchor_turn(&self, _: &Engine, every: TimeDelta) -> Result<bool, StoreError> {
        self.write_across(move |tx| {
            Box::pin(async move {
                let never = lease::ActiveModel {
                    name: Set(LEASE.to_owned()),
                    holder: Set(Uuid::nil()),
                    term: Set(0),
                    until: Set(DateTime::UNIX_EPOCH),
                };
                let insert = lease::Entity::insert(never).on_conflict_do_nothing_on([lease::Column::Name]);
                insert.exec_without_returning(&tx.db).await?;
                let taken = lease::Entity::update_many()
                    .col_expr(lease::Column::Term, Expr::col(lease::Column::Term).add(1))
                    .col_expr(lease::Column::Until, Expr::value(tx.now + every))
                    .filter(lease::Column::Name.eq(LEASE))
                    .filter(lease::Column::Until.lte(tx.now))
                    .exec(&tx.db)
                    .await?;
                Ok(taken.rows_affected > 0)
            })
        })
        .await
    }

    /// Gives the turn back: nothing could be signed, and somebody should try again soon.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn anchor_return(&self, _: &Engine) -> Result<(), StoreError> {
        self.write_across(move |tx| {
            Box::pin(async move {
                let free = lease::Entity::update_many()
                    .col_expr(lease::Column::Until, Expr::value(tx.now))
                    .filter(lease::Column::Name.eq(LEASE));
                free.exec(&tx.db).await?;
                Ok(())
            })
        })
        .await
    }

    /// How far the ledgers of up to `limit` practices after `after` have come, in the order of the database. One whose trail has
    /// no head is left out: that it has none is what a proof tells.
    ///
    /// # Errors
    /// Corrupt when a head holds no MAC.
    pub async fn heads(
        &self,
        _: &Engine,
        after: Option<&PracticeId>,
        limit: u64,
    ) -> Result<Vec<PracticeHeads>, StoreError> {
        let trails = audit_head::Entity::find()
            .filter(audit_head::Column::PracticeId.gt(after.map_or("", PracticeId::as_str)))
            .order_by_asc(audit_head::Column::PracticeId)
            .limit(limit)
            .all(self.across())
            .await?;
        let ledgers = consent_head::Entity::find()
            .filter(consent_head::Column::PracticeId.is_in(trails.iter().map(|row| &row.practice_id)))
            .all(self.across())
            .await?;
        let mut ledgers: BTreeMap<_, _> = ledgers.into_iter().map(|row| (row.practice_id.clone(), row)).collect();
        let heads = trails.into_iter().map(|row| {
            let ledger = ledgers.remove(&row.practice_id);
            Ok(PracticeHeads {
                practice: row.practice_id.parse().map_err(|_| StoreError::Corrupt("audit_head"))?,
                consent: ledger.map(|row| head("consent_head", row.seq, &row.mac)).transpose()?.flatten(),
                audit: head("audit_head", row.seq, &row.mac)?,
            })
        });
        heads.collect()
    }
}

fn head(table: &'static str, position: i64, mac: &[u8]) -> Result<Option<LedgerHead>, StoreError> {
    if position == 0 { Ok(None) } else { Ok(Some(LedgerHead { position, mac: mac_of(table, mac)? })) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_anchor_reads_as_it_was_written_and_nothing_else_does() {
        let anchor = Anchor {
            time: DateTime::UNIX_EPOCH + TimeDelta::microseconds(1),
            heads: vec![
                PracticeHeads {
                    practice: "a".parse().unwrap(),
                    consent: None,
                    audit: Some(LedgerHead { position: 7, mac: std::array::from_fn(|n| n as u8 * 8) }),
                },
                PracticeHeads { practice: "b".parse().unwrap(), consent: None, audit: None },
            ],
        };
        let json = String::from_utf8(anchor.to_json()).unwrap();
        assert_eq!(
            json,
            r#"{"time":"1970-01-01T00:00:00.000001Z","heads":[{"practice":"a","audit":{"position":7,"mac":"#.to_owned()
                + r#""0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8"}},{"practice":"b"}]}"#
        );
        assert_eq!(Anchor::from_json(json.as_bytes()), Some(anchor));
        for bad in
            ["", "{}", &json.replace("0008", "00"), &json.replace("0008", "xy08"), &json.replace("\"a\"", "\"\"")]
        {
            assert_eq!(Anchor::from_json(bad.as_bytes()), None, "{bad}");
        }
    }
}
