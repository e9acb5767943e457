//! The roots that a trust domain believes in, once or whenever they change.

use std::future::Future;
use std::path::Path;

use pki::bundle::Bundle;
use pki::name::TrustDomain;
use proto::ca::v1::certificate_service_client::CertificateServiceClient;
use proto::ca::v1::{GetTrustBundleRequest, TrustBundle, WatchTrustBundleRequest};
use tonic::Request;

use crate::answer::{self, AnswerError};
use crate::atomic;
use crate::endpoint::Endpoint;
use crate::entropy;
use crate::error::{ClientError, chain};
use crate::files::FilesError;
use crate::renew::Backoff;
use crate::sign::ANSWER_TIMEOUT;

/// The bundle as it stands. Nobody has to prove who they are: it holds public things, and the server proves itself.
///
/// # Errors
/// When the server cannot be reached, refuses, or answers with no bundle of this trust domain.
pub async fn get(endpoint: &Endpoint, trust_domain: &TrustDomain) -> Result<Bundle, ClientError> {
    let channel = endpoint.connect(None).await?;
    let mut request = Request::new(GetTrustBundleRequest {
        trust_domain: trust_domain.to_string(),
    });
    request.set_timeout(ANSWER_TIMEOUT);
    match CertificateServiceClient::new(channel)
        .get_trust_bundle(request)
        .await
    {
        Ok(response) => read(response.into_inner().bundle.as_ref(), trust_domain),
        Err(status) => Err(endpoint.explain(None, &status).await),
    }
}

/// Calls `on_bundle` with the bundle, and again whenever its sequence number grows, until `stop` is done. What goes
/// wrong, `on_bundle`'s failures included, is logged and tried again over a new connection, with growing pauses.
pub async fn watch(
    endpoint: &Endpoint,
    trust_domain: &TrustDomain,
    backoff: &Backoff,
    mut on_bundle: impl FnMut(&Bundle) -> Result<(), ClientError>,
    stop: impl Future<Output = ()>,
) {
    let follow_for_ever = async {
        let mut seen = None;
        let mut failures = 0;
        loop {
            let before = seen;
            let ended = follow(endpoint, trust_domain, &mut seen, &mut on_bundle).await;
            failures = if seen == before { failures + 1 } else { 1 };
            let pause = backoff.delay(failures, entropy::jitter());
            let error = match &ended {
                Err(error) => chain(error),
                Ok(()) => "the server ended the stream".to_owned(),
            };
            tracing::warn!(error, pause_s = pause.as_secs_f64(), "not following");
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = follow_for_ever => {}
        () = stop => {}
    }
}

/// Follows one stream to its end.
async fn follow(
    endpoint: &Endpoint,
    trust_domain: &TrustDomain,
    seen: &mut Option<u64>,
    on_bundle: &mut impl FnMut(&Bundle) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let channel = endpoint.connect(None).await?;
    let asked = WatchTrustBundleRequest {
        trust_domain: trust_domain.to_string(),
    };
    let mut stream = match CertificateServiceClient::new(channel)
        .watch_trust_bundle(asked)
        .await
    {
        Ok(response) => response.into_inner(),
        Err(status) => return Err(endpoint.explain(None, &status).await),
    };
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(status) => return Err(endpoint.explain(None, &status).await),
        };
        let bundle = read(message.bundle.as_ref(), trust_domain)?;
        // A replica that is behind must not bring a removed root back.
        if seen.is_none_or(|seen| bundle.sequence() > seen) {
            on_bundle(&bundle)?;
            *seen = Some(bundle.sequence());
        }
    }
}

fn read(bundle: Option<&TrustBundle>, asked: &TrustDomain) -> Result<Bundle, ClientError> {
    let bundle = answer::bundle(bundle.ok_or(AnswerError::NoBundle)?)?;
    if bundle.trust_domain() != asked {
        return Err(ClientError::Answer(AnswerError::OtherBundle {
            asked: asked.clone(),
            given: bundle.trust_domain().clone(),
        }));
    }
    Ok(bundle)
}

/// Writes the bundle as PEM, mode 0644; a reader sees all of the old file or all of the new one.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, bundle: &Bundle) -> Result<(), FilesError> {
    atomic::write_atomically(path, bundle.to_pem().as_bytes()).map_err(|source| FilesError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}
