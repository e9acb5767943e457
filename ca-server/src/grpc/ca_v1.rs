//! Our own calls: `ca.v1.CertificateService`.

use std::pin::Pin;
use std::sync::Arc;

use pki::certificate::Certificate;
use pki::name::{ProfileName, TrustDomain};
use pki::policy::AskedTtl;
use pki::profile::Profile;
use pki::time::Ttl;
use proto::ca::v1::certificate_service_server::{CertificateService, CertificateServiceServer};
use proto::ca::v1::{
    GetTrustBundleRequest, GetTrustBundleResponse, SignCertificateRequest, SignCertificateResponse,
    TrustBundle, WatchTrustBundleRequest, WatchTrustBundleResponse,
};
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::{Request, Response, Status};

use super::{ConnectionInfo, MAX_MESSAGE_BYTES, call, evidence, remote, request_id, status};
use crate::app::caller::Caller;
use crate::app::issue::{IssueRequest, IssuedCertificate};
use crate::app::state::PublishedBundle;
use crate::app::{App, Asker, Error, ErrorKind};
use crate::authn;

pub(super) fn service(app: &Arc<App>) -> CertificateServiceServer<Service> {
    CertificateServiceServer::new(Service(app.clone())).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

pub(super) struct Service(Arc<App>);

#[tonic::async_trait]
impl CertificateService for Service {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let app = &self.0;
        let id = request_id(app).map_err(|error| status::ours(&error, ""))?;
        let remote = remote(&request);
        let issued = call(
            app,
            "sign",
            status::ours,
            sign(app, request, &id),
            &id,
            remote,
        )
        .await?;
        Ok(Response::new(response(&issued)))
    }

    /// Roots are no secret: anyone who reaches the listener may read them, over TLS that proves the server.
    async fn get_trust_bundle(
        &self,
        request: Request<GetTrustBundleRequest>,
    ) -> Result<Response<GetTrustBundleResponse>, Status> {
        let app = &self.0;
        let id = request_id(app).map_err(|error| status::ours(&error, ""))?;
        let remote = remote(&request);
        let work = async { bundle(app, &request.into_inner().trust_domain) };
        let published = call(app, "bundle", status::ours, work, &id, remote).await?;
        Ok(Response::new(GetTrustBundleResponse {
            bundle: Some(message(&published)),
        }))
    }

    type WatchTrustBundleStream =
        Pin<Box<dyn Stream<Item = Result<WatchTrustBundleResponse, Status>> + Send>>;

    async fn watch_trust_bundle(
        &self,
        request: Request<WatchTrustBundleRequest>,
    ) -> Result<Response<Self::WatchTrustBundleStream>, Status> {
        let app = self.0.clone();
        let id = request_id(&app).map_err(|error| status::ours(&error, ""))?;
        let remote = remote(&request);
        let closing = request
            .extensions()
            .get::<ConnectionInfo>()
            .map(|connection| connection.closing.clone())
            .unwrap_or_default();
        let trust_domain = request.into_inner().trust_domain;
        let work = async { bundle(&app, &trust_domain) };
        call(&app, "watch-bundle", status::ours, work, &id, remote).await?;
        let mut sent = None;
        // The watch yields its present value first; after that, every change of what is in force.
        let bundles = WatchStream::new(app.changes()).filter_map(move |_| {
            let published = match bundle(&app, &trust_domain) {
                Ok(published) => published,
                Err(error) => return Some(Err(status::ours(&error, &id))),
            };
            let sequence = published.bundle.sequence();
            if sent.is_some_and(|sent| sequence <= sent) {
                return None;
            }
            sent = Some(sequence);
            Some(Ok(WatchTrustBundleResponse {
                bundle: Some(message(&published)),
            }))
        });
        // A watcher comes back by itself: a stream that stays would hold up a stop, and outlive every change of trust.
        let bundles = futures_util::StreamExt::take_until(bundles, closing.cancelled_owned());
        Ok(Response::new(Box::pin(bundles)))
    }
}

async fn sign(
    app: &App,
    request: Request<SignCertificateRequest>,
    id: &str,
) -> Result<IssuedCertificate, Error> {
    let caller = authn::authenticate(app, &evidence(&request)?).await?;
    let asker = Asker::of(&caller);
    let issued = sign_for(app, caller, request.into_inner(), id).await;
    issued.map_err(|error| error.asked_by(|| asker))
}

async fn sign_for(
    app: &App,
    caller: Caller,
    message: SignCertificateRequest,
    id: &str,
) -> Result<IssuedCertificate, Error> {
    let profile = profile(&message.profile)?;
    let ttl = match message.ttl {
        None => AskedTtl::Default,
        Some(ttl) if ttl.nanos != 0 => {
            return Err(Error::new(
                ErrorKind::Malformed,
                "ttl",
                "a lifetime is in whole seconds",
            ));
        }
        Some(ttl) => AskedTtl::Exactly(
            Ttl::from_seconds(ttl.seconds).map_err(|error| Error::malformed("ttl", error))?,
        ),
    };
    let request = IssueRequest {
        csr: message.csr,
        profile,
        ttl,
        caller,
        request_id: id.to_owned(),
    };
    app.issue(&request).await
}

fn profile(name: &str) -> Result<Profile, Error> {
    if name.is_empty() {
        return Ok(Profile::WORKLOAD);
    }
    let parsed = ProfileName::parse(name).map_err(|error| Error::malformed("profile", error))?;
    Profile::builtin(&parsed).ok_or_else(|| {
        Error::new(
            ErrorKind::Malformed,
            "profile",
            format!("there is no profile {parsed}"),
        )
    })
}

fn bundle(app: &App, trust_domain: &str) -> Result<Arc<PublishedBundle>, Error> {
    let trust_domain = TrustDomain::parse(trust_domain)
        .map_err(|error| Error::malformed("trust-domain", error))?;
    app.bundle(&trust_domain)
}

fn message(published: &PublishedBundle) -> TrustBundle {
    TrustBundle {
        trust_domain: published.bundle.trust_domain().to_string(),
        sequence: published.bundle.sequence(),
        roots: published
            .bundle
            .roots()
            .iter()
            .map(|root| root.der().to_vec())
            .collect(),
    }
}

fn response(issued: &IssuedCertificate) -> SignCertificateResponse {
    let IssuedCertificate {
        certificate,
        authority,
        bundle,
    } = issued;
    let intermediates = &authority.chain[..authority.chain.len().saturating_sub(1)];
    let mut chain = vec![certificate.der().to_vec()];
    chain.extend(
        intermediates
            .iter()
            .map(Certificate::der)
            .map(<[u8]>::to_vec),
    );
    SignCertificateResponse {
        chain,
        bundle: Some(message(bundle)),
        serial: certificate.serial().to_string(),
        not_after: Some(prost_types::Timestamp {
            seconds: certificate.not_after().unix(),
            nanos: 0,
        }),
    }
}
