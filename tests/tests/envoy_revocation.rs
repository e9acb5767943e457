//! The full set of CRLs in a mesh: real agents hand `ca-crl.pem` to real Envoys, which check the whole chain of every peer.
//! Revoking a leaf, holding one, and revoking an intermediate break those that they are about and nobody else.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::{Path, PathBuf};

use tests::envoy::{Envoy, envoy_or_skip};
use tests::fleet::{Fleet, Server};
use tests::http::get;
use tests::istio::{Agent, AgentKey, Agents, Delivery, Workload, wait_until};
use tests::process::run;

const SERVER_ID: &str = "spiffe://cluster.local/ns/foo/sa/server";
const CLIENT_ID: &str = "spiffe://cluster.local/ns/foo/sa/client";

const CENTRAL: usize = 0;
const EDGE: usize = 1;

/// Where every agent of this machine looks; it goes when the test does, because other agents would find it.
struct CrlFile(PathBuf);

impl CrlFile {
    fn new() -> Option<Self> {
        let folder = Path::new("/var/run/secrets/istio/crl");
        std::fs::create_dir_all(folder).ok()?;
        Some(Self(folder.join("ca-crl.pem")))
    }

    /// Puts the full set there as the kubelet does: whole, by a move, which Envoy watches for.
    fn update(&self, set: &[u8]) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, set).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }
}

impl Drop for CrlFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// A client: its Envoy and its agent.
struct Client {
    envoy: Envoy,
    _agent: Agent,
}

impl Client {
    /// Whether it reaches the server, once that stays so.
    fn until(&self, reached: bool, what: &str) {
        let mut seen = 0;
        wait_until(what, || {
            let answer = self.envoy.request().ok()?;
            let as_wanted = (answer.status == 200) == reached;
            seen = if as_wanted { seen + 1 } else { 0 };
            (seen == 5).then_some(())
        });
    }

    fn serial(&self) -> String {
        self.envoy.identity().leaf().serial().to_string()
    }
}

struct Mesh {
    edge: [Client; 2],
    central: Client,
    server: Envoy,
    _agent: Agent,
    ca_server: Server,
    fleet: Fleet,
    file: CrlFile,
}

impl Mesh {
    /// A server in `central`, two clients of `edge` and one of `central`, all with the full set.
    fn start(test: &str) -> Option<Self> {
        let (agents, program) = (Agents::or_skip(test)?, envoy_or_skip(test)?);
        let Some(file) = CrlFile::new() else {
            let reason =
                "this user may not write to /var/run/secrets, where agents look; run it as root";
            tests::parts::skip(test, reason);
            return None;
        };
        let fleet = Fleet::on_sqlite(&["central", "edge"]);
        fleet.import_root_crl(1, &[]);
        let ca_server = fleet.serve();
        file.update(&full_set(&ca_server));
        let agent = |cluster, account| {
            let workload = Workload {
                cluster,
                account,
                key: AgentKey::Ecdsa,
                delivery: Delivery::Sds,
            };
            agents.start(&fleet, &ca_server, &workload)
        };
        let of_server = agent(CENTRAL, "server");
        let server = Envoy::server(&program, &of_server.sds_socket(), CLIENT_ID);
        let [a, b, c] = [EDGE, EDGE, CENTRAL].map(|cluster| {
            let agent = agent(cluster, "client");
            let at = server.listener();
            Client {
                envoy: Envoy::client(&program, &agent.sds_socket(), at, SERVER_ID),
                _agent: agent,
            }
        });
        Some(Self {
            edge: [a, b],
            central: c,
            server,
            _agent: of_server,
            ca_server,
            fleet,
            file,
        })
    }

    /// Does something about a certificate, and hands the set that tells of it to everyone.
    fn act(&self, arguments: &[&str]) {
        let before = full_set(&self.ca_server);
        run(&mut self.fleet.ca_server(arguments));
        let set = wait_until("another set", || {
            Some(full_set(&self.ca_server)).filter(|set| *set != before)
        });
        self.file.update(&set);
    }
}

fn full_set(server: &Server) -> Vec<u8> {
    wait_until("the full set", || {
        let set = get(server.public, "/ca-crl.pem").ok()?;
        (set.status == 200).then_some(set.body)
    })
}

#[test]
fn what_is_revoked_breaks_and_nothing_else_through_real_agents_and_envoys() {
    let test = "what_is_revoked_breaks_and_nothing_else_through_real_agents_and_envoys";
    let Some(mesh) = Mesh::start(test) else {
        return;
    };
    let [one, two] = &mesh.edge;
    for client in [one, two, &mesh.central] {
        client.until(true, "mTLS with the full set in force");
    }

    let (first, second) = (one.serial(), two.serial());
    let revoke = [
        "revoke",
        "--serial",
        &first,
        "--reason",
        "keyCompromise",
        "--yes",
    ];
    mesh.act(&revoke);
    one.until(false, "the end of the revoked leaf");
    two.until(true, "the other leaf of its cluster");
    mesh.central.until(true, "the other cluster's leaf");

    mesh.act(&["hold", "--serial", &second, "--yes"]);
    two.until(false, "the hold");
    mesh.act(&["lift", "--serial", &second, "--yes"]);
    two.until(true, "the healing");
    one.until(false, "the revoked leaf, still");

    // An intermediate: by its own CRL at once, and by the root's once its ceremony was held.
    let revoke = [
        "authority",
        "revoke",
        "edge-1",
        "--reason",
        "cACompromise",
        "--yes",
    ];
    mesh.act(&revoke);
    two.until(false, "the end of the intermediate's leaf");
    let shown = run(&mut mesh.fleet.ca_server(&["authority", "show", "edge-1"]));
    let chain = pki::certificate::Certificate::parse_pem(shown.as_bytes()).unwrap();
    let before = full_set(&mesh.ca_server);
    mesh.fleet.import_root_crl(2, &[chain[0].serial()]);
    let set = wait_until("the root's CRL in the set", || {
        Some(full_set(&mesh.ca_server)).filter(|set| *set != before)
    });
    mesh.file.update(&set);
    two.until(false, "the end of the intermediate");
    mesh.central.until(true, "the other cluster's leaf");

    // The server's Envoy says that it was the certificate.
    assert!(mesh.server.stat("ssl.fail_verify_error") > 0);
    assert_eq!(mesh.server.stat("update_rejected"), 0);
}
