//! Keys of patients: what was sealed with one opens no more once it is destroyed, wherever the text comes back from; and what was
//! written while a patient was being erased goes as well.

use heedwell::{
    domain::{Channel, PatientId, Scope},
    store::{LinkState, StoreError},
};

use super::{
    given::{NORTH, Order, SOUTH, patient, ready_practice},
    links::linked,
    *,
};

fn maria() -> PatientId {
    "maria".parse().unwrap()
}

async fn erase(t: &TestStore, scope: &Scope) {
    t.store.patient_erase(scope, &maria()).await.unwrap();
}

/// What a backup from before would bring back.
async fn kept(t: &TestStore, tables: &[&str]) {
    for table in tables {
        t.execute(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
    }
}

async fn bring_back(t: &TestStore, table: &str) {
    t.execute(&format!("DELETE FROM {table}")).await;
    t.execute(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
}

on_both! {
    async fn nothing_that_was_sealed_for_a_patient_opens_once_they_are_erased(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        let theirs = Order::new("one", &[Channel::InApp, Channel::Sms]).accept(t, &scope).await;
        let order = Order { patient: "ann", ..Order::new("two", &[Channel::InApp, Channel::Sms]) };
        let anns = order.accept(t, &scope).await;
        linked(t, &scope, "three", [3; 32], 0).await;
        kept(t, &["content", "notification", "link", "patient"]).await;
        assert_eq!(t.number("SELECT count(*) FROM subject_key").await, 2);
        erase(t, &scope).await;
        assert_eq!(t.number("SELECT count(*) FROM subject_key").await, 1);
        for table in ["content", "notification", "link", "patient"] {
            bring_back(t, table).await;
        }
        let read = t.store.notification_detail(&scope, theirs.id, true).await;
        assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
        assert!(matches!(t.store.link_open(&t.engine, [3; 32]).await.unwrap(), LinkState::Closed));
        let read = t.store.notification_detail(&scope, anns.id, true).await.unwrap();
        assert!(read.details.iter().any(|(_, content)| content.is_some()) && !read.decisions.is_empty());
        t.execute("DELETE FROM patient WHERE patient_id = 'maria'").await;
        for table in ["content", "notification", "link", "patient"] {
            t.execute(&format!("DROP TABLE kept_{table}")).await;
        }
    }

    async fn a_key_of_one_practice_is_of_no_use_in_another(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let other = ready_practice(t, SOUTH).await;
        let theirs = Order::new("one", &[Channel::InApp]).accept(t, &scope).await;
        Order::new("one", &[Channel::InApp]).accept(t, &other).await;
        t.execute(&format!("UPDATE subject_key SET owner = 'x' WHERE practice_id = '{SOUTH}'")).await;
        t.execute(&format!("UPDATE subject_key SET practice_id = '{SOUTH}' WHERE practice_id = '{NORTH}'")).await;
        let read = t.store.notification_detail(&scope, theirs.id, true).await;
        assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
        let refused = Order::new("two", &[Channel::InApp]).prepare(t, &other).await;
        let refused = t.store.notification_accept(&other, refused).await;
        assert!(matches!(refused, Err(StoreError::Corrupt("subject_key"))), "{refused:?}");
    }

    async fn what_was_written_meanwhile_goes_some_minutes_later_and_what_came_since_stays(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("one", &[Channel::InApp, Channel::Sms]).accept(t, &scope).await;
        kept(t, &["content", "subject_key"]).await;
        t.advance(1);
        erase(t, &scope).await;
        assert_eq!(t.number("SELECT count(*) FROM content").await, 0);
        assert!(t.store.erasures_due(&t.engine).await.unwrap().is_empty());
        for table in ["content", "subject_key"] {
            bring_back(t, table).await;
        }
        t.advance(60);
        t.store.patients_put(&scope, vec![patient("maria")]).await.unwrap();
        t.execute("UPDATE subject_key SET owner = NULL").await;
        let since = Order::new("two", &[Channel::Sms]).accept(t, &scope).await;
        t.advance(300);
        let due = t.store.erasures_due(&t.engine).await.unwrap();
        assert_eq!(due.len(), 1);
        t.store.erasure_sweep(&t.engine, &due[0]).await.unwrap();
        assert_eq!((t.number("SELECT count(*) FROM content").await, t.number("SELECT count(*) FROM subject_key").await), (1, 1));
        let read = t.store.notification_detail(&scope, since.id, true).await.unwrap();
        assert!(read.details.iter().all(|(_, content)| content.is_some()));
        t.advance(600);
        assert!(t.store.erasures_due(&t.engine).await.unwrap().is_empty());
        for table in ["content", "subject_key"] {
            t.execute(&format!("DROP TABLE kept_{table}")).await;
        }
    }
}
