//! A whole installation for a scenario: a root (in memory; `ca-root` has scenarios of its own), clusters with their
//! authorities, and `ca-server` as a real process on free ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use hsm::{Signer, SoftwareSigner};
use pki::certificate::{
    AuthorityRequest, Certificate, Issuer, Urls, prepare_authority, prepare_root,
};
use pki::crl::{CrlRequest, Reason, RevokedCertificate, Scope, prepare_crl};
use pki::csr::VerifiedCsr;
use pki::key::KeyAlgorithm;
use pki::name::DistinguishedName;
use pki::profile::Profile;
use pki::serial::Serial;
use pki::time::Ttl;
use proto::ca::v1::certificate_service_client::CertificateServiceClient;
use proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use tempfile::TempDir;
use tonic::transport::{Channel, ClientTlsConfig, Identity};

use crate::process::{Log, Process, output, program, run};
use crate::tlv::{bits, oid, sequence};
use crate::tokens::TokenAuthority;

/// A root whose key is in this process.
pub struct Root {
    certificate: Certificate,
    signer: SoftwareSigner,
    /// The same key, for what a signer of ours would not sign.
    key: EcdsaKeyPair,
}

impl Default for Root {
    fn default() -> Self {
        Self::new("Test Root")
    }
}

impl Root {
    /// A new root, P-256, ten years.
    pub fn new(name: &str) -> Self {
        let (signer, pkcs8) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &pkcs8,
            &ring::rand::SystemRandom::new(),
        );
        let subject = DistinguishedName::new(Some("Signet tests"), name).unwrap();
        let request = AuthorityRequest {
            profile: Profile::ROOT,
            subject: &subject,
            key: signer.public_key(),
            path_len: None,
            ttl: Profile::ROOT.default_ttl(),
            urls: &Urls::default(),
            entropy: rand_bytes(),
            now: crate::now(),
        };
        let prepared = prepare_root(&request).unwrap();
        let signature = signer.sign(prepared.to_be_signed()).unwrap();
        let certificate = prepared.seal(&signature).unwrap();
        Self {
            certificate,
            signer,
            key: key.unwrap(),
        }
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs a cluster intermediate for a request; gives the chain with the root, as PEM.
    pub fn sign(&self, request_pem: &[u8], ttl: Ttl) -> String {
        self.sign_as(Profile::CLUSTER_INTERMEDIATE, 0, request_pem, ttl)
    }

    /// Signs a request under a profile of an authority, with a path length.
    pub fn sign_as(&self, profile: Profile, path_len: u8, request_pem: &[u8], ttl: Ttl) -> String {
        let der = pki::pem::read_request(request_pem).unwrap();
        let csr = VerifiedCsr::parse(&der).unwrap();
        self.sign_named(profile, path_len, &csr, ttl, &csr.common_names()[0])
    }

    /// Signs a cluster intermediate under another name than the one that was asked for.
    pub fn sign_another_name(&self, request_pem: &[u8], name: &str) -> String {
        let der = pki::pem::read_request(request_pem).unwrap();
        let csr = VerifiedCsr::parse(&der).unwrap();
        self.sign_named(Profile::CLUSTER_INTERMEDIATE, 0, &csr, Ttl::days(365), name)
    }

    fn sign_named(
        &self,
        profile: Profile,
        path_len: u8,
        csr: &VerifiedCsr,
        ttl: Ttl,
        name: &str,
    ) -> String {
        let subject = DistinguishedName::new(None, name).unwrap();
        let issuer = Issuer::from_chain(std::slice::from_ref(&self.certificate)).unwrap();
        let request = AuthorityRequest {
            profile,
            subject: &subject,
            key: csr.key(),
            path_len: Some(path_len),
            ttl,
            urls: &Urls::default(),
            entropy: rand_bytes(),
            now: crate::now(),
        };
        let prepared = prepare_authority(&request, &issuer).unwrap();
        let signature = self.signer.sign(prepared.to_be_signed()).unwrap();
        let certificate = prepared.seal(&signature).unwrap();
        format!("{}{}", certificate.to_pem(), self.certificate.to_pem())
    }

    /// Its CRL with this number, listing these serial numbers; PEM.
    pub fn crl(&self, number: u64, serials: &[Serial]) -> String {
        let issuer = Issuer::from_chain(std::slice::from_ref(&self.certificate)).unwrap();
        let now = crate::now();
        let revoked: Vec<_> = serials
            .iter()
            .map(|serial| RevokedCertificate {
                serial: *serial,
                revoked_at: now,
                reason: Reason::CaCompromise,
            })
            .collect();
        let list = CrlRequest {
            scope: Scope::COMPLETE,
            number,
            this_update: now.minus(Ttl::minutes(5)),
            next_update: now.plus(Ttl::days(400)),
            revoked: &revoked,
        };
        let prepared = prepare_crl(&list, &issuer).unwrap();
        let signature = self.signer.sign(prepared.to_be_signed()).unwrap();
        prepared.seal(&signature).unwrap().to_pem()
    }
}

impl Root {
    /// Signs what stands in a CRL, whatever it is; gives the DER of the whole.
    pub fn sign_crl(&self, tbs: &[u8]) -> Vec<u8> {
        let signature = self
            .key
            .sign(&ring::rand::SystemRandom::new(), tbs)
            .unwrap();
        let ecdsa = sequence(&[&oid("1.2.840.10045.4.3.2")]);
        sequence(&[tbs, &ecdsa, &bits(signature.as_ref())])
    }
}

fn rand_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).unwrap();
    bytes
}

/// A cluster of a fleet.
pub struct TestCluster {
    /// Its id.
    pub name: String,
    /// Who issues its tokens.
    pub tokens: TokenAuthority,
}

/// An installation on disk.
pub struct Fleet {
    directory: TempDir,
    /// The root of everything.
    pub root: Root,
    /// Its clusters; the first is the server's own.
    pub clusters: Vec<TestCluster>,
    /// What its programs have in their environment.
    environment: Vec<(String, String)>,
}

impl Fleet {
    /// An installation on SQLite with these clusters of trust domain `cluster.local`, each with an active authority.
    pub fn on_sqlite(clusters: &[&str]) -> Self {
        Self::build(None, clusters, "")
    }

    /// The same on a Postgres database.
    pub fn on_postgres(url: &str, clusters: &[&str]) -> Self {
        Self::build(Some(url), clusters, "")
    }

    /// The same on either, with more TOML for every cluster's definition.
    pub fn build(postgres: Option<&str>, clusters: &[&str], definition: &str) -> Self {
        let fleet = Self::without_authorities(postgres, clusters, definition);
        for cluster in &fleet.clusters {
            fleet.add_active_authority(&cluster.name, &[]);
        }
        fleet
    }

    /// The same, before there is any key.
    pub fn without_authorities(
        postgres: Option<&str>,
        clusters: &[&str],
        definition: &str,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let root = Root::default();
        let fleet = Self {
            clusters: clusters
                .iter()
                .map(|name| TestCluster {
                    name: (*name).to_owned(),
                    tokens: TokenAuthority::new("https://kubernetes.default.svc.cluster.local"),
                })
                .collect(),
            directory,
            root,
            environment: Vec::new(),
        };
        fleet.write_config(postgres);
        if postgres.is_some() {
            run(&mut fleet.ca_server(&["migrate"]));
        }
        for i in 0..fleet.clusters.len() {
            fleet.apply(i, definition);
        }
        fleet
    }

    fn write_config(&self, postgres: Option<&str>) {
        let sqlite = format!("sqlite://{}", self.path("ca.db").display());
        std::fs::write(self.path("passphrase"), "a passphrase for tests only\n").unwrap();
        let config = format!(
            r#"[server]
cluster = "{home}"
names = ["localhost", "127.0.0.1", "istiod.istio-system.svc"]
[store]
url = "{url}"
[keys]
passphrase_file = "{passphrase}"
[istio]
default_cluster = "{home}"
[limits]
per_identity_per_minute = 1000000
[listeners]
issue = "127.0.0.1:0"
admin = "127.0.0.1:0"
public = "127.0.0.1:0"
ops = "127.0.0.1:0"
"#,
            home = self.clusters[0].name,
            url = postgres.unwrap_or(&sqlite),
            passphrase = self.path("passphrase").display(),
        );
        std::fs::write(self.path("ca-server.toml"), config).unwrap();
    }

    /// Adds to the environment of its programs.
    pub fn set_environment(&mut self, variable: (String, String)) {
        self.environment.push(variable);
    }

    /// Adds to the configuration.
    pub fn configure(&self, more: &str) {
        let file = self.path("ca-server.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}{more}")).unwrap();
    }

    /// Changes what stands in the configuration.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let file = self.path("ca-server.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from:?} is not in:\n{text}");
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
    }

    /// Puts a cluster's definition in force; `more` is TOML before its token issuer. Lifetimes go up to seven days unless
    /// it says otherwise.
    pub fn apply(&self, cluster: usize, more: &str) {
        let lifetime = if more.contains("max_ttl") {
            ""
        } else {
            "max_ttl = \"7d\"\n"
        };
        let TestCluster { name, tokens } = &self.clusters[cluster];
        std::fs::write(self.path("jwks.json"), tokens.jwks().to_string()).unwrap();
        let definition = format!(
            "name = \"{name}\"\ntrust_domain = \"cluster.local\"\n{lifetime}{more}\n[[token_issuer]]\nissuer = \"{}\"\njwks_file = \"jwks.json\"\n",
            tokens.issuer()
        );
        let file = self.path("cluster.toml");
        std::fs::write(&file, definition).unwrap();
        run(self.ca_server(&["cluster", "apply"]).arg(file));
    }

    /// Requests, signs and imports the next authority of a cluster; gives its id.
    pub fn add_authority(&self, cluster: &str, ttl: Ttl) -> String {
        self.add_authority_with(cluster, ttl, &[])
    }

    /// The same, with more to say in its request.
    pub fn add_authority_with(&self, cluster: &str, ttl: Ttl, more: &[&str]) -> String {
        self.add_authority_under(&self.root, cluster, ttl, more)
    }

    /// The same, signed by any root.
    pub fn add_authority_under(
        &self,
        root: &Root,
        cluster: &str,
        ttl: Ttl,
        more: &[&str],
    ) -> String {
        let request = self.path("request.pem");
        let _ = std::fs::remove_file(&request);
        let said = run(self
            .ca_server(&["authority", "request", cluster])
            .args(more)
            .arg("--out")
            .arg(&request));
        let id = said.split_whitespace().nth(1).unwrap().to_owned();
        let chain = self.path("chain.pem");
        std::fs::write(&chain, root.sign(&std::fs::read(&request).unwrap(), ttl)).unwrap();
        let mut import = self.ca_server(&["authority", "import", &id]);
        if !std::ptr::eq(root, &self.root) {
            let digest = pki::crypto::sha256(root.certificate().der());
            import.args(["--new-root", &pki::crypto::hex(&digest)]);
        }
        run(import.arg(chain));
        id
    }

    /// The first authority of a cluster, a year long, and at work: the first of all does not wait, the others would.
    pub fn add_active_authority(&self, cluster: &str, more: &[&str]) -> String {
        let id = self.add_authority_with(cluster, Ttl::days(365), more);
        let shown = run(&mut self.ca_server(&["authority", "show", &id]));
        if !shown.contains(" active ") {
            run(&mut self.ca_server(&["authority", "activate", &id]));
        }
        id
    }

    /// Has the root sign its next CRL, and imports it.
    pub fn import_root_crl(&self, number: u64, serials: &[Serial]) {
        let file = self.path("root.crl.pem");
        std::fs::write(&file, self.root.crl(number, serials)).unwrap();
        run(self.ca_server(&["crl", "import"]).arg(file));
    }

    /// A file of the installation's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The installation's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// `ca-server` with the installation's configuration and these arguments.
    pub fn ca_server(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("ca-server"));
        command
            .arg("--config")
            .arg(self.path("ca-server.toml"))
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A new enrolment token of a cluster.
    pub fn enrolment_token(&self, cluster: &str, spiffe_id: &str) -> String {
        let arguments = ["enrolment", "create", cluster, "--spiffe-id", spiffe_id];
        run(&mut self.ca_server(&arguments)).trim().to_owned()
    }

    /// Every record's line, as `ca-server records list` prints them, the server's own left out.
    pub fn records(&self) -> Vec<String> {
        let listed = output(&mut self.ca_server(&["records", "list", "--limit", "500"]));
        let text = String::from_utf8(listed.stdout).unwrap();
        text.lines()
            .filter(|line| !line.ends_with(" by ca-server"))
            .map(str::to_owned)
            .collect()
    }

    /// Starts the server and waits until it issues.
    pub fn serve(&self) -> Server {
        Server::start(&mut self.ca_server(&["serve"]), self)
    }

    /// The root as PEM.
    pub fn root_pem(&self) -> String {
        self.root.certificate.to_pem()
    }
}

/// A running `ca-server`.
pub struct Server {
    process: Process,
    /// gRPC over TLS.
    pub issue: SocketAddr,
    /// Administration.
    pub admin: SocketAddr,
    /// Signed things.
    pub public: SocketAddr,
    /// Health and metrics.
    pub ops: SocketAddr,
    root_pem: String,
}

impl Server {
    /// Starts a server by this command and waits until it issues.
    pub fn start(command: &mut Command, fleet: &Fleet) -> Self {
        let process = Process::start(command);
        let address = |listener: &str| {
            let line = process
                .log()
                .wait_for(&["listening", &format!("listener=\"{listener}\"")]);
            let text = line.split("address=").nth(1).unwrap_or_default();
            text.trim()
                .parse()
                .unwrap_or_else(|error| panic!("{line}: {error}"))
        };
        let (issue, admin) = (address("issue"), address("admin"));
        let (public, ops) = (address("public"), address("ops"));
        Self {
            issue,
            admin,
            public,
            ops,
            root_pem: fleet.root_pem(),
            process,
        }
    }

    /// What it has said.
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its address as a URL that its certificate is good for.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.issue.port())
    }

    /// A connection without a client certificate.
    pub async fn connect(&self) -> Channel {
        self.connect_as(None)
            .await
            .expect("the server takes connections")
    }

    /// A connection, with a client certificate (chain and key as PEM) where one is given.
    pub async fn connect_as(
        &self,
        client: Option<(&str, &str)>,
    ) -> Result<Channel, tonic::transport::Error> {
        crate::install_crypto_provider();
        let roots = tonic::transport::Certificate::from_pem(&self.root_pem);
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(roots)
            .domain_name("localhost");
        if let Some((chain, key)) = client {
            tls = tls.identity(Identity::from_pem(chain, key));
        }
        Channel::from_shared(self.url())
            .expect("a URL")
            .tls_config(tls)?
            .connect()
            .await
    }

    /// Istio's service on a new connection.
    pub async fn istio(&self) -> IstioCertificateServiceClient<Channel> {
        IstioCertificateServiceClient::new(self.connect().await)
    }

    /// Our own service on a new connection.
    pub async fn certificates(&self) -> CertificateServiceClient<Channel> {
        CertificateServiceClient::new(self.connect().await)
    }
}
