//! `Idempotency-Key`: a request that is sent again, because its answer was lost, is answered again and not carried out again.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::fault::Fault;
use crate::app::idempotency::{Begun, Request as Remembered};
use crate::app::operations::Operation;
use crate::app::permit::Permit;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The largest body of a request, and of an answer that is kept.
const MAX_BODY: usize = 256 * 1024;

/// An answer as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    status: u16,
    content_type: Option<String>,
    location: Option<String>,
    body: String,
}

/// Runs the request, or answers as the one before it with the same key.
pub(super) async fn once(app: &Shared, permit: &Permit, request: Request, next: Next) -> Response {
    // Trying a policy changes nothing, and its answers are large.
    let changes = !matches!(
        permit.operation(),
        Operation::PolicyDryRun | Operation::PolicyReplay
    );
    let key = match key(request.method(), request.headers()) {
        Ok(Some(_)) if !changes => return next.run(request).await,
        Ok(Some(key)) => key,
        Ok(None) => return next.run(request).await,
        Err(fault) => return fault.into_response(),
    };
    match keyed(app, permit, &key, request, next).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

async fn keyed(
    app: &Shared,
    permit: &Permit,
    key: &str,
    request: Request,
    next: Next,
) -> Result<Response, Fault> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| {
        Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "the request is too large",
        )
    })?;
    let target = parts
        .uri
        .path_and_query()
        .map_or_else(String::new, ToString::to_string);
    let remembered = Remembered::new(permit, key, &target, &bytes);
    let begun = app.begin_once(&remembered).await.map_err(|error| {
        let fault = Fault::from(error);
        match fault.status {
            StatusCode::CONFLICT => fault.retry_after(1),
            _ => fault,
        }
    })?;
    match begun {
        Begun::Fresh => {}
        Begun::Answered(kept) => return Ok(again(&kept)),
    }
    let response = next
        .run(Request::from_parts(parts, Body::from(bytes)))
        .await;
    // Whoever failed, or came at a bad time, may try again; a refusal that stays one is given again.
    let status = response.status();
    if !status.is_success() {
        app.forget_once(&remembered).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    // Our own, and in memory already.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let text = |name: HeaderName| {
        let value = parts.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let kept = Kept {
        status: status.as_u16(),
        content_type: text(CONTENT_TYPE),
        location: text(LOCATION),
        body: String::from_utf8_lossy(&bytes).into_owned(),
    };
    // One that is larger is none of a create's: the next one with this key is told that it is under way.
    if let Ok(kept) = serde_json::to_vec(&kept)
        && kept.len() <= MAX_BODY
    {
        app.answered_once(&remembered, &kept).await;
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn again(kept: &[u8]) -> Response {
    let Ok(kept) = serde_json::from_slice::<Kept>(kept) else {
        return Fault::internal().into_response();
    };
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let mut response = (status, kept.body).into_response();
    let headers = response.headers_mut();
    for (name, value) in [(CONTENT_TYPE, kept.content_type), (LOCATION, kept.location)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// The key of a request that has one. On what changes nothing twice by itself it means nothing.
fn key(method: &Method, headers: &HeaderMap) -> Result<Option<String>, Fault> {
    if method != Method::POST {
        return Ok(None);
    }
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|key| {
        (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    match (key, values.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Fault::malformed(
            "Idempotency-Key: expected one, of 1 to 128 visible ASCII characters",
        )),
    }
}
