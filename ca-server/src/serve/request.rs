//! A request's body, read whole before anything looks at it. Our requests are small: what comes too slowly, too large or
//! too often is ended here, where the bytes are counted, and costs no task that waits inside of a call.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tonic::{Code, Status};

use super::bounds::Bounds;
use super::problem;

/// Twice the largest message of any call, which the call itself refuses with a better answer.
const MAX_BODY_BYTES: usize = 128 * 1024;
/// From a request's headers to its body's last byte.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// How many bodies may be under way at once: at most 1 GiB of them, were every one half there.
const MAX_BODIES: usize = 8_192;
/// And of one address.
const MAX_BODIES_PER_ADDRESS: usize = 1_024;

/// How many bodies are being read.
pub(super) struct Reading(Bounds);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TooMany,
    TooLarge,
    TooSlow,
    Broken,
}

impl Reading {
    pub(super) fn new() -> Self {
        Self(Bounds::new(MAX_BODIES, MAX_BODIES_PER_ADDRESS))
    }

    /// The request with its body in memory.
    ///
    /// # Errors
    /// The answer to give instead.
    pub(super) async fn whole(
        &self,
        listener: &'static str,
        request: Request<Incoming>,
        remote: SocketAddr,
    ) -> Result<Request, Response> {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            return Ok(Request::from_parts(parts, Body::empty()));
        }
        match self.read(body, remote).await {
            Ok(bytes) => Ok(Request::from_parts(parts, Body::from(bytes))),
            Err(fault) => {
                tracing::warn!(listener, %remote, path = parts.uri.path(), fault = fault.words(), "request refused");
                let grpc = parts
                    .headers
                    .get(CONTENT_TYPE)
                    .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
                Err(fault.answer(grpc))
            }
        }
    }

    async fn read(&self, body: Incoming, remote: SocketAddr) -> Result<bytes::Bytes, Fault> {
        let _place = self.0.enter(remote.ip()).ok_or(Fault::TooMany)?;
        if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
            return Err(Fault::TooLarge);
        }
        let whole = Limited::new(body, MAX_BODY_BYTES).collect();
        match tokio::time::timeout(BODY_DEADLINE, whole).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Fault::TooLarge),
            Ok(Err(_)) => Err(Fault::Broken),
            Err(_) => Err(Fault::TooSlow),
        }
    }
}

impl Fault {
    const fn words(self) -> &'static str {
        match self {
            Self::TooMany => "too many requests are being sent at once, try again",
            Self::TooLarge => "the request is larger than 128 KiB",
            Self::TooSlow => "the request did not come whole within 5 s, try again",
            Self::Broken => "the request ended early",
        }
    }

    fn answer(self, grpc: bool) -> Response {
        let (code, status) = match self {
            Self::TooMany => (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
            Self::TooLarge => (Code::InvalidArgument, StatusCode::PAYLOAD_TOO_LARGE),
            Self::TooSlow => (Code::Unavailable, StatusCode::REQUEST_TIMEOUT),
            Self::Broken => (Code::InvalidArgument, StatusCode::BAD_REQUEST),
        };
        if grpc {
            Status::new(code, self.words()).into_http()
        } else {
            let later = matches!(self, Self::TooMany | Self::TooSlow);
            problem::answer(status, "body", self.words(), "", later.then_some(1))
        }
    }
}
