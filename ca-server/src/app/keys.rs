//! The installation's key-encryption key: opened at the start, and put under another wrapping key without anything else
//! changing.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hsm::audit::AuditKey;
use hsm::sealed::{KeyEncryptionKey, SealError};
use hsm::wrapping::{self, SALT_BYTES, WrappingKey, WrappingKind};
use pki::time::Timestamp;
use zeroize::Zeroizing;

use super::tokens::Tokens;
use super::{Actor, Error, ErrorKind};
use crate::config::{KeySettings, WrappingSource};
use crate::store::model::Installation;
use crate::store::{Auditor, ReplicaName, Store};

/// No passphrase is longer, and what is longer is not read: the path may be `/dev/zero`.
const FILE_MAX_BYTES: u64 = 4096;

/// Opens the key by what the configuration names; in a store that has none yet, makes it.
///
/// # Errors
/// When what is named cannot be read or opens nothing, or the store is away.
pub async fn unlock(
    store: &Store,
    settings: &KeySettings,
    tokens: &Tokens,
    now: Timestamp,
) -> Result<Arc<KeyEncryptionKey>, Error> {
    if let Some(installation) = store.installation().await? {
        return Ok(Arc::new(open(&installation, settings, tokens).await?));
    }
    let key = KeyEncryptionKey::generate().map_err(Error::internal)?;
    let installation = seal(&key, &settings.wrapping, settings, tokens, now).await?;
    store.create_installation(&installation).await?;
    Ok(Arc::new(key))
}

/// Who writes into the audit trail as `replica` in the installation of this key.
///
/// # Errors
/// Never in fact: see [`AuditKey::derive`].
pub fn auditor(replica: ReplicaName, key: &KeyEncryptionKey) -> Result<Auditor, Error> {
    let key = AuditKey::derive(key).map_err(Error::internal)?;
    Ok(Auditor::new(replica, key))
}

/// Puts the key under what `new` names. Running servers have it open and go on; authorities' keys stay as they are.
///
/// Up to the store's commit the old source opens, from then on the new one does. When the answer to the commit is lost,
/// `ca-server keys show` tells which.
///
/// # Errors
/// When the old source does not open it, the new one cannot be read, another change was faster, or the store is away.
pub async fn rekey(
    store: &Store,
    settings: &KeySettings,
    tokens: &Tokens,
    new: &WrappingSource,
    now: Timestamp,
    actor: &Actor,
    replica: &ReplicaName,
) -> Result<Installation, Error> {
    let before = installation(store).await?;
    let key = open(&before, settings, tokens).await?;
    store.audit_as(auditor(replica.clone(), &key)?);
    let after = seal(&key, new, settings, tokens, now).await?;
    // What is about to be relied on is tried first, from its source: a token may have given something else.
    let tried = wrapping_key(new, &after.salt, settings, tokens, false).await?;
    tried.open(&after.sealed_key).map_err(Error::internal)?;
    let detail = serde_json::json!({
        "from": before.wrapping.as_str(),
        "to": after.wrapping.as_str(),
    });
    let audit = actor.did(now, "keys.rekey", &detail);
    store
        .rewrap_installation(&after, before.version, &[audit])
        .await?;
    Ok(after)
}

/// The key as it rests.
///
/// # Errors
/// When there is none yet, or the store is away.
pub async fn installation(store: &Store) -> Result<Installation, Error> {
    store.installation().await?.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "installation",
            "there is no key-encryption key yet: the first command that needs it makes it",
        )
    })
}

/// Opens a key that rests as told, such as in a backup.
///
/// # Errors
/// When what the configuration names does not open it, or cannot be read.
pub async fn open(
    installation: &Installation,
    settings: &KeySettings,
    tokens: &Tokens,
) -> Result<KeyEncryptionKey, Error> {
    let (source, since) = (&settings.wrapping, installation.changed_at);
    if source.kind() != installation.wrapping {
        return Err(refuse(format!(
            "the installation's keys rest under a {} since {since}, and the configuration names keys.{}",
            installation.wrapping,
            name(source.kind())
        )));
    }
    let wrapping = wrapping_key(source, &installation.salt, settings, tokens, false).await?;
    wrapping.open(&installation.sealed_key).map_err(|error| {
        refuse(format!(
            "keys.{} does not open the installation's keys: they rest under another {} since {since}",
            name(source.kind()),
            source.kind()
        ))
        .because(error)
    })
}

async fn seal(
    key: &KeyEncryptionKey,
    source: &WrappingSource,
    settings: &KeySettings,
    tokens: &Tokens,
    now: Timestamp,
) -> Result<Installation, Error> {
    let salt = wrapping::new_salt().map_err(Error::internal)?;
    let wrapping = wrapping_key(source, &salt, settings, tokens, true).await?;
    Ok(Installation {
        wrapping: wrapping.kind(),
        salt,
        sealed_key: wrapping.seal(key).map_err(Error::internal)?,
        changed_at: now,
        version: 1,
    })
}

/// With `make`, a secret that a token does not have yet is made there.
async fn wrapping_key(
    source: &WrappingSource,
    salt: &[u8; SALT_BYTES],
    settings: &KeySettings,
    tokens: &Tokens,
    make: bool,
) -> Result<WrappingKey, Error> {
    let file = match source {
        WrappingSource::Passphrase(file) => {
            warn_if_others_read(file);
            file.clone()
        }
        WrappingSource::Credential(name) => credential(name.as_str(), settings)?,
        WrappingSource::Token(uri) => {
            let message = wrapping::token_message(salt);
            let mac = tokens.of(uri)?.hmac(uri, message, make).await?;
            return WrappingKey::from_token(mac).map_err(Error::internal);
        }
    };
    let (kind, salt) = (source.kind(), *salt);
    // scrypt takes a good third of a second and 128 MiB: off the runtime's workers.
    tokio::task::spawn_blocking(move || {
        let passphrase = read(&file).map_err(|error| {
            refuse(format!(
                "keys.{}: {} cannot be read",
                name(kind),
                file.display()
            ))
            .because(error)
        })?;
        WrappingKey::from_passphrase(kind, &passphrase, &salt)
            .map_err(|error: SealError| Error::malformed("keys", error))
    })
    .await
    .map_err(Error::internal)?
}

fn credential(name: &str, settings: &KeySettings) -> Result<PathBuf, Error> {
    let directory = settings.credentials_directory.as_ref().ok_or_else(|| {
        refuse(
            "keys.credential: there is no $CREDENTIALS_DIRECTORY: systemd sets it for a unit with \
             LoadCredentialEncrypted=, and `systemd-run -p LoadCredentialEncrypted=…` for one command"
                .to_owned(),
        )
    })?;
    Ok(directory.join(name))
}

/// Into one buffer that does not grow, so that no copy is left where it grew out of.
fn read(file: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8192));
    std::fs::File::open(file)?
        .take(FILE_MAX_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The platform may mount it so, so it is no fault: on a machine with other users it is one.
fn warn_if_others_read(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(file).map_or(0, |it| it.permissions().mode() & 0o777);
    if mode & 0o007 != 0 {
        tracing::warn!(
            file = %file.display(),
            mode = format!("{mode:o}"),
            "every user of this machine may read the passphrase: chmod 600"
        );
    }
}

/// The key of `[keys]` that names a source of this kind.
fn name(kind: WrappingKind) -> &'static str {
    match kind {
        WrappingKind::Credential => "credential",
        WrappingKind::Passphrase => "passphrase_file",
        WrappingKind::Token => "token",
    }
}

fn refuse(text: String) -> Error {
    Error::new(ErrorKind::Malformed, "keys", text)
}
