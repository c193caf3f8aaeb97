//! What holds at every moment, whatever was done: checked after each test of the store, and after each step of its
//! walk.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta};
use heedwell::{
    domain::{
        Channel, Delivery, DeliveryChange, DeliveryFilter, DeliveryId, DeliveryState, DeliveryStats, Facts, Hours,
        NotificationId, PracticeId, shown,
    },
    store::{Anchored, Finding},
};

use super::TestStore;

pub(crate) async fn check(t: &TestStore) {
    let mut open = 0;
    for practice in t.practices().await {
        let changes = feed_is_dense(t, &practice).await;
        let deliveries = deliveries(t, &practice).await;
        feed_tells_what_is_stored(t, &practice, &changes, &deliveries).await;
        open += counters_are_right(t, &practice).await;
        statistics_are_right(t, &practice, &deliveries).await;
        trail_is_whole(t, &practice).await;
    }
    assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), open);
    states_follow_from_facts(t).await;
    rows_fit_together(t).await;
}

/// Reads the whole feed, page by page, without a gap.
async fn feed_is_dense(t: &TestStore, practice: &PracticeId) -> Vec<DeliveryChange> {
    let scope = t.scope(practice.as_str());
    let bounds = t.store.feed_bounds(&scope).await.unwrap();
    let (mut position, mut changes) = (bounds.earliest, Vec::new());
    loop {
        let page = t.store.feed_read_after(&scope, position, 7).await.unwrap();
        let told = page.changes.len() + page.marked.len() + page.talk.len();
        assert_eq!(page.position - position, i64::try_from(told).unwrap(), "a gap after {position}");
        position = page.position;
        changes.extend(page.changes);
        if !page.full {
            break;
        }
    }
    assert_eq!(position, bounds.newest);
    changes
}

/// Every delivery of the practice, page by page.
async fn deliveries(t: &TestStore, practice: &PracticeId) -> BTreeMap<DeliveryId, Delivery> {
    let scope = t.scope(practice.as_str());
    let (mut after, mut all) = (None, BTreeMap::new());
    loop {
        let filter = DeliveryFilter::default();
        let page = t.store.deliveries_list(&scope, &filter, (None, None), after, 50).await.unwrap();
        all.extend(page.deliveries.into_iter().map(|delivery| (delivery.id, delivery)));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// Revisions are dense, each change names the state before it, and the last one shows the delivery as it is stored.
async fn feed_tells_what_is_stored(
    t: &TestStore,
    practice: &PracticeId,
    changes: &[DeliveryChange],
    deliveries: &BTreeMap<DeliveryId, Delivery>,
) {
    let earliest = t.store.feed_bounds(&t.scope(practice.as_str())).await.unwrap().earliest;
    let mut last = BTreeMap::<DeliveryId, &Delivery>::new();
    for change in changes {
        match last.insert(change.delivery.id, &change.delivery) {
            Some(before) => {
                assert_eq!(change.delivery.revision, before.revision + 1);
                assert_eq!(change.previous_state, Some(before.state));
                assert!(may_follow(before, change.delivery.state), "{before:?} became {:?}", change.delivery);
                let same = Delivery { revision: before.revision, ..change.delivery.clone() };
                assert_ne!(same, *before, "a change that shows no difference");
            }
            None if earliest == 0 => {
                assert_eq!((change.delivery.revision, change.previous_state), (1, None));
            }
            None => {}
        }
    }
    if earliest == 0 {
        assert_eq!(last.len(), deliveries.len());
    }
    for (id, image) in last {
        assert_eq!(Some(image), deliveries.get(&id));
    }
}

/// The moves that are left when facts are only added and each is written where it may be.
fn may_follow(before: &Delivery, after: DeliveryState) -> bool {
    use DeliveryState::{Delivered, Failed, Pending, Sent, Unconfirmed};
    before.state == after
        || match before.state {
            Pending => true,
            Unconfirmed => matches!(after, Sent | Delivered | Failed),
            Sent => matches!(after, Delivered | Failed),
            Failed => after == Delivered,
            // The receiving host took the mail and could not deliver it after all.
            Delivered => after == Failed && before.channel == Channel::Email,
            DeliveryState::Skipped | DeliveryState::Cancelled => false,
        }
}

/// The counters of the head row are what counting yields. Says how many deliveries are open.
async fn counters_are_right(t: &TestStore, practice: &PracticeId) -> i64 {
    let mut open = 0;
    for class in 0..3 {
        let query = format!("SELECT open{class} FROM feed_head WHERE practice_id = '{practice}'");
        let kept = t.number(&query).await;
        let query =
            format!("SELECT count(*) FROM delivery WHERE practice_id = '{practice}' AND class = {class} AND phase < 3");
        assert_eq!(kept, t.number(&query).await, "{practice}, class {class}");
        open += kept;
    }
    open
}

/// Statistics are what counting yields, however much of it is counted already.
async fn statistics_are_right(t: &TestStore, practice: &PracticeId, deliveries: &BTreeMap<DeliveryId, Delivery>) {
    let head = format!("SELECT coalesce(max(counted), 0) FROM delivery_count_head WHERE practice_id = '{practice}'");
    if t.store.feed_bounds(&t.scope(practice.as_str())).await.unwrap().earliest > t.number(&head).await {
        // A test took changes away before they were counted, which the server never does.
        return;
    }
    let mut counted = DeliveryStats::default();
    for delivery in deliveries.values() {
        counted.states.entry(delivery.channel).or_default().add(delivery.state, 1);
        if let Some(failure) = &delivery.failure {
            *counted.failures.entry((delivery.channel, failure.reason)).or_default() += 1;
        }
    }
    let ever = Hours::covering(DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + TimeDelta::days(100 * 365));
    for limit in [0, 3, 1_000] {
        t.store.deliveries_count(&t.engine, limit).await.unwrap();
        let stats = t.store.delivery_stats(&t.scope(practice.as_str()), ever.clone(), &[]).await.unwrap();
        assert_eq!(stats, counted, "{practice}, {limit} changes later");
    }
}

/// The audit trail holds, and tells of each notification that somebody sent.
async fn trail_is_whole(t: &TestStore, practice: &PracticeId) {
    let proof = t.store.ledger_prove(&t.engine, practice, &Anchored::default()).await.unwrap();
    let flaws: Vec<_> = proof.findings.into_iter().filter(|finding| matches!(finding, Finding::Trail(_))).collect();
    assert_eq!(flaws, [], "{practice}");
    let (mut told, mut position) = (BTreeSet::new(), 0);
    loop {
        let records = t.store.audit_after(&t.scope(practice.as_str()), position).await.unwrap();
        let Some(last) = records.last() else { break };
        position = last.position;
        told.extend(records.into_iter().map(|record| record.event.resource));
    }
    // Those that a broadcast or a message of a conversation makes are told by it.
    let query = format!(
        "SELECT id FROM notification WHERE practice_id = '{practice}' AND request_id <> '' AND broadcast_id IS NULL"
    );
    for row in t.rows(&query).await {
        let id = NotificationId(row.try_get_by_index(0).unwrap());
        assert!(told.contains(&format!("notification/{id}")), "{practice}: {id}");
    }
}

async fn states_follow_from_facts(t: &TestStore) {
    for row in t.rows("SELECT channel, facts, state FROM delivery").await {
        let channel = Channel::from_number(row.try_get_by_index(0).unwrap()).unwrap();
        let facts = Facts::from_bits(row.try_get_by_index(1).unwrap());
        assert_eq!(Some(shown(channel, facts)), DeliveryState::from_number(row.try_get_by_index(2).unwrap()));
    }
}

#[expect(clippy::too_many_lines, reason = "a list reads better whole")]
async fn rows_fit_together(t: &TestStore) {
    let wrong = [
        (
            "a claim without its holder or lease",
            "SELECT count(*) FROM delivery WHERE phase = 1 AND (claimed_by IS NULL OR lease_until IS NULL)",
        ),
        ("a holder without a claim", "SELECT count(*) FROM delivery WHERE phase <> 1 AND claimed_by IS NOT NULL"),
        (
            "a lease of a delivery that nobody works on",
            "SELECT count(*) FROM delivery WHERE phase IN (0, 3) AND lease_until IS NOT NULL",
        ),
        (
            "an attempt that is past and has no verdict",
            "SELECT count(*) FROM attempt a JOIN delivery d ON d.id = a.delivery_id \
             WHERE a.verdict IS NULL AND NOT (d.phase = 1 AND d.attempts = a.n)",
        ),
        (
            "an attempt with a verdict and no end, or the reverse",
            "SELECT count(*) FROM attempt WHERE (verdict IS NULL) <> (ended_at IS NULL)",
        ),
        (
            "attempts that are not counted, or not numbered from 1",
            "SELECT count(*) FROM delivery d WHERE d.channel <> 1 AND (d.attempts, d.attempts) <> \
             (SELECT count(*), coalesce(max(n), 0) FROM attempt a WHERE a.delivery_id = d.id AND n > 0) AND (d.phase < 3 \
             OR EXISTS (SELECT 1 FROM delivery_event e WHERE e.delivery_id = d.id AND e.n = 1))",
        ),
        (
            "lines of a timeline that are not counted, or not numbered from 1",
            "SELECT count(*) FROM delivery d WHERE (d.events, d.events) <> \
             (SELECT count(*), max(n) FROM delivery_event e WHERE e.delivery_id = d.id AND n > 0) AND (d.phase < 3 \
             OR EXISTS (SELECT 1 FROM delivery_event e WHERE e.delivery_id = d.id AND e.n = 1))",
        ),
        (
            "a history that is gone, and attempts of it that are not",
            "SELECT count(*) FROM attempt a WHERE NOT EXISTS \
             (SELECT 1 FROM delivery_event e WHERE e.delivery_id = a.delivery_id AND e.n = 1)",
        ),
        (
            "a timeline that does not end in the state",
            "SELECT count(*) FROM delivery d JOIN delivery_event e ON e.delivery_id = d.id AND e.n = d.events \
             WHERE e.state <> d.state",
        ),
        (
            "a stored in-app delivery that has its text and no item",
            "SELECT count(*) FROM delivery d WHERE d.channel = 1 AND d.state = 4 \
             AND EXISTS (SELECT 1 FROM content c WHERE c.delivery_id = d.id) \
             AND NOT EXISTS (SELECT 1 FROM inbox_item i WHERE i.delivery_id = d.id) \
             AND NOT EXISTS (SELECT 1 FROM erasure e WHERE e.practice_id = d.practice_id AND e.patient_id = d.patient_id \
             AND e.erase_time >= d.create_time)",
        ),
        (
            "a notification without deliveries",
            "SELECT count(*) FROM notification n WHERE NOT EXISTS (SELECT 1 FROM delivery d WHERE d.source_id = n.id)",
        ),
        (
            "a failure without its reason",
            "SELECT count(*) FROM delivery WHERE state = 5 AND (failure_reason IS NULL OR failure_time IS NULL)",
        ),
        (
            "a retry that its original does not name, or the reverse",
            "SELECT count(*) FROM delivery d WHERE (d.retry_of IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM delivery o WHERE o.id = d.retry_of AND o.retried_by = d.id AND o.id < d.id)) \
             OR (d.retried_by IS NOT NULL AND NOT EXISTS \
             (SELECT 1 FROM delivery r WHERE r.id = d.retried_by AND r.retry_of = d.id))",
        ),
        (
            "a cancelled delivery of which more is known than that it never left",
            "SELECT count(*) FROM delivery d JOIN attempt a ON a.delivery_id = d.id WHERE d.state = 7 AND a.verdict <> 2",
        ),
        (
            "one that is called skipped or cancelled although it may have left",
            "SELECT count(*) FROM delivery WHERE facts & 6144 <> 0 AND facts & 49152 <> 0",
        ),
        (
            "a delivery that waits and is to be stopped",
            "SELECT count(*) FROM delivery WHERE phase = 0 AND flags & 8 <> 0",
        ),
        (
            "devices of a patient that are not counted, or more than there may be",
            "SELECT count(*) FROM patient p WHERE p.push_devices > 20 OR p.push_devices <> \
             (SELECT count(*) FROM push_device d WHERE d.practice_id = p.practice_id AND d.patient_id = p.patient_id)",
        ),
        (
            "an item that was read and whose delivery was not",
            "SELECT count(*) FROM inbox_item i JOIN delivery d ON d.id = i.delivery_id \
             WHERE i.read_time IS NOT NULL AND (d.open_time IS NULL OR d.facts & 256 = 0)",
        ),
        ("a counter that counts nothing", "SELECT count(*) FROM delivery_count WHERE count = 0"),
        (
            "a conversation whose counts are not those of its messages",
            // Counted in one go: one after the other takes minutes where one conversation has nearly all messages.
            "SELECT count(*) FROM conversation c LEFT JOIN (SELECT conversation_id, \
             sum(CASE news_for WHEN 1 THEN 1 ELSE 0 END) AS inbound, \
             sum(CASE news_for WHEN 2 THEN 1 ELSE 0 END) AS outbound \
             FROM conversation_message GROUP BY conversation_id) AS m ON m.conversation_id = c.id \
             WHERE c.moved_to IS NULL AND \
             (c.inbound_count, c.outbound_count) <> (coalesce(m.inbound, 0), coalesce(m.outbound, 0))",
        ),
        (
            "a message whose rank is not how many came before it",
            "SELECT count(*) FROM (SELECT inbound_rank, outbound_rank, \
             sum(CASE news_for WHEN 1 THEN 1 ELSE 0 END) OVER (PARTITION BY conversation_id ORDER BY id) AS inbound, \
             sum(CASE news_for WHEN 2 THEN 1 ELSE 0 END) OVER (PARTITION BY conversation_id ORDER BY id) AS outbound \
             FROM conversation_message) AS m WHERE inbound_rank <> inbound OR outbound_rank <> outbound",
        ),
        (
            "a conversation that does not name its last message, or is older than it",
            "SELECT count(*) FROM conversation c JOIN conversation_message m ON m.conversation_id = c.id \
             WHERE m.id > c.last_message_id OR m.create_time > c.last_time",
        ),
        (
            "a message of a conversation that leads elsewhere, or of none",
            "SELECT count(*) FROM conversation_message m LEFT JOIN conversation c \
             ON c.id = m.conversation_id AND c.practice_id = m.practice_id WHERE c.id IS NULL OR c.moved_to IS NOT NULL",
        ),
        (
            "a text of staff without its delivery, or a delivery without its message",
            "SELECT count(*) FROM delivery d WHERE d.source_kind = 2 AND NOT EXISTS \
             (SELECT 1 FROM conversation_message m WHERE m.id = d.source_id AND m.practice_id = d.practice_id) \
             AND NOT EXISTS (SELECT 1 FROM erasure e WHERE e.practice_id = d.practice_id AND e.patient_id = d.patient_id \
             AND e.erase_time >= d.create_time)",
        ),
        (
            "a broadcast whose counts are not those of its deliveries and of those that it has still to make",
            "SELECT count(*) FROM (SELECT broadcast.*, (recipients - reached) * (((channels >> 1) & 1) + \
             ((channels >> 2) & 1) + ((channels >> 3) & 1) + ((channels >> 4) & 1)) AS unmade FROM broadcast) AS b WHERE \
             (pending - CASE WHEN cancel_time IS NULL THEN unmade ELSE 0 END, unconfirmed, sent, delivered, failed, skipped, \
             cancelled - CASE WHEN cancel_time IS NULL THEN 0 ELSE unmade END) <> (SELECT \
             count(CASE WHEN d.state = 1 THEN 1 END), count(CASE WHEN d.state = 2 THEN 1 END), \
             count(CASE WHEN d.state = 3 THEN 1 END), count(CASE WHEN d.state = 4 THEN 1 END), \
             count(CASE WHEN d.state = 5 THEN 1 END), count(CASE WHEN d.state = 6 THEN 1 END), \
             count(CASE WHEN d.state = 7 THEN 1 END) FROM delivery d WHERE d.broadcast_id = b.id)",
        ),
        (
            "a broadcast whose counts do not add up to its recipients over its channels and what was sent again",
            "SELECT count(*) FROM broadcast b WHERE pending + unconfirmed + sent + delivered + failed + skipped + cancelled \
             <> recipients * (((channels >> 1) & 1) + ((channels >> 2) & 1) + ((channels >> 3) & 1) + ((channels >> 4) & 1)) \
             + (SELECT count(*) FROM delivery d WHERE d.broadcast_id = b.id AND d.retry_of IS NOT NULL)",
        ),
        (
            "a recipient of a broadcast who does not have one delivery a channel",
            "SELECT count(*) FROM (SELECT d.patient_id FROM delivery d JOIN broadcast b ON b.id = d.broadcast_id \
             WHERE d.retry_of IS NULL GROUP BY d.broadcast_id, d.patient_id, b.channels HAVING count(*) <> \
             (((b.channels >> 1) & 1) + ((b.channels >> 2) & 1) + ((b.channels >> 3) & 1) + ((b.channels >> 4) & 1))) AS odd",
        ),
        (
            "an address that a broadcast writes to twice",
            "SELECT count(*) FROM (SELECT d.broadcast_id FROM delivery d WHERE d.broadcast_id IS NOT NULL AND d.retry_of IS NULL \
             AND d.address_bi IS NOT NULL AND d.state IN (2, 3, 4) \
             GROUP BY d.broadcast_id, d.channel, d.address_bi HAVING count(*) > 1) AS twice",
        ),
        (
            "a broadcast that is complete and not planned, or planned and settled and not complete",
            "SELECT count(*) FROM broadcast b WHERE (complete_time IS NOT NULL AND NOT planned) \
             OR (complete_time IS NULL AND planned AND pending = 0)",
        ),
        ("a skip without its reason", "SELECT count(*) FROM delivery WHERE state = 6 AND skip_reason IS NULL"),
    ];
    for (what, query) in wrong {
        assert_eq!(t.number(query).await, 0, "{what}");
    }
}
