//! Files in conversations: sent by staff as a text or in the portal, sent by patients, and read by whoever may.

use std::time::Duration;

use chrono::TimeDelta;
use heedwell::{
    config::Config,
    domain::Role,
    grpc::proto::{
        Attachment, ConversationMessage, DownloadAttachmentRequest, MessageRoute, SendMessageRequest,
        UploadAttachmentRequest, attachment::State, send_message_request::Target,
    },
    sandbox::Entry,
};
use reqwest::{Client, StatusCode};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    fairness::{count, wait_for},
    given::{PHONE, new_key, patient, practice, practice_named, put_patient, token},
    media::all,
    seen::{fields, metadata, refused, texts, until_state},
    trail::trail,
};
use crate::support::app::{ACME, Caller, Pass, TestApp, on_a_server};

pub(super) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and whatever follows";
const MIB: usize = 1024 * 1024;

fn file(name: &str, media_type: &str, content: &[u8]) -> UploadAttachmentRequest {
    UploadAttachmentRequest {
        practice_id: ACME.into(),
        request_id: new_key(),
        file_name: name.into(),
        media_type: media_type.into(),
        content: content.to_vec().into(),
    }
}

async fn try_upload(caller: &Caller, request: UploadAttachmentRequest) -> Result<Attachment, Status> {
    Ok(caller.clone().conversations.upload_attachment(request).await?.into_inner().attachment.unwrap())
}

pub(super) async fn upload(caller: &Caller, name: &str, media_type: &str, content: &[u8]) -> String {
    try_upload(caller, file(name, media_type, content)).await.unwrap().attachment_id
}

/// A file as it comes over the wire.
pub(super) async fn download(caller: &Caller, id: &str) -> Result<(Attachment, Vec<u8>), Status> {
    let request = DownloadAttachmentRequest { practice_id: ACME.into(), attachment_id: id.into() };
    let mut parts = caller.clone().conversations.download_attachment(request).await?.into_inner();
    let first = parts.message().await?.unwrap();
    let mut content = first.data.to_vec();
    while let Some(part) = parts.message().await? {
        assert!(part.attachment.is_none() && part.data.len() <= 64 * 1024);
        content.extend_from_slice(&part.data);
    }
    Ok((first.attachment.unwrap(), content))
}

pub(super) fn to_pat(route: MessageRoute, body: &str, ids: &[String]) -> SendMessageRequest {
    SendMessageRequest {
        practice_id: ACME.into(),
        request_id: new_key(),
        target: Some(Target::PatientId("pat".into())),
        route: route.into(),
        body: body.into(),
        attachment_ids: ids.to_vec(),
    }
}

pub(super) async fn say(caller: &Caller, request: SendMessageRequest) -> Result<ConversationMessage, Status> {
    Ok(caller.clone().conversations.send_message(request).await?.into_inner().message.unwrap())
}

pub(super) fn own(t: &TestApp, patient: &str) -> Caller {
    t.caller_with(&t.token_of(&Pass { patient: Some(patient.into()), ..Pass::new(&[Role::Patient], &[ACME]) }))
}

/// Of no file.
fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The files that Twilio came for: status, type and content.
fn fetched(t: &TestApp) -> Vec<(Option<u16>, Option<String>, Vec<u8>)> {
    let got = t.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
        Entry::TwilioMedia { http_status, media_type, content, .. } => Some((http_status, media_type, content.bytes())),
        _ => None,
    });
    got.collect()
}

on_a_server! {
    async fn a_text_of_staff_takes_pictures_along_and_twilio_comes_for_them(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        let note: Vec<u8> = "Grüße\n".as_bytes().repeat(30_000);
        let ids = [upload(&staff, "x-ray of Pat.png", "image/png", PNG).await, upload(&staff, "note.txt", "text/plain", &note).await];
        let sent = say(&staff, to_pat(MessageRoute::Sms, "", &ids)).await.unwrap();
        let names: Vec<_> = sent.attachments.iter().map(|file| (file.file_name.as_str(), file.state)).collect();
        let ready: i32 = State::Ready.into();
        assert_eq!(names, [("x-ray of Pat.png", ready), ("note.txt", ready)]);
        until_state(t, &sent.delivery_id, "DELIVERED").await;
        let [one] = &texts(t, PHONE)[..] else { panic!("one text") };
        assert_eq!(one.body, "Acme Primary Care", "it says who speaks");
        let got = fetched(t);
        let kind = |kind: &str| Some(kind.to_owned());
        assert_eq!(got, [(Some(200), kind("image/png"), PNG.to_vec()), (Some(200), kind("text/plain"), note)]);

        // What a stranger sees there, and for how long.
        let urls: Vec<String> = t.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
            Entry::TwilioMedia { url, .. } => Some(url),
            _ => None,
        }).collect();
        let http = Client::new();
        let answer = http.get(&urls[0]).send().await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!((header("cache-control"), header("content-disposition")), ("no-store".into(), "attachment; filename=\"file.png\"".into()));
        let head = http.head(&urls[0]).send().await.unwrap();
        assert_eq!((head.status(), head.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, &*PNG.len().to_string()));
        assert!(head.bytes().await.unwrap().is_empty());
        for wrong in [format!("{}A", urls[0]), t.url("/m/x"), t.url(&format!("/m/{}", ids[0]))] {
            let answer = http.get(&wrong).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{wrong}");
            assert!(answer.bytes().await.unwrap().is_empty());
        }
        t.advance(TimeDelta::hours(11));
        assert_eq!(http.get(&urls[0]).send().await.unwrap().status(), StatusCode::NOT_FOUND, "it is over");
        // Each time that one was handed out is on the trail, and nothing of who had a wrong address.
        let told = trail(t, ACME).await.into_iter().filter(|event| event.action == "media.fetch");
        let mut told: Vec<_> = told.map(|event| (event.patient_id, event.resource)).collect();
        let of = |n: usize| ("pat".to_owned(), format!("attachment/{}", ids[n]));
        let mut expected = [of(0), of(1), of(0), of(0)];
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
    }

    async fn files_of_the_portal_go_either_way_and_to_nobody_else(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        put_patient(t, ACME, patient("sam", "sam@example.com", "+12025550143")).await;
        let (staff, pat, sam, portal) = (t.caller(Role::Staff), own(t, "pat"), own(t, "sam"), t.caller(Role::Portal));
        let pdf: Vec<u8> = b"%PDF-1.7\n".iter().copied().chain(std::iter::repeat_n(7, 3 * MIB - 9)).collect();
        let id = upload(&pat, "insurance card.pdf", "application/pdf", &pdf).await;
        refused(say(&sam, SendMessageRequest { target: Some(Target::PatientId("sam".into())), ..to_pat(MessageRoute::Portal, "", std::slice::from_ref(&id)) }).await, Code::InvalidArgument, "FIELD_INVALID");
        let sent = say(&pat, to_pat(MessageRoute::Portal, "My card", std::slice::from_ref(&id))).await.unwrap();
        assert_eq!(sent.attachments[0].size_bytes, i64::try_from(pdf.len()).unwrap());
        for caller in [&staff, &pat, &portal] {
            let (shown, content) = download(caller, &id).await.unwrap();
            assert_eq!((shown.file_name.as_str(), content == pdf), ("insurance card.pdf", true));
        }
        refused(download(&sam, &id).await, Code::NotFound, "NOT_FOUND");
        let beta = t.caller_with(&token(t, Role::Staff, "beta"));
        refused(download(&beta, &id).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        let mut foreign = DownloadAttachmentRequest { practice_id: "beta".into(), attachment_id: id.clone() };
        refused(beta.clone().conversations.download_attachment(foreign.clone()).await, Code::NotFound, "NOT_FOUND");
        foreign.practice_id = ACME.into();
        let answer = say(&staff, to_pat(MessageRoute::Portal, "", &[upload(&staff, "plan.txt", "text/plain", b"rest").await])).await.unwrap();
        assert_eq!(download(&pat, &answer.attachments[0].attachment_id).await.unwrap().1, b"rest");
        refused(download(&sam, &answer.attachments[0].attachment_id).await, Code::NotFound, "NOT_FOUND");
        refused(download(&staff, "01980000-0000-7000-8000-000000000000").await, Code::NotFound, "NOT_FOUND");
    }

    async fn a_file_that_is_not_what_it_is_said_to_be_is_refused(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        let long = "x".repeat(129);
        let too_long = vec![b'x'; 3 * MIB + 1];
        for (name, kind, content, wrong) in [
            ("a.png", "image/png", &b"GIF89a"[..], "content"),
            ("a.txt", "text/plain", PNG, "content"),
            ("a.txt", "text/plain", b"a\x00b", "content"),
            ("a.txt", "text/plain", b"caf\xe9", "content"),
            ("a.jpg", "image/jpeg", b"<html>", "content"),
            ("a.txt", "text/plain", b"%PDF-1.7", "content"),
            ("a.txt", "text/plain", b"", "content"),
            ("a.txt", "text/plain", &too_long, "content"),
            ("a.svg", "image/svg+xml", b"<svg/>", "media_type"),
            ("a.exe", "", b"x", "media_type"),
            ("", "text/plain", b"x", "file_name"),
            (&long, "text/plain", b"x", "file_name"),
            ("../a.txt", "text/plain", b"x", "file_name"),
            ("a\\b.txt", "text/plain", b"x", "file_name"),
            ("..", "text/plain", b"x", "file_name"),
            ("a\nb.txt", "text/plain", b"x", "file_name"),
            ("a\u{202e}txt.exe", "text/plain", b"x", "file_name"),
            ("a\u{200b}.txt", "text/plain", b"x", "file_name"),
            ("a.txt\u{feff}", "text/plain", b"x", "file_name"),
            ("a\u{ad}\u{2060}\u{e0041}.txt", "text/plain", b"x", "file_name"),
            ("a\u{2028}b.txt", "text/plain", b"x", "file_name"),
            ("\u{3164}", "text/plain", b"x", "file_name"),
            ("...", "text/plain", b"x", "file_name"),
        ] {
            let answer = try_upload(&staff, file(name, kind, content)).await;
            assert_eq!(fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")), [wrong], "{name:?} {kind}");
        }
        let all = UploadAttachmentRequest { request_id: String::new(), ..file("a/b", "text/html", b"") };
        let status = refused(try_upload(&staff, all).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["content", "file_name", "media_type", "request_id"]);
        let request = file("a.txt", "text/plain", b"one");
        let first = try_upload(&staff, request.clone()).await.unwrap();
        assert!(try_upload(&staff, request.clone()).await.unwrap() == first);
        let other = UploadAttachmentRequest { content: b"two".to_vec().into(), ..request.clone() };
        refused(try_upload(&staff, other).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
        // A patient's keys are their own.
        assert_ne!(try_upload(&own(t, "pat"), request).await.unwrap().attachment_id, first.attachment_id);
    }

    async fn what_may_not_go_along_is_told_all_at_once(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        let small = upload(&staff, "a.txt", "text/plain", b"a").await;
        let used = upload(&staff, "b.txt", "text/plain", b"b").await;
        say(&staff, to_pat(MessageRoute::Portal, "", std::slice::from_ref(&used))).await.unwrap();
        let pats = upload(&own(t, "pat"), "c.txt", "text/plain", b"c").await;
        let ids = [used, small.clone(), pats, new_id()];
        let status = refused(say(&staff, to_pat(MessageRoute::Portal, "", &ids)).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["attachment_ids[0]", "attachment_ids[2]", "attachment_ids[3]"]);
        let twice = [small.clone(), small.clone()];
        let status = refused(say(&staff, to_pat(MessageRoute::Portal, "", &twice)).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["attachment_ids[1]"]);
        let many: Vec<String> = (0..11).map(|_| new_id()).collect();
        let status = refused(say(&staff, to_pat(MessageRoute::Portal, "", &many)).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["attachment_ids"]);
        // What the portal takes may be too large for a text.
        let large: Vec<u8> = b"%PDF-".iter().copied().chain(std::iter::repeat_n(1, 501 * 1024)).collect();
        let large = upload(&staff, "d.pdf", "application/pdf", &large).await;
        let both = [small.clone(), large.clone()];
        let status = refused(say(&staff, to_pat(MessageRoute::Sms, "", &both)).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["attachment_ids[1]"]);
        let mut pictures = Vec::new();
        for n in 0..2 {
            let picture: Vec<u8> = PNG.iter().copied().chain(std::iter::repeat_n(n, 5 * MIB / 2 + 1)).collect();
            pictures.push(upload(&staff, "e.png", "image/png", &picture).await);
        }
        let status = refused(say(&staff, to_pat(MessageRoute::Sms, "", &pictures)).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["attachment_ids"]);
        // Nothing of this used any of them; and a repeat is told what it was told.
        let request = to_pat(MessageRoute::Portal, "", &both);
        let sent = say(&staff, request.clone()).await.unwrap();
        assert_eq!(say(&staff, request).await.unwrap().message_id, sent.message_id);
    }

    async fn who_uploads_and_does_not_send_is_stopped_in_the_end(t: &mut TestApp) {
        practice(t).await;
        let pat = own(t, "pat");
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(upload(&pat, &format!("{n}.txt"), "text/plain", b"x").await);
        }
        let one_more = file("20.txt", "text/plain", b"x");
        let status = refused(try_upload(&pat, one_more.clone()).await, Code::ResourceExhausted, "RATE_LIMITED");
        assert_eq!(metadata(&status, "limit"), "unsent_attachments");
        assert!(status.message().starts_with("20 files that the patient uploaded wait to be sent"), "{}", status.message());
        assert_eq!(status.get_details_quota_failure().unwrap().violations[0].subject, "unsent_attachments");
        let wait = |status: &Status| status.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert_eq!(wait(&status), Duration::from_secs(24 * 3_600), "when the oldest is removed");
        t.advance(TimeDelta::hours(20));
        let status = refused(try_upload(&pat, one_more.clone()).await, Code::ResourceExhausted, "RATE_LIMITED");
        assert_eq!(wait(&status), Duration::from_secs(4 * 3_600));
        // That of staff are counted apart, and what is sent counts no more.
        upload(&t.caller(Role::Staff), "a.txt", "text/plain", b"x").await;
        say(&pat, to_pat(MessageRoute::Portal, "", &ids[..10])).await.unwrap();
        try_upload(&pat, one_more).await.unwrap();
    }

    async fn a_file_is_removed_when_its_time_is_over_and_the_message_says_so(t: &mut TestApp) {
        practice(t).await;
        let pat = own(t, "pat");
        let id = upload(&pat, "scar.png", "image/png", PNG).await;
        say(&pat, to_pat(MessageRoute::Portal, "look", std::slice::from_ref(&id))).await.unwrap();
        t.advance(TimeDelta::days(2));
        let young = upload(&pat, "healed.png", "image/png", PNG).await;
        say(&pat, to_pat(MessageRoute::Portal, "it heals", std::slice::from_ref(&young))).await.unwrap();
        t.advance(TimeDelta::days(30));
        // The duty begins with the server.
        t.restart_with(|config: &mut Config| config.duties.content_retention = Some(TimeDelta::days(31))).await;
        let removed = "SELECT count(*) FROM attachment WHERE state = 4";
        wait_for("it is removed", async || count(t, removed, Vec::new()).await == 1).await;
        assert_eq!(count(t, "SELECT count(*) FROM attachment_part", Vec::new()).await, 1);
        assert_eq!(download(&t.caller(Role::Staff), &young).await.unwrap().1, PNG, "its time is not over");
        let shown = all(t).await.remove(1);
        assert_eq!(shown.body, "", "what was said with it is gone as well");
        let size_bytes = i64::try_from(PNG.len()).unwrap();
        let expected = Attachment {
            attachment_id: id.clone(),
            file_name: String::new(),
            media_type: "image/png".into(),
            size_bytes,
            state: State::Removed.into(),
        };
        assert!(shown.attachments == [expected]);
        for caller in [t.caller(Role::Staff), own(t, "pat"), t.caller(Role::Portal)] {
            let status = refused(download(&caller, &id).await, Code::FailedPrecondition, "STATE_FORBIDS");
            assert_eq!(metadata(&status, "state"), "REMOVED");
        }
        refused(download(&own(t, "sam"), &id).await, Code::NotFound, "NOT_FOUND");
    }
}
