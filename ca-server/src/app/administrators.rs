//! Administrators: their certificates and their roles.

use std::collections::BTreeSet;

use pki::crypto;
use pki::csr::VerifiedCsr;
use pki::extension::SubjectNames;
use pki::name::{ClusterName, DistinguishedName};
use pki::policy::{AskedTtl, Grant};
use pki::profile::Profile;
use pki::time::Ttl;
use serde_json::json;

use super::actor::Actor;
use super::caller::Shown;
use super::issue::{
    Asked, IssuedCertificate, no_authority, not_recorded, record, sign_by, still_stands,
};
use super::roles::{Role, Scope};
use super::state::Snapshot;
use super::{App, Context, Error, ErrorKind, cluster};
use crate::entropy;
use crate::store::administrators::BindingRow;

/// The longest name of a principal.
const PRINCIPAL_MAX: usize = 512;

fn malformed(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Malformed, "principal", text.into())
}

/// The name of an administrator's certificate: what the API knows its holder by.
///
/// # Errors
/// When it is empty, too long, or has letters that look like others.
pub fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(malformed(format!(
            "{name:?} is no administrator's name: expected 1 to 64 of a-z, A-Z, 0-9, . - _ @"
        )))
    }
}

/// Whether a role may be given to `principal` in these clusters.
///
/// # Errors
/// When it is no principal's name, or there is no such cluster.
pub async fn check_principal(
    context: &Context,
    principal: &str,
    clusters: Option<&BTreeSet<ClusterName>>,
) -> Result<(), Error> {
    let printable = principal.chars().all(|c| c.is_ascii_graphic());
    if principal.len() > PRINCIPAL_MAX || !printable {
        return Err(malformed(
            "a principal has at most 512 printable ASCII characters, and no spaces",
        ));
    }
    match principal.split_once(':') {
        Some(("cert", name)) => check_name(name)?,
        Some(("oidc" | "oidc-group", rest)) => {
            let whole = rest.rsplit_once('#').is_some_and(|(issuer, who)| {
                issuer.len() > "https://".len() && issuer.starts_with("https://") && !who.is_empty()
            });
            if !whole {
                return Err(malformed(format!(
                    "{principal:?}: expected oidc:https://issuer#subject or oidc-group:https://issuer#group"
                )));
            }
        }
        _ => {
            return Err(malformed(format!(
                "{principal:?} is no principal: expected cert:<common name>, oidc:<issuer>#<subject> or oidc-group:<issuer>#<group>"
            )));
        }
    }
    let Some(clusters) = clusters else {
        return Ok(());
    };
    if clusters.is_empty() {
        return Err(malformed(
            "clusters: name at least one; a role everywhere has no list",
        ));
    }
    for name in clusters {
        cluster::find(context, name).await?;
    }
    Ok(())
}

/// Gives a role.
///
/// # Errors
/// When it is no principal's name, it has that role there already, or the store is away.
pub async fn bind(
    context: &Context,
    principal: &str,
    role: Role,
    scope: Scope,
    actor: &Actor,
) -> Result<BindingRow, Error> {
    check_principal(context, principal, scope.clusters()).await?;
    let id: [u8; 6] = entropy::draw(&*context.entropy)?;
    let now = context.clock.trusted_now()?;
    let row = BindingRow {
        id: crypto::hex(&id),
        principal: principal.to_owned(),
        role,
        scope,
        created_at: now,
        created_by: actor.name.clone(),
        seal: [0; 32],
    }
    .sealed(context.row_key()?);
    let detail = json!({
        "id": row.id, "principal": principal, "role": role, "clusters": row.scope.clusters(),
    });
    let audit = actor.did(now, "role.bind", &detail);
    context.store.insert_binding(&row, &audit).await?;
    Ok(row)
}

/// One binding.
///
/// # Errors
/// When there is none of this id, or the store is away.
pub async fn binding(context: &Context, id: &str) -> Result<BindingRow, Error> {
    let rows = context.store.bindings().await?;
    rows.into_iter().find(|row| row.id == id).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "role-binding",
            format!("there is no role binding {id}"),
        )
    })
}

/// Whether a role may be taken: somebody has to remain who can give roles.
///
/// # Errors
/// When it is the last one that can, or the store is away.
pub async fn check_unbind(context: &Context, row: &BindingRow) -> Result<(), Error> {
    let gives_roles =
        |row: &BindingRow| row.role == Role::SecurityOfficer && row.scope == Scope::All;
    let rows = context.store.bindings().await?;
    let others = rows.iter().filter(|other| other.id != row.id);
    if gives_roles(row) && !others.into_iter().any(gives_roles) {
        return Err(last_officer());
    }
    Ok(())
}

/// Takes a role.
///
/// # Errors
/// As [`check_unbind`], or when it is gone meanwhile.
pub async fn unbind(context: &Context, id: &str, actor: &Actor) -> Result<(), Error> {
    let row = binding(context, id).await?;
    check_unbind(context, &row).await?;
    let now = context.clock.untrusted_now();
    let detail = json!({
        "id": id, "principal": row.principal, "role": row.role, "clusters": row.scope.clusters(),
    });
    let audit = actor.did(now, "role.unbind", &detail);
    match context.store.delete_binding(id, &audit).await? {
        true => Ok(()),
        false => Err(last_officer()),
    }
}

fn last_officer() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "last-officer",
        "it is the last security officer of the whole installation, or gone: give the role to another first",
    )
}

impl App {
    /// Issues an administrator's next certificate, by what is in force in this server.
    ///
    /// # Errors
    /// As [`issue`].
    pub async fn renew_administrator(
        &self,
        name: &str,
        request: &[u8],
        ttl: Option<Ttl>,
        shown: Option<&Shown>,
        actor: &Actor,
    ) -> Result<IssuedCertificate, Error> {
        let turns = self.turns();
        turns.quota(&actor.name).await?;
        let _turn = turns.turn().await?;
        let snapshot = self.snapshot().clone();
        let home = &self.administration().home_cluster;
        let wish = Wish {
            name,
            request,
            ttl,
            shown,
        };
        issue_by(self.context(), &snapshot, home, &wish, actor).await
    }
}

/// Issues a certificate of profile `admin` for `name` from the home cluster's authority.
///
/// # Errors
/// When the request's key is not one for the profile, the lifetime is too long, no authority can sign, or the store does not
/// record it.
pub async fn issue(
    context: &Context,
    home: &ClusterName,
    name: &str,
    request: &[u8],
    ttl: Option<Ttl>,
    actor: &Actor,
) -> Result<IssuedCertificate, Error> {
    let snapshot = Snapshot::load(context, None).await?;
    let wish = Wish {
        name,
        request,
        ttl,
        shown: None,
    };
    issue_by(context, &snapshot, home, &wish, actor).await
}

/// An administrator's certificate that is to be.
struct Wish<'a> {
    name: &'a str,
    request: &'a [u8],
    ttl: Option<Ttl>,
    /// What proved who asks, where that may be revoked meanwhile.
    shown: Option<&'a Shown>,
}

async fn issue_by(
    context: &Context,
    snapshot: &Snapshot,
    home: &ClusterName,
    wish: &Wish<'_>,
    actor: &Actor,
) -> Result<IssuedCertificate, Error> {
    let Wish {
        name,
        request,
        ttl,
        shown,
    } = *wish;
    check_name(name)?;
    let csr = VerifiedCsr::parse(request).map_err(|error| Error::malformed("csr", error))?;
    let profile = Profile::ADMIN;
    if csr.asks_for_authority() || !profile.takes(csr.key().algorithm()) {
        return Err(Error::new(
            ErrorKind::Malformed,
            "csr",
            "an administrator's request has a P-256, P-384 or RSA key and asks for no CA certificate",
        ));
    }
    let ttl = ttl.unwrap_or(profile.default_ttl());
    if ttl > profile.max_ttl() {
        return Err(Error::new(
            ErrorKind::Malformed,
            "ttl",
            format!(
                "an administrator's certificate lives {} at most, {ttl} was asked for",
                profile.max_ttl()
            ),
        ));
    }
    let cluster = snapshot
        .clusters
        .get(home)
        .ok_or_else(|| no_authority(home))?;
    let active = cluster.active.as_ref().ok_or_else(|| no_authority(home))?;
    if let Some(key) = &active.key {
        key.make_ready().await?;
    }
    let grant = Grant {
        profile,
        names: SubjectNames::default(),
        subject: Some(
            DistinguishedName::new(None, name).map_err(|error| Error::malformed("name", error))?,
        ),
        ttl,
        rule: "administrator".to_owned(),
    };
    let now = context.clock.trusted_now()?;
    // Whoever waited for a turn or a token may have been revoked meanwhile.
    if let Some(shown) = shown {
        still_stands(context, shown, now).await?;
    }
    let issued = sign_by(context, snapshot, active, &grant, &csr, cluster, now).await?;
    let asked = Asked {
        cluster: home,
        kind: "operator",
        caller: actor.name.clone(),
        detail: None,
        ttl: AskedTtl::Exactly(ttl),
        request_id: &actor.request_id,
    };
    let record = record(asked, &csr, &grant, &issued, now)?;
    for result in context.store.record_batch(&[record]).await? {
        result.map_err(not_recorded)?;
    }
    let detail = json!({ "name": name, "serial": issued.certificate.serial(), "not_after": issued.certificate.not_after() });
    context
        .store
        .append_audit(&[actor.did(now, "administrator.issue", &detail)])
        .await?;
    Ok(issued)
}
