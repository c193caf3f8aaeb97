//! Each call of the contract, made once so that it succeeds, and what the trail then says of it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use heedwell::{
    domain::{
        Phi,
        Role::{Auditor, Directory, Operator, Portal, PracticeAdmin, Sender, Staff},
    },
    grpc::proto::{
        self, ActivateTemplateVersionRequest, ActorType, Audience, AuditEvent, BatchGetReachabilityRequest,
        BatchPutPatientsRequest, BatchSendNotificationsRequest, BroadcastInput, CancelBroadcastRequest,
        CancelNotificationRequest, Channel, ConsentSource, ConsentState, Conversation, CreateBroadcastRequest,
        CreateTemplateVersionRequest, DeletePushDeviceRequest, DownloadAttachmentRequest, ErasePatientRequest,
        GetBroadcastRequest, GetConversationRequest, GetDeliveryStatsRequest, GetNotificationRequest,
        GetPatientPreferencesRequest, GetPatientRequest, GetPracticeRequest, GetPracticeSettingsRequest,
        GetTemplateRequest, KindChoice, LinkConversationRequest, ListAuditEventsRequest, ListBroadcastsRequest,
        ListConsentRecordsRequest, ListConversationsRequest, ListDeliveriesRequest, ListInboxItemsRequest,
        ListMessagesRequest, ListPatientsRequest, ListTemplatesRequest, MarkConversationReadRequest,
        MarkInboxItemsRequest, MessageRoute, NotificationInput, NotificationKind, NotificationView, Patient,
        PracticeSettings, PreviewBroadcastRequest, PreviewNotificationRequest, PreviewTemplateRequest,
        PutPracticeRequest, RecordConsentRequest, RegisterPushDeviceRequest, RetryDeliveryRequest, SendMessageRequest,
        SendTestMessageRequest, TemplateRef, UpdateConversationRequest, UpdatePatientPreferencesRequest,
        UpdatePracticeSettingsRequest, UploadAttachmentRequest, WatchBroadcastRequest, WatchConversationsRequest,
        WatchDeliveriesRequest, WatchInboxRequest,
        audience::{PatientIds, Selection},
        batch_send_notifications_request::BatchItem,
        mark_inbox_items_request::{ReadState, Selection as Marked},
        send_message_request::Target,
        template_ref::Target as Template,
    },
};
use prost::Message;

use super::{short, trail};
use crate::{
    e2e::{
        access::CALLS,
        attachments::PNG,
        given::{PHONE, home, mask, new_key, practice, put_patient, reminder, request, somebody_with_phone},
        inbound::{posted, sid, text},
        seen::until_state,
    },
    support::app::{ACME, TestApp, on_a_server, timestamp},
};

/// What a call that ended well puts on the trail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// An entry about this patient (or nobody), and about something whose name begins so.
    Entry(&'static str, &'static str),
    /// Nothing, and why.
    Nothing(&'static str),
}
use Told::{Entry, Nothing};

const NO_TEXT: &str = "states and counts, without any text or name";
const OF_THE_PRACTICE: &str = "what the practice itself wrote or set up";

/// Every call of the contract.
const TOLD: &[(&str, Told)] = &[
    ("NotifyService/SendNotification", Entry("pat", "notification/")),
    ("NotifyService/BatchSendNotifications", Entry("pat", "notification/")),
    ("NotifyService/PreviewNotification", Entry("pat", "preview")),
    ("NotifyService/GetNotification", Entry("pat", "notification/")),
    ("NotifyService/CancelNotification", Entry("pat", "notification/")),
    ("NotifyService/RetryDelivery", Entry("lee", "delivery/")),
    ("NotifyService/ListDeliveries", Nothing(NO_TEXT)),
    ("NotifyService/WatchDeliveries", Nothing(NO_TEXT)),
    ("NotifyService/GetDeliveryStats", Nothing(NO_TEXT)),
    ("BroadcastService/PreviewBroadcast", Entry("pat", "preview")),
    ("BroadcastService/CreateBroadcast", Entry("", "broadcast/")),
    ("BroadcastService/GetBroadcast", Entry("", "broadcast/")),
    ("BroadcastService/ListBroadcasts", Entry("", "broadcasts")),
    ("BroadcastService/CancelBroadcast", Entry("", "broadcast/")),
    ("BroadcastService/WatchBroadcast", Entry("", "broadcast/")),
    ("TemplateService/ListTemplates", Nothing(OF_THE_PRACTICE)),
    ("TemplateService/GetTemplate", Nothing(OF_THE_PRACTICE)),
    ("TemplateService/CreateTemplateVersion", Entry("", "template/own/appointment_reminder/SMS/")),
    ("TemplateService/ActivateTemplateVersion", Entry("", "template/own/appointment_reminder/SMS/")),
    ("TemplateService/PreviewTemplate", Nothing("invented data")),
    ("TemplateService/SendTestMessage", Entry("", "test message/")),
    ("InboxService/ListInboxItems", Entry("pat", "inbox")),
    ("InboxService/MarkInboxItems", Entry("pat", "inbox")),
    ("InboxService/WatchInbox", Entry("pat", "inbox")),
    ("InboxService/RegisterPushDevice", Entry("pat", "device/")),
    ("InboxService/DeletePushDevice", Entry("pat", "device/")),
    ("PreferencesService/GetPracticeSettings", Nothing(OF_THE_PRACTICE)),
    ("PreferencesService/UpdatePracticeSettings", Entry("", "settings")),
    ("PreferencesService/GetPatientPreferences", Entry("pat", "preferences")),
    ("PreferencesService/UpdatePatientPreferences", Entry("pat", "preferences")),
    ("PreferencesService/RecordConsent", Entry("pat", "consent/1")),
    ("PreferencesService/ListConsentRecords", Entry("", "consent")),
    ("PreferencesService/BatchGetReachability", Nothing("channels, by patients' ids alone")),
    ("ConversationsService/ListConversations", Entry("", "conversations")),
    ("ConversationsService/GetConversation", Entry("pat", "conversation/")),
    ("ConversationsService/ListMessages", Entry("pat", "conversation/")),
    ("ConversationsService/SendMessage", Entry("pat", "message/")),
    ("ConversationsService/UpdateConversation", Entry("pat", "conversation/")),
    ("ConversationsService/LinkConversation", Entry("kim", "conversation/")),
    ("ConversationsService/MarkConversationRead", Entry("pat", "conversation/")),
    ("ConversationsService/WatchConversations", Entry("pat", "conversation/")),
    ("ConversationsService/UploadAttachment", Entry("", "attachment/")),
    ("ConversationsService/DownloadAttachment", Entry("pat", "attachment/")),
    ("DirectoryService/PutPractice", Entry("", "practice")),
    ("DirectoryService/GetPractice", Nothing(OF_THE_PRACTICE)),
    ("DirectoryService/BatchPutPatients", Entry("pat", "patient/pat")),
    ("DirectoryService/GetPatient", Entry("pat", "patient/pat")),
    ("DirectoryService/ListPatients", Entry("", "patients")),
    ("DirectoryService/ErasePatient", Entry("kim", "patient/kim")),
    ("AuditService/ListAuditEvents", Entry("pat", "audit")),
];

#[test]
fn the_table_names_each_call_of_the_contract_once() {
    let told: Vec<_> = TOLD.iter().map(|(method, _)| *method).collect();
    let calls: Vec<_> = CALLS.iter().map(|(method, _)| *method).collect();
    assert!(TOLD.iter().all(|(_, told)| *told != Nothing("")), "each that is not told has a reason");
    assert_eq!(told, calls);
}

/// What patients are called, where they are reached and what they say: none of it may be on a trail.
pub(in crate::e2e) const CANARIES: [&str; 11] = [
    "Canaria",
    "Quillfeather",
    "quill@canary.example",
    PHONE,
    "2025550142",
    "+12025550177",
    "canary-said",
    "canary-file",
    "canary-evidence",
    "canary-typed",
    "canary-device-token",
];

fn pat() -> Patient {
    Patient {
        patient_id: "pat".into(),
        first_name: "Canaria".into(),
        last_name: "Quillfeather".into(),
        email: "quill@canary.example".into(),
        mobile_phone: PHONE.into(),
        portal_enabled: true,
        ..Default::default()
    }
}

fn acme() -> String {
    ACME.into()
}

/// Makes calls, each by its name and in a role that may, and keeps account of them.
struct Calls<'a> {
    t: &'a TestApp,
    made: BTreeSet<&'static str>,
}

/// Makes a call that ends well.
macro_rules! made {
    ($calls:ident, $role:expr, $service:ident.$method:ident, $name:literal, $request:expr) => {{
        let answer = $calls.t.caller($role).$service.$method($request).await;
        assert!($calls.made.insert($name), "{} is made once", $name);
        answer.unwrap_or_else(|status| panic!("{}: {status}", $name)).into_inner()
    }};
}

/// Makes a call that ends well, and takes the first answer of its stream.
macro_rules! began {
    ($calls:ident, $role:expr, $service:ident.$method:ident, $name:literal, $request:expr) => {{
        let mut steps = made!($calls, $role, $service.$method, $name, $request);
        steps.message().await.unwrap().expect("a first answer")
    }};
}

impl Calls<'_> {
    async fn directory(&mut self) {
        let put = PutPracticeRequest {
            practice_id: acme(),
            practice: Some(proto::Practice { display_name: "Acme".into(), ..home() }),
        };
        made!(self, Operator, directory.put_practice, "DirectoryService/PutPractice", put);
        let get = GetPracticeRequest { practice_id: acme() };
        made!(self, Sender, directory.get_practice, "DirectoryService/GetPractice", get);
        let put = BatchPutPatientsRequest { practice_id: acme(), patients: vec![pat()] };
        made!(self, Directory, directory.batch_put_patients, "DirectoryService/BatchPutPatients", put);
        let get = GetPatientRequest { practice_id: acme(), patient_id: "pat".into() };
        made!(self, Staff, directory.get_patient, "DirectoryService/GetPatient", get);
        let find = ListPatientsRequest { practice_id: acme(), ..Default::default() };
        made!(self, Staff, directory.list_patients, "DirectoryService/ListPatients", find);
    }

    async fn notify(&mut self) {
        let t = self.t;
        let typed =
            NotificationInput { custom_content: "canary-typed".into(), ..reminder(t, "pat", &[Channel::InApp]) };
        let preview = PreviewNotificationRequest { practice_id: acme(), notification: Some(typed.clone()) };
        made!(self, Sender, notify.preview_notification, "NotifyService/PreviewNotification", preview);
        let send = request(&new_key(), typed.clone());
        let sent = made!(self, Sender, notify.send_notification, "NotifyService/SendNotification", send);
        let notification_id = sent.notification.unwrap().notification_id;
        let get = GetNotificationRequest {
            practice_id: acme(),
            notification_id: notification_id.clone(),
            view: NotificationView::Full.into(),
        };
        made!(self, Staff, notify.get_notification, "NotifyService/GetNotification", get);
        let later = NotificationInput { schedule_time: Some(t.after(TimeDelta::hours(2))), ..typed };
        let item = |notification| BatchItem { request_id: new_key(), notification: Some(notification) };
        let batch = BatchSendNotificationsRequest { practice_id: acme(), items: vec![item(later)] };
        let sent = made!(self, Sender, notify.batch_send_notifications, "NotifyService/BatchSendNotifications", batch);
        let proto::batch_send_notifications_response::batch_result::Outcome::Notification(sent) =
            sent.results[0].outcome.clone().unwrap()
        else {
            panic!("it is accepted")
        };
        let cancel = CancelNotificationRequest { practice_id: acme(), notification_id: sent.notification_id };
        made!(self, Sender, notify.cancel_notification, "NotifyService/CancelNotification", cancel);
        // A phone that is off.
        somebody_with_phone(t, "lee", "+12025550110").await;
        let failed = crate::e2e::given::send_over(t, "lee", Channel::Sms).await;
        until_state(t, &failed, "FAILED").await;
        let retry = RetryDeliveryRequest { practice_id: acme(), request_id: new_key(), delivery_id: failed };
        made!(self, Staff, notify.retry_delivery, "NotifyService/RetryDelivery", retry);
        let list = ListDeliveriesRequest { practice_id: acme(), ..Default::default() };
        made!(self, Staff, notify.list_deliveries, "NotifyService/ListDeliveries", list);
        let watch = WatchDeliveriesRequest { practice_id: acme(), ..Default::default() };
        began!(self, Staff, notify.watch_deliveries, "NotifyService/WatchDeliveries", watch);
        let start_time = Some(timestamp(t.now() - TimeDelta::days(1)));
        let stats = GetDeliveryStatsRequest { practice_id: acme(), start_time, ..Default::default() };
        made!(self, Staff, notify.get_delivery_stats, "NotifyService/GetDeliveryStats", stats);
    }

    async fn inbox(&mut self) {
        let (practice_id, patient_id) = (acme(), "pat".to_owned());
        let list = ListInboxItemsRequest {
            practice_id: practice_id.clone(),
            patient_id: patient_id.clone(),
            ..Default::default()
        };
        made!(self, Portal, inbox.list_inbox_items, "InboxService/ListInboxItems", list);
        let mark = MarkInboxItemsRequest {
            practice_id: practice_id.clone(),
            patient_id: patient_id.clone(),
            selection: Some(Marked::ThroughTime(timestamp(self.t.now()))),
            read_state: ReadState::Read.into(),
        };
        made!(self, Portal, inbox.mark_inbox_items, "InboxService/MarkInboxItems", mark);
        let watch = WatchInboxRequest {
            practice_id: practice_id.clone(),
            patient_id: patient_id.clone(),
            ..Default::default()
        };
        began!(self, Portal, inbox.watch_inbox, "InboxService/WatchInbox", watch);
        let register = RegisterPushDeviceRequest {
            practice_id: practice_id.clone(),
            patient_id: patient_id.clone(),
            fcm_token: "canary-device-token".into(),
            device_name: "Canaria's phone".into(),
        };
        let device_id =
            made!(self, Portal, inbox.register_push_device, "InboxService/RegisterPushDevice", register).device_id;
        let delete = DeletePushDeviceRequest { practice_id, patient_id, device_id };
        made!(self, Portal, inbox.delete_push_device, "InboxService/DeletePushDevice", delete);
    }

    async fn preferences(&mut self) {
        let get = GetPracticeSettingsRequest { practice_id: acme() };
        made!(self, Staff, preferences.get_practice_settings, "PreferencesService/GetPracticeSettings", get);
        let update = UpdatePracticeSettingsRequest {
            practice_id: acme(),
            settings: Some(PracticeSettings { test_contacts: vec!["+12025550160".into()], ..Default::default() }),
            update_mask: Some(mask(&["test_contacts"])),
        };
        made!(
            self,
            PracticeAdmin,
            preferences.update_practice_settings,
            "PreferencesService/UpdatePracticeSettings",
            update
        );
        let choice = KindChoice {
            kind: NotificationKind::PaymentDue.into(),
            channels: Some(proto::ChannelSet { values: vec![Channel::InApp.into()] }),
        };
        let update = UpdatePatientPreferencesRequest {
            practice_id: acme(),
            patient_id: "pat".into(),
            choices: vec![choice],
            etag: String::new(),
        };
        made!(
            self,
            Staff,
            preferences.update_patient_preferences,
            "PreferencesService/UpdatePatientPreferences",
            update
        );
        let consent = RecordConsentRequest {
            practice_id: acme(),
            request_id: new_key(),
            patient_id: "pat".into(),
            channel: Channel::Email.into(),
            state: ConsentState::OptedOut.into(),
            source: ConsentSource::Staff.into(),
            evidence: "canary-evidence".into(),
            ..Default::default()
        };
        made!(self, Staff, preferences.record_consent, "PreferencesService/RecordConsent", consent);
        // It shows what the decision rests on.
        let get = GetPatientPreferencesRequest { practice_id: acme(), patient_id: "pat".into() };
        made!(self, Staff, preferences.get_patient_preferences, "PreferencesService/GetPatientPreferences", get);
        let list = ListConsentRecordsRequest { practice_id: acme(), ..Default::default() };
        made!(self, Staff, preferences.list_consent_records, "PreferencesService/ListConsentRecords", list);
        let reach = BatchGetReachabilityRequest {
            practice_id: acme(),
            patient_ids: vec!["pat".into()],
            kind: NotificationKind::PaymentDue.into(),
        };
        made!(self, Staff, preferences.batch_get_reachability, "PreferencesService/BatchGetReachability", reach);
    }

    async fn templates(&mut self) {
        let at = || {
            Some(TemplateRef {
                target: Some(Template::Kind(NotificationKind::AppointmentReminder.into())),
                channel: Channel::Sms.into(),
                locale: "en-US".into(),
            })
        };
        let list = ListTemplatesRequest { practice_id: acme(), ..Default::default() };
        made!(self, Staff, templates.list_templates, "TemplateService/ListTemplates", list);
        let get = GetTemplateRequest { practice_id: acme(), r#ref: at() };
        let known = made!(self, Staff, templates.get_template, "TemplateService/GetTemplate", get);
        // Ours, put in the place of ours.
        let content = known.template.and_then(|template| template.active_content);
        let preview = PreviewTemplateRequest { practice_id: acme(), r#ref: at(), ..Default::default() };
        made!(self, Staff, templates.preview_template, "TemplateService/PreviewTemplate", preview);
        let create = CreateTemplateVersionRequest { practice_id: acme(), r#ref: at(), content, ..Default::default() };
        made!(self, PracticeAdmin, templates.create_template_version, "TemplateService/CreateTemplateVersion", create);
        let activate =
            ActivateTemplateVersionRequest { practice_id: acme(), r#ref: at(), version: 1, etag: String::new() };
        made!(
            self,
            PracticeAdmin,
            templates.activate_template_version,
            "TemplateService/ActivateTemplateVersion",
            activate
        );
        let test = SendTestMessageRequest {
            practice_id: acme(),
            request_id: new_key(),
            r#ref: at(),
            address: "+12025550160".into(),
            ..Default::default()
        };
        made!(self, PracticeAdmin, templates.send_test_message, "TemplateService/SendTestMessage", test);
    }

    async fn broadcasts(&mut self) {
        let input = || {
            let audience = Selection::PatientIds(PatientIds { values: vec!["pat".into()] });
            Some(BroadcastInput {
                title: "Closed on Friday".into(),
                audience: Some(Audience { selection: Some(audience) }),
                channels: vec![Channel::InApp.into()],
                subject: "Closed".into(),
                body: "Dear {{first_name}},\n\nwe are closed on Friday.".into(),
                schedule_time: Some(self.t.after(TimeDelta::days(1))),
            })
        };
        let (previewed, created) = (input(), input());
        let preview =
            PreviewBroadcastRequest { practice_id: acme(), broadcast: previewed, sample_patient_id: "pat".into() };
        made!(self, Staff, broadcasts.preview_broadcast, "BroadcastService/PreviewBroadcast", preview);
        let create = CreateBroadcastRequest {
            practice_id: acme(),
            request_id: new_key(),
            broadcast: created,
            expected_recipients: 1,
        };
        let made = made!(self, PracticeAdmin, broadcasts.create_broadcast, "BroadcastService/CreateBroadcast", create);
        let id = || made.broadcast.as_ref().unwrap().broadcast_id.clone();
        let get = GetBroadcastRequest { practice_id: acme(), broadcast_id: id() };
        made!(self, Staff, broadcasts.get_broadcast, "BroadcastService/GetBroadcast", get);
        let list = ListBroadcastsRequest { practice_id: acme(), ..Default::default() };
        made!(self, Staff, broadcasts.list_broadcasts, "BroadcastService/ListBroadcasts", list);
        let watch = WatchBroadcastRequest { practice_id: acme(), broadcast_id: id() };
        began!(self, Staff, broadcasts.watch_broadcast, "BroadcastService/WatchBroadcast", watch);
        let cancel = CancelBroadcastRequest { practice_id: acme(), broadcast_id: id() };
        made!(self, PracticeAdmin, broadcasts.cancel_broadcast, "BroadcastService/CancelBroadcast", cancel);
    }

    async fn conversations(&mut self) {
        let upload = UploadAttachmentRequest {
            practice_id: acme(),
            request_id: new_key(),
            file_name: "canary-file.png".into(),
            media_type: "image/png".into(),
            content: PNG.to_vec().into(),
        };
        let file = made!(self, Staff, conversations.upload_attachment, "ConversationsService/UploadAttachment", upload);
        let attachment_id = file.attachment.unwrap().attachment_id;
        let say = SendMessageRequest {
            practice_id: acme(),
            request_id: new_key(),
            target: Some(Target::PatientId("pat".into())),
            route: MessageRoute::Portal.into(),
            body: "canary-said".into(),
            attachment_ids: vec![attachment_id.clone()],
        };
        let said = made!(self, Staff, conversations.send_message, "ConversationsService/SendMessage", say);
        let conversation_id = said.conversation.unwrap().conversation_id;
        let message_id = said.message.unwrap().message_id;
        let list = ListConversationsRequest { practice_id: acme(), ..Default::default() };
        made!(self, Staff, conversations.list_conversations, "ConversationsService/ListConversations", list);
        let get = GetConversationRequest { practice_id: acme(), conversation_id: conversation_id.clone() };
        made!(self, Staff, conversations.get_conversation, "ConversationsService/GetConversation", get);
        let list =
            ListMessagesRequest { practice_id: acme(), conversation_id: conversation_id.clone(), ..Default::default() };
        made!(self, Staff, conversations.list_messages, "ConversationsService/ListMessages", list);
        let watch = WatchConversationsRequest {
            practice_id: acme(),
            conversation_id: conversation_id.clone(),
            ..Default::default()
        };
        began!(self, Staff, conversations.watch_conversations, "ConversationsService/WatchConversations", watch);
        let get = DownloadAttachmentRequest { practice_id: acme(), attachment_id };
        began!(self, Staff, conversations.download_attachment, "ConversationsService/DownloadAttachment", get);
        let update = UpdateConversationRequest {
            practice_id: acme(),
            conversation: Some(Conversation {
                conversation_id: conversation_id.clone(),
                assignee_id: "robin".into(),
                ..Default::default()
            }),
            update_mask: Some(mask(&["assignee_id"])),
        };
        made!(self, Staff, conversations.update_conversation, "ConversationsService/UpdateConversation", update);
        let read = MarkConversationReadRequest { practice_id: acme(), conversation_id, message_id };
        made!(self, Staff, conversations.mark_conversation_read, "ConversationsService/MarkConversationRead", read);

        assert_eq!(posted(self.t, &text(&sid(1), "+12025550177", "canary-said")).await, 200);
        let strangers = ListConversationsRequest {
            practice_id: acme(),
            filter: Some(proto::ConversationFilter {
                subset: proto::conversation_filter::Subset::Unlinked.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let found = self.t.caller(Staff).conversations.list_conversations(strangers).await.unwrap().into_inner();
        let link = LinkConversationRequest {
            practice_id: acme(),
            conversation_id: found.conversations[0].conversation_id.clone(),
            patient_id: "kim".into(),
            store_number: true,
        };
        made!(self, Staff, conversations.link_conversation, "ConversationsService/LinkConversation", link);
    }
}

/// Makes a practice, and each call of the contract so that it ends well. Yields their names.
pub(in crate::e2e) async fn every_call(t: &TestApp) -> BTreeSet<&'static str> {
    practice(t).await;
    put_patient(t, ACME, Patient { patient_id: "kim".into(), first_name: "Kim".into(), ..Default::default() }).await;
    let mut calls = Calls { t, made: BTreeSet::new() };
    calls.directory().await;
    calls.notify().await;
    calls.inbox().await;
    calls.preferences().await;
    calls.templates().await;
    calls.broadcasts().await;
    calls.conversations().await;
    let erase = ErasePatientRequest { practice_id: acme(), patient_id: "kim".into() };
    made!(calls, PracticeAdmin, directory.erase_patient, "DirectoryService/ErasePatient", erase);
    let list = ListAuditEventsRequest { practice_id: acme(), patient_id: "pat".into(), ..Default::default() };
    made!(calls, Auditor, audit.list_audit_events, "AuditService/ListAuditEvents", list);
    calls.made
}

fn is_told(events: &[&AuditEvent], patient: &str, resource: &str) -> bool {
    events.iter().any(|event| event.patient_id == patient && event.resource.starts_with(resource))
}

on_a_server! {
    async fn each_call_in_an_emergency_is_told_and_says_why(t: &mut TestApp) {
        t.emergency = Some(Phi::new("the portal is down".into()));
        let made = every_call(t).await;
        let list = ListAuditEventsRequest { practice_id: ACME.into(), page_size: 1_000, ..Default::default() };
        let events = t.caller(Auditor).audit.list_audit_events(list).await.unwrap().into_inner().events;
        let told: BTreeSet<_> = events.iter().map(short).collect();
        assert_eq!(made.into_iter().filter(|call| !told.contains(call)).collect::<Vec<_>>(), Vec::<&str>::new());
        for event in &events {
            assert!(event.emergency_reason == "the portal is down" || event.actor.as_ref().unwrap().id == "heedwell", "{}", event.action);
        }
        // Once each, by whichever way it gets there.
        let mut ids: Vec<_> = events.iter().map(|event| (&event.trace_id, &event.resource, &event.patient_id)).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    async fn each_call_is_told_as_the_table_says_and_nothing_tells_too_much(t: &mut TestApp) {
        let made = every_call(t).await;
        let all: BTreeSet<_> = TOLD.iter().map(|(method, _)| *method).collect();
        assert_eq!(made, all, "each call was made");

        let list = ListAuditEventsRequest { practice_id: ACME.into(), patient_id: "pat".into(), ..Default::default() };
        let mine = t.caller(Auditor).audit.list_audit_events(list).await.unwrap().into_inner().events;
        let mut events = trail(t, ACME).await;
        events.extend(mine.into_iter().filter(|event| event.resource == "audit"));
        assert!(events.iter().all(|event| event.code == 0), "nothing was refused");
        let mut by_call = BTreeMap::<&str, Vec<&AuditEvent>>::new();
        for event in &events {
            by_call.entry(short(event)).or_default().push(event);
        }
        let mut wrong = Vec::new();
        for (method, told) in TOLD {
            let found = by_call.remove(method).unwrap_or_default();
            let as_told = match told {
                Entry(patient, resource) => is_told(&found, patient, resource),
                Nothing(_) => found.is_empty(),
            };
            if !as_told {
                let found = found.iter().map(|event| (&*event.patient_id, &*event.resource)).collect::<Vec<_>>();
                wrong.push(format!("{method}: {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
        assert_eq!(by_call.into_keys().collect::<Vec<_>>(), Vec::<&str>::new(), "nothing else is told");
        for event in &events {
            assert_eq!(event.emergency_reason, "", "{}", event.action);
            let actor = event.actor.as_ref().unwrap();
            assert!(actor.id == "tester" && actor.r#type != i32::from(ActorType::System), "{}", event.action);
            assert!(event.source_address == "127.0.0.1" && !event.trace_id.is_empty(), "{}", event.action);
            let bytes = event.encode_to_vec();
            for canary in CANARIES {
                let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!found, "{} tells {canary}", event.action);
            }
        }
    }
}
