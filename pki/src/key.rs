//! Public keys: which ones we take, and what we call them.

use std::fmt;
use std::sync::LazyLock;

use num_bigint::BigUint;

use crate::asn1::{self, Der, DerError};
use crate::crypto::{Digest, sha256};

/// What kind of key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// RSA with a modulus of this many bits.
    Rsa {
        /// Length of the modulus in bits, 2048 to 4096.
        bits: u16,
    },
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcdsaP256 => f.write_str("P-256"),
            Self::EcdsaP384 => f.write_str("P-384"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa { bits } => write!(f, "RSA-{bits}"),
        }
    }
}

impl std::str::FromStr for KeyAlgorithm {
    type Err = KeyError;

    /// The name that it is displayed by: `P-256`, `P-384`, `Ed25519`, `RSA-2048`.
    fn from_str(s: &str) -> Result<Self, KeyError> {
        let bits = |s: &str| s.parse().ok().filter(|bits| (2048..=4096).contains(bits));
        match s {
            "P-256" => Ok(Self::EcdsaP256),
            "P-384" => Ok(Self::EcdsaP384),
            "Ed25519" => Ok(Self::Ed25519),
            _ => s
                .strip_prefix("RSA-")
                .and_then(bits)
                .map(|bits| Self::Rsa { bits })
                .ok_or(KeyError::Unsupported),
        }
    }
}

impl KeyAlgorithm {
    /// The algorithm that an authority with such a key signs with.
    #[must_use]
    pub const fn signs_with(self) -> SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => SignatureAlgorithm::EcdsaSha256,
            Self::EcdsaP384 => SignatureAlgorithm::EcdsaSha384,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
            Self::Rsa { .. } => SignatureAlgorithm::RsaSha256,
        }
    }

    /// Whether it is one of RSA's.
    #[must_use]
    pub const fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa { .. })
    }
}

/// How a request, certificate or CRL is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// ecdsa-with-SHA256 (RFC 5758 §3.2).
    EcdsaSha256,
    /// ecdsa-with-SHA384 (RFC 5758 §3.2).
    EcdsaSha384,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// sha256WithRSAEncryption (RFC 4055).
    RsaSha256,
    /// sha384WithRSAEncryption (RFC 4055).
    RsaSha384,
    /// sha512WithRSAEncryption (RFC 4055).
    RsaSha512,
}

/// The whole AlgorithmIdentifier of each algorithm: parameters absent for ECDSA and Ed25519, NULL for RSA.
const ALGORITHM_IDENTIFIERS: [(SignatureAlgorithm, &[u8]); 6] = [
    (
        SignatureAlgorithm::EcdsaSha256,
        &[
            0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
        ],
    ),
    (
        SignatureAlgorithm::EcdsaSha384,
        &[
            0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03,
        ],
    ),
    (
        SignatureAlgorithm::Ed25519,
        &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70],
    ),
    (
        SignatureAlgorithm::RsaSha256,
        &[
            0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05,
            0x00,
        ],
    ),
    (
        SignatureAlgorithm::RsaSha384,
        &[
            0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c, 0x05,
            0x00,
        ],
    ),
    (
        SignatureAlgorithm::RsaSha512,
        &[
            0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d, 0x05,
            0x00,
        ],
    ),
];

impl SignatureAlgorithm {
    /// DER of its AlgorithmIdentifier.
    #[must_use]
    pub fn identifier(self) -> &'static [u8] {
        // Every variant stands in the table; an empty identifier would not survive the self-check of `seal`.
        ALGORITHM_IDENTIFIERS
            .iter()
            .find(|(algorithm, _)| *algorithm == self)
            .map_or(&[], |(_, der)| der)
    }

    /// Recognizes the DER of an AlgorithmIdentifier, byte for byte.
    #[must_use]
    pub fn from_identifier(der: &[u8]) -> Option<Self> {
        ALGORITHM_IDENTIFIERS
            .iter()
            .find(|(_, identifier)| *identifier == der)
            .map(|(algorithm, _)| *algorithm)
    }

    /// Recognizes an AlgorithmIdentifier as requests have it: RSA's NULL may be absent, which RFC 4055 §5 obliges
    /// readers to take and older tools write.
    pub(crate) fn from_request_identifier(der: &[u8]) -> Option<Self> {
        Self::from_identifier(der).or_else(|| {
            let without_null = |identifier: &[u8]| match identifier {
                [0x30, 0x0d, oid @ .., asn1::NULL, 0] => Some(asn1::sequence(&[oid])),
                _ => None,
            };
            ALGORITHM_IDENTIFIERS
                .iter()
                .find(|(_, identifier)| without_null(identifier).as_deref() == Some(der))
                .map(|(algorithm, _)| *algorithm)
        })
    }
}

/// A key's identifier in certificates: RFC 7093 §2 method 1, the leftmost 160 bits of the SHA-256 of the
/// subjectPublicKey's octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 20]);

impl KeyId {
    /// Takes the 20 octets as they stand in a certificate; `None` for another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::crypto::hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A public key of a kind and strength that we take: P-256, P-384, RSA of 2048 to 4096 bits, Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    raw_at: usize,
    algorithm: KeyAlgorithm,
    id: KeyId,
}

impl PublicKey {
    /// Takes the DER of a SubjectPublicKeyInfo.
    ///
    /// An elliptic curve point's place on its curve is checked by the first signature check under the key; a key
    /// comes with one (its request's, its certificate's).
    ///
    /// # Errors
    /// When it is not DER, of a kind we do not take, or weak.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        let mut reader = Der::new(Der::only(spki, asn1::SEQUENCE)?)?;
        let identifier = reader.whole()?;
        let raw = reader.octet_aligned_bits()?;
        reader.end()?;
        let algorithm = match identifier {
            P256_IDENTIFIER => point(raw, 65, KeyAlgorithm::EcdsaP256)?,
            P384_IDENTIFIER => point(raw, 97, KeyAlgorithm::EcdsaP384)?,
            ED25519_IDENTIFIER => ed25519(raw)?,
            RSA_IDENTIFIER => rsa(raw)?,
            _ => return Err(KeyError::Unsupported),
        };
        let mut id = [0; 20];
        id.copy_from_slice(&sha256(raw)[..20]);
        Ok(Self {
            raw_at: spki.len() - raw.len(),
            spki: spki.to_vec(),
            algorithm,
            id: KeyId(id),
        })
    }

    /// Wraps the octets of a subjectPublicKey in their SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki`].
    pub fn from_raw(algorithm: KeyAlgorithm, raw: &[u8]) -> Result<Self, KeyError> {
        let identifier = match algorithm {
            KeyAlgorithm::EcdsaP256 => P256_IDENTIFIER,
            KeyAlgorithm::EcdsaP384 => P384_IDENTIFIER,
            KeyAlgorithm::Ed25519 => ED25519_IDENTIFIER,
            KeyAlgorithm::Rsa { .. } => RSA_IDENTIFIER,
        };
        Self::from_spki(&asn1::sequence(&[identifier, &asn1::bit_string(raw)]))
    }

    /// DER of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The subjectPublicKey's octets.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.spki[self.raw_at..]
    }

    /// Its kind.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Its identifier in certificates.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// SHA-256 of the SubjectPublicKeyInfo, its name in records.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&self.spki)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm, self.id)
    }
}

const P256_IDENTIFIER: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];
const P384_IDENTIFIER: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
    0x00, 0x22,
];
const ED25519_IDENTIFIER: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA_IDENTIFIER: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

fn point(raw: &[u8], length: usize, algorithm: KeyAlgorithm) -> Result<KeyAlgorithm, KeyError> {
    if raw.len() == length && raw[0] == 0x04 {
        Ok(algorithm)
    } else {
        Err(KeyError::CompressedPoint)
    }
}

/// Encodings of the points whose order divides eight, sign bit cleared: signatures under them need no key.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    // y = 0, order 4.
    [0; 32],
    // y = 1, order 1.
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    // The two y of order 8.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    // y = -1, order 2.
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
];

/// Refuses y of the field's order or above (RFC 8032 §5.1.3) and points of small order (RFC 8032 §8.1 leaves
/// both to the verifier; the possession proof of such a key proves nothing).
fn ed25519(raw: &[u8]) -> Result<KeyAlgorithm, KeyError> {
    let mut y: [u8; 32] = raw.try_into().map_err(|_| KeyError::Unsupported)?;
    y[31] &= 0x7f;
    let above_field = y[31] == 0x7f && y[1..31].iter().all(|b| *b == 0xff) && y[0] >= 0xed;
    if above_field || SMALL_ORDER_Y.contains(&y) {
        return Err(KeyError::ForgedEd25519);
    }
    Ok(KeyAlgorithm::Ed25519)
}

/// The odd primes below 752, none of which divides an honest modulus.
static SMALL_PRIMES: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let is_prime = |p: &u32| {
        (2..*p)
            .take_while(|d| d * d <= *p)
            .all(|d| !p.is_multiple_of(d))
    };
    (3..752).filter(is_prime).collect()
});
/// Rounds of Fermat's factorization: what fewer rounds factor has primes far too close together.
const FERMAT_ROUNDS: u32 = 100;

fn rsa(raw: &[u8]) -> Result<KeyAlgorithm, KeyError> {
    let mut reader = Der::new(Der::only(raw, asn1::SEQUENCE)?)?;
    let modulus = reader.decode::<der::asn1::UintRef<'_>>()?;
    let exponent = reader.decode::<der::asn1::UintRef<'_>>()?;
    reader.end()?;
    let modulus = modulus.as_bytes();
    let leading_zeros = modulus
        .first()
        .map_or(0, |b| usize::try_from(b.leading_zeros()).unwrap_or(0));
    let bits = modulus.len() * 8 - leading_zeros.min(modulus.len() * 8);
    // By length first: nothing below runs on a number that a stranger made huge.
    let Ok(bits @ 2048..=4096) = u16::try_from(bits) else {
        return Err(KeyError::RsaSize(bits));
    };
    let exponent = exponent.as_bytes();
    let value = exponent.iter().fold(0u64, |v, b| (v << 8) | u64::from(*b));
    if exponent.len() > 4 || value < 65_537 || value % 2 == 0 {
        return Err(KeyError::RsaExponent);
    }
    let n = BigUint::from_bytes_be(modulus);
    let even = modulus.last().is_none_or(|b| b % 2 == 0);
    if even || SMALL_PRIMES.iter().any(|p| (&n % p) == BigUint::ZERO) || fermat_factors(&n) {
        return Err(KeyError::WeakRsa);
    }
    Ok(KeyAlgorithm::Rsa { bits })
}

fn fermat_factors(n: &BigUint) -> bool {
    let one = BigUint::from(1u32);
    let mut a = n.sqrt();
    if &(&a * &a) < n {
        a += &one;
    }
    let mut b_squared = &a * &a - n;
    for _ in 0..FERMAT_ROUNDS {
        if may_be_square(&b_squared) {
            let root = b_squared.sqrt();
            if &root * &root == b_squared {
                return true;
            }
        }
        b_squared += (&a << 1) + &one;
        a += &one;
    }
    false
}

/// Whether its residues are those of a square: the square root is taken for one candidate in a hundred only.
fn may_be_square(n: &BigUint) -> bool {
    let is_residue =
        |value: u64, modulus: u64| (0..modulus).any(|r| r * r % modulus == value % modulus);
    let low = n.iter_u64_digits().next().unwrap_or(0);
    if !is_residue(low, 64) {
        return false;
    }
    let rest = (n % 45_045u32).iter_u64_digits().next().unwrap_or(0);
    [63, 65, 11]
        .into_iter()
        .all(|modulus| is_residue(rest, modulus))
}

/// Why a key was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The point is not in its uncompressed form (RFC 5480 §2.2).
    #[error(
        "the elliptic curve point is not uncompressed or not of its curve's length (RFC 5480 §2.2)"
    )]
    CompressedPoint,
    /// An Ed25519 point that is not canonical or of small order.
    #[error(
        "the Ed25519 point is not canonical or of small order: anyone could sign for it (RFC 8032 §8)"
    )]
    ForgedEd25519,
    /// Not DER.
    #[error("the public key is not DER")]
    NotDer(#[from] DerError),
    /// The public exponent is even, below 65537 or above 32 bits.
    #[error("the RSA exponent is not an odd number from 65537 up to 32 bits")]
    RsaExponent,
    /// The modulus has this many bits.
    #[error("the RSA modulus has {0} bits, 2048 to 4096 are taken")]
    RsaSize(usize),
    /// A kind of key that Signet does not take.
    #[error("the key is not P-256, P-384, RSA or Ed25519")]
    Unsupported,
    /// The modulus can be factored.
    #[error("the RSA modulus has a small factor, or two factors too close together")]
    WeakRsa,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_ed25519_points_are_refused_in_both_signs() {
        let mut forged: Vec<[u8; 32]> = SMALL_ORDER_Y.to_vec();
        let mut above = [0xff; 32];
        above[31] = 0x7f;
        for low in [0xed, 0xee, 0xff] {
            above[0] = low;
            forged.push(above);
        }
        for mut point in forged {
            for sign in [0, 0x80] {
                point[31] = (point[31] & 0x7f) | sign;
                assert_eq!(
                    PublicKey::from_raw(KeyAlgorithm::Ed25519, &point),
                    Err(KeyError::ForgedEd25519)
                );
            }
        }
    }

    #[test]
    fn honest_keys_are_taken_and_named_by_rfc_7093() {
        for (algorithm, expected) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, KeyAlgorithm::EcdsaP256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, KeyAlgorithm::EcdsaP384),
            (&rcgen::PKCS_ED25519, KeyAlgorithm::Ed25519),
        ] {
            let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
            use rcgen::PublicKeyData;
            let key = PublicKey::from_spki(&pair.subject_public_key_info()).unwrap();
            assert_eq!(key.algorithm(), expected);
            assert_eq!(key.raw(), pair.der_bytes());
            assert_eq!(key.id().as_bytes()[..], sha256(key.raw())[..20]);
        }
    }

    #[test]
    fn a_request_may_leave_rsas_null_out_and_nothing_else() {
        for (algorithm, identifier) in ALGORITHM_IDENTIFIERS {
            let read = SignatureAlgorithm::from_request_identifier;
            assert_eq!(read(identifier), Some(algorithm));
            let mut short = identifier[..identifier.len() - 2].to_vec();
            short[1] -= 2;
            let is_rsa = identifier.ends_with(&[5, 0]);
            assert_eq!(read(&short), is_rsa.then_some(algorithm));
            assert_eq!(SignatureAlgorithm::from_identifier(&short), None);
            let mut null_added = [identifier, &[5, 0]].concat();
            null_added[1] += 2;
            assert_eq!(read(&null_added), None);
        }
    }

    #[test]
    fn fermat_finds_close_primes() {
        let p = BigUint::from(1_000_003u32);
        let q = BigUint::from(1_000_033u32);
        assert!(fermat_factors(&(p * q)));
    }
}
