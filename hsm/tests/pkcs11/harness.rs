//! SoftHSM2 in a folder of its own for each test.
//!
//! A module belongs to its process and SoftHSM reads its configuration's place from the environment, so each test
//! runs itself again in a process with an environment of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use hsm::Signer;
use hsm::pkcs11::{Pin, Token, TokenError};
use pki::csr::{CertificateRequest, VerifiedCsr, prepare_request};
use pki::name::{DistinguishedName, KeyUri};
use zeroize::Zeroizing;

pub(crate) const PIN: &str = "5678";
pub(crate) const SO_PIN: &str = "12345678";
const TEST: &str = "SIGNET_HSM_TEST";
const PATIENCE_SECONDS: &str = "180";
const FOLDER: &str = "SIGNET_HSM_FOLDER";

/// A SoftHSM2 that only this test sees.
pub(crate) struct SoftHsm {
    pub(crate) folder: PathBuf,
    /// SoftHSM itself.
    pub(crate) softhsm: PathBuf,
    /// What is loaded: SoftHSM, or OpenSC's spy in front of it.
    pub(crate) module: PathBuf,
}

/// Runs `body` in a process of its own. `test` is the test's name as libtest knows it.
pub(crate) fn run(test: &str, body: impl FnOnce(&SoftHsm)) {
    run_as(test, false, body);
}

/// The same, with every call to the module written to [`SoftHsm::spied`].
pub(crate) fn run_spied(test: &str, body: impl FnOnce(&SoftHsm)) {
    run_as(test, true, body);
}

fn run_as(test: &str, spied: bool, body: impl FnOnce(&SoftHsm)) {
    let Some(softhsm) = part_or_skip(test, "SIGNET_SOFTHSM_MODULE") else {
        return;
    };
    let module = if spied {
        let Some(spy) = part_or_skip(test, "SIGNET_PKCS11_SPY") else {
            return;
        };
        spy
    } else {
        softhsm.clone()
    };
    if std::env::var(TEST).as_deref() == Ok(test) {
        let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
        body(&SoftHsm {
            folder,
            softhsm,
            module,
        });
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("tokens")).unwrap();
    let configuration = path.join("softhsm2.conf");
    let tokens = path.join("tokens");
    fs::write(
        &configuration,
        format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        ),
    )
    .unwrap();
    // A module that hangs must not hang the suite.
    let output = Command::new("timeout")
        .arg(PATIENCE_SECONDS)
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(TEST, test)
        .env(FOLDER, path)
        .env("SOFTHSM2_CONF", &configuration)
        .env("PKCS11SPY", &softhsm)
        .env("PKCS11SPY_OUTPUT", path.join("spied"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{}: {said}", output.status);
    // A name that fits no test would pass with nothing run.
    assert!(said.contains("1 passed"), "{said}");
    print!("{said}");
}

/// As in `tests/src/parts.rs`, which this crate cannot reach.
fn part_or_skip(test: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(name).filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let reason = format!("{name} is not set; see tests/parts/install");
    eprintln!("skipped {test}: {reason}");
    if let Some(file) = std::env::var_os("SIGNET_SKIPS") {
        let mut options = fs::OpenOptions::new();
        let mut file = options.append(true).create(true).open(file).unwrap();
        file.write_all(format!("{test}: {reason}\n").as_bytes())
            .unwrap();
    }
    None
}

impl SoftHsm {
    /// A new token, with [`PIN`].
    pub(crate) fn new_token(&self, label: &str) {
        run_tool(
            Command::new("softhsm2-util")
                .args(["--init-token", "--free", "--label", label])
                .args(["--so-pin", SO_PIN, "--pin", PIN]),
        );
    }

    pub(crate) fn open(&self, uri: &str) -> Result<Arc<Token>, TokenError> {
        self.open_with(uri, PIN, 4)
    }

    pub(crate) fn open_with(
        &self,
        uri: &str,
        pin: &str,
        sessions: usize,
    ) -> Result<Arc<Token>, TokenError> {
        Token::open(&self.module, &parse(uri), typed(pin), sessions)
    }

    /// A token with the label `ca`, open.
    pub(crate) fn token(&self) -> Arc<Token> {
        self.new_token("ca");
        self.open("pkcs11:token=ca").unwrap()
    }

    /// Runs OpenSC's tool on the token `ca`, logged in.
    pub(crate) fn pkcs11_tool(&self, arguments: &[&str]) -> Vec<u8> {
        run_tool(
            Command::new("pkcs11-tool")
                .arg("--module")
                .arg(&self.softhsm)
                .args(["--token-label", "ca", "--login", "--pin", PIN])
                .args(arguments),
        )
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.folder.join("tokens")
    }

    /// Takes the tokens away.
    pub(crate) fn take_away(&self) {
        fs::rename(self.tokens(), self.folder.join("gone")).unwrap();
    }

    /// Puts them back.
    pub(crate) fn put_back(&self) {
        fs::rename(self.folder.join("gone"), self.tokens()).unwrap();
    }

    /// How often the module was called by this name so far.
    pub(crate) fn calls(&self, name: &str) -> usize {
        let spied = fs::read_to_string(self.folder.join("spied")).unwrap();
        let call = format!(": {name}");
        spied.lines().filter(|line| line.ends_with(&call)).count()
    }
}

pub(crate) fn parse(uri: &str) -> KeyUri {
    KeyUri::parse(uri).unwrap()
}

pub(crate) fn typed(pin: &str) -> Pin {
    Pin::new(Zeroizing::new(pin.as_bytes().to_vec())).unwrap()
}

/// A certificate request signed by `signer`, sealed and verified by our own reader.
pub(crate) fn request(signer: &dyn Signer) -> CertificateRequest {
    let name = DistinguishedName::new(None, "x").unwrap();
    let prepared = prepare_request(&name, signer.public_key());
    let signature = signer.sign(prepared.to_be_signed()).unwrap();
    let request = prepared.seal(&signature).unwrap();
    let read = VerifiedCsr::parse(request.der()).unwrap();
    assert_eq!(read.key(), signer.public_key());
    request
}

/// Whether it signs now.
pub(crate) fn signs(signer: &dyn Signer) -> Result<(), hsm::SignError> {
    let name = DistinguishedName::new(None, "x").unwrap();
    let prepared = prepare_request(&name, signer.public_key());
    let signature = signer.sign(prepared.to_be_signed())?;
    prepared.seal(&signature).unwrap();
    Ok(())
}

pub(crate) fn run_tool(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}

pub(crate) fn openssl(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    run_tool(Command::new("openssl").current_dir(folder).args(arguments))
}
