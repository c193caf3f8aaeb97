//! Where a message goes: a phone number or a mailbox, parsed once and masked wherever it is shown. No value of these
//! types was ever kept from a parse that failed.

use std::fmt;

use phonenumber::{Mode, Type, metadata::DATABASE};
use unicode_normalization::UnicodeNormalization;

/// The text is no usable address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a phone number in E.164 or a spelling that leads to one.
    #[error("must be a phone number, best in E.164, for example +12025550142")]
    Phone,
    /// Carries an extension, which cannot be texted.
    #[error("must be a phone number without an extension")]
    Extension,
    /// Not a mailbox.
    #[error("must be an email address, for example pat@example.com")]
    Email,
    /// Not a domain that mail can be routed to.
    #[error("must be the domain of a mail address, for example example.com")]
    Domain,
}

/// A phone number in E.164.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(String);

/// A mailbox, its domain in lower case and in ASCII.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailAddress(String);

/// Whether a number may be sent a text message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Textability {
    /// It may.
    Allowed,
    /// It belongs to a region outside the allow-list. Puerto Rico, Guam and Jamaica share +1 but are regions of their
    /// own.
    RegionNotAllowed,
    /// It is a landline, toll-free, premium-rate or other kind of number that takes no texts.
    TypeNotTextable,
}

/// Loads the numbering plans of the world, which takes 90 to 330 ms, so that no caller waits for it later.
pub fn warm_up() {
    // A whole parse and check, because the patterns of a region are compiled at their first use.
    let _ = PhoneNumber::parse("+12025550142", "");
}

/// The longest spelling of a number that is looked at, in bytes.
const LONGEST_PHONE: usize = 250;

impl PhoneNumber {
    /// Reads a number as people write it. `default_region` (ISO 3166, such as `US`) is the country of a number without
    /// its country code; with an unknown or empty one, only international spellings are understood.
    ///
    /// # Errors
    /// `Phone` unless the numbering plan knows the number as one in use; a number in +1 whose exchange ends in 11 is
    /// not, though the plan's data says so. `Extension` for an otherwise good number with one.
    pub fn parse(text: &str, default_region: &str) -> Result<Self, AddressError> {
        if text.len() > LONGEST_PHONE {
            return Err(AddressError::Phone);
        }
        // The parser knows ASCII digits only; NFKC turns full-width ones into these.
        let text: String = text.nfkc().collect();
        let number = phonenumber::parse(default_region.parse().ok(), &text).map_err(|_| AddressError::Phone)?;
        let e164 = number.format().mode(Mode::E164).to_string();
        if !number.is_valid() || !is_e164(&e164) || has_n11_exchange(&e164) {
            return Err(AddressError::Phone);
        }
        match number.extension() {
            Some(_) => Err(AddressError::Extension),
            None => Ok(Self(e164)),
        }
    }

    /// For a value that was parsed before it was stored.
    pub(crate) fn from_trusted(e164: String) -> Self {
        Self(e164)
    }

    /// `+` and the digits; equal for equal numbers, so that it also serves to look them up.
    #[must_use]
    pub fn e164(&self) -> &str {
        &self.0
    }

    /// Whether it may be sent a text message, where `regions` (ISO 3166) are those that texts may go to.
    #[must_use]
    pub fn may_be_texted(&self, regions: &[impl AsRef<str>]) -> Textability {
        let Ok(number) = phonenumber::parse(None, &self.0) else { return Textability::RegionNotAllowed };
        let region = number.country().id();
        if !region.is_some_and(|region| regions.iter().any(|allowed| allowed.as_ref() == region.as_ref())) {
            return Textability::RegionNotAllowed;
        }
        match number.number_type(&DATABASE) {
            Type::Mobile | Type::FixedLineOrMobile => Textability::Allowed,
            _ => Textability::TypeNotTextable,
        }
    }

    /// The number as it is written at home for +1, such as `(202) 555-0142`, and internationally for the others.
    #[must_use]
    pub fn display(&self) -> String {
        if let Some((area, exchange, line)) = self.north_american() {
            return format!("({area}) {exchange}-{line}");
        }
        phonenumber::parse(None, &self.0)
            .map_or_else(|_| self.0.clone(), |number| number.format().mode(Mode::International).to_string())
    }

    /// The number with only its end legible, such as `(•••) •••-4821` or `+44 ••• ••• 0018`.
    #[must_use]
    pub fn mask(&self) -> String {
        if let Some((_, _, line)) = self.north_american() {
            return format!("(•••) •••-{line}");
        }
        let digits = self.0.trim_start_matches('+');
        let (code, national) = digits.split_at_checked(country_code_length(digits)).unwrap_or((digits, ""));
        // A short number keeps at least half of its digits to itself.
        let shown = national.len() - (national.len() / 2).min(4);
        format!("+{code} ••• ••• {}", national.get(shown..).unwrap_or_default())
    }

    /// Area code, exchange and line of a number in +1.
    fn north_american(&self) -> Option<(&str, &str, &str)> {
        let national = self.0.strip_prefix("+1").filter(|national| national.len() == 10)?;
        Some((national.get(..3)?, national.get(3..6)?, national.get(6..)?))
    }
}

fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// 211 to 911 are services, so that no exchange of the North American plan ends in 11.
fn has_n11_exchange(e164: &str) -> bool {
    e164.strip_prefix("+1").is_some_and(|national| national.get(4..6) == Some("11"))
}

/// How many digits the country code has, by the list of assigned codes (ITU-T E.164).
fn country_code_length(digits: &str) -> usize {
    match digits.get(..2).and_then(|two| two.parse::<u8>().ok()) {
        Some(10..=19 | 70..=79) => 1,
        Some(20 | 27 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81 | 82 | 84 | 86 | 90..=95 | 98) => 2,
        _ => 3,
    }
}

impl EmailAddress {
    /// Reads a mailbox of the form that mail systems agree on: a local part of at most 64 characters without quotes
    /// (RFC 5322 dot-atom), and a domain name of at least two labels. A domain in another script becomes its ASCII form
    /// (IDNA); a local part in another script is refused, because many relays do.
    ///
    /// # Errors
    /// `Email` for everything else.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.trim_matches(' ').split_once('@').ok_or(AddressError::Email)?;
        let domain = ascii_domain(domain).ok_or(AddressError::Email)?;
        // RFC 5321, 4.5.3.1.3: a path of 256 octets, of which two are the angle brackets.
        if !is_dot_atom(local) || local.len() > 64 || local.len() + 1 + domain.len() > 254 {
            return Err(AddressError::Email);
        }
        Ok(Self(format!("{local}@{domain}")))
    }

    /// For a value that was parsed before it was stored.
    pub(crate) fn from_trusted(address: String) -> Self {
        Self(address)
    }

    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// The address in lower case: no provider in use tells `Pat@` from `pat@`, so that this serves to look it up.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The address with only its first character and its domain legible, such as `m•••@example.com`.
    #[must_use]
    pub fn mask(&self) -> String {
        self.0.chars().take(1).chain("•••@".chars()).chain(self.domain().chars()).collect()
    }
}

/// The domain of a mailbox in lower-case ASCII (IDNA): a name of at least two labels.
///
/// # Errors
/// `Domain` for everything else.
pub fn mail_domain(text: &str) -> Result<String, AddressError> {
    ascii_domain(text.trim_matches(' ')).ok_or(AddressError::Domain)
}

fn is_dot_atom(text: &str) -> bool {
    let is_atom_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atom_byte))
}

/// The domain in lower-case ASCII, or nothing if it is not one that mail can be routed to.
fn ascii_domain(domain: &str) -> Option<String> {
    // The converter below also decodes %41 and the like, which no mailbox is written with.
    if domain.contains('%') {
        return None;
    }
    let url::Host::Domain(domain) = url::Host::parse(domain).ok()? else { return None };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    (domain.len() <= 253 && domain.contains('.') && domain.split('.').all(is_label)).then_some(domain)
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber([hidden])")
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress([hidden])")
    }
}

#[cfg(test)]
mod tests;
