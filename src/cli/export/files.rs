//! The files of a report. They have their names only once they are whole, and replace none.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tempfile::NamedTempFile;

use super::columns;
use crate::grpc::proto::Delivery;

/// A CSV and an NDJSON file.
pub(super) struct Files {
    csv: Part,
    ndjson: Part,
}

/// A file that is being written. Unless it is finished, nothing of it stays.
struct Part {
    file: BufWriter<NamedTempFile<File>>,
    /// What it will be called.
    name: PathBuf,
}

impl Files {
    /// Begins them in `folder`, both called `stem`.
    pub(super) fn create(folder: &Path, stem: &str) -> anyhow::Result<Self> {
        let names = ["csv", "ndjson"].map(|ending| folder.join(format!("{stem}.{ending}")));
        if let Some(name) = names.iter().find(|name| name.exists()) {
            bail!("{} is there already", name.display());
        }
        let [csv, ndjson] = names;
        let mut files = Self { csv: Part::create(folder, csv)?, ndjson: Part::create(folder, ndjson)? };
        let names = columns(&Delivery::default()).map(|(name, _)| name.to_owned());
        files.csv.file.write_all(line(&names).as_bytes())?;
        Ok(files)
    }

    pub(super) fn write(&mut self, delivery: &Delivery) -> io::Result<()> {
        let columns = columns(delivery);
        let cells: Vec<_> = columns.iter().map(|(_, value)| cell(value)).collect();
        self.csv.file.write_all(line(&cells).as_bytes())?;
        let object: serde_json::Map<_, _> =
            columns.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        serde_json::to_writer(&mut self.ndjson.file, &object)?;
        self.ndjson.file.write_all(b"\n")
    }

    /// Ends them and gives them their names, which it yields.
    pub(super) fn finish(self) -> anyhow::Result<[PathBuf; 2]> {
        Ok([self.csv.finish()?, self.ndjson.finish()?])
    }
}

impl Part {
    fn create(folder: &Path, name: PathBuf) -> anyhow::Result<Self> {
        // Nobody else may read it: whom a practice treats is nobody else's business.
        let file = NamedTempFile::new_in(folder);
        let file = file.with_context(|| format!("nothing can be written in {}", folder.display()))?;
        Ok(Self { file: BufWriter::new(file), name })
    }

    fn finish(self) -> anyhow::Result<PathBuf> {
        let written = || format!("{} cannot be written", self.name.display());
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error).with_context(written)?;
        file.as_file().sync_all().with_context(written)?;
        file.persist_noclobber(&self.name).with_context(written)?;
        Ok(self.name)
    }
}

/// A cell that no spreadsheet takes for a formula (owasp.org/www-community/attacks/CSV_Injection).
fn cell(value: &str) -> String {
    if value.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{value}") } else { value.to_owned() }
}

/// A line of CSV (RFC 4180).
fn line(cells: &[String]) -> String {
    let quoted = |cell: &String| {
        if cell.contains(['"', ',', '\r', '\n', '\t', '\'']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.clone()
        }
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::fs;

    use super::*;

    #[test]
    fn a_cell_is_never_a_formula_nor_ends_early() {
        let check = |value: &str, expect: &str| assert_eq!(line(&[cell(value)]), format!("{expect}\r\n"), "{value:?}");
        check("pat-1", "pat-1");
        check("=HYPERLINK(\"https://x\")", "\"'=HYPERLINK(\"\"https://x\"\")\"");
        for first in ["=", "+", "-", "@", "\t"] {
            check(&format!("{first}1"), &format!("\"'{first}1\""));
        }
        check("\r1", "\"'\r1\"");
        check("a,b", "\"a,b\"");
        check("two\nlines", "\"two\nlines\"");
        check("say \"yes\"", "\"say \"\"yes\"\"\"");
        check("a=b", "a=b");
        check("", "");
    }

    #[test]
    fn files_have_their_names_once_they_are_whole_and_replace_none() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let mut files = Files::create(folder.path(), "b1").unwrap();
        let one = Delivery { delivery_id: "d1".into(), patient_id: "=pat".into(), attempts: 2, ..Default::default() };
        files.write(&one).unwrap();
        assert!(names().iter().all(|name| !name.starts_with("b1")), "{:?}", names());
        files.finish().unwrap();
        assert_eq!(names(), ["b1.csv", "b1.ndjson"]);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let csv = read("b1.csv");
        assert!(csv.starts_with("delivery_id,patient_id,channel,"), "{csv}");
        assert!(csv.contains("\r\nd1,\"'=pat\","), "{csv}");
        let object: serde_json::Value = serde_json::from_str(&read("b1.ndjson")).unwrap();
        assert_eq!((&object["patient_id"], &object["attempts"]), (&"=pat".into(), &"2".into()));
        fs::remove_file(folder.path().join("b1.csv")).unwrap();
        assert!(Files::create(folder.path(), "b1").is_err());
        drop(Files::create(folder.path(), "b2").unwrap());
        assert_eq!(names(), ["b1.ndjson"], "what was not finished leaves nothing");
    }
}
