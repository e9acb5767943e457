//! Policy: which caller may have which names, under which profile, for how long.
//!
//! The identity comes from the caller, never from the request. From a request we take its key, and we refuse it
//! when it asks for anything that the caller may not have; nothing else of it is copied.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::csr::VerifiedCsr;
use crate::extension::{AltName, Purpose, SubjectNames};
use crate::name::{
    DistinguishedName, DnsName, DnsPattern, NameError, ProfileName, SpiffeId, SpiffePattern,
    TrustDomain,
};
use crate::profile::{NameRule, Profile};
use crate::time::Ttl;

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

/// The rule that lets a workload have its own identity.
pub const OWN_IDENTITY: &str = "workload-own-identity";

/// Decides what `identity` gets for `csr` under `profile`.
///
/// # Errors
/// When the request asks for more than the caller may have, its key is not one for the profile, or the lifetime is
/// too long.
pub fn decide(
    policy: &ClusterPolicy,
    identity: &Identity,
    profile: Profile,
    csr: &VerifiedCsr,
    asked: AskedTtl,
) -> Result<Grant, Refusal> {
    refuse_forbidden_requests(profile, csr)?;
    let own = own_identity(policy, identity, profile, csr)?;
    match profile {
        Profile::WORKLOAD | Profile::WORKLOAD_EPHEMERAL => {
            refuse_other_names(&own, csr)?;
            let max_ttl = policy.max_ttl.min(profile.max_ttl());
            let default_ttl = match profile {
                Profile::WORKLOAD => policy.default_ttl,
                _ => profile.default_ttl(),
            };
            let ttl = lifetime(asked, default_ttl.min(max_ttl), max_ttl, policy.strict)?;
            Ok(Grant {
                profile,
                names: SubjectNames::of_spiffe(own),
                subject: None,
                ttl,
                rule: OWN_IDENTITY.to_owned(),
            })
        }
        Profile::SERVER | Profile::CLIENT => by_rule(policy, &own, profile, csr, asked),
        _ => Err(Refusal::Profile {
            profile: profile.as_str(),
        }),
    }
}

fn refuse_forbidden_requests(profile: Profile, csr: &VerifiedCsr) -> Result<(), Refusal> {
    if csr.asks_for_authority() {
        return Err(Refusal::Authority);
    }
    if csr
        .purposes()
        .iter()
        .any(|purpose| !acceptable(profile, *purpose))
    {
        return Err(Refusal::Purpose {
            profile: profile.as_str(),
        });
    }
    if !profile.takes(csr.key().algorithm()) {
        return Err(Refusal::Key {
            key: csr.key().algorithm().to_string(),
            profile: profile.as_str(),
        });
    }
    Ok(())
}

/// serverAuth and clientAuth may always be asked for: tools ask for both by habit, and the profile decides.
fn acceptable(profile: Profile, purpose: Purpose) -> bool {
    matches!(purpose, Purpose::ServerAuth | Purpose::ClientAuth)
        || profile.purposes().contains(&purpose)
}

fn own_identity(
    policy: &ClusterPolicy,
    identity: &Identity,
    profile: Profile,
    csr: &VerifiedCsr,
) -> Result<SpiffeId, Refusal> {
    let id = match identity {
        Identity::Exactly(id) => id.clone(),
        Identity::OneOf(pattern) => match pattern.only() {
            Some(id) => id,
            None if profile.names() == NameRule::OneSpiffeId => asked_identity(pattern, csr)?,
            None => {
                return Err(Refusal::NoIdentity {
                    pattern: pattern.to_string(),
                });
            }
        },
    };
    if id.is_in(&policy.trust_domain) {
        Ok(id)
    } else {
        Err(Refusal::TrustDomain {
            id,
            trust_domain: policy.trust_domain.clone(),
        })
    }
}

fn asked_identity(pattern: &SpiffePattern, csr: &VerifiedCsr) -> Result<SpiffeId, Refusal> {
    let [AltName::Uri(uri)] = csr.alt_names() else {
        return Err(Refusal::NoIdentity {
            pattern: pattern.to_string(),
        });
    };
    let id = SpiffeId::parse(uri)?;
    if pattern.matches(&id) {
        Ok(id)
    } else {
        Err(Refusal::Name {
            asked: format!("URI:{id}"),
            allowed: pattern.to_string(),
        })
    }
}

/// A workload's request may name its own identity, or nothing.
fn refuse_other_names(own: &SpiffeId, csr: &VerifiedCsr) -> Result<(), Refusal> {
    let refuse = |asked: String| Refusal::Name {
        asked: asked.chars().take(200).collect(),
        allowed: own.to_string(),
    };
    if let Some(name) = csr.common_names().iter().find(|name| *name != own.as_str()) {
        return Err(refuse(format!("CN={name}")));
    }
    let mut names = csr.alt_names().iter();
    match names.next() {
        None => Ok(()),
        Some(AltName::Uri(uri)) if uri == own.as_str() => match names.next() {
            None => Ok(()),
            Some(extra) => Err(refuse(extra.to_string())),
        },
        Some(other) => Err(refuse(other.to_string())),
    }
}

fn by_rule(
    policy: &ClusterPolicy,
    own: &SpiffeId,
    profile: Profile,
    csr: &VerifiedCsr,
    asked: AskedTtl,
) -> Result<Grant, Refusal> {
    let names = host_names(csr)?;
    let fits = |rule: &&Rule| {
        rule.profile.as_str() == profile.as_str()
            && rule.callers.matches(own)
            && names
                .dns
                .iter()
                .all(|name| rule.dns.iter().any(|pattern| pattern.matches(name)))
            && names.ip.iter().all(|address| rule.ip.contains(address))
    };
    let rule = policy
        .rules
        .iter()
        .find(fits)
        .ok_or_else(|| Refusal::NoRule {
            caller: own.clone(),
            profile: profile.as_str(),
            names: names.to_strings().join(", "),
        })?;
    let longest = rule.longest_ttl(profile);
    let default = profile.default_ttl().min(longest);
    let ttl = lifetime(asked, default, longest, policy.strict)?;
    Ok(Grant {
        profile,
        names,
        subject: None,
        ttl,
        rule: rule.name.clone(),
    })
}

/// The host names and addresses that were asked for; a common name must be one of them.
fn host_names(csr: &VerifiedCsr) -> Result<SubjectNames, Refusal> {
    let mut names = SubjectNames::default();
    for name in csr.alt_names() {
        match name {
            AltName::Dns(name) => names.dns.push(DnsName::parse(name)?),
            AltName::Ip(address) => names.ip.push(*address),
            other => {
                return Err(Refusal::Name {
                    asked: other.to_string().chars().take(200).collect(),
                    allowed: "host names and addresses".to_owned(),
                });
            }
        }
    }
    if names.is_empty() {
        return Err(Refusal::NoName);
    }
    let listed = |name: &&String| {
        names
            .dns
            .iter()
            .any(|dns| dns.as_str() == name.to_ascii_lowercase())
            || names.ip.iter().any(|ip| ip.to_string() == **name)
    };
    match csr.common_names().iter().find(|name| !listed(name)) {
        None => Ok(names),
        Some(name) => Err(Refusal::Name {
            asked: format!("CN={}", name.chars().take(100).collect::<String>()),
            allowed: names.to_strings().join(", "),
        }),
    }
}

fn lifetime(asked: AskedTtl, default: Ttl, longest: Ttl, strict: bool) -> Result<Ttl, Refusal> {
    match asked {
        AskedTtl::Default => Ok(default.min(longest)),
        AskedTtl::Exactly(ttl) | AskedTtl::AtMost(ttl) if ttl <= longest => Ok(ttl),
        AskedTtl::AtMost(_) if !strict => Ok(longest),
        AskedTtl::Exactly(asked) | AskedTtl::AtMost(asked) => Err(Refusal::Ttl { asked, longest }),
    }
}

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

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
