//! OpenID Connect ID tokens: how a person, or a pipeline, proves to the administration API who it is.
//!
//! The token's envelope and its signature are checked by the code that checks service accounts' tokens
//! ([`super::token`]); the keys come from a file or from the one address that the configuration names. Nothing in a token
//! can make us ask anybody anything but that, and a token with an unknown key id no more than once a minute.

mod claims;
mod fetch;
mod keys;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod keys_tests;

use pki::time::Timestamp;

use super::token::error::clip;
use super::token::{TokenError, UnverifiedToken, VerifiedPayload};
use super::{token_refused, unauthenticated};
use crate::app::{Error, ErrorKind};
use crate::config::OidcSettings;

pub use claims::OidcSubject;
pub(crate) use fetch::read_roots;
pub use keys::OidcConfigError;
pub(crate) use keys::read_jwks;
use keys::{Keys, NoKeys};

/// The issuers that the configuration names.
#[derive(Debug)]
pub struct OidcIssuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    settings: OidcSettings,
    keys: Keys,
}

impl OidcIssuers {
    /// Reads the files that the configuration names; connects to nothing yet.
    ///
    /// # Errors
    /// When a file does not read, or is not what it should be.
    pub fn new(config: &[OidcSettings]) -> Result<Self, OidcConfigError> {
        let issuers = config.iter().map(|settings| {
            Ok(Issuer {
                settings: settings.clone(),
                keys: Keys::new(&settings.keys)?,
            })
        });
        Ok(Self(issuers.collect::<Result<_, OidcConfigError>>()?))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Proves who an ID token speaks for. It may take 5 s where keys have to be fetched first.
    ///
    /// # Errors
    /// [`OidcError::Refused`] when the token is malformed, of none of the issuers, wrongly signed, for somebody else or not
    /// valid `now`; [`OidcError::NoKeys`] when the issuer's keys cannot be had.
    pub async fn authenticate(
        &self,
        bearer: &str,
        now: Timestamp,
    ) -> Result<OidcSubject, OidcError> {
        let token = UnverifiedToken::parse(bearer)?;
        let claimed = token.claimed_issuer()?;
        let mut issuers = self.0.iter();
        let issuer = issuers
            .find(|issuer| issuer.settings.issuer == claimed)
            .ok_or_else(|| TokenError::Issuer {
                got: clip(&claimed),
                expected: self.0.iter().map(|i| i.settings.issuer.clone()).collect(),
            })?;
        let payload = issuer.verify(&token, now).await?;
        Ok(claims::check(&payload, &issuer.settings, now)?)
    }
}

impl Issuer {
    async fn verify(
        &self,
        token: &UnverifiedToken<'_>,
        now: Timestamp,
    ) -> Result<VerifiedPayload, OidcError> {
        let keys = self.keys.current(now).await?;
        match token.verify_with(&keys) {
            Err(unknown @ TokenError::UnknownKey(_)) => {
                match self.keys.newer_than(&keys, now).await {
                    Some(newer) => Ok(token.verify_with(&newer)?),
                    None => Err(unknown.into()),
                }
            }
            verified => Ok(verified?),
        }
    }
}

/// Why nobody was proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OidcError {
    /// The token is not accepted.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// The issuer's keys cannot be had. Worth trying again.
    #[error(transparent)]
    NoKeys(#[from] NoKeys),
}

impl From<OidcError> for Error {
    /// The classes of service accounts' tokens.
    fn from(error: OidcError) -> Self {
        match error {
            // Of which issuers we have a stranger is told nothing.
            OidcError::Refused(TokenError::Issuer { got, .. }) => {
                unauthenticated("issuer", format!("{got:?} is no issuer of administrators"))
            }
            OidcError::Refused(error) => token_refused(error.reason(), error),
            OidcError::NoKeys(error) => Self::new(
                ErrorKind::Unavailable,
                "oidc-keys",
                "the issuer's keys cannot be had, try again",
            )
            .because(error),
        }
    }
}
