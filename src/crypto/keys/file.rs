//! Files for their owner's eyes only, whose content is wiped from memory, and that are whole on disk or not there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::KeyFileError;

/// Far above what any file of keys needs, in bytes, and far below what would hurt.
pub const MAX_FILE_LEN: u64 = 64 * 1024;

/// Reads what only its owner may read, or root and a group to which root gave it.
///
/// # Errors
/// Says what is wrong with the file; permissions for anyone but its owner are.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Io(path.to_owned(), error),
    };
    let file = File::open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    // What root gives to somebody else's process is for a group of that process at least: so does Kubernetes with the files of a
    // secret, and PostgreSQL with its own key.
    let given = metadata.uid() == 0 && !rustix::process::geteuid().is_root();
    let others = if given { 0o037 } else { 0o077 };
    if metadata.mode() & others != 0 {
        return Err(KeyFileError::TooOpen(path.to_owned()));
    }
    if metadata.len() > MAX_FILE_LEN {
        return Err(refused(io::ErrorKind::FileTooLarge.into()));
    }
    // Room for all of it from the start: growing would leave copies behind that nobody wipes.
    let room = usize::try_from(metadata.len() + 1).unwrap_or_default();
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(MAX_FILE_LEN).read_to_string(&mut text).map_err(refused)?;
    Ok(text)
}

/// Writes `text` to `path`, where nothing may be yet. It is on disk when this returns.
///
/// # Errors
/// [`KeyFileError::Exists`] if there is anything; [`KeyFileError::Io`] if it cannot be written, in which case nothing is left.
pub fn write_new(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let file = private(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Io(path.to_owned(), error),
    })?;
    write_durably(file, path, text.as_bytes()).map_err(|error| {
        // Half a file of keys would stand in the way of the next attempt; should even this fail, loading says so.
        let _ = fs::remove_file(path);
        KeyFileError::Io(path.to_owned(), error)
    })
}

/// Puts `text` in the place of the file at `path`, as a whole. It is on disk when this returns.
///
/// # Errors
/// [`KeyFileError::Io`] if it cannot be written; the file is as it was then.
pub fn replace(path: &Path, text: &str) -> Result<(), KeyFileError> {
    let failed = |error| KeyFileError::Io(path.to_owned(), error);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let file = private(&beside).map_err(failed)?;
    write_durably(file, &beside, text.as_bytes()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    sync_folder(path).map_err(failed)
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write_durably(mut file: File, path: &Path, content: &[u8]) -> io::Result<()> {
    file.write_all(content)?;
    file.sync_all()?;
    sync_folder(path)
}

/// A file is there after a crash only if its folder was written as well.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
