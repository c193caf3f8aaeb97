//! The dashboard as a browser gets it: its files, and a token that comes back as a cookie.

use std::time::Duration;

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{GetPracticeRequest, GetPracticeResponse},
};
use reqwest::{Response, StatusCode};
use tonic::Code;

use super::{callbacks::browser, given::practice, web::call_with};
use crate::support::app::{ACME, Pass, TestApp, on_a_server};

const GET_PRACTICE: &str = "DirectoryService/GetPractice";

async fn post(t: &TestApp, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let request = browser().post(t.url(path)).body(body.to_owned());
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

fn cookie_of(answer: &Response) -> String {
    answer.headers()["set-cookie"].to_str().unwrap().to_owned()
}

/// How a call ends that a page makes with `headers`.
async fn status(t: &TestApp, headers: &[(&str, &str)]) -> String {
    let request = GetPracticeRequest { practice_id: "beta".into() };
    call_with(t, GET_PRACTICE, headers, &request).await.end().await["grpc-status"].clone()
}

fn code(code: Code) -> String {
    (code as i32).to_string()
}

on_a_server! {
    sqlite:
    async fn the_page_runs_and_reaches_nothing_but_its_own(t: &mut TestApp) {
        let parts = ["/app.js", "/chunk.js", "/more.js"].map(|path| (path, "text/javascript; charset=utf-8"));
        let pages = ["/", "/reference"].map(|path| (path, "text/html; charset=utf-8"));
        let styles = ["/app.css", "/reference.css"].map(|path| (path, "text/css; charset=utf-8"));
        for (path, media_type) in pages.into_iter().chain(styles).chain(parts) {
            let answer = browser().get(t.url(path)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            let headers = answer.headers();
            assert_eq!(headers["content-type"], media_type);
            assert_eq!(
                headers["content-security-policy"],
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
                 form-action 'none'; frame-ancestors 'none'"
            );
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["cache-control"], "no-cache");
            assert!(!headers.contains_key("content-encoding") && !headers.contains_key("set-cookie"));
            let tag = headers["etag"].to_str().unwrap().to_owned();
            let plain = answer.bytes().await.unwrap();
            assert!(!plain.is_empty());
            let again = browser().get(t.url(path)).header("if-none-match", tag).send().await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
            let packed = browser().get(t.url(path)).header("accept-encoding", "gzip, br;q=0.9").send().await.unwrap();
            let encoding = packed.headers().get("content-encoding").map(|it| it.to_str().unwrap().to_owned());
            assert_eq!(encoding.as_deref(), (!pages.iter().any(|(page, _)| *page == path)).then_some("br"));
            let refused = browser().get(t.url(path)).header("accept-encoding", "br;q=0").send().await.unwrap();
            assert_eq!(refused.bytes().await.unwrap(), plain);
        }
    }

    async fn a_token_comes_back_as_a_cookie_that_counts_for_the_page_alone(t: &mut TestApp) {
        practice(t).await;
        let (token, origin) = (t.token(Role::Staff), t.url(""));
        let answer = post(t, "/sign-in", &[("origin", &origin)], &token).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let set = cookie_of(&answer);
        let (cookie, attributes) = set.split_once("; ").unwrap();
        assert_eq!(cookie, format!("heedwell={token}"));
        assert!(attributes.starts_with("Path=/; HttpOnly; SameSite=Strict; Expires="), "{attributes}");
        let shown = answer.text().await.unwrap();
        assert!(shown.contains(r#""roles":["staff"]"#) && shown.contains(r#""practices":["acme"]"#), "{shown}");
        assert!(!shown.contains(&token));

        let (web, origin, cookie) = (("x-grpc-web", "1"), ("origin", origin.as_str()), ("cookie", cookie));
        let request = GetPracticeRequest { practice_id: ACME.into() };
        let mut frames = call_with(t, GET_PRACTICE, &[web, origin, cookie], &request).await;
        let practice: GetPracticeResponse = frames.message().await;
        assert_eq!(practice.practice.unwrap().display_name, "Acme Primary Care");
        // What is forbidden to the bearer is told from what nobody may do.
        assert_eq!(status(t, &[web, origin, cookie]).await, code(Code::PermissionDenied));
        let nobody = code(Code::Unauthenticated);
        assert_eq!(status(t, &[origin, cookie]).await, nobody, "a form sends no header of its own");
        assert_eq!(status(t, &[web, cookie]).await, nobody, "a page says where it is from");
        for foreign in ["https://evil.example", "null", "http://127.0.0.1:1", &format!("{}.evil.example", origin.1)] {
            assert_eq!(status(t, &[web, ("origin", foreign), cookie]).await, nobody, "{foreign}");
        }
        let own = ("authorization", "Bearer none");
        assert_eq!(status(t, &[web, origin, cookie, own]).await, nobody, "a token of its own counts");

        let who = browser().get(t.url("/sign-in")).header("cookie", cookie.1).send().await.unwrap();
        assert_eq!(who.status(), StatusCode::OK);
        assert_eq!(who.text().await.unwrap(), shown);
        let who = browser().get(t.url("/sign-in")).send().await.unwrap();
        assert_eq!(who.status(), StatusCode::NO_CONTENT);
        let out = post(t, "/sign-out", &[origin], "").await;
        assert_eq!(out.status(), StatusCode::NO_CONTENT);
        assert!(cookie_of(&out).starts_with("heedwell=; ") && cookie_of(&out).ends_with("; Max-Age=0"));
    }

    async fn only_the_page_signs_in_and_only_where_nobody_listens(t: &mut TestApp) {
        let (token, origin) = (t.token(Role::Staff), t.url(""));
        let refused = [
            (vec![], StatusCode::FORBIDDEN),
            (vec![("origin", "https://evil.example")], StatusCode::FORBIDDEN),
            (vec![("origin", "http://dash.example"), ("host", "dash.example")], StatusCode::FORBIDDEN),
        ];
        for (headers, wanted) in refused {
            for path in ["/sign-in", "/sign-out"] {
                let answer = post(t, path, &headers, &token).await;
                assert_eq!(answer.status(), wanted, "{path} {headers:?}");
                assert!(!answer.headers().contains_key("set-cookie"));
            }
        }
        let bad = post(t, "/sign-in", &[("origin", &origin)], "eyJ.e30.none").await;
        assert_eq!(bad.status(), StatusCode::UNAUTHORIZED);
        assert!(!bad.headers().contains_key("set-cookie"));
        let expired = t.token_of(&Pass { ttl: Duration::from_secs(60), ..Pass::new(&[Role::Staff], &[ACME]) });
        t.advance(TimeDelta::hours(1));
        let late = post(t, "/sign-in", &[("origin", &origin)], &expired).await;
        assert_eq!(late.status(), StatusCode::UNAUTHORIZED);
    }

    async fn the_cookie_is_secure_wherever_somebody_could_listen(t: &mut TestApp) {
        let token = t.token(Role::Staff);
        let page = [("origin", "https://dash.example"), ("host", "dash.example")];
        let answer = post(t, "/sign-in", &page, &token).await;
        let set = cookie_of(&answer);
        assert!(set.starts_with("__Host-heedwell=") && set.contains("; SameSite=Strict; Secure; Expires="), "{set}");
        let cookie = set.split("; ").next().unwrap();
        let web = ("x-grpc-web", "1");
        assert_eq!(status(t, &[web, page[0], page[1], ("cookie", cookie)]).await, code(Code::PermissionDenied));
        // One without the prefix may have been set by whoever is beside the page.
        let planted = cookie.replace("__Host-", "");
        assert_eq!(status(t, &[web, page[0], page[1], ("cookie", &planted)]).await, code(Code::Unauthenticated));
    }

    async fn a_token_that_no_browser_would_keep_is_refused_aloud(t: &mut TestApp) {
        let practices: Vec<String> = (0..300).map(|number| format!("practice-{number}")).collect();
        let practices: Vec<&str> = practices.iter().map(String::as_str).collect();
        let token = t.token_of(&Pass::new(&[Role::Staff], &practices));
        let answer = post(t, "/sign-in", &[("origin", &t.url(""))], &token).await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(!answer.headers().contains_key("set-cookie"));
    }
}
