//! Files that a provider comes for, to send them on. An address is good for one file and a while; nothing tells a wrong one from
//! one that is over.

use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::Services;

/// Whatever a browser is made to take it for, nothing in it runs.
const POLICY: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

/// `GET /m/{token}`.
pub(super) async fn file(State(services): State<Services>, Path(token): Path<String>) -> Response {
    match services.media.open(&token).await {
        Ok(Some((kind, content))) => {
            // What staff called it is theirs.
            let disposition = format!("attachment; filename=\"file.{}\"", kind.ending());
            let headers = [
                (header::CONTENT_TYPE, kind.name().to_owned()),
                (header::CONTENT_DISPOSITION, disposition),
                (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
            ];
            (headers, content.into_inner()).into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
