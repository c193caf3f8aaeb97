//! What a practice set up: channels per kind, provider accounts, and what is still missing before a channel can send.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};

use super::{Channel, ChannelSet, EmailAddress, Kind, OpeningHours, PhoneNumber, Practice, QuietHours, TestContact};
pub use dkim::{Dkim, DkimKey, DkimSettings};
pub use push::{PushSettings, ServiceAccount};
pub use sendgrid::{SendGridAccount, SendGridSettings, WebhookKey};

mod dkim;
mod push;
mod sendgrid;

/// Channels for one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindChannels {
    /// On by default.
    pub channels: ChannelSet,
    /// What patients may choose from; unset: every channel that the practice has set up.
    pub offered: Option<ChannelSet>,
}

/// Settings of a practice as they were entered; defaults are filled in by the methods.
#[derive(Clone, Debug, Default)]
pub struct PracticeSettings {
    /// Kinds without an entry have their built-in channels.
    pub kind_channels: BTreeMap<Kind, KindChannels>,
    /// Twilio.
    pub sms: SmsSettings,
    /// Mail.
    pub email: EmailSettings,
    /// Firebase Cloud Messaging.
    pub push: PushSettings,
    /// When texts and push messages wait unless they are urgent; unset: never.
    pub quiet_hours: Option<QuietHours>,
    /// What the server answers to texts while the practice is closed.
    pub after_hours: AfterHours,
    /// Channels that need a recorded opt-in, not just the absence of an opt-out.
    pub opt_in_channels: ChannelSet,
    /// Hosts that secure links may lead to, in lower case.
    pub link_hosts: BTreeSet<String>,
    /// To whom tests may go.
    pub test_contacts: BTreeSet<TestContact>,
}

/// What whoever writes gets while the practice is closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AfterHours {
    /// Empty: nothing.
    pub text: String,
    /// When the practice is open.
    pub hours: OpeningHours,
}

/// Twilio.
#[derive(Clone, Debug, Default)]
pub struct SmsSettings {
    /// `AC` and 32 hexadecimal digits.
    pub account_sid: String,
    /// Verifies callbacks; sends unless there is an API key.
    pub auth_token: Option<SecretString>,
    /// Verifies callbacks as well, while the token is being rotated.
    pub secondary_auth_token: Option<SecretString>,
    /// `SK` and 32 hexadecimal digits; empty: none.
    pub api_key_sid: String,
    /// The API key's secret.
    pub api_key_secret: Option<SecretString>,
    /// Where messages come from.
    pub sender: Option<SmsSender>,
    /// Put before each text; empty: the practice's display name.
    pub prefix: String,
}

/// Where text messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmsSender {
    /// A number of the account.
    Number(PhoneNumber),
    /// `MG` and 32 hexadecimal digits.
    MessagingService(String),
}

/// Mail.
#[derive(Clone, Debug, Default)]
pub struct EmailSettings {
    /// Which provider sends.
    pub provider: Option<EmailProvider>,
    /// Should be of a domain that the practice controls.
    pub from_address: Option<EmailAddress>,
    /// Empty: the practice's display name.
    pub from_name: String,
    /// Where answers go; unset: to the sender.
    pub reply_to: Option<EmailAddress>,
    /// Whether the provider may carry health information; unset: true for SMTP, false for SendGrid.
    pub phi_permitted: Option<bool>,
    /// Signs mail that goes by SMTP.
    pub dkim: DkimSettings,
    /// Where mail that went by SMTP comes back to.
    pub bounces: BounceSettings,
}

/// Where mail comes back to that cannot be delivered, and how that is told.
#[derive(Clone, Debug, Default)]
pub struct BounceSettings {
    /// Each mail has an address of its own there: a `+` and a token stand before the `@`.
    pub address: Option<EmailAddress>,
    /// What whoever hands bounces over must show.
    pub secret: Option<SecretString>,
}

/// Who carries the practice's mail.
#[derive(Clone, Debug)]
pub enum EmailProvider {
    /// A relay of the practice.
    Smtp(SmtpSettings),
    /// SendGrid.
    SendGrid(SendGridSettings),
}

/// An SMTP relay.
#[derive(Clone, Debug, Default)]
pub struct SmtpSettings {
    /// Name or address of the relay.
    pub host: String,
    /// One of [`Self::PORTS`], unless private providers are allowed; 0: not given.
    pub port: u16,
    /// How the connection is protected; unset: not given.
    pub security: Option<SmtpSecurity>,
    /// Empty: no log-in.
    pub username: String,
    /// The log-in's password.
    pub password: Option<SecretString>,
}

/// How a connection to a relay is protected. There is no unprotected choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// Plain at first, then upgraded (RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
}

/// An account at a provider, complete enough to send with. A closed set: a new provider is a new arm, and the compiler
/// lists every place that it touches.
#[derive(Clone, Debug)]
pub enum Account {
    /// Twilio's Messages API.
    Twilio(TwilioAccount),
    /// An SMTP relay.
    Smtp(SmtpAccount),
    /// SendGrid's mail API.
    SendGrid(SendGridAccount),
    /// Firebase Cloud Messaging.
    Fcm(ServiceAccount),
}

impl Account {
    /// The provider's name, as deliveries show it.
    #[must_use]
    pub const fn provider(&self) -> Provider {
        match self {
            Self::Twilio(_) => Provider::Twilio,
            Self::Smtp(_) => Provider::Smtp,
            Self::SendGrid(_) => Provider::SendGrid,
            Self::Fcm(_) => Provider::Fcm,
        }
    }
}

impl Account {
    /// The account alone, without secrets: whatever it sends from, it is well or ill as a whole.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Twilio(account) => account.account_sid.clone(),
            Self::Smtp(account) => {
                let user = account.credentials.as_ref().map_or("", |(user, _)| user);
                format!("{}:{}/{user}", account.host, account.port)
            }
            // Nothing but the key names it, and a practice has only one.
            Self::SendGrid(_) => "sendgrid".to_owned(),
            Self::Fcm(account) => account.client_email.clone(),
        }
    }

    /// Account and sender, without secrets: a message sent by one is not looked for at another.
    #[must_use]
    pub fn sender(&self) -> String {
        match self {
            Self::Twilio(account) => match (&account.sender, &account.pool_number) {
                (SmsSender::Number(number), _) => format!("{}/{}", account.account_sid, number.e164()),
                (SmsSender::MessagingService(sid), None) => format!("{}/{sid}", account.account_sid),
                (SmsSender::MessagingService(sid), Some(number)) => {
                    format!("{}/{}", account.account_sid, in_pool(sid, number))
                }
            },
            Self::Smtp(account) => format!("{}:{}/{}", account.host, account.port, account.from_address.as_str()),
            Self::SendGrid(account) => format!("sendgrid/{}", account.from_address.as_str()),
            Self::Fcm(account) => format!("fcm/{}", account.project_id),
        }
    }
}

/// A number of a Messaging Service, as one word.
#[must_use]
pub fn in_pool(service_sid: &str, number: &PhoneNumber) -> String {
    format!("{service_sid}/{}", number.e164())
}

impl Account {
    /// The account as it answers somebody who wrote to `reached_at`, which [`in_pool`] made: from the same number, as long as the
    /// practice texts by that service.
    #[must_use]
    pub fn answering(mut self, reached_at: &str) -> Self {
        if let (Self::Twilio(account), Some((service, number))) = (&mut self, reached_at.split_once('/'))
            && account.sender == SmsSender::MessagingService(service.to_owned())
        {
            account.pool_number = Some(PhoneNumber::from_trusted(number.to_owned()));
        }
        self
    }

    /// The account as it was when [`Self::sender`] said `sender`; unset when it is another one, or has another sender, by now.
    #[must_use]
    pub fn as_sender(self, sender: &str) -> Option<Self> {
        let account = match sender.split_once('/') {
            Some((_, reached_at)) => self.answering(reached_at),
            None => self,
        };
        (account.sender() == sender).then_some(account)
    }
}

/// Who carried a message; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// This server's own inbox.
    Inbox = 1,
    /// Twilio.
    Twilio = 2,
    /// An SMTP relay.
    Smtp = 3,
    /// SendGrid.
    SendGrid = 4,
    /// Firebase Cloud Messaging.
    Fcm = 5,
}

impl Provider {
    /// The name that deliveries show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Twilio => "twilio",
            Self::Smtp => "smtp",
            Self::SendGrid => "sendgrid",
            Self::Fcm => "fcm",
        }
    }

    /// The provider with that stored number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::Inbox),
            2 => Some(Self::Twilio),
            3 => Some(Self::Smtp),
            4 => Some(Self::SendGrid),
            5 => Some(Self::Fcm),
            _ => None,
        }
    }
}

/// A Twilio account, ready to send.
#[derive(Clone, Debug)]
pub struct TwilioAccount {
    /// `AC…`; in the path of every call.
    pub account_sid: String,
    /// User of HTTP Basic: the account's or an API key's SID.
    pub username: String,
    /// Password of HTTP Basic.
    pub password: SecretString,
    /// Where messages come from.
    pub sender: SmsSender,
    /// From which number of the service; unset: from whichever it picks.
    pub pool_number: Option<PhoneNumber>,
}

/// A relay and the sender to use with it, ready to send.
#[derive(Clone, Debug)]
pub struct SmtpAccount {
    /// Name or address of the relay.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: SmtpSecurity,
    /// User and password.
    pub credentials: Option<(String, SecretString)>,
    /// The sender's mailbox.
    pub from_address: EmailAddress,
    /// The sender's name.
    pub from_name: String,
    /// Where answers go; unset: to the sender.
    pub reply_to: Option<EmailAddress>,
    /// Signs; unset: the relay's affair.
    pub dkim: Option<Dkim>,
    /// Where mail comes back to; unset: to the sender.
    pub bounces_to: Option<EmailAddress>,
}

/// One thing to put right before, or while, a channel sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path in the contract's `PracticeSettings`.
    pub field: &'static str,
    /// What is wrong and what to do; fit to show to staff.
    pub message: String,
    /// False: a warning.
    pub blocking: bool,
}

impl Finding {
    fn missing(field: &'static str, message: &str) -> Self {
        Self { field, message: message.into(), blocking: true }
    }
}

fn is_set(secret: Option<&SecretString>) -> bool {
    secret.is_some_and(|secret| !secret.expose_secret().is_empty())
}

impl PracticeSettings {
    /// The channels of `kind`, with the built-in ones where nothing was set.
    #[must_use]
    pub fn kind(&self, kind: Kind) -> KindChannels {
        self.kind_channels
            .get(&kind)
            .copied()
            .unwrap_or(KindChannels { channels: kind.default_channels(), offered: None })
    }

    /// What keeps `channel` from sending, and what should be better. The channel is set up when nothing blocks.
    #[must_use]
    pub fn findings(&self, channel: Channel) -> Vec<Finding> {
        match channel {
            Channel::InApp => Vec::new(),
            Channel::Sms => self.sms.findings(),
            Channel::Email => self.email.findings(),
            Channel::Push => self.push.findings(),
        }
    }

    /// Whether `channel` can send.
    #[must_use]
    pub fn is_set_up(&self, channel: Channel) -> bool {
        !self.findings(channel).iter().any(|finding| finding.blocking)
    }

    /// The channels that can send.
    #[must_use]
    pub fn set_up(&self) -> ChannelSet {
        Channel::ALL.into_iter().filter(|channel| self.is_set_up(*channel)).collect()
    }

    /// The account that sends over `channel`; unset while the channel is not set up, and for in-app, which needs none.
    #[must_use]
    pub fn account(&self, channel: Channel, practice: &Practice) -> Option<Account> {
        match channel {
            Channel::Sms => self.sms.account().map(Account::Twilio),
            Channel::Email => self.email.account(practice),
            Channel::Push => self.push.service_account.clone().map(Account::Fcm),
            Channel::InApp => None,
        }
    }

    /// What is put before each text message.
    #[must_use]
    pub fn sms_prefix<'a>(&'a self, practice: &'a Practice) -> &'a str {
        if self.sms.prefix.is_empty() { &practice.display_name } else { &self.sms.prefix }
    }
}

impl SmsSettings {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.account_sid.is_empty() {
            findings.push(Finding::missing("sms.account_sid", "Enter the Account SID shown in the Twilio console."));
        }
        if !is_set(self.auth_token.as_ref()) {
            findings.push(Finding::missing(
                "sms.auth_token",
                "Enter the Auth Token shown in the Twilio console. It is needed even with an API key, \
                 because only it verifies what Twilio reports back.",
            ));
        }
        if self.sender.is_none() {
            findings.push(Finding::missing(
                "sms.from_number",
                "Enter the number that messages come from, or the SID of a Messaging Service.",
            ));
        }
        match (self.api_key_sid.is_empty(), is_set(self.api_key_secret.as_ref())) {
            (false, false) => {
                findings
                    .push(Finding::missing("sms.api_key_secret", "Enter the secret of the API key, or clear its SID."));
            }
            (true, true) => {
                findings
                    .push(Finding::missing("sms.api_key_sid", "Enter the SID of the API key, or clear its secret."));
            }
            _ => {}
        }
        findings
    }

    fn account(&self) -> Option<TwilioAccount> {
        if self.findings().iter().any(|finding| finding.blocking) {
            return None;
        }
        let (username, password) = match &self.api_key_secret {
            Some(secret) if !self.api_key_sid.is_empty() => (self.api_key_sid.clone(), secret.clone()),
            _ => (self.account_sid.clone(), self.auth_token.clone()?),
        };
        let (account_sid, sender) = (self.account_sid.clone(), self.sender.clone()?);
        Some(TwilioAccount { account_sid, username, password, sender, pool_number: None })
    }

    /// The secrets that may have signed a callback, the current one first.
    #[must_use]
    pub fn callback_secrets(&self) -> Vec<SecretString> {
        [&self.auth_token, &self.secondary_auth_token].into_iter().flatten().cloned().collect()
    }
}

/// Hosts where anybody can have a mailbox: mail that claims to come from there is refused by most receivers.
const PUBLIC_MAILBOX_HOSTS: [&str; 8] =
    ["gmail.com", "googlemail.com", "yahoo.com", "outlook.com", "hotmail.com", "live.com", "icloud.com", "aol.com"];

impl EmailSettings {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match &self.provider {
            None => findings.push(Finding::missing(
                "email.smtp",
                "Enter the SMTP relay or the SendGrid account that sends the practice's mail.",
            )),
            Some(EmailProvider::Smtp(smtp)) => {
                findings.extend(smtp.findings());
                findings.extend(self.dkim.findings());
                findings.extend(self.bounces.finding());
            }
            Some(EmailProvider::SendGrid(sendgrid)) => {
                findings.extend(sendgrid.findings());
                if self.phi_permitted == Some(true) {
                    findings.push(Finding {
                        field: "email.phi_permitted",
                        message:
                            "SendGrid signs no agreement on health information (HIPAA): leave this unset, and mail \
                                  keeps to a minimal wording."
                                .into(),
                        blocking: false,
                    });
                }
            }
        }
        match &self.from_address {
            None => findings.push(Finding::missing(
                "email.from_address",
                "Enter the address that mail comes from, of a domain that the practice controls.",
            )),
            Some(from) if PUBLIC_MAILBOX_HOSTS.contains(&from.domain()) => findings.push(Finding {
                field: "email.from_address",
                message: "Mail sent in the name of a public mailbox host is refused by most receivers: \
                          use an address of a domain that the practice controls."
                    .into(),
                blocking: false,
            }),
            Some(_) => {}
        }
        findings
    }

    fn account(&self, practice: &Practice) -> Option<Account> {
        if self.findings().iter().any(|finding| finding.blocking) {
            return None;
        }
        let from_address = self.from_address.clone()?;
        let from_name = Some(&self.from_name).filter(|name| !name.is_empty()).unwrap_or(&practice.display_name).clone();
        let reply_to = self.reply_to.clone();
        Some(match self.provider.as_ref()? {
            EmailProvider::Smtp(smtp) => Account::Smtp(SmtpAccount {
                host: smtp.host.clone(),
                port: smtp.port,
                security: smtp.security?,
                credentials: smtp
                    .password
                    .clone()
                    .filter(|_| !smtp.username.is_empty())
                    .map(|p| (smtp.username.clone(), p)),
                from_address,
                from_name,
                reply_to,
                dkim: self.dkim.complete(),
                bounces_to: self.bounces.address.clone(),
            }),
            EmailProvider::SendGrid(sendgrid) => Account::SendGrid(SendGridAccount {
                api_key: sendgrid.api_key.clone()?,
                from_address,
                from_name,
                reply_to,
            }),
        })
    }

    /// The key that verifies what SendGrid reports; unset where the practice sends by other means.
    #[must_use]
    pub fn webhook_key(&self) -> Option<&WebhookKey> {
        match &self.provider {
            Some(EmailProvider::SendGrid(sendgrid)) => sendgrid.webhook_key.as_ref(),
            Some(EmailProvider::Smtp(_)) | None => None,
        }
    }

    /// Whether mail may carry more than the minimal wording.
    #[must_use]
    pub fn phi_permitted(&self) -> bool {
        self.phi_permitted.unwrap_or(!matches!(self.provider, Some(EmailProvider::SendGrid(_))))
    }
}

impl BounceSettings {
    /// Neither is of use without the other.
    fn finding(&self) -> Option<Finding> {
        let (field, what) = match (&self.address, &self.secret) {
            (Some(_), None) => ("email.bounce_secret", "the secret that whoever hands bounces over must show"),
            (None, Some(_)) => ("email.bounce_address", "the address that bounces come back to"),
            _ => return None,
        };
        let message = format!("Mail that comes back is not noticed: enter {what}.");
        Some(Finding { field, message, blocking: false })
    }
}

impl SmtpSettings {
    /// Where relays take mail that is handed in: TLS from the first byte, STARTTLS (RFC 8314, section 3.3), and what many use
    /// where a network closes 587. Any other would let whoever sets up a practice knock on doors of others.
    pub const PORTS: [u16; 3] = [465, 587, 2525];

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.host.is_empty() {
            findings.push(Finding::missing("email.smtp.host", "Enter the name of the SMTP relay."));
        }
        if self.port == 0 {
            findings
                .push(Finding::missing("email.smtp.port", "Enter the relay's port: 587 for STARTTLS, 465 for TLS."));
        }
        if self.security.is_none() {
            findings.push(Finding::missing("email.smtp.security", "Choose STARTTLS or TLS."));
        }
        if !self.username.is_empty() && !is_set(self.password.as_ref()) {
            findings.push(Finding::missing("email.smtp.password", "Enter the password of the relay's log-in."));
        }
        findings
    }
}
