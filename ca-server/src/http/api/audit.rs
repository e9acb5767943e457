//! The audit trail: who did what, in one chain of hashes a replica.

use axum::Json;
use pki::audit::{Entry, Mark};
use pki::crypto;
use pki::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Call, Query};
use super::fault::Fault;
use super::page::{self, Page};
use crate::app::Error;
use crate::store::model::{AuditCursor, AuditFilter, AuditHead};

/// An entry of the trail: all that its hash is made of, and the hash.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditView {
    /// Whose chain.
    replica: String,
    /// Its place there, from 0.
    position: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What.
    kind: String,
    /// Who.
    actor: String,
    /// From where.
    remote: String,
    /// What allowed it, or refused it.
    rule: String,
    /// The call's id in logs.
    request_id: String,
    /// The rest: JSON in a string, because its bytes are part of the hash.
    detail: String,
    /// The hash of the entry before it.
    previous: String,
    /// SHA-256 of all this.
    hash: String,
}

fn view(entry: Entry) -> AuditView {
    AuditView {
        replica: entry.replica,
        position: entry.position,
        at: entry.at,
        kind: entry.kind,
        actor: entry.actor,
        remote: entry.remote,
        rule: entry.rule,
        request_id: entry.request_id,
        detail: entry.detail,
        previous: crypto::hex(&entry.previous),
        hash: crypto::hex(&entry.hash),
    }
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// Of this chain; they come oldest first then, and newest first otherwise.
    replica: Option<String>,
    /// Of this kind, such as `authority.import`.
    kind: Option<String>,
    /// By this principal.
    actor: Option<String>,
    /// At this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// How many at most.
    #[serde(default = "page::default_limit")]
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: u32,
    /// The `next` of the page before.
    page: Option<String>,
}

/// The audit trail.
#[utoipa::path(get, path = "/v1/audit", tag = "Audit", params(AuditQuery), responses((status = 200, body = Page<AuditView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditView>>, Fault> {
    call.permit.everywhere()?;
    let limit = page::bounded(query.limit)?;
    let after: Option<(Timestamp, String, u64)> = query
        .page
        .as_deref()
        .map(|page| page::read(&call, page))
        .transpose()?;
    let filter = AuditFilter {
        replica: query.replica.as_deref().map(super::extract::id),
        kind: query.kind.as_deref().map(super::extract::id),
        actor: query.actor.as_deref().map(super::extract::id),
        from: query.from,
        to: query.to,
        after: after.map(|(at, replica, position)| AuditCursor {
            at,
            replica: super::extract::id(&replica),
            position,
        }),
        limit,
    };
    let rows = call
        .context()
        .store
        .search_audit(&filter)
        .await
        .map_err(Error::from)?;
    let next = rows
        .last()
        .filter(|_| u32::try_from(rows.len()) == Ok(limit))
        .map(|last| page::write(&call, &(last.at, &last.replica, last.position)))
        .transpose()?;
    Ok(Json(Page {
        items: rows.into_iter().map(view).collect(),
        next,
    }))
}

/// Where a chain ends.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeadView {
    /// Whose chain.
    replica: String,
    /// The place of its last entry.
    position: u64,
    /// The hash of its last entry.
    hash: String,
    /// Whether this server's key sealed it: who has the database alone cannot.
    sealed: bool,
    /// When its last entry was written.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// Where each chain ends.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeadsView {
    /// The chains.
    heads: Vec<HeadView>,
}

/// How far each chain of the trail has come.
#[utoipa::path(get, path = "/v1/audit/heads", tag = "Audit", responses((status = 200, body = HeadsView)))]
pub(super) async fn heads(call: Call) -> Result<Json<HeadsView>, Fault> {
    call.permit.everywhere()?;
    let context = call.context();
    let auditor = context.store.auditor().map_err(Error::from)?;
    let heads = context.store.audit_heads().await.map_err(Error::from)?;
    let heads = heads.into_iter().map(|head| {
        let sealed = auditor.has_sealed(&head);
        let AuditHead { mark, at, .. } = head;
        let Mark {
            replica,
            position,
            hash,
        } = mark;
        HeadView {
            replica,
            position,
            hash: crypto::hex(&hash),
            sealed,
            at,
        }
    });
    Ok(Json(HeadsView {
        heads: heads.collect(),
    }))
}
