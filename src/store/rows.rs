//! Many rows in few statements. A database plans a statement by its words and remembers the plan by them, and to plan one of
//! thousands of values takes longer than to run it. So the words are those of a few lengths, and made once.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait, IdenStatic, Iterable, ModelTrait, PrimaryKeyToColumn, Statement,
    sea_query::{Expr, OnConflict, Query, Value, Values},
};

use super::{StoreError, tx::Tx};

/// Most rows of one statement.
const MOST: usize = 32;

/// What happens to a row whose key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Twin {
    Refused,
    Replaced,
}

impl Tx {
    /// Inserts rows of one table.
    pub(super) async fn insert_all<M: ModelTrait>(&self, rows: Vec<M>) -> Result<(), StoreError> {
        self.write_all(&rows, Twin::Refused).await
    }

    /// Writes rows of one table: those whose key is there already are replaced, which is how many rows are updated at once
    /// in words that both databases know.
    pub(super) async fn put_all<M: ModelTrait>(&self, rows: Vec<M>) -> Result<(), StoreError> {
        self.write_all(&rows, Twin::Replaced).await
    }

    async fn write_all<M: ModelTrait>(&self, mut rows: &[M], twin: Twin) -> Result<(), StoreError> {
        let db_backend = self.db.get_database_backend();
        while !rows.is_empty() {
            let (now, rest) = rows.split_at(length(rows.len()));
            let columns = || <M::Entity as EntityTrait>::Column::iter();
            let values: Vec<Value> = now.iter().flat_map(|row| columns().map(|column| row.get(column))).collect();
            let sql = words::<M::Entity>(db_backend, now.len(), twin).to_string();
            self.db.execute_raw(Statement { sql, values: Some(Values(values)), db_backend }).await?;
            rows = rest;
        }
        Ok(())
    }
}

/// How many of `count` rows the next statement writes: a power of two.
fn length(count: usize) -> usize {
    count.checked_ilog2().map_or(0, |power| 1 << power).min(MOST)
}

/// `values` with the last of them repeated until there are 1, 2, 4, 8 of them: a row is in the one list or in neither.
pub(super) fn padded<T: Clone>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// The words that write `count` rows of a table.
fn words<E: EntityTrait>(backend: DbBackend, count: usize, twin: Twin) -> Arc<str> {
    type Known = HashMap<(bool, &'static str, usize, Twin), Arc<str>>;
    static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);
    let key = (backend == DbBackend::Sqlite, E::default().table_name(), count, twin);
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    known.unwrap_or_else(|| {
        let words: Arc<str> = made::<E>(backend, count, twin).into();
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&words));
        words
    })
}

fn made<E: EntityTrait>(backend: DbBackend, count: usize, twin: Twin) -> String {
    let mut insert = Query::insert();
    insert.into_table(E::default().table_ref()).columns(E::Column::iter());
    for _ in 0..count {
        // Only their number counts: it is as that of the columns.
        insert.values_panic(E::Column::iter().map(|_| Expr::val(0)));
    }
    if twin == Twin::Replaced {
        let keys: Vec<_> = E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column).collect();
        let is_key = |column: &E::Column| keys.iter().any(|key| key.as_str() == column.as_str());
        let rest = E::Column::iter().filter(|column| !is_key(column));
        insert.on_conflict(OnConflict::columns(keys.clone()).update_columns(rest).to_owned());
    }
    backend.build(&insert).sql
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entity::content;

    #[test]
    fn lengths_are_few_and_add_up() {
        assert_eq!([0, 1, 2, 3, 31, 32, 33, 500].map(length), [0, 1, 2, 2, 16, 32, 32, 32]);
        let lists = [0_usize, 1, 2, 3, 5].map(|count| padded(0..count));
        assert_eq!(lists, [vec![], vec![0], vec![0, 1], vec![0, 1, 2, 2], vec![0, 1, 2, 3, 4, 4, 4, 4]]);
    }

    #[test]
    fn the_words_are_those_of_the_database_and_of_the_number() {
        let words = |backend, count, twin| words::<content::Entity>(backend, count, twin).to_string();
        assert_eq!(
            words(DbBackend::Postgres, 2, Twin::Refused),
            r#"INSERT INTO "content" ("delivery_id", "practice_id", "body_ct") VALUES ($1, $2, $3), ($4, $5, $6)"#
        );
        assert_eq!(
            words(DbBackend::Sqlite, 1, Twin::Replaced),
            concat!(
                r#"INSERT INTO "content" ("delivery_id", "practice_id", "body_ct") VALUES (?, ?, ?) "#,
                r#"ON CONFLICT ("delivery_id") DO UPDATE SET "practice_id" = "excluded"."practice_id", "#,
                r#""body_ct" = "excluded"."body_ct""#
            )
        );
    }
}
