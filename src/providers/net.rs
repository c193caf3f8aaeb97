//! The way out: which addresses may be called, how long a connection may take, how much is read. A practice chooses the
//! host of its relay, so without the filter it could make this server speak to its own network.
//!
//! Guarantee: a connection goes to the very address that passed the filter. A name is resolved once per connection, so it
//! cannot name one address while it is checked and another while it is called.

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{SendError, Settings};
use crate::domain::SmtpSettings;

/// More than any answer that is understood; the rest is not read.
const BODY_LIMIT: usize = 256 * 1024;
/// Connections that have been idle for longer are not used again: something on the way may have forgotten them.
pub(super) const IDLE: Duration = Duration::from_secs(20);
/// A relay's addresses beyond these are not tried: the time to connect is shared out among them.
const ADDRESSES: usize = 4;

/// No connection, so not a byte of the message has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NetError {
    /// The name has no address, or the resolver is out of order.
    #[error("the name could not be resolved")]
    Dns,
    /// The address is not public.
    #[error("the address is not public")]
    Private,
    /// No port at which relays take mail.
    #[error("the port is not one of a relay")]
    Port,
    /// Refused or silent.
    #[error("no connection")]
    Connect,
}

impl From<NetError> for SendError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Dns => Self::not_taken("dns"),
            NetError::Private => Self::misconfigured("private address"),
            NetError::Port => Self::misconfigured("port"),
            NetError::Connect => Self::not_taken("connect"),
        }
    }
}

/// What a name stands for at this moment.
type LookUp = fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// Which addresses may be called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    pub(super) allow_private: bool,
    look_up: LookUp,
}

impl Network {
    /// `allow_private`: for stand-ins on the same machine or network, every address, and HTTP without TLS.
    pub(super) fn new(allow_private: bool) -> Self {
        Self {
            allow_private,
            look_up: |host, port| Box::pin(async move { Ok(lookup_host((host, port)).await?.collect()) }),
        }
    }

    /// Whether `ip` may be called.
    pub(super) fn admits(self, ip: IpAddr) -> bool {
        self.allow_private || is_public(ip)
    }

    /// The addresses of `host`, a name or a literal, that may be called.
    async fn addresses(self, host: &str, port: u16) -> Result<Vec<SocketAddr>, NetError> {
        let found = (self.look_up)(host.to_owned(), port).await.map_err(|_| NetError::Dns)?;
        if found.is_empty() {
            return Err(NetError::Dns);
        }
        let admitted: Vec<_> = found.into_iter().filter(|address| self.admits(address.ip())).collect();
        if admitted.is_empty() { Err(NetError::Private) } else { Ok(admitted) }
    }

    /// Whether a relay may be at `port`.
    fn admits_port(self, port: u16) -> bool {
        self.allow_private || SmtpSettings::PORTS.contains(&port)
    }

    /// A connection to the relay `host` within `limit`, resolution included. Small writes leave at once: with Nagle's algorithm each
    /// mail would wait 40 ms for the peer's delayed acknowledgement.
    pub(super) async fn connect(self, host: &str, port: u16, limit: Duration) -> Result<TcpStream, NetError> {
        let attempt = async {
            let mut addresses = self.addresses(host, port).await?;
            // Looked at here too: settings may be older than the limit. That a host leads inside is the graver fault.
            if !self.admits_port(port) {
                return Err(NetError::Port);
            }
            addresses.truncate(ADDRESSES);
            let share = limit / u32::try_from(addresses.len()).unwrap_or(1);
            for address in addresses {
                if let Ok(Ok(stream)) = timeout(share, TcpStream::connect(address)).await {
                    failpoint!("F7");
                    stream.set_nodelay(true).map_err(|_| NetError::Connect)?;
                    return Ok(stream);
                }
            }
            Err(NetError::Connect)
        };
        timeout(limit, attempt).await.unwrap_or(Err(NetError::Connect))
    }

    /// A client that does exactly what it is told: no redirects, no retries, no proxy, and over TLS. The resolver is not
    /// asked for literals, so whoever sets the URL passes those to [`Self::admits`].
    pub(super) fn http_client(self, settings: &Settings) -> Result<Client, reqwest::Error> {
        // Without a process-wide provider reqwest panics. A second installation is refused, and means nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        failpoint_on_connect!(Client::builder())
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .https_only(!self.allow_private)
            .dns_resolver(self)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.call_timeout)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .build()
    }
}

impl Resolve for Network {
    fn resolve(&self, name: Name) -> Resolving {
        let network = *self;
        Box::pin(async move {
            // The port is the connector's to fill in.
            let addresses = network.addresses(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// What a failed HTTP call means. Only a failure to connect is known to have left nothing behind.
pub(super) fn http_failure(error: &reqwest::Error) -> SendError {
    if error.is_builder() {
        return SendError::internal("request");
    }
    if !error.is_connect() {
        return SendError::unknown(if error.is_timeout() { "timeout" } else { "closed" });
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<NetError>() {
            return (*error).into();
        }
        if error.is::<rustls::Error>() {
            return SendError::not_taken("tls");
        }
        cause = match error.downcast_ref::<io::Error>() {
            // Its `source` is that of the error inside, which it passes over.
            Some(error) => error.get_ref().map(|inside| inside as _),
            None => error.source(),
        };
    }
    SendError::not_taken("connect")
}

/// The whole body, read piece by piece; unset when it breaks off or is larger than anything that is understood.
pub(super) async fn body(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// A date of HTTP (RFC 9110 section 5.6.7).
pub(super) fn http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc())
}

/// `Retry-After`: seconds or a date (RFC 9110 section 10.2.3).
pub(super) fn wait(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => http_date(value).map(|date| (date - now).to_std().unwrap_or_default()),
    }
}

/// Whether `ip` is an address of the public Internet: global unicast that the IANA special-purpose registries
/// (RFC 6890) do not set aside.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

const fn is_public_v4(ip: Ipv4Addr) -> bool {
    !matches!(
        ip.octets(),
        // This network, private use, loopback (RFC 791, 1918, 1122).
        [0 | 10 | 127, ..]
            // Shared by carriers (RFC 6598).
            | [100, 64..=127, ..]
            // Link-local, where clouds keep their metadata (RFC 3927).
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            // IETF protocols, documentation, 6to4 relays, benchmarks (RFC 6890, 5737, 7526, 2544).
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            // Multicast, reserved, broadcast.
            | [224..=255, ..]
    )
}

/// Only 2000::/3 is global unicast. That leaves out loopback, link-local and unique local addresses, multicast, and the
/// prefixes that lead to IPv4 by another way: mapped (::ffff:0:0/96) and NAT64 (64:ff9b::/96, 64:ff9b:1::/48).
const fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // IETF protocols, Teredo among them (RFC 2928, 4380).
        [0x2001, 0x0000..=0x01ff, ..] => false,
        // Documentation (RFC 3849, 9637).
        [0x2001, 0x0db8, ..] | [0x3fff, 0x0000..=0x0fff, ..] => false,
        // 6to4 carries an IPv4 address of anybody's choice (RFC 3056).
        [0x2002, ..] => false,
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table reads best whole")]
    fn only_public_addresses_pass() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.168.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::1",
            "2001:db8::1",
            "2001:db8:ffff:ffff::1",
            "2002:7f00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456:789a::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ];
        let admitted = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "192.0.3.1",
            "192.88.98.1",
            "192.167.255.255",
            "192.169.0.1",
            "198.17.255.255",
            "198.20.0.1",
            "198.51.101.1",
            "203.0.114.1",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db7::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1a",
            "3fff:1000::1",
        ];
        let (closed, open) = (Network::new(false), Network::new(true));
        for (addresses, expected) in [(&refused[..], false), (&admitted[..], true)] {
            for address in addresses {
                let ip = address.parse().unwrap();
                assert_eq!(closed.admits(ip), expected, "{address}");
                assert!(open.admits(ip), "{address}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_or_literal_that_leads_inside_is_not_called() {
        let network = Network::new(false);
        for host in ["localhost", "127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "0x7f.1", "2130706433"] {
            let error = network.connect(host, 25, Duration::from_secs(3)).await.unwrap_err();
            // Odd spellings of an address are resolved by some systems and unknown to others.
            assert!(matches!(error, NetError::Private | NetError::Dns), "{host}");
        }
        assert_eq!(network.connect("127.0.0.1", 25, Duration::from_secs(3)).await.unwrap_err(), NetError::Private);
        let name: Name = "localhost".parse().unwrap();
        let error = network.resolve(name).await.err().unwrap();
        assert_eq!(error.downcast_ref(), Some(&NetError::Private));
    }

    #[tokio::test]
    async fn a_relay_is_at_no_other_port() {
        // A public address that nobody listens at: with the limit gone the connection itself would fail, in another way.
        let elsewhere: LookUp = |_, port| Box::pin(async move { Ok(vec![SocketAddr::from(([8, 8, 8, 8], port))]) });
        let closed = Network { look_up: elsewhere, ..Network::new(false) };
        let open = Network::new(true);
        for port in [1, 22, 25, 80, 443, 464, 466, 586, 588, 2524, 2526, 3306, 5432, 6379, 65_535] {
            let error = closed.connect("relay.example", port, Duration::from_millis(50)).await.unwrap_err();
            assert_eq!((error, SendError::from(error)), (NetError::Port, SendError::misconfigured("port")), "{port}");
            assert!(open.admits_port(port), "{port}");
        }
        for port in [465, 587, 2525] {
            assert!(closed.admits_port(port) && open.admits_port(port), "{port}");
        }
    }

    /// A name that stands for something else each time that somebody asks.
    #[tokio::test]
    async fn a_name_that_changes_its_mind_is_asked_once_for_each_connection() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static PORT: AtomicU16 = AtomicU16::new(0);
        let inside = IpAddr::from([127, 0, 0, 1]);
        let fickle: LookUp = |_, _| {
            Box::pin(async {
                let turn = ASKED.fetch_add(1, Ordering::Relaxed);
                let ip = [[8, 8, 8, 8], [127, 0, 0, 1], [169, 254, 169, 254], [10, 0, 0, 1]][turn % 4];
                let port = PORT.load(Ordering::Relaxed);
                // Every other time both are there at once.
                let both = if turn % 8 < 4 { &[ip][..] } else { &[ip, [1, 1, 1, 1]] };
                Ok(both.iter().map(|ip| SocketAddr::from((*ip, port))).collect())
            })
        };
        let closed = Network { look_up: fickle, ..Network::new(false) };
        for turn in 0..1_000 {
            let found = closed.addresses("relay.example", 25).await;
            let found = found.unwrap_or_default().into_iter().map(|address| address.ip()).collect::<Vec<_>>();
            assert!(found.iter().all(|ip| is_public(*ip)), "{found:?}");
            assert_eq!((ASKED.load(Ordering::Relaxed), found.is_empty()), (turn + 1, [1, 2, 3].contains(&(turn % 8))));
        }
        // Whoever is connected to is who was looked at: nobody asks again in between.
        let listener = TcpListener::bind((inside, 0)).await.unwrap();
        PORT.store(listener.local_addr().unwrap().port(), Ordering::Relaxed);
        ASKED.store(1, Ordering::Relaxed);
        let open = Network { look_up: fickle, ..Network::new(true) };
        let stream = open.connect("relay.example", 25, Duration::from_secs(3)).await.unwrap();
        assert_eq!((stream.peer_addr().unwrap().ip(), ASKED.load(Ordering::Relaxed)), (inside, 2));
        ASKED.store(1, Ordering::Relaxed);
        let refused =
            Network { allow_private: false, ..open }.connect("relay.example", 25, Duration::from_secs(3)).await;
        assert_eq!((refused.unwrap_err(), ASKED.load(Ordering::Relaxed)), (NetError::Private, 2));
    }

    #[tokio::test]
    async fn small_writes_leave_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Network::new(true);
        let stream = network.connect("127.0.0.1", port, Duration::from_secs(3)).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_from_an_unknown_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let network = Network::new(true);
        let limit = Duration::from_secs(3);
        assert_eq!(network.connect("127.0.0.1", port, limit).await.unwrap_err(), NetError::Connect);
        assert_eq!(network.connect("relay.invalid.", port, limit).await.unwrap_err(), NetError::Dns);
    }
}
