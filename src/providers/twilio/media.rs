//! Files that came with a text, fetched from Twilio. Its addresses redirect to a store of files, which wants no log-in
//! (twilio.com/docs/messaging/api/media-resource).
//!
//! Guarantee: the log-in goes to Twilio's API and nowhere else, and a redirect leads to public addresses only.

use reqwest::{Response, StatusCode, header};
use secrecy::ExposeSecret;
use url::Url;

use super::{
    Twilio,
    callback::{is_message_sid, is_sid},
};
use crate::{
    domain::{LARGEST_FETCHED, TwilioAccount},
    providers::{
        MediaError, may_call,
        net::{self, Network},
    },
};

/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 3;

impl Twilio {
    /// What is at `address`, which Twilio named in a signed callback.
    pub(in crate::providers) async fn media(
        &self,
        network: Network,
        account: &TwilioAccount,
        address: &str,
    ) -> Result<Vec<u8>, MediaError> {
        let mut url = self.own(account, address).ok_or(MediaError::Refused { code: "address" })?;
        let mut is_own = true;
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.http.get(url.clone());
            if is_own {
                request = request.basic_auth(&account.username, Some(account.password.expose_secret()));
            }
            let response = request.send().await.map_err(|error| failure(&error))?;
            let status = response.status();
            if status.is_redirection() {
                url = target(&url, &response, network).ok_or(MediaError::Refused { code: "redirect" })?;
                is_own = false;
                continue;
            }
            if status != StatusCode::OK {
                return Err(MediaError::Later { code: format!("http {}", status.as_u16()) });
            }
            return content(response).await;
        }
        Err(MediaError::Refused { code: "redirects" })
    }

    /// The address, if it is that of a file of one of the account's messages at this very API, and of nothing else that the log-in
    /// opens.
    fn own(&self, account: &TwilioAccount, address: &str) -> Option<Url> {
        let url: Url = address.parse().ok()?;
        let mut home = self.base.clone();
        home.path_segments_mut().ok()?.pop_if_empty().extend(["2010-04-01", "Accounts", &account.account_sid, ""]);
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let place = url.path().strip_prefix(home.path())?;
        (bare && url.origin() == self.base.origin() && is_media(place)).then_some(url)
    }
}

/// Whether that is a file of a message, below its account (twilio.com/docs/messaging/api/media-resource).
fn is_media(place: &str) -> bool {
    let parts: Vec<_> = place.split('/').collect();
    let ["Messages", message, "Media", media] = parts[..] else { return false };
    is_message_sid(message) && is_sid(media, &["ME"])
}

fn target(url: &Url, response: &Response, network: Network) -> Option<Url> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let next = url.join(location).ok()?;
    may_call(&next, network).then_some(next)
}

/// An address that is not public stays so.
fn failure(error: &reqwest::Error) -> MediaError {
    match net::http_failure(error).code() {
        "private address" => MediaError::Refused { code: "private address" },
        code => MediaError::Later { code: code.to_owned() },
    }
}

/// The whole content, read piece by piece, as long as it is not too large.
async fn content(mut response: Response) -> Result<Vec<u8>, MediaError> {
    const LARGE: MediaError = MediaError::Refused { code: "too large" };
    if response.content_length().is_some_and(|length| length > LARGEST_FETCHED as u64) {
        return Err(LARGE);
    }
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if content.len() + chunk.len() > LARGEST_FETCHED {
            return Err(LARGE);
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_redirect_leads_to_public_addresses_over_tls_only() {
        let url: Url = "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME1".parse().unwrap();
        for (location, closed, open) in [
            ("https://files.example.com/a?X-Amz-Signature=1", true, true),
            ("/elsewhere?signature=1", true, true),
            ("https://127.0.0.1/a", false, true),
            ("https://[::ffff:10.0.0.1]/a", false, true),
            ("https://169.254.169.254/latest/meta-data", false, true),
            ("//192.168.0.1/a", false, true),
            ("http://files.example.com/a", false, true),
            ("https://user:word@files.example.com/a", false, false),
            ("file:///etc/passwd", false, false),
            ("https://", false, false),
        ] {
            let answer = || Response::from(http::Response::builder().header("location", location).body("").unwrap());
            for (allow_private, expected) in [(false, closed), (true, open)] {
                let found = target(&url, &answer(), Network::new(allow_private));
                assert_eq!(found.is_some(), expected, "{location} {allow_private}");
            }
        }
        let bare = Response::from(http::Response::new(""));
        assert_eq!(target(&url, &bare, Network::new(true)), None);
    }
}
