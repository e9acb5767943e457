//! `ca` against the real server: the operation of the README through the API, and what each refusal ends with.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::PathBuf;
use std::process::{Command, Output};

use pki::time::Ttl;
use serde_json::{Value, json};
use tests::fleet::{Fleet, Server};
use tests::process::{output, program, run};

/// `ca` as one administrator, with a home of its own in the installation's directory.
struct Person<'a> {
    fleet: &'a Fleet,
    server: &'a Server,
    name: &'static str,
}

impl<'a> Person<'a> {
    fn new(fleet: &'a Fleet, server: &'a Server, name: &'static str, role: &str) -> Self {
        let person = Self {
            fleet,
            server,
            name,
        };
        let (key, csr, cert) = (person.file("key"), person.file("csr"), person.file("pem"));
        let mut request = Command::new(program("ca"));
        request.args(["admin", "request", "--name", name, "--out-key"]);
        run(request.arg(&key).arg("--out-csr").arg(&csr));
        let issue = ["admin", "issue", "--name", name, "--role", role, "--csr"];
        run(fleet.ca_server(&issue).arg(&csr).arg("--out").arg(&cert));
        person
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.fleet.path(&format!("{}.{kind}", self.name))
    }

    fn command(&self, words: &[&str]) -> Command {
        let root = self.fleet.path("root.pem");
        std::fs::write(&root, self.fleet.root_pem()).unwrap();
        let mut command = Command::new(program("ca"));
        command
            .args(words)
            .args([
                "--url",
                &format!("https://localhost:{}", self.server.admin.port()),
            ])
            .arg("--root")
            .arg(root)
            .arg("--cert")
            .arg(self.file("pem"))
            .arg("--key")
            .arg(self.file("key"))
            .env_remove("SIGNET_CONTEXT")
            .env("XDG_CONFIG_HOME", self.fleet.path("config"))
            .env(
                "XDG_STATE_HOME",
                self.fleet.path(&format!("{}.state", self.name)),
            );
        command
    }

    /// What it says when it is done.
    fn ca(&self, words: &[&str]) -> String {
        run(&mut self.command(words))
    }

    fn json(&self, words: &[&str]) -> Value {
        let said = run(self.command(words).args(["--output", "json"]));
        serde_json::from_str(&said).unwrap()
    }

    /// How it ends where it is not done, and what it says then.
    fn refused(&self, words: &[&str]) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = output(&mut self.command(words));
        (status.code(), String::from_utf8(stderr).unwrap())
    }
}

#[test]
fn the_operation_of_the_readme_through_the_api() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let ada = Person::new(&fleet, &server, "ada", "security-officer");
    assert!(ada.ca(&["whoami"]).contains("security-officer"));
    assert_eq!(ada.json(&["status"])["clock"]["trusted"], true);

    // A cluster, then a change, then nothing to change.
    let file = fleet.path("edge.toml");
    let apply = ["cluster", "apply", "-f", file.to_str().unwrap()];
    std::fs::write(&file, "name = 'edge'\ntrust_domain = 'cluster.local'\n").unwrap();
    assert!(ada.ca(&apply).ends_with("cluster edge created\n"));
    std::fs::write(
        &file,
        "name = 'edge'\ntrust_domain = 'cluster.local'\nmax_ttl = '48h'\n",
    )
    .unwrap();
    let said = ada.ca(&apply);
    assert!(
        said.contains("+ max_ttl = 2d") && said.ends_with("cluster edge changed\n"),
        "{said}"
    );
    assert_eq!(ada.ca(&apply), "cluster edge unchanged\n");

    // Its authority.
    let (request, chain) = (fleet.path("edge-1.csr.pem"), fleet.path("edge-1.chain.pem"));
    ada.ca(&[
        "authority",
        "request",
        "edge",
        "--out",
        request.to_str().unwrap(),
    ]);
    let signed = fleet
        .root
        .sign(&std::fs::read(&request).unwrap(), Ttl::days(365));
    std::fs::write(&chain, signed).unwrap();
    ada.ca(&["authority", "import", "edge-1", chain.to_str().unwrap()]);
    let state = ada.json(&["authority", "show", "edge-1"])["state"].clone();
    if state != "active" {
        if state == "imported" {
            ada.ca(&["authority", "publish", "edge-1"]);
        }
        ada.ca(&["authority", "activate", "edge-1"]);
    }
    assert!(
        ada.ca(&["authority", "list", "--state", "active"])
            .contains("edge-1")
    );
    let roots = ada.json(&["root", "list"]);
    let digest = pki::crypto::hex(&pki::crypto::sha256(fleet.root.certificate().der()));
    assert_eq!(roots[0]["roots"][0]["sha256"], digest.as_str());

    // A certificate on an operator's word, found, written, revoked.
    let (csr, key) = (fleet.path("web.csr"), fleet.path("web.key"));
    run(Command::new(program("ca"))
        .args(["admin", "request", "--name", "ignored", "--out-key"])
        .arg(&key)
        .arg("--out-csr")
        .arg(&csr));
    let id = "spiffe://cluster.local/ns/a/sa/web";
    let (status, said) = ada.refused(&[
        "certificate",
        "sign",
        "central",
        "--csr",
        csr.to_str().unwrap(),
        "--spiffe-id",
        id,
    ]);
    assert_eq!(
        status,
        Some(1),
        "a common name that is not the caller's: {said}"
    );
    let token = ada.ca(&["enrolment", "create", "central", "--spiffe-id", id]);
    let dir = fleet.path("web");
    let token_file = fleet.path("web.token");
    std::fs::write(&token_file, token).unwrap();
    run(Command::new(program("ca"))
        .args(["enroll", "--server", &server.url(), "--roots"])
        .arg(fleet.path("root.pem"))
        .arg("--dir")
        .arg(&dir)
        .arg("--enrolment-token-file")
        .arg(&token_file));
    let found = ada.json(&["certificate", "list", "--spiffe-id", id, "--all"]);
    let serial = found[0]["serial"].as_str().unwrap();
    assert_eq!(found[0]["state"], "valid");
    assert!(
        ada.ca(&["certificate", "get", serial, "--form", "text"])
            .contains(id)
    );
    let (status, said) = ada.refused(&[
        "certificate",
        "revoke",
        "--spiffe-id",
        id,
        "--reason",
        "superseded",
    ]);
    assert_eq!(status, Some(2), "{said}");
    ada.ca(&[
        "certificate",
        "revoke",
        "--spiffe-id",
        id,
        "--reason",
        "superseded",
        "--yes",
    ]);
    assert_eq!(
        ada.json(&["certificate", "show", serial])["state"],
        "revoked"
    );
    let (status, said) = ada.refused(&["certificate", "lift", serial]);
    assert_eq!(status, Some(5), "{said}");

    // A policy before it is put in force.
    let dry_run = [
        "policy",
        "dry-run",
        "central",
        "--identity",
        id,
        "--profile",
        "server",
        "--name",
        "a.example",
    ];
    assert_eq!(ada.json(&dry_run)["decision"], "refused");
    let policy = fleet.path("policy.json");
    let mut other = ada.json(&["policy", "show", "central"]);
    other["default_ttl"] = json!("1h");
    std::fs::write(&policy, other.to_string()).unwrap();
    let replayed = ada.json(&[
        "policy",
        "replay",
        "central",
        "--policy",
        policy.to_str().unwrap(),
    ]);
    // What was refused meanwhile may be on the trail by now: it would be refused again.
    let differing = replayed["differing"].as_array().unwrap();
    assert_eq!(differing.len(), 1, "{replayed}");

    // The key stays, the certificate is another one.
    let before = std::fs::read(ada.file("pem")).unwrap();
    ada.ca(&["admin", "renew"]);
    assert_ne!(std::fs::read(ada.file("pem")).unwrap(), before);
    assert!(ada.ca(&["whoami"]).contains("cert:ada"));

    // The trail of all that, whole, here and from its file.
    assert!(ada.ca(&["audit", "verify"]).ends_with("no fault\n"));
    let export = fleet.path("audit.jsonl");
    ada.ca(&["audit", "export", "--out", export.to_str().unwrap()]);
    run(Command::new(program("ca"))
        .args(["audit", "verify", "--file"])
        .arg(&export));
    let kinds = ada.ca(&["audit", "list", "--actor", "cert:ada", "--all"]);
    for kind in [
        "cluster.apply",
        "authority.import",
        "enrolment.create",
        "certificate.revoke",
    ] {
        assert!(kinds.contains(kind), "{kind} is missing in:\n{kinds}");
    }
}

#[test]
fn who_may_not_and_what_waits() {
    let fleet = Fleet::on_sqlite(&["central"]);
    fleet.configure("[admin]\ntwo_person = [\"role\"]\n");
    let server = fleet.serve();
    let ada = Person::new(&fleet, &server, "ada", "security-officer");
    let bob = Person::new(&fleet, &server, "bob", "security-officer");
    let eve = Person::new(&fleet, &server, "eve", "viewer");

    eve.ca(&["certificate", "list"]);
    let enrol = [
        "enrolment",
        "create",
        "central",
        "--spiffe-id",
        "spiffe://cluster.local/x",
    ];
    let (status, said) = eve.refused(&enrol);
    assert_eq!(status, Some(4), "{said}");
    assert!(
        said.contains("operator") && said.contains("ca role bind"),
        "{said}"
    );
    let (status, said) = eve.refused(&["cluster", "show", "nowhere"]);
    assert_eq!(status, Some(3), "{said}");

    let bind = [
        "role",
        "bind",
        "cert:eve",
        "operator",
        "--cluster",
        "central",
    ];
    let (status, said) = ada.refused(&bind);
    assert_eq!(status, Some(7), "{said}");
    let proposals = ada.json(&["proposal", "list"]);
    let id = proposals[0]["id"].as_str().unwrap();
    assert!(ada.ca(&["proposal", "show", id]).contains("+ operator"));
    let (status, said) = ada.refused(&["proposal", "approve", id]);
    assert_eq!(status, Some(4), "{said}");
    assert!(said.contains("another person"), "{said}");
    let (status, _) = eve.refused(&enrol);
    assert_eq!(status, Some(4));
    bob.ca(&["proposal", "approve", id]);
    eve.ca(&enrol);

    let (status, said) = bob.refused(&["proposal", "approve", id]);
    assert_eq!(status, Some(5), "{said}");
}
