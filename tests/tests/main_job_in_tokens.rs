//! The main job with every CA key in a token (real SoftHSM2): the offline root's in one, each cluster's intermediate in its own;
//! from the root's ceremony to workloads' certificates of both clusters, judged by OpenSSL.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::Path;
use std::process::Command;

use tests::fleet::Fleet;
use tests::process::{program, run};
use tests::softhsm::SoftHsm;

const PIN: &str = "58204719";
const CLUSTERS: [&str; 2] = ["central", "edge"];

/// The offline machine: a folder, and the token with the root.
struct Offline<'a> {
    hsm: &'a SoftHsm,
    folder: &'a Path,
}

impl Offline<'_> {
    fn ca_root(&self, arguments: &[&str]) -> String {
        let (name, value) = self.hsm.environment();
        let mut command = Command::new(program("ca-root"));
        command.env(name, value).current_dir(self.folder);
        run(command.args(arguments))
    }

    /// Holds a ceremony, and checks its transcript as a second person would.
    fn hold(&self, name: &str, plan: &str) {
        let (file, transcript) = (format!("{name}.toml"), format!("{name}.transcript"));
        std::fs::write(self.folder.join(&file), plan).unwrap();
        let pin = self.hsm.pin_file("root").display().to_string();
        let run = ["run", &file, "--transcript", &transcript, "--yes"];
        self.ca_root(&[&run[..], &["--pin-file", &pin]].concat());
        let said = self.ca_root(&["verify", &transcript]);
        assert!(
            said.contains("ok: everything is as the plan says"),
            "{said}"
        );
    }

    fn create_root(&self) {
        let module = self.hsm.module().display();
        self.hold(
            "create-root",
            &format!(
                r#"version = 1
ceremony = "create-root"
[root]
name = "Root in a Token 1"
algorithm = "P-256"
life = "10y"
[outputs]
certificate = "root.pem"
key = "pkcs11:token=root;object=root-1"
crl = "root.crl.pem"
crl_life = "400d"
[token]
module = "{module}"
confined = true
"#
            ),
        );
    }

    fn sign(&self, cluster: &str) {
        let module = self.hsm.module().display();
        self.hold(
            &format!("sign-{cluster}"),
            &format!(
                r#"version = 1
ceremony = "sign-intermediate"
[root]
certificate = "root.pem"
key = "pkcs11:token=root;object=root-1"
[token]
module = "{module}"
confined = true
[[intermediate]]
request = "{cluster}-1.csr.pem"
profile = "cluster-intermediate"
life = "1y"
path_len = 0
out = "{cluster}-1.pem"
"#
            ),
        );
    }
}

#[test]
fn root_and_intermediates_in_tokens_give_workloads_their_certificates() {
    let test = "root_and_intermediates_in_tokens_give_workloads_their_certificates";
    let Some(hsm) = SoftHsm::or_skip(test) else {
        return;
    };
    let mut fleet = Fleet::without_authorities(None, &CLUSTERS, "");
    fleet.set_environment(hsm.environment());
    let offline = fleet.path("offline");
    std::fs::create_dir(&offline).unwrap();
    hsm.token("root", PIN, "");
    for cluster in CLUSTERS {
        fleet.configure(&hsm.token(cluster, PIN, ""));
    }
    let root = Offline {
        hsm: &hsm,
        folder: &offline,
    };
    root.create_root();

    for cluster in CLUSTERS {
        let request = offline.join(format!("{cluster}-1.csr.pem"));
        let mut ask = fleet.ca_server(&["authority", "request", cluster, "--token", cluster]);
        let said = run(ask.arg("--out").arg(request));
        assert!(said.contains("cannot leave it and never could"), "{said}");
        root.sign(cluster);
        let chain = fleet.path("chain.pem");
        let parts = [format!("{cluster}-1.pem"), "root.pem".to_owned()];
        let parts = parts.map(|part| std::fs::read_to_string(offline.join(part)).unwrap());
        std::fs::write(&chain, parts.concat()).unwrap();
        let id = format!("{cluster}-1");
        run(fleet.ca_server(&["authority", "import", &id]).arg(chain));
        if cluster != CLUSTERS[0] {
            run(&mut fleet.ca_server(&["authority", "activate", &id]));
        }
    }
    let crl = offline.join("root.crl.pem");
    run(fleet.ca_server(&["crl", "import"]).arg(crl));

    let server = fleet.serve();
    let roots = offline.join("root.pem");
    for cluster in CLUSTERS {
        let id = format!("spiffe://cluster.local/ns/{cluster}/sa/web");
        let token = fleet.path("token");
        std::fs::write(&token, fleet.enrolment_token(cluster, &id)).unwrap();
        let place = fleet.path(cluster);
        let mut enrol = Command::new(program("ca"));
        enrol.args(["enroll", "--server", &server.url(), "--roots"]);
        enrol.arg(&roots).arg("--dir").arg(&place);
        run(enrol.arg("--enrolment-token-file").arg(&token));
        let mut renew = Command::new(program("ca"));
        run(renew.args(["renew", "--dir"]).arg(&place));
        let chain = place.join("tls.crt");
        let mut verify = Command::new("openssl");
        verify
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(&roots);
        let said = run(verify.arg("-untrusted").arg(&chain).arg(&chain));
        assert!(said.trim_end().ends_with("OK"), "{said}");
        let listed = run(&mut fleet.ca_server(&["records", "list", "--spiffe-id", &id]));
        assert_eq!(listed.lines().count(), 2, "{listed}");
    }
}
