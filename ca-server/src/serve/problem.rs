//! Refusals over HTTP, as problem documents (RFC 9457).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem<'a> {
    /// Always `about:blank`: the status says what kind of problem it is, and `reason` which.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What was wrong, and what was expected.
    detail: &'a str,
    /// A word for programs that stays the same: `scope`, `stale`, `store`, ….
    reason: &'static str,
    /// What to tell who runs the server: its log has the rest under this id.
    request_id: &'a str,
}

/// The document that says `reason` and `detail`; `request_id` is empty where no call has begun, `retry_after` is in seconds.
pub(crate) fn answer(
    status: StatusCode,
    reason: &'static str,
    detail: &str,
    request_id: &str,
    retry_after: Option<u64>,
) -> Response {
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Refused"),
        status: status.as_u16(),
        detail,
        reason,
        request_id,
    };
    let mut response = (status, Json(problem)).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, kind);
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
