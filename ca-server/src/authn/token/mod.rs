//! Kubernetes service-account tokens: from the text of a bearer token to a [`ServiceAccount`].
//!
//! Two ways, and the cluster's definition says which:
//!
//! - [`authenticate`] checks the signature with keys that were *pinned* into the cluster's definition. It is arithmetic
//!   alone: no clock, no file, no network. Nothing in a token can make it fetch anything (`jku`, `x5u`, `jwk` and `x5c`
//!   are never looked at), and an unknown key id costs one failed comparison, not a download. It works while the
//!   cluster's API server is away, and it cannot know that a pod or an account was deleted: the token stays good until
//!   it expires, which is why its lifetime is bounded.
//! - [`TokenReviewer::review`] asks the cluster's API server, which does know, and needs it to be there.
//!
//! A token's way: [`UnverifiedToken::parse`] → [`UnverifiedToken::verify_with`] → [`VerifiedPayload::claims`] →
//! [`check`]. [`TokenCache`] skips the signature when a caller shows the same token again.

mod cache;
mod claims;
pub(in crate::authn) mod error;
mod issuer;
pub(in crate::authn) mod json;
mod jwks;
mod review;
mod verify;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
pub(in crate::authn) mod testing;

pub use cache::TokenCache;
pub use claims::{BoundNode, BoundPod, Expected, ServiceAccount, ServiceAccountClaims, check};
pub use error::{TokenError, TokenPart, TokenReason};
pub use issuer::{
    Authenticated, IssuerError, IssuerSet, TokenIssuer, TokenIssuerConfig, authenticate,
    authenticate_by,
};
pub use jwks::{Algorithm, Jwks, JwksError};
pub use review::{ReviewConfigError, ReviewError, ReviewServer, TokenReviewConfig, TokenReviewer};
pub use verify::{UnverifiedToken, VerifiedPayload};

use pki::time::{Timestamp, Ttl};

/// The longest token that is read, in bytes; Kubernetes' own have about 1,000.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// How far the clocks of a cluster and of this server may be apart, in seconds. Replicas may differ by 5 s from each other.
pub(in crate::authn) const LEEWAY_SECONDS: i64 = 10;

/// The window `not_before` to `expires_at`, widened by the leeway, holds `now`.
pub(in crate::authn) fn check_window(
    not_before: Timestamp,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), TokenError> {
    if now.seconds_since(expires_at) >= LEEWAY_SECONDS {
        return Err(TokenError::Expired { expires_at, now });
    }
    if not_before.seconds_since(now) > LEEWAY_SECONDS {
        return Err(TokenError::NotYetValid { not_before, now });
    }
    Ok(())
}

/// The longest lifetime of a token where a cluster's definition does not say: a projected token lives 12 h in Istio's
/// charts, and a cluster's administrator may bound it at 24 h.
const DEFAULT_MAX_LIFETIME: Ttl = Ttl::hours(24);
