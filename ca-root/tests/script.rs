//! The ceremony on paper, as it comes out of its plan.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use common::{CREATE_ROOT, CRL, Folder, SHARED_ROOT, SIGN, told};

const WITNESSES: &str = "witnesses = [\"Wilma Witt\", \"Xaver Young\"]\nceremony";
/// Lines of a printed page.
const PAGE: usize = 66;

fn script(folder: &Folder, name: &str, plan: &str) -> String {
    folder.write(name, plan);
    let output = folder.ca_root(&["script", name], "");
    assert!(output.status.success(), "{}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_ceremony_of_five_holders_and_two_witnesses_is_one_page() {
    let plan = SHARED_ROOT.replacen("ceremony", WITNESSES, 1);
    let script = script(&Folder::new(), "create-root.toml", &plan);
    insta::assert_snapshot!("create_root_shared", script);
}

#[test]
fn a_signing_by_shares_in_a_token_is_one_page() {
    let plan = SIGN.replacen("ceremony", WITNESSES, 1).replace(
        "\"root.key\"",
        "\"pkcs11:token=ca;object=root\"\nopened_by = [\"Ada\", \"Bert\", \"Cleo\"]",
    ) + "[token]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\n";
    let script = script(&Folder::new(), "sign-edge.toml", &plan);
    insta::assert_snapshot!("sign_intermediate_token", script);
}

#[test]
fn every_template_fits_a_page_and_its_width() {
    let folder = Folder::new();
    let names = [
        "create-root",
        "sign-intermediate",
        "issue-crl",
        "cross-sign",
        "reissue-intermediate",
        "split-key",
    ];
    for name in names {
        let output = folder.ca_root(&["plan", name], "");
        let plan = String::from_utf8(output.stdout).unwrap();
        let script = script(&folder, &format!("{name}.toml"), &plan);
        assert!(script.lines().count() <= PAGE, "{name}:\n{script}");
        for line in script.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
        assert!(
            script.contains(&format!("ca-root run {name}.toml")),
            "{script}"
        );
    }
}

#[test]
fn a_script_is_of_this_plan_and_no_other() {
    let folder = Folder::new();
    let one = script(&folder, "plan.toml", CREATE_ROOT);
    let other = script(&folder, "plan.toml", &CREATE_ROOT.replace("10y", "9y"));
    assert_ne!(one, other);
    let long = format!("{}.toml", "x".repeat(90));
    let script = script(&folder, &long, CRL);
    assert!(
        script.contains(&format!(
            "--transcript \\\n          {}.transcript",
            "x".repeat(90)
        )),
        "{script}"
    );
    folder.write("bad.toml", CREATE_ROOT.replace("P-256", "RSA"));
    let output = folder.ca_root(&["script", "bad.toml"], "");
    assert!(told(&output).contains("root.algorithm: expected P-256 or P-384"));
    assert_eq!(output.status.code(), Some(1));
}
