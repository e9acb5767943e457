//! Renewal: when, with what proof, and what happens when it does not work.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use pki::extension::Purpose;
use pki::time::{Timestamp, Ttl};

use crate::answer::SignedCertificate;
use crate::credentials::{CredentialSource, Credentials, CredentialsError};
use crate::endpoint::Endpoint;
use crate::enroll::{Enrolment, Order};
use crate::entropy;
use crate::error::{ClientError, chain};
use crate::files::{IdentityDir, StoredIdentity};
use crate::hook::{Hook, HookOutcome};
use crate::identity::names_of;

/// The longest sleep before the clock is read again: machines are suspended and clocks are set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// When to renew a certificate: at half of its life, give or take 5 % of its life, so that a fleet that was enrolled
/// in one minute does not renew in one. `jitter` goes from 0 (earliest) to 1 (latest); what lies outside counts as the
/// nearer end.
#[must_use]
pub fn next_renewal(not_before: Timestamp, not_after: Timestamp, jitter: f64) -> Timestamp {
    let life = not_after.seconds_since(not_before).max(0);
    let jitter = if jitter.is_nan() {
        0.5
    } else {
        jitter.clamp(0.0, 1.0)
    };
    // From 450 to 550 thousandths; the fraction is between 0 and 100, so the cast loses nothing that matters.
    let thousandths = 450 + (jitter * 100.0) as i64;
    match Ttl::from_seconds(life * thousandths / 1_000) {
        Ok(wait) => not_before.plus(wait),
        Err(_) => not_before,
    }
}

/// How long to wait after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The bound.
    pub longest: Duration,
}

impl Default for Backoff {
    /// From 1 s to 5 min.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
        }
    }
}

impl Backoff {
    /// The pause after `failures` failures in a row: doubled with each, bounded, and then between half of that
    /// (`jitter` 0) and all of it (`jitter` 1).
    #[must_use]
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        let full = self.first.saturating_mul(doubled).min(self.longest);
        let jitter = if jitter.is_nan() {
            1.0
        } else {
            jitter.clamp(0.0, 1.0)
        };
        full.mul_f64(0.5 + jitter / 2.0)
    }
}

/// An identity that is kept alive.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// Where it lies.
    pub directory: IdentityDir,
    /// Who signs.
    pub endpoint: Endpoint,
    /// Whether the identity's own bundle vouches for the server too, so that a change of roots is followed.
    pub follow_bundle: bool,
    /// What is ordered; names are those of the current certificate.
    pub order: Order,
    /// The proof where the certificate is none: it has expired, or is not good for TLS clients (profile `server`).
    pub fallback: Option<CredentialSource>,
    /// What runs after each renewal.
    pub hook: Option<Hook>,
    /// The pauses after failures.
    pub backoff: Backoff,
}

/// A renewal that worked.
#[derive(Debug)]
pub struct Renewed {
    /// The certificate, on disk.
    pub signed: SignedCertificate,
    /// How the hook ended, where there is one.
    pub hook: Option<HookOutcome>,
}

impl Renewal {
    /// Renews now: a new key, the same names, the current certificate as proof (or the fallback's token, where
    /// the certificate is none). Then runs the hook, whose failure is logged and undoes nothing.
    ///
    /// # Errors
    /// As [`ClientError`] says; the identity in the directory is then as before.
    pub async fn once(&self, now: Timestamp) -> Result<Renewed, ClientError> {
        let current = self.directory.load()?;
        let credentials = self.credentials(&current, now)?;
        let names = names_of(current.leaf())?;
        let endpoint = self.endpoint(&current)?;
        let enrolment = Enrolment {
            endpoint: &endpoint,
            credentials: &credentials,
            names: &names,
            order: &self.order,
            directory: &self.directory,
        };
        let answered = enrolment.ask(now).await?;
        if self.hook.is_some() {
            // Before the new set is there: a kill after that would leave a program with the old one until it expires.
            self.directory.set_hook_due(true)?;
        }
        let signed = answered.write(&self.directory, now)?;
        let hook = self.run_hook().await;
        Ok(Renewed { signed, hook })
    }

    async fn run_hook(&self) -> Option<HookOutcome> {
        let hook = self.hook.as_ref()?;
        let outcome = hook.run(&absolute(self.directory.path())).await;
        outcome.log();
        // One that failed is due again at the next start.
        if matches!(outcome, HookOutcome::Done)
            && let Err(error) = self.directory.set_hook_due(false)
        {
            tracing::warn!(error = chain(&error), "the hook will run once more");
        }
        Some(outcome)
    }

    fn credentials(
        &self,
        current: &StoredIdentity,
        now: Timestamp,
    ) -> Result<Credentials, ClientError> {
        let leaf = current.leaf();
        let purposes = leaf.extensions().purposes.as_ref();
        let is_client = purposes.is_none_or(|all| all.contains(&Purpose::ClientAuth));
        match &self.fallback {
            Some(source) if !is_client || now > leaf.not_after() => Ok(source.read()?),
            None if !is_client => Err(CredentialsError::NotAClient.into()),
            // Expired and no fallback: the server will say no, and the reader of the log sees why.
            _ => Ok(Credentials::Certificate {
                chain: current.chain_pem.clone(),
                key: current.key_pem.clone(),
            }),
        }
    }

    fn endpoint(&self, current: &StoredIdentity) -> Result<Endpoint, ClientError> {
        if self.follow_bundle {
            Ok(self.endpoint.with_more_roots(&current.bundle_pem)?)
        } else {
            Ok(self.endpoint.clone())
        }
    }

    /// Renews at half-life, for as long as `stop` is not done, and first runs the hook of a renewal whose process was killed
    /// before it could. Failures are logged and tried again, with growing
    /// pauses; it never gives up, neither before the certificate has expired nor after.
    ///
    /// # Errors
    /// When there is no identity to renew at the start.
    pub async fn watch(
        &self,
        clock: &dyn Fn() -> Timestamp,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ClientError> {
        self.directory.load()?;
        tokio::select! {
            () = self.renew_for_ever(clock) => {}
            () = stop => {}
        }
        Ok(())
    }

    async fn renew_for_ever(&self, clock: &dyn Fn() -> Timestamp) {
        if self.directory.is_hook_due() {
            self.run_hook().await;
        }
        loop {
            self.sleep_until_due(clock).await;
            let mut failures = 0;
            loop {
                let error = match self.once(clock()).await {
                    Ok(renewed) => {
                        log_renewed(&renewed.signed);
                        break;
                    }
                    Err(error) => error,
                };
                failures += 1;
                let pause = self.backoff.delay(failures, entropy::jitter());
                self.log_failure(&error, pause, clock());
                tokio::time::sleep(pause).await;
            }
            // However short a life the server gives, it is not asked without a pause.
            tokio::time::sleep(self.backoff.first).await;
        }
    }

    /// Sleeps until the certificate is due, looking again now and then: it may have been replaced by hand, and the
    /// clock may have been set. A directory that does not read is due at once, so that the failure is seen.
    async fn sleep_until_due(&self, clock: &dyn Fn() -> Timestamp) {
        let jitter = entropy::jitter();
        let mut announced = None;
        while let Ok(current) = self.directory.load() {
            let leaf = current.leaf().clone();
            // The key does not stay in memory while we sleep.
            drop(current);
            let due = next_renewal(leaf.not_before(), leaf.not_after(), jitter);
            if announced != Some(leaf.serial()) {
                announced = Some(leaf.serial());
                tracing::info!(
                    cert.serial = %leaf.serial(),
                    cert.not_after = %leaf.not_after(),
                    %due,
                    "watching"
                );
            }
            let left = u64::try_from(due.seconds_since(clock())).unwrap_or(0);
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(left).min(LONGEST_SLEEP)).await;
        }
    }

    fn log_failure(&self, error: &ClientError, pause: Duration, now: Timestamp) {
        let advice = error.advice().unwrap_or("");
        let error = chain(error);
        let left = self
            .directory
            .load()
            .map(|current| current.leaf().not_after().seconds_since(now));
        let pause_s = pause.as_secs_f64();
        match left {
            Ok(left_s) if left_s >= 0 => {
                tracing::warn!(error, advice, pause_s, left_s, "not renewed");
            }
            Ok(left_s) => tracing::error!(
                error,
                advice,
                pause_s,
                expired_s = -left_s,
                "not renewed, and the certificate HAS EXPIRED"
            ),
            Err(_) => tracing::error!(error, advice, pause_s, "not renewed"),
        }
    }
}

fn log_renewed(signed: &SignedCertificate) {
    tracing::info!(
        cert.serial = %signed.serial(),
        cert.not_after = %signed.not_after(),
        "renewed"
    );
}

/// Where the hook finds the directory from wherever it goes.
fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_days_certificate_is_due_between_its_eleventh_and_fourteenth_hour() {
        let begin = Timestamp::from_unix(1_795_488_780);
        let end = begin.plus(Ttl::hours(24));
        let due = |jitter| next_renewal(begin, end, jitter).seconds_since(begin);
        assert_eq!(due(0.5), 12 * 3_600);
        assert_eq!(due(0.0), 24 * 3_600 * 45 / 100);
        assert_eq!(due(1.0), 24 * 3_600 * 55 / 100);
    }

    #[test]
    fn pauses_double_up_to_the_bound() {
        let backoff = Backoff::default();
        let full = |failures| backoff.delay(failures, 1.0).as_secs();
        assert_eq!([1, 2, 3, 4].map(full), [1, 2, 4, 8]);
        assert_eq!(full(9), 256);
        assert_eq!(full(10), 300);
        assert_eq!(full(u32::MAX), 300);
        assert_eq!(backoff.delay(4, 0.0), Duration::from_secs(4));
    }

    proptest! {
        #[test]
        fn renewal_lies_within_five_percent_of_half_life(
            begin in 0i64..4_000_000_000,
            life in 0i64..1_000_000_000,
            jitter in proptest::num::f64::ANY,
        ) {
            let begin = Timestamp::from_unix(begin);
            let end = Timestamp::from_unix(begin.unix() + life);
            let wait = next_renewal(begin, end, jitter).seconds_since(begin);
            prop_assert!(wait >= life * 45 / 100 - 1 && wait <= life * 55 / 100 + 1, "{wait} of {life}");
            prop_assert!(wait <= life);
        }

        #[test]
        fn a_certificate_that_ends_before_it_begins_is_due_at_once(begin: i64, end: i64) {
            let (begin, end) = (Timestamp::from_unix(begin), Timestamp::from_unix(end));
            prop_assume!(end <= begin);
            prop_assert_eq!(next_renewal(begin, end, 1.0), begin);
        }

        #[test]
        fn pauses_stay_between_half_and_all(failures: u32, jitter in proptest::num::f64::ANY) {
            let backoff = Backoff::default();
            let full = backoff.delay(failures, 1.0);
            let pause = backoff.delay(failures, jitter);
            prop_assert!(pause <= full && pause >= full / 2);
            prop_assert!(full >= backoff.first && full <= backoff.longest);
        }
    }
}
