//! Where a message goes: a phone number or a mailbox, parsed once and masked wherever it is shown.

use std::fmt;

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
}

/// A phone number in E.164.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhoneNumber(String);

/// A mailbox, its domain in lower case and in ASCII.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailAddress(String);

impl PhoneNumber {
    /// `+` and the digits.
    #[must_use]
    pub fn e164(&self) -> &str {
        &self.0
    }
}

impl EmailAddress {
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
