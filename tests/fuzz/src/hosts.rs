//! Addresses that may be called, beside a second opinion: the registries of special addresses written out as prefixes, and what
//! the C library takes for an address of four numbers.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::OnceLock,
};

use heedwell::providers::is_callable;
use url::Url;

use crate::{bytes::Bytes, limits::reached};

/// IANA's registry of special IPv4 addresses (RFC 6890), and multicast.
const CLOSED_V4: &str = "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 \
    192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4";
/// All that is not global unicast (RFC 4291, 2.4), and IANA's registry of what of that is special.
const CLOSED_V6: &str = "::/3 4000::/2 8000::/1 2001::/23 2001:db8::/32 2002::/16 3fff::/20";

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    match input.byte() % 3 {
        0 => {
            let ip = Ipv4Addr::from_bits(u32::from_be_bytes(padded(input.some(4))));
            compare(ip.into());
            compare(ip.to_ipv6_mapped().into());
        }
        1 => compare(Ipv6Addr::from_bits(u128::from_be_bytes(padded(input.some(16)))).into()),
        _ => written(&String::from_utf8_lossy(input.0)),
    }
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut all = [0; N];
    all[..bytes.len()].copy_from_slice(bytes);
    all
}

fn compare(ip: IpAddr) {
    let host = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let url: Url = format!("https://{host}/").parse().unwrap();
    let open = is_open(ip);
    assert_eq!(is_callable(&url), open, "{ip}");
    if open {
        reached();
    }
}

/// An address as somebody wrote it: what may be called is neither a closed address nor a spelling of one.
fn written(text: &str) {
    let Ok(url) = format!("https://{text}/").parse::<Url>() else { return };
    if !is_callable(&url) {
        return;
    }
    reached();
    assert_eq!((url.scheme(), url.username(), url.password()), ("https", "", None));
    let host = url.host_str().unwrap();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let literal = bare.parse().ok().or_else(|| by_the_c_library(bare).map(IpAddr::V4));
    assert!(literal.is_none_or(is_open), "{text:?} leads to {literal:?}");
    // What stands there, before anybody made another spelling of it.
    let spelt = text.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let spelt = spelt.rsplit_once('@').map_or(spelt, |(_, host)| host);
    assert!(by_the_c_library(spelt).is_none_or(|ip| is_open(ip.into())), "{text:?}");
}

fn is_open(ip: IpAddr) -> bool {
    static CLOSED: OnceLock<[Vec<(u128, u32)>; 2]> = OnceLock::new();
    let [v4, v6] = CLOSED.get_or_init(|| {
        [CLOSED_V4, CLOSED_V6].map(|all| {
            let prefix = |text: &str| {
                let (address, length) = text.split_once('/').unwrap();
                (bits(address.parse().unwrap()), length.parse().unwrap())
            };
            all.split_whitespace().map(prefix).collect()
        })
    });
    let (closed, width) = if ip.is_ipv4() { (v4, 32) } else { (v6, 128) };
    !closed.iter().any(|(prefix, length)| (bits(ip) ^ prefix) >> (width - length) == 0)
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// One to four numbers, decimal, octal or hexadecimal, of which the last fills what is left (inet_aton(3)).
fn by_the_c_library(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<_> = text.split('.').collect();
    let (last, firsts) = parts.split_last()?;
    let mut whole = 0_u32;
    for (at, part) in firsts.iter().enumerate() {
        let byte = u8::try_from(c_number(part)?).ok()?;
        whole |= u32::from(byte) << 24_u32.checked_sub(8 * u32::try_from(at).ok()?)?;
    }
    let room = 32_u32.checked_sub(8 * u32::try_from(firsts.len()).ok()?)?;
    let last = c_number(last)?;
    (room > 0 && last >> room == 0).then(|| Ipv4Addr::from_bits(whole | u32::try_from(last).unwrap_or_default()))
}

fn c_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { u64::from_str_radix(digits, radix).ok() } else { None }
}
