//! The ceremonies, one after the other, as people hold them.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use common::{CREATE_ROOT, CRL, Folder, PASSPHRASE, SIGN, told};
use hsm::Signer;
use pki::certificate::Certificate;
use pki::crl::Crl;

fn certificate(folder: &Folder, name: &str) -> Certificate {
    Certificate::parse_pem(folder.read(name).as_bytes())
        .unwrap()
        .remove(0)
}

fn crl(folder: &Folder, name: &str) -> Crl {
    let ders = pki::pem::read_crls(folder.read(name).as_bytes()).unwrap();
    Crl::parse(&ders[0]).unwrap()
}

#[test]
fn a_root_signs_an_intermediate_and_a_crl_and_everything_verifies() {
    let folder = Folder::with_root();
    let signed = folder.done("sign", SIGN);
    assert!(
        signed.contains(r#"subject     CN="Test Edge G1""#),
        "{signed}"
    );
    assert!(signed.contains("no further CA below it"), "{signed}");
    assert!(
        signed.contains("CRL at      http://pki.test/root.crl"),
        "{signed}"
    );
    let issued = folder.done("crl", CRL);
    assert!(issued.contains("superseded"), "{issued}");

    let (root, edge) = (
        certificate(&folder, "root.pem"),
        certificate(&folder, "edge.pem"),
    );
    let key = root.public_key().unwrap();
    assert_eq!(edge.verify_by(&key), Ok(()));
    assert_eq!(crl(&folder, "root.crl.pem").revoked(), []);
    let crl = crl(&folder, "root-2.crl.pem");
    assert_eq!((crl.number(), crl.lists(&edge.serial())), (Some(2), true));
    assert_eq!(crl.verify_by(&key), Ok(()));

    assert_eq!(folder.mode("root.key"), 0o600);
    for public in [
        "root.pem",
        "root.crl.pem",
        "edge.pem",
        "root-2.crl.pem",
        "sign.transcript",
    ] {
        assert_eq!(folder.mode(public) & 0o600, 0o600, "{public}");
        assert_eq!(folder.mode(public) & 0o111, 0, "{public}");
    }
    for ceremony in ["create-root", "sign", "crl"] {
        assert!(!folder.has(&format!("{ceremony}.transcript.unfinished")));
        let output = folder.ca_root(&["verify", &format!("{ceremony}.transcript")], "");
        assert!(output.status.success(), "{ceremony}: {}", told(&output));
        assert!(told(&output).contains("ok: "));
    }
}

#[test]
fn openssl_accepts_what_the_ceremonies_made() {
    for algorithm in ["P-256", "P-384"] {
        let folder = Folder::new();
        folder.done("create-root", &CREATE_ROOT.replace("P-256", algorithm));
        folder.request("edge.csr", "Test Edge G1");
        let fleet = SIGN
            .replace("cluster-intermediate", "fleet-intermediate")
            .replace("life = \"1y\"", "life = \"3y\"\norganization = \"Test\"");
        folder.done("sign", &fleet);
        let verify = |crl: &str| {
            Command::new("openssl")
                .args(["verify", "-x509_strict", "-crl_check", "-CAfile"])
                .arg(folder.path("root.pem"))
                .arg("-CRLfile")
                .arg(folder.path(crl))
                .arg(folder.path("edge.pem"))
                .output()
        };
        let Ok(output) = verify("root.crl.pem") else {
            return;
        };
        assert!(output.status.success(), "{}", told(&output));
        folder.done("crl", CRL);
        let output = verify("root-2.crl.pem").unwrap();
        assert!(
            told(&output).contains("certificate revoked"),
            "{}",
            told(&output)
        );
        let output = folder.ca_root(&["verify", "crl.transcript"], "");
        assert!(output.status.success(), "{}", told(&output));
    }
}

#[test]
fn nothing_is_signed_without_a_yes() {
    let folder = Folder::new();
    folder.write("plan.toml", CREATE_ROOT);
    let arguments = [
        "run",
        "plan.toml",
        "--transcript",
        "t",
        "--passphrase-file",
        "pass",
    ];
    for answer in ["no\n", "", "y\n", "YES\n"] {
        let output = folder.ca_root(&arguments, answer);
        assert_eq!(output.status.code(), Some(1));
        assert!(told(&output).contains("not confirmed; nothing was signed"));
        assert!(!folder.has("root.key") && !folder.has("root.pem") && !folder.has("t"));
    }
    let output = folder.ca_root(&arguments, "yes\n");
    assert!(output.status.success(), "{}", told(&output));
    assert!(folder.read("t").contains("confirmation = \"asked\""));
}

#[test]
fn what_changes_after_it_was_shown_changes_nothing() {
    let folder = Folder::new();
    folder.done("create-root", CREATE_ROOT);
    let shown = folder.request("edge.csr", "Test Edge G1");
    folder.write("plan.toml", SIGN);
    let mut child = Command::new(env!("CARGO_BIN_EXE_ca-root"))
        .args([
            "run",
            "plan.toml",
            "--transcript",
            "t",
            "--passphrase-file",
            "pass",
        ])
        .current_dir(folder.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut text = Vec::new();
    let mut octet = [0];
    while !text.ends_with(b"type yes: ") && out.read(&mut octet).unwrap() == 1 {
        text.push(octet[0]);
    }
    folder.request("edge.csr", "Test Edge G1");
    let other = Folder::with_root();
    for file in ["root.pem", "root.key"] {
        folder.write(file, other.read(file));
    }
    folder.write("plan.toml", SIGN.replace("1y", "2y"));
    child.stdin.take().unwrap().write_all(b"yes\n").unwrap();
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());

    let edge = certificate(&folder, "edge.pem");
    assert_eq!(edge.spki(), shown.public_key().spki());
    assert!(edge.not_after().seconds_since(edge.not_before()) < 366 * 86_400);
    assert!(folder.read("t").contains("life = \"1y\""));
}

#[test]
fn the_passphrase_and_the_key_are_told_to_nobody() {
    let folder = Folder::new();
    let mut told_all = folder.done("create-root", CREATE_ROOT);
    folder.request("edge.csr", "Test Edge G1");
    told_all += &folder.done("sign", SIGN);
    told_all += &folder.read("create-root.transcript");
    told_all += &folder.read("sign.transcript");
    folder.write("wrong", "another passphrase\n");
    let wrong = SIGN.replace("edge.pem", "other.pem");
    told_all += &told(&folder.run("other", &wrong, &["--passphrase-file", "wrong"]));
    assert!(told_all.contains("does not open"));
    let key = folder.read("root.key");
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    for secret in [PASSPHRASE, "another passphrase", "PRIVATE KEY"]
        .into_iter()
        .chain(key.lines())
    {
        assert!(!told_all.contains(secret), "{secret}");
    }
}

#[test]
fn show_tells_of_every_kind_of_file() {
    let folder = Folder::with_root();
    folder.done("sign", SIGN);
    for (file, what) in [
        ("edge.csr", "certificate request"),
        ("edge.pem", "path length 0"),
        ("root.crl.pem", "revokes     0 certificate(s)"),
        ("sign.transcript", "nothing was checked"),
    ] {
        let output = folder.ca_root(&["show", file], "");
        assert!(output.status.success(), "{}", told(&output));
        assert!(told(&output).contains(what), "{file}: {}", told(&output));
    }
    let output = folder.ca_root(&["show", "root.key"], "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn wrong_usage_is_exit_code_2_and_every_template_runs() {
    let folder = Folder::new();
    for wrong in [&["run"][..], &["plan", "nothing"], &["sign"], &[]] {
        assert_eq!(
            folder.ca_root(wrong, "").status.code(),
            Some(2),
            "{wrong:?}"
        );
    }
    let other = Folder::with_root();
    for (template, request) in [
        ("create-root", None),
        ("sign-intermediate", Some("cluster-1.csr")),
        ("issue-crl", None),
        ("cross-sign", None),
        ("reissue-intermediate", None),
        ("split-key", None),
    ] {
        if let Some(request) = request {
            folder.request(request, "anything");
        }
        let output = folder.ca_root(&["plan", template], "");
        assert!(output.status.success());
        folder.done(template, &String::from_utf8(output.stdout).unwrap());
        folder.verified(&format!("{template}.transcript"));
        folder.write("root-2.pem", other.read("root.pem"));
    }
}
