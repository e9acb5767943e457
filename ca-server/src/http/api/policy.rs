//! A cluster's policy: reading and changing it, and trying one before it is put in force.

use axum::Json;
use axum::http::HeaderMap;
use axum::response::Response;
use pki::name::ClusterName;
use pki::time::{Timestamp, Ttl};
use serde::Serialize;
use utoipa::ToSchema;

use super::clusters::{ClusterView, find, replace};
use super::extract::{Body, Call, IfMatch, Path, versioned};
use super::fault::Fault;
use super::proposals::ProposalView;
use super::schema::{DryRunSchema, PolicySchema, ReplaySchema};
use crate::app::cluster::ClusterDefinition;
use crate::app::policy::{self, DryRun, Explained, PolicyDocument, Replay, ReplayRequest};

/// A cluster's policy.
#[utoipa::path(get, path = "/v1/clusters/{name}/policy", tag = "Policy", params(("name" = String, Path,)), responses((status = 200, body = PolicySchema)))]
pub(super) async fn show(
    call: Call,
    Path(name): Path<ClusterName>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let row = find(&call, &name).await?;
    let policy = PolicyDocument::from(&ClusterDefinition::of(&row)?);
    Ok(versioned(&headers, row.version, &policy))
}

/// Another policy in place of a cluster's. What gives more than before takes a security officer, and a second person where
/// the configuration says so.
#[utoipa::path(put, path = "/v1/clusters/{name}/policy", tag = "Policy", params(("name" = String, Path,), ("If-Match" = String, Header,)),
    request_body = PolicySchema, responses((status = 200, body = ClusterView), (status = 202, body = ProposalView)))]
pub(super) async fn set(
    call: Call,
    Path(name): Path<ClusterName>,
    condition: IfMatch,
    Body(policy): Body<PolicyDocument>,
) -> Result<Response, Fault> {
    replace(&call, &name, &condition, |definition| {
        Ok(policy.put_into(&definition))
    })
    .await
}

/// One check or rule, and what it said.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StepView {
    /// The check or rule.
    rule: String,
    /// What it said.
    outcome: String,
    /// Why.
    why: String,
}

/// What would be decided, and how.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExplainedView {
    /// `granted` or `refused`.
    decision: String,
    /// What would be granted.
    #[serde(flatten)]
    #[schema(value_type = Option<Object>)]
    more: serde_json::Value,
    /// Each check and each rule, in the order in which it is looked at.
    #[schema(value_type = Vec<StepView>)]
    steps: serde_json::Value,
}

/// Decides as issuing would, rule by rule, and issues nothing.
#[utoipa::path(post, path = "/v1/clusters/{name}/policy/dry-run", tag = "Policy", params(("name" = String, Path,)), request_body = DryRunSchema, responses((status = 200, body = ExplainedView)))]
pub(super) async fn dry_run(
    call: Call,
    Path(name): Path<ClusterName>,
    Body(wish): Body<DryRun>,
) -> Result<Json<Explained>, Fault> {
    find(&call, &name).await?;
    Ok(Json(policy::dry_run(call.context(), &name, &wish).await?))
}

/// What another policy would have decided otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplayView {
    /// How many requests were decided again.
    examined: u64,
    /// How many of them as they were.
    same: u64,
    /// The others, newest first.
    #[schema(value_type = Vec<DifferenceView>)]
    differing: Vec<DifferenceView>,
    /// Whether more differ than are listed, or not all was looked at.
    truncated: bool,
    /// Since when everything was looked at.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

/// A request that would be decided in another way than it was.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DifferenceView {
    /// The certificate that was given.
    serial: Option<String>,
    /// The refusal's entry in the audit trail, `replica/position`.
    refusal: Option<String>,
    /// When it was decided.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who asked.
    caller: String,
    /// The names that were given; of a refusal those that were asked for.
    names: Vec<String>,
    /// What was decided.
    before: VerdictView,
    /// What the other policy decides.
    after: VerdictView,
    /// Whether the policy in force decides as the other does by now.
    in_force_too: bool,
}

/// What was, or would be, decided.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerdictView {
    /// `granted` or `refused`.
    decision: String,
    /// Why it is refused.
    refusal: Option<String>,
    /// The profile that is granted.
    profile: Option<String>,
    /// The names that are granted.
    names: Option<Vec<String>>,
    /// The lifetime that is granted.
    #[schema(value_type = Option<String>)]
    ttl: Option<Ttl>,
    /// The rule that grants it.
    rule: Option<String>,
}

/// Decides the recorded requests of the last days again by another policy, and puts nothing in force.
#[utoipa::path(post, path = "/v1/clusters/{name}/policy/replay", tag = "Policy", params(("name" = String, Path,)), request_body = ReplaySchema, responses((status = 200, body = ReplayView)))]
pub(super) async fn replay(
    call: Call,
    Path(name): Path<ClusterName>,
    Body(request): Body<ReplayRequest>,
) -> Result<Json<Replay>, Fault> {
    find(&call, &name).await?;
    let _turn = call.replay_turn(&call.permit.principal().name)?;
    Ok(Json(policy::replay(call.context(), &name, &request).await?))
}
