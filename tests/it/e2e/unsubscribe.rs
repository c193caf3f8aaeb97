//! The way out in every mail: what mail programs post, what people press, and what scanners fetch.

use heedwell::grpc::proto::Channel;
use reqwest::{Method, Response, StatusCode, header};

use super::{
    callbacks::browser,
    consent::{all_said, ledger},
    given::{practice, send_over, somebody_with_mailbox},
    seen::{Mail, mails, skipped, until_state},
};
use crate::support::app::{TestApp, on_a_server};

const PUBLIC: &str = "https://u.acme.example";
const FORM: &str = "application/x-www-form-urlencoded";
const ONE_CLICK: &str = "List-Unsubscribe=One-Click";
const UNDO: &str = "Undo=Unsubscribe";

/// How many requests of scanners are made: `HEEDWELL_TEST_SCANS`.
fn scans() -> usize {
    std::env::var("HEEDWELL_TEST_SCANS").ok().map_or(1_000, |count| count.parse().unwrap())
}

/// A server that patients reach under a name of its own, and a mail that it sent to `lee`.
async fn mail(t: &mut TestApp) -> Mail {
    t.stop().await;
    let mut env = t.env();
    env.set("HEEDWELL_PUBLIC_URL", PUBLIC);
    t.start_with(&env).await;
    practice(t).await;
    somebody_with_mailbox(t, "lee", "lee@example.com").await;
    until_state(t, &send_over(t, "lee", Channel::Email).await, "SENT").await;
    mails(t, "lee@example.com").remove(0)
}

/// The path of the link in the header.
fn path(mail: &Mail) -> String {
    let value = &mail.headers["list-unsubscribe"];
    let url = value.strip_prefix('<').and_then(|value| value.strip_suffix('>')).expect("one address in brackets");
    url.strip_prefix(PUBLIC).expect("our own address").to_owned()
}

async fn get(t: &TestApp, path: &str) -> (StatusCode, String) {
    let answer = browser().get(t.url(path)).send().await.unwrap();
    check_headers(&answer);
    (answer.status(), answer.text().await.unwrap())
}

async fn post(t: &TestApp, path: &str, content_type: &str, body: &str) -> (StatusCode, String) {
    let answer = browser()
        .post(t.url(path))
        .header(header::CONTENT_TYPE, content_type)
        .body(body.to_owned())
        .send()
        .await
        .unwrap();
    check_headers(&answer);
    (answer.status(), answer.text().await.unwrap())
}

fn check_headers(answer: &Response) {
    let headers = answer.headers();
    assert!(headers.get(header::SET_COOKIE).is_none() && headers.get(header::LOCATION).is_none());
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(headers["referrer-policy"], "no-referrer");
}

on_a_server! {
    async fn one_click_opts_out_of_mail_and_of_nothing_else(t: &mut TestApp) {
        let mail = mail(t).await;
        assert_eq!(mail.headers["list-unsubscribe-post"], "List-Unsubscribe=One-Click");
        let path = path(&mail);
        for part in [&mail.text, &mail.html] {
            assert_eq!(part.matches(&format!("{PUBLIC}{path}")).count(), 1, "the same link in both parts");
        }
        let multipart = "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n";
        for (content_type, body) in
            [("multipart/form-data; boundary=b", multipart), (FORM, ONE_CLICK), (FORM, "List-Unsubscribe=One-Click\r\n")]
        {
            let (status, page) = post(t, &path, content_type, body).await;
            assert_eq!(status, StatusCode::OK);
            assert!(page.contains("You are unsubscribed"), "{page}");
        }
        assert_eq!(all_said(t).await, [("OPTED_OUT", "UNSUBSCRIBE")], "repeats change nothing");
        let record = ledger(t).await.remove(0);
        assert!(record.patient_id == "lee" && record.channel() == Channel::Email);
        assert!(record.evidence.starts_with("the link in delivery "));
        assert_eq!(skipped(&until_state(t, &send_over(t, "lee", Channel::Email).await, "SKIPPED").await), "OPTED_OUT");
        until_state(t, &send_over(t, "pat", Channel::Email).await, "SENT").await;
    }

    async fn the_page_asks_first_and_takes_back_what_it_did(t: &mut TestApp) {
        let mail = mail(t).await;
        let path = path(&mail);
        let (status, page) = get(t, &path).await;
        assert_eq!(status, StatusCode::OK);
        for needed in ["<html lang=\"en\">", "<h1>Unsubscribe from Acme Primary Care?</h1>", "<form method=\"post\">", "<button type=\"submit\">Unsubscribe</button>"] {
            assert!(page.contains(needed), "{needed} in {page}");
        }
        for told in ["lee", "Lee", "example.com", "visit", "appointment", "<script", "http"] {
            assert!(!page.contains(told), "{told} in {page}");
        }
        assert_eq!(all_said(t).await, [], "nothing was decided");
        let (_, page) = post(t, &path, FORM, ONE_CLICK).await;
        assert!(page.contains("Keep sending me emails"));
        assert!(get(t, &path).await.1.contains("Keep sending me emails"));
        for _ in 0..2 {
            let (status, page) = post(t, &path, FORM, UNDO).await;
            assert_eq!(status, StatusCode::OK);
            assert!(page.contains("You are subscribed"), "{page}");
        }
        assert_eq!(all_said(t).await, [("OPTED_OUT", "UNSUBSCRIBE"), ("OPTED_IN", "UNSUBSCRIBE")]);
        until_state(t, &send_over(t, "lee", Channel::Email).await, "SENT").await;
        post(t, &path, FORM, ONE_CLICK).await;
        assert_eq!(all_said(t).await.len(), 3);
    }

    async fn scanners_change_nothing(t: &mut TestApp) {
        let mail = mail(t).await;
        let address = t.url(&path(&mail));
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        for n in 0..scans() {
            let method = if n % 3 == 0 { Method::HEAD } else { Method::GET };
            let mut request = client.request(method, &address);
            request = match n % 5 {
                0 => request.header("purpose", "prefetch").header("sec-purpose", "prefetch"),
                1 => request.header(header::RANGE, "bytes=0-100"),
                2 => request.header(header::USER_AGENT, "Mozilla/5.0 (compatible; link scanner)"),
                3 => request.query(&[("List-Unsubscribe", "One-Click")]),
                _ => request.header(header::CONTENT_TYPE, FORM).body(ONE_CLICK),
            };
            assert_eq!(request.send().await.unwrap().status(), StatusCode::OK, "{n}");
        }
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            let asked = browser().request(method, &address).body(ONE_CLICK).send().await.unwrap();
            assert_eq!(asked.status(), StatusCode::METHOD_NOT_ALLOWED);
        }
        assert_eq!(all_said(t).await, [], "nothing was decided");
        until_state(t, &send_over(t, "lee", Channel::Email).await, "SENT").await;
    }
}

on_a_server! {
    sqlite:
    async fn other_bodies_and_other_tokens_change_nothing(t: &mut TestApp) {
        let mail = mail(t).await;
        let good = path(&mail);
        for (content_type, body) in [
            (FORM, ""),
            (FORM, "List-Unsubscribe=Two-Clicks"),
            (FORM, "List-Unsubscribe=One-Click&x=1"),
            ("text/plain", ONE_CLICK),
            ("application/json", r#"{"List-Unsubscribe":"One-Click"}"#),
            ("multipart/form-data", ONE_CLICK),
        ] {
            let (status, page) = post(t, &good, content_type, body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{content_type} {body}");
            assert!(page.contains("Nothing was changed"));
        }
        let long = format!("{ONE_CLICK}{}", "x".repeat(9_000));
        assert_eq!(post_status(t, &good, &long).await, StatusCode::PAYLOAD_TOO_LARGE);

        let token = good.strip_prefix("/u/").unwrap();
        let (head, last) = token.split_at(token.len() - 1);
        let forged = format!("{head}{}", if last == "A" { "B" } else { "A" });
        let mut pages = Vec::new();
        for token in ["x", "AAAAAAAAAAAAAAAAAAAAAA", &forged, head, &"A".repeat(900)] {
            let path = format!("/u/{token}");
            for (status, page) in
                [get(t, &path).await, post(t, &path, FORM, ONE_CLICK).await, post(t, &path, FORM, UNDO).await]
            {
                assert_eq!(status, StatusCode::NOT_FOUND, "{token}");
                pages.push(page);
            }
        }
        pages.dedup();
        assert_eq!(pages.len(), 1, "one page for all of them");
        assert!(!pages[0].contains("Acme"));
        assert_eq!(all_said(t).await, [], "nothing was decided");
        // A token of a secure link opens nothing here, and this one opens no link.
        assert_eq!(get(t, &good.replace("/u/", "/l/")).await.0, StatusCode::NOT_FOUND);
    }

    async fn without_an_https_address_the_link_stands_in_the_mail_alone(t: &mut TestApp) {
        practice(t).await;
        until_state(t, &send_over(t, "pat", Channel::Email).await, "SENT").await;
        let mail = mails(t, "pat@example.com").remove(0);
        assert!(!mail.headers.contains_key("list-unsubscribe") && !mail.headers.contains_key("list-unsubscribe-post"));
        let link = mail.text.lines().last().unwrap().strip_prefix("Unsubscribe from these emails: ").unwrap();
        assert!(link.starts_with(&t.url("/u/")));
        let answer = browser().post(link).header(header::CONTENT_TYPE, FORM).body(ONE_CLICK).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(all_said(t).await, [("OPTED_OUT", "UNSUBSCRIBE")]);
    }
}

async fn post_status(t: &TestApp, path: &str, body: &str) -> StatusCode {
    let request = browser().post(t.url(path)).header(header::CONTENT_TYPE, FORM).body(body.to_owned());
    request.send().await.unwrap().status()
}
