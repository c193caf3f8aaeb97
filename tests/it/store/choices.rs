//! What patients chose: kept beside what the directory says of them, and asked again just before a message leaves.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{Channel, Choices, DeliveryState, Kind, Patient, Scope, SkipReason, Stored},
    store::{Settings, Store, StoreError, Time},
    wake::Wake,
};

use super::{
    given::{NORTH, Order, SOUTH, claim, delivery, last_line, patient, ready_practice},
    templates, *,
};
use crate::support::{Backend, Home, Logging};

fn choices(made: &[(Kind, &[Channel])]) -> Choices {
    let mut choices = Choices::default();
    for (kind, channels) in made {
        choices.set(*kind, Some(channels.iter().copied().collect()));
    }
    choices
}

async fn stored(t: &TestStore, scope: &Scope, patient: &str) -> Stored<Choices> {
    t.store.grounds(scope, &patient.parse().unwrap()).await.unwrap().choices
}

/// Replaces what maria chose, whatever it is.
async fn choose(t: &TestStore, scope: &Scope, made: &[(Kind, &[Channel])]) {
    let before = stored(t, scope, "maria").await.revision;
    t.store.choices_put(scope, &"maria".parse().unwrap(), choices(made), before).await.unwrap();
}

on_both! {
    async fn choices_are_kept_as_they_were_made(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let maria = "maria".parse().unwrap();
        let nothing = stored(t, &scope, "maria").await;
        assert_eq!((nothing.value, nothing.revision), (Choices::default(), 0));
        // Every kind, and none and all of the channels.
        let all: Vec<_> = Kind::ALL.into_iter().map(|kind| (kind, &Channel::ALL[..kind as usize % 5])).collect();
        let made = choices(&all);
        let put = t.store.choices_put(&scope, &maria, made.clone(), 0).await.unwrap();
        assert_eq!((&put.value, put.update_time, put.revision), (&made, t.now(), 1));
        assert_eq!(stored(t, &scope, "maria").await, put);
        let conflict = t.store.choices_put(&scope, &maria, Choices::default(), 0).await;
        assert!(matches!(conflict, Err(StoreError::Conflict { current: 1 })));
        assert_eq!(stored(t, &scope, "maria").await, put);
        t.advance(60);
        let none = t.store.choices_put(&scope, &maria, Choices::default(), 1).await.unwrap();
        assert_eq!((none.revision, none.update_time), (2, t.now()));
        assert_eq!(stored(t, &scope, "maria").await.value, Choices::default());
    }

    async fn the_directory_leaves_choices_alone_and_they_leave_it_alone(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let maria = "maria".parse().unwrap();
        let before = t.store.patient_get(&scope, &maria).await.unwrap();
        t.advance(60);
        choose(t, &scope, &[(Kind::System, &[Channel::Email])]).await;
        let made = stored(t, &scope, "maria").await;
        assert_eq!(t.store.patient_get(&scope, &maria).await.unwrap(), before);
        t.advance(60);
        let moved = Patient { inactive: true, tags: ["a".to_owned()].into(), ..patient("maria") };
        assert_eq!(t.store.patients_put(&scope, vec![moved.clone(), patient("ann")]).await.unwrap(), (1, 1));
        assert_eq!(t.store.patient_get(&scope, &maria).await.unwrap().value, moved);
        assert_eq!(stored(t, &scope, "maria").await, made);
        assert_eq!(stored(t, &scope, "ann").await.revision, 0);
    }

    async fn choices_belong_to_one_patient_of_one_practice(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        t.store.patients_put(&north, vec![patient("ann")]).await.unwrap();
        choose(t, &north, &[(Kind::System, &[])]).await;
        assert_eq!(stored(t, &north, "ann").await.revision, 0);
        assert_eq!(stored(t, &south, "maria").await.revision, 0);
        for (scope, id) in [(&south, "ann"), (&north, "nobody")] {
            let put = t.store.choices_put(scope, &id.parse().unwrap(), Choices::default(), 0).await;
            assert!(matches!(put, Err(StoreError::NotFound("patient"))));
        }
    }

    async fn of_writers_at_the_same_moment_one_is_told_to_look_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let maria = "maria".parse().unwrap();
        let put = |place: usize| {
            let made = choices(&[(Kind::System, &Channel::ALL[..place])]);
            t.store.choices_put(&scope, &maria, made, 0)
        };
        let done = join_all((0..5).map(put)).await;
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1);
        assert!(done.iter().all(|done| matches!(done, Ok(_) | Err(StoreError::Conflict { current: 1 }))));
    }

    async fn what_waits_is_decided_on_by_the_choice_of_that_moment(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let schedule_time = Some(t.now() + TimeDelta::hours(1));
        let order = Order { schedule_time, ..Order::new("r1", &[Channel::Sms, Channel::Email]) };
        let waiting = order.accept(t, &scope).await.deliveries;
        choose(t, &scope, &[(Kind::AppointmentReminder, &[Channel::Email, Channel::InApp]), (Kind::System, &[])]).await;
        t.advance(3_600);
        let claimed = claim(t, &scope, 10).await;
        assert_eq!(claimed.iter().map(|one| one.channel).collect::<Vec<_>>(), [Channel::Email]);
        let text = delivery(t, &scope, waiting[1].id).await;
        assert_eq!((text.state, text.skip_reason), (DeliveryState::Skipped, Some(SkipReason::NotPreferred)));
        assert_eq!(last_line(t, &scope, &text).await.detail, "Checked again just before sending: not sent.");
        // It gains no channel.
        assert_eq!(t.number("SELECT count(*) FROM delivery").await, 2);
    }

    async fn a_row_that_nobody_can_read_stops_nobody_else(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        Order { patient: "ann", ..Order::new("r2", &[Channel::Sms]) }.accept(t, &scope).await;
        t.execute("UPDATE patient SET choices = '{\"99\":[1]}' WHERE patient_id = 'maria'").await;
        let grounds = t.store.grounds(&scope, &"maria".parse().unwrap()).await;
        assert!(matches!(grounds, Err(StoreError::Corrupt("patient"))));
        assert_eq!(claim(t, &scope, 10).await.len(), 1);
    }
}

/// The database itself says how often it was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grounds_of_five_hundred_patients_are_read_with_as_few_queries_as_those_of_one() {
    let home = Home::new(Backend::Sqlite).await.unwrap();
    let Some(server) = Logging::start().await else { return };
    let settings = Settings { database_url: server.url.clone(), ..home.settings() };
    let time = Time::Database(std::sync::Arc::new(heedwell::clock::SystemClock));
    let store = Store::open(settings, home.keys(), time, Wake::default()).await.unwrap();
    let scope = heedwell::domain::Engine::new().scope(NORTH.parse().unwrap(), heedwell::domain::Author::system());
    store.practice_put(&scope, given::practice(NORTH), None).await.unwrap();
    let ids: Vec<_> = (0..500).map(|n| format!("p-{n}").parse().unwrap()).collect();
    for some in (0..500).collect::<Vec<_>>().chunks(100) {
        let patients = some.iter().map(|n| patient(&format!("p-{n}"))).collect();
        store.patients_put(&scope, patients).await.unwrap();
    }
    let mut counts = Vec::new();
    for ids in [&ids[..1], &ids[..]] {
        let before = server.reads();
        let found = store.grounds_of_all(&scope, ids).await.unwrap();
        assert_eq!(found.len(), ids.len());
        let decides = |row: &heedwell::store::GroundsRow| row.grounds(Kind::System).decide(Channel::InApp).uses();
        assert!(found.values().all(decides) && found.values().all(|row| row.gates.len() == 4));
        let after = server.reads();
        counts.push(after - before);
    }
    assert_eq!(counts, [4, 4], "home, patients, gates and the time");
    // Wording of the practice's own is read when it is new, and no more.
    store.template_version_add(&scope, templates::wording("Hello!")).await.unwrap();
    let mut counts = Vec::new();
    for ids in [&ids[..1], &ids[..], &ids[..1]] {
        let before = server.reads();
        let found = store.grounds_of_all(&scope, ids).await.unwrap();
        assert!(found.values().all(|row| row.own_wording.get(&templates::wording("").at).is_some()));
        counts.push(server.reads() - before);
    }
    assert_eq!(counts, [5, 4, 4]);
    store.close().await;
}
