//! Broadcasts: planned once a recipient whatever happens meanwhile, stopped at any moment, and counted as their deliveries change.
//! That the counts are those of the deliveries is checked after each test.

mod guards;

use std::collections::BTreeSet;

use chrono::TimeDelta;
use heedwell::{
    crypto::new_id,
    domain::{
        Announcement, Audience, Broadcast, BroadcastId, BroadcastState, Channel, Class, ConsentSource, ConsentState,
        Content, Delivery, DeliveryFilter, DeliveryId, DeliveryState, Facts, FailureReason, Kind, Look, NotificationId,
        Patient, Phi, Planner, Scope, SkipReason, Source, Verdict,
    },
    store::{
        Created, NewBroadcast, NewConsent, NewDelivery, NewNotification, NewRetry, Over, PlanTurn, Retried, SharePage,
        StoreError,
    },
};

use super::{
    consent::{decision, record},
    given::{
        NORTH, Order, SOUTH, accepted, claim, last_line, look_twice, patient, phone, ready_practice, report, settle,
        settle_all, settlement, unknown,
    },
    *,
};

/// So many recipients to a page of these tests.
const PAGE: usize = 3;

/// Patients of their own numbers, besides `maria`.
async fn people(t: &TestStore, scope: &Scope, count: usize) {
    let one =
        |n: usize| Patient { mobile_phone: Some(phone(&format!("+1202555{:04}", 1000 + n))), ..patient(&name(n)) };
    t.store.patients_put(scope, (0..count).map(one).collect()).await.unwrap();
}

fn name(n: usize) -> String {
    format!("p{n:03}")
}

pub(super) fn new(t: &TestStore, key: &str, channels: &[Channel]) -> NewBroadcast {
    NewBroadcast {
        id: BroadcastId(new_id(t.now())),
        request_id: key.into(),
        fingerprint: [1; 32],
        announcement: Announcement {
            title: Phi::new("Closed on Friday".into()),
            subject: Phi::new("Closed".into()),
            body: Phi::new("Dear {{first_name}}, we are closed on Friday.".into()),
        },
        audience: Audience::All,
        channels: channels.iter().copied().collect(),
        schedule_time: None,
        expected: 1_000,
    }
}

async fn create(t: &TestStore, scope: &Scope, new: NewBroadcast) -> Broadcast {
    match t.store.broadcast_create(scope, new).await.unwrap() {
        Created::New(made) => made,
        other => panic!("not made anew: {other:?}"),
    }
}

/// A broadcast by text to everybody.
async fn texts(t: &TestStore, scope: &Scope) -> Broadcast {
    create(t, scope, new(t, "r1", &[Channel::Sms])).await
}

async fn turn(t: &TestStore) -> PlanTurn {
    t.store.broadcast_turn(&t.engine).await.unwrap().unwrap()
}

async fn no_turn(t: &TestStore) {
    assert!(t.store.broadcast_turn(&t.engine).await.unwrap().is_none(), "nothing is to be done");
}

/// The next page, decided on as the server does.
async fn page(t: &TestStore, turn: &PlanTurn) -> SharePage {
    let all = t.store.audience_page(&turn.scope, &turn.broadcast.audience, &turn.position, PAGE).await.unwrap();
    let asked: Vec<_> = all.members.iter().flat_map(|member| member.addresses.clone()).collect();
    let before = t.store.broadcast_taken(turn, asked).await.unwrap();
    let mut planner = Planner::new(turn.broadcast.channels, turn.due_time, before);
    let (mut shares, mut taken) = (Vec::new(), Vec::new());
    for member in all.members {
        let address = |channel| member.addresses.get(&channel).copied();
        let share = planner.share(&member.grounds.grounds(Kind::Announcement), address);
        let used = share.decisions.iter().filter(|decision| decision.uses());
        taken.extend(used.filter_map(|it| Some((it.channel, address(it.channel)?))));
        let considered = share.decisions.iter().filter(|decision| decision.considered);
        let over = turn.canceller.is_some().then_some(Over::Cancelled);
        let deliveries = considered.map(|decision| NewDelivery {
            id: DeliveryId(new_id(t.now())),
            channel: decision.channel,
            content: (decision.uses() && over.is_none()).then(|| Content {
                text: Phi::new("We are closed.".into()),
                sms_segments: 1,
                ..Content::default()
            }),
            over,
        });
        shares.push(NewNotification {
            id: NotificationId(new_id(t.now())),
            request_id: String::new(),
            fingerprint: [0; 32],
            kind: Kind::Announcement,
            reference: String::new(),
            urgent: false,
            security: false,
            requested: Some(turn.broadcast.channels),
            schedule_time: None,
            expire_time: share.expire_time,
            default_expiry: true,
            visit_time: None,
            deliveries: deliveries.collect(),
            decisions: share.decisions,
            links: Vec::new(),
            broadcast: Some(turn.broadcast.id),
            patient: member.grounds.patient,
        });
    }
    SharePage { shares, taken, next: all.next }
}

/// Makes the next page. Yields the turn as it is then.
async fn plan(t: &TestStore, turn: PlanTurn) -> Option<PlanTurn> {
    let page = page(t, &turn).await;
    t.store.broadcast_plan(turn, page).await.unwrap()
}

/// Makes all pages that are left.
async fn plan_all(t: &TestStore) {
    let mut next = Some(turn(t).await);
    while let Some(turn) = next {
        next = plan(t, turn).await;
    }
}

async fn get(t: &TestStore, scope: &Scope, id: BroadcastId) -> Broadcast {
    t.store.broadcast_get(scope, id).await.unwrap()
}

/// The counts that are not zero.
fn counts(broadcast: &Broadcast) -> Vec<(DeliveryState, i64)> {
    let all = DeliveryState::ALL.into_iter().map(|state| (state, broadcast.counts.of(state)));
    all.filter(|(_, count)| *count != 0).collect()
}

async fn counted(t: &TestStore, scope: &Scope, id: BroadcastId) -> Vec<(DeliveryState, i64)> {
    counts(&get(t, scope, id).await)
}

/// The deliveries of a broadcast, newest first.
async fn shares(t: &TestStore, scope: &Scope, id: BroadcastId) -> Vec<Delivery> {
    let filter = DeliveryFilter { broadcast: Some(id.0), ..DeliveryFilter::default() };
    t.store.deliveries_list(scope, &filter, (None, None), None, 1_000).await.unwrap().deliveries
}

async fn share_of(t: &TestStore, scope: &Scope, id: BroadcastId, patient: &str) -> Delivery {
    let of = |it: &Delivery| it.patient.as_ref().is_some_and(|id| id.as_str() == patient);
    shares(t, scope, id).await.into_iter().find(of).unwrap()
}

/// Stops a cancelled broadcast, page by page, as the server does.
async fn stop_all(t: &TestStore, turn: &PlanTurn) {
    let scope = turn.scope.by(turn.canceller.clone().unwrap());
    let mut after = None;
    loop {
        after = t.store.broadcast_stop((&scope, turn.broadcast.id), Some(turn), after, 2).await.unwrap();
        if after.is_none() {
            return;
        }
    }
}

/// Does all that is left to do for a cancelled broadcast.
async fn finish(t: &TestStore) {
    let taken = turn(t).await;
    stop_all(t, &taken).await;
    let mut next = Some(taken.clone()).filter(|turn| !turn.planned);
    if next.is_none() {
        t.store.broadcast_leave(&taken, None).await.unwrap();
    }
    while let Some(turn) = next {
        next = plan(t, turn).await;
    }
    // Whatever the pages made is over already.
    no_turn(t).await;
}

on_both! {
    async fn a_page_and_how_far_it_goes_commit_together(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 6).await;
        let made = create(t, &scope, new(t, "r1", &[Channel::Sms, Channel::Email])).await;
        assert_eq!((made.state, made.recipients, made.start_time), (BroadcastState::Running, 7, Some(t.now())));
        assert_eq!(counts(&made), [(DeliveryState::Pending, 14)]);

        let first = turn(t).await;
        no_turn(t).await;
        let second = plan(t, first).await.unwrap();
        // Whoever had the turn is gone: it is somebody else's after half a minute, who goes on where it ended.
        let lost = page(t, &second).await;
        t.advance(31);
        let heir = turn(t).await;
        assert_eq!(heir.position, second.position);
        assert_eq!(shares(t, &scope, made.id).await.len(), 6);
        let heir = plan(t, heir).await.unwrap();
        // It was only slow, and comes back with what has been made since.
        assert!(t.store.broadcast_plan(second, lost).await.unwrap().is_none());
        assert_eq!(shares(t, &scope, made.id).await.len(), 12);
        assert!(plan(t, heir).await.is_none());

        let all = shares(t, &scope, made.id).await;
        let whom: BTreeSet<_> = all.iter().map(|it| (it.patient.clone().unwrap(), it.channel)).collect();
        assert_eq!((all.len(), whom.len()), (14, 14));
        assert_eq!(counted(t, &scope, made.id).await, [(DeliveryState::Pending, 14)]);
        t.advance(60);
        no_turn(t).await;
    }

    async fn a_page_that_fails_leaves_nothing_behind(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 2).await;
        let made = texts(t, &scope).await;
        let taken = turn(t).await;
        let mut broken = page(t, &taken).await;
        // Without its decision it cannot be written.
        broken.shares[2].decisions.clear();
        assert!(t.store.broadcast_plan(taken.clone(), broken).await.is_err());
        assert!(shares(t, &scope, made.id).await.is_empty());
        assert_eq!(t.number("SELECT count(*) FROM broadcast_address").await, 0);
        t.store.broadcast_leave(&taken, Some(TimeDelta::seconds(2))).await.unwrap();
        no_turn(t).await;
        t.advance(2);
        plan_all(t).await;
        assert_eq!(counted(t, &scope, made.id).await, [(DeliveryState::Pending, 3)]);
    }

    async fn whoever_comes_and_goes_while_it_is_planned_is_counted_in_the_end(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 6).await;
        let made = texts(t, &scope).await;
        assert_eq!(made.recipients, 7);
        let next = plan(t, turn(t).await).await.unwrap();
        // Two before the next page, one of whom comes too late; another is inactive by now.
        let late = |id: &str, end: u16| Patient { mobile_phone: Some(phone(&format!("+1202555{end}"))), ..patient(id) };
        t.store.patients_put(&scope, vec![late("late", 2001), late("zoe", 2002)]).await.unwrap();
        t.store.patients_put(&scope, vec![Patient { inactive: true, ..late(&name(4), 1004) }]).await.unwrap();
        let mut next = Some(next);
        while let Some(turn) = next {
            next = plan(t, turn).await;
        }
        let whom = shares(t, &scope, made.id).await.len();
        let now = get(t, &scope, made.id).await;
        assert_eq!((now.recipients, counts(&now), whom), (7, vec![(DeliveryState::Pending, 7)], 7));
    }

    async fn of_a_shared_number_and_mailbox_one_is_written_to_page_after_page(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        // All five share maria's number; the mailboxes are their own but for two.
        let mailbox = |id: &str| heedwell::domain::EmailAddress::parse(&format!("{id}@example.com")).unwrap();
        let family = ["ann", "ben", "zac", "zoe"].map(|id| Patient {
            email: Some(mailbox(if id == "zoe" { "ann" } else { id })),
            ..patient(id)
        });
        t.store.patients_put(&scope, family.to_vec()).await.unwrap();
        let made = create(t, &scope, new(t, "r1", &[Channel::Sms, Channel::Email])).await;
        plan_all(t).await;
        assert_eq!(counted(t, &scope, made.id).await, [(DeliveryState::Pending, 5), (DeliveryState::Skipped, 5)]);
        let skipped: Vec<_> = shares(t, &scope, made.id).await.into_iter().filter(|it| it.skip_reason.is_some()).collect();
        assert!(skipped.iter().all(|it| it.skip_reason == Some(SkipReason::DuplicateAddress)));
        let mails: Vec<_> = skipped.iter().filter(|it| it.channel == Channel::Email).collect();
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].patient.as_ref().unwrap().as_str(), "zoe");
        assert_eq!(claim(t, &scope, 10).await.len(), 5);
    }

    async fn one_that_is_scheduled_begins_in_its_time(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let schedule_time = Some(t.now() + TimeDelta::hours(1));
        let made = create(t, &scope, NewBroadcast { schedule_time, ..new(t, "r1", &[Channel::Sms]) }).await;
        assert_eq!((made.state, made.recipients, made.start_time), (BroadcastState::Scheduled, 0, None));
        no_turn(t).await;
        people(t, &scope, 2).await;
        t.advance(3_600);
        let taken = turn(t).await;
        assert_eq!((taken.broadcast.state, taken.broadcast.recipients), (BroadcastState::Running, 3));
        assert!(plan(t, taken).await.is_some(), "a page is full, and another may follow");
    }

    async fn what_an_outage_held_up_for_too_long_is_not_sent(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let made = texts(t, &scope).await;
        t.advance(24 * 3_600);
        plan_all(t).await;
        let now = get(t, &scope, made.id).await;
        assert_eq!((now.state, counts(&now)), (BroadcastState::Completed, vec![(DeliveryState::Skipped, 1)]));
        assert_eq!(shares(t, &scope, made.id).await[0].skip_reason, Some(SkipReason::Expired));
        assert_eq!(now.complete_time, Some(t.now()));
    }

    async fn an_audience_of_nobody_is_complete_at_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let audience = Audience::Tags(BTreeSet::from(["diabetes".to_owned()]));
        let made = create(t, &scope, NewBroadcast { audience, ..new(t, "r1", &[Channel::Sms]) }).await;
        plan_all(t).await;
        let now = get(t, &scope, made.id).await;
        assert_eq!((now.state, now.recipients, counts(&now)), (BroadcastState::Completed, 0, vec![]));
    }

    async fn audiences_are_those_active_who_are_named_or_tagged(t: &TestStore) {
        let (scope, other) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        people(t, &scope, 7).await;
        people(t, &other, 7).await;
        let tagged = |n: usize, tags: &[&str]| Patient {
            mobile_phone: None,
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            inactive: n == 3,
            ..patient(&name(n))
        };
        let (both, one) = (["flu", "diabetes"], ["flu"]);
        let changed = vec![tagged(1, &both), tagged(2, &one), tagged(3, &one), tagged(4, &["gout"]), tagged(5, &one)];
        t.store.patients_put(&scope, changed).await.unwrap();
        let tags = |tags: &[&str]| Audience::Tags(tags.iter().map(|&tag| tag.to_owned()).collect());
        let named = |ids: &[&str]| Audience::Patients(ids.iter().map(|id| id.parse().unwrap()).collect());
        let cases = [
            (Audience::All, vec!["maria", "p000", "p001", "p002", "p004", "p005", "p006"]),
            (tags(&["flu", "diabetes"]), vec!["p001", "p002", "p005"]),
            (tags(&["gout"]), vec!["p004"]),
            (tags(&["nobody"]), vec![]),
            (named(&["p006", "maria", "p003", "stranger", "p000", "p001"]), vec!["maria", "p000", "p001", "p006"]),
        ];
        for (audience, wanted) in cases {
            let (mut found, mut position) = (Vec::new(), Some(Default::default()));
            while let Some(after) = position {
                let page = t.store.audience_page(&scope, &audience, &after, 2).await.unwrap();
                assert!(page.members.len() <= 2);
                found.extend(page.members.into_iter().map(|it| it.grounds.patient.id.as_str().to_owned()));
                position = page.next;
            }
            assert_eq!(found, wanted, "{audience:?}");
            assert_eq!(t.store.audience_count(&scope, &audience).await.unwrap(), wanted.len() as i64, "{audience:?}");
        }
    }

    async fn a_key_makes_one_broadcast_and_more_patients_than_expected_none(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 2).await;
        let larger = NewBroadcast { expected: 2, ..new(t, "r1", &[Channel::Sms]) };
        let refused = t.store.broadcast_create(&scope, larger.clone()).await.unwrap_err();
        assert!(matches!(refused, StoreError::StateForbids { state: "AUDIENCE_LARGER", .. }), "{refused:?}");
        assert!(t.store.broadcast_prior(&scope, "r1", &[1; 32]).await.unwrap().is_none());
        let made = create(t, &scope, NewBroadcast { expected: 3, ..larger }).await;
        people(t, &scope, 9).await;
        let again = NewBroadcast { expected: 3, ..new(t, "r1", &[Channel::Sms]) };
        assert_eq!(t.store.broadcast_create(&scope, again.clone()).await.unwrap(), Created::Replayed(made.clone()));
        let other = NewBroadcast { fingerprint: [2; 32], ..again };
        assert_eq!(t.store.broadcast_create(&scope, other).await.unwrap(), Created::KeyReused(made.id));
        assert_eq!(t.number("SELECT count(*) FROM broadcast").await, 1);
        let stranger = ready_practice(t, SOUTH).await;
        assert!(matches!(t.store.broadcast_get(&stranger, made.id).await, Err(StoreError::NotFound("broadcast"))));
        let cancelled = t.store.broadcast_cancel(&stranger, made.id).await;
        assert!(matches!(cancelled, Err(StoreError::NotFound("broadcast"))));
    }

    async fn lists_are_newest_first_by_state_and_page_by_page(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let other = ready_practice(t, SOUTH).await;
        create(t, &other, new(t, "r1", &[Channel::Sms])).await;
        let mut ids = Vec::new();
        for n in 0..5 {
            let schedule_time = (n % 2 == 1).then(|| t.now() + TimeDelta::days(1));
            let one = NewBroadcast { schedule_time, ..new(t, &format!("r{n}"), &[Channel::Sms]) };
            ids.insert(0, create(t, &scope, one).await.id);
            t.advance(1);
        }
        t.store.broadcast_cancel(&scope, ids[0]).await.unwrap();
        let list = async |states: &[BroadcastState]| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = t.store.broadcasts_list(&scope, states, after, 2).await.unwrap();
                found.extend(page.broadcasts.into_iter().map(|it| it.id));
                after = page.next;
                if after.is_none() {
                    return found;
                }
            }
        };
        use BroadcastState::{Cancelled, Completed, Running, Scheduled};
        assert_eq!(list(&[]).await, ids);
        assert_eq!(list(&[Scheduled]).await, [ids[1], ids[3]]);
        assert_eq!(list(&[Running]).await, [ids[2], ids[4]]);
        assert_eq!(list(&[Cancelled, Scheduled]).await, [ids[0], ids[1], ids[3]]);
        assert!(list(&[Completed]).await.is_empty());
    }

    async fn counts_follow_each_share_to_its_end_and_beyond(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 7).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        let claimed = claim(t, &scope, 10).await;
        assert_eq!(claimed.len(), 8);
        let refused = Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() };
        let verdicts = |n: usize| match n {
            0..4 => accepted(&format!("SM{n}")),
            4 | 5 => refused.clone(),
            _ => unknown(),
        };
        let ended = claimed.iter().enumerate().map(|(n, it)| settlement(it, verdicts(n)));
        settle_all(t, ended.collect()).await;
        use DeliveryState::{Delivered, Failed, Sent, Unconfirmed};
        let now = get(t, &scope, made.id).await;
        assert_eq!(counts(&now), [(Unconfirmed, 2), (Sent, 4), (Failed, 2)]);
        assert_eq!((now.state, now.complete_time), (BroadcastState::Completed, Some(t.now())));

        // Late facts move on what is over.
        t.advance(60);
        report(t, &scope, &claimed[0], Facts::DELIVERED).await;
        report(t, &scope, &claimed[1], Facts::UNDELIVERED).await;
        report(t, &scope, &claimed[1], Facts::DELIVERED).await;
        report(t, &scope, &claimed[4], Facts::DELIVERED).await;
        report(t, &scope, &claimed[6], Facts::DELIVERED).await;
        let later = get(t, &scope, made.id).await;
        assert_eq!(counts(&later), [(Unconfirmed, 1), (Sent, 2), (Delivered, 4), (Failed, 1)]);
        assert_eq!(later.complete_time, now.complete_time);
    }

    async fn what_is_sent_again_counts_and_the_broadcast_stays_complete(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        let first = claim(t, &scope, 1).await.remove(0);
        let refused = Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() };
        settle(t, &first, refused).await;
        let again = NewRetry { request_id: "again".into(), fingerprint: [3; 32], delivery: first.id };
        let retried = t.store.delivery_retry(&scope, again).await.unwrap();
        assert!(matches!(retried, Retried::New(_)), "{retried:?}");
        let now = get(t, &scope, made.id).await;
        assert_eq!(counts(&now), [(DeliveryState::Pending, 1), (DeliveryState::Failed, 1)]);
        assert_eq!((now.state, now.recipients), (BroadcastState::Completed, 1));
        settle(t, &claim(t, &scope, 1).await.remove(0), accepted("SM1")).await;
        assert_eq!(counted(t, &scope, made.id).await, [(DeliveryState::Sent, 1), (DeliveryState::Failed, 1)]);
    }

    async fn nothing_is_claimed_once_it_is_cancelled(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 7).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        let claimed = claim(t, &scope, 2).await;
        t.store.broadcast_cancel(&scope, made.id).await.unwrap();
        assert_eq!(get(t, &scope, made.id).await.state, BroadcastState::Cancelled);
        // Nobody has stopped anything yet: the claim itself does.
        assert!(claim(t, &scope, 3).await.is_empty());
        assert_eq!(
            counted(t, &scope, made.id).await,
            [(DeliveryState::Pending, 5), (DeliveryState::Cancelled, 3)]
        );
        finish(t).await;
        assert_eq!(
            counted(t, &scope, made.id).await,
            [(DeliveryState::Pending, 2), (DeliveryState::Cancelled, 6)]
        );
        // What was under way goes its way, and is not tried again.
        settle(t, &claimed[0], accepted("SM1")).await;
        settle(t, &claimed[1], Verdict::NotTaken { retry_after: None, code: "20429".into() }).await;
        let now = get(t, &scope, made.id).await;
        assert_eq!(counts(&now), [(DeliveryState::Sent, 1), (DeliveryState::Cancelled, 7)]);
        assert_eq!(now.complete_time, Some(t.now()));
        t.advance(3_600);
        assert!(claim(t, &scope, 10).await.is_empty());
        no_turn(t).await;
        let waited = |it: &Delivery| claimed.iter().all(|claimed| claimed.id != it.id);
        for one in shares(t, &scope, made.id).await.into_iter().filter(waited) {
            assert_eq!(last_line(t, &scope, &one).await.detail, "Cancelled before it was sent.");
        }
    }

    async fn cancelled_while_it_is_planned_whom_it_did_not_come_to_is_put_down(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 8).await;
        let made = texts(t, &scope).await;
        let next = plan(t, turn(t).await).await.unwrap();
        let under_way = page(t, &next).await;
        t.store.broadcast_cancel(&scope, made.id).await.unwrap();
        assert!(t.store.broadcast_plan(next, under_way).await.unwrap().is_none(), "the page was for sending");
        // Nobody else is begun with, which the counts say at once.
        assert_eq!(
            counted(t, &scope, made.id).await,
            [(DeliveryState::Pending, 3), (DeliveryState::Cancelled, 6)]
        );
        finish(t).await;
        let now = get(t, &scope, made.id).await;
        assert_eq!(counts(&now), [(DeliveryState::Cancelled, 9)]);
        assert_eq!((now.state, now.recipients, now.complete_time), (BroadcastState::Cancelled, 9, Some(t.now())));
        assert_eq!(shares(t, &scope, made.id).await.len(), 9);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        let before = get(t, &scope, made.id).await;
        t.advance(60);
        t.store.broadcast_cancel(&scope, made.id).await.unwrap();
        assert_eq!(get(t, &scope, made.id).await, before);
    }

    async fn cancelled_before_its_time_it_never_begins(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let schedule_time = Some(t.now() + TimeDelta::hours(1));
        let made = create(t, &scope, NewBroadcast { schedule_time, ..new(t, "r1", &[Channel::Sms]) }).await;
        t.store.broadcast_cancel(&scope, made.id).await.unwrap();
        t.advance(7_200);
        no_turn(t).await;
        let now = get(t, &scope, made.id).await;
        assert_eq!((now.state, now.recipients, now.start_time), (BroadcastState::Cancelled, 0, None));
    }

    async fn one_that_is_over_is_not_cancelled_any_more(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        settle(t, &claim(t, &scope, 1).await.remove(0), accepted("SM1")).await;
        let over = get(t, &scope, made.id).await;
        assert_eq!(over.state, BroadcastState::Completed);
        t.store.broadcast_cancel(&scope, made.id).await.unwrap();
        assert_eq!(get(t, &scope, made.id).await, over);
        no_turn(t).await;
    }

    async fn over_is_when_nothing_is_pending_though_a_doubt_may_send_it_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        let claimed = claim(t, &scope, 1).await.remove(0);
        settle(t, &claimed, unknown()).await;
        let now = get(t, &scope, made.id).await;
        assert_eq!((now.state, counts(&now)), (BroadcastState::Completed, vec![(DeliveryState::Unconfirmed, 1)]));
        look_twice(t, &Look::Absent).await;
        assert_eq!(claim(t, &scope, 1).await.len(), 1, "it is sent again: nobody cancelled it");
    }

    async fn a_doubt_that_outlives_a_cancel_is_closed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 1).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        let claimed = claim(t, &scope, 1).await.remove(0);
        settle(t, &claimed, unknown()).await;
        t.store.broadcast_cancel(&scope, made.id).await.unwrap();
        finish(t).await;
        look_twice(t, &Look::Absent).await;
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(
            counted(t, &scope, made.id).await,
            [(DeliveryState::Unconfirmed, 1), (DeliveryState::Cancelled, 1)]
        );
        let again = NewRetry { request_id: "again".into(), fingerprint: [3; 32], delivery: claimed.id };
        let refused = t.store.delivery_retry(&scope, again).await.unwrap_err();
        assert!(matches!(refused, StoreError::StateForbids { .. }), "{refused:?}");
    }

    async fn an_opt_out_after_planning_subtracts(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 3).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        let opt_out = NewConsent {
            patient: name(1).parse().unwrap(),
            ..decision("c1", Channel::Sms, ConsentState::OptedOut, ConsentSource::Staff)
        };
        record(t, &scope, opt_out).await;
        assert_eq!(counted(t, &scope, made.id).await, [(DeliveryState::Pending, 3), (DeliveryState::Skipped, 1)]);
        assert_eq!(share_of(t, &scope, made.id, &name(1)).await.skip_reason, Some(SkipReason::OptedOut));
        assert_eq!(claim(t, &scope, 10).await.len(), 3);
    }

    async fn a_share_without_a_text_fails_alone(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 2).await;
        let made = texts(t, &scope).await;
        let taken = turn(t).await;
        let mut page = page(t, &taken).await;
        let odd = &mut page.shares[1].deliveries[0];
        (odd.content, odd.over) = (None, Some(Over::NoText));
        assert!(t.store.broadcast_plan(taken, page).await.unwrap().is_some());
        plan_all_again(t).await;
        assert_eq!(counted(t, &scope, made.id).await, [(DeliveryState::Pending, 2), (DeliveryState::Failed, 1)]);
        let failed = shares(t, &scope, made.id).await.into_iter().find(|it| it.state == DeliveryState::Failed).unwrap();
        assert_eq!(failed.failure.unwrap().reason, FailureReason::Internal);
    }

    async fn a_share_is_a_notification_like_any_other(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let made = create(t, &scope, new(t, "r1", &[Channel::InApp, Channel::Sms])).await;
        plan_all(t).await;
        let all = shares(t, &scope, made.id).await;
        let Source::Notification(id) = all[0].source else { panic!("it is a notification's") };
        let record = t.store.notification_get(&scope, id).await.unwrap();
        assert_eq!((record.broadcast, record.kind, record.deliveries.len()), (Some(made.id), Kind::Announcement, 2));
        // What needs no provider is there with the page.
        assert_eq!(
            counted(t, &scope, made.id).await,
            [(DeliveryState::Pending, 1), (DeliveryState::Delivered, 1)]
        );
        assert_eq!(t.store.notification_cancel(&scope, id).await.unwrap().deliveries, 1);
        let now = get(t, &scope, made.id).await;
        assert_eq!(counts(&now), [(DeliveryState::Delivered, 1), (DeliveryState::Cancelled, 1)]);
        assert_eq!(now.state, BroadcastState::Completed);
    }

    async fn what_it_says_is_sealed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let audience = Audience::Patients(BTreeSet::from(["maria".parse().unwrap()]));
        let wanted = NewBroadcast { audience, ..new(t, "r1", &[Channel::Sms]) };
        let made = create(t, &scope, wanted.clone()).await;
        let read = get(t, &scope, made.id).await;
        assert_eq!((&read.announcement, &read.audience), (&wanted.announcement, &wanted.audience));
        for row in t.rows("SELECT body_ct FROM broadcast_text").await {
            let bytes: Vec<u8> = row.try_get_by_index(0).unwrap();
            let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!["Friday", "Closed", "maria"].into_iter().any(has));
        }
        // It opens in its own row alone.
        let other = create(t, &scope, new(t, "r2", &[Channel::Sms])).await;
        let first = "SELECT body_ct FROM broadcast_text ORDER BY broadcast_id LIMIT 1";
        t.execute(&format!("UPDATE broadcast_text SET body_ct = ({first})")).await;
        let opened = [made.id, other.id].map(|id| t.store.broadcast_get(&scope, id));
        let opened = futures::future::join_all(opened).await;
        assert_eq!(opened.iter().filter(|one| one.is_ok()).count(), 1);
    }

    async fn urgent_and_other_messages_go_before_its_shares(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 5).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        let urgent = Order { urgent: true, ..Order::new("urgent", &[Channel::Sms]) };
        urgent.accept(t, &scope).await;
        Order::new("reminder", &[Channel::Sms]).accept(t, &scope).await;
        let first: Vec<_> = claim(t, &scope, 2).await.into_iter().map(|claimed| claimed.id).collect();
        let of_it: Vec<_> = shares(t, &scope, made.id).await.into_iter().map(|it| it.id).collect();
        assert_eq!((first.len(), of_it.len()), (2, 6));
        assert!(first.iter().all(|id| !of_it.contains(id)));
        let open = t.store.open_deliveries_of(&scope).await.unwrap();
        assert_eq!(open.before_the_next(Class::Normal), 2);
    }
}

/// Goes on with a turn that a test began.
async fn plan_all_again(t: &TestStore) {
    t.advance(31);
    plan_all(t).await;
}
