//! Who asks, proven.

use std::sync::Arc;

use pki::name::{AuthorityId, ProfileName, SpiffeId};
use pki::policy::{AskedTtl, Identity};
use pki::serial::Serial;
use pki::time::Timestamp;

use super::Actor;
use super::policy::{TTL_KEY, how_meant};
use super::state::Cluster;

/// A proven caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The cluster it belongs to.
    pub cluster: Arc<Cluster>,
    /// What policy decides by.
    pub identity: Identity,
    /// How it was proven, with what the record keeps.
    pub proof: Proof,
    /// The address the request came from.
    pub remote: String,
}

/// A certificate of ours that was good when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Who signed it.
    pub authority: AuthorityId,
    /// Its serial number.
    pub serial: Serial,
    /// A moment before it was seen not to be revoked.
    pub checked_at: Timestamp,
}

/// How a caller was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By its current certificate.
    Certificate(Shown),
    /// Not by itself: an administrator vouches for it.
    Administrator {
        /// Who.
        name: String,
    },
    /// By an enrolment token.
    Enrolment {
        /// The token's id.
        id: String,
        /// The profile that it is for.
        profile: ProfileName,
    },
    /// By a Kubernetes service-account token.
    ServiceAccount {
        /// `namespace/name`.
        account: String,
        /// Pod name and UID, where the token is bound to one.
        pod: Option<(String, String)>,
        /// The pod's node, where the token says.
        node: Option<String>,
        /// The token's id, where it has one.
        token_id: Option<String>,
    },
}

impl Proof {
    /// What kind of proof, for records and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Administrator { .. } => "administrator",
            Self::Certificate(_) => "certificate",
            Self::Enrolment { .. } => "enrolment",
            Self::ServiceAccount { .. } => "service-account",
        }
    }
}

impl Caller {
    /// A workload that an administrator vouches for.
    #[must_use]
    pub fn vouched(cluster: Arc<Cluster>, id: SpiffeId, actor: &Actor) -> Self {
        Self {
            cluster,
            identity: Identity::Exactly(id),
            proof: Proof::Administrator {
                name: actor.name.clone(),
            },
            remote: actor.remote.clone(),
        }
    }

    /// The caller in one line, for records.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.proof, &self.identity) {
            (Proof::ServiceAccount { account, .. }, _) => format!("sa:{account}"),
            (Proof::Administrator { name }, _) => name.clone(),
            (Proof::Enrolment { id, .. }, _) => format!("enrolment:{id}"),
            (Proof::Certificate(_), Identity::Exactly(id)) => id.to_string(),
            (Proof::Certificate(shown), Identity::OneOf(_)) => {
                format!("certificate:{}", shown.serial)
            }
        }
    }

    /// What else is known of the caller, as JSON, for records; and how it meant the lifetime that it asked for.
    #[must_use]
    pub fn detail(&self, ttl: AskedTtl) -> String {
        let mut detail = serde_json::json!({ "remote": self.remote });
        if let Some(meant) = how_meant(ttl) {
            detail[TTL_KEY] = meant.into();
        }
        match &self.proof {
            Proof::Certificate(shown) => detail["serial"] = shown.serial.to_string().into(),
            Proof::Administrator { .. } => {
                if let Identity::Exactly(id) = &self.identity {
                    detail["vouched_for"] = id.as_str().into();
                }
            }
            Proof::Enrolment { id, .. } => detail["enrolment"] = id.as_str().into(),
            Proof::ServiceAccount {
                pod,
                node,
                token_id,
                ..
            } => {
                if let Some((name, uid)) = pod {
                    detail["pod"] = name.as_str().into();
                    detail["pod_uid"] = uid.as_str().into();
                }
                if let Some(node) = node {
                    detail["node"] = node.as_str().into();
                }
                if let Some(id) = token_id {
                    detail["token_id"] = id.as_str().into();
                }
            }
        }
        detail.to_string()
    }
}
