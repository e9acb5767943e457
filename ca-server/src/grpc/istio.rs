//! `istio.v1.auth.IstioCertificateService/CreateCertificate`, a transport of its own: PEM in, PEM out, and the last
//! element of the answer is what the caller will trust.

use std::sync::Arc;

use pki::pem;
use pki::policy::AskedTtl;
use pki::profile::Profile;
use pki::time::Ttl;
use proto::istio::auth::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use proto::istio::auth::{IstioCertificateRequest, IstioCertificateResponse};
use tonic::{Request, Response, Status};

use super::{MAX_MESSAGE_BYTES, call, evidence, remote, request_id, status};
use crate::app::caller::Caller;
use crate::app::issue::{IssueRequest, IssuedCertificate};
use crate::app::{App, Asker, Error, ErrorKind};
use crate::authn;

pub(super) fn service(app: &Arc<App>) -> IstioCertificateServiceServer<Service> {
    IstioCertificateServiceServer::new(Service(app.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
}

pub(super) struct Service(Arc<App>);

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let app = &self.0;
        let id = request_id(app).map_err(|error| status::istio(&error, ""))?;
        let remote = remote(&request);
        let mut outcome = None;
        let work = async {
            let result = create(app, request, &id).await;
            outcome = Some(result.as_ref().err().map(Error::kind));
            result
        };
        let result = call(app, "istio", status::istio, work, &id, remote).await;
        app.metrics()
            .istio_answered(outcome.unwrap_or(Some(ErrorKind::Unavailable)));
        result.map(|issued| Response::new(response(&issued)))
    }
}

async fn create(
    app: &App,
    request: Request<IstioCertificateRequest>,
    id: &str,
) -> Result<IssuedCertificate, Error> {
    let caller = authn::authenticate(app, &evidence(&request)?).await?;
    let asker = Asker::of(&caller);
    let issued = create_for(app, caller, request.into_inner(), id).await;
    issued.map_err(|error| error.asked_by(|| asker))
}

async fn create_for(
    app: &App,
    caller: Caller,
    message: IstioCertificateRequest,
    id: &str,
) -> Result<IssuedCertificate, Error> {
    refuse_impersonation(&message)?;
    let csr = pem::read_request(message.csr.as_bytes()).map_err(|e| Error::malformed("csr", e))?;
    let ttl = match message.validity_duration {
        i64::MIN..=0 => AskedTtl::Default,
        // Above fifty years there is no lifetime; fifty are above every cluster's longest.
        seconds => AskedTtl::AtMost(Ttl::from_seconds(seconds).unwrap_or(Ttl::days(50 * 365))),
    };
    let request = IssueRequest {
        csr,
        profile: Profile::WORKLOAD,
        ttl,
        caller,
        request_id: id.to_owned(),
    };
    app.issue(&request).await
}

/// Acting for another workload takes knowledge of pods and nodes that is not here yet: refused, never ignored.
fn refuse_impersonation(message: &IstioCertificateRequest) -> Result<(), Error> {
    let asked = message
        .metadata
        .as_ref()
        .is_some_and(|metadata| metadata.fields.contains_key("ImpersonatedIdentity"));
    if asked {
        return Err(Error::new(
            ErrorKind::Unauthenticated,
            "impersonation",
            "not authenticated: impersonation",
        ));
    }
    Ok(())
}

/// Leaf, each intermediate on its own, and last all roots in one element; each ends in a newline.
fn response(issued: &IssuedCertificate) -> IstioCertificateResponse {
    let mut cert_chain = vec![issued.certificate.to_pem()];
    cert_chain.extend(issued.authority.intermediates_pem.iter().cloned());
    cert_chain.push(issued.bundle.pem.clone());
    IstioCertificateResponse { cert_chain }
}
