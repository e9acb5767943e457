//! Why a token was refused: a class for the caller, a sentence for the log.

use std::fmt;

use pki::time::{Timestamp, Ttl};

use super::jwks::Algorithm;

/// The part of a token that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenPart {
    /// The first part: how it is signed.
    Header,
    /// The second part: the claims.
    Payload,
    /// The third part.
    Signature,
}

impl fmt::Display for TokenPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// The class of a refusal: what a caller may be told, and a label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenReason {
    /// Not a token that this server reads.
    Malformed,
    /// Signed by another algorithm than the key's.
    Algorithm,
    /// For another audience.
    Audience,
    /// Of an issuer that the cluster does not have.
    Issuer,
    /// Past its end.
    Expired,
    /// Before its start.
    NotYetValid,
    /// The signature is wrong.
    Signature,
    /// Signed by a key that is not pinned.
    UnknownKey,
    /// Made to live longer than allowed.
    Lifetime,
    /// Not of a service account, or not bound as required.
    Subject,
    /// The cluster's API server does not accept it.
    Refused,
}

impl TokenReason {
    /// A word in lower case, stable over releases.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Signature => "signature",
            Self::UnknownKey => "unknown-key",
            Self::Lifetime => "lifetime",
            Self::Subject => "subject",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for TokenReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a token was not accepted. Its text is for the log: it quotes single claims, cut short and escaped, never the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`super::MAX_TOKEN_BYTES`].
    #[error("the token has {0} bytes, expected at most {max}", max = super::MAX_TOKEN_BYTES)]
    TooLong(usize),
    /// Not three parts.
    #[error("the token is not three non-empty parts with a dot between them")]
    Parts,
    /// A part is not base64.
    #[error("the token's {0} is not base64url without padding")]
    Base64(TokenPart),
    /// A part is not the JSON object that was expected.
    #[error("the token's {part} is not the expected JSON object: {detail}")]
    Json {
        /// Which part.
        part: TokenPart,
        /// What the reader says.
        detail: String,
    },
    /// The header has a member that changes how the token must be read (RFC 7515 §4.1.11, RFC 7797).
    #[error("the token's header has {0:?}, which is not supported and may not be ignored")]
    Header(&'static str),
    /// `typ` is not that of a plain token.
    #[error("the token's type is {0:?}, expected \"JWT\" or none")]
    Type(String),
    /// Signed by an algorithm that is not the key's.
    #[error("the token's algorithm is {got:?}, expected {}", expected.map_or("one of RS256, RS384, RS512, ES256, ES384, EdDSA", Algorithm::as_str))]
    Algorithm {
        /// What the header says.
        got: String,
        /// The pinned key's algorithm; none when the header's is unknown altogether.
        expected: Option<Algorithm>,
    },
    /// No pinned key has the token's key id.
    #[error("no pinned key has the id {0:?}")]
    UnknownKey(Option<String>),
    /// The signature does not verify.
    #[error("the signature does not verify under the pinned key {0:?}")]
    Signature(Option<String>),
    /// Another issuer.
    #[error("the token's issuer is {got:?}, expected one of {expected:?}")]
    Issuer {
        /// The token's.
        got: String,
        /// The cluster's.
        expected: Vec<String>,
    },
    /// No common audience.
    #[error("the token's audiences are {got:?}, expected one of {expected:?}")]
    Audience {
        /// The token's.
        got: Vec<String>,
        /// The cluster's.
        expected: Vec<String>,
    },
    /// Past `exp`.
    #[error("the token expired at {expires_at}, and it is {now}")]
    Expired {
        /// When it ended.
        expires_at: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// Before `nbf` or `iat`.
    #[error("the token is not valid before {not_before}, and it is {now}")]
    NotYetValid {
        /// When it begins.
        not_before: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// From `iat` to `exp` is longer than allowed, or negative.
    #[error("the token was made to live {seconds} s, expected more than 0 s and at most {longest}")]
    Lifetime {
        /// `exp` less `iat`.
        seconds: i64,
        /// The longest that the cluster allows.
        longest: Ttl,
    },
    /// `sub` is not that of a service account, or the claims disagree with each other.
    #[error("the token's subject is {got:?}: {why}")]
    Subject {
        /// The token's subject.
        got: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A claim has a value that no cluster writes.
    #[error("the token's {claim} is {got:?}: {why}")]
    Claim {
        /// Which claim.
        claim: &'static str,
        /// Its value.
        got: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Bound to no pod where the cluster wants that.
    #[error("the token is bound to no pod, and the cluster's definition requires one")]
    NoPod,
    /// The API server says no.
    #[error("the cluster's API server does not accept the token: {0}")]
    Refused(String),
}

impl TokenError {
    /// The class of this refusal.
    #[must_use]
    pub const fn reason(&self) -> TokenReason {
        match self {
            Self::TooLong(_)
            | Self::Parts
            | Self::Base64(_)
            | Self::Json { .. }
            | Self::Header(_)
            | Self::Type(_)
            | Self::Claim { .. } => TokenReason::Malformed,
            Self::Algorithm { .. } => TokenReason::Algorithm,
            Self::UnknownKey(_) => TokenReason::UnknownKey,
            Self::Signature(_) => TokenReason::Signature,
            Self::Issuer { .. } => TokenReason::Issuer,
            Self::Audience { .. } => TokenReason::Audience,
            Self::Expired { .. } => TokenReason::Expired,
            Self::NotYetValid { .. } => TokenReason::NotYetValid,
            Self::Lifetime { .. } => TokenReason::Lifetime,
            Self::Subject { .. } | Self::NoPod => TokenReason::Subject,
            Self::Refused(_) => TokenReason::Refused,
        }
    }

    pub(in crate::authn) fn json(part: TokenPart, error: &serde_json::Error) -> Self {
        Self::Json {
            part,
            detail: clip(&error.to_string()),
        }
    }
}

/// How much of a stranger's text an error quotes, in bytes.
const QUOTED_BYTES: usize = 200;
/// How many entries of a stranger's list an error quotes.
const QUOTED_ENTRIES: usize = 8;

/// The beginning of a stranger's text, so that a refusal's log line stays short.
pub(in crate::authn) fn clip(text: &str) -> String {
    if text.len() <= QUOTED_BYTES {
        return text.to_owned();
    }
    let mut end = QUOTED_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

pub(in crate::authn) fn clip_list(list: &[String]) -> Vec<String> {
    list.iter().take(QUOTED_ENTRIES).map(|s| clip(s)).collect()
}
