//! Canaries: what a key signs now and then for no other purpose than to show that it still does.

use crate::artefact::{Artefact, Prepared, private};
use crate::asn1::{self, Der, DerError};
use crate::key::PublicKey;

/// What every canary begins with. No reader takes it for anything else that is signed: 0xff 0x80 is a tag that X.690
/// §8.1.2.4.2 forbids (its number would begin with an empty septet), so that what follows never parses as BER or DER,
/// which certificates, CRLs, requests and OCSP responses begin as; and TLS signs nothing that begins so (RFC 8446 §4.4.3).
const CONTEXT: &[u8] = b"\xff\x80signet canary v1\n";

/// A canary that came back signed. It says nothing and is kept by nobody.
#[derive(Debug)]
pub struct Canary(());

/// Prepares a canary for the holder of `key`. `entropy` makes it another one each time, so that no holder can answer
/// with a signature that it made before.
#[must_use]
pub fn prepare(key: &PublicKey, entropy: [u8; 16]) -> Prepared<Canary> {
    Prepared::new([CONTEXT, &entropy].concat(), key)
}

impl private::Sealed for Canary {}

impl Artefact for Canary {
    type Error = CanaryError;

    fn read(sealed: Vec<u8>) -> Result<Self, CanaryError> {
        // The frame is `Prepared::seal`'s; what it holds is not DER, on purpose.
        let content = Der::only(&sealed, asn1::SEQUENCE)?;
        if content.starts_with(CONTEXT) {
            Ok(Self(()))
        } else {
            Err(CanaryError::Context)
        }
    }
}

/// Why bytes are no canary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanaryError {
    /// They begin otherwise.
    #[error("not a canary: it begins otherwise")]
    Context,
    /// Not even framed as one.
    #[error("not a canary")]
    NotFramed(#[from] DerError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csr::Csr;
    use der::{Decode, Reader, SliceReader};

    fn key() -> PublicKey {
        use rcgen::PublicKeyData;
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        PublicKey::from_spki(&pair.subject_public_key_info()).unwrap()
    }

    #[test]
    fn a_canary_never_parses_as_der_whatever_its_entropy() {
        for byte in 0..=u8::MAX {
            let prepared = prepare(&key(), [byte; 16]);
            let bytes = prepared.to_be_signed().bytes();
            assert!(bytes.starts_with(CONTEXT));
            assert!(der::Header::decode(&mut SliceReader::new(bytes).unwrap()).is_err());
            assert!(SliceReader::new(bytes).unwrap().peek_byte() == Some(0xff));
            assert!(der::Any::from_der(bytes).is_err());
            assert!(Csr::parse(bytes).is_err());
        }
    }

    #[test]
    fn only_what_begins_as_a_canary_reads_as_one() {
        let framed = |content: &[u8]| asn1::sequence(&[content]);
        assert!(Canary::read(framed(CONTEXT)).is_ok());
        assert_eq!(
            Canary::read(framed(b"signet canary v1\n")).unwrap_err(),
            CanaryError::Context
        );
        assert!(matches!(
            Canary::read(CONTEXT.to_vec()),
            Err(CanaryError::NotFramed(_))
        ));
    }
}
