//! Wording made to cost time and memory. Each is tried in a process of its own, whose highest use of memory is then known.

use std::{fs, process::Command};

use super::*;

/// Name, source, and whether it is refused. The others are as large as wording may be.
fn bombs() -> Vec<(&'static str, String, bool)> {
    let tokens = |token: &str| token.repeat(16 * 1024 / token.len());
    vec![
        ("loop", "{% for x in (1..99999999) %}xxxxxxxx{% endfor %}".into(), true),
        ("range", "{{ (1..99999999) }}".into(), true),
        ("doubling", tokens("{% assign x = x | append: x %}"), true),
        ("blocks", "{% if first_name %}".repeat(800), true),
        ("brackets", format!("{{{{ a{}", "a[".repeat(8_000)), true),
        ("closed brackets", format!("{{{{ a{}{} }}}}", "[a".repeat(2_000), "]".repeat(2_000)), true),
        ("braces", "{".repeat(16 * 1024), true),
        ("many tokens", tokens("{{link}} "), false),
        ("many filters", format!("{{{{ first_name{} }}}}", " | upcase".repeat(1_800)), false),
        ("many lines", "\n".repeat(16 * 1024), false),
    ]
}

/// Tries the bomb of which the environment has the name; prints what it took.
#[test]
#[ignore = "the test below runs it in a process of its own"]
#[expect(clippy::print_stdout, reason = "the other test reads it")]
fn one_bomb() {
    let name = env::var("HEEDWELL_TEST_BOMB").unwrap();
    let (_, source, refused) = bombs().into_iter().find(|(known, ..)| *known == name).unwrap();
    // Whatever is made once is made before.
    let harmless = Template::compile("{{first_name}}", TokenClass::ALL, &[]).unwrap();
    let mut values = Values::default();
    values.set(Token::Link, &"x".repeat(2_000));
    values.set(Token::FirstName, &"x".repeat(2_000));
    harmless.render(&values, Escape::Html).unwrap();
    let (memory, time) = (most_memory(), processor_time());
    let done = Template::compile(&source, TokenClass::ALL, &[]).map(|it| it.render(&values, Escape::Html));
    let (time, memory) = (processor_time() - time, most_memory() - memory);
    assert_eq!(done.is_err(), refused);
    println!("took {time} {memory}");
}

/// Nanoseconds of the processor that this thread has had.
pub(super) fn processor_time() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// The most memory that this process ever had, in KiB.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn no_wording_takes_long_or_much() {
    // A build for tests is some ten times slower than what is shipped.
    let most_time = if cfg!(debug_assertions) { 500_000_000 } else { 50_000_000 };
    for (name, ..) in bombs() {
        let run = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "domain::template::tests::bombs::one_bomb", "--nocapture"])
            .env("HEEDWELL_TEST_BOMB", name)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{name}: {output}");
        let took = output.lines().find_map(|line| line.split("took ").nth(1)).unwrap();
        let (time, memory) = took.split_once(' ').unwrap();
        let (time, memory): (u64, u64) = (time.parse().unwrap(), memory.trim().parse().unwrap());
        assert!(time <= most_time && memory <= 16 * 1024, "{name}: {time} ns, {memory} KiB");
    }
}
