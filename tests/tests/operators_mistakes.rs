//! What operators mistype, lose and leave behind: it is said clearly, changes nothing, and stops nothing else.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::Path;

use base64ct::{Base64, Encoding};
use proto::ca::v1::WatchTrustBundleRequest;
use proto::ca::v1::certificate_service_client::CertificateServiceClient;
use tests::fleet::Fleet;
use tests::http::get;
use tests::istio::wait_until;
use tests::process::{output, run};
use tests::requests::{KeyAndRequest, create_certificate};

/// What a command that fails says.
fn refused(fleet: &Fleet, arguments: &[&str]) -> String {
    let said = output(&mut fleet.ca_server(arguments));
    assert!(!said.status.success(), "{arguments:?} succeeded");
    assert_eq!(said.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(said.stderr).unwrap()
}

fn definition(name: &str, kubeconfig: &Path) -> String {
    format!(
        "name = \"{name}\"\ntrust_domain = \"cluster.local\"\n[token_review.server]\nkubeconfig = \"{}\"\n",
        kubeconfig.display()
    )
}

const KUBECONFIG: &str = r#"{"apiVersion":"v1","kind":"Config","current-context":"c",
"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1","certificate-authority-data":"CA"}}],
"users":[{"name":"u","user":{"token":"t"}}]}"#;

fn kubeconfig() -> String {
    let ca = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
    let ca = Base64::encode_string(ca.cert.pem().as_bytes());
    KUBECONFIG.replace("\"CA\"", &format!("\"{ca}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clusters_lost_kubeconfig_is_its_own_trouble_and_ends_by_itself() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let (file, cluster) = (fleet.path("kubeconfig"), fleet.path("edge.toml"));
    std::fs::write(&cluster, definition("edge", &file)).unwrap();
    let path = cluster.display().to_string();
    let said = refused(&fleet, &["cluster", "apply", &path]);
    assert!(said.contains("kubeconfig"), "{said}");

    std::fs::write(&file, kubeconfig()).unwrap();
    run(&mut fleet.ca_server(&["cluster", "apply", &path]));
    let other = fleet.path("other.toml");
    std::fs::write(&other, definition("other", &file)).unwrap();
    let said = refused(&fleet, &["cluster", "apply", &other.display().to_string()]);
    let told = said.contains("asks the same API server") && said.contains("cluster edge");
    assert!(told, "{said}");

    // Lost at a reboot: the server starts, and takes up what changes elsewhere.
    std::fs::remove_file(&file).unwrap();
    let server = fleet.serve();
    server
        .log()
        .wait_for(&["pinned keys are all there is", "edge"]);
    std::fs::write(
        &other,
        "name = \"third\"\ntrust_domain = \"third.example\"\n",
    )
    .unwrap();
    run(&mut fleet.ca_server(&["cluster", "apply", &other.display().to_string()]));
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/foo/sa/bar"]);
    let mut istio = server.istio().await;
    create_certificate(&mut istio, &token, "central", &request.pem(), 600)
        .await
        .unwrap();
    assert_eq!(get(server.ops, "/readyz").unwrap().status, 200);
    let metrics = get(server.ops, "/metrics").unwrap().text();
    assert!(metrics.contains("signet_store_followed 1"), "{metrics}");

    std::fs::write(&file, kubeconfig()).unwrap();
    server
        .log()
        .wait_for(&["the API server can be asked", "edge"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_who_watches_the_bundle() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut server = fleet.serve();
    let mut client = CertificateServiceClient::new(server.connect().await);
    let request = WatchTrustBundleRequest {
        trust_domain: "cluster.local".to_owned(),
    };
    let mut watch = client
        .watch_trust_bundle(request)
        .await
        .unwrap()
        .into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let stopped = tokio::task::spawn_blocking(move || {
        let clean = server.process().terminate();
        (server, clean)
    });
    assert!(watch.message().await.unwrap().is_none(), "the stream ends");
    let (server, clean) = stopped.await.unwrap();
    assert!(clean);
    server.log().wait_for(&["stopped"]);
    assert_eq!(server.log().count("cut off"), 0);
}

#[test]
fn a_mistyped_enrolment_is_not_revoked() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let said = refused(&fleet, &["enrolment", "revoke", "typo"]);
    assert!(said.contains("there is no enrolment typo"), "{said}");
}

#[test]
fn a_request_that_cannot_be_written_takes_no_slot_and_one_that_is_lost_can_be_given_up() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let nowhere = fleet.path("missing/request.pem").display().to_string();
    let request = ["authority", "request", "central", "--out"];
    let said = refused(&fleet, &[&request[..], &[&nowhere]].concat());
    assert!(said.contains("request.pem cannot be made"), "{said}");

    let file = fleet.path("request-2.pem").display().to_string();
    run(&mut fleet.ca_server(&[&request[..], &[&file]].concat()));
    let again = fleet.path("request-3.pem").display().to_string();
    let said = refused(&fleet, &[&request[..], &[&again]].concat());
    assert!(said.contains("authority abandon"), "{said}");
    assert!(!Path::new(&again).exists(), "nothing was requested");
    run(&mut fleet.ca_server(&["authority", "abandon", "central-2"]));
    let said = refused(&fleet, &["authority", "abandon", "central-2"]);
    assert!(said.contains("only a requested authority"), "{said}");
    let said = refused(&fleet, &["authority", "abandon", "central-1"]);
    assert!(said.contains("only a requested authority"), "{said}");
    let said = run(&mut fleet.ca_server(&[&request[..], &[&again]].concat()));
    assert!(said.contains("central-3"), "{said}");
}

#[test]
fn a_listing_says_what_it_does_not_understand_and_pages() {
    let fleet = Fleet::on_sqlite(&["central"]);
    for (arguments, words) in [
        (&["--cluster", "nope"][..], "there is no cluster nope"),
        (
            &[
                "--expires-from",
                "2030-01-02T00:00:00Z",
                "--expires-to",
                "2030-01-01T00:00:00Z",
            ],
            "is after",
        ),
        (&["--after", "0102"], "no certificate"),
    ] {
        let said = refused(&fleet, &[&["records", "list"], arguments].concat());
        assert!(said.contains(words), "{said}");
    }
    for arguments in [["--limit", "501"], ["--limit", "0"], ["--spiffe-id", "x"]] {
        let said = output(&mut fleet.ca_server(&[&["records", "list"][..], &arguments].concat()));
        assert_eq!(said.status.code(), Some(2), "{arguments:?}");
    }

    // Its own serving certificate, and a responder's: enough for two pages.
    let server = fleet.serve();
    wait_until("two records", || {
        (run(&mut fleet.ca_server(&["records", "list"]))
            .lines()
            .count()
            >= 2)
            .then_some(())
    });
    drop(server);
    let serials = |more: &[&str]| -> Vec<String> {
        let said = run(&mut fleet.ca_server(&[&["records", "list"], more].concat()));
        let first = |line: &str| line.split(' ').next().unwrap().to_owned();
        said.lines().map(first).collect()
    };
    let all = serials(&[]);
    let first = serials(&["--limit", "1"]);
    let second = serials(&["--limit", "1", "--after", &first[0]]);
    assert_eq!([first, second].concat(), all[..2]);
}

#[test]
fn a_faulty_file_is_not_repeated_and_foreign_variables_are_nobodys_business() {
    use std::os::unix::ffi::OsStrExt;
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut odd = fleet.ca_server(&["config", "check"]);
    odd.env("ODD", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert!(run(&mut odd).contains("no faults"));

    let file = fleet.path("ca-server.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        format!("{good}[store2]\nurl = \"postgres://ca:hunter2@db/ca\n"),
    )
    .unwrap();
    let said = refused(&fleet, &["config", "check"]);
    assert!(!said.contains("hunter2"), "{said}");
    let line = good.lines().count() + 2;
    assert!(said.contains(&format!("line {line}")), "{said}");

    let wrong = good
        .replace(
            &fleet.path("passphrase").display().to_string(),
            "/nowhere/passphrase",
        )
        .replace(&fleet.path("ca.db").display().to_string(), "/nowhere/ca.db");
    std::fs::write(&file, wrong).unwrap();
    let said = refused(&fleet, &["config", "check"]);
    for path in ["store.url", "keys.passphrase_file"] {
        assert!(said.contains(path), "{said}");
    }
}

#[test]
fn a_reader_who_has_seen_enough_is_no_fault() {
    let fleet = Fleet::on_sqlite(&["central"]);
    for arguments in [
        ["authority", "list"],
        ["cluster", "list"],
        ["config", "show"],
    ] {
        let mut command = fleet.ca_server(&arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = command.stdout(writer).stderr(std::process::Stdio::piped());
        let said = ended.spawn().unwrap().wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success(), "{arguments:?}: {words}");
    }
}
