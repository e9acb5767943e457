//! Who may administer what: principals, their roles, and where these hold.

use std::collections::BTreeSet;
use std::fmt;

use pki::name::ClusterName;
use serde::{Deserialize, Serialize};

/// What a principal may do; each role may what the one before may.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Runs the clusters: signs and revokes certificates, makes enrolment tokens, moves authorities on.
    Operator,
    /// Decides whom everyone trusts: imports and revokes authorities, gives roles, widens policies.
    SecurityOfficer,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::SecurityOfficer];

    /// Its name in the store and in interfaces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::SecurityOfficer => "security-officer",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
            .ok_or_else(|| format!("{text:?} is no role: viewer, operator or security-officer"))
    }
}

/// Where a role holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the whole installation.
    All,
    /// In these clusters.
    Clusters(BTreeSet<ClusterName>),
}

impl Scope {
    /// Whether it takes in a cluster.
    #[must_use]
    pub fn has(&self, cluster: &ClusterName) -> bool {
        match self {
            Self::All => true,
            Self::Clusters(names) => names.contains(cluster),
        }
    }

    /// The clusters that it is bounded to; `None` for all.
    #[must_use]
    pub fn clusters(&self) -> Option<&BTreeSet<ClusterName>> {
        match self {
            Self::All => None,
            Self::Clusters(names) => Some(names),
        }
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Clusters(mut a), Self::Clusters(b)) => {
                a.extend(b);
                Self::Clusters(a)
            }
            _ => Self::All,
        }
    }
}

/// A role that a principal, or everyone of a group, has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its id.
    pub id: String,
    /// `cert:<common name>`, `oidc:<issuer>#<subject>` or `oidc-group:<issuer>#<group>`.
    pub principal: String,
    /// The role.
    pub role: Role,
    /// Where it holds.
    pub scope: Scope,
}

/// What a caller of the API may do: its bindings.
#[derive(Clone, Debug, Default)]
pub struct Powers(Vec<Binding>);

impl Powers {
    /// Those of whoever has these bindings.
    #[must_use]
    pub fn new(bindings: Vec<Binding>) -> Self {
        Self(bindings)
    }

    /// The bindings.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.0
    }

    /// Where the caller may do what takes `role`, with the binding that says so; `None` for nowhere. Where several say so,
    /// one that holds everywhere is named.
    #[must_use]
    pub fn reach(&self, role: Role) -> Option<(Scope, &Binding)> {
        let fitting = || self.0.iter().filter(|binding| binding.role >= role);
        let named = fitting()
            .find(|binding| binding.scope == Scope::All)
            .or_else(|| fitting().next())?;
        let scope = fitting()
            .map(|binding| binding.scope.clone())
            .reduce(Scope::join)?;
        Some((scope, named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterName {
        ClusterName::parse(name).unwrap()
    }

    fn binding(role: Role, clusters: &[&str]) -> Binding {
        Binding {
            id: "b".to_owned(),
            principal: "cert:a".to_owned(),
            role,
            scope: match clusters {
                [] => Scope::All,
                names => Scope::Clusters(names.iter().map(|name| cluster(name)).collect()),
            },
        }
    }

    #[test]
    fn a_role_in_one_cluster_says_nothing_of_another() {
        let powers = Powers::new(vec![
            binding(Role::Operator, &["edge"]),
            binding(Role::Viewer, &["central"]),
        ]);
        let (scope, _) = powers.reach(Role::Operator).unwrap();
        assert!(scope.has(&cluster("edge")) && !scope.has(&cluster("central")));
        let (scope, _) = powers.reach(Role::Viewer).unwrap();
        assert!(scope.has(&cluster("edge")) && scope.has(&cluster("central")));
        assert!(!scope.has(&cluster("third")));
        assert!(powers.reach(Role::SecurityOfficer).is_none());
    }

    #[test]
    fn everywhere_takes_in_what_is_bounded() {
        let powers = Powers::new(vec![
            binding(Role::Operator, &["edge"]),
            binding(Role::SecurityOfficer, &[]),
        ]);
        let (scope, named) = powers.reach(Role::Operator).unwrap();
        assert_eq!(scope, Scope::All);
        assert_eq!(named.role, Role::SecurityOfficer);
    }
}
