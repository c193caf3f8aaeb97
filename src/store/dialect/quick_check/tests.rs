#![expect(clippy::unwrap_used, reason = "tests")]

use sea_orm::{ConnectionTrait, Database};

use super::*;

#[tokio::test]
async fn a_large_file_is_looked_at_for_as_long_as_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.db");
    let db = Database::connect(format!("sqlite:{}?mode=rwc", path.display())).await.unwrap();
    let rows = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                INSERT INTO t SELECT i, hex(randomblob(40)) FROM n";
    for statement in ["CREATE TABLE t(i INTEGER PRIMARY KEY, x TEXT UNIQUE)", rows] {
        db.execute_unprepared(statement).await.unwrap();
    }
    assert_eq!(look(&db, Duration::from_secs(600)).await.unwrap(), State::Sound);
    assert_eq!(look(&db, Duration::ZERO).await.unwrap(), State::Unknown);
    db.close().await.unwrap();

    let mut pages = std::fs::read(&path).unwrap();
    let middle = pages.len() / 2 / 4096 * 4096;
    pages[middle..middle + 4096].fill(0xAA);
    std::fs::write(&path, pages).unwrap();
    let db = Database::connect(format!("sqlite:{}", path.display())).await.unwrap();
    assert_eq!(look(&db, Duration::from_secs(600)).await.unwrap(), State::Damaged);
}
