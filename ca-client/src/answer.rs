//! What a server answered, checked before anything of it is used.
//!
//! A server that errs, or is not who it should be, must not be able to replace a working identity with one that
//! peers refuse, that another key owns, or that carries another name.

use pki::bundle::Bundle;
use pki::certificate::{Certificate, CertificateError, Issuer, IssuerError, SpiffeError};
use pki::csr::VerifiedCsr;
use pki::extension::AltName;
use pki::name::{NameError, TrustDomain};
use pki::serial::Serial;
use pki::time::Timestamp;
use proto::ca::v1::{SignCertificateResponse, TrustBundle};

/// The longest chain that is read, and the most roots.
const MAX_CHAIN: usize = 8;
const MAX_ROOTS: usize = 16;

/// A certificate that is ours, valid, and verifies under the bundle that came with it.
#[derive(Clone, Debug)]
pub struct SignedCertificate {
    chain: Vec<Certificate>,
    bundle: Bundle,
}

impl SignedCertificate {
    /// Leaf first, then each intermediate; no root. Never empty.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The leaf.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.chain[0]
    }

    /// The roots to verify peers with.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The leaf's serial number.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.leaf().serial()
    }

    /// The last second of the leaf's validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.leaf().not_after()
    }

    /// The chain as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(Certificate::to_pem).collect()
    }
}

/// Checks the answer to `csr`: the leaf is no CA's, certifies the request's key, has exactly the names that were
/// asked for (any, where none were), is valid now, belongs to the bundle's trust domain, and its chain verifies up
/// to a root of the bundle.
///
/// The serial number and end that the answer states beside the certificate are not used: the certificate says both.
///
/// # Errors
/// When one of these does not hold.
pub fn check(
    response: &SignCertificateResponse,
    csr: &VerifiedCsr,
    now: Timestamp,
) -> Result<SignedCertificate, AnswerError> {
    let chain = certificates(&response.chain, MAX_CHAIN)?;
    let [leaf, intermediates @ ..] = chain.as_slice() else {
        return Err(AnswerError::Empty);
    };
    let bundle = bundle(response.bundle.as_ref().ok_or(AnswerError::NoBundle)?)?;
    if leaf.claims_authority() {
        return Err(AnswerError::Authority);
    }
    if leaf.spki() != csr.key().spki() {
        return Err(AnswerError::Key);
    }
    check_names(leaf, csr)?;
    if !leaf.is_valid_at(now) {
        return Err(AnswerError::NotValidNow {
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            now,
        });
    }
    if leaf
        .alt_names()
        .iter()
        .any(|name| matches!(name, AltName::Uri(_)))
    {
        let id = leaf.spiffe_id()?;
        if !id.is_in(bundle.trust_domain()) {
            return Err(AnswerError::TrustDomain {
                id: id.to_string(),
                bundle: bundle.trust_domain().clone(),
            });
        }
    }
    check_chain(leaf, intermediates, &bundle, now)?;
    Ok(SignedCertificate { chain, bundle })
}

/// Reads a trust bundle of the contract.
///
/// # Errors
/// When it has no root, or one of them is not a self-signed CA.
pub fn bundle(bundle: &TrustBundle) -> Result<Bundle, AnswerError> {
    let trust_domain = TrustDomain::parse(&bundle.trust_domain)?;
    let roots = certificates(&bundle.roots, MAX_ROOTS)?;
    if roots.is_empty() {
        return Err(AnswerError::NoBundle);
    }
    Ok(Bundle::new(trust_domain, bundle.sequence, roots)?)
}

fn certificates(ders: &[Vec<u8>], most: usize) -> Result<Vec<Certificate>, AnswerError> {
    if ders.len() > most {
        return Err(AnswerError::TooMany {
            came: ders.len(),
            most,
        });
    }
    let read: Result<Vec<_>, _> = ders.iter().map(|der| Certificate::parse(der)).collect();
    Ok(read?)
}

fn check_names(leaf: &Certificate, csr: &VerifiedCsr) -> Result<(), AnswerError> {
    let sorted = |names: &[AltName]| {
        let mut names: Vec<String> = names
            .iter()
            .map(|name| match name {
                // Host names have no case.
                AltName::Dns(_) => name.to_string().to_ascii_lowercase(),
                _ => name.to_string(),
            })
            .collect();
        names.sort();
        names
    };
    let (asked, given) = (sorted(csr.alt_names()), sorted(leaf.alt_names()));
    if asked.is_empty() || asked == given {
        return Ok(());
    }
    Err(AnswerError::Names {
        asked: asked.join(", "),
        given: given.join(", "),
    })
}

/// Tries each root: during a rotation two of them may have the same name.
fn check_chain(
    leaf: &Certificate,
    intermediates: &[Certificate],
    bundle: &Bundle,
    now: Timestamp,
) -> Result<(), AnswerError> {
    let signed = bundle.roots().iter().any(|root| {
        let above: Vec<Certificate> = intermediates.iter().chain([root]).cloned().collect();
        Issuer::from_chain(&above).is_ok_and(|issuer| {
            leaf.issuer() == issuer.name()
                && leaf.verify_by(issuer.key()).is_ok()
                && issuer.not_before() <= now
                && now <= issuer.not_after()
        })
    });
    if signed {
        Ok(())
    } else {
        Err(AnswerError::Chain {
            intermediates: intermediates.len(),
            roots: bundle.roots().len(),
        })
    }
}

/// Why an answer was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The leaf is a CA's.
    #[error("the certificate is a CA's")]
    Authority,
    /// Not one root of the bundle verifies the chain.
    #[error(
        "the chain (leaf and {intermediates} intermediate(s)) does not verify up to any of the bundle's {roots} root(s)"
    )]
    Chain {
        /// How many intermediates came.
        intermediates: usize,
        /// How many roots came.
        roots: usize,
    },
    /// More certificates than anyone needs.
    #[error("{came} certificates came where {most} at most are read")]
    TooMany {
        /// How many came.
        came: usize,
        /// How many are read.
        most: usize,
    },
    /// No certificate.
    #[error("it holds no certificate")]
    Empty,
    /// Another key.
    #[error("the certificate is for another key than the one that was sent")]
    Key,
    /// Other names.
    #[error("the certificate is for {given:?}, {asked:?} was asked for")]
    Names {
        /// What was asked for.
        asked: String,
        /// What came.
        given: String,
    },
    /// No roots.
    #[error("it holds no roots")]
    NoBundle,
    /// A certificate that does not read.
    #[error("a certificate in it does not read")]
    NotACertificate(#[from] CertificateError),
    /// A workload's name that is no SPIFFE id.
    #[error("the certificate's URI is not one SPIFFE id")]
    NotSpiffe(#[from] SpiffeError),
    /// Expired, or not begun.
    #[error("the certificate is valid from {not_before} to {not_after}, and it is {now} here")]
    NotValidNow {
        /// Its first second.
        not_before: Timestamp,
        /// Its last second.
        not_after: Timestamp,
        /// Our time.
        now: Timestamp,
    },
    /// A bundle of another trust domain.
    #[error("the bundle is of trust domain {given}, {asked} was asked for")]
    OtherBundle {
        /// What was asked for.
        asked: TrustDomain,
        /// What came.
        given: TrustDomain,
    },
    /// A root that is none.
    #[error("one of its roots is not a self-signed CA")]
    Root(#[from] IssuerError),
    /// The leaf belongs to another trust domain than the roots.
    #[error("the certificate is for {id}, but the roots are those of trust domain {bundle}")]
    TrustDomain {
        /// The leaf's identity.
        id: String,
        /// The bundle's trust domain.
        bundle: TrustDomain,
    },
    /// The bundle's trust domain is not one.
    #[error("the bundle's trust domain is not one")]
    TrustDomainName(#[from] NameError),
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
