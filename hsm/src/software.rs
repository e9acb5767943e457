//! Keys in this process's memory.

use std::hint::black_box;

use pki::artefact::{Signature, ToBeSigned};
use pki::key::{KeyAlgorithm, KeyError, PublicKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair,
};
use zeroize::Zeroizing;

use crate::memory::scrubbed;
use crate::signer::{SignError, Signer};

/// An ECDSA key in memory: P-256 or P-384. Nothing of it is left there when this is dropped.
pub struct SoftwareSigner {
    /// On the heap: who moves a signer leaves no copy of the key on a stack.
    pair: Box<EcdsaKeyPair>,
    public_key: PublicKey,
    random: SystemRandom,
}

impl SoftwareSigner {
    /// Makes a key. Its PKCS#8 comes back beside it, once, for whoever stores it.
    ///
    /// # Errors
    /// When `algorithm` is not P-256 or P-384, or the system gives no randomness.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<(Self, Zeroizing<Vec<u8>>), KeyLoadError> {
        let signing = signing_algorithm(algorithm)?;
        let pkcs8 = scrubbed(|| {
            EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new())
                .map(|document| Zeroizing::new(document.as_ref().to_vec()))
        })
        .map_err(|_| KeyLoadError::NoRandomness)?;
        Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    /// Loads a key from the DER of a PKCS#8 PrivateKeyInfo.
    ///
    /// # Errors
    /// When it is not an ECDSA key on P-256 or P-384, or its halves do not belong together.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyLoadError> {
        let random = SystemRandom::new();
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
            let signing = signing_algorithm(algorithm)?;
            let pair = scrubbed(|| EcdsaKeyPair::from_pkcs8(signing, pkcs8, &random).map(Box::new));
            if let Ok(pair) = pair {
                let public_key = PublicKey::from_raw(algorithm, pair.public_key().as_ref())?;
                return Ok(Self {
                    pair,
                    public_key,
                    random,
                });
            }
        }
        Err(KeyLoadError::NotEcdsa)
    }
}

fn signing_algorithm(
    algorithm: KeyAlgorithm,
) -> Result<&'static EcdsaSigningAlgorithm, KeyLoadError> {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => Ok(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP384 => Ok(&ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyAlgorithm::Ed25519 | KeyAlgorithm::Rsa { .. } => Err(KeyLoadError::NotEcdsa),
    }
}

impl Drop for SoftwareSigner {
    /// ring wipes no key, and a safe program cannot: another key, which signs nothing, is put in its place. Should the
    /// system give no randomness for it, the old one stays until its memory is used again.
    fn drop(&mut self) {
        let Ok(signing) = signing_algorithm(self.public_key.algorithm()) else {
            return;
        };
        scrubbed(|| {
            let other = EcdsaKeyPair::generate_pkcs8(signing, &self.random)
                .ok()
                .and_then(|other| {
                    EcdsaKeyPair::from_pkcs8(signing, other.as_ref(), &self.random).ok()
                });
            if let Some(other) = other {
                *self.pair = other;
                // Without it the assignment, to memory that is freed next, would not be made.
                black_box(&self.pair);
            }
        });
    }
}

impl Signer for SoftwareSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn may_block(&self) -> bool {
        false
    }

    fn sign(&self, to_be_signed: &ToBeSigned) -> Result<Signature, SignError> {
        if to_be_signed.algorithm() != self.public_key.algorithm().signs_with() {
            return Err(SignError::Algorithm);
        }
        self.pair
            .sign(&self.random, to_be_signed.bytes())
            .map(|signature| Signature::from_bytes(signature.as_ref().to_vec()))
            .map_err(|_| SignError::Failed("the system gave no randomness"))
    }
}

impl std::fmt::Debug for SoftwareSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SoftwareSigner({:?})", self.public_key)
    }
}

/// Why a private key was not loaded or made. Nothing of the key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyLoadError {
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// Not an ECDSA key that we sign with.
    #[error("not a PKCS#8 ECDSA key on P-256 or P-384 with its public key")]
    NotEcdsa,
    /// Its public half is not acceptable.
    #[error("the key's public half is not acceptable")]
    PublicKey(#[from] KeyError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::csr::{VerifiedCsr, prepare_request};
    use pki::name::DistinguishedName;

    #[test]
    fn signs_what_was_prepared_for_it_and_seals() {
        for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
            let (signer, pkcs8) = SoftwareSigner::generate(algorithm).unwrap();
            let name = DistinguishedName::new(None, "x").unwrap();
            let prepared = prepare_request(&name, signer.public_key());
            let again = SoftwareSigner::from_pkcs8(&pkcs8).unwrap();
            let signature = again.sign(prepared.to_be_signed()).unwrap();
            let request = prepared.seal(&signature).unwrap();
            assert_eq!(
                VerifiedCsr::parse(request.der()).unwrap().key(),
                signer.public_key()
            );
        }
    }

    #[test]
    fn another_keys_signature_does_not_seal() {
        let (signer, _) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let (other, _) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let name = DistinguishedName::new(None, "x").unwrap();
        let prepared = prepare_request(&name, signer.public_key());
        let signature = other.sign(prepared.to_be_signed()).unwrap();
        assert!(prepared.seal(&signature).is_err());
    }
}
