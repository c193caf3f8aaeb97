//! Files of messages: whose they are, when they go along, how they are fetched, and when they are gone.

use futures::future::join_all;
use heedwell::{
    domain::{
        ActorType, Attachment, AttachmentId, AttachmentState, Author, Content, ConversationFilter, ConversationMessage,
        FailureReason, Meaning, MediaType, MessageId, PatientId, Phi, Scope, Verdict,
    },
    store::{
        Heard, InboundText, MediaDue, MediaFetched, NewAttachment, NewMessage, NewRetry, NewText, Sent, StoreError,
        Target, Uploaded,
    },
};
use uuid::Uuid;

use super::{
    given::{NORTH, SOUTH, claim, delivery, patient, phone, ready_practice, settle},
    *,
};

const NUMBER: &str = "+12025550142";
const HOUR: u64 = 3_600;

fn new(key: &str, content: &[u8]) -> NewAttachment {
    NewAttachment {
        request_id: key.into(),
        fingerprint: [1; 32],
        file_name: Phi::new(format!("{key}.txt")),
        media_type: MediaType::Text,
        content: Phi::new(content.to_vec()),
    }
}

async fn upload(t: &TestStore, scope: &Scope, key: &str, content: &[u8]) -> Attachment {
    match t.store.attachment_put(scope, new(key, content)).await.unwrap() {
        Uploaded::New(file) => file,
        other => panic!("not stored anew: {other:?}"),
    }
}

/// The portal's backend, which stands for all patients.
fn portal(t: &TestStore) -> Scope {
    let author = Author { kind: ActorType::Patient, id: "portal".into(), display_name: String::new() };
    t.engine.scope(NORTH.parse().unwrap(), author)
}

/// A patient's own token.
fn own(id: &str) -> Scope {
    let actor = heedwell::domain::Actor {
        subject: id.into(),
        display_name: String::new(),
        practices: heedwell::domain::Practices::Named([NORTH.parse().unwrap()].into()),
        roles: [heedwell::domain::Role::Patient].into(),
        patient: Some(id.parse().unwrap()),
        expire_time: chrono::DateTime::<chrono::Utc>::MAX_UTC,
    };
    actor.scope(NORTH, &[heedwell::domain::Role::Patient]).unwrap()
}

async fn content(t: &TestStore, scope: &Scope, id: AttachmentId) -> Result<Vec<u8>, StoreError> {
    let (_, parts) = t.store.attachment_open(scope, id).await?;
    let mut content = Vec::new();
    for n in 0..parts {
        let part = t.store.attachment_part(scope, id, n).await?.unwrap().into_inner();
        assert!(!part.is_empty() && part.len() <= 64 * 1024);
        content.extend(part);
    }
    assert_eq!(t.store.attachment_part(scope, id, parts).await?, None);
    Ok(content)
}

fn message(key: &str, patient: &str, attachments: &[AttachmentId]) -> NewMessage {
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

async fn say(t: &TestStore, scope: &Scope, new: NewMessage) -> ConversationMessage {
    match t.store.message_send(scope, new).await.unwrap() {
        Sent::New(sent) => sent.0,
        other => panic!("not sent anew: {other:?}"),
    }
}

fn is_missing<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::NotFound("attachment")))
}

/// A text with files: where each is, and what it is said to be.
fn with_media(sid: u32, media: &[(&str, &str)]) -> InboundText {
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

const PICTURE: (&str, &str) = ("https://api.twilio.com/canary/1", "image/png");
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n....";

/// The files of the newest message of the only conversation.
async fn files(t: &TestStore, scope: &Scope) -> Vec<Attachment> {
    files_of(t, scope, 0).await
}

/// The files of the message that so many came after.
async fn files_of(t: &TestStore, scope: &Scope, after: usize) -> Vec<Attachment> {
    let page = t.store.conversations_list(scope, &ConversationFilter::default(), None, 50).await.unwrap();
    let mut page = t.store.messages_list(scope, page.conversations[0].id, None, 50).await.unwrap();
    page.messages.remove(after).attachments
}

/// What makes a message to Maria a text.
async fn as_text(t: &TestStore, scope: &Scope) -> NewText {
    NewText {
        reader: t.store.grounds(scope, &"maria".parse().unwrap()).await.unwrap().patient,
        number: None,
        reached_at: String::new(),
        content: Content::of_text("North: see this".into()),
        expire_time: t.now() + chrono::TimeDelta::hours(1),
    }
}

async fn due(t: &TestStore) -> Vec<MediaDue> {
    t.store.media_due(&t.engine, 10).await.unwrap()
}

fn states(files: &[Attachment]) -> Vec<AttachmentState> {
    files.iter().map(|file| file.state).collect()
}

on_both! {
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

    async fn a_text_is_not_sent_again_without_its_files(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let file = upload(t, &scope, "a", b"a").await;
        say(t, &scope, NewMessage { text: Some(as_text(t, &scope).await), ..message("m", "maria", &[file.id]) }).await;
        let claimed = claim(t, &scope, 1).await.remove(0);
        settle(t, &claimed, Verdict::Refused { reason: FailureReason::Blocked, code: "30007".into() }).await;
        let wish = |key: &str| NewRetry { request_id: key.into(), fingerprint: [7; 32], delivery: claimed.id };
        let before = t.now() + chrono::TimeDelta::microseconds(1);
        assert_eq!(t.store.attachments_remove(&t.engine, before, 10).await.unwrap(), 1);
        let answer = t.store.delivery_retry(&scope, wish("r1")).await;
        assert!(matches!(answer, Err(StoreError::StateForbids { state: "text_removed", .. })), "{answer:?}");
    }

    async fn a_text_under_way_names_its_files_also_when_they_are_gone(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let file = upload(t, &scope, "a", b"a").await;
        say(t, &scope, NewMessage { text: Some(as_text(t, &scope).await), ..message("m", "maria", &[file.id]) }).await;
        let before = t.now() + chrono::TimeDelta::microseconds(1);
        assert_eq!(t.store.attachments_remove(&t.engine, before, 10).await.unwrap(), 1);
        // The provider finds nothing there and says so; without it, half a message would go.
        assert_eq!(claim(t, &scope, 1).await[0].media, [file.id]);
    }

    async fn who_has_too_much_unsent_stores_no_more_until_some_of_it_is_sent(t: &TestStore) {
        ready_practice(t, NORTH).await;
        let maria = own("maria");
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(upload(t, &maria, &format!("k{n}"), b"x").await.id);
        }
        assert_eq!(t.store.attachment_put(&maria, new("k20", b"x")).await.unwrap(), Uploaded::Full);
        assert!(matches!(t.store.attachment_put(&maria, new("k19", b"x")).await.unwrap(), Uploaded::Replayed(_)));
        upload(t, &portal(t), "p", b"x").await;
        say(t, &maria, message("m", "maria", &ids[..1])).await;
        upload(t, &maria, "k20", b"x").await;
        assert_eq!(t.store.attachment_put(&maria, new("k21", b"x")).await.unwrap(), Uploaded::Full);
    }

    async fn files_of_a_text_are_fetched_by_one_at_a_time(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let media = [PICTURE, ("https://api.twilio.com/canary/2", "video/mp4"), ("https://api.twilio.com/canary/3", "IMAGE/JPG")];
        assert_eq!(t.store.text_take(&scope, with_media(1, &media)).await.unwrap(), Heard::New { entries: 0 });
        assert_eq!(t.store.text_take(&scope, with_media(1, &media)).await.unwrap(), Heard::Repeat);
        use AttachmentState::{Failed, Pending, Ready};
        let all = files(t, &scope).await;
        assert_eq!(states(&all), [Pending, Failed, Pending], "a film is not even fetched");
        let kinds: Vec<_> = all.iter().map(|file| file.media_type.as_str()).collect();
        assert_eq!(kinds, ["image/png", "video/mp4", "image/jpeg"]);
        assert!(matches!(
            t.store.attachment_open(&scope, all[0].id).await,
            Err(StoreError::StateForbids { state: "pending", .. })
        ));
        let (one, other) = futures::future::join(due(t), due(t)).await;
        let taken: Vec<MediaDue> = one.into_iter().chain(other).collect();
        assert_eq!(taken.len(), 2, "each is taken once");
        assert!(taken.iter().all(|due| due.account.is_some() && due.practice == NORTH.parse().unwrap()));
        let first = taken.iter().find(|due| due.id == all[0].id).unwrap();
        assert_eq!((first.url.expose().as_str(), first.media_type), (PICTURE.0, MediaType::Png));
        let head = t.store.feed_head(&scope).await.unwrap();
        t.store.media_settle(&t.engine, first, MediaFetched::Here(Phi::new(PNG.to_vec()))).await.unwrap();
        let page = t.store.feed_read_after(&scope, head, 10).await.unwrap();
        let [(_, news)] = &page.talk[..] else { panic!("{:?}", page.talk) };
        let (message, newness) = news.message.unwrap();
        assert_eq!(newness, heedwell::domain::Newness::Changed);
        assert_eq!(t.store.messages_of(&scope, &[message]).await.unwrap()[&message].attachments[0].state, Ready);
        assert_eq!(content(t, &scope, all[0].id).await.unwrap(), PNG);
        // A twin that was slower changes nothing.
        t.store.media_settle(&t.engine, first, MediaFetched::Refused).await.unwrap();
        let second = taken.iter().find(|due| due.id == all[2].id).unwrap();
        t.store.media_settle(&t.engine, second, MediaFetched::Refused).await.unwrap();
        assert_eq!(states(&files(t, &scope).await), [Ready, Failed, Failed]);
        t.advance(24 * HOUR);
        assert!(due(t).await.is_empty());
    }

    async fn a_fetch_is_tried_again_and_given_up_in_the_end(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.text_take(&scope, with_media(1, &[PICTURE])).await.unwrap();
        let start = t.now();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let taken = due(t).await;
            assert!(due(t).await.is_empty(), "it is on its way");
            t.store.media_settle(&t.engine, &taken[0], MediaFetched::Later).await.unwrap();
            assert!(due(t).await.is_empty());
            let before = t.now();
            while t.number("SELECT count(*) FROM attachment WHERE try_at IS NOT NULL").await > 0 && due_at(t).await > t.now() {
                t.advance(10);
            }
            pauses.push((t.now() - before).num_seconds());
        }
        assert_eq!(pauses, [10, 40, 160, 640, 2_560, 3_600, 3_600, 3_600, 3_600, 0]);
        assert!(t.now() - start > chrono::TimeDelta::hours(4));
        assert_eq!(states(&files(t, &scope).await), [AttachmentState::Failed]);
    }

    async fn a_fetcher_that_died_is_followed_by_another_whose_word_counts(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.text_take(&scope, with_media(1, &[PICTURE])).await.unwrap();
        let died = due(t).await.remove(0);
        t.advance(179);
        assert!(due(t).await.is_empty());
        t.advance(2);
        let next = due(t).await.remove(0);
        t.store.media_settle(&t.engine, &died, MediaFetched::Refused).await.unwrap();
        assert_eq!(states(&files(t, &scope).await), [AttachmentState::Pending], "it is another's by now");
        t.store.media_settle(&t.engine, &next, MediaFetched::Here(Phi::new(PNG.to_vec()))).await.unwrap();
        assert_eq!(states(&files(t, &scope).await), [AttachmentState::Ready]);
        // One whose fetchers all die ends, too.
        t.store.text_take(&scope, with_media(2, &[PICTURE])).await.unwrap();
        for _ in 0..12 {
            due(t).await;
            t.advance(200);
        }
        assert_eq!(states(&files(t, &scope).await), [AttachmentState::Failed]);
    }

    async fn files_move_with_their_conversation(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("anna")]).await.unwrap();
        t.store.text_take(&scope, with_media(1, &[PICTURE])).await.unwrap();
        let taken = due(t).await.remove(0);
        let id = taken.id;
        assert!(is_missing(t.store.attachment_open(&own("maria"), id).await), "the number is of two");
        let page = t.store.conversations_list(&scope, &ConversationFilter::default(), None, 50).await.unwrap();
        t.store.conversation_link(&scope, page.conversations[0].id, &"maria".parse().unwrap(), false).await.unwrap();
        t.store.media_settle(&t.engine, &taken, MediaFetched::Here(Phi::new(PNG.to_vec()))).await.unwrap();
        assert_eq!(content(t, &own("maria"), id).await.unwrap(), PNG);
        assert!(is_missing(t.store.attachment_open(&own("anna"), id).await));
    }

    async fn an_address_is_good_for_one_file_and_a_while(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let file = upload(t, &scope, "k", b"for the carrier").await;
        let end = t.now() + chrono::TimeDelta::minutes(10);
        let token = t.store.media_token(file.id, end);
        assert_eq!(t.store.media_open(&t.engine, &token).await.unwrap(), None, "it is not sent");
        say(t, &scope, message("m", "maria", &[file.id])).await;
        let opened = t.store.media_open(&t.engine, &token).await.unwrap();
        assert_eq!(opened, Some((MediaType::Text, Phi::new(b"for the carrier".to_vec()))));
        let mut forged = token.clone().into_bytes();
        let place = forged.len() / 2;
        forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
        for wrong in ["", "x", &String::from_utf8(forged).unwrap(), &format!("{token}A"), &token[1..]] {
            assert_eq!(t.store.media_open(&t.engine, wrong).await.unwrap(), None, "{wrong}");
        }
        assert_eq!(t.store.media_open(&t.engine, &t.store.media_token(AttachmentId(Uuid::nil()), end)).await.unwrap(), None);
        t.advance(600);
        assert_eq!(t.store.media_open(&t.engine, &token).await.unwrap(), None, "it is over");
    }

    async fn a_text_goes_out_with_its_files(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let ids = [upload(t, &scope, "a", b"a").await.id, upload(t, &scope, "b", b"b").await.id];
        let sent = say(t, &scope, NewMessage { text: Some(as_text(t, &scope).await), ..message("m", "maria", &ids) }).await;
        say(t, &scope, message("m2", "maria", &[])).await;
        let claimed = claim(t, &scope, 10).await;
        let [one] = &claimed[..] else { panic!("{claimed:?}") };
        assert_eq!(one.media, ids);
        let source = delivery(t, &scope, one.id).await.source;
        assert_eq!(source, heedwell::domain::Source::ConversationMessage(MessageId(sent.id.0)));
    }
}

/// When the only file that is waited for is tried next.
async fn due_at(t: &TestStore) -> chrono::DateTime<chrono::Utc> {
    let rows = t.rows("SELECT try_at FROM attachment WHERE try_at IS NOT NULL").await;
    rows[0].try_get_by_index(0).unwrap()
}
