//! Files that patients text: which are fetched, from where, how often, and what of them is kept.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Attachment, ConversationMessage, ListConversationsRequest, ListMessagesRequest, MessageRoute,
        WatchConversationsRequest, attachment::State,
    },
    sandbox::Entry,
};
use reqwest::StatusCode;
use tokio::time::timeout;
use tonic::Code;

use super::{
    attachments::{download, own, say, to_pat},
    fairness::{count, wait_for},
    given::{ACCOUNT, PHONE, patient, practice, put_patient},
    inbound::{posted, sid, text},
    seen::refused,
};
use crate::support::app::{ACME, LIMIT, TestApp, on_a_server};

/// Pat texts files: where each is, and what it is said to be.
async fn pat_sends(t: &TestApp, sid: &str, files: &[(String, &str)]) {
    let number = files.len().to_string();
    let names: Vec<_> = (0..files.len()).map(|n| (format!("MediaUrl{n}"), format!("MediaContentType{n}"))).collect();
    let mut fields = text(sid, PHONE, "look");
    fields.iter_mut().filter(|(name, _)| *name == "NumMedia").for_each(|(_, count)| *count = &number);
    for ((url, kind), (named_url, named_kind)) in files.iter().zip(&names) {
        fields.extend([(named_url.as_str(), url.as_str()), (named_kind.as_str(), *kind)]);
    }
    assert_eq!(posted(t, &fields).await, StatusCode::OK, "{files:?}");
}

/// A file by its name in the stand-in's table.
fn at_twilio(t: &TestApp, sid: &str, name: &str) -> String {
    t.sandbox.media_url(ACCOUNT, sid, name).unwrap()
}

/// Pat texts one file of that table.
async fn pat_sends_one(t: &TestApp, n: u32, name: &str, declared: &str) {
    let sid = sid(n);
    pat_sends(t, &sid, &[(at_twilio(t, &sid, name), declared)]).await;
}

/// The newest message of the only conversation.
async fn newest(t: &TestApp) -> ConversationMessage {
    all(t).await.remove(0)
}

/// The messages of the only conversation, newest first.
pub(super) async fn all(t: &TestApp) -> Vec<ConversationMessage> {
    let mut staff = t.caller(Role::Staff).conversations;
    let request = ListConversationsRequest { practice_id: ACME.into(), ..Default::default() };
    let conversation = staff.list_conversations(request).await.unwrap().into_inner().conversations.remove(0);
    let conversation_id = conversation.conversation_id;
    let request = ListMessagesRequest { practice_id: ACME.into(), conversation_id, ..Default::default() };
    staff.list_messages(request).await.unwrap().into_inner().messages
}

/// Watches the conversations until each file of the newest message has that state, and yields them.
async fn until_files(t: &TestApp, wanted: State) -> Vec<Attachment> {
    let request = WatchConversationsRequest { practice_id: ACME.into(), ..Default::default() };
    let mut steps = t.caller(Role::Staff).conversations.watch_conversations(request).await.unwrap().into_inner();
    let waiting = async {
        loop {
            // The watch is open before this is read, so that nothing comes between.
            steps.message().await.unwrap().unwrap();
            let files = newest(t).await.attachments;
            if !files.is_empty() && files.iter().all(|file| file.state() == wanted) {
                return files;
            }
        }
    };
    timeout(LIMIT, waiting).await.expect("the files come to that state")
}

/// How often each file was asked for at Twilio, by the text that it came with and its own id.
fn asked(t: &TestApp) -> BTreeMap<(String, String), usize> {
    let mut asked = BTreeMap::new();
    for entry in t.sandbox.journal().entries() {
        if let Entry::TwilioMediaAsked { message, media } = entry {
            *asked.entry((message, media)).or_default() += 1;
        }
    }
    asked
}

on_a_server! {
    async fn files_of_patients_are_fetched_from_twilio_if_they_are_what_they_say(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        for (n, name, declared, wanted) in [
            (1, "picture", "image/png", State::Ready),
            (2, "note", "text/plain; charset=utf-8", State::Ready),
            (3, "lie", "image/jpeg", State::Failed),
            (4, "picture", "image/gif", State::Failed),
            (5, "picture", "text/plain", State::Failed),
            (6, "note", "application/pdf", State::Failed),
            (7, "empty", "text/plain", State::Failed),
            (8, "huge", "image/png", State::Failed),
            (9, "long", "image/png", State::Failed),
            (10, "nowhere", "image/png", State::Failed),
            (11, "video", "video/mp4", State::Failed),
        ] {
            pat_sends_one(t, n, name, declared).await;
            let file = until_files(t, wanted).await.remove(0);
            let answer = download(&staff, &file.attachment_id).await;
            if wanted == State::Ready {
                let (shown, content) = answer.unwrap();
                assert_eq!((shown.size_bytes, shown.state), (i64::try_from(content.len()).unwrap(), State::Ready.into()));
                assert_eq!(download(&own(t, "pat"), &file.attachment_id).await.unwrap().1, content);
            } else {
                refused(answer, Code::FailedPrecondition, "STATE_FORBIDS");
            }
        }
        assert_eq!(count(t, "SELECT count(*) FROM attachment_part", Vec::new()).await, 2, "nothing else is kept");
    }

    async fn a_file_that_is_late_is_asked_for_again_and_one_elsewhere_never(t: &mut TestApp) {
        practice(t).await;
        pat_sends_one(t, 1, "late", "image/png").await;
        let waiting = newest(t).await.attachments.remove(0);
        refused(download(&t.caller(Role::Staff), &waiting.attachment_id).await, Code::FailedPrecondition, "STATE_FORBIDS");
        // The second try comes when the clock says so: sooner than the first one could be given up for lost.
        let query = "SELECT count(*) FROM attachment WHERE tries = 1 AND try_at < $1";
        let soon = t.now() + TimeDelta::seconds(60);
        wait_for("the first try has ended", async || count(t, query, vec![soon.into()]).await == 1).await;
        t.advance(TimeDelta::seconds(15));
        until_files(t, State::Ready).await;
        // The log-in goes to Twilio and to nobody else.
        pat_sends(t, &sid(2), &[("http://127.0.0.1:9/2010-04-01/Accounts/x".into(), "image/png")]).await;
        until_files(t, State::Failed).await;
    }

    async fn a_text_has_ten_files_and_no_more(t: &mut TestApp) {
        practice(t).await;
        let sid = sid(1);
        let files: Vec<_> = (0..11).map(|_| (at_twilio(t, &sid, "picture"), "image/png")).collect();
        pat_sends(t, &sid, &files).await;
        let files = until_files(t, State::Ready).await;
        let names: Vec<_> = files.iter().map(|file| file.file_name.clone()).collect();
        assert_eq!(names, (1..=10).map(|n| format!("file-{n}.png")).collect::<Vec<_>>());
        for file in &files {
            assert!(download(&own(t, "pat"), &file.attachment_id).await.unwrap().1.starts_with(b"\x89PNG"));
        }
    }

    async fn who_is_written_to_may_answer_with_a_picture(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("pat", "pat@example.com", "+12025550130")).await;
        say(&t.caller(Role::Staff), to_pat(MessageRoute::Sms, "Does it still hurt?", &[])).await.unwrap();
        let files = async || newest(t).await.attachments;
        wait_for("they have answered", async || !files().await.is_empty()).await;
        let file = until_files(t, State::Ready).await.remove(0);
        let answer = newest(t).await;
        assert_eq!((answer.body.as_str(), answer.attachments.len()), ("Here it is.", 1));
        assert_eq!((file.file_name.as_str(), file.media_type.as_str()), ("file-1.png", "image/png"));
        assert!(download(&own(t, "pat"), &file.attachment_id).await.unwrap().1.starts_with(b"\x89PNG"));
    }
}

on_a_server! {
    postgres:
    async fn two_replicas_fetch_each_file_once(t: &mut TestApp) {
        practice(t).await;
        let t = &*t;
        let other = t.replica(|config| config.public_url = Some(t.url(""))).await;
        let sids: Vec<_> = (1..=30).map(sid).collect();
        for sids in sids.chunks(5) {
            let texts = sids.iter().map(|sid| async move {
                let [picture, note] = ["picture", "note"].map(|name| at_twilio(t, sid, name));
                pat_sends(t, sid, &[(picture, "image/png"), (note, "text/plain")]).await;
            });
            join_all(texts).await;
        }
        let ready = "SELECT count(*) FROM attachment WHERE state = 2";
        wait_for("all are here", async || count(t, ready, Vec::new()).await == 60).await;
        let asked = asked(t);
        assert_eq!(asked.len(), 60);
        assert!(asked.values().all(|times| *times == 1), "{asked:?}");
        other.app.stop().await;
    }
}
