//! The front door of the API: every request gets an id, proves its caller, and stays within its caller's rate, whatever it
//! asks for; every refusal is worded, logged once and noted for the audit trail.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Shared;
use super::fault::Fault;
use super::idempotency;
use crate::app::operations::Operation;
use crate::app::permit::{Permit, Principal};
use crate::app::{App, Asker, Error, ErrorKind, Refused};
use crate::authn::administrator;
use crate::entropy;
use crate::grpc::ConnectionInfo;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The request's id in logs, answers and the audit trail.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// Wraps the whole router, what it does not know too: who is not known learns nothing of what there is.
pub(super) async fn door(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let id = match entropy::draw::<8>(&*app.context().entropy) {
        Ok(bytes) => pki::crypto::hex(&bytes),
        Err(error) => {
            return finish(
                &app,
                Fault::from(Error::from(error)).into_response(),
                "",
                &Asked::default(),
            );
        }
    };
    let mut asked = Asked::of(&request);
    let connection = request.extensions().get::<ConnectionInfo>().cloned();
    let headers = request.headers().clone();
    let response = match known(&app, connection, &headers).await {
        Ok(principal) => {
            asked.principal = Some(principal.name.clone());
            match app.administration().within_rate(&principal.name) {
                Ok(()) => {
                    let mut request = request;
                    let extensions = request.extensions_mut();
                    extensions.insert(principal);
                    extensions.insert(RequestId(id.clone()));
                    next.run(request).await
                }
                Err(fault) => Fault::from(fault).into_response(),
            }
        }
        Err(error) => Fault::from(error).into_response(),
    };
    finish(&app, response, &id, &asked)
}

/// How much of a path is logged, in characters: strangers write it.
const LOGGED: usize = 200;

/// What is told of a request in logs.
#[derive(Debug, Default)]
struct Asked {
    method: Method,
    path: String,
    remote: String,
    principal: Option<String>,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let remote = request
            .extensions()
            .get::<ConnectionInfo>()
            .map_or_else(String::new, |connection| connection.remote.to_string());
        Self {
            method: request.method().clone(),
            path: crate::app::printable(
                &request
                    .uri()
                    .path()
                    .chars()
                    .take(LOGGED)
                    .collect::<String>(),
            ),
            remote,
            principal: None,
        }
    }
}

async fn known(
    app: &App,
    connection: Option<ConnectionInfo>,
    headers: &HeaderMap,
) -> Result<Principal, Error> {
    let (remote, peer) = match connection {
        Some(connection) => (connection.remote, connection.peer),
        None => (SocketAddr::from(([0, 0, 0, 0], 0)), None),
    };
    // A certificate goes before a token, whatever that is.
    let token = match &peer {
        Some(_) => None,
        None => bearer(headers)?,
    };
    administrator::authenticate(app, peer.as_deref(), token, remote).await
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match (token, values.next()) {
        (Some(token), None) => Ok(Some(token)),
        _ => Err(Error::new(
            ErrorKind::Unauthenticated,
            "no-credential",
            "not authenticated: expected one Authorization header, `Bearer TOKEN`",
        )),
    }
}

fn finish(app: &App, mut response: Response, id: &str, asked: &Asked) -> Response {
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        note(app, &fault, id, asked);
        let allow = response.headers().get(axum::http::header::ALLOW).cloned();
        response = fault.answer(id);
        if let Some(allow) = allow {
            response
                .headers_mut()
                .insert(axum::http::header::ALLOW, allow);
        }
        if fault.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"signet\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

fn note(app: &App, fault: &Fault, id: &str, asked: &Asked) {
    let principal = asked.principal.as_deref().unwrap_or("(not known)");
    if fault.status.is_server_error() {
        tracing::error!(call = %asked.method, path = asked.path, remote = asked.remote, principal, request.id = id, reason = fault.reason, error = fault.log, "request failed");
    } else {
        tracing::warn!(call = %asked.method, path = asked.path, remote = asked.remote, principal, request.id = id, reason = fault.reason, error = fault.log, "request refused");
    }
    // What is mistyped, missing or stale refuses nobody anything; what policy refused comes with what was asked.
    let kind = match fault.status {
        _ if fault.asker.is_some() => ErrorKind::Malformed,
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthenticated,
        StatusCode::FORBIDDEN => ErrorKind::Denied,
        StatusCode::TOO_MANY_REQUESTS => ErrorKind::Exhausted,
        _ => return,
    };
    let mut error = Error::new(kind, fault.reason, fault.detail.clone());
    if let Some(asker) = &fault.asker {
        error = error.asked_by(|| (**asker).clone());
    } else if let Some(principal) = &asked.principal {
        error = error.asked_by(|| Asker {
            actor: principal.clone(),
            scope: String::new(),
            detail: json!({ "method": asked.method.as_str(), "path": asked.path }),
        });
    }
    app.note_refusal(&Refused {
        call: "api",
        error: &error,
        remote: asked.remote.clone(),
        request_id: id,
    });
}

/// What a route's layer knows.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) app: Shared,
    pub(super) operation: Operation,
}

/// Wraps each route: leave for its operation, or a refusal.
pub(super) async fn permit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let (Some(principal), Some(RequestId(id))) =
        (extensions.get::<Principal>(), extensions.get::<RequestId>())
    else {
        return Fault::internal().into_response();
    };
    let permit = match Permit::new(principal, gate.operation, id) {
        Ok(permit) => permit,
        Err(error) => return Fault::from(error).into_response(),
    };
    request.extensions_mut().insert(permit.clone());
    if request.method().is_safe() {
        return next.run(request).await;
    }
    // What it says of roles and revocations may be what was taken back.
    if gate.app.status().has_gone_back() {
        return Fault::from(Error::gone_back()).into_response();
    }
    // What was begun is done and its answer kept, also where the caller goes away in the middle.
    #[expect(
        clippy::disallowed_methods,
        reason = "the connection waits for it, and a stop for the connection"
    )]
    let work =
        tokio::spawn(async move { idempotency::once(&gate.app, &permit, request, next).await });
    work.await
        .unwrap_or_else(|_| Fault::internal().into_response())
}

/// Where there is nothing.
pub(super) async fn nothing() -> Fault {
    Fault::new(
        StatusCode::NOT_FOUND,
        "no-resource",
        "there is no such resource: see /v1/reference",
    )
}

/// Where there is something else to do.
pub(super) async fn another_method() -> Fault {
    Fault::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        "this resource does not take that method: see /v1/reference",
    )
}
