//! A request that policy refused, as it is kept to be decided again.

use pki::name::{ClusterName, NameError, ProfileName, SpiffeId, SpiffePattern};
use pki::policy::{self, Asked, AskedTtl, ClusterPolicy, Identity, Refusal};
use pki::profile::Profile;
use pki::time::Ttl;
use serde::{Deserialize, Serialize};

use super::Verdict;
use super::facts::Facts;

/// A request that policy refused, as the audit trail keeps it: the detail of an entry `refusal.policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRequest {
    /// The caller's cluster.
    pub cluster: ClusterName,
    /// Its SPIFFE id, or the pattern of its enrolment token.
    pub identity: String,
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
    pub exactly: bool,
    /// Why it was refused, for people.
    #[serde(default)]
    pub refusal: String,
}

/// The longest text of a stranger's that is kept, in characters; and the most texts of a kind.
const KEPT_CHARACTERS: usize = 300;
const KEPT_TEXTS: usize = 20;

impl RefusedRequest {
    /// What is kept of a refusal. Texts are cut, so that nobody fills the trail with one request; what was cut is decided
    /// otherwise when it is replayed, and refused again.
    #[must_use]
    pub fn new<'a>(
        cluster: &ClusterName,
        identity: &Identity,
        profile: &ProfileName,
        asked: impl Into<Asked<'a>>,
        ttl: AskedTtl,
        refusal: &Refusal,
    ) -> Self {
        let asked = asked.into();
        let (ttl, exactly) = match ttl {
            AskedTtl::Default => (None, false),
            AskedTtl::Exactly(ttl) => (Some(ttl), true),
            AskedTtl::AtMost(ttl) => (Some(ttl), false),
        };
        Self {
            cluster: cluster.clone(),
            identity: match identity {
                Identity::Exactly(id) => id.to_string(),
                Identity::OneOf(pattern) => pattern.to_string(),
            },
            profile: profile.clone(),
            asked_names: cut(asked.alt_names),
            common_names: cut(asked.common_names),
            purposes: cut(asked.purposes),
            authority: asked.asks_for_authority,
            key: asked.key.to_string(),
            ttl,
            exactly,
            refusal: refusal.to_string().chars().take(KEPT_CHARACTERS).collect(),
        }
    }

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
        let identity = match SpiffeId::parse(&self.identity) {
            Ok(id) => Identity::Exactly(id),
            Err(_) => Identity::OneOf(SpiffePattern::parse(&self.identity)?),
        };
        let ttl = match self.ttl {
            None => AskedTtl::Default,
            Some(ttl) if self.exactly => AskedTtl::Exactly(ttl),
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

fn cut(texts: &[impl ToString]) -> Vec<String> {
    let texts = texts.iter().map(ToString::to_string);
    texts
        .map(|text| text.chars().take(KEPT_CHARACTERS).collect())
        .take(KEPT_TEXTS)
        .collect()
}

#[cfg(test)]
mod tests {
    use pki::extension::{AltName, Purpose};
    use pki::key::KeyAlgorithm;

    use super::*;

    #[test]
    fn a_refusal_that_was_kept_is_refused_again_for_the_same_reason() {
        let facts = Facts {
            alt_names: vec![AltName::Uri("spiffe://td/x".into()), AltName::Other(1)],
            common_names: vec!["spiffe://td/a".into()],
            purposes: vec![Purpose::ServerAuth],
            asks_for_authority: false,
            key: KeyAlgorithm::Rsa { bits: 2048 },
        };
        let policy = ClusterPolicy {
            trust_domain: pki::name::TrustDomain::parse("td").unwrap(),
            default_ttl: Ttl::hours(1),
            max_ttl: Ttl::hours(2),
            strict: false,
            rules: Vec::new(),
        };
        let me = Identity::Exactly(SpiffeId::parse("spiffe://td/a").unwrap());
        let cluster = ClusterName::parse("central").unwrap();
        let name = ProfileName::parse("workload").unwrap();
        let keep = |who: &Identity, facts: &Facts, ttl| {
            let asked = facts.asked();
            let refusal = policy::decide(&policy, who, Profile::WORKLOAD, asked, ttl).unwrap_err();
            let kept = RefusedRequest::new(&cluster, who, &name, asked, ttl, &refusal);
            let text = serde_json::to_string(&kept).unwrap();
            let read: RefusedRequest = serde_json::from_str(&text).unwrap();
            assert_eq!(read, kept);
            (
                read,
                Verdict::Refused {
                    refusal: refusal.to_string(),
                },
                text.len(),
            )
        };
        let too_long = AskedTtl::Exactly(Ttl::hours(3));
        let (kept, refused, _) = keep(&me, &facts, too_long);
        assert_eq!(kept.facts(), Ok(facts.clone()));
        assert_eq!(kept.decide(&policy), Ok(refused));

        // What was refused for its lifetime alone would be given by a policy that gives more.
        let own = Facts {
            alt_names: Vec::new(),
            ..facts.clone()
        };
        let (kept, refused, _) = keep(&me, &own, too_long);
        assert_eq!(kept.decide(&policy), Ok(refused));
        let more = ClusterPolicy {
            max_ttl: Ttl::hours(4),
            ..policy.clone()
        };
        assert!(matches!(kept.decide(&more), Ok(Verdict::Granted(g)) if g.ttl == Ttl::hours(3)));

        // However much a stranger asks for, little is kept.
        let greedy = Facts {
            alt_names: vec![AltName::Uri("x".repeat(10_000)); 100],
            ..facts
        };
        let pattern = Identity::OneOf(SpiffePattern::parse("spiffe://td/*").unwrap());
        let (kept, _, length) = keep(&pattern, &greedy, AskedTtl::Default);
        assert!(length < 8_000, "{length}");
        assert!(matches!(kept.decide(&policy), Ok(Verdict::Refused { .. })));
    }
}
