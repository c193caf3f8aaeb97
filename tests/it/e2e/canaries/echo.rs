//! Providers that refuse everything, and repeat in their answers all that they were told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::IntoResponse,
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// How they answer, one after the other. What is answered as well as all this may be has a body that is not.
const STATUSES: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::CREATED,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::OK,
    StatusCode::UNAUTHORIZED,
];

/// What Google gives whoever asks.
pub(super) const ACCESS: &str = "kestrel-access-token";

/// A provider that is called over HTTP.
pub(super) struct Echo {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    pub(super) async fn start() -> Self {
        let (listener, address) = listener().await;
        let asked = Arc::default();
        let router = Router::new().fallback(refuse).with_state(Arc::clone(&asked));
        drop(tokio::spawn(async move { axum::serve(listener, router).await }));
        Self { url: format!("http://{address}"), asked }
    }

    /// How often it was asked for something whose address has that in it.
    pub(super) fn asked(&self, for_what: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|uri| uri.contains(for_what)).count()
    }
}

async fn refuse(
    State(asked): State<Arc<Mutex<Vec<String>>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let told = format!("{uri} {headers:?} {}", String::from_utf8_lossy(&body));
    if body.starts_with(b"grant_type=") {
        return (
            StatusCode::OK,
            json!({ "access_token": ACCESS, "expires_in": 3_600, "token_type": "Bearer" }).to_string(),
        );
    }
    let calls = {
        let mut asked = asked.lock().unwrap();
        asked.push(uri.to_string());
        asked.len()
    };
    let status = STATUSES[calls % STATUSES.len()];
    // An error as each of them writes it, and an answer of which no field is what it should be.
    let answer = json!({
        "code": 21_211, "message": told, "more_info": told, "status": told, "sid": { "of": told },
        "errors": [{ "message": told, "field": told, "help": told }],
        "error": { "code": 400, "message": told, "status": "INVALID_ARGUMENT", "details": [told] },
        "name": { "of": told }, "access_token": 7, "messages": told, "next_page_uri": 8,
    });
    (status, answer.to_string())
}

/// A relay of mail that takes nobody in.
pub(super) async fn over_smtp() -> SocketAddr {
    let (listener, address) = listener().await;
    drop(tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            drop(tokio::spawn(relay(client)));
        }
    }));
    address
}

async fn relay(mut client: TcpStream) -> std::io::Result<()> {
    let (from, mut to) = client.split();
    let mut lines = BufReader::new(from).lines();
    to.write_all(b"220 kestrel\r\n").await?;
    let mut mails = 0;
    while let Some(line) = lines.next_line().await? {
        mails += usize::from(line.starts_with("MAIL"));
        let said = match line.get(..4) {
            Some("EHLO") => "250-kestrel\r\n250 AUTH PLAIN LOGIN".to_owned(),
            Some("AUTH") => format!("535 5.7.8 {line} is not known"),
            Some("RCPT") => format!("{} {line} is not here", ["550 5.1.1", "451 4.3.0"][mails % 2]),
            Some("QUIT") => "221 bye".to_owned(),
            _ => format!("250 {line}"),
        };
        to.write_all(format!("{said}\r\n").as_bytes()).await?;
    }
    Ok(())
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
