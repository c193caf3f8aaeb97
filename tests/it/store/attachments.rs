//! Files of messages: whose they are, when they go along, and when they are gone. How they are fetched and handed on stands in
//! [`super::media`].

use futures::future::join_all;
use heedwell::{
    domain::{
        ActorType, Attachment, AttachmentId, AttachmentState, Author, Channel, ConversationFilter, ConversationMessage,
        Meaning, MediaType, PatientId, Phi, Scope,
    },
    store::{
        Created, InboundText, MediaDue, MediaFetched, NewAttachment, NewMessage, Sent, StoreError, Target, Uploaded,
    },
};
use uuid::Uuid;

use super::{
    broadcasts,
    given::{NORTH, SOUTH, patient, phone, ready_practice},
    *,
};

const NUMBER: &str = "+12025550142";
pub(super) const HOUR: u64 = 3_600;

fn new(key: &str, content: &[u8]) -> NewAttachment {
    NewAttachment {
        request_id: key.into(),
        fingerprint: [1; 32],
        file_name: Phi::new(format!("{key}.txt")),
        media_type: MediaType::Text,
        content: Phi::new(content.to_vec()),
    }
}

pub(super) async fn upload(t: &TestStore, scope: &Scope, key: &str, content: &[u8]) -> Attachment {
    match t.store.attachment_put(scope, new(key, content)).await.unwrap() {
        Uploaded::New(file) => file,
        other => panic!("not stored anew: {other:?}"),
    }
}

/// The portal's backend, which stands for all patients.
pub(super) fn portal(t: &TestStore) -> Scope {
    let author = Author { kind: ActorType::Patient, id: "portal".into(), display_name: String::new() };
    t.engine.scope(NORTH.parse().unwrap(), author)
}

/// A patient's own token.
pub(super) fn own(id: &str) -> Scope {
    let actor = heedwell::domain::Actor {
        subject: id.into(),
        display_name: String::new(),
        practices: heedwell::domain::Practices::Named([NORTH.parse().unwrap()].into()),
        roles: [heedwell::domain::Role::Patient].into(),
        patient: Some(id.parse().unwrap()),
        expire_time: chrono::DateTime::<chrono::Utc>::MAX_UTC,
        emergency: None,
    };
    actor.scope(NORTH, &[heedwell::domain::Role::Patient]).unwrap()
}

pub(super) async fn content(t: &TestStore, scope: &Scope, id: AttachmentId) -> Result<Vec<u8>, StoreError> {
    let (_, parts, _) = t.store.attachment_open(scope, id).await?;
    let mut content = Vec::new();
    for n in 0..parts {
        let part = t.store.attachment_part(scope, id, n).await?.unwrap().into_inner();
        assert!(!part.is_empty() && part.len() <= 64 * 1024);
        content.extend(part);
    }
    assert_eq!(t.store.attachment_part(scope, id, parts).await?, None);
    Ok(content)
}

pub(super) fn message(key: &str, patient: &str, attachments: &[AttachmentId]) -> NewMessage {
    NewMessage {
        request_id: key.into(),
        fingerprint: [2; 32],
        target: Target::Patient(patient.parse::<PatientId>().unwrap()),
        body: Phi::new("see this".into()),
        attachments: attachments.to_vec(),
        text: None,
        notice: None,
    }
}

pub(super) async fn say(t: &TestStore, scope: &Scope, new: NewMessage) -> ConversationMessage {
    match t.store.message_send(scope, new).await.unwrap() {
        Sent::New(sent) => sent.0,
        other => panic!("not sent anew: {other:?}"),
    }
}

pub(super) fn is_missing<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::NotFound("attachment")))
}

/// A text with files: where each is, and what it is said to be.
pub(super) fn with_media(sid: u32, media: &[(&str, &str)]) -> InboundText {
    InboundText {
        sid: format!("MM{sid:032}"),
        from: Some(phone(NUMBER)),
        from_text: Phi::new(NUMBER.into()),
        to: "+12025550199".into(),
        reached_at: String::new(),
        body: Phi::new("look".into()),
        media: media.iter().map(|(url, kind)| ((*url).to_owned(), (*kind).to_owned())).collect(),
        meaning: Meaning::Other,
    }
}

pub(super) const PICTURE: (&str, &str) = ("https://api.twilio.com/canary/1", "image/png");
pub(super) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n....";

/// The files of the message that so many came after.
pub(super) async fn files_of(t: &TestStore, scope: &Scope, after: usize) -> Vec<Attachment> {
    let page = t.store.conversations_list(scope, &ConversationFilter::default(), None, 50).await.unwrap();
    let mut page = t.store.messages_list(scope, page.conversations[0].id, None, 50).await.unwrap();
    page.messages.remove(after).attachments
}

pub(super) async fn due(t: &TestStore) -> Vec<MediaDue> {
    t.store.media_due(&t.engine, 10).await.unwrap()
}

pub(super) fn states(files: &[Attachment]) -> Vec<AttachmentState> {
    files.iter().map(|file| file.state).collect()
}

on_both! {
    async fn a_file_and_a_broadcast_may_have_the_same_key(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let broadcast = broadcasts::new(t, "f1", &[Channel::Sms]);
        assert!(matches!(t.store.broadcast_create(&scope, broadcast).await.unwrap(), Created::New(_)));
        upload(t, &scope, "f1", b"hello").await;
    }

    async fn a_file_comes_back_byte_for_byte_and_lies_sealed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let long: Vec<u8> = b"canary-of-a-file ".iter().copied().cycle().take(200_000).collect();
        for (key, bytes) in [("one", &b"x"[..]), ("edge", &long[..65_536]), ("long", &long)] {
            let file = upload(t, &scope, key, bytes).await;
            assert_eq!((file.size, file.state), (i64::try_from(bytes.len()).unwrap(), AttachmentState::Ready));
            assert_eq!((file.file_name.expose().as_str(), file.media_type.as_str()), (&*format!("{key}.txt"), "text/plain"));
            assert_eq!(content(t, &scope, file.id).await.unwrap(), bytes, "{key}");
        }
        for query in ["SELECT about_ct FROM attachment", "SELECT data_ct FROM attachment_part"] {
            for row in t.rows(query).await {
                let bytes: Vec<u8> = row.try_get_by_index(0).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains("canary") && !text.contains(".txt") && !text.contains("text/plain"));
            }
        }
        // Parts in another order, as the second and the fourth of the long one, do not open.
        t.execute("UPDATE attachment_part SET n = n + 10 WHERE n > 0").await;
        t.execute("UPDATE attachment_part SET n = 14 - n WHERE n >= 10").await;
        let answer = t.store.attachment_part(&scope, upload(t, &scope, "next", b"y").await.id, 1).await;
        assert_eq!(answer.unwrap(), None);
        let rows = t.rows("SELECT attachment_id FROM attachment_part WHERE n = 1").await;
        let id: Uuid = rows[0].try_get_by_index(0).unwrap();
        assert!(matches!(t.store.attachment_part(&scope, AttachmentId(id), 1).await, Err(StoreError::Corrupt(_))));
    }

    async fn a_key_makes_one_file_and_serves_no_other(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let twins = join_all((0..4).map(|_| t.store.attachment_put(&scope, new("k", b"one")))).await;
        let anew = twins.iter().filter(|twin| matches!(twin, Ok(Uploaded::New(_)))).count();
        assert_eq!(anew, 1, "{twins:?}");
        let Uploaded::Replayed(file) = t.store.attachment_put(&scope, new("k", b"one")).await.unwrap() else {
            panic!("it is the same")
        };
        let other = NewAttachment { fingerprint: [9; 32], ..new("k", b"other") };
        assert_eq!(t.store.attachment_put(&scope, other).await.unwrap(), Uploaded::KeyReused(file.id));
        assert_eq!(t.number("SELECT count(*) FROM attachment").await, 1);
        assert_eq!(content(t, &scope, file.id).await.unwrap(), b"one");
    }

    async fn what_is_not_sent_is_for_whoever_uploaded_it(t: &TestStore) {
        let staff = ready_practice(t, NORTH).await;
        ready_practice(t, SOUTH).await;
        t.store.patients_put(&staff, vec![patient("anna")]).await.unwrap();
        let (maria, anna, portal) = (own("maria"), own("anna"), portal(t));
        let of_staff = upload(t, &staff, "s", b"s").await.id;
        let of_maria = upload(t, &maria, "m", b"m").await.id;
        let of_portal = upload(t, &portal, "p", b"p").await.id;
        for (scope, may) in [
            (&staff, [true, false, false]),
            (&maria, [false, true, false]),
            (&anna, [false, false, false]),
            (&portal, [false, true, true]),
            (&t.scope(SOUTH), [false, false, false]),
        ] {
            for (id, may) in [of_staff, of_maria, of_portal].into_iter().zip(may) {
                let who = scope.author();
                assert_eq!(t.store.attachment_open(scope, id).await.is_ok(), may, "{who:?}");
                assert_eq!(t.store.attachments_unsent(scope, &[id]).await.unwrap().len(), usize::from(may), "{who:?}");
                if !may {
                    assert!(is_missing(t.store.attachment_open(scope, id).await), "{who:?}");
                    assert!(is_missing(t.store.message_send(scope, message("x", "maria", &[id])).await), "{who:?}");
                }
            }
        }
        assert_eq!(t.number("SELECT count(*) FROM conversation_message").await, 0, "nothing half done");
    }

    async fn a_message_takes_its_files_along_once_and_in_order(t: &TestStore) {
        let staff = ready_practice(t, NORTH).await;
        t.store.patients_put(&staff, vec![patient("anna")]).await.unwrap();
        let ids = [upload(t, &staff, "b", b"b").await.id, upload(t, &staff, "a", b"a").await.id];
        let sent = say(t, &staff, message("m1", "maria", &ids)).await;
        assert_eq!(sent.attachments.iter().map(|file| file.id).collect::<Vec<_>>(), ids);
        // A repeat is a repeat; another message cannot have them.
        assert!(matches!(t.store.message_send(&staff, message("m1", "maria", &ids)).await, Ok(Sent::Replayed(_))));
        assert!(is_missing(t.store.message_send(&staff, message("m2", "maria", &ids[..1])).await));
        // Two that want it at once: one has it.
        let wanted = upload(t, &staff, "c", b"c").await.id;
        let both = join_all(["m3", "m4"].map(|key| t.store.message_send(&staff, message(key, "maria", &[wanted])))).await;
        assert_eq!(both.iter().filter(|one| matches!(one, Ok(Sent::New(_)))).count(), 1, "{both:?}");
        // Now it is for whoever reads the conversation.
        for (scope, may) in [(&staff, true), (&own("maria"), true), (&portal(t), true), (&own("anna"), false), (&t.scope(SOUTH), false)] {
            let _ = t.store.practice_put(&t.scope(SOUTH), super::given::practice(SOUTH), None).await;
            assert_eq!(t.store.attachment_open(scope, ids[0]).await.is_ok(), may, "{:?}", scope.author());
        }
    }

    async fn what_is_never_sent_is_gone_after_a_day_with_its_key(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (lost, sent) = (upload(t, &scope, "k1", b"lost").await, upload(t, &scope, "k2", b"sent").await);
        say(t, &scope, message("m1", "maria", &[sent.id])).await;
        t.advance(23 * HOUR);
        let young = upload(t, &scope, "k3", b"young").await;
        t.advance(HOUR + 1);
        let before = t.now() - chrono::TimeDelta::hours(24);
        assert_eq!(t.store.attachments_forget(&t.engine, before, 10).await.unwrap(), 1);
        assert_eq!(t.store.attachments_forget(&t.engine, before, 10).await.unwrap(), 0);
        assert!(is_missing(t.store.attachment_open(&scope, lost.id).await));
        assert!(is_missing(t.store.message_send(&scope, message("m2", "maria", &[lost.id])).await));
        assert_eq!(t.number("SELECT count(*) FROM attachment_part").await, 2);
        for file in [sent, young] {
            assert!(t.store.attachment_open(&scope, file.id).await.is_ok());
        }
        assert_ne!(upload(t, &scope, "k1", b"lost").await.id, lost.id, "the key is free again");
    }

    async fn files_of_a_practice_whose_keys_are_destroyed_hold_up_nobody_elses(t: &TestStore) {
        for practice in [NORTH, SOUTH] {
            let scope = ready_practice(t, practice).await;
            let sent = upload(t, &scope, "file", b"file").await;
            say(t, &scope, message("m1", "maria", &[sent.id])).await;
            t.advance(HOUR);
        }
        t.store.keys_shred(&t.engine, &NORTH.parse().unwrap()).await.unwrap();
        let remove = async || t.store.attachments_remove(&t.engine, t.now(), 1).await.unwrap();
        assert_eq!((remove().await, remove().await, remove().await), (1, 1, 0));
        assert_eq!(t.number("SELECT count(*) FROM attachment_part").await, 0);
        let before = t.now();
        assert_eq!(t.store.messages_remove(&t.engine, before, 10).await.unwrap(), 2);
        // For the checks after each test it never was.
        for table in ["practice", "feed_head", "consent_head", "audit_head", "delivery_count_head", "patient", "audit", "attachment", "conversation_message", "conversation", "practice_settings"] {
            t.execute(&format!("DELETE FROM {table} WHERE practice_id = '{NORTH}'")).await;
        }
    }

    async fn a_file_whose_time_is_over_leaves_a_mark_and_nothing_else(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let sent = upload(t, &scope, "canary", &[b'x'; 200_000]).await;
        say(t, &scope, message("m1", "maria", &[sent.id])).await;
        t.store.text_take(&scope, with_media(1, &[PICTURE, ("https://api.twilio.com/2", "video/mp4")])).await.unwrap();
        let fetched = due(t).await.remove(0);
        t.store.media_settle(&t.engine, &fetched, MediaFetched::Here(Phi::new(PNG.to_vec()))).await.unwrap();
        let then = t.now();
        t.advance(HOUR);
        let young = upload(t, &scope, "young", b"young").await;
        say(t, &scope, message("m2", "maria", &[young.id])).await;
        let unsent = upload(t, &scope, "unsent", b"unsent").await;
        let head = t.store.feed_head(&scope).await.unwrap();

        let remove = async |before, limit| t.store.attachments_remove(&t.engine, before, limit).await.unwrap();
        assert_eq!(remove(then, 10).await, 0, "not a moment too early");
        let before = then + chrono::TimeDelta::microseconds(1);
        assert_eq!((remove(before, 1).await, remove(before, 10).await, remove(before, 10).await), (1, 1, 0));
        for id in [sent.id, fetched.id] {
            let answer = t.store.attachment_open(&scope, id).await;
            assert!(matches!(answer, Err(StoreError::StateForbids { state: "removed", .. })), "{answer:?}");
            assert_eq!(t.store.attachment_part(&scope, id, 0).await.unwrap(), None);
        }
        assert_eq!(t.number("SELECT count(*) FROM attachment_part").await, 2, "of the young and the unsent");
        let of_text = files_of(t, &scope, 1).await;
        assert_eq!(states(&of_text), [AttachmentState::Removed, AttachmentState::Failed]);
        assert_eq!((of_text[0].file_name.expose().as_str(), of_text[0].media_type.as_str()), ("", "image/png"));
        let Uploaded::Replayed(replayed) = t.store.attachment_put(&scope, new("canary", &[b'x'; 200_000])).await.unwrap()
        else {
            panic!("its key stands for it still")
        };
        assert_eq!((replayed.state, replayed.size), (AttachmentState::Removed, 200_000));
        let token = t.store.media_token(sent.id, t.now() + chrono::TimeDelta::minutes(1));
        assert_eq!(t.store.media_open(&t.engine, &token).await.unwrap(), None);
        // Nothing else is touched, and no watch is told.
        for file in [&young, &unsent] {
            assert!(t.store.attachment_open(&scope, file.id).await.is_ok());
        }
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), head);
        // What cannot be read any more goes as well.
        t.execute("UPDATE attachment SET about_ct = data_ct FROM attachment_part WHERE attachment_id = attachment.id").await;
        assert_eq!(remove(t.now() + chrono::TimeDelta::microseconds(1), 10).await, 1);
        assert_eq!(states(&files_of(t, &scope, 0).await), [AttachmentState::Removed]);
    }

    async fn who_has_too_much_unsent_stores_no_more_until_some_of_it_is_sent(t: &TestStore) {
        ready_practice(t, NORTH).await;
        let (maria, oldest) = (own("maria"), t.now());
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(upload(t, &maria, &format!("k{n}"), b"x").await.id);
            t.advance(60);
        }
        assert_eq!(t.store.attachment_put(&maria, new("k20", b"x")).await.unwrap(), Uploaded::Full { most: 20, oldest });
        assert!(matches!(t.store.attachment_put(&maria, new("k19", b"x")).await.unwrap(), Uploaded::Replayed(_)));
        upload(t, &portal(t), "p", b"x").await;
        say(t, &maria, message("m", "maria", &ids[..1])).await;
        upload(t, &maria, "k20", b"x").await;
        let oldest = oldest + chrono::TimeDelta::minutes(1);
        assert_eq!(t.store.attachment_put(&maria, new("k21", b"x")).await.unwrap(), Uploaded::Full { most: 20, oldest });
    }

    async fn a_portal_that_uploads_and_does_not_send_keeps_nobody_else_from_it(t: &TestStore) {
        let staff = ready_practice(t, NORTH).await;
        let (portal, oldest) = (portal(t), t.now());
        for batch in 0..10 {
            let keys: Vec<_> = (0..50).map(|n| format!("p{batch}-{n}")).collect();
            join_all(keys.iter().map(|key| upload(t, &portal, key, b"x"))).await;
        }
        assert_eq!(t.store.attachment_put(&portal, new("p", b"x")).await.unwrap(), Uploaded::Full { most: 500, oldest });
        let of_staff = upload(t, &staff, "s", b"x").await;
        say(t, &staff, message("m1", "maria", &[of_staff.id])).await;
        let of_maria = upload(t, &own("maria"), "m", b"x").await;
        say(t, &own("maria"), message("m2", "maria", &[of_maria.id])).await;
    }
}
