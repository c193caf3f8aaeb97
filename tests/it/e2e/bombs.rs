//! Messages that are a gigabyte once they are unpacked, or say that they are: refused before any of that is there.

use std::{convert::Infallible, future::poll_fn};

use axum::body::{Body, Bytes};
use futures::stream;
use heedwell::{domain::Role, grpc::proto::Channel};
use tokio::time::timeout;
use tonic::{Code, Status, transport};
use tonic_types::StatusExt;
use tower::Service;

use super::{
    given::{practice, send_over},
    seen::everything,
};
use crate::support::{
    Backend,
    app::{LIMIT, TestApp},
};

/// What the bomb unpacks to, in bytes.
const UNPACKED: u32 = 1 << 30;
/// Its checksum (RFC 1952, section 8): of as many zeros.
const CHECKSUM: u32 = 0x5b64_c2b0;
/// More than this may not be taken for it, in KiB.
const GROWTH: u64 = 4 * 1024;

/// Bits as deflate packs them (RFC 1951, section 3.1.1).
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    count: usize,
}

impl Bits {
    /// The lowest bits of a number, the lowest first.
    fn put(&mut self, number: u8, bits: usize) {
        for bit in 0..bits {
            self.zeros(1);
            *self.bytes.last_mut().unwrap() |= ((number >> bit) & 1) << ((self.count - 1) % 8);
        }
    }

    fn zeros(&mut self, bits: usize) {
        self.count += bits;
        self.bytes.resize(self.count.div_ceil(8), 0);
    }
}

/// A gigabyte of zeros as gzip has it, which is 1 MB: one block with codes of its own (RFC 1951, section 3.2.7), in which "the byte
/// before, 258 times more" takes two bits.
fn bomb() -> Vec<u8> {
    let mut bits = Bits::default();
    // The last block, with its own codes: 286 of literals and lengths, one of distances, and 18 for how long those are.
    for (number, count) in [(1, 1), (2, 2), (29, 5), (0, 5), (14, 4)] {
        bits.put(number, count);
    }
    // In the order of the RFC: how often zeros are repeated has one bit, lengths of 2 and of 1 have two.
    for length in [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2] {
        bits.put(length, 3);
    }
    // Literal 0 has two bits, 255 others none, the end two, 28 lengths none, that of 258 one; the distance of 1 has one.
    for (number, count) in [(3, 2), (0, 1), (127, 7), (0, 1), (106, 7), (3, 2), (0, 1), (17, 7), (1, 2), (1, 2)] {
        bits.put(number, count);
    }
    let (copies, literals) = ((UNPACKED as usize - 1) / 258, 1 + (UNPACKED as usize - 1) % 258);
    for _ in 0..literals {
        bits.put(1, 2);
    }
    bits.zeros(2 * copies);
    bits.put(3, 2);
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    [&head[..], &bits.bytes, &CHECKSUM.to_le_bytes(), &UNPACKED.to_le_bytes()].concat()
}

/// A message in its frame, whatever the frame says of it.
fn framed(is_compressed: bool, length: u32, message: &[u8]) -> Bytes {
    [&[u8::from(is_compressed)][..], &length.to_be_bytes(), message].concat().into()
}

/// Sends a body as that of a call, and yields what it is refused with.
async fn refused(mut channel: transport::Channel, token: &str, encoding: Option<&str>, body: Body) -> Status {
    let mut request = http::Request::post("http://localhost/heedwell.v1.NotifyService/SendNotification")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"));
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request.body(tonic::body::Body::new(body)).unwrap();
    poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let answer = timeout(LIMIT, channel.call(request)).await.expect("nothing is waited for").unwrap();
    Status::from_header_map(answer.headers()).expect("it is refused before it answers anything")
}

#[test]
fn the_bomb_is_small_and_whole() {
    let bomb = bomb();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bomb);
    // That of a file that gzip found well, and unpacked to a gigabyte of zeros.
    assert_eq!((bomb.len(), &digest.as_ref()[..8]), (1_040_480, &[0x81, 0xe2, 0xd5, 0xd5, 0x91, 0x76, 0x7d, 0x00][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_is_refused_before_it_is_there() {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut t = TestApp::spawn_apart(Backend::Sqlite, "info", |_| {}).await.unwrap();
    practice(&t).await;
    let token = t.token(Role::Sender);
    let bomb = bomb();
    let length = u32::try_from(bomb.len()).unwrap();
    let attack = async |t: &TestApp, bomb: &[u8]| {
        let send = |encoding, body: Body| refused(t.channel(), &token, encoding, body);
        let told = |status: &Status| {
            let violations = status.get_details_bad_request().expect("what is wrong with it").field_violations;
            violations.into_iter().map(|violation| violation.description).collect::<Vec<_>>()
        };
        // Told by its head, as it has to be (compression.md of gRPC: UNIMPLEMENTED), and by its frame alone.
        let by_name = send(Some("gzip"), framed(true, length, bomb).into()).await;
        assert_eq!(by_name.code(), Code::Unimplemented);
        let by_flag = send(None, framed(true, length, bomb).into()).await;
        assert_eq!(
            (by_flag.code(), told(&by_flag)),
            (Code::InvalidArgument, vec!["the request is not a message of this call".to_owned()])
        );
        // One that says it is as long, and goes on to be.
        let pieces = (0..UNPACKED as usize / ZEROS.len()).map(|_| Bytes::from_static(&ZEROS));
        let pieces = [framed(false, UNPACKED, &[])].into_iter().chain(pieces).map(Ok::<_, Infallible>);
        let by_length = send(None, Body::from_stream(stream::iter(pieces))).await;
        assert_eq!(
            (by_length.code(), told(&by_length)),
            (Code::InvalidArgument, vec!["the request is larger than 4 MiB".to_owned()])
        );
    };
    // Once beforehand, so that what the server needs for any call at all is there.
    for _ in 0..5 {
        send_over(&t, "pat", Channel::InApp).await;
        attack(&t, &bomb).await;
    }
    let before = t.process().memory();
    for _ in 0..20 {
        attack(&t, &bomb).await;
    }
    let after = t.process().memory();
    for (before, after) in before.into_iter().zip(after) {
        assert!(after.saturating_sub(before) <= GROWTH, "{before} KiB before, {after} KiB after");
    }
    // The connection is as good as before, and so is the server.
    send_over(&t, "pat", Channel::InApp).await;
    assert_eq!(everything(&t).await.len(), 6);
    t.end().await;
}
