//! What one policy gives that another did not.

use std::fmt;

use serde::Serialize;

use super::decide::workload_lifetimes;
use super::{ClusterPolicy, Rule};
use crate::profile::Profile;

/// A place where a new policy gives, or may give, more than the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Widening {
    /// The key of the policy, or the name of the new rule.
    pub what: String,
    /// What it gives more, for people.
    pub why: String,
}

impl fmt::Display for Widening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// Where `new` gives more than `old`. It may call something a widening that is none, as where two old rules together are
/// what a new one is. Where it finds nothing, whatever the new policy grants the old one granted too: the same names, for
/// at least as long.
#[must_use]
pub fn widens(old: &ClusterPolicy, new: &ClusterPolicy) -> Vec<Widening> {
    let mut found = Vec::new();
    let mut tell = |what: &str, why: String| {
        found.push(Widening {
            what: what.to_owned(),
            why,
        });
    };
    if old.trust_domain != new.trust_domain {
        let why = format!("{} instead of {}", new.trust_domain, old.trust_domain);
        tell("trust_domain", why);
    }
    if old.strict && !new.strict {
        let why = "a lifetime above the longest is shortened, no longer refused";
        tell("strict", why.to_owned());
    }
    for profile in [Profile::WORKLOAD, Profile::WORKLOAD_EPHEMERAL] {
        let (old_longest, old_default) = workload_lifetimes(old, profile);
        let (new_longest, new_default) = workload_lifetimes(new, profile);
        let name = profile.as_str();
        if new_longest > old_longest {
            let why = format!("{name}: up to {new_longest}, no longer {old_longest}");
            tell("max_ttl", why);
        }
        if new_default > old_default {
            let why = format!(
                "{name}: {new_default} for who asks for no lifetime, no longer {old_default}"
            );
            tell("default_ttl", why);
        }
    }
    for (at, rule) in new.rules.iter().enumerate() {
        if let Some(why) = gives_more(rule, &new.rules[..at], &old.rules) {
            tell(&rule.name, why);
        }
    }
    found
}

/// What a new rule, behind the new rules `before` it, gives more than the old rules did; `None` when nothing.
///
/// It gives nothing more when one old rule fits whatever it fits, for as long, and no old rule before that one decided
/// otherwise. One that gave less time does no harm where a new rule still takes its requests first.
fn gives_more(rule: &Rule, before: &[Rule], old: &[Rule]) -> Option<String> {
    let profile = given_by_rule(rule)?;
    if rule.dns.is_empty() && rule.ip.is_empty() {
        return None;
    }
    let longest = rule.longest_ttl(profile);
    let shortened_by = |at: usize| {
        old[..at].iter().find(|earlier| {
            overlap(earlier, rule)
                && earlier.longest_ttl(profile) < longest
                && !before.iter().any(|first| covers(first, earlier))
        })
    };
    let mut why = "no old rule gave all of this to all of these callers".to_owned();
    for (at, candidate) in old.iter().enumerate() {
        if !covers(candidate, rule) {
            continue;
        }
        let old_longest = candidate.longest_ttl(profile);
        if old_longest < longest {
            why = format!(
                "up to {longest}, where rule {:?} gave {old_longest}",
                candidate.name
            );
        } else if let Some(earlier) = shortened_by(at) {
            why = format!(
                "up to {longest}, where rule {:?} gave {} to some",
                earlier.name,
                earlier.longest_ttl(profile)
            );
        } else {
            return None;
        }
    }
    Some(why)
}

/// The profile that a rule opens; `None` for one that no rule gives.
fn given_by_rule(rule: &Rule) -> Option<Profile> {
    [Profile::SERVER, Profile::CLIENT]
        .into_iter()
        .find(|profile| profile.as_str() == rule.profile.as_str())
}

/// Whether whatever fits `narrow` fits `wide`.
fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let given = |name| wide.dns.iter().any(|pattern| pattern.covers(name));
    wide.profile == narrow.profile
        && wide.callers.covers(&narrow.callers)
        && narrow.dns.iter().all(given)
        && narrow.ip.iter().all(|address| wide.ip.contains(address))
}

/// Whether a request fits both.
fn overlap(a: &Rule, b: &Rule) -> bool {
    let names = || a.dns.iter().any(|x| b.dns.iter().any(|y| x.overlaps(y)));
    a.profile == b.profile
        && a.callers.overlaps(&b.callers)
        && (names() || a.ip.iter().any(|address| b.ip.contains(address)))
}
