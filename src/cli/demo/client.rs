//! The demo as a client: generated code over TCP, a token, a watch, a table.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use futures::{Stream, StreamExt, stream};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::say;
use crate::{
    auth::{LocalKey, NewToken},
    clock::{Clock, SystemClock},
    config,
    domain::{Practices, Role},
    grpc::proto::{
        self, Delivery, DeliveryState, InboxItem, WatchDeliveriesResponse,
        broadcast_service_client::BroadcastServiceClient, conversations_service_client::ConversationsServiceClient,
        directory_service_client::DirectoryServiceClient, inbox_service_client::InboxServiceClient,
        notify_service_client::NotifyServiceClient, preferences_service_client::PreferencesServiceClient,
    },
};

/// The practice that sends over everything, mail by a relay.
pub(super) const ACME: &str = "acme";
/// The one that sends mail by SendGrid.
pub(super) const NORTH: &str = "north";

/// Calls the server.
pub(super) struct Client {
    pub(super) notify: NotifyServiceClient<Channel>,
    pub(super) directory: DirectoryServiceClient<Channel>,
    pub(super) preferences: PreferencesServiceClient<Channel>,
    pub(super) inbox: InboxServiceClient<Channel>,
    pub(super) conversations: ConversationsServiceClient<Channel>,
    pub(super) broadcasts: BroadcastServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
    token: String,
}

impl Client {
    pub(super) async fn connect(addr: SocketAddr, folder: &Path) -> anyhow::Result<Self> {
        let channel = Channel::from_shared(format!("http://{addr}"))?.connect().await.context("connecting")?;
        let (key, _) = LocalKey::load_or_create(&config::local_key(folder))?;
        let token = NewToken {
            subject: "demo".into(),
            name: "Demo".into(),
            practices: Practices::Named([ACME.parse()?, NORTH.parse()?].into()),
            roles: Role::ALL.into_iter().filter(|role| *role != Role::Patient).collect::<BTreeSet<_>>(),
            patient: None,
            ttl: Duration::from_secs(24 * 3_600),
        };
        let token = key.issue(&token, "heedwell", "heedwell", SystemClock.now());
        Ok(Self {
            notify: NotifyServiceClient::new(channel.clone()),
            directory: DirectoryServiceClient::new(channel.clone()),
            preferences: PreferencesServiceClient::new(channel.clone()),
            inbox: InboxServiceClient::new(channel.clone()),
            conversations: ConversationsServiceClient::new(channel.clone()),
            broadcasts: BroadcastServiceClient::new(channel),
            bearer: format!("Bearer {token}").parse()?,
            token,
        })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }

    /// What happens to the deliveries of both practices, as it happens.
    pub(super) async fn watch(&mut self) -> anyhow::Result<impl Stream<Item = Change> + use<>> {
        let mut watches = Vec::new();
        for practice in [ACME, NORTH] {
            let request = proto::WatchDeliveriesRequest { practice_id: practice.into(), ..Default::default() };
            watches.push(self.notify.watch_deliveries(self.request(request)).await?.into_inner());
        }
        Ok(stream::select_all(watches))
    }

    /// The deliveries of both practices, the oldest of each first.
    pub(super) async fn list(&mut self) -> anyhow::Result<Vec<Delivery>> {
        let mut all = Vec::new();
        for practice in [ACME, NORTH] {
            let request =
                proto::ListDeliveriesRequest { practice_id: practice.into(), page_size: 500, ..Default::default() };
            let page = self.notify.list_deliveries(self.request(request)).await?.into_inner();
            all.extend(page.deliveries.into_iter().rev());
        }
        Ok(all)
    }

    /// What the portal shows a patient, security first.
    pub(super) async fn inbox(&mut self, practice: &str, patient: &str) -> anyhow::Result<Vec<InboxItem>> {
        let request = proto::ListInboxItemsRequest {
            practice_id: practice.into(),
            patient_id: patient.into(),
            page_size: 100,
            ..Default::default()
        };
        Ok(self.inbox.list_inbox_items(self.request(request)).await?.into_inner().items)
    }
}

/// What a watch sends.
type Change = Result<WatchDeliveriesResponse, Status>;

/// What each delivery must end as, by its id.
pub(super) type Expected = BTreeMap<String, DeliveryState>;

/// Shows each change until every delivery has reached the state expected of it. False when one ends otherwise.
pub(super) async fn follow(watch: impl Stream<Item = Change>, expected: &Expected) -> anyhow::Result<bool> {
    let mut watch = std::pin::pin!(watch);
    let mut open: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
    let mut well = true;
    header();
    while !open.is_empty() {
        let Some(step) = watch.next().await.transpose()? else { bail!("the watch ended") };
        for change in step.changes {
            let Some(delivery) = change.delivery else { bail!("a change without a delivery") };
            row(&delivery);
            let Some(wanted) = expected.get(&delivery.delivery_id) else { continue };
            if delivery.state() == *wanted {
                open.remove(delivery.delivery_id.as_str());
            } else if is_final(&delivery) {
                well = false;
                open.remove(delivery.delivery_id.as_str());
                say(&format!("  expected {}", wanted.as_str_name()));
            }
        }
    }
    Ok(well)
}

/// Failed or decided against: nothing better follows in the demo.
fn is_final(delivery: &Delivery) -> bool {
    matches!(delivery.state(), DeliveryState::Failed | DeliveryState::Skipped | DeliveryState::Cancelled)
}

fn header() {
    say(&format!(
        "{:<8} {:<22} {:<7} {:<9} {:<12} {:<22} detail",
        "patient", "kind", "channel", "provider", "state", "address"
    ));
}

fn row(delivery: &Delivery) {
    let word = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase().replace('_', " ");
    let detail = match &delivery.failure {
        Some(failure) => format!("{} {}", failure.provider_code, failure.message),
        None if delivery.state() == DeliveryState::Skipped => {
            word(delivery.skip_reason().as_str_name(), "SKIP_REASON_")
        }
        None => delivery.provider_message_id.clone(),
    };
    say(&format!(
        "{:<8} {:<22} {:<7} {:<9} {:<12} {:<22} {detail}",
        delivery.patient_id,
        word(delivery.kind().as_str_name(), "NOTIFICATION_KIND_"),
        word(delivery.channel().as_str_name(), "CHANNEL_"),
        delivery.provider,
        word(delivery.state().as_str_name(), "DELIVERY_STATE_"),
        delivery.address_hint,
    ));
}

/// Shows a patient's inbox.
pub(super) fn inbox(items: &[InboxItem]) {
    say("\nPat's inbox:");
    for item in items {
        let mark = if item.security { "!" } else { " " };
        let read = if item.read_time.is_some() { "read" } else { "unread" };
        say(&format!("{mark} {read:<7} {:<28} {}", item.title, item.link_url));
    }
}

/// Shows where every delivery stands at the end.
pub(super) fn table(deliveries: &[Delivery], expected: &Expected) {
    say("\nIn the end:");
    header();
    for delivery in deliveries {
        row(delivery);
    }
    let as_expected = deliveries.iter().filter(|it| expected.get(&it.delivery_id) == Some(&it.state())).count();
    say(&format!("\n{as_expected} of {} deliveries ended as expected", expected.len()));
}
