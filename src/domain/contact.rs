//! Contacts of the practice itself: phones and mailboxes of staff, to whom tests go and nothing else does.

use super::{AddressError, Channel, EmailAddress, PhoneNumber};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TestContact {
    /// A phone.
    Phone(PhoneNumber),
    /// A mailbox.
    Mailbox(EmailAddress),
}

impl TestContact {
    /// Reads a mailbox, or a phone number in E.164.
    ///
    /// # Errors
    /// [`AddressError`] for everything else.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.contains('@') {
            return EmailAddress::parse(text).map(Self::Mailbox);
        }
        // Without a region only an international spelling leads to a number.
        PhoneNumber::parse(text, "").map(Self::Phone)
    }

    /// For a value that was parsed before it was stored.
    pub(crate) fn from_trusted(address: String) -> Self {
        if address.contains('@') {
            Self::Mailbox(EmailAddress::from_trusted(address))
        } else {
            Self::Phone(PhoneNumber::from_trusted(address))
        }
    }

    /// The whole address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Phone(phone) => phone.e164(),
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }

    /// The channel that leads there.
    #[must_use]
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Phone(_) => Channel::Sms,
            Self::Mailbox(_) => Channel::Email,
        }
    }

    /// Whether both lead to the same phone or mailbox, however they are written.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mailbox(one), Self::Mailbox(other)) => one.canonical() == other.canonical(),
            (one, other) => one == other,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_contact_is_a_mailbox_or_a_number_that_names_its_country() {
        for (text, address, channel) in [
            ("front@acme.example", "front@acme.example", Channel::Email),
            ("Front@ACME.example", "Front@acme.example", Channel::Email),
            ("+12025550142", "+12025550142", Channel::Sms),
            ("+1 (202) 555-0142", "+12025550142", Channel::Sms),
        ] {
            let contact = TestContact::parse(text).unwrap();
            assert_eq!((contact.as_str(), contact.channel()), (address, channel), "{text}");
            assert_eq!(TestContact::from_trusted(address.into()), contact);
            assert!(!format!("{contact:?}").contains(address));
        }
        for bad in ["", "front", "2025550142", "+1202", "a@b", "a@b@c.example", "+12025550142 x5"] {
            assert!(TestContact::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_the_same_however_its_letters_are_written() {
        let contact = |text| TestContact::parse(text).unwrap();
        assert!(contact("Front@acme.example").is(&contact("front@ACME.example")));
        assert!(!contact("front@acme.example").is(&contact("back@acme.example")));
        assert!(!contact("+12025550142").is(&contact("+12025550143")));
    }
}
