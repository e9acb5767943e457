//! The names of a ceremony's files.

use std::fmt;

/// The plain name of a file in the ceremony's folder: 1 to 100 of `a-z A-Z 0-9 . _ -`, not beginning with a dot or a
/// dash. With neither a separator nor `..` nothing outside the folder can be named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

const MAX_BYTES: usize = 100;

/// Not the plain name of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the plain name of a file in the ceremony's folder: 1 to 100 letters, digits, '.', '_' and '-', not beginning with '.' or '-'"
)]
pub struct FileNameError;

impl FileName {
    /// Takes a name.
    ///
    /// # Errors
    /// When it has a separator, another character, or no plain length.
    pub fn parse(name: &str) -> Result<Self, FileNameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let plain = (1..=MAX_BYTES).contains(&name.len())
            && name.bytes().all(allowed)
            && !name.starts_with(['.', '-']);
        plain.then(|| Self(name.to_owned())).ok_or(FileNameError)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for FileName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for FileName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_taken() {
        assert!(FileName::parse("edge-1.csr").is_ok());
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "/etc/x",
            "a/b",
            "a\\b",
            ".x",
            "-x",
            "a b",
            "ä",
            "a\0",
            &"a".repeat(101),
        ] {
            assert!(FileName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
