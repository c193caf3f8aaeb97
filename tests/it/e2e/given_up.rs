//! Callers who go away in the midst of a call, again and again, while the server has next to no connections: none of these is left
//! in a transaction, or with the rows of a practice that nobody asks about any more.

use std::{collections::BTreeSet, time::Duration};

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
use crate::support::app::{ACME, Caller, TestApp, on_a_server};

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

impl Somebody {
    async fn of(t: &TestApp, practice: &'static str) -> Self {
        practice_named(t, practice).await;
        let pass = crate::support::app::Pass::new(&[Role::Sender, Role::Staff, Role::Directory], &[practice]);
        let mut caller = t.caller_with(&t.token_of(&pass));
        let sent = caller.notify.send_notification(order(t, practice)).await.unwrap().into_inner();
        Self { practice, caller, notification_id: sent.notification.unwrap().notification_id }
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

/// What PostgreSQL says of the server's connections: which there are, and how many are in a transaction.
async fn connections(t: &TestApp) -> (BTreeSet<i32>, usize) {
    let raw = t.home.raw().await;
    let query = "SELECT pid, xact_start IS NOT NULL OR state <> 'idle' FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'heedwell'";
    let rows = raw.query_all_raw(Statement::from_string(DbBackend::Postgres, query)).await.unwrap();
    raw.close().await.unwrap();
    let busy = rows.iter().filter(|row| row.try_get_by_index::<bool>(1).unwrap()).count();
    (rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect(), busy)
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
        let before = if postgres { connections(t).await.0 } else { BTreeSet::new() };
        let given_up = stream::iter(0..cancels()).map(async |number| {
            let patience = Duration::from_micros(rand::random_range(0..4_000));
            timeout(patience, everybody[number % 2].clone().calls(t, number)).await.is_err()
        });
        let given_up = given_up.buffer_unordered(CALLERS).filter(|given_up| std::future::ready(*given_up)).count().await;
        assert!(given_up > cancels() / 4, "{given_up}");
        if postgres {
            wait_for("no connection is in a transaction", async || connections(t).await.1 == 0).await;
            let after = connections(t).await.0;
            assert!(after.is_superset(&before) && after.len() <= 4, "PostgreSQL had to end one: {before:?} {after:?}");
        }
        for done in all(64).await {
            done.unwrap();
        }
    }
}
