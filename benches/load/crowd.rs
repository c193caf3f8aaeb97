//! Many patients of the first practice, and what is announced to all of them.

use std::{ops::Range, time::Duration};

use heedwell::grpc::proto::{
    self, broadcast::State, broadcast_service_client::BroadcastServiceClient,
    directory_service_client::DirectoryServiceClient, preferences_service_client::PreferencesServiceClient,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::product::{CROWD, PATIENTS, Product, Way, practice};

impl Product {
    /// These of the crowd of the first practice, each with a number and a mailbox of their own.
    pub(crate) async fn furnish_crowd(&self, numbers: Range<usize>) {
        let mut directory = DirectoryServiceClient::new(self.connect().await);
        let all: Vec<_> = numbers.map(one_of_the_crowd).collect();
        for patients in all.chunks(2 * PATIENTS) {
            let put = proto::BatchPutPatientsRequest { practice_id: practice(0), patients: patients.to_vec() };
            directory.batch_put_patients(self.request(put)).await.unwrap();
        }
    }

    /// Asks what a broadcast to the crowd, of which there are so many, would do. Says how long the answer took.
    pub(crate) async fn preview_broadcast(&self, ways: &[Way], count: usize) -> Duration {
        let mut broadcasts = BroadcastServiceClient::new(self.connect().await);
        let preview = proto::PreviewBroadcastRequest {
            practice_id: practice(0),
            broadcast: Some(announcement(ways)),
            sample_patient_id: String::new(),
        };
        let start = Instant::now();
        let preview = broadcasts.preview_broadcast(self.request(preview)).await.unwrap().into_inner();
        let time = start.elapsed();
        let count = i64::try_from(count).unwrap();
        assert!(preview.recipient_count == count && preview.reaches.iter().all(|reach| reach.would_send == count));
        time
    }

    /// Sends a broadcast to the crowd, and yields its id.
    pub(crate) async fn broadcast(&self, ways: &[Way], count: usize) -> String {
        let mut broadcasts = BroadcastServiceClient::new(self.connect().await);
        let create = proto::CreateBroadcastRequest {
            practice_id: practice(0),
            request_id: Uuid::now_v7().simple().to_string(),
            broadcast: Some(announcement(ways)),
            expected_recipients: i64::try_from(count).unwrap(),
        };
        let made = broadcasts.create_broadcast(self.request(create)).await.unwrap().into_inner();
        made.broadcast.unwrap().broadcast_id
    }

    /// Watches a broadcast until nothing of it is pending. Yields its counts then.
    pub(crate) async fn over(&self, id: &str) -> proto::DeliveryCounts {
        let mut broadcasts = BroadcastServiceClient::new(self.connect().await);
        let watch = proto::WatchBroadcastRequest { practice_id: practice(0), broadcast_id: id.into() };
        let mut steps = broadcasts.watch_broadcast(self.request(watch)).await.unwrap().into_inner();
        loop {
            let seen = steps.message().await.unwrap().unwrap().broadcast.unwrap();
            if seen.state() == State::Completed {
                return seen.counts.unwrap();
            }
        }
    }

    /// Puts on record that one of the crowd wants no more texts. Says how many attempts are under way all the same.
    pub(crate) async fn opt_out(&self, connection: tonic::transport::Channel, number: usize) -> i32 {
        let record = proto::RecordConsentRequest {
            practice_id: practice(0),
            request_id: Uuid::now_v7().simple().to_string(),
            patient_id: one_of_the_crowd(number).patient_id,
            channel: proto::Channel::Sms.into(),
            state: proto::ConsentState::OptedOut.into(),
            source: proto::ConsentSource::Staff.into(),
            effective_time: None,
            evidence: "said so on the phone".into(),
        };
        let mut preferences = PreferencesServiceClient::new(connection);
        loop {
            match preferences.record_consent(self.request(record.clone())).await {
                Ok(answer) => return answer.into_inner().in_flight_attempts,
                // Every call is safe to repeat.
                Err(status) if status.code() == tonic::Code::Unavailable => {}
                Err(status) => panic!("{status}"),
            }
        }
    }
}

/// Where one of the crowd gets texts.
pub(crate) fn phone_of(number: usize) -> String {
    one_of_the_crowd(number).mobile_phone
}

fn one_of_the_crowd(number: usize) -> proto::Patient {
    proto::Patient {
        patient_id: format!("{CROWD}-{number}"),
        first_name: "Pat".into(),
        mobile_phone: format!("+1212{}{:04}", 300 + number / 10_000, number % 10_000),
        email: format!("{CROWD}-{number}@example.test"),
        tags: vec![CROWD.into()],
        ..Default::default()
    }
}

fn announcement(ways: &[Way]) -> proto::BroadcastInput {
    let tags = proto::audience::Tags { values: vec![CROWD.into()] };
    proto::BroadcastInput {
        title: "Bench".into(),
        audience: Some(proto::Audience { selection: Some(proto::audience::Selection::Tags(tags)) }),
        channels: ways.iter().map(|way| way.channel().into()).collect(),
        subject: "Closed on Friday".into(),
        body: "Dear {{first_name}}, we are closed on Friday.".into(),
        schedule_time: None,
    }
}
