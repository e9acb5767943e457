//! Words that may stand in some folders only: a rule about modules, which cargo does not know.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A crate's or a type's name, and where it must not stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub(crate) word: &'static str,
    /// Files whose path begins so, from the root.
    pub(crate) within: &'static [&'static str],
    /// But for these.
    pub(crate) except: &'static [&'static str],
    pub(crate) reason: &'static str,
}

/// Reads every Rust file of the workspace's packages.
pub(crate) fn violations(root: &Path, words: &[Word]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root).with_context(|| root.display().to_string())? {
        let folder = entry?.path();
        if folder.join("Cargo.toml").is_file() {
            collect(&folder, &mut files)?;
        }
    }
    files.sort();
    let mut violations = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let path = file.strip_prefix(root)?.to_string_lossy().into_owned();
        violations.extend(in_file(&path, &text, words));
    }
    Ok(violations)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn in_file(path: &str, text: &str, words: &[Word]) -> Vec<String> {
    let stands_in = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    let mut violations = Vec::new();
    for rule in words
        .iter()
        .filter(|rule| stands_in(rule.within) && !stands_in(rule.except))
    {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if names(code, rule.word) {
                violations.push(format!(
                    "{path}:{}: {}: {}",
                    number + 1,
                    rule.word,
                    rule.reason
                ));
            }
        }
    }
    violations
}

/// Whether `code` names the crate or type `word`: as a path's first part, after `use` or as a whole path's last. A
/// module of the same name in another crate (`rustls::crypto::ring`) and a variable are something else, and so is a
/// word within a string.
fn names(code: &str, word: &str) -> bool {
    let is_type = word.starts_with(char::is_uppercase);
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        if before.ends_with(is_part)
            || after.starts_with(is_part)
            || before.matches('"').count() % 2 == 1
        {
            return false;
        }
        if is_type {
            return true;
        }
        let is_first = !before.ends_with("::") || is_absolute(before);
        is_first && (after.starts_with("::") || before.trim_end().ends_with("use"))
    })
}

/// Whether the `::` at the end of `before` begins a path (`::ring::rand`).
fn is_absolute(before: &str) -> bool {
    let before = before.trim_end_matches("::");
    !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::WORDS;

    fn violations(path: &str, text: &str) -> Vec<String> {
        in_file(path, text, WORDS)
    }

    #[test]
    fn a_crate_outside_its_folders_is_named_with_its_line() {
        for (path, text) in [
            ("ca-server/src/app/issue.rs", "fn a() {}\nuse sqlx::Row;"),
            ("ca-server/src/app/issue.rs", "\nfn a() -> tonic::Status {"),
            ("ca-server/src/store/sqlite.rs", "\nuse axum::Json;"),
            ("ca-server/src/grpc/istio.rs", "\n    ::sqlx::query(\"x\");"),
            (
                "ca-server/src/grpc/istio.rs",
                "\nuse ring::rand::SystemRandom;",
            ),
            ("pki/src/key.rs", "\nuse ring as r;"),
            (
                "pki/src/key.rs",
                "\n    let x = ring::digest::digest(a, b);",
            ),
            (
                "ca-root/src/main.rs",
                "\nuse std::net::{IpAddr, TcpStream};",
            ),
        ] {
            let found = violations(path, text);
            assert_eq!(found.len(), 1, "{path} {text}: {found:?}");
            assert!(found[0].starts_with(&format!("{path}:2: ")), "{found:?}");
        }
    }

    #[test]
    fn homes_comments_strings_and_namesakes_are_let_be() {
        for (path, text) in [
            ("ca-server/src/store/postgres.rs", "use sqlx::Row;"),
            ("ca-server/src/grpc/istio.rs", "use tonic::Status;"),
            (
                "ca-server/src/main.rs",
                "rustls::crypto::ring::default_provider()",
            ),
            ("ca-server/src/main.rs", "use rustls::crypto::ring;"),
            (
                "ca-server/src/app/issue.rs",
                "//! The recorder (sqlx::query) is elsewhere.",
            ),
            ("ca-server/src/app/issue.rs", "let text = \"sqlx::query\";"),
            (
                "ca-server/src/app/issue.rs",
                "let string::tonic_water = use_axum();",
            ),
            ("pki/src/crypto.rs", "use ring::signature;"),
            ("hsm/src/software.rs", "use ring::rand::SystemRandom;"),
            ("ca-server/src/authn/jwt.rs", "use ring::signature;"),
            ("tests/src/lib.rs", "use ring::rand; use sqlx::Row;"),
            ("pki/src/policy.rs", "use std::net::IpAddr;"),
        ] {
            assert_eq!(
                violations(path, text),
                Vec::<String>::new(),
                "{path} {text}"
            );
        }
    }

    #[test]
    fn every_rule_about_folders_names_one_that_exists_or_is_drawn() {
        for rule in WORDS {
            assert!(!rule.within.is_empty() && !rule.reason.is_empty());
            for folder in rule.within.iter().chain(rule.except) {
                assert!(folder.ends_with('/') || folder.ends_with(".rs"), "{folder}");
            }
        }
    }
}
