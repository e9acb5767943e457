//! Who gets a turn, and when: bounds on work that change while the server runs.

use std::sync::Arc;
use std::time::Duration;

use pki::name::ClusterName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::quota::Quota;
use super::{Error, ErrorKind};
use crate::config::{Config, Limits};

/// The bounds in force.
pub(crate) struct Turns {
    /// The cluster of a caller that names none.
    pub(crate) default_cluster: Option<ClusterName>,
    limits: Limits,
    permits: Arc<Semaphore>,
    quota: Quota,
}

impl Turns {
    pub(super) fn new(config: &Config) -> Self {
        let limits = config.limits;
        Self {
            default_cluster: config.default_cluster.clone(),
            permits: Arc::new(Semaphore::new(limits.in_flight)),
            quota: Quota::per_minute(limits.per_identity_per_minute),
            limits,
        }
    }

    pub(super) fn are_those_of(&self, config: &Config) -> bool {
        self.limits == config.limits && self.default_cluster == config.default_cluster
    }

    /// Waits for a turn: a queue rather than a refusal, because Istio's agent multiplies a refusal by five.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, Error> {
        let overloaded = || Error::new(ErrorKind::Unavailable, "overload", "overloaded, try again");
        let permit = self.permits.clone().acquire_owned();
        match tokio::time::timeout(self.limits.queue_wait, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(overloaded()),
        }
    }

    /// Waits until `identity` may have another certificate.
    pub(super) async fn quota(&self, identity: &str) -> Result<(), Error> {
        self.quota.wait(identity, self.queue_wait()).await
    }

    /// How long a request waits for its turn.
    pub(crate) fn queue_wait(&self) -> Duration {
        self.limits.queue_wait
    }

    /// Forgets quotas of identities that have been quiet.
    pub(crate) fn shrink(&self) {
        self.quota.shrink();
    }
}
