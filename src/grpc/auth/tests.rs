use http::HeaderValue;

use super::*;

fn headers(values: &[&str]) -> HeaderMap {
    values
        .iter()
        .map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))))
        .collect()
}

#[test]
fn a_token_follows_bearer() {
    assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
    assert_eq!(bearer(&headers(&["bearer abc"])), Some("abc"));
    for bad in [&[][..], &["abc"], &["Basic abc"], &["Bearer"], &["Bearer a", "Bearer b"]] {
        assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
    }
}

#[test]
fn a_call_that_no_token_came_with_has_no_actor() {
    assert!(matches!(actor(&tonic::Request::new(())), Err(Error::TokenInvalid)));
}
