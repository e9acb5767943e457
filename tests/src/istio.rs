//! Istio's own `pilot-agent` as a process: given a token and a root it asks for certificates as it does in a pod, and
//! hands them on as files or over its SDS socket.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pki::certificate::{Certificate, Issuer};
use serde_json::json;
use tempfile::TempDir;

use crate::fleet::{Fleet, Server};
use crate::parts::part_or_skip;
use crate::process::{Log, Process, output};

/// How long a foreign process may take: its files and pages cannot be waited for otherwise than by looking.
const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks `look` until it has an answer; `what` is told when it never has one.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The installed agent.
pub struct Agents {
    program: PathBuf,
    bootstrap: PathBuf,
}

/// The key that an agent makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentKey {
    /// P-256, by `ECC_SIGNATURE_ALGORITHM`.
    Ecdsa,
    /// RSA-2048, what it does when nothing is said.
    Default,
}

/// How an agent hands its certificates on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As files, renewed by itself.
    Files,
    /// Over its SDS socket, renewed while someone is subscribed.
    Sds,
}

/// Whom an agent speaks for.
pub struct Workload<'a> {
    /// The cluster's place in the fleet.
    pub cluster: usize,
    /// The service account, of namespace `foo`.
    pub account: &'a str,
    /// Its key.
    pub key: AgentKey,
    /// Where its certificates go.
    pub delivery: Delivery,
}

impl Agents {
    /// The agent and its bootstrap template; where one is missing, `test` is reported as skipped.
    pub fn or_skip(test: &str) -> Option<Self> {
        Some(Self {
            program: part_or_skip(test, "SIGNET_PILOT_AGENT")?,
            bootstrap: part_or_skip(test, "SIGNET_BOOTSTRAP_TEMPLATE")?,
        })
    }

    /// Starts an agent with a good token.
    pub fn start(&self, fleet: &Fleet, server: &Server, workload: &Workload<'_>) -> Agent {
        let tokens = &fleet.clusters[workload.cluster].tokens;
        let token = tokens.token("foo", workload.account);
        self.start_with_token(fleet, server, workload, &token)
    }

    /// Starts an agent with this token.
    pub fn start_with_token(
        &self,
        fleet: &Fleet,
        server: &Server,
        workload: &Workload<'_>,
        token: &str,
    ) -> Agent {
        // Not below TMPDIR: a socket's path has at most 108 bytes.
        let directory = tempfile::Builder::new()
            .prefix("s")
            .tempdir_in("/tmp")
            .unwrap();
        let home = directory.path();
        // Its file names are all relative to its working directory.
        for folder in [
            "certs",
            "etc/istio/pod",
            "etc/istio/proxy",
            "var/lib/istio/envoy",
            "var/run/secrets/istio",
            "var/run/secrets/tokens",
        ] {
            std::fs::create_dir_all(home.join(folder)).unwrap();
        }
        let template = home.join("var/lib/istio/envoy/envoy_bootstrap_tmpl.json");
        std::fs::write(template, std::fs::read(&self.bootstrap).unwrap()).unwrap();
        let root = home.join("var/run/secrets/istio/root-cert.pem");
        std::fs::write(root, fleet.root_pem()).unwrap();
        for empty in ["etc/istio/pod/labels", "etc/istio/pod/annotations"] {
            std::fs::write(home.join(empty), "").unwrap();
        }
        write_token(home, token);
        let (stand_in, lifeline) = stand_in_for_envoy(home);
        let proxy = json!({
            "binaryPath": stand_in,
            "controlPlaneAuthPolicy": "NONE",
            // Nobody is there, which it only logs.
            "discoveryAddress": "127.0.0.1:1",
            "proxyAdminPort": free_port(),
            "statusPort": free_port(),
            "terminationDrainDuration": "0s",
        });
        let mut command = Command::new(&self.program);
        command
            .args(["proxy", "sidecar", "--log_target", "stderr"])
            .args(["--log_output_level", "default:info"])
            .current_dir(home)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("CA_ADDR", format!("127.0.0.1:{}", server.issue.port()))
            .env("INSTANCE_IP", "127.0.0.1")
            .env(
                "ISTIO_META_CLUSTER_ID",
                &fleet.clusters[workload.cluster].name,
            )
            .env("POD_NAME", format!("{}-0", workload.account))
            .env("POD_NAMESPACE", "foo")
            .env("PROXY_CONFIG", proxy.to_string())
            .env("SERVICE_ACCOUNT", workload.account)
            .env("TRUST_DOMAIN", "cluster.local");
        if workload.key == AgentKey::Ecdsa {
            command.env("ECC_SIGNATURE_ALGORITHM", "ECDSA");
        }
        if workload.delivery == Delivery::Files {
            command
                .env("DISABLE_ENVOY", "true")
                .env("OUTPUT_CERTS", home.join("certs"));
        }
        let process = Process::start(&mut command);
        let agent = Agent {
            process,
            directory,
            _lifeline: lifeline,
        };
        if workload.delivery == Delivery::Sds {
            wait_until("the agent's SDS socket", || {
                agent.sds_socket().exists().then_some(())
            });
        }
        agent
    }
}

/// A running agent; dropping it ends it and what it started.
pub struct Agent {
    process: Process,
    directory: TempDir,
    /// The writing end of what its stand-in for Envoy reads.
    _lifeline: File,
}

impl Agent {
    /// What it has said.
    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Where its SDS clients connect.
    pub fn sds_socket(&self) -> PathBuf {
        self.directory
            .path()
            .join("var/run/secrets/workload-spiffe-uds/socket")
    }

    /// A file that it writes for others.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("certs").join(name)
    }

    /// Puts another token in the place of its token, in one step as the kubelet does.
    pub fn replace_token(&self, token: &str) {
        write_token(self.directory.path(), token);
    }

    /// Waits for its files to be there and to belong together.
    pub fn identity(&self) -> Identity {
        wait_until("an agent's files", || self.read())
    }

    /// Waits for a certificate other than this one.
    pub fn identity_after(&self, before: &Identity) -> Identity {
        wait_until("an agent's next certificate", || {
            self.read().filter(|next| next.leaf() != before.leaf())
        })
    }

    /// It writes three files one after the other, so that they may be of two times.
    fn read(&self) -> Option<Identity> {
        let [chain, roots] = ["cert-chain.pem", "root-cert.pem"].map(|name| {
            let pem = std::fs::read(self.file(name)).ok()?;
            Certificate::parse_pem(&pem).ok()
        });
        let identity = Identity {
            chain: chain?,
            roots: roots?,
        };
        let key = output(
            Command::new("openssl")
                .args(["pkey", "-pubout", "-outform", "DER", "-in"])
                .arg(self.file("key.pem")),
        );
        (identity.chain.first()?.spki() == key.stdout).then_some(identity)
    }
}

fn write_token(home: &Path, token: &str) {
    let file = home.join("var/run/secrets/tokens/istio-token");
    let new = file.with_extension("new");
    std::fs::write(&new, token).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// The agent serves SDS only when it has an Envoy to run. This one reads a pipe that has no writer but us: it ends with
/// this process, however that ends, and the agent ends with it.
fn stand_in_for_envoy(home: &Path) -> (PathBuf, File) {
    let pipe = home.join("lifeline");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    // With both ends open, opening does not wait for the other side.
    let lifeline = File::options().read(true).write(true).open(&pipe).unwrap();
    let script = home.join("stand-in");
    std::fs::write(&script, format!("#!/bin/sh\nexec cat {}\n", pipe.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    (script, lifeline)
}

/// A port that is free now: the agent takes no 0.
fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// What an agent hands on.
pub struct Identity {
    /// Leaf and intermediates.
    pub chain: Vec<Certificate>,
    /// Whom it trusts.
    pub roots: Vec<Certificate>,
}

impl Identity {
    /// The certificate itself.
    pub fn leaf(&self) -> &Certificate {
        &self.chain[0]
    }

    /// Checks that the chain leads to `fleet`'s root, that nothing else is trusted, that it is this service account's,
    /// and that it is on record.
    pub fn check(&self, fleet: &Fleet, account: &str) {
        let root = fleet.root.certificate();
        assert_eq!(self.roots, std::slice::from_ref(root));
        let mut above = self.chain[1..].to_vec();
        // The agent puts the root at the end of a file's chain, and leaves it out over SDS.
        if above.last() != Some(root) {
            above.push(root.clone());
        }
        let issuer = Issuer::from_chain(&above).unwrap();
        self.leaf().verify_by(issuer.key()).unwrap();
        assert_eq!(
            self.leaf().spiffe_id().unwrap().as_str(),
            format!("spiffe://cluster.local/ns/foo/sa/{account}")
        );
        let serial = self.leaf().serial().to_string();
        let records = fleet.records();
        assert!(
            records.iter().any(|line| line.starts_with(&serial)),
            "{serial} is not on record"
        );
    }
}
