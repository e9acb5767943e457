//! Where a root's private key is: in a file, or in a token.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ceremony::fault::{Faults, Section};
use crate::ceremony::file_name::FileName;
use crate::name::KeyUri;

/// What a plan's `key` begins with when it is in a token.
const TOKEN_SCHEME: &str = "pkcs11:";

/// Where a root's private key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In an encrypted file of the ceremony's folder.
    File(FileName),
    /// In a PKCS#11 token.
    Token(TokenKey),
}

/// A key in a token, and how the token is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    uri: KeyUri,
    module: PathBuf,
    confined: bool,
}

impl TokenKey {
    /// Which key, in which token.
    #[must_use]
    pub fn uri(&self) -> &KeyUri {
        &self.uri
    }

    /// The token's library, an absolute path.
    #[must_use]
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// Whether the plan demands that the key was made in its token and cannot leave it.
    #[must_use]
    pub fn is_confined(&self) -> bool {
        self.confined
    }
}

impl KeyPlace {
    /// The file, where it is one.
    #[must_use]
    pub fn file(&self) -> Option<&FileName> {
        match self {
            Self::File(file) => Some(file),
            Self::Token(_) => None,
        }
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.fmt(f),
            Self::Token(token) => token.uri.fmt(f),
        }
    }
}

/// `key` of a section, and the plan's `[token]` beside it where there is one.
pub(super) fn key(
    section: &mut Section,
    token: &mut Option<Section>,
    faults: &mut Faults,
) -> Option<KeyPlace> {
    let at = section.at("key");
    let before = faults.all().len();
    let text = section.required(faults, "key", |key| {
        Ok::<_, std::convert::Infallible>(key.to_owned())
    })?;
    if !text.starts_with(TOKEN_SCHEME) {
        if token.is_some() {
            faults.push("token", "stands there, and the key is a file");
        }
        let file = FileName::parse(&text).map_err(|error| faults.push(at, error));
        return file.ok().map(KeyPlace::File);
    }
    let uri = match KeyUri::parse(&text) {
        Ok(uri) => uri,
        Err(error) => {
            faults.push(at, error);
            return None;
        }
    };
    if uri.object().is_none() {
        // An id alone would make a key that nobody finds by its name.
        faults.push(&at, "the URI lacks the key's label, as object=…");
    }
    if uri.is_by_slot_alone() {
        let what = "a slot is another one on another day: name the token by token=… or serial=…";
        faults.push(&at, what);
    }
    if uri.module_path().is_some() {
        let what = "names a module, which belongs into token.module";
        faults.push(&at, what);
    }
    let Some(token) = token else {
        faults.push("token", "is missing: [token] module says how it is reached");
        return None;
    };
    let module = token.required(faults, "module", module);
    let confined = match token.take("confined") {
        None => false,
        Some(toml::Value::Boolean(confined)) => confined,
        Some(_) => {
            faults.push(token.at("confined"), "expected true or false");
            false
        }
    };
    (faults.all().len() == before).then_some(())?;
    Some(KeyPlace::Token(TokenKey {
        uri,
        module: module?,
        confined,
    }))
}

/// Not the path of a module.
#[derive(Debug, thiserror::Error)]
#[error("expected an absolute path without `..`")]
struct NotAModule;

fn module(text: &str) -> Result<PathBuf, NotAModule> {
    let path = Path::new(text);
    let plain = path
        .components()
        .all(|part| !matches!(part, std::path::Component::ParentDir));
    let prints = !text.chars().any(char::is_control);
    (path.is_absolute() && plain && prints)
        .then(|| path.to_owned())
        .ok_or(NotAModule)
}
