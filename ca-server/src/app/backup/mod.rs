//! Backup and restore: the whole store in one encrypted file, of one moment, for either engine; and a store that is made of it
//! again and does not go back.
//!
//! What holds: a backup is whole or is none; it has everything that was acknowledged before it began. A restore fills an empty
//! store in one transaction. Numbers that somebody may have seen go on from ahead of any that was given out after the
//! backup. What was issued and revoked after it is lost, and nothing here can know it.

pub mod age;
mod lines;
mod summary;

use std::io::{BufRead, BufReader, Write};

use pki::time::Timestamp;
use serde_json::json;

use self::age::{AgeError, Passphrase};
use self::lines::{LineReader, LineWriter};
use self::summary::{blob, integer, text};
use super::keys;
use super::status::watermark::Marks;
use super::tokens::Tokens;
use super::{Actor, Error, ErrorKind, chain};
use crate::config::KeySettings;
use crate::store::model::Installation;
use crate::store::transfer::{Dumped, Loaded, Restoration, Table, TransferError, Value};
use crate::store::{ReplicaName, Store};

pub use lines::About;
pub use summary::{Head, Position, Summary};

/// Nobody has seen a number that is so far ahead of the backup's: this, and two for each second since. Lists come once a second
/// at most.
const AHEAD: i64 = 1 << 16;
const AHEAD_PER_SECOND: i64 = 2;
/// How often progress is told, in rows.
const TELL_EVERY: u64 = 100_000;

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::new(
        ErrorKind::Malformed,
        "backup",
        format!("the backup: {}", chain(error)),
    )
}

impl From<AgeError> for Error {
    fn from(error: AgeError) -> Self {
        unreadable(&error)
    }
}

impl From<TransferError> for Error {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Store(error) => error.into(),
            TransferError::Stream(error) => unreadable(&error),
            TransferError::Refused(text) => Self::new(ErrorKind::Conflict, "restore", text),
        }
    }
}

/// Writes a backup into `out`, which is not flushed to disk here. `told` hears of every hundred thousandth row.
///
/// # Errors
/// When the store fails or `out` takes nothing: what was written is no backup then.
pub async fn take<W: Write + Send>(
    store: &Store,
    out: W,
    passphrase: &Passphrase,
    now: Timestamp,
    mut told: impl FnMut(u64) + Send,
) -> Result<(W, Summary), Error> {
    let mut lines = LineWriter::new(age::Writer::new(out, passphrase)?, now);
    let mut rows = 0;
    let mut take = |item: Dumped<'_>| {
        if matches!(item, Dumped::Row(_)) {
            rows += 1;
            if rows % TELL_EVERY == 0 {
                told(rows);
            }
        }
        lines.take(&item)
    };
    store.dump(&mut take).await?;
    let (encrypted, summary) = lines.finish().map_err(TransferError::from)?;
    let out = encrypted.finish().map_err(TransferError::from)?;
    Ok((out, summary))
}

/// A backup that is being read.
pub struct Backup<R> {
    lines: LineReader<BufReader<age::Reader<R>>>,
}

impl<R: BufRead> Backup<R> {
    /// Opens it and reads what it is.
    ///
    /// # Errors
    /// When it is none, was changed, or opens with another passphrase.
    pub fn open(input: R, passphrase: &Passphrase) -> Result<Self, Error> {
        let input = BufReader::with_capacity(128 * 1024, age::Reader::new(input, passphrase)?);
        let lines = LineReader::new(input).map_err(TransferError::from)?;
        Ok(Self { lines })
    }

    /// What it is.
    #[must_use]
    pub fn about(&self) -> &About {
        self.lines.about()
    }

    /// Reads it to its end, and checks every part of it.
    ///
    /// # Errors
    /// When a part was changed, is missing, or is not what it says.
    pub fn verify(mut self) -> Result<Summary, Error> {
        while self.lines.next().map_err(TransferError::from)?.is_some() {}
        Ok(self.lines.summary().cloned().unwrap_or_default())
    }
}

/// Where and how a store is made of a backup.
pub struct Target<'a> {
    /// The store: empty, with its schema.
    pub store: &'a Store,
    /// What opens the installation's keys.
    pub keys: &'a KeySettings,
    /// The tokens of the configuration.
    pub tokens: &'a Tokens,
    /// How far the store had come that this one replaces, where that is known.
    pub marks: &'a Marks,
    /// Who restores.
    pub actor: &'a Actor,
    /// In whose chain the audit trail tells of it.
    pub replica: &'a ReplicaName,
    /// When.
    pub now: Timestamp,
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// What was in the backup.
    pub summary: Summary,
    /// What numbers jumped ahead by.
    pub ahead: i64,
}

/// Fills an empty store from a backup.
///
/// # Errors
/// When the backup is not whole or of another schema, the configuration does not open its keys, the store is not empty, or it
/// fails: the store is as empty then as it was.
pub async fn restore<R: BufRead + Send>(
    mut backup: Backup<R>,
    target: &Target<'_>,
    mut told: impl FnMut(u64) + Send,
) -> Result<Restored, Error> {
    let about = backup.about().clone();
    check_schema(&about, &target.store.migrations())?;
    let mut begun = installation(&mut backup.lines)?;
    let installation = read_installation(&begun)?;
    let key = keys::open(&installation, target.keys, target.tokens).await?;
    let auditor = keys::auditor(target.replica.clone(), &key)?;
    target.store.audit_as(auditor);
    begun.reverse();
    let ahead = ahead(&about, target);
    let detail = json!({
        "taken_at": about.taken_at().to_string(),
        "program": about.program,
        "engine": about.engine,
        "ahead": ahead,
    });
    let restoration = Restoration {
        ahead,
        audit: target.actor.did(target.now, "store.restore", &detail),
    };
    let mut rows = 0;
    let lines = &mut backup.lines;
    let mut give = || {
        rows += 1;
        if rows % TELL_EVERY == 0 {
            told(rows);
        }
        match begun.pop() {
            Some(item) => Ok(Some(item)),
            None => lines.next(),
        }
    };
    target.store.load(&mut give, &restoration).await?;
    let summary = backup.lines.summary().cloned().unwrap_or_default();
    Ok(Restored { summary, ahead })
}

fn check_schema(about: &About, ours: &[i64]) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::new(ErrorKind::Conflict, "schema", text));
    if let Some(newer) = about.schema.iter().find(|version| !ours.contains(version)) {
        return refuse(format!(
            "the backup is of a newer release ({}): this program does not know its migration {newer:04}",
            about.program
        ));
    }
    if about.schema != ours {
        let last = about.schema.last().copied().unwrap_or(0);
        return refuse(format!(
            "the backup is of an older release ({}, migrations up to {last:04}): restore it with that release, and then \
             run `ca-server migrate` of this one",
            about.program
        ));
    }
    Ok(())
}

/// The first table, which is the installation's, and its rows, and the table after it.
fn installation<R: BufRead>(lines: &mut LineReader<R>) -> Result<Vec<Loaded>, Error> {
    let mut begun = Vec::new();
    let mut tables = 0;
    while tables < 2 {
        let Some(item) = lines.next().map_err(TransferError::from)? else {
            break;
        };
        tables += u32::from(matches!(item, Loaded::Table(_)));
        begun.push(item);
    }
    Ok(begun)
}

fn read_installation(begun: &[Loaded]) -> Result<Installation, Error> {
    let malformed = |text| Error::new(ErrorKind::Malformed, "backup", text);
    let (Some(Loaded::Table(table)), Some(Loaded::Row(row))) = (begun.first(), begun.get(1)) else {
        return Err(malformed(
            "the backup: it has no key-encryption key, of an installation that was never begun",
        ));
    };
    parse_installation(table, row)
        .filter(|_| table.name == "installation")
        .ok_or_else(|| malformed("the backup: its key-encryption key does not parse"))
}

fn parse_installation(table: &Table, row: &[Value]) -> Option<Installation> {
    let at = |column| table.column(column);
    Some(Installation {
        wrapping: hsm::wrapping::WrappingKind::parse(&text(row, at("wrapping")?))?,
        salt: blob(row, at("salt")?).try_into().ok()?,
        sealed_key: blob(row, at("sealed_key")?).to_vec(),
        changed_at: Timestamp::from_unix(integer(row, at("changed_at")?)),
        version: integer(row, at("version")?),
    })
}

/// More than any number that was given out since, and more than any that is remembered.
fn ahead(about: &About, target: &Target<'_>) -> i64 {
    let seconds = target.now.seconds_since(about.taken_at()).max(0);
    let remembered = target
        .marks
        .authorities
        .values()
        .map(|mark| mark.crl_number)
        .max();
    let remembered = i64::try_from(remembered.unwrap_or(0)).unwrap_or(0);
    AHEAD + seconds * AHEAD_PER_SECOND + remembered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_schemas_are_refused_each_with_what_to_do() {
        let about = |schema: &[i64]| -> About {
            let line = json!({
                "format": "signet-backup", "version": 1, "program": "9.9.9", "engine": "sqlite",
                "schema": schema, "taken_at": 0,
            });
            serde_json::from_value(line).unwrap()
        };
        assert!(check_schema(&about(&[1, 2, 4]), &[1, 2, 4]).is_ok());
        let newer = check_schema(&about(&[1, 2, 4, 5]), &[1, 2, 4]).unwrap_err();
        assert!(newer.to_string().contains("newer release"), "{newer}");
        let older = check_schema(&about(&[1, 2]), &[1, 2, 4]).unwrap_err();
        assert!(older.to_string().contains("older release"), "{older}");
    }
}
