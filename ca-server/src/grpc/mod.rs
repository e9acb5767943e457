//! gRPC: Istio's call and our own, translated into use cases.

mod ca_v1;
mod istio;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;

use crate::app::{App, Error, ErrorKind, Refused};
use crate::authn::{Evidence, PeerCertificate};
use crate::entropy;

/// The largest message that is read: the largest request as PEM, and room for metadata.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// How long a call may take; Istio's agent sets no deadline of its own.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a connection knows of its other end; the acceptor puts it into each request's extensions.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The address.
    pub remote: SocketAddr,
    /// The client certificate, when one of our authorities signed it.
    pub peer: Option<Arc<PeerCertificate>>,
    /// Cancelled when the connection is to end: by its age, or because the server stops. What would never end by itself
    /// ends then.
    pub closing: CancellationToken,
}

/// The services of the `issue` listener.
pub fn issue_services(app: &Arc<App>) -> axum::Router {
    let routes = Routes::new(istio::service(app)).add_service(ca_v1::service(app));
    routes
        .into_axum_router()
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            status::refused_early,
        ))
}

/// A call's id in logs and answers.
fn request_id(app: &App) -> Result<String, Error> {
    let bytes: [u8; 8] = entropy::draw(&*app.context().entropy)?;
    Ok(pki::crypto::hex(&bytes))
}

fn evidence<T>(request: &tonic::Request<T>) -> Result<Evidence, Error> {
    let connection = request
        .extensions()
        .get::<ConnectionInfo>()
        .ok_or_else(|| Error::internal("the acceptor gave no connection information"))?;
    Ok(Evidence {
        peer: connection.peer.clone(),
        bearer: bearer(request.metadata())?,
        cluster: single(request.metadata(), "clusterid")?,
        remote: connection.remote,
    })
}

fn bearer(metadata: &MetadataMap) -> Result<Option<String>, Error> {
    let Some(value) = single(metadata, "authorization")? else {
        return Ok(None);
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(Some(token.trim().to_owned()))
        }
        _ => Err(Error::new(
            ErrorKind::Unauthenticated,
            "malformed-token",
            "not authenticated: the authorization header is not a bearer token",
        )),
    }
}

/// A header that may stand once: of two, each reader would take another.
fn single(metadata: &MetadataMap, name: &'static str) -> Result<Option<String>, Error> {
    let mut values = metadata.get_all(name).iter();
    let refuse = || {
        Error::new(
            ErrorKind::Unauthenticated,
            "malformed-token",
            format!("not authenticated: {name} stands twice or is not ASCII"),
        )
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => Ok(Some(value.to_str().map_err(|_| refuse())?.to_owned())),
        (Some(_), Some(_)) => Err(refuse()),
    }
}

/// Runs a call: deadline, metrics, the one log line of a refusal, and the mapping of its error.
async fn call<T>(
    app: &App,
    name: &'static str,
    map: fn(&Error, &str) -> Status,
    work: impl Future<Output = Result<T, Error>>,
    request_id: &str,
    remote: Option<SocketAddr>,
) -> Result<T, Status> {
    let clock = std::time::Instant::now();
    let late = || {
        Error::new(
            ErrorKind::Unavailable,
            "deadline",
            "the call took too long, try again",
        )
    };
    let result = match tokio::time::timeout(DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => Err(late()),
    };
    app.metrics().took(clock.elapsed().as_secs_f64());
    result.map_err(|error| {
        app.metrics().refused(name, error.reason());
        let remote = remote.map_or_else(String::new, |remote| remote.to_string());
        if error.kind() == ErrorKind::Internal {
            tracing::error!(call = name, request.id = request_id, remote, error = %error.detail(), "call failed");
        } else {
            let refused = Refused {
                call: name,
                error: &error,
                remote: remote.clone(),
                request_id,
            };
            app.note_refusal(&refused);
            tracing::warn!(call = name, request.id = request_id, remote, reason = error.reason(), error = %error.detail(), "call refused");
        }
        map(&error, request_id)
    })
}

fn remote<T>(request: &tonic::Request<T>) -> Option<SocketAddr> {
    request
        .extensions()
        .get::<ConnectionInfo>()
        .map(|connection| connection.remote)
}
