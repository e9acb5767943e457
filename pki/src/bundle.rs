//! Trust bundles: the roots that a trust domain believes in.

use crate::certificate::{Certificate, Issuer, IssuerError};
use crate::name::TrustDomain;

/// The roots of one trust domain, with a sequence number that grows with each change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    trust_domain: TrustDomain,
    sequence: u64,
    roots: Vec<Certificate>,
}

impl Bundle {
    /// Takes the roots; doubles are dropped.
    ///
    /// # Errors
    /// When one is not a self-signed CA.
    pub fn new(
        trust_domain: TrustDomain,
        sequence: u64,
        roots: Vec<Certificate>,
    ) -> Result<Self, IssuerError> {
        let mut kept: Vec<Certificate> = Vec::with_capacity(roots.len());
        for root in roots {
            Issuer::from_chain(std::slice::from_ref(&root))?;
            if !kept.contains(&root) {
                kept.push(root);
            }
        }
        Ok(Self {
            trust_domain,
            sequence,
            roots: kept,
        })
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The sequence number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The roots.
    #[must_use]
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// All roots as one PEM text.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(Certificate::to_pem).collect()
    }
}
