//! All goals, one program after the other, each in a process of its own, so that none leaves anything behind for the next; and one
//! table of what they concluded. A program that fails is in the table as well.

use std::{
    env, fs,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use tokio::{
    process::Command,
    time::{Instant, timeout},
};

use crate::{
    Arguments,
    database::Kind,
    table::{self, Row, markdown},
};

/// Longer than the longest program takes.
const LIMIT: Duration = Duration::from_secs(6 * 3_600);
/// The same for a try.
const QUICK_LIMIT: Duration = Duration::from_secs(300);
/// The goals, and what they are about.
const GOALS: [(&str, &str); 15] = [
    ("G1", "accepts on PostgreSQL"),
    ("G2", "accepts on SQLite"),
    ("G3", "sending over HTTP"),
    ("G4", "sending over SMTP"),
    ("G5", "accepting and sending at once"),
    ("G6", "from a call until the provider has it"),
    ("G7", "from a commit until streams tell"),
    ("G8", "watchers of one practice"),
    ("G9", "signed callbacks"),
    ("G10", "a broadcast by text and mail"),
    ("G11", "beside millions of finished deliveries"),
    ("G12", "start, memory at rest, size"),
    ("G13", "a cheap read"),
    ("G14", "render and seal"),
    ("G15", "the dashboard's first page and statistics"),
];

/// A program to run.
struct Run {
    /// Which goals it concludes on.
    goals: &'static [&'static str],
    program: &'static str,
    arguments: &'static [&'static str],
    /// In their place where it is only tried whether it works.
    quick: &'static [&'static str],
    databases: &'static [Kind],
}

const BOTH: &[Kind] = &[Kind::Sqlite, Kind::Postgres];

/// From the shortest to the longest, so that much is known before much time is spent.
const RUNS: [Run; 15] = [
    Run { goals: &["G12"], program: "memory", arguments: &[], quick: &["--rest", "1"], databases: BOTH },
    // It needs no database.
    Run { goals: &["G14"], program: "renders", arguments: &[], quick: &["--count", "200"], databases: &[Kind::Sqlite] },
    Run { goals: &["G13"], program: "unary", arguments: &[], quick: &["--seconds", "1"], databases: BOTH },
    Run { goals: &["G1", "G2"], program: "accept", arguments: &[], quick: &["--seconds", "1"], databases: BOTH },
    Run {
        goals: &["G3"],
        program: "drain",
        arguments: &["--over", "http"],
        quick: &["--over", "http", "--count", "200"],
        databases: BOTH,
    },
    Run {
        goals: &["G3"],
        program: "drain",
        arguments: &["--over", "sendgrid"],
        quick: &["--over", "sendgrid", "--count", "200"],
        databases: BOTH,
    },
    Run {
        goals: &["G4"],
        program: "drain",
        arguments: &["--over", "smtp"],
        quick: &["--over", "smtp", "--count", "200"],
        databases: BOTH,
    },
    Run { goals: &["G5"], program: "e2e", arguments: &[], quick: &["--seconds", "1"], databases: BOTH },
    Run { goals: &["G6"], program: "latency", arguments: &[], quick: &["--count", "20"], databases: BOTH },
    Run {
        goals: &["G7", "G8"],
        program: "streams",
        arguments: &["--watchers", "1000"],
        quick: &["--watchers", "50", "--events", "50", "--count", "20"],
        databases: BOTH,
    },
    Run {
        goals: &["G8"],
        program: "streams",
        arguments: &["--watchers", "10000", "--events", "50", "--servers", "2"],
        quick: &["--watchers", "60", "--events", "20", "--count", "10", "--servers", "2"],
        databases: &[Kind::Postgres],
    },
    Run { goals: &["G9"], program: "callbacks", arguments: &[], quick: &["--count", "200"], databases: BOTH },
    Run {
        goals: &["G15"],
        program: "lists",
        arguments: &["--rows", "1000000"],
        quick: &["--rows", "10000", "--count", "20"],
        databases: BOTH,
    },
    Run { goals: &["G10"], program: "broadcast", arguments: &[], quick: &["--patients", "300"], databases: BOTH },
    Run {
        goals: &["G11"],
        program: "claims",
        arguments: &["--lean"],
        quick: &["--lean", "--rows", "10000", "--count", "100", "--seconds", "1"],
        databases: BOTH,
    },
];

pub(crate) async fn run(arguments: &Arguments) {
    let (quick, kinds) = (arguments.has("--quick"), arguments.kinds());
    let only: Option<Vec<_>> = arguments.text("--only").map(|names| names.split(',').collect());
    let wanted = |goal: &&str| only.as_ref().is_none_or(|only| only.contains(goal));
    let (folder, begin) = (tempfile::tempdir().unwrap(), Instant::now());
    let mut rows = Vec::new();
    for run in RUNS.iter().filter(|run| run.goals.iter().any(&wanted)) {
        let kinds: Vec<_> = run.databases.iter().copied().filter(|kind| kinds.contains(kind)).collect();
        if quick {
            // Side by side: what they conclude then means nothing, and it is soon known whether they work.
            let done = kinds.iter().map(|kind| one(run, *kind, arguments, folder.path()));
            rows.extend(join_all(done).await.into_iter().flatten());
        } else {
            for kind in kinds {
                rows.extend(one(run, kind, arguments, folder.path()).await);
            }
        }
    }
    for (goal, about) in GOALS.iter().filter(|(goal, _)| wanted(goal)) {
        if !rows.iter().any(|row| row.goal == *goal) {
            rows.push(failed(goal, about, "nothing was measured"));
        }
    }
    let place = |row: &Row| GOALS.iter().position(|(goal, _)| *goal == row.goal);
    rows.sort_by_key(|row| (place(row), row.database.clone()));
    let failures = rows.iter().filter(|row| row.figure == FAILED).count();
    let text = format!("{}\n{}", machine(arguments, begin.elapsed()), markdown(&rows));
    println!("\n{text}");
    if let Some(path) = arguments.text("--out") {
        fs::write(path, text).unwrap();
    }
    if failures > 0 {
        println!("{failures} FAILED");
        std::process::exit(1);
    }
}

const FAILED: &str = "FAILED";

fn failed(goal: &str, what: &str, why: &str) -> Row {
    Row { reservation: why.into(), ..Row::plain(goal, what, FAILED.into(), "", false) }
}

/// Runs a program on a database, and yields what it concluded.
async fn one(run: &Run, kind: Kind, arguments: &Arguments, folder: &Path) -> Vec<Row> {
    let (quick, name) = (arguments.has("--quick"), kind.name());
    let file = folder.join(format!("{}-{name}-{}", run.program, run.arguments.join("")));
    let own = if quick { run.quick } else { run.arguments };
    println!("\n=== {} {} on {name}", run.program, own.join(" "));
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(run.program).args(own).args(["--database", name]).env(table::FILE, &file).kill_on_drop(true);
    // What is asked for here holds for each of them.
    let pairs = if quick { Some("1") } else { arguments.text("--pairs") };
    command.args(pairs.into_iter().flat_map(|pairs| ["--pairs", pairs]));
    command.args(arguments.text("--rows").filter(|_| !quick).into_iter().flat_map(|rows| ["--rows", rows]));
    if quick {
        command.stdout(Stdio::null());
    }
    let start = Instant::now();
    let ended = timeout(if quick { QUICK_LIMIT } else { LIMIT }, async { command.status().await.unwrap() }).await;
    println!("=== {:.0} s: {} on {name}", start.elapsed().as_secs_f64(), run.program);
    let mut rows = Row::read(&file);
    let why = match ended {
        Ok(status) if status.success() => None,
        Ok(status) => Some(status.to_string()),
        Err(_) => Some("it took too long".into()),
    };
    if let Some(why) = why {
        println!("FAILED: {} on {name}: {why}", run.program);
        rows.extend(run.goals.iter().map(|goal| failed(goal, run.program, &why)));
    }
    // A program that ends well and says nothing has measured nothing.
    if rows.is_empty() {
        rows.extend(run.goals.iter().map(|goal| failed(goal, run.program, "it concluded nothing")));
    }
    rows.into_iter().map(|row| Row { database: name.into(), ..row }).collect()
}

/// When and on what.
fn machine(arguments: &Arguments, time: Duration) -> String {
    let of = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok();
        output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default()
    };
    let commit = git(&["rev-parse", "--short=10", "HEAD"]);
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { ", and changes" };
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = of("/proc/meminfo", "MemTotal").split(' ').next().and_then(|kib| kib.parse::<f64>().ok());
    format!(
        "{}: {processors} processors ({}), {:.0} GiB, commit {commit}{changed}, {}{:.0} min\n",
        DateTime::<Utc>::from(SystemTime::now()).format("%Y-%m-%d"),
        of("/proc/cpuinfo", "model name"),
        memory.unwrap_or_default() / 1_048_576.0,
        if arguments.has("--quick") { "ONLY TRIED, THE FIGURES MEAN NOTHING, " } else { "" },
        time.as_secs_f64() / 60.0
    )
}
