//! Data keys: another takes over after so many uses and when somebody asks for it, what the old one sealed opens as before, and
//! masters are rotated under work.

use heedwell::{
    crypto::{KeyFile, KeyText, read_private, replace},
    domain::{Channel, ConsentSource, ConsentState, Engine},
    store::{Anchored, Settings, Store, StoreError, Time},
    wake::Wake,
};

use super::{
    consent::{decision, record},
    given::{NORTH, Order, SOUTH, patient, phone, ready_practice},
    *,
};
use crate::support::Backend;

/// Which data keys sealed the contacts of patients, each once.
async fn sealed_by(t: &TestStore) -> Vec<Vec<u8>> {
    let rows = t.rows("SELECT contact_ct FROM patient").await;
    let mut ids: Vec<Vec<u8>> =
        rows.iter().map(|row| row.try_get_by_index::<Vec<u8>>(0).unwrap()[1..17].to_vec()).collect();
    ids.sort();
    ids.dedup();
    ids
}

async fn reopen(t: TestStore, tune: impl FnOnce(&mut Settings)) -> TestStore {
    let TestStore { home, store, engine, clock, raw } = t;
    store.close().await;
    drop(store);
    let mut settings = home.settings();
    tune(&mut settings);
    let store = Store::open(settings, home.keys(), Time::Injected(clock.clone()), Wake::default()).await.unwrap();
    TestStore { home, store, engine, clock, raw }
}

async fn add_patient(t: &TestStore, scope: &heedwell::domain::Scope, id: &str) {
    let number = 2_025_550_100 + u64::from(id.bytes().fold(0_u8, u8::wrapping_add));
    let new = heedwell::domain::Patient { mobile_phone: Some(phone(&format!("+1{number}"))), ..patient(id) };
    t.store.patients_put(scope, vec![new]).await.unwrap();
}

on_both! {
    async fn a_new_data_key_takes_over_once_all_know_it_and_the_old_one_opens_what_it_sealed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let other = ready_practice(t, SOUTH).await;
        let sent = Order::new("one", &[Channel::Sms]).accept(t, &scope).await;
        assert!(t.store.keys_begin(&t.engine, scope.practice()).await.unwrap());
        assert!(!t.store.keys_begin(&t.engine, scope.practice()).await.unwrap(), "one at a time");
        add_patient(t, &scope, "early").await;
        let keys = t.store.keys_list(&t.engine).await.unwrap();
        let of_north: Vec<_> = keys.iter().filter(|key| key.practice == *scope.practice()).collect();
        assert_eq!(of_north.iter().map(|key| key.retire_time.is_some()).collect::<Vec<_>>(), [true, false]);
        assert_eq!(keys.len(), 3);
        // North's first one and South's.
        assert_eq!(sealed_by(t).await.len(), 2);
        t.advance(181);
        add_patient(t, &scope, "late").await;
        add_patient(t, &other, "late").await;
        let used = sealed_by(t).await;
        assert_eq!(used.len(), 3);
        assert!(used.contains(&of_north[1].id.as_bytes().to_vec()));
        for id in ["maria", "early", "late"] {
            t.store.patient_get(&scope, &id.parse().unwrap()).await.unwrap();
        }
        let read = t.store.notification_detail(&scope, sent.id, true).await.unwrap();
        assert!(read.details[0].1.is_some());
        assert!(t.store.keys_begin(&t.engine, scope.practice()).await.unwrap(), "and once more");
    }

    async fn a_practice_whose_keys_are_destroyed_is_none_any_more(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let other = ready_practice(t, SOUTH).await;
        Order::new("one", &[Channel::Sms]).accept(t, &scope).await;
        record(t, &scope, decision("c1", Channel::Push, ConsentState::OptedOut, ConsentSource::Portal)).await;
        assert_eq!(t.store.keys_shred(&t.engine, scope.practice()).await.unwrap(), 2);
        let read = t.store.patient_get(&scope, &"maria".parse().unwrap()).await;
        assert!(matches!(read, Err(StoreError::NotFound("practice"))), "{read:?}");
        t.store.patient_get(&other, &"maria".parse().unwrap()).await.unwrap();
        // What cannot be read any more can be proven all the same, and that it was destroyed is the last that the trail tells.
        let proof = t.store.ledger_prove(&t.engine, scope.practice(), &Anchored::default()).await.unwrap();
        assert_eq!((proof.findings, proof.entries), (Vec::new(), 1));
        let last = "SELECT count(*) FROM audit WHERE practice_id = 'north' AND action = 'keys.shred' AND seq = (SELECT seq FROM audit_head h WHERE h.practice_id = audit.practice_id)";
        assert_eq!(t.number(last).await, 1);
        t.execute(&format!("UPDATE audit SET action = 'nothing' WHERE practice_id = '{NORTH}' AND seq = 1")).await;
        let proof = t.store.ledger_prove(&t.engine, scope.practice(), &Anchored::default()).await.unwrap();
        assert_eq!(proof.findings.len(), 1, "{:?}", proof.findings);
        // Whoever wants more than proofs of it finds nothing: for the checks after each test it never was.
        for table in ["practice", "feed_head", "consent_head", "audit_head", "delivery_count_head", "patient", "delivery", "notification", "feed", "content", "delivery_event", "recipient_gate", "practice_settings"] {
            t.execute(&format!("DELETE FROM {table} WHERE practice_id = '{NORTH}'")).await;
        }
    }
}

/// How often each key of a subject has sealed, by what is there.
async fn seals_of_subjects(t: &TestStore) -> Vec<i64> {
    let sealed = ["content.body_ct", "notification.decisions_ct", "link.target_ct"].map(|column| {
        let (table, name) = column.split_once('.').unwrap();
        format!("SELECT substr({name}, 2, 16) AS key FROM {table}")
    });
    let id = if t.home.backend == Backend::Sqlite { "id" } else { "uuid_send(id)" };
    let query = format!(
        "SELECT count(s.key) FROM subject_key k JOIN ({}) s ON s.key = {id} GROUP BY k.id ORDER BY 1",
        sealed.join(" UNION ALL ")
    );
    t.rows(&query).await.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn key_of_a_patient(backend: Backend) {
    let Some(t) = TestStore::open(backend).await else { return };
    let t = reopen(t, |settings| settings.key_uses = 100).await;
    let scope = ready_practice(&t, NORTH).await;
    let mut sent = Vec::new();
    for number in 0..160 {
        sent.push(Order::new(&format!("order-{number}"), &[Channel::Sms]).accept(&t, &scope).await.id);
        t.advance(10);
        t.store.keys_count(&t.engine).await.unwrap();
    }
    let seals = seals_of_subjects(&t).await;
    assert!(seals.len() >= 3 && seals.iter().sum::<i64>() >= 300, "{seals:?}");
    // Each is counted after an order, which seals a few times.
    assert!(seals.iter().all(|seals| *seals <= 100 + 5), "{seals:?}");
    let counted = t.rows("SELECT uses FROM subject_key ORDER BY uses").await;
    assert_eq!(counted.iter().map(|row| row.try_get_by_index::<i64>(0).unwrap()).collect::<Vec<_>>(), seals);
    assert_eq!(t.number("SELECT count(*) FROM subject_key WHERE owner IS NOT NULL").await, 1, "the newest alone seals");
    for id in &sent {
        let read = t.store.notification_detail(&scope, *id, true).await.unwrap();
        assert!(read.details[0].1.is_some());
    }
    // Whoever is erased goes with all of them.
    t.store.patient_erase(&scope, &"maria".parse().unwrap()).await.unwrap();
    assert_eq!(t.number("SELECT count(*) FROM subject_key").await, 0);
}

#[tokio::test]
async fn a_key_of_a_patient_that_has_sealed_often_enough_gives_way_to_another_sqlite() {
    key_of_a_patient(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_key_of_a_patient_that_has_sealed_often_enough_gives_way_to_another_postgres() {
    key_of_a_patient(Backend::Postgres).await;
}

#[tokio::test]
async fn after_so_many_uses_another_key_takes_over_by_itself() {
    let t = TestStore::open(Backend::Sqlite).await.unwrap();
    let t = reopen(t, |settings| settings.key_uses = 100).await;
    let scope = ready_practice(&t, NORTH).await;
    let mut keys = 0;
    for number in 0..250 {
        add_patient(&t, &scope, &format!("p{number}")).await;
        t.advance(10);
        t.store.keys_count(&t.engine).await.unwrap();
        keys = t.store.keys_list(&t.engine).await.unwrap().len();
    }
    assert!(keys >= 3, "{keys} keys");
    let used = t.store.keys_list(&t.engine).await.unwrap();
    // A new one takes over three minutes later: after eighteen patients in this test, each of whom is on the trail as well.
    assert!(used.iter().all(|key| key.uses <= 100 + 40), "{used:?}");
    for number in 0..250 {
        t.store.patient_get(&scope, &format!("p{number}").parse().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn masters_are_rotated_while_everybody_works() {
    let Some(t) = TestStore::open(Backend::Postgres).await else { return };
    let scope = ready_practice(&t, NORTH).await;
    let old = t.home.open(Time::Injected(t.clock.clone())).await.unwrap();
    let (number, text) = KeyText::new(read_private(&t.home.path("keys")).unwrap()).with_master().unwrap();
    replace(&t.home.path("keys"), text.as_str()).unwrap();
    assert_eq!(number, 2);
    let new = t.home.open(Time::Injected(t.clock.clone())).await.unwrap();
    let work = async |store: &Store, name: &str| {
        for number in 0..40 {
            let id = format!("{name}-{number}");
            store.patients_put(&scope, vec![patient(&id)]).await.unwrap();
            store.patient_get(&scope, &id.parse().unwrap()).await.unwrap();
            t.advance(5);
        }
    };
    let rotate = async {
        assert!(new.keys_begin(&Engine::new(), scope.practice()).await.unwrap());
        assert_eq!(new.keys_rewrap(&Engine::new()).await.unwrap(), 0);
    };
    // The old one was started before the master was there, has no key of the practice yet, and finds none that it could open.
    let path = t.home.path("keys");
    old.masters_anew(Box::new(move || {
        let keys = KeyFile::load(&path).ok();
        Box::pin(async move { keys })
    }));
    assert_eq!(new.keys_rewrap(&Engine::new()).await.unwrap(), 1);
    tokio::join!(work(&old, "old"), work(&new, "new"), rotate);
    assert_eq!(new.masters_in_use(&t.engine).await.unwrap().into_iter().collect::<Vec<_>>(), [2]);
    for number in 0..40 {
        for name in ["old", "new"] {
            new.patient_get(&scope, &format!("{name}-{number}").parse().unwrap()).await.unwrap();
        }
    }
    old.close().await;
    new.close().await;
}
