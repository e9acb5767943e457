//! Key, chain and bundle on disk, replaced together.
//!
//! The directory looks as a Kubernetes secret volume does:
//!
//! ```text
//! tls.key -> ..data/tls.key        links that are made once and stay
//! tls.crt -> ..data/tls.crt
//! ca.crt  -> ..data/ca.crt
//! ..data  -> ..1795488780-9f86d081884c7d65     the one link that is swapped
//! ..1795488780-9f86d081884c7d65/               mode 0700, never changed once `..data` points at it
//! ..lock                                       held by whoever writes
//! ..hook_due                                   there from before a renewal until its hook has run
//! ..pending-3b1c...                            the key of an enrolment under way: see `pending`
//! ```
//!
//! Renaming a new link over `..data` is the commit point: before it everybody sees the old set, after it the new one, and
//! a kill at any step leaves one of the two. Reader's side: resolve `..data` once and read all files in what it
//! points to; a file that is gone by then means that the set was replaced, so resolve again. [`IdentityDir::load`] does.
//! A program that opens `tls.crt` and `tls.key` by name at the very moment of the swap can still mix the two sets, as with
//! any secret volume: it reloads when the renewal's hook tells it to.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pki::certificate::{Certificate, CertificateError};
use pki::time::Timestamp;
use zeroize::Zeroizing;

use crate::answer::SignedCertificate;
use crate::atomic::{CERTIFICATE_MODE, KEY_MODE, remove_if_there, sync_directory, write_new};
use crate::entropy::{self, NoRandomness};
use crate::identity::is_key_of;

const CURRENT: &str = "..data";
const STAGED: &str = "..data_tmp";
const LOCK: &str = "..lock";
const HOOK_DUE: &str = "..hook_due";
const DIRECTORY_MODE: u32 = 0o700;
/// How often a reader resolves again before it says that the directory does not hold still.
const READ_ATTEMPTS: usize = 10;

/// What the three files are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNames {
    key: String,
    chain: String,
    bundle: String,
}

impl FileNames {
    /// Takes the names of the key's, the chain's and the bundle's file.
    ///
    /// # Errors
    /// When one is empty, has a `/`, begins with `..`, or two are the same.
    pub fn new(key: &str, chain: &str, bundle: &str) -> Result<Self, FilesError> {
        for name in [key, chain, bundle] {
            if name.is_empty() || name == "." || name.starts_with("..") || name.contains('/') {
                return Err(FilesError::Name(name.to_owned()));
            }
        }
        if key == chain || key == bundle || chain == bundle {
            return Err(FilesError::Name(key.to_owned()));
        }
        Ok(Self {
            key: key.to_owned(),
            chain: chain.to_owned(),
            bundle: bundle.to_owned(),
        })
    }
}

impl Default for FileNames {
    /// `tls.key`, `tls.crt`, `ca.crt`.
    fn default() -> Self {
        Self {
            key: "tls.key".to_owned(),
            chain: "tls.crt".to_owned(),
            bundle: "ca.crt".to_owned(),
        }
    }
}

/// A directory that holds one identity.
#[derive(Clone, Debug)]
pub struct IdentityDir {
    path: PathBuf,
    names: FileNames,
}

/// An identity as it stands in its directory, of one piece.
pub struct StoredIdentity {
    /// Leaf first; never empty.
    pub chain: Vec<Certificate>,
    /// The chain as PEM.
    pub chain_pem: String,
    /// PEM of the leaf's PKCS#8 key.
    pub key_pem: Zeroizing<String>,
    /// The roots, as PEM.
    pub bundle_pem: String,
}

impl StoredIdentity {
    /// The leaf.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.chain[0]
    }
}

impl std::fmt::Debug for StoredIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredIdentity({:?})", self.leaf())
    }
}

/// What [`IdentityDir::write`] has just done. Tests stop it after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Cleared,
    Made,
    KeyWritten,
    ChainWritten,
    BundleWritten,
    VersionSynced,
    Linked,
    Staged,
    Swapped,
    OldRemoved,
}

type AfterStep<'a> = &'a mut dyn FnMut(Step) -> io::Result<()>;

impl IdentityDir {
    /// The identity in `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, names: FileNames) -> Self {
        Self {
            path: path.into(),
            names,
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory (mode 0700) unless it is there.
    ///
    /// # Errors
    /// When it cannot be made, others than its owner may write to it, or a file of the set's name is there that we have not
    /// made.
    pub fn prepare(&self) -> Result<(), FilesError> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.path)
            .map_err(|source| self.error("make", source))?;
        let mode = fs::metadata(&self.path)
            .map_err(|source| self.error("look at", source))?
            .permissions()
            .mode();
        // Who may write here may put their own links in place. Who may read sees links: the sets are 0700.
        if mode & 0o022 != 0 {
            return Err(FilesError::Open {
                path: self.path.clone(),
                mode: mode & 0o7777,
            });
        }
        self.refuse_foreign_files()
            .map_err(|source| self.error("write to", source))
    }

    /// Replaces the identity: afterwards readers see all of the new set, whatever happens before, all of the old one.
    ///
    /// # Errors
    /// When the key is not the certificate's, or a file cannot be written. The old set then stands.
    pub fn write(
        &self,
        key_pem: &Zeroizing<String>,
        signed: &SignedCertificate,
        now: Timestamp,
    ) -> Result<(), FilesError> {
        if !is_key_of(key_pem, signed.leaf()) {
            return Err(FilesError::OtherKey {
                path: self.path.clone(),
            });
        }
        self.prepare()?;
        let chain = signed.chain_pem();
        let bundle = signed.bundle().to_pem();
        let set: Set<'_> = [
            (&self.names.key, key_pem, KEY_MODE, Step::KeyWritten),
            (
                &self.names.chain,
                &chain,
                CERTIFICATE_MODE,
                Step::ChainWritten,
            ),
            (
                &self.names.bundle,
                &bundle,
                CERTIFICATE_MODE,
                Step::BundleWritten,
            ),
        ];
        let version = version_name(now)?;
        self.write_set(&version, set, &mut |_| Ok(()))
            .map_err(|source| self.error("write to", source))
    }

    fn write_set(&self, version: &str, set: Set<'_>, after: AfterStep<'_>) -> io::Result<()> {
        // Held to the end: two writers would clear each other's work.
        let _lock = self.lock()?;
        self.refuse_foreign_files()?;
        // What a killed writer left behind, in whichever step.
        self.clear_leftovers()?;
        after(Step::Cleared)?;

        // Crash from here to the swap: `..data` points at the old set; the new one is cleared by the next writer.
        let directory = self.path.join(version);
        DirBuilder::new().mode(DIRECTORY_MODE).create(&directory)?;
        after(Step::Made)?;
        for (name, content, mode, step) in set {
            write_new(&directory.join(name), content.as_bytes(), mode)?;
            after(step)?;
        }
        sync_directory(&directory)?;
        after(Step::VersionSynced)?;

        // First time, crash before the swap: links that point nowhere, which a reader takes for no identity.
        for (name, ..) in set {
            self.link(name)?;
        }
        after(Step::Linked)?;

        symlink(version, self.path.join(STAGED))?;
        sync_directory(&self.path)?;
        after(Step::Staged)?;
        // The commit point. The set and the links are on disk already, so that a power cut cannot keep the new
        // `..data` and lose what it points to.
        fs::rename(self.path.join(STAGED), self.path.join(CURRENT))?;
        sync_directory(&self.path)?;
        after(Step::Swapped)?;

        // Crash here: the new set is in place, the old key stays on disk until the next writer clears it.
        self.clear_leftovers()?;
        sync_directory(&self.path)?;
        after(Step::OldRemoved)
    }

    /// Remembers, through a kill too, that somebody has still to be told of a new set.
    pub(crate) fn set_hook_due(&self, due: bool) -> Result<(), FilesError> {
        let path = self.path.join(HOOK_DUE);
        let set = || {
            if due {
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(KEY_MODE)
                    .open(&path)?;
            } else {
                remove_if_there(&path)?;
            }
            sync_directory(&self.path)
        };
        set().map_err(|source| self.error("write to", source))
    }

    pub(crate) fn is_hook_due(&self) -> bool {
        self.path.join(HOOK_DUE).exists()
    }

    /// Waits until nobody else writes. The lock goes with the file, so the system lets go of it if we are killed.
    pub(crate) fn lock(&self) -> io::Result<File> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(KEY_MODE)
            .open(self.path.join(LOCK))?;
        lock.lock()?;
        Ok(lock)
    }

    /// Refuses to replace a file that we have not made.
    fn refuse_foreign_files(&self) -> io::Result<()> {
        for name in [&self.names.key, &self.names.chain, &self.names.bundle] {
            let path = self.path.join(name);
            match fs::symlink_metadata(&path) {
                Ok(there) if !there.is_symlink() => {
                    let message = format!("{name} is there and is not ours: move it away first");
                    return Err(io::Error::new(ErrorKind::AlreadyExists, message));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes every set that `..data` does not point at, and a staged link.
    fn clear_leftovers(&self) -> io::Result<()> {
        remove_if_there(&self.path.join(STAGED))?;
        let current = self.current()?;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_set = is_version_name(&name.to_string_lossy()) && entry.file_type()?.is_dir();
            if is_set && current.as_deref() != Some(Path::new(&name)) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// What `..data` points at, relative to the directory.
    fn current(&self) -> io::Result<Option<PathBuf>> {
        match fs::read_link(self.path.join(CURRENT)) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn link(&self, name: &str) -> io::Result<()> {
        let (path, target) = (self.path.join(name), Path::new(CURRENT).join(name));
        if fs::read_link(&path).is_ok_and(|found| found == target) {
            return Ok(());
        }
        remove_if_there(&path)?;
        symlink(target, path)
    }

    /// Reads the identity as it stands: one set, never parts of two.
    ///
    /// # Errors
    /// When there is none, a file does not read, or the key is not the certificate's.
    pub fn load(&self) -> Result<StoredIdentity, FilesError> {
        for _ in 0..READ_ATTEMPTS {
            let current = self
                .current()
                .map_err(|source| self.error("read", source))?;
            let Some(version) = current else { break };
            match self.load_version(&self.path.join(version)) {
                // Replaced between the link and the file: resolve again.
                Err(FilesError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                other => return other,
            }
        }
        Err(FilesError::NotEnrolled {
            path: self.path.clone(),
        })
    }

    fn load_version(&self, version: &Path) -> Result<StoredIdentity, FilesError> {
        let read = |name: &str| {
            fs::read_to_string(version.join(name)).map_err(|source| self.error("read", source))
        };
        let key_pem = Zeroizing::new(read(&self.names.key)?);
        let chain_pem = read(&self.names.chain)?;
        let bundle_pem = read(&self.names.bundle)?;
        let chain = Certificate::parse_pem(chain_pem.as_bytes())?;
        // `parse_pem` gives at least one.
        if !is_key_of(&key_pem, &chain[0]) {
            return Err(FilesError::OtherKey {
                path: version.to_owned(),
            });
        }
        Ok(StoredIdentity {
            chain,
            chain_pem,
            key_pem,
            bundle_pem,
        })
    }

    pub(crate) fn error(&self, action: &'static str, source: io::Error) -> FilesError {
        FilesError::Io {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

type Set<'a> = [(&'a String, &'a String, u32, Step); 3];

/// `..<unix seconds>-<16 hex digits>`: the time is for people who look, the rest makes it one of its kind.
fn version_name(now: Timestamp) -> Result<String, NoRandomness> {
    let octets: [u8; 8] = entropy::random()?;
    Ok(format!("..{}-{}", now.unix(), pki::crypto::hex(&octets)))
}

fn is_version_name(name: &str) -> bool {
    let parts = name
        .strip_prefix("..")
        .and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(time, rest)| {
        !time.is_empty()
            && time.bytes().all(|b| b.is_ascii_digit())
            && rest.len() == 16
            && rest.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Why an identity was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The chain's file holds no certificates.
    #[error("the chain's file does not read")]
    Chain(#[from] CertificateError),
    /// The system said no.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a name for a file of the set.
    #[error(
        "{0:?} is no name for one of the files: it has no '/', does not begin with '..', and stands once"
    )]
    Name(String),
    /// No randomness for a name.
    #[error("no name was made for the new files")]
    NoRandomness(#[from] NoRandomness),
    /// There is no identity.
    #[error("{path:?} holds no identity")]
    NotEnrolled {
        /// The directory.
        path: PathBuf,
    },
    /// Others may write to the directory.
    #[error(
        "others may write to {path:?} (mode {mode:o}): chmod 700 it, or name a directory below it"
    )]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A key that waits for its answer, and is none.
    #[error(
        "{path:?} is not the key of an enrolment under way: remove it to begin anew, with another token where that one was sent"
    )]
    PendingKey {
        /// The file.
        path: PathBuf,
    },
    /// Key and certificate do not belong together.
    #[error("the key in {path:?} is not the certificate's")]
    OtherKey {
        /// The directory.
        path: PathBuf,
    },
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
