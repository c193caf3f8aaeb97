//! What is wrong with the configuration, all of it at once. Values are not repeated: some are secrets.

use std::{borrow::Cow, error::Error, fmt};

/// One bad setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The variable.
    pub variable: Cow<'static, str>,
    /// What it must be.
    pub remedy: Cow<'static, str>,
}

/// Every bad setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, variable: impl Into<Cow<'static, str>>, remedy: impl Into<Cow<'static, str>>) {
        self.0.push(Fault { variable: variable.into(), remedy: remedy.into() });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has faults:")?;
        for Fault { variable, remedy } in &self.0 {
            write!(f, "\n  {variable} {remedy}")?;
        }
        Ok(())
    }
}

impl Error for Faults {}
