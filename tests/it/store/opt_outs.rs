//! Opt-outs raced against claims: once one is committed, no attempt begins.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

use futures::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use heedwell::{
    domain::{Channel, ConsentSource, ConsentState, Meaning, Patient, Scope},
    store::{Claimed, NewConsent},
};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    consent::{decision, ledger, proves, record, text},
    given::{NORTH, Order, accepted, claim, claim_as, patient, phone, ready_practice, settle_all, settlement},
    *,
};
use crate::support::Backend;

/// How many opt-outs are raced: `HEEDWELL_TEST_RACES`.
fn races() -> usize {
    std::env::var("HEEDWELL_TEST_RACES").ok().map_or(320, |count| count.parse().unwrap())
}

const PEOPLE: [&str; 8] = ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"];

fn number(n: usize) -> String {
    format!("+1202555015{n}")
}

/// Rounds in one practice.
const ROUNDS: usize = 25;

/// A practice with all the people.
async fn crowd(t: &TestStore, nth: usize) -> Scope {
    let scope = ready_practice(t, &format!("practice-{nth}")).await;
    let people = PEOPLE.iter().enumerate();
    let people = people.map(|(n, id)| Patient { mobile_phone: Some(phone(&number(n))), ..patient(id) });
    t.store.patients_put(&scope, people.collect()).await.unwrap();
    scope
}

/// Claims so many at once for as long as opt-outs come in, and once more after the last.
async fn claim_until(t: &TestStore, scope: &Scope, (worker, few): (u128, u64), over: &AtomicBool) -> Vec<Claimed> {
    let mut all = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let (claimed, seen) = claim_as(t, scope, Uuid::from_u128(worker), few).await;
        all.extend(claimed);
        if seen == 0 {
            tokio::task::yield_now().await;
        }
    }
    all
}

on_both! {
    #[expect(clippy::print_stdout, reason = "what was measured")]
    async fn no_attempt_begins_after_an_opt_out_was_answered(t: &TestStore) {
        let (mut begun, mut beaten) = (0, 0);
        let mut home = crowd(t, 0).await;
        for round in 0..races().div_ceil(PEOPLE.len()) {
            // Nobody decides thousands of times, and what each of them ever decided is read for each decision.
            if round > 0 && round.is_multiple_of(ROUNDS) {
                home = crowd(t, round / ROUNDS).await;
            }
            let scope = &home;
            let orders = PEOPLE.iter().map(|id| {
                let order = Order { patient: id, ..Order::new(&format!("{id}-{round}"), &[Channel::Sms]) };
                async move { order.accept(t, scope).await }
            });
            join_all(orders).await;
            let over = AtomicBool::new(false);
            // By form or by text, and what is said from a number counts like what is signed.
            let opt_out = async |n: usize| {
                if (n + round).is_multiple_of(2) {
                    let key = format!("o{n}-{round}");
                    let new = decision(&key, Channel::Sms, ConsentState::OptedOut, ConsentSource::Portal);
                    record(t, scope, NewConsent { patient: PEOPLE[n].parse().unwrap(), ..new }).await;
                } else {
                    let sid = u32::try_from(round * PEOPLE.len() + n).unwrap() * 2;
                    text(t, scope, sid, &number(n), Meaning::Stop).await;
                }
                // It was answered: whatever is claimed from now on is not this patient's.
                let before = begun_for(t, PEOPLE[n]).await;
                claim_as(t, scope, Uuid::from_u128(9), 3).await;
                assert_eq!(begun_for(t, PEOPLE[n]).await, before, "an attempt began after the answer");
            };
            let opt_outs = async {
                // SQLite's one writer takes whoever asks first: were all of them to ask at once, no claim would come between.
                let at_once = if round.is_multiple_of(2) { PEOPLE.len() } else { 2 };
                stream::iter(0..PEOPLE.len()).map(opt_out).buffer_unordered(at_once).collect::<()>().await;
                over.store(true, Ordering::SeqCst);
            };
            let few = 1 + round as u64 / 2 % 3;
            let workers = join_all((1..=3).map(|worker| claim_until(t, scope, (worker, few), &over)));
            let ((), hauls) = join(opt_outs, workers).await;
            assert!(claim(t, scope, 100).await.is_empty());
            let ended: Vec<_> = hauls
                .into_iter()
                .flatten()
                .map(|claimed| settlement(&claimed, accepted(&claimed.callback_token())))
                .collect();
            begun += ended.len();
            beaten += PEOPLE.len();
            settle_all(t, ended).await;
            rescue(t).await;
            for (n, id) in PEOPLE.iter().enumerate() {
                if (n + round).is_multiple_of(2) {
                    let key = format!("i{n}-{round}");
                    let new = decision(&key, Channel::Sms, ConsentState::OptedIn, ConsentSource::Portal);
                    record(t, scope, NewConsent { patient: id.parse().unwrap(), ..new }).await;
                } else {
                    let sid = u32::try_from(round * PEOPLE.len() + n).unwrap() * 2 + 1;
                    text(t, scope, sid, &number(n), Meaning::Start).await;
                }
            }
        }
        println!("{beaten} opt-outs raced; {begun} attempts began before theirs");
        proves(t).await;
    }

    async fn an_opt_out_in_the_middle_of_its_work_holds_up_the_claim(t: &TestStore) {
        if t.home.backend == Backend::Sqlite {
            // With one writer no claim can begin in the middle of an opt-out.
            return;
        }
        let scope = &ready_practice(t, NORTH).await;
        for (n, by_text) in [(1_u32, false), (2, true)] {
            Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, scope).await;
            // Whoever writes in the ledger waits here, with the gates in hand.
            t.raw.execute_unprepared("BEGIN").await.unwrap();
            t.raw.execute_unprepared("UPDATE consent_head SET seq = seq").await.unwrap();
            let opt_out = async {
                if by_text {
                    text(t, scope, n, "+12025550142", Meaning::Stop).await;
                } else {
                    record(t, scope, decision("c1", Channel::Sms, ConsentState::OptedOut, ConsentSource::Portal)).await;
                }
            };
            let claims = async {
                t.somebody_waits().await;
                claim(t, scope, 10).await
            };
            let release = async {
                waiting(t, 2).await;
                t.raw.execute_unprepared("COMMIT").await.unwrap();
            };
            let ((), (claimed, ())) = Box::pin(join(opt_out, join(claims, release))).await;
            assert!(claimed.is_empty(), "a claim passed an opt-out that was committing");
            if !by_text {
                record(t, scope, decision("c2", Channel::Sms, ConsentState::OptedIn, ConsentSource::Portal)).await;
            }
        }
        assert_eq!(t.number("SELECT count(*) FROM attempt").await, 0);
        proves(t).await;
    }

    async fn a_number_that_changes_hands_while_it_is_stopped_is_closed_for_its_new_owner(t: &TestStore) {
        let scope = &ready_practice(t, NORTH).await;
        for round in 0..20_u32 {
            let number = format!("+12025550{:03}", 160 + round % 40);
            let id = format!("new-{round}");
            let newcomer = Patient { mobile_phone: Some(phone(&number)), ..patient(&id) };
            join(
                async { t.store.patients_put(scope, vec![newcomer]).await.unwrap() },
                text(t, scope, 1_000 + round, &number, Meaning::Stop),
            )
            .await;
            let gates = t.store.grounds(scope, &id.parse().unwrap()).await.unwrap().gates[&Channel::Sms];
            assert_eq!((gates.patient, gates.address), (ConsentState::OptedOut, ConsentState::OptedOut), "{round}");
        }
        let own: BTreeSet<_> = ledger(t, scope).await.into_iter().map(|(id, ..)| id).filter(|id| !id.is_empty()).collect();
        assert_eq!(own.len(), 20, "each has an entry of their own");
        proves(t).await;
    }
}

/// How many attempts to reach the patient there are.
async fn begun_for(t: &TestStore, id: &str) -> i64 {
    let query = format!(
        "SELECT count(*) FROM attempt JOIN delivery ON delivery.id = attempt.delivery_id WHERE patient_id = '{id}'"
    );
    t.number(&query).await
}

/// Ends what was claimed and never begun.
async fn rescue(t: &TestStore) {
    t.advance(120);
    t.store.rescue(&t.engine, false).await.unwrap();
    for _ in 0..2 {
        t.advance(150);
        for doubt in t.store.doubts_due(&t.engine, 100).await.unwrap() {
            let look = heedwell::domain::Look::Absent;
            t.store.doubt_settle(&t.engine, &doubt, look, heedwell::domain::Facts::NONE, 0.0).await.unwrap();
        }
    }
}

/// Waits until that many statements wait for a lock.
async fn waiting(t: &TestStore, count: i64) {
    let other = t.home.raw().await;
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let wait = async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        loop {
            tick.tick().await;
            let statement = sea_orm::Statement::from_string(other.get_database_backend(), query);
            let row = other.query_one_raw(statement).await.unwrap().unwrap();
            if row.try_get_by_index::<i64>(0).unwrap() >= count {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.unwrap();
}
