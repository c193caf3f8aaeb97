//! One conversation of 10,000 messages in a practice of 5,000 conversations: what is read, said and marked there reads rows by
//! the hundred, not by the thousand. How many it reads is for PostgreSQL to say, which counts them; so many are ten times what it may
//! read in a round, and no more are needed to tell.

use heedwell::{
    domain::Role,
    grpc::proto::{
        ConversationFilter, ListConversationsRequest, ListMessagesRequest, MarkConversationReadRequest, MessageRoute,
        conversation_filter::Subset,
    },
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{of, say, to_conversation, to_patient, try_get, try_say, writes};
use crate::{
    e2e::given::{PHONE, practice},
    support::app::{ACME, TestApp, on_a_server},
};

const CONVERSATIONS: u32 = 5_000;
const MESSAGES: u32 = 10_000;
/// How often each thing is done.
const ROUNDS: u32 = 3;

/// Fills the practice: further conversations like Pat's, and messages before those that are in it.
async fn fill(t: &TestApp) {
    // Ids of a time before all others.
    let id = |kind: u32| format!("('00000000000{kind}70008000' || lpad(to_hex(n), 12, '0'))::uuid");
    let (conversation, message) = (id(1), id(2));
    for statement in [
        format!(
            "INSERT INTO conversation (id, practice_id, owner, patient_id, phone_hint, reached_at, state, assignee_id, \
             inbound_count, outbound_count, staff_unread, patient_unread, stop_requested, last_time, create_time, \
             labels, revision) SELECT {conversation}, practice_id, 'p:filler-' || n, 'filler-' || n, '', '', 2, 'kim', \
             0, 0, 0, 0, false, create_time, create_time, 0, 0 FROM conversation, generate_series(1, {CONVERSATIONS}) n"
        ),
        // They are counted, and nobody opens them.
        format!(
            "INSERT INTO conversation_message (id, practice_id, conversation_id, direction, route, news_for, \
             inbound_rank, outbound_rank, author_type, author_id, author_name, body_ct, create_time) \
             SELECT {message}, practice_id, conversation_id, 1, 1, 1, n, 0, 3, '', '', body_ct, create_time \
             FROM (SELECT * FROM conversation_message LIMIT 1) m, generate_series(1, {MESSAGES}) n"
        ),
        format!("UPDATE conversation_message SET inbound_rank = inbound_rank + {MESSAGES} WHERE author_id <> ''"),
        format!(
            "UPDATE conversation SET inbound_count = inbound_count + {MESSAGES}, staff_unread = staff_unread + {MESSAGES} \
             WHERE staff_unread > 0"
        ),
        "VACUUM ANALYZE".to_owned(),
    ] {
        t.execute(&statement).await;
    }
}

/// How many rows of the tables were read one after the other, and how many through an index, since the database began.
async fn rows_read(t: &TestApp) -> (i64, i64) {
    let raw = t.home.raw().await;
    let query = "SELECT sum(seq_tup_read)::bigint, sum(idx_tup_fetch)::bigint FROM pg_stat_user_tables \
                 WHERE relname IN ('conversation', 'conversation_message')";
    let row = raw.query_one_raw(Statement::from_string(DbBackend::Postgres, query)).await.unwrap().unwrap();
    raw.close().await.unwrap();
    (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())
}

/// Everything that staff, a patient and a phone do, some times over.
async fn use_it(t: &TestApp) {
    let staff = t.caller(Role::Staff);
    let home = of(t, "pat").await.unwrap().conversation_id;
    let newest = messages_page(t, &home, 60).await;
    for _ in 0..ROUNDS {
        for subset in 0..=5 {
            let filter = Some(ConversationFilter { subset, ..Default::default() });
            let request =
                ListConversationsRequest { practice_id: ACME.into(), filter, page_size: 50, ..Default::default() };
            staff.clone().conversations.list_conversations(request).await.unwrap();
        }
        let open = ConversationFilter { states: vec![1], ..Default::default() };
        let request = ListConversationsRequest { practice_id: ACME.into(), filter: Some(open), ..Default::default() };
        assert_eq!(
            staff.clone().conversations.list_conversations(request).await.unwrap().into_inner().conversations.len(),
            1
        );
        messages_page(t, &home, 50).await;
        try_get(&staff, &home).await.unwrap();
        say(t, to_conversation(&home, MessageRoute::Portal, "Hello.")).await;
        try_say(&t.caller(Role::Portal), to_patient("pat", MessageRoute::Portal, "Hello.")).await.unwrap();
        writes(t, PHONE, "Hello.").await;
        let request = MarkConversationReadRequest {
            practice_id: ACME.into(),
            conversation_id: home.clone(),
            message_id: newest.clone(),
        };
        staff.clone().conversations.mark_conversation_read(request).await.unwrap();
    }
}

/// Reads a page of messages. Yields the newest.
async fn messages_page(t: &TestApp, id: &str, page_size: i32) -> String {
    let request =
        ListMessagesRequest { practice_id: ACME.into(), conversation_id: id.into(), page_size, ..Default::default() };
    let page = t.caller(Role::Staff).conversations.list_messages(request).await.unwrap().into_inner();
    page.messages[0].message_id.clone()
}

async fn filled(t: &TestApp) {
    practice(t).await;
    for n in 0..60 {
        writes(t, PHONE, &n.to_string()).await;
    }
    fill(t).await;
}

on_a_server! {
    postgres:
    async fn a_long_conversation_in_a_large_practice_is_as_quick_as_a_short_one(t: &mut TestApp) {
        filled(t).await;
        // Whoever stops tells the database what it has counted.
        t.stop().await;
        let before = rows_read(t).await;
        t.start().await;
        use_it(t).await;
        t.stop().await;
        let after = rows_read(t).await;
        assert_eq!(after.0 - before.0, 0, "no table is read through");
        let read = after.1 - before.1;
        assert!(read < i64::from(ROUNDS) * 1_000, "{read} rows");
        t.start().await;
        let home = of(t, "pat").await.unwrap();
        assert_eq!(i64::from(home.unread_count), 2 * i64::from(ROUNDS), "what came after the mark");
        let view = ConversationFilter { subset: Subset::Unread.into(), ..Default::default() };
        assert_eq!(super::try_list(&t.caller(Role::Staff), ACME, view).await.unwrap().conversations.len(), 1);
    }
}
