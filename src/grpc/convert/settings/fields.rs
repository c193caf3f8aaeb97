//! The fields of the provider settings: one table per message, which says of each field how it is set. A message is
//! replaced field by field by the same table, so that a whole and its parts cannot disagree.

use secrecy::SecretString;

use crate::{
    domain::{
        EmailAddress, EmailProvider, EmailSettings, PhoneNumber, PushSettings, SendGridSettings, SmsSender,
        SmsSettings, SmtpSecurity, SmtpSettings, WebhookKey, mail_domain, template::prefix_fault,
    },
    grpc::{
        convert::check::Check,
        proto::{self, email_settings::Provider, sms_settings::Sender},
    },
    service::preferences::{dkim_key, service_account},
};

/// How a field of message `M` is set in `D`.
pub(super) enum Field<M, D> {
    /// To what the message says.
    Plain(fn(&mut Check, &M, &mut D)),
    /// To what the message says; an empty one clears it if it is named, and is passed over if the whole is replaced.
    Secret(fn(&M) -> &str, fn(&mut D) -> &mut Option<SecretString>),
    /// As a secret, but in a form of its own.
    Formed(fn(&M) -> &str, fn(&mut Check, &str, &mut D)),
    /// Not at all.
    OutputOnly,
}

/// The fields of a message, by name.
pub(super) type Fields<M, D> = [(&'static str, Field<M, D>)];

/// Replaces all of `target` by `message`, except for secrets that it leaves empty.
pub(super) fn replace<M, D>(fields: &Fields<M, D>, check: &mut Check, message: &M, target: &mut D) {
    for (name, field) in fields {
        match field {
            Field::Plain(set) => set(check, message, target),
            Field::Secret(new, _) | Field::Formed(new, _) if new(message).is_empty() => {}
            Field::Secret(new, kept) => *kept(target) = secret(check, name, new(message)),
            Field::Formed(new, set) => set(check, new(message), target),
            Field::OutputOnly => {}
        }
    }
}

/// Sets the field of that name. Says what is wrong with the name, if anything.
pub(super) fn set<M, D>(
    fields: &Fields<M, D>,
    name: &str,
    check: &mut Check,
    message: &M,
    target: &mut D,
) -> Result<(), &'static str> {
    match fields.iter().find(|(known, _)| *known == name) {
        Some((_, Field::Plain(set))) => set(check, message, target),
        Some((_, Field::Secret(new, kept))) => *kept(target) = secret(check, name, new(message)),
        Some((_, Field::Formed(new, set))) => set(check, new(message), target),
        Some((_, Field::OutputOnly)) => return Err(super::update::OUTPUT_ONLY),
        None => return Err(super::update::UNKNOWN),
    }
    Ok(())
}

fn secret(check: &mut Check, name: &str, text: &str) -> Option<SecretString> {
    let text = check.line(name, text.to_owned(), 1_000);
    (!text.is_empty()).then(|| text.into())
}

/// `SmsSettings`.
pub(super) const SMS: &Fields<proto::SmsSettings, SmsSettings> = &[
    (
        "account_sid",
        Field::Plain(|check, new, sms| sms.account_sid = sid(check, "account_sid", "AC", &new.account_sid)),
    ),
    ("auth_token", Field::Secret(|new| &new.auth_token, |sms| &mut sms.auth_token)),
    ("auth_token_set", Field::OutputOnly),
    ("secondary_auth_token", Field::Secret(|new| &new.secondary_auth_token, |sms| &mut sms.secondary_auth_token)),
    ("secondary_auth_token_set", Field::OutputOnly),
    (
        "api_key_sid",
        Field::Plain(|check, new, sms| sms.api_key_sid = sid(check, "api_key_sid", "SK", &new.api_key_sid)),
    ),
    ("api_key_secret", Field::Secret(|new| &new.api_key_secret, |sms| &mut sms.api_key_secret)),
    ("api_key_secret_set", Field::OutputOnly),
    ("from_number", Field::Plain(from_number)),
    ("messaging_service_sid", Field::Plain(messaging_service)),
    ("prefix", Field::Plain(prefix)),
    ("inbound_webhook_url", Field::OutputOnly),
];

// The arms of a choice are set one by one: an arm that the message does not have clears the one that is stored, and
// leaves the other arm alone.

fn from_number(check: &mut Check, new: &proto::SmsSettings, sms: &mut SmsSettings) {
    let number = match &new.sender {
        Some(Sender::FromNumber(number)) => {
            check.parsed_if_set("from_number", number, |text| PhoneNumber::parse(text, "US"))
        }
        _ => None,
    };
    match number {
        Some(number) => sms.sender = Some(SmsSender::Number(number)),
        None => drop(sms.sender.take_if(|sender| matches!(sender, SmsSender::Number(_)))),
    }
}

fn messaging_service(check: &mut Check, new: &proto::SmsSettings, sms: &mut SmsSettings) {
    let service = match &new.sender {
        Some(Sender::MessagingServiceSid(service)) => sid(check, "messaging_service_sid", "MG", service),
        _ => String::new(),
    };
    if service.is_empty() {
        drop(sms.sender.take_if(|sender| matches!(sender, SmsSender::MessagingService(_))));
    } else {
        sms.sender = Some(SmsSender::MessagingService(service));
    }
}

fn prefix(check: &mut Check, new: &proto::SmsSettings, sms: &mut SmsSettings) {
    if let Some(fault) = prefix_fault(&new.prefix) {
        check.expect("prefix", false, fault);
    }
    sms.prefix = check.name("prefix", new.prefix.clone(), 30);
}

/// An identifier of Twilio: two letters that say of what, and 32 hexadecimal digits.
fn sid(check: &mut Check, field: &str, prefix: &str, text: &str) -> String {
    let good = text
        .strip_prefix(prefix)
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    check.expect(field, text.is_empty() || good, format!("must be {prefix} and 32 hexadecimal digits"));
    text.to_owned()
}

/// `EmailSettings`.
pub(super) const EMAIL: &Fields<proto::EmailSettings, EmailSettings> = &[
    ("smtp", Field::Plain(smtp)),
    ("sendgrid", Field::Plain(sendgrid)),
    (
        "from_address",
        Field::Plain(|check, new, email| {
            email.from_address = check.parsed_if_set("from_address", &new.from_address, EmailAddress::parse);
        }),
    ),
    (
        "from_name",
        Field::Plain(|check, new, email| {
            check.legible("from_name", &new.from_name);
            email.from_name = check.name("from_name", new.from_name.clone(), 100);
        }),
    ),
    (
        "reply_to_address",
        Field::Plain(|check, new, email| {
            email.reply_to = check.parsed_if_set("reply_to_address", &new.reply_to_address, EmailAddress::parse);
        }),
    ),
    ("phi_permitted", Field::Plain(|_, new, email| email.phi_permitted = new.phi_permitted)),
    (
        "dkim_domain",
        Field::Plain(|check, new, email| {
            let domain = check.parsed_if_set("dkim_domain", &new.dkim_domain, mail_domain);
            email.dkim.domain = domain.unwrap_or_default();
        }),
    ),
    (
        "dkim_selector",
        Field::Plain(|check, new, email| {
            let selector = check.parsed_if_set("dkim_selector", &new.dkim_selector, selector);
            email.dkim.selector = selector.unwrap_or_default();
        }),
    ),
    (
        "dkim_private_key",
        Field::Formed(
            |new| &new.dkim_private_key,
            |check, pem, email| email.dkim.key = check.parsed_if_set("dkim_private_key", pem, dkim_key),
        ),
    ),
    ("dkim_key_set", Field::OutputOnly),
    ("dkim_record_name", Field::OutputOnly),
    ("dkim_record", Field::OutputOnly),
    (
        "bounce_address",
        Field::Plain(|check, new, email| {
            email.bounces.address = check.parsed_if_set("bounce_address", &new.bounce_address, bounce_address);
        }),
    ),
    (
        "bounce_secret",
        Field::Formed(
            |new| &new.bounce_secret,
            |check, text, email| email.bounces.secret = check.parsed_if_set("bounce_secret", text, bounce_secret),
        ),
    ),
    ("bounce_secret_set", Field::OutputOnly),
    ("bounce_webhook_url", Field::OutputOnly),
];

/// Labels of the DNS (RFC 6376, section 3.1), in lower case.
fn selector(text: &str) -> Result<String, &'static str> {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let good = text.len() <= 120 && text.split('.').all(label);
    if good { Ok(text.to_ascii_lowercase()) } else { Err("must be letters, digits and hyphens, such as heedwell1") }
}

/// With `+` and a token of 32 digits before the `@`, it still has to be an address (RFC 5321, section 4.5.3.1.1).
fn bounce_address(text: &str) -> Result<EmailAddress, &'static str> {
    const WRONG: &str = "must be a mail address with at most 31 characters before the @";
    let address = EmailAddress::parse(text).map_err(|_| WRONG)?;
    let local = address.as_str().split('@').next().unwrap_or_default();
    let fits = local.len() <= 31 && address.as_str().len() <= 221 && !local.contains('+');
    if fits { Ok(address) } else { Err(WRONG) }
}

fn bounce_secret(text: &str) -> Result<SecretString, &'static str> {
    let good = (24..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(text.into()) } else { Err("must be 24 to 200 printable ASCII characters without spaces") }
}

fn smtp(check: &mut Check, new: &proto::EmailSettings, email: &mut EmailSettings) {
    match &new.provider {
        Some(Provider::Smtp(new)) => {
            with_smtp(email, |smtp| check.at("smtp", |check| replace(SMTP, check, new, smtp)));
        }
        _ => drop(email.provider.take_if(|provider| matches!(provider, EmailProvider::Smtp(_)))),
    }
}

fn sendgrid(check: &mut Check, new: &proto::EmailSettings, email: &mut EmailSettings) {
    match &new.provider {
        Some(Provider::Sendgrid(new)) => {
            with_sendgrid(email, |stored| check.at("sendgrid", |check| replace(SENDGRID, check, new, stored)));
        }
        _ => drop(email.provider.take_if(|provider| matches!(provider, EmailProvider::SendGrid(_)))),
    }
}

/// Changes the relay's settings; chooses them if there was something else.
pub(super) fn with_smtp<T>(email: &mut EmailSettings, change: impl FnOnce(&mut SmtpSettings) -> T) -> T {
    let mut smtp = match email.provider.take() {
        Some(EmailProvider::Smtp(smtp)) => smtp,
        _ => SmtpSettings::default(),
    };
    let done = change(&mut smtp);
    email.provider = Some(EmailProvider::Smtp(smtp));
    done
}

/// Changes SendGrid's settings; chooses them if there was something else.
pub(super) fn with_sendgrid<T>(email: &mut EmailSettings, change: impl FnOnce(&mut SendGridSettings) -> T) -> T {
    let mut sendgrid = match email.provider.take() {
        Some(EmailProvider::SendGrid(sendgrid)) => sendgrid,
        _ => SendGridSettings::default(),
    };
    let done = change(&mut sendgrid);
    email.provider = Some(EmailProvider::SendGrid(sendgrid));
    done
}

/// `SmtpSettings`.
pub(super) const SMTP: &Fields<proto::SmtpSettings, SmtpSettings> = &[
    (
        "host",
        Field::Plain(|check, new, smtp| {
            smtp.host = check.parsed_if_set("host", &new.host, host).unwrap_or_default();
        }),
    ),
    ("port", Field::Plain(port)),
    (
        "security",
        Field::Plain(|check, new, smtp| {
            smtp.security = (new.security != 0).then(|| check.choice("security", new.security, security)).flatten();
        }),
    ),
    ("username", Field::Plain(|check, new, smtp| smtp.username = check.line("username", new.username.clone(), 320))),
    ("password", Field::Secret(|new| &new.password, |smtp| &mut smtp.password)),
    ("password_set", Field::OutputOnly),
];

fn port(check: &mut Check, new: &proto::SmtpSettings, smtp: &mut SmtpSettings) {
    let port = u16::try_from(new.port);
    check.expect("port", port.is_ok(), "must be 1 to 65535");
    smtp.port = port.unwrap_or_default();
}

const fn security(number: i16) -> Option<SmtpSecurity> {
    match number {
        1 => Some(SmtpSecurity::StartTls),
        2 => Some(SmtpSecurity::Tls),
        _ => None,
    }
}

/// The name of a machine, in lower-case ASCII: no scheme, port, path or space, and none that stands for many. A dot at its end
/// says that nothing is to be put behind it (RFC 1034, section 3.1), which is meant here anyway.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "must be the name of one host, such as mail.example.com";
    // The parser would decode %41 and the like.
    if text.len() > 254 || text.contains('%') {
        return Err(WRONG);
    }
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        plain && (1..=63).contains(&label.len())
    };
    match url::Host::parse(text.strip_suffix('.').unwrap_or(text)).map_err(|_| WRONG)? {
        url::Host::Domain(name) if name.len() <= 253 && name.split('.').all(label) => Ok(name),
        url::Host::Domain(_) => Err(WRONG),
        address => Ok(address.to_string()),
    }
}

/// `SendGridSettings`.
pub(super) const SENDGRID: &Fields<proto::SendGridSettings, SendGridSettings> = &[
    ("api_key", Field::Secret(|new| &new.api_key, |sendgrid| &mut sendgrid.api_key)),
    ("api_key_set", Field::OutputOnly),
    (
        "webhook_public_key",
        Field::Plain(|check, new, sendgrid| {
            let key = check.parsed_if_set("webhook_public_key", &new.webhook_public_key, WebhookKey::parse);
            sendgrid.webhook_key = key;
        }),
    ),
    ("event_webhook_url", Field::OutputOnly),
];

/// `PushSettings`.
pub(super) const PUSH: &Fields<proto::PushSettings, PushSettings> = &[
    (
        "fcm_service_account_json",
        Field::Formed(
            |new| &new.fcm_service_account_json,
            |check, text, push| {
                push.service_account = check.parsed_if_set("fcm_service_account_json", text, service_account::parse);
            },
        ),
    ),
    ("fcm_service_account_set", Field::OutputOnly),
];
