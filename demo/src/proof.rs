//! The proof: a real mTLS connection between the two workloads, and one that is refused.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use ca_client::StoredIdentity;
use pki::certificate::Certificate;
use pki::name::SpiffeId;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use zeroize::Zeroizing;

use crate::peer::{ExpectedClient, ExpectedServer};

const QUESTION: &str = "21.5 degrees in the cold store\n";
const ANSWER: &str = "noted\n";

/// What happened.
#[derive(Debug)]
pub(crate) struct Proof {
    /// Protocol and cipher suite.
    pub(crate) tls: String,
    /// Who the client saw.
    pub(crate) server: SpiffeId,
    /// Who the server saw.
    pub(crate) client: SpiffeId,
    /// What the client said.
    pub(crate) question: &'static str,
    /// What the server said.
    pub(crate) answer: &'static str,
    /// Why the server refused the stranger.
    pub(crate) refusal: String,
}

/// A chain and its key, as TLS takes them.
struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// An identity, and who the other one must be.
pub(crate) type Party<'a> = (&'a SpiffeId, &'a StoredIdentity);

/// Lets `web` serve `sensor`, and then turn away a stranger who says that it is `sensor`.
pub(crate) async fn run(web: Party<'_>, sensor: Party<'_>) -> Result<Proof> {
    let provider = CryptoProvider::get_default().context("a TLS provider is installed")?;
    let client = ExpectedClient::new(roots(web.1)?, sensor.0.clone(), provider.clone())?;
    let own = credentials(web.1)?;
    let server = ServerConfig::builder()
        .with_client_cert_verifier(Arc::new(client))
        .with_single_cert(own.chain, own.key)?;
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await?;

    let connector = connector(credentials(sensor.1)?, sensor.1, web.0, provider)?;
    let (served, asked) = tokio::join!(serve(&listener, &acceptor), ask(&listener, &connector));
    let (server, tls) = asked.context("the sensor got no answer")?;
    let client = served.context("the web service had nobody to serve")?;

    let connector = self::connector(stranger(sensor.0)?, sensor.1, web.0, provider)?;
    let (served, asked) = tokio::join!(serve(&listener, &acceptor), ask(&listener, &connector));
    let refusal = match served {
        Ok(id) => bail!("a stranger with a certificate of its own was taken for {id}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(asked.is_err(), "the stranger got an answer");
    Ok(Proof {
        tls,
        server,
        client,
        question: QUESTION.trim_end(),
        answer: ANSWER.trim_end(),
        refusal,
    })
}

fn connector(
    own: Credentials,
    identity: &StoredIdentity,
    server: &SpiffeId,
    provider: &Arc<CryptoProvider>,
) -> Result<TlsConnector> {
    let server = ExpectedServer::new(roots(identity)?, server.clone(), provider.clone());
    let client = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(server))
        .with_client_auth_cert(own.chain, own.key)?;
    Ok(TlsConnector::from(Arc::new(client)))
}

/// Takes one connection; gives who it came from.
async fn serve(listener: &TcpListener, acceptor: &TlsAcceptor) -> Result<SpiffeId> {
    let (stream, _) = listener.accept().await?;
    let mut stream = acceptor.accept(stream).await?;
    let client = peer(stream.get_ref().1.peer_certificates())?;
    let mut question = vec![0; QUESTION.len()];
    stream.read_exact(&mut question).await?;
    ensure!(question == QUESTION.as_bytes(), "another question");
    stream.write_all(ANSWER.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(client)
}

/// Makes one connection; gives who answered, and how they spoke.
async fn ask(listener: &TcpListener, connector: &TlsConnector) -> Result<(SpiffeId, String)> {
    let stream = TcpStream::connect(listener.local_addr()?).await?;
    // Nobody looks at the host: workloads are known by their SPIFFE ids.
    let host = ServerName::try_from("localhost")?;
    let mut stream = connector.connect(host, stream).await?;
    stream.write_all(QUESTION.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer == ANSWER, "another answer: {answer:?}");
    let connection = stream.get_ref().1;
    let (Some(version), Some(suite)) = (
        connection.protocol_version(),
        connection.negotiated_cipher_suite(),
    ) else {
        bail!("the handshake is not over");
    };
    let tls = format!("{version:?}, {:?}", suite.suite());
    Ok((peer(connection.peer_certificates())?, tls))
}

fn peer(chain: Option<&[CertificateDer<'_>]>) -> Result<SpiffeId> {
    let leaf = chain.and_then(<[_]>::first).context("no certificate")?;
    Ok(Certificate::parse(leaf)?.spiffe_id()?)
}

fn roots(identity: &StoredIdentity) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(identity.bundle_pem.as_bytes()) {
        roots.add(der?)?;
    }
    Ok(roots)
}

fn credentials(identity: &StoredIdentity) -> Result<Credentials> {
    let chain: Result<_, _> =
        CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).collect();
    Ok(Credentials {
        chain: chain?,
        key: PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?,
    })
}

/// A certificate that says the right name and that nobody but its owner has signed.
fn stranger(name: &SpiffeId) -> Result<Credentials> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params
        .subject_alt_names
        .push(SanType::URI(name.as_str().try_into()?));
    let certificate = params.self_signed(&key)?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    Ok(Credentials {
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?,
    })
}
