//! Names: who and what a certificate, a cluster or an authority is called.

mod distinguished;
mod dns;
mod id;
mod key_uri;
mod spiffe;

pub use distinguished::DistinguishedName;
pub(crate) use distinguished::EMPTY_NAME;
pub use dns::{DnsName, DnsPattern};
pub use id::{AuthorityId, ClusterName, ProfileName};
pub use key_uri::{KeyUri, KeyUriError, TokenDescription};
pub use spiffe::{SpiffeId, SpiffePattern, TrustDomain};

/// Why a name was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A character that this kind of name may not have.
    #[error("{name:?} has {character:?}, which {kind} may not have")]
    Character {
        /// What kind of name was expected.
        kind: &'static str,
        /// The name as given, cut to 100 characters.
        name: String,
        /// The first offending character.
        character: char,
    },
    /// Empty where something must stand.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Not the shape of this kind of name.
    #[error("{name:?} is not {kind}: {expected}")]
    Shape {
        /// What kind of name was expected.
        kind: &'static str,
        /// The name as given, cut to 100 characters.
        name: String,
        /// What would have been right.
        expected: &'static str,
    },
    /// Longer than its kind allows.
    #[error("{kind} has {length} bytes, {max} are allowed")]
    TooLong {
        /// What kind of name was expected.
        kind: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The bound in bytes.
        max: usize,
    },
}

impl NameError {
    fn shape(kind: &'static str, name: &str, expected: &'static str) -> Self {
        Self::Shape {
            kind,
            name: excerpt(name),
            expected,
        }
    }
}

/// The first 100 characters: an error never carries more of what a stranger sent.
fn excerpt(name: &str) -> String {
    name.chars().take(100).collect()
}

fn check(
    kind: &'static str,
    name: &str,
    max: usize,
    allowed: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty(kind));
    }
    if name.len() > max {
        return Err(NameError::TooLong {
            kind,
            length: name.len(),
            max,
        });
    }
    match name.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(NameError::Character {
            kind,
            name: excerpt(name),
            character,
        }),
        None => Ok(()),
    }
}

macro_rules! name_traits {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::name::NameError;

            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Self::parse(s)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
use name_traits;
