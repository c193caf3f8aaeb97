//! Tokens that the server hands out: each is good for one practice, one purpose and one list, wherever else it is tried.

use heedwell::domain::Role;
use reqwest::StatusCode;
use serde_json::json;
use tonic::Code;

use super::world::TEXTED;
use super::{Matrix, PRACTICE, reason};
use crate::{
    e2e::{
        callbacks::{FORM, browser, form, post, signature},
        given::{ACCOUNT, AUTH_TOKEN},
        seen::texts,
    },
    support::app::ACME,
};

/// Every token of either practice in every place for a token. Yields the number of cases.
pub(super) async fn matrix(matrix: &Matrix<'_>) -> usize {
    let mut cases = 0;
    let places: Vec<_> = matrix
        .bases()
        .filter_map(|(number, base)| {
            let (_, path, name) =
                matrix.names(base).into_iter().find(|(.., name)| name == "$page" || name == "$cursor")?;
            Some((number, base, path, name))
        })
        .collect();
    assert!(places.len() >= 12);
    for (number, base, path, name) in &places {
        let (_, token) = matrix.tokens.iter().find(|(role, _)| *role == base.by).unwrap();
        for (theirs, home) in [(false, &matrix.own), (true, &matrix.other)] {
            for (minted, from, ..) in &places {
                let mut request = matrix.request(*number, ACME, |_| super::Whose::Own);
                *request.pointer_mut(path).unwrap() = json!(home.position(*minted).unwrap());
                let tried = matrix.call(token, base, &request).await;
                let what = format!("{} with a token of {} (another practice's: {theirs})", base.call, from.call);
                matrix.tells_nothing(&tried, &request, &what);
                if minted == number && !theirs {
                    assert!(tried.is_ok(), "{what}");
                } else {
                    let status = tried.err().unwrap_or_else(|| panic!("{what} is taken"));
                    let wanted = if name == "$page" { "PAGE_TOKEN_INVALID" } else { "CURSOR_INVALID" };
                    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, wanted), "{what}");
                }
                cases += 1;
            }
        }
    }
    cases + pages(matrix).await + reports(matrix).await
}

/// What the carrier says of another practice's text, under one's own address and with one's own signature, is heard and forgotten.
async fn reports(matrix: &Matrix<'_>) -> usize {
    let theirs = &matrix.other.callback;
    let own = theirs.replace("/beta/", "/acme/");
    assert_ne!(theirs, &own);
    let text = texts(matrix.t, TEXTED).into_iter().find(|text| text.callback.contains("/beta/")).unwrap();
    let fields = [
        ("AccountSid", ACCOUNT),
        ("MessageSid", text.sid.as_str()),
        ("MessageStatus", "delivered"),
        ("SmsSid", text.sid.as_str()),
        ("SmsStatus", "delivered"),
        ("To", TEXTED),
    ];
    let before = matrix.other.dump(matrix.t).await;
    let status = post(&own, Some(&signature(AUTH_TOKEN, &own, &fields)), FORM, form(&fields)).await;
    assert!(status.is_success(), "{status}");
    assert_eq!(before, matrix.other.dump(matrix.t).await);
    1
}

/// What patients and providers are given opens in one place, and none of the above opens there.
async fn pages(matrix: &Matrix<'_>) -> usize {
    let t = matrix.t;
    let mut tokens: Vec<(&str, String)> = Vec::new();
    for home in [&matrix.own, &matrix.other] {
        tokens.extend(home.links().iter().map(|(place, token)| (*place, token.clone())));
        tokens.extend(matrix.bases().filter_map(|(number, _)| Some(("none", home.position(number)?.to_owned()))));
    }
    assert_eq!(tokens.iter().filter(|(place, _)| *place != "none").count(), 6);
    let mut cases = 0;
    for (place, token) in &tokens {
        for way in ["u", "l", "m"] {
            let answer = browser().get(t.url(&format!("/{way}/{token}"))).send().await.unwrap();
            let opens = answer.status() == StatusCode::OK;
            assert_eq!(opens, *place == way, "a token of {place} at /{way}/ is answered with {}", answer.status());
            cases += 1;
        }
        // Neither is a page or a cursor.
        if *place != "none" {
            let (_, token_of_staff) = matrix.tokens.iter().find(|(role, _)| *role == Role::Staff).unwrap();
            for (call, field) in
                [("NotifyService/ListDeliveries", "page_token"), ("NotifyService/WatchDeliveries", "cursor")]
            {
                let mut request = json!({field: token});
                request[PRACTICE] = json!(ACME);
                assert!(matrix.wire.call(t.channel(), token_of_staff, call, &request).await.is_err());
                cases += 1;
            }
        }
    }
    cases
}
