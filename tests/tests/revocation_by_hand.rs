//! What an operator types: which certificates are meant, what a preview says, and which CRLs of offline CAs are taken.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::process::{Command, Output, Stdio};

use pki::certificate::Certificate;
use pki::pem;
use pki::time::{Timestamp, Ttl};
use tests::fleet::{Fleet, Server};
use tests::http::get;
use tests::inside::Inside;
use tests::istio::wait_until;
use tests::process::{output, program, run};
use tests::status::{crl, issue};
use tests::tlv::{integer, oid, sequence, tlv};

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn say(fleet: &Fleet, arguments: &[&str]) -> Output {
    output(&mut fleet.ca_server(arguments))
}

/// What `revoke` with this choice would hit.
fn preview(fleet: &Fleet, choice: &[&str]) -> String {
    let said = say(fleet, &[&["revoke", "--dry-run"], choice].concat());
    assert!(said.status.success(), "{choice:?}: {}", text(&said));
    text(&said)
}

fn count(said: &str) -> usize {
    let first = said.split_whitespace().next().unwrap();
    first.parse().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_choice_means_what_it_says_and_a_dry_run_does_nothing() {
    let fleet = Fleet::on_sqlite(&["central", "edge"]);
    let server = fleet.serve();
    let a = issue(&fleet, &server, 0, "a").await;
    let b = issue(&fleet, &server, 0, "b").await;
    let e = issue(&fleet, &server, 1, "e").await;
    let key = pki::crypto::hex(&a.public_key().unwrap().digest());
    let all = |choice: &[&str], certificates: &[&Certificate]| {
        let said = preview(&fleet, choice);
        assert_eq!(count(&said), certificates.len(), "{choice:?}: {said}");
        for certificate in certificates {
            let serial = certificate.serial().to_string();
            assert!(said.contains(&serial), "{choice:?}: {said}");
        }
        said
    };
    all(&["--key", &key], &[&a]);
    let said = all(&["--cluster", "central"], &[&a, &b]);
    assert!(
        said.contains("left out: ") && said.contains("--serial alone"),
        "the server's own are not among them: {said}"
    );
    all(&["--authority", "edge-1"], &[&e]);
    all(&["--spiffe-id", "spiffe://cluster.local/ns/ns/sa/b"], &[&b]);
    let (past, future) = (
        tests::now().minus(Ttl::hours(1)).to_string(),
        tests::now().plus(Ttl::hours(1)).to_string(),
    );
    let window = |from: &str, to: &str, certificates: &[&Certificate]| {
        let choice = [
            "--cluster",
            "edge",
            "--issued-from",
            from,
            "--issued-to",
            to,
        ];
        all(&choice, certificates)
    };
    window(&past, &future, &[&e]);
    let long_ago = tests::now().minus(Ttl::hours(2)).to_string();
    window(&long_ago, &past, &[]);
    // The server answers by these names, and its own certificate is meant by its serial number alone.
    for name in ["localhost", "LocalHost"] {
        let said = all(&["--dns", name], &[]);
        assert!(said.contains("left out: "), "{said}");
    }
    assert!(crl(&server, "central-1").revoked().is_empty());

    let refused = |choice: &[&str], why: &str| {
        let said = say(&fleet, &[&["revoke", "--dry-run"], choice].concat());
        assert!(!said.status.success(), "{choice:?}: {}", text(&said));
        assert!(text(&said).contains(why), "{choice:?}: {}", text(&said));
    };
    refused(&["--cluster", "centrall"], "there is no cluster centrall");
    refused(&["--authority", "central-7"], "there is no authority");
    refused(&["--spiffe-id", "http://x"], "spiffe");
    refused(&["--dns", "a..b"], "DNS name");
    refused(
        &[
            "--cluster",
            "edge",
            "--issued-from",
            &future,
            "--issued-to",
            &past,
        ],
        "no time is from",
    );
    refused(&[], "name what to revoke");

    let act = |more: &[&str]| {
        let serial = a.serial().to_string();
        say(
            &fleet,
            &[&["revoke", "--serial", &serial, "--yes"], more].concat(),
        )
    };
    assert!(text(&act(&[])).contains("--reason"), "it takes a reason");
    for (reason, why) in [
        ("aACompromise", "attribute certificates"),
        ("cACompromise", "authority revoke"),
        ("certificateHold", "ca-server hold"),
        ("removeFromCRL", "ca-server lift"),
        (
            "boredom",
            "expected unspecified, keyCompromise, affiliationChanged",
        ),
    ] {
        let said = act(&["--reason", reason]);
        assert!(
            !said.status.success() && text(&said).contains(why),
            "{}",
            text(&said)
        );
    }
    // A whole cluster, and a reader that closed its end: what was asked for is done all the same.
    let mut child = fleet
        .ca_server(&[
            "revoke",
            "--cluster",
            "central",
            "--reason",
            "superseded",
            "--yes",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended));
    wait_until("both on the list", || {
        let list = crl(&server, "central-1");
        (list.lists(&a.serial()) && list.lists(&b.serial())).then_some(())
    });
    let left = preview(&fleet, &["--cluster", "edge"]);
    assert!(!left.contains("revoked already"), "{left}");
    issue(&fleet, &server, 0, "again").await;
}

/// The certificate that the server shows.
fn shown(fleet: &Fleet, server: &Server) -> Certificate {
    let said = output(
        Command::new("openssl")
            .args(["s_client", "-connect", &server.issue.to_string(), "-CAfile"])
            .arg(fleet.path("root.pem")),
    );
    Certificate::parse_pem(&said.stdout).unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_own_certificate_is_revoked_shows_another_at_once() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    issue(&fleet, &server, 0, "a").await;
    let own = shown(&fleet, &server);
    let serial = own.serial().to_string();
    let arguments = [
        "revoke",
        "--serial",
        &serial,
        "--reason",
        "keyCompromise",
        "--yes",
    ];
    run(&mut fleet.ca_server(&arguments));
    // Its age is looked at twice a minute: this is not that.
    let began = std::time::Instant::now();
    wait_until("another", || {
        Some(shown(&fleet, &server)).filter(|shown| shown.serial() != own.serial())
    });
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
}

/// A root's CRL, changed and signed anew.
struct Forge<'a> {
    fleet: &'a Fleet,
}

impl Forge<'_> {
    fn list(&self, number: u64, this_update: Timestamp, next_update: Timestamp) -> Parts {
        let root = self.fleet.root.certificate();
        let key_id = root.extensions().subject_key_id.clone().unwrap();
        Parts {
            issuer: root.subject().to_vec(),
            this_update,
            next_update,
            extensions: vec![
                extension("2.5.29.35", false, &sequence(&[&tlv(0x80, &[&key_id])])),
                extension("2.5.29.20", false, &integer(&number.to_be_bytes())),
            ],
        }
    }

    fn write(&self, parts: &Parts) -> String {
        let der = self.fleet.root.sign_crl(&parts.tbs());
        pem::crl(&der)
    }
}

struct Parts {
    issuer: Vec<u8>,
    this_update: Timestamp,
    next_update: Timestamp,
    extensions: Vec<Vec<u8>>,
}

impl Parts {
    fn tbs(&self) -> Vec<u8> {
        let ecdsa = sequence(&[&oid("1.2.840.10045.4.3.2")]);
        let time = |time: Timestamp| {
            let text: String = time
                .to_string()
                .chars()
                .filter(char::is_ascii_digit)
                .collect();
            tlv(0x17, &[&text.as_bytes()[2..14], b"Z"])
        };
        let extensions = sequence(&[&self.extensions.concat()]);
        sequence(&[
            &integer(&[1]),
            &ecdsa,
            &self.issuer,
            &time(self.this_update),
            &time(self.next_update),
            &tlv(0xa0, &[&extensions]),
        ])
    }
}

fn extension(id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&oid(id), flag, &tlv(4, &[value])])
}

#[test]
fn a_crl_that_readers_would_refuse_is_not_taken() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let forge = Forge { fleet: &fleet };
    let file = fleet.path("try.pem");
    let import = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        output(fleet.ca_server(&["crl", "import"]).arg(&file))
    };
    let now = tests::now();
    let (ago, ends) = (now.minus(Ttl::hours(2)), now.plus(Ttl::days(100)));
    let taken = import(forge.write(&forge.list(3, ago, ends)).as_bytes());
    assert!(taken.status.success(), "{}", text(&taken));
    assert!(
        text(&taken).contains("served as /crls/ca-"),
        "{}",
        text(&taken)
    );
    let refused = |bytes: &[u8], why: &str| {
        let said = import(bytes);
        assert!(!said.status.success(), "{why}: {}", text(&said));
        let said = text(&said);
        assert!(said.contains(why), "{said}");
        for raw in ["DER", "ASN.1", "tag"] {
            assert!(!said.contains(raw), "{said}");
        }
    };
    let with = |more: Vec<u8>| {
        let mut parts = forge.list(9, now.minus(Ttl::hours(1)), ends);
        parts.extensions.push(more);
        forge.write(&parts)
    };
    let idp = extension("2.5.29.28", true, &sequence(&[&tlv(0x82, &[&[0xff]])]));
    refused(with(idp).as_bytes(), "issuing distribution point");
    let delta = extension("2.5.29.27", true, &integer(&[1]));
    refused(with(delta).as_bytes(), "it is a delta");
    let strange = extension("1.2.3.4", true, &[5, 0]);
    refused(with(strange).as_bytes(), "critical extension");
    let mut without = forge.list(9, now.minus(Ttl::hours(1)), ends);
    without.extensions.remove(0);
    refused(forge.write(&without).as_bytes(), "authority key identifier");
    let early = now.plus(Ttl::minutes(30));
    refused(
        forge.write(&forge.list(9, early, ends)).as_bytes(),
        &format!("import it again at {early}"),
    );
    let before = ago.minus(Ttl::hours(1));
    refused(
        forge.write(&forge.list(9, before, ends)).as_bytes(),
        "before number 3",
    );
    refused(
        forge
            .write(&forge.list(3, now.minus(Ttl::hours(1)), ends))
            .as_bytes(),
        "not newer than number 3",
    );
    refused(
        forge
            .write(&forge.list(9, ago, now.minus(Ttl::hours(1))))
            .as_bytes(),
        "it has expired",
    );
    refused(b"", "is empty");
    refused(b"\n", "is empty");
    refused(b"no CRL", "this is not a CRL");
    refused(fleet.root_pem().as_bytes(), "X509 CRL");
    // All or none.
    let good = forge.write(&forge.list(9, now.minus(Ttl::hours(1)), ends));
    let bad = forge.write(&forge.list(10, early, ends));
    refused(format!("{good}{bad}").as_bytes(), "nothing was imported");
    let listed = run(&mut fleet.ca_server(&["crl", "list"]));
    assert!(listed.contains("number 3 "), "{listed}");
    let soon = forge.list(9, now.minus(Ttl::hours(1)), now.plus(Ttl::days(59)));
    let said = import(forge.write(&soon).as_bytes());
    assert!(text(&said).contains("less than 60 days"), "{}", text(&said));
}

#[tokio::test]
async fn an_offline_cas_list_is_asked_for_sixty_days_before_its_end_and_daily() {
    let fleet = Fleet::on_sqlite(&["central"]);
    fleet.import_root_crl(1, &[]);
    let inside = Inside::of(&fleet).await;
    let asked = || {
        let now = inside.app.context().clock.trusted_now().unwrap();
        inside.app.ending_root_crls(now).len()
    };
    assert_eq!(asked(), 0);
    inside.clock.advance(341 * 86_400);
    assert_eq!((asked(), asked()), (1, 0), "not every hour");
    inside.clock.advance(86_400);
    assert_eq!(asked(), 1, "but every day");
    let ends = inside.metrics("signet_crl_next_update_timestamp_seconds{authority=\"ca-");
    let root = &inside.app.snapshot().root_crls;
    let row = root.values().next().unwrap();
    assert!(
        ends.concat()
            .ends_with(&format!(" {}", row.next_update.unix())),
        "{ends:?}"
    );
    for metric in [
        "signet_crl_number",
        "signet_crl_entries",
        "signet_crl_bytes",
    ] {
        let line = inside.metrics(&format!("{metric}{{authority=\"central-1\"}}"));
        assert_eq!(line.len(), 1, "{metric}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_waits_until_everyone_has_its_crl() {
    let fleet = Fleet::on_sqlite(&["central"]);
    std::fs::write(
        fleet.path("edge.toml"),
        "name = \"edge\"\ntrust_domain = \"cluster.local\"\n",
    )
    .unwrap();
    run(fleet
        .ca_server(&["cluster", "apply"])
        .arg(fleet.path("edge.toml")));
    let request = fleet.path("edge.csr.pem");
    run(fleet
        .ca_server(&["authority", "request", "edge", "--out"])
        .arg(&request));
    let chain = fleet.path("edge.chain.pem");
    let signed = fleet
        .root
        .sign(&std::fs::read(&request).unwrap(), Ttl::days(365));
    std::fs::write(&chain, signed).unwrap();
    let said = run(fleet
        .ca_server(&["authority", "import", "edge-1"])
        .arg(&chain));
    assert!(said.contains("published "), "{said}");
    assert!(said.contains("authorities.publish_for"), "{said}");
    let inside = Inside::of(&fleet).await;
    let state = || async {
        let id = pki::name::AuthorityId::parse("edge-1").unwrap();
        let row = ca_server::app::authority::find(inside.app.context(), &id).await;
        row.unwrap().state.to_string()
    };
    inside.clock.advance(100);
    inside.turn().await;
    assert_eq!(state().await, "published");
    inside.clock.advance(60);
    inside.turn().await;
    assert_eq!(
        state().await,
        "active",
        "by itself, once it was published for two minutes"
    );
    // The next one waits too when its predecessor is revoked, unless someone says otherwise.
    let id = fleet.add_authority("edge", Ttl::days(365));
    let said = run(&mut fleet.ca_server(&[
        "authority",
        "revoke",
        "edge-1",
        "--reason",
        "cACompromise",
        "--yes",
    ]));
    assert!(said.contains("ca-server authority activate"), "{said}");
    let said = run(&mut fleet.ca_server(&["authority", "activate", &id]));
    assert!(said.contains("would have waited until"), "{said}");
    assert!(said.contains("active"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retiring_authority_still_publishes_a_revocation() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let old = issue(&fleet, &server, 0, "old").await;
    fleet.add_authority("central", Ttl::days(365));
    run(&mut fleet.ca_server(&["authority", "activate", "central-2"]));
    let shown = run(&mut fleet.ca_server(&["authority", "list"]));
    assert!(shown.contains("retiring"), "{shown}");
    let serial = old.serial().to_string();
    let arguments = [
        "revoke",
        "--serial",
        &serial,
        "--reason",
        "superseded",
        "--yes",
    ];
    run(&mut fleet.ca_server(&arguments));
    wait_until("the revocation", || {
        crl(&server, "central-1").lists(&old.serial()).then_some(())
    });
    assert_eq!(
        get(server.public, "/crls/central-2.crl").unwrap().status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_renews_under_a_revoked_authority_is_told_so() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    std::fs::write(fleet.path("root.pem"), fleet.root_pem()).unwrap();
    let token = fleet.enrolment_token("central", "spiffe://cluster.local/ns/default/sa/web");
    std::fs::write(fleet.path("token"), token).unwrap();
    let ca = |arguments: &[&str]| {
        let mut command = Command::new(program("ca"));
        command.current_dir(fleet.directory()).args(arguments);
        command
    };
    let url = server.url();
    run(&mut ca(&[
        "enroll",
        "--server",
        &url,
        "--roots",
        "root.pem",
        "--dir",
        "web",
        "--enrolment-token-file",
        "token",
    ]));
    run(&mut ca(&["renew", "--dir", "web"]));
    let reason = ["--reason", "keyCompromise", "--yes"];
    run(fleet
        .ca_server(&["authority", "revoke", "central-1"])
        .args(reason));
    wait_until("a refusal that says why", || {
        let said = output(&mut ca(&["renew", "--dir", "web"]));
        (!said.status.success() && text(&said).contains("authority-revoked")).then_some(())
    });
}
