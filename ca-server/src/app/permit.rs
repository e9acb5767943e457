//! Leave to do one thing: made from a caller's powers and the operation's requirement, and asked for by what does it.

use pki::name::ClusterName;

use super::actor::Actor;
use super::caller::Shown;
use super::operations::{Operation, Reach};
use super::roles::{Powers, Scope};
use super::{Error, ErrorKind};

/// A proven caller of the API.
#[derive(Clone, Debug)]
pub struct Principal {
    /// `cert:<common name>` or `oidc:<issuer>#<subject>`.
    pub name: String,
    /// What it may do.
    pub powers: Powers,
    /// The address it calls from.
    pub remote: String,
    /// The certificate that proved it, if one did.
    pub certificate: Option<Shown>,
}

/// Leave for one operation, here or there. What changes anything asks it for an [`Actor`], which nobody else gives out.
#[derive(Clone, Debug)]
pub struct Permit {
    operation: Operation,
    principal: Principal,
    scope: Scope,
    rule: String,
    request_id: String,
}

impl Permit {
    /// Leave for `operation`, if the principal's roles give it.
    ///
    /// # Errors
    /// `Denied` with what it takes.
    pub fn new(
        principal: &Principal,
        operation: Operation,
        request_id: &str,
    ) -> Result<Self, Error> {
        let needed = operation.requirement();
        let (scope, rule) = match (needed.reach, principal.powers.reach(needed.role)) {
            (Reach::Oneself, _) => (Scope::Clusters(Default::default()), "oneself".to_owned()),
            (_, None) => return Err(denied(operation)),
            (Reach::Installation, Some((Scope::Clusters(_), _))) => return Err(denied(operation)),
            (_, Some((scope, binding))) => {
                (scope, format!("{} by binding {}", binding.role, binding.id))
            }
        };
        Ok(Self {
            operation,
            principal: principal.clone(),
            scope,
            rule,
            request_id: request_id.to_owned(),
        })
    }

    /// Who acts.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What it is for.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The clusters that may be seen.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Leave in a cluster that the request names. It is asked before the cluster is looked for: a cluster elsewhere and
    /// one that there is not are refused alike.
    ///
    /// # Errors
    /// `Denied` where the role does not hold there.
    pub fn in_cluster(&self, cluster: &ClusterName) -> Result<Actor, Error> {
        if self.scope.has(cluster) {
            Ok(self.actor())
        } else {
            Err(Error::new(
                ErrorKind::Denied,
                "scope",
                format!(
                    "your role {} does not hold in cluster {cluster}",
                    self.operation.requirement().role
                ),
            ))
        }
    }

    /// Leave in the whole installation.
    ///
    /// # Errors
    /// `Denied` where the role holds in some clusters alone.
    pub fn everywhere(&self) -> Result<Actor, Error> {
        match self.scope {
            Scope::All => Ok(self.actor()),
            Scope::Clusters(_) => Err(denied(self.operation)),
        }
    }

    /// A thing of a cluster, if it may be seen; what is elsewhere is not found, as what there is not.
    ///
    /// # Errors
    /// What `missing` says.
    pub fn find<T>(
        &self,
        found: Option<T>,
        cluster: impl Fn(&T) -> &ClusterName,
        missing: impl FnOnce() -> Error,
    ) -> Result<(T, Actor), Error> {
        found
            .filter(|thing| self.scope.has(cluster(thing)))
            .map(|thing| (thing, self.actor()))
            .ok_or_else(missing)
    }

    /// Who acts on itself.
    #[must_use]
    pub fn oneself(&self) -> Actor {
        self.actor()
    }

    /// Whether the same principal may also do `operation` in `cluster` (everywhere, where that is `None`).
    #[must_use]
    pub fn also(&self, operation: Operation, cluster: Option<&ClusterName>) -> bool {
        let reach = self.principal.powers.reach(operation.requirement().role);
        reach.is_some_and(|(scope, _)| match cluster {
            Some(cluster) => scope.has(cluster),
            None => scope == Scope::All,
        })
    }

    fn actor(&self) -> Actor {
        Actor {
            name: self.principal.name.clone(),
            remote: self.principal.remote.clone(),
            rule: self.rule.clone(),
            request_id: self.request_id.clone(),
        }
    }
}

/// The refusal of who lacks a role.
#[must_use]
pub fn denied(operation: Operation) -> Error {
    let needed = operation.requirement();
    let place = match needed.reach {
        Reach::Installation => "in the whole installation",
        Reach::Cluster | Reach::Oneself => "in the cluster",
    };
    Error::new(
        ErrorKind::Denied,
        "role",
        format!(
            "{} takes the role {} {place}",
            operation.as_str(),
            needed.role
        ),
    )
}
