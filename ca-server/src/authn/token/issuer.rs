//! A cluster's token issuers: who may have signed a token, with which pinned keys, for whom.

use std::sync::atomic::{AtomicU64, Ordering};

use pki::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};

use super::DEFAULT_MAX_LIFETIME;
use super::claims::{Expected, ServiceAccount, check};
use super::error::{TokenError, clip};
use super::jwks::{Jwks, JwksError};
use super::verify::UnverifiedToken;

/// A token issuer as a cluster's definition writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenIssuerConfig {
    /// The `iss` of its tokens, byte for byte. kubeadm's clusters all say `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// The token must be for one of these; `istio-ca` by default.
    #[serde(default = "default_audiences")]
    pub audiences: Vec<String>,
    /// The pinned key set, as the API server's `/openid/v1/jwks` answers it. It is never fetched.
    pub jwks: serde_json::Value,
    /// The longest that a token may have been made to live; `24h` by default.
    #[serde(default = "default_max_lifetime")]
    pub max_token_lifetime: Ttl,
    /// Whether only tokens that are bound to a pod are accepted; false by default.
    #[serde(default)]
    pub require_pod: bool,
}

fn default_audiences() -> Vec<String> {
    vec!["istio-ca".to_owned()]
}

const fn default_max_lifetime() -> Ttl {
    DEFAULT_MAX_LIFETIME
}

/// A token issuer whose definition was checked and whose keys were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TokenIssuerConfig", into = "TokenIssuerConfig")]
pub struct TokenIssuer {
    config: TokenIssuerConfig,
    jwks: Jwks,
}

/// The longest issuer or audience, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// The most audiences of an issuer.
const MAX_AUDIENCES: usize = 16;

impl TryFrom<TokenIssuerConfig> for TokenIssuer {
    type Error = IssuerError;

    fn try_from(config: TokenIssuerConfig) -> Result<Self, IssuerError> {
        if !is_plain(&config.issuer) {
            return Err(IssuerError::Issuer(clip(&config.issuer)));
        }
        if !(1..=MAX_AUDIENCES).contains(&config.audiences.len()) {
            return Err(IssuerError::AudienceCount(config.audiences.len()));
        }
        if let Some(bad) = config.audiences.iter().find(|a| !is_plain(a)) {
            return Err(IssuerError::Audience(clip(bad)));
        }
        let jwks = Jwks::parse(config.jwks.to_string().as_bytes())?;
        Ok(Self { config, jwks })
    }
}

fn is_plain(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

impl From<TokenIssuer> for TokenIssuerConfig {
    fn from(issuer: TokenIssuer) -> Self {
        issuer.config
    }
}

impl TokenIssuer {
    /// The definition that it was made from.
    #[must_use]
    pub const fn config(&self) -> &TokenIssuerConfig {
        &self.config
    }

    /// Its pinned keys.
    #[must_use]
    pub const fn jwks(&self) -> &Jwks {
        &self.jwks
    }

    fn expected(&self) -> Expected<'_> {
        Expected {
            issuer: &self.config.issuer,
            audiences: &self.config.audiences,
            max_lifetime: self.config.max_token_lifetime,
            require_pod: self.config.require_pod,
        }
    }
}

/// Why a token issuer's definition was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Not a plain text.
    #[error("issuer {0:?} is not 1 to {MAX_TEXT_BYTES} bytes of printable ASCII without spaces")]
    Issuer(String),
    /// None, or too many.
    #[error("an issuer has 1 to {MAX_AUDIENCES} audiences, found {0}")]
    AudienceCount(usize),
    /// Not a plain text.
    #[error("audience {0:?} is not 1 to {MAX_TEXT_BYTES} bytes of printable ASCII without spaces")]
    Audience(String),
    /// The key set is not one.
    #[error("jwks: {0}")]
    Jwks(#[from] JwksError),
}

/// Whose token it is, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// The account.
    pub account: ServiceAccount,
    /// The place in the given issuers of the one whose key signed.
    pub issuer: usize,
    /// When the token began: it ends with the account's `expires_at`.
    pub not_before: Timestamp,
}

/// Proves a token by the pinned keys of `issuers`, the issuers of one cluster.
///
/// # Errors
/// When it is malformed, of none of the issuers, wrongly signed, for somebody else, or not valid `now`.
pub fn authenticate(
    token: &str,
    issuers: &[TokenIssuer],
    now: Timestamp,
) -> Result<ServiceAccount, TokenError> {
    authenticate_by(token, issuers, now).map(|found| found.account)
}

/// As [`authenticate`], and says which issuer it was.
///
/// Issuers may share their `iss`: then the key decides, and the first whose key verifies the signature has the last word.
///
/// # Errors
/// As [`authenticate`].
pub fn authenticate_by(
    token: &str,
    issuers: &[TokenIssuer],
    now: Timestamp,
) -> Result<Authenticated, TokenError> {
    let token = UnverifiedToken::parse(token)?;
    let claimed = token.claimed_issuer()?;
    let mut refusal = None;
    for (at, issuer) in issuers.iter().enumerate() {
        if issuer.config.issuer != claimed {
            continue;
        }
        match token.verify_with(&issuer.jwks) {
            Ok(payload) => {
                let claims = payload.claims()?;
                return Ok(Authenticated {
                    account: check(&claims, &issuer.expected(), now)?,
                    issuer: at,
                    not_before: claims.not_before(),
                });
            }
            Err(error) => refusal = Some(more_telling(refusal, error)),
        }
    }
    Err(refusal.unwrap_or_else(|| TokenError::Issuer {
        got: clip(&claimed),
        expected: issuers.iter().map(|i| i.config.issuer.clone()).collect(),
    }))
}

/// Of two issuers' refusals, the one that says more: a key that was found says more than one that was not.
fn more_telling(first: Option<TokenError>, second: TokenError) -> TokenError {
    match first {
        None | Some(TokenError::UnknownKey(_)) => second,
        Some(first) => first,
    }
}

/// The issuers of one cluster, as they are now: a changed definition is another set. The cache knows sets apart.
#[derive(Debug)]
pub struct IssuerSet {
    id: u64,
    issuers: Vec<TokenIssuer>,
}

static NEXT_SET: AtomicU64 = AtomicU64::new(0);

impl IssuerSet {
    /// A set with an identity of its own in this process.
    #[must_use]
    pub fn new(issuers: Vec<TokenIssuer>) -> Self {
        Self {
            id: NEXT_SET.fetch_add(1, Ordering::Relaxed),
            issuers,
        }
    }

    /// Its issuers, in order.
    #[must_use]
    pub fn issuers(&self) -> &[TokenIssuer] {
        &self.issuers
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{Forge, ISSUER};
    use super::*;

    #[test]
    fn a_definition_is_read_with_its_defaults_and_written_back() {
        let jwks = Forge::new().jwks();
        let written = json!({"issuer": ISSUER, "jwks": jwks});
        let issuer: TokenIssuer = serde_json::from_value(written).unwrap();
        assert_eq!(issuer.config().audiences, ["istio-ca"]);
        assert_eq!(issuer.config().max_token_lifetime, Ttl::hours(24));
        assert!(!issuer.config().require_pod);
        let text = serde_json::to_string(&issuer).unwrap();
        assert_eq!(serde_json::from_str::<TokenIssuer>(&text).unwrap(), issuer);
    }

    #[test]
    fn a_definition_that_cannot_work_is_refused() {
        let jwks = Forge::new().jwks();
        for bad in [
            json!({"jwks": jwks}),
            json!({"issuer": ISSUER}),
            json!({"issuer": "", "jwks": jwks}),
            json!({"issuer": "a b", "jwks": jwks}),
            json!({"issuer": ISSUER, "jwks": jwks, "audiences": []}),
            json!({"issuer": ISSUER, "jwks": jwks, "audiences": [""]}),
            json!({"issuer": ISSUER, "jwks": jwks, "max_token_lifetime": "0s"}),
            json!({"issuer": ISSUER, "jwks": jwks, "jwks_uri": "https://evil.example"}),
            json!({"issuer": ISSUER, "jwks": {"keys": []}}),
            json!({"issuer": ISSUER, "jwks": "https://evil.example"}),
        ] {
            assert!(
                serde_json::from_value::<TokenIssuer>(bad.clone()).is_err(),
                "{bad}"
            );
        }
    }
}
