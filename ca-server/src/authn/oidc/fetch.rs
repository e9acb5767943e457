//! One GET over TLS: an issuer's key set, from the one address that the configuration names. No redirect, no proxy, no
//! compression, 64 KiB, five seconds in all.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::header::{ACCEPT, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::keys::OidcConfigError;
use crate::authn::token::{Jwks, JwksError};

/// How long a question may take in all.
const DEADLINE: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The most that is read of an answer's head, in bytes; hyper wants 8 KiB at least.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const HTTPS_PORT: u16 = 443;

/// An address, and whom to believe that it is there.
pub(super) struct Source {
    url: Uri,
    tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.url).finish()
    }
}

impl Source {
    pub(super) fn new(url: Uri, ca_file: Option<&Path>) -> Result<Self, OidcConfigError> {
        let roots = read_roots(ca_file)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| OidcConfigError::Roots(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            url,
            tls: Arc::new(tls),
        })
    }

    pub(super) const fn url(&self) -> &Uri {
        &self.url
    }

    /// Asks once.
    pub(super) async fn fetch(&self) -> Result<Jwks, FetchError> {
        let bytes = tokio::time::timeout(DEADLINE, self.get())
            .await
            .map_err(|_| FetchError::Late)??;
        Ok(Jwks::parse(&bytes)?)
    }

    async fn get(&self) -> Result<Bytes, FetchError> {
        let authority = self.url.authority().ok_or(FetchError::Address)?;
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority.port_u16().unwrap_or(HTTPS_PORT);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Address)?;
        let tcp = TcpStream::connect((host, port)).await?;
        let tls = TlsConnector::from(self.tls.clone())
            .connect(name, tcp)
            .await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .handshake(TokioIo::new(tls))
            .await?;
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, "signet")
            .body(Empty::<Bytes>::new())
            .map_err(|_| FetchError::Address)?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            if answer.status() != StatusCode::OK {
                return Err(FetchError::Status(answer.status()));
            }
            if answer.headers().contains_key(CONTENT_ENCODING) {
                return Err(FetchError::Encoding);
            }
            read(answer.into_body()).await
        };
        // The connection moves on only while it is polled; it may end before the answer is read to its end.
        match select(Box::pin(answer), Box::pin(connection)).await {
            Either::Left((answer, _)) => answer,
            Either::Right((ended, answer)) => {
                ended?;
                answer.await
            }
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, FetchError> {
    let limited = Limited::new(body, MAX_BYTES);
    let body = limited.collect().await.map_err(FetchError::Body)?;
    Ok(body.to_bytes())
}

/// Whom to believe: the certificates of a file, or this system's roots.
pub(crate) fn read_roots(ca_file: Option<&Path>) -> Result<RootCertStore, OidcConfigError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let fault = |why: String| OidcConfigError::File {
                path: path.to_owned(),
                why,
            };
            let pem = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
            let certificates =
                pki::pem::read_certificates(&pem).map_err(|error| fault(error.to_string()))?;
            for der in certificates {
                roots
                    .add(CertificateDer::from(der))
                    .map_err(|error| fault(error.to_string()))?;
            }
        }
        // Of a system's hundred roots some are none that rustls reads.
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map(ToString::to_string);
                return Err(OidcConfigError::Roots(why.unwrap_or_else(|| {
                    "this system has no roots; name them in ca_file".to_owned()
                })));
            }
        }
    }
    Ok(roots)
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("its address is none that can be asked")]
    Address,
    #[error("its answer does not read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("its answer is compressed, which was not asked for")]
    Encoding,
    #[error("the exchange failed")]
    Http(#[from] hyper::Error),
    #[error("there is no connection")]
    Io(#[from] std::io::Error),
    #[error("its answer is no key set")]
    Jwks(#[from] JwksError),
    #[error("no answer in {} s", DEADLINE.as_secs())]
    Late,
    #[error("it answers {0}; redirects are not followed")]
    Status(StatusCode),
}
