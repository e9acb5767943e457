//! Who signs: an authority's certificate and the chain above it.

use crate::certificate::Certificate;
use crate::extension::KeyUsage;
use crate::key::{KeyError, KeyId, PublicKey};
use crate::time::Timestamp;

/// An authority as the issuer of certificates and CRLs.
#[derive(Clone, Debug)]
pub struct Issuer {
    name: Vec<u8>,
    key: PublicKey,
    key_id: Vec<u8>,
    path_len: Option<u64>,
    not_before: Timestamp,
    not_after: Timestamp,
    signs_crls: bool,
}

impl Issuer {
    /// Takes the authority's own certificate and, upwards, each CA's above it up to the root. What it signs ends no
    /// later than the first of them.
    ///
    /// # Errors
    /// When a certificate is not a CA's with a key identifier, does not follow from the next one, or the chain does
    /// not end in a self-signed root.
    pub fn from_chain(chain: &[Certificate]) -> Result<Self, IssuerError> {
        let [own, ..] = chain else {
            return Err(IssuerError::Empty);
        };
        let mut not_before = Timestamp::EPOCH;
        let mut not_after = own.not_after();
        for (i, certificate) in chain.iter().enumerate() {
            if !certificate.is_authority() || certificate.extensions().subject_key_id.is_none() {
                return Err(IssuerError::NotAnAuthority { at: i });
            }
            let above = chain.get(i + 1).unwrap_or(certificate);
            if certificate.issuer() != above.subject()
                || certificate.verify_by(&above.public_key()?).is_err()
            {
                return Err(IssuerError::NotSignedByNext { at: i });
            }
            // Below `certificate` stand `i` intermediates (RFC 5280 §4.2.1.9).
            let path_len = certificate
                .extensions()
                .basic_constraints
                .and_then(|(_, n)| n);
            if path_len.is_some_and(|n| u64::try_from(i).unwrap_or(u64::MAX) > n) {
                return Err(IssuerError::PathLength { at: i });
            }
            not_before = not_before.max(certificate.not_before());
            not_after = not_after.min(certificate.not_after());
        }
        let extensions = own.extensions();
        Ok(Self {
            name: own.subject().to_vec(),
            key: own.public_key()?,
            key_id: extensions.subject_key_id.clone().unwrap_or_default(),
            path_len: extensions.basic_constraints.and_then(|(_, n)| n),
            not_before,
            not_after,
            signs_crls: extensions
                .key_usage
                .is_some_and(|u| u.has(KeyUsage::CrlSign)),
        })
    }

    /// DER of its name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The key identifier as its certificate states it.
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// How many CAs may follow below it; `None` for any number.
    #[must_use]
    pub fn path_len(&self) -> Option<u64> {
        self.path_len
    }

    /// The last second at which every CA of its chain is valid.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The first second at which every CA of its chain is valid.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Whether it may sign CRLs.
    #[must_use]
    pub fn signs_crls(&self) -> bool {
        self.signs_crls
    }

    /// Whether its certificates name it by our own key identifier, RFC 7093 method 1.
    #[must_use]
    pub fn has_own_key_id(&self) -> bool {
        KeyId::from_bytes(&self.key_id) == Some(self.key.id())
    }
}

/// Why a chain is no issuer's. Positions count from the authority's own certificate, 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// No certificate.
    #[error("the chain is empty")]
    Empty,
    /// A key that we do not take.
    #[error("a key of the chain is not acceptable")]
    Key(#[from] KeyError),
    /// Not a CA's certificate, or without subject key identifier.
    #[error(
        "certificate {at} of the chain is not a CA's with keyCertSign and a key identifier (RFC 5280 §4.2.1)"
    )]
    NotAnAuthority {
        /// Which one.
        at: usize,
    },
    /// The next one did not sign it; the last must have signed itself.
    #[error(
        "certificate {at} of the chain is not signed by the next one, or the last is not a self-signed root"
    )]
    NotSignedByNext {
        /// Which one.
        at: usize,
    },
    /// More CAs below it than its path length allows.
    #[error(
        "certificate {at} of the chain has more CAs below it than its path length allows (RFC 5280 §4.2.1.9)"
    )]
    PathLength {
        /// Which one.
        at: usize,
    },
}
