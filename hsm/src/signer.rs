//! The one thing a private key does here.

use pki::artefact::{SealError, Signature, ToBeSigned};
use pki::canary;
use pki::key::PublicKey;
use ring::rand::{SecureRandom, SystemRandom};

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
    /// The key's holder did not answer in time. What it signs later is thrown away.
    #[error("the key's holder did not answer in time")]
    Late,
    /// The token that holds the key did not sign; its words, without a secret.
    #[error("the token did not sign: {0}")]
    Token(String),
}

/// Has `signer` sign a canary, and checks the signature with its public key: that the key is there, works, and is the
/// one it is taken for. Of use to nobody else ([`pki::canary`]).
///
/// # Errors
/// When it does not sign, or signs with another key.
pub fn canary(signer: &dyn Signer) -> Result<(), CanaryError> {
    let mut entropy = [0; 16];
    SystemRandom::new()
        .fill(&mut entropy)
        .map_err(|_| CanaryError::NoRandomness)?;
    let prepared = canary::prepare(signer.public_key(), entropy);
    let signature = signer.sign(prepared.to_be_signed())?;
    prepared.seal(&signature)?;
    Ok(())
}

/// Why a canary did not come back.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// It came back wrong: another key, or a broken holder.
    #[error("the canary came back wrong: the holder signs with another key than it shows")]
    Seal(#[from] SealError),
    /// It did not come back.
    #[error("the canary did not come back")]
    Sign(#[from] SignError),
}
