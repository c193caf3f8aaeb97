//! Two practices that have the same things, each under ids of its own and under some that both have, and what a name in a request
//! stands for: something of one's own, of the other's, of nobody's, or something of one's own that is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use heedwell::{domain::Role, sandbox::Entry};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    calls::{Base, PRACTICE},
    wire::{Wire, places},
};
use crate::{
    e2e::{
        conversations::texts_in,
        fairness::{count, wait_for},
        given::{self, new_key},
        seen::{mails, texts},
    },
    support::app::{Pass, TestApp},
};

/// The carrier takes what goes there, and never tells that it arrived.
pub(super) const TEXTED: &str = "+12025550124";

/// What one practice has.
pub(super) struct Home {
    practice: &'static str,
    names: BTreeMap<&'static str, String>,
    /// What is over.
    closed: BTreeMap<&'static str, String>,
    /// For each base that has one: where its next page begins, or what it was told up to.
    positions: Vec<Option<String>>,
    /// For each base that makes something: the key by which the practice made it.
    keys: Vec<String>,
    /// What its patients and its providers were given: where it opens, and the token.
    links: Vec<(&'static str, String)>,
    /// Where the provider reports on a text that was sent and of which nothing else was heard.
    pub(super) callback: String,
    /// What came of these keys.
    made: BTreeSet<String>,
    /// Each is sent once.
    uploads: Vec<String>,
    next_upload: AtomicUsize,
}

/// Whose thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Own,
    Foreign,
    Nobodys,
    Closed,
}

/// A word that stands in everything that people wrote to, or about, patients of the practice.
pub(super) fn canary(practice: &str) -> String {
    format!("Canary-of-{practice}")
}

/// A token in these roles; that of a patient is their own.
pub(super) fn pass(roles: &[Role], practice: &str) -> Pass {
    Pass {
        subject: format!("someone-of-{practice}"),
        patient: roles.contains(&Role::Patient).then(|| format!("pat-of-{practice}")),
        ..Pass::new(roles, &[practice])
    }
}

/// Somebody of the practice who may do everything.
struct Everybody<'a> {
    t: &'a TestApp,
    wire: &'a Wire,
    token: String,
    practice: &'static str,
}

impl Everybody<'_> {
    async fn does(&self, call: &str, request: Value) -> Value {
        self.tries(call, request).await.unwrap_or_else(|status| panic!("{call}: {status:?}"))
    }

    async fn tries(&self, call: &str, mut request: Value) -> Result<Value, tonic::Status> {
        request[PRACTICE] = json!(self.practice);
        Ok(self.wire.call(self.t.channel(), &self.token, call, &request).await?.json)
    }

    async fn sends(&self, patient: &str, more: Value) -> Value {
        let mut notification = json!({"patient_id": patient, "channels": [1],
            "system": {"title": canary(self.practice), "body": canary(self.practice)}});
        notification.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = json!({"request_id": new_key(), "notification": notification});
        self.does("NotifyService/SendNotification", request).await["notification"].take()
    }

    async fn says(&self, patient: &str, files: &[String]) -> Value {
        let body = canary(self.practice);
        let request =
            json!({"request_id": new_key(), "patient_id": patient, "route": 2, "body": body, "attachment_ids": files});
        self.does("ConversationsService/SendMessage", request).await
    }

    async fn uploads(&self) -> String {
        let request = json!({"request_id": new_key(), "file_name": canary(self.practice), "media_type": "text/plain",
            "content": "SGVsbG8="});
        text(&self.does("ConversationsService/UploadAttachment", request).await["attachment"]["attachmentId"])
    }

    async fn announces(&self) -> String {
        let input = json!({"title": canary(self.practice), "subject": canary(self.practice), "body": canary(self.practice),
            "channels": [1], "audience": {"patient_ids": {"values": [format!("pat-of-{}", self.practice)]}},
            "schedule_time": "2026-12-01T00:00:00Z"});
        let request = json!({"request_id": new_key(), "broadcast": input, "expected_recipients": 1});
        text(&self.does("BroadcastService/CreateBroadcast", request).await["broadcast"]["broadcastId"])
    }

    /// Writes to somebody by text, with a link and with a file, and by mail. Yields what they were given, and where the carrier
    /// reports on the text.
    async fn reaches(&self, patient: &str) -> (Vec<(&'static str, String)>, String) {
        let visit = json!({"start_time": "2026-03-05T14:30:00Z", "provider_name": "Dr. Ray", "link": {"target_url": given::TARGET}});
        let request = json!({"request_id": new_key(), "notification": {"patient_id": patient, "channels": [2, 3],
            "appointment_reminder": visit}});
        self.does("NotifyService/SendNotification", request).await;
        let ours = format!("/{}/", self.practice);
        let text = || texts(self.t, TEXTED).into_iter().find(|text| text.callback.contains(&ours));
        let mailbox = format!("{patient}@{}.example", self.practice);
        wait_for("a text and a mail", async || text().is_some() && !mails(self.t, &mailbox).is_empty()).await;
        let file = self.uploads().await;
        let request = json!({"request_id": new_key(), "patient_id": patient, "route": 1, "attachment_ids": [file]});
        let before = fetched(self.t).len();
        self.does("ConversationsService/SendMessage", request).await;
        wait_for("a file", async || fetched(self.t).len() > before).await;
        let (text, mail) = (text().unwrap(), mails(self.t, &mailbox).remove(0));
        let sources =
            [("l", text.body.as_str()), ("u", mail.text.as_str()), ("m", fetched(self.t).last().unwrap().as_str())]
                .map(|(way, source)| {
                    let (_, rest) = source.split_once(&format!("/{way}/")).unwrap();
                    (
                        way,
                        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
                            .next()
                            .unwrap()
                            .to_owned(),
                    )
                });
        (sources.into(), text.callback.split('#').next().unwrap().to_owned())
    }

    /// Somebody whom nobody knows texts the practice. Yields the conversation.
    async fn hears_of(&self, stranger: &str) -> String {
        assert!(texts_in(self.t, self.practice, stranger, &canary(self.practice)).await.is_success());
        let request = json!({"filter": {"subset": 4}});
        let listed = self.does("ConversationsService/ListConversations", request).await;
        text(&listed["conversations"][0]["conversationId"])
    }
}

/// Every id in an answer.
fn ids(answer: &Value, found: &mut BTreeSet<String>) {
    match answer {
        Value::Object(fields) => fields.values().for_each(|value| ids(value, found)),
        Value::Array(values) => values.iter().for_each(|value| ids(value, found)),
        Value::String(text) if text.parse::<Uuid>().is_ok() => drop(found.insert(text.clone())),
        _ => {}
    }
}

/// Where the carrier fetched files so far.
fn fetched(t: &TestApp) -> Vec<String> {
    let entries = t.sandbox.journal().entries().into_iter();
    entries.filter_map(|entry| if let Entry::TwilioMedia { url, .. } = entry { Some(url) } else { None }).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("it is text").to_owned()
}

impl Home {
    /// Makes a practice that has something of everything.
    #[expect(clippy::too_many_lines, reason = "one thing after the other")]
    pub(super) async fn make(t: &TestApp, wire: &Wire, practice: &'static str, bases: &[Base]) -> Self {
        given::practice_named(t, practice).await;
        let roles: Vec<_> = Role::ALL.into_iter().filter(|role| *role != Role::Patient).collect();
        let me = Everybody { t, wire, token: t.token_of(&pass(&roles, practice)), practice };
        let (canary, pat) = (canary(practice), format!("pat-of-{practice}"));
        let home = json!({"legal_name": canary, "display_name": canary, "time_zone": "America/New_York"});
        me.does("DirectoryService/PutPractice", json!({"practice": home})).await;
        let contact = format!("front@{practice}.example");
        let settings = json!({"settings": {"test_contacts": [contact]}, "update_mask": "testContacts"});
        me.does("PreferencesService/UpdatePracticeSettings", settings).await;
        // "pat" is in both practices.
        let people = [pat.as_str(), "off", "bye", "new", "sad", "txt", "pat"].map(|id| {
            let id = if id.len() == 3 && id != "pat" { format!("{id}-of-{practice}") } else { (*id).to_owned() };
            let mailbox = if id.starts_with("sad") { "nouser" } else { id.as_str() };
            let phone = if id.starts_with("txt") { TEXTED } else { "" };
            let tags: Vec<_> = (id == pat).then(|| format!("tag-of-{practice}")).into_iter().collect();
            json!({"patient_id": id, "first_name": canary, "last_name": canary, "email": format!("{mailbox}@{practice}.example"),
                "mobile_phone": phone, "portal_enabled": true, "inactive": id.starts_with("off"),
                "tags": tags})
        });
        me.does("DirectoryService/BatchPutPatients", json!({"patients": people})).await;
        let note = format!("note-of-{practice}");
        for channel in [1, 2] {
            let content = json!({"subject": canary, "text": format!("Come at {{{{ when }}}}, {canary}.")});
            let request = json!({"ref": {"key": note, "channel": channel}, "content": content, "variables": ["when"], "active": true});
            me.does("TemplateService/CreateTemplateVersion", request).await;
        }

        let visit = format!("visit-of-{practice}");
        let sent = me.sends(&pat, json!({"reference": visit})).await;
        me.sends(&pat, json!({"reference": visit})).await;
        let over = me.sends(&pat, json!({"schedule_time": "2026-03-10T00:00:00Z"})).await;
        let later = me.sends(&pat, json!({"schedule_time": "2026-03-10T00:00:00Z"})).await;
        me.does("NotifyService/CancelNotification", json!({"notification_id": over["notificationId"]})).await;
        let failed = me.sends(&format!("sad-of-{practice}"), json!({"channels": [2]})).await;
        let (announced, withdrawn) = (me.announces().await, me.announces().await);
        me.does("BroadcastService/CancelBroadcast", json!({"broadcast_id": withdrawn})).await;

        let (file, read) = (me.uploads().await, me.uploads().await);
        let said = me.says(&pat, std::slice::from_ref(&file)).await;
        me.says(&pat, &[]).await;
        let elsewhere = me.says("pat", &[]).await;
        let moved = me.hears_of("+12025550147").await;
        me.does("ConversationsService/LinkConversation", json!({"conversation_id": moved, "patient_id": "pat"})).await;
        let stranger = me.hears_of("+12025550148").await;
        let device = |token: String| json!({"patient_id": pat, "fcm_token": token});
        let gone = me.does("InboxService/RegisterPushDevice", device("gone-phone:made-up".into())).await;
        me.does("InboxService/DeletePushDevice", json!({"patient_id": pat, "device_id": gone["deviceId"]})).await;
        let phone = format!("phone-of-{practice}:made-up");
        let device = me.does("InboxService/RegisterPushDevice", device(phone.clone())).await;
        let (links, callback) = me.reaches(&format!("txt-of-{practice}")).await;
        for state in [2, 3] {
            let record = json!({"request_id": new_key(), "patient_id": pat, "channel": 3, "state": state, "source": 1, "evidence": canary});
            me.does("PreferencesService/RecordConsent", record).await;
        }
        for _ in 0..2 {
            me.does("AuditService/ListAuditEvents", json!({})).await;
        }
        let mut uploads = vec![read];
        for _ in 0..4 {
            uploads.push(me.uploads().await);
        }

        let names = [
            ("$patient", pat.clone()),
            ("$reference", visit),
            ("$conversation", text(&said["conversation"]["conversationId"])),
            ("$message", text(&said["message"]["messageId"])),
            ("$attachment", file.clone()),
            ("$template", note),
            ("$notification", text(&later["notificationId"])),
            ("$delivery", text(&failed["deliveries"][0]["deliveryId"])),
            ("$broadcast", announced),
            ("$tag", format!("tag-of-{practice}")),
            ("$contact", contact),
            ("$item", text(&sent["deliveries"][0]["deliveryId"])),
            ("$phone", phone),
            ("$device", text(&device["deviceId"])),
            ("$assignee", format!("desk-of-{practice}")),
            ("$stranger", stranger),
            ("$newcomer", format!("new-of-{practice}")),
            ("$leaver", format!("bye-of-{practice}")),
            ("$query", format!("pat-of-{practice}@{practice}.example")),
            ("$actor", format!("someone-of-{practice}")),
        ];
        let closed = [
            ("$patient", format!("off-of-{practice}")),
            ("$leaver", format!("off-of-{practice}")),
            ("$conversation", moved.clone()),
            ("$stranger", moved),
            ("$message", text(&elsewhere["message"]["messageId"])),
            ("$notification", text(&over["notificationId"])),
            ("$delivery", text(&over["deliveries"][0]["deliveryId"])),
            ("$item", text(&over["deliveries"][0]["deliveryId"])),
            ("$broadcast", withdrawn),
            ("$device", text(&gone["deviceId"])),
            ("$upload", file),
            ("$phone", "gone-phone:made-up".into()),
        ];
        let next_upload = AtomicUsize::new(0);
        let (positions, keys) = (Vec::new(), Vec::new());
        let mut home = Self {
            practice,
            names: names.into(),
            closed: closed.into(),
            links,
            callback,
            positions,
            keys,
            made: BTreeSet::new(),
            uploads,
            next_upload,
        };
        home.asks(&me, bases).await;
        home
    }

    /// Asks for everything once: what is made has a key, and what is listed a next page and a place to go on from.
    async fn asks(&mut self, me: &Everybody<'_>, bases: &[Base]) {
        for (number, base) in bases.iter().enumerate() {
            let key = format!("key-of-{}-{number}", self.practice);
            self.keys.push(key.clone());
            let names = places(&me.wire.request(base.call), &base.request);
            let has = |name: &str| names.iter().any(|(.., known)| known == name);
            let mut position = None;
            if has("$page") || has("$cursor") {
                let request = self.filled(&names, number, &base.request, |name| {
                    (name != "$page" && name != "$cursor").then_some(Whose::Own)
                });
                let (call, field) = match base.call {
                    "NotifyService/WatchDeliveries" => ("NotifyService/ListDeliveries", "watchCursor"),
                    "InboxService/WatchInbox" => ("InboxService/ListInboxItems", "watchCursor"),
                    "ConversationsService/WatchConversations" => {
                        ("ConversationsService/ListConversations", "watchCursor")
                    }
                    call => (call, "nextPageToken"),
                };
                let mut request = request;
                for field in ["cursor", "conversation_id"].iter().filter(|_| call != base.call) {
                    request.as_object_mut().unwrap().remove(*field);
                }
                position = Some(text(&me.does(call, request).await[field]));
                assert_ne!(position.as_deref(), Some(""), "{} has no second page", base.call);
            }
            self.positions.push(position);
            if has("$key") {
                let mut request = self.filled(&names, number, &base.request, |_| Some(Whose::Own));
                for (_, path, _) in names.iter().filter(|(.., name)| name == "$key") {
                    *request.pointer_mut(path).unwrap() = json!(key);
                }
                ids(&me.does(base.call, request).await, &mut self.made);
            }
        }
    }

    /// A request in which each name stands for what `whose` says; those for which it says nothing are left empty.
    fn filled(
        &self,
        names: &[((String, String), String, String)],
        number: usize,
        request: &Value,
        whose: impl Fn(&str) -> Option<Whose>,
    ) -> Value {
        let mut request = request.clone();
        for (_, path, name) in names {
            let value = whose(name).map_or_else(String::new, |whose| self.value(name, number, whose, self));
            *request.pointer_mut(path).unwrap() = json!(value);
        }
        request
    }

    /// What `name` stands for in base `number`.
    pub(super) fn value(&self, name: &str, number: usize, whose: Whose, other: &Self) -> String {
        match (name, whose) {
            ("$key", Whose::Own | Whose::Nobodys | Whose::Closed) => new_key(),
            ("$key", Whose::Foreign) => other.keys[number].clone(),
            ("$page" | "$cursor", Whose::Own) => self.positions[number].clone().expect("it has one"),
            ("$page" | "$cursor", Whose::Foreign) => other.positions[number].clone().expect("it has one"),
            ("$page" | "$cursor", Whose::Nobodys) => altered(self.positions[number].as_deref().unwrap()),
            ("$page" | "$cursor", Whose::Closed) => {
                // Of another list, or another watch.
                let mut others = self.positions.iter().flatten();
                others.rfind(|position| Some(*position) != self.positions[number].as_ref()).unwrap().clone()
            }
            ("$upload", Whose::Own) => {
                let place = self.next_upload.fetch_add(1, Ordering::Relaxed);
                self.uploads[place % self.uploads.len()].clone()
            }
            ("$upload", Whose::Foreign) => other.uploads.last().unwrap().clone(),
            (name, Whose::Own) => self.names[name].clone(),
            (name, Whose::Foreign) => other.names[name].clone(),
            (name, Whose::Closed) => self.closed.get(name).unwrap_or_else(|| &self.names[name]).clone(),
            (name, Whose::Nobodys) => match self.names.get(name) {
                // Such as this server makes, and as long as any.
                Some(id) if id.parse::<Uuid>().is_err() => id.replace(self.practice, "zeta"),
                _ => Uuid::now_v7().to_string(),
            },
        }
    }

    /// Where the next page of a base begins, or what it was told up to, if it has either.
    pub(super) fn position(&self, number: usize) -> Option<&str> {
        self.positions[number].as_deref()
    }

    pub(super) fn links(&self) -> &[(&'static str, String)] {
        &self.links
    }

    /// What only this practice has, and what therefore stands in no answer to anybody else.
    pub(super) fn marks(&self) -> BTreeSet<String> {
        // Whoever says these has them from then on.
        let said = |name: &str| ["$assignee", "$newcomer", "$reference", "$template"].contains(&name);
        let names = self.names.iter().filter(|(name, _)| !said(name)).map(|(_, value)| value);
        let ids = names.chain(self.closed.values()).chain(&self.uploads).chain(&self.made);
        let ids = ids.filter(|id| id.contains(self.practice) || id.parse::<Uuid>().is_ok());
        ids.cloned().chain([canary(self.practice)]).collect()
    }

    /// Waits until nothing of the practice is under way.
    pub(super) async fn rests(&self, t: &TestApp) {
        let query =
            "SELECT count(*) FROM delivery WHERE practice_id = $1 AND (phase = 1 OR phase = 0 AND not_before <= $2)";
        let busy = async || count(t, query, vec![self.practice.into(), t.now().into()]).await;
        wait_for("nothing is under way", async || busy().await == 0).await;
    }

    /// Everything that the database has of the practice, but for statistics, which follow by and by.
    pub(super) async fn dump(&self, t: &TestApp) -> BTreeSet<String> {
        let raw = t.home.raw().await;
        let backend = raw.get_database_backend();
        let tables = match backend {
            DbBackend::Sqlite => {
                "SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE m.type = 'table'"
            }
            _ => {
                "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public'"
            }
        };
        let mut columns = BTreeMap::<String, Vec<String>>::new();
        for row in raw.query_all_raw(Statement::from_string(backend, tables)).await.unwrap() {
            columns.entry(row.try_get_by_index(0).unwrap()).or_default().push(row.try_get_by_index(1).unwrap());
        }
        columns.retain(|table, columns| {
            columns.contains(&"practice_id".to_owned()) && !table.starts_with("delivery_count")
        });
        assert!(columns.len() >= 30, "{}", columns.len());
        let mut dump = BTreeSet::new();
        for (table, columns) in columns {
            // How often a key was used is written down each minute, whoever used it.
            let kept = columns.iter().filter(|name| (table.as_str(), name.as_str()) != ("data_key", "uses"));
            let shown = match backend {
                DbBackend::Sqlite => kept.map(|name| format!("quote(\"{name}\")")).collect::<Vec<_>>(),
                _ => kept.map(|name| format!("quote_nullable(\"{name}\"::text)")).collect(),
            };
            let shown = shown.join(" || ',' || ");
            let query = format!("SELECT {shown} FROM \"{table}\" t WHERE practice_id = '{}'", self.practice);
            for row in raw.query_all_raw(Statement::from_string(backend, query)).await.unwrap() {
                assert!(dump.insert(format!("{table}: {}", row.try_get_by_index::<String>(0).unwrap())));
            }
        }
        raw.close().await.unwrap();
        assert!(dump.len() >= 60, "{}", dump.len());
        dump
    }
}

/// The same with another letter in the middle.
fn altered(token: &str) -> String {
    let place = token.len() / 2;
    let other = if token.as_bytes()[place] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &token[..place], &token[place + 1..])
}
