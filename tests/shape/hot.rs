//! What is done for every notification and needs nobody else, on fixed inputs.

use std::{collections::BTreeMap, hint::black_box};

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    crypto::{DataKey, Place, seal},
    domain::{
        Channel, Choices, Content, EmailAddress, EmailProvider, EmailSettings, Gates, Grounds, Kind, Locale,
        PhoneNumber, Practice, PracticeSettings, SmsSender, SmsSettings, SmtpSecurity, SmtpSettings, Textability,
        template::{self, Invented, OwnWording, Purpose, Rendering, TemplateRef},
    },
    grpc::proto::{NotificationInput, SendNotificationRequest, SystemDetails, notification_input::Payload},
    providers::twilio::callback::{Callback, parse_status},
};
use prost::Message;
use ring::hmac;

/// A request is decoded, a report of Twilio's is taken, a text is sealed.
pub(crate) const BYTES: [&str; 3] = ["decode", "report", "seal"];
/// It is decided on four channels, and a mail and a text are rendered.
pub(crate) const RULES: [&str; 2] = ["decide", "render"];
/// It is looked up whether a number may be texted. The numbering plans of the world take callgrind the better part of a minute, so
/// that no instructions are counted here.
pub(crate) const NUMBERS: [&str; 1] = ["textable"];

const URL: &str = "https://reach.example.com/webhooks/twilio/practice-0/status/AAAAAAAAAAAAAAAAAAAAAA";
const FORM: &str = "application/x-www-form-urlencoded";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// In the order of their names, as they are signed.
const REPORT: [(&str, &str); 9] = [
    ("AccountSid", "AC00000000000000000000000000000001"),
    ("ApiVersion", "2010-04-01"),
    ("From", "+12025550199"),
    ("MessageSid", "SM00000000000000000000000000000001"),
    ("MessageStatus", "delivered"),
    ("RawDlrDoneDate", "2611300703"),
    ("SmsSid", "SM00000000000000000000000000000001"),
    ("SmsStatus", "delivered"),
    ("To", "+12025550142"),
];

/// As long as a mail of ours.
const TEXT: [u8; 4_096] = [b'x'; 4_096];

/// What walks paths.
pub(crate) trait Hot {
    /// Walks one of them, and says which inputs it shall take.
    fn once(&self, path: &str, number: usize);

    fn walk(&self, path: &str, times: usize) {
        (0..times).for_each(|number| self.once(path, number));
    }
}

/// Whoever walks that path, once it is ready.
pub(crate) fn ready_for(path: &str) -> Box<dyn Hot> {
    match path {
        _ if BYTES.contains(&path) => Box::new(Bytes::new()),
        _ if NUMBERS.contains(&path) => Box::new(Number(PhoneNumber::parse("+12025550142", "US").unwrap())),
        _ => Box::new(Rules::new()),
    }
}

struct Bytes {
    request: Vec<u8>,
    report: Vec<u8>,
    signature: String,
    key: DataKey,
}

struct Number(PhoneNumber);

impl Hot for Number {
    fn once(&self, _: &str, _: usize) {
        assert_eq!(black_box(&self.0).may_be_texted(&["US", "CA"]), Textability::Allowed);
    }
}

struct Rules {
    mails: Vec<Invented>,
    texts: Vec<Invented>,
    practice: Practice,
    settings: PracticeSettings,
    choices: Choices,
    gates: BTreeMap<Channel, Gates>,
    regions: Vec<String>,
    own: OwnWording,
    now: DateTime<Utc>,
}

impl Bytes {
    fn new() -> Self {
        let notice =
            SystemDetails { title: "New sign-in".into(), body: "Someone signed in.".into(), ..Default::default() };
        let notification = NotificationInput {
            patient_id: "patient-7".into(),
            payload: Some(Payload::System(notice)),
            reference: "reference-7".into(),
            ..Default::default()
        };
        let request = SendNotificationRequest {
            practice_id: "practice-0".into(),
            request_id: "0193a8f0c0de7000800000000000beef".into(),
            notification: Some(notification),
        };
        let report = form_urlencoded(&REPORT);
        let signed = REPORT.iter().flat_map(|(name, value)| [*name, *value]).fold(URL.to_owned(), |all, it| all + it);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
        Self {
            request: request.encode_to_vec(),
            report,
            signature: STANDARD.encode(hmac::sign(&key, signed.as_bytes())),
            key: DataKey::generate(),
        }
    }

    fn take_report(&self) {
        let callback = Callback {
            url: URL,
            content_type: Some(FORM),
            body: black_box(&self.report),
            signature: Some(&self.signature),
            shared_key: false,
        };
        assert!(callback.verify(&[TOKEN.into()]));
        assert!(black_box(parse_status(&self.report)).is_ok());
    }

    fn sealed(&self) -> Vec<u8> {
        let place = Place { table: "content", column: "body_ct", practice: "practice-0", row: &[7; 16] };
        seal(&self.key, &place, black_box(&TEXT))
    }
}

impl Hot for Bytes {
    fn once(&self, path: &str, _: usize) {
        match path {
            "decode" => drop(black_box(SendNotificationRequest::decode(black_box(&self.request[..])).unwrap())),
            "report" => self.take_report(),
            "seal" => drop(black_box(self.sealed())),
            other => panic!("{other}"),
        }
    }
}

impl Rules {
    fn new() -> Self {
        Self {
            mails: invented(Channel::Email),
            texts: invented(Channel::Sms),
            practice: practice(),
            settings: settings(),
            choices: Choices::default(),
            gates: Channel::ALL.into_iter().map(|channel| (channel, Gates::default())).collect(),
            regions: vec!["US".into(), "CA".into()],
            own: OwnWording::NONE,
            now: DateTime::from_timestamp(1_772_463_600, 0).unwrap(),
        }
    }

    fn decide(&self, number: usize) {
        let grounds = Grounds {
            patient: &self.texts[number % self.texts.len()].patient,
            choices: &self.choices,
            practice_zone: self.practice.time_zone,
            settings: &self.settings,
            has_device: false,
            kind: Some(Kind::AppointmentReminder),
            requested: Some(Channel::ALL.into_iter().collect()),
            urgent: false,
            test: false,
            gates: &self.gates,
            duplicates: Default::default(),
            sms_regions: &self.regions,
            not_before: self.now,
            expires_at: self.now + TimeDelta::hours(12),
            now: self.now,
        };
        for channel in Channel::ALL {
            black_box(grounds.decide(channel));
        }
    }

    fn render(&self, channel: Channel, number: usize) -> Content {
        let all = if channel == Channel::Email { &self.mails } else { &self.texts };
        let of = &all[number % all.len()];
        let ask = Rendering {
            channel,
            payload: &of.payload,
            custom_content: Some(&of.custom_content),
            practice: &self.practice,
            patient: &of.patient,
            own: &self.own,
            sms_prefix: "Acme Primary Care: ",
            phi_permitted: true,
            link: Some("https://reach.example.com/l/AAAAAAAAAAAAAAAAAAAAAA"),
            unsubscribe: Some("https://reach.example.com/u/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            test: false,
        };
        template::render(&ask).unwrap()
    }
}

impl Hot for Rules {
    fn once(&self, path: &str, number: usize) {
        match path {
            "decide" => self.decide(number),
            "render" => {
                black_box(self.render(Channel::Email, number));
                black_box(self.render(Channel::Sms, number));
            }
            other => panic!("{other}"),
        }
    }
}

fn form_urlencoded(fields: &[(&str, &str)]) -> Vec<u8> {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into_bytes()
}

/// Something to say of each kind that there is wording of ours for.
fn invented(channel: Channel) -> Vec<Invented> {
    let kinds = Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Announcement | Kind::Custom));
    let at = |kind| TemplateRef { purpose: Purpose::Kind(kind), channel, locale: Locale::new("en-US") };
    kinds.map(|kind| Invented::new(&at(kind), BTreeMap::new()).unwrap()).collect()
}

fn practice() -> Practice {
    Practice {
        legal_name: "Acme Primary Care, PLLC".into(),
        display_name: "Acme Primary Care".into(),
        phone: None,
        time_zone: "America/New_York".parse().unwrap(),
        locale: "en-US".into(),
        portal_url: Some("https://portal.example.com/".into()),
        postal_address: "500 Elm Street".into(),
    }
}

/// Of a practice that can text and send mail.
fn settings() -> PracticeSettings {
    PracticeSettings {
        sms: SmsSettings {
            account_sid: "AC00000000000000000000000000000001".into(),
            auth_token: Some("twilio-auth-token".to_owned().into()),
            sender: Some(SmsSender::MessagingService("MG00000000000000000000000000000001".into())),
            ..SmsSettings::default()
        },
        email: EmailSettings {
            provider: Some(EmailProvider::Smtp(SmtpSettings {
                host: "relay.example.com".into(),
                port: 587,
                security: Some(SmtpSecurity::StartTls),
                ..SmtpSettings::default()
            })),
            from_address: Some(EmailAddress::parse("hello@acme.example.com").unwrap()),
            ..EmailSettings::default()
        },
        ..PracticeSettings::default()
    }
}
