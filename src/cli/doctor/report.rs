//! What was found, for people and for programs.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use serde_json::{Value, json};

/// How bad a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// The server works, and this should be otherwise.
    Warning,
    /// The server does not start, or something does not work.
    Wrong,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at, by a name that stays the same.
    pub check: &'static str,
    /// The variable to mend, or that says where the thing is; empty: none.
    pub variable: Cow<'static, str>,
    /// What was found, and what to do.
    pub text: String,
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Report(Vec<Finding>);

impl Report {
    /// One by one, in the order in which it was looked at.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// Whether anything is wrong.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.0.iter().any(|finding| finding.level == Level::Wrong)
    }

    pub(super) fn add(
        &mut self,
        level: Level,
        check: &'static str,
        variable: impl Into<Cow<'static, str>>,
        text: String,
    ) {
        self.0.push(Finding { level, check, variable: variable.into(), text });
    }

    pub(super) fn ok(&mut self, check: &'static str, variable: impl Into<Cow<'static, str>>, text: String) {
        self.add(Level::Ok, check, variable, text);
    }

    pub(super) fn warning(&mut self, check: &'static str, variable: impl Into<Cow<'static, str>>, text: String) {
        self.add(Level::Warning, check, variable, text);
    }

    pub(super) fn wrong(&mut self, check: &'static str, variable: impl Into<Cow<'static, str>>, text: String) {
        self.add(Level::Wrong, check, variable, text);
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    pub(super) fn write_lines(&self, mut out: impl Write) -> io::Result<()> {
        for Finding { level, check, variable, text } in &self.0 {
            let separator = if variable.is_empty() { "" } else { ": " };
            writeln!(out, "{:<8}{check}: {variable}{separator}{text}", level.word())?;
        }
        let [wrong, warnings] = [Level::Wrong, Level::Warning].map(|level| self.count(level));
        writeln!(out, "{wrong} wrong, {warnings} to look at, {} ok", self.count(Level::Ok))
    }

    /// Members are only ever added.
    pub(super) fn write_json(&self, mut out: impl Write) -> io::Result<()> {
        let finding = |Finding { level, check, variable, text }: &Finding| {
            let variable = if variable.is_empty() { Value::Null } else { json!(variable) };
            json!({ "level": level.word(), "check": check, "variable": variable, "text": text })
        };
        let findings: Vec<_> = self.0.iter().map(finding).collect();
        writeln!(out, "{}", json!({ "wrong": self.is_wrong(), "findings": findings }))
    }
}
