//! The engine's program: libFuzzer, which calls one target again and again. Which one, `HEEDWELL_FUZZ` says.

#![no_main]

use std::{env, sync::OnceLock};

use heedwell_fuzz::{Target, run};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = env::var("HEEDWELL_FUZZ").unwrap_or_default();
        Target::named(&name).unwrap_or_else(|| panic!("HEEDWELL_FUZZ must be one of {}", Target::names()))
    });
    run(*target, input);
});
