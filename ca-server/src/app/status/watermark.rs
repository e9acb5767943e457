//! How far each authority and each audit chain had come, kept outside of the store: a store that was put back from a backup, or lost what it had
//! acknowledged, is noticed before it makes a revoked certificate good again or a CRL's number go back.
//!
//! A running server remembers by itself; with `store.watermark_file` one that is started does too. The file is written after
//! the store, within a second: if we crash between the two, it is a little behind, and a store that lost no more than that
//! is not told from one that lost nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pki::{audit, crypto};
use serde::{Deserialize, Serialize};

use crate::app::{Error, ErrorKind};
use crate::store::model::{AuditHead, StatusPosition};

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

/// The last entry of an audit chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditMark {
    /// Its place.
    pub position: u64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

impl AuditMark {
    fn of(mark: &audit::Mark) -> Self {
        Self {
            position: mark.position,
            hash: crypto::hex(&mark.hash),
        }
    }
}

/// What is remembered of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Every authority's mark, by its id.
    #[serde(flatten)]
    pub authorities: BTreeMap<String, Mark>,
    /// Every audit chain's last entry, by its replica. No authority has a colon in its id.
    #[serde(default, rename = "audit:chains")]
    pub chains: BTreeMap<String, AuditMark>,
}

impl Marks {
    /// What is remembered of audit chains.
    #[must_use]
    pub fn chains(&self) -> Vec<audit::Mark> {
        let read = |(replica, mark): (&String, &AuditMark)| {
            let hash = crypto::digest_from_hex(&mark.hash)?;
            Some(audit::Mark {
                replica: replica.clone(),
                position: mark.position,
                hash,
            })
        };
        self.chains.iter().filter_map(read).collect()
    }
}

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
        let marks = &self.marks.authorities;
        marks.get(authority).map_or(0, |mark| mark.crl_number)
    }

    /// Compares the store's positions with the marks; what has grown becomes the mark.
    ///
    /// # Errors
    /// When a log is shorter than it was.
    pub(in crate::app) fn advance(&mut self, positions: &[StatusPosition]) -> Result<(), Error> {
        let found: BTreeMap<String, Mark> = positions
            .iter()
            .map(|position| (position.authority.to_string(), mark(position)))
            .collect();
        for (authority, mark) in &self.marks.authorities {
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
            let known = self.marks.authorities.entry(authority).or_default();
            known.log_size = mark.log_size;
            known.crl_number = known.crl_number.max(mark.crl_number);
        }
        Ok(())
    }

    /// What is remembered of audit chains.
    pub(in crate::app) fn chains(&self) -> Vec<audit::Mark> {
        self.marks.chains()
    }

    /// Compares where audit chains end with where they ended; what has grown becomes the mark.
    ///
    /// # Errors
    /// When a chain is shorter than it was, or ends in another entry.
    pub(in crate::app) fn advance_chains(&mut self, heads: &[AuditHead]) -> Result<(), Error> {
        let found: BTreeMap<_, _> = heads
            .iter()
            .map(|head| (head.mark.replica.as_str(), AuditMark::of(&head.mark)))
            .collect();
        for (replica, known) in &self.marks.chains {
            let same = match found.get(replica.as_str()) {
                Some(now) if now.position == known.position => now.hash == known.hash,
                Some(now) => now.position > known.position,
                None => false,
            };
            if !same {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "rollback",
                    format!(
                        "the store has gone back: the audit chain of {replica} had an entry at position {} that is gone or is another \
                         one. `ca-server audit verify` tells more. Restore a newer copy, or take this one: ca-server store accept",
                        known.position
                    ),
                ));
            }
        }
        for (replica, mark) in found {
            self.marks.chains.insert(replica.to_owned(), mark);
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

/// What the file remembers; nothing for one that is not there.
///
/// # Errors
/// When it cannot be read or is not a watermark.
pub fn read(file: &Path) -> Result<Marks, Error> {
    let refuse = |text: String| {
        let text = format!("store.watermark_file: {}: {text}", file.display());
        Error::new(ErrorKind::Malformed, "watermark", text)
    };
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Marks::default()),
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

/// Believes the store as it is: logs and audit chains may be shorter than they were. CRL numbers still do not go back.
///
/// # Errors
/// When the file cannot be read or written.
pub fn accept(
    file: &Path,
    positions: &[StatusPosition],
    heads: &[AuditHead],
) -> Result<Marks, Error> {
    let mut marks = read(file)?;
    for mark in marks.authorities.values_mut() {
        mark.log_size = 0;
    }
    for position in positions {
        let id = position.authority.to_string();
        marks.authorities.entry(id).or_default().log_size = position.log_size;
    }
    let chain = |head: &AuditHead| (head.mark.replica.clone(), AuditMark::of(&head.mark));
    marks.chains = heads.iter().map(chain).collect();
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
        accept(&file, &at(8, 6), &[]).unwrap();
        let mut accepted = Watermark::open(Some(&file)).unwrap();
        accepted.advance(&at(8, 6)).unwrap();
        assert_eq!(accepted.crl_number("central-1"), 7);

        std::fs::write(&file, "{").unwrap();
        assert!(Watermark::open(Some(&file)).is_err());
    }

    fn head(position: u64, hash: u8) -> AuditHead {
        AuditHead {
            mark: audit::Mark {
                replica: "a".to_owned(),
                position,
                hash: [hash; 32],
            },
            seal: [0; 32],
            at: pki::time::Timestamp::EPOCH,
        }
    }

    #[test]
    fn an_audit_chain_that_is_shorter_or_another_one_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("watermark");
        // As a release without chains left it.
        std::fs::write(&file, r#"{"central-1":{"log_size":5,"crl_number":3}}"#).unwrap();
        let mut mark = Watermark::open(Some(&file)).unwrap();
        assert_eq!(mark.crl_number("central-1"), 3);
        mark.advance_chains(&[head(4, 1)]).unwrap();
        mark.advance_chains(&[head(7, 2)]).unwrap();
        let (_, marks) = mark.due().unwrap();
        write(&file, &marks).unwrap();

        let mut started = Watermark::open(Some(&file)).unwrap();
        for bad in [vec![head(6, 2)], vec![head(7, 3)], vec![]] {
            let error = started.advance_chains(&bad).unwrap_err();
            assert_eq!(error.reason(), "rollback");
        }
        started.advance_chains(&[head(7, 2)]).unwrap();
        started.advance(&at(5, 3)).unwrap();
        assert_eq!(started.chains(), [head(7, 2).mark]);
        accept(&file, &at(5, 3), &[head(6, 9)]).unwrap();
        let mut accepted = Watermark::open(Some(&file)).unwrap();
        accepted.advance_chains(&[head(6, 9)]).unwrap();
    }
}
