//! Hashes and signature checks: the one file of this crate that calls ring.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use crate::key::{KeyAlgorithm, PublicKey, SignatureAlgorithm};

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// SHA-256 of `data`.
#[must_use]
pub fn sha256(data: &[u8]) -> Digest {
    sha256_of(&[data])
}

/// SHA-256 of `parts`, one after the other.
#[must_use]
pub fn sha256_of(parts: &[&[u8]]) -> Digest {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// SHA-1 of `data`: a name for keys and issuers in OCSP (RFC 6960 §4.1.1, §4.2.1), and nothing else.
#[must_use]
pub fn sha1(data: &[u8]) -> [u8; 20] {
    let mut digest = [0; 20];
    let found = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, data);
    digest.copy_from_slice(found.as_ref());
    digest
}

/// SHA-384 of `data`.
#[must_use]
pub fn sha384(data: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA384, data)
        .as_ref()
        .to_vec()
}

/// SHA-512 of `data`.
#[must_use]
pub fn sha512(data: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA512, data)
        .as_ref()
        .to_vec()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Reads hexadecimal of either case; `None` for anything else.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok())
        .collect()
}

/// Reads a SHA-256 as 64 hexadecimal digits; `None` for anything else.
#[must_use]
pub fn digest_from_hex(text: &str) -> Option<Digest> {
    from_hex(text)?.try_into().ok()
}

/// The signature does not belong to this key and these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify under the key")]
pub struct BadSignature;

/// Checks an X.509 signature (ECDSA as ASN.1).
///
/// # Errors
/// When the algorithm does not fit the key, or the signature does not verify.
pub fn verify(
    key: &PublicKey,
    algorithm: SignatureAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    let verifier = x509_verifier(key.algorithm(), algorithm).ok_or(BadSignature)?;
    UnparsedPublicKey::new(verifier, key.raw())
        .verify(message, signature)
        .map_err(|_| BadSignature)
}

fn x509_verifier(
    key: KeyAlgorithm,
    algorithm: SignatureAlgorithm,
) -> Option<&'static dyn VerificationAlgorithm> {
    use KeyAlgorithm as K;
    use SignatureAlgorithm as S;
    Some(match (key, algorithm) {
        (K::EcdsaP256, S::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (K::EcdsaP256, S::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (K::EcdsaP384, S::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (K::EcdsaP384, S::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (K::Ed25519, S::Ed25519) => &signature::ED25519,
        (K::Rsa { .. }, S::RsaSha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (K::Rsa { .. }, S::RsaSha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (K::Rsa { .. }, S::RsaSha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips_and_refuses_the_rest() {
        assert_eq!(from_hex(&hex(&[0, 0xff, 0x1a])), Some(vec![0, 0xff, 0x1a]));
        for bad in ["0", "0g", "+1", "é"] {
            assert_eq!(from_hex(bad), None);
        }
    }
}
