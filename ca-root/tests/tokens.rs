//! A root that is made and kept in a token: SoftHSM2, with OpenSC's tool as the other side.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use std::io::Write;
use std::process::{Command, Output};

use common::{CRL, Folder, SIGN, told};

const PIN: &str = "pin-5678";
const URI: &str = "pkcs11:token=ca;object=root";

/// A folder with a token `ca` and its PIN in a file; `None`, and a word about it, where there is no SoftHSM.
fn with_token(test: &str) -> Option<(Folder, String)> {
    let name = "SIGNET_SOFTHSM_MODULE";
    let Some(module) = std::env::var(name).ok().filter(|path| !path.is_empty()) else {
        let reason = format!("{name} is not set; see tests/parts/install");
        eprintln!("skipped {test}: {reason}");
        if let Some(file) = std::env::var_os("SIGNET_SKIPS") {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.append(true).create(true).open(file).unwrap();
            writeln!(file, "{test}: {reason}").unwrap();
        }
        return None;
    };
    let folder = Folder::new();
    let tokens = folder.path("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let tokens = tokens.display();
    folder.write(
        "softhsm2.conf",
        format!("directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"),
    );
    new_token(&folder, "ca");
    folder.write("pin", format!("{PIN}\n"));
    Some((folder, module))
}

fn new_token(folder: &Folder, label: &str) {
    let so = ["--so-pin", "12345678", "--pin", PIN];
    let init = ["--init-token", "--free", "--label", label];
    tool(folder, "softhsm2-util", &[&init[..], &so].concat());
}

fn tool(folder: &Folder, name: &str, arguments: &[&str]) -> Output {
    let output = Command::new(name)
        .args(arguments)
        .current_dir(folder.path(""))
        .env("SOFTHSM2_CONF", folder.path("softhsm2.conf"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    output
}

fn create(module: &str) -> String {
    format!(
        "version = 1\nceremony = \"create-root\"\n[root]\nname = \"Test Root 1\"\nalgorithm = \"P-256\"\n\
         [outputs]\ncertificate = \"root.pem\"\nkey = \"{URI}\"\ncrl = \"root.crl.pem\"\n\
         [token]\nmodule = \"{module}\"\nconfined = true\n"
    )
}

/// A plan of a root with a key file, for the token.
fn in_token(plan: &str, module: &str) -> String {
    let token = format!("[token]\nmodule = \"{module}\"\nconfined = true\n");
    plan.replace("\"root.key\"", &format!("\"{URI}\"")) + &token
}

const WITH_PIN: [&str; 2] = ["--pin-file", "pin"];

#[test]
fn a_root_lives_in_its_token_from_the_first_day() {
    let Some((folder, module)) = with_token("a_root_lives_in_its_token_from_the_first_day") else {
        return;
    };
    let mut said = folder.done_with("create-root", &create(&module), &WITH_PIN);
    let confined = "its key: made in the token, cannot leave it and never could";
    assert!(said.contains(confined), "{said}");
    folder.request("edge.csr", "Test Edge G1");
    said += &folder.done_with("sign", &in_token(SIGN, &module), &WITH_PIN);
    said += &folder.done_with("crl", &in_token(CRL, &module), &WITH_PIN);
    for ceremony in ["create-root", "sign", "crl"] {
        let transcript = format!("{ceremony}.transcript");
        let told = folder.verified(&transcript);
        assert!(
            told.contains("made in its token, which it cannot leave"),
            "{told}"
        );
        let text = folder.read(&transcript);
        for line in [
            "local = true",
            "always_sensitive = true",
            "extractable = false",
        ] {
            assert!(text.contains(line), "{text}");
        }
        said += &text;
    }
    assert!(!said.contains(PIN));
    let verify = [
        "verify",
        "-x509_strict",
        "-crl_check",
        "-CAfile",
        "root.pem",
        "-CRLfile",
    ];
    let before = folder.openssl(&[&verify[..], &["root.crl.pem", "edge.pem"]].concat());
    assert!(before.status.success(), "{}", told(&before));
    let after = folder.openssl(&[&verify[..], &["root-2.crl.pem", "edge.pem"]].concat());
    assert!(
        told(&after).contains("certificate revoked"),
        "{}",
        told(&after)
    );

    // The other side sees the same key, under the same name.
    let read = [
        "--module",
        &module,
        "--token-label",
        "ca",
        "--read-object",
        "--type",
        "pubkey",
    ];
    let key = tool(
        &folder,
        "pkcs11-tool",
        &[&read[..], &["--label", "root"]].concat(),
    );
    folder.write("public.der", &key.stdout);
    let public = folder.openssl(&[
        "pkey",
        "-pubin",
        "-inform",
        "DER",
        "-in",
        "public.der",
        "-pubout",
    ]);
    let own = folder.openssl(&["x509", "-in", "root.pem", "-noout", "-pubkey"]);
    assert_eq!(public.stdout, own.stdout);
    assert!(own.status.success() && !folder.has("root.key"));
}

#[test]
fn what_is_not_the_roots_token_key_or_pin_signs_nothing() {
    let Some((folder, module)) = with_token("what_is_not_the_roots_token_key_or_pin_signs_nothing")
    else {
        return;
    };
    folder.done_with("create-root", &create(&module), &WITH_PIN);
    folder.request("edge.csr", "Test Edge G1");
    let sign = in_token(SIGN, &module);
    let refused = |plan: &str, more: &[&str], why: &str| folder.refused(plan, more, why);
    let again = create(&module)
        .replace("root.pem", "r.pem")
        .replace("root.crl", "r.crl");
    refused(&again, &WITH_PIN, "the token has a key \"root\" already");
    let passphrase = "the key is in a token, which has a PIN and no passphrase";
    refused(&sign, &["--passphrase-file", "pass"], passphrase);
    let pin = "root.key has a passphrase and no PIN";
    folder.write("root.key", "");
    refused(SIGN, &WITH_PIN, pin);
    std::fs::remove_file(folder.path("root.key")).unwrap();
    folder.write("wrong", "pin-9999");
    let wrong = ["--pin-file", "wrong"];
    refused(&sign, &wrong, "the token refused the PIN");
    folder.write("long", "9".repeat(300));
    refused(&sign, &["--pin-file", "long"], "a PIN has 1 to 255 bytes");
    let other = |from: &str, to: &str| sign.replace(from, to);
    refused(
        &other("token=ca", "token=cb"),
        &WITH_PIN,
        "no token fits pkcs11:token=cb",
    );
    refused(
        &other("object=root", "object=boot"),
        &WITH_PIN,
        "no private key in the token fits",
    );
    folder.write("module.so", "not a module");
    let copy = folder.path("module.so").display().to_string();
    refused(
        &other(&module, &copy),
        &WITH_PIN,
        "the PKCS#11 module is not loaded",
    );
    refused(
        &other(&module, "/nothing.so"),
        &WITH_PIN,
        "the PKCS#11 module is not loaded",
    );

    // A second token with a key of the same label.
    new_token(&folder, "cb");
    let other_root = create(&module)
        .replace("token=ca", "token=cb")
        .replace("root.pem", "b.pem")
        .replace("root.crl", "b.crl");
    folder.done_with("other", &other_root, &WITH_PIN);
    let why = "token=cb;object=root is not the key of root.pem; nothing was signed";
    refused(&other("token=ca", "token=cb"), &WITH_PIN, why);
    folder.done_with("sign", &sign, &WITH_PIN);
}

#[test]
fn a_key_that_was_brought_into_the_token_is_refused_where_the_plan_demands_better() {
    let Some((folder, module)) = with_token(
        "a_key_that_was_brought_into_the_token_is_refused_where_the_plan_demands_better",
    ) else {
        return;
    };
    let from_file = Folder::with_root();
    for file in ["root.pem", "root.key", "edge.csr"] {
        folder.write(file, from_file.read(file));
    }
    folder.write("from-file.pass", "correct horse battery staple");
    let plain = [
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-in",
        "root.key",
        "-out",
        "plain.pem",
    ];
    let output = folder.openssl(&[&plain[..], &["-passin", "file:pass"]].concat());
    assert!(output.status.success(), "{}", told(&output));
    let import = [
        "--import",
        "plain.pem",
        "--token",
        "ca",
        "--label",
        "root",
        "--id",
        "01",
    ];
    tool(
        &folder,
        "softhsm2-util",
        &[&import[..], &["--pin", PIN]].concat(),
    );
    let sign = in_token(SIGN, &module);
    let why = "brought into the token from outside, cannot leave it; may have left it before; the plan demands a key that was made in its token";
    folder.refused(&sign, &WITH_PIN, why);
    let loose = sign.replace("confined = true\n", "");
    folder.done_with("sign", &loose, &WITH_PIN);
    let said = folder.verified("sign.transcript");
    assert!(said.contains("NOT confined to its token"), "{said}");
}

const SHARES: &str = "[shares]\nthreshold = 2\nholders = [\"Ada\", \"Bert\", \"Cleo\"]\n";

#[test]
fn a_tokens_pin_is_split_when_its_root_is_made_and_among_others_later() {
    let Some((folder, module)) =
        with_token("a_tokens_pin_is_split_when_its_root_is_made_and_among_others_later")
    else {
        return;
    };
    let plan = create(&module) + SHARES;
    let mut said = folder.done_with("create-root", &plan, &WITH_PIN);
    folder.verified("create-root.transcript");
    std::fs::remove_file(folder.path("pin")).unwrap();
    folder.request("edge.csr", "Test Edge G1");
    let sign = in_token(SIGN, &module);
    folder.refused(
        &sign,
        &["--share", "share-1.txt"],
        "too few shares: 1 more is needed",
    );
    let two = ["--share", "share-1.txt", "--share", "share-3.txt"];
    said += &folder.done_with("sign", &sign, &two);
    let told = folder.verified("sign.transcript");
    assert!(told.contains("    3 Cleo"), "{told}");

    let split = format!(
        "version = 1\nceremony = \"split-key\"\n[root]\ncertificate = \"root.pem\"\nkey = \"root.key\"\n{SHARES}prefix = \"b\"\n"
    );
    said += &folder.done_with("split", &in_token(&split, &module), &two);
    folder.verified("split.transcript");
    let again = sign
        .replace("edge.pem", "edge-2.pem")
        .replace("life", "name = \"G2\"\nlife");
    folder.request("edge.csr", "Test Edge G2");
    said += &folder.done_with(
        "again",
        &again,
        &["--share", "b-2.txt", "--share", "b-1.txt"],
    );
    for file in [
        "create-root.transcript",
        "sign.transcript",
        "split.transcript",
    ] {
        said += &folder.read(file);
    }
    assert!(!said.contains(PIN));
}

#[test]
fn a_key_that_nobody_confirmed_is_told_to_be_in_the_token() {
    let Some((folder, module)) =
        with_token("a_key_that_nobody_confirmed_is_told_to_be_in_the_token")
    else {
        return;
    };
    folder.write("c.toml", create(&module));
    let arguments = ["run", "c.toml", "--transcript", "t", "--pin-file", "pin"];
    let output = folder.ca_root(&arguments, "no\n");
    assert_eq!(output.status.code(), Some(1));
    let said = told(&output);
    assert!(
        said.contains("the new key \"root\" is in the token and belongs to nothing"),
        "{said}"
    );
    assert!(said.contains("not confirmed; nothing was signed"), "{said}");
    assert!(!folder.has("root.pem") && !folder.has("t"));
}
