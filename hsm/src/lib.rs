//! Where Signet's private keys live: signers, encrypted key files, and keys sealed at rest.
//!
//! A [`Signer`] signs what `pki` prepared and nothing else. Private key bytes live in zeroized memory; what the
//! cryptographic library keeps of them is said in SECURITY.md.

mod cipher;
pub mod key_file;
mod memory;
pub mod sealed;
mod signer;
mod software;
pub mod wrapping;

pub use signer::{SignError, Signer};
pub use software::{KeyLoadError, SoftwareSigner};
