//! Devices that show push messages, as the patient's app registers them.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};

use super::DeviceId;

/// A patient has at most this many; whoever registers one more gives up the one that was heard of longest ago.
pub const MOST_DEVICES: usize = 20;

/// What names an app on a device to Firebase Cloud Messaging: a registration token, or the id of a Firebase installation.
/// Whoever has it and the practice's service account can write to the device, so that it does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct PushToken(String);

/// Installation ids have this many characters of base64url, the first of them one of `c`, `d`, `e`, `f`
/// (github.com/firebase/firebase-android-sdk, `RandomFidGenerator`).
const INSTALLATION_ID: usize = 22;

impl PushToken {
    /// The token as the app gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that was parsed before.
    #[must_use]
    pub const fn from_trusted(text: String) -> Self {
        Self(text)
    }

    /// Whether it is the id of an installation, and not a registration token, which are longer.
    #[must_use]
    pub fn is_installation_id(&self) -> bool {
        self.0.len() == INSTALLATION_ID && self.0.starts_with(['c', 'd', 'e', 'f']) && !self.0.contains([':', '.'])
    }
}

impl FromStr for PushToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte);
        if (16..=4_096).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be a registration token or installation id of Firebase Cloud Messaging, as the app is given it")
        }
    }
}

impl fmt::Debug for PushToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// A registered device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its name at the provider.
    pub token: PushToken,
    /// When it was registered last.
    pub register_time: DateTime<Utc>,
}

impl Device {
    /// The registration that it has now.
    #[must_use]
    pub const fn registration(&self) -> Registration {
        Registration { device: self.id, time: self.register_time }
    }
}

/// One registration of a device. Whoever registers it again makes another one, of a later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registration {
    /// The device.
    pub device: DeviceId,
    /// When.
    pub time: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_token_is_what_the_provider_gives_and_nothing_else() {
        let good = format!("eX1:{}", "APA91b-_x".repeat(16));
        for good in [good.as_str(), "cP5Nv3TfQ0-u_dW1sRZ8aB", &"a".repeat(4_096), &"a".repeat(16)] {
            let token: PushToken = good.parse().unwrap();
            assert_eq!((token.as_str(), format!("{token:?}").as_str()), (good, "[hidden]"));
        }
        let (short, long) = ("a".repeat(15), "a".repeat(4_097));
        for bad in
            ["", "null", "undefined", &short, &long, "a b c d e f g h i j", "token\nwith-a-line", "tökentökentöken"]
        {
            assert!(bad.parse::<PushToken>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_installation_is_told_from_a_token() {
        let is_id = |text: &str| text.parse::<PushToken>().unwrap().is_installation_id();
        assert!(is_id("cP5Nv3TfQ0-u_dW1sRZ8aB"));
        for token in
            ["aP5Nv3TfQ0-u_dW1sRZ8aB", "cP5Nv3TfQ0-u_dW1sRZ8a", "cP5Nv3TfQ0:APA91bZ8aBcD", "gone:device-of-pat-001"]
        {
            assert!(!is_id(token), "{token}");
        }
    }
}
