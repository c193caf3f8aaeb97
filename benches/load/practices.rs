//! Practices as such: very many on one server, each with accounts, keys and patients of its own, beside a few that send as much in
//! all. Some are large and most are small: how often one sends goes by its rank (Zipf's law). Calls come when they come, whether
//! those before them were answered or not.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use heedwell::grpc::proto::{
    self, email_settings::Provider, notification_input::Payload, notify_service_client::NotifyServiceClient,
    sms_settings::Sender,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::{
    Arguments,
    database::{Kind, Look, postmaster},
    figures::{Figures, Pairs, spread},
    machine::{Cost, Meter, connections_to},
    product::{Callers, Product, Providers, Watcher, Way, settings},
    sinks::Sinks,
};

const NAMES: [&str; 2] = ["few", "many"];
/// Patients of each practice.
const PATIENTS: usize = 5;
/// Practices that are furnished at once.
const FURNISHED: usize = 64;
/// Connections of callers.
const CONNECTIONS: usize = 16;
/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long a server is looked at that does nothing.
const REST: Duration = Duration::from_secs(5);
/// How long streams may take to tell the last change, once it is settled.
const TOLD: Duration = Duration::from_secs(10);
/// When a call that was refused is made again.
const AGAIN: Duration = Duration::from_millis(100);
/// What many practices may take beside a few, in times.
const GOAL: f64 = 1.2;

/// How much is sent.
#[derive(Clone, Copy)]
struct Load {
    /// In a second, by all practices together.
    rate: f64,
    time: Duration,
    /// The largest practices are watched, by a stream each.
    streams: usize,
}

pub(crate) async fn run(arguments: &Arguments) {
    let (few, many) = (arguments.number("--few", 100), arguments.number("--practices", 10_000));
    let pairs = arguments.number("--pairs", 5);
    let load = Load {
        rate: arguments.decimal("--rate", 200.0),
        time: Duration::from_secs(arguments.number("--seconds", 60) as u64),
        streams: arguments.number("--streams", 500),
    };
    for kind in arguments.kinds() {
        let sinks = Sinks::start().await;
        println!("practices on {kind:?}");
        let mut few = Side::furnish(kind, &sinks, few).await;
        let mut many = Side::furnish(kind, &sinks, many).await;
        let title = format!(
            "{} texts and mails a second of {} practices and of {}, {:?} each: how long a call takes",
            load.rate, few.practices, many.practices, load.time
        );
        let (mut calls, mut sent) = (Pairs::named(&title, NAMES), Vec::new());
        for _ in 0..pairs {
            let (one, other) = (few.run(&sinks, load).await, many.run(&sinks, load).await);
            calls.ceiling(one.calls.clone());
            one.print();
            calls.product(other.calls.clone());
            other.print();
            sent.push((one.sent(), other.sent()));
        }
        calls.times(GOAL);
        calls.efforts(GOAL);
        let mut until_sent = Pairs::named("  from the call until the provider has it", NAMES);
        for (one, other) in sent {
            until_sent.ceiling(one);
            until_sent.product(other);
        }
        until_sent.times(GOAL);
    }
}

/// A database with so many practices. A server is there while it is measured, so that nobody's rest costs the other.
struct Side {
    practices: usize,
    url: String,
    folder: tempfile::TempDir,
    look: Look,
    /// Deliveries that it has.
    sent: usize,
}

impl Side {
    async fn furnish(kind: Kind, sinks: &Sinks, practices: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        let connections = connections(&product).await;
        let start = Instant::now();
        stream::iter(0..practices)
            .map(|number| {
                let connection = connections[number % CONNECTIONS].clone();
                let (name, settings) = (name(number), settings_of(number, sinks.addrs));
                let (product, patients) = (&product, (0..PATIENTS).map(|place| patient(number, place)).collect());
                async move { product.furnish_with(connection, &name, patients, settings).await }
            })
            .buffer_unordered(FURNISHED)
            .collect::<()>()
            .await;
        let time = start.elapsed().as_secs_f64();
        println!("  {practices} practices are furnished in {time:.1} s, {:.0} a second", practices as f64 / time);
        let look = Look::open(&url).await;
        Self { practices, url, folder, look, sent: 0 }
    }

    async fn run(&mut self, sinks: &Sinks, load: Load) -> Run {
        let start = Instant::now();
        let server = Server::start(self.folder.path(), &self.url, sinks).await;
        let started = start.elapsed();
        let streams = Streams::open(&server.product, load.streams.min(self.practices)).await;
        let warm_up = self.plan(Load { time: WARM_UP, ..load });
        server.send(&warm_up).await;
        self.over(sinks, &streams, &warm_up).await;
        let meter = server.meter();
        sleep(REST).await;
        let rest = meter.end();

        let plan = self.plan(load);
        let (meter, begin, most) = (server.meter(), Instant::now(), server.count_connections(sinks.addrs));
        let Sent { begun, waits, refused } = server.send(&plan).await;
        let last = Instant::now();
        let arrivals = self.over(sinks, &streams, &plan).await;
        let (settled, time) = (last.elapsed(), begin.elapsed());
        let cost = meter.end();
        let calls = Figures { count: plan.len(), time, waits, cost };
        let sent = begun.into_iter().flat_map(|(recipient, begun)| {
            let came = arrivals.get(&recipient).cloned().unwrap_or_default();
            begun.into_iter().zip(came).map(|(begun, came)| came - begun).collect::<Vec<_>>()
        });
        let sent = sent.collect();
        Run {
            calls,
            sent,
            refused,
            settled,
            started,
            rest,
            connections: most.load(Ordering::Relaxed),
            streams: streams.count(),
        }
    }

    /// Who sends to whom, and when.
    fn plan(&self, load: Load) -> Vec<Planned> {
        let mut shares = Vec::with_capacity(self.practices);
        let mut sum = 0.0;
        for rank in 1..=self.practices {
            sum += 1.0 / rank as f64;
            shares.push(sum);
        }
        let (mut plan, mut at) = (Vec::new(), 0.0);
        loop {
            // As calls come that know nothing of each other.
            at -= rand::random_range(f64::EPSILON..1.0).ln() / load.rate;
            if at > load.time.as_secs_f64() {
                return plan;
            }
            let point = rand::random_range(0.0..sum);
            let practice = shares.partition_point(|share| *share <= point).min(self.practices - 1);
            plan.push(Planned { at: Duration::from_secs_f64(at), practice, patient: rand::random_range(0..PATIENTS) });
        }
    }

    /// Waits until all that was planned is settled and told, and makes sure that each came once. Yields when what came for whom.
    async fn over(&mut self, sinks: &Sinks, streams: &Streams, plan: &[Planned]) -> BTreeMap<String, Vec<Instant>> {
        sinks.wait_for(plan.len()).await;
        self.look.none("SELECT count(*) FROM delivery WHERE phase < 3").await;
        self.sent += plan.len();
        for query in ["SELECT count(*) FROM delivery", "SELECT count(*) FROM delivery WHERE state = 3"] {
            assert_eq!(self.look.count(query).await, self.sent, "{query}");
        }
        streams.told(plan).await;
        let arrivals = sinks.arrivals();
        let mut wanted = BTreeMap::<String, usize>::new();
        for send in plan {
            *wanted.entry(send.recipient()).or_default() += 1;
        }
        let came: BTreeMap<_, _> = arrivals.iter().map(|(recipient, came)| (recipient.clone(), came.len())).collect();
        assert!(came == wanted, "lost, doubled, or sent to somebody else");
        sinks.reset();
        arrivals
    }
}

/// A message to be.
#[derive(Clone, Copy)]
struct Planned {
    /// From the beginning.
    at: Duration,
    practice: usize,
    patient: usize,
}

impl Planned {
    /// Where it comes to.
    fn recipient(self) -> String {
        let patient = patient(self.practice, self.patient);
        if way(self.practice) == Way::Http { patient.mobile_phone } else { patient.email }
    }

    fn order(self) -> proto::SendNotificationRequest {
        let notice = proto::SystemDetails { title: "Notice".into(), body: "A notice.".into(), security: false };
        let notification = proto::NotificationInput {
            patient_id: patient(self.practice, self.patient).patient_id,
            payload: Some(Payload::System(notice)),
            reference: format!("reference-{}", self.at.as_micros()),
            ..Default::default()
        };
        proto::SendNotificationRequest {
            practice_id: name(self.practice),
            request_id: Uuid::now_v7().simple().to_string(),
            notification: Some(notification),
        }
    }
}

/// Calls that were answered.
struct Sent {
    /// When each was to begin, by recipient.
    begun: BTreeMap<String, Vec<Instant>>,
    /// How long each took from then.
    waits: Vec<Duration>,
    /// How often one was refused before.
    refused: usize,
}

/// A server that is measured, with its callers.
struct Server {
    product: Arc<Product>,
    connections: Vec<Channel>,
    postmaster: Option<u32>,
}

impl Server {
    async fn start(folder: &Path, url: &str, sinks: &Sinks) -> Self {
        let product = Arc::new(Product::start(folder, url, sinks.addrs).await);
        let (connections, postmaster) = (connections(&product).await, postmaster(url).await);
        Self { product, connections, postmaster }
    }

    fn meter(&self) -> Meter {
        Meter::start(self.product.id(), &[], self.postmaster)
    }

    /// Sends what was planned.
    async fn send(&self, plan: &[Planned]) -> Sent {
        let (start, mut calls, mut begun) = (Instant::now(), JoinSet::new(), BTreeMap::<_, Vec<_>>::new());
        for (number, planned) in plan.iter().enumerate() {
            let begin = start + planned.at;
            begun.entry(planned.recipient()).or_default().push(begin);
            let (product, order) = (Arc::clone(&self.product), planned.order());
            let mut client = NotifyServiceClient::new(self.connections[number % CONNECTIONS].clone());
            sleep_until(begin).await;
            calls.spawn(async move {
                let mut refused = 0;
                // Every call is safe to repeat, and whoever is refused because of too much at once comes again.
                while let Err(status) = client.send_notification(product.request(order.clone())).await {
                    assert!(matches!(status.code(), Code::ResourceExhausted | Code::Unavailable), "{status}");
                    refused += 1;
                    sleep(AGAIN).await;
                }
                (begin.elapsed(), refused)
            });
        }
        let (waits, refused): (Vec<_>, Vec<usize>) = calls.join_all().await.into_iter().unzip();
        Sent { begun, waits, refused: refused.iter().sum() }
    }

    /// The most connections to providers from now on, for as long as somebody wants to know.
    fn count_connections(&self, providers: Providers) -> Arc<AtomicUsize> {
        let most = Arc::new(AtomicUsize::new(0));
        let wanted = Arc::downgrade(&most);
        tokio::spawn(async move {
            while let Some(most) = wanted.upgrade() {
                most.fetch_max(connections_to(&[providers.http, providers.smtp]), Ordering::Relaxed);
                drop(most);
                sleep(Duration::from_millis(500)).await;
            }
        });
        most
    }
}

async fn connections(product: &Product) -> Vec<Channel> {
    stream::iter(0..CONNECTIONS).then(|_| product.connect()).collect().await
}

/// Streams of the largest practices, one each.
struct Streams {
    /// How many deliveries each has seen to be sent.
    seen: Vec<Arc<AtomicUsize>>,
    /// How many it should have seen.
    wanted: Vec<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Streams {
    async fn open(product: &Product, count: usize) -> Self {
        let callers: Callers = product.callers(1).await.with_room_for(count).await;
        let mut streams = Self { seen: Vec::new(), wanted: Vec::new(), tasks: JoinSet::new() };
        for number in 0..count {
            let mut watcher = Watcher::of(&callers, number, &name(number), None).await;
            let seen = Arc::new(AtomicUsize::new(0));
            streams.seen.push(Arc::clone(&seen));
            streams.wanted.push(AtomicUsize::new(0));
            streams.tasks.spawn(async move {
                let mut sent = HashSet::new();
                loop {
                    let deliveries = watcher.changes().await.into_iter().filter_map(|change| change.delivery);
                    let gone = deliveries.filter(|delivery| delivery.state() == proto::DeliveryState::Sent);
                    sent.extend(gone.map(|delivery| delivery.delivery_id));
                    seen.store(sent.len(), Ordering::Relaxed);
                }
            });
        }
        streams
    }

    fn count(&self) -> usize {
        self.seen.len()
    }

    /// Waits until each stream has told all that its practice sent, and no more.
    async fn told(&self, plan: &[Planned]) {
        for send in plan {
            if let Some(wanted) = self.wanted.get(send.practice) {
                wanted.fetch_add(1, Ordering::Relaxed);
            }
        }
        let number = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let wanted: Vec<_> = self.wanted.iter().map(number).collect();
        let seen = || self.seen.iter().map(|seen| number(seen)).collect::<Vec<_>>();
        let all = async {
            while seen() != wanted {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(timeout(TOLD, all).await.is_ok(), "a stream has not told all, or more");
    }
}

/// What came of a run.
struct Run {
    calls: Figures,
    /// How long each took until its provider had it.
    sent: Vec<Duration>,
    refused: usize,
    /// How long after the last call all was settled and told.
    settled: Duration,
    started: Duration,
    rest: Cost,
    connections: usize,
    streams: usize,
}

impl Run {
    fn print(&self) {
        let share = |cost: Cost, time: Duration| {
            let share = |seconds: f64| seconds / time.as_secs_f64() * 100.0;
            format!("server {:.1} %, database {:.1} % of a processor", share(cost.server), share(cost.database))
        };
        if self.refused > 0 {
            println!(
                "            NOT GOOD: {} calls were refused at first, as too much waited to be written",
                self.refused
            );
        }
        println!(
            "            at the provider after {}; all settled and told by {} streams {:.1} s after the last call",
            spread(&self.sent),
            self.streams,
            self.settled.as_secs_f64()
        );
        println!(
            "            {}; at rest {}; up to {} connections to providers; served after {} ms",
            share(self.calls.cost, self.calls.time),
            share(self.rest, REST),
            self.connections,
            self.started.as_millis()
        );
    }

    fn sent(&self) -> Figures {
        Figures { waits: self.sent.clone(), ..self.calls.clone() }
    }
}

fn name(number: usize) -> String {
    format!("practice-{number}")
}

/// Half of them text, the others send mail.
const fn way(number: usize) -> Way {
    match number % 4 {
        0 | 2 => Way::Http,
        1 => Way::Smtp,
        _ => Way::SendGrid,
    }
}

/// Of all practices nobody has a number or a mailbox twice.
fn patient(practice: usize, place: usize) -> proto::Patient {
    let number = practice * PATIENTS + place;
    proto::Patient {
        patient_id: format!("patient-{place}"),
        first_name: "Pat".into(),
        mobile_phone: format!("+1212{}{:04}", 300 + number / 10_000, number % 10_000),
        email: format!("pat-{number}@example.test"),
        ..Default::default()
    }
}

/// With accounts and log-ins that no other practice has.
fn settings_of(number: usize, providers: Providers) -> proto::PracticeSettings {
    let mut settings = settings(way(number), providers);
    if let Some(sms) = &mut settings.sms {
        sms.account_sid = format!("AC{:032x}", 0x1000 + number);
        sms.auth_token = format!("token-{number}");
        sms.sender = Some(Sender::FromNumber(format!("+1646{}{:04}", 200 + number / 10_000, number % 10_000)));
    }
    if let Some(email) = &mut settings.email {
        email.from_address = format!("office-{number}@example.test");
        match &mut email.provider {
            Some(Provider::Smtp(smtp)) => {
                smtp.username = format!("user-{number}");
                smtp.password = format!("password-{number}");
            }
            Some(Provider::Sendgrid(sendgrid)) => sendgrid.api_key = format!("key-{number}"),
            None => {}
        }
    }
    settings
}
