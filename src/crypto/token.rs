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

    /// A token, with what it was minted for.
    #[derive(Clone, Debug)]
    struct Minted {
        purpose: Purpose,
        practice: String,
        payload: Vec<u8>,
    }

    impl Minted {
        fn token(&self) -> String {
            key().mint(self.purpose, &self.practice, &self.payload)
        }

        fn opens(&self, token: &str) -> Option<Vec<u8>> {
            key().open(self.purpose, &self.practice, token)
        }
    }

    fn minted() -> impl Strategy<Value = Minted> {
        let payload = prop_oneof![
            any::<u64>().prop_map(|position| position.to_be_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..40)
        ];
        (prop::sample::select(ALL.to_vec()), "[a-c]{0,3}", payload).prop_map(|(purpose, practice, payload)| Minted {
            purpose,
            practice,
            payload,
        })
    }

    /// What somebody makes of two tokens that they hold.
    #[derive(Clone, Debug)]
    enum Forgery {
        /// Bytes of the one are changed.
        Change(Vec<(usize, u8)>),
        /// The beginning of the one, the end of the other.
        Splice(usize, usize),
        /// The payload of the one under the seal of the other.
        Reseal,
        /// Something is left out.
        Cut(usize, usize),
        /// Something is put in.
        Insert(usize, Vec<u8>),
    }

    fn forgery() -> impl Strategy<Value = Forgery> {
        prop_oneof![
            prop::collection::vec((any::<usize>(), 1..=u8::MAX), 1..4).prop_map(Forgery::Change),
            (any::<usize>(), any::<usize>()).prop_map(|(one, other)| Forgery::Splice(one, other)),
            Just(Forgery::Reseal),
            (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Forgery::Cut(from, to)),
            (any::<usize>(), prop::collection::vec(any::<u8>(), 1..20))
                .prop_map(|(at, more)| Forgery::Insert(at, more)),
        ]
    }

    impl Forgery {
        fn of(&self, one: &[u8], other: &[u8]) -> Vec<u8> {
            let mut bytes = one.to_vec();
            let place = |at: &usize, len: usize| at % (len + 1);
            match self {
                Self::Change(changes) => changes.iter().for_each(|(at, by)| bytes[at % one.len()] ^= by),
                Self::Splice(head, tail) => {
                    bytes.truncate(place(head, one.len()));
                    bytes.extend(&other[place(tail, other.len())..]);
                }
                Self::Reseal => {
                    bytes.truncate(one.len() - MAC_LEN);
                    bytes.extend(&other[other.len() - MAC_LEN..]);
                }
                Self::Cut(from, to) => {
                    let (from, to) = (place(from, one.len()), place(to, one.len()));
                    bytes.drain(from.min(to)..from.max(to));
                }
                Self::Insert(at, more) => {
                    drop(bytes.splice(place(at, one.len())..place(at, one.len()), more.iter().copied()))
                }
            }
            bytes
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_token_is_good_for_what_it_was_minted_for_and_for_nothing_else(one in minted(), other in minted()) {
            prop_assert_eq!(one.opens(&one.token()), Some(one.payload.clone()));
            let same = one.purpose == other.purpose && one.practice == other.practice;
            prop_assert_eq!(one.opens(&other.token()), same.then_some(other.payload));
        }

        #[test]
        fn nothing_that_is_made_of_two_tokens_opens(one in minted(), other in minted(), forgery in forgery()) {
            let [first, second] = [&one, &other].map(|minted| from_base64url(&minted.token()).unwrap());
            let forged = forgery.of(&first, &second);
            // Nothing was changed, or the other one is what came out.
            prop_assume!(forged != first && forged != second);
            prop_assert_eq!(one.opens(&base64url(&forged)), None);
            prop_assert_eq!(other.opens(&base64url(&forged)), None);
        }
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
