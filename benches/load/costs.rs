//! Where the cost of a notification goes, stage by stage: processor time of server and database, and bytes that are written. What only
//! computes is run in a loop here. Of the rest each stage is done by itself, many at a time: calls that are refused for a field, accepts of
//! what is not due, claims whose calls the provider holds back, and what follows once it lets go.

use std::{
    fmt::Write,
    fs,
    future::Future,
    hint::black_box,
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use heedwell::{
    crypto::DataKey,
    domain::{
        Channel, Choices, Grounds, Kind as Of, PracticeSettings,
        template::{self, OwnWording, Rendering},
    },
    grpc::proto::SendNotificationRequest,
};
use prost::Message;

use crate::{
    Arguments, accept, bare,
    database::{Apart, Kind, Look, postmaster},
    drain,
    machine::{Cost, Meter, written},
    product::{Callers, Product, Way},
    renders,
    sinks::Sinks,
    streams::Crowd,
};

/// What a provider holds back at once: fewer than the calls that the server has under way.
const HELD: usize = 128;
/// More of what is not held back.
const MORE: usize = 10;
const CALLERS: usize = 64;
const WATCHERS: usize = 100;
/// Has PostgreSQL count what each statement takes.
const COUNTING: &str = "shared_preload_libraries=pg_stat_statements";
/// How many statements are shown of a stage.
const STATEMENTS: usize = 20;

/// What one notification costs in a stage.
struct Stage {
    name: &'static str,
    /// Microseconds of a processor.
    server: f64,
    database: f64,
    /// Bytes that are written, or that it is long.
    bytes: Option<f64>,
}

pub(crate) async fn run(arguments: &Arguments) {
    let rounds = arguments.number("--pairs", 10);
    let computed = computed(arguments.number("--loops", 20_000));
    let mut table =
        String::from("| database | stage | us, server | us, database | bytes |\n| --- | --- | --- | --- | --- |\n");
    for kind in arguments.kinds() {
        let stages = stages(kind, rounds).await;
        for Stage { name, server, database, bytes } in computed.iter().chain(&stages) {
            let bytes = bytes.map_or_else(String::new, |bytes| format!("{bytes:.0}"));
            writeln!(table, "| {} | {name} | {server:.1} | {database:.1} | {bytes} |", kind.name()).unwrap();
        }
    }
    println!("\n{table}");
    if let Some(path) = arguments.text("--out") {
        fs::write(path, table).unwrap();
    }
}

/// Processor time of a loop, in microseconds each; for a tenth of it nothing is measured.
fn looped(times: usize, mut work: impl FnMut(usize)) -> f64 {
    (0..times / 10).for_each(&mut work);
    let meter = Meter::start(std::process::id(), &[], None);
    (0..times).for_each(&mut work);
    meter.end().server * 1e6 / times as f64
}

/// What needs no database: decoding, the decisions on all channels, the text of a mail, sealing it.
fn computed(times: usize) -> Vec<Stage> {
    let request = crate::product::a_request().encode_to_vec();
    let decode = looped(times, |_| {
        black_box(SendNotificationRequest::decode(black_box(&request[..])).unwrap());
    });
    let (all, practice, own) = (renders::invented(Channel::Email), renders::practice(), OwnWording::NONE);
    let (choices, settings) = (Choices::default(), PracticeSettings::default());
    let now = SystemTime::now().into();
    let decide = looped(times, |number| {
        let grounds = Grounds {
            patient: &all[number % all.len()].patient,
            choices: &choices,
            practice_zone: practice.time_zone,
            settings: &settings,
            has_device: false,
            kind: Some(Of::AppointmentReminder),
            requested: None,
            urgent: false,
            test: false,
            gates: &Default::default(),
            duplicates: Default::default(),
            sms_regions: &[],
            not_before: now,
            expires_at: now + Duration::from_secs(86_400),
            now,
        };
        for channel in Channel::ALL {
            black_box(grounds.decide(channel));
        }
    });
    let render = |number: usize| {
        let ask = Rendering { channel: Channel::Email, ..renders::ask(&all[number % all.len()], &practice, &own) };
        template::render(&ask).unwrap()
    };
    let render_time = looped(times, |number| drop(black_box(render(number))));
    let (key, content) = (DataKey::generate(), render(0));
    let seal = looped(times, |_| drop(black_box(renders::sealed(&key, &content))));
    let stage = |name, server, bytes| Stage { name, server, database: 0.0, bytes };
    vec![
        stage("parse: the message decoded", decode, Some(request.len() as f64)),
        stage("decide, on four channels", decide, None),
        stage("render a mail", render_time, Some(content.html.expose().len() as f64)),
        stage("seal it", seal, Some(renders::sealed(&key, &content).len() as f64)),
    ]
}

/// What is done so far of a stage.
#[derive(Default)]
struct Sum {
    cost: Cost,
    bytes: f64,
    count: usize,
}

impl Sum {
    fn stage(&self, name: &'static str) -> Stage {
        let each = |seconds: f64| seconds * 1e6 / self.count as f64;
        let bytes = Some(self.bytes / self.count as f64);
        Stage { name, server: each(self.cost.server), database: each(self.cost.database), bytes }
    }
}

/// A server, and what is measured of it.
struct Bench {
    product: Product,
    callers: Callers,
    sinks: Sinks,
    look: Look,
    postmaster: Option<u32>,
    _counting: Option<Apart>,
    folder: tempfile::TempDir,
}

async fn stages(kind: Kind, rounds: usize) -> Vec<Stage> {
    let bench = Bench::start(kind).await;
    let later = || Some(SystemTime::now() + accept::DAY);
    bench.callers.send_all(HELD * MORE, later()).await;
    let mut refused = Sum::default();
    for _ in 0..rounds {
        bench.add(&mut refused, HELD * MORE, bench.callers.refused_all(HELD * MORE)).await;
    }
    bench.forget_statements().await;
    let mut accepted = Sum::default();
    for _ in 0..rounds {
        bench.add(&mut accepted, HELD * MORE, bench.callers.send_all(HELD * MORE, later())).await;
    }
    bench.print_statements("accept", accepted.count).await;
    let (mut claimed, mut settled) = (Sum::default(), Sum::default());
    let mut due = drain::accept(&bench.product, HELD).await;
    bench.forget_statements().await;
    for round in 0..rounds {
        bench.sinks.reset();
        bench.sinks.hold();
        tokio::time::sleep_until(due - Duration::from_millis(100)).await;
        bench.add(&mut claimed, HELD, async { drop(bench.sinks.wait_for(HELD).await) }).await;
        let settle = async {
            bench.sinks.let_go();
            bench.look.settled().await;
        };
        bench.add(&mut settled, HELD, settle).await;
        if round + 1 < rounds {
            due = drain::accept(&bench.product, HELD).await;
        }
    }
    bench.print_statements("accept, claim and settle", settled.count).await;
    let sample = bench.folder.path().join("sample");
    fs::write(&sample, bench.sinks.sample()).unwrap();
    let mut called = Sum::default();
    for _ in 0..rounds {
        bench.sinks.reset();
        let client = bare::client("http", bench.sinks.addrs.http, HELD * MORE, CALLERS, &sample);
        let meter = Meter::start(client.id(), &[bench.product.id()], None);
        bench.sinks.wait_for(HELD * MORE).await;
        called.cost.server += meter.end().server;
        called.count += HELD * MORE;
        client.wait();
    }
    let told = bench.streams(rounds).await;
    let (refused, accepted) = (
        refused.stage("receive, verify the token, parse and refuse"),
        accepted.stage("accept: all of it until COMMIT"),
    );
    vec![
        Stage { bytes: None, ..refused },
        accepted,
        claimed.stage("claim, and begin the call"),
        Stage { bytes: None, ..called.stage("of that and of the next, the call (a bare client)") },
        settled.stage("take the answer, and settle"),
        Stage { bytes: None, ..told },
    ]
}

impl Bench {
    async fn start(kind: Kind) -> Self {
        let (sinks, folder) = (Sinks::start().await, tempfile::tempdir().unwrap());
        let counting = if kind == Kind::Postgres { Apart::start(COUNTING.into()).await } else { None };
        let url = match &counting {
            Some(counting) => counting.url.clone(),
            None => kind.create(folder.path()).await,
        };
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        product.furnish(Way::Http, sinks.addrs).await;
        let (look, callers, postmaster) =
            (Look::open(&url).await, product.callers(CALLERS).await, postmaster(&url).await);
        if counting.is_some() {
            look.run("CREATE EXTENSION pg_stat_statements").await;
        }
        Self { product, callers, sinks, look, postmaster, _counting: counting, folder }
    }

    /// What so many cost while `work` is done.
    async fn add(&self, sum: &mut Sum, count: usize, work: impl Future<Output = ()>) {
        let (meter, bytes) = (Meter::start(self.product.id(), &[], self.postmaster), self.bytes().await);
        work.await;
        let cost = meter.end();
        sum.cost.server += cost.server;
        sum.cost.database += cost.database;
        sum.bytes += self.bytes().await - bytes;
        sum.count += count;
    }

    /// What was written so far: to the log of PostgreSQL, or by the process that has SQLite in it.
    async fn bytes(&self) -> f64 {
        match self.postmaster {
            Some(_) => self.look.count("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").await as f64,
            None => written(self.product.id()) as f64,
        }
    }

    /// What a watcher is told of one change costs, beside the same accepts without watchers.
    async fn streams(&self, rounds: usize) -> Stage {
        let callers = self.callers.clone().of_practices(1, crate::product::PATIENTS);
        let (mut without, mut with) = (Sum::default(), Sum::default());
        let later = || Some(SystemTime::now() + accept::DAY);
        for _ in 0..rounds {
            self.add(&mut without, HELD * MORE, callers.send_all(HELD * MORE, later())).await;
            let crowd = Crowd::gather(std::slice::from_ref(&callers), WATCHERS).await;
            crowd.begin();
            let told = async {
                callers.send_all(HELD * MORE, later()).await;
                crowd.have_seen(HELD * MORE * WATCHERS).await;
            };
            self.add(&mut with, HELD * MORE, told).await;
        }
        let [without, with] = [without, with].map(|sum| sum.stage(""));
        let each = |with: f64, without: f64| (with - without) / WATCHERS as f64;
        Stage {
            name: "stream: to each watcher, each change",
            server: each(with.server, without.server),
            database: each(with.database, without.database),
            bytes: None,
        }
    }

    async fn forget_statements(&self) {
        if self.postmaster.is_some() {
            self.look.count("SELECT count(*) FROM (SELECT pg_stat_statements_reset()) r").await;
        }
    }

    /// What the database was asked for since it last forgot, for each of so many.
    async fn print_statements(&self, stage: &str, count: usize) {
        if self.postmaster.is_none() {
            return;
        }
        println!("  {stage}: statements for each of {count}, and their time, waits included");
        let query = format!(
            "SELECT format('    %-58s %7s times %7s us %7s bytes of log', what, round(sum(calls)::numeric / {count}, 3), \
                round(sum(total_exec_time)::numeric * 1000 / {count}, 1), round(sum(wal_bytes) / {count})) \
             FROM (SELECT calls, total_exec_time, wal_bytes, left(CASE WHEN query LIKE 'SELECT%' \
                THEN 'SELECT FROM ' || coalesce(substring(query from 'FROM\\s+(\\S+)'), '') \
                ELSE substring(query from '^\\S+(?:\\s+\\S+){{0,2}}') END, 58) what FROM pg_stat_statements) s \
             GROUP BY what ORDER BY sum(total_exec_time) DESC LIMIT {STATEMENTS}"
        );
        for line in self.look.texts(&query).await {
            println!("{line}");
        }
    }
}

impl Callers {
    /// So many calls that are refused for a field.
    async fn refused_all(&self, count: usize) {
        let each = (0..CALLERS).map(|caller| async move {
            for _ in (caller..count).step_by(CALLERS) {
                self.refused().await;
            }
        });
        join_all(each).await;
    }
}
