//! The installation's key-encryption key.

use std::path::Path;
use std::sync::Arc;

use hsm::sealed::KeyEncryptionKey;
use zeroize::Zeroizing;

use super::{Error, ErrorKind};
use crate::store::Store;
use crate::store::model::Installation;

/// Derives the key from the passphrase in `file`: the store's first use fixes it, every later one must match.
///
/// # Errors
/// When the file cannot be read, the passphrase is another one, or the store is away.
pub async fn unlock(store: &Store, file: &Path) -> Result<Arc<KeyEncryptionKey>, Error> {
    let passphrase = Zeroizing::new(std::fs::read(file).map_err(|error| {
        Error::new(
            ErrorKind::Malformed,
            "passphrase",
            format!("keys.passphrase_file: {} cannot be read", file.display()),
        )
        .because(error)
    })?);
    warn_if_others_read(file);
    if let Some(installation) = store.installation().await? {
        let key = derive(passphrase, installation.kek_salt).await?;
        key.verify_check(&installation.kek_check).map_err(|error| {
            Error::new(
                ErrorKind::Malformed,
                "passphrase",
                "keys.passphrase_file holds another passphrase than this installation's keys were sealed under",
            )
            .because(error)
        })?;
        return Ok(key);
    }
    let salt = KeyEncryptionKey::new_salt().map_err(Error::internal)?;
    let key = derive(passphrase.clone(), salt).await?;
    let check = key.check_value().map_err(Error::internal)?;
    store
        .create_installation(&Installation {
            kek_salt: salt,
            kek_check: check,
        })
        .await?;
    Ok(key)
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

/// scrypt takes a good third of a second and 128 MiB: off the runtime's workers.
async fn derive(
    passphrase: Zeroizing<Vec<u8>>,
    salt: [u8; hsm::sealed::SALT_BYTES],
) -> Result<Arc<KeyEncryptionKey>, Error> {
    tokio::task::spawn_blocking(move || KeyEncryptionKey::derive(&passphrase, &salt))
        .await
        .map_err(Error::internal)?
        .map(Arc::new)
        .map_err(|error| Error::malformed("passphrase", error))
}
