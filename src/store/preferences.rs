//! Settings of practices, sealed whole, since they hold secrets.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveTime, Timelike};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, JoinType, QuerySelect, RelationDef};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    directory::stored_practice,
    entity::{practice, practice_settings},
    vault::{PracticeKeys, Sealed},
};
use crate::domain::{
    AfterHours, BounceSettings, Channel, ChannelSet, DkimKey, DkimSettings, EmailAddress, EmailProvider, EmailSettings,
    Kind, KindChannels, OpenSpan, OpeningHours, PhoneNumber, Practice, PracticeSettings, PushSettings, QuietHours,
    Scope, SendGridSettings, ServiceAccount, SmsSender, SmsSettings, SmtpSecurity, SmtpSettings, Stored, TestContact,
    WebhookKey,
};

const BODY: Sealed = Sealed { table: "practice_settings", column: "body_ct" };

/// Settings as they are sealed. Fields are only ever added, each with a default, so that older rows stay readable.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Body {
    kinds: Vec<KindBody>,
    sms: SmsBody,
    email: EmailBody,
    push: Option<PushBody>,
    quiet_hours: Option<QuietBody>,
    after_hours: AfterHoursBody,
    opt_in: Vec<i16>,
    link_hosts: BTreeSet<String>,
    test_contacts: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct KindBody {
    kind: i16,
    channels: Vec<i16>,
    offered: Option<Vec<i16>>,
}

/// Times of the day, in seconds after midnight.
#[derive(Serialize, Deserialize)]
struct QuietBody {
    start: u32,
    end: u32,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct AfterHoursBody {
    text: String,
    /// Days of the week, each with times of the day in seconds after midnight.
    spans: Vec<(u8, u32, u32)>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SmsBody {
    account_sid: String,
    auth_token: Option<String>,
    secondary_auth_token: Option<String>,
    api_key_sid: String,
    api_key_secret: Option<String>,
    from_number: String,
    messaging_service_sid: String,
    prefix: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct EmailBody {
    smtp: Option<SmtpBody>,
    sendgrid: Option<SendGridBody>,
    from_address: String,
    from_name: String,
    reply_to: String,
    phi_permitted: Option<bool>,
    dkim: DkimBody,
    bounce_address: String,
    bounce_secret: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct DkimBody {
    domain: String,
    selector: String,
    /// PEM, and the record of its public half.
    key: Option<(String, String)>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SmtpBody {
    host: String,
    port: u16,
    tls: Option<bool>,
    username: String,
    password: Option<String>,
}

/// What is kept of a service account.
#[derive(Serialize, Deserialize)]
struct PushBody {
    project_id: String,
    client_email: String,
    private_key: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SendGridBody {
    api_key: Option<String>,
    webhook_public_key: String,
}

impl Store {
    /// Reads the settings of a practice; nothing set is revision 0.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn settings_get(&self, scope: &Scope) -> Result<Stored<PracticeSettings>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        load(&self.within(scope), &keys).await
    }

    /// Replaces the settings of a practice if their revision still is `expected`.
    ///
    /// # Errors
    /// Conflict when the stored revision differs; NotFound when there is no such practice.
    pub async fn settings_put(
        &self,
        scope: &Scope,
        value: PracticeSettings,
        expected: i64,
    ) -> Result<Stored<PracticeSettings>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                // The practice's row is there before its settings are, so that two first writers meet on it.
                practice::Entity::find_by_id(keys.practice()).lock_exclusive().one(&tx.db).await?;
                let known = practice_settings::Entity::find_by_id(keys.practice()).one(&tx.db).await?;
                let current = known.as_ref().map_or(0, |row| row.revision);
                if current != expected {
                    return Err(StoreError::Conflict { current });
                }
                let row = practice_settings::ActiveModel {
                    practice_id: Set(keys.practice().to_owned()),
                    body_ct: Set(keys.seal(BODY, keys.practice().as_bytes(), &to_body(&value))?),
                    update_time: Set(tx.now),
                    revision: Set(current + 1),
                };
                match known {
                    Some(_) => drop(row.update(&tx.db).await?),
                    None => drop(practice_settings::Entity::insert(row).exec_without_returning(&tx.db).await?),
                }
                tx.note(&scope, None, "settings");
                Ok(Stored { value, update_time: tx.now, revision: current + 1 })
            })
        })
        .await
    }
}

pub(super) async fn load(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
) -> Result<Stored<PracticeSettings>, StoreError> {
    opened(keys, practice_settings::Entity::find_by_id(keys.practice()).one(db).await?)
}

/// A practice and its settings, in one look.
pub(super) async fn home_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
) -> Result<(Practice, PracticeSettings), StoreError> {
    let (practice, settings, _) = home_and_wording_on(db, keys).await?;
    Ok((practice, settings))
}

/// As [`home_on`], with the revision of the practice's own wording.
pub(super) async fn home_and_wording_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
) -> Result<(Practice, PracticeSettings, i64), StoreError> {
    let settings: RelationDef = practice::Entity::belongs_to(practice_settings::Entity)
        .from(practice::Column::PracticeId)
        .to(practice_settings::Column::PracticeId)
        .into();
    let found = practice::Entity::find_by_id(keys.practice())
        .join(JoinType::LeftJoin, settings)
        .select_also(practice_settings::Entity)
        .one(db)
        .await?;
    let (home, settings) = found.ok_or(StoreError::NotFound("practice"))?;
    let wording = home.wording_revision;
    Ok((stored_practice(home)?.value, opened(keys, settings)?.value, wording))
}

fn opened(keys: &PracticeKeys, row: Option<practice_settings::Model>) -> Result<Stored<PracticeSettings>, StoreError> {
    match row {
        Some(row) => {
            let body: Body = keys.open(BODY, keys.practice().as_bytes(), &row.body_ct)?;
            Ok(Stored { value: from_body(body)?, update_time: row.update_time, revision: row.revision })
        }
        None => {
            Ok(Stored { value: PracticeSettings::default(), update_time: chrono::DateTime::UNIX_EPOCH, revision: 0 })
        }
    }
}

fn reveal(secret: Option<&SecretString>) -> Option<String> {
    secret.map(|secret| secret.expose_secret().to_owned())
}

fn numbers(channels: ChannelSet) -> Vec<i16> {
    channels.iter().map(Channel::number).collect()
}

fn to_body(settings: &PracticeSettings) -> Body {
    let sms = &settings.sms;
    let (from_number, messaging_service_sid) = match &sms.sender {
        Some(SmsSender::Number(number)) => (number.e164().to_owned(), String::new()),
        Some(SmsSender::MessagingService(sid)) => (String::new(), sid.clone()),
        None => Default::default(),
    };
    let email = &settings.email;
    let (smtp, sendgrid) = match &email.provider {
        Some(EmailProvider::Smtp(smtp)) => (Some(smtp_body(smtp)), None),
        Some(EmailProvider::SendGrid(sendgrid)) => {
            let body = SendGridBody {
                api_key: reveal(sendgrid.api_key.as_ref()),
                webhook_public_key: sendgrid
                    .webhook_key
                    .as_ref()
                    .map(|key| key.as_str().to_owned())
                    .unwrap_or_default(),
            };
            (None, Some(body))
        }
        None => (None, None),
    };
    let address = |address: Option<&EmailAddress>| address.map(|it| it.as_str().to_owned()).unwrap_or_default();
    Body {
        kinds: settings
            .kind_channels
            .iter()
            .map(|(kind, entry)| KindBody {
                kind: kind.number(),
                channels: numbers(entry.channels),
                offered: entry.offered.map(numbers),
            })
            .collect(),
        sms: SmsBody {
            account_sid: sms.account_sid.clone(),
            auth_token: reveal(sms.auth_token.as_ref()),
            secondary_auth_token: reveal(sms.secondary_auth_token.as_ref()),
            api_key_sid: sms.api_key_sid.clone(),
            api_key_secret: reveal(sms.api_key_secret.as_ref()),
            from_number,
            messaging_service_sid,
            prefix: sms.prefix.clone(),
        },
        email: EmailBody {
            smtp,
            sendgrid,
            from_address: address(email.from_address.as_ref()),
            from_name: email.from_name.clone(),
            reply_to: address(email.reply_to.as_ref()),
            phi_permitted: email.phi_permitted,
            dkim: dkim_body(&email.dkim),
            bounce_address: address(email.bounces.address.as_ref()),
            bounce_secret: reveal(email.bounces.secret.as_ref()),
        },
        push: settings.push.service_account.as_ref().map(|account| PushBody {
            project_id: account.project_id.clone(),
            client_email: account.client_email.clone(),
            private_key: account.private_key.expose_secret().to_owned(),
        }),
        quiet_hours: settings.quiet_hours.map(|hours| QuietBody {
            start: hours.start().num_seconds_from_midnight(),
            end: hours.end().num_seconds_from_midnight(),
        }),
        after_hours: after_hours_body(&settings.after_hours),
        opt_in: numbers(settings.opt_in_channels),
        link_hosts: settings.link_hosts.clone(),
        test_contacts: settings.test_contacts.iter().map(|contact| contact.as_str().to_owned()).collect(),
    }
}

fn quiet_hours(body: &QuietBody) -> Option<QuietHours> {
    let time = |seconds| NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0);
    QuietHours::new(time(body.start)?, time(body.end)?)
}

fn after_hours_body(after_hours: &AfterHours) -> AfterHoursBody {
    let spans = after_hours
        .hours
        .spans()
        .map(|span| (span.weekday(), span.start().num_seconds_from_midnight(), span.end().num_seconds_from_midnight()));
    AfterHoursBody { text: after_hours.text.clone(), spans: spans.collect() }
}

fn after_hours(body: AfterHoursBody) -> Option<AfterHours> {
    let time = |seconds| NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0);
    let span = |(weekday, start, end)| OpenSpan::new(weekday, time(start)?, time(end)?);
    let spans: Option<Vec<_>> = body.spans.into_iter().map(span).collect();
    Some(AfterHours { text: body.text, hours: OpeningHours::new(spans?)? })
}

fn dkim_body(dkim: &DkimSettings) -> DkimBody {
    let key = dkim.key.as_ref().map(|key| (key.pem.expose_secret().to_owned(), key.record.clone()));
    DkimBody { domain: dkim.domain.clone(), selector: dkim.selector.clone(), key }
}

fn dkim(body: DkimBody) -> DkimSettings {
    let key = body.key.map(|(pem, record)| DkimKey { pem: pem.into(), record });
    DkimSettings { domain: body.domain, selector: body.selector, key }
}

fn smtp_body(smtp: &SmtpSettings) -> SmtpBody {
    SmtpBody {
        host: smtp.host.clone(),
        port: smtp.port,
        tls: smtp.security.map(|security| security == SmtpSecurity::Tls),
        username: smtp.username.clone(),
        password: reveal(smtp.password.as_ref()),
    }
}

fn from_body(body: Body) -> Result<PracticeSettings, StoreError> {
    let corrupt = || StoreError::Corrupt("practice_settings");
    let channels = |numbers: Vec<i16>| -> Result<ChannelSet, StoreError> {
        numbers.into_iter().map(|number| Channel::from_number(number).ok_or_else(corrupt)).collect()
    };
    let mut kind_channels = BTreeMap::new();
    for entry in body.kinds {
        let kind = Kind::from_number(entry.kind).ok_or_else(corrupt)?;
        let offered = entry.offered.map(channels).transpose()?;
        kind_channels.insert(kind, KindChannels { channels: channels(entry.channels)?, offered });
    }
    let SmsBody { from_number, messaging_service_sid, .. } = &body.sms;
    let sender = if !from_number.is_empty() {
        Some(SmsSender::Number(PhoneNumber::from_trusted(from_number.clone())))
    } else if !messaging_service_sid.is_empty() {
        Some(SmsSender::MessagingService(messaging_service_sid.clone()))
    } else {
        None
    };
    let address = |text: String| (!text.is_empty()).then(|| EmailAddress::from_trusted(text));
    let provider = match (body.email.smtp, body.email.sendgrid) {
        (Some(smtp), _) => Some(EmailProvider::Smtp(SmtpSettings {
            host: smtp.host,
            port: smtp.port,
            security: smtp.tls.map(|tls| if tls { SmtpSecurity::Tls } else { SmtpSecurity::StartTls }),
            username: smtp.username,
            password: smtp.password.map(SecretString::from),
        })),
        (None, Some(sendgrid)) => Some(EmailProvider::SendGrid(SendGridSettings {
            api_key: sendgrid.api_key.map(SecretString::from),
            // One that was entered before such keys were looked at may be none: it has to be entered again.
            webhook_key: WebhookKey::parse(&sendgrid.webhook_public_key).ok(),
        })),
        (None, None) => None,
    };
    Ok(PracticeSettings {
        kind_channels,
        sms: SmsSettings {
            account_sid: body.sms.account_sid,
            auth_token: body.sms.auth_token.map(SecretString::from),
            secondary_auth_token: body.sms.secondary_auth_token.map(SecretString::from),
            api_key_sid: body.sms.api_key_sid,
            api_key_secret: body.sms.api_key_secret.map(SecretString::from),
            sender,
            prefix: body.sms.prefix,
        },
        email: EmailSettings {
            provider,
            from_address: address(body.email.from_address),
            from_name: body.email.from_name,
            reply_to: address(body.email.reply_to),
            phi_permitted: body.email.phi_permitted,
            dkim: dkim(body.email.dkim),
            bounces: BounceSettings {
                address: address(body.email.bounce_address),
                secret: body.email.bounce_secret.map(SecretString::from),
            },
        },
        push: PushSettings {
            service_account: body.push.map(|account| ServiceAccount {
                project_id: account.project_id,
                client_email: account.client_email,
                private_key: account.private_key.into(),
            }),
        },
        quiet_hours: body.quiet_hours.map(|hours| quiet_hours(&hours).ok_or_else(corrupt)).transpose()?,
        after_hours: after_hours(body.after_hours).ok_or_else(corrupt)?,
        opt_in_channels: channels(body.opt_in)?,
        link_hosts: body.link_hosts,
        test_contacts: body.test_contacts.into_iter().map(TestContact::from_trusted).collect(),
    })
}
