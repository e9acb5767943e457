//! Where the server is, and who vouches for it.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::credentials::Credentials;
use crate::error::ClientError;

/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a quiet connection is left alone before it is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// An `issue` listener of a CA server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: String,
    roots: Vec<u8>,
    server_name: Option<String>,
}

impl Endpoint {
    /// Takes the address as `https://host:port`, the PEM of the roots that vouch for the server, and the name in the
    /// server's certificate where it is not the address's host.
    ///
    /// # Errors
    /// When the address is of another shape, or the roots hold no certificate.
    pub fn new(
        address: &str,
        roots: Vec<u8>,
        server_name: Option<String>,
    ) -> Result<Self, EndpointError> {
        let uri: tonic::transport::Uri = address.parse().map_err(|_| bad_address(address))?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) || !bare {
            return Err(bad_address(address));
        }
        pki::pem::read_certificates(&roots)?;
        Ok(Self {
            address: address.to_owned(),
            roots,
            server_name,
        })
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The same server, with more roots that may vouch for it.
    pub(crate) fn with_more_roots(&self, pem: &str) -> Result<Self, EndpointError> {
        pki::pem::read_certificates(pem.as_bytes())?;
        let mut roots = self.roots.clone();
        roots.push(b'\n');
        roots.extend_from_slice(pem.as_bytes());
        Ok(Self {
            roots,
            ..self.clone()
        })
    }

    /// Connects. A certificate among the credentials is offered in the handshake.
    pub(crate) async fn connect(
        &self,
        credentials: Option<&Credentials>,
    ) -> Result<Channel, ClientError> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.roots));
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        if let Some(Credentials::Certificate { chain, key }) = credentials {
            tls = tls.identity(Identity::from_pem(chain, key.as_bytes()));
        }
        let endpoint = tonic::transport::Endpoint::from_shared(self.address.clone())
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(|error| ClientError::from_transport(&self.address, &error))?;
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("signet-ca/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| ClientError::from_transport(&self.address, &error))?
            .connect()
            .await
            .map_err(|error| ClientError::from_transport(&self.address, &error))
    }
}

fn bad_address(address: &str) -> EndpointError {
    EndpointError::Address(address.chars().take(200).collect())
}

/// Why a server's address or roots are not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not an address.
    #[error("{0:?} is not a server's address: it has the form https://ca.example:8443")]
    Address(String),
    /// No roots.
    #[error("the server's roots are not PEM certificates")]
    Roots(#[from] pki::pem::PemError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_with_a_host_and_nothing_behind_it() {
        let roots = pki::pem::certificate(&[0x30, 0]).into_bytes();
        assert!(Endpoint::new("https://ca.example:8443", roots.clone(), None).is_ok());
        assert!(Endpoint::new("https://[::1]:8443/", roots.clone(), None).is_ok());
        for bad in [
            "",
            "ca.example:8443",
            "http://ca.example",
            "https://",
            "https://a/b",
        ] {
            assert!(Endpoint::new(bad, roots.clone(), None).is_err(), "{bad}");
        }
        assert!(Endpoint::new("https://a", b"nothing".to_vec(), None).is_err());
    }
}
