//! What callers ask.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use heedwell::grpc::proto::{
    self, directory_service_client::DirectoryServiceClient, notify_service_client::NotifyServiceClient,
    preferences_service_client::PreferencesServiceClient,
};
use tokio::time::Instant;

use super::{Callers, PATIENTS, PRACTICES, SYSTEM, order, practice, request};

impl Callers {
    /// Asks for a patient and says how long it took.
    pub(super) async fn read(&self) -> Duration {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let (practice_id, patient_id) = (practice(number), format!("patient-{}", number / PRACTICES % PATIENTS));
        let start = Instant::now();
        let mut client = DirectoryServiceClient::new(self.connections[0].clone());
        let get = proto::GetPatientRequest { practice_id, patient_id };
        assert!(client.get_patient(request(&self.token, get)).await.unwrap().into_inner().patient.is_some());
        start.elapsed()
    }

    /// Asks for the first page of a list and says how long it took.
    pub(crate) async fn list(&self, filter: proto::DeliveryFilter) -> Duration {
        let start = Instant::now();
        let list =
            proto::ListDeliveriesRequest { practice_id: practice(0), filter: Some(filter), ..Default::default() };
        let mut client = NotifyServiceClient::new(self.connections[0].clone());
        client.list_deliveries(request(&self.token, list)).await.unwrap();
        start.elapsed()
    }

    /// After which every change of the first practice is news.
    pub(crate) async fn cursor(&self) -> String {
        let list = proto::ListDeliveriesRequest { practice_id: practice(0), page_size: 1, ..Default::default() };
        let mut client = NotifyServiceClient::new(self.connections[0].clone());
        client.list_deliveries(request(&self.token, list)).await.unwrap().into_inner().watch_cursor
    }

    /// Asks for the statistics of 92 days and says how long it took.
    pub(crate) async fn stats(&self) -> Duration {
        let start = Instant::now();
        let begin = SystemTime::now() - Duration::from_secs(92 * 24 * 3_600 - 60);
        let stats = proto::GetDeliveryStatsRequest {
            practice_id: practice(0),
            start_time: Some(begin.into()),
            ..Default::default()
        };
        let mut client = NotifyServiceClient::new(self.connections[0].clone());
        client.get_delivery_stats(request(&self.token, stats)).await.unwrap();
        start.elapsed()
    }

    /// Asks how these patients of the first practice can be reached.
    pub(crate) async fn reach(&self, ids: &[String]) {
        let reach =
            proto::BatchGetReachabilityRequest { practice_id: practice(0), patient_ids: ids.to_vec(), kind: SYSTEM };
        let mut client = PreferencesServiceClient::new(self.connections[0].clone());
        let answer = client.batch_get_reachability(request(&self.token, reach)).await.unwrap().into_inner();
        assert_eq!((answer.patients.len(), answer.missing_patient_ids.len()), (ids.len(), 0));
    }

    /// Asks what a send would do.
    pub(crate) async fn preview(&self, number: usize) {
        let order = order(practice(0), number, format!("patient-{}", number % PATIENTS), None);
        let preview =
            proto::PreviewNotificationRequest { practice_id: order.practice_id, notification: order.notification };
        let mut client = NotifyServiceClient::new(self.connections[0].clone());
        let answer = client.preview_notification(request(&self.token, preview)).await.unwrap().into_inner();
        assert_eq!(answer.channels.len(), 4);
    }
}
