//! Where Signet's private keys live: signers, encrypted key files, keys sealed at rest, and PKCS#11 tokens.
//!
//! A [`Signer`] signs what `pki` prepared and nothing else. Private key bytes live in zeroized memory; what the
//! cryptographic library keeps of them is said in SECURITY.md.

pub mod audit;
mod cipher;
pub mod key_file;
mod memory;
#[cfg(feature = "pkcs11")]
pub mod pkcs11;
pub mod sealed;
pub mod shares;
mod signer;
mod software;
pub mod wrapping;

pub use signer::{CanaryError, SignError, Signer, canary};
pub use software::{KeyLoadError, SoftwareSigner};
