//! What strangers can make us ask an API server: a token that was refused a moment ago is not asked about again, and one
//! address gets so many questions a second. A made-up key id or issuer is all that a question takes.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use pki::crypto::{Digest, sha256};
use quick_cache::sync::Cache;

/// How long a refusal holds. An account that is made again shortly after has another token.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Refusals that are remembered; each is a digest and a time.
const REFUSALS: usize = 4_096;
/// Questions a second for one address: a node's sidecars that restart together stay below the burst.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(20).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(200).unwrap();

/// Bounds on questions about tokens.
pub(super) struct Patience {
    refused: Cache<Digest, Instant>,
    asked: DefaultKeyedRateLimiter<IpAddr>,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            refused: Cache::new(REFUSALS),
            asked: RateLimiter::keyed(Quota::per_second(PER_SECOND).allow_burst(BURST)),
        }
    }

    /// Whether `token` was refused so short a time ago that the answer is known.
    pub(super) fn was_refused(&self, token: &str) -> bool {
        let digest = sha256(token.as_bytes());
        self.refused
            .get(&digest)
            .is_some_and(|at| at.elapsed() < REFUSED_FOR)
    }

    pub(super) fn note_refusal(&self, token: &str) {
        self.refused
            .insert(sha256(token.as_bytes()), Instant::now());
    }

    /// Waits until `remote` may have another question asked.
    pub(super) async fn turn_of(&self, remote: IpAddr) {
        self.asked.until_key_ready(&remote).await;
        // Addresses that are quiet are forgotten, so that a scan of many leaves nothing behind.
        if self.asked.len() > REFUSALS {
            self.asked.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_of_one_token() {
        let patience = Patience::new();
        patience.note_refusal("a");
        assert!(patience.was_refused("a"));
        assert!(!patience.was_refused("b"));
    }

    #[tokio::test]
    async fn one_address_that_floods_does_not_hold_up_another() {
        let patience = Patience::new();
        let (loud, quiet) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..BURST.get() {
            patience.turn_of(loud).await;
        }
        assert!(patience.asked.check_key(&loud).is_err());
        assert!(patience.asked.check_key(&quiet).is_ok());
    }
}
