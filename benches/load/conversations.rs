//! Whether a long conversation in a large practice costs more than a short one in a small practice: each thing that staff and
//! phones do, done in both in turn.

use std::time::Duration;

use heedwell::grpc::proto::{
    ConversationFilter, GetConversationRequest, ListConversationsRequest, ListMessagesRequest,
    MarkConversationReadRequest, MessageRoute, SendMessageRequest, conversation_filter::Subset,
    conversations_service_client::ConversationsServiceClient, send_message_request::Target,
};
use tokio::time::Instant;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::{
    Arguments,
    bare::grow,
    callbacks::signature,
    database::{Kind, postmaster},
    figures::{Figures, Pairs},
    machine::Meter,
    product::{ACCOUNT_SID, FROM_NUMBER, Product, Way, phone, practice},
    sinks::Sinks,
};

const NAMES: [&str; 2] = ["small", "large"];
/// Conversations that the small practice has too, and messages of its longest: more than a page of either.
const FEW: usize = 60;
/// How often each thing is done in a run.
const TIMES: usize = 100;
/// The large one needs no more than this share of the small one's time.
const GOAL: f64 = 1.25;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    List,
    ListUnread,
    Open,
    Messages,
    Send,
    MarkRead,
    Text,
}

impl Deed {
    const ALL: [Self; 7] =
        [Self::List, Self::ListUnread, Self::Open, Self::Messages, Self::Send, Self::MarkRead, Self::Text];
}

/// A practice, and the conversation of its first patient.
struct Side<'a> {
    product: &'a Product,
    client: ConversationsServiceClient<Channel>,
    web: reqwest::Client,
    practice: String,
    home: String,
}

pub(crate) async fn run(arguments: &Arguments) {
    let (messages, conversations) =
        (arguments.number("--messages", 50_000), arguments.number("--conversations", 20_000));
    let pairs = arguments.number("--pairs", 5);
    let sinks = Sinks::start().await;
    for kind in arguments.kinds() {
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        {
            let product = Product::start(folder.path(), &url, sinks.addrs).await;
            product.furnish(Way::Http, sinks.addrs).await;
            for number in 0..NAMES.len() {
                Side::open(&product, number).await.begin().await;
            }
        }
        grow(&url, &practice(1), "patient-0", (messages, conversations)).await;
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        let (small, large) = (Side::open(&product, 0).await, Side::open(&product, 1).await);
        let postmaster = postmaster(&url).await;
        println!("{kind:?}: the large practice has {conversations} conversations more, one of {messages} messages");
        for deed in Deed::ALL {
            compare(kind, deed, (&small, &large), (pairs, postmaster)).await;
        }
    }
}

async fn compare(kind: Kind, deed: Deed, (small, large): (&Side<'_>, &Side<'_>), (pairs, db): (usize, Option<u32>)) {
    let mut figures = Pairs::named(&format!("{deed:?} on {kind:?}, one after the other"), NAMES);
    for side in [small, large] {
        side.often(deed, db).await;
    }
    for _ in 0..pairs {
        figures.ceiling(small.often(deed, db).await);
        figures.product(large.often(deed, db).await);
    }
    figures.times(GOAL);
}

impl<'a> Side<'a> {
    async fn open(product: &'a Product, number: usize) -> Self {
        let client = ConversationsServiceClient::new(product.connect().await);
        let web = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut side = Self { product, client, web, practice: practice(number), home: String::new() };
        let filter = ConversationFilter { patient_id: "patient-0".into(), ..Default::default() };
        if let Some(home) = side.list(filter).await.pop() {
            side.home = home;
        }
        side
    }

    /// As much as both practices have.
    async fn begin(&self) {
        for number in 0..FEW {
            self.text(&phone(number)).await;
            self.text(&phone(0)).await;
        }
    }

    async fn often(&self, deed: Deed, postmaster: Option<u32>) -> Figures {
        let mut unread = Vec::new();
        for _ in 0..TIMES {
            // A mark that does not move writes nothing.
            unread.push(if deed == Deed::MarkRead { self.send().await } else { String::new() });
        }
        let meter = Meter::start(self.product.id(), &[], postmaster);
        let (begin, mut waits) = (Instant::now(), Vec::with_capacity(TIMES));
        for message in unread {
            waits.push(self.once(deed, &message).await);
        }
        Figures { count: TIMES, time: begin.elapsed(), waits, cost: meter.end() }
    }

    async fn once(&self, deed: Deed, message: &str) -> Duration {
        let start = Instant::now();
        match deed {
            Deed::List => drop(self.list(ConversationFilter::default()).await),
            Deed::ListUnread => {
                drop(self.list(ConversationFilter { subset: Subset::Unread.into(), ..Default::default() }).await);
            }
            Deed::Open => {
                let get =
                    GetConversationRequest { practice_id: self.practice.clone(), conversation_id: self.home.clone() };
                self.client.clone().get_conversation(self.product.request(get)).await.unwrap();
            }
            Deed::Messages => {
                let list = ListMessagesRequest {
                    practice_id: self.practice.clone(),
                    conversation_id: self.home.clone(),
                    ..Default::default()
                };
                let page = self.client.clone().list_messages(self.product.request(list)).await.unwrap().into_inner();
                assert_eq!(page.messages.len(), 50);
            }
            Deed::Send => drop(self.send().await),
            Deed::MarkRead => self.mark(message).await,
            Deed::Text => self.text(&phone(0)).await,
        }
        start.elapsed()
    }

    /// The first page, by id.
    async fn list(&self, filter: ConversationFilter) -> Vec<String> {
        let list =
            ListConversationsRequest { practice_id: self.practice.clone(), filter: Some(filter), ..Default::default() };
        let page = self.client.clone().list_conversations(self.product.request(list)).await.unwrap().into_inner();
        page.conversations.into_iter().map(|it| it.conversation_id).collect()
    }

    /// Staff answer by text. Yields the message's id.
    async fn send(&self) -> String {
        let send = SendMessageRequest {
            practice_id: self.practice.clone(),
            request_id: Uuid::now_v7().simple().to_string(),
            target: Some(Target::PatientId("patient-0".into())),
            route: MessageRoute::Sms.into(),
            body: "We will call you back this afternoon.".into(),
            attachment_ids: Vec::new(),
        };
        let sent = self.client.clone().send_message(self.product.request(send)).await.unwrap().into_inner();
        sent.message.unwrap().message_id
    }

    async fn mark(&self, message: &str) {
        let mark = MarkConversationReadRequest {
            practice_id: self.practice.clone(),
            conversation_id: self.home.clone(),
            message_id: message.to_owned(),
        };
        self.client.clone().mark_conversation_read(self.product.request(mark)).await.unwrap();
    }

    /// A patient writes, as Twilio posts and signs it.
    async fn text(&self, from: &str) {
        let url = format!("http://{}/webhooks/twilio/{}/inbound", self.product.http, self.practice);
        let sid = format!("SM{}", Uuid::now_v7().simple());
        // In the order of their names, as they are signed.
        let fields = [
            ("AccountSid", ACCOUNT_SID),
            ("Body", "Could somebody call me back?"),
            ("From", from),
            ("MessageSid", &sid),
            ("NumMedia", "0"),
            ("To", FROM_NUMBER),
        ];
        let posted = self
            .web
            .post(&url)
            .header("X-Twilio-Signature", signature(&url, &fields))
            .form(&fields)
            .send()
            .await
            .unwrap();
        assert!(posted.status().is_success(), "{}", posted.status());
    }
}
