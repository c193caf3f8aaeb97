//! Whether a request was sent by the page itself: browsers say from which origin a script calls (RFC 6454), and no script can
//! change what they say.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Uri, header, uri::Authority};
use url::{Origin, Url};

/// Where the page is at home.
#[derive(Clone, Debug)]
pub struct Home {
    public: Option<Origin>,
}

impl Home {
    /// At `public_url`, and under whichever name a browser reached the sidecar.
    #[must_use]
    pub fn new(public_url: &str) -> Self {
        Self { public: Url::parse(public_url).ok().map(|url| url.origin()) }
    }

    /// The address of the page that sent the request, if it was ours: https, or http on a loopback address, where nobody is in
    /// between. Unset for every other page, and for whoever is no browser.
    pub(super) fn sender(&self, uri: &Uri, headers: &HeaderMap) -> Option<Url> {
        let sender = Url::parse(only(headers, &header::ORIGIN)?).ok()?;
        let here = || Url::parse(&format!("{}://{}", sender.scheme(), host(uri, headers)?)).ok();
        let ours = self.public.as_ref() == Some(&sender.origin())
            || here().is_some_and(|here| here.origin() == sender.origin());
        let private = sender.scheme() == "https" || (sender.scheme() == "http" && is_loopback(sender.host_str()?));
        (ours && private).then_some(sender)
    }
}

/// Under which name and port the server was called, in HTTP/1.1 and HTTP/2.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    only(headers, &header::HOST).or_else(|| uri.authority().map(Authority::as_str))
}

/// Whether the server was called under a name of this machine, by somebody on it or by a proxy.
pub(super) fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let authority = host(uri, headers).and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| is_loopback(authority.host()))
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

/// The value of a header that was sent once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}
