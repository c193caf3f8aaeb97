//! Callers who go away in the midst of a call, again and again, while the server has next to no connections: none of these is left
//! in a transaction, or with the rows of a practice that nobody asks about any more.

use std::time::Duration;

use futures::{StreamExt, future::join_all, stream};
use heedwell::{
    domain::Role,
    grpc::proto::{
        BatchPutPatientsRequest, Channel, ChannelSet, GetDeliveryStatsRequest, GetNotificationRequest,
        GetPatientRequest, KindChoice, ListDeliveriesRequest, UpdatePatientPreferencesRequest,
    },
};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::time::timeout;
use tonic::Status;

use super::{
    fairness::wait_for,
    given::{new_key, patient, practice_named, reminder},
};
use crate::support::app::{ACME, Caller, Pass, TestApp, on_a_server};

/// How many calls are given up: `HEEDWELL_TEST_CANCELS`.
fn cancels() -> usize {
    std::env::var("HEEDWELL_TEST_CANCELS").ok().map_or(1_000, |count| count.parse().unwrap())
}

/// At once under way.
const CALLERS: usize = 32;

/// Somebody of a practice, and a notification there.
#[derive(Clone)]
struct Somebody {
    practice: &'static str,
    caller: Caller,
    notification_id: String,
}

fn token(t: &TestApp, practice: &'static str) -> String {
    t.token_of(&Pass::new(&[Role::Sender, Role::Staff, Role::Directory], &[practice]))
}

impl Somebody {
    async fn of(t: &TestApp, practice: &'static str) -> Self {
        practice_named(t, practice).await;
        let mut caller = t.caller_with(&token(t, practice));
        let sent = caller.notify.send_notification(order(t, practice)).await.unwrap().into_inner();
        Self { practice, caller, notification_id: sent.notification.unwrap().notification_id }
    }

    /// The same over a connection of its own.
    async fn anew(self, t: &TestApp) -> Self {
        Self { caller: Caller::new(t.new_channel().await, &token(t, self.practice)), ..self }
    }

    /// One of the calls that read, or of those that write: alone, or together with others.
    async fn calls(mut self, t: &TestApp, number: usize) -> Result<(), Status> {
        let practice_id = || self.practice.to_owned();
        let pat = || "pat".to_owned();
        match number % 7 {
            0 => self.caller.notify.send_notification(order(t, self.practice)).await.map(drop),
            1 => {
                let request = GetNotificationRequest {
                    practice_id: practice_id(),
                    notification_id: self.notification_id,
                    view: 2,
                };
                self.caller.notify.get_notification(request).await.map(drop)
            }
            2 => {
                let request = ListDeliveriesRequest { practice_id: practice_id(), ..Default::default() };
                self.caller.notify.list_deliveries(request).await.map(drop)
            }
            3 => {
                let channels = Some(ChannelSet { values: vec![1 + i32::try_from(number % 2).unwrap()] });
                let choices = vec![KindChoice { kind: 1, channels }];
                let request = UpdatePatientPreferencesRequest {
                    practice_id: practice_id(),
                    patient_id: pat(),
                    choices,
                    etag: String::new(),
                };
                self.caller.preferences.update_patient_preferences(request).await.map(drop)
            }
            4 => {
                let somebody = patient(&format!("p-{}", number % 50), "", "");
                let request = BatchPutPatientsRequest { practice_id: practice_id(), patients: vec![somebody] };
                self.caller.directory.batch_put_patients(request).await.map(drop)
            }
            5 => {
                let [start_time, end_time] = [-1, 1].map(|hours| Some(t.after(chrono::TimeDelta::hours(hours))));
                let request =
                    GetDeliveryStatsRequest { practice_id: practice_id(), start_time, end_time, kinds: vec![] };
                self.caller.notify.get_delivery_stats(request).await.map(drop)
            }
            _ => {
                let request = GetPatientRequest { practice_id: practice_id(), patient_id: pat() };
                let found = self.caller.directory.get_patient(request).await?.into_inner().patient.unwrap();
                assert_eq!(found.patient_id, "pat");
                Ok(())
            }
        }
    }
}

fn order(t: &TestApp, practice: &str) -> heedwell::grpc::proto::SendNotificationRequest {
    heedwell::grpc::proto::SendNotificationRequest {
        practice_id: practice.into(),
        request_id: new_key(),
        notification: Some(reminder(t, "pat", &[Channel::InApp])),
    }
}

/// What PostgreSQL says of the server's connections.
#[derive(Debug, PartialEq, Eq)]
struct Connections {
    all: usize,
    /// In a transaction, or at work.
    busy: i64,
}

impl Connections {
    async fn of(t: &TestApp) -> Self {
        let raw = t.home.raw().await;
        let query = "SELECT count(*), count(*) FILTER (WHERE xact_start IS NOT NULL OR state <> 'idle') \
                     FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'heedwell'";
        let row = raw.query_one_raw(Statement::from_string(DbBackend::Postgres, query)).await.unwrap().unwrap();
        raw.close().await.unwrap();
        let number = |place: usize| row.try_get_by_index::<i64>(place).unwrap();
        Self { all: usize::try_from(number(0)).unwrap(), busy: number(1) }
    }
}

on_a_server! {
    async fn calls_that_are_given_up_leave_no_connection_behind(t: &mut TestApp) {
        t.restart_with(|config| config.store.connections = 4).await;
        let t = &*t;
        let everybody = [Somebody::of(t, ACME).await, Somebody::of(t, "beta").await];
        let all = |count: usize| join_all((0..count).map(|number| everybody[number % 2].clone().calls(t, number)));
        // As many connections as there ever are.
        for done in all(64).await {
            done.unwrap();
        }
        let postgres = t.home.backend == crate::support::Backend::Postgres;
        let given_up = stream::iter(0..cancels()).map(async |number| {
            let patience = Duration::from_micros(rand::random_range(0..4_000));
            timeout(patience, everybody[number % 2].clone().calls(t, number)).await.is_err()
        });
        let given_up = given_up.buffer_unordered(CALLERS).filter(|given_up| std::future::ready(*given_up)).count().await;
        assert!(given_up > cancels() / 4, "{given_up}");
        if postgres {
            // PostgreSQL ends whoever does nothing in a transaction for 5 s: none may be left that needs that.
            let rest = wait_for("no connection is in a transaction", async || Connections::of(t).await.busy == 0);
            timeout(Duration::from_secs(4), rest).await.unwrap();
            let after = Connections::of(t).await;
            assert!(after.all <= 4, "{after:?}");
        }
        // Over connections of their own: who gives up as often as that may be taken for an attacker, and hung up on.
        let everybody = [everybody[0].clone().anew(t).await, everybody[1].clone().anew(t).await];
        for done in join_all((0..64).map(|number| everybody[number % 2].clone().calls(t, number))).await {
            done.unwrap();
        }
    }
}
