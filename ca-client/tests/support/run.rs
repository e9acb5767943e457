//! `ca`, run in a home of the test's own.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    missing_docs,
    reason = "test code, of which each program uses its own part"
)]

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::api::Api;

/// How a run ended, and what it said.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

/// Runs `ca` in the test's own home, without any flag that says where the CA is.
pub async fn bare(api: &Api, words: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_ca"))
        .args(words)
        .env_clear()
        .env("HOME", api.home.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `ca` as Ada.
pub async fn ca(api: &Api, words: &[&str]) -> Run {
    let (root, cert, key) = (
        api.text("roots.pem"),
        api.text("ada.pem"),
        api.text("ada.key"),
    );
    let mut all = words.to_vec();
    all.extend(["--url", &api.address, "--root", &root]);
    all.extend(["--cert", &cert, "--key", &key]);
    bare(api, &all).await
}
