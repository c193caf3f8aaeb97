//! How many deliveries there are, by channel, state and reason.

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    domain::{Practices, Role},
    grpc::proto::{
        Channel, GetDeliveryStatsRequest, GetDeliveryStatsResponse, NotificationKind,
        get_delivery_stats_response::FailureCount,
    },
};
use tonic::{Code, Status};

use super::{
    given::{practice, practice_named, reminder, send, send_over, somebody_with_phone, token},
    retries::retry,
    seen::{fields, refused, time, until_state},
};
use crate::support::app::{ACME, Pass, TestApp, on_a_server, timestamp};

type Period = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

pub(super) async fn ask(
    t: &TestApp,
    (start, end): Period,
    kinds: Vec<i32>,
) -> Result<GetDeliveryStatsResponse, Status> {
    let request = GetDeliveryStatsRequest {
        practice_id: ACME.into(),
        start_time: start.map(timestamp),
        end_time: end.map(timestamp),
        kinds,
    };
    Ok(t.staff().get_delivery_stats(request).await?.into_inner())
}

/// Of today's deliveries.
async fn stats(t: &TestApp, kinds: &[NotificationKind]) -> GetDeliveryStatsResponse {
    let kinds = kinds.iter().map(|kind| *kind as i32).collect();
    ask(t, (Some(t.now() - TimeDelta::hours(24)), None), kinds).await.unwrap()
}

/// Pending, unconfirmed, sent, delivered, failed, skipped and cancelled, as a channel has them.
fn of(stats: &GetDeliveryStatsResponse, channel: Channel) -> [i64; 7] {
    let counts = stats.channels.iter().find(|it| it.channel() == channel).and_then(|it| it.counts).unwrap();
    let [pending, unconfirmed, sent] = [counts.pending, counts.unconfirmed, counts.sent];
    [pending, unconfirmed, sent, counts.delivered, counts.failed, counts.skipped, counts.cancelled]
}

/// Channel, reason and count of each failure.
fn failures(stats: &GetDeliveryStatsResponse) -> Vec<(&'static str, &'static str, i64)> {
    let row = |it: &FailureCount| (it.channel().as_str_name(), it.reason().as_str_name(), it.count);
    stats.failures.iter().map(row).collect()
}

on_a_server! {
    async fn counts_are_those_of_the_list_as_deliveries_go_on(t: &mut TestApp) {
        let empty = { practice(t).await; stats(t, &[]).await };
        let channels: Vec<_> = empty.channels.iter().map(|it| it.channel()).collect();
        assert!(channels == [Channel::InApp, Channel::Email, Channel::Sms, Channel::Push]);
        assert!(channels.iter().all(|channel| of(&empty, *channel) == [0; 7]) && empty.failures.is_empty());

        // A phone that is off, a number that does not exist, one that is skipped, and one that arrives.
        for (id, phone) in [("off", "+12025550110"), ("gone", "+12025550111")] {
            somebody_with_phone(t, id, phone).await;
        }
        let off = send_over(t, "off", Channel::Sms).await;
        let gone = send_over(t, "gone", Channel::Sms).await;
        for id in [&off, &gone] {
            until_state(t, id, "FAILED").await;
        }
        let arrived = send_over(t, "pat", Channel::Sms).await;
        until_state(t, &arrived, "DELIVERED").await;
        let mail = send_over(t, "pat", Channel::Email).await;
        until_state(t, &mail, "SENT").await;
        let now = stats(t, &[]).await;
        assert_eq!(of(&now, Channel::Sms), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(of(&now, Channel::Email), [0, 0, 1, 0, 0, 0, 0]);
        let why = [
            ("CHANNEL_SMS", "FAILURE_REASON_INVALID_ADDRESS", 1),
            ("CHANNEL_SMS", "FAILURE_REASON_UNREACHABLE", 1),
        ];
        assert_eq!(failures(&now), why);

        // Sending again makes another delivery; the old one stays what it was.
        t.sandbox.rules().set("+12025550110", "delivered").unwrap();
        let again = retry(t, &off).await;
        until_state(t, &again.delivery_id, "DELIVERED").await;
        let now = stats(t, &[]).await;
        assert_eq!((of(&now, Channel::Sms), failures(&now)), ([0, 0, 0, 2, 2, 0, 0], why.to_vec()));
    }

    async fn kinds_and_hours_choose_what_is_counted(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        let start = t.now();
        send(t, reminder(t, "pat", &[Channel::InApp])).await;
        t.advance(TimeDelta::hours(3));
        send(t, reminder(t, "pat", &[Channel::InApp])).await;
        let only = |count| [0, 0, 0, count, 0, 0, 0];
        let in_app = |stats: &GetDeliveryStatsResponse| of(stats, Channel::InApp);
        assert_eq!(in_app(&stats(t, &[NotificationKind::AppointmentReminder]).await), only(2));
        assert_eq!(in_app(&stats(t, &[NotificationKind::PaymentDue]).await), only(0));
        let both = [NotificationKind::PaymentDue, NotificationKind::AppointmentReminder];
        assert_eq!(in_app(&stats(t, &both).await), only(2));
        let first = ask(t, (Some(start), Some(start + TimeDelta::seconds(1))), vec![]).await.unwrap();
        assert_eq!(in_app(&first), only(1));
        let (begin, end) = (time(first.start_time).unwrap(), time(first.end_time).unwrap());
        assert!(begin <= start && start < end && end - begin == TimeDelta::hours(1) && begin.timestamp() % 3_600 == 0);
        // Up to the end of the hour before, and without it.
        let before = ask(t, (Some(begin - TimeDelta::hours(1)), Some(begin)), vec![]).await.unwrap();
        assert_eq!(in_app(&before), only(0));
        // Another practice has its own.
        let foreign = GetDeliveryStatsRequest {
            practice_id: "beta".into(),
            start_time: Some(timestamp(start)),
            ..Default::default()
        };
        let mut beta = t.caller_with(&token(t, Role::Auditor, "beta")).notify;
        assert_eq!(in_app(&beta.get_delivery_stats(foreign).await.unwrap().into_inner()), only(0));
    }

}

on_a_server! {
    sqlite:
    async fn a_period_that_is_none_or_too_long_is_refused(t: &mut TestApp) {
        practice(t).await;
        let now = t.now();
        let days = |days| Some(now + TimeDelta::days(days));
        for (start, end) in [
            (None, None),
            (days(1), None),
            (Some(now), Some(now)),
            (days(0), days(-1)),
            (days(-93), None),
            (days(-200), days(-107)),
        ] {
            let status = refused(ask(t, (start, end), vec![]).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["start_time"], "{start:?} to {end:?}");
        }
        let status = refused(ask(t, (None, None), vec![99, 1, 1]).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["kinds[0]", "kinds[2]", "start_time"]);
        // A practice that is not there is refused like a foreign one.
        let everywhere = t.token_of(&Pass { practices: Practices::All, ..Pass::new(&[Role::Auditor], &[]) });
        let nowhere = GetDeliveryStatsRequest {
            practice_id: "nowhere".into(),
            start_time: Some(timestamp(now - TimeDelta::days(1))),
            ..Default::default()
        };
        let answer = t.caller_with(&everywhere).notify.get_delivery_stats(nowhere).await;
        refused(answer, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        ask(t, (days(-92), None), vec![]).await.unwrap();
        ask(t, (days(-200), days(-108)), vec![]).await.unwrap();
    }
}
