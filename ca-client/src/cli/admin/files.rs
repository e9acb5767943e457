//! Files in and out: what is read has a bound, what is written is never written over.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cli::exit::Usage;

/// The largest file that is sent: a root's CRL of many years.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// A file that was made empty before there is anything to put into it, so that nothing is done whose result cannot be kept. It is
/// removed when nothing came.
pub(super) struct NewFile {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl NewFile {
    /// `mode` is what the file may be read by.
    pub(super) fn create(path: &Path, mode: u32) -> Result<Self> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path);
        match made {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file: Some(file),
            }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Usage(format!(
                "{} is there already, and nothing is written over: move it away, or give another name",
                path.display()
            ))
            .into()),
            Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }

    /// Writes a part; the file stays once [`NewFile::write`] has written the last one.
    pub(super) fn append(&mut self, content: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(content)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    pub(super) fn write(mut self, content: &[u8]) -> Result<()> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let written = file.write_all(content).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half of it is of no use to anybody.
            let _ = std::fs::remove_file(&self.path);
        }
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let limit = MAX_BYTES + 1;
    let done = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut content)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut content))
    };
    done.with_context(|| format!("cannot read {}", path.display()))?;
    if u64::try_from(content.len()).is_ok_and(|length| length > MAX_BYTES) {
        bail!("{} has more than {MAX_BYTES} bytes", path.display());
    }
    Ok(content)
}

/// The same as text.
pub(super) fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).with_context(|| format!("{} is not text", path.display()))
}

/// PEM of what is in a file as PEM or DER: a certificate request, or a CRL.
pub(super) fn read_pem(path: &Path, armour: fn(&[u8]) -> String) -> Result<String> {
    let content = read(path)?;
    // DER begins with a SEQUENCE, which no text does.
    if content.first() == Some(&0x30) {
        return Ok(armour(&content));
    }
    String::from_utf8(content).with_context(|| format!("{} is neither PEM nor DER", path.display()))
}

/// A file of TOML as JSON.
pub(super) fn read_toml(path: &Path) -> Result<Value> {
    let table: toml::Table = read_text(path)?
        .parse()
        .with_context(|| path.display().to_string())?;
    serde_json::to_value(table).with_context(|| path.display().to_string())
}

/// A file of TOML or JSON as JSON.
pub(super) fn read_document(path: &Path) -> Result<Value> {
    let text = read_text(path)?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).with_context(|| path.display().to_string());
    }
    let table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    serde_json::to_value(table).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_over_and_nothing_empty_is_left() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        drop(NewFile::create(&path, 0o644).unwrap());
        assert!(!path.exists());
        NewFile::create(&path, 0o644).unwrap().write(b"x").unwrap();
        let error = NewFile::create(&path, 0o644).map(drop).unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
    }

    #[test]
    fn requests_are_taken_as_pem_or_der() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        std::fs::write(&path, [0x30, 0]).unwrap();
        let pem = read_pem(&path, pki::pem::request).unwrap();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        std::fs::write(&path, &pem).unwrap();
        assert_eq!(read_pem(&path, pki::pem::request).unwrap(), pem);
    }
}
