//! A use case's error on its way out: handlers hand it on, the front door turns it into a problem document (RFC 9457), once.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::app::{Asker, Error, ErrorKind};
use crate::serve::problem;

/// Why a request was refused or failed. Carried in the response's extensions until the front door words it.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
    /// For the caller.
    pub(super) detail: String,
    /// For the log.
    pub(super) log: String,
    /// Seconds after which it may work.
    pub(super) retry_after: Option<u64>,
    /// Who was refused what, where a use case knows.
    pub(super) asker: Option<Box<Asker>>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, reason: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            reason,
            log: detail.clone(),
            detail,
            retry_after: None,
            asker: None,
        }
    }

    /// A fault of ours that the caller can do nothing about.
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "internal error",
        )
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// What reads well and cannot be done.
    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", detail)
    }

    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The document, as the caller of `request_id` gets it.
    pub(super) fn answer(&self, request_id: &str) -> Response {
        problem::answer(
            self.status,
            self.reason,
            &self.detail,
            request_id,
            self.retry_after,
        )
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Denied => StatusCode::FORBIDDEN,
            ErrorKind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Malformed => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let again = matches!(error.kind(), ErrorKind::Exhausted | ErrorKind::Unavailable);
        Self {
            status,
            reason: error.reason(),
            detail: crate::app::printable(&error.to_string()),
            log: error.detail(),
            retry_after: again.then_some(1),
            asker: error.asker().cloned().map(Box::new),
        }
    }
}

impl IntoResponse for Fault {
    /// Not worded yet: what has no request id is none of our answers.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
