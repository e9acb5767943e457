//! Randomness for names and waiting times; keys draw their own.

use ring::rand::{SecureRandom, SystemRandom};

/// The system gives no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no randomness")]
pub struct NoRandomness;

/// `N` random octets.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut octets = [0; N];
    SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| NoRandomness)?;
    Ok(octets)
}

/// A number from 0 to 1 to spread waiting with; the middle where the system gives none, since waiting needs no secret.
pub(crate) fn jitter() -> f64 {
    random().map_or(0.5, |octets| {
        f64::from(u32::from_be_bytes(octets)) / f64::from(u32::MAX)
    })
}
