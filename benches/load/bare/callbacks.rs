//! Bare axum: checks the signature of a report as Twilio signs it, and answers once its attempt is marked as delivered, together
//! with those of other reports.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
    routing::post,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::hmac;
use tokio::sync::{Mutex, mpsc, oneshot};
use url::form_urlencoded;

use super::copies::Database;
use crate::product::{AUTH_TOKEN, PRACTICES};

/// Most reports in one commit.
const GROUP: usize = 256;

/// The token of an attempt that was copied, as it stands in addresses.
pub(crate) fn token(number: usize) -> String {
    URL_SAFE_NO_PAD.encode((number as u128).to_be_bytes())
}

/// Copies an attempt so often that the tokens are all numbers below `count`.
pub(crate) async fn attempts(url: &str, count: usize) {
    let mut database = Database::open(url).await;
    let token = match database {
        Database::Postgres(_) => "decode(lpad(to_hex(u.n - 1), 32, '0'), 'hex')",
        Database::Sqlite(_) => "unhex(printf('%032x', u.n - 1))",
    };
    let reference = match database {
        Database::Postgres(_) => "'SM' || lpad(to_hex(u.n - 1), 32, '0')",
        Database::Sqlite(_) => "printf('SM%032x', u.n - 1)",
    };
    let changed = [("delivery_id", "u.id"), ("token", token), ("provider_ref", reference)];
    let from = database.numbers(3, count);
    database.copy_but("attempt", &changed, &from, "LIMIT 1").await;
    database.tidy().await;
}

/// A report that waits for its commit.
type Waiting = (Vec<u8>, oneshot::Sender<()>);

#[derive(Clone)]
struct Hook {
    host: SocketAddr,
    key: hmac::Key,
    waiting: mpsc::Sender<Waiting>,
}

pub(super) async fn serve(url: &str, addr: SocketAddr) {
    let (waiting, queue) = mpsc::channel::<Waiting>(4_096);
    let queue = Arc::new(Mutex::new(queue));
    // As many as the product has lanes; SQLite has room for one.
    let writers = if url.starts_with("sqlite") { 1 } else { PRACTICES };
    for _ in 0..writers {
        let (queue, mut database) = (Arc::clone(&queue), Database::open(url).await);
        tokio::spawn(async move {
            let mut group = Vec::new();
            while queue.lock().await.recv_many(&mut group, GROUP).await > 0 {
                let (tokens, replies): (Vec<_>, Vec<_>) = group.drain(..).unzip();
                let count = tokens.len() as u64;
                assert_eq!(deliver(&mut database, tokens).await, count, "a report of nothing");
                for reply in replies {
                    // Nobody may be waiting any more.
                    let _ = reply.send(());
                }
            }
        });
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, AUTH_TOKEN.as_bytes());
    let router = Router::new().route("/webhooks/twilio/{practice}/status/{token}", post(take)).with_state(Hook {
        host: addr,
        key,
        waiting,
    });
    let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
    axum::serve(listener, router).await.unwrap();
}

async fn take(
    State(hook): State<Hook>,
    Path((_, token)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let fields: BTreeSet<_> = form_urlencoded::parse(&body).collect();
    let mut text = format!("http://{}{}", hook.host, uri.path());
    for (name, value) in &fields {
        text += name;
        text += value;
    }
    let signature = headers.get("x-twilio-signature").and_then(|it| STANDARD.decode(it.as_bytes()).ok());
    if signature.is_none_or(|signature| hmac::verify(&hook.key, text.as_bytes(), &signature).is_err()) {
        return StatusCode::FORBIDDEN;
    }
    let Some(token) = URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .filter(|_| fields.iter().any(|(name, value)| name == "MessageStatus" && value == "delivered"))
    else {
        return StatusCode::BAD_REQUEST;
    };
    let (reply, done) = oneshot::channel();
    match hook.waiting.send((token, reply)).await {
        Ok(()) if done.await.is_ok() => StatusCode::NO_CONTENT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Marks attempts as delivered, and says how many were not.
async fn deliver(database: &mut Database, tokens: Vec<Vec<u8>>) -> u64 {
    match database {
        Database::Postgres(db) => {
            const DELIVER: &str = "UPDATE attempt SET facts = facts | 128 WHERE token = ANY($1) AND facts & 128 = 0";
            sqlx::query(DELIVER).bind(tokens).execute(db).await.unwrap().rows_affected()
        }
        Database::Sqlite(db) => {
            const DELIVER: &str = "UPDATE attempt SET facts = facts | 128 \
                WHERE token IN (SELECT unhex(value) FROM json_each($1)) AND facts & 128 = 0";
            let hex = |token: &Vec<u8>| token.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let tokens = serde_json::to_string(&tokens.iter().map(hex).collect::<Vec<_>>()).unwrap();
            sqlx::query(DELIVER).bind(tokens).execute(db).await.unwrap().rows_affected()
        }
    }
}
