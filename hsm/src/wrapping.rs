//! What the installation's key-encryption key itself rests under: a wrapping key from outside of the store. To change
//! it is to seal 32 bytes again; no authority's key is touched.

use std::fmt;

use zeroize::Zeroizing;

use crate::cipher::{KEY_BYTES, decrypt, encrypt, random};
use crate::memory::scrubbed;
use crate::sealed::{KeyEncryptionKey, SealError};

/// Octets of the salt that a wrapping key is derived with.
pub const SALT_BYTES: usize = 16;
/// The shortest passphrase: below it scrypt is no help.
const PASSPHRASE_MIN_BYTES: usize = 12;
/// The longest passphrase that is read.
pub const PASSPHRASE_MAX_BYTES: usize = 1024;
/// scrypt with N = 2^17, r = 8, p = 1: 128 MiB and some 0.4 s, once per start.
const SCRYPT_LOG_N: u8 = 17;
const CONTEXT_SEAL: &[u8] = b"signet key-encryption key v1";
const CONTEXT_DERIVE: &[u8] = b"signet wrapping key v1";

/// Where a wrapping key comes from. A sealed key-encryption key is bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WrappingKind {
    /// From a systemd credential, by scrypt.
    Credential,
    /// From a passphrase in a file, by scrypt.
    Passphrase,
    /// From a secret that stays in a PKCS#11 token, by HMAC in the token.
    Token,
}

impl WrappingKind {
    const ALL: [Self; 3] = [Self::Credential, Self::Passphrase, Self::Token];

    /// Its name in the store and in interfaces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Passphrase => "passphrase",
            Self::Token => "token",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for WrappingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A salt for a new wrapping.
///
/// # Errors
/// When the system gives no randomness.
pub fn new_salt() -> Result<[u8; SALT_BYTES], SealError> {
    let mut salt = [0; SALT_BYTES];
    random(&mut salt).map_err(|_| SealError::NoRandomness)?;
    Ok(salt)
}

/// What a token's secret authenticates to give the wrapping key of this salt.
#[must_use]
pub fn token_message(salt: &[u8; SALT_BYTES]) -> Vec<u8> {
    [CONTEXT_DERIVE, salt].concat()
}

/// A key from outside of the store. It seals and opens the key-encryption key, and is never written.
pub struct WrappingKey {
    kind: WrappingKind,
    key: Zeroizing<Vec<u8>>,
}

impl WrappingKey {
    /// Derives the key from a passphrase and its salt. Trailing line ends are not part of the passphrase.
    ///
    /// # Errors
    /// When the passphrase has fewer than 12 or more than 1024 bytes.
    pub fn from_passphrase(
        kind: WrappingKind,
        passphrase: &[u8],
        salt: &[u8; SALT_BYTES],
    ) -> Result<Self, SealError> {
        let end = passphrase
            .iter()
            .rposition(|b| !matches!(b, b'\n' | b'\r'))
            .map_or(0, |i| i + 1);
        let passphrase = &passphrase[..end];
        if !(PASSPHRASE_MIN_BYTES..=PASSPHRASE_MAX_BYTES).contains(&passphrase.len()) {
            return Err(SealError::PassphraseLength);
        }
        let params = scrypt::Params::new(SCRYPT_LOG_N, 8, 1).map_err(|_| SealError::Kdf)?;
        let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
        scrubbed(|| scrypt::scrypt(passphrase, salt, &params, &mut key))
            .map_err(|_| SealError::Kdf)?;
        Ok(Self { kind, key })
    }

    /// Takes the 32 bytes that a token made of [`token_message`].
    ///
    /// # Errors
    /// When it is another number of bytes.
    pub fn from_token(mac: Zeroizing<Vec<u8>>) -> Result<Self, SealError> {
        if mac.len() != KEY_BYTES {
            return Err(SealError::Kdf);
        }
        Ok(Self {
            kind: WrappingKind::Token,
            key: mac,
        })
    }

    /// Where it comes from.
    #[must_use]
    pub fn kind(&self) -> WrappingKind {
        self.kind
    }

    /// Seals the key-encryption key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal(&self, key: &KeyEncryptionKey) -> Result<Vec<u8>, SealError> {
        encrypt(&self.key, &self.binding(), key.bytes()).map_err(|_| SealError::NoRandomness)
    }

    /// Opens the key-encryption key.
    ///
    /// # Errors
    /// When it was sealed under another wrapping key or another kind of one, or was changed: one and the same error.
    pub fn open(&self, sealed: &[u8]) -> Result<KeyEncryptionKey, SealError> {
        let bytes =
            decrypt(&self.key, &self.binding(), sealed).map_err(|_| SealError::NotUnderThis)?;
        KeyEncryptionKey::from_bytes(bytes)
    }

    fn binding(&self) -> Vec<u8> {
        [CONTEXT_SEAL, b" ", self.kind.as_str().as_bytes()].concat()
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappingKey({})", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_passphrase(passphrase: &[u8]) -> WrappingKey {
        WrappingKey::from_passphrase(WrappingKind::Passphrase, passphrase, &[7; 16]).unwrap()
    }

    #[test]
    fn opens_under_the_same_passphrase_alone_and_line_ends_do_not_count() {
        let key = KeyEncryptionKey::generate().unwrap();
        let sealed = from_passphrase(b"correct horse battery")
            .seal(&key)
            .unwrap();
        let again = from_passphrase(b"correct horse battery\r\n");
        assert_eq!(again.open(&sealed).unwrap().bytes(), key.bytes());
        for wrong in [&b"wrong horse battery"[..], b"correct horse battery "] {
            let error = from_passphrase(wrong).open(&sealed).unwrap_err();
            assert_eq!(error, SealError::NotUnderThis);
        }
        let mut changed = sealed.clone();
        changed[20] ^= 1;
        assert_eq!(again.open(&changed).unwrap_err(), SealError::NotUnderThis);
        assert_eq!(
            again.open(&sealed[..5]).unwrap_err(),
            SealError::NotUnderThis
        );
    }

    #[test]
    fn a_passphrase_has_bounds() {
        let derive = |passphrase: &[u8]| {
            WrappingKey::from_passphrase(WrappingKind::Passphrase, passphrase, &[7; 16])
        };
        for length in [0, 11, 1025, 1 << 20] {
            let error = derive(&vec![b'x'; length]).unwrap_err();
            assert_eq!(error, SealError::PassphraseLength);
        }
        assert!(derive(b"short\n\n\n\n\n\n\n\n\n\n").is_err());
        assert!(derive(b"\xff\xfe not UTF-8 \x00").is_ok());
    }

    #[test]
    fn is_bound_to_where_the_wrapping_key_comes_from() {
        let key = KeyEncryptionKey::generate().unwrap();
        let mac = || Zeroizing::new(vec![9; KEY_BYTES]);
        let token = WrappingKey::from_token(mac()).unwrap();
        let sealed = token.seal(&key).unwrap();
        assert!(token.open(&sealed).is_ok());
        let posing = WrappingKey {
            kind: WrappingKind::Passphrase,
            key: mac(),
        };
        assert_eq!(posing.open(&sealed).unwrap_err(), SealError::NotUnderThis);
        assert!(WrappingKey::from_token(Zeroizing::new(vec![9; 31])).is_err());
    }
}
