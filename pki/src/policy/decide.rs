//! The one path by which policy decides. Whoever wants to know why listens to it.

use super::explain::Outcome;
use super::{Asked, AskedTtl, ClusterPolicy, Grant, Identity, Refusal, Rule};
use crate::extension::{AltName, Purpose, SubjectNames};
use crate::name::{DnsName, SpiffeId, SpiffePattern};
use crate::profile::{NameRule, Profile};
use crate::time::Ttl;

/// The check of what no caller gets, or no holder of such a key under the profile.
pub const FORBIDDEN_REQUESTS: &str = "forbidden-requests";
/// The check that the caller has one identity, of the cluster's trust domain.
pub const CALLER_IDENTITY: &str = "caller-identity";
/// The rule that lets a workload have its own identity.
pub const OWN_IDENTITY: &str = "workload-own-identity";
/// The check that hosts are asked for, and nothing but hosts.
pub const HOST_NAMES: &str = "host-names";
/// What refuses when no rule grants.
pub const NO_RULE: &str = "no-rule";

/// Decides what `identity` gets for `asked` under `profile`.
///
/// # Errors
/// When the request asks for more than the caller may have, its key is not one for the profile, or the lifetime is
/// too long.
pub fn decide<'a>(
    policy: &ClusterPolicy,
    identity: &Identity,
    profile: Profile,
    asked: impl Into<Asked<'a>>,
    ttl: AskedTtl,
) -> Result<Grant, Refusal> {
    judge(policy, identity, profile, asked.into(), ttl, &mut Nobody)
}

/// Who is told of each step. What it is told is put into words only for who listens.
pub(super) trait Notes {
    fn note(&mut self, rule: &str, outcome: Outcome, why: impl FnOnce() -> String);

    /// Tells of a check: `passed` says what it found when it lets the request on.
    fn check<T>(
        &mut self,
        rule: &str,
        result: Result<T, Refusal>,
        passed: impl FnOnce(&T) -> String,
    ) -> Result<T, Refusal> {
        match &result {
            Ok(found) => self.note(rule, Outcome::Passes, || passed(found)),
            Err(refusal) => self.note(rule, Outcome::Refuses, || refusal.to_string()),
        }
        result
    }

    /// Tells of a rule that decides.
    fn decision(&mut self, rule: &str, decision: &Result<Grant, Refusal>) {
        match decision {
            Ok(grant) => self.note(rule, Outcome::Grants, || {
                format!("{} for {}", grant.names.to_strings().join(", "), grant.ttl)
            }),
            Err(refusal) => self.note(rule, Outcome::Refuses, || refusal.to_string()),
        }
    }
}

struct Nobody;

impl Notes for Nobody {
    fn note(&mut self, _: &str, _: Outcome, _: impl FnOnce() -> String) {}
}

pub(super) fn judge(
    policy: &ClusterPolicy,
    identity: &Identity,
    profile: Profile,
    asked: Asked<'_>,
    ttl: AskedTtl,
    notes: &mut impl Notes,
) -> Result<Grant, Refusal> {
    let allowed = refuse_forbidden_requests(profile, asked);
    notes.check(FORBIDDEN_REQUESTS, allowed, |()| {
        format!(
            "no CA certificate and no foreign purpose is asked for, and profile {:?} takes {} keys",
            profile.as_str(),
            asked.key
        )
    })?;
    let own = own_identity(policy, identity, profile, asked);
    let own = notes.check(CALLER_IDENTITY, own, |own| {
        format!("{own} is in trust domain {}", policy.trust_domain)
    })?;
    match profile {
        Profile::WORKLOAD | Profile::WORKLOAD_EPHEMERAL => {
            let decision = workload(policy, own, profile, asked, ttl);
            notes.decision(OWN_IDENTITY, &decision);
            decision
        }
        Profile::SERVER | Profile::CLIENT => {
            notes.note(OWN_IDENTITY, Outcome::DoesNotFit, || {
                format!(
                    "it is for workloads, profile {:?} was asked for",
                    profile.as_str()
                )
            });
            let names = host_names(asked);
            let names = notes.check(HOST_NAMES, names, |names| names.to_strings().join(", "))?;
            by_rule(policy, &own, profile, names, ttl, notes)
        }
        _ => {
            let refusal = Refusal::Profile {
                profile: profile.as_str(),
            };
            notes.note(NO_RULE, Outcome::Refuses, || refusal.to_string());
            Err(refusal)
        }
    }
}

fn refuse_forbidden_requests(profile: Profile, asked: Asked<'_>) -> Result<(), Refusal> {
    if asked.asks_for_authority {
        return Err(Refusal::Authority);
    }
    if asked
        .purposes
        .iter()
        .any(|purpose| !acceptable(profile, *purpose))
    {
        return Err(Refusal::Purpose {
            profile: profile.as_str(),
        });
    }
    if !profile.takes(asked.key) {
        return Err(Refusal::Key {
            key: asked.key.to_string(),
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
    asked: Asked<'_>,
) -> Result<SpiffeId, Refusal> {
    let id = match identity {
        Identity::Exactly(id) => id.clone(),
        Identity::OneOf(pattern) => match pattern.only() {
            Some(id) => id,
            None if profile.names() == NameRule::OneSpiffeId => asked_identity(pattern, asked)?,
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

fn asked_identity(pattern: &SpiffePattern, asked: Asked<'_>) -> Result<SpiffeId, Refusal> {
    let [AltName::Uri(uri)] = asked.alt_names else {
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

/// The longest lifetime of a workload under `profile`, and that of one that asks for none.
pub(super) fn workload_lifetimes(policy: &ClusterPolicy, profile: Profile) -> (Ttl, Ttl) {
    let longest = policy.max_ttl.min(profile.max_ttl());
    let default = match profile {
        Profile::WORKLOAD => policy.default_ttl,
        _ => profile.default_ttl(),
    };
    (longest, default.min(longest))
}

fn workload(
    policy: &ClusterPolicy,
    own: SpiffeId,
    profile: Profile,
    asked: Asked<'_>,
    ttl: AskedTtl,
) -> Result<Grant, Refusal> {
    refuse_other_names(&own, asked)?;
    let (longest, default) = workload_lifetimes(policy, profile);
    let ttl = lifetime(ttl, default, longest, policy.strict)?;
    Ok(Grant {
        profile,
        names: SubjectNames::of_spiffe(own),
        subject: None,
        ttl,
        rule: OWN_IDENTITY.to_owned(),
    })
}

/// A workload's request may name its own identity, or nothing.
fn refuse_other_names(own: &SpiffeId, asked: Asked<'_>) -> Result<(), Refusal> {
    let refuse = |name: String| Refusal::Name {
        asked: name.chars().take(200).collect(),
        allowed: own.to_string(),
    };
    if let Some(name) = asked.common_names.iter().find(|name| *name != own.as_str()) {
        return Err(refuse(format!("CN={name}")));
    }
    let mut names = asked.alt_names.iter();
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
    names: SubjectNames,
    ttl: AskedTtl,
    notes: &mut impl Notes,
) -> Result<Grant, Refusal> {
    let mut rules = policy.rules.iter();
    for rule in rules.by_ref() {
        if let Some(misfit) = misfit(rule, own, profile, &names) {
            notes.note(&rule.name, Outcome::DoesNotFit, || misfit.to_string());
            continue;
        }
        let longest = rule.longest_ttl(profile);
        let default = profile.default_ttl().min(longest);
        let decision = lifetime(ttl, default, longest, policy.strict).map(|ttl| Grant {
            profile,
            names,
            subject: None,
            ttl,
            rule: rule.name.clone(),
        });
        notes.decision(&rule.name, &decision);
        for behind in rules {
            notes.note(&behind.name, Outcome::NotReached, || {
                format!("the first rule that fits decides, and {:?} did", rule.name)
            });
        }
        return decision;
    }
    let refusal = Refusal::NoRule {
        caller: own.clone(),
        profile: profile.as_str(),
        names: names.to_strings().join(", "),
    };
    notes.note(NO_RULE, Outcome::Refuses, || refusal.to_string());
    Err(refusal)
}

/// What keeps a rule from being for a request: the first such thing.
#[derive(Debug, thiserror::Error)]
enum Misfit<'a> {
    #[error("it is for profile {:?}, {asked:?} was asked for", rule.profile.as_str())]
    Profile { rule: &'a Rule, asked: &'static str },
    #[error("its callers are {}, and this one is {caller}", rule.callers)]
    Caller {
        rule: &'a Rule,
        caller: &'a SpiffeId,
    },
    #[error("its host names are [{}], and DNS:{name} was asked for", listed(&rule.dns))]
    Dns { rule: &'a Rule, name: &'a DnsName },
    #[error("its addresses are [{}], and IP:{address} was asked for", listed(&rule.ip))]
    Ip {
        rule: &'a Rule,
        address: &'a std::net::IpAddr,
    },
}

fn listed(names: &[impl ToString]) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn misfit<'a>(
    rule: &'a Rule,
    caller: &'a SpiffeId,
    profile: Profile,
    names: &'a SubjectNames,
) -> Option<Misfit<'a>> {
    if rule.profile.as_str() != profile.as_str() {
        let asked = profile.as_str();
        return Some(Misfit::Profile { rule, asked });
    }
    if !rule.callers.matches(caller) {
        return Some(Misfit::Caller { rule, caller });
    }
    let given = |name: &&DnsName| rule.dns.iter().any(|pattern| pattern.matches(name));
    if let Some(name) = names.dns.iter().find(|name| !given(name)) {
        return Some(Misfit::Dns { rule, name });
    }
    let address = names.ip.iter().find(|address| !rule.ip.contains(address));
    address.map(|address| Misfit::Ip { rule, address })
}

/// The host names and addresses that were asked for; a common name must be one of them.
fn host_names(asked: Asked<'_>) -> Result<SubjectNames, Refusal> {
    let mut names = SubjectNames::default();
    for name in asked.alt_names {
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
    match asked.common_names.iter().find(|name| !listed(name)) {
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
