//! The `admin` listener: for holders of a certificate of profile `admin`, on record and not revoked. It carries the
//! status for now; the administration API joins it.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use pki::profile::Profile;
use serde_json::json;

use crate::app::App;
use crate::authn::record_of_peer;
use crate::grpc::ConnectionInfo;

/// The routes: `/v1/status`.
pub fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "there is no such resource") })
        .layer(axum::extract::DefaultBodyLimit::max(64 * 1024))
        .with_state(app.clone())
}

/// RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({ "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    let kind = [(axum::http::header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

async fn status(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<ConnectionInfo>,
) -> Response {
    match record_of_peer(&app, connection.peer.as_deref()).await {
        Ok(record) if record.record.profile.as_str() == Profile::ADMIN.as_str() => {}
        Ok(_) => {
            return problem(
                StatusCode::FORBIDDEN,
                "this certificate is not an administrator's",
            );
        }
        Err(error) => {
            tracing::warn!(call = "status", remote = %connection.remote, reason = error.reason(), error = %error.detail(), "call refused");
            return problem(StatusCode::UNAUTHORIZED, "not authenticated");
        }
    }
    let snapshot = app.snapshot();
    let authorities: Vec<_> = snapshot
        .authorities
        .iter()
        .map(|a| json!({ "id": a.id, "cluster": a.cluster, "state": a.state.to_string(), "not_after": a.issuer.not_after() }))
        .collect();
    let clock = app.context().clock.trusted_now().is_ok();
    Json(json!({ "authorities": authorities, "clock_trusted": clock, "sequence": snapshot.sequence }))
        .into_response()
}
