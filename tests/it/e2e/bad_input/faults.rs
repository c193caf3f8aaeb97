//! Requests of which one thing is wrong, beside the path of the field that it is wrong in.

use chrono::TimeDelta;
use heedwell::grpc::proto::{
    AppointmentDetails, CustomDetails, DeliveryFilter, DocumentDetails, EmailSettings, KindChannels,
    MessageReceivedDetails, Money, NotificationInput, Patient, PaymentDetails, Practice, PracticeSettings, SecureLink,
    SendNotificationRequest, SmsSettings, SmtpSettings, SystemDetails, email_settings,
    notification_input::Payload,
    sms_settings::Sender::{FromNumber, MessagingServiceSid},
};
use prost_types::{Duration, Timestamp};

use crate::{
    e2e::given::{documents, home, link, notice, patient, payment, visit},
    support::app::TestApp,
};

/// In every bad value; it must not come back.
pub(super) const CANARY: &str = "canary";

pub(super) fn long(length: usize) -> String {
    format!("{CANARY}{}", "x".repeat(length - CANARY.len()))
}

/// A time that is none.
pub(super) fn no_time() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1, nanos: -1 })
}

pub(super) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// What to do to a good request, and the fields that are wrong then.
pub(super) type Fault<R> = (&'static str, Box<dyn Fn(&TestApp, &mut R) + Send + Sync>);

fn fault<R>(field: &'static str, spoil: impl Fn(&TestApp, &mut R) + Send + Sync + 'static) -> Fault<R> {
    (field, Box::new(spoil))
}

pub(super) fn control(text: &str) -> String {
    format!("{CANARY}{text}")
}

/// Faults around the payload.
pub(super) fn order_faults() -> Vec<Fault<SendNotificationRequest>> {
    type Request = SendNotificationRequest;
    let input = |field: &'static str, spoil: fn(&TestApp, &mut NotificationInput)| {
        fault(field, move |t, request: &mut Request| spoil(t, request.notification.as_mut().unwrap()))
    };
    vec![
        fault("request_id", |_, request: &mut Request| request.request_id.clear()),
        fault("request_id", |_, request: &mut Request| request.request_id = long(65)),
        fault("request_id", |_, request: &mut Request| request.request_id = control("\n")),
        fault("request_id", |_, request: &mut Request| request.request_id = control("é")),
        fault("notification", |_, request: &mut Request| request.notification = None),
        input("notification.patient_id", |_, input| input.patient_id.clear()),
        input("notification.patient_id", |_, input| input.patient_id = control(" ")),
        input("notification.patient_id", |_, input| input.patient_id = long(129)),
        input("notification.payload", |_, input| input.payload = None),
        input("notification.custom_content", |_, input| input.custom_content = long(1_001)),
        input("notification.custom_content", |_, input| input.custom_content = control("\u{7}")),
        input("notification.channels[0]", |_, input| input.channels = vec![0]),
        input("notification.channels[1]", |_, input| input.channels = vec![1, 99]),
        input("notification.schedule_time", |_, input| input.schedule_time = no_time()),
        input("notification.schedule_time", |t, input| input.schedule_time = Some(t.after(TimeDelta::days(401)))),
        input("notification.expire_time", |_, input| input.expire_time = no_time()),
        input("notification.expire_time", |t, input| input.expire_time = Some(t.after(TimeDelta::seconds(-1)))),
        input("notification.expire_time", |t, input| {
            input.schedule_time = Some(t.after(TimeDelta::hours(2)));
            input.expire_time = Some(t.after(TimeDelta::hours(1)));
        }),
        input("notification.reference", |_, input| input.reference = long(129)),
        input("notification.reference", |_, input| input.reference = control("\r\n")),
        input("notification.priority", |_, input| input.priority = 3),
    ]
}

/// Payloads with one fault each, under the path of the payload's arm.
#[expect(clippy::too_many_lines, reason = "a table reads better whole")]
pub(super) fn payload_faults(t: &TestApp) -> Vec<(&'static str, Payload)> {
    let mut faults = Vec::new();
    let visits = [
        ("start_time", AppointmentDetails { start_time: None, ..visit(t) }),
        ("start_time", AppointmentDetails { start_time: no_time(), ..visit(t) }),
        ("duration", AppointmentDetails { duration: seconds(-1), ..visit(t) }),
        ("time_zone", AppointmentDetails { time_zone: "Mars/Canary".into(), ..visit(t) }),
        ("provider_name", AppointmentDetails { provider_name: control("\r\nBcc: x@example.com"), ..visit(t) }),
        ("location_name", AppointmentDetails { location_name: control("\0"), ..visit(t) }),
        ("location_address", AppointmentDetails { location_address: control("\n"), ..visit(t) }),
        ("link.target_url", AppointmentDetails { link: Some(SecureLink::default()), ..visit(t) }),
    ];
    faults.extend(visits.map(|(field, visit)| (field, Payload::AppointmentReminder(visit))));
    let targets = [
        "http://portal.acme.example/canary",
        "https://canary.example.com/",
        "https://portal.acme.example.canary.com/",
        "https://canary@portal.acme.example/",
        "javascript:canary",
        "portal.acme.example/canary",
        "https://portal.acme.example/canary\n",
        "https://portal.acme.example:8443/canary",
        "https://canary:word@portal.acme.example/",
        "https://portal.acme.example@canary.example.com/",
        "https://portal.acme.example:443@canary.example.com/",
        "https://canary.example.com\\@portal.acme.example/",
        "https://canary.example.com#@portal.acme.example/",
        "https://canary.example.com?portal.acme.example",
        "https://portal.acme.example./canary",
        "https://portal.acme.example%2ecanary.com/",
        "https://p\u{43e}rtal.acme.example/canary",
        "https://portal\u{3002}acme\u{3002}example.canary.com/",
        "//portal.acme.example/canary",
        "https:/\t/portal.acme.example/canary",
        "https://[::1]/canary",
        "https://2130706433/canary",
        "data:text/html,canary",
    ];
    let too_long = format!("https://portal.acme.example/{}", long(2_000));
    for target_url in targets.map(str::to_owned).into_iter().chain([too_long]) {
        let link = Some(SecureLink { target_url, ..link() });
        faults.push(("link.target_url", Payload::AppointmentReminder(AppointmentDetails { link, ..visit(t) })));
    }
    for (field, link) in [
        ("link.ttl", SecureLink { ttl: seconds(0), ..link() }),
        ("link.ttl", SecureLink { ttl: seconds(-5), ..link() }),
        ("link.ttl", SecureLink { ttl: seconds(90 * 86_400 + 1), ..link() }),
        ("link.max_opens", SecureLink { max_opens: -1, ..link() }),
    ] {
        faults.push((field, Payload::AppointmentReminder(AppointmentDetails { link: Some(link), ..visit(t) })));
    }
    let money = |currency_code: &str, units, nanos| Money { currency_code: currency_code.into(), units, nanos };
    let payments = [
        ("amount", PaymentDetails { amount: None, ..payment(t) }),
        ("amount.currency_code", PaymentDetails { amount: Some(money(CANARY, 1, 0)), ..payment(t) }),
        ("amount.currency_code", PaymentDetails { amount: Some(money("usd", 1, 0)), ..payment(t) }),
        ("amount.nanos", PaymentDetails { amount: Some(money("USD", 1, -1)), ..payment(t) }),
        ("amount.nanos", PaymentDetails { amount: Some(money("USD", 0, 1_000_000_000)), ..payment(t) }),
        ("invoice_number", PaymentDetails { invoice_number: control("\n"), ..payment(t) }),
        ("payment_time", PaymentDetails { payment_time: no_time(), ..payment(t) }),
        ("method_hint", PaymentDetails { method_hint: control("\t"), ..payment(t) }),
    ];
    faults.extend(payments.map(|(field, payment)| (field, Payload::PaymentDue(payment))));
    let message = |sender_name: String| MessageReceivedDetails { sender_name, ..Default::default() };
    faults.extend(
        ["".to_owned(), " ".into(), control("\r\n")]
            .map(|name| ("sender_name", Payload::MessageReceived(message(name)))),
    );
    let shared = [
        ("action", DocumentDetails { action: 0, ..documents() }),
        ("action", DocumentDetails { action: 9, ..documents() }),
        ("document_count", DocumentDetails { document_count: 0, ..documents() }),
        ("document_count", DocumentDetails { document_count: -2, ..documents() }),
        ("titles[1]", DocumentDetails { titles: vec!["Form".into(), control("\n")], ..documents() }),
        ("link", DocumentDetails { link: None, ..documents() }),
        ("due_time", DocumentDetails { due_time: no_time(), ..documents() }),
    ];
    faults.extend(shared.map(|(field, shared)| (field, Payload::DocumentShared(shared))));
    let notices = [
        ("title", SystemDetails { title: String::new(), ..notice() }),
        ("title", SystemDetails { title: long(121), ..notice() }),
        ("title", SystemDetails { title: control("\r\nBcc: x@example.com"), ..notice() }),
        ("body", SystemDetails { body: String::new(), ..notice() }),
        ("body", SystemDetails { body: long(2_001), ..notice() }),
        ("body", SystemDetails { body: control("\0"), ..notice() }),
    ];
    faults.extend(notices.map(|(field, notice)| (field, Payload::System(notice))));
    let variable = |name: &str, value: String| [(name.to_owned(), value)].into();
    let many = (0..51).map(|n| (format!("v{n}"), "x".to_owned())).collect();
    let custom = |template_key: &str, variables| CustomDetails { template_key: template_key.into(), variables };
    let customs = [
        ("template_key", custom("", Default::default())),
        ("template_key", custom("canary key", Default::default())),
        ("template_key", custom("no-such-canary", Default::default())),
        ("variables", custom("key", many)),
        ("variables.name", custom("key", variable("name", long(1_001)))),
    ];
    faults.extend(customs.map(|(field, custom)| (field, Payload::Custom(custom))));
    faults
}

pub(super) fn arm(payload: &Payload) -> &'static str {
    match payload {
        Payload::AppointmentReminder(_) => "appointment_reminder",
        Payload::PaymentDue(_) => "payment_due",
        Payload::MessageReceived(_) => "message_received",
        Payload::DocumentShared(_) => "document_shared",
        Payload::System(_) => "system",
        Payload::Custom(_) => "custom",
        _ => panic!("not in the table"),
    }
}

pub(super) fn practice_faults() -> Vec<(&'static str, Practice)> {
    vec![
        ("practice.legal_name", Practice { legal_name: String::new(), ..home() }),
        ("practice.legal_name", Practice { legal_name: control("\r\nBcc: x@example.com"), ..home() }),
        ("practice.display_name", Practice { display_name: String::new(), ..home() }),
        ("practice.display_name", Practice { display_name: long(31), ..home() }),
        ("practice.display_name", Practice { display_name: control("\n"), ..home() }),
        ("practice.phone", Practice { phone: CANARY.into(), ..home() }),
        ("practice.phone", Practice { phone: "+1202555".into(), ..home() }),
        ("practice.time_zone", Practice { time_zone: String::new(), ..home() }),
        ("practice.time_zone", Practice { time_zone: "America/Canary".into(), ..home() }),
        ("practice.locale", Practice { locale: "canary_US!".into(), ..home() }),
        ("practice.portal_url", Practice { portal_url: "http://canary.example/".into(), ..home() }),
        ("practice.portal_url", Practice { portal_url: "javascript:canary".into(), ..home() }),
        ("practice.postal_address", Practice { postal_address: control("\u{1b}[2J"), ..home() }),
    ]
}

pub(super) fn patient_faults() -> Vec<(&'static str, Patient)> {
    let good = || patient("pat", "", "");
    vec![
        ("patient_id", Patient { patient_id: String::new(), ..good() }),
        ("patient_id", Patient { patient_id: "canary/../".into(), ..good() }),
        ("patient_id", Patient { patient_id: long(129), ..good() }),
        ("first_name", Patient { first_name: String::new(), ..good() }),
        ("first_name", Patient { first_name: control("\r\nBcc: x@example.com"), ..good() }),
        ("last_name", Patient { last_name: control("\0"), ..good() }),
        ("email", Patient { email: CANARY.into(), ..good() }),
        ("email", Patient { email: "canary@example.com\r\nBcc: x@example.com".into(), ..good() }),
        ("email", Patient { email: format!("{}@example.com", long(65)), ..good() }),
        ("mobile_phone", Patient { mobile_phone: CANARY.into(), ..good() }),
        ("mobile_phone", Patient { mobile_phone: "+120255501420000".into(), ..good() }),
        ("mobile_phone", Patient { mobile_phone: "+10005550142".into(), ..good() }),
        ("locale", Patient { locale: "canary canary".into(), ..good() }),
        ("time_zone", Patient { time_zone: "Canary".into(), ..good() }),
        ("tags", Patient { tags: (0..51).map(|n| format!("canary-{n}")).collect(), ..good() }),
        ("tags[1]", Patient { tags: vec!["new".into(), String::new()], ..good() }),
        ("tags[0]", Patient { tags: vec![long(65)], ..good() }),
        ("tags[0]", Patient { tags: vec![control("\n")], ..good() }),
    ]
}

/// Settings with one fault each: the path in the mask, and the field that is wrong.
#[expect(clippy::too_many_lines, reason = "a table reads better whole")]
pub(super) fn settings_faults() -> Vec<(&'static str, &'static str, PracticeSettings)> {
    let sms = |sms| PracticeSettings { sms: Some(sms), ..Default::default() };
    let email = |email| PracticeSettings { email: Some(email), ..Default::default() };
    let smtp = |smtp| {
        let provider = Some(email_settings::Provider::Smtp(smtp));
        email(EmailSettings { provider, ..Default::default() })
    };
    let kinds = |kind_channels| PracticeSettings { kind_channels, ..Default::default() };
    let kind = |kind, channels: &[i32], offered: &[i32]| KindChannels {
        kind,
        channels: channels.to_vec(),
        offered_channels: offered.to_vec(),
    };
    vec![
        ("sms", "settings.sms.account_sid", sms(SmsSettings { account_sid: CANARY.into(), ..Default::default() })),
        (
            "sms.account_sid",
            "settings.sms.account_sid",
            sms(SmsSettings { account_sid: "AC12".into(), ..Default::default() }),
        ),
        (
            "sms.auth_token",
            "settings.sms.auth_token",
            sms(SmsSettings { auth_token: control("\n"), ..Default::default() }),
        ),
        ("sms", "settings.sms.api_key_sid", sms(SmsSettings { api_key_sid: long(34), ..Default::default() })),
        (
            "sms",
            "settings.sms.from_number",
            sms(SmsSettings { sender: Some(FromNumber(CANARY.into())), ..Default::default() }),
        ),
        (
            "sms",
            "settings.sms.messaging_service_sid",
            sms(SmsSettings { sender: Some(MessagingServiceSid(CANARY.into())), ..Default::default() }),
        ),
        ("sms.prefix", "settings.sms.prefix", sms(SmsSettings { prefix: control("\n"), ..Default::default() })),
        (
            "email.from_address",
            "settings.email.from_address",
            email(EmailSettings { from_address: CANARY.into(), ..Default::default() }),
        ),
        (
            "email.from_name",
            "settings.email.from_name",
            email(EmailSettings { from_name: control("\r\nBcc: x@example.com"), ..Default::default() }),
        ),
        (
            "email.reply_to_address",
            "settings.email.reply_to_address",
            email(EmailSettings { reply_to_address: "canary@".into(), ..Default::default() }),
        ),
        (
            "email",
            "settings.email.smtp.host",
            smtp(SmtpSettings { host: "smtp://canary/".into(), ..Default::default() }),
        ),
        (
            "email.smtp.host",
            "settings.email.smtp.host",
            smtp(SmtpSettings { host: control(" x"), ..Default::default() }),
        ),
        ("email.smtp.port", "settings.email.smtp.port", smtp(SmtpSettings { port: -1, ..Default::default() })),
        ("email.smtp", "settings.email.smtp.port", smtp(SmtpSettings { port: 65_536, ..Default::default() })),
        (
            "email.smtp.security",
            "settings.email.smtp.security",
            smtp(SmtpSettings { security: 9, ..Default::default() }),
        ),
        (
            "email.smtp.username",
            "settings.email.smtp.username",
            smtp(SmtpSettings { username: control("\r\n"), ..Default::default() }),
        ),
        ("kind_channels", "settings.kind_channels[0].kind", kinds(vec![kind(0, &[1], &[])])),
        ("kind_channels", "settings.kind_channels[1].kind", kinds(vec![kind(1, &[1], &[]), kind(99, &[1], &[])])),
        ("kind_channels", "settings.kind_channels[1].kind", kinds(vec![kind(1, &[1], &[]), kind(1, &[2], &[])])),
        ("kind_channels", "settings.kind_channels[0].channels[1]", kinds(vec![kind(1, &[1, 99], &[])])),
        ("kind_channels", "settings.kind_channels[0].offered_channels", kinds(vec![kind(1, &[1, 2], &[1])])),
        ("kind_channels", "settings.kind_channels[0].channels", kinds(vec![kind(10, &[1], &[])])),
        (
            "link_hosts",
            "settings.link_hosts[1]",
            PracticeSettings { link_hosts: vec!["a.example".into(), "https://canary/".into()], ..Default::default() },
        ),
    ]
}

pub(super) fn filter_faults() -> Vec<(&'static str, DeliveryFilter)> {
    vec![
        (
            "filter.patient_ids",
            DeliveryFilter { patient_ids: (0..101).map(|n| format!("canary-{n}")).collect(), ..Default::default() },
        ),
        (
            "filter.patient_ids[1]",
            DeliveryFilter { patient_ids: vec!["pat".into(), control(" ")], ..Default::default() },
        ),
        ("filter.channels[0]", DeliveryFilter { channels: vec![99], ..Default::default() }),
        ("filter.channels[0]", DeliveryFilter { channels: vec![0], ..Default::default() }),
        ("filter.kinds[1]", DeliveryFilter { kinds: vec![1, 12], ..Default::default() }),
        ("filter.states[0]", DeliveryFilter { states: vec![-1], ..Default::default() }),
        ("filter.notification_id", DeliveryFilter { notification_id: CANARY.into(), ..Default::default() }),
        ("filter.broadcast_id", DeliveryFilter { broadcast_id: CANARY.into(), ..Default::default() }),
        ("filter.reference", DeliveryFilter { reference: long(129), ..Default::default() }),
        ("filter.reference", DeliveryFilter { reference: control("\n"), ..Default::default() }),
    ]
}
