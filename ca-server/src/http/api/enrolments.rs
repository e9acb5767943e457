//! Enrolment tokens.

use axum::Json;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use pki::name::{ClusterName, ProfileName, SpiffePattern};
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Call, IfMatch, NoBody, Path, Query, versioned};
use super::fault::Fault;
use super::page::{self, Page};
use crate::app::Actor;
use crate::app::{Error, ErrorKind, enrolment};
use crate::store::model::EnrolmentRow;

/// An enrolment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EnrolmentView {
    /// Its id.
    id: String,
    /// The cluster that it is for.
    cluster: String,
    /// The SPIFFE ids that may be asked for.
    spiffe_id: String,
    /// The profile of what is issued.
    profile: String,
    /// `open`, `used`, `expired` or `revoked`.
    state: &'static str,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Who made it.
    created_by: String,
    /// The first second at which it is of no use.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it was used.
    #[schema(value_type = Option<String>, format = DateTime)]
    used_at: Option<Timestamp>,
    /// When it was withdrawn.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// The serial number of the certificate that it was used for.
    certificate: Option<String>,
}

fn view(row: EnrolmentRow, now: Timestamp) -> EnrolmentView {
    let state = match (row.revoked_at, row.consumed_at) {
        (Some(_), _) => "revoked",
        (None, Some(_)) => "used",
        (None, None) if row.expires_at <= now => "expired",
        (None, None) => "open",
    };
    EnrolmentView {
        id: row.id,
        cluster: row.cluster.to_string(),
        spiffe_id: row.pattern.to_string(),
        profile: row.profile.to_string(),
        state,
        created_at: row.created_at,
        created_by: row.created_by,
        expires_at: row.expires_at,
        used_at: row.consumed_at,
        revoked_at: row.revoked_at,
        certificate: row.certificate.map(|(_, serial)| serial.to_string()),
    }
}

/// What may change of an enrolment: it is used, and withdrawn.
fn version(row: &EnrolmentRow) -> i64 {
    1 + i64::from(row.consumed_at.is_some()) + 2 * i64::from(row.revoked_at.is_some())
}

async fn find(call: &Call, id: &str) -> Result<(EnrolmentRow, Actor), Fault> {
    let id = &super::extract::id(id);
    let row = call
        .context()
        .store
        .enrolment(id)
        .await
        .map_err(Error::from)?;
    let missing = || {
        Error::new(
            ErrorKind::NotFound,
            "enrolment",
            format!("there is no enrolment {id}"),
        )
    };
    Ok(call.permit.find(row, |row| &row.cluster, missing)?)
}

/// Which enrolments.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EnrolmentQuery {
    /// Of this cluster.
    #[param(value_type = Option<String>)]
    cluster: Option<ClusterName>,
    /// How many at most.
    #[serde(default = "page::default_limit")]
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: u32,
    /// The `next` of the page before.
    page: Option<String>,
}

/// The enrolments, newest first.
#[utoipa::path(get, path = "/v1/enrolments", tag = "Enrolments", params(EnrolmentQuery), responses((status = 200, body = Page<EnrolmentView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<EnrolmentQuery>,
) -> Result<Json<Page<EnrolmentView>>, Fault> {
    if let Some(cluster) = &query.cluster {
        call.permit.in_cluster(cluster)?;
    }
    let now = call.context().clock.untrusted_now();
    let rows = call
        .context()
        .store
        .enrolments()
        .await
        .map_err(Error::from)?;
    let seen = rows.into_iter().filter(|row| {
        call.permit.scope().has(&row.cluster)
            && query
                .cluster
                .as_ref()
                .is_none_or(|cluster| row.cluster == *cluster)
    });
    let views = seen.map(|row| view(row, now)).collect();
    // Newest first: the key grows as they grow older.
    let page = Page::of(
        &call,
        views,
        query.limit,
        query.page.as_deref(),
        |view: &EnrolmentView| {
            format!(
                "{:012} {}",
                253_402_300_799 - view.created_at.unix(),
                view.id
            )
        },
    )?;
    Ok(Json(page))
}

/// An enrolment token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEnrolment {
    /// The cluster that it is for.
    #[schema(value_type = String)]
    cluster: ClusterName,
    /// The SPIFFE id that may be asked for, or a pattern with `*`.
    #[schema(value_type = String)]
    spiffe_id: SpiffePattern,
    /// The profile of what is issued; `workload` where absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    profile: Option<ProfileName>,
    /// How long it is good, as in `1h`, which is the default; 90 days at most.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    ttl: Option<Ttl>,
}

/// A new enrolment and its token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedView {
    /// The enrolment.
    enrolment: EnrolmentView,
    /// The token: shown once, and kept nowhere.
    token: String,
}

/// Makes a token for one certificate.
#[utoipa::path(post, path = "/v1/enrolments", tag = "Enrolments", request_body = NewEnrolment, responses((status = 201, body = CreatedView)))]
pub(super) async fn create(call: Call, Body(new): Body<NewEnrolment>) -> Result<Response, Fault> {
    let actor = call.permit.in_cluster(&new.cluster)?;
    let profile = match new.profile {
        Some(profile) => profile,
        None => Profile::WORKLOAD.name().map_err(Error::internal)?,
    };
    let ttl = new.ttl.unwrap_or(Ttl::hours(1));
    let made = enrolment::create(
        call.context(),
        &new.cluster,
        new.spiffe_id,
        profile,
        ttl,
        &actor,
    )
    .await?;
    let now = call.context().clock.untrusted_now();
    let location = [(LOCATION, format!("/v1/enrolments/{}", made.row.id))];
    let body = CreatedView {
        token: made.token,
        enrolment: view(made.row, now),
    };
    Ok((StatusCode::CREATED, location, Json(body)).into_response())
}

/// One enrolment.
#[utoipa::path(get, path = "/v1/enrolments/{id}", tag = "Enrolments", params(("id" = String, Path,)), responses((status = 200, body = EnrolmentView)))]
pub(super) async fn show(
    call: Call,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (row, _) = find(&call, &id).await?;
    let now = call.context().clock.untrusted_now();
    Ok(versioned(&headers, version(&row), &view(row, now)))
}

/// Withdraws an enrolment.
#[utoipa::path(delete, path = "/v1/enrolments/{id}", tag = "Enrolments", params(("id" = String, Path,), ("If-Match" = String, Header,)), responses((status = 204)))]
pub(super) async fn revoke(
    call: Call,
    Path(id): Path<String>,
    condition: IfMatch,
    _: NoBody,
) -> Result<StatusCode, Fault> {
    let (row, actor) = find(&call, &id).await?;
    condition.check(version(&row))?;
    enrolment::revoke(call.context(), &id, &actor).await?;
    Ok(StatusCode::NO_CONTENT)
}
