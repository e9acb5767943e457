//! Proposals: acts that wait for a second person.

use axum::Json;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use pki::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Call, IfMatch, NoBody, Path, Query, versioned};
use super::fault::Fault;
use super::page::{self, Page, PageQuery};
use crate::app::Error;
use crate::app::acts::Change;
use crate::app::proposals::{self, Submitted};
use crate::store::administrators::ProposalRow;

/// An act that waits for a second person, or did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProposalView {
    /// Its id.
    id: String,
    /// What kind of act: `authority.import`, `authority.revoke`, `role`, `policy.widen` or `root.remove`.
    kind: String,
    /// The cluster that it is about; null for the whole installation.
    cluster: Option<String>,
    /// What it will change.
    changes: Vec<Change>,
    /// `waiting`, `applied`, `failed`, `rejected` or `withdrawn`.
    state: &'static str,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Who made it.
    created_by: String,
    /// Until when it may be agreed to.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it was decided.
    #[schema(value_type = Option<String>, format = DateTime)]
    decided_at: Option<Timestamp>,
    /// Who decided it.
    decided_by: Option<String>,
    /// What came of it: the id of what was made or changed, or why it failed.
    outcome: Option<String>,
    /// Grows with each change; its ETag.
    version: i64,
}

pub(super) fn view(row: ProposalRow) -> Result<ProposalView, Fault> {
    let (decided_at, decided_by) = row.decided.unzip();
    Ok(ProposalView {
        id: row.id,
        kind: row.kind,
        cluster: row.cluster.map(|name| name.to_string()),
        changes: serde_json::from_str(&row.changes).map_err(Error::internal)?,
        state: row.state.as_str(),
        created_at: row.created_at,
        created_by: row.created_by,
        expires_at: row.expires_at,
        decided_at,
        decided_by,
        outcome: row.outcome,
        version: row.version,
    })
}

/// 202 with the proposal, where the act waits.
pub(super) fn waiting(row: ProposalRow) -> Response {
    let location = format!("/v1/proposals/{}", row.id);
    match view(row) {
        Ok(view) => (StatusCode::ACCEPTED, [(LOCATION, location)], Json(view)).into_response(),
        Err(fault) => fault.into_response(),
    }
}

/// The answer of an act that waits; `None` where it is done.
pub(super) fn done(submitted: Submitted) -> Option<Response> {
    match submitted {
        Submitted::Done(_) => None,
        Submitted::Waits(row) => Some(waiting(*row)),
    }
}

/// 201 with what was made, or 202 with the proposal to make it.
pub(super) async fn created<T: IntoResponse>(
    submitted: Submitted,
    location: &str,
    made: impl Future<Output = Result<(i64, T), Fault>>,
) -> Result<Response, Fault> {
    match done(submitted) {
        Some(waits) => Ok(waits),
        None => {
            let (version, body) = made.await?;
            let mut headers = HeaderMap::new();
            for (name, value) in [
                (LOCATION, location.to_owned()),
                (ETAG, format!("\"{version}\"")),
            ] {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    headers.insert(name, value);
                }
            }
            Ok((StatusCode::CREATED, headers, body).into_response())
        }
    }
}

/// What waits for a second person, and what became of it, newest first.
#[utoipa::path(get, path = "/v1/proposals", tag = "Proposals", params(PageQuery), responses((status = 200, body = Page<ProposalView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ProposalView>>, Fault> {
    let limit = page::bounded(query.limit)?;
    let after = query.page.as_deref().map(|page| page::read(&call, page));
    let after: Option<(Timestamp, String)> = after.transpose()?;
    let after = after.as_ref().map(|(at, id)| (*at, id.as_str()));
    // What is about the whole installation is of no cluster.
    let among = call.permit.scope().clusters();
    let store = &call.context().store;
    let rows = store.proposals(among, after, limit).await;
    let rows = rows.map_err(Error::from)?;
    let next = rows
        .last()
        .filter(|_| u32::try_from(rows.len()) == Ok(limit))
        .map(|last| page::write(&call, &(last.created_at, &last.id)))
        .transpose()?;
    let items: Result<_, _> = rows.into_iter().map(view).collect();
    Ok(Json(Page {
        items: items?,
        next,
    }))
}

/// One proposal.
#[utoipa::path(get, path = "/v1/proposals/{id}", tag = "Proposals", params(("id" = String, Path,)), responses((status = 200, body = ProposalView)))]
pub(super) async fn show(
    call: Call,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (row, _) = proposals::find(call.context(), &id, &call.permit).await?;
    Ok(versioned(&headers, row.version, &view(row.clone())?))
}

/// Whether a proposal is still as the caller saw it, where the caller says what that was.
async fn unchanged(call: &Call, id: &str, condition: Option<IfMatch>) -> Result<(), Fault> {
    if let Some(condition) = condition {
        let (row, _) = proposals::find(call.context(), id, &call.permit).await?;
        condition.check(row.version)?;
    }
    Ok(())
}

/// The second person agrees: the act is done.
#[utoipa::path(post, path = "/v1/proposals/{id}/approve", tag = "Proposals", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), responses((status = 200, body = ProposalView)))]
pub(super) async fn approve(
    call: Call,
    Path(id): Path<String>,
    condition: Option<IfMatch>,
    _: NoBody,
) -> Result<Json<ProposalView>, Fault> {
    unchanged(&call, &id, condition).await?;
    let row = call.approve(&id, &call.permit).await?;
    Ok(Json(view(row)?))
}

/// Somebody does not agree: it is not done.
#[utoipa::path(post, path = "/v1/proposals/{id}/reject", tag = "Proposals", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), responses((status = 200, body = ProposalView)))]
pub(super) async fn reject(
    call: Call,
    Path(id): Path<String>,
    condition: Option<IfMatch>,
    _: NoBody,
) -> Result<Json<ProposalView>, Fault> {
    unchanged(&call, &id, condition).await?;
    let row = call.reject(&id, &call.permit).await?;
    Ok(Json(view(row)?))
}

/// Who proposed it takes it back.
#[utoipa::path(post, path = "/v1/proposals/{id}/withdraw", tag = "Proposals", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), responses((status = 200, body = ProposalView)))]
pub(super) async fn withdraw(
    call: Call,
    Path(id): Path<String>,
    condition: Option<IfMatch>,
    _: NoBody,
) -> Result<Json<ProposalView>, Fault> {
    unchanged(&call, &id, condition).await?;
    let row = call.withdraw(&id, &call.permit).await?;
    Ok(Json(view(row)?))
}
