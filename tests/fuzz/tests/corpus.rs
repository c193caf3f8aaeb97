//! Every input that is kept holds what it has to, also where no engine looks for more: among them each that once did not.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::{fs, path::Path, thread};

use heedwell_fuzz::{Target, run};

/// The build is not optimised, and others work at the same time.
const STACK: usize = 8 * 1024 * 1024;

#[test]
fn every_input_that_is_kept_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in Target::ALL {
        let mut inputs: Vec<_> =
            fs::read_dir(folder.join(target.name())).unwrap().map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        assert!(inputs.len() > 5, "{}: {} inputs", target.name(), inputs.len());
        // A thread of its own for each, which has a server of its own.
        let all = thread::Builder::new().stack_size(STACK).spawn(move || {
            for input in inputs {
                eprintln!("{}", input.display());
                run(target, &fs::read(&input).unwrap());
            }
        });
        all.unwrap().join().unwrap();
    }
}
