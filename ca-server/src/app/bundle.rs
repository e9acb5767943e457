//! Trust bundles: reading them.

use std::sync::Arc;

use pki::name::TrustDomain;

use super::state::{PublishedBundle, Snapshot};
use super::{App, Error, ErrorKind};

impl Snapshot {
    /// The roots that `trust_domain` believes in.
    ///
    /// # Errors
    /// When there is no such trust domain here.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Result<Arc<PublishedBundle>, Error> {
        self.bundles.get(trust_domain).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "trust-domain",
                format!("there is no bundle of trust domain {trust_domain} here"),
            )
        })
    }
}

impl App {
    /// The roots that `trust_domain` believes in.
    ///
    /// # Errors
    /// When there is no such trust domain here.
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Result<Arc<PublishedBundle>, Error> {
        self.snapshot().bundle(trust_domain)
    }
}
