//! Loops of reqwest that send what the product sent, as often as they are told.

use std::{net::SocketAddr, sync::Arc};

use reqwest::{Client, RequestBuilder, StatusCode};
use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

use crate::sinks::{ATTEMPT, CALLBACK, MAIL_PATH, PATH};

/// Texts, to Twilio.
pub(super) async fn texts(to: SocketAddr, batch: (usize, usize), sample: String) {
    let (before, after) = sample.split_once(CALLBACK).unwrap();
    let after = after.split_once('&').map_or("", |(_, rest)| rest);
    let text = |client: &Client, name: &str| {
        client
            .post(format!("http://{to}{PATH}"))
            .basic_auth("AC00000000000000000000000000000001", Some("bench"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("{before}{CALLBACK}http%3A%2F%2Flocalhost%2F{name}&{after}"))
    };
    let taken = |_, answer: &[u8]| {
        serde_json::from_slice::<serde_json::Value>(answer).is_ok_and(|answer| answer["sid"].is_string())
    };
    send(batch, text, taken).await;
}

/// Mails, to SendGrid.
pub(super) async fn mails(to: SocketAddr, batch: (usize, usize), sample: String) {
    let (before, after) = sample.split_once(ATTEMPT).unwrap();
    let (_, after) = after.split_once('"').unwrap();
    let mail = |client: &Client, name: &str| {
        client
            .post(format!("http://{to}{MAIL_PATH}"))
            .bearer_auth("bench")
            .header("content-type", "application/json")
            .body(format!("{before}{ATTEMPT}{name}\"{after}"))
    };
    send(batch, mail, |status, _: &[u8]| status == StatusCode::ACCEPTED).await;
}

async fn send(
    (count, width): (usize, usize),
    request: impl Fn(&Client, &str) -> RequestBuilder,
    taken: impl Fn(StatusCode, &[u8]) -> bool + Copy + Send + Sync + 'static,
) {
    let client = Client::builder().tcp_nodelay(true).build().unwrap();
    let room = Arc::new(Semaphore::new(width));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        let request = request(&client, &Uuid::new_v4().simple().to_string());
        tasks.spawn(async move {
            let answer = request.send().await.unwrap();
            let status = answer.status();
            assert!(taken(status, &answer.bytes().await.unwrap()), "{status}");
            drop(permit);
        });
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
    }
    tasks.join_all().await;
}
