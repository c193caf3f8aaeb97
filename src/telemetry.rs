//! Logs, and how errors are written into them. It must never see an address, a name, a body or a token: whoever logs names
//! ids, channels, providers and codes.

use std::{error::Error, fmt, io::IsTerminal};

use tracing_subscriber::EnvFilter;

/// Crates that write what they work on into their logs, a mail's text among it: nothing of theirs is ever shown.
const SILENT: [&str; 5] = ["html5ever", "markup5ever", "selectors", "cssparser", "tendril"];
/// It warns once for each connection that an attack costs: whoever floods the port would fill the disk with it.
const NOISY: &str = "h2";

/// How logs are written.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `RUST_LOG`; empty: `info`.
    pub filter: String,
    /// One JSON object a line.
    pub json: bool,
}

/// Starts logging to standard error. Later calls change nothing.
pub fn start(settings: &Settings) {
    let filter = match settings.filter.as_str() {
        "" => EnvFilter::new("info"),
        filter => EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let filter =
        SILENT.iter().filter_map(|name| format!("{name}=off").parse().ok()).fold(filter, EnvFilter::add_directive);
    let quiet = format!("{NOISY}=error").parse().ok().filter(|_| !settings.filter.contains(NOISY));
    let filter = quiet.into_iter().fold(filter, EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Only the first call in a process counts; tests start several servers in one.
    let _ = if settings.json { builder.json().try_init() } else { builder.try_init() };
}

/// An error with its causes, each once.
#[derive(Debug)]
pub struct Chain<'a>(&'a (dyn Error + 'static));

/// Writes `error` and its causes on one line.
#[must_use]
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
