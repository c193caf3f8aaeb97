//! The limits of connections, seen from a socket: clients that say nothing, begin and do not go on, ask for too much at once
//! or stay for too long.

use std::{net::SocketAddr, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use heedwell::grpc::proto::{Channel, SendNotificationResponse};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use sea_orm::ConnectionTrait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic::{
    Code, Response, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;

use super::{
    given::{bare_practice, new_key, practice, reminder, request, send_over},
    seen::{Watcher, everything, metadata, refused},
};
use crate::support::app::{ACME, Caller, LIMIT, TestApp, on_a_server};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Kinds of frames (RFC 9113, 6).
const SETTINGS_FRAME: u8 = 4;
const PING_FRAME: u8 = 6;
const GOAWAY_FRAME: u8 = 7;

/// A connection whose frames are read as they come.
struct Raw(TcpStream);

impl Raw {
    async fn open(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    /// One that has begun as HTTP/2 does.
    async fn http2(addr: SocketAddr) -> Self {
        let mut raw = Self::open(addr).await;
        raw.say(PREFACE).await;
        raw.say(SETTINGS).await;
        raw
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// The next frame, as its kind and its payload; unset at the end.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        timeout(LIMIT, self.0.read_exact(&mut head)).await.expect("a frame or the end").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        Some((head[3], payload))
    }

    async fn frame_of(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (found, payload) = self.frame().await.expect("the frame comes before the end");
            if found == kind {
                return payload;
            }
        }
    }

    /// One from another address of this machine.
    async fn open_from(ip: [u8; 4], addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((ip, 0))).unwrap();
        Self(socket.connect(addr).await.unwrap())
    }

    /// Asks the sidecar whether it is well.
    async fn is_answered(&mut self) {
        self.say(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(self.answer().await.starts_with("HTTP/1.1 200"));
    }

    async fn ping(&mut self) {
        self.say(&[0, 0, 8, PING_FRAME, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).await;
        assert_eq!(self.frame_of(PING_FRAME).await, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    /// Reads until the server ends the connection.
    async fn end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = timeout(LIMIT, self.0.read_to_end(&mut rest)).await.expect("the server ends it");
        rest
    }

    /// The head of an answer of HTTP/1.1 without a body.
    async fn answer(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(LIMIT, self.0.read_u8()).await.expect("an answer").unwrap());
        }
        String::from_utf8(head).unwrap()
    }
}

/// A short limit.
const SHORT: Duration = Duration::from_millis(200);

/// Sends, begun together over one connection.
fn twelve(
    t: &TestApp,
) -> FuturesUnordered<impl Future<Output = Result<Response<SendNotificationResponse>, Status>> + use<>> {
    let input = reminder(t, "pat", &[Channel::InApp]);
    let send = |_| {
        let (mut sender, input) = (t.sender(), input.clone());
        async move { sender.send_notification(request(&new_key(), input)).await }
    };
    (0..12).map(send).collect()
}

/// Settings of HTTP/2 as a server announces them: number and value.
fn settings(payload: &[u8]) -> Vec<(u16, u32)> {
    payload
        .chunks(6)
        .map(|entry| {
            (u16::from_be_bytes([entry[0], entry[1]]), u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
        })
        .collect()
}

on_a_server! {
    sqlite:
    async fn a_connection_may_have_200_calls_and_heads_of_16_kib(t: &mut TestApp) {
        for addr in t.addresses() {
            let announced = settings(&Raw::http2(addr).await.frame_of(SETTINGS_FRAME).await);
            assert!(announced.contains(&(3, 200)) && announced.contains(&(6, 16 * 1024)), "{announced:?}");
        }
    }

    async fn the_limits_are_those_that_are_promised(_t: &mut TestApp) {
        let limits = heedwell::ports::Settings::default();
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        assert_eq!((limits.head, limits.keepalive), (Duration::from_secs(10), Duration::from_secs(20)));
        assert_eq!((limits.age, limits.grace), (minutes(30), minutes(35)));
        assert_eq!((limits.calls, limits.send_buffer), (64, 400 * 1024));
        assert_eq!(limits.connections, 10_000);
        assert!(limits.idle > Duration::from_secs(60), "proxies keep theirs for 60 s");
        // What outlives the grace would be cut off in the middle.
        assert!(heedwell::service::watch::Settings::default().lifetime.mul_f64(1.1) < limits.grace);
    }

    async fn whoever_says_nothing_or_not_enough_is_cut_off(t: &mut TestApp) {
        t.restart_with(|config| config.ports.head = SHORT).await;
        for addr in t.addresses() {
            for words in [&b""[..], &PREFACE[..20]] {
                let mut raw = Raw::open(addr).await;
                raw.say(words).await;
                raw.end().await;
            }
        }
        let [_, sidecar] = t.addresses();
        let mut slow = Raw::open(sidecar).await;
        slow.say(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await;
        assert!(slow.end().await.is_empty());
        // Also when it had been quick before.
        let mut slow = Raw::open(sidecar).await;
        slow.say(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(slow.answer().await.starts_with("HTTP/1.1 200"));
        slow.say(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n").await;
        assert!(slow.end().await.is_empty());
    }

    async fn a_connection_at_rest_is_kept(t: &mut TestApp) {
        t.restart_with(|config| config.ports.head = SHORT).await;
        let [native, sidecar] = t.addresses();
        let mut proxy = Raw::open(sidecar).await;
        let mut client = Raw::http2(native).await;
        client.frame_of(SETTINGS_FRAME).await;
        for _ in 0..2 {
            proxy.say(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(proxy.answer().await.starts_with("HTTP/1.1 200"));
            assert!(timeout(3 * SHORT, proxy.0.read_u8()).await.is_err(), "it stays open and says nothing");
        }
        client.ping().await;
    }

    async fn when_all_places_are_taken_connections_at_rest_are_closed_and_none_at_work(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| config.ports.connections = 4).await;
        let [native, sidecar] = t.addresses();
        // The oldest one is the test's own; it is at work for as long as the watch lasts.
        let mut watcher = Watcher::open(t, Default::default(), None).await;
        let mut others = Vec::new();
        for _ in 0..4 {
            let mut other = Raw::http2(native).await;
            other.frame_of(SETTINGS_FRAME).await;
            others.push(other);
        }
        others.remove(0).end().await;
        for other in &mut others {
            other.ping().await;
        }
        send_over(t, "pat", Channel::InApp).await;
        assert!(!watcher.changes().await.is_empty());

        // Where all are at work, whoever comes finds the door closed.
        let mut senders = Vec::new();
        for _ in 0..4 {
            let mut sender = Raw::open(sidecar).await;
            let head = "POST /webhooks/twilio/acme/status/x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n";
            sender.say(head.as_bytes()).await;
            assert!(sender.answer().await.starts_with("HTTP/1.1 100"), "the server waits for the body");
            senders.push(sender);
        }
        assert!(Raw::open(sidecar).await.end().await.is_empty());
        for sender in &mut senders {
            sender.say(b"x").await;
            assert!(sender.answer().await.starts_with("HTTP/1.1 4"), "it was not closed");
        }
        Raw::open(sidecar).await.is_answered().await;
        senders.remove(0).end().await;
    }

    async fn an_address_that_takes_every_place_takes_them_from_itself(t: &mut TestApp) {
        t.restart_with(|config| config.ports.connections = 4).await;
        let [_, sidecar] = t.addresses();
        let mut honest = Raw::open(sidecar).await;
        honest.is_answered().await;
        let mut greedy = Vec::new();
        for _ in 0..20 {
            let mut another = Raw::open_from([127, 0, 0, 2], sidecar).await;
            another.is_answered().await;
            greedy.push(another);
        }
        // It is the one that has been at rest for longest, and alone of its address.
        honest.is_answered().await;
        for closed in &mut greedy[..17] {
            closed.end().await;
        }
    }

    async fn a_connection_of_http_1_that_rests_for_too_long_is_closed(t: &mut TestApp) {
        t.restart_with(|config| config.ports.idle = SHORT).await;
        let [_, sidecar] = t.addresses();
        let mut raw = Raw::open(sidecar).await;
        raw.say(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        raw.answer().await;
        assert!(raw.end().await.is_empty());
    }

    async fn the_body_of_a_callback_must_come_in_time_and_be_small(t: &mut TestApp) {
        t.restart_with(|config| config.http.time_limit = SHORT).await;
        let [_, sidecar] = t.addresses();
        let head = "POST /webhooks/twilio/acme/status/x HTTP/1.1\r\nhost: x\r\ncontent-length:";
        let mut slow = Raw::open(sidecar).await;
        slow.say(format!("{head} 100\r\n\r\nSid=").as_bytes()).await;
        assert!(slow.answer().await.starts_with("HTTP/1.1 503"));
        let mut large = Raw::open(sidecar).await;
        large.say(format!("{head} 65537\r\n\r\n").as_bytes()).await;
        large.say(&[b'x'; 65_537]).await;
        assert!(large.answer().await.starts_with("HTTP/1.1 413"));
    }

    async fn a_client_that_does_not_answer_a_ping_is_given_up(t: &mut TestApp) {
        t.restart_with(|config| config.ports.keepalive = SHORT).await;
        let [native, _] = t.addresses();
        let mut raw = Raw::http2(native).await;
        raw.frame_of(PING_FRAME).await;
        raw.end().await;
    }

    async fn an_old_connection_is_told_to_go_and_then_dropped(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        t.restart_with(|config| config.ports.age = SHORT).await;
        let [native, _] = t.addresses();
        Raw::http2(native).await.frame_of(GOAWAY_FRAME).await;
        // Calls that are open go on, up to the grace.
        let mut watcher = Watcher::open(t, Default::default(), None).await;
        assert!(timeout(3 * SHORT, watcher.step()).await.is_err());
        t.restart_with(|config| (config.ports.age, config.ports.grace) = (SHORT, SHORT)).await;
        let mut watcher = Watcher::open(t, Default::default(), None).await;
        assert!(watcher.step().await.is_err(), "it is dropped");
    }

    async fn calls_of_one_connection_beyond_its_share_are_refused_before_anything_is_accepted(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| (config.ports.calls, config.ports.calls_wait) = (4, SHORT)).await;
        let raw = t.home.raw().await;
        // Whatever is accepted waits for this.
        raw.execute_unprepared("BEGIN IMMEDIATE").await.unwrap();
        let mut sends = twelve(t);
        for _ in 0..8 {
            let answer = timeout(LIMIT, sends.next()).await.expect("a refusal waits for nobody's answer").unwrap();
            let status = refused(answer, Code::ResourceExhausted, "RATE_LIMITED");
            assert_eq!(metadata(&status, "limit"), "calls_per_connection");
            assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
        }
        // Another connection has a share of its own.
        let other = Endpoint::from_shared(format!("http://{}", t.addresses()[0])).unwrap().connect().await.unwrap();
        let list = heedwell::grpc::proto::ListDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        let mut reader = Caller::new(other, &t.token(heedwell::domain::Role::Staff)).notify;
        assert!(reader.list_deliveries(list).await.unwrap().into_inner().deliveries.is_empty());
        raw.execute_unprepared("ROLLBACK").await.unwrap();
        raw.close().await.unwrap();
        while let Some(answer) = sends.next().await {
            answer.unwrap();
        }
        assert_eq!(everything(t).await.len(), 4);
        send_over(t, "pat", Channel::InApp).await;
    }

    async fn a_burst_over_one_connection_passes(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| (config.ports.calls, config.ports.calls_wait) = (1, LIMIT)).await;
        let mut sends = twelve(t);
        while let Some(answer) = sends.next().await {
            answer.unwrap();
        }
        assert_eq!(everything(t).await.len(), 12);
    }

    async fn with_a_certificate_the_port_speaks_tls(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["server.example".to_owned()]).unwrap();
        let (certificate, key) = (cert.pem(), signing_key.serialize_pem());
        let root = certificate.clone();
        t.stop().await;
        let mut env = t.env();
        for (variable, name, pem) in [("CERT", "cert.pem", &certificate), ("KEY", "key.pem", &key)] {
            std::fs::write(t.home.path(name), pem).unwrap();
            env.set(&format!("HEEDWELL_TLS_{variable}_FILE"), t.home.path(name).display().to_string());
        }
        let config = heedwell::config::read(&env, true).unwrap();
        let app = heedwell::app::App::start(config, t.time()).await.unwrap();
        let endpoint = |root: String| {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(root)).domain_name("server.example");
            Endpoint::from_shared(format!("https://{}", app.grpc_addr)).unwrap().tls_config(tls).unwrap()
        };
        let channel = endpoint(root).connect().await.unwrap();
        let list = heedwell::grpc::proto::ListDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        let status = Caller::new(channel, "").notify.list_deliveries(list).await;
        refused(status, Code::Unauthenticated, "TOKEN_INVALID");
        // Nobody gets in without it, and nobody who trusts another.
        let mut plain = Raw::http2(app.grpc_addr).await;
        assert!(!plain.end().await.windows(PREFACE.len()).any(|bytes| bytes == PREFACE));
        let other = generate_simple_self_signed(["server.example".to_owned()]).unwrap().cert.pem();
        assert!(endpoint(other).connect().await.is_err());
        app.stop().await;
        // A key of another certificate stops the start.
        std::fs::write(t.home.path("key.pem"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let faults = heedwell::config::read(&env, true).err().unwrap().to_string();
        assert!(faults.contains("HEEDWELL_TLS_CERT_FILE") && !faults.contains("PRIVATE"), "{faults}");
        t.start().await;
    }
}
