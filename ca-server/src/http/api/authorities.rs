//! Authorities: request → carry → import → published → active, and out again.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use pki::key::KeyAlgorithm;
use pki::name::{AuthorityId, ClusterName, KeyUri};
use pki::pem;
use pki::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Call, IfMatch, NoBody, PEM, Path, Query, versioned};
use super::fault::Fault;
use super::page::{self, Page};
use super::proposals::{ProposalView, done};
use crate::app::Actor;
use crate::app::acts::Act;
use crate::app::{Error, ErrorKind, NewKey, authority};
use crate::store::model::{AuthorityRow, AuthorityState, CrlShape};

/// An authority.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuthorityView {
    /// Its id.
    id: String,
    /// Its cluster.
    cluster: String,
    /// Its number in its cluster, from 1.
    generation: u32,
    /// `requested`, `imported`, `published`, `active`, `retiring`, `retired` or `revoked`.
    state: &'static str,
    /// Its subject's common name.
    subject: String,
    /// Where its key is.
    key: String,
    /// The last second of its certificate.
    #[schema(value_type = Option<String>, format = DateTime)]
    not_after: Option<Timestamp>,
    /// Since when it is in everyone's bundles.
    #[schema(value_type = Option<String>, format = DateTime)]
    published_at: Option<Timestamp>,
    /// Until when it waits before it may become active by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    waits_until: Option<Timestamp>,
    /// When it became active.
    #[schema(value_type = Option<String>, format = DateTime)]
    active_since: Option<Timestamp>,
    /// When it was revoked.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// When its key was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Into how many shards its CRL is cut; 0 for none.
    crl_shards: u16,
    /// Whether a delta goes with its CRL.
    crl_delta: bool,
    /// Grows with each change; its ETag.
    version: i64,
}

async fn view(call: &Call, row: &AuthorityRow) -> Result<AuthorityView, Fault> {
    Ok(AuthorityView {
        id: row.id.to_string(),
        cluster: row.cluster.to_string(),
        generation: row.generation,
        state: row.state.as_str(),
        subject: row.subject.clone(),
        key: row.key_place(),
        not_after: row.not_after,
        published_at: row.published_at,
        waits_until: authority::waits_until(call.context(), row).await?,
        active_since: row
            .activate_at
            .filter(|_| !matches!(row.state, AuthorityState::Published)),
        revoked_at: row.revoked.map(|(at, _)| at),
        created_at: row.created_at,
        crl_shards: row.crl_shape.shards,
        crl_delta: row.crl_shape.delta,
        version: row.version,
    })
}

/// An authority of a cluster in which the caller has leave.
pub(super) async fn find(call: &Call, id: &AuthorityId) -> Result<(AuthorityRow, Actor), Fault> {
    let row = call
        .context()
        .store
        .authority(id)
        .await
        .map_err(Error::from)?;
    let missing = || {
        Error::new(
            ErrorKind::NotFound,
            "authority",
            format!("there is no authority {id}"),
        )
    };
    Ok(call.permit.find(row, |row| &row.cluster, missing)?)
}

/// The same, where it is still as the caller saw it.
async fn find_to_change(
    call: &Call,
    id: &AuthorityId,
    condition: Option<&IfMatch>,
) -> Result<(AuthorityRow, Actor), Fault> {
    let found = find(call, id).await?;
    if let Some(condition) = condition {
        condition.check(found.0.version)?;
    }
    Ok(found)
}

async fn answer(call: &Call, row: &AuthorityRow) -> Result<Response, Fault> {
    let body = view(call, row).await?;
    Ok(versioned(&HeaderMap::new(), row.version, &body))
}

async fn again(call: &Call, id: &AuthorityId) -> Result<Response, Fault> {
    let row = authority::find(call.context(), id).await?;
    answer(call, &row).await
}

/// Which authorities.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuthorityQuery {
    /// Of this cluster.
    #[param(value_type = Option<String>)]
    cluster: Option<ClusterName>,
    /// In this state.
    state: Option<String>,
    /// How many at most.
    #[serde(default = "page::default_limit")]
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: u32,
    /// The `next` of the page before.
    page: Option<String>,
}

/// The authorities that the caller may see.
#[utoipa::path(get, path = "/v1/authorities", tag = "Authorities", params(AuthorityQuery), responses((status = 200, body = Page<AuthorityView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<AuthorityQuery>,
) -> Result<Json<Page<AuthorityView>>, Fault> {
    let state = match &query.state {
        None => None,
        Some(text) => Some(AuthorityState::parse(text).ok_or_else(|| {
            Fault::malformed("the query: state is requested, imported, published, active, retiring, retired or revoked")
        })?),
    };
    if let Some(cluster) = &query.cluster {
        call.permit.in_cluster(cluster)?;
    }
    let rows = call
        .context()
        .store
        .authorities()
        .await
        .map_err(Error::from)?;
    let seen = rows.into_iter().filter(|row| {
        call.permit.scope().has(&row.cluster)
            && query
                .cluster
                .as_ref()
                .is_none_or(|cluster| row.cluster == *cluster)
            && state.is_none_or(|state| row.state == state)
    });
    let page = Page::of(
        &call,
        seen.collect(),
        query.limit,
        query.page.as_deref(),
        |row: &AuthorityRow| format!("{} {:010}", row.cluster, row.generation),
    )?;
    let mut items = Vec::with_capacity(page.items.len());
    for row in &page.items {
        items.push(view(&call, row).await?);
    }
    Ok(Json(Page {
        items,
        next: page.next,
    }))
}

/// A new authority to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAuthority {
    /// Whose.
    #[schema(value_type = String)]
    cluster: ClusterName,
    /// The kind of its key: `p256` (the default) or `p384`.
    #[serde(default)]
    key: KeyKind,
    /// The label of the token to make the key in; in the store, sealed, where absent. Takes the role in all clusters, as
    /// `existing_key` does.
    #[serde(default)]
    token: Option<String>,
    /// A key that is in a token already, as `pkcs11:token=ca;object=central-1`.
    #[serde(default)]
    existing_key: Option<String>,
    /// Into how many shards its CRL is cut, beside the complete one: 2 to 256; 0 for none.
    #[serde(default)]
    crl_shards: u16,
    /// Whether a delta goes with its CRL.
    #[serde(default)]
    crl_delta: bool,
}

/// A key's kind.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
}

/// An authority and the request to carry to whoever signs it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestedView {
    /// The authority.
    authority: AuthorityView,
    /// PEM of its PKCS#10 request.
    request: String,
}

/// Makes the key of a cluster's next authority, and the request to carry to whoever signs it.
#[utoipa::path(post, path = "/v1/authorities", tag = "Authorities", request_body = NewAuthority, responses((status = 201, body = RequestedView)))]
pub(super) async fn request(call: Call, Body(new): Body<NewAuthority>) -> Result<Response, Fault> {
    let actor = call.permit.in_cluster(&new.cluster)?;
    // Tokens and the keys in them are nobody's in particular: what one cluster takes another cannot have.
    let in_token = new.token.is_some() || new.existing_key.is_some();
    if in_token && call.permit.scope().clusters().is_some() {
        let text = "a key in a token takes the role in all clusters: what one cluster takes there another cannot have";
        return Err(Error::new(ErrorKind::Denied, "scope", text).into());
    }
    let algorithm = match new.key {
        KeyKind::P256 => KeyAlgorithm::EcdsaP256,
        KeyKind::P384 => KeyAlgorithm::EcdsaP384,
    };
    let key = match (new.token, new.existing_key) {
        (None, None) => NewKey::InStore(algorithm),
        (Some(label), None) => NewKey::InToken(label, algorithm),
        (None, Some(uri)) => {
            let uri: KeyUri = uri
                .parse()
                .map_err(|error| Error::malformed("key", error))?;
            NewKey::Existing(uri)
        }
        (Some(_), Some(_)) => {
            return Err(Fault::unprocessable(
                "the body: token and existing_key exclude each other",
            ));
        }
    };
    let shape = CrlShape {
        shards: new.crl_shards,
        delta: new.crl_delta,
    };
    let row = authority::request(call.context(), &new.cluster, &key, shape, &actor).await?;
    let location = [(LOCATION, format!("/v1/authorities/{}", row.id))];
    let body = RequestedView {
        authority: view(&call, &row).await?,
        request: pem::request(&row.request),
    };
    Ok((StatusCode::CREATED, location, Json(body)).into_response())
}

/// One authority.
#[utoipa::path(get, path = "/v1/authorities/{id}", tag = "Authorities", params(("id" = String, Path,)), responses((status = 200, body = AuthorityView)))]
pub(super) async fn show(
    call: Call,
    Path(id): Path<AuthorityId>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (row, _) = find(&call, &id).await?;
    Ok(versioned(&headers, row.version, &view(&call, &row).await?))
}

/// An authority's request, to be carried to whoever signs it.
#[utoipa::path(get, path = "/v1/authorities/{id}/request", tag = "Authorities", params(("id" = String, Path,)), responses((status = 200, body = String, content_type = "application/x-pem-file")))]
pub(super) async fn show_request(
    call: Call,
    Path(id): Path<AuthorityId>,
) -> Result<Response, Fault> {
    let (row, _) = find(&call, &id).await?;
    Ok(([(CONTENT_TYPE, PEM)], pem::request(&row.request)).into_response())
}

/// An authority's certificate, those above it, and last the root.
#[utoipa::path(get, path = "/v1/authorities/{id}/chain", tag = "Authorities", params(("id" = String, Path,)), responses((status = 200, body = String, content_type = "application/x-pem-file")))]
pub(super) async fn show_chain(call: Call, Path(id): Path<AuthorityId>) -> Result<Response, Fault> {
    let (row, _) = find(&call, &id).await?;
    if row.chain.is_empty() {
        let text = format!("{id} is {}: it has no certificate", row.state);
        return Err(Error::new(ErrorKind::Conflict, "state", text).into());
    }
    let chain: String = row.chain.iter().map(|der| pem::certificate(der)).collect();
    Ok(([(CONTENT_TYPE, PEM)], chain).into_response())
}

/// A signed authority that comes back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignedAuthority {
    /// PEM of its certificate, each CA's above it, and the root (which may be left out when it is known).
    chain: String,
    /// The SHA-256 of the chain's root (of its DER), where everyone is to believe in it beside the roots of before.
    #[serde(default)]
    new_root: Option<String>,
}

/// Takes the signed certificate of a requested authority.
#[utoipa::path(post, path = "/v1/authorities/{id}/import", tag = "Authorities", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), request_body = SignedAuthority,
    responses((status = 200, body = AuthorityView), (status = 202, body = ProposalView)))]
pub(super) async fn import(
    call: Call,
    Path(id): Path<AuthorityId>,
    condition: Option<IfMatch>,
    Body(signed): Body<SignedAuthority>,
) -> Result<Response, Fault> {
    let (row, actor) = find_to_change(&call, &id, condition.as_ref()).await?;
    let act = Act::AuthorityImport {
        authority: id.clone(),
        cluster: row.cluster,
        chain: signed.chain,
        new_root: signed.new_root,
    };
    match done(call.submit(act, &call.permit, &actor).await?) {
        Some(waits) => Ok(waits),
        None => again(&call, &id).await,
    }
}

/// How long an authority lives that the fleet's signs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FleetSigning {
    /// As in `365d`; a year where absent, and never longer than the fleet's.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    life: Option<Ttl>,
}

/// Has the fleet's authority, which is online, sign a requested one, and takes it in.
#[utoipa::path(post, path = "/v1/authorities/{id}/sign", tag = "Authorities", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), request_body = FleetSigning,
    responses((status = 200, body = AuthorityView), (status = 202, body = ProposalView)))]
pub(super) async fn sign(
    call: Call,
    Path(id): Path<AuthorityId>,
    condition: Option<IfMatch>,
    Body(signing): Body<FleetSigning>,
) -> Result<Response, Fault> {
    let actor = call.permit.everywhere()?;
    find_to_change(&call, &id, condition.as_ref()).await?;
    let act = Act::AuthoritySign {
        authority: id.clone(),
        life: signing.life,
    };
    match done(call.submit(act, &call.permit, &actor).await?) {
        Some(waits) => Ok(waits),
        None => again(&call, &id).await,
    }
}

/// Publishes an imported authority: it and its first CRL come into everyone's bundles. It happens by itself within seconds.
#[utoipa::path(post, path = "/v1/authorities/{id}/publish", tag = "Authorities", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), responses((status = 200, body = AuthorityView)))]
pub(super) async fn publish(
    call: Call,
    Path(id): Path<AuthorityId>,
    condition: Option<IfMatch>,
    _: NoBody,
) -> Result<Response, Fault> {
    let (_, actor) = find_to_change(&call, &id, condition.as_ref()).await?;
    let row = authority::publish(call.context(), &id, &actor).await?;
    answer(&call, &row).await
}

/// Makes a published authority the one that signs, before it is due.
#[utoipa::path(post, path = "/v1/authorities/{id}/activate", tag = "Authorities", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), responses((status = 200, body = AuthorityView)))]
pub(super) async fn activate(
    call: Call,
    Path(id): Path<AuthorityId>,
    condition: Option<IfMatch>,
    _: NoBody,
) -> Result<Response, Fault> {
    let (_, actor) = find_to_change(&call, &id, condition.as_ref()).await?;
    authority::activate(call.context(), &id, &actor).await?;
    again(&call, &id).await
}

/// Gives up a requested authority whose request was lost or refused; its slot is free again.
#[utoipa::path(post, path = "/v1/authorities/{id}/abandon", tag = "Authorities", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), responses((status = 200, body = AuthorityView)))]
pub(super) async fn abandon(
    call: Call,
    Path(id): Path<AuthorityId>,
    condition: Option<IfMatch>,
    _: NoBody,
) -> Result<Response, Fault> {
    let (_, actor) = find_to_change(&call, &id, condition.as_ref()).await?;
    let row = authority::abandon(call.context(), &id, &actor).await?;
    answer(&call, &row).await
}

/// Retires an authority that came in and never signed. One that signs retires by itself: when another is active, and its last
/// certificate is over.
#[utoipa::path(post, path = "/v1/authorities/{id}/retire", tag = "Authorities", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), responses((status = 200, body = AuthorityView)))]
pub(super) async fn retire(
    call: Call,
    Path(id): Path<AuthorityId>,
    condition: Option<IfMatch>,
    _: NoBody,
) -> Result<Response, Fault> {
    let (_, actor) = find_to_change(&call, &id, condition.as_ref()).await?;
    let row = authority::retire_unused(call.context(), &id, &actor).await?;
    answer(&call, &row).await
}

/// Why an authority is revoked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorityRevocation {
    /// RFC 5280 §5.3.1: `unspecified`, `keyCompromise`, `cACompromise`, `affiliationChanged`, `superseded`,
    /// `cessationOfOperation` or `privilegeWithdrawn`.
    reason: String,
}

/// Revokes an authority: it signs nothing more, and everything that it issued is revoked with it.
#[utoipa::path(post, path = "/v1/authorities/{id}/revoke", tag = "Authorities", params(("id" = String, Path,), ("If-Match" = Option<String>, Header,)), request_body = AuthorityRevocation,
    responses((status = 200, body = AuthorityView), (status = 202, body = ProposalView)))]
pub(super) async fn revoke(
    call: Call,
    Path(id): Path<AuthorityId>,
    condition: Option<IfMatch>,
    Body(why): Body<AuthorityRevocation>,
) -> Result<Response, Fault> {
    let (row, actor) = find_to_change(&call, &id, condition.as_ref()).await?;
    let act = Act::AuthorityRevoke {
        authority: id.clone(),
        cluster: row.cluster,
        reason: why.reason,
    };
    match done(call.submit(act, &call.permit, &actor).await?) {
        Some(waits) => Ok(waits),
        None => again(&call, &id).await,
    }
}
