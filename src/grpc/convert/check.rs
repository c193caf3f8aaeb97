//! Reading a request: every reader notes what is wrong under the path of the field and goes on, so that a caller learns of
//! all faults at once. A description never repeats the value.

use std::{fmt::Write, ops::RangeInclusive, str::FromStr};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use prost_types::{Duration, Timestamp};
use url::Url;

use crate::{
    domain::{
        HIDDEN, is_hidden,
        template::{is_blank, is_legible},
    },
    service::{Error, Violation},
};

/// Most violations that one answer reports: they travel in trailers, which clients keep small.
pub(crate) const MOST_VIOLATIONS: usize = 20;

/// Most values of an enum in a list, in which each may be once: more than any enum has.
const MOST_CHOICES: usize = 32;

const NOT_OURS: &str = "is not an id that this server makes";

/// 0001-01-01 to 9999-12-31, the range of `google.protobuf.Timestamp`.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// What is wrong with a request so far, and where it is being read.
#[derive(Debug, Default)]
pub(crate) struct Check {
    path: String,
    found: Vec<Violation>,
}

impl Check {
    /// Reads with everything that is wrong put under `field`.
    pub(crate) fn at<T>(&mut self, field: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let parent = self.path.len();
        if parent > 0 {
            self.path.push('.');
        }
        self.path.push_str(field);
        let value = read(self);
        self.path.truncate(parent);
        value
    }

    /// Reads each of `items` under its place in the list, such as `patients[3]`.
    pub(crate) fn each<S, T>(
        &mut self,
        field: &str,
        items: impl IntoIterator<Item = S>,
        mut read: impl FnMut(&mut Self, S) -> T,
    ) -> Vec<T> {
        let items = items.into_iter().enumerate();
        items.map(|(place, item)| self.at(&format!("{field}[{place}]"), |check| read(check, item))).collect()
    }

    /// Notes that the field being read is wrong, once in the same words. Returns nothing, for a reader to return.
    pub(crate) fn fail<T>(&mut self, description: impl Into<String>) -> Option<T> {
        let violation = Violation::new(self.path.as_str(), description);
        if self.found.len() < MOST_VIOLATIONS && !self.found.contains(&violation) {
            self.found.push(violation);
        }
        None
    }

    /// Notes that `field` is wrong unless `good`.
    pub(crate) fn expect(&mut self, field: &str, good: bool, description: impl Into<String>) {
        if !good {
            self.at(field, |check| check.fail::<()>(description));
        }
    }

    /// What was read, if nothing was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => Err(Error::FieldInvalid(self.found)),
        }
    }

    /// A message that must be there.
    pub(crate) fn required<S, T>(
        &mut self,
        field: &str,
        value: Option<S>,
        read: impl FnOnce(&mut Self, S) -> Option<T>,
    ) -> Option<T> {
        self.at(field, |check| match value {
            Some(value) => read(check, value),
            None => check.fail("is required"),
        })
    }

    /// A message that may be there.
    pub(crate) fn optional<S, T>(
        &mut self,
        field: &str,
        value: Option<S>,
        read: impl FnOnce(&mut Self, S) -> Option<T>,
    ) -> Option<T> {
        value.and_then(|value| self.at(field, |check| read(check, value)))
    }

    /// A text that must be there, in a form that `parse` knows. The error's text goes to the caller.
    pub(crate) fn parsed<T, E: ToString>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.required(field, Some(text).filter(|text| !text.is_empty()), |check, text| {
            parse(text).map_or_else(|error| check.fail(error.to_string()), Some)
        })
    }

    /// As [`Self::parsed`], for a text that may be empty.
    pub(crate) fn parsed_if_set<T, E: ToString>(
        &mut self,
        field: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if text.is_empty() { None } else { self.parsed(field, text, parse) }
    }

    /// The id of something that this server made. One of another form was never given out: that is a mistake of the caller's, and
    /// is told apart from an id of something that is not there.
    pub(crate) fn id<T: FromStr>(&mut self, field: &str, id: &str) -> Option<T> {
        self.parsed(field, id, |id| id.parse().map_err(|_| NOT_OURS))
    }

    /// As [`Self::id`], for one that may be left out.
    pub(crate) fn id_if_set<T: FromStr>(&mut self, field: &str, id: &str) -> Option<T> {
        self.parsed_if_set(field, id, |id| id.parse().map_err(|_| NOT_OURS))
    }

    /// One line of at most `longest` characters; may be empty. A line break in a name or a subject could add a header to
    /// a mail, so it is refused here already.
    pub(crate) fn line(&mut self, field: &str, text: String, longest: usize) -> String {
        self.expect(
            field,
            !text.chars().any(char::is_control),
            "must not have control characters, such as line breaks",
        );
        self.bounded(field, text, longest)
    }

    /// As [`Self::line`], and there is something to see.
    pub(crate) fn required_line(&mut self, field: &str, text: String, longest: usize) -> String {
        self.expect(field, !is_blank(&text), "is required");
        self.line(field, text, longest)
    }

    /// As [`Self::line`], for what something is called wherever it is shown: nothing in it may hide or turn the rest around.
    pub(crate) fn name(&mut self, field: &str, text: String, longest: usize) -> String {
        self.expect(field, !text.chars().any(is_hidden), HIDDEN);
        self.line(field, text, longest)
    }

    /// As [`Self::name`], and not blank.
    pub(crate) fn required_name(&mut self, field: &str, text: String, longest: usize) -> String {
        self.expect(field, !text.trim().is_empty(), "is required");
        self.name(field, text, longest)
    }

    /// That whatever is not left empty has something to read.
    pub(crate) fn legible(&mut self, field: &str, text: &str) {
        self.expect(field, text.is_empty() || is_legible(text), "must have a letter or a digit");
    }

    /// Lines of at most `longest` characters in all; may be empty.
    pub(crate) fn lines(&mut self, field: &str, text: String, longest: usize) -> String {
        let odd = text.chars().any(|char| char.is_control() && char != '\n');
        self.expect(field, !odd, "must not have control characters besides line feeds");
        self.bounded(field, text, longest)
    }

    /// As [`Self::lines`], for what stands between the words of others: nothing in it may hide or turn them around.
    pub(crate) fn seen_lines(&mut self, field: &str, text: String, longest: usize) -> String {
        self.expect(field, !text.chars().any(is_hidden), HIDDEN);
        self.lines(field, text, longest)
    }

    /// As [`Self::lines`], and there is something to see.
    pub(crate) fn required_lines(&mut self, field: &str, text: String, longest: usize) -> String {
        self.expect(field, !is_blank(&text), "is required");
        self.lines(field, text, longest)
    }

    fn bounded(&mut self, field: &str, text: String, longest: usize) -> String {
        let short = text.chars().count() <= longest;
        self.expect(field, short, format!("must be at most {longest} characters long"));
        text
    }

    /// A list of so many entries.
    pub(crate) fn count(&mut self, field: &str, length: usize, allowed: RangeInclusive<usize>) {
        let mut description = String::from("must have ");
        // Writing to a string does not fail.
        let _ = match (*allowed.start(), *allowed.end()) {
            (0, most) => write!(description, "at most {most} entries"),
            (least, most) => write!(description, "{least} to {most} entries"),
        };
        self.expect(field, allowed.contains(&length), description);
    }

    /// A number in a range.
    pub(crate) fn number(&mut self, field: &str, number: i32, allowed: RangeInclusive<i32>) -> i32 {
        let description = format!("must be {} to {}", allowed.start(), allowed.end());
        self.expect(field, allowed.contains(&number), description);
        number
    }

    /// A moment, cut to microseconds.
    pub(crate) fn time(&mut self, field: &str, time: Option<Timestamp>) -> Option<DateTime<Utc>> {
        self.optional(field, time, Self::moment)
    }

    /// As [`Self::time`], and given.
    pub(crate) fn required_time(&mut self, field: &str, time: Option<Timestamp>) -> Option<DateTime<Utc>> {
        self.required(field, time, Self::moment)
    }

    fn moment(&mut self, time: Timestamp) -> Option<DateTime<Utc>> {
        let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let moment = nanos
            .filter(|_| TIMESTAMP_SECONDS.contains(&time.seconds))
            .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos));
        match moment {
            Some(moment) => Some(moment.trunc_subsecs(6)),
            None => self.fail("must be a time from year 1 to 9999"),
        }
    }

    /// A length of time in a range; `description` says which.
    pub(crate) fn length(
        &mut self,
        field: &str,
        length: Option<Duration>,
        allowed: RangeInclusive<TimeDelta>,
        description: &str,
    ) -> Option<TimeDelta> {
        self.optional(field, length, |check, length| {
            let nanos = u32::try_from(length.nanos).ok();
            let length = nanos.and_then(|nanos| TimeDelta::new(length.seconds, nanos));
            length.filter(|length| allowed.contains(length)).or_else(|| check.fail(description))
        })
    }

    /// A value of an enum; one that this server does not know would be acted on wrongly, so it is refused.
    pub(crate) fn choice<T>(&mut self, field: &str, number: i32, known: fn(i16) -> Option<T>) -> Option<T> {
        self.at(field, |check| match number {
            0 => check.fail("is required"),
            number => i16::try_from(number)
                .ok()
                .and_then(known)
                .or_else(|| check.fail("is not a value that this server knows")),
        })
    }

    /// Values of an enum, each once.
    pub(crate) fn choices<T: PartialEq>(
        &mut self,
        field: &str,
        numbers: Vec<i32>,
        known: fn(i16) -> Option<T>,
    ) -> Vec<T> {
        self.count(field, numbers.len(), 0..=MOST_CHOICES);
        let mut values = Vec::new();
        for (place, number) in numbers.into_iter().take(MOST_CHOICES).enumerate() {
            let field = format!("{field}[{place}]");
            let Some(value) = self.choice(&field, number, known) else { continue };
            self.expect(&field, !values.contains(&value), "is there twice");
            values.push(value);
        }
        values
    }

    /// An address of the web that begins with `https://`, in its plain ASCII form.
    pub(crate) fn https(&mut self, field: &str, text: &str) -> Option<String> {
        self.parsed(field, text, https)
    }
}

fn https(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "must be an https address of at most 2000 characters, with a host and without a user";
    const LONGEST: usize = 2_000;
    // The parser would drop line breaks and tabs silently.
    if text.chars().count() > LONGEST || text.chars().any(|char| char.is_control() || char == ' ') {
        return Err(WRONG);
    }
    let url = Url::parse(text).map_err(|_| WRONG)?;
    let plain = url.scheme() == "https" && url.has_host() && url.username().is_empty() && url.password().is_none();
    // What is not ASCII is written with three to twelve characters for one, and it is that form which is kept and sent.
    if plain && url.as_str().len() <= LONGEST { Ok(url.into()) } else { Err(WRONG) }
}

/// The key of a request that shall be done once: 1 to 64 printable ASCII characters.
pub(crate) fn request_id(check: &mut Check, text: String) -> String {
    let good = (1..=64).contains(&text.len()) && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    check.expect("request_id", good, "must be 1 to 64 printable ASCII characters");
    text
}

/// A tag such as `en-US` (BCP 47); its registry is not consulted.
pub(crate) fn locale(text: &str) -> Result<String, &'static str> {
    let good = text.len() <= 35
        && text.split('-').all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if good { Ok(text.to_owned()) } else { Err("must be a BCP 47 tag such as en-US") }
}

/// A zone such as `America/Chicago` (IANA).
pub(crate) fn time_zone(text: &str) -> Result<chrono_tz::Tz, &'static str> {
    text.parse().map_err(|_| "must be an IANA time zone such as America/Chicago")
}

/// How many entries a page may have: `size` moved into the range, or the default if it is not given.
pub(crate) fn page_size(size: i32, default: u64, most: u64) -> u64 {
    match u64::try_from(size) {
        Ok(0) => default,
        Ok(size) => size.min(most),
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests;
