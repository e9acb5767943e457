//! The CAs that somebody administers, by name: `$XDG_CONFIG_HOME/signet/contexts.toml`.
//!
//! No secret is in the file: keys and tokens are remembered by the path of their file. It is its owner's alone all the same, since
//! it says where they lie.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::atomic;

/// The longest name of a context.
const MAX_NAME: usize = 64;

/// What a context is called: 1 to 64 letters, digits, `-`, `_` and `.`, of which the first is a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContextName(String);

impl ContextName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContextName {
    type Err = ContextsError;

    fn from_str(text: &str) -> Result<Self, ContextsError> {
        let first = text.bytes().next();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        // It is the name of a folder too (the heads that were seen).
        if text.len() > MAX_NAME
            || !first.is_some_and(|b| b.is_ascii_alphanumeric())
            || !text.bytes().all(plain)
        {
            return Err(ContextsError::Name(text.chars().take(100).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ContextName {
    type Error = ContextsError;

    fn try_from(text: String) -> Result<Self, ContextsError> {
        text.parse()
    }
}

impl From<ContextName> for String {
    fn from(name: ContextName) -> Self {
        name.0
    }
}

impl std::fmt::Display for ContextName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One CA, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Its `admin` listener, `https://host:port`.
    pub url: String,
    /// PEM file of the roots that vouch for it.
    pub root: PathBuf,
    /// The name in its certificate, where it is not the host of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// PEM file of our certificate, leaf first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// File of an OpenID Connect token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<ContextName>,
    /// Each by its name.
    #[serde(default, rename = "context")]
    pub all: BTreeMap<ContextName, Context>,
}

impl Contexts {
    /// Where they are kept: `signet/contexts.toml` under `$XDG_CONFIG_HOME`, or else under `~/.config`.
    ///
    /// # Errors
    /// When neither that nor `$HOME` is known.
    pub fn default_path() -> Result<PathBuf, ContextsError> {
        Ok(xdg("XDG_CONFIG_HOME", ".config")?.join("signet/contexts.toml"))
    }

    /// Reads them; a file that is not there has none.
    ///
    /// # Errors
    /// When the file does not read.
    pub fn load(path: &Path) -> Result<Self, ContextsError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ContextsError::io(path, source)),
        };
        toml::from_str(&text).map_err(|source| ContextsError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Writes them, mode 0600, in folders of mode 0700 where those are not there; a reader sees all of the old or all of the new.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ContextsError> {
        let text = toml::to_string(self).map_err(|source| ContextsError::NotWritable {
            source: Box::new(source),
        })?;
        let text = format!("# Written by `ca context`.\n{text}");
        make_parent(path).map_err(|source| ContextsError::io(path, source))?;
        atomic::write_atomically_as(path, text.as_bytes(), atomic::KEY_MODE)
            .map_err(|source| ContextsError::io(path, source))
    }

    /// The context of this name.
    ///
    /// # Errors
    /// When there is none; the error names those that there are.
    pub fn get(&self, name: &ContextName) -> Result<&Context, ContextsError> {
        self.all.get(name).ok_or_else(|| ContextsError::Unknown {
            name: name.clone(),
            known: self.all.keys().map(ToString::to_string).collect(),
        })
    }
}

/// What `ca` remembers between runs about the CA of a context: `signet/NAME` under `$XDG_STATE_HOME`, or else under
/// `~/.local/state`.
///
/// # Errors
/// When neither that nor `$HOME` is known.
pub fn state_directory(name: &str) -> Result<PathBuf, ContextsError> {
    Ok(xdg("XDG_STATE_HOME", ".local/state")?
        .join("signet")
        .join(name))
}

/// Writes what is remembered, mode 0600, as [`Contexts::save`] writes.
///
/// # Errors
/// When the file cannot be written.
pub fn save_state(path: &Path, content: &[u8]) -> Result<(), ContextsError> {
    make_parent(path)
        .and_then(|()| atomic::write_atomically_as(path, content, atomic::KEY_MODE))
        .map_err(|source| ContextsError::io(path, source))
}

/// A base folder of the XDG specification, which takes absolute paths alone.
fn xdg(variable: &'static str, below_home: &str) -> Result<PathBuf, ContextsError> {
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    if let Some(path) = std::env::var_os(variable).and_then(absolute) {
        return Ok(path);
    }
    match std::env::var_os("HOME").and_then(absolute) {
        Some(home) => Ok(home.join(below_home)),
        None => Err(ContextsError::NoHome { variable }),
    }
}

fn make_parent(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
}

/// Why contexts were not read or written.
#[derive(Debug, thiserror::Error)]
pub enum ContextsError {
    /// The system said no.
    #[error("cannot read or write {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a name.
    #[error(
        "{0:?} is not a context's name: 1 to {MAX_NAME} letters, digits, - _ and ., the first a letter or a digit"
    )]
    Name(String),
    /// No place for the file.
    #[error("neither ${variable} nor $HOME says where files of this user are kept")]
    NoHome {
        /// The variable.
        variable: &'static str,
    },
    /// What no TOML can say.
    #[error("the contexts cannot be written")]
    NotWritable {
        /// Why.
        source: Box<toml::ser::Error>,
    },
    /// Not contexts.
    #[error("{path:?} does not read; correct it, or move it away and begin with `ca context add`")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// No such context.
    #[error("there is no context {name}; there {}", there_are(known))]
    Unknown {
        /// What was asked for.
        name: ContextName,
        /// What there is.
        known: Vec<String>,
    },
}

impl ContextsError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

fn there_are(known: &[String]) -> String {
    match known {
        [] => "is none yet: `ca context add`".to_owned(),
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn contexts_come_back_as_they_were_and_are_their_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/er/contexts.toml");
        assert_eq!(Contexts::load(&path).unwrap(), Contexts::default());
        let mut contexts = Contexts::default();
        let name: ContextName = "prod.eu-1".parse().unwrap();
        let context = Context {
            url: "https://ca.example:8444".to_owned(),
            root: "/etc/signet/root.pem".into(),
            server_name: None,
            cert: Some("/home/a/admin.pem".into()),
            key: Some("/home/a/admin.key".into()),
            token_file: None,
        };
        contexts.all.insert(name.clone(), context.clone());
        contexts.current = Some(name.clone());
        contexts.save(&path).unwrap();
        let read = Contexts::load(&path).unwrap();
        assert_eq!(read, contexts);
        assert_eq!(read.get(&name).unwrap(), &context);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let error = read.get(&"other".parse().unwrap()).unwrap_err();
        assert!(error.to_string().ends_with("there is prod.eu-1"), "{error}");
    }

    #[test]
    fn a_name_is_a_folder_of_its_own() {
        for bad in ["", ".", "..", "a/b", "-a", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<ContextName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_that_says_something_else_is_told() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("contexts.toml");
        for text in [
            "current = 'a/b'",
            "[context.a]\nurl = 'https://a'",
            "[context.a]\nurl = 'https://a'\nroot = '/r'\npassword = 'x'",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Contexts::load(&path).unwrap_err();
            assert!(matches!(error, ContextsError::Syntax { .. }), "{error}");
        }
    }
}
