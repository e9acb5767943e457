//! The README's "For real" section, run line by line as it is written; only the build is replaced by programs that are built already.

#![expect(clippy::expect_used, reason = "what fails here is a failed test")]

use std::process::Command;

use tempfile::TempDir;
use tests::process::{program, run};

const README: &str = include_str!("../../README.md");

/// The shell blocks of the section, in order.
fn script() -> String {
    let section = README
        .split("\n## For real\n")
        .nth(1)
        .expect("the section is there");
    let section = section.split("\n### ").next().expect("it ends");
    let blocks = section.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().expect("a block ends"))
        .collect()
}

#[test]
fn the_ten_minute_section_works_as_written() {
    let script = script();
    assert!(script.lines().count() > 30, "the blocks were found");
    let place = TempDir::new().unwrap();
    let programs = program("ca-server").parent().unwrap().to_owned();
    // The server is the script's own child: it ends with the script.
    let script = format!(
        "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n{script}\ntest -s web/tls.key\n"
    );
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let said = run(Command::new("timeout")
        .args(["120", "bash", "-c", &script])
        .current_dir(place.path())
        .env("PATH", path));
    for expected in [
        "no faults",
        "cluster central created",
        "ok: everything is as the plan says",
        "ready",
        "spiffe://example.mesh/ns/default/sa/web",
    ] {
        assert!(
            said.contains(expected),
            "{expected:?} is missing in:\n{said}"
        );
    }
}

#[test]
fn the_deployed_samples_are_accepted() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/ca-server.toml");
    let said =
        run(Command::new(program("ca-server")).args(["--config", sample, "config", "check"]));
    assert!(said.contains("no faults"), "{said}");
}
