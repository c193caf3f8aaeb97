//! The dashboard: a page that is carried in the binary and uses the public API alone, as gRPC-Web. It holds nothing of
//! anybody: what it shows it fetches, and who may see that is decided where the calls are served. Beside it the reference of
//! that API, for whoever writes a client.

mod origin;
mod session;

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::{
    Router,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

pub(super) use session::{sign_in, sign_out, signed_in};
pub use {
    origin::Home,
    session::{SignIn, Stranger, with_cookie},
};

/// A file of the page. Most are built from `web/`; whoever changes that builds them anew, and the tests compare.
struct File {
    path: &'static str,
    media_type: &'static str,
    plain: &'static [u8],
    /// The same, compressed (RFC 7932).
    brotli: Option<&'static [u8]>,
}

/// A script or style, with what it is when compressed.
macro_rules! file {
    ($name:literal, $media_type:literal) => {
        File {
            path: concat!("/", $name),
            media_type: $media_type,
            plain: include_bytes!(concat!("../../web/dist/", $name)),
            brotli: Some(include_bytes!(concat!("../../web/dist/", $name, ".br"))),
        }
    };
}

static FILES: [File; 7] = [
    File {
        path: "/",
        media_type: "text/html; charset=utf-8",
        plain: include_bytes!("../../web/dist/index.html"),
        brotli: None,
    },
    file!("app.css", "text/css; charset=utf-8"),
    file!("app.js", "text/javascript; charset=utf-8"),
    // What the scripts of the views share, and the views that the first visit has no need of.
    file!("chunk.js", "text/javascript; charset=utf-8"),
    file!("more.js", "text/javascript; charset=utf-8"),
    // Made of the contract and its comments when the server is built.
    File {
        path: "/reference",
        media_type: "text/html; charset=utf-8",
        plain: include_bytes!(concat!(env!("OUT_DIR"), "/reference.html")),
        brotli: None,
    },
    file!("reference.css", "text/css; charset=utf-8"),
];

/// Nothing but its own script and style, which talks to its own server, in no frame.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    // Asked for each time, and sent anew only when another binary answers.
    (header::CACHE_CONTROL, "no-cache"),
    (header::VARY, "accept-encoding"),
];

/// The files of the page.
pub(super) fn page() -> Router {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(async move |headers: HeaderMap| answer(file, &headers)))
    })
}

fn answer(file: &File, headers: &HeaderMap) -> Response {
    let tag = tag(file.plain);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str());
    let tag = [(header::ETAG, tag)];
    if known {
        return (StatusCode::NOT_MODIFIED, HEADERS, tag).into_response();
    }
    let media_type = [(header::CONTENT_TYPE, file.media_type)];
    match file.brotli.filter(|_| takes_brotli(headers)) {
        Some(packed) => (HEADERS, tag, media_type, [(header::CONTENT_ENCODING, "br")], packed).into_response(),
        None => (HEADERS, tag, media_type, file.plain).into_response(),
    }
}

/// Weak (RFC 9110, 8.8.1), as it is that of either encoding.
fn tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

fn takes_brotli(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("br") && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}
