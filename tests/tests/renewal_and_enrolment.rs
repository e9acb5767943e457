//! How an identity begins and goes on: enrolment tokens are good once, certificates renew themselves and nothing else.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ca_server::store::model::{StatusChange, StatusOutcome};
use ca_server::store::{Store, StoreUrl};
use pki::certificate::Certificate;
use pki::name::AuthorityId;
use proto::ca::v1::SignCertificateRequest;
use proto::ca::v1::certificate_service_client::CertificateServiceClient;
use proto::istio::auth::IstioCertificateRequest;
use proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, KeyPair, SanType};
use tests::attacks::Refusals;
use tests::fleet::{Fleet, Server};
use tests::process::{output, program};
use tests::requests::{KeyAndRequest, create_certificate};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const ME: &str = "spiffe://cluster.local/ns/foo/sa/bar";
const OTHER: &str = "spiffe://cluster.local/ns/foo/sa/other";
const GATEWAY: &str = "spiffe://cluster.local/edge/gateway-7";
const PATIENCE: Duration = Duration::from_secs(20);

/// Our own call: with a bearer token where one is given.
async fn sign(
    channel: &Channel,
    token: Option<&str>,
    csr: &[u8],
    seconds: Option<i64>,
) -> Result<Vec<Certificate>, Status> {
    let mut request = Request::new(SignCertificateRequest {
        csr: csr.to_vec(),
        profile: String::new(),
        ttl: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    });
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let answer = CertificateServiceClient::new(channel.clone())
        .sign_certificate(request)
        .await?;
    let chain = answer.into_inner().chain;
    Ok(chain
        .iter()
        .map(|der| Certificate::parse(der).unwrap())
        .collect())
}

/// Istio's call without a token.
async fn renew_by_istio(
    channel: &Channel,
    csr: &str,
    cluster: &str,
) -> Result<Vec<String>, Status> {
    let mut request = Request::new(IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: 3600,
        metadata: None,
    });
    request
        .metadata_mut()
        .insert("clusterid", cluster.parse().unwrap());
    let answer = IstioCertificateServiceClient::new(channel.clone())
        .create_certificate(request)
        .await?;
    Ok(answer.into_inner().cert_chain)
}

/// A new token of cluster central, and its id.
fn enrolment(fleet: &Fleet, spiffe_id: &str, ttl: &str) -> (String, String) {
    let arguments = [
        "enrolment",
        "create",
        "central",
        "--spiffe-id",
        spiffe_id,
        "--ttl",
        ttl,
    ];
    let made = output(&mut fleet.ca_server(&arguments));
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8(made.stderr).unwrap();
    let id = said
        .split("enrolment ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    (
        String::from_utf8(made.stdout).unwrap().trim().to_owned(),
        id,
    )
}

#[tokio::test]
async fn an_enrolment_token_is_good_for_one_key_one_name_and_its_time() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let channel = server.connect().await;
    let mut refusals = Refusals::default();
    let (mine, stranger) = (
        KeyAndRequest::for_uris(&[GATEWAY]),
        KeyAndRequest::for_uris(&[GATEWAY]),
    );
    let (token, _) = enrolment(&fleet, "spiffe://cluster.local/edge/*", "1h");

    let came = sign(
        &channel,
        Some(&token),
        &KeyAndRequest::for_uris(&[ME]).der,
        None,
    )
    .await;
    refusals.expect(
        "a name outside the pattern",
        came,
        Code::InvalidArgument,
        "",
    );
    let came = sign(
        &channel,
        Some(&token),
        &KeyAndRequest::for_uris(&[]).der,
        None,
    )
    .await;
    refusals.expect(
        "no name, where the token leaves a choice",
        came,
        Code::InvalidArgument,
        "",
    );
    let first = sign(&channel, Some(&token), &mine.der, None).await.unwrap();
    assert_eq!(first[0].spiffe_id().unwrap().as_str(), GATEWAY);
    let again = sign(&channel, Some(&token), &mine.der, None).await.unwrap();
    assert_eq!(
        first, again,
        "an answer that got lost can be had again, and is the same"
    );
    let came = sign(&channel, Some(&token), &stranger.der, None).await;
    refusals.expect("another key", came, Code::Unauthenticated, "used");
    let mut changed = token.clone();
    changed.replace_range(token.len() - 3.., "AAA");
    let came = sign(&channel, Some(&changed), &stranger.der, None).await;
    refusals.expect(
        "a token that was never made",
        came,
        Code::Unauthenticated,
        "enrolment",
    );

    let (token, id) = enrolment(&fleet, GATEWAY, "1h");
    assert!(
        output(&mut fleet.ca_server(&["enrolment", "revoke", &id]))
            .status
            .success()
    );
    let came = sign(&channel, Some(&token), &stranger.der, None).await;
    refusals.expect("revoked", came, Code::Unauthenticated, "expired");

    // Asked for a name that it never gives, a living token says so; a dead one is no proof any more.
    let (token, _) = enrolment(&fleet, GATEWAY, "1s");
    let wrong = KeyAndRequest::for_uris(&[ME]).der;
    let until = Instant::now() + PATIENCE;
    let refused = loop {
        match sign(&channel, Some(&token), &wrong, None)
            .await
            .unwrap_err()
        {
            refused if refused.code() == Code::Unauthenticated => break refused,
            other => assert!(Instant::now() < until, "the token lives on: {other}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    refusals.expect(
        "expired",
        Err::<(), _>(refused),
        Code::Unauthenticated,
        "expired",
    );
    assert_eq!(fleet.records().len(), 1, "the one that was given");
    refusals.check_log(server.log());
}

#[tokio::test]
async fn twenty_at_once_with_one_enrolment_token_make_one_certificate() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let channel = server.connect().await;
    let (token, _) = enrolment(&fleet, GATEWAY, "1h");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (channel, token) = (channel.clone(), token.clone());
        calls.spawn(async move {
            let csr = KeyAndRequest::for_uris(&[GATEWAY]).der;
            sign(&channel, Some(&token), &csr, None).await
        });
    }
    let (mut given, mut refused) = (0, 0);
    while let Some(came) = calls.join_next().await {
        match came.unwrap() {
            Ok(_) => given += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::Unauthenticated, "{status}");
                refused += 1;
            }
        }
    }
    assert_eq!((given, refused), (1, 19));
    assert_eq!(fleet.records().len(), 1);
}

/// A workload's chain and key as PEM, by token.
struct Workload {
    chain: Vec<Certificate>,
    chain_pem: String,
    key_pem: String,
}

impl Workload {
    async fn of(fleet: &Fleet, server: &Server, cluster: usize, seconds: i64) -> Self {
        let cluster = &fleet.clusters[cluster];
        let request = KeyAndRequest::for_uris(&[ME]);
        let token = cluster.tokens.token("foo", "bar");
        let mut istio = server.istio().await;
        let answer =
            create_certificate(&mut istio, &token, &cluster.name, &request.pem(), seconds).await;
        let mut pem = answer.unwrap().cert_chain;
        pem.pop();
        let chain_pem = pem.concat();
        Self {
            chain: Certificate::parse_pem(chain_pem.as_bytes()).unwrap(),
            chain_pem,
            key_pem: request.key.serialize_pem(),
        }
    }

    async fn connect(&self, server: &Server) -> Channel {
        let client = (self.chain_pem.as_str(), self.key_pem.as_str());
        server.connect_as(Some(client)).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_renews_a_certificate_that_is_revoked_meanwhile() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let workload = Workload::of(&fleet, &server, 0, 3600).await;
    let serial = workload.chain[0].serial();
    let mut renewing = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let channel = workload.connect(&server).await;
        renewing.spawn(async move {
            let csr = KeyAndRequest::for_uris(&[ME]).der;
            let mut given = Vec::new();
            // Until it is refused, which it is for good.
            loop {
                match sign(&channel, None, &csr, None).await {
                    Ok(chain) => given.push(chain[0].serial()),
                    Err(refused) => return (given, refused),
                }
            }
        });
    }
    let arguments = [
        "revoke",
        "--serial",
        &serial.to_string(),
        "--reason",
        "keyCompromise",
        "--yes",
    ];
    let revoked = output(&mut fleet.ca_server(&arguments));
    assert!(revoked.status.success());
    let url = format!("sqlite://{}", fleet.path("ca.db").display());
    let store = Store::open(&StoreUrl::parse(&url).unwrap()).await.unwrap();
    let (at, _) = store
        .record(&serial)
        .await
        .unwrap()
        .unwrap()
        .revoked
        .unwrap();
    let mut renewed = 0;
    while let Some(came) = renewing.join_next().await {
        let (given, refused) = came.unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        for serial in given {
            let record = store.record(&serial).await.unwrap().unwrap().record;
            assert!(record.issued_at <= at, "{} after {at}", record.issued_at);
            renewed += 1;
        }
    }
    assert!(renewed > 32, "{renewed} renewals are no race");
}

#[tokio::test]
async fn a_certificate_renews_its_own_identity_while_it_is_good_and_no_longer() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    let server = fleet.serve();
    let mut refusals = Refusals::default();
    let workload = Workload::of(&fleet, &server, 0, 3600).await;
    let channel = workload.connect(&server).await;
    let (mine, other) = (
        KeyAndRequest::for_uris(&[ME]),
        KeyAndRequest::for_uris(&[OTHER]),
    );

    let renewed = sign(&channel, None, &mine.der, Some(3600)).await.unwrap();
    assert_eq!(renewed[0].spiffe_id().unwrap().as_str(), ME);
    renew_by_istio(&channel, &mine.pem(), "central")
        .await
        .unwrap();
    let came = sign(&channel, None, &other.der, None).await;
    refusals.expect("another identity", came, Code::InvalidArgument, "");
    let came = renew_by_istio(&channel, &other.pem(), "central").await;
    refusals.expect("another identity", came, Code::InvalidArgument, "");
    // As a VM with PROV_CERT may: the certificate is the proof, whatever token stands beside it.
    sign(&channel, Some("no.good.token"), &mine.der, None)
        .await
        .unwrap();

    // A certificate belongs to the cluster whose authority signed it; a header that says otherwise is a lie.
    let edge = Workload::of(&fleet, &server, 1, 3600).await;
    let connection = edge.connect(&server).await;
    let came = renew_by_istio(&connection, &mine.pem(), "central").await;
    refusals.expect("another cluster", came, Code::Unauthenticated, "cluster");
    let chain = renew_by_istio(&connection, &mine.pem(), "edge")
        .await
        .unwrap();
    let above = Certificate::parse_pem(chain[1].as_bytes()).unwrap();
    assert_eq!(above[0], edge.chain[1], "the edge's intermediate signs");

    // Short-lived, and its connection outlives it.
    let short = Workload::of(&fleet, &server, 0, 4).await;
    let open = short.connect(&server).await;
    let until = Instant::now() + PATIENCE;
    let refused = loop {
        match sign(&open, None, &mine.der, None).await {
            Err(refused) => break refused,
            Ok(_) => assert!(Instant::now() < until, "an expired certificate renews"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    refusals.expect(
        "expired",
        Err::<(), _>(refused),
        Code::Unauthenticated,
        "expired",
    );

    // Revoked a moment ago: the same open connection is refused at once.
    let url = format!("sqlite://{}", fleet.path("ca.db").display());
    let store = Store::open(&StoreUrl::parse(&url).unwrap()).await.unwrap();
    let authority = AuthorityId::parse("central-1").unwrap();
    let serial = workload.chain[0].serial();
    let change = StatusChange {
        authority,
        serial,
        at: tests::now(),
        reason: 1,
        actor: "test".to_owned(),
        leaf_hash: [0; 32],
    };
    let outcomes = store.revoke(&[change], &[]).await.unwrap();
    assert!(
        matches!(outcomes[..], [StatusOutcome::Done(_)]),
        "{outcomes:?}"
    );
    let came = sign(&channel, None, &mine.der, None).await;
    refusals.expect("revoked", came, Code::Unauthenticated, "revoked");
    let came = renew_by_istio(&channel, &mine.pem(), "central").await;
    refusals.expect("revoked", came, Code::Unauthenticated, "revoked");
    refusals.check_log(server.log());
}

const RULE: &str = r#"
[[rule]]
name = "gateways"
profile = "server"
callers = "spiffe://cluster.local/ns/foo/sa/bar"
dns = ["api.example.org"]
"#;

/// Whether a client with this certificate gets nowhere.
async fn is_shut_out(server: &Server, chain: &str, key: &str) -> bool {
    // TLS 1.3 tells a client of its refusal with the first answer, so the handshake may seem to have worked.
    match server.connect_as(Some((chain, key))).await {
        Err(_) => true,
        Ok(channel) => {
            let csr = KeyAndRequest::for_uris(&[ME]).der;
            let refused = sign(&channel, None, &csr, None).await.unwrap_err();
            !matches!(
                refused.code(),
                Code::Unauthenticated | Code::InvalidArgument
            )
        }
    }
}

#[tokio::test]
async fn certificates_that_prove_no_client_of_ours_do_not_pass_the_handshake() {
    let fleet = Fleet::build(None, &["central"], RULE);
    let server = fleet.serve();
    let workload = Workload::of(&fleet, &server, 0, 3600).await;
    assert!(
        !is_shut_out_with(&server, &workload).await,
        "a good one gets in"
    );

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params
        .subject_alt_names
        .push(SanType::URI(ME.try_into().unwrap()));
    let own = params.self_signed(&key).unwrap();
    assert!(
        is_shut_out(&server, &own.pem(), &key.serialize_pem()).await,
        "self-signed"
    );
    let beside = format!("{}{}", own.pem(), workload.chain[1].to_pem());
    assert!(
        is_shut_out(&server, &beside, &key.serialize_pem()).await,
        "our chain put beside it"
    );

    // A server's certificate of the same authority is good for servers alone; our own serving one is its like.
    let name = SanType::DnsName("api.example.org".try_into().unwrap());
    let host = KeyAndRequest::build(|params| params.subject_alt_names.push(name));
    let mut request = Request::new(SignCertificateRequest {
        csr: host.der.clone(),
        profile: "server".to_owned(),
        ttl: None,
    });
    let bearer = format!("Bearer {}", fleet.clusters[0].tokens.token("foo", "bar"));
    request
        .metadata_mut()
        .insert("authorization", bearer.parse().unwrap());
    let answer = server
        .certificates()
        .await
        .sign_certificate(request)
        .await
        .unwrap();
    let chain: String = answer
        .into_inner()
        .chain
        .iter()
        .map(|der| pki::pem::certificate(der))
        .collect();
    assert!(
        is_shut_out(&server, &chain, &host.key.serialize_pem()).await,
        "a server's"
    );

    // An authority's own certificate is no client's either, and neither is a key that does not fit.
    assert!(
        is_shut_out(&server, &fleet.root_pem(), &key.serialize_pem()).await,
        "a key that does not fit"
    );
}

async fn is_shut_out_with(server: &Server, workload: &Workload) -> bool {
    let channel = workload.connect(server).await;
    sign(&channel, None, &KeyAndRequest::for_uris(&[ME]).der, None)
        .await
        .is_err()
}

/// Runs `ca` and gives its exit code, standard output and standard error.
fn ca(arguments: &[&str]) -> (i32, String, String) {
    let done = output(
        Command::new(program("ca"))
            .args(arguments)
            .env_remove("SIGNET_SERVER"),
    );
    let text = |octets| String::from_utf8(octets).unwrap();
    (
        done.status.code().unwrap(),
        text(done.stdout),
        text(done.stderr),
    )
}

#[test]
fn the_program_enrols_renews_and_inspects_and_its_exit_codes_tell_faults_apart() {
    use std::os::unix::fs::PermissionsExt;
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let path = |name: &str| fleet.path(name).display().to_string();
    let (roots, dir, url) = (path("roots.pem"), path("identity"), server.url());
    std::fs::write(&roots, fleet.root_pem()).unwrap();
    let (token, _) = enrolment(&fleet, GATEWAY, "1h");
    std::fs::write(path("token"), &token).unwrap();
    let enroll = |url: &str, roots: &str, dir: &str, id: &str| {
        ca(&[
            "enroll",
            "--server",
            url,
            "--roots",
            roots,
            "--dir",
            dir,
            "--enrolment-token-file",
            &path("token"),
            "--spiffe-id",
            id,
        ])
    };
    let nothing_in = |dir: &str| !Path::new(dir).join("tls.crt").exists();

    let (bad, closed) = (
        path("bad"),
        std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
    );
    let away = format!("https://localhost:{}", closed.local_addr().unwrap().port());
    drop(closed);
    let at = |listener: std::net::SocketAddr| format!("https://localhost:{}", listener.port());
    let stranger = path("stranger.pem");
    std::fs::write(&stranger, Fleet::on_sqlite(&["x"]).root_pem()).unwrap();
    let wrong = [
        (
            "a name that the token does not give",
            enroll(&url, &roots, &bad, ME),
            1,
        ),
        (
            "roots that do not vouch for the server",
            enroll(&url, &stranger, &bad, GATEWAY),
            1,
        ),
        (
            "no roots",
            enroll(&url, &path("missing.pem"), &bad, GATEWAY),
            1,
        ),
        (
            "the server is away",
            enroll(&away, &roots, &bad, GATEWAY),
            3,
        ),
        ("no URL", enroll("nowhere", &roots, &bad, GATEWAY), 2),
        (
            "no TLS",
            enroll(&url.replace("https", "http"), &roots, &bad, GATEWAY),
            2,
        ),
        (
            "a listener that wants a client certificate",
            enroll(&at(server.admin), &roots, &bad, GATEWAY),
            1,
        ),
        (
            "a listener without TLS",
            enroll(&at(server.public), &roots, &bad, GATEWAY),
            1,
        ),
        ("no SPIFFE id", enroll(&url, &roots, &bad, "https://x"), 2),
        ("no arguments", ca(&["enroll"]), 2),
        (
            "a directory that was never enrolled",
            ca(&["renew", "--dir", &bad]),
            1,
        ),
        (
            "a file that is none",
            ca(&["inspect", &path("passphrase")]),
            1,
        ),
    ];
    for (what, (code, stdout, stderr), expected) in wrong {
        assert_eq!(code, expected, "{what}: {stderr}");
        assert!(stdout.is_empty(), "{what}: {stdout}");
        assert!(
            !stderr.is_empty() && !stderr.contains(&token),
            "{what}: {stderr}"
        );
        assert!(nothing_in(&bad), "{what}");
    }

    let (code, said, error) = enroll(&url, &roots, &dir, GATEWAY);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains(GATEWAY), "{said}");
    let key = Path::new(&dir).join("tls.key");
    assert_eq!(
        std::fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let first = std::fs::read(Path::new(&dir).join("tls.crt")).unwrap();
    let (code, _, error) = enroll(&url, &roots, &bad, GATEWAY);
    assert_eq!((code, nothing_in(&bad)), (4, true), "a second use: {error}");

    let (code, said, error) = ca(&["renew", "--dir", &dir]);
    assert_eq!(code, 0, "{said}{error}");
    assert_ne!(
        std::fs::read(Path::new(&dir).join("tls.crt")).unwrap(),
        first
    );
    let (code, said, error) = ca(&["inspect", &format!("{dir}/tls.crt")]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains(GATEWAY), "{said}");
    assert_eq!(fleet.records().len(), 2);
}
