//! The public listener as caches and gateways use it: conditions, headers, methods, staples, the CAs above, and a store that is
//! away or hangs.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::net::SocketAddr;

use ca_server::app::status::OcspAnswer;
use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::ocsp::{BasicResponse, CertId, HashAlgorithm, Status};
use tests::fleet::{Fleet, Server};
use tests::http::{Answer, get, request};
use tests::inside::{Inside, request as ocsp_request, status};
use tests::istio::wait_until;
use tests::postgres::Postgres;
use tests::process::run;
use tests::status::{crl, crl_after, issue};

const OCSP_REQUEST: (&str, &str) = ("content-type", "application/ocsp-request");
const MALFORMED: [u8; 5] = [0x30, 3, 0x0a, 1, 1];

/// How a request names a certificate of the first authority of `chain`'s file.
fn id(fleet: &Fleet, account: &str, leaf: &Certificate) -> CertId {
    let chain = std::fs::read(fleet.path(&format!("{account}.chain.pem"))).unwrap();
    let issuer = Certificate::parse_pem(&chain).unwrap().remove(1);
    let key = issuer.public_key().unwrap();
    CertId::new(
        HashAlgorithm::Sha1,
        issuer.subject(),
        key.raw(),
        &leaf.serial(),
    )
}

fn post(address: SocketAddr, der: &[u8], headers: &[(&str, &str)]) -> Answer {
    let kind = if headers.iter().any(|(name, _)| *name == OCSP_REQUEST.0) {
        None
    } else {
        Some(OCSP_REQUEST)
    };
    let headers: Vec<_> = kind.into_iter().chain(headers.iter().copied()).collect();
    request(address, "POST", "/ocsp", &headers, der).unwrap()
}

fn ocsp_path(der: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    format!("/ocsp/{}", Base64::encode_string(der).replace('=', "%3D"))
}

fn revoke(fleet: &Fleet, leaf: &Certificate) {
    let serial = leaf.serial().to_string();
    let arguments = [
        "revoke",
        "--serial",
        &serial,
        "--reason",
        "superseded",
        "--yes",
    ];
    run(&mut fleet.ca_server(&arguments));
}

fn with(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(server.public, method, path, headers, &[]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_for_reading_and_tags_decide_where_a_second_does_not() {
    let fleet = Fleet::on_sqlite(&["central"]);
    fleet.import_root_crl(1, &[]);
    let server = fleet.serve();
    let leaf = issue(&fleet, &server, 0, "a").await;
    let path = "/crls/central-1.crl";
    let first = get(server.public, path).unwrap();
    let (tag, date) = (first.header("etag"), first.header("last-modified"));
    let known = with(&server, "GET", path, &[("if-none-match", tag)]);
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(known.header("etag"), tag);
    assert_eq!(
        with(&server, "GET", path, &[("if-modified-since", date)]).status,
        304
    );
    // A tag decides where there is one, whatever the date says.
    let both = [
        ("if-none-match", "\"another\""),
        ("if-modified-since", date),
    ];
    assert_eq!(with(&server, "GET", path, &both).status, 200);
    let head = with(&server, "HEAD", path, &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("etag"), tag);
    assert_eq!(head.header("content-length"), first.body.len().to_string());
    assert_eq!(
        with(&server, "HEAD", path, &[("if-none-match", tag)]).status,
        304
    );
    revoke(&fleet, &leaf);
    crl_after(
        &server,
        "central-1",
        Crl::parse(&first.body).unwrap().number().unwrap(),
    );
    let news = with(
        &server,
        "GET",
        path,
        &[("if-none-match", tag), ("if-modified-since", date)],
    );
    assert_eq!(news.status, 200);
    assert_eq!(
        with(&server, "GET", path, &[("if-modified-since", date)]).status,
        200
    );

    // OCSP: by tag alone, and conditions are none of a POST's.
    let der = ocsp_request(&[id(&fleet, "a", &leaf)]);
    let got = get(server.public, &ocsp_path(&der)).unwrap();
    assert!(matches!(status(&got.body), Status::Revoked { .. }));
    let dated = [("if-modified-since", got.header("last-modified"))];
    assert_eq!(
        with(&server, "GET", &ocsp_path(&der), &dated).status,
        200,
        "what was good may have been revoked in that second"
    );
    let tagged = [("if-none-match", got.header("etag"))];
    assert_eq!(with(&server, "GET", &ocsp_path(&der), &tagged).status, 304);
    for condition in [
        ("if-none-match", "*"),
        ("if-modified-since", got.header("last-modified")),
    ] {
        let posted = post(server.public, &der, &[condition]);
        assert_eq!((posted.status, &posted.body), (200, &got.body));
    }
    for word in ["public", "max-age=", "no-transform", "must-revalidate"] {
        assert!(got.header("cache-control").contains(word), "{got:?}");
    }
    let kind = ("content-type", "Application/OCSP-Request; charset=binary");
    assert_eq!(post(server.public, &der, &[kind]).body, got.body);
    for path in ["/ocsp", "/ocsp/"] {
        let answer = get(server.public, path).unwrap();
        assert_eq!(
            (answer.status, answer.body),
            (200, MALFORMED.to_vec()),
            "{path}"
        );
    }
    // What is refused is kept by nobody.
    for (method, path, code) in [
        ("GET", "/nothing", 404),
        ("GET", "/crls/nobody-1.crl", 404),
        ("GET", "/ocsp-staples/00.ocsp", 404),
        ("DELETE", "/ca-crl.pem", 405),
        ("PUT", "/ocsp", 405),
    ] {
        let answer = with(&server, method, path, &[]);
        assert_eq!(answer.status, code, "{method} {path}");
        assert_eq!(
            answer.header("cache-control"),
            "no-store",
            "{method} {path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cas_above_are_served_by_their_keys_and_a_set_without_them_is_not_kept() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let absent = get(server.public, "/ca-crl.pem").unwrap();
    assert_eq!(
        (absent.status, absent.header("cache-control")),
        (503, "no-store")
    );
    fleet.import_root_crl(1, &[]);
    let listed = run(&mut fleet.ca_server(&["crl", "list"]));
    let name = listed
        .split_whitespace()
        .find(|word| word.starts_with("ca-"));
    let name = name.unwrap();
    let list = wait_until("the root's CRL", || {
        let answer = get(server.public, &format!("/crls/{name}.crl")).ok()?;
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(list.header("content-type"), "application/pkix-crl");
    let root = fleet.root.certificate();
    let list = Crl::parse(&list.body).unwrap();
    list.verify_by(&root.public_key().unwrap()).unwrap();
    let certificate = get(server.public, &format!("/authorities/{name}.crt")).unwrap();
    assert_eq!(
        (certificate.status, &certificate.body[..]),
        (200, root.der())
    );
    let own = get(server.public, "/authorities/central-1.crt").unwrap();
    assert_eq!(own.header("content-type"), "application/pkix-cert");
    let own = Certificate::parse(&own.body).unwrap();
    own.verify_by(&root.public_key().unwrap()).unwrap();
    let leaf = issue(&fleet, &server, 0, "a").await;
    leaf.verify_by(&own.public_key().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_our_issuers_in_one_request_get_one_answer_by_the_first() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    let server = fleet.serve();
    let central = issue(&fleet, &server, 0, "c").await;
    let edge = issue(&fleet, &server, 1, "e").await;
    let ids = [id(&fleet, "e", &edge), id(&fleet, "c", &central)];
    let said = post(server.public, &ocsp_request(&ids), &[]);
    assert_eq!(said.header("cache-control"), "no-store");
    let said = BasicResponse::of_response_der(&said.body).unwrap();
    let found: Vec<_> = said
        .statuses()
        .iter()
        .map(|one| (one.serial, one.status))
        .collect();
    // A responder speaks for the issuer who delegated it (RFC 6960 §4.2.2.2), and knows nothing of others' certificates.
    assert_eq!(
        found,
        [
            (Some(edge.serial()), Status::Good),
            (Some(central.serial()), Status::Unknown)
        ]
    );
}

#[tokio::test]
async fn answers_that_are_asked_for_are_signed_anew_before_they_grow_stale() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let inside = Inside::of(&fleet).await;
    let leaf = inside.issue().await;
    let der = ocsp_request(&[inside.id("central-1", &leaf)]);
    let ask = || async {
        match inside.app.ocsp(&der).await {
            OcspAnswer::Signed(document) => document.body.clone(),
            answer => panic!("{answer:?}"),
        }
    };
    let first = ask().await;
    inside.app.refresh_hot_answers().await.unwrap();
    assert_eq!(ask().await, first, "far from stale");
    // Half of four hours is its time; a tenth of them before that it is signed anew.
    inside.clock.advance(100 * 60);
    assert_eq!(ask().await, first);
    inside.app.refresh_hot_answers().await.unwrap();
    let second = ask().await;
    assert_ne!(second, first);
    inside.clock.advance(100 * 60);
    inside.app.refresh_hot_answers().await.unwrap();
    assert_ne!(
        ask().await,
        second,
        "nobody had asked, and whoever asks now gets a fresh one"
    );
}

#[tokio::test]
async fn a_revocation_is_served_within_the_looks_that_a_second_has() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let inside = Inside::of(&fleet).await;
    let (first, second) = (inside.issue().await, inside.issue().await);
    for leaf in [&first, &second] {
        revoke(&fleet, leaf);
        let mut looks = 0;
        while !inside.crl("central-1").lists(&leaf.serial()) {
            looks += 1;
            assert!(looks <= 10, "ten looks a second");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            inside.app.refresh_status().await.unwrap();
            inside.app.publish_crls().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_is_ready_when_someone_answers_for_what_it_issues() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let inside = Inside::without_responders(&fleet).await;
    assert_eq!(inside.app.without_responder().len(), 1);
    inside.app.keep_responders().await.unwrap();
    assert!(inside.app.without_responder().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_hangs_or_is_away_lists_answers_and_staples_are_served() {
    let test = "while_postgres_hangs_or_is_away_lists_answers_and_staples_are_served";
    if Postgres::binaries().is_none() {
        return tests::parts::skip(test, "no Postgres; see tests/parts/install");
    }
    let mut postgres = Postgres::start().unwrap();
    let fleet = Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"]);
    fleet.import_root_crl(1, &[]);
    let server = fleet.serve();
    let known = issue(&fleet, &server, 0, "known").await;
    let revoked = issue(&fleet, &server, 0, "revoked").await;
    let never = issue(&fleet, &server, 0, "never").await;
    revoke(&fleet, &revoked);
    let list = wait_until("the list", || {
        Some(crl(&server, "central-1")).filter(|list| list.lists(&revoked.serial()))
    });
    let staple = |leaf: &Certificate| {
        get(
            server.public,
            &format!("/ocsp-staples/{}.ocsp", leaf.serial()),
        )
        .unwrap()
    };
    assert_eq!(status(&staple(&known).body), Status::Good);
    let der = ocsp_request(&[id(&fleet, "known", &known)]);
    let looks = || {
        assert_eq!(crl(&server, "central-1"), list);
        assert_eq!(get(server.public, "/ca-crl.pem").unwrap().status, 200);
        assert_eq!(status(&post(server.public, &der, &[]).body), Status::Good);
        assert_eq!(status(&staple(&known).body), Status::Good);
        assert!(matches!(
            status(&staple(&revoked).body),
            Status::Revoked { .. }
        ));
        assert_eq!(staple(&never).status, 503, "nothing is known of it here");
    };
    postgres.pause().unwrap();
    looks();
    postgres.resume().unwrap();
    wait_until("the store", || (staple(&never).status == 200).then_some(()));
    let unseen = issue(&fleet, &server, 0, "unseen").await;
    postgres.stop().unwrap();
    assert_eq!(staple(&unseen).status, 503);
    assert_eq!(status(&staple(&known).body), Status::Good);
    assert_eq!(
        status(&staple(&never).body),
        Status::Good,
        "it is known now"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_while_postgres_is_away_serves_what_was_served_last() {
    let test = "a_server_that_starts_while_postgres_is_away_serves_what_was_served_last";
    if Postgres::binaries().is_none() {
        return tests::parts::skip(test, "no Postgres; see tests/parts/install");
    }
    let mut postgres = Postgres::start().unwrap();
    let fleet = Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"]);
    fleet.import_root_crl(1, &[]);
    let copy = fleet.path("copy");
    fleet.configure(&format!("[public]\ncopy_dir = \"{}\"\n", copy.display()));
    let mut server = fleet.serve();
    let leaf = issue(&fleet, &server, 0, "a").await;
    revoke(&fleet, &leaf);
    let list = wait_until("the list, kept", || {
        let kept = std::fs::read(copy.join("crls/central-1.crl")).ok()?;
        Some(Crl::parse(&kept).ok()?).filter(|kept| kept.lists(&leaf.serial()))
    });
    wait_until("the set, kept", || {
        copy.join("ca-crl.pem").exists().then_some(())
    });
    assert!(server.process().terminate());
    // Forged, and torn: neither is served.
    let forged = Fleet::on_sqlite(&["central"]);
    let forged = pem_to_der(&forged.root.crl(9, &[]));
    std::fs::write(copy.join("crls/forged-1.crl"), forged).unwrap();
    std::fs::write(copy.join("crls/torn-1.crl"), &list.der()[..40]).unwrap();
    postgres.stop().unwrap();

    let mut process = tests::process::Process::start(&mut fleet.ca_server(&["serve"]));
    let address = |listener: &str| -> SocketAddr {
        let listener = format!("listener=\"{listener}\"");
        let line = process.log().wait_for(&["listening", &listener]);
        let text = line.split("address=").nth(1).unwrap().trim();
        text.parse().unwrap()
    };
    let (public, ops) = (address("public"), address("ops"));
    let served = get(public, "/crls/central-1.crl").unwrap();
    assert_eq!(served.body, list.der());
    assert_eq!(served.header("content-type"), "application/pkix-crl");
    let tag = [("if-none-match", served.header("etag"))];
    let known = request(public, "GET", "/crls/central-1.crl", &tag, &[]).unwrap();
    assert_eq!(known.status, 304);
    for path in ["/ca-crl.pem", "/authorities/central-1.crt"] {
        assert_eq!(get(public, path).unwrap().status, 200, "{path}");
    }
    for path in [
        "/crls/forged-1.crl",
        "/crls/torn-1.crl",
        "/bundles/cluster.local.pem",
        "/nothing",
    ] {
        let answer = get(public, path).unwrap();
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (503, "no-store"),
            "{path}"
        );
    }
    let der = ocsp_request(&[id(&fleet, "a", &leaf)]);
    assert_eq!(
        post(public, &der, &[]).body,
        [0x30, 3, 0x0a, 1, 3],
        "tryLater"
    );
    assert_eq!(get(ops, "/healthz").unwrap().status, 200);
    assert_eq!(get(ops, "/readyz").unwrap().status, 503);
    postgres.start_again().unwrap();
    process.log().wait_for(&["listening", "listener=\"issue\""]);
    assert_eq!(process.log().count("listener=\"public\""), 2, "bound anew");
    assert!(process.terminate(), "a stop is clean");
}

fn pem_to_der(text: &str) -> Vec<u8> {
    pki::pem::read_crls(text.as_bytes()).unwrap().remove(0)
}
