//! Reminds patients of their visits, and tells what becomes of each reminder. `../README.md` says what goes in and out.

mod calls;
mod deliveries;

use std::{env, error::Error, fs, io, thread};

use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::{
    Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    calls::{call, code_name, passes, pause, reason},
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

/// Sends one reminder, however long the server may be away.
async fn remind(notify: &Notify, practice_id: &str, visit: Visit) -> Result<(), Box<dyn Error>> {
    let visit_details = AppointmentDetails { start_time: Some(visit.start.parse()?), ..Default::default() };
    let request = SendNotificationRequest {
        practice_id: practice_id.to_owned(),
        // Says what it is about, and is not random: whoever runs this once more, after a crash too, sends nothing twice.
        request_id: format!("reminder:{}", visit.appointment),
        notification: Some(NotificationInput {
            patient_id: visit.patient,
            payload: Some(Payload::AppointmentReminder(visit_details)),
            schedule_time: visit.send.as_deref().map(str::parse::<Timestamp>).transpose()?,
            reference: visit.appointment,
            ..Default::default()
        }),
    };
    let mut failures = 0;
    let event = loop {
        match call(async || notify.clone().send_notification(request.clone()).await).await {
            Ok(answer) => break json!({ "accepted": request.request_id, "replayed": answer.replayed }),
            Err(status) if passes(&status) => {
                say(&json!({ "waiting": code_name(&status) }));
                pause(&status, failures).await;
                failures += 1;
            }
            Err(status) => break json!({ "refused": request.request_id, "reason": reason(&status) }),
        }
    };
    say(&event);
    Ok(())
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

    let remind_all = async {
        let mut lines = lines();
        while let Some(line) = lines.recv().await {
            remind(&notify, &practice_id, serde_json::from_str(&line?)?).await?;
        }
        Ok(())
    };
    // Whoever gives no more visits has seen enough.
    tokio::select! {
        done = remind_all => done,
        status = Deliveries::new(notify.clone(), practice_id.clone()).follow() => Err(status.into()),
    }
}
