//! A cluster's token issuers, one at a time.

use axum::Json;
use axum::response::Response;
use pki::name::ClusterName;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::clusters::{ClusterView, find, replace};
use super::extract::{Body, Call, IfMatch, NoBody, Path, Query};
use super::fault::Fault;
use super::page::{Page, PageQuery};
use super::proposals::ProposalView;
use super::schema::TokenIssuerSchema;
use crate::app::cluster::ClusterDefinition;
use crate::app::{Error, ErrorKind};
use crate::authn::token::TokenIssuerConfig;

/// Which token issuer: its `iss` is a URL, which a path would break.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct IssuerQuery {
    /// The `iss` of its tokens.
    issuer: String,
}

/// Token issuers of a cluster.
#[derive(Debug, serde::Serialize, ToSchema)]
#[schema(value_type = TokenIssuerSchema)]
pub(super) struct TokenIssuerView(TokenIssuerConfig);

/// A cluster's token issuers.
#[utoipa::path(get, path = "/v1/clusters/{name}/token-issuers", tag = "Clusters", params(("name" = String, Path,), PageQuery), responses((status = 200, body = Page<TokenIssuerView>)))]
pub(super) async fn list(
    call: Call,
    Path(name): Path<ClusterName>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<TokenIssuerView>>, Fault> {
    let row = find(&call, &name).await?;
    let issuers = ClusterDefinition::of(&row)?.token_issuers;
    let views = issuers.into_iter().map(TokenIssuerView).collect();
    let page = Page::of(
        &call,
        views,
        query.limit,
        query.page.as_deref(),
        |view: &TokenIssuerView| view.0.issuer.clone(),
    )?;
    Ok(Json(page))
}

/// A token issuer, new or in place of the one with the same `iss`.
#[utoipa::path(put, path = "/v1/clusters/{name}/token-issuers", tag = "Clusters", params(("name" = String, Path,), ("If-Match" = String, Header,)),
    request_body = TokenIssuerSchema, responses((status = 200, body = ClusterView), (status = 202, body = ProposalView)))]
pub(super) async fn set(
    call: Call,
    Path(name): Path<ClusterName>,
    condition: IfMatch,
    Body(issuer): Body<TokenIssuerConfig>,
) -> Result<Response, Fault> {
    replace(&call, &name, &condition, |mut definition| {
        let known = definition
            .token_issuers
            .iter_mut()
            .find(|known| known.issuer == issuer.issuer);
        match known {
            Some(known) => *known = issuer,
            None => definition.token_issuers.push(issuer),
        }
        Ok(definition)
    })
    .await
}

/// A token issuer goes: its tokens prove nobody any more.
#[utoipa::path(delete, path = "/v1/clusters/{name}/token-issuers", tag = "Clusters", params(("name" = String, Path,), IssuerQuery, ("If-Match" = String, Header,)),
    responses((status = 200, body = ClusterView)))]
pub(super) async fn remove(
    call: Call,
    Path(name): Path<ClusterName>,
    Query(query): Query<IssuerQuery>,
    condition: IfMatch,
    _: NoBody,
) -> Result<Response, Fault> {
    replace(&call, &name, &condition, |mut definition| {
        let before = definition.token_issuers.len();
        definition
            .token_issuers
            .retain(|known| known.issuer != query.issuer);
        if definition.token_issuers.len() == before {
            let text = format!("cluster {name} has no token issuer {:?}", query.issuer);
            return Err(Error::new(ErrorKind::NotFound, "token-issuer", text).into());
        }
        Ok(definition)
    })
    .await
}
