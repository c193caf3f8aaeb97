//! How long certificates are good for, read off their outer shape (RFC 5280, 4.1): whether they are to be trusted is not asked.

use chrono::{DateTime, NaiveDateTime, Utc};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::TlsError;

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: DateTime<Utc>,
    /// The last one.
    pub not_after: DateTime<Utc>,
}

/// That of each certificate in a text of PEM, in its order.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn validities(pem: &str) -> Result<Vec<Validity>, TlsError> {
    let read = |der: Result<CertificateDer<'_>, _>| of(&der?).ok_or(TlsError::NoCertificate);
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).map(read).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() { Err(TlsError::NoCertificate) } else { Ok(found) }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed: the version.
const VERSION: u8 = 0xa0;

/// Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version, serialNumber, signature, issuer, validity, ... } ... }
fn of(der: &[u8]) -> Option<Validity> {
    let mut rest = within(der)?;
    rest = within(rest)?;
    if let (VERSION, _, after) = element(rest)? {
        rest = after;
    }
    for expected in [INTEGER, SEQUENCE, SEQUENCE] {
        let (tag, _, after) = element(rest)?;
        if tag != expected {
            return None;
        }
        rest = after;
    }
    let (not_before, rest) = time(within(rest)?)?;
    let (not_after, _) = time(rest)?;
    Some(Validity { not_before, not_after })
}

fn within(der: &[u8]) -> Option<&[u8]> {
    element(der).filter(|(tag, ..)| *tag == SEQUENCE).map(|(_, content, _)| content)
}

/// The tag of the first element, its content, and what follows it (X.690, 8.1 and 10.1).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, short], rest) = der.split_first_chunk()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Times are in UTC and to the second; a year of two digits is one from 1950 to 2049 (RFC 5280, 4.1.2.5).
fn time(der: &[u8]) -> Option<(DateTime<Utc>, &[u8])> {
    let (tag, content, rest) = element(der)?;
    let text = std::str::from_utf8(content).ok()?;
    let text = match tag {
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    Some((NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?.and_utc(), rest))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn pem(from: i32, to: i32) -> String {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 2), date_time_ymd(to, 3, 4));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn day(text: &str) -> DateTime<Utc> {
        format!("{text}T00:00:00Z").parse().unwrap()
    }

    #[test]
    fn a_certificate_says_how_long_it_is_good() {
        // Beyond 2049 years have four digits.
        for (from, to) in [(1975, 2049), (2020, 2050), (2050, 3000)] {
            let expected =
                Validity { not_before: day(&format!("{from}-01-02")), not_after: day(&format!("{to}-03-04")) };
            assert_eq!(validities(&pem(from, to)).unwrap(), [expected]);
        }
        assert_eq!(validities(&format!("{}{}", pem(2020, 2030), pem(2021, 2031))).unwrap().len(), 2);
        assert!(validities("").is_err());
    }

    #[test]
    fn what_is_cut_off_or_garbled_is_refused_and_breaks_nothing() {
        let pem = pem(2020, 2030);
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        for end in 0..der.len() {
            assert_eq!(of(&der[..end]), None);
        }
        for at in 0..der.len() {
            let mut garbled = der.to_vec();
            garbled[at] ^= 0xff;
            let _ = of(&garbled);
        }
    }
}
