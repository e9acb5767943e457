//! A cluster's policy as operators read and write it, and what it would decide: [`dry_run`] for one request, [`replay`]
//! for those that were recorded.

mod dry_run;
mod facts;
mod refused;
mod replay;

use pki::name::{ClusterName, ProfileName};
use pki::policy::{ClusterPolicy, Grant, Refusal, Rule};
use pki::profile::Profile;
use pki::time::Ttl;
use serde::{Deserialize, Serialize};

use super::cluster::{self, ClusterDefinition, Role};
use super::{Context, Error, ErrorKind};

pub use dry_run::{DryRun, Explained, dry_run};
pub(super) use facts::{TTL_KEY, how_meant};
pub use refused::RefusedRequest;
pub use replay::{Difference, Replay, ReplayRequest, replay};

/// What of a cluster's definition is policy. It has no defaults: what is left out of a document that replaces another is
/// a mistake, and not a wish for the longest lifetime there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDocument {
    /// The lifetime of a workload that asks for none.
    pub default_ttl: Ttl,
    /// The longest lifetime of a workload.
    pub max_ttl: Ttl,
    /// Refuse Istio's callers a lifetime above the longest instead of shortening it.
    pub strict: bool,
    /// Who may have names beyond its own identity.
    pub rules: Vec<Rule>,
}

impl From<&ClusterDefinition> for PolicyDocument {
    fn from(definition: &ClusterDefinition) -> Self {
        Self {
            default_ttl: definition.default_ttl,
            max_ttl: definition.max_ttl,
            strict: definition.strict,
            rules: definition.rules.clone(),
        }
    }
}

impl PolicyDocument {
    /// The definition with this policy instead of its own. It is judged where it is put in force, or by
    /// [`ClusterDefinition::policy`].
    #[must_use]
    pub fn put_into(&self, definition: &ClusterDefinition) -> ClusterDefinition {
        ClusterDefinition {
            default_ttl: self.default_ttl,
            max_ttl: self.max_ttl,
            strict: self.strict,
            rules: self.rules.clone(),
            ..definition.clone()
        }
    }
}

/// What was, or would be, decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "decision")]
pub enum Verdict {
    /// A certificate.
    Granted(Granted),
    /// None.
    Refused {
        /// Why, for people.
        refusal: String,
    },
}

/// A grant as interfaces show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Granted {
    /// The profile.
    pub profile: String,
    /// The names: `URI:…`, `DNS:…`, `IP:…`.
    pub names: Vec<String>,
    /// The lifetime.
    pub ttl: Ttl,
    /// The rule that gave it.
    pub rule: String,
}

impl From<&Grant> for Granted {
    fn from(grant: &Grant) -> Self {
        Self {
            profile: grant.profile.as_str().to_owned(),
            names: grant.names.to_strings(),
            ttl: grant.ttl,
            rule: grant.rule.clone(),
        }
    }
}

impl From<&Result<Grant, Refusal>> for Verdict {
    fn from(decision: &Result<Grant, Refusal>) -> Self {
        match decision {
            Ok(grant) => Self::Granted(grant.into()),
            Err(refusal) => Self::Refused {
                refusal: refusal.to_string(),
            },
        }
    }
}

impl Verdict {
    /// Whether both come to the same for whoever asked: the same names for the same time, or nothing, whichever rule it was
    /// and whatever its words.
    #[must_use]
    pub fn comes_to_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Granted(a), Self::Granted(b)) => {
                (&a.profile, &a.names, a.ttl) == (&b.profile, &b.names, b.ttl)
            }
            (Self::Refused { .. }, Self::Refused { .. }) => true,
            _ => false,
        }
    }
}

/// The policies that a request is tried on.
struct Policies {
    in_force: ClusterPolicy,
    /// The candidate, or what is in force where there is none.
    tried: ClusterPolicy,
}

async fn policies(
    context: &Context,
    cluster: &ClusterName,
    candidate: Option<&PolicyDocument>,
) -> Result<Policies, Error> {
    let row = cluster::find(context, cluster).await?;
    let definition = ClusterDefinition::of(&row)?;
    if definition.role == Role::Fleet {
        return Err(Error::new(
            ErrorKind::Conflict,
            "role",
            format!(
                "cluster {cluster} signs authorities, on an operator's word: no policy decides"
            ),
        ));
    }
    let in_force = definition.policy()?;
    let tried = match candidate {
        Some(candidate) => {
            let tried = candidate.put_into(&definition);
            tried.check_rules()?;
            tried.policy()?
        }
        None => in_force.clone(),
    };
    Ok(Policies { in_force, tried })
}

fn profile(name: &ProfileName) -> Result<Profile, Error> {
    Profile::builtin(name).ok_or_else(|| {
        Error::new(
            ErrorKind::Malformed,
            "profile",
            format!("there is no profile {name}"),
        )
    })
}
