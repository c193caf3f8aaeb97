//! The key file, and the keys that derive from it. The file stays outside the database: whoever has only the one or the
//! other can read nothing. Its content never reaches an error, a log or `Debug`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
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

/// Far above what any file of keys needs, far below what would hurt.
const MAX_FILE_LEN: u64 = 64 * 1024;

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

impl KeyFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Says what is wrong with the file; on Unix that includes permissions for anyone but its owner.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
            _ => KeyFileError::Io(path.to_owned(), error),
        };
        let file = File::open(path).map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        if open_to_others(&metadata) {
            return Err(KeyFileError::TooOpen(path.to_owned()));
        }
        if metadata.len() > MAX_FILE_LEN {
            return Err(refused(io::ErrorKind::FileTooLarge.into()));
        }
        // Room for all of it from the start: growing would leave copies behind that nobody wipes.
        let room = usize::try_from(metadata.len() + 1).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(room));
        file.take(MAX_FILE_LEN).read_to_string(&mut text).map_err(refused)?;
        Self::parse(&text)
    }

    /// Makes new keys and writes them to `path`, for the owner only. They are on disk when this returns.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] if there is anything at `path`; [`KeyFileError::Io`] if it cannot be written, in which
    /// case nothing is left there.
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        let keys = Self {
            index: Secret::generate(),
            newest: Master { number: 1, key: Secret::generate() },
            older: Vec::new(),
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => KeyFileError::Io(path.to_owned(), error),
        })?;
        write_durably(file, path, keys.text().as_bytes()).map_err(|error| {
            // Half a file of keys would stand in the way of the next attempt; should even this fail, loading says so.
            let _ = fs::remove_file(path);
            KeyFileError::Io(path.to_owned(), error)
        })?;
        Ok(keys)
    }

    /// The number of the master that wraps new data keys.
    #[must_use]
    pub const fn current_master(&self) -> u32 {
        self.newest.number
    }

    /// Adds a master to the file at `path`, which wraps what is wrapped from then on. The file is replaced as a whole, and is on disk
    /// when this returns. Yields the number of the new one.
    ///
    /// # Errors
    /// As [`Self::load`]; nothing is changed then.
    pub fn add_master(path: &Path) -> Result<u32, KeyFileError> {
        let number = Self::load(path)?.newest.number + 1;
        let failed = |error| KeyFileError::Io(path.to_owned(), error);
        let key = Secret::generate();
        let line = Zeroizing::new(format!(
            "master.{number} {}\n",
            Zeroizing::new(BASE64_STANDARD.encode(key.bytes())).as_str()
        ));
        let mut text = Zeroizing::new(fs::read(path).map_err(failed)?);
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend_from_slice(line.as_bytes());
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let _ = fs::remove_file(&beside);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&beside).map_err(failed)?;
        write_durably(file, &beside, &text).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)?;
        sync_folder(path).map_err(failed)?;
        Ok(number)
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

    fn text(&self) -> Zeroizing<String> {
        let [master, index] =
            [&self.newest.key, &self.index].map(|key| Zeroizing::new(BASE64_STANDARD.encode(key.bytes())));
        Zeroizing::new(format!(
            "# Heedwell's keys. Without this file nothing in the database can be read: keep a copy in a safe place.\n\
             # To rotate, add a line master.<next number>; keep the older ones until all data keys are wrapped anew.\n\
             # The index key never changes.\n\
             master.{number} {master}\nindex {index}\n",
            number = self.newest.number,
            master = master.as_str(),
            index = index.as_str(),
        ))
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

fn write_durably(mut file: File, path: &Path, content: &[u8]) -> io::Result<()> {
    file.write_all(content)?;
    file.sync_all()?;
    sync_folder(path)
}

/// A file is there after a crash only if its folder was written as well.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn open_to_others(metadata: &fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o077 != 0
}

#[cfg(not(unix))]
fn open_to_others(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests;
