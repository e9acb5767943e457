//! Revoking certificates, putting them on hold, and lifting holds.

use axum::Json;
use pki::crl::Reason;
use pki::name::{AuthorityId, ClusterName, DnsName, SpiffeId};
use pki::profile::Profile;
use pki::serial::Serial;
use pki::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authorities;
use super::certificates::{CertificateView, find, view};
use super::extract::{Body, Call, NoBody, Path};
use super::fault::Fault;
use crate::app::Actor;
use crate::app::acts::digest;
use crate::app::operations::Operation;
use crate::app::permit;
use crate::app::revocation::{self, Found, Selection, Summary};
use crate::app::{Error, ErrorKind};
use crate::store::model::StoredRecord;

/// Why a certificate is revoked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Revocation {
    /// RFC 5280 §5.3.1: `unspecified`, `keyCompromise`, `affiliationChanged`, `superseded`, `cessationOfOperation` or
    /// `privilegeWithdrawn`.
    reason: String,
}

fn reason(text: &str) -> Result<Reason, Fault> {
    match text.parse() {
        Ok(Reason::CertificateHold) => Err(Fault::unprocessable(
            "the body: certificateHold is an act of its own, because it can be lifted",
        )),
        Ok(reason) => Ok(reason),
        Err(_) => Err(Fault::unprocessable(format!(
            "the body: {text:?} is no reason of RFC 5280 §5.3.1: expected unspecified, keyCompromise, affiliationChanged, superseded, \
             cessationOfOperation or privilegeWithdrawn"
        ))),
    }
}

/// What is done to certificates.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// For good.
    Revoke,
    /// Until it is lifted.
    Hold,
    /// The hold ends.
    Lift,
}

async fn act(
    call: &Call,
    found: &Found,
    action: Action,
    why: Option<Reason>,
    actor: &Actor,
) -> Result<Summary, Fault> {
    let context = call.context();
    let summary = match action {
        Action::Revoke => {
            let why =
                why.ok_or_else(|| Fault::unprocessable("the body: a revocation has a reason"))?;
            revocation::revoke(context, found, why, actor).await?
        }
        Action::Hold => revocation::revoke(context, found, Reason::CertificateHold, actor).await?,
        Action::Lift => revocation::lift(context, found, actor).await?,
    };
    Ok(summary)
}

/// Whoever is no security officer neither locks one out nor lets one in again.
fn spare_administrators(call: &Call, stored: &StoredRecord) -> Result<(), Fault> {
    let is_one = stored.record.profile.as_str() == Profile::ADMIN.as_str();
    if is_one && !call.permit.also(Operation::RoleUnbind, None) {
        return Err(permit::denied(Operation::RoleUnbind).into());
    }
    Ok(())
}

async fn one(
    call: &Call,
    serial: Serial,
    action: Action,
    why: Option<Reason>,
) -> Result<Json<CertificateView>, Fault> {
    let (stored, actor) = find(call, &serial).await?;
    spare_administrators(call, &stored)?;
    let selection = Selection {
        serials: vec![serial],
        ..Selection::default()
    };
    let found = revocation::select(call.context(), &selection).await?;
    let summary = act(call, &found, action, why, &actor).await?;
    if summary.standing > 0 && !matches!(action, Action::Revoke) {
        let text = format!(
            "certificate {serial} is revoked, or on hold, already: what is revoked stays so"
        );
        return Err(Error::new(ErrorKind::Conflict, "standing", text).into());
    }
    if summary.not_held > 0 {
        let text = format!("certificate {serial} is not on hold: there is nothing to lift");
        return Err(Error::new(ErrorKind::Conflict, "not-held", text).into());
    }
    let (stored, _) = find(call, &serial).await?;
    Ok(Json(view(call, stored)))
}

/// Revokes a certificate, for good. One that is revoked already stays as it is.
#[utoipa::path(post, path = "/v1/certificates/{serial}/revoke", tag = "Certificates", params(("serial" = String, Path,)), request_body = Revocation,
    responses((status = 200, body = CertificateView)))]
pub(super) async fn revoke(
    call: Call,
    Path(serial): Path<Serial>,
    Body(body): Body<Revocation>,
) -> Result<Json<CertificateView>, Fault> {
    let why = reason(&body.reason)?;
    one(&call, serial, Action::Revoke, Some(why)).await
}

/// Puts a certificate on hold: revoked, until it is lifted.
#[utoipa::path(post, path = "/v1/certificates/{serial}/hold", tag = "Certificates", params(("serial" = String, Path,)), responses((status = 200, body = CertificateView)))]
pub(super) async fn hold(
    call: Call,
    Path(serial): Path<Serial>,
    _: NoBody,
) -> Result<Json<CertificateView>, Fault> {
    one(&call, serial, Action::Hold, None).await
}

/// Lifts a hold.
#[utoipa::path(post, path = "/v1/certificates/{serial}/lift", tag = "Certificates", params(("serial" = String, Path,)), responses((status = 200, body = CertificateView)))]
pub(super) async fn lift(
    call: Call,
    Path(serial): Path<Serial>,
    _: NoBody,
) -> Result<Json<CertificateView>, Fault> {
    one(&call, serial, Action::Lift, None).await
}

/// Which certificates, and what becomes of them. With `serials`: exactly these. Otherwise all that live and fit every other
/// condition, the server's own left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ManyRevocations {
    /// What is done.
    action: Action,
    /// Why they are revoked; none for holds and lifts.
    #[serde(default)]
    reason: Option<String>,
    /// Only show what it would hit.
    #[serde(default)]
    dry_run: bool,
    /// With these serial numbers.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    serials: Vec<Serial>,
    /// With this SPIFFE id.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    spiffe_id: Option<SpiffeId>,
    /// With this host name.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    dns: Option<DnsName>,
    /// With the key whose SubjectPublicKeyInfo has this SHA-256.
    #[serde(default)]
    key: Option<String>,
    /// Of this cluster. Who has the role in some clusters alone has to say which.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    cluster: Option<ClusterName>,
    /// By this authority.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    authority: Option<AuthorityId>,
    /// Issued at this time or later.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    issued_from: Option<Timestamp>,
    /// Issued before this time.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    issued_to: Option<Timestamp>,
}

/// How many of what.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupView {
    /// The cluster.
    cluster: String,
    /// The profile.
    profile: String,
    /// How many certificates.
    count: usize,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevocationsView {
    /// Whether nothing was done.
    dry_run: bool,
    /// How many certificates fit.
    found: usize,
    /// How many of each cluster and profile.
    groups: Vec<GroupView>,
    /// The first of them, as they were.
    first: Vec<CertificateView>,
    /// How many of the server's own would have fitted.
    own_left_out: usize,
    /// How many changed.
    changed: usize,
    /// How many were so already.
    standing: usize,
    /// How many were not on hold.
    not_held: usize,
}

/// Most serial numbers at a time.
const MAX_SERIALS: usize = 500;

/// Revokes many certificates, puts them on hold, or lifts holds.
#[utoipa::path(post, path = "/v1/revocations", tag = "Certificates", request_body = ManyRevocations, responses((status = 200, body = RevocationsView)))]
pub(super) async fn many(
    call: Call,
    Body(body): Body<ManyRevocations>,
) -> Result<Json<RevocationsView>, Fault> {
    if body.serials.len() > MAX_SERIALS {
        return Err(Fault::unprocessable(format!(
            "the body: at most {MAX_SERIALS} serials at a time"
        )));
    }
    let narrowed = body.spiffe_id.is_some()
        || body.dns.is_some()
        || body.key.is_some()
        || body.authority.is_some()
        || body.issued_from.is_some()
        || body.issued_to.is_some();
    if !body.serials.is_empty() && (narrowed || body.cluster.is_some()) {
        return Err(Fault::unprocessable(
            "the body: serials stand alone, they say exactly which",
        ));
    }
    if body.spiffe_id.is_some() && body.dns.is_some() {
        return Err(Fault::unprocessable(
            "the body: spiffe_id and dns exclude each other",
        ));
    }
    let why = body.reason.as_deref().map(reason).transpose()?;
    if why.is_some() && !matches!(body.action, Action::Revoke) {
        return Err(Fault::unprocessable(
            "the body: holds and lifts have no reason",
        ));
    }
    let actor = leave(&call, &body).await?;
    let selection = Selection {
        serials: body.serials,
        name: body
            .spiffe_id
            .map(|id| format!("URI:{id}"))
            .or(body.dns.map(|name| format!("DNS:{name}"))),
        key: body.key.as_deref().map(digest).transpose()?,
        cluster: body.cluster,
        authority: body.authority,
        issued_from: body.issued_from,
        issued_to: body.issued_to,
    };
    let mut found = revocation::select(call.context(), &selection).await?;
    let first = std::mem::take(&mut found.first);
    let summary = match body.dry_run {
        true => Summary::default(),
        false => act(&call, &found, body.action, why, &actor).await?,
    };
    let groups = found
        .groups
        .iter()
        .map(|((cluster, profile), count)| GroupView {
            cluster: cluster.to_string(),
            profile: profile.to_string(),
            count: *count,
        })
        .collect();
    Ok(Json(RevocationsView {
        dry_run: body.dry_run,
        found: found.len(),
        groups,
        first: first
            .into_iter()
            .map(|stored| view(&call, stored))
            .collect(),
        own_left_out: found.own_left_out,
        changed: summary.changed,
        standing: summary.standing,
        not_held: summary.not_held,
    }))
}

/// Leave for everything that may be hit: in the cluster that is named, for each serial number, or everywhere.
async fn leave(call: &Call, body: &ManyRevocations) -> Result<Actor, Fault> {
    if let Some(id) = &body.authority {
        authorities::find(call, id).await?;
    }
    if let Some(cluster) = &body.cluster {
        return Ok(call.permit.in_cluster(cluster)?);
    }
    if body.serials.is_empty() && call.permit.scope().clusters().is_some() {
        let text = "your role holds in some clusters alone: say in which (`cluster`)";
        return Err(Error::new(ErrorKind::Denied, "scope", text).into());
    }
    if body.serials.is_empty() {
        return Ok(call.permit.everywhere()?);
    }
    let mut leave = None;
    for serial in &body.serials {
        let (stored, actor) = find(call, serial).await?;
        spare_administrators(call, &stored)?;
        leave = Some(actor);
    }
    leave.ok_or_else(|| Fault::unprocessable("the body: name what is meant"))
}
