//! The try-out's directory: known by its marker, used by one run at a time, cleaned only when it is ours.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ca_server::entropy::{SystemEntropy, draw};
use zeroize::Zeroizing;

/// The file that says whose directory it is, and which is locked while a run uses it.
const MARKER: &str = ".signet-demo";
/// What stands in it. Another number is another version's directory.
const CONTENT: &str = "signet-demo 1\n";
/// What cannot stand in the address of a SQLite database, or in quotes in the configuration.
const NOT_IN_PATHS: [char; 6] = ['?', '#', '%', '"', '\'', '\\'];

/// The directory, ours as long as this lives.
#[derive(Debug)]
pub(crate) struct Home {
    /// As it was given: what commands are printed with.
    given: PathBuf,
    path: PathBuf,
    /// Locked; the system lets go of it when this process ends, however it does.
    _marker: File,
}

impl Home {
    /// Makes the directory, or takes up an earlier run's; `clean` removes what is in it.
    ///
    /// # Errors
    /// When it is somebody else's, another run uses it, or another version made it.
    pub(crate) fn open(given: &Path, clean: bool) -> Result<Self> {
        let shown = given.display();
        let path = std::path::absolute(given).with_context(|| shown.to_string())?;
        let is_plain = path
            .to_str()
            .is_some_and(|text| !text.contains(NOT_IN_PATHS) && !text.contains(char::is_control));
        if !is_plain {
            bail!("{shown}: choose a directory without {NOT_IN_PATHS:?} in its path, by --dir");
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("{shown} cannot be made"))?;
        let marker = path.join(MARKER);
        let is_ours = marker.is_file();
        let mut entries = fs::read_dir(&path).with_context(|| shown.to_string())?;
        if !is_ours && entries.next().is_some() {
            bail!(
                "{shown} holds something that is not the try-out's, and nothing was touched: choose another by --dir"
            );
        }
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&marker)
            .with_context(|| shown.to_string())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another try-out runs in {shown}: stop it, or choose another by --dir");
            }
            Err(TryLockError::Error(error)) => return Err(error).context(shown.to_string()),
        }
        let mut content = String::new();
        file.read_to_string(&mut content)
            .with_context(|| shown.to_string())?;
        if clean {
            empty(&path).with_context(|| format!("{shown} was not cleaned"))?;
        } else if is_ours && !content.is_empty() && content != CONTENT {
            bail!("{shown} was made by another version of the try-out: --clean starts over");
        }
        let home = Self {
            given: given.to_owned(),
            path,
            _marker: file,
        };
        if content != CONTENT {
            home.write(MARKER, CONTENT.as_bytes())?;
        }
        Ok(home)
    }

    /// A file below the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory as it was given.
    pub(crate) fn given(&self) -> &Path {
        &self.given
    }

    /// A file below the directory as a shell reads it, beginning as the directory was given.
    pub(crate) fn shown(&self, name: &str) -> String {
        // Joining nothing would append a slash.
        let path = match name {
            "" => self.given.clone(),
            _ => self.given.join(name),
        };
        quoted(&path.display().to_string())
    }

    /// Makes a directory below this one, unless it is there.
    pub(crate) fn make(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| path.display().to_string())
    }

    /// Writes a file below the directory; see [`write`].
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if name == MARKER {
            // In place: the lock is on this very file.
            return fs::write(self.path(name), bytes).context("the marker was not written");
        }
        write(&self.path(name), bytes)
    }
}

/// Removes everything but the marker, which stays so that a removal that is cut off can be done again.
fn empty(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        // A symbolic link is removed, not followed.
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes a file, mode 0600: whoever finds it finds all of it.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut staged = path.to_owned().into_os_string();
    staged.push(".new");
    let staged = PathBuf::from(staged);
    let written = || -> std::io::Result<()> {
        match fs::remove_file(&staged) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&staged, path)
    };
    written().with_context(|| format!("{} was not written", path.display()))
}

/// A passphrase of 160 random bits.
pub(crate) fn new_passphrase() -> Result<Zeroizing<String>> {
    let octets: Zeroizing<[u8; 20]> = Zeroizing::new(draw(&SystemEntropy::default())?);
    Ok(Zeroizing::new(format!("{}\n", pki::crypto::hex(&*octets))))
}

/// A word as a shell reads it. Paths with a quote in them were refused.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_somebody_else_is_left_alone() {
        let parent = std::env::temp_dir().join(format!("signet-demo-test-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        let theirs = parent.join("theirs");
        fs::write(&theirs, "precious").unwrap();
        for clean in [false, true] {
            let error = Home::open(&parent, clean).unwrap_err();
            assert!(error.to_string().contains("nothing was touched"), "{error}");
        }
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "precious");

        let ours = parent.join("ours");
        let home = Home::open(&ours, false).unwrap();
        let error = Home::open(&ours, true).unwrap_err();
        assert!(error.to_string().contains("another try-out"), "{error}");
        home.write("file", b"x").unwrap();
        drop(home);
        assert!(Home::open(&ours, false).unwrap().path("file").exists());
        assert!(!Home::open(&ours, true).unwrap().path("file").exists());
        fs::write(ours.join(MARKER), "signet-demo 0\n").unwrap();
        let error = Home::open(&ours, false).unwrap_err();
        assert!(error.to_string().contains("--clean"), "{error}");
        Home::open(&ours, true).unwrap();
        fs::remove_dir_all(&parent).unwrap();
    }

    #[test]
    fn a_path_is_printed_as_a_shell_reads_it() {
        assert_eq!(quoted("target/x-1.pem"), "target/x-1.pem");
        assert_eq!(quoted("my demo/$x"), "'my demo/$x'");
    }
}
