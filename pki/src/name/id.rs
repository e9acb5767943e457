//! Identifiers that Signet and its operators give.

use super::{NameError, check, name_traits};

/// A mesh cluster's id, Istio's `ClusterID`: letters, digits, `.`, `_`, `-`, beginning with a letter or
/// digit, at most 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// Takes a cluster's id.
    ///
    /// # Errors
    /// When it is not of the alphabet or too long.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        identifier("a cluster id", s, 63).map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

name_traits!(ClusterName);

/// An authority's id, `<cluster>-<generation>`: the alphabet of a cluster's id, at most 80 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityId(String);

impl AuthorityId {
    /// The id of a cluster's authority number `generation`, counted from 1.
    #[must_use]
    pub fn of_cluster(cluster: &ClusterName, generation: u32) -> Self {
        Self(format!("{cluster}-{generation}"))
    }

    /// Takes an authority's id.
    ///
    /// # Errors
    /// When it is not of the alphabet or too long.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        identifier("an authority id", s, 80).map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

name_traits!(AuthorityId);

/// A profile's name: lower-case letters, digits and `-`, beginning with a letter, at most 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

impl ProfileName {
    /// Takes a profile's name.
    ///
    /// # Errors
    /// When it is not of the alphabet or too long.
    pub fn parse(s: &str) -> Result<Self, NameError> {
        const KIND: &str = "a profile's name";
        check(KIND, s, 32, |c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
        })?;
        if !s.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(NameError::shape(KIND, s, "it begins with a letter"));
        }
        Ok(Self(s.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

name_traits!(ProfileName);

fn identifier(kind: &'static str, s: &str, max: usize) -> Result<String, NameError> {
    check(kind, s, max, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
    })?;
    if !s.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(NameError::shape(
            kind,
            s,
            "it begins with a letter or a digit",
        ));
    }
    Ok(s.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_take_istios_default_and_refuse_paths() {
        assert!(ClusterName::parse("Kubernetes").is_ok());
        for bad in [
            "",
            "../x",
            "-a",
            "a b",
            "a/b",
            &"x".repeat(64),
            "'; DROP TABLE",
        ] {
            assert!(ClusterName::parse(bad).is_err(), "{bad}");
        }
    }
}
