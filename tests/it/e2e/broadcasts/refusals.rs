//! What is refused, with everything that is wrong at once, and what nobody may see.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Audience, Broadcast, BroadcastInput, CancelBroadcastRequest, Channel, GetBroadcastRequest,
        ListBroadcastsRequest, ListBroadcastsResponse, PreviewBroadcastRequest, WatchBroadcastRequest,
        broadcast::State,
    },
};
use tonic::{Code, Status};

use super::{
    BOTH, all, cancel, counts, create, crowd, get, input, is, named, preview, request, tagged, try_create, try_preview,
};
use crate::{
    e2e::{
        given::{bare_practice, practice, practice_named, token},
        seen::{fields, metadata, refused},
    },
    support::app::{ACME, Pass, TestApp, on_a_server},
};

/// Lists Acme's broadcasts.
async fn list(
    t: &TestApp,
    states: &[State],
    page_size: i32,
    page_token: &str,
) -> Result<ListBroadcastsResponse, Status> {
    let request = ListBroadcastsRequest {
        practice_id: ACME.into(),
        states: states.iter().map(|&state| state.into()).collect(),
        page_size,
        page_token: page_token.into(),
    };
    Ok(t.caller(Role::Staff).broadcasts.list_broadcasts(request).await?.into_inner())
}

fn titles(broadcasts: &[Broadcast]) -> Vec<&str> {
    broadcasts.iter().map(|it| it.title.as_str()).collect()
}

/// A change to a good input, and the fields that it makes invalid.
type Case = (fn(&mut BroadcastInput), &'static [&'static str]);

const CASES: &[Case] = &[
    (|it| *it = BroadcastInput::default(), &["audience", "body", "channels", "title"]),
    (|it| it.title = "x".repeat(121), &["title"]),
    (|it| it.title = "two\nlines".into(), &["title"]),
    (|it| it.audience = Some(Audience { selection: None }), &["audience"]),
    (|it| it.audience = Some(Audience { selection: Some(named(&[])) }), &["audience.patient_ids.values"]),
    (
        |it| it.audience = Some(Audience { selection: Some(named(&["a b", "good", ""])) }),
        &["audience.patient_ids.values[0]", "audience.patient_ids.values[2]"],
    ),
    (|it| it.audience = Some(Audience { selection: Some(tagged(&[" "])) }), &["audience.tags.values[0]"]),
    (|it| it.channels = vec![2, 2], &["channels[1]"]),
    (|it| it.channels = vec![9], &["channels[0]"]),
    (|it| it.subject = String::new(), &["subject"]),
    (|it| it.subject = "Dear {{last_name}}".into(), &["subject"]),
    (|it| it.body = "Dear {{last_name}}".into(), &["body"]),
    (|it| it.body = "See {{link}}".into(), &["body"]),
    (|it| it.body = "{{amount}}".into(), &["body"]),
    (|it| it.body = "Dear {{first_name".into(), &["body"]),
    (|it| it.body = "{% if true %}x{% endif %}".into(), &["body"]),
    (|it| it.body = " \n ".into(), &["body"]),
    (|it| it.body = "a\u{202e}b".into(), &["body"]),
    // 1,600 characters with the practice's name before it and the longest name in it.
    (|it| it.body = format!("{{{{first_name}}}}{}", "x".repeat(1_490)), &["body"]),
];

on_a_server! {
    async fn everything_that_is_wrong_is_said_at_once(t: &mut TestApp) {
        practice(t).await;
        for (place, (change, wanted)) in CASES.iter().enumerate() {
            let mut odd = input(all(), &BOTH);
            change(&mut odd);
            let wanted: Vec<_> = wanted.iter().map(|field| format!("broadcast.{field}")).collect();
            let said = refused(try_preview(t, odd.clone(), "").await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&said), wanted, "{place}");
            let said = refused(try_create(t, request("r1", odd, 5)).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&said), wanted, "{place}");
        }
        let far = BroadcastInput { schedule_time: Some(t.after(TimeDelta::days(401))), ..input(all(), &BOTH) };
        let said = refused(try_create(t, request("r1", far, 5)).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&said), ["broadcast.schedule_time"]);
        let bare = heedwell::grpc::proto::CreateBroadcastRequest { practice_id: ACME.into(), ..Default::default() };
        let said = refused(try_create(t, bare).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&said), ["broadcast", "expected_recipients", "request_id"]);
        assert!(list(t, &[], 0, "").await.unwrap().broadcasts.is_empty(), "nothing was stored");
    }

    async fn more_patients_than_expected_and_channels_without_an_account_are_refused(t: &mut TestApp) {
        practice(t).await;
        crowd(t, 2).await;
        let said = preview(t, input(all(), &BOTH)).await.recipient_count;
        crowd(t, 3).await;
        let late = try_create(t, request("r1", input(all(), &BOTH), said)).await;
        let late = refused(late, Code::FailedPrecondition, "STATE_FORBIDS");
        assert_eq!(metadata(&late, "state"), "AUDIENCE_LARGER");
        let pushed = try_create(t, request("r1", input(all(), &[Channel::Sms, Channel::Push]), 9)).await;
        let pushed = refused(pushed, Code::FailedPrecondition, "CHANNEL_NOT_CONFIGURED");
        assert_eq!(metadata(&pushed, "channel"), "PUSH");
        // A preview says whom it would skip for it.
        let seen = preview(t, input(all(), &[Channel::Push])).await;
        assert_eq!((seen.reaches[0].would_send, seen.reaches[0].skips.iter().map(|it| it.count).sum()), (0, 4_i64));
        assert_eq!(seen.reaches[0].warnings[0], "Push is not set up: a broadcast over it is refused.");
        let fine = preview(t, input(all(), &[Channel::Sms])).await;
        assert!(fine.reaches[0].warnings.is_empty(), "{:?}", fine.reaches[0].warnings);
        assert!(list(t, &[], 0, "").await.unwrap().broadcasts.is_empty(), "nothing was stored");
    }

    async fn a_key_makes_one_broadcast(t: &mut TestApp) {
        practice(t).await;
        let first = try_create(t, request("r1", input(all(), &BOTH), 1)).await.unwrap();
        // What would be refused by now is told what it was told.
        crowd(t, 3).await;
        let again = try_create(t, request("r1", input(all(), &BOTH), 1)).await.unwrap();
        let id = |made: &heedwell::grpc::proto::CreateBroadcastResponse| made.broadcast.clone().unwrap().broadcast_id;
        assert_eq!((again.replayed, id(&again)), (true, id(&first)));
        let other = try_create(t, request("r1", input(all(), &[Channel::Sms]), 9)).await;
        let other = refused(other, Code::AlreadyExists, "REQUEST_ID_REUSED");
        assert!(other.message().contains("request_id"));
        assert_eq!(list(t, &[], 0, "").await.unwrap().broadcasts.len(), 1);
    }

    async fn each_call_is_for_its_roles_and_its_practice(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "south").await;
        let schedule_time = Some(t.after(TimeDelta::hours(1)));
        let made = create(t, BroadcastInput { schedule_time, ..input(all(), &BOTH) }).await;
        let id = made.broadcast_id.clone();
        let every = |practice: &str| (
            PreviewBroadcastRequest {
                practice_id: practice.into(),
                broadcast: Some(input(all(), &BOTH)),
                sample_patient_id: String::new(),
            },
            heedwell::grpc::proto::CreateBroadcastRequest { practice_id: practice.into(), ..request("r9", input(all(), &BOTH), 9) },
            GetBroadcastRequest { practice_id: practice.into(), broadcast_id: id.clone() },
            ListBroadcastsRequest { practice_id: practice.into(), ..Default::default() },
            CancelBroadcastRequest { practice_id: practice.into(), broadcast_id: id.clone() },
            WatchBroadcastRequest { practice_id: practice.into(), broadcast_id: id.clone() },
        );
        let ask = async |token: &str, practice: &str| {
            let mut calls = t.caller_with(token).broadcasts;
            let (preview, create, get, list, cancel, watch) = every(practice);
            [
                calls.preview_broadcast(preview).await.err(),
                calls.create_broadcast(create).await.err(),
                calls.get_broadcast(get).await.err(),
                calls.list_broadcasts(list).await.err(),
                calls.cancel_broadcast(cancel).await.err(),
                calls.watch_broadcast(watch).await.err(),
            ]
            .map(|error| error.map(|error| error.code()))
        };
        let no = Some(Code::PermissionDenied);
        assert_eq!(ask(&t.token(Role::Staff), ACME).await, [None, no, None, None, no, None]);
        assert_eq!(ask(&t.token(Role::Auditor), ACME).await, [no, no, None, None, no, None]);
        for role in [Role::Sender, Role::Portal, Role::Directory, Role::Operator] {
            assert_eq!(ask(&t.token(role), ACME).await, [no; 6], "{role:?}");
        }
        let own = Pass { patient: Some("pat".into()), ..Pass::new(&[Role::Patient], &[ACME]) };
        assert_eq!(ask(&t.token_of(&own), ACME).await, [no; 6]);
        // Whoever is at home elsewhere, and where nobody is.
        let south = token(t, Role::PracticeAdmin, "south");
        assert_eq!(ask(&south, ACME).await, [no; 6]);
        assert_eq!(ask(&token(t, Role::PracticeAdmin, "nowhere"), "nowhere").await, [no; 6]);
        // In a practice of one's own the broadcasts of others are not there.
        let absent = Some(Code::NotFound);
        assert_eq!(ask(&south, "south").await, [None, None, absent, None, absent, absent]);
        assert!(is(&get(t, &id).await, State::Scheduled));
    }

    async fn what_is_not_there_is_not_found(t: &mut TestApp) {
        practice(t).await;
        bare_practice(t, "bare").await;
        let nothing = "00000000-0000-0000-0000-000000000001";
        let get = GetBroadcastRequest { practice_id: ACME.into(), broadcast_id: nothing.into() };
        let said = refused(t.caller(Role::Staff).broadcasts.get_broadcast(get).await, Code::NotFound, "NOT_FOUND");
        assert!(said.message().contains("broadcast"));
        let unnamed = GetBroadcastRequest { practice_id: ACME.into(), ..Default::default() };
        let unnamed = t.caller(Role::Staff).broadcasts.get_broadcast(unnamed).await;
        assert_eq!(fields(&refused(unnamed, Code::InvalidArgument, "FIELD_INVALID")), ["broadcast_id"]);
        let stranger = try_preview(t, input(all(), &BOTH), "stranger").await;
        refused(stranger, Code::NotFound, "NOT_FOUND");
        let odd = try_preview(t, input(all(), &BOTH), "a b").await;
        assert_eq!(fields(&refused(odd, Code::InvalidArgument, "FIELD_INVALID")), ["sample_patient_id"]);
    }

    async fn lists_go_page_by_page_and_by_state(t: &mut TestApp) {
        practice(t).await;
        for n in 0..5 {
            let schedule_time = Some(t.after(TimeDelta::hours(1)));
            create(t, BroadcastInput { title: format!("b{n}"), schedule_time, ..input(all(), &BOTH) }).await;
            t.advance(TimeDelta::seconds(1));
        }
        let first = list(t, &[], 2, "").await.unwrap();
        assert_eq!(titles(&first.broadcasts), ["b4", "b3"]);
        let second = list(t, &[], 2, &first.next_page_token).await.unwrap();
        assert_eq!(titles(&second.broadcasts), ["b2", "b1"]);
        let third = list(t, &[], 2, &second.next_page_token).await.unwrap();
        assert_eq!((titles(&third.broadcasts), third.next_page_token.as_str()), (vec!["b0"], ""));
        cancel(t, &third.broadcasts[0].broadcast_id).await;
        let cancelled = list(t, &[State::Cancelled], 0, "").await.unwrap();
        assert_eq!(titles(&cancelled.broadcasts), ["b0"]);
        assert_eq!(counts(&cancelled.broadcasts[0]), [0; 7]);
        // A token is good for the list that it was made for.
        let odd = list(t, &[State::Scheduled], 2, &first.next_page_token).await;
        refused(odd, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        let twice = list(t, &[State::Running, State::Running], 2, "").await;
        assert_eq!(fields(&refused(twice, Code::InvalidArgument, "FIELD_INVALID")), ["states[1]"]);
    }

    async fn auditors_see_where_it_stands_and_not_what_it_says(t: &mut TestApp) {
        practice(t).await;
        let made = create(t, input(all(), &BOTH)).await;
        let wanted = GetBroadcastRequest { practice_id: ACME.into(), broadcast_id: made.broadcast_id.clone() };
        let mut auditor = t.caller(Role::Auditor).broadcasts;
        let seen = auditor.get_broadcast(wanted).await.unwrap().into_inner().broadcast.unwrap();
        let listed = ListBroadcastsRequest { practice_id: ACME.into(), ..Default::default() };
        let listed = auditor.list_broadcasts(listed).await.unwrap().into_inner().broadcasts.remove(0);
        let watch = WatchBroadcastRequest { practice_id: ACME.into(), broadcast_id: made.broadcast_id.clone() };
        let watched = auditor.watch_broadcast(watch).await.unwrap().into_inner().message().await.unwrap().unwrap();
        for seen in [seen, listed, watched.broadcast.unwrap()] {
            assert_eq!((seen.title.as_str(), seen.subject.as_str(), seen.body.as_str()), ("Closed on Friday", "", ""));
            assert_eq!(seen.recipient_count, 1);
        }
        assert!(!get(t, &made.broadcast_id).await.body.is_empty());
    }
}
