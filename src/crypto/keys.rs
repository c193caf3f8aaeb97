//! The key file, and the keys that derive from it. The file stays outside the database: whoever has only the one or the
//! other can read nothing. Its content never reaches an error, a log or `Debug`.

mod file;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::{
    anchor::AnchorKey,
    blind::{BlindIndexKey, FingerprintKey},
    chain::ChainKey,
    secret::Secret,
    token::TokenKey,
};

pub use file::{MAX_FILE_LEN, read_private, replace, write_new};

/// Why there are no keys. The text is for the operator; it names lines, never what they hold.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Nothing is there.
    #[error("there is no key file at {}", .0.display())]
    Missing(PathBuf),
    /// Something is there already, and keys are never overwritten.
    #[error("{} exists already and is left as it is", .0.display())]
    Exists(PathBuf),
    /// The operating system refused.
    #[error("the key file {} cannot be read or written", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// Others than its owner may read or change it.
    #[error("the key file is open to others than its owner; run: chmod 600 {}", .0.display())]
    TooOpen(PathBuf),
    /// The line with this number, counted from 1, is none that we know.
    #[error("line {0} of the key file is neither `master.<number> <base64>` nor `index <base64>`")]
    BadLine(usize),
    /// The key in this line is not 32 bytes in base64.
    #[error("the key in line {0} of the key file is not 32 bytes in base64")]
    BadKey(usize),
    /// This line names a key that an earlier one has named.
    #[error("line {0} of the key file names a key for the second time")]
    Repeated(usize),
    /// Nothing could wrap data keys.
    #[error("the key file has no `master.<number>` line")]
    NoMaster,
    /// Nothing could make blind indexes and tokens.
    #[error("the key file has no `index` line")]
    NoIndex,
}

/// The keys of a deployment: numbered masters that wrap data keys, and the index key, from which everything derives
/// that must stay findable. The highest master wraps, the others only unwrap, so that masters can be rotated. The index
/// key never is: blind indexes and tokens would be lost.
///
/// The file is text: lines `master.<number> <base64 of 32 bytes>`, one line `index <base64 of 32 bytes>`, and blank
/// lines and lines that begin with `#` at will.
#[derive(Debug)]
pub struct KeyFile {
    index: Secret,
    newest: Master,
    older: Vec<Master>,
}

#[derive(Debug)]
struct Master {
    number: u32,
    key: Secret,
}

/// The text of a key file: whoever has it has the keys. It is wiped when dropped and hidden in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(Zeroizing<String>);

impl KeyText {
    /// As somebody handed it over. Nothing is checked yet.
    #[must_use]
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Of new keys.
    #[must_use]
    pub fn generate() -> Self {
        let newest = Master { number: 1, key: Secret::generate() };
        KeyFile { index: Secret::generate(), newest, older: Vec::new() }.text()
    }

    /// For where it is kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The keys that it holds.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn keys(&self) -> Result<KeyFile, KeyFileError> {
        KeyFile::parse(&self.0)
    }

    /// The same with one more master, which wraps what is wrapped from then on, and the number of that.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn with_master(&self) -> Result<(u32, Self), KeyFileError> {
        let number = self.keys()?.newest.number.checked_add(1).ok_or(KeyFileError::NoMaster)?;
        let (key, name) = (Secret::generate(), format!("master.{number} "));
        let key = Zeroizing::new(BASE64_STANDARD.encode(key.bytes()));
        let ended = self.0.ends_with('\n');
        // Room for all of it from the start: growing would leave copies behind that nobody wipes.
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() + name.len() + key.len() + 2));
        for part in [self.0.as_str(), if ended { "" } else { "\n" }, &name, &key, "\n"] {
            text.push_str(part);
        }
        Ok((number, Self(text)))
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl KeyFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Says what is wrong with the file; on Unix that includes permissions for anyone but its owner.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        Self::parse(&read_private(path)?)
    }

    /// Makes new keys and writes them to `path`, for the owner only. They are on disk when this returns.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] if there is anything at `path`; [`KeyFileError::Io`] if it cannot be written, in which
    /// case nothing is left there.
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        let text = KeyText::generate();
        write_new(path, text.as_str())?;
        text.keys()
    }

    /// The number of the master that wraps new data keys.
    #[must_use]
    pub const fn current_master(&self) -> u32 {
        self.newest.number
    }

    /// A value that only the right index key gives. Kept in the database, it shows a wrong file at start.
    #[must_use]
    pub fn key_check(&self) -> [u8; 32] {
        check(&self.index)
    }

    /// The same for the master with that number, if the file has it.
    #[must_use]
    pub fn master_check(&self, number: u32) -> Option<[u8; 32]> {
        self.master(number).map(check)
    }

    /// The key of a practice's blind indexes.
    #[must_use]
    pub fn blind_index(&self, practice: &str) -> BlindIndexKey {
        BlindIndexKey(self.index.derive("blind index", practice.as_bytes()))
    }

    /// The key of opaque tokens.
    #[must_use]
    pub fn tokens(&self) -> TokenKey {
        TokenKey(self.index.derive("token", b""))
    }

    /// The key of fingerprints of requests.
    #[must_use]
    pub fn fingerprints(&self) -> FingerprintKey {
        FingerprintKey(self.index.derive("fingerprint", b""))
    }

    /// The key of one practice's ledger of that name, such as `consent` or `audit`.
    #[must_use]
    pub fn chain(&self, ledger: &str, practice: &str) -> ChainKey {
        ChainKey(self.index.derive("chain", b"").derive(ledger, practice.as_bytes()))
    }

    /// The key that signs anchors of the ledgers.
    #[must_use]
    pub fn anchor(&self) -> AnchorKey {
        AnchorKey::of(&self.index.derive("anchor", b""))
    }

    /// The key that wraps new data keys, with the number of its master.
    pub(super) fn wrapping(&self) -> (u32, Secret) {
        (self.newest.number, wrapping(&self.newest.key))
    }

    /// The key that unwraps what the master with that number has wrapped.
    pub(super) fn unwrapping(&self, number: u32) -> Option<Secret> {
        self.master(number).map(wrapping)
    }

    fn master(&self, number: u32) -> Option<&Secret> {
        std::iter::once(&self.newest).chain(&self.older).find(|master| master.number == number).map(|found| &found.key)
    }

    fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut index = None;
        let mut masters: Vec<Master> = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, key) = line.split_once(char::is_whitespace).ok_or(KeyFileError::BadLine(number))?;
            let master = match name {
                "index" => None,
                _ => Some(master_number(name).ok_or(KeyFileError::BadLine(number))?),
            };
            let key = decode(key.trim_start()).ok_or(KeyFileError::BadKey(number))?;
            let repeated = match master {
                None => index.replace(key).is_some(),
                Some(master) => {
                    let known = masters.iter().any(|other| other.number == master);
                    masters.push(Master { number: master, key });
                    known
                }
            };
            if repeated {
                return Err(KeyFileError::Repeated(number));
            }
        }
        masters.sort_by_key(|master| master.number);
        let newest = masters.pop().ok_or(KeyFileError::NoMaster)?;
        Ok(Self { index: index.ok_or(KeyFileError::NoIndex)?, newest, older: masters })
    }

    fn text(&self) -> KeyText {
        let [master, index] =
            [&self.newest.key, &self.index].map(|key| Zeroizing::new(BASE64_STANDARD.encode(key.bytes())));
        KeyText(Zeroizing::new(format!(
            "# Heedwell's keys. Without this file nothing in the database can be read: keep a copy in a safe place.\n\
             # To rotate, add a line master.<next number>; keep the older ones until all data keys are wrapped anew.\n\
             # The index key never changes.\n\
             master.{number} {master}\nindex {index}\n",
            number = self.newest.number,
            master = master.as_str(),
            index = index.as_str(),
        )))
    }
}

fn wrapping(master: &Secret) -> Secret {
    master.derive("wrap", b"")
}

fn check(key: &Secret) -> [u8; 32] {
    key.derive("key check", b"").mac(&[b"heedwell"])
}

/// The number in `master.<number>`, written without sign or leading zeros.
fn master_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("master.")?;
    digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
}

fn decode(key: &str) -> Option<Secret> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(key).ok()?);
    Secret::from_bytes(&bytes)
}

#[cfg(test)]
mod tests;
