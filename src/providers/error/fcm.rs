//! What Firebase Cloud Messaging and Google's token endpoint mean by their answers
//! (firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode, datatracker.ietf.org/doc/html/rfc6749#section-5.2).

use std::time::Duration;

use super::{Class, Reach, SendError};
use crate::domain::FailureReason;

/// What an answer that is no success means for one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::providers) enum DeviceError {
    /// The provider does not know the device any more, or never did.
    Gone {
        /// What it said.
        code: &'static str,
        /// It may know it as one of another project: then the device, or the account, is not that of the practice's app.
        foreign: bool,
    },
    /// Anything else.
    Failed(SendError),
}

/// What an error's body says, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::providers) struct FcmFault {
    /// The code of the `FcmError` among the details.
    pub(in crate::providers) error_code: Option<String>,
    /// The code of the whole.
    pub(in crate::providers) status: Option<String>,
    /// The fields that a `BadRequest` among the details finds fault with.
    pub(in crate::providers) fields: Vec<String>,
}

/// Without a wish of its own, quota is asked for again after this long
/// (firebase.google.com/docs/cloud-messaging/error-codes).
const QUOTA_WAIT: Duration = Duration::from_secs(60);

/// Codes that may be stored; any other is told by its HTTP status.
const KNOWN: [&str; 12] = [
    "UNREGISTERED",
    "INVALID_ARGUMENT",
    "SENDER_ID_MISMATCH",
    "QUOTA_EXCEEDED",
    "UNAVAILABLE",
    "INTERNAL",
    "THIRD_PARTY_AUTH_ERROR",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "NOT_FOUND",
    "UNSPECIFIED_ERROR",
];

impl FcmFault {
    /// The code that counts, if it is one that is known.
    pub(in crate::providers) fn code(&self) -> Option<&'static str> {
        let told = self.error_code.as_deref().or(self.status.as_deref())?;
        KNOWN.into_iter().find(|known| *known == told)
    }

    /// Whether it says so of the token itself.
    fn blames_the_token(&self) -> bool {
        if self.fields.is_empty() {
            self.error_code.is_some()
        } else {
            self.fields.iter().all(|field| is_target(field))
        }
    }
}

fn is_target(field: &str) -> bool {
    matches!(field, "message.token" | "message.fid")
}

impl DeviceError {
    /// FCM's answer to a send that is not its 200. What its body says counts only beside a 4xx, since after a 5xx the
    /// message may have been taken whatever the body says.
    pub(in crate::providers) fn from_fcm(status: u16, fault: &FcmFault, retry_after: Option<Duration>) -> Self {
        let code = fault.code().filter(|_| (400..500).contains(&status));
        let gone = |code, foreign| Self::Gone { code, foreign };
        let (class, retry_after) = match (status, code) {
            (404, Some(code @ "UNREGISTERED")) => return gone(code, false),
            (400, Some(code @ "INVALID_ARGUMENT")) if fault.blames_the_token() => return gone(code, false),
            (403, Some(code @ "SENDER_ID_MISMATCH")) => return gone(code, true),
            (429, _) => (Class::Later(Reach::Account), Some(retry_after.unwrap_or(QUOTA_WAIT))),
            // What the app's owner entered at Firebase for Apple's devices or browsers: other devices may fare better.
            (401, Some("THIRD_PARTY_AUTH_ERROR")) => (Class::Ours(Reach::Sort), None),
            (401 | 403 | 407, _) => (Class::Ours(Reach::Account), None),
            // The API lives elsewhere than configured, or knows no such project: redirects are not followed.
            (300..400 | 404..=406, _) => (Class::Final(FailureReason::ProviderConfig), None),
            (400, Some("INVALID_ARGUMENT")) | (413, _) => (Class::Final(FailureReason::Internal), None),
            // A time-out on the provider's side says nothing about what was done before it.
            (408, _) => return Self::Failed(SendError::Unknown { code: format!("http {status}") }),
            (400..500, _) => (Class::Final(FailureReason::Other), None),
            _ => return Self::Failed(SendError::Unknown { code: format!("http {status}") }),
        };
        let text = code.map_or_else(|| format!("http {status}"), str::to_owned);
        Self::Failed(SendError::of(class, retry_after, text))
    }
}

impl SendError {
    /// The answer of Google's token endpoint that is no token. Nothing has left yet, so that nothing is in doubt.
    pub(in crate::providers) fn from_google(status: u16, error: Option<&str>, retry_after: Option<Duration>) -> Self {
        const KNOWN: [&str; 5] =
            ["invalid_grant", "invalid_client", "invalid_request", "invalid_scope", "unauthorized_client"];
        let error = error.and_then(|told| KNOWN.into_iter().find(|known| *known == told));
        let code = error.map_or_else(|| format!("token http {status}"), |error| format!("token {error}"));
        let refused = (300..500).contains(&status) && !matches!(status, 408 | 429);
        let class = if refused { Class::Ours(Reach::Account) } else { Class::Later(Reach::Account) };
        Self::of(class, retry_after, code)
    }

    /// What came of a call to the token endpoint that was not answered.
    pub(in crate::providers) fn without_token(self) -> Self {
        match self {
            Self::Unknown { code } => Self::not_taken(&format!("token {code}")),
            other => other,
        }
    }

    /// Of what happened at several devices, none of which took it, this is what decides: doubt before another try, another try
    /// before a mistake of ours, one that concerns others too before one that does not, that before a no.
    pub(in crate::providers) fn weightier(self, other: Self) -> Self {
        let weight = |error: &Self| match error {
            Self::Unknown { .. } => 4,
            Self::NotTaken { .. } | Self::Unreachable { .. } => 3,
            Self::Misconfigured { reach: Reach::Account | Reach::Sort, .. } => 2,
            Self::Misconfigured { reach: Reach::Message, .. } => 1,
            Self::Refused { .. } => 0,
        };
        if weight(&other) > weight(&self) { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use FailureReason::{Internal, Other, ProviderConfig};

    use super::*;

    fn fault(code: &str, fields: &[&str]) -> FcmFault {
        FcmFault {
            error_code: (!code.is_empty()).then(|| code.to_owned()),
            status: None,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        }
    }

    #[test]
    fn each_answer_of_fcm_has_its_consequence() {
        let gone = |code, foreign| DeviceError::Gone { code, foreign };
        let failed = DeviceError::Failed;
        let refused = |reason, code: &str| failed(SendError::Refused { reason, code: code.into() });
        let later = |seconds, code: &str| {
            let retry_after = Some(Duration::from_secs(seconds));
            failed(SendError::NotTaken { retry_after, code: code.into(), reach: Reach::Account })
        };
        let ours = |code: &str, reach| failed(SendError::Misconfigured { code: code.into(), reach });
        let unknown = |code: &str| failed(SendError::unknown(code));
        for (status, fault, expected) in [
            (404, fault("UNREGISTERED", &[]), gone("UNREGISTERED", false)),
            (400, fault("INVALID_ARGUMENT", &[]), gone("INVALID_ARGUMENT", false)),
            (400, fault("INVALID_ARGUMENT", &["message.token"]), gone("INVALID_ARGUMENT", false)),
            (400, fault("INVALID_ARGUMENT", &["message.android.ttl"]), refused(Internal, "INVALID_ARGUMENT")),
            (400, fault("", &["message.android.ttl"]), refused(Other, "http 400")),
            (403, fault("SENDER_ID_MISMATCH", &[]), gone("SENDER_ID_MISMATCH", true)),
            (403, fault("PERMISSION_DENIED", &[]), ours("PERMISSION_DENIED", Reach::Account)),
            (429, fault("QUOTA_EXCEEDED", &[]), later(60, "QUOTA_EXCEEDED")),
            (429, fault("", &[]), later(60, "http 429")),
            (401, fault("THIRD_PARTY_AUTH_ERROR", &[]), ours("THIRD_PARTY_AUTH_ERROR", Reach::Sort)),
            (401, fault("UNAUTHENTICATED", &[]), ours("UNAUTHENTICATED", Reach::Account)),
            (401, fault("", &[]), ours("http 401", Reach::Account)),
            // Only FCM's own word forgets a device: what is not there may be the project.
            (404, fault("NOT_FOUND", &[]), refused(ProviderConfig, "NOT_FOUND")),
            (404, fault("", &[]), refused(ProviderConfig, "http 404")),
            (302, fault("", &[]), refused(ProviderConfig, "http 302")),
            (413, fault("", &[]), refused(Internal, "http 413")),
            (409, fault("canary", &[]), refused(Other, "http 409")),
            (408, fault("", &[]), unknown("http 408")),
            (500, fault("INTERNAL", &[]), unknown("http 500")),
            (503, fault("UNREGISTERED", &[]), unknown("http 503")),
            (200, fault("", &[]), unknown("http 200")),
        ] {
            assert_eq!(DeviceError::from_fcm(status, &fault, None), expected, "{status} {fault:?}");
        }
        let status_alone = FcmFault { status: Some("INVALID_ARGUMENT".into()), ..FcmFault::default() };
        assert_eq!(DeviceError::from_fcm(400, &status_alone, None), refused(Internal, "INVALID_ARGUMENT"));
        let wait = Some(Duration::from_secs(7));
        assert_eq!(DeviceError::from_fcm(429, &fault("QUOTA_EXCEEDED", &[]), wait), later(7, "QUOTA_EXCEEDED"));
    }

    #[test]
    fn without_a_token_nothing_is_in_doubt() {
        let ours = |code: &str| SendError::Misconfigured { code: code.into(), reach: Reach::Account };
        for (status, error, expected) in [
            (400, Some("invalid_grant"), ours("token invalid_grant")),
            (400, Some("canary"), ours("token http 400")),
            (401, Some("invalid_client"), ours("token invalid_client")),
            (404, None, ours("token http 404")),
            (302, None, ours("token http 302")),
            (429, None, SendError::not_taken("token http 429")),
            (408, None, SendError::not_taken("token http 408")),
            (500, None, SendError::not_taken("token http 500")),
            (200, None, SendError::not_taken("token http 200")),
        ] {
            assert_eq!(SendError::from_google(status, error, None), expected, "{status} {error:?}");
        }
        assert_eq!(SendError::unknown("timeout").without_token(), SendError::not_taken("token timeout"));
        assert_eq!(SendError::not_taken("dns").without_token(), SendError::not_taken("dns"));
    }

    #[test]
    fn of_several_devices_the_one_in_doubt_decides() {
        let all = [
            SendError::internal("x"),
            SendError::Misconfigured { code: "x".into(), reach: Reach::Message },
            SendError::misconfigured("x"),
            SendError::not_taken("x"),
            SendError::unknown("x"),
        ];
        for (place, one) in all.iter().enumerate() {
            for (other_place, other) in all.iter().enumerate() {
                let expected = if place >= other_place { one } else { other };
                assert_eq!(one.clone().weightier(other.clone()), *expected);
            }
        }
    }
}
