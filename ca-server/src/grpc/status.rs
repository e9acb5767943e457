//! Errors as gRPC statuses: one table for our own calls, one for Istio's.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tonic::{Code, Status};

use super::ConnectionInfo;
use crate::app::{App, Error, ErrorKind, Refused};

/// Our own calls.
pub(super) fn ours(error: &Error, request_id: &str) -> Status {
    let code = match error.kind() {
        ErrorKind::Conflict => Code::AlreadyExists,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Internal => Code::Internal,
        ErrorKind::Malformed => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Unavailable => Code::Unavailable,
    };
    Status::new(code, format!("{error} (request {request_id})"))
}

/// Istio's call. Its agent retries INTERNAL, UNAVAILABLE, RESOURCE_EXHAUSTED and ABORTED five times at once, so a
/// refusal that stays one is never among them, and neither is overload told as RESOURCE_EXHAUSTED.
pub(super) fn istio(error: &Error, request_id: &str) -> Status {
    let code = match error.kind() {
        ErrorKind::Denied | ErrorKind::Malformed | ErrorKind::NotFound | ErrorKind::Conflict => {
            Code::InvalidArgument
        }
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Exhausted | ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Internal => Code::Internal,
    };
    Status::new(code, format!("{error} (request {request_id})"))
}

/// What tonic refuses before a call of ours begins (a message that is too large, compressed or no message, an unknown
/// method) gets what every refusal has: one log line and the request's id. It calls bad input OUT_OF_RANGE and
/// INTERNAL, and Istio's agent repeats the latter five times: both are INVALID_ARGUMENT.
pub(super) async fn refused_early(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    // What is no gRPC gets HTTP's answer, not a 200 with a status that only gRPC reads.
    let content_type = request.headers().get(http::header::CONTENT_TYPE);
    if !content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return http::StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let call = request.uri().path().to_owned();
    let remote = request
        .extensions()
        .get::<ConnectionInfo>()
        .map_or_else(String::new, |connection| connection.remote.to_string());
    let response = next.run(request).await;
    let Some(status) = Status::from_header_map(response.headers()) else {
        return response;
    };
    // A status of ours carries its request's id.
    if status.code() == Code::Ok || status.message().contains("(request ") {
        return response;
    }
    let code = match status.code() {
        Code::OutOfRange | Code::Internal => Code::InvalidArgument,
        code => code,
    };
    let Ok(request_id) = super::request_id(&app) else {
        return response;
    };
    let reason = "no-call";
    app.metrics().refused("early", reason);
    app.note_refusal(&Refused {
        call: "early",
        error: &Error::new(ErrorKind::Malformed, reason, "no call of ours"),
        remote: remote.clone(),
        request_id: &request_id,
    });
    tracing::warn!(
        call,
        request.id = request_id,
        remote,
        reason,
        error = status.message(),
        "call refused"
    );
    Status::new(code, format!("{} (request {request_id})", status.message())).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ErrorKind; 8] = [
        ErrorKind::Conflict,
        ErrorKind::Denied,
        ErrorKind::Exhausted,
        ErrorKind::Internal,
        ErrorKind::Malformed,
        ErrorKind::NotFound,
        ErrorKind::Unauthenticated,
        ErrorKind::Unavailable,
    ];

    #[test]
    fn istios_agent_never_retries_a_refusal_at_once() {
        for kind in KINDS {
            let code = istio(&Error::new(kind, "x", "x"), "id").code();
            let retried = matches!(
                code,
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::ResourceExhausted
                    | Code::Aborted
                    | Code::Internal
                    | Code::Unavailable
            );
            let temporary = matches!(
                kind,
                ErrorKind::Exhausted | ErrorKind::Unavailable | ErrorKind::Internal
            );
            assert_eq!(retried, temporary, "{kind:?}");
        }
    }

    #[test]
    fn a_fault_of_ours_tells_nothing_but_its_id() {
        let error = Error::internal("password is hunter2");
        for map in [ours, istio] {
            assert_eq!(map(&error, "abc").message(), "internal error (request abc)");
        }
    }
}
