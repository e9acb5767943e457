//! Connections that mean no good, and what a stranger sees of the process: others are served meanwhile, and no secret
//! shows.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tests::fleet::{Fleet, Server};
use tests::process::output;
use tests::requests::{KeyAndRequest, create_certificate};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

const ME: &str = "spiffe://cluster.local/ns/foo/sa/bar";
const PATIENCE: Duration = Duration::from_secs(20);

/// TLS of a client that believes in the fleet's root; with a certificate where one is given.
fn tls(fleet: &Fleet, alpn: &[u8], client: Option<(&str, &str)>) -> Arc<ClientConfig> {
    let mut config = tests::admin::tls(fleet, client);
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

async fn connect(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> std::io::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(tls.clone()).connect(name, stream).await
}

/// Sends `request` and gives what comes until the other end closes; a hang is a failure.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    let talk = async {
        // Who is cut off may fail to write or to read: what had come by then counts.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, talk)
        .await
        .unwrap_or_else(|_| panic!("the server neither answers nor closes"))
}

/// A plain HTTP/1.1 request; the connection ends with its answer.
async fn http(address: SocketAddr, method: &str, path: &str, more: &str) -> String {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    exchange(stream, request.as_bytes()).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// Whether the server still issues; gives the chain and key as PEM.
async fn issue(fleet: &Fleet, server: &Server) -> (String, String) {
    let request = KeyAndRequest::for_uris(&[ME]);
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let mut istio = server.istio().await;
    let answer = create_certificate(&mut istio, &token, "central", &request.pem(), 3600).await;
    let mut chain = answer.unwrap().cert_chain;
    chain.pop();
    (chain.concat(), request.key.serialize_pem())
}

#[tokio::test]
async fn slow_and_crowding_connections_are_cut_off_while_others_are_served() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut command = fleet.ca_server(&["serve"]);
    command.env("SIGNET__LISTENERS__HANDSHAKE_TIMEOUT", "2s");
    command.env("SIGNET__LISTENERS__MAX_CONNECTIONS_PER_ADDRESS", "20");
    let server = Server::start(&mut command, &fleet);
    // Handshakes that never come to an end: one silent, one that stops in the middle of a record.
    let mut slow = Vec::new();
    for begin in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b""] {
        let mut stream = tokio::net::TcpStream::connect(server.issue).await.unwrap();
        stream.write_all(begin).await.unwrap();
        slow.push(stream);
    }
    issue(&fleet, &server).await;
    for stream in slow {
        assert_eq!(exchange(stream, b"").await, "", "cut off without a word");
    }
    // One address has twenty places at a listener; who comes twenty-first is turned away, another address is not.
    let mut kept = Vec::new();
    for _ in 0..20 {
        let mut stream = tokio::net::TcpStream::connect(server.ops).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        kept.push(stream);
    }
    assert_eq!(
        http(server.ops, "GET", "/healthz", "").await,
        "",
        "turned away"
    );
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let neighbour = socket.connect(server.ops).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(neighbour, request).await), "200");
    issue(&fleet, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end_cost_their_sender_alone() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let config = tls(&fleet, b"h2", None);
    let mut answers = Vec::new();
    let mut open = Vec::new();
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let stream = connect(server.issue, &config).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        connections.spawn(connection);
        for _ in 0..100 {
            let call = http::Request::post(format!(
                "{}/istio.v1.auth.IstioCertificateService/CreateCertificate",
                server.url()
            ))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
            client = client.ready().await.unwrap();
            let (answer, mut body) = client.send_request(call, false).unwrap();
            // The head of a message of 20,000 bytes, and none of them.
            body.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0x4e, 0x20]), false)
                .unwrap();
            answers.push(answer);
            open.push(body);
        }
    }
    issue(&fleet, &server).await;
    for answer in answers {
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let head = answer.expect("an answer, or an end").unwrap();
        assert_eq!(head.headers()["grpc-status"], "14", "{head:?}");
    }
    // HTTP, with a length that is too large, and without a length.
    let long = "Content-Type: application/ocsp-request\r\nContent-Length: 1000000\r\n";
    let answer = http(server.public, "POST", "/ocsp", long).await;
    assert_eq!(status(&answer), "413", "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    let chunked = "Content-Type: application/ocsp-request\r\nTransfer-Encoding: chunked\r\n";
    let body = format!("{chunked}\r\n30000\r\n{}", "x".repeat(0x30000));
    let answer = http(server.public, "POST", "/ocsp", &body).await;
    assert_eq!(status(&answer), "413", "{answer:.200}");
}

#[tokio::test]
async fn a_protocol_that_is_not_ours_gets_an_end_and_pings_get_answers() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    for address in [server.issue, server.admin] {
        let answer = http(address, "GET", "/v1/status", "").await;
        assert!(
            !answer.contains("HTTP/1.1 200"),
            "plaintext at a TLS port: {answer}"
        );
        for old in ["-tls1_1", "-tls1"] {
            let connect = format!("{address}");
            let arguments = [
                "s_client",
                "-connect",
                &connect,
                old,
                "-cipher",
                "ALL:@SECLEVEL=0",
            ];
            let tried = output(Command::new("openssl").args(arguments));
            let said = String::from_utf8_lossy(&tried.stderr);
            assert!(
                !tried.status.success() && said.contains(" alert "),
                "{old}: {said}"
            );
        }
    }
    let old = connect(server.issue, &tls(&fleet, b"http/1.1", None))
        .await
        .unwrap();
    let request = b"POST /istio.v1.auth.IstioCertificateService/CreateCertificate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = exchange(old, request).await;
    assert!(
        answer.starts_with("HTTP/1.1 ") && !answer.contains("BEGIN"),
        "{answer}"
    );
    assert_ne!(status(&answer), "200", "{answer}");

    // Forty PINGs, as fast as they go: forty answers (type 6, flag ACK) and no GOAWAY (type 7).
    let mut h2 = connect(server.issue, &tls(&fleet, b"h2", None))
        .await
        .unwrap();
    h2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    for n in 0..40 {
        h2.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n])
            .await
            .unwrap();
    }
    let mut answered = 0;
    while answered < 40 {
        let mut head = [0; 9];
        let read = tokio::time::timeout(PATIENCE, h2.read_exact(&mut head)).await;
        read.expect("an answer to each PING").unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        h2.read_exact(&mut payload).await.unwrap();
        assert_ne!(head[3], 7, "GOAWAY");
        answered += usize::from(head[3] == 6 && head[4] & 1 == 1);
    }
    issue(&fleet, &server).await;
}

#[tokio::test]
async fn a_request_within_a_request_is_none_and_nothing_is_upgraded() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let hidden = "GET /bundles/cluster.local.pem HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let kind = "Host: x\r\nContent-Type: application/ocsp-request\r\n";
    for (what, lengths) in [
        ("chunks alone", "Transfer-Encoding: chunked\r\n"),
        (
            "length, then chunks",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "chunks, then length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ),
        ("two lengths", "Content-Length: 5\r\nContent-Length: 0\r\n"),
        ("a list of lengths", "Content-Length: 5, 0\r\n"),
        ("a signed length", "Content-Length: +5\r\n"),
        ("chunks that are none", "Transfer-Encoding: xchunked\r\n"),
        (
            "chunks, then something",
            "Transfer-Encoding: chunked, identity\r\n",
        ),
    ] {
        let request = format!("POST /ocsp HTTP/1.1\r\n{kind}{lengths}\r\n0\r\n\r\n{hidden}");
        let stream = tokio::net::TcpStream::connect(server.public).await.unwrap();
        let answer = exchange(stream, request.as_bytes()).await;
        // Behind a request that is plain to everybody, the next one is the next one.
        let next = answer.contains("BEGIN CERTIFICATE");
        assert_eq!(next, what == "chunks alone", "{what}: {answer}");
    }
    let upgrade = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let bundle = "/bundles/cluster.local.pem";
    let answer = http(server.public, "GET", bundle, upgrade).await;
    assert_eq!(
        status(&answer),
        "200",
        "as if it had not been asked: {answer}"
    );

    // A session is resumed, and nothing is taken from it before the handshake is over.
    let mut config = (*tls(&fleet, b"h2", None)).clone();
    config.enable_early_data = true;
    let config = Arc::new(config);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let stream = tokio::net::TcpStream::connect(server.issue).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = TlsConnector::from(config.clone());
        let connecting = connecting.connect_with(name, stream, |connection| {
            assert!(connection.early_data().is_none(), "a ticket for early data");
        });
        let mut stream = connecting.await.unwrap();
        // Its ticket comes with the first octets.
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        stream.read_exact(&mut [0; 9]).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind());
    }
    use rustls::HandshakeKind::{Full, Resumed};
    assert_eq!(kinds, [Some(Full), Some(Resumed)]);
}

#[tokio::test]
async fn each_listener_shows_its_own_things_to_its_own_callers() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let status_request = b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // No certificate, no administration; a session of the issue listener, where none is needed, opens no other door.
    let anonymous = tls(&fleet, b"http/1.1", None);
    let first = connect(server.issue, &anonymous).await.unwrap();
    exchange(first, status_request).await;
    let stream = connect(server.admin, &anonymous).await.unwrap();
    let answer = exchange(stream, status_request).await;
    assert_eq!(
        status(&answer),
        "401",
        "an anonymous administrator: {answer}"
    );
    let (chain, key) = issue(&fleet, &server).await;
    let workload = tls(&fleet, b"http/1.1", Some((&chain, &key)));
    let stream = connect(server.admin, &workload).await.unwrap();
    let answer = exchange(stream, status_request).await;
    assert_eq!(status(&answer), "403", "{answer}");
    for tricky in [
        "//v1/status",
        "/v1/../v1/status",
        "/V1/status",
        "/v1/status/",
        "/v1/status;x",
        "/%761/status",
    ] {
        let request =
            format!("GET {tricky} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let stream = connect(server.admin, &workload).await.unwrap();
        let answer = exchange(stream, request.as_bytes()).await;
        assert!(
            ["403", "404"].contains(&status(&answer)),
            "{tricky}: {answer}"
        );
    }

    let bundle = "/bundles/cluster.local.pem";
    let answer = http(server.public, "GET", bundle, "").await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.contains("BEGIN CERTIFICATE"));
    let etag = answer
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .unwrap();
    let again = http(
        server.public,
        "GET",
        bundle,
        &format!("If-None-Match: {etag}\r\n"),
    )
    .await;
    assert_eq!(status(&again), "304", "{again}");
    let other = http(server.public, "GET", bundle, "If-None-Match: \"0\"\r\n").await;
    assert_eq!(status(&other), "200");
    for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH"] {
        let answer = http(server.public, method, bundle, "Content-Length: 0\r\n").await;
        assert_eq!(status(&answer), "405", "{method}: {answer}");
    }
    for hidden in [
        "/metrics",
        "/v1/status",
        "/healthz",
        "/debug/pprof",
        "/bundles/other.pem",
        "/bundles/..%2f..%2fca.db",
        "/crls/central-1.pem",
        "/",
    ] {
        assert_eq!(
            status(&http(server.public, "GET", hidden, "").await),
            "404",
            "{hidden}"
        );
    }
    for (path, expected) in [
        ("/healthz", "200"),
        ("/readyz", "200"),
        ("/metrics", "200"),
        ("/v1/status", "404"),
        (bundle, "404"),
    ] {
        assert_eq!(
            status(&http(server.ops, "GET", path, "").await),
            expected,
            "{path}"
        );
    }
    let folded = http(server.public, "GET", bundle, "X: a\r\n b\r\n").await;
    assert_eq!(status(&folded), "400", "a folded header: {folded}");
    let long = format!("/{}", "x".repeat(80 * 1024));
    assert_ne!(status(&http(server.public, "GET", &long, "").await), "200");
    assert!(server.ops.ip().is_loopback() && TcpStream::connect(server.ops).is_ok());
}

#[tokio::test]
async fn no_secret_shows_in_logs_metrics_arguments_environment_or_files() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut command = fleet.ca_server(&["serve"]);
    command.env("SIGNET__LOG__FILTER", "trace");
    let mut server = Server::start(&mut command, &fleet);
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let request = KeyAndRequest::for_uris(&[ME]);
    let mut istio = server.istio().await;
    for (token, cluster) in [
        (&token, "central"),
        (&token, "nowhere"),
        (&format!("{token}x"), "central"),
    ] {
        let _ = create_certificate(&mut istio, token, cluster, &request.pem(), 3600).await;
    }
    let enrolment = fleet.enrolment_token("central", ME);
    for _ in 0..2 {
        let csr = KeyAndRequest::for_uris(&[ME]).pem();
        let _ = create_certificate(&mut istio, &enrolment, "central", &csr, 3600).await;
    }
    let metrics = http(server.ops, "GET", "/metrics", "").await;
    let id = server.process().id();
    let proc = |file: &str| {
        let octets = std::fs::read(format!("/proc/{id}/{file}")).unwrap();
        String::from_utf8_lossy(&octets).into_owned()
    };
    server.log().wait_for(&["certificate issued", "enrolment"]);
    server.log().wait_for(&["call refused", "enrolment-spent"]);
    let log = server.log().lines().join("\n");
    assert!(log.contains("TRACE"), "the filter is in force");
    let shown = [
        ("log", log),
        ("metrics", metrics),
        ("cmdline", proc("cmdline")),
        ("environ", proc("environ")),
    ];
    let signature = token.rsplit('.').next().unwrap();
    let secrets = [
        "a passphrase for tests only",
        signature,
        &enrolment,
        &enrolment[13..],
        "PRIVATE KEY",
    ];
    for (place, text) in &shown {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in the {place}");
        }
    }
    // No core dump. That the process is not dumpable shows in who owns its files under /proc, but only when it runs as
    // another user than root: the test beside this one does.
    let limits = proc("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    let own = [
        "passphrase",
        "ca-server.toml",
        "jwks.json",
        "cluster.toml",
        "chain.pem",
    ];
    for entry in std::fs::read_dir(fleet.directory()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert!(
            own.contains(&name.as_str()) || mode == 0o600,
            "{name}: {mode:o}"
        );
    }
    assert!(fleet.path("ca.db").exists());
}

#[test]
fn the_process_is_not_dumpable_to_its_own_user() {
    if !rustix::process::getuid().is_root() {
        return tests::parts::skip(
            "the_process_is_not_dumpable_to_its_own_user",
            "needs root, to become another user",
        );
    }
    let fleet = Fleet::on_sqlite(&["central"]);
    let copy = fleet.path("ca-server");
    std::fs::copy(tests::process::program("ca-server"), &copy).unwrap();
    tests::process::run(
        Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(fleet.directory()),
    );
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut command = Command::new("setpriv");
    command
        .args(nobody)
        .arg(copy)
        .arg("--config")
        .arg(fleet.path("ca-server.toml"))
        .arg("serve");
    command.current_dir("/");
    let mut server = Server::start(&mut command, &fleet);
    let memory = format!("/proc/{}/mem", server.process().id());
    assert_eq!(
        std::fs::metadata(&memory).unwrap().uid(),
        0,
        "its memory is root's alone"
    );
    let read = output(
        Command::new("setpriv")
            .args(nobody)
            .args(["cat", &memory.replace("mem", "environ")]),
    );
    assert!(!read.status.success(), "its own user reads it");
    // Whereas an ordinary process of that user is the user's.
    let read = output(
        Command::new("setpriv")
            .args(nobody)
            .args(["cat", "/proc/self/environ"]),
    );
    assert!(read.status.success());
}
