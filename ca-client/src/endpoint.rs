//! Where the server is, and who vouches for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use pki::describe::kind_of;
use pki::pem::PemError;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::credentials::Credentials;
use crate::diagnose;
use crate::error::ClientError;

/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a quiet connection is left alone before it is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Where an `issue` listener is: `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    text: String,
    host: String,
    port: u16,
}

impl FromStr for ServerAddress {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let bad = || EndpointError::Address(text.chars().take(200).collect());
        let uri: tonic::transport::Uri = text.parse().map_err(|_| bad())?;
        if uri.scheme_str() == Some("http") {
            return Err(EndpointError::Plain(text.chars().take(200).collect()));
        }
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        // An address of IPv6 stands in brackets in a URL, and nowhere else.
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if uri.scheme_str() != Some("https") || host.is_empty() || !bare {
            return Err(bad());
        }
        Ok(Self {
            text: text.to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(443),
        })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A name in a server's certificate: a host name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(String);

impl FromStr for ServerName {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match rustls::pki_types::ServerName::try_from(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(EndpointError::Name(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An `issue` listener of a CA server.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: ServerAddress,
    roots: Vec<u8>,
    roots_file: Option<PathBuf>,
    server_name: Option<ServerName>,
}

impl Endpoint {
    /// Takes the address as `https://host:port`, the PEM of the roots that vouch for the server, and the name in the
    /// server's certificate where it is not the address's host.
    ///
    /// # Errors
    /// When the address or the name is of another shape, or the roots hold no certificate.
    pub fn new(
        address: &str,
        roots: Vec<u8>,
        server_name: Option<String>,
    ) -> Result<Self, EndpointError> {
        let address = address.parse()?;
        let server_name = server_name.map(|name| name.parse()).transpose()?;
        read_roots(&roots, None)?;
        Ok(Self {
            address,
            roots,
            roots_file: None,
            server_name,
        })
    }

    /// The same with roots from a file, which messages then name.
    ///
    /// # Errors
    /// When the file does not read, or holds no certificate.
    pub fn with_roots_of(
        address: ServerAddress,
        roots: &Path,
        server_name: Option<ServerName>,
    ) -> Result<Self, EndpointError> {
        let pem = std::fs::read(roots).map_err(|error| EndpointError::RootsFile {
            path: roots.to_owned(),
            reason: error.to_string(),
        })?;
        read_roots(&pem, Some(roots))?;
        Ok(Self {
            address,
            roots: pem,
            roots_file: Some(roots.to_owned()),
            server_name,
        })
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address.text
    }

    /// PEM of the roots that vouch for the server.
    #[must_use]
    pub fn roots(&self) -> &[u8] {
        &self.roots
    }

    /// The same server, with more roots that may vouch for it.
    pub(crate) fn with_more_roots(&self, pem: &str) -> Result<Self, EndpointError> {
        read_roots(pem.as_bytes(), None)?;
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
            tls = tls.domain_name(name.to_string());
        }
        if let Some(Credentials::Certificate { chain, key }) = credentials {
            tls = tls.identity(Identity::from_pem(chain, key.as_bytes()));
        }
        let connected = async {
            tonic::transport::Endpoint::from_shared(self.address.text.clone())?
                .tls_config(tls)?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(CONNECT_TIMEOUT)
                .user_agent(concat!("signet-ca/", env!("CARGO_PKG_VERSION")))?
                .connect()
                .await
        };
        match connected.await {
            Ok(channel) => Ok(channel),
            Err(error) => {
                let error = ClientError::from_connecting(self.address(), &error);
                Err(self.look_again(credentials, error).await)
            }
        }
    }

    /// Why a call over a connection of [`Endpoint::connect`] failed.
    pub(crate) async fn explain(
        &self,
        credentials: Option<&Credentials>,
        status: &tonic::Status,
    ) -> ClientError {
        let error = ClientError::from_status(self.address(), status);
        self.look_again(credentials, error).await
    }

    /// Says more about a server that is probably another one than was meant.
    async fn look_again(
        &self,
        credentials: Option<&Credentials>,
        error: ClientError,
    ) -> ClientError {
        let offered = matches!(credentials, Some(Credentials::Certificate { .. }));
        let untrusted = matches!(error, ClientError::NotTrusted { .. });
        let closed = matches!(
            error,
            ClientError::Lost { .. } | ClientError::Closed { .. } | ClientError::NotTaken { .. }
        );
        if !untrusted && (offered || !closed) {
            return error;
        }
        if untrusted {
            return self.with_chain_seen(error).await;
        }
        if self.look().await.wants_certificate {
            return ClientError::WrongServer {
                address: self.address.text.clone(),
                reason: "it wants a client certificate, as the `admin` listener does".to_owned(),
            };
        }
        error
    }

    /// Says of a server that is not trusted which certificates came from it; every other error stays as it is.
    pub(crate) async fn with_chain_seen(&self, error: ClientError) -> ClientError {
        let ClientError::NotTrusted {
            address, reason, ..
        } = error
        else {
            return error;
        };
        let roots = pki::pem::read_certificates(&self.roots).unwrap_or_default();
        let seen = self.look().await;
        ClientError::NotTrusted {
            address,
            roots: match &self.roots_file {
                Some(file) => format!("the roots in {}", file.display()),
                None => "the given roots".to_owned(),
            },
            reason: Box::new(reason.with_chain(seen.chain, &roots, self.target().2)),
        }
    }

    async fn look(&self) -> diagnose::Seen {
        let roots = pki::pem::read_certificates(&self.roots).unwrap_or_default();
        let (host, port, name) = self.target();
        diagnose::look(host, port, name, &roots).await
    }

    /// The host and the port to connect to, and the name that the server's certificate has to have.
    pub(crate) fn target(&self) -> (&str, u16, &str) {
        let ServerAddress { host, port, .. } = &self.address;
        let name = self.server_name.as_ref().map_or(host, |name| &name.0);
        (host, *port, name)
    }

    /// Host and port as they stand in the address.
    #[must_use]
    pub fn authority(&self) -> &str {
        let text = self.address.text.trim_start_matches("https://");
        text.trim_end_matches('/')
    }
}

fn read_roots(pem: &[u8], file: Option<&Path>) -> Result<(), EndpointError> {
    let Err(error) = pki::pem::read_certificates(pem) else {
        return Ok(());
    };
    Err(EndpointError::Roots {
        from: file.map_or_else(
            || "what was given as roots".to_owned(),
            |file| file.display().to_string(),
        ),
        reason: match error {
            PemError::Broken => error.to_string(),
            PemError::Count { .. } => {
                format!("expected PEM certificates, found {}", kind_of(pem))
            }
        },
    })
}

/// Why a server's address or roots are not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not an address.
    #[error("{0:?} is not a server's address: it has the form https://ca.example:8443")]
    Address(String),
    /// Not a name.
    #[error("{0:?} is neither a host name nor an IP address")]
    Name(String),
    /// An address without TLS.
    #[error("{0:?} is without TLS, and tokens are sent over TLS alone: it begins with https://")]
    Plain(String),
    /// No roots.
    #[error("{from} holds no roots: {reason}")]
    Roots {
        /// Where they were looked for.
        from: String,
        /// What is there instead.
        reason: String,
    },
    /// The roots' file does not read.
    #[error("cannot read the server's roots {path:?}: {reason}")]
    RootsFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
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
