//! What a ceremony refuses, each with its words, and nothing is left behind.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use std::os::unix::fs::symlink;

use common::{CREATE_ROOT, CRL, Folder, PASSPHRASE, SIGN, told};
use hsm::Signer;
use pki::time::{Timestamp, Ttl};

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let folder = Folder::with_root();
    for (passphrase, why) in [
        (
            "another passphrase",
            "does not open: a wrong passphrase, or changed bytes",
        ),
        ("", "a passphrase has 12 to 1024 bytes"),
        (&"x".repeat(2000), "a passphrase has 12 to 1024 bytes"),
    ] {
        folder.write("wrong", passphrase);
        folder.refused(SIGN, &["--passphrase-file", "wrong"], why);
    }
}

#[test]
fn a_new_key_is_not_made_under_a_short_passphrase() {
    let folder = Folder::new();
    folder.write("pass", "short");
    folder.refused(CREATE_ROOT, &[], "a passphrase has 12 to 1024 bytes");
}

#[test]
fn a_key_of_another_root_is_refused() {
    let folder = Folder::with_root();
    let other = Folder::with_root();
    folder.write("root.key", other.read("root.key"));
    folder.refused(
        SIGN,
        &[],
        "root.key is not the key of root.pem; nothing was signed",
    );
}

#[test]
fn nothing_is_overwritten() {
    let folder = Folder::with_root();
    let key = folder.read("root.key");
    let why = "root.pem, root.crl.pem, root.key: exists already";
    folder.refused(CREATE_ROOT, &[], why);
    assert_eq!(folder.read("root.key"), key);
    symlink("nowhere", folder.path("edge.pem")).unwrap();
    folder.refused(
        SIGN,
        &[],
        "edge.pem: exists already, and nothing is overwritten",
    );
    std::fs::remove_file(folder.path("edge.pem")).unwrap();

    folder.write("refused.transcript", "");
    folder.refused(SIGN, &[], "refused.transcript: exists already");
    std::fs::remove_file(folder.path("refused.transcript")).unwrap();
    folder.write("plan.toml", SIGN);
    let output = folder.ca_root(
        &["run", "plan.toml", "--transcript", "edge.pem", "--yes"],
        "",
    );
    assert!(told(&output).contains("the transcript cannot go into a file that the plan writes"));
}

#[test]
fn a_ceremony_that_was_cut_off_stops_the_next_one() {
    let folder = Folder::new();
    folder.write("refused.transcript.unfinished", "root.key");
    folder.refused(CREATE_ROOT, &[], "an earlier ceremony was cut off");
}

#[test]
fn files_that_cannot_be_written_leave_a_note_that_names_them() {
    let folder = Folder::new();
    // The transcript's folder is not there, so that the note cannot be written either: nothing is.
    folder.write("plan.toml", CREATE_ROOT);
    let arguments = [
        "run",
        "plan.toml",
        "--transcript",
        "none/t",
        "--yes",
        "--passphrase-file",
        "pass",
    ];
    let output = folder.ca_root(&arguments, "");
    assert_eq!(output.status.code(), Some(1));
    assert!(!folder.has("root.key"), "{}", told(&output));
    // The plan's folder is not there: the note is, and it tells.
    let arguments = [
        "run",
        "plan.toml",
        "--transcript",
        "t",
        "--yes",
        "--passphrase-file",
        "pass",
        "--dir",
        "none",
    ];
    let output = folder.ca_root(&arguments, "");
    assert!(
        told(&output).contains("t.unfinished names them"),
        "{}",
        told(&output)
    );
    assert!(folder.read("t.unfinished").contains("root.key"));
}

#[test]
fn links_pipes_and_paths_are_not_followed() {
    let folder = Folder::with_root();
    std::fs::rename(folder.path("edge.csr"), folder.path("real.csr")).unwrap();
    symlink("real.csr", folder.path("edge.csr")).unwrap();
    folder.refused(SIGN, &[], "edge.csr: is a symbolic link");
    std::fs::remove_file(folder.path("edge.csr")).unwrap();
    folder.refused(SIGN, &[], "edge.csr: is not there");
    std::fs::create_dir(folder.path("edge.csr")).unwrap();
    folder.refused(SIGN, &[], "edge.csr: is not a regular file");
    for path in ["../edge.csr", "/tmp/edge.csr", "a/edge.csr"] {
        let plan = SIGN.replace("edge.csr", path);
        folder.refused(
            &plan,
            &[],
            "intermediate[0].request: not the plain name of a file",
        );
    }
}

#[test]
fn all_faults_of_a_plan_are_told() {
    let folder = Folder::new();
    let plan = CREATE_ROOT
        .replace("P-256", "RSA")
        .replace("10y", "99d9")
        .replace("root.crl.pem", "..");
    folder.refused(
        &plan,
        &[],
        "root.algorithm: expected P-256 or P-384\nroot.life: ",
    );
    folder.refused(&plan, &[], "\noutputs.crl: not the plain name");
    folder.refused(
        &format!("{CREATE_ROOT}\u{1b}[2J"),
        &[],
        "plan: TOML parse error",
    );
}

#[test]
fn a_request_that_proves_nothing_is_refused() {
    let folder = Folder::with_root();
    let der = pki::pem::read_request(folder.read("edge.csr").as_bytes()).unwrap();
    let mut forged = der.clone();
    let at = forged.windows(4).position(|w| w == b"Edge").unwrap();
    forged[at..at + 4].copy_from_slice(b"Core");
    folder.write("edge.csr", pki::pem::request(&forged));
    folder.refused(
        SIGN,
        &[],
        "edge.csr: the request's signature does not prove possession",
    );
    folder.write("edge.csr", "rubbish");
    folder.refused(SIGN, &[], "edge.csr: expected one PEM block");
}

#[test]
fn a_key_that_is_another_authoritys_is_refused() {
    let folder = Folder::with_root();
    folder.done("sign", SIGN);
    let again = SIGN
        .replace("edge.pem", "edge-2.pem")
        .replace("life", "name = \"G2\"\nlife");
    let known = again.replace("ceremony =", "known = [\"edge.pem\"]\nceremony =");
    folder.refused(
        &known,
        &[],
        "its key is another authority's already (edge.pem)",
    );
    let why = "its key is another authority's already (edge.pem, in sign.transcript)";
    folder.refused(&again, &["--known", "sign.transcript"], why);

    let root = hsm::key_file::open(&folder.path("root.key"), PASSPHRASE.as_bytes()).unwrap();
    folder.request_of(&root, "edge.csr", "Test Edge G9");
    folder.refused(
        &again,
        &[],
        "its key is another authority's already (root.pem, the root itself)",
    );

    let twice = format!(
        "{again}\n[[intermediate]]\nrequest = \"edge.csr\"\nprofile = \"subordinate-ca\"\nname = \"G3\"\nout = \"e3.pem\"\n"
    );
    folder.request("edge.csr", "x");
    folder.refused(
        &twice,
        &[],
        "its key is another authority's already (edge.csr, in this plan)",
    );
}

#[test]
fn a_name_is_one_generations_alone() {
    let folder = Folder::with_root();
    folder.done("sign", SIGN);
    folder.request("edge.csr", "Test Edge G1");
    let again = SIGN.replace("edge.pem", "edge-2.pem");
    folder.refused(
        &again,
        &["--known", "sign.transcript"],
        "each generation has its own",
    );
    let as_root = again.replace(
        "life",
        "name = \"Test Root 1\"\norganization = \"Test\"\nlife",
    );
    folder.refused(&as_root, &[], "each generation has its own");
}

#[test]
fn a_key_other_than_the_one_that_was_read_out_is_refused() {
    let folder = Folder::with_root();
    let signer = folder.request("edge.csr", "Test Edge G1");
    let digest = pki::crypto::hex(&signer.public_key().digest());
    let pinned = SIGN.replace("life", &format!("key_sha256 = \"{digest}\"\nlife"));
    folder.request("edge.csr", "Test Edge G1");
    folder.refused(&pinned, &[], "edge.csr: its key's SHA-256 is ");
    folder.request_of(&signer, "edge.csr", "Test Edge G1");
    folder.done("sign", &pinned);
}

#[test]
fn a_transcript_of_another_root_teaches_nothing() {
    let folder = Folder::with_root();
    let other = Folder::with_root();
    folder.write("other.transcript", other.read("create-root.transcript"));
    let why = "is not a transcript of this root, unchanged";
    folder.refused(SIGN, &["--known", "other.transcript"], why);
}

#[test]
fn nothing_outlives_its_root() {
    let folder = Folder::new();
    folder.done("create-root", &CREATE_ROOT.replace("10y", "450d"));
    folder.request("edge.csr", "Test Edge G1");
    let plan = SIGN.replace("1y", "2y");
    folder.refused(&plan, &[], "intermediate[0]: the certificate would end at");
    let plan = CRL.replace(
        "[[revoke]]\ncertificate = \"edge.pem\"\nreason = \"superseded\"",
        "",
    );
    let plan = plan.replace("number =", "life = \"460d\"\nnumber =");
    folder.refused(&plan, &[], "the root ends at");
}

#[test]
fn an_expired_root_signs_nothing() {
    let folder = Folder::new();
    folder.foreign_root(Timestamp::from_unix(1_000_000_000), Ttl::days(365));
    folder.request("edge.csr", "Test Edge G1");
    folder.refused(SIGN, &[], "root.pem: the root is valid from 2001-09-09");
}

#[test]
fn a_crl_keeps_what_the_one_before_it_revoked_and_goes_up() {
    let folder = Folder::with_root();
    folder.done("sign", SIGN);
    folder.done("crl", CRL);
    let next = CRL
        .replace("root-2.crl", "root-3.crl")
        .replace("\"root.crl", "\"root-2.crl");
    let empty = next.replace(
        "[[revoke]]\ncertificate = \"edge.pem\"\nreason = \"superseded\"",
        "",
    );
    folder.refused(&empty, &[], "which root-2.crl.pem revokes, is missing");
    let low = next.replace("\"next\"", "2");
    folder.refused(&low, &[], "crl.number: 2 is not greater than 2");
    let future = format!("{next}at = 2099-01-01T00:00:00Z\n");
    folder.refused(
        &future,
        &[],
        "revoke[0].at: 2099-01-01T00:00:00Z is not between",
    );
    let own = next.replace("edge.pem", "root.pem");
    folder.refused(&own, &[], "revoke[0]: is the root itself");
    let twice = format!("{next}[[revoke]]\ncertificate = \"edge.pem\"\nreason = \"unspecified\"\n");
    folder.refused(&twice, &[], "revoke[1]: is revoked twice");
    let other = Folder::with_root();
    folder.write("other.pem", other.read("root.pem"));
    let foreign = next.replace("edge.pem", "other.pem");
    folder.refused(&foreign, &[], "other.pem: is not signed by this root");
    folder.done("crl-3", &next);
}
