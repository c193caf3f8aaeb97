//! The map of the house, as a table: which room may import which, what it must never know, and a few words that must
//! not stand outside their place. A new edge is a change of this table, and is reviewed as such.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A room: its name, the rooms that it may import, and the foreign crates that it must never know.
struct Room {
    name: &'static str,
    imports: &'static [&'static str],
    never: &'static [&'static str],
}

const ALL: &[&str] = &["*"];

const fn room(name: &'static str, imports: &'static [&'static str], never: &'static [&'static str]) -> Room {
    Room { name, imports, never }
}

/// Every room may import `telemetry` as well, but for `domain`, which computes and has nothing to report.
const HOUSE: &[Room] = &[
    room(
        "domain",
        &[],
        &[
            "tokio", "tonic", "axum", "prost", "sea_orm", "sqlx", "reqwest", "lettre", "serde", "rand", "ring",
            "tracing",
        ],
    ),
    room("clock", &[], &["tonic", "sea_orm", "reqwest"]),
    room("crypto", &[], &["tonic", "sea_orm", "reqwest"]),
    room("custody", &["crypto"], &["tonic", "axum", "sea_orm", "sqlx"]),
    // Of it the words for what is counted, and where something stands in a trace.
    room("telemetry", &["domain"], &["tonic", "sea_orm", "reqwest"]),
    room("sandbox", &[], &["tonic", "sea_orm"]),
    room("wake", &["domain"], &["tonic", "sea_orm", "reqwest"]),
    room("auth", &["domain", "clock"], &["tonic", "axum", "sea_orm"]),
    room("store", &["domain", "clock", "crypto", "wake"], &["tonic", "axum", "prost", "reqwest", "lettre"]),
    room("providers", &["domain", "clock", "crypto"], &["tonic", "axum", "prost", "sea_orm", "sqlx"]),
    room("dispatch", &["domain", "clock", "store", "providers", "wake"], &["tonic", "prost", "sea_orm", "reqwest"]),
    room("duties", &["domain", "clock", "crypto", "store", "wake"], &["tonic", "prost", "sea_orm", "reqwest"]),
    room(
        "service",
        &["domain", "clock", "crypto", "store", "wake", "providers::*::callback"],
        &["tonic", "axum", "prost", "sea_orm", "reqwest"],
    ),
    room("ports", &[], &["tonic", "prost", "sea_orm", "sqlx", "reqwest", "lettre"]),
    room("grpc", &["domain", "auth", "service", "ports"], &["sea_orm", "sqlx", "reqwest", "lettre"]),
    room("http", &["domain", "service", "ports"], &["tonic", "prost", "sea_orm", "sqlx", "reqwest", "lettre"]),
    // Fills the `Settings` of each room, and only `cli` and `app` import it.
    room("config", ALL, &["sea_orm", "reqwest"]),
    room("app", ALL, &[]),
    room("demo", ALL, &[]),
    room("cli", ALL, &[]),
    room("main", ALL, &[]),
    // Macros that every room may use, and that are nothing outside test builds.
    room("failpoint", &[], &["tonic", "sea_orm", "reqwest"]),
    room("lib", &[], &[]),
];

/// Words and the only files or folders in which they may stand.
const ONLY_IN: &[(&str, &[&str])] = &[
    // Whoever could make one could reach every practice's rows.
    ("Engine::new", &["app.rs", "domain/actor.rs"]),
    ("Engine::default", &["app.rs", "domain/actor.rs"]),
    // Settings come from one place, which tests replace.
    ("env::var", &["config.rs", "config/", "main.rs", "failpoint.rs"]),
    ("env::args", &["config.rs", "config/", "main.rs"]),
    ("env::set_var", &[]),
    // One place asks which database this is, one begins a transaction.
    ("begin_with_options", &["store/tx.rs"]),
    ("SqliteTransactionMode", &["store/dialect.rs"]),
    ("INSERT INTO", &[]),
];

/// Names of files that say nothing of what is in them.
const SAY_NOTHING: &[&str] = &["mod", "util", "utils", "common", "helper", "helpers", "manager", "misc", "types"];

/// A file of the crate, without its comments and its tests.
struct Source {
    /// Below `src`, with `/`.
    path: String,
    code: String,
    lines: usize,
}

impl Source {
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        Source { path, code: code(&text), lines: text.lines().count() }
    };
    files.into_iter().map(read).filter(|source| !source.is_test()).collect()
}

/// What is left of a file when comments and its own tests, which stand last, are taken away.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
}

/// Every path that follows `crate::`, with the braces of a `use` multiplied out.
fn imports(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$') {
            tree(&code[at + "crate::".len()..], "", &mut paths);
        }
    }
    paths
}

/// Reads one tree of a `use` and yields what follows it.
fn tree<'a>(text: &'a str, prefix: &str, paths: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            if rest.is_empty() {
                return rest;
            }
            rest = tree(rest, prefix, paths).trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end.max(text.chars().next().map_or(0, char::len_utf8)).min(text.len()));
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if let Some(below) = rest.strip_prefix("::") {
        return tree(below, &path, paths);
    }
    paths.insert(path);
    // `as name` is of no interest here.
    let rest = rest.trim_start();
    rest.strip_prefix("as ")
        .map_or(rest, |renamed| renamed.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Whether `path` lies at or below `allowed`, where `*` stands for any one name.
fn lies_in(path: &str, allowed: &str) -> bool {
    let mut path = path.split("::");
    allowed.split("::").all(|wanted| path.next().is_some_and(|name| wanted == "*" || wanted == name))
}

fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    })
}

#[test]
fn every_room_is_on_the_map_and_imports_only_what_it_may() {
    let house: BTreeMap<_, _> = HOUSE.iter().map(|room| (room.name, room)).collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(room) = house.get(source.room()) else {
            wrong.push(format!("{}: no such room on the map", source.path));
            continue;
        };
        for import in imports(&source.code) {
            let target = import.split("::").next().unwrap_or_default();
            let own = target == room.name;
            let reports = target == "telemetry" && room.name != "domain";
            let allowed = room.imports.iter().any(|allowed| lies_in(&import, allowed));
            if house.contains_key(target) && !own && !reports && !allowed {
                wrong.push(format!("{}: {} may not import crate::{import}", source.path, room.name));
            }
        }
        for name in room.never.iter().filter(|name| names_crate(&source.code, name)) {
            wrong.push(format!("{}: {} must not know {name}", source.path, room.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn some_words_stand_in_one_place_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (word, places) in ONLY_IN {
            let at_home = places.iter().any(|place| source.path.starts_with(place));
            if !at_home && source.code.contains(word) {
                wrong.push(format!("{}: {word} belongs in {places:?}", source.path));
            }
        }
        let name = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if SAY_NOTHING.contains(&name) {
            wrong.push(format!("{}: this name says nothing of what is in it", source.path));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_span_records_the_arguments_of_a_function() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (at, _) in source.code.match_indices("instrument") {
            let is_attribute = source.code[..at].ends_with("#[") || source.code[..at].ends_with("#[tracing::");
            let attribute = source.code[at..].split(']').next().unwrap_or_default();
            if is_attribute && !attribute.contains("skip_all") {
                wrong.push(format!("{}: #[{attribute}] without skip_all", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Functions of the store that see the rows of all practices and have no [`Engine`](heedwell::domain::Engine) among their
/// arguments: groups of several practices' calls, and what one that has it is made of.
const ACROSS: &[(&str, &str)] = &[
    ("store/audit.rs", "run"),
    ("store/consent/mail.rs", "letter"),
    ("store/notifications/accept.rs", "run"),
    ("store/notifications/basis.rs", "answer"),
    ("store/outcomes.rs", "run"),
    ("store/polls.rs", "poll"),
    ("store/reconcile.rs", "doubt"),
    ("store/stats.rs", "count"),
    ("store/stats.rs", "next_uncounted"),
];

/// The functions of a file: the name and arguments of each, and the code up to the next one.
fn functions(code: &str) -> Vec<(&str, &str, &str)> {
    let starts: Vec<_> = code
        .match_indices("fn ")
        .map(|(at, _)| at)
        .filter(|at| code[..*at].chars().next_back().is_none_or(|c| c == ' ' || c == '\n'))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([code.len()]);
    let whole = starts.iter().zip(ends).map(|(start, end)| &code[start + 3..end]);
    let parts = whole.filter_map(|text| {
        let (signature, body) = text.split_once('{')?;
        let name = signature.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        Some((name, signature, body))
    });
    parts.collect()
}

#[test]
fn what_is_done_for_a_practice_sees_the_rows_of_no_other() {
    let (mut wrong, mut named) = (Vec::new(), BTreeSet::new());
    for source in sources().iter().filter(|source| source.path.starts_with("store") && source.path != "store/tx.rs") {
        for (name, signature, body) in functions(&source.code) {
            let across = body.contains("across()") || body.contains("write_across(");
            let known = ACROSS.contains(&(&source.path, name));
            if across && known {
                named.insert((source.path.clone(), name.to_owned()));
            } else if across && !signature.contains("Engine") {
                wrong.push(format!("{}: {name} sees the rows of all practices, for whom?", source.path));
            }
        }
    }
    wrong.extend(ACROSS.iter().filter_map(|(path, name)| {
        let gone = !named.contains(&((*path).to_owned(), (*name).to_owned()));
        gone.then(|| format!("{path}: {name} is not there, or does not"))
    }));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let code = "impl A { pub(super) async fn a(&self, _: &Engine) -> B { self.across() }\n    fn b<T>(t: T) { c() } }";
    let found: Vec<_> =
        functions(code).into_iter().map(|(name, signature, _)| (name, signature.contains("Engine"))).collect();
    assert_eq!(found, [("a", true), ("b", false)]);
}

/// Prints what deserves a look and fails nobody: a limit would invite cuts in the wrong place, and an edge that nobody
/// needs yet may belong to a room that is being built.
#[test]
#[expect(clippy::print_stdout, reason = "it is there to be read: cargo test architecture -- --nocapture")]
fn the_largest_files_and_the_edges_not_needed_are_named() {
    let mut sources = sources();
    sources.sort_by_key(|source| std::cmp::Reverse(source.lines));
    for source in sources.iter().take(10) {
        println!("{:>5} lines in src/{}", source.lines, source.path);
    }
    let used: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| imports(&source.code).into_iter().map(|import| (source.room().to_owned(), import)))
        .collect();
    for room in HOUSE.iter().filter(|room| sources.iter().any(|source| source.room() == room.name)) {
        for allowed in room.imports.iter().filter(|allowed| **allowed != "*") {
            if !used.iter().any(|(name, import)| name == room.name && lies_in(import, allowed)) {
                println!("{} may import {allowed} and does not", room.name);
            }
        }
    }
    assert!(!sources.is_empty());
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let check = |text: &str, expect: &[&str]| {
        assert_eq!(imports(&code(text)).iter().map(String::as_str).collect::<Vec<_>>(), expect, "{text}");
    };
    check("use crate::store::Store;", &["store::Store"]);
    check(
        "use crate::{\n    clock::Clock,\n    store::{Store, links::{self, NewLink}},\n};",
        &["clock::Clock", "store::Store", "store::links::NewLink", "store::links::self"],
    );
    check("use crate::{domain::{Kind as K, *}, wake};", &["domain::*", "domain::Kind", "wake"]);
    check("let x = crate::crypto::new_id(now); pub(crate) fn f() {}", &["crypto::new_id"]);
    check("// use crate::store::Store;\n/// [`crate::grpc`]\n//! crate::http", &[]);
    check("$crate::store::x; mycrate::store::y;", &[]);
    check("use crate::a;\n#[cfg(test)]\nmod tests { use crate::b; }", &["a"]);
    assert!(lies_in("providers::twilio::callback::parse", "providers::*::callback"));
    assert!(!lies_in("providers::twilio::send", "providers::*::callback"));
    assert!(!lies_in("providers", "providers::*::callback"));
    assert!(names_crate("use serde::Serialize;", "serde") && !names_crate("use serde_json::Value;", "serde"));
}
