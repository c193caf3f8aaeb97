//! Where the master keys are kept.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{Env, Faults, data_dir};
use crate::custody::{KmsSettings, Settings, Source, VaultSettings};

const FILE: &str = "HEEDWELL_MASTER_KEY_FILE";
const COMMAND: &str = "HEEDWELL_MASTER_KEY_COMMAND";
const URL: &str = "HEEDWELL_VAULT_URL";
const KEY: &str = "HEEDWELL_VAULT_KEY";
const TOKEN: &str = "HEEDWELL_VAULT_TOKEN_FILE";
const AUTHORITY: &str = "HEEDWELL_VAULT_CA_FILE";

pub(super) fn settings(env: &Env, loopback: bool, faults: &mut Faults) -> Settings {
    Settings {
        source: source(env, loopback, faults),
        kms: vault(env, faults).map(KmsSettings::Vault),
        may_make: loopback,
        patience: Duration::from_secs(30),
    }
}

fn source(env: &Env, loopback: bool, faults: &mut Faults) -> Source {
    let usual = || Source::File(data_dir(env).join("master-key"));
    match (env.text(FILE), env.text(COMMAND)) {
        (Some(_), Some(_)) => {
            faults.add(COMMAND, "must not be set together with HEEDWELL_MASTER_KEY_FILE");
            usual()
        }
        (None, Some(command)) => Source::Command(command.into()),
        (Some(path), None) => {
            if !Path::new(path).is_file() {
                faults.add(FILE, "must name a file that can be read");
            }
            Source::File(path.into())
        }
        (None, None) => {
            if !loopback {
                faults.add(
                    FILE,
                    "or HEEDWELL_MASTER_KEY_COMMAND must be set: keys are made on the spot only while both addresses are \
                     loopback addresses",
                );
            }
            usual()
        }
    }
}

fn vault(env: &Env, faults: &mut Faults) -> Option<VaultSettings> {
    let Some(url) = env.text(URL) else {
        for name in [KEY, TOKEN, AUTHORITY].into_iter().filter(|name| env.text(name).is_some()) {
            faults.add(name, "counts only with HEEDWELL_VAULT_URL");
        }
        return None;
    };
    if !Url::parse(url).is_ok_and(|url| VaultSettings::is_callable(&url)) {
        faults.add(URL, "must be an https URL without user, query or fragment (http only on a loopback address)");
    }
    let (mount, key) = key(env.text(KEY).unwrap_or_default(), faults);
    let mut file = |name, remedy| {
        let path = PathBuf::from(env.text(name).unwrap_or_default());
        if !path.is_file() {
            faults.add(name, remedy);
        }
        path
    };
    let token_file = file(TOKEN, "must name the file of the token for Vault");
    let ca_file = env.text(AUTHORITY).map(|_| file(AUTHORITY, "must name a PEM file that can be read"));
    Some(VaultSettings {
        url: url.trim_end_matches('/').to_owned(),
        mount,
        key,
        token_file,
        ca_file,
        patience: Duration::from_secs(10),
    })
}

/// `KEY`, or `MOUNT/KEY`, where the mount may have several parts.
fn key(text: &str, faults: &mut Faults) -> (String, String) {
    let plain = |part: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && part.bytes().all(known) && part.bytes().any(|byte| byte != b'.')
    };
    if !text.split('/').all(plain) {
        faults
            .add(KEY, "must be the name of a key of Vault's transit engine, for example heedwell or transit/heedwell");
    }
    let (mount, key) = text.rsplit_once('/').unwrap_or(("transit", text));
    (mount.to_owned(), key.to_owned())
}
