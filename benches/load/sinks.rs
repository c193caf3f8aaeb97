//! Providers that take everything, and see to it that nothing comes twice.

use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
    routing::post,
};
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
/// The account that is out of order.
pub(crate) const FAILING_SID: &str = "AC00000000000000000000000000000002";
/// To whom a text is, as it begins.
const TO: &str = "To=%2B";
/// To whom a mail is, as it begins, at SendGrid and at a relay.
const MAIL_TO: &str = r#""to":[{"email":""#;
const RECIPIENT: &str = "RCPT TO:<";
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
    /// Whether answers to texts are held back.
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    times: Vec<Instant>,
    /// When what was for each number or mailbox came.
    arrivals: BTreeMap<String, Vec<Instant>>,
    texts: Vec<Text>,
    /// Texts of the account that is out of order.
    refused: usize,
    sample: String,
}

/// A text that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    /// Where reports about it go, as it stood in the form.
    pub(crate) callback: String,
    pub(crate) sid: String,
}

impl Sinks {
    pub(crate) async fn start() -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let smtp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addrs = Providers { http: http.local_addr().unwrap(), smtp: smtp.local_addr().unwrap() };
        let (tell, newest) = watch::channel(0);
        let sinks = Self { addrs, seen: Arc::default(), newest, tell, held: watch::Sender::new(false) };
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

    fn came(&self, name: &str, recipient: String, message: &str, text: Option<Text>) {
        let (mut seen, now) = (self.seen.lock().unwrap(), Instant::now());
        assert!(seen.names.insert(name.to_owned()), "a message came twice");
        seen.times.push(now);
        seen.arrivals.entry(recipient).or_default().push(now);
        seen.texts.extend(text);
        if seen.sample.is_empty() {
            message.clone_into(&mut seen.sample);
        }
        self.tell.send_replace(seen.times.len());
    }

    /// Whoever sends a text from now on waits for the answer.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Nobody waits any longer.
    pub(crate) fn let_go(&self) {
        self.held.send_replace(false);
    }

    /// Forgets what came, but for a sample.
    pub(crate) fn reset(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.times.clear();
        seen.arrivals.clear();
        seen.texts.clear();
        drop(seen);
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
        loop {
            let come = *newest.borrow_and_update();
            if come >= count {
                return self.seen.lock().unwrap().times.clone();
            }
            let next = tokio::time::timeout(Duration::from_secs(120), newest.changed()).await;
            assert!(next.is_ok(), "{come} of {count} came, and no more");
        }
    }

    /// When what was for each number or mailbox came.
    pub(crate) fn arrivals(&self) -> BTreeMap<String, Vec<Instant>> {
        self.seen.lock().unwrap().arrivals.clone()
    }

    /// The texts that came.
    pub(crate) fn texts(&self) -> Vec<Text> {
        self.seen.lock().unwrap().texts.clone()
    }

    /// How many texts were refused.
    pub(crate) fn refused(&self) -> usize {
        self.seen.lock().unwrap().refused
    }

    /// One of the messages, whole.
    pub(crate) fn sample(&self) -> String {
        self.seen.lock().unwrap().sample.clone()
    }
}

/// Answers like Twilio's create.
async fn create(State(sinks): State<Sinks>, Path(account): Path<String>, body: String) -> (StatusCode, String) {
    if account == FAILING_SID {
        sinks.seen.lock().unwrap().refused += 1;
        return (StatusCode::UNAUTHORIZED, r#"{"code":20003,"message":"Authenticate","status":401}"#.into());
    }
    let callback = between(&body, CALLBACK, '&');
    let sid = format!("SM{}", Uuid::new_v4().simple());
    let text = Text { callback: callback.to_owned(), sid: sid.clone() };
    sinks.came(callback, format!("+{}", between(&body, TO, '&')), &body, Some(text));
    // The sender of what is waited for is one of the sinks themselves, which last.
    let _ = sinks.held.subscribe().wait_for(|held| !held).await;
    (StatusCode::CREATED, format!(r#"{{"sid":"{sid}","status":"queued","num_segments":"1"}}"#))
}

/// Answers like SendGrid's send.
async fn take(State(sinks): State<Sinks>, body: String) -> impl IntoResponse {
    sinks.came(between(&body, ATTEMPT, '"'), between(&body, MAIL_TO, '"').to_owned(), &body, None);
    (StatusCode::ACCEPTED, [("x-message-id", Uuid::new_v4().simple().to_string())])
}

/// What stands between those two, or to the end.
fn between<'a>(text: &'a str, begin: &str, end: char) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap();
    rest.split(end).next().unwrap_or_default()
}

/// Takes mails until the client leaves.
async fn converse(sinks: Sinks, stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    let (mut mail, mut recipient) = (String::new(), String::new());
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
                sinks.came(between(&mail, MESSAGE_ID, '\r'), mem::take(&mut recipient), &mail, None);
                mail.clear();
                "250 2.0.0 Ok\r\n"
            }
            "EHLO" => "250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n",
            "AUTH" => "235 2.7.0 Ok\r\n",
            "RCPT" => {
                between(&line, RECIPIENT, '>').clone_into(&mut recipient);
                "250 2.1.5 Ok\r\n"
            }
            "DATA" => {
                in_mail = true;
                "354 Go on\r\n"
            }
            "QUIT" => "221 2.0.0 Bye\r\n",
            _ => "250 2.1.0 Ok\r\n",
        };
    }
}
