//! Private keys at rest: sealed under the installation's key-encryption key, bound to what they belong to.

use pki::key::PublicKey;
use pki::name::AuthorityId;
use zeroize::Zeroizing;

use crate::cipher::{KEY_BYTES, decrypt, encrypt, random};
use crate::software::{KeyLoadError, SoftwareSigner};

const CONTEXT_KEY: &[u8] = b"signet authority key v1";

/// The installation's key-encryption key: random, made once, never changed. It seals and opens authorities' keys, and
/// rests under a [`crate::wrapping::WrappingKey`].
pub struct KeyEncryptionKey(Zeroizing<Vec<u8>>);

impl KeyEncryptionKey {
    /// Makes the key of a new installation.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new(vec![0; KEY_BYTES]);
        random(&mut bytes).map_err(|_| SealError::NoRandomness)?;
        Ok(Self(bytes))
    }

    pub(crate) fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Result<Self, SealError> {
        if bytes.len() == KEY_BYTES {
            Ok(Self(bytes))
        } else {
            Err(SealError::NotUnderThis)
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Seals the PKCS#8 of an authority's key, bound to the authority's id and public key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal(
        &self,
        authority: &AuthorityId,
        public_key: &PublicKey,
        pkcs8: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        encrypt(&self.0, &binding(authority, public_key), pkcs8)
            .map_err(|_| SealError::NoRandomness)
    }

    /// Opens an authority's key, and checks that it is the private half of `public_key`.
    ///
    /// # Errors
    /// When the row is another authority's, was changed, or was sealed in another installation.
    pub fn open(
        &self,
        authority: &AuthorityId,
        public_key: &PublicKey,
        sealed: &[u8],
    ) -> Result<SoftwareSigner, SealError> {
        let pkcs8 = decrypt(&self.0, &binding(authority, public_key), sealed)
            .map_err(|_| SealError::NotOurs)?;
        let signer = SoftwareSigner::from_pkcs8(&pkcs8)?;
        if crate::Signer::public_key(&signer) == public_key {
            Ok(signer)
        } else {
            Err(SealError::NotOurs)
        }
    }

    /// Seals bytes that are no key, bound to a context: whoever opens them has to name the same.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal_bytes(&self, context: &[u8], bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        encrypt(&self.0, &labelled(context), bytes).map_err(|_| SealError::NoRandomness)
    }

    /// Opens what was sealed by [`Self::seal_bytes`] in the same context.
    ///
    /// # Errors
    /// When it was sealed in another context, by another installation, or was changed.
    pub fn open_bytes(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        decrypt(&self.0, &labelled(context), sealed)
            .map(|bytes| bytes.to_vec())
            .map_err(|_| SealError::NotOurs)
    }
}

/// No authority's binding begins like this.
fn labelled(context: &[u8]) -> Vec<u8> {
    [b"signet bytes v1\0", context].concat()
}

impl std::fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyEncryptionKey(...)")
    }
}

fn binding(authority: &AuthorityId, public_key: &PublicKey) -> Vec<u8> {
    let id = authority.as_str().as_bytes();
    let length = u16::try_from(id.len()).unwrap_or(u16::MAX).to_be_bytes();
    [CONTEXT_KEY, &length, id, public_key.spki()].concat()
}

/// Why a key was not sealed or opened. Nothing of the key or the passphrase is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key derivation failed.
    #[error("the wrapping key could not be derived")]
    Kdf,
    /// The opened bytes are no key.
    #[error("the sealed key does not load")]
    Key(#[from] KeyLoadError),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// Not sealed by this key for this authority.
    #[error(
        "the sealed key does not open: another installation's, another authority's row, or changed bytes"
    )]
    NotOurs,
    /// Not sealed under this wrapping key.
    #[error("the key-encryption key does not open: sealed under something else, or changed bytes")]
    NotUnderThis,
    /// A passphrase too short or too long.
    #[error("a passphrase has 12 to 1024 bytes")]
    PassphraseLength,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signer;
    use pki::key::KeyAlgorithm;

    #[test]
    fn a_sealed_key_opens_for_its_own_authority_alone() {
        let kek = KeyEncryptionKey::generate().unwrap();
        let (signer, pkcs8) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let (other, _) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let id = AuthorityId::parse("central-1").unwrap();
        let sealed = kek.seal(&id, signer.public_key(), &pkcs8).unwrap();
        assert!(kek.open(&id, signer.public_key(), &sealed).is_ok());

        let swapped = AuthorityId::parse("central-2").unwrap();
        assert_eq!(
            kek.open(&swapped, signer.public_key(), &sealed)
                .unwrap_err(),
            SealError::NotOurs
        );
        assert_eq!(
            kek.open(&id, other.public_key(), &sealed).unwrap_err(),
            SealError::NotOurs
        );
        let mut changed = sealed.clone();
        changed[20] ^= 1;
        assert_eq!(
            kek.open(&id, signer.public_key(), &changed).unwrap_err(),
            SealError::NotOurs
        );
        assert!(kek.open(&id, signer.public_key(), &sealed[..5]).is_err());
    }
}
