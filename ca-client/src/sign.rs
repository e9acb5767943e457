//! One request to the server, and its checked answer.

use std::time::Duration;

use pki::csr::VerifiedCsr;
use pki::name::ProfileName;
use pki::time::{Timestamp, Ttl};
use proto::ca::v1::SignCertificateRequest;
use proto::ca::v1::certificate_service_client::CertificateServiceClient;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use crate::answer::{self, SignedCertificate};
use crate::credentials::{Credentials, CredentialsError};
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::identity::IdentityError;

/// Until an answer is there. The server waits up to 2 s for a place in its queue; an answer that takes longer than this is
/// lost, and asking again is better than waiting.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends the DER of a request and checks what comes back, as it stands at `now`. No profile is the server's
/// `workload`, no lifetime the profile's default.
///
/// # Errors
/// When the server cannot be reached, refuses, or its answer is not what was asked for.
pub async fn sign(
    endpoint: &Endpoint,
    credentials: &Credentials,
    csr_der: &[u8],
    profile: Option<&ProfileName>,
    ttl: Option<Ttl>,
    now: Timestamp,
) -> Result<SignedCertificate, ClientError> {
    let csr = VerifiedCsr::parse(csr_der).map_err(IdentityError::from)?;
    let mut request = Request::new(SignCertificateRequest {
        csr: csr_der.to_vec(),
        profile: profile.map(ToString::to_string).unwrap_or_default(),
        ttl: ttl.map(|ttl| prost_types::Duration {
            seconds: ttl.seconds(),
            nanos: 0,
        }),
    });
    authorize(&mut request, credentials)?;
    request.set_timeout(ANSWER_TIMEOUT);
    let channel = endpoint.connect(Some(credentials)).await?;
    match CertificateServiceClient::new(channel)
        .sign_certificate(request)
        .await
    {
        Ok(response) => Ok(answer::check(response.get_ref(), &csr, now)?),
        Err(status) => Err(endpoint.explain(Some(credentials), &status).await),
    }
}

/// Puts a token into the request's metadata; a certificate is in the connection already.
fn authorize<T>(
    request: &mut Request<T>,
    credentials: &Credentials,
) -> Result<(), CredentialsError> {
    let (token, cluster) = match credentials {
        Credentials::Certificate { .. } => return Ok(()),
        Credentials::Enrolment(token) => (token, None),
        Credentials::Token { token, cluster } => (token, Some(cluster)),
    };
    let metadata = request.metadata_mut();
    metadata.insert("authorization", token.bearer()?);
    if let Some(cluster) = cluster {
        let value: MetadataValue<Ascii> = cluster
            .as_str()
            .parse()
            .map_err(|_| CredentialsError::NotAToken)?;
        metadata.insert("clusterid", value);
    }
    Ok(())
}
