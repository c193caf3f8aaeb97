//! Frames of HTTP/2, as a client of our own making sends them, to a server that listens: whatever they are, the connection ends with
//! its client, and the next client is served.

use std::{net::SocketAddr, time::Duration};

use heedwell::ports::{Port, Protocol, Settings, Stop};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    bytes::Bytes,
    limits::reached,
    server::{Server, with},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
/// A request in HPACK without a table or Huffman's code (RFC 7541): it asks how the server is, which anybody may.
const HEALTH: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/grpc.health.v1.Health/Check"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];
/// Far beyond what a connection takes, on a machine that has other work too: what it costs is held to the limits of all targets.
const LIMIT: Duration = Duration::from_secs(30);
/// A message of two bytes, as a server says it that is well: serving.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];
/// What a server says to a client that asks for next to nothing.
const LONGEST_ANSWER: usize = 1024 * 1024;

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    with(|server| {
        let address = listening(server);
        let choice = input.byte();
        let mut sent = PREFACE.to_vec();
        if choice == 255 {
            sent = input.0.to_vec();
        } else {
            frame(SETTINGS, 0, 0, &[], &mut sent);
            while !input.is_empty() {
                script(&mut input, &mut sent);
            }
        }
        let heard = server.block_on(talk(address, &sent, Leaves::AtOnce));
        assert!(heard.len() <= LONGEST_ANSWER, "{} bytes of an answer", heard.len());
        // Whoever comes next is served.
        if choice.is_multiple_of(16) {
            let mut honest = PREFACE.to_vec();
            frame(SETTINGS, 0, 0, &[], &mut honest);
            frame(HEADERS, 0x4, 1, &health(), &mut honest);
            frame(DATA, 0x1, 1, &[0; 5], &mut honest);
            let heard = server.block_on(talk(address, &honest, Leaves::Answered));
            assert!(is_answer(&heard), "the next client got no answer");
            reached();
        }
    });
}

/// One frame, or many of a kind that comes in floods.
fn script(input: &mut Bytes<'_>, sent: &mut Vec<u8>) {
    let kind = input.byte();
    let (flags, stream) = (input.byte(), u32::from(input.byte()));
    match kind {
        0..=15 => frame(kind, flags, stream, input.piece(), sent),
        // Opened and given up, again and again.
        16..=31 => {
            for at in 0..u32::from(input.byte()) {
                let stream = 2 * (stream + at) + 1;
                frame(HEADERS, 0x5, stream, &health(), sent);
                frame(RESET, 0, stream, &[0, 0, 0, 8], sent);
            }
        }
        // A head that never ends.
        32..=47 => {
            frame(HEADERS, flags & !0x4, stream | 1, &health(), sent);
            for _ in 0..input.byte() {
                frame(CONTINUATION, 0, stream | 1, &[0; 256], sent);
            }
        }
        48..=63 => (0..input.byte()).for_each(|_| frame(PING, flags & !1, 0, &[0; 8], sent)),
        64..=79 => (0..input.byte()).for_each(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255], sent)),
        // Streams that are opened and left alone.
        80..=95 => {
            for at in 0..u32::from(input.byte()) {
                frame(HEADERS, 0x4, 2 * at + 1, &health(), sent);
            }
        }
        96..=127 => frame(HEADERS, flags, stream | 1, &health(), sent),
        128..=159 => frame(DATA, flags, stream | 1, input.piece(), sent),
        // Not even a frame.
        _ => sent.extend_from_slice(input.piece()),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn health() -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in HEALTH {
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap());
            head.extend_from_slice(text.as_bytes());
        }
    }
    head
}

/// When a client says that it will say no more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaves {
    AtOnce,
    /// Once it has its answer. In HTTP/2 a client that closes its side ends the connection, and what the server had not written by
    /// then is lost: whether it had is a matter of chance.
    Answered,
}

fn is_answer(heard: &[u8]) -> bool {
    heard.windows(SERVING.len()).any(|bytes| bytes == SERVING)
}

/// Says it all, and listens until the server has ended.
async fn talk(address: SocketAddr, sent: &[u8], leaves: Leaves) -> Vec<u8> {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let answered = Notify::new();
    let say = async {
        // The server may have heard enough.
        let _ = writer.write_all(sent).await;
        if leaves == Leaves::Answered {
            answered.notified().await;
        }
        let _ = writer.shutdown().await;
    };
    let listen = async {
        let mut heard = Vec::new();
        while reader.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {
            if is_answer(&heard) {
                answered.notify_one();
            }
        }
        // The server has ended: nothing more will come.
        answered.notify_one();
        heard
    };
    let both = async { tokio::join!(say, listen).1 };
    timeout(LIMIT, both).await.expect("a connection that ends with its client")
}

/// Where the server of this thread listens.
fn listening(server: &Server) -> SocketAddr {
    thread_local! {
        static ADDRESS: std::cell::OnceCell<SocketAddr> = const { std::cell::OnceCell::new() };
    }
    ADDRESS.with(|address| {
        *address.get_or_init(|| {
            let router = server.answers.grpc.clone();
            let port = Port { router, tls: None, protocol: Protocol::Http2, settings: Settings::default() };
            let stop = Stop { planned: CancellationToken::new(), at_once: CancellationToken::new() };
            let listener = server.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            server.spawn(port.serve(listener, stop));
            address
        })
    })
}
