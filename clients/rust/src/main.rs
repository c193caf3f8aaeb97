//! Reminds patients of their visits, and tells what becomes of each reminder. `../README.md` says what goes in and out.

mod calls;
mod deliveries;

use std::{env, error::Error, fs, io, thread};

use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::{JoinSet, LocalSet},
};
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    calls::{Pauses, call, passes, reason, violations},
    deliveries::Deliveries,
    proto::{
        AppointmentDetails, NotificationInput, SendNotificationRequest, notification_input::Payload,
        notify_service_client::NotifyServiceClient,
    },
};

#[allow(clippy::all, dead_code, reason = "generated")]
mod proto {
    tonic::include_proto!("heedwell.v1");
}

/// So many visits are sent side by side: one that has to wait holds up no other.
const SIDE_BY_SIDE: usize = 16;

type Notify = NotifyServiceClient<InterceptedService<Channel, Bearer>>;

#[derive(Deserialize)]
struct Visit {
    appointment: String,
    patient: String,
    start: String,
    send: Option<String>,
}

/// Reads the token for each call: whoever renews it writes it to the file before the old one ends.
#[derive(Clone)]
struct Bearer {
    file: String,
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = fs::read_to_string(&self.file).map_err(|error| Status::failed_precondition(error.to_string()))?;
        let bearer = format!("Bearer {}", token.trim()).parse();
        request.metadata_mut().insert("authorization", bearer.map_err(|_| Status::failed_precondition("no token"))?);
        Ok(request)
    }
}

fn say(event: &Value) {
    println!("{event}");
}

/// A time with its zone: without, it would be another one on each machine.
fn when(text: &str) -> Result<Timestamp, String> {
    let offset = text.len().checked_sub(6).and_then(|start| text.get(start..));
    let zoned = text.ends_with(['Z', 'z']) || offset.is_some_and(|offset| offset.starts_with(['+', '-']));
    let found = text.parse().ok().filter(|_| zoned && text.contains(['T', 't']));
    found.ok_or_else(|| format!("{text} is no time with its zone"))
}

/// What is asked of the server for one line.
fn reminder(practice_id: &str, line: &str) -> Result<SendNotificationRequest, Box<dyn Error>> {
    let visit: Visit = serde_json::from_str(line)?;
    let start = when(&visit.start)?;
    Ok(SendNotificationRequest {
        practice_id: practice_id.to_owned(),
        // Says what it is about, and is not random: whoever runs this once more, after a crash too, sends nothing twice. A visit
        // that was moved is another one.
        request_id: format!("reminder:{}:{}", visit.appointment, start.seconds),
        notification: Some(NotificationInput {
            patient_id: visit.patient,
            payload: Some(Payload::AppointmentReminder(AppointmentDetails {
                start_time: Some(start),
                ..Default::default()
            })),
            schedule_time: visit.send.as_deref().map(when).transpose()?,
            reference: visit.appointment,
            ..Default::default()
        }),
    })
}

/// Sends one reminder, however long the server may be away.
async fn remind(notify: Notify, request: SendNotificationRequest) -> Result<(), Status> {
    let mut pauses = Pauses::default();
    loop {
        match call(async || notify.clone().send_notification(request.clone()).await).await {
            Ok(answer) => {
                say(&json!({ "accepted": request.request_id, "replayed": answer.replayed }));
                return Ok(());
            }
            Err(status) if passes(&status) => pauses.wait(status).await?,
            Err(status) => {
                let (reason, violations) = (reason(&status), violations(&status));
                say(&json!({ "refused": request.request_id, "reason": reason, "violations": violations }));
                return Ok(());
            }
        }
    }
}

/// Reminds of every visit that is given.
async fn remind_all(notify: &Notify, practice_id: &str) -> Result<(), Box<dyn Error>> {
    let (mut lines, mut number, mut sending) = (lines(), 0, JoinSet::new());
    loop {
        tokio::select! {
            Some(done) = sending.join_next() => done??,
            Some(line) = lines.recv(), if sending.len() < SIDE_BY_SIDE => {
                number += 1;
                match reminder(practice_id, &line?) {
                    Ok(request) => {
                        sending.spawn_local(remind(notify.clone(), request));
                    }
                    // One bad line is no reason to leave the others.
                    Err(error) => say(&json!({
                        "refused": format!("line {number}"),
                        "reason": "NOT_A_VISIT",
                        "violations": [{ "field": "line", "description": error.to_string() }],
                    })),
                }
            }
            else => return Ok(()),
        }
    }
}

/// The lines of standard input; read by a thread, since that blocks.
fn lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || io::stdin().lines().try_for_each(|line| sender.blocking_send(line)));
    receiver
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::var("HEEDWELL_ADDR").unwrap_or_else(|_| "127.0.0.1:50051".to_owned());
    let practice_id = env::var("HEEDWELL_PRACTICE")?;
    let bearer = Bearer { file: env::var("HEEDWELL_TOKEN_FILE")? };
    // To another machine: https, with one of tonic's features for TLS.
    let channel = Channel::from_shared(format!("http://{address}"))?.connect_lazy();
    let notify = NotifyServiceClient::with_interceptor(channel, bearer);

    // Whoever gives no more visits has seen enough.
    let work = async {
        tokio::select! {
            done = remind_all(&notify, &practice_id) => done,
            status = Deliveries::new(notify.clone(), practice_id.clone()).follow() => Err(status.into()),
        }
    };
    LocalSet::new().run_until(work).await
}
