//! The configuration: a line for each variable. What names a file gets one that holds the value, with `|` for the ends of its lines.

use std::{cell::RefCell, fs};

use heedwell::config::{self, Env, VARIABLES};
use tempfile::TempDir;

use crate::{bytes::Bytes, limits::reached};

/// Longer than any fault that there is, and there is one for each variable at most, or a few.
const LONGEST_REPORT: usize = 64 * 1024;

thread_local! {
    static FOLDER: RefCell<TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    FOLDER.with_borrow(|folder| {
        let mut env = Env::default();
        let data = folder.path().join("data");
        env.set("HEEDWELL_DATA_DIR", data.display().to_string());
        while !input.is_empty() {
            let which = usize::from(input.byte());
            let value = String::from_utf8_lossy(input.line()).into_owned();
            let Some(name) = VARIABLES.get(which % (VARIABLES.len() + 1)) else {
                env.set(&format!("HEEDWELL_{value}"), "on");
                continue;
            };
            match *name {
                "HEEDWELL_DATA_DIR" => {}
                name if name.ends_with("_FILE") || (name == "HEEDWELL_JWKS" && !value.contains("://")) => {
                    let path = folder.path().join(name);
                    fs::write(&path, value.replace('|', "\n")).unwrap();
                    env.set(name, path.display().to_string());
                }
                name => env.set(name, value),
            }
        }
        match config::read(&env, true) {
            Ok(config) => {
                reached();
                // Debug of what has secrets in it must hide them, and not fail.
                assert!(format!("{config:?}").len() < LONGEST_REPORT);
            }
            Err(faults) => assert!(faults.iter().next().is_some() && faults.to_string().len() < LONGEST_REPORT),
        }
        assert!(!data.exists(), "to read is not to make");
    });
}
