//! Revoking, holding and lifting, as the public listener tells of it: CRLs, `ca-crl.pem` and OCSP, read by OpenSSL.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::PathBuf;
use std::process::Command;

use pki::certificate::Certificate;
use pki::crl::Reason;
use tests::fleet::{Fleet, Server};
use tests::http::{get, request};
use tests::istio::wait_until;
use tests::process::{output, run};
use tests::requests::{KeyAndRequest, create_certificate};
use tests::status::{crl, crl_after, issue};

/// `openssl verify` of a leaf with the whole set of CRLs, each CA's checked.
fn verify(fleet: &Fleet, server: &Server, account: &str) -> String {
    let set = get(server.public, "/ca-crl.pem").unwrap();
    assert_eq!(set.status, 200, "{}", set.text());
    let file = fleet.path("ca-crl.pem");
    std::fs::write(&file, set.body).unwrap();
    let said = output(
        Command::new("openssl")
            .args(["verify", "-x509_strict", "-crl_check_all", "-CAfile"])
            .arg(fleet.path("root.pem"))
            .arg("-untrusted")
            .arg(fleet.path("issuer.pem"))
            .arg("-CRLfile")
            .arg(file)
            .arg(fleet.path(&format!("{account}.pem"))),
    );
    format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    )
}

/// `openssl ocsp` on the live endpoint.
fn ocsp(fleet: &Fleet, server: &Server, account: &str, more: &[&str]) -> String {
    let said = output(
        Command::new("openssl")
            .args([
                "ocsp",
                "-url",
                &format!("http://{}/ocsp", server.public),
                "-issuer",
            ])
            .arg(fleet.path("issuer.pem"))
            .arg("-cert")
            .arg(fleet.path(&format!("{account}.pem")))
            .arg("-CAfile")
            .arg(fleet.path("root.pem"))
            .args(more),
    );
    format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    )
}

fn file(fleet: &Fleet, name: &str) -> PathBuf {
    fleet.path(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_told_at_once_and_a_hold_is_lifted() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let absent = get(server.public, "/ca-crl.pem").unwrap();
    assert_eq!(
        absent.status,
        503,
        "the root's CRL is missing: {}",
        absent.text()
    );
    assert!(absent.text().contains("Test Root"), "{}", absent.text());
    fleet.import_root_crl(1, &[]);

    let a = issue(&fleet, &server, 0, "a").await;
    let b = issue(&fleet, &server, 0, "b").await;
    wait_until("the full set", || {
        get(server.public, "/ca-crl.pem")
            .ok()
            .filter(|set| set.status == 200)
    });
    let first = crl(&server, "central-1");
    assert!(first.revoked().is_empty(), "an empty CRL is always there");
    for account in ["a", "b"] {
        assert!(verify(&fleet, &server, account).contains(": OK"));
        let said = ocsp(&fleet, &server, account, &[]);
        assert!(
            said.contains("Response verify OK") && said.contains(": good"),
            "{said}"
        );
    }

    let serial = a.serial().to_string();
    let reason = [
        "revoke",
        "--serial",
        &serial,
        "--reason",
        "keyCompromise",
        "--yes",
    ];
    let said = run(&mut fleet.ca_server(&reason));
    assert!(said.contains("1 revoked"), "{said}");
    let listed = crl_after(&server, "central-1", first.number().unwrap());
    assert_eq!(listed.revoked().len(), 1);
    assert_eq!(
        (listed.revoked()[0].serial, listed.revoked()[0].reason),
        (a.serial(), Reason::KeyCompromise)
    );
    assert!(verify(&fleet, &server, "a").contains("certificate revoked"));
    assert!(verify(&fleet, &server, "b").contains(": OK"));
    let said = ocsp(&fleet, &server, "a", &[]);
    assert!(
        said.contains(": revoked") && said.contains("keyCompromise"),
        "{said}"
    );

    // Again, and the other way round: what is revoked stays.
    let again = run(&mut fleet.ca_server(&reason));
    assert!(
        again.contains("0 revoked") && again.contains("1 revoked or on hold already"),
        "{again}"
    );
    let lift = run(&mut fleet.ca_server(&["lift", "--serial", &serial, "--yes"]));
    assert!(lift.contains("0 lifted"), "{lift}");

    // A hold comes and goes.
    let serial = b.serial().to_string();
    run(&mut fleet.ca_server(&["hold", "--serial", &serial, "--yes"]));
    let held = crl_after(&server, "central-1", listed.number().unwrap());
    assert!(held.lists(&b.serial()));
    assert!(ocsp(&fleet, &server, "b", &[]).contains("certificateHold"));
    run(&mut fleet.ca_server(&["lift", "--serial", &serial, "--yes"]));
    let lifted = crl_after(&server, "central-1", held.number().unwrap());
    assert!(!lifted.lists(&b.serial()) && lifted.lists(&a.serial()));
    assert!(ocsp(&fleet, &server, "b", &[]).contains(": good"));
    assert!(
        lifted.this_update() > held.this_update(),
        "HTTP dates tell them apart"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_authority_takes_its_leaves_with_it_and_leaves_others_alone() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    fleet.import_root_crl(7, &[]);
    let server = fleet.serve();
    let central = issue(&fleet, &server, 0, "c").await;
    let edge = issue(&fleet, &server, 1, "e").await;
    assert!(verify(&fleet, &server, "e").contains(": OK"));

    let said = run(&mut fleet.ca_server(&[
        "authority",
        "revoke",
        "edge-1",
        "--reason",
        "cACompromise",
        "--yes",
    ]));
    assert!(said.contains("awaiting ceremony"), "{said}");
    let listed = crl_after(&server, "edge-1", 1);
    assert!(listed.lists(&edge.serial()), "its own CRL lists what lives");
    assert!(verify(&fleet, &server, "e").contains("certificate revoked"));
    assert!(ocsp(&fleet, &server, "e", &[]).contains(": revoked"));
    assert!(!crl(&server, "central-1").lists(&central.serial()));
    // It signs nothing more; the other cluster goes on.
    let token = fleet.clusters[1].tokens.token("ns", "e2");
    let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/ns/sa/e2"]);
    let refused = create_certificate(
        &mut server.istio().await,
        &token,
        "edge",
        &request.pem(),
        60,
    )
    .await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Unavailable);
    issue(&fleet, &server, 0, "c2").await;

    // The ceremony: what is asked for is signed, and comes back.
    let folder = file(&fleet, "ceremony");
    run(fleet
        .ca_server(&["crl", "request", "--below", "edge-1", "--dir"])
        .arg(&folder));
    let plan = std::fs::read_to_string(folder.join("issue-crl.toml")).unwrap();
    let intermediate =
        Certificate::parse_pem(&std::fs::read(file(&fleet, "chain.pem")).unwrap()).unwrap();
    let serial = intermediate[0].serial();
    assert!(
        plan.contains(&serial.to_string()) && plan.contains("cACompromise"),
        "{plan}"
    );
    assert!(pki::ceremony::Plan::parse(&plan).is_ok());
    fleet.import_root_crl(8, &[serial]);
    let said = run(&mut fleet.ca_server(&["authority", "show", "edge-1"]));
    assert!(said.contains("on the CRL of the CA above it"), "{said}");
    let older = file(&fleet, "older.pem");
    std::fs::write(&older, fleet.root.crl(7, &[])).unwrap();
    let refused = output(fleet.ca_server(&["crl", "import"]).arg(older));
    assert!(!refused.status.success(), "numbers never go back");
}

#[tokio::test(flavor = "multi_thread")]
async fn ocsp_answers_by_get_and_post_and_refuses_what_is_not_a_request() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let leaf = issue(&fleet, &server, 0, "a").await;
    let der = file(&fleet, "request.der");
    run(Command::new("openssl")
        .args(["ocsp", "-no_nonce", "-sha256", "-issuer"])
        .arg(file(&fleet, "issuer.pem"))
        .arg("-cert")
        .arg(file(&fleet, "a.pem"))
        .arg("-reqout")
        .arg(&der));
    let der = std::fs::read(der).unwrap();
    let post = |body: &[u8], kind: &str| {
        request(
            server.public,
            "POST",
            "/ocsp",
            &[("content-type", kind)],
            body,
        )
        .unwrap()
    };
    let posted = wait_until("a responder", || {
        Some(post(&der, "application/ocsp-request")).filter(|answer| answer.body.len() > 5)
    });
    assert_eq!(
        (posted.status, posted.header("content-type")),
        (200, "application/ocsp-response")
    );
    let said = pki::ocsp::BasicResponse::of_response_der(&posted.body).unwrap();
    assert_eq!(said.statuses()[0].serial, Some(leaf.serial()));
    assert_eq!(said.statuses()[0].status, pki::ocsp::Status::Good);

    use base64ct::{Base64, Encoding};
    let path = format!("/ocsp/{}", Base64::encode_string(&der).replace('=', "%3D"));
    let got = get(server.public, &path).unwrap();
    assert_eq!(got.body, posted.body, "kept");
    assert!(
        got.header("cache-control").starts_with("public, max-age="),
        "{got:?}"
    );
    assert!(!got.header("last-modified").is_empty() && !got.header("expires").is_empty());
    let known = request(
        server.public,
        "GET",
        &path,
        &[("if-none-match", got.header("etag"))],
        &[],
    )
    .unwrap();
    assert_eq!((known.status, known.body.len()), (304, 0));
    let staple = get(
        server.public,
        &format!("/ocsp-staples/{}.ocsp", leaf.serial()),
    )
    .unwrap();
    let stapled = pki::ocsp::BasicResponse::of_response_der(&staple.body).unwrap();
    assert_eq!(stapled.statuses()[0].serial, Some(leaf.serial()));

    let malformed = [0x30, 3, 0x0a, 1, 1];
    assert_eq!(post(b"junk", "application/ocsp-request").body, malformed);
    assert_eq!(
        post(&der[..der.len() - 1], "application/ocsp-request").body,
        malformed
    );
    assert_eq!(get(server.public, "/ocsp/%%%").unwrap().body, malformed);
    assert_eq!(post(&der, "text/plain").status, 415);
    assert_eq!(
        post(&vec![0x30; 5000], "application/ocsp-request").status,
        413
    );
    assert_eq!(
        request(server.public, "PUT", "/ocsp", &[], b"x")
            .unwrap()
            .status,
        405
    );
    // Another issuer's: nobody here answers for it.
    let mut foreign = der.clone();
    let at = foreign.len() - leaf.serial().as_bytes().len() - 10;
    foreign[at] ^= 0xff;
    assert_eq!(
        post(&foreign, "application/ocsp-request").body,
        [0x30, 3, 0x0a, 1, 6]
    );
    // Ours, but never issued.
    let mut unknown = der.clone();
    *unknown.last_mut().unwrap() ^= 0xff;
    let answer = post(&unknown, "application/ocsp-request");
    let said = pki::ocsp::BasicResponse::of_response_der(&answer.body).unwrap();
    assert_eq!(said.statuses()[0].status, pki::ocsp::Status::Unknown);
    // With a nonce, by both hands of OpenSSL's.
    let said = ocsp(&fleet, &server, "a", &["-nonce"]);
    assert!(
        said.contains("Response verify OK") && !said.contains("WARNING: no nonce"),
        "{said}"
    );
}
