//! Why policy refused.

use crate::name::{NameError, SpiffeId, TrustDomain};
use crate::time::Ttl;

/// Why policy refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A CA certificate was asked for.
    #[error("the request asks for a CA certificate, which no caller gets here")]
    Authority,
    /// The key is not one for the profile.
    #[error("profile {profile:?} does not take {key} keys")]
    Key {
        /// The key's kind.
        key: String,
        /// The profile.
        profile: &'static str,
    },
    /// A name that the caller may not have.
    #[error("the request asks for {asked}; this caller may have {allowed}")]
    Name {
        /// What was asked for.
        asked: String,
        /// What may be had.
        allowed: String,
    },
    /// A name of the request is not well-formed.
    #[error("a name of the request is not acceptable: {0}")]
    NameSyntax(#[from] NameError),
    /// The request names no identity of the pattern.
    #[error("the request must name exactly one SPIFFE id that fits {pattern}, and nothing else")]
    NoIdentity {
        /// The caller's pattern.
        pattern: String,
    },
    /// A profile for hosts, and no host name asked for.
    #[error(
        "the request names no host: it needs DNS names or addresses as subject alternative names"
    )]
    NoName,
    /// No rule gives it.
    #[error("no rule lets {caller} have {names} under profile {profile:?}")]
    NoRule {
        /// Who asked.
        caller: SpiffeId,
        /// The profile.
        profile: &'static str,
        /// What was asked for.
        names: String,
    },
    /// A profile that callers cannot have.
    #[error(
        "profile {profile:?} is not for callers; they may have workload, and by rule server and client"
    )]
    Profile {
        /// The profile.
        profile: &'static str,
    },
    /// A purpose that the profile does not have.
    #[error("the request asks for a purpose that profile {profile:?} does not have")]
    Purpose {
        /// The profile.
        profile: &'static str,
    },
    /// An identity of another trust domain.
    #[error("{id} is not in the cluster's trust domain {trust_domain}")]
    TrustDomain {
        /// The identity.
        id: SpiffeId,
        /// The cluster's trust domain.
        trust_domain: TrustDomain,
    },
    /// A lifetime above the longest allowed.
    #[error("a lifetime of {asked} was asked for, {longest} is the longest allowed")]
    Ttl {
        /// What was asked for.
        asked: Ttl,
        /// What may be had.
        longest: Ttl,
    },
}
