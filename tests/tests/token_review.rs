//! Tokens that a real kube-apiserver made, reviewed by it and proven by its pinned keys.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ca_server::authn::token::{
    ReviewError, ReviewServer, ServiceAccount, TokenIssuer, TokenReason, TokenReviewConfig,
    TokenReviewer, authenticate,
};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use pki::time::Timestamp;
use serde_json::json;
use tempfile::TempDir;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ADMIN_TOKEN: &str = "test-only-admin";
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_api_server_reviews_its_tokens_and_its_pinned_keys_outlive_it() -> Result<()> {
    let Some((apiserver, etcd)) = parts() else {
        return skip("token review by kube-apiserver: not installed");
    };
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(&apiserver, &etcd, &folder)?;
    let client = cluster.client()?;
    cluster.ready(&client).await?;
    populate(&client).await?;

    let mesh = token(&client, "istio-ca", Some("web-1")).await?;
    let other = token(&client, "vault", None).await?;
    let reviewer = TokenReviewer::new(cluster.reviewed_by_files()).await?;

    let reviewed = reviewer.review(&mesh, HERE).await?;
    assert_eq!(
        (reviewed.namespace.as_str(), reviewed.name.as_str()),
        ("default", "web")
    );
    let pod = reviewed.pod.as_ref().ok_or("no pod")?;
    assert_eq!(pod.name, "web-1");
    assert!(reviewed.uid.is_some() && reviewed.token_id.is_some());
    let by_kubeconfig = TokenReviewer::new(cluster.reviewed_by_kubeconfig()?).await?;
    assert_eq!(by_kubeconfig.review(&mesh, HERE).await?, reviewed);

    assert_eq!(
        refused(reviewer.review(&other, HERE).await)?,
        TokenReason::Refused
    );
    assert_eq!(
        refused(reviewer.review(&changed(&mesh), HERE).await)?,
        TokenReason::Refused
    );

    let pinned = pin(&client).await?;
    let issuers = std::slice::from_ref(&pinned);
    let proven = authenticate(&mesh, issuers, now()?)?;
    assert_eq!(proven.pod, reviewed.pod);
    assert_eq!(
        (&proven.uid, &proven.token_id, &proven.node),
        (&reviewed.uid, &reviewed.token_id, &reviewed.node)
    );

    deleted_accounts_are_refused(&client, &reviewer, &pinned).await?;

    drop(client);
    drop(cluster);
    match reviewer.review(&mesh, HERE).await {
        Err(ReviewError::Unavailable(_)) => {}
        other => return Err(format!("expected to be told that nobody answers: {other:?}").into()),
    }
    assert_eq!(authenticate(&mesh, issuers, now()?)?, proven);
    let wrong = authenticate(&other, issuers, now()?).map_err(|e| e.reason());
    assert_eq!(wrong, Err(TokenReason::Audience));
    let forged = authenticate(&changed(&mesh), issuers, now()?).map_err(|e| e.reason());
    assert_eq!(forged, Err(TokenReason::Signature));
    Ok(())
}

/// What tells the two ways apart: after a deletion the API server says no, the pinned keys still say yes.
async fn deleted_accounts_are_refused(
    client: &Client,
    reviewer: &TokenReviewer,
    pinned: &TokenIssuer,
) -> Result<()> {
    // Never reviewed before, so that no cache of the API server answers for it.
    let fresh = token(client, "istio-ca", None).await?;
    let accounts: Api<core::ServiceAccount> = Api::namespaced(client.clone(), "default");
    accounts.delete("web", &DeleteParams::default()).await?;
    let since = Instant::now();
    // It learns of the deletion by a watch; meanwhile, and for 10 s after a yes, it may still say yes.
    let reason = loop {
        match reviewer.review(&fresh, HERE).await {
            Ok(_) if since.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            outcome => break refused(outcome)?,
        }
    };
    assert_eq!(reason, TokenReason::Refused);
    authenticate(&fresh, std::slice::from_ref(pinned), now()?)?;
    Ok(())
}

fn refused(outcome: std::result::Result<ServiceAccount, ReviewError>) -> Result<TokenReason> {
    match outcome {
        Err(ReviewError::Refused(error)) => Ok(error.reason()),
        other => Err(format!("expected a refusal: {other:?}").into()),
    }
}

/// The same token with one bit of its signature changed.
fn changed(token: &str) -> String {
    let at = token.len() - 10;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn now() -> Result<Timestamp> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the API server lives in real time"
    )]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Timestamp::from_unix(i64::try_from(since.as_secs())?))
}

async fn http_get(client: &Client, path: &str) -> Result<String> {
    let request = tonic::codegen::http::Request::get(path).body(Vec::new())?;
    Ok(client.request_text(request).await?)
}

async fn pin(client: &Client) -> Result<TokenIssuer> {
    let jwks: serde_json::Value =
        serde_json::from_str(&http_get(client, "/openid/v1/jwks").await?)?;
    let definition = json!({"issuer": ISSUER, "jwks": jwks, "require_pod": false});
    Ok(serde_json::from_value(definition)?)
}

async fn populate(client: &Client) -> Result<()> {
    let account: core::ServiceAccount =
        serde_json::from_value(json!({"metadata": {"name": "web"}}))?;
    let pod: core::Pod = serde_json::from_value(json!({
        "metadata": {"name": "web-1"},
        "spec": {
            "serviceAccountName": "web",
            "automountServiceAccountToken": false,
            "containers": [{"name": "web", "image": "none"}],
        },
    }))?;
    let accounts: Api<core::ServiceAccount> = Api::namespaced(client.clone(), "default");
    let pods: Api<core::Pod> = Api::namespaced(client.clone(), "default");
    let since = Instant::now();
    // The namespace and the account reach the API server's admission by watches of its own.
    while let Err(error) = accounts.create(&PostParams::default(), &account).await {
        waited(since, error).await?;
    }
    while let Err(error) = pods.create(&PostParams::default(), &pod).await {
        waited(since, error).await?;
    }
    Ok(())
}

async fn waited(since: Instant, error: kube::Error) -> Result<()> {
    if since.elapsed() > PATIENCE {
        return Err(error.into());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(())
}

async fn token(client: &Client, audience: &str, pod: Option<&str>) -> Result<String> {
    let accounts: Api<core::ServiceAccount> = Api::namespaced(client.clone(), "default");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            expiration_seconds: Some(43_200),
            bound_object_ref: pod.map(|name| BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(name.to_owned()),
                uid: None,
            }),
        },
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request("web", &PostParams::default(), &request)
        .await?;
    Ok(answer.status.ok_or("no token was made")?.token)
}

/// etcd and kube-apiserver on loopback, ended when dropped.
struct Cluster {
    folder: PathBuf,
    port: u16,
    // Dropped in this order: the API server first.
    apiserver: Running,
    _etcd: Running,
}

impl Cluster {
    fn start(apiserver: &Path, etcd: &Path, folder: &TempDir) -> Result<Self> {
        let folder = folder.path().to_owned();
        write_keys(&folder)?;
        let [client_port, peer_port, port] = free_ports()?;
        let (client_url, peer_url) = (
            format!("http://127.0.0.1:{client_port}"),
            format!("http://127.0.0.1:{peer_port}"),
        );
        let path = |name: &str| folder.join(name).display().to_string();
        let etcd = Running::start(
            Command::new(etcd)
                .args(["--data-dir", &path("etcd"), "--unsafe-no-fsync=true"])
                .args(["--listen-client-urls", &client_url])
                .args(["--advertise-client-urls", &client_url])
                .args(["--listen-peer-urls", &peer_url])
                .args(["--initial-advertise-peer-urls", &peer_url])
                .args(["--initial-cluster", &format!("default={peer_url}")]),
            &folder.join("etcd.log"),
        )?;
        let apiserver = Running::start(
            Command::new(apiserver)
                .arg(format!("--etcd-servers={client_url}"))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
                .arg("--endpoint-reconciler-type=none")
                .arg(format!("--secure-port={port}"))
                .arg(format!("--cert-dir={}", path("certs")))
                .arg(format!("--tls-cert-file={}", path("server.crt")))
                .arg(format!("--tls-private-key-file={}", path("server.key")))
                .arg(format!("--token-auth-file={}", path("tokens.csv")))
                .arg("--authorization-mode=RBAC")
                .arg(format!("--service-account-issuer={ISSUER}"))
                .arg(format!("--service-account-key-file={}", path("sa.pub")))
                .arg(format!(
                    "--service-account-signing-key-file={}",
                    path("sa.key")
                ))
                .arg("--service-cluster-ip-range=10.96.0.0/16"),
            &folder.join("apiserver.log"),
        )?;
        Ok(Self {
            folder,
            port,
            apiserver,
            _etcd: etcd,
        })
    }

    /// Waits until it serves; when it ends instead, says what its log ends with.
    async fn ready(&mut self, client: &Client) -> Result<()> {
        let since = Instant::now();
        loop {
            let Err(error) = http_get(client, "/readyz").await else {
                return Ok(());
            };
            let ended = self.apiserver.0.try_wait()?.is_some();
            if ended || since.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("apiserver.log"))?;
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                return Err(format!("{error}; the log ends with {tail:#?}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> Result<Client> {
        let mut config = kube::Config::new(self.url().parse()?);
        config.root_cert = Some(pki::pem::read_certificates(&fs::read(
            self.folder.join("server.crt"),
        )?)?);
        config.auth_info.token = Some(ADMIN_TOKEN.to_owned().into());
        Ok(Client::try_from(config)?)
    }

    fn reviewed_by_files(&self) -> TokenReviewConfig {
        TokenReviewConfig {
            server: ReviewServer::ApiServer {
                url: self.url(),
                ca_file: self.folder.join("server.crt"),
                token_file: self.folder.join("admin.token"),
            },
            audiences: vec!["istio-ca".to_owned()],
        }
    }

    fn reviewed_by_kubeconfig(&self) -> Result<TokenReviewConfig> {
        let path = self.folder.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {
                "server": self.url(), "certificate-authority": self.folder.join("server.crt"),
            }}],
            "users": [{"name": "u", "user": {"tokenFile": self.folder.join("admin.token")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        fs::write(&path, text.to_string())?;
        Ok(TokenReviewConfig {
            server: ReviewServer::Kubeconfig(path),
            audiences: vec!["istio-ca".to_owned()],
        })
    }
}

fn write_keys(folder: &Path) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    fs::write(folder.join("server.crt"), server.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    let tokens = rcgen::KeyPair::generate()?;
    fs::write(folder.join("sa.key"), tokens.serialize_pem())?;
    fs::write(folder.join("sa.pub"), tokens.public_key_pem())?;
    fs::write(folder.join("admin.token"), ADMIN_TOKEN)?;
    let row = format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n");
    fs::write(folder.join("tokens.csv"), row)?;
    Ok(())
}

/// Ports that were free a moment ago, all different.
fn free_ports() -> Result<[u16; 3]> {
    let held: Vec<TcpListener> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()?;
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// A child that does not outlive the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::create(log)?;
        Ok(Self(
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?,
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn parts() -> Option<(PathBuf, PathBuf)> {
    let part = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.exists())
    };
    Some((part("SIGNET_KUBE_APISERVER")?, part("SIGNET_ETCD")?))
}

/// Tells the runner what was not tried; `SIGNET_SKIPS` names its file.
fn skip(what: &str) -> Result<()> {
    if let Some(path) = std::env::var_os("SIGNET_SKIPS") {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)?;
        writeln!(file, "{what}")?;
    }
    Ok(())
}
