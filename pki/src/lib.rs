//! Signet's pure core.
//!
//! Names, certificate requests, profiles, policy, certificates, CRLs, chains, bundles, ceremonies, and the entries of
//! the issuance log and of the audit trail. Nothing here does I/O, reads a clock, draws randomness or holds a private key:
//! callers pass `now` and entropy in, and signatures come back from whoever holds the key.
//!
//! The path of a certificate: [`csr::Csr::parse`] → [`csr::Csr::verify`] → [`policy::decide`] →
//! [`certificate::prepare_leaf`] → a signer signs the [`artefact::ToBeSigned`] → [`artefact::Prepared::seal`].

pub mod artefact;
mod asn1;
pub mod audit;
pub mod bundle;
pub mod canary;
pub mod ceremony;
pub mod certificate;
pub mod crl;
pub mod crypto;
pub mod csr;
pub mod describe;
pub mod extension;
pub mod key;
pub mod lint;
pub mod log;
pub mod name;
pub mod ocsp;
pub mod pem;
pub mod policy;
pub mod profile;
pub mod rotation;
pub mod serial;
pub mod time;
