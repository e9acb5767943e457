//! The key of an enrolment whose answer is not here yet.
//!
//! An enrolment token is good for one key. The server answers that key again for ten minutes, because answers get lost;
//! so the key must outlive a lost answer, and the process too: it is on disk before anything is sent, as
//! `..pending-<digest>` in the identity's directory, and goes once the identity is in place.
//!
//! It belongs to the token and the kind of key, not to the rest of the order: who corrects a name or a lifetime and tries
//! again with the same token wants the same certificate, and with another key would never get it.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pki::extension::SubjectNames;
use zeroize::Zeroizing;

use crate::atomic::{KEY_MODE, remove_if_there, sync_directory, write_new};
use crate::credentials::Token;
use crate::error::ClientError;
use crate::files::{FilesError, IdentityDir};
use crate::identity::{KeyKind, NewKey};

const PREFIX: &str = "..pending-";
/// More than any key that we write.
const PENDING_MAX: usize = 4096;
const STAGED: &str = "..pending_tmp";
/// Keeps the digest in the file's name from being the one by which the server knows the token.
const CONTEXT: &[u8] = b"signet pending enrolment v1\n";

impl IdentityDir {
    /// The key that this token was sent with before, or a new one; it is on disk when this returns. Two processes with one
    /// token get one key, and so one certificate.
    ///
    /// # Errors
    /// When no key can be made or kept, or what was kept does not read.
    pub(crate) fn pending_key(
        &self,
        token: &Token,
        kind: KeyKind,
        names: &SubjectNames,
    ) -> Result<NewKey, ClientError> {
        let _lock = self.lock().map_err(|source| self.error("lock", source))?;
        let path = self.pending_path(token, kind);
        match read_own(&path) {
            Ok(pem) => {
                tracing::info!("going on with the key of an earlier attempt");
                NewKey::from_pem(&pem, names).map_err(|_| FilesError::PendingKey { path }.into())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let new = NewKey::generate(kind, names)?;
                self.keep(&path, new.key_pem())
                    .map_err(|source| self.error("write to", source))?;
                Ok(new)
            }
            Err(source) => Err(self.error("read", source).into()),
        }
    }

    /// Whole or not at all, and down to the disk: a key that a power cut takes after it was sent burns the token.
    fn keep(&self, path: &PathBuf, key_pem: &str) -> io::Result<()> {
        let staged = self.path().join(STAGED);
        // What a killed writer left behind; nobody else writes while we hold the lock.
        remove_if_there(&staged)?;
        write_new(&staged, key_pem.as_bytes(), KEY_MODE)?;
        fs::rename(&staged, path)?;
        sync_directory(self.path())
    }

    /// Removes every pending key: the directory's identity is in place.
    ///
    /// # Errors
    /// When one stays.
    pub(crate) fn forget_pending_keys(&self) -> Result<(), FilesError> {
        let forget = || {
            let _lock = self.lock()?;
            for entry in fs::read_dir(self.path())? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with(PREFIX) || name == STAGED {
                    remove_if_there(&entry.path())?;
                }
            }
            sync_directory(self.path())
        };
        forget().map_err(|source| self.error("clear", source))
    }

    fn pending_path(&self, token: &Token, kind: KeyKind) -> PathBuf {
        let kind: &[u8] = match kind {
            KeyKind::P256 => b"p256\n",
            KeyKind::P384 => b"p384\n",
        };
        let digest = pki::crypto::sha256_of(&[CONTEXT, kind, token.as_bytes()]);
        let name = format!("{PREFIX}{}", pki::crypto::hex(&digest[..16]));
        self.path().join(name)
    }
}

/// What we wrote, and nobody else: a key that somebody planted would be certified for them.
fn read_own(path: &Path) -> io::Result<Zeroizing<String>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let mut file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let meta = file.metadata()?;
    let is_ours = meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0;
    if !meta.is_file() || !is_ours {
        return Err(io::Error::other(format!(
            "{} is not a file of this user alone: look who put it there, and remove it",
            path.display()
        )));
    }
    let mut pem = Zeroizing::new(String::with_capacity(PENDING_MAX));
    file.by_ref()
        .take(PENDING_MAX as u64)
        .read_to_string(&mut pem)?;
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileNames;
    use std::os::unix::fs::PermissionsExt;

    fn directory() -> (tempfile::TempDir, IdentityDir) {
        let parent = tempfile::tempdir().unwrap();
        let directory = IdentityDir::new(parent.path().join("id"), FileNames::default());
        directory.prepare().unwrap();
        (parent, directory)
    }

    fn key(directory: &IdentityDir, token: &str, kind: KeyKind) -> Zeroizing<String> {
        let token = Token::parse(token).unwrap();
        let names = SubjectNames::default();
        let key = directory.pending_key(&token, kind, &names).unwrap();
        key.key_pem().clone()
    }

    #[test]
    fn a_token_keeps_its_key_and_every_token_has_its_own() {
        let (_parent, directory) = directory();
        let first = key(&directory, "one", KeyKind::P256);
        let second = key(&directory, "two", KeyKind::P256);
        assert_ne!(first, second);
        assert_ne!(first, key(&directory, "one", KeyKind::P384));
        assert_eq!(first, key(&directory, "one", KeyKind::P256));
        assert_eq!(second, key(&directory, "two", KeyKind::P256));
        for entry in fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert!(!name.contains("one") && name != STAGED, "{name}");
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, KEY_MODE, "{name}");
        }

        directory.forget_pending_keys().unwrap();
        assert_ne!(first, key(&directory, "one", KeyKind::P256));
    }

    #[test]
    fn a_writer_that_was_killed_leaves_nothing_in_the_way() {
        let (_parent, directory) = directory();
        fs::write(directory.path().join(STAGED), "-----BEGIN PRI").unwrap();
        let first = key(&directory, "one", KeyKind::P256);
        assert_eq!(first, key(&directory, "one", KeyKind::P256));
        assert!(!directory.path().join(STAGED).exists());
    }

    #[test]
    fn a_kept_key_that_does_not_read_is_told_and_not_replaced() {
        let (_parent, directory) = directory();
        let token = Token::parse("one").unwrap();
        let path = directory.pending_path(&token, KeyKind::P256);
        write_new(&path, b"no key", KEY_MODE).unwrap();
        let refusal = directory.pending_key(&token, KeyKind::P256, &SubjectNames::default());
        let told = matches!(
            refusal,
            Err(ClientError::Files(FilesError::PendingKey { .. }))
        );
        assert!(told, "{refusal:?}");
        assert_eq!(fs::read_to_string(path).unwrap(), "no key");
    }

    #[test]
    fn a_planted_key_is_not_taken() {
        let (folder, directory) = directory();
        let token = Token::parse("one").unwrap();
        let names = SubjectNames::default();
        let key = directory
            .pending_key(&token, KeyKind::P256, &names)
            .unwrap();
        let path = directory.pending_path(&token, KeyKind::P256);
        let planted = folder.path().join("planted");
        std::fs::write(&planted, key.key_pem().as_bytes()).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&planted, &path).unwrap();
        assert!(
            directory
                .pending_key(&token, KeyKind::P256, &names)
                .is_err()
        );
        std::fs::remove_file(&path).unwrap();
        // Readable by others: not as we write it.
        std::fs::rename(&planted, &path).unwrap();
        let refused = directory.pending_key(&token, KeyKind::P256, &names);
        let Err(refused) = refused else {
            panic!("it is taken")
        };
        let source = std::error::Error::source(&refused).map(ToString::to_string);
        assert!(format!("{refused} {source:?}").contains("this user alone"));
    }
}
