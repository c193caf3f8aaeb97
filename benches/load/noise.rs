//! Many quiet practices beside a noisy one: how soon their urgent texts and their reminders are at the provider while nobody else
//! wants anything, while a great many broadcast texts of the noisy practice are made, and while those wait, as its account is
//! out of order and whatever is tried fails.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use heedwell::grpc::proto::{
    self, notification_input::Payload, notify_service_client::NotifyServiceClient, sms_settings::Sender,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Arguments, bare,
    database::{Kind, Look},
    figures::spread,
    machine::peak,
    product::{AUTH_TOKEN, FROM_NUMBER, Product, Way, practice, settings},
    sinks::{FAILING_SID, Sinks},
};

/// Patients of the noisy practice, at most.
const CROWD: usize = 100_000;
/// Patients of a quiet practice.
const PATIENTS: usize = 10;
const DAY: Duration = Duration::from_secs(86_400);

/// The server, and how many practices are quiet.
struct Bench {
    product: Product,
    sinks: Sinks,
    quiet: usize,
    look: Look,
    url: String,
}

pub(crate) async fn run(arguments: &Arguments) {
    let (rows, sends) = (arguments.number("--count", 1_000_000), arguments.number("--sends", 300));
    let quiet = arguments.number("--quiet", 49);
    for kind in arguments.kinds() {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::start(kind, folder.path(), quiet).await;
        println!("noise on {kind:?}: {quiet} quiet practices, {sends} texts each time, beside {rows} of a noisy one");
        let idle = bench.measure("idle", sends).await;
        let made = rows.min(arguments.number("--made", rows));
        let patients = made.min(CROWD);
        bench.product.furnish_crowd(0..patients).await;
        for _ in 0..made.div_ceil(patients) {
            bench.product.broadcast(&[Way::Http], patients).await;
        }
        bench.measure("while they are made", sends).await;
        let start = Instant::now();
        bench.look.none("SELECT count(*) FROM broadcast WHERE NOT planned").await;
        println!("  {made} are made after {:.0} s more", start.elapsed().as_secs_f64());
        if made < rows {
            bare::more(&bench.url, &practice(0), rows - made).await;
        }
        let waiting = bench.look.count("SELECT count(*) FROM delivery WHERE phase = 0").await;
        println!("  {waiting} wait");
        let noise = bench.measure("while they wait", sends).await;
        let refused = bench.sinks.refused();
        assert!(refused > 0, "the noisy practice has tried nothing");
        println!(
            "  => urgent, slowest of a hundred: {:.1} times what it is idle (goal 2, and below 1 s); {refused} tries of the noisy \
             practice; {:.0} MiB at most",
            noise / idle,
            peak(bench.product.id())
        );
    }
}

impl Bench {
    async fn start(kind: Kind, folder: &Path, quiet: usize) -> Self {
        let sinks = Sinks::start().await;
        let url = kind.create(folder).await;
        let product = Product::start(folder, &url, sinks.addrs).await;
        for number in 0..quiet {
            product.furnish_one(&quiet_one(number), PATIENTS, settings(Way::Http, sinks.addrs)).await;
        }
        let failing = proto::SmsSettings {
            account_sid: FAILING_SID.into(),
            auth_token: AUTH_TOKEN.into(),
            sender: Some(Sender::FromNumber(FROM_NUMBER.into())),
            ..Default::default()
        };
        let failing = proto::PracticeSettings { sms: Some(failing), ..settings(Way::Http, sinks.addrs) };
        product.furnish_one(&practice(0), 0, failing).await;
        let look = Look::open(&url).await;
        Self { product, sinks, quiet, look, url }
    }

    /// Sends one text after the other, of one quiet practice after the other, and yields the slowest of a hundred urgent ones, in
    /// seconds.
    async fn measure(&self, when: &str, count: usize) -> f64 {
        let connection = self.product.connect().await;
        let mut slowest = 0.0;
        for (what, urgent) in [("urgent", true), ("reminder", false)] {
            let mut waits = Vec::new();
            for number in 0..count {
                // Off the beat of whatever happens in whole milliseconds.
                tokio::time::sleep(Duration::from_micros(rand::random_range(15_000..30_000))).await;
                self.sinks.reset();
                let start = Instant::now();
                let send = text(&quiet_one(number % self.quiet), number / self.quiet, urgent);
                let mut client = NotifyServiceClient::new(connection.clone());
                client.send_notification(self.product.request(send)).await.unwrap();
                waits.extend(self.sinks.wait_for(1).await.last().map(|came| *came - start));
            }
            println!("  {when:<20} {what:<9} {}", spread(&waits));
            waits.sort_unstable();
            if urgent {
                slowest = waits.get((waits.len() - 1) * 99 / 100).map_or(0.0, Duration::as_secs_f64);
            }
        }
        slowest
    }
}

fn quiet_one(number: usize) -> String {
    format!("quiet-{number}")
}

fn text(practice: &str, number: usize, urgent: bool) -> proto::SendNotificationRequest {
    let payload = if urgent {
        Payload::System(proto::SystemDetails { title: "Notice".into(), body: "A notice.".into(), security: false })
    } else {
        let start_time = Some((SystemTime::now() + DAY).into());
        Payload::AppointmentReminder(proto::AppointmentDetails { start_time, ..Default::default() })
    };
    let priority =
        if urgent { proto::notification_input::Priority::Urgent } else { proto::notification_input::Priority::Normal };
    let notification = proto::NotificationInput {
        patient_id: format!("patient-{}", number % PATIENTS),
        payload: Some(payload),
        channels: vec![proto::Channel::Sms.into()],
        reference: format!("reference-{number}"),
        priority: priority.into(),
        ..Default::default()
    };
    proto::SendNotificationRequest {
        practice_id: practice.into(),
        request_id: Uuid::now_v7().simple().to_string(),
        notification: Some(notification),
    }
}
