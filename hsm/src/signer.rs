//! The one thing a private key does here.

use pki::artefact::{Signature, ToBeSigned};
use pki::key::PublicKey;

/// A private key that signs what was prepared for it.
pub trait Signer: Send + Sync + std::fmt::Debug {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Whether [`Signer::sign`] waits for something outside this process (a token): such a signer gets a thread of
    /// its own and a deadline. One that does not takes some 17 µs (P-256) and is called inline.
    fn may_block(&self) -> bool;

    /// Signs.
    ///
    /// # Errors
    /// When the algorithm is not the key's, or the key's holder fails.
    fn sign(&self, to_be_signed: &ToBeSigned) -> Result<Signature, SignError>;
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// Prepared for a key of another kind.
    #[error("what is to be signed was prepared for a key of another kind")]
    Algorithm,
    /// The key's holder failed.
    #[error("the key's holder did not sign: {0}")]
    Failed(&'static str),
}
