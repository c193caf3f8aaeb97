//! Conversations and messages written as copies of those that the product wrote. They come before them, and no page reads as far:
//! what is said is sealed for its own place, so that a copy cannot be opened.

use super::copies::Database;

/// Gives the conversation of a patient so many messages more, and its practice so many conversations more.
pub(crate) async fn grow(url: &str, practice: &str, patient: &str, (messages, conversations): (usize, usize)) {
    let mut database = Database::open(url).await;
    let home = format!("(SELECT id FROM conversation WHERE practice_id = '{practice}' AND owner = 'p:{patient}')");
    database
        .run(format!(
            "UPDATE conversation_message SET inbound_rank = inbound_rank + {messages} WHERE conversation_id = {home}"
        ))
        .await;
    database
        .run(format!(
            "UPDATE conversation SET inbound_count = inbound_count + {messages}, staff_unread = staff_unread + {messages} \
             WHERE id = {home}"
        ))
        .await;
    let one = format!("WHERE conversation_id = {home} AND news_for = 1 LIMIT 1");
    let message = [("id", "u.id"), ("inbound_rank", "u.n"), ("outbound_rank", "0")];
    let from = database.numbers(1, messages);
    database.copy_but("conversation_message", &message, &from, &one).await;
    // Read and answered, unread, of somebody, closed: each view has thousands.
    let conversation = [
        ("id", "u.id"),
        ("owner", "'p:copy-' || u.n"),
        ("patient_id", "'copy-' || u.n"),
        ("staff_unread", "CASE WHEN u.n % 3 = 0 THEN 1 ELSE 0 END"),
        ("waiting_since", "CASE WHEN u.n % 5 = 0 THEN t.waiting_since END"),
        ("assignee_id", "CASE WHEN u.n % 2 = 0 THEN 'kim' ELSE '' END"),
        ("state", "CASE WHEN u.n % 4 = 0 THEN 1 ELSE 2 END"),
    ];
    let one = format!("WHERE practice_id = '{practice}' AND id <> {home} LIMIT 1");
    let from = database.numbers(2, conversations);
    database.copy_but("conversation", &conversation, &from, &one).await;
    database.tidy().await;
}
