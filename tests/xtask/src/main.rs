//! Checks that run outside the compiler: `cargo run -p xtask -- arch`.
//!
//! `arch` holds the house to its drawing: which package may depend on which, what must not be reachable from the
//! pure ones, and which words may stand in which folder.

mod graph;
mod rules;
mod source;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Option<&str>) -> Result<()> {
    match task {
        Some("arch") => arch(),
        _ => bail!("usage: cargo run -p xtask -- arch"),
    }
}

fn arch() -> Result<()> {
    let metadata = cargo_metadata()?;
    let root = metadata["workspace_root"]
        .as_str()
        .context("cargo metadata has no workspace_root")?;
    let graph = graph::Graph::from_metadata(&metadata)?;
    let mut violations = graph.violations(rules::ARROWS, rules::UNREACHABLE);
    violations.extend(source::violations(Path::new(root), rules::WORDS)?);
    for violation in &violations {
        eprintln!("arch: {violation}");
    }
    ensure!(violations.is_empty(), "{} violations", violations.len());
    Ok(())
}

fn cargo_metadata() -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
