//! Policy: which caller may have which names, under which profile, for how long.
//!
//! The identity comes from the caller, never from the request. From a request we take its key, and we refuse it
//! when it asks for anything that the caller may not have; nothing else of it is copied.
//!
//! [`decide`] decides, [`explain`] decides by the same path and tells each step, [`widens`] tells what one policy gives
//! that another does not.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::extension::SubjectNames;
use crate::name::{
    DistinguishedName, DnsPattern, ProfileName, SpiffeId, SpiffePattern, TrustDomain,
};
use crate::profile::Profile;
use crate::time::Ttl;

mod asked;
mod decide;
mod explain;
mod refusal;
mod widens;

pub use asked::Asked;
pub use decide::{CALLER_IDENTITY, FORBIDDEN_REQUESTS, HOST_NAMES, NO_RULE, OWN_IDENTITY, decide};
pub use explain::{Explanation, Outcome, Step, explain};
pub use refusal::Refusal;
pub use widens::{Widening, widens};

/// Who asks, as far as policy cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Proven to be this workload.
    Exactly(SpiffeId),
    /// Entitled to one identity of a pattern, which its request names (an enrolment token).
    OneOf(SpiffePattern),
}

/// A cluster's rule that gives names beyond a caller's own identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the rule is called in records and refusals.
    pub name: String,
    /// The profile that it opens.
    pub profile: ProfileName,
    /// Whom it is for.
    pub callers: SpiffePattern,
    /// Host names that may be asked for.
    #[serde(default)]
    pub dns: Vec<DnsPattern>,
    /// Addresses that may be asked for.
    #[serde(default)]
    pub ip: Vec<IpAddr>,
    /// The longest lifetime; what the profile gives to who asks for none, where absent. A cluster's authority never signs
    /// so near to its end that the longest would not fit.
    #[serde(default)]
    pub max_ttl: Option<Ttl>,
}

impl Rule {
    /// The longest lifetime that it gives under `profile`.
    #[must_use]
    pub fn longest_ttl(&self, profile: Profile) -> Ttl {
        let longest = self.max_ttl.unwrap_or(profile.default_ttl());
        longest.min(profile.max_ttl())
    }
}

/// What a cluster allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPolicy {
    /// The trust domain that every identity of the cluster belongs to.
    pub trust_domain: TrustDomain,
    /// The lifetime of a workload that asks for none.
    pub default_ttl: Ttl,
    /// The longest lifetime of a workload.
    pub max_ttl: Ttl,
    /// Refuse a lifetime above the longest instead of shortening it.
    #[serde(default)]
    pub strict: bool,
    /// Rules beyond `workload-own-identity`, which every cluster has.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A wished lifetime, and what happens when it is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedTtl {
    /// None: the default.
    Default,
    /// This one, or a refusal (our own call).
    Exactly(Ttl),
    /// This one, shortened to the longest allowed unless the cluster is strict (Istio's call).
    AtMost(Ttl),
}

/// What policy lets a caller have, and the rule that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The profile.
    pub profile: Profile,
    /// The names, all of them.
    pub names: SubjectNames,
    /// The subject, where the profile has one.
    pub subject: Option<DistinguishedName>,
    /// The lifetime.
    pub ttl: Ttl,
    /// The rule's name.
    pub rule: String,
}

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
