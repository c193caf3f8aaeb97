//! A loop of reqwest that sends what the product sent, as often as it is told.

use std::{net::SocketAddr, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

use crate::sinks::{CALLBACK, PATH};

pub(super) async fn send(to: SocketAddr, (count, width): (usize, usize), sample: String) {
    let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let (before, after) = sample.split_once(CALLBACK).unwrap();
    let after = after.split_once('&').map_or("", |(_, rest)| rest);
    let room = Arc::new(Semaphore::new(width));
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let permit = Arc::clone(&room).acquire_owned().await.unwrap();
        let request = client
            .post(format!("http://{to}{PATH}"))
            .basic_auth("AC00000000000000000000000000000001", Some("bench"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("{before}{CALLBACK}http%3A%2F%2Flocalhost%2F{}&{after}", Uuid::new_v4().simple()));
        tasks.spawn(async move {
            let answer: serde_json::Value =
                serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
            assert!(answer["sid"].is_string());
            drop(permit);
        });
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
    }
    tasks.join_all().await;
}
