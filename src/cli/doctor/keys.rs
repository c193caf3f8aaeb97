//! The master keys, and the keys that tokens are verified with.

use super::Report;
use crate::{
    auth::{self, Found, JwksSource},
    config::Config,
    crypto::KeyFile,
    custody::{self, CustodyError, Source},
    telemetry,
};

/// Yields the master keys, where they can be had.
pub(super) async fn look(config: &Config, report: &mut Report) -> Option<KeyFile> {
    tokens(config, report).await;
    let name = match config.custody.source {
        Source::File(_) => "HEEDWELL_MASTER_KEY_FILE",
        Source::Command(_) => "HEEDWELL_MASTER_KEY_COMMAND",
    };
    match custody::look(&config.custody).await {
        Ok(Some(keys)) => {
            let sealed = if config.custody.kms.is_some() { ", sealed by Vault, which opens it" } else { "" };
            report.ok("master keys", name, format!("master.{} wraps{sealed}", keys.current_master()));
            Some(keys)
        }
        Ok(None) => {
            report.ok("master keys", name, "is not there yet: the first start makes it".to_owned());
            None
        }
        Err(error) => {
            let (name, text) = told(&error);
            report.wrong("master keys", name, text);
            None
        }
    }
}

/// The variable to mend, and what is wrong there: each error begins with its variable.
fn told(error: &CustodyError) -> (String, String) {
    let text = telemetry::chain(error).to_string();
    match text.split_once(": ") {
        Some((name, text)) => (name.to_owned(), text.to_owned()),
        None => (String::new(), text),
    }
}

async fn tokens(config: &Config, report: &mut Report) {
    const NAME: &str = "HEEDWELL_JWKS";
    match auth::look(&config.auth).await {
        Ok(Found::Set) => report.ok("callers' keys", NAME, "the set can be had, and holds keys".to_owned()),
        Ok(Found::Local) => report.ok("callers' keys", NAME, "not set: tokens are those of the local key".to_owned()),
        Ok(Found::NoLocal) => {
            report.ok("callers' keys", NAME, "not set: the first start makes a local key for tokens".to_owned());
        }
        Err(error) => {
            let text = telemetry::chain(&error).to_string();
            let text = match config.auth.jwks {
                Some(JwksSource::Url(_)) if error.variable() == NAME => {
                    format!("{text}; until it can be had nobody can call")
                }
                _ => text,
            };
            report.wrong("callers' keys", error.variable(), text);
        }
    }
}
