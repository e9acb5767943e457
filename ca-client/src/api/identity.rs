//! Who we are to the API: a client certificate, or a bearer token from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderValue;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::error::ApiError;
use crate::credentials::{CredentialsError, Token, read_token};
use crate::endpoint::Endpoint;

/// The proof of who asks. Files are read when they are needed, so that what renews them needs to tell nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiIdentity {
    /// Nothing: what the server shows to anybody.
    #[default]
    Anonymous,
    /// A client certificate.
    Certificate {
        /// PEM, leaf first.
        chain: PathBuf,
        /// PEM of its key.
        key: PathBuf,
    },
    /// A file with an OpenID Connect token; `-` is standard input.
    TokenFile(PathBuf),
}

impl ApiIdentity {
    /// TLS as this identity, to a server that `endpoint`'s roots vouch for.
    pub(super) fn tls(&self, endpoint: &Endpoint) -> Result<Arc<ClientConfig>, ApiError> {
        let roots = pki::pem::read_certificates(endpoint.roots()).unwrap_or_default();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(
            roots.iter().map(|der| CertificateDer::from(der.as_slice())),
        );
        let builder = ClientConfig::builder().with_root_certificates(store);
        let mut config = match self {
            Self::Certificate { chain, key } => {
                let certificates = read_chain(chain)?;
                let unfit = |error: rustls::Error| ApiError::Identity {
                    path: key.clone(),
                    what: "key",
                    reason: match error {
                        rustls::Error::InconsistentKeys(_) => {
                            format!("it is not the key of {}", chain.display())
                        }
                        other => other.to_string(),
                    },
                };
                builder
                    .with_client_auth_cert(certificates, read_key(key)?)
                    .map_err(unfit)?
            }
            Self::Anonymous | Self::TokenFile(_) => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The token, as it stands.
    pub(super) fn token(&self) -> Result<Option<Token>, ApiError> {
        match self {
            Self::TokenFile(path) => Ok(Some(Token::parse(&read_token(path)?)?)),
            Self::Anonymous | Self::Certificate { .. } => Ok(None),
        }
    }
}

/// The value of `authorization`, which is kept out of debug prints.
pub(super) fn bearer(token: &Token) -> Result<HeaderValue, CredentialsError> {
    let text = Zeroizing::new(format!(
        "Bearer {}",
        std::str::from_utf8(token.as_bytes()).unwrap_or_default()
    ));
    let mut value = HeaderValue::from_str(&text).map_err(|_| CredentialsError::NotAToken)?;
    value.set_sensitive(true);
    Ok(value)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, ApiError> {
    let unfit = |reason: String| ApiError::Identity {
        path: path.to_owned(),
        what: "certificate",
        reason,
    };
    let pem = std::fs::read(path).map_err(|error| unfit(error.to_string()))?;
    let ders = pki::pem::read_certificates(&pem).map_err(|error| unfit(error.to_string()))?;
    Ok(ders.into_iter().map(CertificateDer::from).collect())
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ApiError> {
    let unfit = |reason: String| ApiError::Identity {
        path: path.to_owned(),
        what: "key",
        reason,
    };
    let pem = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| unfit(error.to_string()))?;
    // The error could quote the file; that it holds no key is all that is said.
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| unfit("it holds no private key in PEM".to_owned()))
}
