//! The fleet's online authority: it signs a cluster's authority, and revokes it at once.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::process::Command;

use pki::certificate::Certificate;
use pki::profile::Profile;
use pki::time::Ttl;
use tests::fleet::{Fleet, Server};
use tests::http::get;
use tests::istio::wait_until;
use tests::process::{output, run};
use tests::status::{crl, issue};

/// Adds a cluster of role fleet, its authority signed by the root with this path length; tells what the import said.
fn add_fleet(fleet: &Fleet, path_len: u8) -> std::process::Output {
    let definition = fleet.path("hq.toml");
    let text = "name = \"hq\"\ntrust_domain = \"cluster.local\"\nrole = \"fleet\"\n";
    std::fs::write(&definition, text).unwrap();
    run(fleet.ca_server(&["cluster", "apply"]).arg(&definition));
    let request = fleet.path("hq.csr.pem");
    if !request.exists() {
        let arguments = ["authority", "request", "hq", "--out"];
        run(fleet.ca_server(&arguments).arg(&request));
    }
    let request = std::fs::read(request).unwrap();
    let profile = Profile::FLEET_INTERMEDIATE;
    let signed = fleet
        .root
        .sign_as(profile, path_len, &request, Ttl::days(3 * 365));
    let chain = fleet.path("hq.chain.pem");
    std::fs::write(&chain, signed).unwrap();
    let imported = output(fleet.ca_server(&["authority", "import", "hq-1"]).arg(chain));
    if imported.status.success() {
        run(&mut fleet.ca_server(&["authority", "activate", "hq-1"]));
    }
    imported
}

/// Requests the next authority of a cluster, and has the fleet's sign it.
fn sign(fleet: &Fleet, cluster: &str, id: &str, more: &[&str]) -> std::process::Output {
    let request = fleet.path(&format!("{id}.csr.pem"));
    if !request.exists() {
        let arguments = ["authority", "request", cluster, "--out"];
        run(fleet.ca_server(&arguments).arg(request));
    }
    let arguments = ["authority", "sign", id, "--yes"];
    output(fleet.ca_server(&arguments).args(more))
}

fn text(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The chain that stands above an authority's leaves, without the root, in files.
fn write_chain(fleet: &Fleet, id: &str) -> Vec<Certificate> {
    let shown = run(&mut fleet.ca_server(&["authority", "show", id]));
    let chain = Certificate::parse_pem(shown.as_bytes()).unwrap();
    let above: String = chain[..chain.len() - 1]
        .iter()
        .map(Certificate::to_pem)
        .collect();
    std::fs::write(fleet.path(&format!("{id}.chain.pem")), above).unwrap();
    std::fs::write(fleet.path(&format!("{id}.pem")), chain[0].to_pem()).unwrap();
    chain
}

/// `openssl verify` with the CRL of every CA of the chain.
fn verify(fleet: &Fleet, server: &Server, account: &str, id: &str) -> String {
    let set = get(server.public, "/ca-crl.pem").unwrap();
    assert_eq!(set.status, 200, "{}", set.text());
    std::fs::write(fleet.path("set.pem"), set.body).unwrap();
    let said = output(
        Command::new("openssl")
            .args(["verify", "-x509_strict", "-crl_check_all", "-CAfile"])
            .arg(fleet.path("root.pem"))
            .arg("-untrusted")
            .arg(fleet.path(&format!("{id}.chain.pem")))
            .arg("-CRLfile")
            .arg(fleet.path("set.pem"))
            .arg(fleet.path(&format!("{account}.pem"))),
    );
    text(&said)
}

/// `openssl ocsp` about an authority, of the one above it.
fn ocsp(fleet: &Fleet, server: &Server, id: &str) -> String {
    let url = format!("http://{}/ocsp", server.public);
    let said = output(
        Command::new("openssl")
            .args(["ocsp", "-url", &url, "-issuer"])
            .arg(fleet.path("hq-1.pem"))
            .arg("-cert")
            .arg(fleet.path(&format!("{id}.pem")))
            .arg("-CAfile")
            .arg(fleet.path("root.pem")),
    );
    text(&said)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_the_fleet_signed_is_on_its_crl_at_once_when_revoked() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    let early = sign(&fleet, "edge", "edge-2", &[]);
    assert!(
        text(&early).contains("no cluster of role \"fleet\""),
        "{}",
        text(&early)
    );
    let wrong = add_fleet(&fleet, 0);
    assert!(text(&wrong).contains("path length 1"), "{}", text(&wrong));
    let added = add_fleet(&fleet, 1);
    assert!(added.status.success(), "{}", text(&added));
    let long = sign(&fleet, "edge", "edge-2", &["--life", "1095d"]);
    assert!(text(&long).contains("after its issuer"), "{}", text(&long));
    let signed = sign(&fleet, "edge", "edge-2", &[]);
    assert!(signed.status.success(), "{}", text(&signed));
    let again = sign(&fleet, "edge", "edge-2", &[]);
    assert!(
        text(&again).contains("only a requested authority"),
        "{}",
        text(&again)
    );
    run(&mut fleet.ca_server(&["authority", "activate", "edge-2"]));
    fleet.import_root_crl(1, &[]);
    let server = fleet.serve();

    // A fleet's authority signs no workloads.
    let arguments = [
        "enrolment",
        "create",
        "hq",
        "--spiffe-id",
        "spiffe://cluster.local/x",
    ];
    let refused = text(&output(&mut fleet.ca_server(&arguments)));
    assert!(
        refused.contains("signs authorities, not workloads"),
        "{refused}"
    );

    issue(&fleet, &server, 1, "sensor").await;
    issue(&fleet, &server, 0, "web").await;
    let chain = write_chain(&fleet, "edge-2");
    write_chain(&fleet, "hq-1");
    write_chain(&fleet, "central-1");
    assert_eq!(chain.len(), 3, "edge-2, hq-1, root");
    wait_until("the full set", || {
        get(server.public, "/ca-crl.pem")
            .ok()
            .filter(|set| set.status == 200)
    });
    assert!(verify(&fleet, &server, "sensor", "edge-2").contains(": OK"));
    assert!(verify(&fleet, &server, "web", "central-1").contains(": OK"));
    wait_until("the fleet's responder", || {
        let said = ocsp(&fleet, &server, "edge-2");
        (said.contains("Response verify OK") && said.contains(": good")).then_some(())
    });

    // By its serial number alone it is not revoked: what it issued would live on.
    let serial = chain[0].serial().to_string();
    let arguments = [
        "revoke",
        "--serial",
        &serial,
        "--reason",
        "superseded",
        "--yes",
    ];
    let refused = text(&output(&mut fleet.ca_server(&arguments)));
    assert!(refused.contains("authority revoke"), "{refused}");
    let arguments = [
        "authority",
        "revoke",
        "edge-2",
        "--reason",
        "cACompromise",
        "--yes",
    ];
    let said = run(&mut fleet.ca_server(&arguments));
    assert!(said.contains("on the CRL of the CA above it"), "{said}");
    wait_until("the fleet's next CRL", || {
        crl(&server, "hq-1").lists(&chain[0].serial()).then_some(())
    });
    wait_until("the set with it", || {
        verify(&fleet, &server, "sensor", "edge-2")
            .contains("revoked")
            .then_some(())
    });
    assert!(verify(&fleet, &server, "web", "central-1").contains(": OK"));
    assert!(ocsp(&fleet, &server, "edge-2").contains(": revoked"));
    let below = ["crl", "request", "--below", "edge-2", "--dir"];
    let nothing = text(&output(fleet.ca_server(&below).arg(fleet.path("x"))));
    assert!(nothing.contains("nothing to carry"), "{nothing}");
}

#[test]
fn a_revoked_fleet_takes_everything_below_it_along() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    assert!(add_fleet(&fleet, 1).status.success());
    assert!(sign(&fleet, "edge", "edge-2", &[]).status.success());
    let arguments = [
        "authority",
        "revoke",
        "hq-1",
        "--reason",
        "cACompromise",
        "--yes",
    ];
    let said = run(&mut fleet.ca_server(&arguments));
    assert!(
        said.contains("with it: edge-2") && said.contains("awaiting ceremony"),
        "{said}"
    );
    let listed = run(&mut fleet.ca_server(&["authority", "list"]));
    let state = |id: &str| {
        let line = listed.lines().find(|line| line.starts_with(id)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(
        (
            state("hq-1"),
            state("edge-2"),
            state("edge-1"),
            state("central-1")
        ),
        (
            "revoked".into(),
            "revoked".into(),
            "active".into(),
            "active".into()
        )
    );
}
