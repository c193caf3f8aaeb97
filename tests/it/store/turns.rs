//! Whose turn it is, as far as the rows say it: classes, marks, pages of practices, and what must not hold up a claim.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join;
use heedwell::{
    domain::{Channel, Class, DeliveryState, FailureReason, PracticeId, Scope},
    store::{Asked, CLASSES, Leave, StoreError, Taken, Turn},
};
use uuid::Uuid;

use super::{
    given::{NORTH, Order, claim, claim_one, delivery, patient, practices_due, ready_practice, settle},
    *,
};
use crate::support::Backend;

fn turn(scope: &Scope, class: Class, limit: u64, mark: Option<DateTime<Utc>>) -> Turn {
    Turn { worker: Uuid::from_u128(1), practice: scope.practice().clone(), class, limit, mark }
}

async fn take(t: &TestStore, turn: Turn) -> Taken {
    t.store.claim(&t.engine, turn, |_| Leave::Now).await.unwrap()
}

async fn due_after(t: &TestStore, scope: &Scope, mark: DateTime<Utc>) -> Vec<(PracticeId, Class)> {
    let asked = Asked { practice: scope.practice().clone(), marks: [Some(mark); CLASSES] };
    t.store.practices_due(&t.engine, &[asked]).await.unwrap()
}

on_both! {
    async fn a_class_is_claimed_by_itself_and_named_when_it_is_due(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("normal", &[Channel::Sms]).accept(t, &scope).await;
        Order { urgent: true, ..Order::new("urgent", &[Channel::Sms]) }.accept(t, &scope).await;
        let name = scope.practice().clone();
        assert_eq!(due_after(t, &scope, t.now()).await, [(name.clone(), Class::Urgent), (name.clone(), Class::Normal)]);
        assert_eq!(take(t, turn(&scope, Class::Bulk, 10, None)).await.seen, 0);
        assert_eq!(take(t, turn(&scope, Class::Urgent, 10, None)).await.claimed.len(), 1);
        assert_eq!(due_after(t, &scope, t.now()).await, [(name, Class::Normal)]);
        assert_eq!(take(t, turn(&scope, Class::Normal, 10, None)).await.claimed.len(), 1);
        assert!(due_after(t, &scope, t.now()).await.is_empty());
    }

    async fn a_claim_begins_at_its_mark_and_says_where_the_next_may_begin(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let start = t.now();
        for n in 0..4 {
            Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, &scope).await;
            t.advance(60);
        }
        let minutes = |minutes| start + TimeDelta::minutes(minutes);
        let late = TimeDelta::seconds(5);
        // There may be more: the next begins with the newest of these, and whoever comes a little late.
        let first = take(t, turn(&scope, Class::Normal, 2, None)).await;
        assert_eq!((first.claimed.len(), first.seen, first.mark), (2, 2, minutes(1) - late));
        // The third lies below this one.
        let second = take(t, turn(&scope, Class::Normal, 10, Some(minutes(2) + late))).await;
        assert_eq!((second.claimed.len(), second.seen, second.mark), (1, 1, t.now() - late));
        assert!(due_after(t, &scope, second.mark).await.is_empty());
        assert_eq!(due_after(t, &scope, minutes(2)).await.len(), 1);
        assert_eq!(take(t, turn(&scope, Class::Normal, 10, Some(second.mark))).await.seen, 0);
        assert_eq!(take(t, turn(&scope, Class::Normal, 10, None)).await.claimed.len(), 1);
    }

    async fn practices_with_something_open_come_in_pages(t: &TestStore) {
        let mut names = BTreeSet::new();
        for n in 0..70 {
            let scope = ready_practice(t, &format!("practice-{n:02}")).await;
            // Open, and not due for a while: an open one is no due one.
            let schedule_time = (n % 2 == 0).then(|| t.now() + TimeDelta::hours(1));
            Order { schedule_time, ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
            names.insert(scope.practice().clone());
        }
        ready_practice(t, "practice-00-idle").await;
        let first = t.store.practices_open(&t.engine, None).await.unwrap();
        assert_eq!(first.len(), 64);
        let second = t.store.practices_open(&t.engine, first.last()).await.unwrap();
        assert_eq!(second.len(), 6);
        assert_eq!(t.store.practices_open(&t.engine, second.last()).await.unwrap(), []);
        assert_eq!(first.into_iter().chain(second).collect::<BTreeSet<_>>(), names);
        assert_eq!(practices_due(t).await.len(), 32, "half of the first page");
        assert_eq!(t.store.practices_due(&t.engine, &[]).await.unwrap(), []);
    }

    async fn a_patient_who_cannot_be_read_costs_only_their_own_messages(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("ann"), patient("bob")]).await.unwrap();
        let mut orders = Vec::new();
        for (n, patient) in ["ann", "maria", "bob", "ann", "maria"].into_iter().enumerate() {
            orders.push(Order { patient, ..Order::new(&format!("r{n}"), &[Channel::Sms]) }.accept(t, &scope).await);
        }
        t.execute("UPDATE patient SET contact_ct = (SELECT p.contact_ct FROM patient p WHERE p.patient_id = 'bob') \
                   WHERE patient_id = 'ann'").await;
        assert_eq!(claim(t, &scope, 10).await.len(), 3);
        for (n, order) in orders.iter().enumerate() {
            let delivery = delivery(t, &scope, order.deliveries[0].id).await;
            if n % 3 == 0 {
                assert_eq!(delivery.state, DeliveryState::Failed);
                assert_eq!(delivery.failure.unwrap().reason, FailureReason::Internal);
            } else {
                assert_eq!(delivery.state, DeliveryState::Pending);
            }
        }
        // They are all served.
        assert!(practices_due(t).await.is_empty());
    }

    async fn the_gate_of_another_channel_is_not_waited_for(t: &TestStore) {
        // SQLite has one writer, and no locks that could be held meanwhile.
        if t.home.backend == Backend::Sqlite {
            return;
        }
        let scope = ready_practice(t, NORTH).await;
        Order::new("mail", &[Channel::Email]).accept(t, &scope).await;
        let mail = claim_one(t, &scope).await;
        settle(t, &mail, given::accepted("")).await;
        Order::new("text", &[Channel::Sms]).accept(t, &scope).await;
        t.execute("BEGIN").await;
        t.execute("SELECT 1 FROM recipient_gate WHERE channel = 2 FOR UPDATE").await;
        claim_one(t, &scope).await;
        t.execute("COMMIT").await;
    }

    async fn a_claim_that_takes_too_long_takes_nothing(t: &TestStore) {
        // SQLite has no time-outs of statements.
        if t.home.backend == Backend::Sqlite {
            return;
        }
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        // It waits for what nobody will ever do; the lock time-out does not end it.
        t.execute("CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                   PERFORM set_config('lock_timeout', '0', true), pg_advisory_xact_lock(7); RETURN NEW; END $$").await;
        t.execute("CREATE TRIGGER stall BEFORE INSERT ON attempt FOR EACH ROW EXECUTE FUNCTION stall()").await;
        t.execute("SELECT pg_advisory_lock(7)").await;
        // Others may take five seconds; this one gives way before.
        let release = async {
            tokio::time::timeout(std::time::Duration::from_millis(3_500), std::future::pending::<()>()).await.unwrap_err();
            t.execute("SELECT pg_advisory_unlock(7)").await;
        };
        let stalled = t.store.claim(&t.engine, turn(&scope, Class::Normal, 10, None), |_| Leave::Now);
        let (stalled, ()) = join(stalled, release).await;
        assert!(matches!(stalled, Err(StoreError::Busy(_))), "{stalled:?}");
        assert_eq!(t.number("SELECT count(*) FROM attempt").await, 0);
        t.execute("DROP TRIGGER stall ON attempt").await;
        t.execute("DROP FUNCTION stall").await;
        claim_one(t, &scope).await;
    }
}
