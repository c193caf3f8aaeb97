//! `heedwell health`: whether the server of these settings may be sent work, for container engines that ask by running something.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use crate::config::{self, Env};

/// How long it may take to answer.
const LIMIT: Duration = Duration::from_secs(3);

pub(super) fn run(env: &Env) -> anyhow::Result<ExitCode> {
    let addr = config::http_addr(env)?;
    match ask(reachable(addr), "/readyz") {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => Ok(ExitCode::SUCCESS),
        Ok(answer) => Err(anyhow::anyhow!("it is not ready: {}", answer.lines().last().unwrap_or_default())),
        Err(error) => Err(anyhow::Error::new(error).context(format!("HEEDWELL_HTTP_ADDR: no answer at {addr}"))),
    }
}

/// Where this machine reaches a server that listens everywhere.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// What the sidecar that listens there answers to a `GET` of `path`, from its first line to its last.
pub(super) fn ask(addr: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(4_096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
