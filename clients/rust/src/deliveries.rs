//! All deliveries of a practice, as of the last change.

use std::{collections::HashMap, time::Duration};

use serde_json::json;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{
    Notify,
    calls::{Pauses, call, passes},
    proto::{Delivery, DeliveryState, ListDeliveriesRequest, WatchDeliveriesRequest, watch_deliveries_request::Start},
    say,
};

/// A stream says at least every so often that it is alive. One that misses three is dead, whatever TCP thinks of it.
const HEARTBEAT: Duration = Duration::from_secs(5);

pub(crate) struct Deliveries {
    notify: Notify,
    practice_id: String,
    revisions: HashMap<String, i64>,
    /// Where to go on; empty when only a list tells.
    cursor: String,
    pauses: Pauses,
}

impl Deliveries {
    pub(crate) fn new(notify: Notify, practice_id: String) -> Self {
        Self { notify, practice_id, revisions: HashMap::new(), cursor: String::new(), pauses: Pauses::default() }
    }

    /// Keeps up, across the end of every stream. Returns only what no other try can mend.
    pub(crate) async fn follow(mut self) -> Status {
        loop {
            match self.stream().await {
                // Ended as planned. A server that stops ends all its streams, so not everybody comes back at once.
                Ok(()) => sleep(Duration::from_secs_f64(rand::random())).await,
                // The changes after the cursor are gone: it is a week old, or the database came back from a backup.
                Err(status) if status.code() == Code::OutOfRange => {
                    say(&json!({ "gap": true }));
                    self.cursor.clear();
                }
                Err(status) if passes(&status) => {
                    if let Err(status) = self.pauses.wait(status).await {
                        return status;
                    }
                }
                Err(status) => return status,
            }
        }
    }

    /// Takes in one stream, to its end.
    async fn stream(&mut self) -> Result<(), Status> {
        if self.cursor.is_empty() {
            self.cursor = self.list().await?;
        }
        let request = WatchDeliveriesRequest {
            practice_id: self.practice_id.clone(),
            start: Some(Start::Cursor(self.cursor.clone())),
            heartbeat_interval: HEARTBEAT.try_into().ok(),
            ..Default::default()
        };
        let silent = |_| Status::unavailable("no heartbeat");
        let mut stream =
            timeout(3 * HEARTBEAT, self.notify.watch_deliveries(request)).await.map_err(silent)??.into_inner();
        while let Some(step) = timeout(3 * HEARTBEAT, stream.message()).await.map_err(silent)?? {
            step.changes.into_iter().filter_map(|change| change.delivery).for_each(|delivery| self.apply(&delivery));
            // Not before its changes are applied, else a crash in between loses them. Kept on disk, both go there together.
            self.cursor = step.cursor;
            self.pauses = Pauses::default();
        }
        Ok(())
    }

    /// Takes everything in, and returns where to watch from: a cursor from before the first page was read.
    async fn list(&mut self) -> Result<String, Status> {
        let mut request =
            ListDeliveriesRequest { practice_id: self.practice_id.clone(), page_size: 500, ..Default::default() };
        let mut cursor = String::new();
        loop {
            let page = call(async || self.notify.clone().list_deliveries(request.clone()).await).await?;
            if cursor.is_empty() {
                cursor = page.watch_cursor;
            }
            page.deliveries.iter().for_each(|delivery| self.apply(delivery));
            // A page may be short and still not be the last.
            if page.next_page_token.is_empty() {
                return Ok(cursor);
            }
            request.page_token = page.next_page_token;
        }
    }

    fn apply(&mut self, delivery: &Delivery) {
        let known = self.revisions.entry(delivery.delivery_id.clone()).or_default();
        // Lists and watches overlap, and a watch may repeat itself.
        if delivery.revision <= *known {
            return;
        }
        *known = delivery.revision;
        // A newer server may have states that this program was not built with.
        let state = DeliveryState::try_from(delivery.state).map_or("OTHER", |state| state.as_str_name());
        let state = state.trim_start_matches("DELIVERY_STATE_");
        say(&json!({ "delivery": delivery.delivery_id, "revision": delivery.revision, "state": state }));
    }
}
