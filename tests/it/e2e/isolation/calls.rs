//! A good request of each call, with a name (`$patient`) wherever something is named that belongs to a practice; and what else
//! a request can say.

use heedwell::domain::Role::{self, Auditor, Directory, Operator, Portal, PracticeAdmin, Sender, Staff};
use serde_json::{Value, json};

/// A request that is answered when each name stands for something of the practice's own.
pub(super) struct Base {
    pub(super) call: &'static str,
    /// In which role.
    pub(super) by: Role,
    /// Without the practice.
    pub(super) request: Value,
    /// Whether it changes nothing, so that what it answers is the same each time.
    pub(super) reads: bool,
}

/// What every request begins with.
pub(super) const PRACTICE: &str = "practice_id";

/// Fields of requests that name something of a practice, and by which name the requests below have it.
pub(super) const NAMES: &[(&str, &[(&str, &str)])] = &[
    ("NotificationInput", &[("patient_id", "$patient"), ("reference", "$reference")]),
    ("MessageReceivedDetails", &[("conversation_id", "$conversation")]),
    ("CustomDetails", &[("template_key", "$template")]),
    ("SendNotificationRequest", &[("request_id", "$key")]),
    ("BatchSendNotificationsRequest.BatchItem", &[("request_id", "$key")]),
    ("GetNotificationRequest", &[("notification_id", "$notification")]),
    ("CancelNotificationRequest", &[("notification_id", "$notification")]),
    ("RetryDeliveryRequest", &[("request_id", "$key"), ("delivery_id", "$delivery")]),
    (
        "DeliveryFilter",
        &[
            ("patient_ids", "$patient"),
            ("notification_id", "$notification"),
            ("broadcast_id", "$broadcast"),
            ("reference", "$reference"),
        ],
    ),
    ("ListDeliveriesRequest", &[("page_token", "$page")]),
    ("WatchDeliveriesRequest", &[("cursor", "$cursor")]),
    ("Audience.PatientIds", &[("values", "$patient")]),
    ("Audience.Tags", &[("values", "$tag")]),
    ("PreviewBroadcastRequest", &[("sample_patient_id", "$patient")]),
    ("CreateBroadcastRequest", &[("request_id", "$key")]),
    ("GetBroadcastRequest", &[("broadcast_id", "$broadcast")]),
    ("ListBroadcastsRequest", &[("page_token", "$page")]),
    ("CancelBroadcastRequest", &[("broadcast_id", "$broadcast")]),
    ("WatchBroadcastRequest", &[("broadcast_id", "$broadcast")]),
    ("TemplateRef", &[("key", "$template")]),
    ("ListTemplatesRequest", &[("page_token", "$page")]),
    ("SendTestMessageRequest", &[("request_id", "$key"), ("address", "$contact")]),
    ("ListInboxItemsRequest", &[("patient_id", "$patient"), ("page_token", "$page")]),
    ("MarkInboxItemsRequest", &[("patient_id", "$patient")]),
    ("MarkInboxItemsRequest.ItemIds", &[("values", "$item")]),
    ("WatchInboxRequest", &[("patient_id", "$patient"), ("cursor", "$cursor")]),
    ("RegisterPushDeviceRequest", &[("patient_id", "$patient"), ("fcm_token", "$phone")]),
    ("DeletePushDeviceRequest", &[("patient_id", "$patient"), ("device_id", "$device")]),
    ("GetPatientPreferencesRequest", &[("patient_id", "$patient")]),
    ("UpdatePatientPreferencesRequest", &[("patient_id", "$patient")]),
    ("RecordConsentRequest", &[("request_id", "$key"), ("patient_id", "$patient")]),
    ("ListConsentRecordsRequest", &[("patient_id", "$patient"), ("page_token", "$page")]),
    ("BatchGetReachabilityRequest", &[("patient_ids", "$patient")]),
    ("ConversationFilter", &[("assignee_ids", "$assignee"), ("patient_id", "$patient")]),
    ("ListConversationsRequest", &[("page_token", "$page")]),
    ("GetConversationRequest", &[("conversation_id", "$conversation")]),
    ("ListMessagesRequest", &[("conversation_id", "$conversation"), ("page_token", "$page")]),
    (
        "SendMessageRequest",
        &[
            ("request_id", "$key"),
            ("conversation_id", "$conversation"),
            ("patient_id", "$patient"),
            ("attachment_ids", "$upload"),
        ],
    ),
    ("Conversation", &[("conversation_id", "$conversation"), ("assignee_id", "$assignee")]),
    ("LinkConversationRequest", &[("conversation_id", "$stranger"), ("patient_id", "$patient")]),
    ("MarkConversationReadRequest", &[("conversation_id", "$conversation"), ("message_id", "$message")]),
    ("WatchConversationsRequest", &[("conversation_id", "$conversation"), ("cursor", "$cursor")]),
    ("UploadAttachmentRequest", &[("request_id", "$key")]),
    ("DownloadAttachmentRequest", &[("attachment_id", "$attachment")]),
    ("Patient", &[("patient_id", "$newcomer")]),
    ("GetPatientRequest", &[("patient_id", "$patient")]),
    ("ListPatientsRequest", &[("query", "$query"), ("tags", "$tag"), ("page_token", "$page")]),
    ("ErasePatientRequest", &[("patient_id", "$leaver")]),
    ("ListAuditEventsRequest", &[("patient_id", "$patient"), ("actor_id", "$actor"), ("page_token", "$page")]),
];

/// Fields of requests by which nothing is looked up: words, settings, and what only answers fill in.
pub(super) const WORDS: &[(&str, &[&str])] = &[
    ("BroadcastInput", &["title", "subject", "body"]),
    (
        "Practice",
        &[
            "practice_id",
            "legal_name",
            "display_name",
            "phone",
            "time_zone",
            "locale",
            "portal_url",
            "postal_address",
            "etag",
        ],
    ),
    ("Patient", &["first_name", "last_name", "email", "mobile_phone", "locale", "time_zone", "tags"]),
    ("ListAuditEventsRequest", &["action_prefix"]),
    ("RegisterPushDeviceRequest", &["device_name"]),
    ("SendMessageRequest", &["body"]),
    (
        "Conversation",
        &[
            "patient_id",
            "candidate_patient_ids",
            "phone_hint",
            "staff_read_message_id",
            "patient_read_message_id",
            "etag",
        ],
    ),
    ("UploadAttachmentRequest", &["file_name", "media_type", "content"]),
    ("TemplateRef", &["locale"]),
    ("CreateTemplateVersionRequest", &["variables"]),
    ("TemplateContent", &["subject", "text", "html"]),
    ("ActivateTemplateVersionRequest", &["etag"]),
    ("PreviewTemplateRequest.VariablesEntry", &["key", "value"]),
    ("SendTestMessageRequest.VariablesEntry", &["key", "value"]),
    ("NotificationInput", &["custom_content"]),
    ("CustomDetails.VariablesEntry", &["key", "value"]),
    ("SystemDetails", &["title", "body"]),
    ("DocumentDetails", &["titles"]),
    ("SecureLink", &["target_url"]),
    ("MessageReceivedDetails", &["sender_name"]),
    ("PaymentDetails", &["invoice_number", "method_hint"]),
    ("Money", &["currency_code"]),
    ("AppointmentDetails", &["time_zone", "provider_name", "location_name", "location_address"]),
    ("PracticeSettings", &["link_hosts", "test_contacts", "etag"]),
    ("SetupFinding", &["field", "message"]),
    ("AfterHoursReply", &["text"]),
    ("PushSettings", &["fcm_service_account_json"]),
    (
        "EmailSettings",
        &[
            "from_address",
            "from_name",
            "reply_to_address",
            "dkim_domain",
            "dkim_selector",
            "dkim_private_key",
            "dkim_record_name",
            "dkim_record",
            "bounce_address",
            "bounce_secret",
            "bounce_webhook_url",
        ],
    ),
    ("SendGridSettings", &["api_key", "webhook_public_key", "event_webhook_url"]),
    ("SmtpSettings", &["host", "username", "password"]),
    (
        "SmsSettings",
        &[
            "account_sid",
            "auth_token",
            "secondary_auth_token",
            "api_key_sid",
            "api_key_secret",
            "from_number",
            "messaging_service_sid",
            "prefix",
            "inbound_webhook_url",
        ],
    ),
    ("UpdatePatientPreferencesRequest", &["etag"]),
    ("RecordConsentRequest", &["evidence"]),
];

const fn base(call: &'static str, by: Role, request: Value, reads: bool) -> Base {
    Base { call, by, request, reads }
}

/// One that changes nothing.
const fn read(call: &'static str, by: Role, request: Value) -> Base {
    base(call, by, request, true)
}

const fn write(call: &'static str, by: Role, request: Value) -> Base {
    base(call, by, request, false)
}

pub(super) fn all() -> Vec<Base> {
    [notifications(), broadcasts(), templates(), inboxes(), preferences(), conversations(), directory()]
        .into_iter()
        .flatten()
        .collect()
}

fn notifications() -> Vec<Base> {
    let message = json!({"patient_id": "$patient", "channels": [1], "reference": "$reference",
        "message_received": {"sender_name": "Dr. Ray", "conversation_id": "$conversation"}});
    let custom = json!({"patient_id": "$patient", "channels": [1],
        "custom": {"template_key": "$template", "variables": {"when": "noon"}}});
    vec![
        write("NotifyService/SendNotification", Staff, json!({"request_id": "$key", "notification": message})),
        write("NotifyService/SendNotification", Sender, json!({"request_id": "$key", "notification": custom})),
        write(
            "NotifyService/BatchSendNotifications",
            Sender,
            json!({"items": [{"request_id": "$key", "notification": message}]}),
        ),
        write(
            "NotifyService/BatchSendNotifications",
            Sender,
            json!({"items": [{"request_id": "$key", "notification": custom}]}),
        ),
        read("NotifyService/PreviewNotification", Staff, json!({"notification": message})),
        read("NotifyService/PreviewNotification", Sender, json!({"notification": custom})),
        read("NotifyService/GetNotification", Staff, json!({"notification_id": "$notification", "view": 2})),
        read("NotifyService/GetNotification", Auditor, json!({"notification_id": "$notification", "view": 1})),
        write("NotifyService/CancelNotification", Sender, json!({"notification_id": "$notification"})),
        write("NotifyService/RetryDelivery", Staff, json!({"request_id": "$key", "delivery_id": "$delivery"})),
        read("NotifyService/ListDeliveries", Staff, json!({"filter": {"patient_ids": ["$patient"]}})),
        read("NotifyService/ListDeliveries", Sender, json!({"filter": {"notification_id": "$notification"}})),
        read("NotifyService/ListDeliveries", Auditor, json!({"filter": {"broadcast_id": "$broadcast"}})),
        read("NotifyService/ListDeliveries", Staff, json!({"filter": {"reference": "$reference"}})),
        read("NotifyService/ListDeliveries", Staff, json!({"page_size": 1, "page_token": "$page"})),
        read("NotifyService/WatchDeliveries", Staff, json!({"cursor": "$cursor"})),
        read("NotifyService/WatchDeliveries", Staff, json!({"filter": {"patient_ids": ["$patient"]}})),
        read("NotifyService/WatchDeliveries", Sender, json!({"filter": {"notification_id": "$notification"}})),
        read("NotifyService/WatchDeliveries", Auditor, json!({"filter": {"broadcast_id": "$broadcast"}})),
        read("NotifyService/WatchDeliveries", Staff, json!({"filter": {"reference": "$reference"}})),
        read(
            "NotifyService/GetDeliveryStats",
            Auditor,
            json!({"start_time": "2026-03-01T00:00:00Z", "end_time": "2026-03-03T00:00:00Z"}),
        ),
    ]
}

fn broadcasts() -> Vec<Base> {
    let input = |audience: Value| {
        json!({"title": "Closed", "audience": audience, "channels": [1], "subject": "Closed", "body": "We are closed.",
            "schedule_time": "2026-12-01T00:00:00Z"})
    };
    let (named, tagged) =
        (|| input(json!({"patient_ids": {"values": ["$patient"]}})), || input(json!({"tags": {"values": ["$tag"]}})));
    vec![
        read(
            "BroadcastService/PreviewBroadcast",
            Staff,
            json!({"broadcast": named(), "sample_patient_id": "$patient"}),
        ),
        read("BroadcastService/PreviewBroadcast", Staff, json!({"broadcast": tagged()})),
        write(
            "BroadcastService/CreateBroadcast",
            PracticeAdmin,
            json!({"request_id": "$key", "broadcast": named(), "expected_recipients": 1}),
        ),
        write(
            "BroadcastService/CreateBroadcast",
            PracticeAdmin,
            json!({"request_id": "$key", "broadcast": tagged(), "expected_recipients": 1}),
        ),
        read("BroadcastService/GetBroadcast", Auditor, json!({"broadcast_id": "$broadcast"})),
        read("BroadcastService/ListBroadcasts", Staff, json!({"page_size": 1, "page_token": "$page"})),
        write("BroadcastService/CancelBroadcast", PracticeAdmin, json!({"broadcast_id": "$broadcast"})),
        read("BroadcastService/WatchBroadcast", Staff, json!({"broadcast_id": "$broadcast"})),
    ]
}

fn templates() -> Vec<Base> {
    let at = json!({"key": "$template", "channel": 1});
    let content = json!({"subject": "Hello", "text": "Come at {{ when }}, please."});
    vec![
        read("TemplateService/ListTemplates", Staff, json!({"page_size": 1, "page_token": "$page"})),
        read("TemplateService/GetTemplate", Staff, json!({"ref": at})),
        write(
            "TemplateService/CreateTemplateVersion",
            PracticeAdmin,
            json!({"ref": at, "content": content, "variables": ["when"], "active": true}),
        ),
        write("TemplateService/ActivateTemplateVersion", PracticeAdmin, json!({"ref": at, "version": 1})),
        read(
            "TemplateService/PreviewTemplate",
            Staff,
            json!({"ref": at, "content": content, "variables": {"when": "noon"}}),
        ),
        write(
            "TemplateService/SendTestMessage",
            PracticeAdmin,
            json!({"request_id": "$key", "ref": {"key": "$template", "channel": 2}, "content": content,
                "variables": {"when": "noon"}, "address": "$contact"}),
        ),
    ]
}

fn inboxes() -> Vec<Base> {
    vec![
        read("InboxService/ListInboxItems", Portal, json!({"patient_id": "$patient"})),
        read(
            "InboxService/ListInboxItems",
            Portal,
            json!({"patient_id": "$patient", "page_size": 1, "page_token": "$page"}),
        ),
        write(
            "InboxService/MarkInboxItems",
            Portal,
            json!({"patient_id": "$patient", "item_ids": {"values": ["$item"]}, "read_state": 1}),
        ),
        read("InboxService/WatchInbox", Portal, json!({"patient_id": "$patient", "cursor": "$cursor"})),
        write("InboxService/RegisterPushDevice", Portal, json!({"patient_id": "$patient", "fcm_token": "$phone"})),
        write("InboxService/DeletePushDevice", Portal, json!({"patient_id": "$patient", "device_id": "$device"})),
    ]
}

fn preferences() -> Vec<Base> {
    vec![
        read("PreferencesService/GetPracticeSettings", Staff, json!({})),
        write(
            "PreferencesService/UpdatePracticeSettings",
            PracticeAdmin,
            json!({"settings": {"link_hosts": ["portal.acme.example"]}, "update_mask": "linkHosts"}),
        ),
        read("PreferencesService/GetPatientPreferences", Staff, json!({"patient_id": "$patient"})),
        write(
            "PreferencesService/UpdatePatientPreferences",
            Portal,
            json!({"patient_id": "$patient", "choices": [{"kind": 1, "channels": {"values": [1, 2]}}]}),
        ),
        write(
            "PreferencesService/RecordConsent",
            Portal,
            json!({"request_id": "$key", "patient_id": "$patient", "channel": 4, "state": 3, "source": 1}),
        ),
        read("PreferencesService/ListConsentRecords", Auditor, json!({"patient_id": "$patient"})),
        read("PreferencesService/ListConsentRecords", Staff, json!({"page_size": 1, "page_token": "$page"})),
        read("PreferencesService/BatchGetReachability", Sender, json!({"patient_ids": ["$patient"], "kind": 1})),
    ]
}

fn conversations() -> Vec<Base> {
    vec![
        read("ConversationsService/ListConversations", Staff, json!({"filter": {"patient_id": "$patient"}})),
        read("ConversationsService/ListConversations", Staff, json!({"filter": {"assignee_ids": ["$assignee"]}})),
        read("ConversationsService/ListConversations", Staff, json!({"page_size": 1, "page_token": "$page"})),
        read("ConversationsService/GetConversation", Staff, json!({"conversation_id": "$conversation"})),
        read("ConversationsService/ListMessages", Staff, json!({"conversation_id": "$conversation"})),
        read(
            "ConversationsService/ListMessages",
            Portal,
            json!({"conversation_id": "$conversation", "page_size": 1, "page_token": "$page"}),
        ),
        write(
            "ConversationsService/SendMessage",
            Staff,
            json!({"request_id": "$key", "conversation_id": "$conversation", "route": 2, "body": "Hello."}),
        ),
        write(
            "ConversationsService/SendMessage",
            Staff,
            json!({"request_id": "$key", "patient_id": "$patient", "route": 2, "attachment_ids": ["$upload"]}),
        ),
        write(
            "ConversationsService/UpdateConversation",
            Staff,
            json!({"conversation": {"conversation_id": "$conversation", "assignee_id": "$assignee"}, "update_mask": "assigneeId"}),
        ),
        write(
            "ConversationsService/LinkConversation",
            Staff,
            json!({"conversation_id": "$stranger", "patient_id": "$patient"}),
        ),
        write(
            "ConversationsService/MarkConversationRead",
            Staff,
            json!({"conversation_id": "$conversation", "message_id": "$message"}),
        ),
        read(
            "ConversationsService/WatchConversations",
            Staff,
            json!({"conversation_id": "$conversation", "cursor": "$cursor"}),
        ),
        write(
            "ConversationsService/UploadAttachment",
            Staff,
            json!({"request_id": "$key", "file_name": "note.txt", "media_type": "text/plain", "content": "SGVsbG8="}),
        ),
        read("ConversationsService/DownloadAttachment", Staff, json!({"attachment_id": "$attachment"})),
    ]
}

fn directory() -> Vec<Base> {
    let home = json!({"legal_name": "Acme Primary Care, PLLC", "display_name": "Acme Primary Care",
        "time_zone": "America/New_York"});
    vec![
        write("DirectoryService/PutPractice", Operator, json!({"practice": home})),
        read("DirectoryService/GetPractice", Staff, json!({})),
        write(
            "DirectoryService/BatchPutPatients",
            Directory,
            json!({"patients": [{"patient_id": "$newcomer", "first_name": "New"}]}),
        ),
        read("DirectoryService/GetPatient", Staff, json!({"patient_id": "$patient"})),
        read("DirectoryService/ListPatients", Staff, json!({"query": "$query"})),
        read("DirectoryService/ListPatients", Directory, json!({"tags": ["$tag"]})),
        read("DirectoryService/ListPatients", Directory, json!({"page_size": 1, "page_token": "$page"})),
        write("DirectoryService/ErasePatient", PracticeAdmin, json!({"patient_id": "$leaver"})),
        // That somebody reads the trail is on it.
        write("AuditService/ListAuditEvents", Auditor, json!({"patient_id": "$patient"})),
        write("AuditService/ListAuditEvents", Auditor, json!({"actor_id": "$actor"})),
        write("AuditService/ListAuditEvents", Auditor, json!({"page_size": 1, "page_token": "$page"})),
    ]
}
