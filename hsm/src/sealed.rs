//! Private keys at rest: sealed under the installation's key-encryption key, bound to what they belong to.

use pki::key::PublicKey;
use pki::name::AuthorityId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::software::{KeyLoadError, SoftwareSigner};

/// Octets of the salt that a key-encryption key is derived with.
pub const SALT_BYTES: usize = 16;
/// The shortest passphrase: below it scrypt is no help.
const PASSPHRASE_MIN_BYTES: usize = 12;
/// The longest passphrase that is read.
const PASSPHRASE_MAX_BYTES: usize = 1024;
/// scrypt with N = 2^17, r = 8, p = 1: 128 MiB and some 0.4 s, once per start.
const SCRYPT_LOG_N: u8 = 17;
const CONTEXT_KEY: &[u8] = b"signet authority key v1";
const CONTEXT_CHECK: &[u8] = b"signet key-encryption key check v1";

/// The installation's key-encryption key. It seals and opens authorities' keys, and is never written.
pub struct KeyEncryptionKey {
    key: LessSafeKey,
    random: SystemRandom,
}

impl KeyEncryptionKey {
    /// Derives the key from a passphrase and the installation's salt. Trailing line ends are not part of the passphrase.
    ///
    /// # Errors
    /// When the passphrase has fewer than 12 or more than 1024 bytes.
    pub fn derive(passphrase: &[u8], salt: &[u8; SALT_BYTES]) -> Result<Self, SealError> {
        let end = passphrase
            .iter()
            .rposition(|b| !matches!(b, b'\n' | b'\r'))
            .map_or(0, |i| i + 1);
        let passphrase = &passphrase[..end];
        if !(PASSPHRASE_MIN_BYTES..=PASSPHRASE_MAX_BYTES).contains(&passphrase.len()) {
            return Err(SealError::PassphraseLength);
        }
        let mut bytes = Zeroizing::new([0u8; 32]);
        let params = scrypt::Params::new(SCRYPT_LOG_N, 8, 1).map_err(|_| SealError::Kdf)?;
        scrypt::scrypt(passphrase, salt, &params, bytes.as_mut_slice())
            .map_err(|_| SealError::Kdf)?;
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_slice()).map_err(|_| SealError::Kdf)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            random: SystemRandom::new(),
        })
    }

    /// A salt for a new installation.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new_salt() -> Result<[u8; SALT_BYTES], SealError> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| SealError::NoRandomness)?;
        Ok(salt)
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
        self.encrypt(&binding(authority, public_key), pkcs8)
    }

    /// Opens an authority's key, and checks that it is the private half of `public_key`.
    ///
    /// # Errors
    /// When the row is another authority's, was changed, or was sealed under another passphrase.
    pub fn open(
        &self,
        authority: &AuthorityId,
        public_key: &PublicKey,
        sealed: &[u8],
    ) -> Result<SoftwareSigner, SealError> {
        let pkcs8 = self.decrypt(&binding(authority, public_key), sealed)?;
        let signer = SoftwareSigner::from_pkcs8(&pkcs8)?;
        if crate::Signer::public_key(&signer) == public_key {
            Ok(signer)
        } else {
            Err(SealError::NotOurs)
        }
    }

    /// A value by which [`KeyEncryptionKey::verify_check`] recognizes this key later.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn check_value(&self) -> Result<Vec<u8>, SealError> {
        self.encrypt(CONTEXT_CHECK, &[])
    }

    /// Whether `value` was made by this key: tells a wrong passphrase before anything else fails.
    ///
    /// # Errors
    /// When it was not.
    pub fn verify_check(&self, value: &[u8]) -> Result<(), SealError> {
        self.decrypt(CONTEXT_CHECK, value).map(|_| ())
    }

    fn encrypt(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| SealError::NoRandomness)?;
        let mut sealed = nonce.to_vec();
        let mut buffer = Zeroizing::new(plain.to_vec());
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                buffer.as_mut_slice(),
            )
            .map_err(|_| SealError::NoRandomness)?;
        sealed.extend_from_slice(&buffer);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    fn decrypt(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, rest) = sealed
            .split_at_checked(NONCE_LEN)
            .ok_or(SealError::NotOurs)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::NotOurs)?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(context), buffer.as_mut_slice())
            .map_err(|_| SealError::NotOurs)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
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
    #[error("the key-encryption key could not be derived")]
    Kdf,
    /// The opened bytes are no key.
    #[error("the sealed key does not load")]
    Key(#[from] KeyLoadError),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// Not sealed by this key for this authority.
    #[error(
        "the sealed key does not open: another passphrase, another authority's row, or changed bytes"
    )]
    NotOurs,
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
        let kek = KeyEncryptionKey::derive(b"correct horse battery\n", &[7; 16]).unwrap();
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

    #[test]
    fn a_wrong_passphrase_is_told_by_the_check_value() {
        let kek = KeyEncryptionKey::derive(b"correct horse battery", &[7; 16]).unwrap();
        let check = kek.check_value().unwrap();
        assert_eq!(kek.verify_check(&check), Ok(()));
        let with_newline =
            KeyEncryptionKey::derive(b"correct horse battery\r\n", &[7; 16]).unwrap();
        assert_eq!(with_newline.verify_check(&check), Ok(()));
        let wrong = KeyEncryptionKey::derive(b"wrong horse battery", &[7; 16]).unwrap();
        assert_eq!(wrong.verify_check(&check), Err(SealError::NotOurs));
        assert!(KeyEncryptionKey::derive(b"short\n\n\n\n\n\n\n\n\n\n", &[7; 16]).is_err());
    }
}
