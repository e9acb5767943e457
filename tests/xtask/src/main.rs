//! Checks that run outside the compiler: `cargo run -p xtask -- arch` and `-- proto`.
//!
//! `arch` holds the house to its drawing: which package may depend on which, what must not be reachable from the
//! pure ones, and which words may stand in which folder. `proto` holds the gRPC contracts to what was promised.

mod graph;
mod proto;
mod rules;
mod source;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["arch"] => arch(),
        ["proto"] => proto::check(root(&cargo_metadata()?)?, false),
        ["proto", "--accept"] => proto::check(root(&cargo_metadata()?)?, true),
        _ => bail!("usage: cargo run -p xtask -- arch | proto [--accept]"),
    }
}

fn root(metadata: &Value) -> Result<&Path> {
    let root = metadata["workspace_root"].as_str();
    root.map(Path::new)
        .context("cargo metadata has no workspace_root")
}

fn arch() -> Result<()> {
    let metadata = cargo_metadata()?;
    let root = root(&metadata)?;
    let graph = graph::Graph::from_metadata(&metadata)?;
    let mut violations = graph.violations(rules::ARROWS, rules::UNREACHABLE);
    violations.extend(source::violations(root, rules::WORDS)?);
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
