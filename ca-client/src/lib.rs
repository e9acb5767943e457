//! Signet's client: makes keys and requests, gets certificates, and keeps them in files that are whole at any moment.
//!
//! [`enroll`] gets the first certificate for a token; [`Renewal`] renews it at half of its life with the certificate
//! itself as the proof. What a server answers is checked by [`answer`] before anything is written, and
//! [`IdentityDir`] replaces key, chain and bundle together.
//!
//! [`api`] is a client of the REST API, which administers a CA.
//!
//! Time is passed in. A program calls [`install_crypto_provider`] once, before the first connection.

pub mod answer;
pub mod api;
mod atomic;
pub mod bundle;
pub mod contexts;
mod credentials;
mod diagnose;
mod endpoint;
mod enroll;
mod entropy;
mod error;
mod files;
mod hook;
mod identity;
mod pending;
pub mod printable;
mod renew;
mod settings;
mod sign;
#[cfg(test)]
mod stand_in;

pub use answer::{AnswerError, SignedCertificate};
pub use credentials::{CredentialSource, Credentials, CredentialsError, Token};
pub use endpoint::{Endpoint, EndpointError, ServerAddress, ServerName};
pub use enroll::{Answered, Enrolment, Order, Patience, enroll};
pub use entropy::NoRandomness;
pub use error::ClientError;
pub use files::{FileNames, FilesError, IdentityDir, StoredIdentity};
pub use hook::{Hook, HookOutcome};
pub use identity::{IdentityError, KeyKind, NewKey};
pub use renew::{Backoff, Renewal, Renewed, next_renewal};
pub use settings::{Settings, SettingsError, serves_under_own_roots};
pub use sign::sign;

/// Makes ring the process's cryptographic provider; does nothing when there is one already.
pub fn install_crypto_provider() {
    // An error means that another one is installed, which is then the program's choice.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Puts a renewed certificate, PEM, in the place of the one before it; a reader sees all of the old one or all of the new one.
///
/// # Errors
/// When the file cannot be written.
pub fn replace_certificate(path: &std::path::Path, pem: &[u8]) -> std::io::Result<()> {
    atomic::write_atomically(path, pem)
}
