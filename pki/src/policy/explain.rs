//! A decision, told step by step.

use std::fmt;

use serde::Serialize;

use super::decide::{Notes, judge};
use super::{Asked, AskedTtl, ClusterPolicy, Grant, Identity, Refusal};
use crate::profile::Profile;

/// How a decision came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Each check and each rule in the order in which it was looked at. One of them grants or refuses; the rules behind it
    /// are [`Outcome::NotReached`].
    pub steps: Vec<Step>,
    /// What [`super::decide`] says.
    pub decision: Result<Grant, Refusal>,
}

/// One check or rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is called: a configured rule's name, or one of this module's constants.
    pub rule: String,
    /// What came of it.
    pub outcome: Outcome,
    /// Why, for people.
    pub why: String,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A check that the request passed.
    Passes,
    /// A rule that is not for this request.
    DoesNotFit,
    /// It is granted here.
    Grants,
    /// It is refused here.
    Refuses,
    /// A rule behind the one that decided.
    NotReached,
}

impl Outcome {
    /// Its name in interfaces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::DoesNotFit => "does-not-fit",
            Self::Grants => "grants",
            Self::Refuses => "refuses",
            Self::NotReached => "not-reached",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides as [`super::decide`] does, by the same path, and tells each step.
#[must_use]
pub fn explain<'a>(
    policy: &ClusterPolicy,
    identity: &Identity,
    profile: Profile,
    asked: impl Into<Asked<'a>>,
    ttl: AskedTtl,
) -> Explanation {
    let mut steps = Told(Vec::new());
    let decision = judge(policy, identity, profile, asked.into(), ttl, &mut steps);
    Explanation {
        steps: steps.0,
        decision,
    }
}

struct Told(Vec<Step>);

impl Notes for Told {
    fn note(&mut self, rule: &str, outcome: Outcome, why: impl FnOnce() -> String) {
        self.0.push(Step {
            rule: rule.to_owned(),
            outcome,
            why: why(),
        });
    }
}
