//! Addresses that are dead: one word of a mail host is enough where it is clear, and two where it is not.

use heedwell::domain::{Channel, FailureReason, NO_SUCH_USER, Patient, Scope, Verdict};

use super::{
    given::{NORTH, claimed, email, patient, ready_practice, settle},
    *,
};

async fn suppressed(t: &TestStore, scope: &Scope) -> Option<FailureReason> {
    let grounds = t.store.grounds(scope, &"maria".parse().unwrap()).await.unwrap();
    grounds.gates[&Channel::Email].suppressed
}

/// A mail to `maria` that a mail host refuses.
async fn refused(t: &TestStore, scope: &Scope, request_id: &str, reason: FailureReason, code: &str) {
    let claimed = claimed(t, scope, request_id, Channel::Email).await;
    settle(t, &claimed, Verdict::Refused { reason, code: code.into() }).await;
    let shown = given::delivery(t, scope, claimed.id).await.failure.unwrap();
    assert_eq!((shown.reason, shown.provider_code.as_str()), (reason, code));
}

/// The directory says that `maria` has this mailbox now.
async fn moved(t: &TestStore, scope: &Scope, mailbox: &str) {
    let maria = Patient { email: Some(email(mailbox)), ..patient("maria") };
    t.store.patients_put(scope, vec![maria]).await.unwrap();
}

on_both! {
    async fn what_is_said_in_words_alone_counts_the_second_time(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        refused(t, &scope, "r1", FailureReason::Unreachable, NO_SUCH_USER).await;
        assert_eq!(suppressed(t, &scope).await, None);
        refused(t, &scope, "r2", FailureReason::Unreachable, NO_SUCH_USER).await;
        assert_eq!(suppressed(t, &scope).await, Some(FailureReason::InvalidAddress));
        // Entered anew it is tried again, and what was said before counts no more.
        moved(t, &scope, "other@example.com").await;
        moved(t, &scope, "maria@example.com").await;
        assert_eq!(suppressed(t, &scope).await, None);
        refused(t, &scope, "r3", FailureReason::Unreachable, NO_SUCH_USER).await;
        assert_eq!(suppressed(t, &scope).await, None);
        moved(t, &scope, "other@example.com").await;
        moved(t, &scope, "maria@example.com").await;
        refused(t, &scope, "r4", FailureReason::Unreachable, NO_SUCH_USER).await;
        assert_eq!(suppressed(t, &scope).await, None, "the first was said of an address that was entered anew since");
    }

    async fn what_speaks_of_the_mailbox_counts_at_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        refused(t, &scope, "r1", FailureReason::InvalidAddress, "550 5.1.1").await;
        assert_eq!(suppressed(t, &scope).await, Some(FailureReason::InvalidAddress));
    }

    async fn what_speaks_of_anything_else_never_counts(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for (n, (reason, code)) in [
            (FailureReason::Unreachable, "552 5.2.2"),
            (FailureReason::Unreachable, "550"),
            (FailureReason::Blocked, "550 5.7.1"),
            (FailureReason::Blocked, NO_SUCH_USER),
            (FailureReason::Other, "554"),
        ]
        .into_iter()
        .cycle()
        .take(10)
        .enumerate()
        {
            refused(t, &scope, &format!("r{n}"), reason, code).await;
            assert_eq!(suppressed(t, &scope).await, None, "{code}");
        }
    }
}
