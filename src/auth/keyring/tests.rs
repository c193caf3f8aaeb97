#![expect(clippy::unwrap_used, reason = "tests")]
use std::pin::pin;

use futures::{FutureExt, future::join_all, poll};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::*;
use crate::auth::{jwks::client, tests::keys::TestKey};

async fn request(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let _ = stream.read(&mut [0; 4096]).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream, status: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).await.unwrap();
}

#[tokio::test]
async fn all_who_ask_share_one_load_which_no_caller_can_break_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let source = Source::Url(url, client(false).unwrap());
    let set = json!({ "keys": [TestKey::ed().jwk("k")] }).to_string();
    let (asked, may_answer) = (Notify::new(), Notify::new());

    let server = async {
        answer(request(&listener).await, "503 Service Unavailable", "").await;
        let stream = request(&listener).await;
        asked.notify_one();
        may_answer.notified().await;
        answer(stream, "200 OK", &set).await;
    };
    let callers = async {
        let published = Published::new(source).await.unwrap();
        let find = || published.find(Some("k"), Algorithm::EdDSA);
        assert_eq!(find().await.err(), Some(TokenError::Unavailable), "asked less than five seconds ago");
        tokio::time::pause();
        tokio::time::advance(PAUSE_WITHOUT_SET).await;
        tokio::time::resume();
        {
            let mut quitter = pin!(find());
            assert!(poll!(&mut quitter).is_pending());
            asked.notified().await;
        }
        let mut others = pin!(join_all((0..20).map(|_| find())));
        assert!(poll!(&mut others).is_pending());
        may_answer.notify_one();
        assert!(others.await.iter().all(|found| matches!(found, Ok(Some(_)))));
    };
    tokio::join!(server, callers);
    assert!(listener.accept().now_or_never().is_none(), "the set was asked for once more");
}
