//! A stand-in for HashiCorp Vault: the two calls of its transit engine that are used, and what Vault says when it will not
//! (developer.hashicorp.com/vault/api-docs/secret/transit). It really seals, by keys with versions.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aes_gcm::{
    Aes256Gcm, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header::LOCATION},
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The token that it lets in, and one that no policy lets do anything.
pub(crate) const TOKEN: &str = "hvs.canary-token";
pub(crate) const OTHER_TOKEN: &str = "hvs.canary-other";

/// How it is at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Ready,
    /// As after each of its starts, until somebody unseals it.
    Sealed,
    /// A standby that sends callers to the active node.
    Standby,
    /// It has an error of its own.
    Broken,
    /// What is there is no Vault.
    Stranger,
    /// It takes calls and never answers.
    Silent,
    /// It gives back something else than was sealed.
    Lying,
}

struct Inner {
    mood: Mood,
    /// By mount and name, the versions of each key.
    keys: BTreeMap<String, Vec<[u8; 32]>>,
    calls: Vec<String>,
}

type Shared = Arc<Mutex<Inner>>;

/// A running one; it ends when this is dropped.
pub(crate) struct Vault {
    pub(crate) url: String,
    inner: Shared,
    task: JoinHandle<()>,
}

impl Vault {
    /// Over http on the loopback, with the key `heedwell` of the engine `transit`.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::on(listener, url)
    }

    /// The same over https, as `localhost`.
    pub(crate) async fn start_tls(acceptor: TlsAcceptor) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        Self::on(Secured { listener, acceptor }, url)
    }

    fn on<L: Listener<Addr = SocketAddr>>(listener: L, url: String) -> Self {
        let keys = BTreeMap::from([("transit/heedwell".to_owned(), vec![rand::random()])]);
        let inner = Arc::new(Mutex::new(Inner { mood: Mood::Ready, keys, calls: Vec::new() }));
        let router = Router::new().route("/v1/{*path}", post(answer)).with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inner, task }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.inner.lock().unwrap().mood = mood;
    }

    /// Makes one more key, or one more version of a key.
    pub(crate) fn rotate(&self, key: &str) {
        self.inner.lock().unwrap().keys.entry(key.to_owned()).or_default().push(rand::random());
    }

    /// What a text holds that it has sealed with its first key.
    pub(crate) fn opened(&self, sealed: &str) -> String {
        let versions = self.inner.lock().unwrap().keys["transit/heedwell"].clone();
        let data = open(&versions, &json!({ "ciphertext": sealed.trim() }), false).unwrap();
        String::from_utf8(BASE64_STANDARD.decode(data["plaintext"].as_str().unwrap()).unwrap()).unwrap()
    }

    /// What it was asked for since this was asked last.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().unwrap().calls)
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connections that begin with TLS; what cannot is nobody.
struct Secured {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secured {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, addr) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, addr);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn errors(status: StatusCode, words: &[&str]) -> Response {
    (status, json!({ "errors": words }).to_string()).into_response()
}

async fn answer(
    State(shared): State<Shared>,
    Path(path): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mood = shared.lock().unwrap().mood;
    match mood {
        Mood::Sealed => return errors(StatusCode::SERVICE_UNAVAILABLE, &["Vault is sealed"]),
        Mood::Broken => return errors(StatusCode::INTERNAL_SERVER_ERROR, &["internal error"]),
        Mood::Standby => {
            let active = format!("http://active.invalid{}", uri.path());
            return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, active)]).into_response();
        }
        Mood::Stranger => return "<html>hello</html>".into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::Ready | Mood::Lying => {}
    }
    let mut inner = shared.lock().unwrap();
    inner.calls.push(path.clone());
    // An agent that demands the header says 412; callers must always send it.
    if !headers.contains_key("x-vault-request") {
        return errors(StatusCode::PRECONDITION_FAILED, &["missing 'X-Vault-Request' header"]);
    }
    if headers.get("x-vault-token").is_none_or(|token| token != TOKEN) {
        return errors(StatusCode::FORBIDDEN, &["1 error occurred:\n\t* permission denied\n\n"]);
    }
    let parts: Vec<_> = path.split('/').collect();
    let [mount @ .., verb, name] = parts.as_slice() else {
        return errors(StatusCode::NOT_FOUND, &["no handler for route"]);
    };
    let mount = mount.join("/");
    if !inner.keys.keys().any(|key| key.rsplit_once('/').is_some_and(|(known, _)| known == mount)) {
        return errors(StatusCode::NOT_FOUND, &[&format!("no handler for route \"{path}\". route entry not found.")]);
    }
    let Some(versions) = inner.keys.get(&format!("{mount}/{name}")) else {
        return errors(StatusCode::BAD_REQUEST, &["encryption key not found"]);
    };
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let done = match *verb {
        "encrypt" => seal(versions, &asked),
        "decrypt" => open(versions, &asked, mood == Mood::Lying),
        _ => return errors(StatusCode::NOT_FOUND, &["unsupported path"]),
    };
    match done {
        Ok(data) => {
            let answer = json!({ "request_id": "f1", "lease_id": "", "renewable": false, "lease_duration": 0, "data": data,
                "wrap_info": null, "warnings": null, "auth": null, "mount_type": "transit" });
            ([("content-type", "application/json")], answer.to_string()).into_response()
        }
        Err(words) => errors(StatusCode::BAD_REQUEST, &[words]),
    }
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(<&Key<Aes256Gcm>>::from(key))
}

fn seal(versions: &[[u8; 32]], asked: &Value) -> Result<Value, &'static str> {
    let plain = asked["plaintext"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let plain = plain.ok_or("failed to base64-decode plaintext")?;
    let nonce: [u8; 12] = rand::random();
    let sealed = cipher(versions.last().unwrap()).encrypt(&Nonce::from(nonce), plain.as_slice()).unwrap();
    let sealed = BASE64_STANDARD.encode([&nonce[..], &sealed].concat());
    Ok(json!({ "ciphertext": format!("vault:v{}:{sealed}", versions.len()), "key_version": versions.len() }))
}

fn open(versions: &[[u8; 32]], asked: &Value, lying: bool) -> Result<Value, &'static str> {
    let text = asked["ciphertext"].as_str().ok_or("missing ciphertext to decrypt")?;
    let sealed = text.strip_prefix("vault:v").ok_or("invalid ciphertext: no prefix")?;
    let (version, sealed) = sealed.split_once(':').ok_or("invalid ciphertext: wrong number of fields")?;
    let version: usize = version.parse().map_err(|_| "invalid ciphertext: version number could not be decoded")?;
    let key = version.checked_sub(1).and_then(|at| versions.get(at)).ok_or("invalid ciphertext: version is too new")?;
    let sealed = BASE64_STANDARD.decode(sealed).map_err(|_| "invalid ciphertext: could not decode base64")?;
    let (nonce, sealed) = sealed.split_first_chunk::<12>().ok_or("invalid ciphertext: too short")?;
    let plain = cipher(key).decrypt(&Nonce::from(*nonce), Payload::from(sealed));
    let mut plain = plain.map_err(|_| "cipher: message authentication failed")?;
    if lying {
        plain.push(b'\n');
    }
    Ok(json!({ "plaintext": BASE64_STANDARD.encode(plain) }))
}
