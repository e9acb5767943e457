//! A request that policy refused, as it is kept to be decided again.

use pki::name::{ClusterName, NameError, ProfileName, SpiffeId, SpiffePattern};
use pki::policy::{self, AskedTtl, ClusterPolicy, Identity};
use pki::profile::Profile;
use pki::time::Ttl;
use serde::Deserialize;

use super::Verdict;
use super::facts::Facts;

/// A request that policy refused: the detail of an entry `refusal.policy` of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RefusedRequest {
    /// The caller's cluster.
    pub cluster: ClusterName,
    /// The caller's SPIFFE id.
    #[serde(default)]
    pub identity: Option<SpiffeId>,
    /// The pattern of its enrolment token, where it has that instead.
    #[serde(default)]
    pub enrolment_pattern: Option<SpiffePattern>,
    /// The profile asked for.
    pub profile: ProfileName,
    /// The alternative names asked for, as they are displayed.
    #[serde(default)]
    pub asked_names: Vec<String>,
    /// The common names asked for.
    #[serde(default)]
    pub common_names: Vec<String>,
    /// The purposes asked for, as they are displayed.
    #[serde(default)]
    pub purposes: Vec<String>,
    /// Whether a CA certificate was asked for.
    #[serde(default)]
    pub authority: bool,
    /// The kind of key, as it is displayed.
    pub key: String,
    /// The lifetime asked for.
    #[serde(default)]
    pub ttl: Option<Ttl>,
    /// Whether that lifetime was asked for exactly.
    #[serde(default)]
    pub exactly: Option<bool>,
    /// Why it was refused, for people.
    #[serde(default)]
    pub text: String,
}

impl RefusedRequest {
    /// Decides it again.
    ///
    /// # Errors
    /// When a text of it is none that a request of ours has.
    pub fn decide(&self, policy: &ClusterPolicy) -> Result<Verdict, NameError> {
        let profile = Profile::builtin(&self.profile).ok_or_else(|| NameError::Shape {
            kind: "a profile",
            name: self.profile.to_string(),
            expected: "one of the built-in ones",
        })?;
        let identity = match (&self.identity, &self.enrolment_pattern) {
            (Some(id), _) => Identity::Exactly(id.clone()),
            (None, Some(pattern)) => Identity::OneOf(pattern.clone()),
            (None, None) => return Err(NameError::Empty("the caller's identity")),
        };
        let ttl = match self.ttl {
            None => AskedTtl::Default,
            Some(ttl) if self.exactly == Some(true) => AskedTtl::Exactly(ttl),
            Some(ttl) => AskedTtl::AtMost(ttl),
        };
        let facts = self.facts()?;
        let decision = policy::decide(policy, &identity, profile, facts.asked(), ttl);
        Ok((&decision).into())
    }

    fn facts(&self) -> Result<Facts, NameError> {
        let unknown_key = |_| NameError::Shape {
            kind: "a kind of key",
            name: self.key.chars().take(40).collect(),
            expected: "P-256, P-384, Ed25519 or RSA-<bits>",
        };
        let names = self.asked_names.iter().map(|name| name.parse());
        let purposes = self.purposes.iter().map(|purpose| purpose.parse());
        Ok(Facts {
            alt_names: names.collect::<Result<_, _>>()?,
            common_names: self.common_names.clone(),
            purposes: purposes.collect::<Result<_, _>>()?,
            asks_for_authority: self.authority,
            key: self.key.parse().map_err(unknown_key)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use pki::name::TrustDomain;
    use serde_json::{Value, json};

    use super::*;

    /// As the audit trail has it.
    fn entry(change: &Value) -> RefusedRequest {
        let mut entry = json!({
            "cluster": "central", "identity": "spiffe://td/a", "enrolment_pattern": null,
            "proof": "service-account", "profile": "workload", "ttl": "3h", "exactly": true,
            "asked_names": [], "common_names": ["spiffe://td/a"], "purposes": ["serverAuth"],
            "authority": false, "key": "RSA-2048",
            "call": "sign", "reason": "policy", "text": "no",
        });
        for (key, value) in change.as_object().unwrap() {
            entry[key] = value.clone();
        }
        serde_json::from_value(entry).unwrap()
    }

    fn policy(max_ttl: Ttl) -> ClusterPolicy {
        ClusterPolicy {
            trust_domain: TrustDomain::parse("td").unwrap(),
            default_ttl: Ttl::hours(1),
            max_ttl,
            strict: false,
            rules: Vec::new(),
        }
    }

    #[test]
    fn a_refusal_is_decided_again_by_all_that_it_was_decided_by() {
        let (less, more) = (policy(Ttl::hours(2)), policy(Ttl::hours(4)));
        let refused = |entry: &RefusedRequest, policy: &ClusterPolicy| match entry.decide(policy) {
            Ok(Verdict::Refused { refusal }) => refusal,
            other => panic!("{other:?}"),
        };
        let long = entry(&json!({}));
        assert!(refused(&long, &less).starts_with("a lifetime of 3h"));
        assert!(matches!(long.decide(&more), Ok(Verdict::Granted(g)) if g.ttl == Ttl::hours(3)));
        let shortened = entry(&json!({ "exactly": false }));
        assert!(
            matches!(shortened.decide(&less), Ok(Verdict::Granted(g)) if g.ttl == Ttl::hours(2))
        );
        let one_of = json!({ "identity": null, "enrolment_pattern": "spiffe://td/*", "ttl": null,
            "exactly": null, "asked_names": ["URI:spiffe://td/b"], "common_names": [] });
        assert!(
            matches!(entry(&one_of).decide(&less), Ok(Verdict::Granted(g)) if g.names == ["URI:spiffe://td/b"])
        );
        for (change, why) in [
            (
                json!({ "asked_names": ["URI:spiffe://td/x"] }),
                "the request asks for URI:",
            ),
            (
                json!({ "asked_names": ["an email address"] }),
                "the request asks for an email",
            ),
            (
                json!({ "common_names": ["x"] }),
                "the request asks for CN=x",
            ),
            (
                json!({ "purposes": ["OCSPSigning"] }),
                "the request asks for a purpose",
            ),
            (
                json!({ "authority": true }),
                "the request asks for a CA certificate",
            ),
            (
                json!({ "key": "Ed25519" }),
                "profile \"workload\" does not take Ed25519",
            ),
            (json!({ "profile": "server" }), "the request names no host"),
            (
                json!({ "profile": "admin" }),
                "profile \"admin\" is not for callers",
            ),
            (
                json!({ "identity": "spiffe://other/a" }),
                "spiffe://other/a is not in",
            ),
        ] {
            let refusal = refused(&entry(&change), &more);
            assert!(refusal.starts_with(why), "{change}: {refusal}");
        }
    }

    #[test]
    fn what_is_no_request_of_ours_is_not_decided() {
        for change in [
            json!({ "identity": null }),
            json!({ "profile": "made-up" }),
            json!({ "key": "DSA" }),
            json!({ "purposes": ["made-up"] }),
            json!({ "asked_names": ["made-up"] }),
        ] {
            assert!(
                entry(&change).decide(&policy(Ttl::hours(4))).is_err(),
                "{change}"
            );
        }
    }
}
