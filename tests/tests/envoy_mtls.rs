//! Two clusters under one root: real Envoys, each with its certificate from a real agent of its own cluster, speak mTLS;
//! strangers are refused; and intermediates change under traffic without one failed request.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pki::time::Ttl;
use tests::disturbance::StopOnDrop;
use tests::envoy::{Envoy, envoy_or_skip};
use tests::fleet::{Fleet, Server};
use tests::http::Answer;
use tests::istio::{Agent, AgentKey, Agents, Delivery, Workload, wait_until};
use tests::process::run;

const SERVER_ID: &str = "spiffe://cluster.local/ns/foo/sa/server";
const CLIENT_ID: &str = "spiffe://cluster.local/ns/foo/sa/client";

const CENTRAL: usize = 0;
const EDGE: usize = 1;

/// What the whole scenario stands on; fields are dropped in this order.
struct Mesh {
    client: Envoy,
    server: Envoy,
    _agents: [Agent; 2],
    ca_server: Server,
    fleet: Fleet,
    agents: Agents,
}

impl Mesh {
    /// A server in `central` and a client in `edge`, with certificates of this life.
    fn start(test: &str, lifetime: &str) -> Option<Self> {
        let agents = Agents::or_skip(test)?;
        let program = envoy_or_skip(test)?;
        let lifetimes = format!("default_ttl = \"{lifetime}\"\nmax_ttl = \"{lifetime}\"");
        let fleet = Fleet::build(None, &["central", "edge"], &lifetimes);
        let ca_server = fleet.serve();
        let [of_server, of_client] =
            [(CENTRAL, "server"), (EDGE, "client")].map(|(cluster, account)| {
                let workload = Workload {
                    cluster,
                    account,
                    key: AgentKey::Ecdsa,
                    delivery: Delivery::Sds,
                };
                agents.start(&fleet, &ca_server, &workload)
            });
        let server = Envoy::server(&program, &of_server.sds_socket(), CLIENT_ID);
        let client = Envoy::client(
            &program,
            &of_client.sds_socket(),
            server.listener(),
            SERVER_ID,
        );
        server.identity().check(&fleet, "server");
        client.identity().check(&fleet, "client");
        Some(Self {
            client,
            server,
            _agents: [of_server, of_client],
            ca_server,
            fleet,
            agents,
        })
    }

    /// Makes the next authority of a cluster and lets it sign from now on.
    fn replace_authority(&self, cluster: usize) {
        let name = &self.fleet.clusters[cluster].name;
        let id = self.fleet.add_authority(name, Ttl::days(365));
        run(&mut self.fleet.ca_server(&["authority", "activate", &id]));
    }
}

/// Requests through both Envoys, without a pause longer than 20 ms, until told to stop: how many there were, and what
/// was wrong with those that failed.
fn traffic(client: &Envoy, stop: &AtomicBool) -> (u64, Vec<String>) {
    let (mut requests, mut failed) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match client.request() {
            Ok(answer) if answer.status == 200 && answer.body == b"hello" => {}
            Ok(answer) => failed.push(format!("request {requests}: {answer:?}")),
            Err(error) => failed.push(format!("request {requests}: {error}")),
        }
        requests += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    (requests, failed)
}

#[test]
fn intermediates_change_under_traffic_without_a_failed_request() {
    let test = "intermediates_change_under_traffic_without_a_failed_request";
    let Some(mesh) = Mesh::start(test, "12s") else {
        return;
    };
    let first = wait_until("the first answer", || mesh.client.request().ok());
    assert_eq!((first.status, first.text().as_str()), (200, "hello"));
    assert_eq!(first.header("x-client-id"), CLIENT_ID);
    assert!(
        first
            .header("x-client-issuer")
            .contains("CN=edge cluster CA 1"),
        "{first:?}"
    );
    assert!(
        first
            .header("x-server-issuer")
            .contains("CN=central cluster CA 1"),
        "{first:?}"
    );

    let stop = AtomicBool::new(false);
    let (requests, failed) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic(&mesh.client, &stop));
        let stop = StopOnDrop(&stop);
        let before = [mesh.server.identity(), mesh.client.identity()];
        // First the client's cluster, then the server's.
        mesh.replace_authority(EDGE);
        until_traffic_shows(&mesh, "x-client-issuer", "CN=edge cluster CA 2");
        mesh.replace_authority(CENTRAL);
        until_traffic_shows(&mesh, "x-server-issuer", "CN=central cluster CA 2");
        // And one more certificate each, which the new intermediates signed as well.
        for (envoy, before, account) in [
            (&mesh.server, &before[0], "server"),
            (&mesh.client, &before[1], "client"),
        ] {
            let second = envoy.identity_after(before);
            let third = envoy.identity_after(&second);
            third.check(&mesh.fleet, account);
            assert_ne!(third.chain[1], before.chain[1], "another intermediate");
        }
        drop(stop);
        traffic.join().expect("the traffic does not panic")
    });
    eprintln!(
        "{requests} requests, {} handshakes",
        mesh.server.stat(".ssl.handshake")
    );

    assert!(failed.is_empty(), "of {requests} requests {failed:#?}");
    assert!(requests > 100, "{requests} are no traffic");
    // Every one of them was a whole handshake.
    assert!(mesh.server.stat(".ssl.handshake") >= requests);
    assert_eq!(mesh.server.stat(".ssl.session_reused"), 0);
    for envoy in [&mesh.server, &mesh.client] {
        for fault in [
            "ssl.connection_error",
            "ssl.fail_verify_error",
            "ssl.fail_verify_san",
            "ssl.fail_verify_no_cert",
            "update_rejected",
        ] {
            assert_eq!(envoy.stat(fault), 0, "{fault}");
        }
    }
    assert_eq!(mesh.ca_server.log().count("call refused"), 0);
}

fn until_traffic_shows(mesh: &Mesh, header: &str, issuer: &str) {
    wait_until(issuer, || {
        let shows = |answer: &Answer| answer.header(header).contains(issuer);
        mesh.client.request().ok().filter(shows)
    });
}

#[test]
fn strangers_are_refused() {
    let Some(mesh) = Mesh::start("strangers_are_refused", "1h") else {
        return;
    };
    let agent = |fleet: &Fleet, server: &Server, account: &str| {
        let workload = Workload {
            cluster: EDGE,
            account,
            key: AgentKey::Ecdsa,
            delivery: Delivery::Files,
        };
        let agent = mesh.agents.start(fleet, server, &workload);
        agent.identity().check(fleet, account);
        agent
    };
    let client = agent(&mesh.fleet, &mesh.ca_server, "client");
    assert!(
        is_answered(&mesh, Some(&client)),
        "the client itself is welcome"
    );

    let someone = agent(&mesh.fleet, &mesh.ca_server, "someone");
    let before = refusals(&mesh);
    assert!(
        !is_answered(&mesh, Some(&someone)),
        "another service account is not"
    );
    assert_eq!(refusals(&mesh), [before[0], before[1] + 1, before[2]]);

    // The same names, another root.
    let elsewhere = Fleet::on_sqlite(&["central", "edge"]);
    let other_server = elsewhere.serve();
    let impostor = agent(&elsewhere, &other_server, "client");
    assert!(
        !is_answered(&mesh, Some(&impostor)),
        "another root's client is not"
    );
    assert_eq!(refusals(&mesh), [before[0] + 1, before[1] + 1, before[2]]);

    assert!(!is_answered(&mesh, None), "nobody is not");
    assert_eq!(
        refusals(&mesh),
        [before[0] + 1, before[1] + 1, before[2] + 1]
    );
    assert!(is_answered(&mesh, Some(&client)), "the client still is");
}

/// Refused handshakes of the server: for the chain, for the name, for want of a certificate.
fn refusals(mesh: &Mesh) -> [u64; 3] {
    ["error", "san", "no_cert"].map(|why| mesh.server.stat(&format!("ssl.fail_verify_{why}")))
}

/// Whether the server Envoy answers a request from whoever holds these files.
fn is_answered(mesh: &Mesh, holder: Option<&Agent>) -> bool {
    let request = mesh.fleet.path("request.http");
    let text = "GET / HTTP/1.1\r\nhost: tests\r\nconnection: close\r\n\r\n";
    std::fs::write(&request, text).unwrap();
    let mut command = Command::new("openssl");
    // Quiet, it ends when the server closes and not at the end of its input.
    command
        .args(["s_client", "-quiet", "-connect"])
        .arg(mesh.server.listener().to_string())
        .stdin(File::open(&request).unwrap());
    if let Some(agent) = holder {
        for (option, file) in [
            ("-cert", "cert-chain.pem"),
            ("-cert_chain", "cert-chain.pem"),
            ("-key", "key.pem"),
        ] {
            command.arg(option).arg(agent.file(file));
        }
    }
    let output = command.output().unwrap();
    let answered = String::from_utf8_lossy(&output.stdout).contains("hello");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        answered || said.contains("alert"),
        "no refusal but a fault: {said}"
    );
    answered
}
