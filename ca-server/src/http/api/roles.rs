//! Who may do what.

use std::collections::BTreeSet;

use axum::Json;
use axum::http::HeaderMap;
use axum::response::Response;
use pki::name::ClusterName;
use pki::pem;
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::clusters::no_content;
use super::extract::{Body, Call, IfMatch, NoBody, Path, Query, versioned};
use super::fault::Fault;
use super::page::{Page, PageQuery};
use super::proposals::{ProposalView, created, done};
use crate::app::acts::Act;
use crate::app::roles::{Binding, Role};
use crate::app::{Error, ErrorKind, administrators};
use crate::store::administrators::BindingRow;

/// A role that a principal has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BindingView {
    /// Its id.
    id: String,
    /// `cert:<common name>`, `oidc:<issuer>#<subject>` or `oidc-group:<issuer>#<group>`.
    principal: String,
    /// The role.
    role: Role,
    /// The clusters in which it holds; null for all.
    #[schema(value_type = Option<Vec<String>>)]
    clusters: Option<BTreeSet<ClusterName>>,
    /// When it was given.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// By whom.
    created_by: String,
}

fn view(row: BindingRow) -> BindingView {
    BindingView {
        clusters: row.scope.clusters().cloned(),
        id: row.id,
        principal: row.principal,
        role: row.role,
        created_at: row.created_at,
        created_by: row.created_by,
    }
}

/// A role to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBinding {
    /// `cert:<common name>`, `oidc:<issuer>#<subject>` or `oidc-group:<issuer>#<group>`.
    principal: String,
    /// The role.
    role: Role,
    /// The clusters in which it holds; all, where null or absent.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    clusters: Option<BTreeSet<ClusterName>>,
}

/// Who asks, and what it may do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WhoamiView {
    /// The caller.
    principal: String,
    /// Its roles.
    bindings: Vec<OwnBinding>,
}

/// A role of the caller's.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnBinding {
    /// Its id.
    id: String,
    /// The role.
    role: Role,
    /// The clusters in which it holds; null for all.
    #[schema(value_type = Option<Vec<String>>)]
    clusters: Option<BTreeSet<ClusterName>>,
}

fn own(binding: &Binding) -> OwnBinding {
    OwnBinding {
        id: binding.id.clone(),
        role: binding.role,
        clusters: binding.scope.clusters().cloned(),
    }
}

/// Who the caller is, and what it may do.
#[utoipa::path(get, path = "/v1/whoami", tag = "Roles", responses((status = 200, body = WhoamiView)))]
pub(super) async fn whoami(call: Call) -> Json<WhoamiView> {
    let principal = call.permit.principal();
    Json(WhoamiView {
        principal: principal.name.clone(),
        bindings: principal.powers.bindings().iter().map(own).collect(),
    })
}

/// A request for the caller's next certificate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    /// PEM of a PKCS#10 request; its names are not looked at.
    csr: String,
    /// How long it shall live, as in `30d`; the profile's default where absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    ttl: Option<Ttl>,
}

/// An administrator's certificate.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RenewedView {
    /// PEM of the certificate and those above it but the root.
    chain: String,
    /// PEM of the roots to know the server by.
    bundle: String,
    /// Its serial number.
    serial: String,
    /// The last second of its validity.
    #[schema(value_type = String, format = DateTime)]
    not_after: Timestamp,
}

/// A new certificate under the same name, for an administrator who has one.
#[utoipa::path(post, path = "/v1/whoami/renew", tag = "Roles", request_body = Renewal, responses((status = 201, body = RenewedView)))]
pub(super) async fn renew(call: Call, Body(renewal): Body<Renewal>) -> Result<Response, Fault> {
    let actor = call.permit.oneself();
    let Some(name) = actor.name.strip_prefix("cert:").map(str::to_owned) else {
        let text = "a caller with a token has no certificate to renew";
        return Err(Error::new(ErrorKind::Denied, "token", text).into());
    };
    let longest = Profile::ADMIN.default_ttl();
    if renewal.ttl.is_some_and(|ttl| ttl > longest) {
        let text = format!(
            "renewed by itself a certificate lives {longest} at most: `ca-server admin issue` gives more"
        );
        return Err(Fault::unprocessable(text));
    }
    let request = pem::read_request(renewal.csr.as_bytes())
        .map_err(|error| Error::malformed("csr", error))?;
    let shown = call.permit.principal().certificate.as_ref();
    let issued = call
        .renew_administrator(&name, &request, renewal.ttl, shown, &actor)
        .await?;
    let view = RenewedView {
        chain: issued.chain_pem(),
        bundle: issued.bundle.pem.clone(),
        serial: issued.certificate.serial().to_string(),
        not_after: issued.certificate.not_after(),
    };
    Ok(axum::response::IntoResponse::into_response((
        axum::http::StatusCode::CREATED,
        Json(view),
    )))
}

/// The role bindings.
#[utoipa::path(get, path = "/v1/role-bindings", tag = "Roles", params(PageQuery), responses((status = 200, body = Page<BindingView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<BindingView>>, Fault> {
    call.permit.everywhere()?;
    let rows = call.context().store.bindings().await.map_err(Error::from)?;
    let views = rows.into_iter().map(view).collect();
    let page = Page::of(
        &call,
        views,
        query.limit,
        query.page.as_deref(),
        |view: &BindingView| format!("{} {}", view.principal, view.id),
    )?;
    Ok(Json(page))
}

/// Gives a role.
#[utoipa::path(post, path = "/v1/role-bindings", tag = "Roles", request_body = NewBinding, responses(
    (status = 201, body = BindingView), (status = 202, body = ProposalView)))]
pub(super) async fn create(call: Call, Body(new): Body<NewBinding>) -> Result<Response, Fault> {
    let actor = call.permit.everywhere()?;
    let act = Act::RoleBind {
        principal: new.principal,
        role: new.role,
        clusters: new.clusters,
    };
    let submitted = call.submit(act, &call.permit, &actor).await?;
    let id = match &submitted {
        crate::app::proposals::Submitted::Done(id) => id.clone(),
        crate::app::proposals::Submitted::Waits(_) => String::new(),
    };
    created(submitted, &format!("/v1/role-bindings/{id}"), async {
        let row = administrators::binding(call.context(), &id).await?;
        Ok((1, Json(view(row))))
    })
    .await
}

/// One role binding.
#[utoipa::path(get, path = "/v1/role-bindings/{id}", tag = "Roles", params(("id" = String, Path,)), responses((status = 200, body = BindingView)))]
pub(super) async fn show(
    call: Call,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    call.permit.everywhere()?;
    let row = administrators::binding(call.context(), &id).await?;
    // Bindings never change.
    Ok(versioned(&headers, 1, &view(row)))
}

/// Takes a role.
#[utoipa::path(delete, path = "/v1/role-bindings/{id}", tag = "Roles", params(("id" = String, Path,), ("If-Match" = String, Header,)), responses(
    (status = 204), (status = 202, body = ProposalView)))]
pub(super) async fn delete(
    call: Call,
    Path(id): Path<String>,
    condition: IfMatch,
    _: NoBody,
) -> Result<Response, Fault> {
    let actor = call.permit.everywhere()?;
    administrators::binding(call.context(), &id).await?;
    condition.check(1)?;
    let act = Act::RoleUnbind { id };
    Ok(done(call.submit(act, &call.permit, &actor).await?).unwrap_or_else(no_content))
}
