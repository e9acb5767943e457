//! `docs/ceremonies.md`, run line by line as it is written: a root of three shares out of five, two witnesses, and an intermediate
//! that a server imports.

#![expect(clippy::expect_used, reason = "what fails here is a failed test")]

use std::process::Command;

use tempfile::TempDir;
use tests::process::{program, run};

const WALK: &str = include_str!("../../docs/ceremonies.md");

/// The shell blocks of the page, in order.
fn script() -> String {
    let blocks = WALK.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().expect("a block ends"))
        .collect()
}

#[test]
fn the_walk_of_three_shares_of_five_works_as_written() {
    let script = script();
    assert!(script.lines().count() > 100, "the blocks were found");
    let place = TempDir::new().unwrap();
    let programs = program("ca-root").parent().unwrap().to_owned();
    // `!` before a command keeps `set -e` from seeing it, whatever it answers: what it says is looked for below.
    let script = format!("exec 2>&1\nset -eu\n{script}");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let said = run(Command::new("timeout")
        .args(["300", "bash", "-c", &script])
        .current_dir(place.path())
        .env("PATH", path));
    for expected in [
        "every line's check fits",
        "nothing was signed: too few shares: 1 more is needed",
        "share 5 of Emil Nolde was used",
        "central-1.pem: OK",
        "central-1 active",
        "audit/sign-central-1.transcript does not hold: sign-central-1.toml: is not the plan of this ceremony",
        "transcript: was changed, or is another root's",
        "wrote new-share-3.txt, for Frieda Kahlo alone",
    ] {
        assert!(
            said.contains(expected),
            "{expected:?} is missing in:\n{said}"
        );
    }
    assert_eq!(
        said.matches("ok: everything is as the plan says").count(),
        5,
        "{said}"
    );
    let place = place.path();
    assert!(!place.join("offline/root.key").exists() && place.join("frieda/share.txt").exists());
    let page = std::fs::read_to_string(place.join("sign-central-1.script")).unwrap();
    assert!(
        page.contains("ca-root run sign-central-1.toml --transcript sign-central-1.transcript")
    );
}

/// What an offline program may not do, as the kernel sees it: no socket of any kind.
#[test]
fn a_root_asks_no_network_for_anything() {
    let test = "a_root_asks_no_network_for_anything";
    if Command::new("strace").arg("-V").output().is_err() {
        return tests::parts::skip(test, "no strace; see tests/parts/install");
    }
    let place = TempDir::new().unwrap();
    let trace = place.path().join("trace");
    let plan = run(Command::new(program("ca-root")).args(["plan", "create-root"]));
    std::fs::write(place.path().join("plan.toml"), plan).unwrap();
    std::fs::write(place.path().join("passphrase"), "for this test alone").unwrap();
    run(Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=network", "-o"])
        .arg(&trace)
        .arg(program("ca-root"))
        .args(["run", "plan.toml", "--transcript", "t", "--yes"])
        .args(["--passphrase-file", "passphrase"])
        .current_dir(place.path()));
    assert!(place.path().join("root.pem").exists());
    let calls = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(calls, "", "calls to the network");
}
