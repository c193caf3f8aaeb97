//! The audit trail as the store writes it: with what it tells of or not at all, in one piece however many write at once, and for
//! little.

use futures::future::join_all;
use heedwell::{
    domain::{AuditRecord, Channel, ConsentSource, ConsentState, Kind, PushToken, ReadState, Scope, Selection},
    store::{Accepted, Labels, NewMessage, NewNotification, StoreError, Target, Time},
};

use super::{
    consent::{decision, record},
    given::{NORTH, Order, SOUTH, patient, ready_practice},
    *,
};
use crate::support::{Backend, Home, Logging, run};

/// The whole trail, the oldest first.
async fn trail(t: &TestStore, scope: &Scope) -> Vec<AuditRecord> {
    t.store.audit_after(scope, 0).await.unwrap()
}

/// What it says of, in its order.
async fn resources(t: &TestStore, scope: &Scope) -> Vec<String> {
    trail(t, scope).await.into_iter().map(|record| record.event.resource).collect()
}

/// As many orders, each with a key and ids of its own.
async fn orders(t: &TestStore, scope: &Scope, name: &str, count: usize) -> Vec<NewNotification> {
    let mut orders = Vec::new();
    for n in 0..count {
        orders.push(Order::new(&format!("{name}-{n}"), &[Channel::Sms, Channel::Email]).prepare(t, scope).await);
    }
    orders
}

async fn accept_all(t: &TestStore, scope: &Scope, news: &[NewNotification]) {
    for done in join_all(news.iter().map(|new| t.store.notification_accept(scope, new.clone()))).await {
        assert!(matches!(done.unwrap(), Accepted::New(_)));
    }
}

on_both! {
    async fn an_entry_commits_with_what_it_tells_of_or_not_at_all(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let before = trail(t, &scope).await;
        let order = Order::new("r1", &[Channel::Sms]).prepare(t, &scope).await;
        let consent = || decision("c1", Channel::Push, ConsentState::OptedOut, ConsentSource::Portal);
        // The feed comes after the trail, and the trail after everything else: where either fails nothing is kept of anything.
        for head in ["feed_head", "audit_head"] {
            t.execute(&format!("CREATE TEMP TABLE kept_{head} AS SELECT * FROM {head}")).await;
            t.execute(&format!("DELETE FROM {head}")).await;
            let refused = t.store.notification_accept(&scope, order.clone()).await.unwrap_err();
            assert!(matches!(refused, StoreError::NotFound("practice")), "{refused:?}");
            // While nothing waits that it holds back, a decision changes no delivery, and the feed is not asked.
            if head == "audit_head" {
                t.store.consent_record(&scope, consent()).await.unwrap_err();
            }
            t.execute(&format!("INSERT INTO {head} SELECT * FROM kept_{head}")).await;
            for table in ["notification", "delivery", "idem", "feed", "consent_ledger"] {
                assert_eq!(t.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table} without {head}");
            }
            assert_eq!(trail(t, &scope).await, before);
        }
        // What was remembered of the head by those that came to nothing is of no consequence.
        accept_all(t, &scope, std::slice::from_ref(&order)).await;
        record(t, &scope, consent()).await;
        let told = trail(t, &scope).await;
        let [.., sent, consented] = &told[..] else { panic!("two more") };
        assert_eq!((told.len(), &sent.event.resource), (before.len() + 2, &format!("notification/{}", order.id)));
        assert_eq!((sent.event.patient.as_ref(), sent.event.code), (Some(&order.patient.id), 0));
        assert_eq!((sent.event.action.as_ref(), sent.event.actor.id.as_str()), ("test", "front-desk"));
        assert_eq!((sent.event.trace_id.as_str(), sent.event.source_address.as_str()), ("trace", "192.0.2.1"));
        assert_eq!(consented.event.resource, "consent/1");
    }

    async fn what_changes_nothing_is_not_told(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let maria = "maria".parse().unwrap();
        let sent = Order::new("r1", &[Channel::InApp]).accept(t, &scope).await;
        // One that is in the inbox, whatever is cancelled below.
        Order { kind: Kind::System, ..Order::new("notice", &[Channel::InApp]) }.accept(t, &scope).await;
        let token: PushToken = "token-of-a-phone".parse().unwrap();
        let new = NewMessage {
            request_id: "m1".into(),
            fingerprint: [1; 32],
            target: Target::Patient("maria".parse().unwrap()),
            body: heedwell::domain::Phi::new("Hello.".into()),
            attachments: Vec::new(),
            text: None,
            notice: None,
        };
        let heedwell::store::Sent::New(said) = t.store.message_send(&scope, new.clone()).await.unwrap() else {
            panic!("new")
        };
        let (message, conversation) = (said.0.id, said.1.id);
        let again = async || {
            t.store.patients_put(&scope, vec![patient("maria")]).await.unwrap();
            t.store.practice_put(&scope, super::given::practice(NORTH), None).await.unwrap();
            let order = Order::new("r1", &[Channel::InApp]).prepare(t, &scope).await;
            assert!(matches!(t.store.notification_accept(&scope, order).await.unwrap(), Accepted::Replayed(_)));
            t.store.notification_cancel(&scope, sent.id).await.unwrap();
            let through = Selection::Through(t.now());
            t.store.inbox_mark(&scope, &maria, &through, ReadState::Read, None).await.unwrap();
            let device = t.store.device_register(&scope, &maria, &token, "phone").await.unwrap();
            t.store.message_send(&scope, new.clone()).await.unwrap();
            let labels = Labels { assignee: Some("robin".into()), state: None };
            t.store.conversation_label(&scope, conversation, None, labels).await.unwrap();
            t.store.conversation_read(&scope, conversation, message).await.unwrap();
            device
        };
        let device = again().await;
        let told = resources(t, &scope).await;
        for resource in ["inbox".to_owned(), format!("device/{device}"), format!("conversation/{conversation}")] {
            assert!(told.contains(&resource), "{resource}: {told:?}");
        }
        assert_eq!(again().await, device);
        assert_eq!(resources(t, &scope).await, told);
        t.store.device_delete(&scope, &maria, device).await.unwrap();
        t.store.device_delete(&scope, &maria, device).await.unwrap();
        assert_eq!(resources(t, &scope).await.len(), told.len() + 1);
    }

    async fn whoever_loses_a_device_to_somebody_else_is_told_of_too(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("kim")]).await.unwrap();
        let token: PushToken = "token-of-a-phone".parse().unwrap();
        let before = trail(t, &scope).await.len();
        for owner in ["maria", "kim"] {
            t.store.device_register(&scope, &owner.parse().unwrap(), &token, "phone").await.unwrap();
        }
        let told = trail(t, &scope).await;
        let patients: Vec<_> = told[before..].iter().map(|it| it.event.patient.as_ref().unwrap().as_str()).collect();
        assert_eq!(patients, ["maria", "kim", "maria"]);
    }

    async fn those_who_read_at_once_are_all_told(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let before = [trail(t, &north).await.len(), trail(t, &south).await.len()];
        let (maria, store) = ("maria".parse().unwrap(), &t.store);
        let reads = (0..200).map(|n| {
            let scope = if n % 2 == 0 { &north } else { &south };
            let maria = &maria;
            async move { store.audit_read(scope, Some(maria), format!("read/{n}")).await }
        });
        join_all(reads).await.into_iter().for_each(|read| read.unwrap());
        let mut told = Vec::new();
        for (scope, before) in [&north, &south].into_iter().zip(before) {
            told.extend(resources(t, scope).await.into_iter().skip(before));
        }
        told.sort_unstable_by_key(|it| it.strip_prefix("read/").unwrap().parse::<u32>().unwrap());
        assert_eq!(told, (0..200).map(|n| format!("read/{n}")).collect::<Vec<_>>());
    }

    async fn nobody_reads_in_a_practice_that_is_not_there(t: &TestStore) {
        let scope = t.scope("nowhere");
        let refused = t.store.audit_read(&scope, None, "patients").await;
        assert!(matches!(refused, Err(StoreError::NotFound("practice"))), "{refused:?}");
        // What the server does by itself is told by timelines and the ledger.
        let own = t.engine.scope(NORTH.parse().unwrap(), heedwell::domain::Author::system());
        ready_practice(t, NORTH).await;
        let before = trail(t, &own).await.len();
        t.store.audit_read(&own, None, "patients").await.unwrap();
        t.store.patients_put(&own, vec![patient("kim")]).await.unwrap();
        assert_eq!(trail(t, &own).await.len(), before);
    }
}

/// The database itself says what it was asked for: a group of sends is told with one insert and one update of the head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_sends_is_told_with_an_insert_and_an_update() {
    let Some(server) = Logging::start().await else { return };
    let t = TestStore::at(Home::on(&server)).await;
    let scope = ready_practice(&t, NORTH).await;
    let asked = || {
        let words = [
            ": INSERT ",
            ": UPDATE ",
            ": SELECT ",
            ": DELETE ",
            r#"INSERT INTO "audit" "#,
            r#""audit_head""#,
            "COMMIT",
        ];
        words.map(|words| server.statements(words))
    };
    let cost = async |scope: &Scope, news: &[NewNotification]| {
        let before = asked();
        accept_all(&t, scope, news).await;
        let mut spent = asked();
        spent.iter_mut().zip(before).for_each(|(after, before)| *after -= before);
        spent
    };
    // What the server does by itself is not told, and costs what it cost before there was a trail.
    let own = t.engine.scope(NORTH.parse().unwrap(), heedwell::domain::Author::system());
    // The first makes the patient's key.
    accept_all(&t, &own, &orders(&t, &own, "first", 1).await).await;
    let untold = cost(&own, &orders(&t, &own, "own", 1).await).await;
    let told = cost(&scope, &orders(&t, &scope, "one", 1).await).await;
    assert_eq!((untold[4], untold[5], untold[6]), (0, 0, 1));
    let [inserts, updates, selects, deletes, ..] = untold;
    assert_eq!(told, [inserts + 1, updates + 1, selects, deletes, 1, 1, 1]);
    let [.., entries, heads, groups] = cost(&scope, &orders(&t, &scope, "many", 200).await).await;
    assert!(groups < 100, "{groups} groups");
    assert_eq!(heads, groups, "one update of the head for each group");
    // Of a few lengths, as all rows are written.
    assert!(entries <= 6 * groups, "{entries} inserts for {groups} groups");
    t.raw.close().await.unwrap();
    t.store.close().await;
}

/// Two replicas append to one trail: whoever is second finds that the head has moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_write_one_trail() {
    run(Backend::Postgres, async |t: &TestStore| {
        let scope = ready_practice(t, NORTH).await;
        let other = t.home.open(Time::Injected(t.clock.clone())).await.unwrap();
        let before = trail(t, &scope).await.len();
        for round in 0..20 {
            let reads = (0..8).map(|n| {
                let store = if n % 2 == 0 { &t.store } else { &other };
                let scope = &scope;
                async move { store.audit_read(scope, None, format!("read/{round}/{n}")).await }
            });
            join_all(reads).await.into_iter().for_each(|read| read.unwrap());
        }
        assert_eq!(trail(t, &scope).await.len(), before + 160);
        other.close().await;
    })
    .await;
}
