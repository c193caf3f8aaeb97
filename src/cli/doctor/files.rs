//! What is on this machine: certificates, folders, ports, and what becomes of the memory of a process that crashes.

use std::{
    fs::{self, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use chrono::TimeDelta;
use rustix::fs::{Access, access};
use url::{Host, Url};

use super::{Around, Report};
use crate::{cli::health::ask, config::Config, ports, telemetry};

/// When somebody should be renewing a certificate: those of Let's Encrypt are, with so much left.
const SOON: TimeDelta = TimeDelta::days(30);

pub(super) fn look(config: &Config, around: &Around, report: &mut Report) {
    folder(&config.data_dir, report);
    if let Some(file) = &config.duties.anchor_file {
        anchors(file, report);
    }
    certificates(config, around, report);
    public_url(config, report);
    addresses(config, report);
    if around.core_dumps {
        let text = "the memory of a process that crashes is written to disk, with its keys: run it with `ulimit -c 0` \
                    (systemd: LimitCORE=0)";
        report.warning("core dumps", "", text.to_owned());
    } else {
        report.ok("core dumps", "", "off".to_owned());
    }
}

fn folder(path: &Path, report: &mut Report) {
    const NAME: &str = "HEEDWELL_DATA_DIR";
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.ok("data folder", NAME, "is not there yet: the first start makes it".to_owned());
        }
        Ok(found) if !found.is_dir() => report.wrong("data folder", NAME, "is no folder".to_owned()),
        Ok(_) if access(path, Access::WRITE_OK).is_err() => {
            report.wrong("data folder", NAME, "cannot be written to by this user".to_owned());
        }
        Ok(found) if found.mode() & 0o077 != 0 => {
            let text = format!("is open to others than its owner; run: chmod 700 {}", path.display());
            report.warning("data folder", NAME, text);
        }
        Ok(_) => report.ok("data folder", NAME, "can be written to".to_owned()),
        Err(error) => report.wrong("data folder", NAME, format!("cannot be looked at: {error}")),
    }
}

fn anchors(file: &Path, report: &mut Report) {
    const NAME: &str = "HEEDWELL_ANCHOR_FILE";
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = match OpenOptions::new().append(true).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => access(folder, Access::WRITE_OK).map_err(Into::into),
        opened => opened.map(drop),
    };
    match found {
        Ok(()) => report.ok("anchors", NAME, "can be written to".to_owned()),
        Err(error) => report.wrong("anchors", NAME, format!("cannot be written to: {error}")),
    }
}

/// That they can be used at all, and go with their key, the configuration has shown.
fn certificates(config: &Config, around: &Around, report: &mut Report) {
    let loopback = config.grpc_addr.ip().is_loopback();
    let Some(tls) = &config.tls else {
        if loopback {
            report.ok("certificates", "", "none: gRPC is served on a loopback address".to_owned());
        } else {
            let text = "none, while gRPC is served on other than a loopback address: set it and HEEDWELL_TLS_KEY_FILE, unless a \
                        proxy before it has TLS";
            report.warning("certificates", "HEEDWELL_TLS_CERT_FILE", text.to_owned());
        }
        return;
    };
    let files = tls.files();
    if let Ok(found) = fs::metadata(&files.key)
        && found.permissions().mode() & 0o007 != 0
    {
        let text = format!("is open to everybody; run: chmod 600 {}", files.key.display());
        report.warning("certificates", "HEEDWELL_TLS_KEY_FILE", text);
    }
    let authority = files.authority.as_ref().map(|path| ("HEEDWELL_TLS_CLIENT_CA_FILE", path));
    for (name, path) in [("HEEDWELL_TLS_CERT_FILE", &files.chain)].into_iter().chain(authority) {
        let read = fs::read_to_string(path).map_err(ports::TlsError::from);
        match read.and_then(|pem| ports::validities(&pem)) {
            Ok(found) => {
                let now = around.clock.now();
                // A chain is good for as long as all of it is.
                let from = found.iter().map(|each| each.not_before).max().unwrap_or(now);
                let until = found.iter().map(|each| each.not_after).min().unwrap_or(now);
                let until_text = until.format("%Y-%m-%d %H:%M UTC");
                if now < from {
                    let text = format!("is good only from {} on: look at the clock", from.format("%Y-%m-%d %H:%M UTC"));
                    report.wrong("certificates", name, text);
                } else if until <= now {
                    report.wrong("certificates", name, format!("has expired on {until_text}: renew it"));
                } else if until - now < SOON {
                    report.warning("certificates", name, format!("expires on {until_text}: renew it"));
                } else {
                    report.ok("certificates", name, format!("is good until {until_text}"));
                }
            }
            Err(error) => report.wrong("certificates", name, telemetry::chain(&error).to_string()),
        }
    }
}

fn public_url(config: &Config, report: &mut Report) {
    const NAME: &str = "HEEDWELL_PUBLIC_URL";
    let Some(text) = &config.public_url else {
        let text =
            "is not set: providers cannot report, patients' texts do not arrive, and links lead nowhere from elsewhere";
        return report.warning("public address", NAME, text.to_owned());
    };
    let url = Url::parse(text).ok();
    let local = match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => true,
    };
    if local {
        report.warning(
            "public address",
            NAME,
            "leads to this machine or network alone: providers cannot reach it".to_owned(),
        );
    } else {
        report.ok("public address", NAME, "is https, and not of this machine alone".to_owned());
    }
}

/// An address may be taken by the server that is being looked at.
fn addresses(config: &Config, report: &mut Report) {
    let sidecar = state(config.http_addr);
    let runs = sidecar.as_ref().is_err_and(is_taken) && answers(config.http_addr);
    let metrics = config.metrics_addr.map(|addr| ("HEEDWELL_METRICS_ADDR", addr, state(addr)));
    let both = [
        ("HEEDWELL_GRPC_ADDR", config.grpc_addr, state(config.grpc_addr)),
        ("HEEDWELL_HTTP_ADDR", config.http_addr, sidecar),
    ];
    for (name, addr, state) in both.into_iter().chain(metrics) {
        match state {
            Ok(()) => report.ok("addresses", name, format!("{addr} is free to listen on")),
            Err(error) if is_taken(&error) && runs => {
                report.ok("addresses", name, format!("{addr} is in use: a server answers at HEEDWELL_HTTP_ADDR"));
            }
            Err(error) if is_taken(&error) => {
                report.wrong(
                    "addresses",
                    name,
                    format!("{addr} is in use by another process: stop that, or choose another"),
                );
            }
            Err(error) => report.wrong("addresses", name, format!("{addr} cannot be listened on: {error}")),
        }
    }
}

fn state(addr: SocketAddr) -> io::Result<()> {
    TcpListener::bind(addr).map(drop)
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Whether what listens there says that it lives, as the sidecar does.
fn answers(addr: SocketAddr) -> bool {
    ask(addr, "/healthz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"))
}
