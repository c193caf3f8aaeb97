//! Every call tells at once all that is wrong with the form of its request, and an id that this server never made is wrong by its
//! form, whichever call names it.

use heedwell::{
    domain::Role,
    grpc::proto::{
        ActivateTemplateVersionRequest, Audience, BatchGetReachabilityRequest, BroadcastInput, CancelBroadcastRequest,
        CancelNotificationRequest, ChannelSet, Conversation, ConversationFilter, CreateBroadcastRequest,
        CreateTemplateVersionRequest, DeletePushDeviceRequest, DeliveryFilter, DownloadAttachmentRequest,
        GetBroadcastRequest, GetConversationRequest, GetNotificationRequest, KindChoice, LinkConversationRequest,
        ListAuditEventsRequest, ListBroadcastsRequest, ListConsentRecordsRequest, ListConversationsRequest,
        ListDeliveriesRequest, ListMessagesRequest, ListPatientsRequest, MarkConversationReadRequest,
        MarkInboxItemsRequest, MessageReceivedDetails, NotificationInput, PracticeSettings, PreviewBroadcastRequest,
        PreviewNotificationRequest, PreviewTemplateRequest, RecordConsentRequest, RegisterPushDeviceRequest,
        RetryDeliveryRequest, SendMessageRequest, SendTestMessageRequest, SmsSettings, TemplateContent, TemplateRef,
        UpdateConversationRequest, UpdatePatientPreferencesRequest, UpdatePracticeSettingsRequest,
        UploadAttachmentRequest, WatchBroadcastRequest, WatchConversationsRequest, WatchDeliveriesRequest,
        WatchInboxRequest,
        audience::{PatientIds, Selection, Tags},
        mark_inbox_items_request::{ItemIds, Selection as Marked},
        notification_input::Payload,
        send_message_request::Target,
        template_ref::Target as Template,
    },
};
use tonic::Status;

use super::{
    faults::{CANARY, control, long, no_time, seconds},
    refused_for,
};
use crate::{
    e2e::{
        given::{mask, practice},
        seen::fields,
    },
    support::app::{ACME, TestApp, on_a_server},
};

/// A call by its name, what it answered, and the fields that are wrong, sorted.
type Row = (&'static str, Option<Status>, &'static [&'static str]);

#[track_caller]
fn all_refused(rows: Vec<Row>) {
    let told = rows.iter().map(|(call, answer, _)| (*call, answer.as_ref().map(fields).unwrap_or_default()));
    let expected = rows.iter().map(|(call, _, expected)| (*call, expected.iter().map(ToString::to_string).collect()));
    assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<(_, Vec<_>)>>());
    for (call, answer, expected) in rows {
        refused_for::<()>(answer.map_or(Ok(()), Err), expected, call);
    }
}

fn bad() -> String {
    CANARY.into()
}

fn acme() -> String {
    ACME.into()
}

async fn of_notifications(t: &TestApp) -> Vec<Row> {
    let (mut sender, mut staff) = (t.sender(), t.staff());
    let filter = || {
        Some(DeliveryFilter {
            patient_ids: vec![control("/"), "pat".into(), control(" ")],
            states: vec![99],
            notification_id: bad(),
            broadcast_id: bad(),
            ..Default::default()
        })
    };
    let message = MessageReceivedDetails { sender_name: String::new(), conversation_id: bad(), link: None };
    let input = NotificationInput {
        patient_id: control("/"),
        payload: Some(Payload::MessageReceived(message)),
        ..Default::default()
    };
    let list = ListDeliveriesRequest {
        practice_id: acme(),
        filter: filter(),
        start_time: no_time(),
        end_time: no_time(),
        ..Default::default()
    };
    let watch = WatchDeliveriesRequest {
        practice_id: acme(),
        filter: filter(),
        heartbeat_interval: seconds(1),
        ..Default::default()
    };
    let preview = PreviewNotificationRequest { practice_id: acme(), notification: Some(input) };
    let get = GetNotificationRequest { practice_id: acme(), notification_id: bad(), view: 9 };
    let cancel = CancelNotificationRequest { practice_id: acme(), notification_id: bad() };
    let retry = RetryDeliveryRequest { practice_id: acme(), request_id: String::new(), delivery_id: bad() };
    vec![
        (
            "PreviewNotification",
            sender.preview_notification(preview).await.err(),
            &[
                "notification.message_received.conversation_id",
                "notification.message_received.sender_name",
                "notification.patient_id",
            ],
        ),
        ("GetNotification", staff.get_notification(get).await.err(), &["notification_id", "view"]),
        ("CancelNotification", sender.cancel_notification(cancel).await.err(), &["notification_id"]),
        ("RetryDelivery", staff.retry_delivery(retry).await.err(), &["delivery_id", "request_id"]),
        (
            "ListDeliveries",
            staff.list_deliveries(list).await.err(),
            &[
                "end_time",
                "filter.broadcast_id",
                "filter.notification_id",
                "filter.patient_ids[0]",
                "filter.patient_ids[2]",
                "filter.states[0]",
                "start_time",
            ],
        ),
        (
            "WatchDeliveries",
            staff.watch_deliveries(watch).await.err(),
            &[
                "filter.broadcast_id",
                "filter.notification_id",
                "filter.patient_ids[0]",
                "filter.patient_ids[2]",
                "filter.states[0]",
                "heartbeat_interval",
            ],
        ),
    ]
}

async fn of_broadcasts(t: &TestApp) -> Vec<Row> {
    let mut admin = t.caller(Role::PracticeAdmin).broadcasts;
    let named =
        |values: &[&str]| Selection::PatientIds(PatientIds { values: values.iter().map(|&id| id.into()).collect() });
    let input = |subject: &str, selection| BroadcastInput {
        title: String::new(),
        audience: Some(Audience { selection: Some(selection) }),
        channels: vec![1, 2, 9],
        subject: subject.into(),
        body: "Dear {{ canary }},\n{{link}}\n{% if canary %}".into(),
        schedule_time: no_time(),
    };
    let tags = Selection::Tags(Tags { values: vec!["new".into(), String::new()] });
    let create = CreateBroadcastRequest {
        practice_id: acme(),
        request_id: String::new(),
        broadcast: Some(input("", named(&["pat", "a b"]))),
        expected_recipients: 0,
    };
    let preview = PreviewBroadcastRequest {
        practice_id: acme(),
        broadcast: Some(input("Hi {{ canary }}", tags)),
        sample_patient_id: control("/"),
    };
    let [get, cancel, watch] = [
        admin.get_broadcast(GetBroadcastRequest { practice_id: acme(), broadcast_id: bad() }).await.err(),
        admin.cancel_broadcast(CancelBroadcastRequest { practice_id: acme(), broadcast_id: bad() }).await.err(),
        admin.watch_broadcast(WatchBroadcastRequest { practice_id: acme(), broadcast_id: bad() }).await.err(),
    ];
    let list = ListBroadcastsRequest { practice_id: acme(), states: vec![9, 0], ..Default::default() };
    vec![
        (
            "CreateBroadcast",
            admin.create_broadcast(create).await.err(),
            &[
                "broadcast.audience.patient_ids.values[1]",
                "broadcast.body",
                "broadcast.body",
                "broadcast.channels[2]",
                "broadcast.schedule_time",
                "broadcast.subject",
                "broadcast.title",
                "expected_recipients",
                "request_id",
            ],
        ),
        (
            "PreviewBroadcast",
            admin.preview_broadcast(preview).await.err(),
            &[
                "broadcast.audience.tags.values[1]",
                "broadcast.body",
                "broadcast.body",
                "broadcast.channels[2]",
                "broadcast.schedule_time",
                "broadcast.subject",
                "broadcast.title",
                "sample_patient_id",
            ],
        ),
        ("GetBroadcast", get, &["broadcast_id"]),
        ("CancelBroadcast", cancel, &["broadcast_id"]),
        ("WatchBroadcast", watch, &["broadcast_id"]),
        ("ListBroadcasts", admin.list_broadcasts(list).await.err(), &["states[0]", "states[1]"]),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table reads better whole")]
async fn of_conversations(t: &TestApp) -> Vec<Row> {
    let mut staff = t.caller(Role::Staff).conversations;
    let send = |route, target| SendMessageRequest {
        practice_id: acme(),
        request_id: String::new(),
        target: Some(target),
        route,
        body: control("\0"),
        attachment_ids: vec![bad(), String::new()],
    };
    let list = ListConversationsRequest {
        practice_id: acme(),
        filter: Some(ConversationFilter {
            states: vec![9],
            assignee_ids: vec![control("\n"), long(257)],
            patient_id: control("/"),
            subset: 99,
        }),
        ..Default::default()
    };
    let update = UpdateConversationRequest {
        practice_id: acme(),
        conversation: Some(Conversation {
            conversation_id: bad(),
            assignee_id: control("\n"),
            state: 9,
            ..Default::default()
        }),
        update_mask: Some(mask(&["state", "assignee_id", "etag", "phone_hint"])),
    };
    let link = LinkConversationRequest {
        practice_id: acme(),
        conversation_id: bad(),
        patient_id: control("/"),
        store_number: true,
    };
    let mark = MarkConversationReadRequest { practice_id: acme(), conversation_id: bad(), message_id: bad() };
    let watch = WatchConversationsRequest {
        practice_id: acme(),
        conversation_id: bad(),
        cursor: bad(),
        heartbeat_interval: seconds(61),
    };
    let messages = ListMessagesRequest { practice_id: acme(), conversation_id: bad(), ..Default::default() };
    let get = GetConversationRequest { practice_id: acme(), conversation_id: bad() };
    let upload = UploadAttachmentRequest { practice_id: acme(), file_name: control("/"), ..Default::default() };
    let download = DownloadAttachmentRequest { practice_id: acme(), attachment_id: bad() };
    let mut portal = t.caller(Role::Portal).conversations;
    let by_text = send(1, Target::PatientId(control("/")));
    vec![
        (
            "ListConversations",
            staff.list_conversations(list).await.err(),
            &[
                "filter.assignee_ids[0]",
                "filter.assignee_ids[1]",
                "filter.patient_id",
                "filter.states[0]",
                "filter.subset",
            ],
        ),
        ("GetConversation", staff.get_conversation(get).await.err(), &["conversation_id"]),
        ("ListMessages", staff.list_messages(messages).await.err(), &["conversation_id"]),
        (
            "SendMessage",
            staff.send_message(send(9, Target::ConversationId(bad()))).await.err(),
            &["attachment_ids[0]", "attachment_ids[1]", "body", "conversation_id", "request_id", "route"],
        ),
        (
            "SendMessage of the portal",
            portal.send_message(by_text).await.err(),
            &["attachment_ids[0]", "attachment_ids[1]", "body", "patient_id", "request_id", "route"],
        ),
        (
            "UpdateConversation",
            staff.update_conversation(update).await.err(),
            &["conversation.assignee_id", "conversation.conversation_id", "conversation.state", "update_mask"],
        ),
        ("LinkConversation", staff.link_conversation(link).await.err(), &["conversation_id", "patient_id"]),
        ("MarkConversationRead", staff.mark_conversation_read(mark).await.err(), &["conversation_id", "message_id"]),
        (
            "WatchConversations",
            staff.watch_conversations(watch).await.err(),
            &["conversation_id", "heartbeat_interval"],
        ),
        (
            "UploadAttachment",
            staff.upload_attachment(upload).await.err(),
            &["content", "file_name", "media_type", "request_id"],
        ),
        ("DownloadAttachment", staff.download_attachment(download).await.err(), &["attachment_id"]),
    ]
}

async fn of_inboxes(t: &TestApp) -> Vec<Row> {
    let mut portal = t.caller(Role::Portal).inbox;
    let mark = MarkInboxItemsRequest {
        practice_id: acme(),
        patient_id: control("/"),
        selection: Some(Marked::ItemIds(ItemIds { values: vec![bad(), bad()] })),
        read_state: 9,
    };
    let watch = WatchInboxRequest {
        practice_id: acme(),
        patient_id: control("/"),
        cursor: String::new(),
        heartbeat_interval: seconds(1),
    };
    let register = RegisterPushDeviceRequest {
        practice_id: acme(),
        patient_id: control("/"),
        fcm_token: String::new(),
        device_name: control("\n"),
    };
    let delete = DeletePushDeviceRequest { practice_id: acme(), patient_id: control("/"), device_id: bad() };
    vec![
        (
            "MarkInboxItems",
            portal.mark_inbox_items(mark).await.err(),
            &["item_ids.values[0]", "item_ids.values[1]", "patient_id", "read_state"],
        ),
        ("WatchInbox", portal.watch_inbox(watch).await.err(), &["heartbeat_interval", "patient_id"]),
        (
            "RegisterPushDevice",
            portal.register_push_device(register).await.err(),
            &["device_name", "fcm_token", "patient_id"],
        ),
        ("DeletePushDevice", portal.delete_push_device(delete).await.err(), &["device_id", "patient_id"]),
    ]
}

async fn of_preferences(t: &TestApp) -> Vec<Row> {
    let (mut staff, mut admin) = (t.caller(Role::Staff).preferences, t.caller(Role::PracticeAdmin).preferences);
    let sms =
        SmsSettings { account_sid: bad(), auth_token: control("\n"), prefix: control("\n"), ..Default::default() };
    let settings = UpdatePracticeSettingsRequest {
        practice_id: acme(),
        settings: Some(PracticeSettings { sms: Some(sms), link_hosts: vec![control("/")], ..Default::default() }),
        update_mask: Some(mask(&["sms", "link_hosts", "canary"])),
    };
    let choice = |kind, channels: &[i32]| KindChoice { kind, channels: Some(ChannelSet { values: channels.to_vec() }) };
    let choices = UpdatePatientPreferencesRequest {
        practice_id: acme(),
        patient_id: control("/"),
        choices: vec![choice(99, &[1]), choice(1, &[9, 1, 1])],
        etag: String::new(),
    };
    let record = RecordConsentRequest {
        practice_id: acme(),
        request_id: String::new(),
        patient_id: control("/"),
        channel: 9,
        state: 9,
        source: 9,
        effective_time: no_time(),
        evidence: control("\0"),
    };
    let records = ListConsentRecordsRequest {
        practice_id: acme(),
        patient_id: control("/"),
        channels: vec![9],
        ..Default::default()
    };
    let reach =
        BatchGetReachabilityRequest { practice_id: acme(), patient_ids: vec![control("/"), bad() + " "], kind: 99 };
    vec![
        (
            "UpdatePracticeSettings",
            admin.update_practice_settings(settings).await.err(),
            &[
                "settings.link_hosts[0]",
                "settings.sms.account_sid",
                "settings.sms.auth_token",
                "settings.sms.prefix",
                "update_mask",
            ],
        ),
        (
            "UpdatePatientPreferences",
            staff.update_patient_preferences(choices).await.err(),
            &["choices[0].kind", "choices[1].channels.values[0]", "choices[1].channels.values[2]", "patient_id"],
        ),
        (
            "RecordConsent",
            staff.record_consent(record).await.err(),
            &["channel", "effective_time", "evidence", "patient_id", "request_id", "source", "state"],
        ),
        ("ListConsentRecords", staff.list_consent_records(records).await.err(), &["channels[0]", "patient_id"]),
        (
            "BatchGetReachability",
            staff.batch_get_reachability(reach).await.err(),
            &["kind", "patient_ids[0]", "patient_ids[1]"],
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table reads better whole")]
async fn of_the_rest(t: &TestApp) -> Vec<Row> {
    let mut admin = t.caller(Role::PracticeAdmin).templates;
    let at =
        || Some(TemplateRef { target: Some(Template::Key("Canary!".into())), channel: 9, locale: "canary_".into() });
    let content = || Some(TemplateContent { subject: control("\n"), text: String::new(), html: control("\0") });
    let create = CreateTemplateVersionRequest {
        practice_id: acme(),
        r#ref: at(),
        content: content(),
        variables: vec!["x".into(); 51],
        active: false,
    };
    let activate =
        ActivateTemplateVersionRequest { practice_id: acme(), r#ref: at(), version: -1, etag: String::new() };
    let variables = || [("when".to_owned(), long(1_001)), ("Canary".to_owned(), "x".to_owned())].into();
    let preview =
        PreviewTemplateRequest { practice_id: acme(), r#ref: at(), content: content(), variables: variables() };
    let test = SendTestMessageRequest {
        practice_id: acme(),
        request_id: String::new(),
        r#ref: at(),
        content: content(),
        variables: variables(),
        address: bad(),
    };
    let patients = ListPatientsRequest {
        practice_id: acme(),
        query: control("\n"),
        tags: vec![String::new(), "x".into(), long(65)],
        ..Default::default()
    };
    let events = ListAuditEventsRequest {
        practice_id: acme(),
        start_time: no_time(),
        end_time: no_time(),
        patient_id: control("/"),
        actor_id: long(129),
        action_prefix: control("\n"),
        ..Default::default()
    };
    vec![
        (
            "CreateTemplateVersion",
            admin.create_template_version(create).await.err(),
            &["content.html", "content.subject", "content.text", "ref.channel", "ref.key", "ref.locale", "variables"],
        ),
        (
            "ActivateTemplateVersion",
            admin.activate_template_version(activate).await.err(),
            &["ref.channel", "ref.key", "ref.locale", "version"],
        ),
        (
            "PreviewTemplate",
            admin.preview_template(preview).await.err(),
            &[
                "content.html",
                "content.subject",
                "content.text",
                "ref.channel",
                "ref.key",
                "ref.locale",
                "variables",
                "variables.when",
            ],
        ),
        (
            "SendTestMessage",
            admin.send_test_message(test).await.err(),
            &[
                "address",
                "content.html",
                "content.subject",
                "content.text",
                "ref.channel",
                "ref.key",
                "ref.locale",
                "request_id",
                "variables",
                "variables.when",
            ],
        ),
        (
            "ListPatients",
            t.caller(Role::Staff).directory.list_patients(patients).await.err(),
            &["query", "tags[0]", "tags[2]"],
        ),
        (
            "ListAuditEvents",
            t.caller(Role::Auditor).audit.list_audit_events(events).await.err(),
            &["action_prefix", "actor_id", "end_time", "patient_id", "start_time"],
        ),
    ]
}

on_a_server! {
    sqlite:
    async fn every_call_tells_all_that_is_wrong_at_once(t: &mut TestApp) {
        practice(t).await;
        all_refused(of_notifications(t).await);
        all_refused(of_broadcasts(t).await);
        all_refused(of_conversations(t).await);
        all_refused(of_inboxes(t).await);
        all_refused(of_preferences(t).await);
        all_refused(of_the_rest(t).await);
    }
}
