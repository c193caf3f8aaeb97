//! Patients: stored whole or not at all, and found by id, address, name and tag.

use std::collections::BTreeSet;

use futures::future::join_all;
use heedwell::{
    domain::{Channel, ConsentState, FailureReason, Patient, Phi, Scope},
    store::{PatientQuery, StoreError},
};

use super::{
    given::{NORTH, SOUTH, email, patient, phone, practice, ready_practice},
    *,
};

fn tagged(id: &str, tags: &[&str]) -> Patient {
    Patient { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..patient(id) }
}

fn named(id: &str, first: &str, last: &str) -> Patient {
    Patient { first_name: Phi::new(first.into()), last_name: Phi::new(last.into()), ..patient(id) }
}

fn asked(text: &str) -> PatientQuery {
    PatientQuery { text: Phi::new(text.into()), limit: 10, ..PatientQuery::default() }
}

async fn found(t: &TestStore, scope: &Scope, query: PatientQuery) -> Vec<String> {
    let page = t.store.patients_list(scope, query).await.unwrap();
    assert_eq!(page.next, None);
    page.patients.into_iter().map(|patient| patient.value.id.to_string()).collect()
}

async fn empty_practice(t: &TestStore, id: &str) -> Scope {
    let scope = t.scope(id);
    t.store.practice_put(&scope, practice(id), None).await.unwrap();
    scope
}

on_both! {
    async fn a_patient_comes_back_as_it_was_put(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        let full = Patient {
            locale: Some("es-US".into()),
            time_zone: Some("America/Chicago".parse().unwrap()),
            inactive: true,
            ..tagged("ann", &["diabetes", "north-office"])
        };
        let bare = Patient { email: None, mobile_phone: None, portal_enabled: false, ..named("bob", "Bob", "") };
        assert_eq!(t.store.patients_put(&scope, vec![full.clone(), bare.clone()]).await.unwrap(), (2, 0));
        for patient in [full, bare] {
            let stored = t.store.patient_get(&scope, &patient.id).await.unwrap();
            assert_eq!((stored.value, stored.revision, stored.update_time), (patient, 1, t.now()));
        }
    }

    async fn only_what_differs_is_counted_and_given_a_new_revision(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("ann"), patient("bob")]).await.unwrap();
        let before = t.store.patient_get(&scope, &"ann".parse().unwrap()).await.unwrap();
        t.advance(60);
        let moved = Patient { mobile_phone: Some(phone("+12025550143")), ..patient("bob") };
        let put = t.store.patients_put(&scope, vec![patient("ann"), moved.clone(), patient("cyd")]).await.unwrap();
        assert_eq!(put, (1, 1));
        assert_eq!(t.store.patient_get(&scope, &"ann".parse().unwrap()).await.unwrap(), before);
        let stored = t.store.patient_get(&scope, &"bob".parse().unwrap()).await.unwrap();
        assert_eq!((stored.value, stored.revision, stored.update_time), (moved, 2, t.now()));
    }

    async fn nobody_is_stored_when_one_cannot_be(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        // The same new patient twice in one call is a conflict of the caller with itself.
        let put = t.store.patients_put(&scope, vec![patient("ann"), patient("bob"), patient("ann")]).await;
        assert!(matches!(put, Err(StoreError::Conflict { .. })), "{put:?}");
        assert_eq!(found(t, &scope, asked("")).await, Vec::<String>::new());
        assert_eq!(t.number("SELECT count(*) FROM patient_tag").await, 0);
    }

    async fn tags_are_replaced_as_a_whole(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![tagged("ann", &["a", "b"]), tagged("bob", &["b"])]).await.unwrap();
        assert_eq!(t.store.patients_put(&scope, vec![tagged("ann", &["b", "c"])]).await.unwrap(), (0, 1));
        let tags = |patient: Patient| patient.tags.into_iter().collect::<Vec<_>>();
        let ann = t.store.patient_get(&scope, &"ann".parse().unwrap()).await.unwrap();
        assert_eq!((tags(ann.value), ann.revision), (vec!["b".to_owned(), "c".to_owned()], 2));
        assert_eq!(t.store.patients_put(&scope, vec![tagged("ann", &[])]).await.unwrap(), (0, 1));
        let ann = t.store.patient_get(&scope, &"ann".parse().unwrap()).await.unwrap();
        assert_eq!(ann.value.tags, BTreeSet::new());
        let bob = t.store.patient_get(&scope, &"bob".parse().unwrap()).await.unwrap();
        assert_eq!(tags(bob.value), ["b"]);
    }

    async fn of_writers_who_bring_the_same_new_patient_one_is_stored_whole(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        let puts = join_all((0..8).map(|n| {
            let name = format!("Name{n}");
            let value = Patient { tags: BTreeSet::from([name.clone()]), ..named("ann", &name, &name) };
            t.store.patients_put(&scope, vec![value])
        }))
        .await;
        assert!(puts.iter().all(|put| matches!(put, Ok(_) | Err(StoreError::Conflict { .. }))), "{puts:?}");
        assert_eq!(puts.iter().filter(|put| matches!(put, Ok((1, 0)))).count(), 1);
        let ann = t.store.patient_get(&scope, &"ann".parse().unwrap()).await.unwrap();
        let name = ann.value.first_name.expose();
        assert_eq!(name, ann.value.last_name.expose());
        assert_eq!(ann.value.tags, BTreeSet::from([name.clone()]));
        assert_eq!(ann.revision, i64::try_from(puts.iter().filter(|put| put.is_ok()).count()).unwrap());
    }

    async fn writers_of_overlapping_patients_do_not_block_each_other_for_good(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        let everyone: Vec<_> = (0..20).map(|n| patient(&format!("p{n:02}"))).collect();
        t.store.patients_put(&scope, everyone.clone()).await.unwrap();
        let puts = join_all((0..8).map(|n| {
            let mut mine: Vec<_> = everyone
                .iter()
                .map(|patient| Patient { inactive: n % 2 == 0, locale: Some(format!("en-{n}")), ..patient.clone() })
                .collect();
            mine.rotate_left(n * 2);
            t.store.patients_put(&scope, mine)
        }))
        .await;
        assert!(puts.iter().all(Result::is_ok), "{puts:?}");
        let page = t.store.patients_list(&scope, PatientQuery { limit: 50, ..PatientQuery::default() }).await.unwrap();
        let locales: BTreeSet<_> = page.patients.iter().map(|patient| patient.value.locale.clone()).collect();
        assert_eq!((page.patients.len(), locales.len()), (20, 1));
        assert!(page.patients.iter().all(|patient| patient.revision == 9));
    }

    async fn patients_are_found_by_id_address_and_the_beginning_of_a_name(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        let people = vec![
            Patient { email: Some(email("Ann.Berg@Example.com")), ..named("p1", "Ann", "Berg") },
            Patient { mobile_phone: Some(phone("+12025550177")), ..named("p2", "Bernd", "Ångström") },
            Patient { email: None, mobile_phone: None, ..named("p3", "Cyd", "Annis") },
        ];
        t.store.patients_put(&scope, people).await.unwrap();
        assert_eq!(found(t, &scope, asked("p2")).await, ["p2"]);
        assert_eq!(found(t, &scope, asked("ANN")).await, ["p1", "p3"]);
        assert_eq!(found(t, &scope, asked(" ber ")).await, ["p1", "p2"]);
        assert_eq!(found(t, &scope, asked("ångs")).await, ["p2"]);
        assert_eq!(found(t, &scope, asked("nis")).await, Vec::<String>::new());
        let by_email = PatientQuery { email: Some(email("ann.berg@example.com")), ..asked("ann.berg@example.com") };
        assert_eq!(found(t, &scope, by_email).await, ["p1"]);
        let by_phone = PatientQuery { phone: Some(phone("(202) 555-0177")), ..asked("(202) 555-0177") };
        assert_eq!(found(t, &scope, by_phone).await, ["p2"]);
        assert_eq!(found(t, &scope, asked("")).await, ["p1", "p2", "p3"]);
    }

    async fn all_of_the_tags_asked_for_must_be_there(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        let people =
            vec![tagged("p1", &["a", "b"]), tagged("p2", &["a"]), tagged("p3", &["b", "c"]), tagged("p4", &[])];
        t.store.patients_put(&scope, people).await.unwrap();
        let with =
            |tags: &[&str]| PatientQuery { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..asked("") };
        assert_eq!(found(t, &scope, with(&["a"])).await, ["p1", "p2"]);
        assert_eq!(found(t, &scope, with(&["a", "b"])).await, ["p1"]);
        assert_eq!(found(t, &scope, with(&["a", "c"])).await, Vec::<String>::new());
        let page = t.store.patients_list(&scope, with(&["c"])).await.unwrap();
        assert_eq!(page.patients[0].value, tagged("p3", &["b", "c"]));
    }

    async fn pages_of_patients_miss_nobody_while_others_come(t: &TestStore) {
        let scope = empty_practice(t, NORTH).await;
        let people: Vec<_> = (0..25).map(|n| named(&format!("p{:02}", n * 2), "Ann", "Berg")).collect();
        t.store.patients_put(&scope, people).await.unwrap();
        for text in ["", "ann"] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let query = PatientQuery { after: after.clone(), limit: 4, ..asked(text) };
                let page = t.store.patients_list(&scope, query).await.unwrap();
                seen.extend(page.patients.iter().map(|patient| patient.value.id.to_string()));
                if seen.len() < 9 {
                    // Sorted before and after what was read.
                    t.store
                        .patients_put(&scope, vec![named("p01", "Ann", "New"), named("p47", "Ann", "New")])
                        .await
                        .unwrap();
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let mut expected: Vec<_> = (0..25).map(|n| format!("p{:02}", n * 2)).collect();
            if text == "ann" {
                expected.push("p01".into());
            }
            expected.push("p47".into());
            expected.sort();
            assert_eq!(seen, expected, "{text}");
        }
    }

    async fn a_patient_belongs_to_one_practice(t: &TestStore) {
        let (north, south) = (empty_practice(t, NORTH).await, empty_practice(t, SOUTH).await);
        t.store.patients_put(&north, vec![tagged("ann", &["a"])]).await.unwrap();
        let id = "ann".parse().unwrap();
        assert!(matches!(t.store.patient_get(&south, &id).await, Err(StoreError::NotFound("patient"))));
        assert!(matches!(t.store.grounds(&south, &id).await, Err(StoreError::NotFound("patient"))));
        assert_eq!(found(t, &south, asked("")).await, Vec::<String>::new());
        let other = Patient { inactive: true, ..patient("ann") };
        assert_eq!(t.store.patients_put(&south, vec![other.clone()]).await.unwrap(), (1, 0));
        assert_eq!(t.store.patient_get(&north, &id).await.unwrap().value, tagged("ann", &["a"]));
        assert_eq!(t.store.patient_get(&south, &id).await.unwrap().value, other);
        let by_phone = PatientQuery { phone: Some(phone("+12025550142")), ..asked("") };
        assert_eq!(found(t, &south, by_phone).await, ["ann"]);
    }

    async fn grounds_are_what_a_decision_rests_on(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let id = "maria".parse().unwrap();
        let grounds = t.store.grounds(&scope, &id).await.unwrap();
        assert_eq!((&*grounds.practice, grounds.now), (&practice(NORTH), t.now()));
        assert_eq!(grounds.patient, patient("maria"));
        assert_eq!(*grounds.sms_regions, ["US".to_owned()]);
        assert!(grounds.settings.is_set_up(Channel::Sms) && grounds.settings.is_set_up(Channel::Email));
        assert_eq!(grounds.gates.len(), 4);
        assert!(grounds.gates.values().all(|gates| *gates == Default::default()));

        given::Order::new("r1", &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
        t.execute("UPDATE recipient_gate SET consent = 2 WHERE channel = 3 AND subject_kind = 1").await;
        t.execute("UPDATE recipient_gate SET consent = 1 WHERE channel = 2 AND subject_kind = 2").await;
        t.execute(
            "UPDATE recipient_gate SET blocked_at = '2026-03-02T00:00:00+00:00', block_reason = 1 \
             WHERE channel = 3 AND subject_kind = 2",
        )
        .await;
        let gates = t.store.grounds(&scope, &id).await.unwrap().gates;
        let sms = gates[&Channel::Sms];
        assert_eq!(
            (sms.patient, sms.address, sms.suppressed),
            (ConsentState::OptedOut, ConsentState::Unknown, Some(FailureReason::InvalidAddress))
        );
        let email = gates[&Channel::Email];
        assert_eq!(
            (email.patient, email.address, email.suppressed),
            (ConsentState::Unknown, ConsentState::OptedIn, None)
        );
        assert_eq!(gates[&Channel::InApp], Default::default());
    }
}
