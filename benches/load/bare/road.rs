//! The rest of the road behind a bare accept: claims what was committed, posts it, and marks it as sent, in batches both
//! ways.

use std::{net::SocketAddr, sync::Arc};

use tokio::{sync::Notify, task::JoinSet};
use uuid::Uuid;

use super::copies::Writer;
use crate::sinks::{CALLBACK, PATH};

/// Calls under way, of one practice.
const SLOTS: usize = 16;

/// Works for the practice of `writer` whenever `committed` says so.
pub(super) async fn walk(mut writer: Writer, to: SocketAddr, committed: Arc<Notify>) {
    let client = reqwest::Client::builder().tcp_nodelay(true).build().unwrap();
    let mut calls = JoinSet::new();
    loop {
        let claimed = if calls.len() < SLOTS { writer.claim(SLOTS - calls.len()).await } else { Vec::new() };
        let none = claimed.is_empty();
        for id in claimed {
            let client = client.clone();
            calls.spawn(async move {
                post(&client, to).await;
                id
            });
        }
        let mut sent = Vec::new();
        tokio::select! {
            Some(id) = calls.join_next() => sent.push(id.unwrap()),
            () = committed.notified(), if none && calls.len() < SLOTS => {}
        }
        while let Some(id) = calls.try_join_next() {
            sent.push(id.unwrap());
        }
        if !sent.is_empty() {
            writer.settle(&sent).await;
        }
    }
}

async fn post(client: &reqwest::Client, to: SocketAddr) {
    let body = format!(
        "To=%2B12025552000&From=%2B12025550199&Body=A+notice+of+about+the+usual+length%2C+with+a+name.\
         &{CALLBACK}http%3A%2F%2Flocalhost%2F{}&ValidityPeriod=36000",
        Uuid::new_v4().simple()
    );
    let request = client
        .post(format!("http://{to}{PATH}"))
        .basic_auth("AC00000000000000000000000000000001", Some("bench"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
}
