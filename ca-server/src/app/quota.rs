//! How many certificates one identity may have in a minute. Who is over it waits, and is refused only after the
//! queue's wait: a sidecar's five quick retries must not make things worse.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota as Rate, RateLimiter};

use super::{Error, ErrorKind};

/// So many calls of one identity wait at most; one more is refused at once. All wake when one may go on.
const WAITING_MAX: usize = 64;

pub(super) struct Quota {
    limiter: DefaultKeyedRateLimiter<String>,
    waiting: Waiting,
}

/// How many calls of each identity wait.
#[derive(Default)]
struct Waiting(Mutex<HashMap<String, usize>>);

/// A call that waits; dropped when it does no longer.
struct Place<'a> {
    waiting: &'a Waiting,
    identity: &'a str,
}

impl Waiting {
    fn enter<'a>(&'a self, identity: &'a str) -> Option<Place<'a>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = waiting.get(identity).copied().unwrap_or(0);
        if here >= WAITING_MAX {
            return None;
        }
        waiting.insert(identity.to_owned(), here + 1);
        Some(Place {
            waiting: self,
            identity,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waiting = &self.waiting.0;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(self.identity) {
            Some(here) if *here > 1 => *here -= 1,
            _ => {
                waiting.remove(self.identity);
            }
        }
    }
}

impl Quota {
    /// A bucket of a tenth that fills with nine tenths a minute: in no minute is it more.
    pub(super) fn per_minute(certificates: u32) -> Self {
        let positive = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let burst = positive(certificates / 10);
        let rate = positive(certificates - certificates / 10);
        Self {
            limiter: RateLimiter::keyed(Rate::per_minute(rate).allow_burst(burst)),
            waiting: Waiting::default(),
        }
    }

    pub(super) async fn wait(&self, identity: &str, longest: Duration) -> Result<(), Error> {
        let refuse = || {
            Error::new(
                ErrorKind::Unavailable,
                "quota",
                "this identity has asked for too many certificates, try again later",
            )
        };
        let key = identity.to_owned();
        if self.limiter.check_key(&key).is_ok() {
            return Ok(());
        }
        let _place = self.waiting.enter(identity).ok_or_else(refuse)?;
        let turn = self.limiter.until_key_ready(&key);
        let waited = tokio::time::timeout(longest, turn).await;
        waited.map_err(|_| refuse())
    }

    /// Keeps the table as large as the identities of the last minute.
    pub(super) fn shrink(&self) {
        self.limiter.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_waits_so_often_and_no_more() {
        let waiting = Waiting::default();
        let places: Vec<_> = (0..WAITING_MAX)
            .filter_map(|_| waiting.enter("a"))
            .collect();
        assert_eq!(places.len(), WAITING_MAX);
        assert!(waiting.enter("a").is_none());
        assert!(waiting.enter("b").is_some(), "another one");
        drop(places);
        assert!(waiting.enter("a").is_some());
        assert!(waiting.0.lock().unwrap().is_empty(), "nothing is kept");
    }
}
