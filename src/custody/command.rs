//! What a command prints. What it complains of is not kept: it may hold secrets.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::AsyncReadExt,
    process::{ChildStdout, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use crate::crypto::{KeyText, MAX_FILE_LEN};

/// Why a command gave no text. Nothing of what it printed is in here.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No shell, or no process.
    #[error("it cannot be run")]
    Run(#[source] io::Error),
    /// It failed, and how.
    #[error("it failed ({0}); run it by hand to see why")]
    Failed(std::process::ExitStatus),
    /// It did not end in time.
    #[error("it did not end within {} s", .0.as_secs_f32())]
    Slow(Duration),
    /// It printed more than any key file.
    #[error("it printed more than 64 KiB")]
    Long,
    /// It printed something else than text.
    #[error("it printed something that is no text (UTF-8)")]
    NoText,
}

/// Runs `command` by the shell, once, and yields its standard output.
pub(super) async fn output(command: &SecretString, patience: Duration) -> Result<KeyText, CommandError> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command.expose_secret()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // With what it starts itself, so that all of it can be ended.
        .process_group(0)
        .spawn()
        .map_err(CommandError::Run)?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let work = async {
        let stdout = child.stdout.take().ok_or_else(|| CommandError::Run(io::ErrorKind::BrokenPipe.into()))?;
        let text = read(stdout).await?;
        let status = child.wait().await.map_err(CommandError::Run)?;
        if status.success() { Ok(text) } else { Err(CommandError::Failed(status)) }
    };
    let done = timeout(patience, work).await.unwrap_or(Err(CommandError::Slow(patience)));
    if let (Err(CommandError::Slow(_) | CommandError::Long), Some(group)) = (&done, group) {
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
    }
    let text = done?;
    let text = std::str::from_utf8(&text).map_err(|_| CommandError::NoText)?;
    Ok(KeyText::new(Zeroizing::new(text.to_owned())))
}

async fn read(stdout: ChildStdout) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let limit = usize::try_from(MAX_FILE_LEN).unwrap_or(usize::MAX);
    // Room for all of it from the start: growing would leave copies behind that nobody wipes.
    let mut text = Zeroizing::new(Vec::with_capacity(limit + 1));
    let mut stdout = stdout.take(MAX_FILE_LEN + 1);
    while text.len() <= limit {
        if stdout.read_buf(&mut *text).await.map_err(CommandError::Run)? == 0 {
            return Ok(text);
        }
    }
    Err(CommandError::Long)
}
