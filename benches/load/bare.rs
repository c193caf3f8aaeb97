//! What the same work costs at least: servers and clients that do nothing but the one thing. Each runs in a process of its
//! own, as the product does, and is started by the programs: `bare accept`, `bare callbacks`, `bare door`, `bare http`,
//! `bare sendgrid`, `bare smtp`.

mod accept;
mod callbacks;
mod copies;
mod door;
mod finished;
mod http;
mod road;
mod smtp;
mod talk;
mod waiting;
mod watch;

use std::{env, net::SocketAddr, path::Path, process::Command};

pub(crate) use self::{
    callbacks::{attempts, token},
    finished::fill,
    talk::grow,
    waiting::more,
};
use crate::{
    Arguments,
    machine::{Process, free_port, listening},
    product::Callers,
};

/// Starts this program anew for `work`.
fn again(work: &str, arguments: &[&str]) -> Process {
    Process::start(Command::new(env::current_exe().unwrap()).args(["bare", work]).args(arguments))
}

/// A bare server.
pub(crate) struct Server {
    process: Process,
    addr: SocketAddr,
}

impl Server {
    /// One that takes notifications, over a database in which the product has left one a practice.
    /// With a provider, what it takes is sent there.
    pub(crate) async fn start(database: &str, provider: Option<SocketAddr>) -> Self {
        let addr = free_port();
        let provider = provider.map(|provider| provider.to_string());
        let mut arguments = vec!["--url", database, "--addr"];
        let own = addr.to_string();
        arguments.push(&own);
        arguments.extend(provider.iter().flat_map(|provider| ["--to", provider]));
        let process = again("accept", &arguments);
        listening(addr).await;
        Self { process, addr }
    }

    /// One that takes callbacks, over a database with attempts that were copied.
    pub(crate) async fn of_callbacks(database: &str) -> Self {
        let addr = free_port();
        let process = again("callbacks", &["--url", database, "--addr", &addr.to_string()]);
        listening(addr).await;
        Self { process, addr }
    }

    /// One that answers calls and callbacks, and does nothing for them.
    pub(crate) async fn of_strangers() -> Self {
        let addr = free_port();
        let process = again("door", &["--addr", &addr.to_string()]);
        listening(addr).await;
        Self { process, addr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) async fn callers(&self, count: usize) -> Callers {
        Callers::connect(self.addr, "none", count).await
    }
}

/// A bare client that sends so many messages like `sample`, at most `width` at once.
pub(crate) fn client(over: &str, to: SocketAddr, count: usize, width: usize, sample: &Path) -> Process {
    let (to, count, width) = (to.to_string(), count.to_string(), width.to_string());
    again(over, &["--to", &to, "--count", &count, "--width", &width, "--sample", sample.to_str().unwrap()])
}

pub(crate) async fn run(arguments: &Arguments) {
    let addr = |name| arguments.text(name).unwrap().parse::<SocketAddr>().unwrap();
    let batch = || (arguments.number("--count", 0), arguments.number("--width", 0));
    let sample = || std::fs::read_to_string(arguments.text("--sample").unwrap()).unwrap();
    match arguments.0.get(1).map(String::as_str) {
        Some("accept") => {
            let provider = arguments.text("--to").map(|to| to.parse().unwrap());
            accept::serve(arguments.text("--url").unwrap(), addr("--addr"), provider).await;
        }
        Some("callbacks") => callbacks::serve(arguments.text("--url").unwrap(), addr("--addr")).await,
        Some("door") => door::serve(addr("--addr")).await,
        Some("http") => http::texts(addr("--to"), batch(), sample()).await,
        Some("sendgrid") => http::mails(addr("--to"), batch(), sample()).await,
        Some("smtp") => smtp::send(addr("--to"), batch(), sample()).await,
        other => panic!("{other:?}"),
    }
}
