//! Who works on this machine: processor time of the servers, of PostgreSQL, of the load, and of everybody else.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

/// How soon a server has to listen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ticks of `/proc` in a second.
const TICKS: f64 = 100.0;

/// A process that ends with this.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn wait(mut self) {
        assert!(self.0.wait().unwrap().success(), "a process failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a run cost, in seconds of one processor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) server: f64,
    pub(crate) database: f64,
    /// Of the whole machine, the share that worked for others.
    pub(crate) foreign: f64,
    /// Most resident memory of the server, in MiB.
    pub(crate) memory: f64,
}

/// Watches a server at work.
pub(crate) struct Meter {
    server: u32,
    others: Vec<u32>,
    postmaster: Option<u32>,
    since: Instant,
    before: Ticks,
}

struct Ticks {
    server: u64,
    database: u64,
    /// Of this program and the servers that rest.
    own: u64,
    busy: u64,
}

impl Meter {
    /// From now on; `others` are ours too.
    pub(crate) fn start(server: u32, others: &[u32], postmaster: Option<u32>) -> Self {
        // Lets the peak begin anew.
        let _ = fs::write(format!("/proc/{server}/clear_refs"), "5");
        // Nobody is counted twice: a program may watch itself.
        let others = others.iter().copied().chain([std::process::id()]).filter(|id| *id != server).collect();
        let mut meter = Self { server, others, postmaster, since: Instant::now(), before: Ticks::NONE };
        meter.before = meter.ticks();
        meter
    }

    pub(crate) fn end(&self) -> Cost {
        let (now, before, time) = (self.ticks(), &self.before, self.since.elapsed());
        let server = now.server - before.server;
        let database = now.database.saturating_sub(before.database);
        let ours = server + database + (now.own - before.own);
        let foreign = (now.busy - before.busy).saturating_sub(ours) as f64 / TICKS;
        let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        Cost {
            server: server as f64 / TICKS,
            database: database as f64 / TICKS,
            foreign: foreign / (time.as_secs_f64() * processors),
            memory: peak(self.server),
        }
    }

    fn ticks(&self) -> Ticks {
        Ticks {
            server: of_process(self.server).unwrap_or_default(),
            database: self.postmaster.map_or(0, of_family),
            own: self.others.iter().filter_map(|id| of_process(*id)).sum(),
            busy: of_machine(),
        }
    }
}

impl Ticks {
    const NONE: Self = Self { server: 0, database: 0, own: 0, busy: 0 };
}

/// The fields of a process from its state on (proc_pid_stat(5)); the name before them may hold anything.
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn ticks(stat: &[String], fields: std::ops::Range<usize>) -> u64 {
    stat[fields].iter().filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn of_process(id: u32) -> Option<u64> {
    Some(ticks(&stat(id)?, 11..13))
}

/// A process, its children, and those of them that have ended.
fn of_family(id: u32) -> u64 {
    let own = stat(id).map_or(0, |stat| ticks(&stat, 11..15));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let children = processes.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?));
    own + children.filter(|stat| stat[1] == id.to_string()).map(|stat| ticks(&stat, 11..13)).sum::<u64>()
}

pub(crate) fn parent(id: u32) -> Option<u32> {
    stat(id)?[1].parse().ok()
}

/// Everything but idle time and waiting for the disk; what a host took away is in it.
fn of_machine() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let fields: Vec<u64> = text.lines().next().unwrap().split_whitespace().skip(1).flat_map(str::parse).collect();
    fields.iter().take(8).sum::<u64>() - fields[3] - fields[4]
}

/// Bytes that a process has had written to disks (proc_pid_io(5)).
pub(crate) fn written(id: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:")).unwrap_or_default();
    line.trim().parse().unwrap_or_default()
}

/// Most resident memory, in MiB.
pub(crate) fn peak(id: u32) -> f64 {
    memory(id, "VmHWM:")
}

/// Resident memory, in MiB.
pub(crate) fn resident(id: u32) -> f64 {
    memory(id, "VmRSS:")
}

fn memory(id: u32, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// How many connections there are to these addresses of the loopback (proc_net_tcp(5)).
pub(crate) fn connections_to(addrs: &[SocketAddr]) -> usize {
    const ESTABLISHED: &str = "01";
    let text = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let ends: Vec<_> = addrs.iter().map(|addr| format!(":{:04X}", addr.port())).collect();
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        let (Some(remote), Some(state)) = (fields.next(), fields.next()) else { return false };
        state == ESTABLISHED && ends.iter().any(|end| remote.ends_with(end))
    };
    text.lines().filter(is_one).count()
}

/// A port that nobody has just now.
pub(crate) fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) async fn listening(addr: SocketAddr) {
    let begin = Instant::now();
    while tokio::net::TcpStream::connect(addr).await.is_err() {
        assert!(begin.elapsed() < PATIENCE, "nobody listens at {addr}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
