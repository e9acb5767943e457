//! A file of JSON lines, and beside it how far it goes. Who takes the file away takes it whole: a new one is begun, and goes on
//! where the last one ended; without the file beside it, it begins anew.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pki::audit::Mark;

use crate::app::{Error, ErrorKind};
use crate::store::model::AuditRow;

pub(in crate::tasks) struct FileSink {
    file: PathBuf,
    beside: PathBuf,
    positions: Option<BTreeMap<String, Mark>>,
}

impl FileSink {
    pub(super) fn new(file: PathBuf) -> Self {
        let mut beside = file.clone().into_os_string();
        beside.push(".positions");
        Self {
            beside: beside.into(),
            file,
            positions: None,
        }
    }

    pub(super) async fn positions(&mut self) -> Result<BTreeMap<String, Mark>, Error> {
        if let Some(known) = &self.positions {
            return Ok(known.clone());
        }
        let (file, beside) = (self.file.clone(), self.beside.clone());
        let known = blocking(move || {
            drop_half_a_line(&file)?;
            read(&beside)
        })
        .await
        .map_err(|error| self.failed(error))?;
        self.positions = Some(known.clone());
        Ok(known)
    }

    pub(super) async fn write(&mut self, rows: &[AuditRow]) -> Result<(), Error> {
        let mut lines = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut lines, row).map_err(Error::internal)?;
            lines.push(b'\n');
        }
        let file = self.file.clone();
        blocking(move || append(&file, &lines))
            .await
            .map_err(|error| self.failed(error))
    }

    pub(super) async fn remember(&mut self, mark: &Mark) -> Result<(), Error> {
        let known = self.positions.get_or_insert_default();
        known.insert(mark.replica.clone(), mark.clone());
        let (beside, marks) = (self.beside.clone(), known.values().cloned().collect());
        blocking(move || replace(&beside, &marks))
            .await
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        let text = format!("audit.file {} cannot be written", self.file.display());
        Error::new(ErrorKind::Unavailable, "audit-file", text).because(error)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(std::io::Error::other)?
}

/// Appends all of it, durably, or nothing: a disk that fills up leaves no half a line.
fn append(path: &Path, lines: &[u8]) -> std::io::Result<()> {
    let mut file = open(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // What is cut off here was not remembered, and is written again.
        file.set_len(before)?;
    }
    written
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.open(path)
}

/// If we crashed in the middle of a line, it goes: it was not remembered, and is written again.
fn drop_half_a_line(path: &Path) -> std::io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut end = file.metadata()?.len();
    let mut window = vec![0; 64 * 1024];
    while end > 0 {
        let from = end.saturating_sub(window.len() as u64);
        let length = usize::try_from(end - from).unwrap_or(window.len());
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut window[..length])?;
        if let Some(last) = window[..length].iter().rposition(|byte| *byte == b'\n') {
            return file.set_len(from + last as u64 + 1);
        }
        end = from;
    }
    file.set_len(0)
}

fn read(path: &Path) -> std::io::Result<BTreeMap<String, Mark>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        read => read?,
    };
    let marks: Vec<Mark> = serde_json::from_slice(&bytes)?;
    let by_replica = marks.into_iter().map(|mark| (mark.replica.clone(), mark));
    Ok(by_replica.collect())
}

fn replace(path: &Path, marks: &Vec<Mark>) -> std::io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut out = options.open(&staged)?;
    serde_json::to_writer(&mut out, marks)?;
    out.sync_all()?;
    std::fs::rename(&staged, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::audit::{BEGINNING, Entry};
    use pki::time::Timestamp;

    fn row(position: u64) -> AuditRow {
        Entry {
            replica: "a".to_owned(),
            position,
            at: Timestamp::EPOCH,
            kind: "x".to_owned(),
            actor: String::new(),
            remote: String::new(),
            rule: String::new(),
            request_id: String::new(),
            detail: "{}".to_owned(),
            previous: BEGINNING,
            hash: BEGINNING,
        }
        .hashed()
    }

    #[tokio::test]
    async fn half_a_line_goes_and_positions_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut sink = FileSink::new(path.clone());
        assert!(sink.positions().await.unwrap().is_empty());
        let rows = [row(0), row(1)];
        sink.write(&rows).await.unwrap();
        sink.remember(&rows[1].mark()).await.unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], br#"{"replica":"a","pos"#].concat()).unwrap();

        let mut sink = FileSink::new(path.clone());
        let known = sink.positions().await.unwrap();
        assert_eq!(known["a"], rows[1].mark());
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        sink.write(&[row(2)]).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Entry> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read, [row(0), row(1), row(2)]);
        // A file of one half of a line is an empty one.
        std::fs::write(&path, "{").unwrap();
        FileSink::new(path.clone()).positions().await.unwrap();
        assert!(std::fs::read(&path).unwrap().is_empty());
    }
}
