//! Logs, and how errors are written into them. It must never see an address, a name, a body or a token: whoever logs names
//! ids, channels, providers and codes.

use std::{backtrace::Backtrace, error::Error, fmt, io::IsTerminal, panic};

use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// Crates that write what they work on into their logs, a mail's text among it: nothing of theirs is ever shown.
const SILENT: [&str; 5] = ["html5ever", "markup5ever", "selectors", "cssparser", "tendril"];
/// It warns once for each connection that an attack costs: whoever floods the port would fill the disk with it.
const NOISY: &str = "h2";
/// Who may say more than `info`, if `RUST_LOG` asks for it. Every other crate tells there what it works on: h2 and hyper headers with
/// tokens in them, reqwest addresses with numbers and links, rustls and lettre what is agreed and said, sqlx statements. And a crate
/// that does not today may tomorrow.
const TALKATIVE: &str = env!("CARGO_CRATE_NAME");

/// How logs are written.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `RUST_LOG`; empty: `info`.
    pub filter: String,
    /// One JSON object a line.
    pub json: bool,
}

/// Starts logging to standard error, panics too. Later calls change nothing.
pub fn start(settings: &Settings) {
    let filter = match settings.filter.as_str() {
        "" => EnvFilter::new("info"),
        filter => EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let quiet = format!("{NOISY}=error").parse().ok().filter(|_| !settings.filter.contains(NOISY));
    let filter = quiet.into_iter().fold(filter, EnvFilter::add_directive);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = if settings.json { lines.json().boxed() } else { lines.boxed() };
    let kept = filter_fn(is_harmless).with_max_level_hint(LevelFilter::TRACE);
    // Only the first call in a process counts; tests start several servers in one.
    if tracing_subscriber::registry().with(filter).with(kept).with(lines).try_init().is_ok() {
        panic::set_hook(Box::new(tell_panic));
    }
}

/// Whether it may be shown, whatever `RUST_LOG` asks for.
fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let said_by =
        |name: &str| metadata.target().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    (*metadata.level() <= Level::INFO || said_by(TALKATIVE)) && !SILENT.into_iter().any(said_by)
}

/// Tells where a panic was. What it says is shown only where it is a literal of the program's: the standard library puts the text
/// that is cut in the wrong place into its own words, and `expect` the error, so that it may be anything.
fn tell_panic(panic: &panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let said = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("[hidden]");
    tracing::error!(place, said, backtrace = %Backtrace::capture(), "a panic");
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
