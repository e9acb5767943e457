//! Real PKCS#11 tokens of one's own: SoftHSM2, in a temporary directory. `pkcs11-tool` is the other side.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::run;

/// Where Debian puts the module, the architecture's directory and the plain one.
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
];
const SO_PIN: &str = "security officer's";

/// Tokens, gone when dropped.
pub struct SoftHsm {
    directory: TempDir,
    module: PathBuf,
}

impl SoftHsm {
    /// No token yet. Without SoftHSM2 and `pkcs11-tool` the test is reported as skipped.
    pub fn or_skip(test: &str) -> Option<Self> {
        let named = std::env::var_os("SIGNET_SOFTHSM_MODULE").map(PathBuf::from);
        let usual = MODULES.iter().map(PathBuf::from);
        let module = named.into_iter().chain(usual).find(|path| path.exists());
        let tools = ["softhsm2-util", "pkcs11-tool"].iter().all(|tool| {
            let found = Command::new("which").arg(tool).output();
            found.is_ok_and(|found| found.status.success())
        });
        let (Some(module), true) = (module, tools) else {
            crate::parts::skip(
                test,
                "no SoftHSM2 or no pkcs11-tool; see tests/parts/install",
            );
            return None;
        };
        let directory = TempDir::new().unwrap();
        let hsm = Self { directory, module };
        std::fs::create_dir(hsm.tokens()).unwrap();
        let config = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            hsm.tokens().display()
        );
        std::fs::write(hsm.config(), config).unwrap();
        Some(hsm)
    }

    /// The module.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// What a program needs in its environment to see these tokens.
    pub fn environment(&self) -> (String, String) {
        (
            "SOFTHSM2_CONF".to_owned(),
            self.config().display().to_string(),
        )
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("softhsm2.conf")
    }

    /// Where all tokens lie.
    pub fn tokens(&self) -> PathBuf {
        self.directory.path().join("tokens")
    }

    /// Makes a token, and a file with its PIN; gives its table of the configuration, ended by the given lines.
    pub fn token(&self, label: &str, pin: &str, more: &str) -> String {
        let mut command = Command::new("softhsm2-util");
        let (name, value) = self.environment();
        command.env(name, value);
        command.args(["--init-token", "--free", "--label", label]);
        run(command.args(["--so-pin", SO_PIN, "--pin", pin]));
        let file = self.pin_file(label);
        std::fs::write(&file, format!("{pin}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!(
            "[[token]]\nuri = \"pkcs11:token={label}\"\nmodule = \"{}\"\npin_file = \"{}\"\n{more}\n",
            self.module.display(),
            file.display()
        )
    }

    /// The file with a token's PIN.
    pub fn pin_file(&self, label: &str) -> PathBuf {
        self.directory.path().join(format!("{label}.pin"))
    }

    /// The directory of the one token of this label.
    pub fn directory_of(&self, label: &str) -> PathBuf {
        let holds = |path: &PathBuf| {
            let object = std::fs::read(path.join("token.object")).unwrap();
            object.windows(label.len()).any(|w| w == label.as_bytes())
        };
        let entries = std::fs::read_dir(self.tokens()).unwrap();
        let mut found = entries.map(|entry| entry.unwrap().path()).filter(holds);
        found.next().unwrap()
    }

    /// Moves a token's directory out of the module's sight; dropping what comes back, or putting it back, undoes it.
    pub fn take_away(&self, label: &str) -> Away {
        let (place, now) = (self.directory_of(label), self.directory.path().join("away"));
        std::fs::rename(&place, &now).unwrap();
        Away { place, now }
    }

    /// `pkcs11-tool`, logged in to a token.
    pub fn tool(&self, label: &str) -> Command {
        let mut command = Command::new("pkcs11-tool");
        let (name, value) = self.environment();
        command.env(name, value);
        let pin = std::fs::read_to_string(self.pin_file(label)).unwrap();
        command.arg("--module").arg(&self.module);
        command.args(["--token-label", label, "--login", "--pin", pin.trim_end()]);
        command
    }

    /// Brings a key into a token from outside, under a label: PKCS#8, DER.
    pub fn import(&self, label: &str, key_label: &str, pkcs8: &[u8], point: &[u8]) {
        let private = self.directory.path().join("key.der");
        std::fs::write(&private, pkcs8).unwrap();
        let public = self.directory.path().join("public.der");
        std::fs::write(&public, point).unwrap();
        for (kind, file) in [("privkey", &private), ("pubkey", &public)] {
            let mut command = self.tool(label);
            command.arg("--write-object").arg(file);
            run(command.args([
                "--type",
                kind,
                "--id",
                "01",
                "--label",
                key_label,
                "--usage-sign",
            ]));
            std::fs::remove_file(file).unwrap();
        }
    }
}

/// A token that is away.
pub struct Away {
    place: PathBuf,
    now: PathBuf,
}

impl Away {
    /// Puts it back.
    pub fn put_back(self) {}
}

impl Drop for Away {
    fn drop(&mut self) {
        let _ = std::fs::rename(&self.now, &self.place);
    }
}
