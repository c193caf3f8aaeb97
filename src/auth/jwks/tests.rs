#![expect(clippy::unwrap_used, reason = "tests")]
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::auth::tests::keys::{TestKey, with};

fn parse(keys: &[Value]) -> Result<KeySet, JwksError> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

#[test]
fn keys_for_other_work_are_passed_over() {
    let (ed, ec, rsa) = (TestKey::ed().jwk("ed"), TestKey::ec().jwk("ec"), TestKey::rsa().jwk("rsa"));
    let others = [
        json!({ "kty": "oct", "kid": "oct", "k": "AAAA" }),
        json!({ "kty": "oct", "kid": "oct", "k": "AAAA", "alg": "HS256" }),
        json!({ "kty": "new", "kid": "new", "z": 1 }),
        json!({ "kty": "AKP", "kid": "ml", "alg": "ML-DSA-65", "pub": "AAAA" }),
        json!({ "kty": "EC", "crv": "P-384", "kid": "p384", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "EC", "crv": "P-521", "kid": "p521", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "kid": "k1", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "OKP", "crv": "X25519", "kid": "x", "x": "AAAA" }),
        json!({ "kty": "OKP", "crv": "P-256", "kid": "x", "x": "AAAA" }),
        with(rsa.clone(), &json!({ "alg": "RSA-OAEP" })),
        with(rsa.clone(), &json!({ "alg": "RS384" })),
        with(rsa.clone(), &json!({ "alg": "PS256" })),
        with(rsa.clone(), &json!({ "use": "enc" })),
        with(rsa.clone(), &json!({ "key_ops": ["encrypt"] })),
        with(rsa.clone(), &json!({ "n": "not*base64" })),
        with(rsa.clone(), &json!({ "n": "" })),
        with(ed.clone(), &json!({ "alg": "ES256" })),
        with(ed.clone(), &json!({ "kid": 7 })),
        with(ec.clone(), &json!({ "y": null })),
        json!("not even an object"),
    ];
    for other in &others {
        assert!(parse(std::slice::from_ref(other)).is_err(), "{other}");
    }
    let mut all = others.to_vec();
    all.extend([
        with(ed, &json!({ "use": "sig", "alg": "EdDSA" })),
        with(ec, &json!({ "key_ops": ["verify"], "x5t": "AAAA" })),
        with(rsa, &json!({ "alg": "RS256", "extra": { "deep": 1 } })),
    ]);
    let set = parse(&all).unwrap();
    let found: Vec<_> = set.0.iter().map(|key| (key.kid.as_deref().unwrap(), key.algorithm)).collect();
    assert_eq!(found, [("ed", Algorithm::EdDSA), ("ec", Algorithm::ES256), ("rsa", Algorithm::RS256)]);
}

#[test]
fn a_name_shared_by_two_algorithms_means_two_keys_and_shared_within_one_means_none() {
    let set = parse(&[TestKey::ed().jwk("k"), TestKey::ec().jwk("k")]).unwrap();
    assert!(set.find(Some("k"), Algorithm::EdDSA).is_some() && set.find(Some("k"), Algorithm::ES256).is_some());
    assert!(set.find(Some("k"), Algorithm::RS256).is_none() && set.find(Some("j"), Algorithm::EdDSA).is_none());
    let set = parse(&[TestKey::ed().jwk("k"), TestKey::ed().jwk("k")]).unwrap();
    assert!(set.find(Some("k"), Algorithm::EdDSA).is_none());
}

#[test]
fn a_set_beyond_256_kib_is_refused() {
    let set = json!({ "keys": [TestKey::ed().jwk("k")] }).to_string();
    let padded = |len: usize| set.clone() + &" ".repeat(len - set.len());
    assert!(KeySet::parse(padded(262_144).as_bytes()).is_ok());
    assert!(KeySet::parse(padded(262_145).as_bytes()).is_err());
}

/// Answers one request with `answer`, then offers the bytes of `more` for as long as anyone takes them. Returns how
/// many of those were taken.
async fn served(answer: String, more: usize) -> (Result<KeySet, JwksError>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap()).parse().unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut taken = 0;
        while taken < more && stream.write_all(&[b' '; 8192]).await.is_ok() {
            taken += 8192;
        }
        taken
    };
    let source = Source::Url(url, client(false).unwrap());
    tokio::join!(source.load(), server)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn a_set_is_fetched_by_http() {
    let set = json!({ "keys": [TestKey::ed().jwk("k")] }).to_string();
    let (fetched, _) = served(answer("200 OK", &format!("content-length: {}\r\n", set.len()), &set), 0).await;
    assert!(fetched.unwrap().find(Some("k"), Algorithm::EdDSA).is_some());
}

#[tokio::test]
async fn answers_other_than_200_are_refused_and_redirects_not_followed() {
    let set = json!({ "keys": [TestKey::ed().jwk("k")] }).to_string();
    let length = format!("content-length: {}\r\n", set.len());
    for status in ["201 Created", "404 Not Found", "500 Internal Server Error"] {
        assert!(served(answer(status, &length, &set), 0).await.0.is_err(), "{status}");
    }
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redirect = format!("{length}location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    assert!(served(answer("302 Found", &redirect, &set), 0).await.0.is_err());
    assert!(elsewhere.accept().now_or_never().is_none(), "the redirect was followed");
}

#[tokio::test]
async fn a_body_without_end_is_left_at_the_cap() {
    let endless = 64 * 1024 * 1024;
    let (fetched, taken) = served(answer("200 OK", "", "{\"keys\":[]}"), endless).await;
    assert_eq!(fetched.unwrap_err().to_string(), "it is larger than 256 KiB");
    assert!(taken < endless, "all of it was read");
}

#[tokio::test]
async fn the_client_for_real_sets_speaks_https_only() {
    let source = Source::new(JwksSource::Url("https://id.example.com/".parse().unwrap())).unwrap();
    let Source::Url(_, client) = source else { panic!("an address became a file") };
    assert!(client.get("http://127.0.0.1:9/").send().await.unwrap_err().is_builder());
}
