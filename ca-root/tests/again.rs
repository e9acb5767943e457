//! What has a certificate is signed again: a new root by the old one, an intermediate for the key that it has.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use common::{CREATE_ROOT, CRL, Folder, SIGN, told};
use hsm::Signer;
use pki::certificate::Certificate;
use pki::time::{Timestamp, Ttl};

const CROSS: &str = r#"
version = 1
ceremony = "cross-sign"
[root]
certificate = "root.pem"
key = "root.key"
crl_url = "http://pki.test/root.crl"
[cross]
certificate = "new-root.pem"
life = "3y"
out = "new-by-old.pem"
"#;

const REISSUE: &str = r#"
version = 1
ceremony = "reissue-intermediate"
[root]
certificate = "root.pem"
key = "root.key"
crl = "root.crl.pem"
[[reissue]]
certificate = "edge.pem"
request = "edge.csr"
profile = "cluster-intermediate"
life = "2y"
out = "edge-b.pem"
"#;

fn certificate(folder: &Folder, name: &str) -> Certificate {
    Certificate::parse_pem(folder.read(name).as_bytes())
        .unwrap()
        .remove(0)
}

/// A folder with an old root and, from a ceremony elsewhere, a new one.
fn two_roots() -> (Folder, Folder) {
    let (old, new) = (Folder::with_root(), Folder::new());
    new.done("create-root", &CREATE_ROOT.replace("Root 1", "Root 2"));
    old.write("new-root.pem", new.read("root.pem"));
    (old, new)
}

#[test]
fn who_believes_in_the_old_root_believes_in_what_the_new_one_signed() {
    let (old, new) = two_roots();
    let said = old.done("cross", CROSS);
    assert!(
        said.contains("sign the new root of new-root.pem with the old root's key"),
        "{said}"
    );
    assert!(
        said.contains("CAs below it, 2 deep (path length 2)"),
        "{said}"
    );
    old.verified("cross.transcript");
    let (cross, own) = (
        certificate(&old, "new-by-old.pem"),
        certificate(&old, "new-root.pem"),
    );
    assert_eq!(cross.subject(), own.subject());
    assert_eq!(cross.spki(), own.spki());
    assert_eq!(cross.issuer(), certificate(&old, "root.pem").subject());
    assert_ne!(cross.serial(), own.serial());

    new.request("fleet.csr", "Fleet G1");
    let fleet = SIGN
        .replace("cluster-intermediate", "fleet-intermediate")
        .replace("edge.", "fleet.");
    new.done("fleet", &fleet);
    old.write("fleet.pem", new.read("fleet.pem"));
    let chain = [
        "verify",
        "-x509_strict",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "new-by-old.pem",
        "fleet.pem",
    ];
    let output = old.openssl(&chain);
    assert!(output.status.success(), "{}", told(&output));
    let without = ["verify", "-x509_strict", "-CAfile", "root.pem", "fleet.pem"];
    assert!(!old.openssl(&without).status.success());
    // And by itself, for who has the new one.
    let own = [
        "verify",
        "-x509_strict",
        "-CAfile",
        "new-root.pem",
        "fleet.pem",
    ];
    assert!(old.openssl(&own).status.success());
}

#[test]
fn a_new_root_that_is_none_or_would_be_outlived_is_not_cross_signed() {
    let (old, new) = two_roots();
    let refused = |from: &str, to: &str, why: &str| {
        let plan = CROSS.replace(from, to);
        assert_ne!(plan, CROSS);
        old.refused(&plan, &[], why);
    };
    refused("\"3y\"", "\"11y\"", "cross.life: 11y is longer than 10y");
    refused(
        "life =",
        "path_len = 4\nlife =",
        "cross.path_len: expected 0 to 3",
    );
    refused(
        "life =",
        &format!("key_sha256 = \"{}\"\nlife =", "00".repeat(32)),
        "new-root.pem: its key's SHA-256 is ",
    );
    old.write("edge.pem", {
        old.done("sign", SIGN);
        old.read("edge.pem")
    });
    refused(
        "new-root.pem",
        "edge.pem",
        "edge.pem: certificate 0 of the chain is not signed by the next one",
    );
    // Itself, under another file's name.
    old.write("self.pem", old.read("root.pem"));
    refused(
        "new-root.pem",
        "self.pem",
        "self.pem: has the key or the name of root.pem",
    );
    let short = Folder::new();
    short.done(
        "create-root",
        &CREATE_ROOT
            .replace("10y", "420d")
            .replace("Root 1", "Root 3"),
    );
    old.write("short.pem", short.read("root.pem"));
    refused(
        "new-root.pem",
        "short.pem",
        "cross.life: the certificate would end at",
    );
    let mut plan = CROSS
        .replace("root.pem", "old.pem")
        .replace("root.key", "old.key");
    plan = plan.replace("new-old.pem", "new-root.pem");
    old.write("old.pem", short.read("root.pem"));
    old.write("old.key", short.read("root.key"));
    old.refused(&plan, &[], "after its issuer, which ends at");
    let foreign = Folder::new();
    foreign.foreign_root(Timestamp::from_unix(1_000_000_000), Ttl::days(365));
    old.write("past.pem", foreign.read("root.pem"));
    refused("new-root.pem", "past.pem", "past.pem: is valid from 2001");
    drop(new);
}

#[test]
fn an_intermediate_is_signed_again_for_the_same_key_and_both_hold() {
    let folder = Folder::with_root();
    folder.done("sign", SIGN);
    let said = folder.done("again", REISSUE);
    assert!(
        said.contains(
            "sign an intermediate's certificate (cluster-intermediate) again, as in edge.pem"
        ),
        "{said}"
    );
    assert!(said.contains("  before      edge.pem, serial 01"), "{said}");
    assert!(!said.contains("revoked?"), "{said}");
    folder.verified("again.transcript");
    let (before, after) = (
        certificate(&folder, "edge.pem"),
        certificate(&folder, "edge-b.pem"),
    );
    assert_eq!(
        (before.subject(), before.spki()),
        (after.subject(), after.spki())
    );
    assert_eq!(
        before.extensions().subject_key_id,
        after.extensions().subject_key_id
    );
    assert_ne!(before.serial(), after.serial());
    assert!(after.not_after() > before.not_after());
    for file in ["edge.pem", "edge-b.pem"] {
        let output = folder.openssl(&["verify", "-x509_strict", "-CAfile", "root.pem", file]);
        assert!(output.status.success(), "{}", told(&output));
    }
    let unasked = REISSUE
        .replace("crl = \"root.crl.pem\"\n", "")
        .replace("request = \"edge.csr\"\n", "")
        .replace("edge-b", "edge-c");
    let said = folder.done("unasked", &unasked);
    assert!(said.contains("revoked?    root.crl is not given"), "{said}");
    folder.verified("unasked.transcript");
}

#[test]
fn a_changed_key_a_revoked_or_a_foreign_intermediate_is_not_signed_again() {
    let folder = Folder::with_root();
    folder.done("sign", SIGN);
    let first = folder.read("edge.csr");
    let other = folder.request("edge.csr", "Test Edge G1");
    let why = "edge.csr: its key is another than that of edge.pem";
    folder.refused(REISSUE, &[], why);
    folder.write("edge.csr", first);
    let digest = pki::crypto::hex(&other.public_key().digest());
    let pinned = REISSUE.replace("life", &format!("key_sha256 = \"{digest}\"\nlife"));
    folder.refused(&pinned, &[], "edge.pem: its key's SHA-256 is ");
    let fleet = REISSUE.replace("cluster-intermediate", "fleet-intermediate");
    folder.refused(
        &fleet,
        &[],
        "edge.pem: its path length is not one of profile",
    );
    let second = REISSUE.split("[[reissue]]").nth(1).unwrap();
    let twice = format!("{REISSUE}[[reissue]]{}", second.replace("edge-b", "edge-c"));
    folder.refused(
        &twice,
        &[],
        "edge.pem: has a key that this plan or the root has already",
    );

    folder.done("crl", CRL);
    let revoked = REISSUE.replace("root.crl.pem", "root-2.crl.pem");
    folder.refused(&revoked, &[], "edge.pem: is revoked, by root-2.crl.pem");
    let elsewhere = Folder::with_root();
    elsewhere.done("sign", SIGN);
    folder.write("foreign.pem", elsewhere.read("edge.pem"));
    let foreign = REISSUE.replace("\"edge.pem\"", "\"foreign.pem\"");
    folder.refused(
        &foreign,
        &[],
        "foreign.pem: is not an intermediate that this root signed",
    );
    let itself = REISSUE.replace("\"edge.pem\"", "\"root.pem\"");
    folder.refused(&itself, &[], "root.pem: ");
    folder.write("theirs.crl.pem", elsewhere.read("root.crl.pem"));
    let theirs = REISSUE.replace("root.crl.pem", "theirs.crl.pem");
    folder.refused(&theirs, &[], "theirs.crl.pem: is not signed by this root");
}

#[test]
fn another_certificate_in_the_place_of_the_one_that_was_made_is_named() {
    let folder = Folder::with_root();
    folder.done("sign", SIGN);
    folder.done("again", REISSUE);
    let before = folder.read("edge-b.pem");
    folder.write("edge-b.pem", folder.read("edge.pem"));
    folder.differs(
        "again.transcript",
        "edge-b.pem: was changed after the ceremony wrote it",
    );
    folder.write("edge-b.pem", before);
    folder.write("edge.pem", folder.read("edge-b.pem"));
    folder.differs(
        "again.transcript",
        "edge.pem: was changed after the ceremony read it",
    );
}
