//! Where values come from: the process's environment, flags of the same names, or a map in tests.

use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use super::Faults;

/// Names and values. An empty value counts as not set.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

/// The values may have passwords in them.
impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Env {
    /// The environment of this process; the values of variables that are no UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let text =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        text.collect()
    }

    /// Sets `name`; a flag of the command line wins over the environment.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// What a process would be given.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn flag(&self, name: &'static str, faults: &mut Faults) -> bool {
        match self.text(name) {
            None | Some("off" | "false" | "0") => false,
            Some("on" | "true" | "1") => true,
            Some(_) => {
                faults.add(name, "must be on or off");
                false
            }
        }
    }

    pub(super) fn number(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
        faults: &mut Faults,
    ) -> u64 {
        let Some(text) = self.text(name) else { return default };
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                faults.add(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// A misspelt variable would be passed over in silence, and the server would run with a default.
    pub(super) fn refuse_unknown(&self, known: &[&str], faults: &mut Faults) {
        for name in self.0.keys() {
            if name.starts_with("HEEDWELL_") && !name.starts_with("HEEDWELL_TEST_") && !known.contains(&name.as_str()) {
                faults.add(name.clone(), "is not a setting of this server: check its spelling");
            }
        }
    }
}

impl FromIterator<(String, String)> for Env {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}
