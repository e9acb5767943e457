//! Trust bundles: the roots that each trust domain believes in.

use axum::Json;
use axum::http::HeaderMap;
use axum::response::Response;
use pki::certificate::Certificate;
use pki::name::TrustDomain;
use pki::time::Timestamp;
use pki::{ceremony, crypto, pem};
use serde::Serialize;
use utoipa::ToSchema;

use super::clusters::no_content;
use super::extract::{Call, IfMatch, NoBody, Path, Query, versioned};
use super::fault::Fault;
use super::page::{Page, PageQuery};
use super::proposals::{ProposalView, done};
use crate::app::acts::Act;
use crate::app::{Error, ErrorKind};
use crate::store::model::BundleRow;

/// A root.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RootView {
    /// SHA-256 of its DER.
    sha256: String,
    /// Its subject in words.
    subject: String,
    /// The first second of its validity.
    #[schema(value_type = String, format = DateTime)]
    not_before: Timestamp,
    /// The last second of its validity.
    #[schema(value_type = String, format = DateTime)]
    not_after: Timestamp,
    /// PEM.
    certificate: String,
}

/// The roots that a trust domain believes in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BundleView {
    /// Whose.
    trust_domain: String,
    /// Grows with each change; its ETag.
    sequence: u64,
    /// The roots, the oldest in the bundle first.
    roots: Vec<RootView>,
}

fn view(row: &BundleRow) -> Result<BundleView, Fault> {
    let roots = row.roots.iter().map(|der| {
        let root = Certificate::parse(der).map_err(Error::internal)?;
        Ok(RootView {
            sha256: crypto::hex(&root.digest()),
            subject: ceremony::name_words(root.subject()),
            not_before: root.not_before(),
            not_after: root.not_after(),
            certificate: pem::certificate(der),
        })
    });
    Ok(BundleView {
        trust_domain: row.trust_domain.to_string(),
        sequence: row.sequence,
        roots: roots.collect::<Result<_, Fault>>()?,
    })
}

fn version(row: &BundleRow) -> i64 {
    i64::try_from(row.sequence).unwrap_or(i64::MAX)
}

async fn find(call: &Call, trust_domain: &TrustDomain) -> Result<BundleRow, Fault> {
    let row = call
        .context()
        .store
        .bundle(trust_domain)
        .await
        .map_err(Error::from)?;
    if row.sequence == 0 {
        let text = format!("there is no bundle of trust domain {trust_domain}");
        return Err(Error::new(ErrorKind::NotFound, "trust-domain", text).into());
    }
    Ok(row)
}

/// The bundles. Roots are no secret: whoever may see anything sees them all.
#[utoipa::path(get, path = "/v1/bundles", tag = "Bundles", params(PageQuery), responses((status = 200, body = Page<BundleView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<BundleView>>, Fault> {
    let rows = call.context().store.bundles().await.map_err(Error::from)?;
    let views: Result<Vec<_>, _> = rows.iter().map(view).collect();
    let page = Page::of(
        &call,
        views?,
        query.limit,
        query.page.as_deref(),
        |view: &BundleView| view.trust_domain.clone(),
    )?;
    Ok(Json(page))
}

/// One bundle.
#[utoipa::path(get, path = "/v1/bundles/{trust_domain}", tag = "Bundles", params(("trust_domain" = String, Path,)), responses((status = 200, body = BundleView)))]
pub(super) async fn show(
    call: Call,
    Path(trust_domain): Path<TrustDomain>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let row = find(&call, &trust_domain).await?;
    Ok(versioned(&headers, version(&row), &view(&row)?))
}

/// Takes a root out of a bundle; no authority that counts may stand below it.
#[utoipa::path(delete, path = "/v1/bundles/{trust_domain}/roots/{sha256}", tag = "Bundles", params(
    ("trust_domain" = String, Path,), ("sha256" = String, Path,), ("If-Match" = String, Header, description = "The bundle's ETag.")),
    responses((status = 204), (status = 202, body = ProposalView)))]
pub(super) async fn remove_root(
    call: Call,
    Path((trust_domain, sha256)): Path<(TrustDomain, String)>,
    condition: IfMatch,
    _: NoBody,
) -> Result<Response, Fault> {
    let actor = call.permit.everywhere()?;
    let row = find(&call, &trust_domain).await?;
    condition.check(version(&row))?;
    let act = Act::RootRemove {
        trust_domain,
        sha256,
    };
    Ok(done(call.submit(act, &call.permit, &actor).await?).unwrap_or_else(no_content))
}
