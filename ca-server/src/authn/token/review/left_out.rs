//! The reviewer of a program that was built without the feature `token-review`: there is none.

use std::net::IpAddr;

use super::{ReviewConfigError, ReviewError, TokenReviewConfig};
use crate::authn::token::claims::ServiceAccount;

/// What no value has.
#[derive(Debug)]
pub enum TokenReviewer {}

impl TokenReviewer {
    /// Refuses.
    ///
    /// # Errors
    /// Always [`ReviewConfigError::LeftOut`].
    #[expect(clippy::unused_async, reason = "it stands in for one that reads files")]
    pub async fn new(_: TokenReviewConfig) -> Result<Self, ReviewConfigError> {
        Err(ReviewConfigError::LeftOut)
    }

    /// Is never called.
    #[must_use]
    pub fn server(&self) -> &http::Uri {
        match *self {}
    }

    /// Is never called.
    ///
    /// # Errors
    /// None.
    #[expect(
        clippy::unused_async,
        reason = "it stands in for one that asks over the network"
    )]
    pub async fn review(&self, _: &str, _: IpAddr) -> Result<ServiceAccount, ReviewError> {
        match *self {}
    }
}
