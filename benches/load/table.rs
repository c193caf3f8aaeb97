//! What programs conclude, line by line, for a table: a program appends its lines to a file, if whoever started it named one.

use std::{env, fmt::Write, fs, io::Write as _, path::Path};

use serde::{Deserialize, Serialize};

/// Names the file. The server refuses names of its own that it does not know.
pub(crate) const FILE: &str = "BENCH_ROWS";

/// What was measured beside what it is measured against.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Which goal it is of; without one it is in no table.
    pub(crate) goal: String,
    pub(crate) database: String,
    pub(crate) what: String,
    pub(crate) figure: String,
    /// Of the same run; empty: the goal is no ratio.
    pub(crate) ceiling: String,
    pub(crate) ratio: String,
    pub(crate) wanted: String,
    pub(crate) met: bool,
    /// Microseconds of a processor for each message, in the server and in the database.
    pub(crate) cost: String,
    /// MiB that the server took at most.
    pub(crate) memory: String,
    /// What is to be held against it.
    pub(crate) reservation: String,
}

impl Row {
    /// A figure whose goal is no ratio.
    pub(crate) fn plain(goal: &str, what: &str, figure: String, wanted: &str, met: bool) -> Self {
        Self { goal: goal.into(), what: what.into(), figure, wanted: wanted.into(), met, ..Self::default() }
    }

    /// Puts it in the table.
    pub(crate) fn note(self) {
        let Some(path) = env::var_os(FILE).filter(|_| !self.goal.is_empty()) else { return };
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{}", serde_json::to_string(&self).unwrap()).unwrap();
    }

    /// Those that were put there.
    pub(crate) fn read(path: &Path) -> Vec<Self> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The table in Markdown.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let heads = ["goal", "database", "what", "figure", "ceiling or peer", "ratio", "wanted", "", "us", "MiB", ""];
    let mut text = format!("| {} |\n|{}\n", heads.join(" | "), " --- |".repeat(heads.len()));
    for row in rows {
        let verdict = match (row.met, row.reservation.is_empty()) {
            (true, true) => "met",
            (false, true) => "missed",
            (true, false) => "(met)",
            (false, false) => "(missed)",
        };
        let Row { goal, database, what, figure, ceiling, ratio, wanted, cost, memory, reservation, .. } = row;
        let cells: [&str; 11] =
            [goal, database, what, figure, ceiling, ratio, wanted, verdict, cost, memory, reservation];
        let cells = cells.map(|cell: &str| cell.replace('|', "/").split_whitespace().collect::<Vec<_>>().join(" "));
        writeln!(text, "| {} |", cells.join(" | ")).unwrap();
    }
    text
}
