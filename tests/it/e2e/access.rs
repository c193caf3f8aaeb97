//! Who may call what: each call of the contract with each kind of token, and practices that do not see each other.

use std::{collections::BTreeSet, time::Duration};

use heedwell::{
    auth::LocalKey,
    domain::{Practices, Role},
    grpc::proto::{
        ActivateTemplateVersionRequest, Audience, BatchPutPatientsRequest, BatchSendNotificationsRequest,
        BroadcastInput, CancelBroadcastRequest, CancelNotificationRequest, Channel, ConsentSource, ConsentState,
        Conversation, CreateBroadcastRequest, CreateTemplateVersionRequest, DESCRIPTOR, DeletePushDeviceRequest,
        DeliveryFilter, GetBroadcastRequest, GetConversationRequest, GetNotificationRequest, GetPatientRequest,
        GetPracticeRequest, GetPracticeSettingsRequest, GetTemplateRequest, LinkConversationRequest,
        ListAuditEventsRequest, ListBroadcastsRequest, ListConsentRecordsRequest, ListConversationsRequest,
        ListDeliveriesRequest, ListInboxItemsRequest, ListMessagesRequest, ListPatientsRequest, ListTemplatesRequest,
        MarkConversationReadRequest, MarkInboxItemsRequest, NotificationKind, PracticeSettings,
        PreviewBroadcastRequest, PreviewTemplateRequest, RecordConsentRequest, RegisterPushDeviceRequest,
        RetryDeliveryRequest, SendMessageRequest, SendNotificationRequest, TemplateContent, TemplateRef,
        UpdateConversationRequest, UpdatePracticeSettingsRequest, WatchBroadcastRequest, WatchConversationsRequest,
        WatchDeliveriesRequest, WatchInboxRequest,
        audience::{AllPatients, Selection as Whose},
        batch_send_notifications_request::BatchItem,
        batch_send_notifications_response::batch_result::Outcome,
        broadcast_service_client::BroadcastServiceClient,
        conversations_service_client::ConversationsServiceClient,
        inbox_service_client::InboxServiceClient,
        mark_inbox_items_request::Selection,
        send_message_request::Target as Whom,
        template_ref::Target,
        template_service_client::TemplateServiceClient,
    },
};
use prost::{
    Message,
    bytes::{Buf, BufMut},
};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    service::interceptor::InterceptedService,
};
use tonic_types::StatusExt;

use super::{
    given::{mask, new_key, patient, practice, practice_named, put_patient, reminder, send, token, try_send},
    seen::{everything, metadata, refused},
};
use crate::support::app::{ACME, Authorised, Bearer, Caller, Pass, TestApp, on_a_server};

use Role::{Auditor, Directory, Operator, Patient, Portal, PracticeAdmin, Sender, Staff};

/// Every call of the contract, and the roles that may make it.
pub(super) const CALLS: &[(&str, &[Role])] = &[
    ("NotifyService/SendNotification", &[Sender, Staff]),
    ("NotifyService/BatchSendNotifications", &[Sender, Staff]),
    ("NotifyService/PreviewNotification", &[Sender, Staff]),
    ("NotifyService/GetNotification", &[Sender, Staff, Auditor]),
    ("NotifyService/CancelNotification", &[Sender, Staff]),
    ("NotifyService/RetryDelivery", &[Staff]),
    ("NotifyService/ListDeliveries", &[Sender, Staff, Auditor]),
    ("NotifyService/WatchDeliveries", &[Sender, Staff, Auditor]),
    ("NotifyService/GetDeliveryStats", &[Staff, Auditor]),
    ("BroadcastService/PreviewBroadcast", &[Staff]),
    ("BroadcastService/CreateBroadcast", &[PracticeAdmin]),
    ("BroadcastService/GetBroadcast", &[Staff, Auditor]),
    ("BroadcastService/ListBroadcasts", &[Staff, Auditor]),
    ("BroadcastService/CancelBroadcast", &[PracticeAdmin]),
    ("BroadcastService/WatchBroadcast", &[Staff, Auditor]),
    ("TemplateService/ListTemplates", &[Staff]),
    ("TemplateService/GetTemplate", &[Staff]),
    ("TemplateService/CreateTemplateVersion", &[PracticeAdmin]),
    ("TemplateService/ActivateTemplateVersion", &[PracticeAdmin]),
    ("TemplateService/PreviewTemplate", &[Staff]),
    ("TemplateService/SendTestMessage", &[PracticeAdmin]),
    ("InboxService/ListInboxItems", &[Patient, Portal]),
    ("InboxService/MarkInboxItems", &[Patient, Portal]),
    ("InboxService/WatchInbox", &[Patient, Portal]),
    ("InboxService/RegisterPushDevice", &[Patient, Portal]),
    ("InboxService/DeletePushDevice", &[Patient, Portal]),
    ("PreferencesService/GetPracticeSettings", &[Staff]),
    ("PreferencesService/UpdatePracticeSettings", &[PracticeAdmin]),
    ("PreferencesService/GetPatientPreferences", &[Staff, Sender, Patient, Portal]),
    ("PreferencesService/UpdatePatientPreferences", &[Staff, Patient, Portal]),
    ("PreferencesService/RecordConsent", &[Staff, Patient, Portal]),
    ("PreferencesService/ListConsentRecords", &[Staff, Auditor, Patient, Portal]),
    ("PreferencesService/BatchGetReachability", &[Staff, Sender]),
    ("ConversationsService/ListConversations", &[Staff, Patient, Portal]),
    ("ConversationsService/GetConversation", &[Staff, Patient, Portal]),
    ("ConversationsService/ListMessages", &[Staff, Patient, Portal]),
    ("ConversationsService/SendMessage", &[Staff, Patient, Portal]),
    ("ConversationsService/UpdateConversation", &[Staff]),
    ("ConversationsService/LinkConversation", &[Staff]),
    ("ConversationsService/MarkConversationRead", &[Staff, Patient, Portal]),
    ("ConversationsService/WatchConversations", &[Staff, Patient, Portal]),
    ("ConversationsService/UploadAttachment", &[Staff, Patient, Portal]),
    ("ConversationsService/DownloadAttachment", &[Staff, Patient, Portal]),
    ("DirectoryService/PutPractice", &[Operator]),
    ("DirectoryService/GetPractice", &Role::ALL),
    ("DirectoryService/BatchPutPatients", &[Directory]),
    ("DirectoryService/GetPatient", &[Staff, Directory, Patient]),
    ("DirectoryService/ListPatients", &[Staff, Directory]),
    ("DirectoryService/ErasePatient", &[PracticeAdmin]),
    ("AuditService/ListAuditEvents", &[Auditor]),
];

/// Messages as bytes, so that one function makes every call.
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// Makes a call that names the practice and nothing else, and takes its first answer. On the wire a call with one
/// answer is a stream of one.
pub(super) async fn call(t: &TestApp, token: &str, method: &str, practice: &str) -> Result<Vec<u8>, Status> {
    // Field 1 of each request.
    let request = GetPracticeRequest { practice_id: practice.into() }.encode_to_vec();
    let path = format!("/heedwell.v1.{method}").parse().unwrap();
    let mut grpc = Grpc::new(InterceptedService::new(t.channel(), Bearer::new(token)));
    grpc.ready().await.unwrap();
    let mut answers = grpc.server_streaming(Request::new(request), path, Raw).await?.into_inner();
    Ok(answers.message().await?.expect("an answer"))
}

/// A token in one role; a patient's names its patient.
fn pass(role: Role, practice: &str) -> Pass {
    Pass { patient: (role == Patient).then(|| "pat".to_owned()), ..Pass::new(&[role], &[practice]) }
}

#[test]
fn the_table_names_each_call_of_the_contract_once() {
    let contract = prost_types::FileDescriptorSet::decode(DESCRIPTOR).unwrap();
    let ours = contract.file.iter().filter(|file| file.package() == "heedwell.v1");
    let mut methods: Vec<_> = ours
        .flat_map(|file| &file.service)
        .flat_map(|service| service.method.iter().map(|method| format!("{}/{}", service.name(), method.name())))
        .collect();
    methods.sort();
    let mut calls: Vec<_> = CALLS.iter().map(|(method, ..)| (*method).to_owned()).collect();
    calls.sort();
    assert_eq!(methods, calls);
}

on_a_server! {
    sqlite:
    async fn no_call_is_answered_without_a_good_token(t: &mut TestApp) {
        practice(t).await;
        let every = Pass { practices: Practices::All, ..Pass::new(&Role::ALL, &[]) };
        let good = t.token_of(&every);
        let past = t.token_of(&Pass { ttl: Duration::from_secs(60), ..every.clone() });
        let (stranger, _) = LocalKey::load_or_create(&t.home.path("another-key")).unwrap();
        let forged = |issuer: &str, audience: &str, key: &LocalKey| {
            let token = heedwell::auth::NewToken {
                subject: "tester".into(),
                name: String::new(),
                practices: Practices::All,
                roles: Role::ALL.into(),
                patient: None,
                ttl: Duration::from_secs(3_600),
            };
            key.issue(&token, issuer, audience, t.now())
        };
        let (own, _) = LocalKey::load_or_create(&t.home.path("data").join("signing-key")).unwrap();
        t.advance(chrono::TimeDelta::seconds(91));
        let tokens = [
            String::new(),
            "garbage".into(),
            past,
            forged("heedwell", "heedwell", &stranger),
            forged("somebody", "heedwell", &own),
            forged("heedwell", "somebody", &own),
            good.replace('.', ""),
            good[..good.len() - 2].to_owned(),
        ];
        for (method, _) in CALLS {
            let mut answers = BTreeSet::new();
            for bad in &tokens {
                let status = refused(call(t, bad, method, ACME).await, Code::Unauthenticated, "TOKEN_INVALID");
                answers.insert((status.message().to_owned(), status.details().to_vec()));
            }
            assert_eq!(answers.len(), 1, "{method} tells faults of a token apart");
        }
        call(t, &forged("heedwell", "heedwell", &own), "DirectoryService/GetPractice", ACME).await.unwrap();
    }

    async fn foreign_and_absent_practices_are_refused_alike(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        let all = t.token_of(&Pass { patient: Some("pat".into()), ..Pass::new(&Role::ALL, &[ACME]) });
        let none = t.token_of(&Pass::new(&[], &[ACME]));
        let mut answers = BTreeSet::new();
        for (method, _) in CALLS {
            for token in [&all, &none] {
                for practice in ["beta", "nowhere", "", "not an id", "acme "] {
                    let status =
                        refused(call(t, token, method, practice).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
                    answers.insert((status.message().to_owned(), status.details().to_vec()));
                }
            }
        }
        assert_eq!(answers.len(), 1, "no practice is told from another");
    }

    async fn each_call_wants_one_of_its_roles(t: &mut TestApp) {
        practice(t).await;
        let no_role = t.token_of(&Pass::new(&[], &[ACME]));
        for (method, roles) in CALLS {
            let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
            let mut refuse = Vec::new();
            for role in Role::ALL {
                let answer = call(t, &t.token_of(&pass(role, ACME)), method, ACME).await;
                if !(roles.contains(&role) || (role == PracticeAdmin && roles.contains(&Staff))) {
                    refuse.push(answer);
                    continue;
                }
                if let Err(status) = answer {
                    // Only the practice was named, so that something may be missing.
                    refused::<()>(Err(status), Code::InvalidArgument, "FIELD_INVALID");
                }
            }
            refuse.push(call(t, &no_role, method, ACME).await);
            for answer in refuse {
                if *method == "DirectoryService/GetPractice" && answer.is_ok() {
                    continue;
                }
                let status = refused(answer, Code::PermissionDenied, "ROLE_REQUIRED");
                let required = metadata(&status, "required_role");
                assert!(names.contains(&required.as_str()), "{method} wants {required}");
            }
        }
    }

    async fn a_call_that_is_not_in_the_contract_is_unimplemented_to_those_who_have_a_token(t: &mut TestApp) {
        practice(t).await;
        refused(call(t, "", "NotifyService/Nothing", ACME).await, Code::Unauthenticated, "TOKEN_INVALID");
        let status = call(t, &t.token(Staff), "NotifyService/Nothing", ACME).await.err().unwrap();
        assert_eq!(status.code(), Code::Unimplemented);
    }
}

/// Makes each call of this release, but the one that makes a practice, in a practice that is not there.
async fn in_an_absent_practice(t: &TestApp, caller: Caller, practice_id: &str) -> Vec<(&'static str, Option<Status>)> {
    let id = || practice_id.to_owned();
    let Caller { mut notify, mut directory, mut preferences, inbox, templates, conversations, broadcasts, mut audit } =
        caller;
    let input = reminder(t, "pat", &[]);
    let send = SendNotificationRequest { practice_id: id(), request_id: new_key(), notification: Some(input.clone()) };
    let get = GetNotificationRequest {
        practice_id: id(),
        notification_id: "01980000-0000-7000-8000-000000000000".into(),
        view: 0,
    };
    let nothing = "01980000-0000-7000-8000-000000000000";
    let cancel = CancelNotificationRequest { practice_id: id(), notification_id: nothing.into() };
    let retry = RetryDeliveryRequest { practice_id: id(), request_id: new_key(), delivery_id: nothing.into() };
    let list = ListDeliveriesRequest { practice_id: id(), ..Default::default() };
    let watch = WatchDeliveriesRequest { practice_id: id(), ..Default::default() };
    let put = BatchPutPatientsRequest { practice_id: id(), patients: vec![patient("pat", "", "")] };
    let get_patient = GetPatientRequest { practice_id: id(), patient_id: "pat".into() };
    let list_patients = ListPatientsRequest { practice_id: id(), ..Default::default() };
    let consent = RecordConsentRequest {
        practice_id: id(),
        request_id: new_key(),
        patient_id: "pat".into(),
        channel: Channel::Email.into(),
        state: ConsentState::OptedOut.into(),
        source: ConsentSource::Staff.into(),
        evidence: "said so".into(),
        ..Default::default()
    };
    let list_consent = ListConsentRecordsRequest { practice_id: id(), patient_id: "pat".into(), ..Default::default() };
    let events = ListAuditEventsRequest { practice_id: id(), ..Default::default() };
    let update = UpdatePracticeSettingsRequest {
        practice_id: id(),
        settings: Some(PracticeSettings::default()),
        update_mask: Some(mask(&["link_hosts"])),
    };
    let mut answers = in_an_absent_practice_of_templates(templates, practice_id).await;
    answers.extend(in_an_absent_practice_of_inboxes(t, inbox, practice_id).await);
    answers.extend(in_an_absent_practice_of_conversations(conversations, practice_id).await);
    answers.extend(in_an_absent_practice_of_broadcasts(broadcasts, practice_id).await);
    answers.extend([
        ("SendNotification", notify.send_notification(send).await.err()),
        ("GetNotification", notify.get_notification(get).await.err()),
        ("CancelNotification", notify.cancel_notification(cancel).await.err()),
        ("RetryDelivery", notify.retry_delivery(retry).await.err()),
        ("ListDeliveries", notify.list_deliveries(list).await.err()),
        ("WatchDeliveries", notify.watch_deliveries(watch).await.err()),
        ("RecordConsent", preferences.record_consent(consent).await.err()),
        ("ListConsentRecords", preferences.list_consent_records(list_consent).await.err()),
        ("GetPractice", directory.get_practice(GetPracticeRequest { practice_id: id() }).await.err()),
        ("BatchPutPatients", directory.batch_put_patients(put).await.err()),
        ("GetPatient", directory.get_patient(get_patient).await.err()),
        ("ListPatients", directory.list_patients(list_patients).await.err()),
        (
            "GetPracticeSettings",
            preferences.get_practice_settings(GetPracticeSettingsRequest { practice_id: id() }).await.err(),
        ),
        ("UpdatePracticeSettings", preferences.update_practice_settings(update).await.err()),
        ("ListAuditEvents", audit.list_audit_events(events).await.err()),
    ]);
    answers
}

/// As above, those of `BroadcastService`.
async fn in_an_absent_practice_of_broadcasts(
    mut broadcasts: BroadcastServiceClient<Authorised>,
    practice_id: &str,
) -> Vec<(&'static str, Option<Status>)> {
    let (id, nothing) = (|| practice_id.to_owned(), || "01980000-0000-7000-8000-000000000000".to_owned());
    let input = || {
        Some(BroadcastInput {
            title: "Closed".into(),
            audience: Some(Audience { selection: Some(Whose::All(AllPatients {})) }),
            channels: vec![Channel::Sms.into()],
            body: "We are closed.".into(),
            ..Default::default()
        })
    };
    let preview = PreviewBroadcastRequest { practice_id: id(), broadcast: input(), sample_patient_id: String::new() };
    let create =
        CreateBroadcastRequest { practice_id: id(), request_id: new_key(), broadcast: input(), expected_recipients: 1 };
    let get = GetBroadcastRequest { practice_id: id(), broadcast_id: nothing() };
    let list = ListBroadcastsRequest { practice_id: id(), ..Default::default() };
    let cancel = CancelBroadcastRequest { practice_id: id(), broadcast_id: nothing() };
    let watch = WatchBroadcastRequest { practice_id: id(), broadcast_id: nothing() };
    vec![
        ("PreviewBroadcast", broadcasts.preview_broadcast(preview).await.err()),
        ("CreateBroadcast", broadcasts.create_broadcast(create).await.err()),
        ("GetBroadcast", broadcasts.get_broadcast(get).await.err()),
        ("ListBroadcasts", broadcasts.list_broadcasts(list).await.err()),
        ("CancelBroadcast", broadcasts.cancel_broadcast(cancel).await.err()),
        ("WatchBroadcast", broadcasts.watch_broadcast(watch).await.err()),
    ]
}

/// As above, those of `ConversationsService`.
async fn in_an_absent_practice_of_conversations(
    mut conversations: ConversationsServiceClient<Authorised>,
    practice_id: &str,
) -> Vec<(&'static str, Option<Status>)> {
    let (id, nothing) = (|| practice_id.to_owned(), || "01980000-0000-7000-8000-000000000000".to_owned());
    let get = GetConversationRequest { practice_id: id(), conversation_id: nothing() };
    let list = ListMessagesRequest { practice_id: id(), conversation_id: nothing(), ..Default::default() };
    let say = SendMessageRequest {
        practice_id: id(),
        request_id: new_key(),
        target: Some(Whom::PatientId("pat".into())),
        route: 2,
        body: "Hello.".into(),
        attachment_ids: Vec::new(),
    };
    let update = UpdateConversationRequest {
        practice_id: id(),
        conversation: Some(Conversation { conversation_id: nothing(), ..Default::default() }),
        update_mask: Some(mask(&["assignee_id"])),
    };
    let link = LinkConversationRequest {
        practice_id: id(),
        conversation_id: nothing(),
        patient_id: "pat".into(),
        store_number: false,
    };
    let read = MarkConversationReadRequest { practice_id: id(), conversation_id: nothing(), message_id: nothing() };
    let all = ListConversationsRequest { practice_id: id(), ..Default::default() };
    let watch = WatchConversationsRequest { practice_id: id(), ..Default::default() };
    vec![
        ("ListConversations", conversations.list_conversations(all).await.err()),
        ("GetConversation", conversations.get_conversation(get).await.err()),
        ("ListMessages", conversations.list_messages(list).await.err()),
        ("SendMessage", conversations.send_message(say).await.err()),
        ("UpdateConversation", conversations.update_conversation(update).await.err()),
        ("LinkConversation", conversations.link_conversation(link).await.err()),
        ("MarkConversationRead", conversations.mark_conversation_read(read).await.err()),
        ("WatchConversations", conversations.watch_conversations(watch).await.err()),
    ]
}

/// As above, those of `InboxService`.
async fn in_an_absent_practice_of_inboxes(
    t: &TestApp,
    mut inbox: InboxServiceClient<Authorised>,
    practice_id: &str,
) -> Vec<(&'static str, Option<Status>)> {
    let (id, pat) = (|| practice_id.to_owned(), || "pat".to_owned());
    let list = ListInboxItemsRequest { practice_id: id(), patient_id: pat(), ..Default::default() };
    let mark = MarkInboxItemsRequest {
        practice_id: id(),
        patient_id: pat(),
        read_state: 1,
        selection: Some(Selection::ThroughTime(t.after(chrono::TimeDelta::zero()))),
    };
    let watch = WatchInboxRequest { practice_id: id(), patient_id: pat(), ..Default::default() };
    let register = RegisterPushDeviceRequest {
        practice_id: id(),
        patient_id: pat(),
        fcm_token: "phone-of-pat:made-up".into(),
        device_name: String::new(),
    };
    let device_id = uuid::Uuid::nil().to_string();
    let delete = DeletePushDeviceRequest { practice_id: id(), patient_id: pat(), device_id };
    vec![
        ("ListInboxItems", inbox.list_inbox_items(list).await.err()),
        ("MarkInboxItems", inbox.mark_inbox_items(mark).await.err()),
        ("WatchInbox", inbox.watch_inbox(watch).await.err()),
        ("RegisterPushDevice", inbox.register_push_device(register).await.err()),
        ("DeletePushDevice", inbox.delete_push_device(delete).await.err()),
    ]
}

/// As above, those of `TemplateService`.
async fn in_an_absent_practice_of_templates(
    mut templates: TemplateServiceClient<Authorised>,
    practice_id: &str,
) -> Vec<(&'static str, Option<Status>)> {
    let id = || practice_id.to_owned();
    let target = || Some(Target::Kind(NotificationKind::System.into()));
    let at = || Some(TemplateRef { target: target(), channel: Channel::Sms.into(), locale: String::new() });
    let content = || Some(TemplateContent { text: "Hello!".into(), ..Default::default() });
    let list = ListTemplatesRequest { practice_id: id(), ..Default::default() };
    let get = GetTemplateRequest { practice_id: id(), r#ref: at() };
    let create =
        CreateTemplateVersionRequest { practice_id: id(), r#ref: at(), content: content(), ..Default::default() };
    let activate = ActivateTemplateVersionRequest { practice_id: id(), r#ref: at(), ..Default::default() };
    let try_out = PreviewTemplateRequest { practice_id: id(), r#ref: at(), content: content(), ..Default::default() };
    vec![
        ("ListTemplates", templates.list_templates(list).await.err()),
        ("GetTemplate", templates.get_template(get).await.err()),
        ("CreateTemplateVersion", templates.create_template_version(create).await.err()),
        ("ActivateTemplateVersion", templates.activate_template_version(activate).await.err()),
        ("PreviewTemplate", templates.preview_template(try_out).await.err()),
    ]
}

on_a_server! {
    async fn an_absent_practice_is_refused_like_a_foreign_one_even_to_those_whom_it_would_not_be(t: &mut TestApp) {
        practice(t).await;
        let roles = [Sender, Staff, PracticeAdmin, Directory, Portal, Auditor];
        let foreign = call(t, &t.token_of(&Pass::new(&roles, &["beta"])), "DirectoryService/GetPractice", ACME).await;
        let foreign = refused(foreign, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        for pass in [Pass { practices: Practices::All, ..Pass::new(&roles, &[]) }, Pass::new(&roles, &["ghost"])] {
            let caller = t.caller_with(&t.token_of(&pass));
            for (method, status) in in_an_absent_practice(t, caller.clone(), "ghost").await {
                let status = status.unwrap_or_else(|| panic!("{method} answers"));
                assert_eq!(
                    (status.code(), status.message(), status.details()),
                    (foreign.code(), foreign.message(), foreign.details()),
                    "{method}"
                );
            }
            let item = BatchItem { request_id: new_key(), notification: Some(reminder(t, "pat", &[])) };
            let batch = BatchSendNotificationsRequest { practice_id: "ghost".into(), items: vec![item] };
            // In a batch each item has its own answer.
            let answer = caller.clone().notify.batch_send_notifications(batch).await.unwrap().into_inner();
            let Some(Outcome::Error(error)) = &answer.results[0].outcome else { panic!("nothing was made") };
            assert_eq!((error.code, error.message.as_str()), (7, foreign.message()));
        }
    }

    async fn what_one_practice_has_another_does_not_see(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        put_patient(t, ACME, patient("only-here", "only@example.com", "+12025550144")).await;
        let sent = send(t, reminder(t, "pat", &[Channel::InApp])).await;
        let beta = |role| t.caller_with(&token(t, role, "beta"));

        let get = GetNotificationRequest {
            practice_id: "beta".into(),
            notification_id: sent.notification_id.clone(),
            view: 2,
        };
        let status = refused(beta(Staff).notify.get_notification(get).await, Code::NotFound, "NOT_FOUND");
        let resource = status.get_details_resource_info().unwrap();
        assert_eq!(
            (resource.resource_type.as_str(), resource.resource_name),
            ("notification", sent.notification_id.clone())
        );

        let cancel = CancelNotificationRequest {
            practice_id: "beta".into(),
            notification_id: sent.notification_id.clone(),
        };
        refused(beta(Staff).notify.cancel_notification(cancel).await, Code::NotFound, "NOT_FOUND");
        let delivery_id = sent.deliveries[0].delivery_id.clone();
        let retry =
            RetryDeliveryRequest { practice_id: "beta".into(), request_id: new_key(), delivery_id: delivery_id.clone() };
        let status = refused(beta(Staff).notify.retry_delivery(retry).await, Code::NotFound, "NOT_FOUND");
        let resource = status.get_details_resource_info().unwrap();
        assert_eq!((resource.resource_type.as_str(), resource.resource_name), ("delivery", delivery_id));

        let filters = [
            DeliveryFilter::default(),
            DeliveryFilter { notification_id: sent.notification_id.clone(), ..Default::default() },
            DeliveryFilter { patient_ids: vec!["pat".into()], ..Default::default() },
        ];
        for filter in filters {
            let list = ListDeliveriesRequest { practice_id: "beta".into(), filter: Some(filter), ..Default::default() };
            let page = beta(Staff).notify.list_deliveries(list).await.unwrap().into_inner();
            assert!(page.deliveries.is_empty() && page.next_page_token.is_empty());
        }
        let get = GetPatientRequest { practice_id: "beta".into(), patient_id: "only-here".into() };
        refused(beta(Staff).directory.get_patient(get).await, Code::NotFound, "NOT_FOUND");
        for query in ["only-here", "only@example.com", "+12025550144"] {
            let list = ListPatientsRequest { practice_id: "beta".into(), query: query.into(), ..Default::default() };
            assert!(beta(Staff).directory.list_patients(list).await.unwrap().into_inner().patients.is_empty());
        }
        let order = SendNotificationRequest {
            practice_id: "beta".into(),
            request_id: new_key(),
            notification: Some(reminder(t, "only-here", &[])),
        };
        refused(beta(Sender).notify.send_notification(order).await, Code::NotFound, "NOT_FOUND");
        assert_eq!(everything(t).await.len(), 1);
    }

    async fn a_patient_reads_their_own_record_and_no_other(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "kim@example.com", "")).await;
        let mut own = t.caller_with(&t.token_of(&pass(Patient, ACME))).directory;
        let get = |id: &str| GetPatientRequest { practice_id: ACME.into(), patient_id: id.into() };
        let shown = own.get_patient(get("pat")).await.unwrap().into_inner().patient.unwrap();
        assert_eq!((shown.patient_id.as_str(), shown.email.as_str()), ("pat", "pat@example.com"));
        let foreign = refused(own.get_patient(get("kim")).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        let absent = refused(own.get_patient(get("nobody")).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        assert_eq!((foreign.message(), foreign.details()), (absent.message(), absent.details()));
        // A token that names no patient is bound to nobody.
        let mut nobody = t.caller_with(&t.token_of(&Pass::new(&[Patient], &[ACME]))).directory;
        refused(nobody.get_patient(get("pat")).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
    }

    async fn the_author_is_the_tokens_and_no_field(t: &mut TestApp) {
        practice(t).await;
        let sent = send(t, reminder(t, "pat", &[Channel::InApp])).await;
        let creator = sent.creator.unwrap();
        assert_eq!((creator.id.as_str(), creator.display_name.as_str(), creator.r#type), ("tester", "Robin", 1));
        // The key of the first call is taken also for somebody else.
        let mut staff = t.staff();
        let order = crate::e2e::given::request(&sent.request_id, reminder(t, "pat", &[Channel::InApp]));
        let again = staff.send_notification(order).await.unwrap().into_inner();
        assert!(again.replayed);
        assert_eq!(again.notification.unwrap().creator.unwrap().r#type, 1);
        try_send(t, &new_key(), reminder(t, "pat", &[Channel::InApp])).await.unwrap();
    }
}
