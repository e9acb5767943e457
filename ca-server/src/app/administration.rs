//! How the API is administered: its settings in force, and what its callers may do.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use pki::name::ClusterName;
use pki::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::acts::ActKind;
use super::roles::{Binding, Powers};
use super::{App, Error, ErrorKind};
use crate::authn::oidc::OidcIssuers;
use crate::config::Config;

/// How many replays run at once: each reads every record of its days.
const REPLAYS: usize = 2;

/// What the configuration says of administration.
pub struct Administration {
    /// Whose authority signs administrators' certificates.
    pub home_cluster: ClusterName,
    /// The acts that wait for a second person.
    pub two_person: BTreeSet<ActKind>,
    oidc: OidcIssuers,
    per_minute: u32,
    limiter: DefaultKeyedRateLimiter<String>,
    replays: Arc<Semaphore>,
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
            replays: Arc::new(Semaphore::new(REPLAYS)),
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

    /// A turn at replaying policies, for as long as it is kept.
    ///
    /// # Errors
    /// `Exhausted` when two have theirs.
    pub fn replay_turn(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.replays.clone().try_acquire_owned().map_err(|_| {
            Error::new(
                ErrorKind::Exhausted,
                "replays",
                format!("{REPLAYS} replays are under way: try again when one has ended"),
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
    use std::collections::BTreeMap;

    #[test]
    fn a_third_replay_waits_for_one_to_end() {
        let text = "[server]\ncluster = \"central\"\nnames = [\"localhost\"]\n[store]\nurl = \"sqlite:///x.db\"\n[keys]\npassphrase_file = \"p\"\n";
        let config = Config::parse(text, &BTreeMap::new()).unwrap();
        let administration = Administration::new(&config).unwrap();
        let turns: Vec<_> = (0..REPLAYS)
            .map(|_| administration.replay_turn().unwrap())
            .collect();
        assert_eq!(
            administration.replay_turn().unwrap_err().kind(),
            ErrorKind::Exhausted
        );
        drop(turns);
        assert!(administration.replay_turn().is_ok());
    }
}
