//! A ceremony's folder, and the real program run in it.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use hsm::{Signer, SoftwareSigner, key_file};
use pki::certificate::{AuthorityRequest, Urls, prepare_root};
use pki::csr::prepare_request;
use pki::key::KeyAlgorithm;
use pki::name::DistinguishedName;
use pki::pem;
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};

pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

pub(crate) const CREATE_ROOT: &str = r#"
version = 1
ceremony = "create-root"
[root]
name = "Test Root 1"
organization = "Test"
algorithm = "P-256"
life = "10y"
[outputs]
certificate = "root.pem"
key = "root.key"
crl = "root.crl.pem"
"#;

pub(crate) const SIGN: &str = r#"
version = 1
ceremony = "sign-intermediate"
[root]
certificate = "root.pem"
key = "root.key"
crl_url = "http://pki.test/root.crl"
[[intermediate]]
request = "edge.csr"
profile = "cluster-intermediate"
life = "1y"
out = "edge.pem"
"#;

pub(crate) const CRL: &str = r#"
version = 1
ceremony = "issue-crl"
[root]
certificate = "root.pem"
key = "root.key"
[crl]
number = "next"
previous = "root.crl.pem"
out = "root-2.crl.pem"
[[revoke]]
certificate = "edge.pem"
reason = "superseded"
"#;

/// A root whose key is opened by any three of five shares.
pub(crate) const SHARED_ROOT: &str = r#"
version = 1
ceremony = "create-root"
[root]
name = "Test Root 1"
organization = "Test"
algorithm = "P-256"
[outputs]
certificate = "root.pem"
key = "root.key"
crl = "root.crl.pem"
[shares]
threshold = 3
holders = ["Ada Lovelace", "Bert", "Cleo", "Dora", "Émile"]
"#;

/// A folder, removed with the test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("pass", format!("{PASSPHRASE}\n"));
        folder
    }

    /// A folder with a root made by a ceremony, and a request.
    pub(crate) fn with_root() -> Self {
        let folder = Self::new();
        folder.done("create-root", CREATE_ROOT);
        folder.request("edge.csr", "Test Edge G1");
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        let metadata = std::fs::metadata(self.path(name)).unwrap();
        metadata.permissions().mode() & 0o777
    }

    /// Writes a request for a new key.
    pub(crate) fn request(&self, name: &str, common_name: &str) -> SoftwareSigner {
        let (signer, _) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        self.request_of(&signer, name, common_name);
        signer
    }

    pub(crate) fn request_of(&self, signer: &SoftwareSigner, name: &str, common_name: &str) {
        let subject = DistinguishedName::new(None, common_name).unwrap();
        let prepared = prepare_request(&subject, signer.public_key());
        let signature = signer.sign(prepared.to_be_signed()).unwrap();
        let request = prepared.seal(&signature).unwrap();
        self.write(name, pem::request(request.der()));
    }

    /// A root that no ceremony made: of any time.
    pub(crate) fn foreign_root(&self, now: Timestamp, ttl: Ttl) -> SoftwareSigner {
        let (signer, pkcs8) = SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let request = AuthorityRequest {
            profile: Profile::ROOT,
            subject: &DistinguishedName::new(None, "Foreign").unwrap(),
            key: signer.public_key(),
            path_len: None,
            ttl,
            urls: &Urls::default(),
            entropy: [7; 16],
            now,
        };
        let prepared = prepare_root(&request).unwrap();
        let signature = signer.sign(prepared.to_be_signed()).unwrap();
        self.write("root.pem", prepared.seal(&signature).unwrap().to_pem());
        key_file::write_new(&self.path("root.key"), &pkcs8, PASSPHRASE.as_bytes()).unwrap();
        signer
    }

    /// Runs the program in the folder.
    pub(crate) fn ca_root(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ca-root"))
            .args(arguments)
            .current_dir(self.0.path())
            // A SoftHSM of its own, for those tests that have tokens.
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may well end without reading anything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Runs a plan without being asked; the plan lies in `NAME.toml`, the transcript goes to `NAME.transcript`.
    pub(crate) fn run(&self, name: &str, plan: &str, more: &[&str]) -> Output {
        let (file, transcript) = (format!("{name}.toml"), format!("{name}.transcript"));
        self.write(&file, plan);
        let mut arguments = vec!["run", &file, "--transcript", &transcript, "--yes"];
        let secrets = ["--passphrase-file", "--pin-file", "--share", "--ask-shares"];
        let has_shares = plan.contains("\n[shares]") && plan.contains("create-root");
        if !has_shares && !secrets.iter().any(|flag| more.contains(flag)) {
            arguments.extend(["--passphrase-file", "pass"]);
        }
        arguments.extend(more);
        self.ca_root(&arguments, "")
    }

    /// Runs a plan that goes through; what was printed.
    pub(crate) fn done(&self, name: &str, plan: &str) -> String {
        self.done_with(name, plan, &[])
    }

    pub(crate) fn done_with(&self, name: &str, plan: &str, more: &[&str]) -> String {
        let output = self.run(name, plan, more);
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Checks a transcript that holds; what was printed.
    #[track_caller]
    pub(crate) fn verified(&self, transcript: &str) -> String {
        let output = self.ca_root(&["verify", transcript], "");
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Checks a transcript that does not hold, because of `why`.
    #[track_caller]
    pub(crate) fn differs(&self, transcript: &str, why: &str) {
        let output = self.ca_root(&["verify", transcript], "");
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(
            told(&output).contains(why),
            "{why:?} is not in:\n{}",
            told(&output)
        );
        assert!(!told(&output).contains("ok: "));
    }

    /// What openssl says.
    pub(crate) fn openssl(&self, arguments: &[&str]) -> Output {
        Command::new("openssl")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// The program on a terminal of its own.
    pub(crate) fn terminal(&self, arguments: &[&str]) -> Terminal {
        let program = env!("CARGO_BIN_EXE_ca-root");
        let command = format!("{program} {}", arguments.join(" "));
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Terminal {
            input: child.stdin.take(),
            output: child.stdout.take().unwrap(),
            seen: String::new(),
            child,
        }
    }

    /// Runs a plan that is refused with `why`, without a trace.
    #[track_caller]
    pub(crate) fn refused(&self, plan: &str, more: &[&str], why: &str) {
        let before = self.names();
        let output = self.run("refused", plan, more);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(
            told(&output).contains(why),
            "{why:?} is not in:\n{}",
            told(&output)
        );
        std::fs::remove_file(self.path("refused.toml")).unwrap();
        assert_eq!(self.names(), before);
    }

    fn names(&self) -> Vec<std::ffi::OsString> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }
}

/// Somebody at a terminal, who reads before they type.
pub(crate) struct Terminal {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    pub(crate) seen: String,
}

impl Terminal {
    /// Waits for `prompt`, then types a line.
    #[track_caller]
    pub(crate) fn answer(&mut self, prompt: &str, line: &str) {
        let from = self.seen.len();
        let mut octet = [0];
        let mut octets = Vec::new();
        while !octets.ends_with(prompt.as_bytes()) {
            let more = self.output.read(&mut octet).unwrap();
            let so_far = String::from_utf8_lossy(&octets);
            assert_eq!(more, 1, "{prompt:?} did not come:\n{}{so_far}", self.seen);
            octets.push(octet[0]);
        }
        self.seen.push_str(&String::from_utf8_lossy(&octets));
        assert!(self.seen.len() > from);
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{line}\r").as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// Waits for the end: everything that was on the terminal, and whether the program was content.
    pub(crate) fn end(mut self) -> (String, bool) {
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).unwrap();
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        drop(self.input.take());
        (self.seen, self.child.wait().unwrap().success())
    }
}

pub(crate) fn told(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}
