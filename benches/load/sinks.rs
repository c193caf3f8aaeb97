//! Providers that take everything, and see to it that nothing comes twice.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};
use uuid::Uuid;

use crate::product::Providers;

/// Where texts are sent.
pub(crate) const PATH: &str = "/2010-04-01/Accounts/AC00000000000000000000000000000001/Messages.json";
/// What differs from text to text, as it begins: each attempt has a callback of its own.
pub(crate) const CALLBACK: &str = "StatusCallback=";
/// Where mails are sent to SendGrid.
pub(crate) const MAIL_PATH: &str = "/v3/mail/send";
/// What differs from mail to mail there, as it begins: the attempt's token.
pub(crate) const ATTEMPT: &str = r#""custom_args":{"n":""#;
/// What differs from mail to mail at a relay.
pub(crate) const MESSAGE_ID: &str = "Message-ID: ";

/// What the sinks have seen.
#[derive(Clone)]
pub(crate) struct Sinks {
    pub(crate) addrs: Providers,
    seen: Arc<Mutex<Seen>>,
    newest: watch::Receiver<usize>,
    tell: watch::Sender<usize>,
}

#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    times: Vec<Instant>,
    sample: String,
}

impl Sinks {
    pub(crate) async fn start() -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let smtp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addrs = Providers { http: http.local_addr().unwrap(), smtp: smtp.local_addr().unwrap() };
        let (tell, newest) = watch::channel(0);
        let sinks = Self { addrs, seen: Arc::default(), newest, tell };
        let router = Router::new()
            .route("/2010-04-01/Accounts/{account}/Messages.json", post(create))
            .route(MAIL_PATH, post(take))
            .with_state(sinks.clone());
        tokio::spawn(async move { axum::serve(http, router).await.unwrap() });
        let relay = sinks.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = smtp.accept().await.unwrap();
                tokio::spawn(converse(relay.clone(), stream));
            }
        });
        sinks
    }

    fn came(&self, name: &str, message: &str) {
        let mut seen = self.seen.lock().unwrap();
        assert!(seen.names.insert(name.to_owned()), "a message came twice");
        seen.times.push(Instant::now());
        if seen.sample.is_empty() {
            message.clone_into(&mut seen.sample);
        }
        self.tell.send_replace(seen.times.len());
    }

    /// Forgets what came, but for a sample.
    pub(crate) fn reset(&self) {
        self.seen.lock().unwrap().times.clear();
        self.tell.send_replace(0);
    }

    /// Forgets what came.
    pub(crate) fn forget(&self) {
        self.reset();
        self.seen.lock().unwrap().sample.clear();
    }

    /// Waits until so many have come, and says when each did.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Instant> {
        let mut newest = self.newest.clone();
        let come = newest.wait_for(|come| *come >= count);
        let come = tokio::time::timeout(Duration::from_secs(120), come).await.map(drop);
        let seen = self.seen.lock().unwrap();
        assert!(come.is_ok(), "{} of {count} came", seen.times.len());
        seen.times.clone()
    }

    /// One of the messages, whole.
    pub(crate) fn sample(&self) -> String {
        self.seen.lock().unwrap().sample.clone()
    }
}

/// Answers like Twilio's create.
async fn create(State(sinks): State<Sinks>, body: String) -> (StatusCode, String) {
    let (_, callback) = body.split_once(CALLBACK).unwrap();
    sinks.came(callback.split('&').next().unwrap_or_default(), &body);
    let sid = format!("SM{}", Uuid::new_v4().simple());
    (StatusCode::CREATED, format!(r#"{{"sid":"{sid}","status":"queued","num_segments":"1"}}"#))
}

/// Answers like SendGrid's send.
async fn take(State(sinks): State<Sinks>, body: String) -> impl IntoResponse {
    let (_, attempt) = body.split_once(ATTEMPT).unwrap();
    sinks.came(attempt.split('"').next().unwrap_or_default(), &body);
    (StatusCode::ACCEPTED, [("x-message-id", Uuid::new_v4().simple().to_string())])
}

/// Takes mails until the client leaves.
async fn converse(sinks: Sinks, stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    let mut mail = String::new();
    let (mut line, mut in_mail) = (String::new(), false);
    let mut reply = "220 sink\r\n";
    loop {
        if !reply.is_empty() && stream.get_mut().write_all(reply.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        reply = match line.get(..4).unwrap_or_default() {
            _ if in_mail && line != ".\r\n" => {
                mail.push_str(&line);
                ""
            }
            _ if in_mail => {
                in_mail = false;
                let (_, id) = mail.split_once(MESSAGE_ID).unwrap();
                sinks.came(id.lines().next().unwrap_or_default(), &mail);
                mail.clear();
                "250 2.0.0 Ok\r\n"
            }
            "EHLO" => "250-sink\r\n250 8BITMIME\r\n",
            "DATA" => {
                in_mail = true;
                "354 Go on\r\n"
            }
            "QUIT" => "221 2.0.0 Bye\r\n",
            _ => "250 2.1.0 Ok\r\n",
        };
    }
}
