//! Acts that change whom everyone trusts. Each can be shown before it is done, as it will be done, and may need a second
//! person to agree.

use std::collections::BTreeSet;
use std::fmt;

use pki::certificate::Certificate;
use pki::crl::Reason;
use pki::crypto::{self, Digest};
use pki::name::{AuthorityId, ClusterName, TrustDomain};
use pki::profile::Profile;
use pki::time::Ttl;
use pki::{ceremony, pem};
use serde::{Deserialize, Serialize};

use super::actor::Actor;
use super::cluster::{self, ClusterDefinition};
use super::operations::Operation;
use super::roles::{Role, Scope};
use super::{Context, Error, ErrorKind, administrators, authority, fleet, revocation, trust};
use crate::store::model::{AuthorityRow, AuthorityState, RecordFilter, RecordState};

/// What kind of act it is, as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActKind {
    /// A signed authority comes back.
    AuthorityImport,
    /// An authority is revoked.
    AuthorityRevoke,
    /// A role is given or taken.
    Role,
    /// A cluster gives more than before, or comes.
    PolicyWiden,
    /// A root goes out of a bundle.
    RootRemove,
}

impl ActKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::AuthorityImport,
        Self::AuthorityRevoke,
        Self::Role,
        Self::PolicyWiden,
        Self::RootRemove,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorityImport => "authority.import",
            Self::AuthorityRevoke => "authority.revoke",
            Self::Role => "role",
            Self::PolicyWiden => "policy.widen",
            Self::RootRemove => "root.remove",
        }
    }
}

impl fmt::Display for ActKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An act, with all that it will be done with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// Takes the signed certificate of a requested authority.
    AuthorityImport {
        /// Which.
        authority: AuthorityId,
        /// Its cluster.
        cluster: ClusterName,
        /// PEM of its certificate and those above it.
        chain: String,
        /// The SHA-256 of a root that is to be believed in from now on.
        new_root: Option<String>,
    },
    /// Has the fleet's authority sign a requested one, and takes it in.
    AuthoritySign {
        /// Which.
        authority: AuthorityId,
        /// How long it lives.
        life: Option<Ttl>,
    },
    /// Revokes an authority and all that it issued.
    AuthorityRevoke {
        /// Which.
        authority: AuthorityId,
        /// Its cluster.
        cluster: ClusterName,
        /// Why.
        reason: String,
    },
    /// Gives a role.
    RoleBind {
        /// To whom.
        principal: String,
        /// Which.
        role: Role,
        /// Where; everywhere, where absent.
        clusters: Option<BTreeSet<ClusterName>>,
    },
    /// Takes a role.
    RoleUnbind {
        /// The binding.
        id: String,
    },
    /// Puts a cluster's definition in force.
    ClusterApply {
        /// The definition.
        definition: Box<ClusterDefinition>,
        /// The version that it replaces; absent for a new cluster.
        version: Option<i64>,
    },
    /// Takes a root out of a bundle.
    RootRemove {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// SHA-256 of the root.
        sha256: String,
    },
}

/// One thing that an act changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// What is changed.
    pub what: String,
    /// How it is now.
    pub before: Option<String>,
    /// How it will be.
    pub after: Option<String>,
}

impl Change {
    fn new(what: impl Into<String>, before: Option<String>, after: Option<String>) -> Self {
        Self {
            what: what.into(),
            before,
            after,
        }
    }
}

fn reason(text: &str) -> Result<Reason, Error> {
    text.parse()
        .map_err(|error| Error::malformed("reason", error))
}

/// A SHA-256 as people carry it.
pub(crate) fn digest(text: &str) -> Result<Digest, Error> {
    crypto::digest_from_hex(text).ok_or_else(|| {
        Error::new(
            ErrorKind::Malformed,
            "digest",
            "a SHA-256 is 64 hexadecimal digits",
        )
    })
}

fn certificates(chain: &str) -> Result<Vec<Certificate>, Error> {
    let ders = pem::read_certificates(chain.as_bytes())
        .map_err(|error| Error::malformed("chain", error))?;
    ders.iter()
        .map(|der| Certificate::parse(der).map_err(|error| Error::malformed("chain", error)))
        .collect()
}

impl Act {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ActKind {
        match self {
            Self::AuthorityImport { .. } | Self::AuthoritySign { .. } => ActKind::AuthorityImport,
            Self::AuthorityRevoke { .. } => ActKind::AuthorityRevoke,
            Self::RoleBind { .. } | Self::RoleUnbind { .. } => ActKind::Role,
            Self::ClusterApply { .. } => ActKind::PolicyWiden,
            Self::RootRemove { .. } => ActKind::RootRemove,
        }
    }

    /// What whoever agrees to it must be allowed to do.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::AuthorityImport { .. } => Operation::AuthorityImport,
            Self::AuthoritySign { .. } => Operation::AuthoritySign,
            Self::AuthorityRevoke { .. } => Operation::AuthorityRevoke,
            Self::RoleBind { .. } => Operation::RoleBind,
            Self::RoleUnbind { .. } => Operation::RoleUnbind,
            Self::ClusterApply { version: None, .. } => Operation::ClusterCreate,
            Self::ClusterApply { .. } => Operation::ClusterUpdate,
            Self::RootRemove { .. } => Operation::RootRemove,
        }
    }

    /// What whoever asks for it, and whoever agrees to it, must be allowed: the act itself, and what follows from it. A root
    /// is everyone's in the trust domain, and what stands below an authority falls with it.
    ///
    /// # Errors
    /// When it cannot be done now, or the store is away.
    pub async fn needs(
        &self,
        context: &Context,
    ) -> Result<Vec<(Operation, Option<ClusterName>)>, Error> {
        let mut needs = vec![(self.operation(), self.cluster().cloned())];
        match self {
            Self::AuthorityImport {
                authority,
                chain,
                new_root,
                ..
            } => {
                let root = new_root.as_deref().map(digest).transpose()?;
                let importable =
                    authority::check(context, authority, certificates(chain)?, root.as_ref())
                        .await?;
                if importable.brings_a_root {
                    needs.push((Operation::RootRemove, None));
                }
            }
            Self::AuthorityRevoke { authority, .. } => {
                let row = authority::find(context, authority).await?;
                // Whoever locks administrators out takes their roles from them.
                if administrators_of(context, &row).await? > 0 {
                    needs.push((Operation::RoleUnbind, None));
                }
                for below in fleet::below(context, &row).await? {
                    needs.push((Operation::AuthorityRevoke, Some(below.cluster)));
                }
            }
            _ => {}
        }
        Ok(needs)
    }

    /// The cluster that it is about; `None` for the whole installation.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterName> {
        match self {
            Self::AuthorityImport { cluster, .. } | Self::AuthorityRevoke { cluster, .. } => {
                Some(cluster)
            }
            Self::ClusterApply {
                definition,
                version: Some(_),
            } => Some(&definition.name),
            _ => None,
        }
    }

    /// Checks it as far as it can be without doing it, and says what it will change.
    ///
    /// # Errors
    /// When it cannot be done now, or the store is away.
    pub async fn changes(&self, context: &Context) -> Result<Vec<Change>, Error> {
        match self {
            Self::AuthorityImport {
                authority,
                chain,
                new_root,
                ..
            } => import_changes(context, authority, chain, new_root.as_deref()).await,
            Self::AuthoritySign { authority, life } => {
                let requested = AuthorityState::Requested;
                let row = authority::find_in(context, authority, requested, "signed").await?;
                let life = life.map_or_else(
                    || "as long as its profile says".to_owned(),
                    |it| it.to_string(),
                );
                let key = crypto::hex(&crypto::sha256(&row.spki));
                Ok(vec![Change::new(
                    format!("authority {authority} ({}), key SHA-256 {key}", row.subject),
                    Some(row.state.to_string()),
                    Some(format!("signed by the fleet's authority, {life}")),
                )])
            }
            Self::AuthorityRevoke {
                authority, reason, ..
            } => revoke_changes(context, authority, reason).await,
            Self::RoleBind {
                principal,
                role,
                clusters,
            } => {
                administrators::check_principal(context, principal, clusters.as_ref()).await?;
                Ok(vec![Change::new(
                    format!("role of {principal}"),
                    None,
                    Some(format!("{role} in {}", place(clusters.as_ref()))),
                )])
            }
            Self::RoleUnbind { id } => {
                let row = administrators::binding(context, id).await?;
                administrators::check_unbind(context, &row).await?;
                let held = format!("{} in {}", row.role, place(row.scope.clusters()));
                Ok(vec![Change::new(
                    format!("role of {}", row.principal),
                    Some(held),
                    None,
                )])
            }
            Self::ClusterApply {
                definition,
                version,
            } => cluster::changes(context, definition, *version).await,
            Self::RootRemove {
                trust_domain,
                sha256,
            } => {
                let root = trust::check_remove(context, trust_domain, &digest(sha256)?).await?;
                Ok(vec![Change::new(
                    format!("roots of trust domain {trust_domain}"),
                    Some(format!(
                        "{} (SHA-256 {sha256})",
                        ceremony::name_words(root.subject())
                    )),
                    None,
                )])
            }
        }
    }

    /// Does it. Tells the id of what it was done to.
    ///
    /// # Errors
    /// As the act's own use case.
    pub async fn execute(&self, context: &Context, actor: &Actor) -> Result<String, Error> {
        match self {
            Self::AuthorityImport {
                authority,
                chain,
                new_root,
                ..
            } => {
                let root = new_root.as_deref().map(digest).transpose()?;
                let chain = certificates(chain)?;
                authority::import(context, authority, chain, root.as_ref(), actor).await?;
                Ok(authority.to_string())
            }
            Self::AuthoritySign { authority, life } => {
                fleet::sign(context, authority, *life, actor).await?;
                Ok(authority.to_string())
            }
            Self::AuthorityRevoke {
                authority,
                reason: why,
                ..
            } => {
                revocation::revoke_authority(context, authority, reason(why)?, actor).await?;
                Ok(authority.to_string())
            }
            Self::RoleBind {
                principal,
                role,
                clusters,
            } => {
                let scope = clusters.clone().map_or(Scope::All, Scope::Clusters);
                let row = administrators::bind(context, principal, *role, scope, actor).await?;
                Ok(row.id)
            }
            Self::RoleUnbind { id } => {
                administrators::unbind(context, id, actor).await?;
                Ok(id.clone())
            }
            Self::ClusterApply {
                definition,
                version,
            } => {
                cluster::apply_at(context, definition, *version, actor).await?;
                Ok(definition.name.to_string())
            }
            Self::RootRemove {
                trust_domain,
                sha256,
            } => {
                trust::remove_root(context, trust_domain, &digest(sha256)?, actor).await?;
                Ok(sha256.clone())
            }
        }
    }
}

fn place(clusters: Option<&BTreeSet<ClusterName>>) -> String {
    match clusters {
        None => "the whole installation".to_owned(),
        Some(names) => {
            let names: Vec<_> = names.iter().map(ClusterName::as_str).collect();
            names.join(", ")
        }
    }
}

async fn import_changes(
    context: &Context,
    id: &AuthorityId,
    chain: &str,
    new_root: Option<&str>,
) -> Result<Vec<Change>, Error> {
    let new_root = new_root.map(digest).transpose()?;
    let importable = authority::check(context, id, certificates(chain)?, new_root.as_ref()).await?;
    let words = |certificate: &Certificate| {
        format!(
            "{}, SHA-256 {}, valid {} to {}",
            ceremony::name_words(certificate.subject()),
            crypto::hex(&certificate.digest()),
            certificate.not_before(),
            certificate.not_after()
        )
    };
    let mut changes = vec![Change::new(
        format!("authority {id}"),
        Some("requested".to_owned()),
        importable.chain.first().map(words),
    )];
    if importable.brings_a_root {
        changes.push(Change::new(
            format!("roots of trust domain {}", importable.trust_domain),
            None,
            importable.chain.last().map(words),
        ));
    }
    Ok(changes)
}

async fn revoke_changes(
    context: &Context,
    id: &AuthorityId,
    why: &str,
) -> Result<Vec<Change>, Error> {
    let row = authority::find(context, id).await?;
    revocation::check_revoke_authority(&row, reason(why)?)?;
    let mut changes = vec![Change::new(
        format!("authority {id} ({})", row.subject),
        Some(row.state.to_string()),
        Some(format!("revoked for {why}, with all that it issued")),
    )];
    let administrators = administrators_of(context, &row).await?;
    if administrators > 0 {
        changes.push(Change::new(
            "administrators' certificates that it signed",
            Some(format!("{administrators} valid")),
            Some("revoked: whoever has one needs another first (`ca admin renew`, once another authority signs)".to_owned()),
        ));
    }
    for below in fleet::below(context, &row).await? {
        changes.push(Change::new(
            format!("authority {} ({}), below it", below.id, below.subject),
            Some(below.state.to_string()),
            Some(format!("revoked for {why}, with all that it issued")),
        ));
    }
    Ok(changes)
}

/// How many administrators would be locked out.
async fn administrators_of(context: &Context, row: &AuthorityRow) -> Result<usize, Error> {
    let filter = RecordFilter {
        authority: Some(row.id.clone()),
        profile: Some(Profile::ADMIN.name().map_err(Error::internal)?),
        state: Some(RecordState::Valid),
        limit: RecordFilter::LIMIT_MAX,
        ..RecordFilter::ever(context.clock.untrusted_now())
    };
    Ok(context.store.search(&filter).await?.records.len())
}
