//! Certificates on record: finding them, and having one signed.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use pki::describe;
use pki::name::{AuthorityId, ClusterName, DnsName, ProfileName, SpiffeId};
use pki::pem;
use pki::policy::AskedTtl;
use pki::profile::Profile;
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Call, PEM, Path, Query, accepted};
use super::fault::Fault;
use super::page::{self, Page};
use crate::app::Actor;
use crate::app::acts::digest;
use crate::app::cluster;
use crate::app::issue::IssueRequest;
use crate::app::{Error, ErrorKind, caller};
use crate::store::model::{RecordCursor, RecordFilter, RecordState, StoredRecord};

/// A certificate as it is on record.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CertificateView {
    /// Its serial number, hexadecimal.
    serial: String,
    /// Who signed it.
    authority: String,
    /// Whose cluster.
    cluster: String,
    /// Its profile.
    profile: String,
    /// Its names: `URI:…`, `DNS:…`, `IP:…`.
    names: Vec<String>,
    /// `valid`, `expired`, `revoked` or `held`.
    state: &'static str,
    /// When it was signed.
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    /// The first second of its validity.
    #[schema(value_type = String, format = DateTime)]
    not_before: Timestamp,
    /// The last second of its validity.
    #[schema(value_type = String, format = DateTime)]
    not_after: Timestamp,
    /// When it was revoked or put on hold.
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// Why: a CRLReason's name (RFC 5280 §5.3.1).
    reason: Option<String>,
    /// How the caller proved who it is.
    caller_kind: String,
    /// Who asked.
    caller: String,
    /// What else is known of the caller.
    #[schema(value_type = Option<Object>)]
    caller_detail: Option<serde_json::Value>,
    /// The names that were asked for.
    asked_names: Vec<String>,
    /// The lifetime that was asked for, in seconds.
    asked_ttl_seconds: Option<i64>,
    /// The lifetime that was granted, in seconds.
    granted_ttl_seconds: i64,
    /// The rule that granted it.
    rule: String,
    /// The bundle that went with it.
    bundle_sequence: u64,
    /// SHA-256 of its SubjectPublicKeyInfo.
    key_sha256: String,
    /// SHA-256 of the request.
    request_sha256: String,
    /// SHA-256 of the certificate.
    certificate_sha256: String,
    /// Its place in its authority's log.
    log_index: u64,
    /// The hash of its leaf there.
    leaf_hash: String,
    /// The call that asked.
    request_id: String,
}

/// Whether an authority was revoked counts for all that it issued.
pub(super) fn view(call: &Call, stored: StoredRecord) -> CertificateView {
    let now = call.context().clock.untrusted_now();
    let record = stored.record;
    let by_authority = call
        .snapshot()
        .authority(&record.authority)
        .filter(|authority| authority.state == crate::store::model::AuthorityState::Revoked)
        .map(|_| "revoked");
    let state = match stored.revoked {
        Some((_, 6)) => by_authority.unwrap_or("held"),
        Some(_) => "revoked",
        None if record.not_after < now => "expired",
        None => by_authority.unwrap_or("valid"),
    };
    let reason = stored.revoked.map(|(_, reason)| {
        pki::crl::Reason::from_code(reason).map_or_else(|| reason.to_string(), |it| it.to_string())
    });
    CertificateView {
        serial: record.serial.to_string(),
        authority: record.authority.to_string(),
        cluster: record.cluster.to_string(),
        profile: record.profile.to_string(),
        names: record.names,
        state,
        issued_at: record.issued_at,
        not_before: record.not_before,
        not_after: record.not_after,
        revoked_at: stored.revoked.map(|(at, _)| at),
        reason,
        caller_kind: record.caller_kind,
        caller: record.caller,
        caller_detail: record
            .caller_detail
            .and_then(|detail| serde_json::from_str(&detail).ok()),
        asked_names: record.asked_names,
        asked_ttl_seconds: record.asked_ttl,
        granted_ttl_seconds: record.granted_ttl,
        rule: record.rule,
        bundle_sequence: record.bundle_sequence,
        key_sha256: pki::crypto::hex(&record.key_digest),
        request_sha256: pki::crypto::hex(&record.request_digest),
        certificate_sha256: pki::crypto::hex(&record.certificate_digest),
        log_index: stored.log_index,
        leaf_hash: pki::crypto::hex(&record.leaf_hash),
        request_id: record.request_id,
    }
}

/// Which certificates: every condition has to hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CertificateQuery {
    /// With this serial number, hexadecimal.
    #[param(value_type = Option<String>)]
    serial: Option<Serial>,
    /// With this SPIFFE id.
    #[param(value_type = Option<String>)]
    spiffe_id: Option<SpiffeId>,
    /// With this host name.
    #[param(value_type = Option<String>)]
    dns: Option<DnsName>,
    /// With this address.
    #[param(value_type = Option<String>)]
    ip: Option<std::net::IpAddr>,
    /// Of this cluster.
    #[param(value_type = Option<String>)]
    cluster: Option<ClusterName>,
    /// By this authority.
    #[param(value_type = Option<String>)]
    authority: Option<AuthorityId>,
    /// With the key whose SubjectPublicKeyInfo has this SHA-256, hexadecimal.
    key: Option<String>,
    /// Asked for by this caller.
    caller: Option<String>,
    /// Of this profile.
    #[param(value_type = Option<String>)]
    profile: Option<ProfileName>,
    /// `valid`, `expired`, `revoked` or `held`.
    state: Option<String>,
    /// Issued at this time or later (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    issued_from: Option<Timestamp>,
    /// Issued before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    issued_to: Option<Timestamp>,
    /// Expires at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    expires_from: Option<Timestamp>,
    /// Expires at this time or earlier.
    #[param(value_type = Option<String>, format = DateTime)]
    expires_to: Option<Timestamp>,
    /// How many at most.
    #[serde(default = "page::default_limit")]
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: u32,
    /// The `next` of the page before.
    page: Option<String>,
}

fn filter(call: &Call, query: CertificateQuery) -> Result<RecordFilter, Fault> {
    let state = match &query.state {
        None => None,
        Some(text) => Some(RecordState::parse(text).ok_or_else(|| {
            Fault::malformed("the query: state is valid, expired, revoked or held")
        })?),
    };
    let after: Option<(Timestamp, Serial)> = query
        .page
        .as_deref()
        .map(|page| page::read(call, page))
        .transpose()?;
    let names = [
        query.spiffe_id.map(|id| format!("URI:{id}")),
        query.dns.map(|name| format!("DNS:{name}")),
        query.ip.map(|address| format!("IP:{address}")),
    ];
    let ever = RecordFilter::ever(call.context().clock.untrusted_now());
    Ok(RecordFilter {
        serial: query.serial,
        cluster: query.cluster,
        names: names.into_iter().flatten().collect(),
        caller: query.caller.as_deref().map(super::extract::id),
        authority: query.authority,
        key: query.key.as_deref().map(digest).transpose()?,
        profile: query.profile,
        state,
        issued_from: query.issued_from,
        issued_to: query.issued_to,
        expires_from: query.expires_from.unwrap_or(ever.expires_from),
        expires_to: query.expires_to.unwrap_or(ever.expires_to),
        limit: page::bounded(query.limit)?,
        after: after.map(|(issued_at, serial)| RecordCursor { issued_at, serial }),
        ..ever
    })
}

/// The certificates on record that fit, newest first. A page may be short where much had to be looked at; the list ends where
/// `next` is null.
#[utoipa::path(get, path = "/v1/certificates", tag = "Certificates", params(CertificateQuery), responses((status = 200, body = Page<CertificateView>)))]
pub(super) async fn list(
    call: Call,
    Query(query): Query<CertificateQuery>,
) -> Result<Json<Page<CertificateView>>, Fault> {
    let mut filter = filter(&call, query)?;
    match (&filter.cluster, call.permit.scope().clusters()) {
        (Some(cluster), _) => {
            call.permit.in_cluster(cluster)?;
        }
        (None, seen) => filter.among = seen.cloned(),
    }
    if let Some(authority) = &filter.authority {
        super::authorities::find(&call, authority).await?;
    }
    let found = call
        .context()
        .store
        .search(&filter)
        .await
        .map_err(Error::from)?;
    // Whether something comes after a full page may depend on what the caller does not see: then it is not said.
    let last = found.records.last().map(StoredRecord::cursor);
    let is_full = found.records.len() >= filter.limit as usize;
    let hides = call.permit.scope().clusters().is_some();
    let next = last.filter(|_| hides && is_full).or(found.next);
    let next = next
        .map(|place| page::write(&call, &(place.issued_at, place.serial)))
        .transpose()?;
    let items = found
        .records
        .into_iter()
        .map(|stored| view(&call, stored))
        .collect();
    Ok(Json(Page { items, next }))
}

/// A certificate of a cluster in which the caller has leave.
pub(super) async fn find(call: &Call, serial: &Serial) -> Result<(StoredRecord, Actor), Fault> {
    let stored = call
        .context()
        .store
        .record(serial)
        .await
        .map_err(Error::from)?;
    let missing = || {
        let text = format!("there is no certificate {serial} on record");
        Error::new(ErrorKind::NotFound, "serial", text)
    };
    Ok(call
        .permit
        .find(stored, |stored| &stored.record.cluster, missing)?)
}

/// What one certificate may be written in.
const FORMS: [&str; 4] = [
    "application/json",
    PEM,
    "application/pkix-cert",
    "text/plain",
];

/// One certificate: its record as JSON, or itself as PEM, DER or words, as `Accept` asks.
#[utoipa::path(get, path = "/v1/certificates/{serial}", tag = "Certificates", params(("serial" = String, Path,)), responses(
    (status = 200, content((CertificateView = "application/json"), (String = "application/x-pem-file"), (Vec<u8> = "application/pkix-cert"), (String = "text/plain")))))]
pub(super) async fn show(
    call: Call,
    Path(serial): Path<Serial>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let form = accepted(&headers, &FORMS)?;
    let (stored, _) = find(&call, &serial).await?;
    let der = stored.record.der.clone();
    Ok(match form {
        PEM => ([(CONTENT_TYPE, PEM)], pem::certificate(&der)).into_response(),
        "application/pkix-cert" => ([(CONTENT_TYPE, form)], der).into_response(),
        "text/plain" => {
            let now = call.context().clock.untrusted_now();
            let said = describe::read(&der, now).map_err(Error::internal)?;
            let text: Vec<_> = said.iter().map(ToString::to_string).collect();
            let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
            (kind, text.join("\n")).into_response()
        }
        _ => Json(view(&call, stored)).into_response(),
    })
}

/// A certificate to be signed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCertificate {
    /// The cluster whose authority signs and whose policy decides.
    #[schema(value_type = String)]
    cluster: ClusterName,
    /// Whom the caller vouches for: the workload that holds the request's key.
    #[schema(value_type = String)]
    spiffe_id: SpiffeId,
    /// The profile; `workload` where absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    profile: Option<ProfileName>,
    /// PEM of the PKCS#10 request. Of it come the key, and the host names of profile `server` or `client`.
    csr: String,
    /// The lifetime, as in `24h`; refused where policy allows less, the default where absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    ttl: Option<Ttl>,
}

/// A certificate that was signed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedView {
    /// Its serial number.
    serial: String,
    /// PEM of the certificate and those above it but the root.
    chain: String,
    /// PEM of the roots to verify peers with.
    bundle: String,
    /// The last second of its validity.
    #[schema(value_type = String, format = DateTime)]
    not_after: Timestamp,
}

/// Signs a request for a workload that the caller vouches for, as far as the cluster's policy lets that workload.
#[utoipa::path(post, path = "/v1/certificates", tag = "Certificates", request_body = NewCertificate, responses((status = 201, body = SignedView)))]
pub(super) async fn sign(call: Call, Body(new): Body<NewCertificate>) -> Result<Response, Fault> {
    let actor = call.permit.in_cluster(&new.cluster)?;
    let snapshot = call.snapshot().clone();
    let cluster = snapshot
        .clusters
        .get(&new.cluster)
        .cloned()
        .ok_or_else(|| cluster::not_found(&new.cluster))?;
    let profile = match &new.profile {
        None => Profile::WORKLOAD,
        Some(name) => Profile::builtin(name)
            .ok_or_else(|| Fault::unprocessable(format!("the body: there is no profile {name}")))?,
    };
    let request = IssueRequest {
        csr: pem::read_request(new.csr.as_bytes())
            .map_err(|error| Error::malformed("csr", error))?,
        profile,
        ttl: new.ttl.map_or(AskedTtl::Default, AskedTtl::Exactly),
        caller: caller::Caller::vouched(cluster, new.spiffe_id, &actor),
        request_id: actor.request_id.clone(),
    };
    let issued = call.issue(&request).await?;
    let serial = issued.certificate.serial().to_string();
    let location = [(LOCATION, format!("/v1/certificates/{serial}"))];
    let body = SignedView {
        serial,
        chain: issued.chain_pem(),
        bundle: issued.bundle.pem.clone(),
        not_after: issued.certificate.not_after(),
    };
    Ok((StatusCode::CREATED, location, Json(body)).into_response())
}
