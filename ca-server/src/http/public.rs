//! The `public` listener: signed things only, for anyone. Answers come from what is in force, without the store.
//!
//! What a cache may keep says so, and everything else says that it may not.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use pki::name::{AuthorityId, TrustDomain};
use pki::ocsp::{ErrorStatus, request_of_path};
use pki::time::{Timestamp, Ttl};

use crate::app::App;
use crate::app::status::{Document, OCSP_RESPONSE, OcspAnswer};

/// The largest body that is read: an OCSP request.
const MAX_BODY: usize = pki::ocsp::MAX_REQUEST_BYTES;

/// The routes: `/bundles/<trust domain>.pem`, `/authorities/<id>.crt`, `/crls/<id>.crl` and its parts
/// `/crls/<id>/<part>.crl`, `/ca-crl.pem`, `/ocsp` by POST and GET, and `/ocsp-staples/<serial>.ocsp`. The CAs above ours,
/// which stay offline, are among the authorities and CRLs as `ca-<key digest>`.
pub fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/bundles/{file}", get(bundle))
        .route("/authorities/{file}", get(authority))
        .route("/crls/{file}", get(crl))
        .route("/crls/{authority}/{file}", get(crl_part))
        .route("/ca-crl.pem", get(full_set))
        .route("/ocsp", post(ocsp_post).get(ocsp_empty))
        .route("/ocsp/", post(ocsp_post).get(ocsp_empty))
        .route("/ocsp/{*request}", get(ocsp_get))
        .route("/ocsp-staples/{file}", get(ocsp_staple))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::map_response(kept_only_if_it_says_so))
        .with_state(app.clone())
}

/// A refusal that a cache kept would outlive its reason.
pub(super) async fn kept_only_if_it_says_so(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

async fn bundle(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let trust_domain = file
        .strip_suffix(".pem")
        .and_then(|name| TrustDomain::parse(name).ok());
    match trust_domain.and_then(|name| app.bundle(&name).ok()) {
        Some(published) => cached(&app, &headers, &published.document),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn authority(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let id = file
        .strip_suffix(".crt")
        .and_then(|name| AuthorityId::parse(name).ok());
    let (snapshot, served) = (app.snapshot(), app.status().served());
    let own = id.as_ref().and_then(|id| snapshot.authority(id));
    let above = id.as_ref().and_then(|id| served.above.get(id.as_str()));
    let document = own
        .map(|authority| &authority.document)
        .or(above.map(|ca| &ca.certificate));
    match document {
        Some(document) => cached(&app, &headers, document),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn crl(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let id = file
        .strip_suffix(".crl")
        .and_then(|name| AuthorityId::parse(name).ok());
    let served = app.status().served();
    let own = id.as_ref().and_then(|id| served.crls.get(id));
    let above = id.as_ref().and_then(|id| served.above.get(id.as_str()));
    let document = own
        .map(|crl| &crl.complete)
        .or(above.and_then(|ca| ca.crl.as_ref()));
    match document {
        Some(document) => cached(&app, &headers, document),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn crl_part(
    State(app): State<Arc<App>>,
    Path((authority, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let served = app.status().served();
    let crl = AuthorityId::parse(&authority)
        .ok()
        .and_then(|id| served.crls.get(&id));
    let part = file.strip_suffix(".crl");
    match crl.zip(part).and_then(|(crl, part)| crl.parts.get(part)) {
        Some(document) => cached(&app, &headers, document),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The set that Istio's `ca-crl.pem` is. While it lacks a list, whoever has an older one keeps it: 503, not less.
async fn full_set(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    match &app.status().served().full {
        Ok(document) => cached(&app, &headers, document),
        Err(incomplete) => {
            let retry = [(axum::http::header::RETRY_AFTER, "60")];
            (
                StatusCode::SERVICE_UNAVAILABLE,
                retry,
                format!("{incomplete}\n"),
            )
                .into_response()
        }
    }
}

/// RFC 6960 appendix A.1, the other way.
async fn ocsp_post(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    // Parameters mean nothing here (RFC 9110 §8.3.1).
    let essence = kind.and_then(|kind| kind.split(';').next());
    if !essence.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/ocsp-request")) {
        let text = "expected Content-Type: application/ocsp-request\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    // Its conditions are not looked at: they are for GET (RFC 9110 §13.1.2).
    ocsp_answer(&app, &HeaderMap::new(), app.ocsp(&body).await)
}

/// RFC 6960 appendix A.1. What follows may have slashes in it, two in a row too: the path is taken as it came.
async fn ocsp_get(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().strip_prefix("/ocsp/").unwrap_or_default();
    let answer = match request_of_path(path) {
        Ok(der) => app.ocsp(&der).await,
        Err(_) => OcspAnswer::Error(ErrorStatus::MalformedRequest),
    };
    ocsp_answer(&app, &headers, answer)
}

async fn ocsp_empty(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let answer = OcspAnswer::Error(ErrorStatus::MalformedRequest);
    ocsp_answer(&app, &headers, answer)
}

/// What a gateway staples (Istio's `tls.ocsp-staple`).
async fn ocsp_staple(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let serial = file
        .strip_suffix(".ocsp")
        .and_then(|serial| serial.parse().ok());
    let Some(serial) = serial else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match app.ocsp_staple(&serial).await {
        Ok(OcspAnswer::Signed(document)) => ocsp_cached(&app, &headers, &document),
        // Nothing to staple is better than a staple that says so.
        Ok(OcspAnswer::Error(ErrorStatus::Unauthorized)) => StatusCode::NOT_FOUND.into_response(),
        Ok(_) | Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Always 200 (RFC 6960 appendix A.2): an error is a response too, which no cache keeps.
fn ocsp_answer(app: &App, headers: &HeaderMap, answer: OcspAnswer) -> Response {
    let body = match answer {
        OcspAnswer::Signed(document) => return ocsp_cached(app, headers, &document),
        OcspAnswer::Once(body) => body,
        OcspAnswer::Error(status) => status.to_der().to_vec(),
    };
    let headers = [(CONTENT_TYPE, OCSP_RESPONSE), (CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

/// RFC 5019 §6.2: no cache changes it, and none gives it out past its time.
fn ocsp_cached(app: &App, headers: &HeaderMap, document: &Document) -> Response {
    let mut response = cached(app, headers, document);
    let said = response.headers().get(CACHE_CONTROL);
    if let Some(said) = said.and_then(|value| value.to_str().ok()) {
        let more = header(&format!("{said}, no-transform, must-revalidate"));
        response.headers_mut().insert(CACHE_CONTROL, more);
    }
    response
}

/// A document, or 304 for who has it already. Caches keep it no longer than a revocation may go unheard of, and never
/// beyond its own end.
fn cached(app: &App, headers: &HeaderMap, document: &Document) -> Response {
    let context = app.context();
    let now = context.clock.untrusted_now();
    cached_at(now, context.settings.cache_for, headers, document)
}

pub(super) fn cached_at(
    now: Timestamp,
    cache_for: Ttl,
    headers: &HeaderMap,
    document: &Document,
) -> Response {
    let longest = cache_for.seconds();
    let left = document
        .expires
        .map_or(longest, |end| end.seconds_since(now).clamp(0, longest));
    let expires = Timestamp::from_unix(now.unix() + left);
    let mut common = HeaderMap::new();
    common.insert(ETAG, header(&document.etag));
    common.insert(EXPIRES, header(&http_date(expires)));
    common.insert(CACHE_CONTROL, header(&format!("public, max-age={left}")));
    if let Some(made) = document.last_modified {
        common.insert(LAST_MODIFIED, header(&http_date(made)));
    }
    if is_known(headers, document) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let kind = [(CONTENT_TYPE, document.content_type)];
    (common, kind, document.body.clone()).into_response()
}

/// RFC 9110 §13.2.2: If-None-Match decides where it is present, If-Modified-Since otherwise. A date has seconds: what may
/// change twice in one is told apart by its tag alone (§8.8.2.2).
fn is_known(headers: &HeaderMap, document: &Document) -> bool {
    if headers.contains_key(IF_NONE_MATCH) {
        let tags = headers.get_all(IF_NONE_MATCH).iter();
        return tags.filter_map(|value| value.to_str().ok()).any(|value| {
            value.split(',').any(|tag| {
                let tag = tag.trim();
                tag == "*" || tag.trim_start_matches("W/") == document.etag
            })
        });
    }
    if document.changes_within_a_second {
        return false;
    }
    headers
        .get(IF_MODIFIED_SINCE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| httpdate::parse_http_date(value).ok())
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .zip(document.last_modified)
        // Dates lie in the past by design, and a reader's own time of reading is none of them: only what we gave comes back.
        .is_some_and(|(since, made)| made.unix() == since)
}

fn http_date(time: Timestamp) -> String {
    let seconds = u64::try_from(time.unix()).unwrap_or(0);
    httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

/// Tags and dates are of the header alphabet.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
