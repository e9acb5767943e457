//! How the API is administered: its settings in force, and what its callers may do.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use pki::name::ClusterName;
use pki::time::Timestamp;

use super::acts::ActKind;
use super::roles::{Binding, Powers};
use super::{App, Error, ErrorKind};
use crate::authn::oidc::OidcIssuers;
use crate::config::Config;

/// How many replays run at once: each reads every record of its days.
const REPLAYS: usize = 4;

/// What the configuration says of administration.
pub struct Administration {
    /// Whose authority signs administrators' certificates.
    pub home_cluster: ClusterName,
    /// The acts that wait for a second person.
    pub two_person: BTreeSet<ActKind>,
    oidc: OidcIssuers,
    per_minute: u32,
    limiter: DefaultKeyedRateLimiter<String>,
}

/// Who replays a policy now.
#[derive(Debug, Default)]
pub(super) struct Replays(Mutex<BTreeSet<String>>);

/// A turn at replaying a policy, for as long as it is kept.
#[derive(Debug)]
pub struct ReplayTurn<'a> {
    replays: &'a Replays,
    principal: String,
}

impl Replays {
    fn running(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, principal: &str) -> Result<ReplayTurn<'_>, Error> {
        let mut running = self.running();
        if running.len() >= REPLAYS || !running.insert(principal.to_owned()) {
            return Err(Error::new(
                ErrorKind::Exhausted,
                "replays",
                format!(
                    "replays are under way, one of each caller and {REPLAYS} in all: try again when one has ended"
                ),
            ));
        }
        Ok(ReplayTurn {
            replays: self,
            principal: principal.to_owned(),
        })
    }
}

impl Drop for ReplayTurn<'_> {
    fn drop(&mut self) {
        self.replays.running().remove(&self.principal);
    }
}

impl Administration {
    /// # Errors
    /// When a file of an OIDC issuer does not read.
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let admin = &config.admin;
        let positive = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(positive(admin.per_caller_per_minute))
            .allow_burst(positive(admin.per_caller_per_minute / 6));
        let oidc =
            OidcIssuers::new(&admin.oidc).map_err(|error| Error::malformed("oidc", error))?;
        Ok(Self {
            home_cluster: config.home_cluster.clone(),
            two_person: admin.two_person.clone(),
            per_minute: admin.per_caller_per_minute,
            limiter: RateLimiter::keyed(quota),
            oidc,
        })
    }

    pub(super) fn is_that_of(&self, config: &Config) -> bool {
        self.home_cluster == config.home_cluster
            && self.two_person == config.admin.two_person
            && self.per_minute == config.admin.per_caller_per_minute
    }

    /// Whether a principal may call now.
    ///
    /// # Errors
    /// `Exhausted` when it calls too often.
    pub fn within_rate(&self, principal: &str) -> Result<(), Error> {
        self.limiter.check_key(&principal.to_owned()).map_err(|_| {
            Error::new(
                ErrorKind::Exhausted,
                "rate",
                format!(
                    "more than {} calls a minute: try again in a moment",
                    self.per_minute
                ),
            )
        })
    }

    /// Forgets callers that have been quiet.
    pub fn shrink(&self) {
        self.limiter.retain_recent();
    }

    /// Proves a caller by an OIDC token: its name, and the groups that it is in.
    ///
    /// # Errors
    /// `Unauthenticated` when no configured issuer made the token.
    pub async fn by_token(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<(String, Vec<String>), Error> {
        let proven = self.oidc.authenticate(token, now).await?;
        let groups = proven.groups.iter();
        let groups = groups.map(|group| format!("oidc-group:{}#{group}", proven.issuer));
        let name = format!("oidc:{}#{}", proven.issuer, proven.subject);
        Ok((name, groups.collect()))
    }
}

impl App {
    /// A turn at replaying policies.
    ///
    /// # Errors
    /// `Exhausted` when the principal has one, or too many others have.
    pub fn replay_turn(&self, principal: &str) -> Result<ReplayTurn<'_>, Error> {
        self.replays.turn(principal)
    }

    /// What a principal may do, the groups that it is in counted. Read from the store on every call: a role that is taken is
    /// gone with the next one.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn powers(&self, principal: &str, groups: &[String]) -> Result<Powers, Error> {
        let rows = self.context().store.bindings().await?;
        let key = self.context().row_key()?;
        let mut bindings = Vec::new();
        for row in rows {
            if row.principal != principal && !groups.contains(&row.principal) {
                continue;
            }
            if !row.is_sealed_by(key) {
                tracing::error!(
                    binding.id = row.id,
                    principal = row.principal,
                    "a role binding was not made here and gives nothing: somebody has changed the database"
                );
                continue;
            }
            bindings.push(Binding::from(row));
        }
        Ok(Powers::new(bindings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_replays_once_at_a_time_and_some_do_at_all() {
        let replays = Replays::default();
        let first = replays.turn("cert:0").unwrap();
        let again = replays.turn("cert:0").unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exhausted);
        let names = (1..REPLAYS).map(|n| format!("cert:{n}"));
        let others: Vec<_> = names.map(|name| replays.turn(&name).unwrap()).collect();
        assert!(replays.turn("cert:last").is_err());
        drop(first);
        assert!(replays.turn("cert:last").is_ok());
        drop(others);
    }
}
