//! What is prepared here, signed elsewhere, and sealed here again.
//!
//! This is how Signet is no signing oracle by type: a signer takes a [`ToBeSigned`], only this crate makes one, and
//! what a signer gives back becomes an artefact only through [`Prepared::seal`], which checks it.

use std::marker::PhantomData;

use crate::asn1;
use crate::crypto::{self, BadSignature};
use crate::key::{PublicKey, SignatureAlgorithm};

/// Bytes that `pki` prepared for one key to sign.
#[derive(Debug)]
pub struct ToBeSigned {
    bytes: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl ToBeSigned {
    /// What goes through the signature algorithm, whole (not a digest of it).
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How it is to be signed.
    #[must_use]
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

/// A signature as X.509 carries it: ECDSA as DER of `SEQUENCE { r, s }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(Vec<u8>);

impl Signature {
    /// Takes what a signer made.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Takes an ECDSA signature as tokens make it: r and s, each as long as the curve's order, one after the other
    /// (PKCS#11 §6.3.1). `None` when there are no two halves of 1 to 66 bytes.
    #[must_use]
    pub fn from_ecdsa_halves(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(2) || bytes.len() > 2 * 66 {
            return None;
        }
        let (r, s) = bytes.split_at(bytes.len() / 2);
        Some(Self(asn1::sequence(&[
            &asn1::unsigned_bytes(r),
            &asn1::unsigned_bytes(s),
        ])))
    }
}

/// A finished thing that can be read back from its DER.
pub trait Artefact: Sized + private::Sealed {
    /// What is wrong with bytes that are not one.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are not the DER of one.
    fn read(der: Vec<u8>) -> Result<Self, Self::Error>;
}

pub(crate) mod private {
    pub trait Sealed {}
}

/// An artefact that only lacks its signature.
#[derive(Debug)]
pub struct Prepared<T> {
    to_be_signed: ToBeSigned,
    signing_key: PublicKey,
    /// What follows the signature, unsigned: the certificates of an OCSP response.
    trailer: Vec<u8>,
    artefact: PhantomData<fn() -> T>,
}

impl<T: Artefact> Prepared<T> {
    /// Holds `bytes` for the holder of `signing_key`.
    pub(crate) fn new(bytes: Vec<u8>, signing_key: &PublicKey) -> Self {
        Self::with_trailer(bytes, signing_key, Vec::new())
    }

    /// The same, with DER that follows the signature.
    pub(crate) fn with_trailer(bytes: Vec<u8>, signing_key: &PublicKey, trailer: Vec<u8>) -> Self {
        Self {
            trailer,
            to_be_signed: ToBeSigned {
                bytes,
                algorithm: signing_key.algorithm().signs_with(),
            },
            signing_key: signing_key.clone(),
            artefact: PhantomData,
        }
    }

    /// What the signer signs.
    #[must_use]
    pub fn to_be_signed(&self) -> &ToBeSigned {
        &self.to_be_signed
    }

    /// The key that has to sign it.
    #[must_use]
    pub fn signing_key(&self) -> &PublicKey {
        &self.signing_key
    }

    /// Puts the signature on: verifies it with the signing key, writes the artefact and reads it back.
    ///
    /// # Errors
    /// When the signature is not the signing key's over these bytes (a faulty token, a swapped key), or the result
    /// does not read back.
    pub fn seal(self, signature: &Signature) -> Result<T, SealError> {
        let ToBeSigned { bytes, algorithm } = self.to_be_signed;
        crypto::verify(&self.signing_key, algorithm, &bytes, &signature.0)?;
        let der = asn1::sequence(&[
            &bytes,
            algorithm.identifier(),
            &asn1::bit_string(&signature.0),
            &self.trailer,
        ]);
        T::read(der).map_err(|error| SealError::Unreadable(Box::new(error)))
    }
}

/// Why a signature did not make an artefact.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The signer's output is not a signature of the issuer's key over what was prepared.
    #[error("the signer did not sign with the issuer's key")]
    Signature(#[from] BadSignature),
    /// What was written could not be read again.
    #[error("the sealed artefact does not read back")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_halves_become_der_of_two_positive_numbers() {
        let der = |bytes: &[u8]| Signature::from_ecdsa_halves(bytes).map(|s| s.0);
        // A leading zero goes, a high bit gets one, and zero stays a number.
        assert_eq!(
            der(&[0, 1, 0x80, 2]),
            Some(vec![0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 2])
        );
        assert_eq!(
            der(&[0, 0, 0x7f, 0]),
            Some(vec![0x30, 7, 2, 1, 0, 2, 2, 0x7f, 0])
        );
        for refused in [0, 1, 3, 65, 134] {
            assert_eq!(der(&vec![1; refused]), None, "{refused}");
        }
    }
}
