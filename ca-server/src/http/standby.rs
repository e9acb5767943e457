//! The `public` and `ops` listeners of a server that has no store yet: signed things as they were served last.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use pki::ocsp::ErrorStatus;
use pki::time::Ttl;

use super::public;
use crate::app::status::OCSP_RESPONSE;
use crate::app::status::copy::{Copy, has_ended};
use crate::clock::{Clock, SystemClock};

#[derive(Clone)]
struct Standing {
    copy: Arc<Copy>,
    clock: SystemClock,
    cache_for: Ttl,
}

/// What of the public listener's addresses was kept. Who asks for anything else, or by OCSP, is told to come back.
pub fn public(copy: Copy, clock: SystemClock, cache_for: Ttl) -> Router {
    Router::new()
        .fallback(kept)
        .layer(axum::middleware::map_response(
            public::kept_only_if_it_says_so,
        ))
        .with_state(Standing {
            copy: Arc::new(copy),
            clock,
            cache_for,
        })
}

async fn kept(
    State(standing): State<Standing>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let address = uri.path().trim_start_matches('/');
    if address == "ocsp" || address.starts_with("ocsp/") {
        let later = ErrorStatus::TryLater.to_der().to_vec();
        return ([(CONTENT_TYPE, OCSP_RESPONSE)], later).into_response();
    }
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let now = standing.clock.now();
    let document = standing.copy.get(address);
    match document.filter(|document| !has_ended(document, now)) {
        Some(document) => public::cached_at(now, standing.cache_for, &headers, document),
        None => {
            let why = "the store is away, and this was not kept or is over\n";
            let retry = [(RETRY_AFTER, "60")];
            (StatusCode::SERVICE_UNAVAILABLE, retry, why).into_response()
        }
    }
}

/// Alive, and not ready.
pub fn ops() -> Router {
    let away = || async { (StatusCode::SERVICE_UNAVAILABLE, "the store is away\n") };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(away))
        .route("/metrics", get(away))
        .fallback(|| async { StatusCode::NOT_FOUND })
}
