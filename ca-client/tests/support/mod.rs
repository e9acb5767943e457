//! A stand-in for the server: `ca.v1.CertificateService` over TLS, which signs whatever it is asked for and can be told
//! to misbehave. The real server is met in the scenarios of package `tests`.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    missing_docs,
    reason = "test code, of which each program uses its own part"
)]

pub mod api;
#[path = "../../src/stand_in.rs"]
pub mod authority;
pub mod run;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authority::{Authority, TRUST_DOMAIN};
use ca_client::{
    Backoff, CredentialSource, Credentials, Endpoint, FileNames, IdentityDir, KeyKind, NewKey,
    Order, Renewal, Token,
};
use pki::certificate::Certificate;
use pki::extension::SubjectNames;
use pki::name::{ClusterName, DnsName, SpiffeId};
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};
use proto::ca::v1::certificate_service_server::{CertificateService, CertificateServiceServer};
use proto::ca::v1::{
    GetTrustBundleRequest, GetTrustBundleResponse, SignCertificateRequest, SignCertificateResponse,
    TrustBundle, WatchTrustBundleRequest, WatchTrustBundleResponse,
};
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt, wrappers::WatchStream};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate as Pem, Identity, ServerTlsConfig};
use tonic::{Request, Response, Status};

pub const TOKEN: &str = "good.service-account.token";
pub const CLUSTER: &str = "Kubernetes";
pub const ID: &str = "spiffe://td.test/ns/a/sa/b";

#[expect(
    clippy::disallowed_methods,
    reason = "TLS reads the real clock, so the tests live in it"
)]
pub fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_unix(i64::try_from(since_1970.as_secs()).unwrap())
}

/// How the stand-in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Honest,
    Expired,
    ForeignRoot,
    OtherKey,
    OtherName,
    /// Honest, under this profile.
    Profile(Profile),
    /// UNAVAILABLE so many times, then honest.
    Away(u32),
}

/// Who a call came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub authorization: Option<String>,
    pub cluster: Option<String>,
    pub certificate: Option<Vec<u8>>,
    pub profile: String,
    pub ttl_seconds: Option<i64>,
}

pub struct StandIn {
    pub authority: Authority,
    pub foreign: Authority,
    pub manner: Mutex<Manner>,
    pub seen: Mutex<Vec<Seen>>,
    pub bundle: tokio::sync::watch::Sender<TrustBundle>,
}

impl StandIn {
    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn last_seen(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    fn answer(&self, csr: &[u8], ttl: Ttl) -> Result<SignCertificateResponse, Status> {
        let mut manner = self.manner.lock().unwrap();
        let honest = |csr: &[u8]| self.authority.answer(csr, ttl, now());
        Ok(match &mut *manner {
            Manner::Away(0) | Manner::Honest => honest(csr),
            Manner::Away(left) => {
                *left -= 1;
                return Err(Status::unavailable("the store is away"));
            }
            Manner::Expired => {
                self.authority
                    .answer(csr, Ttl::hours(1), now().minus(Ttl::hours(2)))
            }
            Manner::ForeignRoot => SignCertificateResponse {
                bundle: Some(self.foreign.bundle(1)),
                ..honest(csr)
            },
            Manner::OtherKey => honest(new_key(ID).csr()),
            Manner::Profile(profile) => {
                let leaf = self.authority.leaf(csr, *profile, ttl, now());
                let mut answer = honest(new_key(ID).csr());
                answer.chain[0] = leaf.der().to_vec();
                answer
            }
            Manner::OtherName => honest(new_key("spiffe://td.test/ns/other/sa/x").csr()),
        })
    }
}

pub fn new_key(id: &str) -> NewKey {
    let names = SubjectNames::of_spiffe(SpiffeId::parse(id).unwrap());
    NewKey::generate(KeyKind::P256, &names).unwrap()
}

struct Service(Arc<StandIn>);

#[tonic::async_trait]
impl CertificateService for Service {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        let text = |name: &str| {
            let value = request.metadata().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let certificate = request
            .peer_certs()
            .and_then(|chain| chain.first().map(|leaf| leaf.to_vec()));
        let seen = Seen {
            authorization: text("authorization"),
            cluster: text("clusterid"),
            certificate,
            profile: request.get_ref().profile.clone(),
            ttl_seconds: request.get_ref().ttl.map(|ttl| ttl.seconds),
        };
        let known = [
            format!("Bearer {TOKEN}"),
            "Bearer signet_enrol_abc".to_owned(),
        ];
        let proven = seen.certificate.is_some()
            || seen
                .authorization
                .as_ref()
                .is_some_and(|it| known.contains(it));
        let ttl = seen.ttl_seconds.map_or(Ttl::hours(24), |seconds| {
            Ttl::from_seconds(seconds).unwrap()
        });
        self.0.seen.lock().unwrap().push(seen);
        if !proven {
            return Err(Status::unauthenticated(
                "the token is not one of ours (audience)",
            ));
        }
        self.0
            .answer(&request.get_ref().csr, ttl)
            .map(Response::new)
    }

    async fn get_trust_bundle(
        &self,
        _: Request<GetTrustBundleRequest>,
    ) -> Result<Response<GetTrustBundleResponse>, Status> {
        Ok(Response::new(GetTrustBundleResponse {
            bundle: Some(self.0.bundle.borrow().clone()),
        }))
    }

    type WatchTrustBundleStream =
        Pin<Box<dyn Stream<Item = Result<WatchTrustBundleResponse, Status>> + Send>>;

    async fn watch_trust_bundle(
        &self,
        _: Request<WatchTrustBundleRequest>,
    ) -> Result<Response<Self::WatchTrustBundleStream>, Status> {
        let bundles = WatchStream::new(self.0.bundle.subscribe());
        let messages = bundles.map(|bundle| {
            Ok(WatchTrustBundleResponse {
                bundle: Some(bundle),
            })
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

/// A running stand-in, and a directory for the test. It ends when dropped.
pub struct World {
    pub server: Arc<StandIn>,
    pub address: String,
    pub home: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl World {
    pub async fn start() -> Self {
        ca_client::install_crypto_provider();
        let since = now().minus(Ttl::days(30));
        let authority = Authority::new(since);
        let (bundle, _) = tokio::sync::watch::channel(authority.bundle(1));
        let server = Arc::new(StandIn {
            foreign: Authority::new(since),
            manner: Mutex::new(Manner::Honest),
            seen: Mutex::default(),
            bundle,
            authority,
        });
        let mut tasks = JoinSet::new();
        let address = serve(&server, true, &mut tasks);
        let home = tempfile::tempdir().unwrap();
        std::fs::write(
            home.path().join("roots.pem"),
            server.authority.root.to_pem(),
        )
        .unwrap();
        std::fs::write(home.path().join("token"), format!("{TOKEN}\n")).unwrap();
        Self {
            server,
            address,
            home,
            tasks,
        }
    }

    /// Serves on one more port, where a client has to have a certificate; gives its address.
    pub fn serve_to_clients_alone(&mut self) -> String {
        serve(&self.server, false, &mut self.tasks)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn endpoint(&self) -> Endpoint {
        let roots = std::fs::read(self.path("roots.pem")).unwrap();
        Endpoint::new(&self.address, roots, None).unwrap()
    }

    pub fn directory(&self) -> IdentityDir {
        IdentityDir::new(self.path("id"), FileNames::default())
    }

    /// Puts an identity into the directory that was issued at `at`, without asking the server.
    pub fn put_identity(&self, at: Timestamp) -> Certificate {
        let key = new_key(ID);
        let answer = self.server.authority.answer(key.csr(), Ttl::hours(24), at);
        let csr = pki::csr::VerifiedCsr::parse(key.csr()).unwrap();
        let signed = ca_client::answer::check(&answer, &csr, at).unwrap();
        self.directory().write(key.key_pem(), &signed, at).unwrap();
        signed.leaf().clone()
    }

    pub fn renewal(&self) -> Renewal {
        Renewal {
            directory: self.directory(),
            endpoint: self.endpoint(),
            follow_bundle: false,
            order: Order::default(),
            fallback: None,
            hook: None,
            backoff: Backoff {
                first: Duration::from_millis(5),
                longest: Duration::from_millis(50),
            },
        }
    }

    pub fn token_source(&self) -> CredentialSource {
        CredentialSource::TokenFile {
            path: self.path("token"),
            cluster: ClusterName::parse(CLUSTER).unwrap(),
        }
    }
}

pub fn token() -> Credentials {
    Credentials::Token {
        token: Token::parse(TOKEN).unwrap(),
        cluster: ClusterName::parse(CLUSTER).unwrap(),
    }
}

pub fn own_id() -> SubjectNames {
    SubjectNames::of_spiffe(SpiffeId::parse(ID).unwrap())
}

fn serve(server: &Arc<StandIn>, to_anybody: bool, tasks: &mut JoinSet<()>) -> String {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = incoming.local_addr().unwrap().port();
    let tls = tls(&server.authority).client_auth_optional(to_anybody);
    let service = CertificateServiceServer::new(Service(server.clone()));
    tasks.spawn(async move {
        tonic::transport::Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(service)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    format!("https://localhost:{port}")
}

fn tls(authority: &Authority) -> ServerTlsConfig {
    let names = SubjectNames {
        dns: vec![DnsName::parse("localhost").unwrap()],
        ..SubjectNames::default()
    };
    let key = NewKey::generate(KeyKind::P256, &names).unwrap();
    let leaf = authority.leaf(key.csr(), Profile::SERVING, Ttl::hours(1), now());
    let chain = format!("{}{}", leaf.to_pem(), authority.intermediate.to_pem());
    ServerTlsConfig::new()
        .identity(Identity::from_pem(chain, key.key_pem().as_bytes()))
        .client_ca_root(Pem::from_pem(authority.root.to_pem()))
}

/// What a file holds, or `None`.
pub fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

pub fn trust_domain() -> pki::name::TrustDomain {
    pki::name::TrustDomain::parse(TRUST_DOMAIN).unwrap()
}
