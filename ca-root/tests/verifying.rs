//! Checking a ceremony afterwards names what was changed.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use common::{CRL, Folder, PASSPHRASE, SIGN, told};
use hsm::{Signer, SoftwareSigner, key_file};
use pki::ceremony::{FileName, Output, Plan, PlanRecord, SignedTranscript};
use pki::certificate::{AuthorityRequest, Certificate, Issuer, Urls, prepare_authority};
use pki::csr::VerifiedCsr;
use pki::key::{KeyAlgorithm, PublicKey};
use pki::name::DistinguishedName;
use pki::profile::Profile;
use pki::time::Ttl;

fn signed() -> Folder {
    let folder = Folder::with_root();
    folder.done("sign", SIGN);
    folder
}

#[track_caller]
fn differs(folder: &Folder, transcript: &str, why: &str) {
    let output = folder.ca_root(&["verify", transcript], "");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains(why),
        "{why:?} is not in:\n{}",
        told(&output)
    );
    assert!(!told(&output).contains("ok: "));
}

#[test]
fn a_changed_request_plan_or_output_is_named() {
    let folder = signed();
    for (file, why) in [
        (
            "edge.csr",
            "edge.csr: was changed after the ceremony read it",
        ),
        (
            "root.pem",
            "root.pem: was changed after the ceremony read it",
        ),
        (
            "edge.pem",
            "edge.pem: was changed after the ceremony wrote it",
        ),
        ("sign.toml", "sign.toml: is not the plan of this ceremony"),
    ] {
        let before = folder.read(file);
        folder.write(file, format!("{before}\n"));
        differs(&folder, "sign.transcript", why);
        std::fs::remove_file(folder.path(file)).unwrap();
        if file != "sign.toml" {
            differs(&folder, "sign.transcript", &format!("{file}: is not there"));
        }
        folder.write(file, before);
    }
    let output = folder.ca_root(&["verify", "sign.transcript"], "");
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn a_changed_transcript_is_named() {
    let folder = signed();
    let before = folder.read("sign.transcript");
    for (from, to) in [
        ("by-flag", "asked"),
        ("tool = \"ca-root", "tool = \"CA-root"),
        ("# signed by the root: 30", "# signed by the root: 31"),
        ("sha256 = \"", "sha256 = \"0"),
        ("serial = \"01", "serial = \"02"),
    ] {
        let changed = before.replacen(from, to, 1);
        assert_ne!(changed, before);
        folder.write("sign.transcript", changed);
        differs(&folder, "sign.transcript", "transcript");
    }
    folder.write("sign.transcript", before.replacen("by-flag", "asked", 1));
    differs(
        &folder,
        "sign.transcript",
        "transcript: was changed, or is another root's",
    );
    let unsigned = before.split("# signed").next().unwrap().to_owned();
    folder.write("sign.transcript", unsigned);
    differs(
        &folder,
        "sign.transcript",
        "does not end in the root's signature",
    );
}

#[test]
fn another_ceremonys_certificate_in_the_place_of_this_ones_is_named() {
    let folder = signed();
    folder.request("edge-2.csr", "Test Edge G2");
    let plan = SIGN
        .replace("edge.csr", "edge-2.csr")
        .replace("edge.pem", "edge-2.pem");
    folder.done("sign-2", &plan);
    folder.write("edge.pem", folder.read("edge-2.pem"));
    differs(
        &folder,
        "sign.transcript",
        "edge.pem: was changed after the ceremony wrote it",
    );
}

#[test]
fn everything_of_another_root_is_told_by_its_digest_alone() {
    let (folder, other) = (signed(), signed());
    folder.write("root.pem", other.read("root.pem"));
    differs(&folder, "sign.transcript", "root.pem: was changed");
    // A whole ceremony of another root holds in itself; the digest that is printed is another.
    let root = |folder: &Folder| {
        let output = told(&folder.ca_root(&["verify", "create-root.transcript"], ""));
        let line = output.lines().find(|line| line.contains("key's SHA-256"));
        line.map(str::to_owned)
    };
    let fresh = signed();
    assert!(root(&fresh).is_some());
    assert_ne!(root(&fresh), root(&other));
}

#[test]
fn files_may_lie_elsewhere_than_the_transcript() {
    let folder = signed();
    folder.done("crl", CRL);
    let elsewhere = Folder::new();
    elsewhere.write("t", folder.read("crl.transcript"));
    let dir = folder.path("");
    let output = elsewhere.ca_root(&["verify", "t", "--dir", dir.to_str().unwrap()], "");
    assert!(output.status.success(), "{}", told(&output));
    differs(&elsewhere, "t", "root.pem: is not there");
}

/// What a root's keeper could do who signs something else than the plan says, and a transcript that admits it.
fn forged(folder: &Folder, name: &str, life: Ttl, key: &PublicKey) -> String {
    let root = key_file::open(&folder.path("root.key"), PASSPHRASE.as_bytes()).unwrap();
    let read = |name: &str| Certificate::parse_pem(folder.read(name).as_bytes()).unwrap();
    let signed = SignedTranscript::parse(folder.read("sign.transcript").as_bytes()).unwrap();
    let mut transcript = signed.transcript().clone();
    let request = AuthorityRequest {
        profile: Profile::CLUSTER_INTERMEDIATE,
        subject: &DistinguishedName::new(None, name).unwrap(),
        key,
        path_len: Some(0),
        ttl: life,
        urls: &Urls {
            crl: Some("http://pki.test/root.crl".into()),
            ..Urls::default()
        },
        entropy: [9; 16],
        now: transcript.started,
    };
    let issuer = Issuer::from_chain(&read("root.pem")).unwrap();
    let prepared = prepare_authority(&request, &issuer).unwrap();
    let signature = root.sign(prepared.to_be_signed()).unwrap();
    let certificate = prepared.seal(&signature).unwrap();
    let pem = certificate.to_pem();
    folder.write("edge.pem", &pem);
    let file = FileName::parse("edge.pem").unwrap();
    transcript.outputs = vec![Output::certificate(&file, pem.as_bytes(), &certificate)];
    let prepared = transcript.prepare(root.public_key()).unwrap();
    let signature = root.sign(prepared.to_be_signed()).unwrap();
    prepared.seal(&signature).unwrap().to_file()
}

#[test]
fn a_certificate_other_than_the_plans_is_named_though_the_root_signed_it_and_the_transcript() {
    let folder = signed();
    let der = pki::pem::read_request(folder.read("edge.csr").as_bytes()).unwrap();
    let key = VerifiedCsr::parse(&der).unwrap().key().clone();
    let (other, _) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let year = Ttl::days(365);
    for (name, life, key, why) in [
        (
            "Test Edge G1",
            year,
            other.public_key(),
            "edge.pem: its key is not the request's",
        ),
        (
            "Test Edge G2",
            year,
            &key,
            "edge.pem: its subject is not the plan's",
        ),
        (
            "Test Edge G1",
            Ttl::days(730),
            &key,
            "edge.pem: its lifetime is not the plan's",
        ),
    ] {
        folder.write("sign.transcript", forged(&folder, name, life, key));
        differs(&folder, "sign.transcript", why);
    }
    // The same way with what the plan says holds: the ways above fail by what they change alone.
    folder.write(
        "sign.transcript",
        forged(&folder, "Test Edge G1", year, &key),
    );
    let output = folder.ca_root(&["verify", "sign.transcript"], "");
    assert!(output.status.success(), "{}", told(&output));
    // One URL less: nothing that has a message of its own, but not byte for byte the plan's.
    let plan = SIGN.replace("crl_url = \"http://pki.test/root.crl\"\n", "");
    let text = folder.read("sign.transcript");
    let mut transcript = SignedTranscript::parse(text.as_bytes())
        .unwrap()
        .transcript()
        .clone();
    transcript.plan = PlanRecord::of("sign.toml", &Plan::parse(&plan).unwrap());
    folder.write("sign.toml", plan);
    let root = key_file::open(&folder.path("root.key"), PASSPHRASE.as_bytes()).unwrap();
    let prepared = transcript.prepare(root.public_key()).unwrap();
    let signature = root.sign(prepared.to_be_signed()).unwrap();
    folder.write(
        "sign.transcript",
        prepared.seal(&signature).unwrap().to_file(),
    );
    differs(
        &folder,
        "sign.transcript",
        "edge.pem: is not what the plan and the inputs give",
    );
}
