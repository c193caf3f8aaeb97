//! `heedwell serve` as a process of its own, and everything that it says.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::Arc,
};

use heedwell::config::Env;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use super::app::LIMIT;

/// A server that runs.
pub(crate) struct Process {
    child: Child,
    pub(crate) id: Pid,
    said: Said,
    pub(crate) grpc_addr: SocketAddr,
    pub(crate) http_addr: SocketAddr,
    pub(crate) metrics_addr: SocketAddr,
}

/// What it has said, on standard output and on standard error; told on with each line.
#[derive(Clone)]
pub(crate) struct Said(Arc<watch::Sender<Vec<u8>>>);

impl Said {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }

    async fn take(self, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(from);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
            self.0.send_modify(|said| said.append(&mut line));
        }
    }

    /// All of it so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.borrow().clone()
    }

    /// What follows a word, up to a blank, once it has been said.
    pub(crate) async fn after(&self, word: &str) -> String {
        let find = |said: &Vec<u8>| {
            let said = String::from_utf8_lossy(said);
            let (_, rest) = said.split_once(word)?;
            Some(rest.split_once(char::is_whitespace)?.0.to_owned())
        };
        let mut more = self.0.subscribe();
        let found = timeout(LIMIT, more.wait_for(|said| find(said).is_some())).await.map(|said| find(&said.unwrap()));
        found
            .ok()
            .flatten()
            .unwrap_or_else(|| panic!("it never says {word}: {}", String::from_utf8_lossy(&self.bytes())))
    }
}

impl Process {
    /// Starts it, and waits until it serves.
    pub(crate) async fn start(env: &Env, log: &str, folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_heedwell"))
            .args(["serve", "--migrate"])
            .current_dir(folder)
            .env_clear()
            .envs(env.variables())
            .env("RUST_LOG", log)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = Said::new();
        // Each ends with its end of the pipe, and so with the process.
        drop(tokio::spawn(said.clone().take(child.stdout.take().unwrap())));
        drop(tokio::spawn(said.clone().take(child.stderr.take().unwrap())));
        let grpc_addr = said.after(" grpc=").await.parse().unwrap();
        let http_addr = said.after(" http=").await.parse().unwrap();
        let metrics_addr = said.after(" metrics=").await.parse().unwrap();
        let id = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        Self { child, id, said, grpc_addr, http_addr, metrics_addr }
    }

    pub(crate) fn said(&self) -> Said {
        self.said.clone()
    }

    /// What it has in memory, and the most that it ever had, in KiB.
    pub(crate) fn memory(&self) -> [u64; 2] {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id.as_raw_nonzero())).unwrap();
        ["VmRSS:", "VmHWM:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        })
    }

    /// Sends a signal. Yields the exit status, once it is there.
    pub(crate) async fn ended_by(&mut self, signal: Signal) -> ExitStatus {
        kill_process(self.id, signal).unwrap();
        timeout(LIMIT, self.child.wait()).await.unwrap().unwrap()
    }

    /// Asks it to end, and insists that it ends well.
    pub(crate) async fn stop(mut self) {
        let status = self.ended_by(Signal::TERM).await;
        assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&self.said.bytes()));
    }
}
