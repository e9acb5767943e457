//! The fleet's authority: online, at the centre, it signs other clusters' authorities, so that the offline root need not be
//! brought out for each of them, and revokes them at once.

use std::sync::Arc;

use pki::artefact::Prepared;
use pki::certificate::{AuthorityRequest, Certificate, prepare_authority};
use pki::csr::VerifiedCsr;
use pki::extension::SubjectNames;
use pki::name::{AuthorityId, DistinguishedName};
use pki::policy::{AskedTtl, Grant};
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};

use super::cluster::Role;
use super::issue::{Asked, IssuedCertificate, not_recorded, record};
use super::state::{Authority, PublishedBundle, Snapshot};
use super::{Actor, Context, Error, ErrorKind, authority, status};
use crate::entropy;
use crate::store::model::{AuthorityRow, AuthorityState};

/// Signs a requested authority by the fleet's, and imports it.
///
/// If we crash after the certificate is on record and before it is imported, it was never released; doing it again makes
/// another one.
///
/// # Errors
/// When it is not a requested authority of workloads, there is no fleet's authority that is active, it would outlive the
/// fleet's, or the store is away.
pub async fn sign(
    context: &Context,
    id: &AuthorityId,
    life: Option<Ttl>,
    actor: &Actor,
) -> Result<AuthorityRow, Error> {
    let row = authority::find_in(context, id, AuthorityState::Requested, "signed").await?;
    let snapshot = Snapshot::load(context, None).await?;
    let fleet = the_fleet(&snapshot)?;
    if fleet.cluster == row.cluster {
        return Err(Error::new(
            ErrorKind::Conflict,
            "role",
            format!("{id} is the fleet's own: the offline root signs it"),
        ));
    }
    let subject = subject(context, &row).await?;
    let csr = VerifiedCsr::parse(&row.request).map_err(Error::internal)?;
    let profile = Profile::CLUSTER_INTERMEDIATE;
    let grant = Grant {
        profile,
        names: SubjectNames::default(),
        subject: Some(subject),
        ttl: life.unwrap_or(profile.default_ttl()),
        rule: "fleet".to_owned(),
    };
    let now = context.clock.trusted_now()?;
    let prepared = prepare(context, fleet, &csr, &grant, now)?;
    let key = fleet.key.as_ref().ok_or_else(no_fleet)?;
    key.make_ready().await?;
    let issued = IssuedCertificate {
        certificate: key.seal(prepared).await?,
        authority: fleet.clone(),
        bundle: bundle(&snapshot, fleet)?,
    };
    let asked = Asked {
        cluster: &fleet.cluster,
        kind: "operator",
        caller: actor.name.clone(),
        detail: None,
        ttl: AskedTtl::Exactly(grant.ttl),
        request_id: &actor.request_id,
    };
    let record = record(asked, &csr, &grant, &issued, now)?;
    for result in context.store.record_batch(&[record]).await? {
        result.map_err(not_recorded)?;
    }
    let chain = std::iter::once(issued.certificate)
        .chain(fleet.chain.iter().cloned())
        .collect();
    authority::import(context, id, chain, None, actor).await
}

fn bundle(snapshot: &Snapshot, fleet: &Authority) -> Result<Arc<PublishedBundle>, Error> {
    let cluster = snapshot.clusters.get(&fleet.cluster).ok_or_else(no_fleet)?;
    let bundle = snapshot.bundles.get(&cluster.policy.trust_domain);
    bundle.cloned().ok_or_else(no_fleet)
}

fn prepare(
    context: &Context,
    fleet: &Authority,
    csr: &VerifiedCsr,
    grant: &Grant,
    now: Timestamp,
) -> Result<Prepared<Certificate>, Error> {
    let entropy = entropy::draw(&*context.entropy)?;
    let subject = grant.subject.as_ref().ok_or_else(no_fleet)?;
    let request = AuthorityRequest {
        profile: grant.profile,
        subject,
        key: csr.key(),
        path_len: Some(0),
        ttl: grant.ttl,
        urls: &status::urls(&context.settings, grant.profile, fleet, &entropy),
        entropy,
        now,
    };
    prepare_authority(&request, &fleet.issuer).map_err(|error| Error::malformed("authority", error))
}

/// The name in the request: each generation has one of its own.
async fn subject(context: &Context, row: &AuthorityRow) -> Result<DistinguishedName, Error> {
    let cluster = context.store.cluster(&row.cluster).await?;
    let cluster = cluster.ok_or_else(|| Error::internal("the authority's cluster is gone"))?;
    let organization = authority::short(cluster.trust_domain.as_str());
    DistinguishedName::new(Some(organization), &row.subject).map_err(Error::internal)
}

fn the_fleet(snapshot: &Snapshot) -> Result<&Arc<Authority>, Error> {
    let fleets: Vec<_> = snapshot
        .clusters
        .values()
        .filter(|cluster| cluster.role == Role::Fleet)
        .filter_map(|cluster| cluster.active.as_ref())
        .collect();
    match fleets.as_slice() {
        [one] => Ok(one),
        [] => Err(no_fleet()),
        [a, b, ..] => Err(Error::new(
            ErrorKind::Conflict,
            "fleet",
            format!(
                "clusters {} and {} are both fleets: one installation has one",
                a.cluster, b.cluster
            ),
        )),
    }
}

fn no_fleet() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "fleet",
        "there is no cluster of role \"fleet\" with an active authority: the offline root signs the request",
    )
}

/// The authority of ours that certified `row`, where one did.
///
/// # Errors
/// When the store is away, or a row does not hold together.
pub async fn issuer_of(
    context: &Context,
    row: &AuthorityRow,
) -> Result<Option<AuthorityRow>, Error> {
    let Some(above) = row.chain.get(1) else {
        return Ok(None);
    };
    let above = Certificate::parse(above).map_err(Error::internal)?;
    let rows = context.store.authorities().await?;
    Ok(rows.into_iter().find(|other| other.spki == above.spki()))
}

/// Authorities that `row` certified, and that still do something.
///
/// # Errors
/// When the store is away, or a row does not hold together.
pub async fn below(context: &Context, row: &AuthorityRow) -> Result<Vec<AuthorityRow>, Error> {
    use AuthorityState as S;
    let mut found = Vec::new();
    for other in context.store.authorities().await? {
        let Some(above) = other.chain.get(1) else {
            continue;
        };
        let above = Certificate::parse(above).map_err(Error::internal)?;
        if above.spki() == row.spki && !matches!(other.state, S::Revoked | S::Retired) {
            found.push(other);
        }
    }
    Ok(found)
}
