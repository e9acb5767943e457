//! The few file operations that a crash must not cut in two.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// A private key is its owner's alone, and what says where keys lie.
pub(crate) const KEY_MODE: u32 = 0o600;
/// Certificates, roots and settings are no secrets.
pub(crate) const CERTIFICATE_MODE: u32 = 0o644;

/// Writes a file of its own beside `path` and renames it into place: a reader sees all of the old content or all of
/// the new one.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    write_atomically_as(path, content, CERTIFICATE_MODE)
}

/// The same with the file's mode.
pub(crate) fn write_atomically_as(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(without_path)?;
    file.write_all(content)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_directory(directory)
}

/// The system's own words: the temporary file's name, which `tempfile` puts behind them, tells nobody anything.
fn without_path(error: io::Error) -> io::Error {
    let words = error.to_string();
    match words.split_once(" at path ") {
        Some((words, _)) => io::Error::new(error.kind(), words),
        None => error,
    }
}

/// Writes a file that must not be there yet, down to the disk.
pub(crate) fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Brings a directory's entries to the disk: a file's own sync says nothing about its name.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes a file or a link.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_no_file_that_nobody_knows() {
        let error = write_atomically(Path::new("/nonexistent/file"), b"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!error.to_string().contains("tmp"), "{error}");
    }
}
