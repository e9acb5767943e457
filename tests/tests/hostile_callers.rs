//! Callers who ask for what they may not have, through the real server: each gets the code that the contract names and
//! the id of its one log line; none gets a certificate, and none leaves a record.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use pki::certificate::Certificate;
use proto::ca::v1::SignCertificateRequest;
use proto::ca::v1::certificate_service_client::CertificateServiceClient;
use proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use proto::istio::auth::{IstioCertificateRequest, IstioCertificateResponse};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SanType};
use ring::hmac;
use serde_json::{Value, json};
use tests::attacks::{self, CREATE, Refusals, field, frame};
use tests::fleet::{Fleet, Server};
use tests::requests::{KeyAndRequest, create_certificate};
use tests::tlv::{extension, extension_request, oid, sequence};
use tests::tokens::TokenAuthority;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const ME: &str = "spiffe://cluster.local/ns/foo/sa/bar";

type Istio = IstioCertificateServiceClient<Channel>;

fn mine() -> String {
    KeyAndRequest::for_uris(&[ME]).pem()
}

fn request(build: impl FnOnce(&mut CertificateParams)) -> String {
    KeyAndRequest::build(build).pem()
}

fn san(name: SanType) -> String {
    request(|params| {
        let me = SanType::URI(ME.try_into().unwrap());
        params.subject_alt_names.extend([me, name]);
    })
}

fn asking(extensions: &[&[u8]]) -> String {
    let attribute = extension_request("1.2.840.113549.1.9.14", extensions);
    pki::pem::request(&attacks::handmade_request(&[0x30, 0], &[&attribute]))
}

fn leaf(answer: &IstioCertificateResponse) -> Certificate {
    let mut chain = Certificate::parse_pem(answer.cert_chain[0].as_bytes()).unwrap();
    chain.remove(0)
}

/// The server's records before and after are the same.
fn nothing_issued(fleet: &Fleet, server: &Server, before: &(usize, Vec<String>)) {
    assert_eq!(fleet.records(), before.1, "a refusal left a record");
    assert_eq!(server.log().count("certificate issued"), before.0);
}

fn issued(fleet: &Fleet, server: &Server) -> (usize, Vec<String>) {
    (server.log().count("certificate issued"), fleet.records())
}

fn bad_requests(fleet: &Fleet) -> Vec<(&'static str, String)> {
    let der = KeyAndRequest::for_uris(&[ME]).der;
    let pem = pki::pem::request(&der);
    let mut flipped = der.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let bytes = |der: &[u8]| pki::pem::request(der);
    let openssl = |arguments: &[&str]| attacks::openssl_request(fleet.directory(), arguments);
    let usage = |bits: &[u8]| extension("2.5.29.15", true, bits);
    let purpose = |dotted| extension("2.5.29.37", false, &sequence(&[&oid(dotted)]));
    vec![
        ("nothing", String::new()),
        ("no PEM", "a request, please".to_owned()),
        ("PEM cut off", pem[..pem.len() / 2].to_owned()),
        ("two PEMs", format!("{pem}{pem}")),
        (
            "another label",
            pem.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
        ),
        ("DER cut off", bytes(&der[..der.len() - 10])),
        ("no DER", bytes(b"hello")),
        ("trailing octets", bytes(&[&der[..], &[5, 0]].concat())),
        ("flipped signature", bytes(&flipped)),
        ("oversized", bytes(&vec![0x30; 20 * 1024])),
        (
            "RSA-1024",
            openssl(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]),
        ),
        (
            "P-521",
            openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
        ),
        (
            "P-224",
            openssl(&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224"]),
        ),
        (
            "secp256k1",
            openssl(&[
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:secp256k1",
            ]),
        ),
        ("Ed448", openssl(&["-algorithm", "ED448"])),
        ("forged Ed25519", bytes(&attacks::forged_ed25519_request())),
        (
            "another's id",
            KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/kube-system/sa/admin"]).pem(),
        ),
        (
            "another trust domain's id",
            KeyAndRequest::for_uris(&["spiffe://other/ns/foo/sa/bar"]).pem(),
        ),
        (
            "two URIs",
            KeyAndRequest::for_uris(&[ME, "spiffe://cluster.local/ns/foo/sa/admin"]).pem(),
        ),
        (
            "a DNS name",
            san(SanType::DnsName(
                "istiod.istio-system.svc".try_into().unwrap(),
            )),
        ),
        ("an address", san(SanType::IpAddress([127, 0, 0, 1].into()))),
        (
            "a mailbox",
            san(SanType::Rfc822Name("root@example.org".try_into().unwrap())),
        ),
        (
            "a common name",
            request(|p| p.distinguished_name.push(DnType::CommonName, "admin")),
        ),
        (
            "CA:TRUE",
            request(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        (
            "keyCertSign",
            request(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ),
        ("cRLSign", asking(&[&usage(&[3, 2, 1, 2])])),
        ("OCSPSigning", asking(&[&purpose("1.3.6.1.5.5.7.3.9")])),
    ]
}

#[tokio::test]
async fn a_bad_request_gets_invalid_argument_and_nothing_else() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let mut istio = server.istio().await;
    let mut ours = server.certificates().await;
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let before = issued(&fleet, &server);
    let mut refusals = Refusals::default();
    for (what, csr) in bad_requests(&fleet) {
        let came = create_certificate(&mut istio, &token, "central", &csr, 3600).await;
        refusals.expect(what, came, Code::InvalidArgument, "");
        let Ok(csr) = pki::pem::read_request(csr.as_bytes()) else {
            continue;
        };
        let message = SignCertificateRequest {
            csr,
            ..Default::default()
        };
        let came = sign(&mut ours, &token, message).await;
        refusals.expect(what, came, Code::InvalidArgument, "");
    }
    let huge = "x".repeat(70 * 1024);
    let came = create_certificate(&mut istio, &token, "central", &huge, 3600).await;
    refusals.expect("message above 64 KiB", came, Code::InvalidArgument, "");
    let mut channel = server.connect().await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("clusterid", "central")];
    let came = attacks::call(
        &mut channel,
        CREATE,
        &headers,
        frame(b"\xff\xff no protobuf"),
    )
    .await;
    refusals.expect("no protobuf", came, Code::InvalidArgument, "");
    nothing_issued(&fleet, &server, &before);
    refusals.check_log(server.log());
}

#[tokio::test]
async fn a_good_request_in_every_dress_is_served() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let mut istio = server.istio().await;
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    // As pilot-agent writes it: the subject is an empty organization.
    let empty_organization = [
        0x30, 0x0b, 0x31, 0x09, 0x30, 0x07, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x13, 0x00,
    ];
    let pilot = pki::pem::request(&attacks::handmade_request(&empty_organization, &[]));
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let rsa = attacks::openssl_request(fleet.directory(), &rsa);
    for (what, csr, is_rsa) in [
        ("pilot-agent's", pilot, false),
        ("RSA-2048", rsa, true),
        ("plain", mine(), false),
    ] {
        let answer = create_certificate(&mut istio, &token, "central", &csr, 3600).await;
        let leaf = leaf(&answer.unwrap_or_else(|error| panic!("{what}: {error}")));
        let der = pki::pem::read_request(csr.as_bytes()).unwrap();
        let asked = pki::csr::VerifiedCsr::parse(&der).unwrap();
        assert_eq!(
            leaf.public_key().unwrap(),
            *asked.key(),
            "{what}: the key asked for"
        );
        assert_eq!(leaf.spiffe_id().unwrap().as_str(), ME, "{what}");
        assert_eq!(leaf.alt_names().len(), 1, "{what}: one name");
        assert!(!leaf.is_authority());
        let words = pki::describe::certificate(&leaf, tests::now()).to_string();
        assert!(words.contains("key may          sign"), "{what}: {words}");
        assert_eq!(words.contains("encipher keys"), is_rsa, "{what}: {words}");
    }
    // Agents repeat what got lost.
    let csr = mine();
    for _ in 0..5 {
        create_certificate(&mut istio, &token, "central", &csr, 3600)
            .await
            .unwrap();
    }
    // Unknown fields, metadata keys and headers are passed over; forged ones are not believed.
    let value = field(3, b"");
    let signer = field(
        4,
        &field(1, &[field(1, b"CertSigner"), field(2, &value)].concat()),
    );
    let message = [
        field(1, csr.as_bytes()),
        signer,
        field(15, b"from the future"),
    ]
    .concat();
    let bearer = format!("Bearer {token}");
    let forged =
        "By=spiffe://cluster.local/ns/a/sa/b;URI=spiffe://cluster.local/ns/kube-system/sa/admin";
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-forwarded-client-cert", forged),
        ("x-forwarded-for", "192.0.2.77"),
        ("x-remote-user", "admin"),
        ("x-from-the-future", "1"),
    ];
    let mut channel = server.connect().await;
    let answer = attacks::call(&mut channel, CREATE, &headers, frame(&message))
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&answer);
    let chain = &text[text.find("-----BEGIN").unwrap()..];
    let end = chain.find("-----END CERTIFICATE-----").unwrap() + 26;
    let got = Certificate::parse_pem(&chain.as_bytes()[..end]).unwrap();
    assert_eq!(got[0].spiffe_id().unwrap().as_str(), ME);
    assert_eq!(
        server.log().count("192.0.2.77"),
        0,
        "a header's word is no address"
    );
}

fn bad_tokens(
    home: &TokenAuthority,
    edge: &TokenAuthority,
) -> Vec<(&'static str, String, &'static str)> {
    let now = tests::now().unix();
    let header = json!({ "alg": "ES256", "typ": "JWT", "kid": home.key_id() });
    let changed = |claim: &str, value: Value| {
        let mut claims = home.claims("foo", "bar");
        claims[claim] = value;
        home.sign(&claims)
    };
    let claims = home.claims("foo", "bar");
    let none = json!({ "alg": "none", "typ": "JWT" });
    let hs256 = json!({ "alg": "HS256", "typ": "JWT", "kid": home.key_id() });
    let hmac_with_public_key = |input: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, home.public_point());
        hmac::sign(&key, input).as_ref().to_vec()
    };
    let stranger = TokenAuthority::new(home.issuer());
    let jku = json!({ "alg": "ES256", "typ": "JWT", "kid": stranger.key_id(), "jku": "http://127.0.0.1:1/jwks", "jwk": stranger.jwks()["keys"][0] });
    let good = home.token("foo", "bar");
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    vec![
        ("garbage", "garbage".to_owned(), "malformed-token"),
        ("two dots", "..".to_owned(), ""),
        (
            "alg none",
            attacks::token(&none, &claims, |_| vec![]),
            "malformed-token",
        ),
        (
            "HS256 with the public key",
            attacks::token(&hs256, &claims, hmac_with_public_key),
            "signature",
        ),
        (
            "signature left out",
            format!("{unsigned}."),
            "malformed-token",
        ),
        (
            "another key",
            stranger.sign_with(&header, &claims),
            "signature",
        ),
        (
            "a key that it brings along",
            stranger.sign_with(&jku, &claims),
            "signature",
        ),
        ("another cluster's", edge.token("foo", "bar"), "signature"),
        (
            "an audience of no CA",
            changed("aud", json!(["https://kubernetes.default.svc"])),
            "audience",
        ),
        (
            "another issuer",
            changed("iss", json!("https://evil.example")),
            "issuer",
        ),
        ("expired", changed("exp", json!(now - 600)), "expired"),
        (
            "not yet valid",
            changed("nbf", json!(now + 1800)),
            "not-yet-valid",
        ),
        (
            "good for 13 months",
            changed("exp", json!(now + 400 * 86_400)),
            "lifetime",
        ),
        ("a person's", changed("sub", json!("admin")), ""),
    ]
}

#[tokio::test]
async fn a_caller_without_good_proof_is_unauthenticated_and_told_the_class_alone() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    let server = fleet.serve();
    let mut istio = server.istio().await;
    let mut ours = server.certificates().await;
    let mut channel = server.connect().await;
    let (home, edge) = (&fleet.clusters[0].tokens, &fleet.clusters[1].tokens);
    let before = issued(&fleet, &server);
    let (csr, mut refusals) = (mine(), Refusals::default());
    let der = pki::pem::read_request(csr.as_bytes()).unwrap();
    for (what, token, words) in bad_tokens(home, edge) {
        let came = create_certificate(&mut istio, &token, "central", &csr, 3600).await;
        refusals.expect(what, came, Code::Unauthenticated, words);
        let message = SignCertificateRequest {
            csr: der.clone(),
            ..Default::default()
        };
        let came = sign(&mut ours, &token, message).await;
        refusals.expect(what, came, Code::Unauthenticated, words);
    }
    let good = home.token("foo", "bar");
    for (what, cluster) in [
        ("another cluster", "edge"),
        ("no such cluster", "nowhere"),
        ("no cluster's name", "../central"),
    ] {
        let came = create_certificate(&mut istio, &good, cluster, &csr, 3600).await;
        let words = if cluster == "edge" {
            "signature"
        } else {
            "cluster"
        };
        refusals.expect(what, came, Code::Unauthenticated, words);
    }
    let message = frame(&field(1, csr.as_bytes()));
    let (bearer, basic) = (format!("Bearer {good}"), format!("Basic {good}"));
    let headers: [(&str, &[(&str, &str)]); 5] = [
        ("no token", &[]),
        (
            "two tokens",
            &[("authorization", &bearer), ("authorization", &bearer)],
        ),
        (
            "two clusters",
            &[
                ("authorization", &bearer),
                ("clusterid", "central"),
                ("clusterid", "edge"),
            ],
        ),
        ("Basic", &[("authorization", &basic)]),
        (
            "a word of a proxy instead",
            &[(
                "x-forwarded-client-cert",
                "URI=spiffe://cluster.local/ns/foo/sa/bar",
            )],
        ),
    ];
    for (what, headers) in headers {
        let came = attacks::call(&mut channel, CREATE, headers, message.clone()).await;
        refusals.expect(what, came, Code::Unauthenticated, "not authenticated");
    }
    for (what, identity) in [
        ("impersonation", "spiffe://cluster.local/ns/a/sa/b"),
        ("empty impersonation", ""),
    ] {
        let value = prost_types::value::Kind::StringValue(identity.to_owned());
        let value = prost_types::Value { kind: Some(value) };
        let fields = [("ImpersonatedIdentity".to_owned(), value)].into();
        let metadata = Some(prost_types::Struct { fields });
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.clone(),
            validity_duration: 60,
            metadata,
        });
        request
            .metadata_mut()
            .insert("authorization", bearer.parse().unwrap());
        let came = istio.create_certificate(request).await;
        refusals.expect(what, came, Code::Unauthenticated, "impersonation");
    }
    // A bomb is not unpacked: we ask for no compression and take none.
    let gzip = [
        ("authorization", bearer.as_str()),
        ("grpc-encoding", "gzip"),
    ];
    let mut bomb = message.clone();
    bomb[0] = 1;
    let came = attacks::call(&mut channel, CREATE, &gzip, bomb).await;
    refusals.expect("gzip", came, Code::Unimplemented, "");
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let came = attacks::call(&mut channel, reflection, &[], frame(&[])).await;
    refusals.expect("reflection", came, Code::Unimplemented, "");
    nothing_issued(&fleet, &server, &before);
    refusals.check_log(server.log());

    // A megabyte of header is cut off below gRPC, and the server goes on; who names no cluster is in the default one.
    let long = format!("Bearer {}", "x".repeat(1 << 20));
    let mut own = server.connect().await;
    let headers = [("authorization", long.as_str())];
    let came = attacks::call(&mut own, CREATE, &headers, message.clone());
    let came = tokio::time::timeout(Duration::from_secs(20), came)
        .await
        .unwrap();
    assert!(came.is_err());
    let headers = [("authorization", bearer.as_str())];
    attacks::call(&mut channel, CREATE, &headers, message)
        .await
        .unwrap();
}

async fn lifetime(istio: &mut Istio, token: &str, seconds: i64) -> Result<i64, Status> {
    let before = tests::now().unix();
    let answer = create_certificate(istio, token, "central", &mine(), seconds).await?;
    Ok(leaf(&answer).not_after().unix() - before)
}

#[tokio::test]
async fn a_lifetime_is_the_default_the_one_asked_for_or_the_longest_and_strict_clusters_refuse() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let mut istio = server.istio().await;
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let (day, week) = (86_400, 7 * 86_400);
    let cases = [
        (0, day),
        (-1, day),
        (i64::MIN, day),
        (3600, 3600),
        (week, week),
        (week + 1, week),
        (i64::MAX, week),
    ];
    for (asked, granted) in cases {
        let lived = lifetime(&mut istio, &token, asked).await.unwrap();
        assert!(
            (granted..granted + 30).contains(&lived),
            "{asked} s asked for: {lived} s"
        );
    }
    fleet.apply(0, "strict = true");
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let refused = loop {
        match lifetime(&mut istio, &token, week + 1).await {
            Err(refused) => break refused,
            Ok(_) => assert!(
                std::time::Instant::now() < until,
                "strictness is never taken up"
            ),
        }
    };
    let mut refusals = Refusals::default();
    refusals.expect("strict", Err::<(), _>(refused), Code::InvalidArgument, "");
    assert!(lifetime(&mut istio, &token, week).await.is_ok());
    refusals.check_log(server.log());
}

async fn sign(
    client: &mut CertificateServiceClient<Channel>,
    token: &str,
    message: SignCertificateRequest,
) -> Result<Certificate, Status> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
        .metadata_mut()
        .insert("clusterid", "central".parse().unwrap());
    let answer = client.sign_certificate(request).await?.into_inner();
    Ok(Certificate::parse(&answer.chain[0]).unwrap())
}

const RULE: &str = r#"
[[rule]]
name = "gateways"
profile = "server"
callers = "spiffe://cluster.local/ns/gateways/sa/*"
dns = ["api.example.org"]
"#;

#[tokio::test]
async fn our_own_call_gives_what_policy_allows_and_cuts_nothing() {
    let fleet = Fleet::build(None, &["central"], RULE);
    let server = fleet.serve();
    let mut client = server.certificates().await;
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let gateway = fleet.clusters[0].tokens.token("gateways", "public");
    let me = KeyAndRequest::for_uris(&[ME]).der;
    let host = |name: &str| {
        let name = SanType::DnsName(name.try_into().unwrap());
        KeyAndRequest::build(|params| params.subject_alt_names.push(name)).der
    };
    let message = |csr: &[u8], profile: &str, ttl: Option<(i64, i32)>| SignCertificateRequest {
        csr: csr.to_vec(),
        profile: profile.to_owned(),
        ttl: ttl.map(|(seconds, nanos)| prost_types::Duration { seconds, nanos }),
    };
    let before = issued(&fleet, &server);
    let mut refusals = Refusals::default();
    let api = host("api.example.org");
    let refused = [
        (
            "above the longest",
            &token,
            message(&me, "", Some((7 * 86_400 + 1, 0))),
        ),
        ("nanoseconds", &token, message(&me, "", Some((3600, 1)))),
        ("no lifetime", &token, message(&me, "", Some((0, 0)))),
        (
            "a negative lifetime",
            &token,
            message(&me, "", Some((i64::MIN, 0))),
        ),
        (
            "a lifetime past counting",
            &token,
            message(&me, "", Some((i64::MAX, 0))),
        ),
        ("no such profile", &token, message(&me, "wizard", None)),
        (
            "no profile's name",
            &token,
            message(&me, "../workload", None),
        ),
        ("admin", &token, message(&me, "admin", None)),
        ("root", &token, message(&me, "root", None)),
        ("serving", &token, message(&me, "serving", None)),
        (
            "ocsp-responder",
            &token,
            message(&me, "ocsp-responder", None),
        ),
        (
            "cluster-intermediate",
            &token,
            message(&me, "cluster-intermediate", None),
        ),
        (
            "subordinate-ca",
            &token,
            message(&me, "subordinate-ca", None),
        ),
        (
            "server without a rule",
            &token,
            message(&api, "server", None),
        ),
        (
            "client without a rule",
            &gateway,
            message(&api, "client", None),
        ),
        (
            "a host beyond the rule",
            &gateway,
            message(&host("www.example.org"), "server", None),
        ),
    ];
    for (what, token, message) in refused {
        let came = sign(&mut client, token, message).await;
        refusals.expect(what, came, Code::InvalidArgument, "");
    }
    nothing_issued(&fleet, &server, &before);
    refusals.check_log(server.log());
    let granted = sign(
        &mut client,
        &gateway,
        message(&api, "server", Some((3600, 0))),
    )
    .await;
    let granted = granted.unwrap();
    let names: Vec<String> = granted
        .alt_names()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["DNS:api.example.org"]);
    sign(&mut client, &token, message(&me, "", Some((3600, 0))))
        .await
        .unwrap();
}
