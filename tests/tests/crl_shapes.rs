//! Shards, deltas and certificates without revocation: what an operator may choose, and what OpenSSL makes of it.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;

use pki::crl::{Crl, Reason};
use pki::time::Ttl;
use tests::fleet::{Fleet, Server};
use tests::http::get;
use tests::istio::wait_until;
use tests::process::{output, run};
use tests::status::{crl, crl_after, issue};

const URL: &str = "http://ca.example";

/// A fleet whose workloads' certificates say where their CRL is, with a second authority of that shape in force.
fn fleet(shape: &[&str]) -> Fleet {
    let fleet = Fleet::on_sqlite(&["central"]);
    fleet.configure(&format!(
        "[public]\nurl = \"{URL}\"\n[public.urls]\nworkload = [\"crl\"]\n"
    ));
    fleet.add_authority_with("central", Ttl::days(365), shape);
    run(&mut fleet.ca_server(&["authority", "activate", "central-2"]));
    fleet
}

/// A part of the CRL, once it is of this number.
fn part(server: &Server, part: &str, number: u64) -> Crl {
    wait_until("the part of that number", || {
        let answer = get(server.public, &format!("/crls/central-2/{part}.crl")).ok()?;
        let crl = Crl::parse(&answer.body).ok()?;
        (crl.number() >= Some(number)).then_some(crl)
    })
}

fn revoke(fleet: &Fleet, act: &str, serial: &str) {
    let mut command = fleet.ca_server(&[act, "--serial", serial, "--yes"]);
    if act == "revoke" {
        command.args(["--reason", "superseded"]);
    }
    run(&mut command);
}

/// What `openssl verify -crl_check` says of a leaf with these CRLs at hand.
fn verify(fleet: &Fleet, account: &str, crls: &[&Crl], more: &[&str]) -> String {
    let file = fleet.path("crls.pem");
    let pem: String = crls.iter().map(|crl| crl.to_pem()).collect();
    std::fs::write(&file, pem).unwrap();
    let path = |name: &str| -> PathBuf { fleet.path(name) };
    let said = output(
        Command::new("openssl")
            .args(["verify", "-x509_strict", "-crl_check", "-extended_crl"])
            .args(more)
            .args([Path::new("-CAfile"), &path("root.pem")])
            .args([Path::new("-untrusted"), &path("issuer.pem")])
            .args([Path::new("-CRLfile"), &file])
            .arg(path(&format!("{account}.pem"))),
    );
    format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_listed_in_the_shard_that_it_names() {
    let fleet = fleet(&["--crl-shards", "2"]);
    let server = fleet.serve();
    let (mut good, mut bad) = (None, None);
    let shard_of = |text: &str| {
        let shards = [0, 1].map(|n| format!("{URL}/crls/central-2/shard-{n}.crl"));
        shards.iter().position(|url| text.contains(url)).unwrap()
    };
    // Which shard a certificate falls into is chance.
    for n in 0.. {
        let account = format!("a{n}");
        let leaf = issue(&fleet, &server, 0, &account).await;
        let described = pki::describe::certificate(&leaf, tests::now()).to_string();
        match shard_of(&described) {
            0 => good = Some((account, leaf)),
            _ => bad = Some((account, leaf)),
        }
        if good.is_some() && bad.is_some() {
            break;
        }
    }
    let ((good, _), (bad, leaf)) = (good.unwrap(), bad.unwrap());
    revoke(&fleet, "revoke", &leaf.serial().to_string());
    let complete = wait_until("the revocation", || {
        Some(crl(&server, "central-2")).filter(|crl| crl.lists(&leaf.serial()))
    });
    let number = complete.number().unwrap();
    let shards = [0, 1].map(|n| part(&server, &format!("shard-{n}"), number));
    assert!(complete.is_complete() && !shards[0].is_complete());
    assert_eq!(
        (
            shards[0].lists(&leaf.serial()),
            shards[1].lists(&leaf.serial())
        ),
        (false, true)
    );
    assert_eq!(
        shards[1].distribution_point(),
        Some(format!("{URL}/crls/central-2/shard-1.crl").as_str())
    );
    let both = [&shards[0], &shards[1]];
    assert!(verify(&fleet, &good, &both, &[]).contains(": OK"));
    assert!(verify(&fleet, &bad, &both, &[]).contains("certificate revoked"));
    // The other shard says nothing of it, and OpenSSL knows.
    let said = verify(&fleet, &bad, &both[..1], &[]);
    assert!(
        said.to_lowercase().contains("different crl scope"),
        "{said}"
    );
    assert!(verify(&fleet, &good, &[&complete], &[]).contains(": OK"));
    assert!(verify(&fleet, &bad, &[&complete], &[]).contains("certificate revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_keep_the_url_that_their_certificates_carry() {
    let fleet = fleet(&["--crl-shards", "2"]);
    let mut server = fleet.serve();
    let leaf = issue(&fleet, &server, 0, "a").await;
    assert!(server.process().terminate());
    let file = fleet.path("ca-server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(URL, "http://moved.example")).unwrap();
    let server = fleet.serve();
    revoke(&fleet, "revoke", &leaf.serial().to_string());
    wait_until("the revocation", || {
        crl(&server, "central-2")
            .lists(&leaf.serial())
            .then_some(())
    });
    let shards = [0, 1].map(|n| part(&server, &format!("shard-{n}"), 2));
    assert!(shards.iter().any(|shard| shard.lists(&leaf.serial())));
    for (n, shard) in shards.iter().enumerate() {
        let url = format!("{URL}/crls/central-2/shard-{n}.crl");
        assert_eq!(shard.distribution_point(), Some(url.as_str()));
    }
    // Its next leaves name the same shards.
    let next = issue(&fleet, &server, 0, "b").await;
    let described = pki::describe::certificate(&next, tests::now()).to_string();
    assert!(
        described.contains(&format!("{URL}/crls/central-2/shard-")),
        "{described}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_says_what_has_changed_since_an_older_list() {
    let fleet = fleet(&["--crl-delta"]);
    let server = fleet.serve();
    let old = issue(&fleet, &server, 0, "old").await;
    let held = issue(&fleet, &server, 0, "held").await;
    let new = issue(&fleet, &server, 0, "new").await;
    // There from the start.
    let first = part(&server, "delta", 2);
    assert_eq!((first.delta_base(), first.revoked().len()), (Some(1), 0));
    let before = crl(&server, "central-2");
    revoke(&fleet, "hold", &held.serial().to_string());
    let base = crl_after(&server, "central-2", before.number().unwrap());
    revoke(&fleet, "revoke", &new.serial().to_string());
    let next = crl_after(&server, "central-2", base.number().unwrap());
    let delta = part(&server, "delta", next.number().unwrap());
    assert!(delta.lists(&new.serial()) && !delta.lists(&old.serial()));
    assert!(
        verify(&fleet, "new", &[&base], &[]).contains(": OK"),
        "the older list alone"
    );
    let both = [&base, &delta];
    let deltas = ["-use_deltas"];
    assert!(verify(&fleet, "new", &both, &deltas).contains("certificate revoked"));
    assert!(verify(&fleet, "old", &both, &deltas).contains(": OK"));
    assert!(verify(&fleet, "held", &both, &deltas).contains("certificate revoked"));

    revoke(&fleet, "lift", &held.serial().to_string());
    let lifted = part(&server, "delta", delta.number().unwrap() + 1);
    let entry = lifted
        .revoked()
        .iter()
        .find(|entry| entry.serial == held.serial());
    assert_eq!(entry.unwrap().reason, Reason::RemoveFromCrl);
    let both = [&base, &lifted];
    assert!(verify(&fleet, "held", &both, &deltas).contains(": OK"));
    assert!(verify(&fleet, "new", &both, &deltas).contains("certificate revoked"));
}

#[test]
fn a_shape_that_readers_could_not_find_or_use_is_refused() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let refused = |shape: &[&str]| {
        let request = fleet.path("never.pem");
        let said = output(
            fleet
                .ca_server(&["authority", "request", "central"])
                .args(shape)
                .arg("--out")
                .arg(&request),
        );
        assert!(!said.status.success() && !request.exists(), "{shape:?}");
        String::from_utf8_lossy(&said.stderr).into_owned()
    };
    assert!(refused(&["--crl-shards", "2"]).contains("public.url"));
    assert!(refused(&["--crl-delta"]).contains("public.url"));
    assert!(refused(&["--crl-shards", "1"]).contains("2 to 256"));
    assert!(refused(&["--crl-shards", "300"]).contains("2 to 256"));
    assert!(refused(&["--crl-shards", "2", "--crl-delta"]).contains("do not go together"));
    let help = output(&mut fleet.ca_server(&["authority", "request", "--help"]));
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for reader in ["Envoy", "Go", "OpenSSL", "rustls-webpki", "Java"] {
        assert!(help.contains(reader), "{help}");
    }
}
