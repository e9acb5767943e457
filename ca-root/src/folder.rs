//! The ceremony's folder: files are read once, written once, and never through a symbolic link.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pki::ceremony::{FileName, Files};
use rustix::fs::{Mode, OFlags};

/// The largest input: a CRL of a thousand entries has some 40 KiB.
const MAX_INPUT_BYTES: usize = 1024 * 1024;

/// A folder that files of a plan lie in.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder at `dir`, or else the one in which `file` lies.
    pub(crate) fn of(dir: Option<&Path>, file: &Path) -> Self {
        Self(match dir {
            Some(dir) => dir.to_owned(),
            None => parent(file).to_owned(),
        })
    }

    pub(crate) fn path(&self, name: &FileName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// The bytes of a file; `None` when it is not there.
    pub(crate) fn read(&self, name: &FileName) -> anyhow::Result<Option<Vec<u8>>> {
        read(&self.path(name))
    }

    /// Those of `names` that are there.
    pub(crate) fn read_all(&self, names: &[&FileName]) -> anyhow::Result<Files> {
        let mut files = Files::new();
        for name in names {
            if files.contains_key(*name) {
                continue;
            }
            if let Some(bytes) = self.read(name)? {
                files.insert((*name).clone(), bytes);
            }
        }
        Ok(files)
    }

    /// Whether anything has the name: a broken link too.
    pub(crate) fn has(&self, name: &FileName) -> bool {
        exists(&self.path(name))
    }

    /// Whether `file` lies in this folder, under whatever path.
    pub(crate) fn holds(&self, file: &Path) -> bool {
        let canonical = |path: &Path| path.canonicalize().ok();
        canonical(&self.0).is_some_and(|own| Some(own) == canonical(parent(file)))
    }
}

/// Whether anything is at `path`, a broken link too.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The bytes of a regular file of at most a MiB; `None` when there is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    // Not waiting: who put a pipe here shall not hold the ceremony up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            bail!(
                "{}: is a symbolic link, which is not followed",
                path.display()
            )
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot be opened", path.display()));
        }
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        bail!("{}: is not a regular file", path.display());
    }
    let limit = u64::try_from(MAX_INPUT_BYTES)?;
    // Room for all of it, and to see the end: a share's buffer that grew would leave a copy behind.
    let length = usize::try_from(metadata.len().min(limit))?;
    let mut bytes = Vec::with_capacity(length + 32);
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    if bytes.len() > MAX_INPUT_BYTES {
        bail!("{}: has more than {MAX_INPUT_BYTES} bytes", path.display());
    }
    Ok(Some(bytes))
}

/// The bytes of a file that has to be there.
pub(crate) fn read_existing(path: &Path) -> anyhow::Result<Vec<u8>> {
    read(path)?.with_context(|| format!("{}: is not there", path.display()))
}

/// The mode of a key file.
pub(crate) const FOR_OWNER: u32 = 0o600;
/// The mode of what everybody may read; the umask may take from it.
pub(crate) const FOR_ALL: u32 = 0o644;

/// Writes a new file, never over another one; durable when this returns.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{}: exists already, and is not overwritten", path.display())
            }
            _ => anyhow::Error::new(error).context(format!("{}: cannot be made", path.display())),
        })?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| File::open(parent(path))?.sync_all())
        .with_context(|| format!("{}: cannot be written", path.display()))
}

/// Puts `bytes` in the place of a file that is there: one or the other is there whole, whenever it is cut off.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    write_new(&new, bytes, mode)?;
    std::fs::rename(&new, path)
        .and_then(|()| File::open(parent(path))?.sync_all())
        .with_context(|| format!("{}: cannot be replaced", path.display()))
}
