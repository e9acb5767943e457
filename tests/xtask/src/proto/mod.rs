//! Holds the gRPC contracts to what clients rely on: `lint` says how they are written, `breaking` what of them may change.
//!
//! What was promised is in `proto/snapshots`, a file for each package. Something new is accepted by an explicit command,
//! which writes it there; what breaks a client is not accepted at all: it goes into a package of the next version.

mod breaking;
mod lint;
mod snapshot;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use prost_types::FileDescriptorProto;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use snapshot::Package;

/// Where the contracts are, and the promises.
const SOURCES: &str = "proto/proto";
const SNAPSHOTS: &str = "proto/snapshots";
const ACCEPT: &str = "cargo run -p xtask -- proto --accept";

/// Checks the contracts of the workspace at `root`; with `accept` writes down what is new.
pub(crate) fn check(root: &Path, accept: bool) -> Result<()> {
    let mut sources = BTreeMap::new();
    collect(&root.join(SOURCES), "", &mut sources)?;
    let files = compile(sources)?;
    let now = snapshot::packages(&files)?;
    let folder = root.join(SNAPSHOTS);
    let before = read(&folder)?;
    let mut faults = lint::faults(&files);
    faults.extend(breaking::faults(&before, &now));
    for fault in &faults {
        eprintln!("proto: {fault}");
    }
    ensure!(faults.is_empty(), "{} faults", faults.len());
    if accept {
        return write(&folder, &now);
    }
    let additions = breaking::additions(&before, &now);
    for addition in &additions {
        eprintln!("proto: new: {addition}");
    }
    ensure!(
        before == now,
        "the contracts say more than was promised; if all of it is meant: {ACCEPT}"
    );
    Ok(())
}

/// Every `.proto` under `folder`, by its path from there.
fn collect(folder: &Path, prefix: &str, sources: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{name}/"), sources)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            sources.insert(name, text);
        }
    }
    Ok(())
}

struct Sources(BTreeMap<String, String>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The descriptors of `sources`, what they import left out, with their comments.
fn compile(sources: BTreeMap<String, String>) -> Result<Vec<FileDescriptorProto>> {
    let names: Vec<String> = sources.keys().cloned().collect();
    ensure!(!names.is_empty(), "there is no .proto file");
    let mut resolver = ChainFileResolver::new();
    resolver.add(Sources(sources));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_source_info(true).include_imports(false);
    compiler.open_files(names)?;
    Ok(compiler.file_descriptor_set().file)
}

fn read(folder: &Path) -> Result<BTreeMap<String, Package>> {
    let mut packages = BTreeMap::new();
    if !folder.is_dir() {
        bail!("{} is missing: {ACCEPT}", folder.display());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let package = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        packages.insert(name.into_owned(), package);
    }
    Ok(packages)
}

fn write(folder: &Path, packages: &BTreeMap<String, Package>) -> Result<()> {
    for (name, package) in packages {
        let text = serde_json::to_string_pretty(package)?;
        fs::write(folder.join(format!("{name}.json")), text + "\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packages of one file.
    pub(super) fn compiled(path: &str, text: &str) -> Vec<FileDescriptorProto> {
        compile(BTreeMap::from([(path.to_owned(), text.to_owned())])).unwrap()
    }

    fn workspace(text: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(SNAPSHOTS)).unwrap();
        say(root.path(), text);
        root
    }

    fn say(root: &Path, text: &str) {
        let folder = root.join(SOURCES).join("a/v1");
        fs::create_dir_all(&folder).unwrap();
        let text = format!("syntax = \"proto3\";\npackage a.v1;\n{text}");
        fs::write(folder.join("a.proto"), text).unwrap();
    }

    #[test]
    fn what_is_new_is_accepted_by_a_command_and_what_breaks_by_none() {
        let first = "// One.\nmessage One {\n// It.\nstring it = 1;\n}\n";
        let root = workspace(first);
        let check = |accept| check(root.path(), accept).map_err(|error| error.to_string());
        assert!(check(false).unwrap_err().contains("--accept"));
        check(true).unwrap();
        check(false).unwrap();
        say(root.path(), &format!("{first}// Two.\nmessage Two {{}}\n"));
        assert!(check(false).unwrap_err().contains("--accept"));
        check(true).unwrap();
        check(false).unwrap();
        say(root.path(), first);
        assert_eq!(check(false), Err("1 faults".to_owned()));
        assert_eq!(check(true), Err("1 faults".to_owned()));
        fs::remove_dir_all(root.path().join(SNAPSHOTS)).unwrap();
        assert!(check(false).unwrap_err().contains("is missing"));
    }

    #[test]
    fn our_own_contracts_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        check(&root, false).unwrap();
    }
}
