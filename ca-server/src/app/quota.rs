//! How many certificates one identity may have in a minute. Who is over it waits, and is refused only after the
//! queue's wait: a sidecar's five quick retries must not make things worse.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota as Rate, RateLimiter};

use super::{Error, ErrorKind};

pub(super) struct Quota(DefaultKeyedRateLimiter<String>);

impl Quota {
    /// A bucket of a tenth that fills with nine tenths a minute: in no minute is it more.
    pub(super) fn per_minute(certificates: u32) -> Self {
        let positive = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let burst = positive(certificates / 10);
        let rate = positive(certificates - certificates / 10);
        Self(RateLimiter::keyed(
            Rate::per_minute(rate).allow_burst(burst),
        ))
    }

    pub(super) async fn wait(&self, identity: &str, longest: Duration) -> Result<(), Error> {
        let identity = identity.to_owned();
        if self.0.check_key(&identity).is_ok() {
            return Ok(());
        }
        let turn = self.0.until_key_ready(&identity);
        tokio::time::timeout(longest, turn).await.map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                "quota",
                "this identity has asked for too many certificates, try again later",
            )
        })
    }

    /// Keeps the table as large as the identities of the last minute.
    pub(super) fn shrink(&self) {
        self.0.retain_recent();
    }
}
