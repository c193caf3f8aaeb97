//! Changes to the settings of a practice: what each path of an update mask means. An unknown path is refused, since
//! passing over it would look like success.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveTime;

use super::fields::{self, EMAIL, PUSH, SENDGRID, SMS, SMTP};
use crate::{
    domain::{
        Channel, ChannelSet, EmailProvider, EmailSettings, Kind, KindChannels, OpenSpan, OpeningHours,
        PracticeSettings, QuietHours, SmtpSettings, TestContact, template::is_blank,
    },
    grpc::{
        convert::{check::Check, revision},
        proto::{self, email_settings::Provider},
    },
    service::Error,
};

/// Most paths in a mask; there are about forty.
const MOST_PATHS: usize = 100;
/// Most contacts that tests may go to.
const MOST_CONTACTS: usize = 10;
/// Most spans in which a practice is open: ten on each day.
const MOST_SPANS: usize = 70;
/// The longest automatic reply, in characters.
const LONGEST_REPLY: usize = 320;

pub(super) const OUTPUT_ONLY: &str = "is output only";
pub(super) const UNKNOWN: &str = "names no setting";
const WHOLE: &str = "names a part of a setting that is set as a whole";

/// A change, good in itself: what it makes of settings depends on them only where secrets are kept.
pub(crate) struct Update {
    settings: proto::PracticeSettings,
    paths: Vec<String>,
    any_relay_port: bool,
}

impl Update {
    /// Reads a change, and tries it on empty settings, so that its faults come up before anything is loaded. `any_relay_port`:
    /// a relay may be at other ports than [`SmtpSettings::PORTS`].
    pub(crate) fn read(request: proto::UpdatePracticeSettingsRequest, any_relay_port: bool) -> Result<Self, Error> {
        let mut check = Check::default();
        let paths = request.update_mask.unwrap_or_default().paths;
        check.count("update_mask", paths.len(), 1..=MOST_PATHS);
        let settings = check.required("settings", request.settings, |_, settings| Some(settings));
        let update = Self { settings: check.finish(settings)?, paths, any_relay_port };
        update.apply(PracticeSettings::default())?;
        Ok(update)
    }

    /// The revision that the settings must have; unset: any.
    pub(crate) fn revision(&self) -> Option<i64> {
        revision(&self.settings.etag)
    }

    /// What becomes of `settings`.
    pub(crate) fn apply(&self, mut settings: PracticeSettings) -> Result<PracticeSettings, Error> {
        let mut check = Check::default();
        let signed_by = settings.email.dkim.clone();
        let relayed_at = relay_port(&settings.email);
        for (place, path) in self.paths.iter().enumerate() {
            let done = check.at("settings", |check| apply(check, path, &self.settings, &mut settings));
            if let Err(fault) = done {
                // The path itself is the caller's text, so that it is told by its place.
                check.expect("update_mask", false, format!("path {} {fault}", place + 1));
            }
        }
        let email = &settings.email;
        if email.from_address.as_ref().is_some_and(|from| !email.dkim.speaks_for(from)) {
            let fault = "must be the domain of from_address or one above it";
            check.at("settings.email", |check| check.expect("dkim_domain", false, fault));
        }
        if email.dkim.reuses_the_name_of(&signed_by) {
            let fault = "must be another one for another key: mail that the old key signed would look forged";
            check.at("settings.email", |check| check.expect("dkim_selector", false, fault));
        }
        // One that was stored before it was limited keeps no other setting from being changed; it is not connected to.
        let port = relay_port(email).filter(|_| !self.any_relay_port);
        if port.is_some_and(|port| Some(port) != relayed_at && !SmtpSettings::PORTS.contains(&port)) {
            check.at("settings.email.smtp", |check| check.expect("port", false, "must be 465, 587 or 2525"));
        }
        check.finish(Some(settings))
    }
}

/// Where the relay is said to be; unset: nowhere yet.
fn relay_port(email: &EmailSettings) -> Option<u16> {
    match &email.provider {
        Some(EmailProvider::Smtp(smtp)) => Some(smtp.port).filter(|port| *port != 0),
        _ => None,
    }
}

fn apply(
    check: &mut Check,
    path: &str,
    new: &proto::PracticeSettings,
    settings: &mut PracticeSettings,
) -> Result<(), &'static str> {
    // A message that is not there is one with nothing set.
    let (no_sms, no_email) = (proto::SmsSettings::default(), proto::EmailSettings::default());
    let (no_smtp, no_sendgrid) = (proto::SmtpSettings::default(), proto::SendGridSettings::default());
    let (new_sms, new_email) = (new.sms.as_ref().unwrap_or(&no_sms), new.email.as_ref().unwrap_or(&no_email));
    let (new_smtp, new_sendgrid) = match &new_email.provider {
        Some(Provider::Smtp(smtp)) => (smtp, &no_sendgrid),
        Some(Provider::Sendgrid(sendgrid)) => (&no_smtp, sendgrid),
        None => (&no_smtp, &no_sendgrid),
    };
    let no_push = proto::PushSettings::default();
    let new_push = new.push.as_ref().unwrap_or(&no_push);
    let no_reply = proto::AfterHoursReply::default();
    let new_reply = new.after_hours_reply.as_ref().unwrap_or(&no_reply);
    let PracticeSettings { sms, email, push, after_hours, .. } = settings;
    let parts: Vec<&str> = path.split('.').collect();
    match parts.as_slice() {
        ["kind_channels"] => settings.kind_channels = kind_channels(check, &new.kind_channels),
        ["link_hosts"] => settings.link_hosts = link_hosts(check, &new.link_hosts),
        ["test_contacts"] => settings.test_contacts = test_contacts(check, &new.test_contacts),
        ["sms"] => check.at("sms", |check| fields::replace(SMS, check, new_sms, sms)),
        ["sms", field] => check.at("sms", |check| fields::set(SMS, field, check, new_sms, sms))?,
        ["email"] => check.at("email", |check| fields::replace(EMAIL, check, new_email, email)),
        ["email", field] => check.at("email", |check| fields::set(EMAIL, field, check, new_email, email))?,
        ["email", "smtp", field] => check.at("email.smtp", |check| {
            fields::with_smtp(email, |smtp| fields::set(SMTP, field, check, new_smtp, smtp))
        })?,
        ["email", "sendgrid", field] => check.at("email.sendgrid", |check| {
            fields::with_sendgrid(email, |stored| fields::set(SENDGRID, field, check, new_sendgrid, stored))
        })?,
        ["push"] => check.at("push", |check| fields::replace(PUSH, check, new_push, push)),
        ["push", field] => check.at("push", |check| fields::set(PUSH, field, check, new_push, push))?,
        ["quiet_hours"] => settings.quiet_hours = check.optional("quiet_hours", new.quiet_hours, quiet_hours),
        ["opt_in_channels"] => settings.opt_in_channels = channel_set(check, path, &new.opt_in_channels),
        ["after_hours_reply"] => check.at(path, |check| {
            after_hours.text = reply_text(check, new_reply);
            after_hours.hours = open_spans(check, &new_reply.open_spans);
        }),
        ["after_hours_reply", "text"] => {
            after_hours.text = check.at("after_hours_reply", |check| reply_text(check, new_reply));
        }
        ["after_hours_reply", "open_spans"] => {
            after_hours.hours = check.at("after_hours_reply", |check| open_spans(check, &new_reply.open_spans));
        }
        ["quiet_hours", "start" | "end", ..] => return Err(WHOLE),
        ["channel_statuses" | "content_retention" | "update_time" | "etag", ..] => return Err(OUTPUT_ONLY),
        _ => return Err(UNKNOWN),
    }
    Ok(())
}

fn kind_channels(check: &mut Check, entries: &[proto::KindChannels]) -> BTreeMap<Kind, KindChannels> {
    check.count("kind_channels", entries.len(), 0..=Kind::ALL.len());
    let mut kinds = BTreeMap::new();
    check.each("kind_channels", entries.iter().take(Kind::ALL.len()), |check, entry| {
        let kind = check.choice("kind", entry.kind, Kind::from_number);
        let channels = channel_set(check, "channels", &entry.channels);
        let offered = channel_set(check, "offered_channels", &entry.offered_channels);
        let own = kind != Some(Kind::Announcement) || channels.is_empty();
        check.expect("channels", own, "must be empty: each broadcast names its own");
        let within = offered.is_empty() || offered.includes(channels);
        check.expect("offered_channels", within, "must be empty or hold all of channels");
        let offered = Some(offered).filter(|offered| !offered.is_empty());
        let twice = kind.is_some_and(|kind| kinds.insert(kind, KindChannels { channels, offered }).is_some());
        check.expect("kind", !twice, "is there twice");
    });
    kinds
}

fn channel_set(check: &mut Check, field: &str, numbers: &[i32]) -> ChannelSet {
    check.choices(field, numbers.to_vec(), Channel::from_number).into_iter().collect()
}

fn quiet_hours(check: &mut Check, hours: proto::QuietHours) -> Option<QuietHours> {
    let start = check.required("start", hours.start, time_of_day);
    let end = check.required("end", hours.end, time_of_day);
    let hours = QuietHours::new(start?, end?);
    check.expect("end", hours.is_some(), "must differ from start: nothing would ever go");
    hours
}

fn time_of_day(check: &mut Check, time: proto::TimeOfDay) -> Option<NaiveTime> {
    let hours = check.number("hours", time.hours, 0..=23);
    let minutes = check.number("minutes", time.minutes, 0..=59);
    NaiveTime::from_hms_opt(u32::try_from(hours).ok()?, u32::try_from(minutes).ok()?, 0)
}

fn reply_text(check: &mut Check, reply: &proto::AfterHoursReply) -> String {
    let text = check.lines("text", reply.text.clone(), LONGEST_REPLY);
    check.expect("text", text.is_empty() || !is_blank(&text), "must be empty or say something");
    text
}

/// Spans that overlap, or end before they begin, would be a slip: nobody is open twice at a time.
fn open_spans(check: &mut Check, spans: &[proto::after_hours_reply::OpenSpan]) -> OpeningHours {
    check.count("open_spans", spans.len(), 0..=MOST_SPANS);
    let mut known = Vec::<OpenSpan>::new();
    check.each("open_spans", spans.iter().take(MOST_SPANS), |check, span| {
        let weekday =
            u8::try_from(check.number("weekday", span.weekday, 1..=7)).ok().filter(|day| (1..=7).contains(day));
        let start = check.required("start", span.start, time_of_day);
        let end = check.required("end", span.end, time_of_day);
        let (Some(start), Some(end)) = (start, end) else { return };
        // Of one that is on no day of the week, the times are looked at all the same.
        let span = OpenSpan::new(weekday.unwrap_or(1), start, end);
        check.expect("end", span.is_some(), "must be after start; 00:00 is the end of the day");
        let (Some(_), Some(span)) = (weekday, span) else { return };
        if known.iter().any(|other| other.overlaps(span)) {
            check.fail::<()>("overlaps another span of that day");
        } else {
            known.push(span);
        }
    });
    OpeningHours::new(known).unwrap_or_default()
}

fn link_hosts(check: &mut Check, hosts: &[String]) -> BTreeSet<String> {
    check.count("link_hosts", hosts.len(), 0..=50);
    let hosts = hosts.iter().take(50).enumerate();
    hosts.filter_map(|(place, text)| check.parsed(&format!("link_hosts[{place}]"), text, fields::host)).collect()
}

/// Addresses of staff: a list that names one twice, in whatever letters, is a mistake.
fn test_contacts(check: &mut Check, contacts: &[String]) -> BTreeSet<TestContact> {
    check.count("test_contacts", contacts.len(), 0..=MOST_CONTACTS);
    let mut known = BTreeSet::<TestContact>::new();
    for (place, text) in contacts.iter().take(MOST_CONTACTS).enumerate() {
        let field = format!("test_contacts[{place}]");
        let contact = check.parsed(&field, text, |text| {
            TestContact::parse(text).map_err(|_| "must be an email address, or a phone number in E.164")
        });
        let Some(contact) = contact else { continue };
        check.expect(&field, !known.iter().any(|other| other.is(&contact)), "is there twice");
        known.insert(contact);
    }
    known
}
