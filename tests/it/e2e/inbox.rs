//! Inboxes: what the portal lists, marks and watches.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ConsentSource, ConsentState, InboxItem, ListInboxItemsRequest, ListInboxItemsResponse,
        MarkInboxItemsRequest, NotificationInput, Patient, RecordConsentRequest, WatchInboxRequest, WatchInboxResponse,
        mark_inbox_items_request::{ItemIds, ReadState, Selection},
        notification_input::Payload,
    },
};
use reqwest::{StatusCode, header::LOCATION};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::{
    batch::{item, send_all},
    callbacks::browser,
    cancels::cancel,
    given::{TARGET, new_key, notice, patient, payloads, practice, put_patient, reminder, send, send_over},
    seen::{
        delivery, fields, history, list as deliveries, metadata, notification_id, refused, skipped, state, time,
        until_state,
    },
};
use crate::support::app::{ACME, Caller, LIMIT, Pass, TestApp, on_a_server};

fn own(t: &TestApp, patient: &str) -> Caller {
    t.caller_with(&t.token_of(&Pass { patient: Some(patient.into()), ..Pass::new(&[Role::Patient], &[ACME]) }))
}

fn of(patient: &str) -> ListInboxItemsRequest {
    ListInboxItemsRequest { practice_id: ACME.into(), patient_id: patient.into(), ..Default::default() }
}

async fn try_list(caller: &Caller, request: ListInboxItemsRequest) -> Result<ListInboxItemsResponse, Status> {
    Ok(caller.clone().inbox.list_inbox_items(request).await?.into_inner())
}

/// The inbox of `pat`, as the portal sees it.
async fn inbox(t: &TestApp) -> ListInboxItemsResponse {
    try_list(&t.caller(Role::Portal), ListInboxItemsRequest { page_size: 100, ..of("pat") }).await.unwrap()
}

fn ids(items: &[InboxItem]) -> Vec<&str> {
    items.iter().map(|item| item.item_id.as_str()).collect()
}

fn these(ids: &[&str]) -> Selection {
    Selection::ItemIds(ItemIds { values: ids.iter().map(|&id| id.to_owned()).collect() })
}

async fn mark_as(caller: &Caller, patient: &str, selection: Selection, state: ReadState) -> Result<i32, Status> {
    let request = MarkInboxItemsRequest {
        practice_id: ACME.into(),
        patient_id: patient.into(),
        read_state: state.into(),
        selection: Some(selection),
    };
    Ok(caller.clone().inbox.mark_inbox_items(request).await?.into_inner().unread_count)
}

/// Marks items of `pat`. Says how many are unread then.
async fn mark(t: &TestApp, selection: Selection, state: ReadState) -> i32 {
    mark_as(&t.caller(Role::Portal), "pat", selection, state).await.unwrap()
}

async fn security_notice(t: &TestApp) -> String {
    let input = NotificationInput {
        patient_id: "pat".into(),
        payload: Some(Payload::System(notice())),
        channels: vec![Channel::InApp.into()],
        ..Default::default()
    };
    send(t, input).await.deliveries.remove(0).delivery_id
}

async fn filed(t: &TestApp) -> String {
    send_over(t, "pat", Channel::InApp).await
}

/// An open watch of an inbox.
struct Watcher {
    steps: Streaming<WatchInboxResponse>,
    cursor: String,
    unread: i32,
}

impl Watcher {
    async fn open(caller: &Caller, patient: &str, cursor: &str) -> Result<Self, Status> {
        let request = WatchInboxRequest {
            practice_id: ACME.into(),
            patient_id: patient.into(),
            cursor: cursor.into(),
            heartbeat_interval: None,
        };
        let steps = caller.clone().inbox.watch_inbox(request).await?.into_inner();
        let mut watcher = Self { steps, cursor: String::new(), unread: -1 };
        let first = watcher.step().await?.expect("a first response");
        assert!(first.items.is_empty(), "the first response is a checkpoint");
        Ok(watcher)
    }

    /// The next response; unset at the planned end.
    async fn step(&mut self) -> Result<Option<WatchInboxResponse>, Status> {
        let step = timeout(LIMIT, self.steps.message()).await.expect("a response in time")?;
        if let Some(step) = &step {
            assert!(!step.cursor.is_empty());
            self.cursor.clone_from(&step.cursor);
            self.unread = step.unread_count;
        }
        Ok(step)
    }

    /// The next items.
    async fn items(&mut self) -> Vec<InboxItem> {
        loop {
            let step = self.step().await.unwrap().expect("the watch goes on");
            if !step.items.is_empty() {
                return step.items;
            }
        }
    }

    /// Takes items until `wanted` holds for one of them, and yields that.
    async fn until(&mut self, wanted: impl Fn(&InboxItem) -> bool) -> InboxItem {
        loop {
            if let Some(item) = self.items().await.into_iter().find(&wanted) {
                return item;
            }
        }
    }
}

async fn watch(t: &TestApp, cursor: &str) -> Watcher {
    Watcher::open(&t.caller(Role::Portal), "pat", cursor).await.unwrap()
}

on_a_server! {
    async fn what_is_filed_is_listed_with_its_text_and_its_link(t: &mut TestApp) {
        practice(t).await;
        assert!(inbox(t).await.items.is_empty());
        let id = filed(t).await;
        let page = inbox(t).await;
        let [item] = &page.items[..] else { panic!("one item") };
        let made = delivery(t, &id).await;
        assert_eq!((item.item_id.as_str(), page.unread_count, item.security), (id.as_str(), 1, false));
        assert_eq!(item.notification_id, notification_id(&made));
        assert!(item.title == "Appointment Reminder" && item.body.contains("Dr. Ray"), "{} {}", item.title, item.body);
        assert!(item.read_time.is_none() && item.create_time == made.deliver_time);
        assert!(item.link_url.starts_with(&t.url("/l/")), "{}", item.link_url);
        let opened = browser().post(&item.link_url).send().await.unwrap();
        assert_eq!((opened.status(), opened.headers()[LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, TARGET));
        security_notice(t).await;
        assert!(inbox(t).await.items[0].link_url.is_empty(), "there is nothing to open");
    }

    async fn each_kind_is_listed_with_the_wording_of_the_portal(t: &mut TestApp) {
        practice(t).await;
        for payload in payloads(t) {
            let input = NotificationInput {
                patient_id: "pat".into(),
                payload: Some(payload),
                channels: vec![Channel::InApp.into()],
                ..Default::default()
            };
            send(t, input).await;
        }
        let page = inbox(t).await;
        assert_eq!((page.items.len(), page.unread_count), (9, 9));
        assert!(page.items.iter().all(|item| !item.title.is_empty() && !item.body.is_empty()));
    }

    async fn security_comes_first_then_the_newest_page_by_page(t: &mut TestApp) {
        practice(t).await;
        let (mut plain, mut security) = (Vec::new(), Vec::new());
        for n in 0..7 {
            plain.push(filed(t).await);
            if n % 3 == 0 {
                security.push(security_notice(t).await);
            }
            // Some share a moment.
            if n % 2 == 0 {
                t.advance(TimeDelta::seconds(1));
            }
        }
        let expected: Vec<_> = security.iter().rev().chain(plain.iter().rev()).cloned().collect();
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let request = ListInboxItemsRequest { page_size: 3, page_token: token, ..of("pat") };
            let page = try_list(&own(t, "pat"), request).await.unwrap();
            assert_eq!(page.watch_cursor.is_empty(), pages > 0, "the first page alone has a cursor");
            assert_eq!(page.unread_count, 10 + pages);
            pages += 1;
            seen.extend(page.items.into_iter().map(|item| item.item_id));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
            // What comes meanwhile shifts nothing.
            t.advance(TimeDelta::seconds(1));
            filed(t).await;
        }
        let known: Vec<_> = seen.iter().filter(|id| expected.contains(id)).cloned().collect();
        assert_eq!(known, expected);
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
    }

    async fn a_page_token_is_good_for_its_list_alone(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "", "")).await;
        for _ in 0..3 {
            filed(t).await;
        }
        let portal = t.caller(Role::Portal);
        let first = try_list(&portal, ListInboxItemsRequest { page_size: 1, ..of("pat") }).await.unwrap();
        let token = first.next_page_token;
        let with = |request: ListInboxItemsRequest| ListInboxItemsRequest { page_token: token.clone(), ..request };
        for request in [
            with(of("kim")),
            with(ListInboxItemsRequest { unread_only: true, ..of("pat") }),
            ListInboxItemsRequest { page_token: first.watch_cursor.clone(), ..of("pat") },
            ListInboxItemsRequest { page_token: "canary".into(), ..of("pat") },
        ] {
            refused(try_list(&portal, request).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        }
        let rest = try_list(&portal, with(ListInboxItemsRequest { page_size: 100, ..of("pat") })).await.unwrap();
        assert_eq!((rest.items.len(), rest.next_page_token.as_str()), (2, ""));
    }

    async fn reading_is_kept_and_shows_in_the_delivery_once(t: &mut TestApp) {
        practice(t).await;
        let [one, two, three] = [filed(t).await, filed(t).await, filed(t).await];
        let before = delivery(t, &one).await;
        t.advance(TimeDelta::minutes(1));
        assert_eq!(mark(t, these(&[&one]), ReadState::Read).await, 2);
        let read = delivery(t, &one).await;
        assert_eq!((time(read.open_time), read.revision, state(&read)), (Some(t.now()), before.revision + 1, "DELIVERED"));
        let page = inbox(t).await;
        let item = page.items.iter().find(|item| item.item_id == one).unwrap();
        assert_eq!((time(item.read_time), page.unread_count), (Some(t.now()), 2));
        let unread = try_list(&own(t, "pat"), ListInboxItemsRequest { unread_only: true, ..of("pat") }).await.unwrap();
        assert_eq!(ids(&unread.items), [three.as_str(), &two]);

        // A repeat changes nothing, nor does what is not there or somebody else's.
        t.advance(TimeDelta::minutes(1));
        put_patient(t, ACME, patient("kim", "", "")).await;
        let foreign = send_over(t, "kim", Channel::InApp).await;
        let nobody = "01980000-0000-7000-8000-000000000000";
        assert_eq!(mark(t, these(&[&one, &one, &foreign, nobody]), ReadState::Read).await, 2);
        assert!(delivery(t, &one).await == read && delivery(t, &foreign).await.open_time.is_none());

        // Unread again it is unread, and the delivery still says when it was read first.
        assert_eq!(mark(t, these(&[&one, &two]), ReadState::Unread).await, 3);
        assert!(delivery(t, &one).await == read);
        t.advance(TimeDelta::minutes(1));
        assert_eq!(mark(t, these(&[&one]), ReadState::Read).await, 2);
        assert!(delivery(t, &one).await == read);
        assert_eq!(time(inbox(t).await.items[2].read_time), Some(t.now()));
        assert_eq!(history(t, &one).await.len(), 2);
    }

    async fn all_up_to_a_time_are_marked_and_what_came_since_stays_unread(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "", "")).await;
        let foreign = send_over(t, "kim", Channel::InApp).await;
        let mut early = Vec::new();
        for _ in 0..5 {
            early.push(filed(t).await);
        }
        let through = t.after(TimeDelta::zero());
        t.advance(TimeDelta::seconds(1));
        let late = filed(t).await;
        assert_eq!(mark(t, Selection::ThroughTime(through), ReadState::Read).await, 1);
        let unread: Vec<_> = inbox(t).await.items.into_iter().filter(|item| item.read_time.is_none()).collect();
        assert_eq!(ids(&unread), [late.as_str()]);
        assert!(delivery(t, &foreign).await.open_time.is_none());
        assert_eq!(mark(t, Selection::ThroughTime(through), ReadState::Unread).await, 6);
    }

    async fn what_was_stopped_or_not_wanted_is_not_in_the_inbox(t: &mut TestApp) {
        practice(t).await;
        let later = || NotificationInput {
            schedule_time: Some(t.after(TimeDelta::hours(1))),
            ..reminder(t, "pat", &[Channel::InApp])
        };
        let (wanted, stopped) = (send(t, later()).await, send(t, later()).await);
        assert!(inbox(t).await.items.is_empty(), "it is not time yet");
        cancel(t, &stopped.notification_id).await;
        let mut watcher = watch(t, "").await;
        t.advance(TimeDelta::hours(1));
        let item = watcher.until(|_| true).await;
        assert_eq!(item.item_id, wanted.deliveries[0].delivery_id);
        let waiting = send(t, later()).await;
        let opt_out = RecordConsentRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            patient_id: "pat".into(),
            channel: Channel::InApp.into(),
            state: ConsentState::OptedOut.into(),
            source: ConsentSource::Portal.into(),
            evidence: "switched off".into(),
            ..Default::default()
        };
        t.caller(Role::Portal).preferences.record_consent(opt_out).await.unwrap();
        assert_eq!(skipped(&until_state(t, &waiting.deliveries[0].delivery_id, "SKIPPED").await), "OPTED_OUT");
        assert_eq!(skipped(&delivery(t, &filed(t).await).await), "OPTED_OUT");
        assert_eq!(ids(&inbox(t).await.items), [item.item_id.as_str()], "what was there before can be read");
    }

    async fn somebody_inactive_reads_what_was_filed_before_and_gets_nothing_more(t: &mut TestApp) {
        practice(t).await;
        let before = filed(t).await;
        let later = NotificationInput {
            schedule_time: Some(t.after(TimeDelta::hours(1))),
            ..reminder(t, "pat", &[Channel::InApp])
        };
        let waiting = send(t, later).await.deliveries.remove(0).delivery_id;
        put_patient(t, ACME, Patient { inactive: true, ..patient("pat", "", "") }).await;
        let pat = own(t, "pat");
        let mut watcher = Watcher::open(&pat, "pat", "").await.unwrap();
        assert_eq!(skipped(&delivery(t, &filed(t).await).await), "PATIENT_INACTIVE");
        t.advance(TimeDelta::hours(1));
        assert_eq!(skipped(&until_state(t, &waiting, "SKIPPED").await), "PATIENT_INACTIVE");
        for caller in [&pat, &t.caller(Role::Portal)] {
            let page = try_list(caller, of("pat")).await.unwrap();
            assert_eq!((ids(&page.items), page.unread_count), (vec![before.as_str()], 1));
            assert!(!page.items[0].body.is_empty());
        }
        assert_eq!(mark_as(&pat, "pat", these(&[&before]), ReadState::Read).await.unwrap(), 0);
        assert_eq!(ids(&watcher.items().await), [before.as_str()], "and nothing else was told");
    }

    async fn a_watch_shows_what_comes_and_what_is_marked_elsewhere(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "", "")).await;
        let first = filed(t).await;
        let page = inbox(t).await;
        let mut watcher = watch(t, &page.watch_cursor).await;
        assert_eq!(watcher.unread, 1, "the first response has it");
        send_over(t, "kim", Channel::InApp).await;
        let second = filed(t).await;
        let [item] = &watcher.items().await[..] else { panic!("one item") };
        assert_eq!((item.item_id.as_str(), watcher.unread), (second.as_str(), 2));
        assert!(item.title == "Appointment Reminder" && !item.body.is_empty() && !item.link_url.is_empty());
        // First read, unread again, and read again: the delivery shows the first of these alone.
        for (state, unread) in [(ReadState::Read, 1), (ReadState::Unread, 2), (ReadState::Read, 1)] {
            mark_as(&own(t, "pat"), "pat", these(&[&first]), state).await.unwrap();
            let [item] = &watcher.items().await[..] else { panic!("one item") };
            assert_eq!((item.item_id.as_str(), watcher.unread), (first.as_str(), unread));
            assert_eq!(item.read_time.is_some(), state == ReadState::Read);
        }
        // Other channels are no matter of the inbox.
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        let third = filed(t).await;
        assert_eq!(ids(&watcher.items().await), [third.as_str()]);
    }

    async fn after_a_break_the_cursor_leads_on(t: &mut TestApp) {
        practice(t).await;
        let read = filed(t).await;
        let mut watcher = watch(t, "").await;
        let seen = filed(t).await;
        assert_eq!(ids(&watcher.items().await), [seen.as_str()]);
        let cursor = watcher.cursor.clone();
        drop(watcher);
        mark(t, these(&[&read]), ReadState::Read).await;
        let mut missed: BTreeSet<_> = [read].into();
        for _ in 0..40 {
            missed.insert(filed(t).await);
        }
        t.stop().await;
        t.start().await;
        let mut watcher = watch(t, &cursor).await;
        assert_eq!((watcher.cursor.as_str(), watcher.unread), (cursor.as_str(), 41), "it stands where the client was");
        let mut told = BTreeSet::new();
        while told != missed {
            let items = watcher.items().await;
            assert!(items.len() <= 32);
            // Until the last part is told, the cursor leads back to the first.
            assert_eq!(watcher.cursor == cursor, told.len() + items.len() < missed.len());
            told.extend(items.into_iter().map(|item| item.item_id));
        }
    }

    async fn a_cursor_is_good_for_its_inbox_alone(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "", "")).await;
        filed(t).await;
        let portal = t.caller(Role::Portal);
        let pats = inbox(t).await.watch_cursor;
        let of_deliveries = deliveries(t, Default::default()).await.watch_cursor;
        for (patient, cursor) in [("kim", pats.as_str()), ("pat", of_deliveries.as_str()), ("pat", "canary"), ("pat", &pats[1..])] {
            let refusal = Watcher::open(&portal, patient, cursor).await.map(|_| ());
            refused(refusal, Code::InvalidArgument, "CURSOR_INVALID");
        }
        let other_way = heedwell::grpc::proto::WatchDeliveriesRequest {
            practice_id: ACME.into(),
            start: Some(heedwell::grpc::proto::watch_deliveries_request::Start::Cursor(pats.clone())),
            ..Default::default()
        };
        refused(t.staff().watch_deliveries(other_way).await, Code::InvalidArgument, "CURSOR_INVALID");
        filed(t).await;
        t.execute("DELETE FROM feed WHERE seq <= 2").await;
        let status = refused(Watcher::open(&portal, "pat", &pats).await.map(|_| ()), Code::OutOfRange, "CURSOR_EXPIRED");
        Watcher::open(&portal, "pat", &metadata(&status, "earliest_cursor")).await.unwrap();
    }
}

on_a_server! {
    sqlite:
    async fn a_patient_sees_their_own_inbox_and_no_other(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "", "")).await;
        let theirs = send_over(t, "kim", Channel::InApp).await;
        let pat = own(t, "pat");
        for patient in ["kim", "nobody"] {
            refused(try_list(&pat, of(patient)).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
            let marked = mark_as(&pat, patient, these(&[&theirs]), ReadState::Read).await;
            refused(marked, Code::PermissionDenied, "SCOPE_FORBIDDEN");
            refused(Watcher::open(&pat, patient, "").await.map(|_| ()), Code::PermissionDenied, "SCOPE_FORBIDDEN");
        }
        assert!(try_list(&pat, of("pat")).await.unwrap().items.is_empty());
        assert_eq!(ids(&try_list(&own(t, "kim"), of("kim")).await.unwrap().items), [theirs.as_str()]);
        // To the portal's backend, which may see all, somebody unknown has nothing.
        assert!(try_list(&t.caller(Role::Portal), of("nobody")).await.unwrap().items.is_empty());
    }

    async fn one_call_marks_more_than_one_transaction_takes(t: &mut TestApp) {
        practice(t).await;
        let items = (0..230).map(|_| item(&new_key(), reminder(t, "pat", &[Channel::InApp]))).collect();
        let sent = send_all(t, items).await.unwrap();
        assert_eq!((sent.len(), inbox(t).await.unread_count), (230, 230));
        let through = || Selection::ThroughTime(t.after(TimeDelta::zero()));
        assert_eq!(mark(t, through(), ReadState::Read).await, 0);
        assert_eq!(mark(t, through(), ReadState::Unread).await, 230);
    }

    async fn each_fault_of_a_mark_is_named(t: &mut TestApp) {
        practice(t).await;
        let nothing = "01980000-0000-7000-8000-000000000000";
        let good = MarkInboxItemsRequest {
            practice_id: ACME.into(),
            patient_id: "pat".into(),
            read_state: ReadState::Read.into(),
            selection: Some(these(&[nothing])),
        };
        let many = [nothing; 101];
        for (request, field) in [
            (MarkInboxItemsRequest { patient_id: String::new(), ..good.clone() }, "patient_id"),
            (MarkInboxItemsRequest { read_state: 0, ..good.clone() }, "read_state"),
            (MarkInboxItemsRequest { read_state: 7, ..good.clone() }, "read_state"),
            (MarkInboxItemsRequest { selection: None, ..good.clone() }, "selection"),
            (MarkInboxItemsRequest { selection: Some(these(&[])), ..good.clone() }, "item_ids.values"),
            (MarkInboxItemsRequest { selection: Some(these(&many)), ..good.clone() }, "item_ids.values"),
            (MarkInboxItemsRequest { selection: Some(these(&[nothing, "x"])), ..good.clone() }, "item_ids.values[1]"),
        ] {
            let answer = t.caller(Role::Portal).inbox.mark_inbox_items(request).await;
            assert_eq!(fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")), [field]);
        }
        t.caller(Role::Portal).inbox.mark_inbox_items(good).await.unwrap();
    }

    async fn watches_of_a_patient_are_limited_and_end_as_planned(t: &mut TestApp) {
        t.restart_with(|config| config.watch.per_subject = 2).await;
        practice(t).await;
        let pat = own(t, "pat");
        let mut open = [Watcher::open(&pat, "pat", "").await.unwrap(), Watcher::open(&pat, "pat", "").await.unwrap()];
        let status = refused(Watcher::open(&pat, "pat", "").await.map(|_| ()), Code::ResourceExhausted, "TOO_MANY_WATCHES");
        assert!(status.message().len() > 5);
        let portal = t.caller(Role::Portal);
        let mut many = Vec::new();
        for _ in 0..3 {
            many.push(Watcher::open(&portal, "pat", "").await.unwrap());
        }
        let app = t.take();
        tokio::join!(app.stop(), async {
            for watcher in open.iter_mut().chain(&mut many) {
                while watcher.step().await.unwrap().is_some() {}
            }
        });
    }
}
