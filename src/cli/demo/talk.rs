//! A talk with a patient: a text comes in, staff answer it, the patient texts STOP, and no further answer goes out.

use anyhow::{Context, bail, ensure};
use tonic::Streaming;

use super::{
    client::{ACME, Client},
    say,
    world::{ACCOUNT, NUMBER, PATS},
};
use crate::{
    grpc::proto::{
        self, ConsentSource, ConversationMessage, DeliveryState, MessageRoute, WatchConversationsResponse,
        conversation_message::Direction, send_message_request::Target,
    },
    sandbox::{PatientText, Sandbox},
};

/// Holds the talk, and shows it as staff see it.
pub(super) async fn hold(client: &mut Client, sandbox: &Sandbox, webhook_url: &str) -> anyhow::Result<()> {
    let request = proto::WatchConversationsRequest { practice_id: ACME.into(), ..Default::default() };
    let request = client.request(request);
    let mut watch = client.conversations.watch_conversations(request).await?.into_inner();
    say("\nPat's conversation:");
    let pat_writes = async |body: &str| {
        let text = PatientText { webhook_url, account_sid: ACCOUNT, from: PATS, to: NUMBER, body };
        let status = sandbox.text(text).await.context("the text did not get through")?;
        ensure!(status == 200, "the text was answered with {status}");
        anyhow::Ok(())
    };

    pat_writes("May I come at 3 instead?").await?;
    shown(&mut watch, |message| message.direction() == Direction::Inbound).await?;
    let answer = client.request(answer("demo-answer", "Yes, see you at 3."));
    client.conversations.send_message(answer).await?;
    shown(&mut watch, |message| message.delivery_state() == DeliveryState::Delivered).await?;
    pat_writes("STOP").await?;
    shown(&mut watch, |message| message.consent_source() == ConsentSource::SmsKeyword).await?;
    let refused = client.request(self::answer("demo-too-late", "Please bring your card."));
    match client.conversations.send_message(refused).await {
        Ok(_) => bail!("an answer went out after STOP"),
        Err(status) => say(&format!("  refused   {}", status.message())),
    }
    Ok(())
}

fn answer(request_id: &str, body: &str) -> proto::SendMessageRequest {
    proto::SendMessageRequest {
        practice_id: ACME.into(),
        request_id: request_id.into(),
        target: Some(Target::PatientId("pat".into())),
        route: MessageRoute::Sms.into(),
        body: body.into(),
        attachment_ids: Vec::new(),
    }
}

/// Shows what comes up to the message that is waited for.
async fn shown(
    watch: &mut Streaming<WatchConversationsResponse>,
    last: impl Fn(&ConversationMessage) -> bool,
) -> anyhow::Result<()> {
    loop {
        let Some(step) = watch.message().await? else { bail!("the watch ended") };
        for message in step.changes.into_iter().filter_map(|change| change.message) {
            line(&message);
            if last(&message) {
                return Ok(());
            }
        }
    }
}

fn line(message: &ConversationMessage) {
    let way = if message.direction() == Direction::Inbound { "from Pat" } else { "to Pat" };
    let word = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase().replace('_', " ");
    let fate = match (message.delivery_state(), message.consent_source()) {
        (DeliveryState::Unspecified, ConsentSource::Unspecified) => String::new(),
        (DeliveryState::Unspecified, source) => word(source.as_str_name(), "CONSENT_SOURCE_"),
        (state, _) => word(state.as_str_name(), "DELIVERY_STATE_"),
    };
    say(&format!("  {way:<9} {:<28} {fate}", message.body));
}
