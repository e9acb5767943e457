//! Where private keys live: `[keys]` and each `[[token]]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hsm::wrapping::WrappingKind;
use pki::name::KeyUri;

use super::reader::Section;

/// Where systemd puts a unit's credentials.
pub(super) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// How often a token's keys are tried.
const CANARY: Duration = Duration::from_secs(30);
/// A token that fails is to be heard of within an hour.
const CANARY_MAX: Duration = Duration::from_secs(3600);

/// The installation's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySettings {
    /// Where the key comes from that the installation's key-encryption key is sealed under.
    pub wrapping: WrappingSource,
    /// Where systemd put this process's credentials, if it did.
    pub credentials_directory: Option<PathBuf>,
    /// Whether this process's memory is kept out of swap.
    pub lock_memory: bool,
    /// Whether authorities sign only with keys that were made in a token and cannot leave it.
    pub require_confined: bool,
}

impl KeySettings {
    pub(super) fn read(
        root: &mut Section<'_>,
        environment: &BTreeMap<String, String>,
    ) -> Option<Self> {
        let mut section = root.section("keys");
        let passphrase_file = section.path("passphrase_file");
        let credential = section.optional::<CredentialName>("credential");
        let token = section.optional::<KeyUri>("token");
        let wrapping = match (passphrase_file, credential, token) {
            (Some(file), None, None) => Some(WrappingSource::Passphrase(file)),
            (None, Some(name), None) => Some(WrappingSource::Credential(name)),
            (None, None, Some(uri)) => Some(WrappingSource::Token(uri)),
            _ => {
                section.fault(
                    "passphrase_file",
                    "one of passphrase_file, credential and token is needed".to_owned(),
                );
                None
            }
        };
        if let Some(WrappingSource::Token(uri)) = &wrapping
            && !uri.names_key()
        {
            section.fault("token", "names no key: object=… is needed".to_owned());
        }
        let lock_memory = section.flag("lock_memory");
        let require_confined = section.flag("require_confined");
        section.finish();
        Some(Self {
            wrapping: wrapping?,
            credentials_directory: environment.get(CREDENTIALS_DIRECTORY).map(PathBuf::from),
            lock_memory,
            require_confined,
        })
    }
}

/// Where a wrapping key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrappingSource {
    /// A systemd credential.
    Credential(CredentialName),
    /// A file with a passphrase.
    Passphrase(PathBuf),
    /// A secret in a token.
    Token(KeyUri),
}

impl WrappingSource {
    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> WrappingKind {
        match self {
            Self::Credential(_) => WrappingKind::Credential,
            Self::Passphrase(_) => WrappingKind::Passphrase,
            Self::Token(_) => WrappingKind::Token,
        }
    }
}

impl fmt::Display for WrappingSource {
    /// As it stands in `[keys]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential = {}", name.as_str()),
            Self::Passphrase(file) => write!(f, "passphrase_file = {}", file.display()),
            Self::Token(uri) => write!(f, "token = {uri}"),
        }
    }
}

/// The name of a systemd credential: a file's name, never a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialName(String);

impl CredentialName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for CredentialName {
    type Err = CredentialNameError;

    fn from_str(text: &str) -> Result<Self, CredentialNameError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if (1..=255).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err(CredentialNameError)
        }
    }
}

/// Not a credential's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential's name has letters, digits, -, _ and . and begins with no dot")]
pub struct CredentialNameError;

/// A PKCS#11 token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// Which token.
    pub uri: KeyUri,
    /// Its label, by which it is called.
    pub label: String,
    /// The module that reaches it.
    pub module: PathBuf,
    /// The file with its PIN.
    pub pin_file: PathBuf,
    /// How many signatures it makes at a time.
    pub sessions: usize,
    /// How often its keys are tried.
    pub canary: Duration,
}

impl TokenSettings {
    pub(super) fn read_all(root: &mut Section<'_>) -> Vec<Self> {
        let mut tokens: Vec<Self> = Vec::new();
        root.each("token", |section| {
            let Some(token) = Self::read(section) else {
                return;
            };
            if tokens.iter().any(|other| other.label == token.label) {
                section.fault("uri", format!("two tokens are labelled {:?}", token.label));
            }
            tokens.push(token);
        });
        tokens
    }

    fn read(section: &mut Section<'_>) -> Option<Self> {
        let uri = section.required::<KeyUri>("uri");
        let label = uri.as_ref().and_then(|uri| {
            if uri.names_key() {
                section.fault("uri", "names a key: only token=… is meant here".to_owned());
            }
            if uri.token().is_none() {
                section.fault("uri", "has no token=…, the token's label".to_owned());
            }
            uri.token().map(str::to_owned)
        });
        let module = section.required::<PathBuf>("module");
        if module.as_ref().is_some_and(|module| module.is_relative()) {
            section.fault("module", "is not an absolute path".to_owned());
        }
        let pin_file = section.required::<PathBuf>("pin_file");
        let sessions = section.number("sessions", 4, 1, 64);
        let canary = section.duration("canary", CANARY, CANARY_MAX);
        if canary.is_zero() {
            section.fault("canary", "is at least a second".to_owned());
        }
        Some(Self {
            uri: uri?,
            label: label?,
            module: module?,
            pin_file: pin_file?,
            sessions,
            canary,
        })
    }

    /// One line for `config show`.
    pub(super) fn describe(&self) -> String {
        format!(
            "token = {}, module = {}, pin_file = {}, sessions = {}, canary = {}s\n",
            self.uri,
            self.module.display(),
            self.pin_file.display(),
            self.sessions,
            self.canary.as_secs()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Fault};

    fn parse(keys: &str) -> Result<Config, Vec<String>> {
        let text = format!(
            "[server]\ncluster = \"c\"\nnames = [\"localhost\"]\n[store]\nurl = \"sqlite:///x.db\"\n[keys]\n{keys}"
        );
        let directory = "/run/credentials/ca.service".to_owned();
        let environment = BTreeMap::from([(CREDENTIALS_DIRECTORY.to_owned(), directory)]);
        Config::parse(&text, &environment)
            .map_err(|faults| faults.0.iter().map(Fault::to_string).collect())
    }

    #[test]
    fn keys_rest_under_one_of_three() {
        let config = parse("credential = \"signet\"\nlock_memory = true").unwrap();
        assert_eq!(config.keys.wrapping.kind(), WrappingKind::Credential);
        assert_eq!(
            config.keys.credentials_directory,
            Some(PathBuf::from("/run/credentials/ca.service"))
        );
        assert!(config.keys.lock_memory && !config.keys.require_confined);
        let config = parse("token = \"pkcs11:token=a;object=b\"").unwrap();
        assert!(
            config
                .describe()
                .contains("keys.token = pkcs11:token=a;object=b\n")
        );
        for (keys, fault) in [
            ("", "keys.passphrase_file: one of"),
            (
                "passphrase_file = \"/x\"\ncredential = \"y\"",
                "keys.passphrase_file: one of",
            ),
            (
                "credential = \"../y\"",
                "keys.credential: a credential's name",
            ),
            (
                "credential = \"..\"",
                "keys.credential: a credential's name",
            ),
            ("token = \"pkcs11:token=a\"", "keys.token: names no key"),
            (
                "token = \"pkcs11:token=a?pin-value=1234\"",
                "keys.token: the PKCS#11 URI has a PIN",
            ),
            (
                "passphrase_file = \"/x\"\nlock_memory = 7",
                "keys.lock_memory: ",
            ),
            (
                "passphrase_file = \"/x\"\npassphrase = \"y\"",
                "keys.passphrase: is not a known key",
            ),
        ] {
            let faults = parse(keys).unwrap_err();
            assert!(
                faults.iter().any(|it| it.starts_with(fault)),
                "{keys}: {faults:?}"
            );
            assert!(faults.iter().all(|it| !it.contains("1234")), "{faults:?}");
        }
    }

    #[test]
    fn a_token_is_named_by_its_label_and_reached_by_an_absolute_path() {
        let token = |uri: &str, more: &str| {
            let module = "module = \"/usr/lib/m.so\"\npin_file = \"/etc/pin\"";
            format!("[[token]]\nuri = \"{uri}\"\n{module}\n{more}\n")
        };
        let with = |tokens: &str| parse(&format!("passphrase_file = \"/x\"\n{tokens}"));
        let two =
            token("pkcs11:token=a", "canary = \"5s\"") + &token("pkcs11:token=b;serial=1", "");
        let config = with(&two).unwrap();
        let labels: Vec<_> = config
            .tokens
            .iter()
            .map(|token| token.label.as_str())
            .collect();
        assert_eq!(labels, ["a", "b"]);
        assert_eq!(config.tokens[0].canary, Duration::from_secs(5));
        assert_eq!(config.tokens[1].sessions, 4);
        let relative =
            "[[token]]\nuri = \"pkcs11:token=a\"\nmodule = \"../m.so\"\npin_file = \"/p\"";
        for (tokens, fault) in [
            (token("pkcs11:serial=1", ""), "token[0].uri: has no token=…"),
            (
                token("pkcs11:token=a;object=k", ""),
                "token[0].uri: names a key",
            ),
            (
                token("pkcs11:token=a", "sessions = 65"),
                "token[0].sessions: ",
            ),
            (
                token("pkcs11:token=a", "canary = \"0s\""),
                "token[0].canary: ",
            ),
            (
                token("pkcs11:token=a", "pin = \"1\""),
                "token[0].pin: is not a known key",
            ),
            (
                two.replace("token=b;serial=1", "token=a"),
                "token[1].uri: two tokens",
            ),
            (
                relative.to_owned(),
                "token[0].module: is not an absolute path",
            ),
            (
                "[token]\nuri = \"x\"".to_owned(),
                "token: expected a list of tables",
            ),
        ] {
            let faults = with(&tokens).unwrap_err();
            assert!(
                faults.iter().any(|it| it.starts_with(fault)),
                "{tokens}: {faults:?}"
            );
        }
    }
}
