//! Revoked, held, lifted, as other people's verifiers see it on the live endpoints: by CRL of the whole chain and by OCSP.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pki::certificate::Certificate;
use rustls::pki_types::{CertificateDer, UnixTime};
use tests::fleet::{Fleet, Server};
use tests::http::get;
use tests::istio::wait_until;
use tests::parts::part_or_skip;
use tests::process::{output, run};
use tests::status::issue;

/// Who looks.
enum Reader {
    /// Go's crypto/x509 and golang.org/x/crypto/ocsp: `goverify`.
    Go(PathBuf),
    /// Java's PKIX revocation checker: the folder of `PkixVerify.class`.
    Java(PathBuf),
    /// GnuTLS' `ocsptool`.
    OcspTool(PathBuf),
    /// rustls-webpki, in this process.
    Webpki,
}

/// What it looks at.
#[derive(Clone, Copy, Debug)]
enum By {
    Crl,
    Ocsp,
}

struct World {
    fleet: Fleet,
    server: Server,
}

/// Yes, or why not.
type Verdict = Result<(), String>;

impl World {
    /// Three workloads and everything that tells of them.
    async fn new() -> Self {
        let fleet = Fleet::on_sqlite(&["central"]);
        fleet.import_root_crl(1, &[]);
        let server = fleet.serve();
        for account in ["good", "bad", "held"] {
            issue(&fleet, &server, 0, account).await;
        }
        let world = Self { fleet, server };
        world.fetch();
        world
    }

    /// Fetches the full set.
    fn fetch(&self) {
        let set = wait_until("the full set", || {
            let set = get(self.server.public, "/ca-crl.pem").ok()?;
            (set.status == 200).then_some(set)
        });
        std::fs::write(self.fleet.path("set.pem"), set.body).unwrap();
    }

    fn chain(&self, account: &str) -> PathBuf {
        self.fleet.path(&format!("{account}.chain.pem"))
    }

    fn act(&self, act: &[&str], account: &str) {
        let leaf = std::fs::read(self.fleet.path(&format!("{account}.pem"))).unwrap();
        let serial = Certificate::parse_pem(&leaf).unwrap()[0]
            .serial()
            .to_string();
        run(self
            .fleet
            .ca_server(act)
            .args(["--serial", &serial, "--yes"]));
    }

    fn ask(&self, reader: &Reader, by: By, account: &str) -> Verdict {
        let url = format!("http://{}/ocsp", self.server.public);
        let (root, set) = (self.fleet.path("root.pem"), self.fleet.path("set.pem"));
        let mut command;
        match (reader, by) {
            (Reader::Webpki, _) => return self.webpki(account),
            (Reader::Go(program), by) => {
                command = Command::new(program);
                match by {
                    By::Crl => command.arg("-crls").arg(set),
                    By::Ocsp => command.args(["-ocsp", &url]),
                };
                command.arg("-root").arg(root).arg(self.chain(account));
            }
            (Reader::Java(classes), by) => {
                command = Command::new("java");
                command.args(["-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp"]);
                command.arg(classes).arg("PkixVerify");
                if let By::Ocsp = by {
                    command.args(["-ocsp", &url]);
                }
                command.arg(root).arg(self.chain(account));
                if let By::Crl = by {
                    command.arg(set);
                }
            }
            (Reader::OcspTool(program), _) => {
                command = Command::new(program);
                command.args([&format!("--ask={url}"), "--load-cert"]);
                command.arg(self.fleet.path(&format!("{account}.pem")));
                command
                    .arg("--load-issuer")
                    .arg(self.fleet.path("issuer.pem"));
                // It looks for the responder's issuer here, and no further.
                command
                    .arg("--load-trust")
                    .arg(self.fleet.path("issuer.pem"));
                let said = output(&mut command);
                let text = [said.stdout, said.stderr].concat();
                let text = String::from_utf8_lossy(&text).into_owned();
                let good = said.status.success() && text.contains("Certificate Status: good");
                return if good { Ok(()) } else { Err(text) };
            }
        }
        let said = output(&mut command);
        match said.status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(String::from_utf8_lossy(&said.stdout).into_owned()),
            _ => panic!("{command:?}: {}", String::from_utf8_lossy(&said.stderr)),
        }
    }

    /// With a CRL of every CA of the chain, and no leave to go without one.
    fn webpki(&self, account: &str) -> Verdict {
        let chain = std::fs::read(self.chain(account)).unwrap();
        let chain = Certificate::parse_pem(&chain).unwrap();
        let set = std::fs::read(self.fleet.path("set.pem")).unwrap();
        let lists: Vec<webpki::CertRevocationList<'_>> = pki::pem::read_crls(&set)
            .unwrap()
            .iter()
            .map(|der| {
                let list = webpki::OwnedCertRevocationList::from_der(der);
                list.unwrap().into()
            })
            .collect();
        let lists: Vec<_> = lists.iter().collect();
        let options = webpki::RevocationOptionsBuilder::new(&lists)
            .unwrap()
            .with_depth(webpki::RevocationCheckDepth::Chain)
            .with_status_policy(webpki::UnknownStatusPolicy::Deny)
            .with_expiration_policy(webpki::ExpirationPolicy::Enforce)
            .build();
        let [leaf, above] = [0, 1].map(|i: usize| CertificateDer::from(chain[i].der()));
        let root = CertificateDer::from(self.fleet.root.certificate().der());
        let now = u64::try_from(tests::now().unix()).unwrap();
        webpki::EndEntityCert::try_from(&leaf)
            .unwrap()
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &[webpki::anchor_from_trusted_cert(&root).unwrap()],
                &[above],
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
                webpki::KeyUsage::client_auth(),
                Some(options),
                None,
            )
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// Good at first; then one is revoked and one held, which is told as revoked; then the hold is lifted.
async fn sees_every_change(readers: &[(Reader, By)]) {
    let world = World::new().await;
    let all = |expected: [(&str, bool); 3]| {
        for (reader, by) in readers {
            for (account, good) in expected {
                match (world.ask(reader, *by, account), good) {
                    (Ok(()), true) => {}
                    (Err(why), false) => {
                        assert!(why.to_lowercase().contains("revoked"), "{account}: {why}");
                    }
                    (verdict, _) => panic!("{account} by {by:?}: {verdict:?}"),
                }
            }
        }
    };
    all([("good", true), ("bad", true), ("held", true)]);
    world.act(&["revoke", "--reason", "keyCompromise"], "bad");
    world.act(&["hold"], "held");
    wait_until("both on the list", || {
        world.fetch();
        [("bad"), ("held")]
            .iter()
            .all(|account| world.webpki(account).is_err())
            .then_some(())
    });
    all([("good", true), ("bad", false), ("held", false)]);
    world.act(&["lift"], "held");
    wait_until("the hold off the list", || {
        world.fetch();
        world.webpki("held").ok()
    });
    all([("good", true), ("bad", false), ("held", true)]);
}

/// One intermediate on the root's list, nothing on its own: its leaves are refused, those of the other are not.
async fn sees_a_revoked_intermediate(reader: Reader) {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    fleet.import_root_crl(1, &[]);
    let server = fleet.serve();
    issue(&fleet, &server, 0, "central").await;
    issue(&fleet, &server, 1, "edge").await;
    let world = World { fleet, server };
    world.fetch();
    for account in ["central", "edge"] {
        world.ask(&reader, By::Crl, account).unwrap();
    }
    let chain = std::fs::read(world.chain("edge")).unwrap();
    let intermediate = Certificate::parse_pem(&chain).unwrap().remove(1);
    world.fleet.import_root_crl(2, &[intermediate.serial()]);
    wait_until("the root's new list", || {
        world.fetch();
        world.webpki("edge").err()
    });
    world.ask(&reader, By::Crl, "central").unwrap();
    let why = world.ask(&reader, By::Crl, "edge").unwrap_err();
    assert!(why.to_lowercase().contains("revoked"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rustls_webpki_sees_a_revoked_intermediate() {
    sees_a_revoked_intermediate(Reader::Webpki).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sees_a_revoked_intermediate() {
    if let Some(program) = part_or_skip("go_sees_a_revoked_intermediate", "SIGNET_GOVERIFY") {
        sees_a_revoked_intermediate(Reader::Go(program)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn java_sees_a_revoked_intermediate() {
    if let Some(classes) = part_or_skip("java_sees_a_revoked_intermediate", "SIGNET_JAVA_VERIFY") {
        sees_a_revoked_intermediate(Reader::Java(classes)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rustls_webpki_sees_every_change() {
    sees_every_change(&[(Reader::Webpki, By::Crl)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sees_every_change() {
    if let Some(program) = part_or_skip("go_sees_every_change", "SIGNET_GOVERIFY") {
        let both = [By::Crl, By::Ocsp].map(|by| (Reader::Go(program.clone()), by));
        sees_every_change(&both).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn java_sees_every_change() {
    if let Some(classes) = part_or_skip("java_sees_every_change", "SIGNET_JAVA_VERIFY") {
        let both = [By::Crl, By::Ocsp].map(|by| (Reader::Java(classes.clone()), by));
        sees_every_change(&both).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gnutls_sees_every_change() {
    if let Some(program) = part_or_skip("gnutls_sees_every_change", "SIGNET_OCSPTOOL") {
        sees_every_change(&[(Reader::OcspTool(program), By::Ocsp)]).await;
    }
}
