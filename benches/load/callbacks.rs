//! Callbacks: what Twilio reports of texts, signed, as many as the sidecar takes in; beside a bare POST that checks the same
//! signature and updates one table, in groups.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};
use url::form_urlencoded::{Serializer, parse};

use crate::{
    Arguments, bare,
    database::{Kind, Look, postmaster},
    figures::{Figures, Pairs},
    machine::Meter,
    product::{ACCOUNT_SID, AUTH_TOKEN, Callers, FROM_NUMBER, PRACTICES, Product, Way, phone},
    sinks::{CALLBACK, Sinks},
};

/// Who has texts sent, for reports to tell of.
const CALLERS: usize = 64;
/// How often a report is repeated that counts once, in each run.
const REPEATED: usize = 100;

/// How Twilio signs a request of these fields, which are in the order of their names
/// (twilio.com/docs/usage/webhooks/webhooks-security).
pub(crate) fn signature(url: &str, fields: &[(&str, &str)]) -> String {
    let text = fields.iter().flat_map(|(name, value)| [*name, *value]).fold(url.to_owned(), |text, part| text + part);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, AUTH_TOKEN.as_bytes());
    STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}

/// Reports that texts arrived, ready to be posted.
pub(crate) struct Reports {
    to: SocketAddr,
    requests: Arc<[Vec<u8>]>,
}

impl Reports {
    /// Of these texts: where their reports go, and their SIDs.
    fn new(to: SocketAddr, texts: impl Iterator<Item = (String, String)>) -> Self {
        Self { to, requests: texts.map(|(url, sid)| report(&url, &sid)).collect() }
    }

    /// Has so many texts sent, of which the reports then tell.
    pub(crate) async fn of_texts(
        callers: &Callers,
        product: &Product,
        (sinks, look): (&Sinks, &Look),
        count: usize,
    ) -> Self {
        sinks.reset();
        callers.send_all(count, None).await;
        sinks.wait_for(count).await;
        look.settled().await;
        let texts = sinks.texts();
        assert_eq!(texts.len(), count);
        let url = |form: &str| parse(form.as_bytes()).next().unwrap().1.into_owned();
        Self::new(product.http, texts.into_iter().map(|text| (url(&format!("{CALLBACK}{}", text.callback)), text.sid)))
    }

    /// The same of texts that only a bare server knows, by their numbers.
    fn of_numbers(to: SocketAddr, numbers: std::ops::Range<usize>) -> Self {
        let url = |number| format!("http://{to}/webhooks/twilio/practice-0/status/{}", bare::token(number));
        Self::new(to, numbers.map(|number| (url(number), format!("SM{number:032x}"))))
    }

    /// Posts all of them, so many at once, each over a connection that stays.
    pub(crate) async fn post(&self, width: usize) -> Figures {
        let mut connections = Vec::new();
        for _ in 0..width {
            let connection = TcpStream::connect(self.to).await.unwrap();
            connection.set_nodelay(true).unwrap();
            connections.push(connection);
        }
        let (next, start, mut tasks) = (Arc::new(AtomicUsize::new(0)), Instant::now(), JoinSet::new());
        for mut connection in connections {
            let (requests, next) = (Arc::clone(&self.requests), Arc::clone(&next));
            tasks.spawn(async move {
                let (mut waits, mut answer) = (Vec::new(), Vec::new());
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    waits.push(post(&mut connection, request, &mut answer).await);
                }
                waits
            });
        }
        let waits: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        Figures { count: waits.len(), time: start.elapsed(), waits, ..Default::default() }
    }

    /// Posts some of them once more.
    async fn repeat(&self) {
        Self { to: self.to, requests: self.requests.iter().take(REPEATED).cloned().collect() }.post(1).await;
    }
}

/// A report as it goes over the wire.
fn report(url: &str, sid: &str) -> Vec<u8> {
    let url = url.split('#').next().unwrap_or_default();
    let to = phone(0);
    let fields = [
        ("AccountSid", ACCOUNT_SID),
        ("ApiVersion", "2010-04-01"),
        ("From", FROM_NUMBER),
        ("MessageSid", sid),
        ("MessageStatus", "delivered"),
        ("RawDlrDoneDate", "2611300703"),
        ("SmsSid", sid),
        ("SmsStatus", "delivered"),
        ("To", &to),
    ];
    let body = Serializer::new(String::new()).extend_pairs(fields).finish();
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: TwilioProxy/1.1\r\nAccept: */*\r\nX-Twilio-Signature: {}\r\n\
         Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
        signature(url, &fields),
        body.len()
    );
    (head + &body).into_bytes()
}

/// Sends a request and waits for its answer, which has no body. Says how long that took.
async fn post(connection: &mut TcpStream, request: &[u8], answer: &mut Vec<u8>) -> Duration {
    let start = Instant::now();
    connection.write_all(request).await.unwrap();
    answer.clear();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(connection.read_buf(answer).await.unwrap() > 0, "the connection was closed");
    }
    assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(answer));
    start.elapsed()
}

/// The product and its ceiling, each over a database of its own.
struct Sides {
    product: Product,
    callers: Callers,
    look: Look,
    bare: bare::Server,
    bare_look: Look,
    sinks: Sinks,
    postmaster: Option<u32>,
    /// Reports that each of them got.
    reported: usize,
    _folders: [tempfile::TempDir; 2],
}

impl Sides {
    /// The ceiling will get no more than so many reports.
    async fn start(kind: Kind, most: usize) -> Self {
        let sinks = Sinks::start().await;
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let url = kind.create(folders[0].path()).await;
        let product = Product::start(folders[0].path(), &url, sinks.addrs).await;
        product.furnish(Way::Http, sinks.addrs).await;
        let bare_url = kind.create(folders[1].path()).await;
        let bare_look = {
            // It leaves the schema, and the attempt that is copied.
            let model = Product::start(folders[1].path(), &bare_url, sinks.addrs).await;
            model.furnish(Way::Http, sinks.addrs).await;
            model.callers(1).await.send_all(PRACTICES, None).await;
            sinks.wait_for(PRACTICES).await;
            let look = Look::open(&bare_url).await;
            look.settled().await;
            look
        };
        bare::attempts(&bare_url, most).await;
        let bare = bare::Server::of_callbacks(&bare_url).await;
        let (callers, look) = (product.callers(CALLERS).await, Look::open(&url).await);
        let postmaster = postmaster(&url).await;
        Self { product, callers, look, bare, bare_look, sinks, postmaster, reported: 0, _folders: folders }
    }

    /// So many reports to each of them, so many at once.
    async fn pair(&mut self, count: usize, width: usize) -> (Figures, Figures) {
        let own = Reports::of_texts(&self.callers, &self.product, (&self.sinks, &self.look), count).await;
        let bare = Reports::of_numbers(self.bare.addr(), self.reported..self.reported + count);
        let (bare_id, product_id) = (self.bare.id(), self.product.id());
        let meter = Meter::start(bare_id, &[product_id], self.postmaster);
        let ceiling = bare.post(width).await;
        let ceiling = Figures { cost: meter.end(), ..ceiling };
        let meter = Meter::start(product_id, &[bare_id], self.postmaster);
        let product = own.post(width).await;
        let product = Figures { cost: meter.end(), ..product };
        self.reported += count;
        own.repeat().await;
        self.check().await;
        (ceiling, product)
    }

    /// That every report was applied, and once.
    async fn check(&self) {
        for query in [
            "SELECT count(*) FROM delivery WHERE state = 4",
            "SELECT count(*) FROM delivery_event WHERE provider_status = 'delivered'",
            "SELECT count(*) FROM feed WHERE state = 4",
        ] {
            assert_eq!(self.look.count(query).await, self.reported, "{query}");
        }
        let delivered = self.bare_look.count("SELECT count(*) FROM attempt WHERE facts & 128 <> 0").await;
        assert_eq!(delivered, self.reported, "of the bare server");
    }
}

pub(crate) async fn run(arguments: &Arguments) {
    let (count, pairs) = (arguments.number("--count", 8_000), arguments.number("--pairs", 5));
    let widths = arguments.text("--width").map_or(vec![64, 256], |width| vec![width.parse().unwrap()]);
    for kind in arguments.kinds() {
        let mut sides = Sides::start(kind, widths.len() * (pairs + 1) * count).await;
        for &width in &widths {
            sides.pair(count / 4, width).await;
            let title = format!("callbacks on {kind:?}, {width} at once, {count} each");
            let mut figures = Pairs::begin(&title).of("G9");
            for _ in 0..pairs {
                let (ceiling, product) = sides.pair(count, width).await;
                figures.ceiling(ceiling);
                figures.product(product);
            }
            figures.rates(0.5);
        }
    }
}
