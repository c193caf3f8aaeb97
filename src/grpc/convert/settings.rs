//! Settings of a practice as they are read. A secret is never shown, only whether it is set.

mod fields;
mod update;

use chrono::{NaiveTime, Timelike};
use secrecy::{ExposeSecret, SecretString};

pub(crate) use self::update::Update;
use super::{etag, timestamp};
use crate::{
    domain::{
        AfterHours, Channel, ChannelSet, EmailAddress, EmailProvider, EmailSettings, Finding, Kind, KindChannels,
        OpenSpan, PracticeSettings, QuietHours, SmsSender, SmsSettings, SmtpSecurity, SmtpSettings,
    },
    grpc::proto::{self, channel_status::State, email_settings::Provider, sms_settings::Sender},
    service::preferences::{ChannelStatus, SettingsView, SetupState},
};

/// Settings with their setup check. Every kind is there, with its default where nothing was set.
pub(crate) fn shown(view: SettingsView) -> proto::PracticeSettings {
    let settings = &view.settings.value;
    let PracticeSettings { sms, email, push, quiet_hours, after_hours, opt_in_channels, link_hosts, .. } = settings;
    let kind_channels = Kind::ALL.map(|kind| shown_kind(kind, settings.kind(kind)));
    proto::PracticeSettings {
        kind_channels: kind_channels.into(),
        sms: Some(shown_sms(sms, view.inbound_webhook_url)),
        email: Some(shown_email(email, view.event_webhook_url, view.bounce_webhook_url)),
        push: Some(proto::PushSettings {
            fcm_service_account_set: push.service_account.is_some(),
            ..Default::default()
        }),
        quiet_hours: quiet_hours.map(shown_hours),
        after_hours_reply: (*after_hours != AfterHours::default()).then(|| shown_reply(after_hours)),
        opt_in_channels: numbers(*opt_in_channels),
        link_hosts: link_hosts.iter().cloned().collect(),
        test_contacts: settings.test_contacts.iter().map(|contact| contact.as_str().to_owned()).collect(),
        channel_statuses: view.statuses.into_iter().map(shown_status).collect(),
        content_retention: view
            .content_retention
            .map(|kept| prost_types::Duration { seconds: kept.num_seconds(), nanos: 0 }),
        update_time: Some(timestamp(view.settings.update_time)),
        etag: etag(view.settings.revision),
    }
}

fn shown_kind(kind: Kind, channels: KindChannels) -> proto::KindChannels {
    proto::KindChannels {
        kind: kind.number().into(),
        channels: numbers(channels.channels),
        offered_channels: channels.offered.map(numbers).unwrap_or_default(),
    }
}

fn shown_hours(hours: QuietHours) -> proto::QuietHours {
    proto::QuietHours { start: Some(shown_time(hours.start())), end: Some(shown_time(hours.end())) }
}

fn shown_reply(after_hours: &AfterHours) -> proto::AfterHoursReply {
    let span = |span: OpenSpan| proto::after_hours_reply::OpenSpan {
        weekday: span.weekday().into(),
        start: Some(shown_time(span.start())),
        end: Some(shown_time(span.end())),
    };
    let open_spans = after_hours.hours.spans().map(span).collect();
    proto::AfterHoursReply { text: after_hours.text.clone(), open_spans }
}

fn shown_time(time: NaiveTime) -> proto::TimeOfDay {
    proto::TimeOfDay { hours: time.hour().cast_signed(), minutes: time.minute().cast_signed() }
}

pub(super) fn numbers(channels: ChannelSet) -> Vec<i32> {
    channels.iter().map(Channel::number).map(i32::from).collect()
}

fn shown_sms(sms: &SmsSettings, inbound_webhook_url: String) -> proto::SmsSettings {
    proto::SmsSettings {
        account_sid: sms.account_sid.clone(),
        auth_token_set: is_set(sms.auth_token.as_ref()),
        secondary_auth_token_set: is_set(sms.secondary_auth_token.as_ref()),
        api_key_sid: sms.api_key_sid.clone(),
        api_key_secret_set: is_set(sms.api_key_secret.as_ref()),
        prefix: sms.prefix.clone(),
        inbound_webhook_url,
        sender: sms.sender.as_ref().map(|sender| match sender {
            SmsSender::Number(number) => Sender::FromNumber(number.e164().to_owned()),
            SmsSender::MessagingService(sid) => Sender::MessagingServiceSid(sid.clone()),
        }),
        ..Default::default()
    }
}

fn shown_email(email: &EmailSettings, event_webhook_url: String, bounce_webhook_url: String) -> proto::EmailSettings {
    let address = |address: Option<&EmailAddress>| address.map(EmailAddress::as_str).unwrap_or_default().to_owned();
    proto::EmailSettings {
        from_address: address(email.from_address.as_ref()),
        from_name: email.from_name.clone(),
        reply_to_address: address(email.reply_to.as_ref()),
        // Left unset if it is not set: whoever sent a default back would attest what nobody attested.
        phi_permitted: email.phi_permitted,
        provider: email.provider.as_ref().map(|provider| match provider {
            EmailProvider::Smtp(smtp) => Provider::Smtp(shown_smtp(smtp)),
            EmailProvider::SendGrid(sendgrid) => Provider::Sendgrid(proto::SendGridSettings {
                api_key_set: is_set(sendgrid.api_key.as_ref()),
                webhook_public_key: sendgrid
                    .webhook_key
                    .as_ref()
                    .map(|key| key.as_str().to_owned())
                    .unwrap_or_default(),
                event_webhook_url,
                ..Default::default()
            }),
        }),
        dkim_domain: email.dkim.domain.clone(),
        dkim_selector: email.dkim.selector.clone(),
        dkim_key_set: email.dkim.key.is_some(),
        dkim_record_name: email.dkim.key.as_ref().and_then(|_| email.dkim.record_name()).unwrap_or_default(),
        dkim_record: email.dkim.key.as_ref().map(|key| key.record.clone()).unwrap_or_default(),
        bounce_address: address(email.bounces.address.as_ref()),
        bounce_secret_set: is_set(email.bounces.secret.as_ref()),
        bounce_webhook_url,
        ..Default::default()
    }
}

fn shown_smtp(smtp: &SmtpSettings) -> proto::SmtpSettings {
    proto::SmtpSettings {
        host: smtp.host.clone(),
        port: smtp.port.into(),
        security: match smtp.security {
            None => 0,
            Some(SmtpSecurity::StartTls) => proto::smtp_settings::Security::Starttls as i32,
            Some(SmtpSecurity::Tls) => proto::smtp_settings::Security::Tls as i32,
        },
        username: smtp.username.clone(),
        password_set: is_set(smtp.password.as_ref()),
        ..Default::default()
    }
}

fn is_set(secret: Option<&SecretString>) -> bool {
    secret.is_some_and(|secret| !secret.expose_secret().is_empty())
}

fn shown_status(status: ChannelStatus) -> proto::ChannelStatus {
    let state = match status.state {
        SetupState::NotSetUp => State::NotSetUp,
        SetupState::Failing => State::Failing,
        SetupState::Ready => State::Ready,
    };
    proto::ChannelStatus {
        channel: status.channel.number().into(),
        state: state as i32,
        findings: status.findings.into_iter().map(shown_finding).collect(),
        last_success_time: status.last_success_time.map(timestamp),
    }
}

fn shown_finding(finding: Finding) -> proto::SetupFinding {
    proto::SetupFinding { field: finding.field.to_owned(), message: finding.message, blocking: finding.blocking }
}

#[cfg(test)]
mod tests;
