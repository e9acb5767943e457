//! CRLs: the authorities', and those of the offline CAs above them.

use axum::Json;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use pki::crl::Crl;
use pki::name::AuthorityId;
use pki::pem;
use pki::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Call, PEM, Path, Query, accepted};
use super::fault::Fault;
use super::page::{Page, PageQuery};
use crate::app::status::name_above;
use crate::app::status::root::{self, ImportedCrl};
use crate::app::{Error, ErrorKind};

/// A CRL.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CrlView {
    /// The authority, or `ca-…` for an offline CA: what it is called at `/crls/<authority>.crl` of the public listener.
    authority: String,
    /// Whether an offline CA signed it.
    offline: bool,
    /// Its number.
    number: u64,
    /// How many certificates it lists.
    entries: usize,
    /// When it was signed.
    #[schema(value_type = String, format = DateTime)]
    this_update: Timestamp,
    /// When the next one is promised.
    #[schema(value_type = String, format = DateTime)]
    next_update: Timestamp,
    /// The index of the last revocation that it takes into account.
    covers: Option<u64>,
    /// Shards and delta that belong to it.
    parts: Vec<String>,
}

fn entries(der: &[u8]) -> Result<usize, Fault> {
    let crl = Crl::parse(der).map_err(Error::internal)?;
    Ok(crl.revoked().len())
}

async fn of_authority(call: &Call, id: &AuthorityId) -> Result<Option<(CrlView, Vec<u8>)>, Fault> {
    let Some(row) = call.context().store.crl(id).await.map_err(Error::from)? else {
        return Ok(None);
    };
    let view = CrlView {
        authority: id.to_string(),
        offline: false,
        number: row.number,
        entries: entries(&row.der)?,
        this_update: row.this_update,
        next_update: row.next_update,
        covers: row.covers,
        parts: row.parts.into_iter().map(|(name, _)| name).collect(),
    };
    Ok(Some((view, row.der)))
}

async fn of_offline_cas(call: &Call) -> Result<Vec<(CrlView, Vec<u8>)>, Fault> {
    let rows = call
        .context()
        .store
        .root_crls()
        .await
        .map_err(Error::from)?;
    let views = rows.into_iter().map(|row| {
        let view = CrlView {
            authority: name_above(&row.root),
            offline: true,
            number: row.number,
            entries: entries(&row.der)?,
            this_update: row.this_update,
            next_update: row.next_update,
            covers: None,
            parts: Vec::new(),
        };
        Ok((view, row.der))
    });
    views.collect()
}

/// The CRLs that are here: those of the authorities that the caller may see, and of the offline CAs above them.
#[utoipa::path(get, path = "/v1/crls", tag = "CRLs", params(PageQuery), responses((status = 200, body = Page<CrlView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<CrlView>>, Fault> {
    let mut views = Vec::new();
    for row in call
        .context()
        .store
        .authorities()
        .await
        .map_err(Error::from)?
    {
        if call.permit.scope().has(&row.cluster)
            && let Some((view, _)) = of_authority(&call, &row.id).await?
        {
            views.push(view);
        }
    }
    views.extend(
        of_offline_cas(&call)
            .await?
            .into_iter()
            .map(|(view, _)| view),
    );
    let page = Page::of(
        &call,
        views,
        query.limit,
        query.page.as_deref(),
        |view: &CrlView| view.authority.clone(),
    )?;
    Ok(Json(page))
}

/// One CRL: what it is as JSON, or itself as PEM or DER, as `Accept` asks.
#[utoipa::path(get, path = "/v1/crls/{authority}", tag = "CRLs", params(("authority" = String, Path,)), responses(
    (status = 200, content((CrlView = "application/json"), (String = "application/x-pem-file"), (Vec<u8> = "application/pkix-crl")))))]
pub(super) async fn show(
    call: Call,
    Path(name): Path<AuthorityId>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let form = accepted(&headers, &["application/json", PEM, "application/pkix-crl"])?;
    let missing = || {
        Error::new(
            ErrorKind::NotFound,
            "crl",
            format!("there is no CRL of {name}"),
        )
    };
    let row = call
        .context()
        .store
        .authority(&name)
        .await
        .map_err(Error::from)?;
    let own = match row {
        Some(row) if call.permit.scope().has(&row.cluster) => of_authority(&call, &name).await?,
        _ => None,
    };
    let found = match own {
        Some(own) => own,
        None => of_offline_cas(&call)
            .await?
            .into_iter()
            .find(|(view, _)| view.authority == name.as_str())
            .ok_or_else(missing)?,
    };
    let (view, der) = found;
    Ok(match form {
        PEM => ([(CONTENT_TYPE, PEM)], pem::crl(&der)).into_response(),
        "application/pkix-crl" => ([(CONTENT_TYPE, form)], der).into_response(),
        _ => Json(view).into_response(),
    })
}

/// CRLs that come from their ceremonies.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CarriedCrls {
    /// PEM of one or several offline CAs' CRLs; all are taken, or none.
    crl: String,
}

/// A CRL that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportedCrlView {
    /// What it is called at `/crls/<name>.crl` of the public listener.
    name: String,
    /// The CA that signed it, in words.
    issuer: String,
    /// Its number.
    number: u64,
    /// When the next one is promised.
    #[schema(value_type = String, format = DateTime)]
    next_update: Timestamp,
    /// Whether the next ceremony has to be arranged now.
    ends_soon: bool,
    /// Authorities of ours that it revokes.
    revokes: Vec<String>,
    /// Serial numbers that the one before it listed and it does not.
    dropped: Vec<String>,
}

fn imported(crl: ImportedCrl) -> ImportedCrlView {
    ImportedCrlView {
        name: name_above(&crl.row.root),
        issuer: crl.issuer,
        number: crl.row.number,
        next_update: crl.row.next_update,
        ends_soon: crl.ends_soon,
        revokes: crl.revokes.iter().map(|row| row.id.to_string()).collect(),
        dropped: crl.dropped.iter().map(ToString::to_string).collect(),
    }
}

/// CRLs that were taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportedCrlsView {
    /// Each of them.
    imported: Vec<ImportedCrlView>,
}

/// Takes offline CAs' CRLs, as their ceremonies made them: complete, in force, and newer than those before them.
#[utoipa::path(post, path = "/v1/root-crls", tag = "CRLs", request_body = CarriedCrls, responses((status = 200, body = ImportedCrlsView)))]
pub(super) async fn import(
    call: Call,
    Body(carried): Body<CarriedCrls>,
) -> Result<Json<ImportedCrlsView>, Fault> {
    let actor = call.permit.everywhere()?;
    let ders =
        pem::read_crls(carried.crl.as_bytes()).map_err(|error| Error::malformed("crl", error))?;
    let crls = root::import(call.context(), &ders, &actor).await?;
    Ok(Json(ImportedCrlsView {
        imported: crls.into_iter().map(imported).collect(),
    }))
}

/// Of which CA.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CeremonyQuery {
    /// An authority below the CA that is meant; not needed where there is one root.
    #[param(value_type = Option<String>)]
    below: Option<AuthorityId>,
}

/// What the next CRL ceremony of an offline CA needs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CeremonyView {
    /// The CA in words.
    issuer: String,
    /// How many certificates the new CRL will list that the one before it does not.
    added: usize,
    /// The plan for `ca-root`.
    plan: String,
    /// PEM of the CRL before it, to be saved as `previous.crl.pem`.
    previous: String,
    /// PEM of the CA's certificate, to be saved as `root.pem`.
    certificate: String,
}

/// What the next CRL ceremony of an offline CA needs: a plan for `ca-root`, the CRL before it, and the CA's certificate.
#[utoipa::path(get, path = "/v1/root-crls/request", tag = "CRLs", params(CeremonyQuery), responses((status = 200, body = CeremonyView)))]
pub(super) async fn request(
    call: Call,
    Query(query): Query<CeremonyQuery>,
) -> Result<Json<CeremonyView>, Fault> {
    call.permit.everywhere()?;
    let context = call.context();
    let row = match &query.below {
        Some(id) => Some(crate::app::authority::find(context, id).await?),
        None => None,
    };
    let asked = root::ceremony_request(context, row.as_ref()).await?;
    Ok(Json(CeremonyView {
        issuer: asked.issuer,
        added: asked.added,
        plan: asked.plan,
        previous: asked.previous,
        certificate: asked.certificate,
    }))
}
