//! The key that seals heads of the audit trail: whoever has the database alone cannot make a seal.

use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac::{self, HMAC_SHA256};

use crate::memory::scrubbed;
use crate::sealed::KeyEncryptionKey;

const SALT: &[u8] = b"signet audit key v1";
const PURPOSE: &[u8] = b"heads of the audit trail";
/// Octets of a seal.
pub const SEAL_BYTES: usize = 32;

/// Derived from the installation's key-encryption key, which it does not give away: HKDF-SHA-256, then HMAC-SHA-256.
pub struct AuditKey(Box<hmac::Key>);

impl AuditKey {
    /// The key of an installation: always the same one.
    ///
    /// # Errors
    /// Never in fact: the length that is asked for is HKDF's shortest.
    pub fn derive(from: &KeyEncryptionKey) -> Result<Self, DeriveError> {
        scrubbed(|| {
            let secret = Salt::new(HKDF_SHA256, SALT).extract(from.bytes());
            let key = secret
                .expand(&[PURPOSE], HMAC_SHA256)
                .map_err(|_| DeriveError)?;
            Ok(Self(Box::new(hmac::Key::from(key))))
        })
    }

    /// Seals a message.
    #[must_use]
    pub fn seal(&self, message: &[u8]) -> [u8; SEAL_BYTES] {
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(hmac::sign(&self.0, message).as_ref());
        seal
    }

    /// Whether the seal is this key's, for this message.
    #[must_use]
    pub fn is_seal(&self, message: &[u8], seal: &[u8]) -> bool {
        hmac::verify(&self.0, message, seal).is_ok()
    }
}

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey(...)")
    }
}

/// The audit trail's key could not be derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail's key could not be derived")]
pub struct DeriveError;

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn key(byte: u8) -> AuditKey {
        let from = KeyEncryptionKey::from_bytes(Zeroizing::new(vec![byte; 32])).unwrap();
        AuditKey::derive(&from).unwrap()
    }

    #[test]
    fn a_seal_is_of_one_key_and_one_message() {
        let seal = key(7).seal(b"head");
        assert!(key(7).is_seal(b"head", &seal));
        assert!(!key(8).is_seal(b"head", &seal));
        assert!(!key(7).is_seal(b"heads", &seal));
        assert!(!key(7).is_seal(b"head", &seal[..31]));
        assert_ne!(seal, [0; SEAL_BYTES]);
    }
}
