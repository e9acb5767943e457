//! `docs/attacks.md` tells the truth: every attack that has to be answered stands in it, and every test that it names is there.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use tests::parts::repository;

/// All of them.
const ASKED: [RangeInclusive<u32>; 1] = [1..=44];

/// Adds the names of the tests in a file of Rust, or in those below a folder.
fn collect(path: &Path, tests: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), tests);
        }
        return;
    }
    if path.extension().is_none_or(|extension| extension != "rs") {
        return;
    }
    let text = std::fs::read_to_string(path).unwrap();
    let mut is_next = false;
    for line in text.lines().map(str::trim) {
        let attribute = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        // The contract lists its cases by name, and runs each on both engines.
        let case = line.strip_suffix(',').filter(|name| is_name(name));
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        if let Some(case) = case {
            tests.insert(case.to_owned());
        } else if let Some(function) = function.filter(|_| is_next) {
            let end = function.find(|c| !is_of_name(c)).unwrap();
            tests.insert(function[..end].to_owned());
        }
        is_next = attribute || (is_next && line.starts_with('#'));
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

fn is_name(text: &str) -> bool {
    text.contains('_') && text.chars().all(is_of_name)
}

#[test]
fn every_attack_has_its_line_and_every_named_test_exists() {
    let index = std::fs::read_to_string(repository().join("docs/attacks.md")).unwrap();
    let mut tests = BTreeSet::new();
    for package in ["pki", "hsm", "ca-root", "ca-server", "ca-client", "demo"] {
        collect(&repository().join(package).join("src"), &mut tests);
    }
    for folder in [
        "tests/tests",
        "tests/src",
        "pki/tests",
        "hsm/tests",
        "ca-client/tests",
        "ca-root/tests",
    ] {
        let folder = repository().join(folder);
        if folder.exists() {
            collect(&folder, &mut tests);
        }
    }
    let mut listed = Vec::new();
    for line in index.lines() {
        let mut cells = line.split('|').skip(1).map(str::trim);
        let Some(Ok(number)) = cells.next().map(str::parse::<u32>) else {
            continue;
        };
        listed.push(number);
        let answer = cells.nth(1).unwrap();
        let named: Vec<_> = answer.split('`').skip(1).step_by(2).collect();
        assert!(
            !named.is_empty() || answer.starts_with("No test: "),
            "attack {number} has neither a test nor a reason"
        );
        for name in named {
            assert!(tests.contains(name), "attack {number}: no test {name}");
        }
    }
    let asked: Vec<_> = ASKED.into_iter().flatten().collect();
    assert_eq!(listed, asked);
}
