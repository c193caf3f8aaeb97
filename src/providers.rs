//! The outside world: one call that sends, one that asks what became of a send. It knows no row and decides nothing about
//! a delivery; it says what happened, in terms that differ only where the next step differs.
//!
//! Guarantee: one call makes at most one message. Nothing in here repeats a send, follows a redirect, or takes silence
//! for a no.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use url::{Host, Url};

use crate::{
    clock::SharedClock,
    domain::{Account, Device, EmailAddress, Phi, PhoneNumber, Registration, SmtpAccount, TwilioAccount},
};

mod error;
mod fcm;
mod mail;
mod net;
mod reach;
pub mod sendgrid;
pub mod smtp;
pub mod twilio;

pub use error::{LookError, Reach, SendError};
use fcm::{Access, Fcm};
use net::Network;
pub use reach::{reach, reach_relay};
use sendgrid::SendGrid;
use smtp::Smtp;
use twilio::{Twilio, callback::ReportedStatus};

/// How providers are reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Twilio's API.
    pub twilio_url: Url,
    /// SendGrid's API.
    pub sendgrid_url: Url,
    /// The API of Firebase Cloud Messaging.
    pub fcm_url: Url,
    /// Where Google gives out the tokens for it.
    pub google_token_url: Url,
    /// Permits private addresses, HTTP without TLS, relays at any port, and one on the loopback that offers no TLS: for stand-ins only.
    pub allow_private: bool,
    /// From the name to a connection that can be used.
    pub connect_timeout: Duration,
    /// A whole call. Twilio has been seen to succeed after more than 10 s (twilio/twilio-ruby#519).
    pub call_timeout: Duration,
}

/// Where the providers' APIs are.
#[derive(Clone, Debug)]
pub struct Urls {
    /// Twilio's.
    pub twilio: Url,
    /// SendGrid's.
    pub sendgrid: Url,
    /// That of Firebase Cloud Messaging.
    pub fcm: Url,
    /// Google's token endpoint.
    pub google_token: Url,
}

impl Settings {
    /// Everything at its default, against these APIs.
    #[must_use]
    pub fn new(urls: Urls) -> Self {
        let Urls { twilio: twilio_url, sendgrid: sendgrid_url, fcm: fcm_url, google_token: google_token_url } = urls;
        Self {
            twilio_url,
            sendgrid_url,
            fcm_url,
            google_token_url,
            allow_private: false,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(30),
        }
    }
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Twilio's URL is not one that may be called.
    #[error("the URL of Twilio's API must begin with https:// and name a public host, without user or password")]
    TwilioUrl,
    /// SendGrid's URL is not one that may be called.
    #[error("the URL of SendGrid's API must begin with https:// and name a public host, without user or password")]
    SendGridUrl,
    /// The URL of FCM is not one that may be called.
    #[error("the URL of FCM's API must begin with https:// and name a public host, without user or password")]
    FcmUrl,
    /// The URL of Google's token endpoint is not one that may be called.
    #[error(
        "the URL of Google's token endpoint must begin with https:// and name a public host, without user or password"
    )]
    GoogleTokenUrl,
    /// No HTTP client could be made, for example because the system has no CA certificates.
    #[error("no HTTP client could be made")]
    Http(#[source] reqwest::Error),
}

/// A message, ready to leave.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// A text message.
    Sms(OutgoingSms),
    /// A mail.
    Email(OutgoingEmail),
    /// A push message.
    Push(OutgoingPush),
}

/// A text message, ready to leave.
#[derive(Clone, Debug)]
pub struct OutgoingSms {
    /// The patient.
    pub to: PhoneNumber,
    /// The whole text.
    pub body: Phi<String>,
    /// Where the provider finds the files that go along.
    pub media: Vec<String>,
    /// Where reports go, with the attempt's token and the retry rules in its fragment.
    pub status_callback: Option<String>,
    /// How long the provider may try, 1-36000 seconds; what is beyond is cut.
    pub validity_seconds: u32,
}

/// A mail, ready to leave.
#[derive(Clone, Debug)]
pub struct OutgoingEmail {
    /// The patient's mailbox.
    pub to: EmailAddress,
    /// The patient's name; empty: none.
    pub to_name: Phi<String>,
    /// One line.
    pub subject: Phi<String>,
    /// The plain part.
    pub text: Phi<String>,
    /// The formatted part.
    pub html: Phi<String>,
    /// `local@domain`, without angle brackets; the same for every attempt of a delivery, so that receivers can fold
    /// repeats.
    pub message_id: String,
    /// An `https` URL that unsubscribes at a single POST (RFC 8058).
    pub list_unsubscribe: Option<String>,
    /// What sort of mail it is, such as `appointment_reminder`, in small letters; empty: not to be told. Never what it says.
    pub stream: String,
    /// What the provider repeats in its reports, where it reports: the attempt's token.
    pub attempt_token: String,
    /// The same token as it stands in the address that mail comes back to: hexadecimal digits in small letters.
    pub bounce_token: String,
}

/// A push message to all devices of a patient, ready to leave.
#[derive(Clone, Debug)]
pub struct OutgoingPush {
    /// The patient's devices.
    pub devices: Vec<Device>,
    /// One line.
    pub title: Phi<String>,
    /// What there is to say.
    pub body: Phi<String>,
    /// What it is called on the devices, the same for whatever may take its place there.
    pub id: String,
    /// How long it is worth showing.
    pub ttl: Duration,
}

/// What came of handing a message over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Whether the provider took it.
    pub outcome: Result<Accepted, SendError>,
    /// Devices that the provider does not know any more, whatever became of the others.
    pub gone: Vec<Registration>,
}

/// The provider took the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's name for the message: Twilio's SID, SendGrid's message id, FCM's name for that of the first device. A
    /// relay gives none that could be asked for.
    pub provider_ref: Option<String>,
    /// What the provider said at once.
    pub status: ReportedStatus,
    /// Segments billed, when the provider knows already.
    pub sms_segments: Option<i32>,
    /// The provider's clock minus ours, to the second.
    pub clock_offset: Option<TimeDelta>,
}

/// What to look for at Twilio. Times are ours.
#[derive(Clone, Debug)]
pub struct Look {
    /// The patient.
    pub to: PhoneNumber,
    /// The text that was sent.
    pub body: Phi<String>,
    /// Its segments, to compare where the provider shows no text.
    pub sms_segments: i32,
    /// When the attempt was written down.
    pub intent_time: DateTime<Utc>,
    /// When its call ended; when that was not seen, the latest time at which it can have ended.
    pub end_time: DateTime<Utc>,
    /// The time at which this look begins, by the clock of the other two: the provider's is compared with it.
    pub now: DateTime<Utc>,
}

/// Every message that may be the one looked for, newest first. The list was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The caller leaves out those that are bound to another attempt.
    pub candidates: Vec<Candidate>,
    /// The provider's clock minus that of the look, to the second.
    pub clock_offset: Option<TimeDelta>,
}

impl Found {
    /// Whether an attempt that began and ended then may have made the message as well.
    #[must_use]
    pub fn may_be_of(&self, message: &Candidate, intent_time: DateTime<Utc>, end_time: DateTime<Utc>) -> bool {
        twilio::window((intent_time, end_time), self.clock_offset).contains(&message.create_time)
    }
}

/// A message at Twilio that may be the one looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its SID.
    pub sid: String,
    /// Its status; unset: a word that is not known.
    pub status: Option<ReportedStatus>,
    /// Why it failed.
    pub error_code: Option<String>,
    /// Segments billed, when known.
    pub sms_segments: Option<i32>,
    /// When it was made, by the provider's clock.
    pub create_time: DateTime<Utc>,
    /// Whether the text was compared, or at least its length. False: the provider shows neither, so it may be another message.
    pub certain: bool,
    /// Whether the text itself is the same. False: the provider hides it.
    pub same_text: bool,
}

/// What a provider says of a message that it was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Its status; unset: a word that is not known.
    pub status: Option<ReportedStatus>,
    /// Why it failed.
    pub error_code: Option<String>,
}

/// Why a file that came with a text is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaError {
    /// It never will be.
    Refused {
        /// A word for the log.
        code: &'static str,
    },
    /// It may be, if it is asked for again.
    Later {
        /// A word for the log.
        code: String,
    },
}

/// The providers, with their connections.
#[derive(Debug)]
pub struct Providers {
    clock: SharedClock,
    network: Network,
    twilio: Twilio,
    signer: Arc<mail::Signer>,
    smtp: Smtp,
    sendgrid: SendGrid,
    fcm: Fcm,
}

impl Providers {
    /// Makes ready; calls nobody.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn new(settings: Settings, clock: SharedClock) -> Result<Self, SetupError> {
        let network = Network::new(settings.allow_private);
        check(&settings.twilio_url, network).ok_or(SetupError::TwilioUrl)?;
        check(&settings.sendgrid_url, network).ok_or(SetupError::SendGridUrl)?;
        check(&settings.fcm_url, network).ok_or(SetupError::FcmUrl)?;
        check(&settings.google_token_url, network).ok_or(SetupError::GoogleTokenUrl)?;
        let http = network.http_client(&settings).map_err(SetupError::Http)?;
        let access = Access::new(http.clone(), settings.google_token_url, clock.clone());
        Ok(Self {
            twilio: Twilio::new(http.clone(), settings.twilio_url, clock.clone()),
            sendgrid: SendGrid::new(http.clone(), settings.sendgrid_url, clock.clone()),
            fcm: Fcm::new(http, settings.fcm_url, access, clock.clone(), settings.call_timeout),
            signer: Arc::default(),
            smtp: Smtp::new(network, settings.connect_timeout, settings.call_timeout),
            network,
            clock,
        })
    }

    /// Sends once. Dropping the future leaves the outcome unknown.
    pub async fn send(&self, account: &Account, outgoing: &Outgoing) -> Handed {
        let outcome = match (account, outgoing) {
            (Account::Fcm(account), Outgoing::Push(push)) => return self.fcm.send(account, push).await,
            (Account::Twilio(account), Outgoing::Sms(sms)) => self.twilio.create(account, sms).await,
            (Account::Smtp(account), Outgoing::Email(email)) => {
                match mail::signed(&self.signer, account, email, self.clock.now()).await {
                    Ok(mail) => self.smtp.send(account, &mail).await,
                    Err(error) => Err(error),
                }
            }
            (Account::SendGrid(account), Outgoing::Email(email)) => self.sendgrid.send(account, email).await,
            (Account::Twilio(_) | Account::Smtp(_) | Account::SendGrid(_) | Account::Fcm(_), _) => {
                Err(SendError::internal("wrong account"))
            }
        };
        Handed { outcome, gone: Vec::new() }
    }

    /// Looks for a message whose outcome is unknown.
    ///
    /// # Errors
    /// When the list could not be read to its end, so that nothing follows from what it lacks.
    pub async fn find(&self, account: &TwilioAccount, look: &Look) -> Result<Found, LookError> {
        self.twilio.find(account, look).await
    }

    /// Asks what became of the message with that SID.
    ///
    /// # Errors
    /// When there was no answer, or the account has no such message.
    pub async fn fetch(&self, account: &TwilioAccount, sid: &str) -> Result<Reported, LookError> {
        self.twilio.fetch(account, sid).await
    }

    /// What a file holds that came with a text, at an address that Twilio named.
    ///
    /// # Errors
    /// When it is not to be had, or too large.
    pub async fn media(&self, account: &TwilioAccount, address: &str) -> Result<Vec<u8>, MediaError> {
        self.twilio.media(self.network, account, address).await
    }
}

/// Whether a server that keeps to public addresses would call there: an API in its settings, or where Twilio redirects to. A name
/// passes, since its addresses are looked at when it is resolved.
#[must_use]
pub fn is_callable(url: &Url) -> bool {
    may_call(url, Network::new(false))
}

/// The mail as a relay gets it, without a signature: for whoever reads it back.
///
/// # Errors
/// When it cannot be written, and would not be sent.
pub fn written(account: &SmtpAccount, email: &OutgoingEmail, now: DateTime<Utc>) -> Result<Vec<u8>, SendError> {
    Ok(mail::build(account, email, now)?.bytes)
}

/// Whether an API may be there. Unset: the URL may not be called.
fn check(url: &Url, network: Network) -> Option<()> {
    (may_call(url, network) && url.query().is_none() && url.fragment().is_none()).then_some(())
}

/// The HTTP client checks names as it resolves them, but never sees a literal: those are checked here.
fn may_call(url: &Url, network: Network) -> bool {
    let scheme = url.scheme() == "https" || (network.allow_private && url.scheme() == "http");
    let host = match url.host() {
        Some(Host::Domain(_)) => true,
        Some(Host::Ipv4(ip)) => network.admits(ip.into()),
        Some(Host::Ipv6(ip)) => network.admits(ip.into()),
        None => false,
    };
    scheme && host && url.username().is_empty() && url.password().is_none()
}

/// The real addresses, for tests that call others.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "constants that parse")]
fn real_urls() -> Urls {
    Urls {
        twilio: "https://api.twilio.com".parse().unwrap(),
        sendgrid: "https://api.sendgrid.com".parse().unwrap(),
        fcm: "https://fcm.googleapis.com".parse().unwrap(),
        google_token: "https://oauth2.googleapis.com/token".parse().unwrap(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_redirect_may_have_a_query_and_leads_to_public_addresses_only() {
        for (url, closed) in [
            ("https://files.example.com/a?X-Amz-Signature=1#x", true),
            ("https://8.8.8.8/a", true),
            ("http://files.example.com/a", false),
            ("https://127.0.0.1/a", false),
            ("https://[::1]/a", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("https://10.0.0.1/a", false),
            ("https://user:word@files.example.com/a", false),
        ] {
            assert_eq!(may_call(&url.parse().unwrap(), Network::new(false)), closed, "{url}");
        }
    }

    #[test]
    fn the_url_of_an_api_must_be_public_and_encrypted() {
        for (url, closed, open) in [
            ("https://api.twilio.com", true, true),
            ("https://api.twilio.com/prefix/", true, true),
            ("https://127.0.0.1:4010", false, true),
            ("https://[::1]:4010", false, true),
            ("https://0x7f.1", false, true),
            ("https://2130706433", false, true),
            ("https://[::ffff:7f00:1]", false, true),
            ("http://api.twilio.com", false, true),
            ("http://127.0.0.1:4010", false, true),
            ("https://user@api.twilio.com", false, false),
            ("https://api.twilio.com/?x", false, false),
            ("ftp://api.twilio.com", false, false),
            ("data:text/plain,x", false, false),
        ] {
            let url: Url = url.parse().unwrap();
            assert_eq!(check(&url, Network::new(false)).is_some(), closed, "{url}");
            assert_eq!(check(&url, Network::new(true)).is_some(), open, "{url}");
        }
    }
}
