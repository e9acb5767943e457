//! TLS settings of a listener: the serving certificate and whose client certificates count. They are swapped whole:
//! within a living configuration a resumed session would pass with a certificate of an authority that no longer counts.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

use crate::app::state::{Authority, Snapshot};
use crate::store::model::AuthorityState;

/// The server's own certificate, root left out, and its key's PKCS#8.
pub struct ServingIdentity {
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
}

/// What a TLS listener works with at the moment.
pub struct TlsSettings {
    config: ArcSwap<ServerConfig>,
}

impl TlsSettings {
    /// For a listener that asks for a client certificate and takes whoever has none: who may do what is decided call by call.
    ///
    /// # Errors
    /// When the identity or an authority cannot be used.
    pub fn new(identity: &ServingIdentity, snapshot: &Snapshot) -> Result<Self, TlsError> {
        let config = ArcSwap::from_pointee(config(identity, snapshot)?);
        Ok(Self { config })
    }

    /// Puts a new certificate and new trust in force for every handshake from now on.
    ///
    /// # Errors
    /// When they cannot be used; what was in force stays so.
    pub fn replace(&self, identity: &ServingIdentity, snapshot: &Snapshot) -> Result<(), TlsError> {
        self.config.store(Arc::new(config(identity, snapshot)?));
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn config(identity: &ServingIdentity, snapshot: &Snapshot) -> Result<ServerConfig, TlsError> {
    let mut anchors = RootCertStore::empty();
    // The authority itself is the anchor: a shorter path to check, and no other CA under the root gets in.
    for own in snapshot
        .authorities
        .iter()
        .filter(|a| counts(a))
        .filter_map(|a| a.chain.first())
    {
        anchors.add(CertificateDer::from(own.der().to_vec()))?;
    }
    let verifier = WebPkiClientVerifier::builder(Arc::new(anchors))
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::Verifier(error.to_string()))?;
    let chain = identity
        .chain
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.to_vec()));
    let mut config = ServerConfig::builder_with_protocol_versions(&[
        &rustls::version::TLS13,
        &rustls::version::TLS12,
    ])
    .with_client_cert_verifier(verifier)
    .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Session storage belongs to this configuration, so no other listener's and no older session resumes here.
    config.max_early_data_size = 0;
    Ok(config)
}

/// Whose leaves may be shown as client certificates. Those of a revoked authority too: they are told why they are refused,
/// which a handshake cannot say.
fn counts(authority: &Authority) -> bool {
    use AuthorityState as S;
    matches!(authority.state, S::Active | S::Retiring | S::Revoked)
}

/// Why TLS settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or the key does not load.
    #[error("the serving certificate, its key or an authority does not load")]
    Rustls(#[from] rustls::Error),
    /// Client certificates cannot be verified.
    #[error("client certificates cannot be verified: {0}")]
    Verifier(String),
}
