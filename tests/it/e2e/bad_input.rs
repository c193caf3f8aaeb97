//! What breaks a rule of the contract is refused with the path of each field that does, before anything is stored, and
//! without a word of what was sent.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        AppointmentDetails, BatchPutPatientsRequest, CustomDetails, DeliveryFilter, DocumentDetails,
        GetNotificationRequest, GetPatientRequest, GetPracticeRequest, KindChannels, ListDeliveriesRequest,
        ListPatientsRequest, MessageReceivedDetails, Money, NotificationInput, Patient, PaymentDetails, Practice,
        PracticeSettings, PutPracticeRequest, SecureLink, SendNotificationRequest, SmtpSettings, SystemDetails,
        UpdatePracticeSettingsRequest, WatchDeliveriesRequest, document_details::Action, email_settings,
        notification_input::Payload, sms_settings, watch_deliveries_request::Start,
    },
};
use prost_types::{Duration, Timestamp};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    given::{bare_practice, documents, home, link, mask, new_key, notice, patient, payment, practice, reminder, visit},
    seen::{everything, fields, refused},
};
use crate::support::app::{ACME, TestApp, on_a_server};

/// In every bad value; it must not come back.
const CANARY: &str = "canary";

/// Checks that a call was refused for these fields, sorted, and that nothing of what was sent is in the answer.
#[track_caller]
fn refused_for<T>(result: Result<T, Status>, expected: &[&str], what: &str) {
    let Err(status) = result else { panic!("taken: {what}") };
    let status = refused::<()>(Err(status), Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(fields(&status), expected, "{what}");
    tells_nothing(&status);
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));
}

#[track_caller]
fn tells_nothing(status: &Status) {
    let details = String::from_utf8_lossy(status.details()).to_lowercase();
    assert!(!status.message().to_lowercase().contains(CANARY) && !details.contains(CANARY), "it repeats a value");
}

fn long(length: usize) -> String {
    format!("{CANARY}{}", "x".repeat(length - CANARY.len()))
}

/// A time that is none.
fn no_time() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1, nanos: -1 })
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// What to do to a good request, and the fields that are wrong then.
type Fault<R> = (&'static str, Box<dyn Fn(&TestApp, &mut R) + Send + Sync>);

fn fault<R>(field: &'static str, spoil: impl Fn(&TestApp, &mut R) + Send + Sync + 'static) -> Fault<R> {
    (field, Box::new(spoil))
}

fn control(text: &str) -> String {
    format!("{CANARY}{text}")
}

/// Faults around the payload.
fn order_faults() -> Vec<Fault<SendNotificationRequest>> {
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
fn payload_faults(t: &TestApp) -> Vec<(&'static str, Payload)> {
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

fn arm(payload: &Payload) -> &'static str {
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

fn practice_faults() -> Vec<(&'static str, Practice)> {
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

fn patient_faults() -> Vec<(&'static str, Patient)> {
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
fn settings_faults() -> Vec<(&'static str, &'static str, PracticeSettings)> {
    let sms = |sms| PracticeSettings { sms: Some(sms), ..Default::default() };
    let email = |email| PracticeSettings { email: Some(email), ..Default::default() };
    let smtp = |smtp| {
        let provider = Some(email_settings::Provider::Smtp(smtp));
        email(heedwell::grpc::proto::EmailSettings { provider, ..Default::default() })
    };
    let kinds = |kind_channels| PracticeSettings { kind_channels, ..Default::default() };
    let kind = |kind, channels: &[i32], offered: &[i32]| KindChannels {
        kind,
        channels: channels.to_vec(),
        offered_channels: offered.to_vec(),
    };
    use heedwell::grpc::proto::{EmailSettings, SmsSettings};
    use sms_settings::Sender::{FromNumber, MessagingServiceSid};
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

fn filter_faults() -> Vec<(&'static str, DeliveryFilter)> {
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

on_a_server! {
    sqlite:
    async fn a_notification_with_a_fault_is_not_taken(t: &mut TestApp) {
        practice(t).await;
        let good = || SendNotificationRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            notification: Some(reminder(t, "pat", &[])),
        };
        for (field, spoil) in order_faults() {
            let mut request = good();
            spoil(t, &mut request);
            refused_for(t.sender().send_notification(request).await, &[field], field);
        }
        for (field, payload) in payload_faults(t) {
            let path = format!("notification.{}.{field}", arm(&payload));
            let mut request = good();
            request.notification.as_mut().unwrap().payload = Some(payload);
            refused_for(t.sender().send_notification(request).await, &[&path], &path);
        }
        assert!(everything(t).await.is_empty() && t.sandbox.journal().entries().is_empty());
        t.sender().send_notification(good()).await.unwrap();
    }

    async fn all_faults_of_a_request_are_told_at_once_and_twenty_at_most(t: &mut TestApp) {
        practice(t).await;
        let link = SecureLink { target_url: CANARY.into(), ttl: seconds(-1), max_opens: -1 };
        let documents = DocumentDetails { action: Action::Unspecified.into(), document_count: 0, link: Some(link), ..documents() };
        let request = SendNotificationRequest {
            practice_id: ACME.into(),
            request_id: String::new(),
            notification: Some(NotificationInput {
                patient_id: control("/"),
                payload: Some(Payload::DocumentShared(documents)),
                channels: vec![7, 8],
                reference: long(200),
                priority: 7,
                ..Default::default()
            }),
        };
        let expected = [
            "notification.channels[0]",
            "notification.channels[1]",
            "notification.document_shared.action",
            "notification.document_shared.document_count",
            "notification.document_shared.link.max_opens",
            "notification.document_shared.link.target_url",
            "notification.document_shared.link.ttl",
            "notification.patient_id",
            "notification.priority",
            "notification.reference",
            "request_id",
        ];
        refused_for(t.sender().send_notification(request).await, &expected, "many");

        // What only the clock and the settings can tell is told at once, too.
        let visit = AppointmentDetails {
            link: Some(SecureLink { target_url: "https://canary.example/".into(), ..Default::default() }),
            ..visit(t)
        };
        let request = SendNotificationRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            notification: Some(NotificationInput {
                patient_id: "pat".into(),
                payload: Some(Payload::AppointmentConfirmed(visit)),
                schedule_time: Some(t.after(TimeDelta::days(401))),
                expire_time: Some(t.after(TimeDelta::days(-1))),
                ..Default::default()
            }),
        };
        let expected = [
            "notification.appointment_confirmed.link.target_url",
            "notification.expire_time",
            "notification.schedule_time",
        ];
        refused_for(t.sender().send_notification(request).await, &expected, "late");

        let patients = (0..30).map(|_| patient("canary/", "", "")).collect();
        let request = BatchPutPatientsRequest { practice_id: ACME.into(), patients };
        let answer = t.caller(Role::Directory).directory.batch_put_patients(request).await;
        let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status).len(), 20);
        // Trailers are small: some clients take no more than 8 KiB.
        assert!(status.details().len() < 4_096);
        tells_nothing(&status);
        assert!(everything(t).await.is_empty());
    }

    async fn a_practice_with_a_fault_is_not_stored(t: &mut TestApp) {
        let mut operator = t.caller(Role::Operator).directory;
        let request = |practice| PutPracticeRequest { practice_id: ACME.into(), practice };
        refused_for(operator.put_practice(request(None)).await, &["practice"], "none");
        for (field, practice) in practice_faults() {
            refused_for(operator.put_practice(request(Some(practice))).await, &[field], field);
        }
        let get = GetPracticeRequest { practice_id: ACME.into() };
        refused(operator.get_practice(get).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        let bare = Practice {
            legal_name: "Acme".into(),
            display_name: "Acme".into(),
            time_zone: "America/Chicago".into(),
            ..Default::default()
        };
        let stored = operator.put_practice(request(Some(bare))).await.unwrap().into_inner().practice.unwrap();
        assert_eq!((stored.locale.as_str(), stored.practice_id.as_str()), ("en-US", ACME));
    }

    async fn patients_are_stored_all_or_none(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let mut directory = t.caller(Role::Directory).directory;
        let request = |patients| BatchPutPatientsRequest { practice_id: ACME.into(), patients };
        refused_for(directory.batch_put_patients(request(vec![])).await, &["patients"], "none");
        let many = (0..501).map(|n| patient(&format!("p-{n}"), "", "")).collect();
        refused_for(directory.batch_put_patients(request(many)).await, &["patients"], "501");
        for (field, faulty) in patient_faults() {
            let path = format!("patients[1].{field}");
            let patients = vec![patient("first", "", ""), faulty, patient("third", "", "")];
            refused_for(directory.batch_put_patients(request(patients)).await, &[&path], &path);
        }
        let twice = vec![patient("same", "", ""), patient("same", "", "")];
        refused_for(directory.batch_put_patients(request(twice)).await, &["patients[1].patient_id"], "twice");
        for id in ["first", "third", "same", "p-1"] {
            let get = GetPatientRequest { practice_id: ACME.into(), patient_id: id.into() };
            refused(directory.get_patient(get).await, Code::NotFound, "NOT_FOUND");
        }
        let list = ListPatientsRequest { practice_id: ACME.into(), ..Default::default() };
        assert!(directory.list_patients(list).await.unwrap().into_inner().patients.is_empty());

        let most: Vec<_> = (0..500).map(|n| patient(&format!("p-{n}"), "", "")).collect();
        let counts = directory.batch_put_patients(request(most.clone())).await.unwrap().into_inner();
        assert_eq!((counts.created_count, counts.updated_count), (500, 0));
        let changed = Patient { last_name: "Roe".into(), ..patient("p-7", "", "") };
        let mixed = vec![most[0].clone(), changed, patient("new", "", "")];
        let counts = directory.batch_put_patients(request(mixed)).await.unwrap().into_inner();
        assert_eq!((counts.created_count, counts.updated_count), (1, 1));
    }

    async fn settings_with_a_fault_are_not_stored(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let mut admin = t.caller(Role::PracticeAdmin).preferences;
        let request = |settings, paths: &[&str]| UpdatePracticeSettingsRequest {
            practice_id: ACME.into(),
            settings,
            update_mask: Some(mask(paths)),
        };
        let none = || Some(PracticeSettings::default());
        refused_for(admin.update_practice_settings(request(None, &["sms"])).await, &["settings"], "no settings");
        let no_mask = UpdatePracticeSettingsRequest { update_mask: None, ..request(none(), &[]) };
        refused_for(admin.update_practice_settings(no_mask).await, &["update_mask"], "no mask");
        for bad in [
            "", "canary", "sms.canary", "sms.auth_token.canary", "*", "email.smtp.canary", "sms.auth_token_set", "etag",
            "channel_statuses", "update_time", "sms.inbound_webhook_url", "Sms", "sms ", "link_hosts.0",
        ] {
            // A good path beside a bad one is not stored either.
            let settings = PracticeSettings { link_hosts: vec!["a.example".into()], ..Default::default() };
            let answer = admin.update_practice_settings(request(Some(settings), &["link_hosts", bad])).await;
            refused_for(answer, &["update_mask"], bad);
        }
        refused_for(admin.update_practice_settings(request(none(), &[])).await, &["update_mask"], "an empty mask");
        for (path, field, settings) in settings_faults() {
            refused_for(admin.update_practice_settings(request(Some(settings), &[path])).await, &[field], path);
        }
        let get = heedwell::grpc::proto::GetPracticeSettingsRequest { practice_id: ACME.into() };
        let stored = admin.get_practice_settings(get).await.unwrap().into_inner().settings.unwrap();
        assert_eq!(stored.etag, "0", "nothing was ever stored");
        assert!(stored.link_hosts.is_empty());
    }

    async fn lists_and_watches_refuse_filters_that_make_no_sense(t: &mut TestApp) {
        practice(t).await;
        let list = ListDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        let watch = WatchDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        for (field, filter) in filter_faults() {
            let faulty = ListDeliveriesRequest { filter: Some(filter.clone()), ..list.clone() };
            refused_for(t.staff().list_deliveries(faulty).await, &[field], field);
            let faulty = WatchDeliveriesRequest { filter: Some(filter), ..watch.clone() };
            refused_for(t.staff().watch_deliveries(faulty).await, &[field], field);
        }
        for (field, faulty) in [
            ("start_time", ListDeliveriesRequest { start_time: no_time(), ..list.clone() }),
            ("end_time", ListDeliveriesRequest { end_time: no_time(), ..list }),
        ] {
            refused_for(t.staff().list_deliveries(faulty).await, &[field], field);
        }
        let begin = |time| WatchDeliveriesRequest { start: Some(Start::StartTime(time)), ..watch.clone() };
        for (field, faulty) in [
            ("heartbeat_interval", WatchDeliveriesRequest { heartbeat_interval: seconds(4), ..watch.clone() }),
            ("heartbeat_interval", WatchDeliveriesRequest { heartbeat_interval: seconds(61), ..watch.clone() }),
            ("heartbeat_interval", WatchDeliveriesRequest { heartbeat_interval: seconds(-5), ..watch.clone() }),
            ("start_time", begin(no_time().unwrap())),
            ("start_time", begin(t.after(TimeDelta::days(-8)))),
        ] {
            refused_for(t.staff().watch_deliveries(faulty).await, &[field], field);
        }
    }

    async fn reads_refuse_what_makes_no_sense(t: &mut TestApp) {
        practice(t).await;
        let mut directory = t.caller(Role::Staff).directory;
        let list = |query: &str, tags: &[&str], page_token: &str| ListPatientsRequest {
            practice_id: ACME.into(),
            query: query.into(),
            tags: tags.iter().map(|&tag| tag.into()).collect(),
            page_size: 1,
            page_token: page_token.into(),
        };
        refused_for(directory.list_patients(list(&control("\n"), &[], "")).await, &["query"], "query");
        refused_for(directory.list_patients(list(&long(255), &[], "")).await, &["query"], "query");
        refused_for(directory.list_patients(list("", &["new", ""], "")).await, &["tags[1]"], "tags");
        let status = refused(directory.list_patients(list("", &[], CANARY)).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        tells_nothing(&status);

        let get = |id: &str| GetPatientRequest { practice_id: ACME.into(), patient_id: id.into() };
        refused_for(directory.get_patient(get("")).await, &["patient_id"], "none");
        refused_for(directory.get_patient(get("canary canary")).await, &["patient_id"], "no id");
        let absent = refused(directory.get_patient(get("nobody")).await, Code::NotFound, "NOT_FOUND");
        let resource = absent.get_details_resource_info().unwrap();
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("patient", "nobody"));

        let get = |id: &str, view| GetNotificationRequest { practice_id: ACME.into(), notification_id: id.into(), view };
        refused_for(t.staff().get_notification(get("", 0)).await, &["notification_id"], "none");
        refused_for(t.staff().get_notification(get("01980000-0000-7000-8000-000000000000", 9)).await, &["view"], "view");
        let status = refused(t.staff().get_notification(get(CANARY, 0)).await, Code::NotFound, "NOT_FOUND");
        tells_nothing(&status);
        refused(
            t.staff().get_notification(get("01980000-0000-7000-8000-000000000000", 0)).await,
            Code::NotFound,
            "NOT_FOUND",
        );
    }

    async fn a_message_too_large_is_refused_and_the_server_goes_on(t: &mut TestApp) {
        practice(t).await;
        let body = "x".repeat(5 * 1024 * 1024);
        let input = NotificationInput { custom_content: body, ..reminder(t, "pat", &[]) };
        let request = SendNotificationRequest { practice_id: ACME.into(), request_id: new_key(), notification: Some(input) };
        let status = t.sender().send_notification(request).await.err().unwrap();
        assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{:?}", status.code());
        assert!(everything(t).await.is_empty());
    }

    async fn an_address_is_kept_as_it_is_dialled(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let mut directory = t.caller(Role::Directory).directory;
        let patients = vec![patient("pat", "Pat.Doe@Example.COM", "(202) 555-0142")];
        directory.batch_put_patients(BatchPutPatientsRequest { practice_id: ACME.into(), patients }).await.unwrap();
        for query in ["pat", "pat.doe@example.com", "+12025550142", "202-555-0142", "PA", "do"] {
            let list = ListPatientsRequest { practice_id: ACME.into(), query: query.into(), ..Default::default() };
            let found = directory.list_patients(list).await.unwrap().into_inner().patients;
            assert_eq!(found.len(), 1, "{query}");
            assert_eq!((found[0].mobile_phone.as_str(), found[0].email.as_str()), ("+12025550142", "Pat.Doe@example.com"));
        }
        let list = ListPatientsRequest { practice_id: ACME.into(), query: "oe".into(), ..Default::default() };
        assert!(directory.list_patients(list).await.unwrap().into_inner().patients.is_empty());
    }
}
