//! Clusters: what they are and allow.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use pki::name::ClusterName;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Body, Call, IfMatch, NoBody, Path, Query, versioned};
use super::fault::Fault;
use super::page::{Page, PageQuery};
use super::proposals::{ProposalView, created, done};
use super::schema::DefinitionSchema;
use crate::app::acts::Act;
use crate::app::cluster::{self, ClusterDefinition};
use crate::app::operations::Operation;
use crate::app::{Error, ErrorKind, permit};
use crate::store::model::ClusterRow;

/// A cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClusterView {
    /// Its definition.
    #[schema(value_type = DefinitionSchema)]
    definition: ClusterDefinition,
    /// The authority that signs for it.
    active_authority: Option<String>,
    /// Grows with each change; its ETag.
    version: i64,
}

pub(super) fn view(call: &Call, row: &ClusterRow) -> Result<ClusterView, Fault> {
    let snapshot = call.snapshot();
    let active = snapshot
        .clusters
        .get(&row.name)
        .and_then(|cluster| cluster.active.as_ref());
    Ok(ClusterView {
        definition: ClusterDefinition::of(row)?,
        active_authority: active.map(|authority| authority.id.to_string()),
        version: row.version,
    })
}

/// A cluster in which the caller has leave.
pub(super) async fn find(call: &Call, name: &ClusterName) -> Result<ClusterRow, Fault> {
    call.permit.in_cluster(name)?;
    Ok(cluster::find(call.context(), name).await?)
}

/// The clusters that the caller may see.
#[utoipa::path(get, path = "/v1/clusters", tag = "Clusters", params(PageQuery), responses((status = 200, body = Page<ClusterView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ClusterView>>, Fault> {
    let rows = call.context().store.clusters().await.map_err(Error::from)?;
    let seen = rows.iter().filter(|row| call.permit.scope().has(&row.name));
    let views: Result<Vec<_>, _> = seen.map(|row| view(&call, row)).collect();
    let page = Page::of(&call, views?, query.limit, query.page.as_deref(), |view| {
        view.definition.name.to_string()
    })?;
    Ok(Json(page))
}

/// A new cluster.
#[utoipa::path(post, path = "/v1/clusters", tag = "Clusters", request_body = DefinitionSchema, responses(
    (status = 201, body = ClusterView), (status = 202, body = ProposalView)))]
pub(super) async fn create(
    call: Call,
    Body(definition): Body<ClusterDefinition>,
) -> Result<Response, Fault> {
    let actor = call.permit.everywhere()?;
    let name = definition.name.clone();
    refuse_review(None, &definition)?;
    let act = Act::ClusterApply {
        definition: Box::new(definition),
        version: None,
    };
    let submitted = call.submit(act, &call.permit, &actor).await?;
    created(submitted, &format!("/v1/clusters/{name}"), async {
        let row = find(&call, &name).await?;
        Ok((row.version, Json(view(&call, &row)?)))
    })
    .await
}

/// One cluster.
#[utoipa::path(get, path = "/v1/clusters/{name}", tag = "Clusters", params(("name" = String, Path,)), responses((status = 200, body = ClusterView)))]
pub(super) async fn show(
    call: Call,
    Path(name): Path<ClusterName>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let row = find(&call, &name).await?;
    Ok(versioned(&headers, row.version, &view(&call, &row)?))
}

/// Another definition in place of a cluster's.
#[utoipa::path(put, path = "/v1/clusters/{name}", tag = "Clusters", params(("name" = String, Path,), ("If-Match" = String, Header,)),
    request_body = DefinitionSchema, responses((status = 200, body = ClusterView), (status = 202, body = ProposalView)))]
pub(super) async fn update(
    call: Call,
    Path(name): Path<ClusterName>,
    condition: IfMatch,
    Body(definition): Body<ClusterDefinition>,
) -> Result<Response, Fault> {
    if definition.name != name {
        return Err(Fault::unprocessable(format!(
            "the body is of cluster {}, the path of {name}",
            definition.name
        )));
    }
    replace(&call, &name, &condition, |_| Ok(definition)).await
}

/// Changes a cluster's definition; the answer is the cluster, or the proposal to change it.
pub(super) async fn replace(
    call: &Call,
    name: &ClusterName,
    condition: &IfMatch,
    change: impl FnOnce(ClusterDefinition) -> Result<ClusterDefinition, Fault>,
) -> Result<Response, Fault> {
    let row = find(call, name).await?;
    let actor = call.permit.in_cluster(name)?;
    condition.check(row.version)?;
    let before = ClusterDefinition::of(&row)?;
    let after = change(before.clone())?;
    refuse_review(Some(&before), &after)?;
    let widening = cluster::widens(&before, &after);
    if widening.is_empty() {
        cluster::apply_at(call.context(), &after, Some(row.version), &actor).await?;
        return current(call, name).await;
    }
    // Whoever may narrow a policy may not widen it.
    if !call.permit.also(Operation::ClusterUpdate, Some(name)) {
        let widening = widening.join("; ");
        let needed = permit::denied(Operation::ClusterUpdate);
        return Err(Error::new(
            ErrorKind::Denied,
            "widening",
            format!("the change gives more than before ({widening}): {needed}"),
        )
        .into());
    }
    let act = Act::ClusterApply {
        definition: Box::new(after),
        version: Some(row.version),
    };
    match done(call.submit(act, &call.permit, &actor).await?) {
        Some(waits) => Ok(waits),
        None => current(call, name).await,
    }
}

/// A reviewer names files of the server's machine: who may not read there may not have them read, and sent elsewhere.
fn refuse_review(
    before: Option<&ClusterDefinition>,
    after: &ClusterDefinition,
) -> Result<(), Fault> {
    let known = before.and_then(|before| before.token_review.as_ref());
    if after.token_review.is_none() || after.token_review.as_ref() == known {
        return Ok(());
    }
    let text = "token_review names files of the server's machine: it is set there (`ca-server cluster apply`)";
    Err(Error::new(ErrorKind::Denied, "token-review", text).into())
}

async fn current(call: &Call, name: &ClusterName) -> Result<Response, Fault> {
    let row = find(call, name).await?;
    Ok(versioned(
        &HeaderMap::new(),
        row.version,
        &view(call, &row)?,
    ))
}

/// A cluster goes; it must have no authorities.
#[utoipa::path(delete, path = "/v1/clusters/{name}", tag = "Clusters", params(("name" = String, Path,), ("If-Match" = String, Header,)), responses((status = 204)))]
pub(super) async fn delete(
    call: Call,
    Path(name): Path<ClusterName>,
    condition: IfMatch,
    _: NoBody,
) -> Result<StatusCode, Fault> {
    let actor = call.permit.everywhere()?;
    let row = find(&call, &name).await?;
    condition.check(row.version)?;
    cluster::delete(call.context(), &name, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// With nothing to tell.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
