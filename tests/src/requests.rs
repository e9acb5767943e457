//! Certificate requests, and calls with them.

use proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use proto::istio::auth::{IstioCertificateRequest, IstioCertificateResponse};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A key and a request with it.
pub struct KeyAndRequest {
    /// The key.
    pub key: KeyPair,
    /// DER of the request.
    pub der: Vec<u8>,
}

impl KeyAndRequest {
    /// A P-256 key, and a request for these URIs.
    pub fn for_uris(uris: &[&str]) -> Self {
        Self::build(|params| {
            for uri in uris {
                params
                    .subject_alt_names
                    .push(SanType::URI((*uri).try_into().unwrap()));
            }
        })
    }

    /// A P-256 key, and a request as `build` leaves it; it begins without subject and names.
    pub fn build(build: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        build(&mut params);
        let der = params.serialize_request(&key).unwrap().der().to_vec();
        Self { key, der }
    }

    /// The request as PEM.
    pub fn pem(&self) -> String {
        pki::pem::request(&self.der)
    }
}

/// Istio's call with a bearer token and a cluster id, as its agent makes it.
pub async fn create_certificate(
    client: &mut IstioCertificateServiceClient<Channel>,
    token: &str,
    cluster: &str,
    csr: &str,
    seconds: i64,
) -> Result<IstioCertificateResponse, Status> {
    let message = IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: seconds,
        metadata: None,
    };
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().expect("tokens are ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
        .metadata_mut()
        .insert("clusterid", cluster.parse().expect("cluster ids are ASCII"));
    client
        .create_certificate(request)
        .await
        .map(tonic::Response::into_inner)
}
