//! Clusters: what an operator says of one, and putting it in force.

mod bounds;
mod widens;

use pki::name::{ClusterName, TrustDomain};
use pki::policy::{ClusterPolicy, Rule};
use pki::profile::Profile;
use pki::time::Ttl;
use serde::{Deserialize, Serialize};

use super::acts::Change;
use super::{Actor, Context, Error, ErrorKind};
use crate::authn::token::{TokenIssuer, TokenIssuerConfig, TokenReviewConfig, TokenReviewer};
use crate::store::model::{ClusterRow, NewAudit};
pub use widens::widens;

/// What a cluster's authorities sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Certificates of workloads.
    #[default]
    Workloads,
    /// Other clusters' authorities: the fleet's online intermediate, which stands between them and the offline root.
    Fleet,
}

impl Role {
    const fn is_workloads(&self) -> bool {
        matches!(self, Self::Workloads)
    }
}

/// A cluster as an operator defines it: TOML in a file, JSON in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterDefinition {
    /// Its id, Istio's ClusterID.
    pub name: ClusterName,
    /// The trust domain of its workloads, as Istio's mesh configuration writes it.
    pub trust_domain: String,
    /// What its authorities sign.
    #[serde(default, skip_serializing_if = "Role::is_workloads")]
    pub role: Role,
    /// The lifetime of a workload that asks for none.
    #[serde(default = "default_ttl")]
    pub default_ttl: Ttl,
    /// The longest lifetime of a workload.
    #[serde(default = "max_ttl")]
    pub max_ttl: Ttl,
    /// Refuse Istio's callers a lifetime above the longest instead of shortening it.
    #[serde(default)]
    pub strict: bool,
    /// Who issues its service-account tokens, keys pinned.
    #[serde(default, rename = "token_issuer")]
    pub token_issuers: Vec<TokenIssuerConfig>,
    /// The API server that reviews tokens which no pinned key answers for.
    #[serde(default)]
    pub token_review: Option<TokenReviewConfig>,
    /// Who may have names beyond its own identity.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

fn default_ttl() -> Ttl {
    Profile::WORKLOAD.default_ttl()
}

fn max_ttl() -> Ttl {
    Profile::WORKLOAD.max_ttl()
}

impl ClusterDefinition {
    /// What a cluster is, as it is kept.
    ///
    /// # Errors
    /// When the row does not hold together.
    pub fn of(row: &ClusterRow) -> Result<Self, Error> {
        serde_json::from_str(&row.definition).map_err(Error::internal)
    }

    /// The longest life of any certificate that the cluster's authority signs for a caller.
    #[must_use]
    pub fn longest_ttl(&self) -> Ttl {
        let by_rule = self
            .rules
            .iter()
            .filter_map(|rule| Some(rule.longest_ttl(Profile::builtin(&rule.profile)?)));
        by_rule.fold(self.max_ttl, Ttl::max)
    }

    /// What policy decides by.
    ///
    /// # Errors
    /// When the trust domain is not one, or the lifetimes do not fit each other or the profile.
    pub fn policy(&self) -> Result<ClusterPolicy, Error> {
        let malformed = |text: String| Error::new(ErrorKind::Malformed, "cluster", text);
        let trust_domain = TrustDomain::parse_istio(&self.trust_domain)
            .map_err(|e| Error::malformed("cluster", e))?;
        if self.default_ttl > self.max_ttl || self.max_ttl > Profile::WORKLOAD.max_ttl() {
            return Err(malformed(format!(
                "default_ttl {} ≤ max_ttl {} ≤ {} does not hold",
                self.default_ttl,
                self.max_ttl,
                Profile::WORKLOAD.max_ttl()
            )));
        }
        let callers = self.token_issuers.len() + self.rules.len();
        if self.role == Role::Fleet && (callers > 0 || self.token_review.is_some()) {
            return Err(malformed(
                "a fleet signs other clusters' authorities, on an operator's word: it has no token_issuer, token_review or rule".to_owned(),
            ));
        }
        for rule in &self.rules {
            if ![Profile::SERVER, Profile::CLIENT]
                .iter()
                .any(|p| p.as_str() == rule.profile.as_str())
            {
                return Err(malformed(format!(
                    "rule {:?}: profile {} cannot be given by rule, server and client can",
                    rule.name, rule.profile
                )));
            }
        }
        Ok(ClusterPolicy {
            trust_domain,
            default_ttl: self.default_ttl,
            max_ttl: self.max_ttl,
            strict: self.strict,
            rules: self.rules.clone(),
        })
    }
}

fn issuers(definition: &ClusterDefinition) -> Result<Vec<TokenIssuer>, Error> {
    let issuers = definition
        .token_issuers
        .iter()
        .cloned()
        .map(TokenIssuer::try_from);
    issuers
        .collect::<Result<_, _>>()
        .map_err(|error| Error::malformed("cluster", error))
}

/// A key or an API server that two clusters trust would let one cluster's token speak for the other.
async fn refuse_shared_trust(
    context: &Context,
    definition: &ClusterDefinition,
    reviewer: Option<&TokenReviewer>,
) -> Result<(), Error> {
    let ours = issuers(definition)?;
    for row in context.store.clusters().await? {
        if row.name == definition.name {
            continue;
        }
        let other = ClusterDefinition::of(&row)?;
        if let (Some(ours), Some(theirs)) = (reviewer, &other.token_review)
            && let Ok(theirs) = TokenReviewer::new(theirs.clone()).await
            && ours.server() == theirs.server()
        {
            return Err(Error::new(
                ErrorKind::Conflict,
                "cluster",
                format!(
                    "another cluster asks the same API server, {}: a token of one would be good for the other",
                    ours.server()
                ),
            )
            .because(format!("the other one is cluster {}", row.name)));
        }
        let theirs = issuers(&other)?;
        let shared = ours
            .iter()
            .any(|a| theirs.iter().any(|b| a.jwks().shares_a_key_with(b.jwks())));
        if shared {
            return Err(Error::new(
                ErrorKind::Conflict,
                "cluster",
                "another cluster pins the same token key: a token of one would be good for the other",
            )
            .because(format!("the other one is cluster {}", row.name)));
        }
    }
    Ok(())
}

/// Creates the cluster, or changes it when it is there, whatever it is now.
///
/// # Errors
/// When the definition does not hold together, would move the cluster to another trust domain, or the store is away.
pub async fn apply(
    context: &Context,
    definition: &ClusterDefinition,
    actor: &Actor,
) -> Result<&'static str, Error> {
    let row = check(context, definition).await?;
    let there = context.store.cluster(&definition.name).await?;
    put(context, row, there, actor).await
}

/// Creates the cluster (`version` absent), or changes it while it is still at `version`.
///
/// # Errors
/// As [`apply`], and `Conflict` when it is at another version.
pub async fn apply_at(
    context: &Context,
    definition: &ClusterDefinition,
    version: Option<i64>,
    actor: &Actor,
) -> Result<&'static str, Error> {
    let row = check(context, definition).await?;
    let there = at_version(context, &definition.name, version).await?;
    put(context, row, there, actor).await
}

async fn at_version(
    context: &Context,
    name: &ClusterName,
    version: Option<i64>,
) -> Result<Option<ClusterRow>, Error> {
    let there = context.store.cluster(name).await?;
    let conflict = |text: String| Err(Error::new(ErrorKind::Conflict, "cluster", text));
    match (&there, version) {
        (Some(_), None) => conflict(format!("there is a cluster {name} already")),
        (None, Some(_)) => Err(not_found(name)),
        (Some(row), Some(version)) if row.version != version => {
            conflict(format!("cluster {name} has changed meanwhile"))
        }
        _ => Ok(there),
    }
}

/// The cluster of this name.
///
/// # Errors
/// When there is none, or the store is away.
pub async fn find(context: &Context, name: &ClusterName) -> Result<ClusterRow, Error> {
    let row = context.store.cluster(name).await?;
    row.ok_or_else(|| not_found(name))
}

pub(crate) fn not_found(name: &ClusterName) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "cluster",
        format!("there is no cluster {name}"),
    )
}

/// Deletes a cluster and its enrolments.
///
/// # Errors
/// When there is none, it has authorities, or the store is away.
pub async fn delete(context: &Context, name: &ClusterName, actor: &Actor) -> Result<(), Error> {
    let rows = context.store.authorities().await?;
    let own: Vec<_> = rows.iter().filter(|row| row.cluster == *name).collect();
    if let Some(last) = own.last() {
        return Err(Error::new(
            ErrorKind::Conflict,
            "in-use",
            format!(
                "cluster {name} has {} authorities ({} is {}): what they issued and revoked stays on record under it",
                own.len(),
                last.id,
                last.state
            ),
        ));
    }
    let detail = serde_json::json!({ "cluster": name });
    let audit = [actor.did(context.clock.untrusted_now(), "cluster.delete", &detail)];
    match context.store.delete_cluster(name, &audit).await? {
        true => Ok(()),
        false => Err(not_found(name)),
    }
}

/// What putting `definition` in place of what is there would change, field by field.
///
/// # Errors
/// As [`apply_at`].
pub async fn changes(
    context: &Context,
    definition: &ClusterDefinition,
    version: Option<i64>,
) -> Result<Vec<Change>, Error> {
    let row = check(context, definition).await?;
    let there = at_version(context, &definition.name, version).await?;
    if let Some(there) = &there {
        check_same(there, &row, definition.role)?;
    }
    let fields = |text: Option<&str>| -> Result<serde_json::Map<String, serde_json::Value>, Error> {
        text.map_or_else(
            || Ok(serde_json::Map::new()),
            |text| serde_json::from_str(text).map_err(Error::internal),
        )
    };
    let before = fields(there.as_ref().map(|row| row.definition.as_str()))?;
    let after = fields(Some(&row.definition))?;
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| Change {
            what: format!("cluster {}: {name}", definition.name),
            before: before.get(name).map(ToString::to_string),
            after: after.get(name).map(ToString::to_string),
        })
        .collect())
}

/// Whether a definition holds together, and what is kept of it.
async fn check(context: &Context, definition: &ClusterDefinition) -> Result<ClusterRow, Error> {
    let policy = definition.policy()?;
    definition.check_rules()?;
    // Made and dropped: what this machine cannot follow is refused here, where somebody reads it.
    let reviewer = match &definition.token_review {
        Some(config) => Some(
            TokenReviewer::new(config.clone())
                .await
                .map_err(|error| Error::malformed("token_review", error))?,
        ),
        None => None,
    };
    refuse_shared_trust(context, definition, reviewer.as_ref()).await?;
    Ok(ClusterRow {
        name: definition.name.clone(),
        trust_domain: policy.trust_domain,
        definition: serde_json::to_string(definition).map_err(Error::internal)?,
        version: 0,
    })
}

fn check_same(there: &ClusterRow, row: &ClusterRow, wanted: Role) -> Result<(), Error> {
    let conflict = |text: String| Err(Error::new(ErrorKind::Conflict, "cluster", text));
    if there.trust_domain != row.trust_domain {
        return conflict(format!(
            "cluster {} is in trust domain {}; one that moves to {} is another cluster",
            there.name, there.trust_domain, row.trust_domain
        ));
    }
    if role(there)? != wanted {
        return conflict(format!(
            "cluster {} keeps its role: one that signs something else is another cluster",
            there.name
        ));
    }
    Ok(())
}

async fn put(
    context: &Context,
    mut row: ClusterRow,
    there: Option<ClusterRow>,
    actor: &Actor,
) -> Result<&'static str, Error> {
    let done = match there {
        None => {
            let audit = [apply_entry(context, actor, &row, None)?];
            context.store.insert_cluster(&row, &audit).await?;
            "created"
        }
        Some(there) if there.definition == row.definition => return Ok("unchanged"),
        Some(there) => {
            check_same(&there, &row, role(&row)?)?;
            row.version = there.version;
            let audit = [apply_entry(context, actor, &row, Some(&there.definition))?];
            let store = &context.store;
            store.update_cluster(&row, there.version, &audit).await?;
            "changed"
        }
    };
    Ok(done)
}

/// What a cluster is now, and what it was.
fn apply_entry(
    context: &Context,
    actor: &Actor,
    row: &ClusterRow,
    before: Option<&str>,
) -> Result<NewAudit, Error> {
    let read =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).map_err(Error::internal);
    let detail = serde_json::json!({
        "cluster": row.name,
        "definition": read(&row.definition)?,
        "before": before.map(read).transpose()?,
    });
    let now = context.clock.untrusted_now();
    Ok(actor.did(now, "cluster.apply", &detail))
}

/// What the cluster's authorities sign.
///
/// # Errors
/// When the row does not hold together.
pub(super) fn role(row: &ClusterRow) -> Result<Role, Error> {
    Ok(ClusterDefinition::of(row)?.role)
}
