//! `heedwell`: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    heedwell::cli::run(std::env::args_os())
}
