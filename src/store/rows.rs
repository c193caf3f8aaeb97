//! Many rows in few statements. A database plans a statement by its words and remembers the plan by them, and to plan one of
//! thousands of values takes longer than to run it. So the words are those of a few lengths, and made once.

use std::{
    cmp,
    collections::HashMap,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, IdenStatic, Iterable, ModelTrait,
    PrimaryKeyToColumn, Statement,
    sea_query::{BinOper, Expr, ExprTrait, IntoIden, Query, TableRef, Value, ValueTuple, Values},
};
use uuid::Uuid;

use super::{StoreError, tx::Tx};

/// Most rows of one statement.
const MOST: usize = 32;

impl Tx {
    /// Inserts rows of one table.
    pub(super) async fn insert_all<M: ModelTrait>(&self, rows: Vec<M>) -> Result<(), StoreError> {
        let columns: Vec<_> = <M::Entity as EntityTrait>::Column::iter().collect();
        self.write_all(&rows.iter().collect::<Vec<_>>(), &columns, Words::Insert).await
    }

    /// Writes what changed of rows that are there, each given as it was and as it is now. A column that is the same in all of
    /// them is left alone, and so are its indexes.
    pub(super) async fn update_all<M: ModelTrait>(&self, rows: &[(M, M)]) -> Result<(), StoreError> {
        let keys = keys::<M::Entity>();
        let changed = <M::Entity as EntityTrait>::Column::iter()
            .filter(|column| rows.iter().any(|(before, row)| before.get(*column) != row.get(*column)));
        let columns: Vec<_> = keys.iter().copied().chain(changed).collect();
        if columns.len() == keys.len() {
            return Ok(());
        }
        self.write_all(&rows.iter().map(|(_, row)| row).collect::<Vec<_>>(), &columns, Words::Update).await
    }

    async fn write_all<M: ModelTrait>(
        &self,
        mut rows: &[&M],
        columns: &[<M::Entity as EntityTrait>::Column],
        how: Words,
    ) -> Result<(), StoreError> {
        let db_backend = self.db.get_database_backend();
        while !rows.is_empty() {
            let (now, rest) = rows.split_at(length(rows.len()));
            let values = now.iter().flat_map(|row| columns.iter().map(|column| row.get(*column))).collect();
            let sql = words::<M::Entity>(db_backend, now.len(), columns, how).to_string();
            self.db.execute_raw(Statement { sql, values: Some(Values(values)), db_backend }).await?;
            rows = rest;
        }
        Ok(())
    }
}

/// What the words do with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Words {
    Insert,
    Update,
}

fn keys<E: EntityTrait>() -> Vec<E::Column> {
    E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column).collect()
}

/// How many of `count` rows the next statement writes: a power of two.
fn length(count: usize) -> usize {
    cmp::min(count.checked_ilog2().map_or(0, |power| 1 << power), MOST)
}

/// `values` with the last of them repeated until there are 1, 2, 4, 8 of them: a row is in the one list or in neither.
pub(super) fn padded<T: Clone>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// The rows with these ids, but for those of another practice. They are looked up by their ids: SQLite, which keeps no statistics
/// here, believes that a practice has ten rows, and would rather walk over all of its rows than look up sixteen.
pub(super) fn these<C: ColumnTrait>(id: C, ids: impl IntoIterator<Item = Uuid>, owner: C, practice: &str) -> Condition {
    let no_index = Expr::col(owner.as_column_ref()).binary(BinOper::Custom("||"), Expr::cust("''"));
    Condition::all().add(id.is_in(padded(ids))).add(no_index.eq(practice))
}

/// The words that write these columns of `count` rows of a table; for an update its keys come first.
fn words<E: EntityTrait>(backend: DbBackend, count: usize, columns: &[E::Column], how: Words) -> Arc<str> {
    type Known = HashMap<(bool, Words, &'static str, usize, Vec<&'static str>), Arc<str>>;
    static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);
    let names = columns.iter().map(IdenStatic::as_str).collect();
    let key = (backend == DbBackend::Sqlite, how, E::default().table_name(), count, names);
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    known.unwrap_or_else(|| {
        let words: Arc<str> = match how {
            Words::Insert => insert::<E>(backend, count, columns).into(),
            Words::Update => update::<E>(backend, count, columns).into(),
        };
        KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&words));
        words
    })
}

// Only the number of the values counts below: it is as that of the columns.

fn insert<E: EntityTrait>(backend: DbBackend, count: usize, columns: &[E::Column]) -> String {
    let mut insert = Query::insert();
    insert.into_table(E::default().table_ref()).columns(columns.iter().copied());
    for _ in 0..count {
        insert.values_panic(columns.iter().map(|_| Expr::val(0)));
    }
    backend.build(&insert).sql
}

fn update<E: EntityTrait>(backend: DbBackend, count: usize, columns: &[E::Column]) -> String {
    let keys = keys::<E>().len();
    let now = |place: usize| Expr::col(("now", format!("column{}", place + 1)));
    let mut update = Query::update();
    update.table(E::default().table_ref());
    for (place, column) in columns.iter().enumerate() {
        if place < keys {
            update.and_where(Expr::col((E::default(), *column)).eq(now(place)));
        } else {
            update.value(*column, now(place));
        }
    }
    let row = ValueTuple::Many(columns.iter().map(|_| Value::Int(Some(0))).collect());
    update.from(TableRef::ValuesList(vec![row; count], "now".into_iden()));
    backend.build(&update).sql
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use sea_orm::{QueryFilter, QueryTrait};

    use super::*;
    use crate::store::entity::{content, subject_key};

    #[test]
    fn lengths_are_few_and_add_up() {
        assert_eq!([0, 1, 2, 3, 31, 32, 33, 500].map(length), [0, 1, 2, 2, 16, 32, 32, 32]);
        let lists = [0_usize, 1, 2, 3, 5].map(|count| padded(0..count));
        assert_eq!(lists, [vec![], vec![0], vec![0, 1], vec![0, 1, 2, 2], vec![0, 1, 2, 3, 4, 4, 4, 4]]);
    }

    #[test]
    fn the_words_are_those_of_the_database_and_of_the_number() {
        let words = |backend, count, how| {
            words::<content::Entity>(backend, count, &content::Column::iter().collect::<Vec<_>>(), how).to_string()
        };
        assert_eq!(
            words(DbBackend::Postgres, 2, Words::Insert),
            r#"INSERT INTO "content" ("delivery_id", "practice_id", "body_ct") VALUES ($1, $2, $3), ($4, $5, $6)"#
        );
        assert_eq!(
            words(DbBackend::Sqlite, 2, Words::Update),
            concat!(
                r#"UPDATE "content" SET "practice_id" = "now"."column2", "body_ct" = "now"."column3" "#,
                r#"FROM (VALUES (?, ?, ?), (?, ?, ?)) AS "now" WHERE "content"."delivery_id" = "now"."column1""#
            )
        );
    }

    #[tokio::test]
    async fn rows_are_looked_up_by_their_ids_however_many() {
        use subject_key::Column::{Id, PracticeId};
        let db = sea_orm::Database::connect("sqlite::memory:").await.unwrap();
        let schema = sea_orm::Schema::new(DbBackend::Sqlite);
        db.execute(&schema.create_table_from_entity(subject_key::Entity)).await.unwrap();
        db.execute_unprepared("CREATE INDEX of_practice ON subject_key (practice_id, owner)").await.unwrap();
        for count in [1_u128, 2, 16, 500] {
            let ids = (0..count).map(Uuid::from_u128);
            let query = subject_key::Entity::find().filter(these(Id, ids, PracticeId, "north"));
            let query = format!("EXPLAIN QUERY PLAN {}", query.build(DbBackend::Sqlite));
            let plan = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, query)).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.try_get_by_index(3).unwrap()).collect();
            assert!(plan.len() == 1 && plan.concat().ends_with("(id=?)"), "{count}: {plan:?}");
        }
    }
}
