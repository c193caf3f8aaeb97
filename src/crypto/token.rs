//! Opaque tokens that this server hands out and takes back: cursors, page tokens, links. Each is good for one purpose
//! and one practice, and cannot be made or changed without the key. None says who bears it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;

use super::secret::{Secret, random};

const VERSION: u8 = 1;
const MAC_LEN: usize = 16;

/// The longest payload in bytes: longer tokens are refused unread.
pub const MAX_PAYLOAD: usize = 512;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Position in the feed of a practice's deliveries.
    DeliveryCursor,
    /// Position in the feed of an inbox.
    InboxCursor,
    /// Position in the feed of conversations.
    ConversationCursor,
    /// Where the next page of a list begins.
    PageToken,
    /// `/u/{token}`: unsubscribe.
    Unsubscribe,
    /// `/l/{token}`: a secure link.
    SecureLink,
    /// `/m/{token}`: media that Twilio fetches.
    Media,
}

impl Purpose {
    /// Part of every MAC: a name is never changed, nor given to another purpose.
    const fn name(self) -> &'static str {
        match self {
            Self::DeliveryCursor => "delivery cursor",
            Self::InboxCursor => "inbox cursor",
            Self::ConversationCursor => "conversation cursor",
            Self::PageToken => "page token",
            Self::Unsubscribe => "unsubscribe",
            Self::SecureLink => "secure link",
            Self::Media => "media",
        }
    }
}

/// Mints and opens tokens; see [`super::KeyFile::tokens`].
#[derive(Clone, Debug)]
pub struct TokenKey(pub(super) Secret);

impl TokenKey {
    /// A token that carries `payload`, readable but not changeable, of at most [`MAX_PAYLOAD`] bytes. In base64url:
    /// version (1), payload, MAC (16). `practice` is empty for a token that comes back without one.
    #[must_use]
    pub fn mint(&self, purpose: Purpose, practice: &str, payload: &[u8]) -> String {
        debug_assert!(payload.len() <= MAX_PAYLOAD, "this token would never open");
        base64url(&[&[VERSION][..], payload, &self.mac(purpose, practice, payload)].concat())
    }

    /// The payload of a token minted for this purpose and practice.
    #[must_use]
    pub fn open(&self, purpose: Purpose, practice: &str, token: &str) -> Option<Vec<u8>> {
        const MAX_LEN: usize = ((1 + MAX_PAYLOAD + MAC_LEN) * 4).div_ceil(3);
        if token.len() > MAX_LEN {
            return None;
        }
        let bytes = from_base64url(token)?;
        let (&[VERSION], rest) = bytes.split_first_chunk()? else { return None };
        let (payload, mac) = rest.split_last_chunk::<MAC_LEN>()?;
        same(&self.mac(purpose, practice, payload), mac).then(|| payload.to_vec())
    }

    fn mac(&self, purpose: Purpose, practice: &str, payload: &[u8]) -> [u8; MAC_LEN] {
        let whole = self.0.mac(&[&[VERSION], purpose.name().as_bytes(), practice.as_bytes(), payload]);
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&whole[..MAC_LEN]);
        mac
    }
}

/// Compares in constant time. `ring` does so for whole MACs only, hence this compares MACs of what it was given, under
/// a key that nobody else has.
fn same(expected: &[u8], given: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>());
    hmac::verify(&key, given, hmac::sign(&key, expected).as_ref()).is_ok()
}

/// 128 random bits, for tokens that are looked up.
#[must_use]
pub fn random_token() -> [u8; 16] {
    random()
}

/// Base64 for URLs, without padding (RFC 4648, section 5).
#[must_use]
pub fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The reverse of [`base64url`]; each value has one spelling, any other gives `None`.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    const ALL: [Purpose; 7] = [
        Purpose::DeliveryCursor,
        Purpose::InboxCursor,
        Purpose::ConversationCursor,
        Purpose::PageToken,
        Purpose::Unsubscribe,
        Purpose::SecureLink,
        Purpose::Media,
    ];

    fn key() -> TokenKey {
        TokenKey(Secret::from_bytes(&[1; 32]).unwrap())
    }

    #[test]
    fn a_token_opens_for_its_own_purpose_practice_and_key_only() {
        let foreign = TokenKey(Secret::from_bytes(&[2; 32]).unwrap());
        for minted in ALL {
            let token = key().mint(minted, "p", b"payload");
            for asked in ALL {
                let expected = (asked == minted).then(|| b"payload".to_vec());
                assert_eq!(key().open(asked, "p", &token), expected, "{minted:?} as {asked:?}");
            }
            assert_eq!(key().open(minted, "q", &token), None);
            assert_eq!(key().open(minted, "", &token), None);
            assert_eq!(foreign.open(minted, "p", &token), None);
        }
    }

    #[test]
    fn practice_and_payload_cannot_trade_letters() {
        let token = key().mint(Purpose::PageToken, "ab", b"c");
        let moved = base64url(&[&[VERSION], &b"bc"[..], &from_base64url(&token).unwrap()[2..]].concat());
        assert_eq!(key().open(Purpose::PageToken, "a", &moved), None);
    }

    #[test]
    fn no_bit_may_change_and_no_letter_be_missing_or_added() {
        let token = key().mint(Purpose::DeliveryCursor, "p", &7u64.to_be_bytes());
        let bytes = from_base64url(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key().open(Purpose::DeliveryCursor, "p", &base64url(&changed)), None, "bit {bit}");
        }
        for len in 0..token.len() {
            assert_eq!(key().open(Purpose::DeliveryCursor, "p", &token[..len]), None, "length {len}");
        }
        for more in ["A", "=", "==", "\n", " "] {
            assert_eq!(key().open(Purpose::DeliveryCursor, "p", &format!("{token}{more}")), None, "{more:?}");
        }
    }

    #[test]
    fn a_token_has_one_spelling() {
        // 1 + 1 + 16 bytes leave no spare bits, 1 + 2 + 16 leave four in the last letter.
        for payload in [&b"x"[..], b"xy", b"xyz"] {
            let token = key().mint(Purpose::PageToken, "p", payload);
            let (head, last) = token.split_at(token.len() - 1);
            let alphabet = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']);
            let opening = alphabet
                .filter(|letter| key().open(Purpose::PageToken, "p", &format!("{head}{letter}")).is_some())
                .collect::<String>();
            assert_eq!(opening, last);
        }
    }

    #[test]
    fn payloads_of_every_permitted_length_pass_and_longer_tokens_are_refused() {
        for len in [0, 1, MAX_PAYLOAD - 1, MAX_PAYLOAD] {
            let token = key().mint(Purpose::PageToken, "p", &vec![9; len]);
            assert_eq!(key().open(Purpose::PageToken, "p", &token), Some(vec![9; len]));
        }
        let longer = vec![9; MAX_PAYLOAD + 1];
        let token = base64url(&[&[VERSION][..], &longer, &key().mac(Purpose::PageToken, "p", &longer)].concat());
        assert_eq!(key().open(Purpose::PageToken, "p", &token), None);
    }

    #[test]
    fn random_tokens_differ() {
        assert_ne!(random_token(), random_token());
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,60}") {
            prop_assert_eq!(key().open(Purpose::PageToken, "p", &text), None);
        }

        #[test]
        fn base64url_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(from_base64url(&base64url(&bytes)), Some(bytes));
        }
    }
}
