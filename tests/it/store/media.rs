//! Files under way: those that came with texts, fetched from the provider, and those that it comes for to send them on.

use heedwell::{
    domain::{
        Attachment, AttachmentId, AttachmentState, Content, ConversationFilter, FailureReason, MediaType, MessageId,
        Phi, Scope, Verdict,
    },
    store::{Heard, MediaDue, MediaFetched, NewMessage, NewRetry, NewText, StoreError},
};
use uuid::Uuid;

use super::{
    attachments::{
        HOUR, PICTURE, PNG, content, due, files_of, is_missing, message, own, say, states, upload, with_media,
    },
    given::{NORTH, claim, delivery, patient, ready_practice, settle},
    *,
};

/// The files of the newest message of the only conversation.
async fn files(t: &TestStore, scope: &Scope) -> Vec<Attachment> {
    files_of(t, scope, 0).await
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

on_both! {
    async fn files_of_a_text_are_fetched_by_one_at_a_time(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let media = [
            PICTURE,
            ("https://api.twilio.com/canary/2", "video/mp4"),
            ("https://api.twilio.com/canary/3", "IMAGE/JPG"),
            ("https://api.twilio.com/canary/4", "image/\u{202e}gnp"),
        ];
        assert_eq!(t.store.text_take(&scope, with_media(1, &media)).await.unwrap(), Heard::New { entries: 0 });
        assert_eq!(t.store.text_take(&scope, with_media(1, &media)).await.unwrap(), Heard::Repeat);
        use AttachmentState::{Failed, Pending, Ready};
        let all = files(t, &scope).await;
        assert_eq!(states(&all), [Pending, Failed, Pending, Failed], "a film is not even fetched");
        let kinds: Vec<_> = all.iter().map(|file| file.media_type.as_str()).collect();
        assert_eq!(kinds, ["image/png", "video/mp4", "image/jpeg", "application/octet-stream"]);
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
        assert_eq!(states(&files(t, &scope).await), [Ready, Failed, Failed, Failed]);
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
}

/// When the only file that is waited for is tried next.
async fn due_at(t: &TestStore) -> chrono::DateTime<chrono::Utc> {
    let rows = t.rows("SELECT try_at FROM attachment WHERE try_at IS NOT NULL").await;
    rows[0].try_get_by_index(0).unwrap()
}
