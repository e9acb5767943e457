//! Key files that come from OpenSSL, go to it, and change their passphrase.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod common;

use common::{Folder, SHARED_ROOT, SIGN, told};

fn ok(folder: &Folder, arguments: &[&str]) -> String {
    let output = folder.ca_root(arguments, "");
    assert!(output.status.success(), "{}", told(&output));
    told(&output)
}

#[track_caller]
fn fails(folder: &Folder, arguments: &[&str], why: &str) {
    let output = folder.ca_root(arguments, "");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains(why), "{}", told(&output));
}

fn public(folder: &Folder, key: &str, pass: &str) -> Vec<u8> {
    let pass = format!("file:{pass}");
    let output = folder.openssl(&["pkey", "-in", key, "-passin", &pass, "-pubout"]);
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn a_key_goes_out_to_openssl_and_comes_back() {
    let folder = Folder::with_root();
    folder.write("other", "another passphrase\n");
    let export = [
        "key",
        "export",
        "root.key",
        "--out",
        "out.pem",
        "--passphrase-file",
        "pass",
    ];
    let export = [&export[..], &["--new-passphrase-file", "other"]].concat();
    let said = ok(&folder, &export);
    assert!(said.contains("wrote out.pem, a P-256 key"), "{said}");
    assert_eq!(folder.mode("out.pem"), 0o600);
    assert_eq!(
        public(&folder, "out.pem", "other"),
        public(&folder, "root.key", "pass")
    );
    fails(
        &folder,
        &export,
        "out.pem: exists already, and nothing is overwritten",
    );

    // OpenSSL wraps it anew, at its own cost.
    let out = [
        "pkcs8",
        "-topk8",
        "-v2",
        "aes-256-cbc",
        "-scrypt",
        "-in",
        "out.pem",
        "-out",
        "theirs.pem",
    ];
    folder.write("theirs", "a passphrase of theirs\n");
    let passwords = ["-passin", "file:other", "-passout", "file:theirs"];
    let output = folder.openssl(&[&out[..], &passwords].concat());
    assert!(output.status.success(), "{output:?}");
    let import = [
        "key",
        "import",
        "theirs.pem",
        "--out",
        "back.key",
        "--passphrase-file",
        "theirs",
    ];
    let import = [
        &import[..],
        &["--new-passphrase-file", "pass", "--certificate", "root.pem"],
    ]
    .concat();
    ok(&folder, &import);
    let sign = SIGN.replace("root.key", "back.key");
    folder.done("sign", &sign);
}

#[test]
fn foreign_files_that_are_not_for_us_are_refused() {
    let folder = Folder::with_root();
    let openssl = |arguments: &[&str]| {
        let output = folder.openssl(arguments);
        assert!(output.status.success(), "{output:?}");
    };
    let import = |file: &'static str| {
        let all = [
            "key",
            "import",
            file,
            "--out",
            "x.key",
            "--passphrase-file",
            "pass",
        ];
        [&all[..], &["--new-passphrase-file", "pass"]].concat()
    };
    let topk8 = |from: &str, to: &str, more: &[&str]| {
        let all = [
            "pkcs8",
            "-topk8",
            "-in",
            from,
            "-out",
            to,
            "-passout",
            "file:pass",
        ];
        openssl(&[&all[..], more].concat());
    };
    let genpkey = [
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ];
    openssl(&[&genpkey[..], &["-out", "p256.pem"]].concat());
    fails(
        &folder,
        &import("p256.pem"),
        "not a key file: expected one PEM block",
    );
    topk8("p256.pem", "pbkdf2.pem", &["-v2", "aes-256-cbc"]);
    fails(
        &folder,
        &import("pbkdf2.pem"),
        "not encrypted with scrypt and AES-256-CBC",
    );
    let dear = [
        "-v2",
        "aes-256-cbc",
        "-scrypt",
        "-scrypt_N",
        "1024",
        "-scrypt_r",
        "8",
        "-scrypt_p",
        "64",
    ];
    topk8("p256.pem", "dear.pem", &dear);
    fails(
        &folder,
        &import("dear.pem"),
        "asks for more than scrypt with N = 2^17, r = 8, p = 16",
    );
    openssl(&["genpkey", "-algorithm", "ED25519", "-out", "ed25519.pem"]);
    topk8(
        "ed25519.pem",
        "other.pem",
        &["-v2", "aes-256-cbc", "-scrypt"],
    );
    fails(
        &folder,
        &import("other.pem"),
        "other.pem: the key file does not open",
    );
    topk8("p256.pem", "good.pem", &["-v2", "aes-256-cbc", "-scrypt"]);
    let with = [&import("good.pem")[..], &["--certificate", "root.pem"]].concat();
    fails(
        &folder,
        &with,
        "good.pem is not the key of the certificate; nothing was written",
    );
    assert!(!folder.has("x.key"));
    ok(&folder, &import("good.pem"));
}

#[test]
fn a_passphrase_changes_in_place_and_the_old_one_opens_no_more() {
    let folder = Folder::with_root();
    folder.write("new", "a new passphrase\n");
    let change = ["key", "change-passphrase", "root.key", "--passphrase-file"];
    let to_new = [&change[..], &["pass", "--new-passphrase-file", "new"]].concat();
    folder.write("short", "short");
    let before = folder.read("root.key");
    let to_short = [&change[..], &["pass", "--new-passphrase-file", "short"]].concat();
    fails(
        &folder,
        &to_short,
        "nothing was written: a passphrase has 12 to 1024 bytes",
    );
    assert_eq!(folder.read("root.key"), before);
    // Whatever stops it on the way, the key is whole under the one or the other.
    folder.write("root.key.new", "left by somebody");
    fails(
        &folder,
        &to_new,
        "root.key.new: exists already, and is not overwritten",
    );
    assert_eq!(folder.read("root.key"), before);
    std::fs::remove_file(folder.path("root.key.new")).unwrap();
    ok(&folder, &to_new);
    assert_ne!(folder.read("root.key"), before);
    assert_eq!(folder.mode("root.key"), 0o600);
    assert!(!folder.has("root.key.new"));
    fails(&folder, &to_new, "root.key: the key file does not open");
    folder.refused(SIGN, &[], "does not open");
    folder.done_with("sign", SIGN, &["--passphrase-file", "new"]);
}

#[test]
fn shares_open_a_key_for_a_passphrase_as_well() {
    let folder = Folder::new();
    folder.done("create-root", SHARED_ROOT);
    folder.request("edge.csr", "Test Edge G1");
    let shares = ["--share", "share-1.txt", "--share", "share-2.txt"];
    let change = [
        "key",
        "change-passphrase",
        "root.key",
        "--new-passphrase-file",
        "pass",
    ];
    let two = [&change[..], &shares].concat();
    fails(&folder, &two, "too few shares: 1 more is needed");
    ok(
        &folder,
        &[
            &two[..],
            &["--share", "share-3.txt", "--certificate", "root.pem"],
        ]
        .concat(),
    );
    folder.done("sign", SIGN);
}

#[test]
fn a_new_passphrase_is_asked_for_twice_on_the_terminal() {
    let folder = Folder::with_root();
    let change = ["key", "change-passphrase", "root.key"];
    let mut terminal = folder.terminal(&change);
    terminal.answer("passphrase of the root's key: ", common::PASSPHRASE);
    terminal.answer("new passphrase of the root's key: ", "typed by a person");
    terminal.answer("the same again: ", "typed by another");
    let (seen, content) = terminal.end();
    assert!(
        !content && seen.contains("the two passphrases differ"),
        "{seen}"
    );
    let mut terminal = folder.terminal(&change);
    terminal.answer("passphrase of the root's key: ", common::PASSPHRASE);
    terminal.answer("new passphrase of the root's key: ", "typed by a person");
    terminal.answer("the same again: ", "typed by a person");
    let (seen, content) = terminal.end();
    assert!(content, "{seen}");
    assert!(!seen.contains("typed by") && !seen.contains(common::PASSPHRASE));
    folder.write("typed", "typed by a person");
    folder.done_with("sign", SIGN, &["--passphrase-file", "typed"]);
}
