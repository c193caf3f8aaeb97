//! Keys, and what is made with them: sealed columns, blind indexes, opaque tokens, chained ledgers, ids. It knows bytes
//! and places, no rules. No key leaves this room: whoever needs one gets a type that can do one thing with it.

mod anchor;
mod blind;
mod chain;
mod data_key;
mod id;
mod keys;
mod seal;
mod secret;
mod signing;
mod token;

pub use anchor::AnchorKey;
pub use blind::{BlindIndexKey, FingerprintKey};
pub use chain::{ChainKey, GENESIS};
pub use data_key::{DATA_KEY_USES, DataKey, UnwrapError, wrapped_by};
pub use id::{new_id, new_id_after};
pub use keys::{KeyFile, KeyFileError, KeyText, MAX_FILE_LEN, read_private, replace, write_new};
pub use seal::{Place, SealError, key_id, open, seal};
pub use secret::is_same;
pub use signing::{SigningKey, UnfitKey};
pub use token::{MAX_PAYLOAD, Purpose, TokenKey, base64url, from_base64url, random_token};
