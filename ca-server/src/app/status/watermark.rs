//! How far each authority had come, kept outside of the store: a store that was put back from a backup, or lost what it had
//! acknowledged, is noticed before it makes a revoked certificate good again or a CRL's number go back.
//!
//! A running server remembers by itself; with `store.watermark_file` one that is started does too. The file is written after
//! the store, within a second: if we crash between the two, it is a little behind, and a store that lost no more than that
//! is not told from one that lost nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::app::{Error, ErrorKind};
use crate::store::model::StatusPosition;

/// How often the file is written at most.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// How far an authority had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The length of its log.
    pub log_size: u64,
    /// The number of its latest CRL.
    pub crl_number: u64,
}

/// Every authority's mark, by its id.
pub type Marks = BTreeMap<String, Mark>;

/// What is remembered, and where.
#[derive(Debug, Default)]
pub struct Watermark {
    marks: Marks,
    file: Option<PathBuf>,
    written: Option<(Marks, Instant)>,
}

impl Watermark {
    /// Takes up what `file` says; one that is not there yet is made.
    ///
    /// # Errors
    /// When it cannot be read or is not a watermark.
    pub fn open(file: Option<&Path>) -> Result<Self, Error> {
        let marks = file.map(read).transpose()?;
        Ok(Self {
            marks: marks.unwrap_or_default(),
            file: file.map(Path::to_owned),
            written: None,
        })
    }

    /// The greatest CRL number that this authority is known to have had.
    pub(super) fn crl_number(&self, authority: &str) -> u64 {
        self.marks.get(authority).map_or(0, |mark| mark.crl_number)
    }

    /// Compares the store's positions with the marks; what has grown becomes the mark.
    ///
    /// # Errors
    /// When a log is shorter than it was.
    pub(in crate::app) fn advance(&mut self, positions: &[StatusPosition]) -> Result<(), Error> {
        let found: Marks = positions
            .iter()
            .map(|position| (position.authority.to_string(), mark(position)))
            .collect();
        for (authority, mark) in &self.marks {
            let now = found.get(authority).map_or(0, |mark| mark.log_size);
            if now < mark.log_size {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "rollback",
                    format!(
                        "the store has gone back: the log of {authority} has {now} entries and had {}. What was issued \
                         and revoked since is missing. Restore a newer copy, or take this one: ca-server store accept",
                        mark.log_size
                    ),
                ));
            }
        }
        for (authority, mark) in found {
            let known = self.marks.entry(authority).or_default();
            known.log_size = mark.log_size;
            known.crl_number = known.crl_number.max(mark.crl_number);
        }
        Ok(())
    }

    /// What to write, and where, when something has changed and it is time.
    pub(super) fn due(&mut self) -> Option<(PathBuf, Marks)> {
        let file = self.file.clone()?;
        let now = Instant::now();
        let due = self
            .written
            .as_ref()
            .is_none_or(|(marks, at)| *marks != self.marks && now >= *at + WRITE_EVERY);
        if !due {
            return None;
        }
        self.written = Some((self.marks.clone(), now));
        Some((file, self.marks.clone()))
    }
}

fn mark(position: &StatusPosition) -> Mark {
    Mark {
        log_size: position.log_size,
        crl_number: position.crl_number.unwrap_or(0),
    }
}

fn read(file: &Path) -> Result<Marks, Error> {
    let refuse = |text: String| {
        let text = format!("store.watermark_file: {}: {text}", file.display());
        Error::new(ErrorKind::Malformed, "watermark", text)
    };
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Marks::new()),
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// Writes the file whole.
///
/// # Errors
/// When its folder takes no file.
pub fn write(file: &Path, marks: &Marks) -> std::io::Result<()> {
    let staged = file.with_extension("new");
    let mut out = std::fs::File::create(&staged)?;
    serde_json::to_writer_pretty(&mut out, marks)?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    std::fs::rename(&staged, file)
}

/// Believes the store as it is: logs may be shorter than they were. CRL numbers still do not go back.
///
/// # Errors
/// When the file cannot be read or written.
pub fn accept(file: &Path, positions: &[StatusPosition]) -> Result<Marks, Error> {
    let mut marks = read(file)?;
    for mark in marks.values_mut() {
        mark.log_size = 0;
    }
    for position in positions {
        let known = marks.entry(position.authority.to_string()).or_default();
        known.log_size = position.log_size;
    }
    write(file, &marks).map_err(Error::internal)?;
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(log_size: u64, crl_number: u64) -> Vec<StatusPosition> {
        vec![StatusPosition {
            authority: "central-1".parse().unwrap(),
            last: None,
            log_size,
            crl_number: Some(crl_number),
        }]
    }

    #[test]
    fn a_shorter_log_is_noticed_until_it_is_accepted_and_numbers_never_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("watermark");
        let mut mark = Watermark::open(Some(&file)).unwrap();
        mark.advance(&at(5, 3)).unwrap();
        mark.advance(&at(9, 7)).unwrap();
        let (_, marks) = mark.due().unwrap();
        write(&file, &marks).unwrap();

        let mut started = Watermark::open(Some(&file)).unwrap();
        let error = started.advance(&at(8, 6)).unwrap_err();
        assert_eq!(error.reason(), "rollback");
        assert!(started.advance(&[]).is_err(), "an authority that is gone");
        accept(&file, &at(8, 6)).unwrap();
        let mut accepted = Watermark::open(Some(&file)).unwrap();
        accepted.advance(&at(8, 6)).unwrap();
        assert_eq!(accepted.crl_number("central-1"), 7);

        std::fs::write(&file, "{").unwrap();
        assert!(Watermark::open(Some(&file)).is_err());
    }
}
