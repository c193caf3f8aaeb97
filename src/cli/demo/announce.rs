//! A broadcast: a preview, and then what becomes of it as it happens. Two of the patients share a number, one opted out of texts,
//! and one cannot be reached at all.

use anyhow::{Context, ensure};

use super::{
    client::{ACME, Client},
    say,
};
use crate::grpc::proto::{
    self, Audience, BroadcastInput, Channel, ConsentSource, ConsentState, DeliveryCounts, DeliveryFilter,
    DeliveryState,
    audience::{PatientIds, Selection},
};

/// Whom it is for: id, name, mailbox and number.
const PATIENTS: [(&str, &str, &str, &str); 4] = [
    ("max", "Max", "max@example.com", "+12025550143"),
    ("mia", "Mia", "mia@example.com", "+12025550143"),
    ("ola", "Ola", "ola@example.com", "+12025550144"),
    ("ned", "Ned", "", ""),
];

/// Sends it, and shows it as staff see it.
pub(super) async fn everybody(client: &mut Client) -> anyhow::Result<()> {
    furnish(client).await?;
    say("\nA broadcast:");
    let request = client.request(proto::PreviewBroadcastRequest {
        practice_id: ACME.into(),
        broadcast: Some(input()),
        sample_patient_id: "max".into(),
    });
    let preview = client.broadcasts.preview_broadcast(request).await?.into_inner();
    for reach in &preview.reaches {
        let skips: i64 = reach.skips.iter().map(|skip| skip.count).sum();
        say(&format!("  preview   {:<7} would reach {}, skip {skips}", word(reach.channel()), reach.would_send));
        let sample = reach.sample.as_ref().map(|sample| sample.text.lines().next().unwrap_or_default());
        say(&format!("            {}", sample.unwrap_or_default()));
    }
    let request = client.request(proto::CreateBroadcastRequest {
        practice_id: ACME.into(),
        request_id: "demo-broadcast".into(),
        broadcast: Some(input()),
        expected_recipients: preview.recipient_count,
    });
    let made = client.broadcasts.create_broadcast(request).await?.into_inner().broadcast.context("no broadcast")?;
    let counts = follow(client, &made.broadcast_id).await?;
    report(client, &made.broadcast_id).await?;
    let all = DeliveryCounts { sent: 4, delivered: 2, skipped: 4, ..Default::default() };
    ensure!(counts == all, "the broadcast ended otherwise");
    Ok(())
}

async fn furnish(client: &mut Client) -> anyhow::Result<()> {
    let patients = PATIENTS.map(|(id, name, email, phone)| proto::Patient {
        patient_id: id.into(),
        first_name: name.into(),
        email: email.into(),
        mobile_phone: phone.into(),
        ..Default::default()
    });
    let request =
        client.request(proto::BatchPutPatientsRequest { practice_id: ACME.into(), patients: patients.into() });
    client.directory.batch_put_patients(request).await?;
    let request = client.request(proto::RecordConsentRequest {
        practice_id: ACME.into(),
        request_id: "demo-opt-out".into(),
        patient_id: "ola".into(),
        channel: Channel::Sms.into(),
        state: ConsentState::OptedOut.into(),
        source: ConsentSource::Staff.into(),
        evidence: "Said so at the desk.".into(),
        ..Default::default()
    });
    client.preferences.record_consent(request).await?;
    Ok(())
}

fn input() -> BroadcastInput {
    let ids = PATIENTS.iter().map(|(id, ..)| *id).chain(["pat"]).map(str::to_owned).collect();
    BroadcastInput {
        title: "Closed on Friday".into(),
        audience: Some(Audience { selection: Some(Selection::PatientIds(PatientIds { values: ids })) }),
        channels: vec![Channel::Email.into(), Channel::Sms.into()],
        subject: "{{practice_name}} is closed on Friday".into(),
        body: "Dear {{first_name}}, we are closed on Friday. Call {{practice_phone}} with questions.".into(),
        schedule_time: None,
    }
}

/// Shows the counts until nothing of it is under way. Yields them.
async fn follow(client: &mut Client, id: &str) -> anyhow::Result<DeliveryCounts> {
    let request = client.request(proto::WatchBroadcastRequest { practice_id: ACME.into(), broadcast_id: id.into() });
    let mut watch = client.broadcasts.watch_broadcast(request).await?.into_inner();
    loop {
        let step = watch.message().await?.context("the watch ended")?;
        let counts = step.broadcast.and_then(|broadcast| broadcast.counts).unwrap_or_default();
        say(&format!(
            "  counts    pending {}, sent {}, delivered {}, failed {}, skipped {}",
            counts.pending, counts.sent, counts.delivered, counts.failed, counts.skipped
        ));
        // A text that was sent is reported to have arrived; the relay tells no more of a mail.
        if counts.pending + counts.unconfirmed == 0 && counts.delivered + counts.failed == 2 {
            return Ok(counts);
        }
    }
}

/// Shows whom it did not come to, and why.
async fn report(client: &mut Client, id: &str) -> anyhow::Result<()> {
    let filter =
        DeliveryFilter { broadcast_id: id.into(), states: vec![DeliveryState::Skipped.into()], ..Default::default() };
    let request = client.request(proto::ListDeliveriesRequest {
        practice_id: ACME.into(),
        filter: Some(filter),
        page_size: 100,
        ..Default::default()
    });
    for delivery in client.notify.list_deliveries(request).await?.into_inner().deliveries.iter().rev() {
        let reason = delivery.skip_reason().as_str_name().trim_start_matches("SKIP_REASON_").to_lowercase();
        say(&format!(
            "  skipped   {:<7} {:<5} {}",
            word(delivery.channel()),
            delivery.patient_id,
            reason.replace('_', " ")
        ));
    }
    Ok(())
}

fn word(channel: Channel) -> String {
    channel.as_str_name().trim_start_matches("CHANNEL_").to_lowercase()
}
