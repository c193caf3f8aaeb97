//! Broadcast texts that wait, by the hundred thousand: copies of one that the product made, so that nobody waits until it has made
//! them all.

use super::copies::Database;

/// In one commit.
const PAGE: usize = 10_000;
/// What tells one kind of ids from another is a digit.
const KINDS: usize = 9;

/// Adds about so many to those of a practice. The server may run: it writes in between.
pub(crate) async fn more(url: &str, practice: &str, count: usize) {
    let mut database = Database::open(url).await;
    let waits = format!(
        "SELECT id FROM delivery WHERE practice_id = '{practice}' AND broadcast_id IS NOT NULL AND phase = 0 AND attempts = 0 \
         ORDER BY id DESC LIMIT 1"
    );
    let (_, model) = database.delivery(waits).await;
    // SQLite has one writer, which the server is as well.
    let begin = if url.starts_with("sqlite") { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let each = count.div_ceil(KINDS);
    for kind in 1..=KINDS {
        let kind = u8::try_from(kind).unwrap();
        let numbers = database.numbers(kind, each);
        for first in (0..each).step_by(PAGE) {
            let from = format!("(SELECT * FROM {numbers} WHERE n > {first} AND n <= {}) u", first + PAGE);
            let patient = format!("'waiting-{kind}-' || u.n");
            database.run(begin.into()).await;
            let source = format!("WHERE id = (SELECT source_id FROM delivery WHERE id = {model})");
            database.copy_but("notification", &[("id", "u.id"), ("patient_id", &patient)], &from, &source).await;
            let changed = [("id", "u.id"), ("source_id", "u.id"), ("patient_id", patient.as_str())];
            database.copy_but("delivery", &changed, &from, &format!("WHERE id = {model}")).await;
            for table in ["content", "delivery_event"] {
                database
                    .copy_but(table, &[("delivery_id", "u.id")], &from, &format!("WHERE delivery_id = {model}"))
                    .await;
            }
            database.run("COMMIT".into()).await;
        }
    }
    database.tidy().await;
    database.settle(url).await;
}
