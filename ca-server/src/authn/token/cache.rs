//! Tokens that were proven a moment ago.
//!
//! A sidecar shows the same token at every renewal and every retry; its signature costs 27 to 63 µs, this lookup 2. The
//! cache holds digests, never tokens, and forgets no rule: what it answers was proven by the very same set of issuers,
//! and its times are checked again at each hit. Losing it costs time and nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pki::crypto::{Digest, sha256_of};
use pki::time::Timestamp;

use super::check_window;
use super::error::TokenError;
use super::issuer::{Authenticated, IssuerSet, authenticate_by};

/// How many tokens are remembered by default; each has some 1 KiB.
const CAPACITY: usize = 10_000;

/// Proven tokens by the SHA-256 of issuer set and token, in two generations: when the young one is full it becomes the
/// old one, and what was old is forgotten.
pub struct TokenCache {
    generations: Mutex<Generations>,
    per_generation: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Digest, Authenticated>,
    old: HashMap<Digest, Authenticated>,
}

impl TokenCache {
    /// A cache of 10,000 tokens.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    /// A cache of at most `capacity` tokens, at least two.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            generations: Mutex::default(),
            per_generation: (capacity / 2).max(1),
        }
    }

    /// As [`authenticate_by`], without the signature check when this token was proven by this set before. Refusals are not
    /// remembered.
    ///
    /// # Errors
    /// As [`authenticate_by`].
    pub fn authenticate(
        &self,
        token: &str,
        set: &IssuerSet,
        now: Timestamp,
    ) -> Result<Authenticated, TokenError> {
        let key = sha256_of(&[&set.id().to_be_bytes(), token.as_bytes()]);
        if let Some(known) = self.recall(&key, now) {
            return known;
        }
        let proven = authenticate_by(token, set.issuers(), now)?;
        self.remember(key, proven.clone());
        Ok(proven)
    }

    /// Forgets everything. A new [`IssuerSet`] never meets the proofs of another, so this only saves memory.
    pub fn clear(&self) {
        *self.lock() = Generations::default();
    }

    /// How many tokens are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        let generations = self.lock();
        generations.young.len() + generations.old.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn recall(&self, key: &Digest, now: Timestamp) -> Option<Result<Authenticated, TokenError>> {
        let mut generations = self.lock();
        let (known, was_old) = match generations.young.get(key) {
            Some(known) => (known.clone(), false),
            None => (generations.old.remove(key)?, true),
        };
        if let Err(error) = check_window(known.not_before, known.account.expires_at, now) {
            generations.young.remove(key);
            return Some(Err(error));
        }
        if was_old {
            self.put(&mut generations, *key, known.clone());
        }
        Some(Ok(known))
    }

    fn remember(&self, key: Digest, proven: Authenticated) {
        self.put(&mut self.lock(), key, proven);
    }

    fn put(&self, generations: &mut Generations, key: Digest, proven: Authenticated) {
        if generations.young.len() >= self.per_generation {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, proven);
    }

    /// A panic cannot leave a proof half written, so a poisoned lock is as good as any.
    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for TokenCache {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenCache(...)")
    }
}
