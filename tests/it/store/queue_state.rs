//! How the queue stands, as metrics tell it.

use std::time::Duration;

use heedwell::{
    domain::{Channel, Class, Verdict},
    telemetry::QueueState,
};

use super::{
    given::{NORTH, Order, SOUTH, accepted, claim, claim_one, claimed, ready_practice, settle},
    *,
};

async fn state(t: &TestStore) -> QueueState {
    t.store.queue_state(&t.engine).await.unwrap()
}

fn of(state: &QueueState, class: Class) -> (i64, u64) {
    let (_, depth, oldest) = state.classes.iter().find(|(of, ..)| *of == class).unwrap();
    (*depth, oldest.as_secs())
}

on_both! {
    async fn the_oldest_that_is_due_is_told_and_how_many_are_not_finished(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        assert_eq!(of(&state(t).await, Class::Normal), (0, 0));
        Order::new("r1", &[Channel::Sms]).accept(t, &north).await;
        t.advance(60);
        Order::new("r2", &[Channel::Sms]).accept(t, &south).await;
        t.advance(30);
        let seen = state(t).await;
        assert_eq!((of(&seen, Class::Normal), of(&seen, Class::Urgent), of(&seen, Class::Bulk)), ((2, 90), (0, 0), (0, 0)));
        let one = claim_one(t, &north).await;
        assert_eq!((one.late, of(&state(t).await, Class::Normal)), (Duration::from_secs(90), (2, 30)), "what is claimed is not due");
        settle(t, &one, accepted("SM1")).await;
        assert_eq!(of(&state(t).await, Class::Normal), (1, 30));
        let connections = state(t).await.connections;
        let most = connections.iter().filter(|(_, kind, _)| *kind == "max");
        assert!(most.map(|(.., count)| count).sum::<u64>() >= 5 && connections.len() >= 4, "{connections:?}");
    }

    async fn leases_that_ended_doubts_and_the_use_of_keys_are_told(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let one = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(60);
        assert_eq!(state(t).await.expired_lease, Duration::ZERO);
        t.advance(7);
        let seen = state(t).await;
        assert_eq!((seen.expired_lease, seen.unconfirmed), (Duration::from_secs(7), 0));
        settle(t, &one, Verdict::Unknown { code: "timeout".into() }).await;
        let seen = state(t).await;
        assert_eq!((seen.expired_lease, seen.unconfirmed), (Duration::ZERO, 1));
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(seen.quiet, None);
        t.execute("UPDATE instance SET state = 2").await;
        assert_eq!(state(t).await.quiet, Some("copy"));
        t.execute("UPDATE instance SET state = 0").await;
        t.execute("UPDATE data_key SET uses = 2147483648").await;
        assert!((state(t).await.key_use - 2_147_483_648.0 / heedwell::crypto::DATA_KEY_USES as f64).abs() < 1e-9);
    }
}
