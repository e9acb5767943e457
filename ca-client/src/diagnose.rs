//! A second look at a server that did not behave as an issuance listener does, to say what is probably wrong.
//!
//! The libraries between us and TLS lose what they saw: which certificates came, and the alert that came after the
//! handshake. So the handshake is done once more, alone, with the same roots. It only ever makes a message better: what it
//! does not find out is not said.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pki::certificate::Certificate;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::error::tls_error;

/// For all of it: somebody waits for the message.
const DEADLINE: Duration = Duration::from_secs(2);

/// For an alert after the handshake, beside what the handshake took.
const ALERT_PATIENCE: Duration = Duration::from_millis(200);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The server's certificates, those that read.
    pub(crate) chain: Vec<Certificate>,
    /// It ended the connection because we have no certificate.
    pub(crate) wants_certificate: bool,
}

/// Looks at what answers at `host` and `port`.
pub(crate) async fn look(host: &str, port: u16, name: &str, roots: &[Vec<u8>]) -> Seen {
    let came = Arc::new(Mutex::new(Vec::new()));
    let Some((config, name)) = client(name, roots, came.clone()) else {
        return Seen::default();
    };
    let began = Instant::now();
    let alert = async {
        let tcp = TcpStream::connect((host, port)).await?;
        let mut tls = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await?;
        // In TLS 1.3 a server says that it wants a certificate after the handshake, a round trip later; nothing is sent here
        // meanwhile, so the alert is not lost to a reset. A server that is content says nothing.
        let patience = began.elapsed() + ALERT_PATIENCE;
        match tokio::time::timeout(patience, tls.read(&mut [0])).await {
            Ok(ended) => ended.map(|_| ()),
            Err(_) => Ok(()),
        }
    };
    let ended = tokio::time::timeout(DEADLINE, alert).await;
    let wants_certificate = matches!(
        &ended,
        Ok(Err(error)) if matches!(
            tls_error(error),
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired))
        )
    );
    let came = came.lock().unwrap_or_else(PoisonError::into_inner);
    Seen {
        chain: came
            .iter()
            .filter_map(|der| Certificate::parse(der).ok())
            .collect(),
        wants_certificate,
    }
}

fn client(
    name: &str,
    roots: &[Vec<u8>],
    came: Arc<Mutex<Vec<Vec<u8>>>>,
) -> Option<(ClientConfig, ServerName<'static>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().map(|der| CertificateDer::from(der.as_slice())));
    let judge =
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).build();
    let witness = Witness {
        judge: judge.ok()?,
        came,
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(witness))
        .with_no_client_auth();
    config.alpn_protocols.push(b"h2".to_vec());
    Some((config, ServerName::try_from(name.to_owned()).ok()?))
}

/// Judges as every connection does, and remembers what came.
#[derive(Debug)]
struct Witness {
    judge: Arc<WebPkiServerVerifier>,
    came: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = [leaf].into_iter().chain(intermediates);
        *self.came.lock().unwrap_or_else(PoisonError::into_inner) =
            all.map(|der| der.to_vec()).collect();
        self.judge
            .verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
