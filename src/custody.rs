//! Where the master keys are kept: the text of the key file comes from a file or from what a command prints, and is plain or sealed
//! by a service that keeps its own key to itself. It knows texts and where they lie, and not what the keys are for.
//!
//! Guarantee: no text of keys, and nothing that a command or a service said, reaches a log, an error or `Debug`.

mod command;
mod kms;
mod vault;

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;

pub use command::CommandError;
pub use kms::{KmsError, KmsSettings};
pub use vault::VaultSettings;

use crate::crypto::{KeyFile, KeyFileError, KeyText, read_private, replace, write_new};
use kms::Kms;

/// Where the text of the key file is.
#[derive(Clone)]
pub enum Source {
    /// In a file (`HEEDWELL_MASTER_KEY_FILE`).
    File(PathBuf),
    /// It is what a shell's command prints (`HEEDWELL_MASTER_KEY_COMMAND`).
    Command(SecretString),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            // It may name a secret.
            Self::Command(_) => f.debug_tuple("Command").finish_non_exhaustive(),
        }
    }
}

/// Where the master keys are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the text is.
    pub source: Source,
    /// What has sealed it; unset: nothing.
    pub kms: Option<KmsSettings>,
    /// Whether a file that is missing may be made.
    pub may_make: bool,
    /// How long a command may take.
    pub patience: Duration,
}

/// Why there are no master keys. Each names the variable to mend.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The file, or what is in it.
    #[error("HEEDWELL_MASTER_KEY_FILE")]
    File(#[from] KeyFileError),
    /// The command cannot be used.
    #[error("HEEDWELL_MASTER_KEY_COMMAND")]
    Command(#[from] CommandError),
    /// What the command printed is no key file.
    #[error("HEEDWELL_MASTER_KEY_COMMAND: what it printed cannot be used")]
    Printed(#[source] KeyFileError),
    /// The service does not open, or seal, the text.
    #[error("{}", .0.variable())]
    Kms(#[from] KmsError),
    /// The text is sealed, and nothing is there to open it.
    #[error(
        "HEEDWELL_VAULT_URL: the master keys are sealed by Vault: set it, HEEDWELL_VAULT_KEY and HEEDWELL_VAULT_TOKEN_FILE"
    )]
    Sealed,
    /// The text is plain where it should be sealed: whoever has the file would have the keys all the same.
    #[error("HEEDWELL_VAULT_URL: the master keys are not sealed by Vault: run `heedwell keys seal`, or leave it out")]
    NotSealed,
    /// There is nothing to seal with.
    #[error(
        "HEEDWELL_VAULT_URL: there is nothing to seal the master keys with: set it, HEEDWELL_VAULT_KEY and HEEDWELL_VAULT_TOKEN_FILE"
    )]
    NoService,
}

/// What became of a text that was changed.
#[derive(Debug)]
pub enum Stored {
    /// It is in its file.
    InFile,
    /// Whoever runs the command's store has to put it there: what the command is to print from now on.
    ToStore(KeyText),
}

/// Loads the master keys; where they may be made and are missing, makes them and says so.
///
/// # Errors
/// [`CustodyError`].
pub async fn load(settings: &Settings) -> Result<KeyFile, CustodyError> {
    match open(settings).await {
        Err(CustodyError::File(KeyFileError::Missing(path))) if settings.may_make => {
            if let Some(folder) = path.parent() {
                // A folder that cannot be made is reported by the file that cannot.
                let _ = make_folder(folder);
            }
            let text = KeyText::generate();
            write_new(&path, sealed(settings, &text).await?.as_str())?;
            tracing::warn!(path = %path.display(), "made a new master key: keep a copy, nothing can be read without it");
            Ok(text.keys()?)
        }
        text => parsed(settings, &text?),
    }
}

/// Loads the master keys and makes none. Unset: the first start makes them.
///
/// # Errors
/// [`CustodyError`].
pub async fn look(settings: &Settings) -> Result<Option<KeyFile>, CustodyError> {
    match open(settings).await {
        Err(CustodyError::File(KeyFileError::Missing(_))) if settings.may_make => Ok(None),
        text => parsed(settings, &text?).map(Some),
    }
}

/// Makes a folder for its owner's eyes only, unless it is there.
fn make_folder(path: &std::path::Path) -> std::io::Result<()> {
    std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(path)
}

/// Adds a master, which wraps what is wrapped from then on. Yields its number.
///
/// # Errors
/// [`CustodyError`]; nothing is changed then.
pub async fn add_master(settings: &Settings) -> Result<(u32, Stored), CustodyError> {
    let text = open(settings).await?;
    parsed(settings, &text)?;
    let (number, text) = text.with_master()?;
    Ok((number, store(settings, text).await?))
}

/// Seals the text, whether it was sealed before or not, by the newest key of the service.
///
/// # Errors
/// [`CustodyError`]; nothing is changed then.
pub async fn seal(settings: &Settings) -> Result<Stored, CustodyError> {
    let kms = Kms::new(settings.kms.as_ref().ok_or(CustodyError::NoService)?)?;
    let text = read(settings).await?;
    let text = if kms.has_sealed(text.as_str()) { kms.open(text.as_str()).await? } else { text };
    parsed(settings, &text)?;
    store(settings, text).await
}

/// The text as it is kept.
async fn read(settings: &Settings) -> Result<KeyText, CustodyError> {
    Ok(match &settings.source {
        Source::File(path) => KeyText::new(read_private(path)?),
        Source::Command(command) => command::output(command, settings.patience).await?,
    })
}

/// The text as it reads.
async fn open(settings: &Settings) -> Result<KeyText, CustodyError> {
    let text = read(settings).await?;
    match &settings.kms {
        None if kms::is_sealed(text.as_str()) => Err(CustodyError::Sealed),
        None => Ok(text),
        Some(service) => {
            let kms = Kms::new(service)?;
            if !kms.has_sealed(text.as_str()) {
                return Err(CustodyError::NotSealed);
            }
            Ok(kms.open(text.as_str()).await?)
        }
    }
}

fn parsed(settings: &Settings, text: &KeyText) -> Result<KeyFile, CustodyError> {
    text.keys().map_err(|error| match settings.source {
        Source::File(_) => CustodyError::File(error),
        Source::Command(_) => CustodyError::Printed(error),
    })
}

/// The text as it is to be kept. What does not open again would be lost: that is tried first.
async fn sealed(settings: &Settings, text: &KeyText) -> Result<KeyText, CustodyError> {
    let Some(service) = &settings.kms else { return Ok(text.clone()) };
    let kms = Kms::new(service)?;
    let sealed = kms.seal(text).await?;
    if kms.open(sealed.as_str()).await? != *text {
        return Err(KmsError::Other.into());
    }
    Ok(sealed)
}

async fn store(settings: &Settings, text: KeyText) -> Result<Stored, CustodyError> {
    let text = sealed(settings, &text).await?;
    match &settings.source {
        Source::File(path) => {
            replace(path, text.as_str())?;
            Ok(Stored::InFile)
        }
        Source::Command(_) => Ok(Stored::ToStore(text)),
    }
}
