//! A secret in several hands: split so that any `k` of `n` shares give it back and fewer tell nothing (Shamir's scheme
//! over GF(2^8), by `blahaj`, each octet on its own).
//!
//! Inside what is split stands a digest of the secret, so that a wrong combination is told from a right one. Being
//! split itself, it tells nothing to whoever has fewer shares, a short PIN's neither; its length is padded to a line.

mod code;
mod share;

use std::convert::Infallible;

use base64ct::{Base64, Encoding};
use blahaj::Sharks;
use pki::crypto;
use rand_core::{TryCryptoRng, TryRng};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

pub use share::{MAX_SHARE_BYTES, Share, ShareError, Typing};

use code::LINE_BYTES;
use share::{MAX_HOLDERS, MAX_LINES, is_name};

/// The longest secret that is split.
pub const MAX_SECRET_BYTES: usize = MAX_LINES * LINE_BYTES - 1 - DIGEST_BYTES;
/// The shortest payload: five lines, which hold a fresh secret.
const MIN_LINES: usize = 5;
const FRESH_BYTES: usize = 32;
const DIGEST_BYTES: usize = 8;
const CONTEXT: &[u8] = b"signet share secret v1\n";

/// A fresh secret to split: 32 random octets, for [`passphrase`].
///
/// # Errors
/// When the system gives no randomness.
pub fn fresh_secret() -> Result<Zeroizing<Vec<u8>>, SharesError> {
    let mut secret = Zeroizing::new(vec![0; FRESH_BYTES]);
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| SharesError::NoRandomness)?;
    Ok(secret)
}

/// The passphrase that a fresh secret stands for: its base64, so that OpenSSL takes it as well.
#[must_use]
pub fn passphrase(secret: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(Base64::encode_string(secret))
}

/// Splits a secret among `holders`, any `threshold` of whom give it back. `root` labels the shares.
///
/// # Errors
/// When there are fewer than 2 or more than 16 holders, or two of one name, the threshold is not between 2 and their
/// number, a name does not fit into a line, the secret is empty or too long, or the system gives no randomness.
pub fn split(
    secret: &[u8],
    root: &str,
    threshold: u8,
    holders: &[&str],
) -> Result<Vec<Share>, SharesError> {
    let count = u8::try_from(holders.len()).unwrap_or(u8::MAX);
    let named = is_name(root)
        && holders
            .iter()
            .enumerate()
            .all(|(i, holder)| is_name(holder) && !holders[..i].contains(holder));
    if !named || !(2..=MAX_HOLDERS).contains(&count) || !(2..=count).contains(&threshold) {
        return Err(SharesError::Scheme);
    }
    let mut random = Random::default();
    let mut set = [0; 4];
    random.fill(&mut set);
    let payload = payload(secret, set)?;
    let shares = Sharks(threshold)
        .dealer_rng(&payload, &mut random)
        .zip(holders)
        .map(|(dealt, holder)| {
            let octets = Zeroizing::new(Vec::from(&dealt));
            let (number, data) = octets.split_first().ok_or(SharesError::Scheme)?;
            let data = Zeroizing::new(data.to_vec());
            Share::new(root, holder, (threshold, count, *number), set, data)
                .map_err(|_| SharesError::Scheme)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if random.failed {
        return Err(SharesError::NoRandomness);
    }
    Ok(shares)
}

/// Length, secret, zeros, digest: whole lines.
fn payload(secret: &[u8], set: [u8; 4]) -> Result<Zeroizing<Vec<u8>>, SharesError> {
    let length = u8::try_from(secret.len()).map_err(|_| SharesError::SecretLength)?;
    if !(1..=MAX_SECRET_BYTES).contains(&secret.len()) {
        return Err(SharesError::SecretLength);
    }
    let lines = (1 + secret.len() + DIGEST_BYTES).div_ceil(LINE_BYTES);
    let mut payload = Zeroizing::new(vec![0; lines.max(MIN_LINES) * LINE_BYTES]);
    payload[0] = length;
    payload[1..=secret.len()].copy_from_slice(secret);
    let end = payload.len() - DIGEST_BYTES;
    let digest = digest(secret, set);
    payload[end..].copy_from_slice(&digest);
    Ok(payload)
}

fn digest(secret: &[u8], set: [u8; 4]) -> [u8; DIGEST_BYTES] {
    let whole = crypto::sha256_of(&[CONTEXT, &set, secret]);
    let mut first = [0; DIGEST_BYTES];
    first.copy_from_slice(&whole[..DIGEST_BYTES]);
    first
}

/// Shares as they come in, one by one, until there are enough.
#[derive(Debug, Default)]
pub struct Gathered(Vec<Share>);

impl Gathered {
    /// Takes a share.
    ///
    /// # Errors
    /// When it does not belong to the set that was begun with, or this one or another of its holder is there already.
    pub fn add(&mut self, share: Share) -> Result<(), SharesError> {
        for there in &self.0 {
            let (new, old) = (share.head(), there.head());
            if (new.set, new.threshold, new.count) != (old.set, old.threshold, old.count)
                || share.root() != there.root()
                || share.data().len() != there.data().len()
            {
                return Err(SharesError::OtherSet {
                    found: share.set(),
                    begun: there.set(),
                });
            }
            if new.number == old.number {
                return Err(SharesError::Twice { number: new.number });
            }
            if share.holder() == there.holder() {
                return Err(SharesError::OneHolder);
            }
        }
        self.0.push(share);
        Ok(())
    }

    /// How many more it takes; `None` before the first one says so.
    #[must_use]
    pub fn missing(&self) -> Option<u8> {
        let first = self.0.first()?;
        let found = u8::try_from(self.0.len()).unwrap_or(u8::MAX);
        Some(first.threshold().saturating_sub(found))
    }

    /// The shares.
    #[must_use]
    pub fn shares(&self) -> &[Share] {
        &self.0
    }

    /// The secret.
    ///
    /// # Errors
    /// When there are too few shares, or they do not give what was split.
    pub fn combine(&self) -> Result<Zeroizing<Vec<u8>>, SharesError> {
        let missing = self.missing().ok_or(SharesError::None)?;
        if missing > 0 {
            return Err(SharesError::TooFew { missing });
        }
        let mut dealt = Vec::with_capacity(self.0.len());
        for share in &self.0 {
            let mut octets = Zeroizing::new(Vec::with_capacity(share.data().len() + 1));
            octets.push(share.number());
            octets.extend_from_slice(share.data());
            dealt.push(
                blahaj::Share::try_from(octets.as_slice()).map_err(|_| SharesError::DoNotFit)?,
            );
        }
        let set = self.0.first().map_or([0; 4], |share| share.head().set);
        let payload = Sharks(u8::try_from(dealt.len()).unwrap_or(u8::MAX))
            .recover(&dealt)
            .map(Zeroizing::new)
            .map_err(|_| SharesError::DoNotFit)?;
        secret(&payload, set).ok_or(SharesError::DoNotFit)
    }
}

fn secret(payload: &[u8], set: [u8; 4]) -> Option<Zeroizing<Vec<u8>>> {
    let (length, rest) = payload.split_first()?;
    let end = rest.len().checked_sub(DIGEST_BYTES)?;
    let secret = rest[..end].get(..usize::from(*length))?;
    let padding = &rest[secret.len()..end];
    let whole = !secret.is_empty()
        && padding.iter().all(|octet| *octet == 0)
        && rest[end..] == digest(secret, set);
    whole.then(|| Zeroizing::new(secret.to_vec()))
}

/// The system's randomness for a library that cannot be told of a failure: it is remembered, and asked for afterwards.
#[derive(Default)]
struct Random {
    system: Option<SystemRandom>,
    failed: bool,
}

impl Random {
    fn fill(&mut self, octets: &mut [u8]) {
        let system = self.system.get_or_insert_with(SystemRandom::new);
        self.failed |= system.fill(octets).is_err();
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut octets = Zeroizing::new([0; 4]);
        self.fill(octets.as_mut_slice());
        Ok(u32::from_le_bytes(*octets))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut octets = Zeroizing::new([0; 8]);
        self.fill(octets.as_mut_slice());
        Ok(u64::from_le_bytes(*octets))
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), Infallible> {
        self.fill(octets);
        Ok(())
    }
}

impl TryCryptoRng for Random {}

/// Why shares were not made, or do not give a secret. Nothing of either is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharesError {
    /// What they give is not what was split.
    #[error("these shares do not go together: at least one is not as it was handed out")]
    DoNotFit,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// There is not one.
    #[error("no share was given")]
    None,
    /// One person with two shares.
    #[error("two of the shares are one holder's")]
    OneHolder,
    /// Of another splitting.
    #[error("the share is of set {found}, and the ones before it are of set {begun}")]
    OtherSet {
        /// Its set.
        found: String,
        /// The others'.
        begun: String,
    },
    /// Numbers or names that do not do.
    #[error(
        "a secret is split among 2 to 16 holders of different names, and any 2 or more of them give it back"
    )]
    Scheme,
    /// Nothing, or too much, to split.
    #[error("a secret to split has 1 to {MAX_SECRET_BYTES} bytes")]
    SecretLength,
    /// Not enough of them.
    #[error("too few shares: {missing} more {} needed", if *missing == 1 { "is" } else { "are" })]
    TooFew {
        /// How many are missing.
        missing: u8,
    },
    /// The same one again.
    #[error("share {number} was given already")]
    Twice {
        /// Which one.
        number: u8,
    },
}

#[cfg(test)]
mod tests;
