//! How far something has come: a bar on a terminal, and nothing where nobody looks.

use std::{
    io::{IsTerminal, Write, stderr},
    time::Duration,
};

use tokio::time::Instant;

/// How often the bar is drawn, at most.
const EVERY: Duration = Duration::from_millis(100);
/// Characters between its ends.
const WIDTH: u64 = 30;

/// A bar.
pub(super) struct Progress {
    total: u64,
    done: u64,
    drawn: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Of `total` steps; there may turn out to be more.
    pub(super) fn new(total: u64) -> Self {
        Self { total, done: 0, drawn: None, shown: stderr().is_terminal() }
    }

    pub(super) fn add(&mut self, steps: usize) {
        self.done += steps as u64;
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY) {
            self.drawn = Some(Instant::now());
            self.draw("");
        }
    }

    pub(super) fn finish(mut self) {
        self.total = self.done;
        self.draw("\n");
    }

    fn draw(&self, end: &str) {
        if self.shown {
            // Whoever closed the terminal does not miss it.
            let _ = write!(stderr(), "\r{}{end}", bar(self.done, self.total));
        }
    }
}

fn bar(done: u64, total: u64) -> String {
    let total = total.max(done);
    let full = (done * WIDTH).checked_div(total).unwrap_or(WIDTH);
    let (full, empty) = ("#".repeat(full as usize), ".".repeat((WIDTH - full) as usize));
    format!("[{full}{empty}] {done} of {total}")
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_is_as_full_as_its_work_is_done() {
        let check = |done, total, expect: &str| assert_eq!(bar(done, total), expect);
        check(0, 10, "[..............................] 0 of 10");
        check(5, 10, "[###############...............] 5 of 10");
        check(10, 10, "[##############################] 10 of 10");
        // More came meanwhile.
        check(12, 10, "[##############################] 12 of 12");
        check(0, 0, "[##############################] 0 of 0");
    }
}
