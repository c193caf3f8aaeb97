//! The shape of the hot paths: how many instructions they take (callgrind), and how often they ask for memory. Times depend on the
//! machine and on who else works on it; these depend on the sources, the compiler and the packages alone, but for a little of the
//! processor (what `ring` chooses by its features). They are held to what `expected.txt` says, in both directions: what has got
//! cheaper is to stay so.
//!
//! `HEEDWELL_SHAPE_RENEW=1 cargo test --test shape` writes that file anew. Do so only for a change that is worth its price, and say
//! in the commit what it buys; or for a new compiler or package, in a commit of its own.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that prints figures, and ends where it cannot go on"
)]

mod calls;
mod hot;

use std::{
    alloc::System,
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::hot::{BYTES, NUMBERS, RULES, ready_for};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// By how much an expected count may be missed, for one: the keys of hash tables are drawn anew each time.
const MARGIN: f64 = 0.05;
/// How often a path is walked before it is measured, and how often then: each of the nine kinds of notification as often.
const WARM: usize = 9;
const TIMES: usize = 45;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let [flag, path, times] = &arguments[..]
        && flag == "--hot"
    {
        let hot = ready_for(path);
        // All of its kind, so that what is done once is done before.
        let all: &[&str] = if BYTES.contains(&path.as_str()) { &BYTES } else { &RULES };
        all.iter().for_each(|path| hot.walk(path, WARM));
        hot.walk(path, times.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    // What cargo hands on is the name of other tests, if any.
    if arguments.iter().any(|argument| !argument.starts_with('-') && !"shape".contains(argument.as_str())) {
        return ExitCode::SUCCESS;
    }
    let mut counts = allocations();
    counts.extend(instructions());
    judge(&counts)
}

/// Holds what was counted to what is expected, or writes that down.
fn judge(counts: &BTreeMap<String, u64>) -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shape/expected.txt");
    if env::var_os("HEEDWELL_SHAPE_RENEW").is_some() {
        let lines = counts.iter().map(|(name, count)| format!("{name} {count}\n"));
        fs::write(&path, lines.collect::<String>()).unwrap();
        println!("expected.txt is written anew");
        return ExitCode::SUCCESS;
    }
    let text = fs::read_to_string(&path).unwrap();
    let expected: BTreeMap<_, u64> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, count)| (name, count.parse().unwrap()))
        .collect();
    let mut missed = 0;
    println!("{:<34} {:>10} {:>10}", "each time", "counted", "expected");
    for (name, count) in counts {
        let wanted = expected.get(name.as_str()).copied();
        let change = wanted.map(|wanted| *count as f64 / wanted.max(1) as f64 - 1.0);
        let is_met = change.is_some_and(|change| change.abs() <= MARGIN);
        missed += usize::from(!is_met);
        let change = change.map_or_else(|| "not expected".into(), |change| format!("{:+.1} %", change * 100.0));
        let wanted = wanted.map_or_else(String::new, |wanted| wanted.to_string());
        println!("{name:<34} {count:>10} {wanted:>10}  {change}{}", if is_met { "" } else { "  <== MISSED" });
    }
    if missed == 0 {
        return ExitCode::SUCCESS;
    }
    println!(
        "\nTHE SHAPE OF {missed} HOT PATHS HAS CHANGED by more than {:.0} %. If that was not meant, mend it. If it was, or if compiler or\n\
         packages are other ones: HEEDWELL_SHAPE_RENEW=1 cargo test --test shape\n\
         and commit tests/shape/expected.txt with a reason.",
        MARGIN * 100.0
    );
    ExitCode::FAILURE
}

/// How often each path asks for memory, and each call as a whole, with all that it does to the database.
fn allocations() -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for path in BYTES.into_iter().chain(RULES).chain(NUMBERS) {
        let hot = ready_for(path);
        hot.walk(path, WARM);
        let region = Region::new(ALLOCATOR);
        hot.walk(path, TIMES);
        let each = region.change().allocations / TIMES;
        counts.insert(format!("allocations.{path}"), each as u64);
    }
    let calls = calls::Server::start();
    for call in calls::CALLS {
        calls.often(call, calls::WARM);
        let region = Region::new(ALLOCATOR);
        calls.often(call, calls::TIMES);
        let each = region.change().allocations / calls::TIMES;
        counts.insert(format!("allocations.{call}"), each as u64);
    }
    counts
}

/// The instructions of each path: those of a program that walks it, less those of one that has only got ready.
fn instructions() -> BTreeMap<String, u64> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(env::var_os("HEEDWELL_TEST_REQUIRE").is_none(), "no valgrind found: install it");
        println!("NO VALGRIND: nobody counts instructions. Set HEEDWELL_TEST_REQUIRE to make that a failure.");
        return BTreeMap::new();
    }
    let folder = tempfile::tempdir().unwrap();
    let program = stripped(folder.path());
    // Side by side: each takes most of its time to get ready.
    thread::scope(|scope| {
        let program = &program;
        let count = |paths: &'static [&'static str]| scope.spawn(move || of_a_kind(program, paths));
        let [bytes, rules] = [count(&BYTES), count(&RULES)];
        bytes.join().unwrap().into_iter().chain(rules.join().unwrap()).collect()
    })
}

/// Those of paths for which the program gets ready alike.
fn of_a_kind(program: &Path, paths: &[&str]) -> BTreeMap<String, u64> {
    let before = collected(program, paths[0], 0);
    let each = |path: &&str| (collected(program, path, TIMES) - before) / TIMES as u64;
    paths.iter().map(|path| (format!("instructions.{path}"), each(path))).collect()
}

/// This program without what only debuggers read, which valgrind would read each time.
fn stripped(folder: &Path) -> PathBuf {
    let (own, copy) = (env::current_exe().unwrap(), folder.join("shape"));
    let done = Command::new("strip").arg("-o").arg(&copy).arg(&own).status();
    if done.is_ok_and(|status| status.success()) { copy } else { own }
}

/// How many instructions the program takes as a whole.
fn collected(program: &Path, path: &str, times: usize) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--hot", path, &times.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let count = said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    count.unwrap_or_else(|| panic!("callgrind counted nothing: {said}")).parse().unwrap()
}
