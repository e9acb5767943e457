//! The try-out, as somebody new runs it: once, again, from the beginning, and what it says to try next.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::Path;
use std::process::Command;

use pki::certificate::Certificate;
use tests::parts::{repository, skip};
use tests::process::{output, outside_cargo, program, read, run};

/// Runs the try-out in `directory` up to its proof; gives what it said.
fn demo(directory: &Path, more: &[&str]) -> String {
    let mut command = Command::new(program("demo"));
    command.arg("--dir").arg(directory).arg("--exit").args(more);
    run(&mut command)
}

fn certificate(path: &Path) -> Certificate {
    Certificate::parse_pem(&read(path)).unwrap().remove(0)
}

/// The command that was printed with `word` in it.
fn printed<'a>(said: &'a str, word: &str) -> &'a str {
    let mut commands = said.lines().filter(|line| line.starts_with("  "));
    commands
        .find(|line| line.contains(word))
        .unwrap_or_else(|| panic!("no command with {word:?} in:\n{said}"))
        .trim()
}

/// Pastes a command into a shell in the repository.
fn paste(command: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(repository());
    run(outside_cargo(&mut shell))
}

#[test]
fn the_try_out_proves_continues_and_starts_over() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a demo");
    let root = directory.join("root.pem");
    let leaf = directory.join("workloads/sensor-edge/tls.crt");

    let first = demo(&directory, &[]);
    assert!(first.contains("new in"), "{first}");
    assert!(
        first.contains("refused: invalid peer certificate"),
        "{first}"
    );
    let (first_root, first_leaf) = (certificate(&root), certificate(&leaf));
    assert!(first.contains(&first_root.serial().to_string()), "{first}");
    assert!(first.contains(&first_leaf.serial().to_string()), "{first}");
    for secret in ["root-offline/passphrase", "server/passphrase"] {
        let secret = String::from_utf8(read(&directory.join(secret))).unwrap();
        assert!(!first.contains(secret.trim()), "a passphrase is printed");
    }
    assert!(!first.contains("signet_enrol_"), "a token is printed");

    let second = demo(&directory, &[]);
    assert!(second.contains("continuing in"), "{second}");
    assert_eq!(certificate(&root), first_root);
    assert_eq!(certificate(&leaf), first_leaf, "a good identity is kept");

    let records = paste(printed(&second, "records list"));
    assert!(
        records.contains(&first_leaf.serial().to_string()),
        "{records}"
    );
    let verified = paste(printed(&second, "-p ca-root"));
    assert!(verified.contains("ok"), "{verified}");

    let third = demo(&directory, &["--clean"]);
    assert!(third.contains("new in"), "{third}");
    assert_ne!(certificate(&root), first_root);
    assert_ne!(certificate(&leaf), first_leaf);
    if Command::new("openssl").arg("version").output().is_err() {
        skip("the_try_out_proves_continues_and_starts_over", "no openssl");
        return;
    }
    let verified = paste(printed(&third, "openssl verify"));
    assert!(verified.trim_end().ends_with("OK"), "{verified}");
}

#[test]
fn the_try_out_cleans_nothing_that_it_has_not_made() {
    let parent = tempfile::tempdir().unwrap();
    let theirs = parent.path().join("precious");
    std::fs::write(&theirs, "precious").unwrap();
    let mut command = Command::new(program("demo"));
    command.arg("--dir").arg(parent.path());
    let refused = output(command.args(["--clean", "--exit"]));
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("nothing was touched"), "{said}");
    assert_eq!(read(&theirs), b"precious");
}
