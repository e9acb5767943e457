//! Roots that are believed in no longer.

use pki::certificate::Certificate;
use pki::crypto::{self, Digest};
use pki::name::TrustDomain;
use serde_json::json;

use super::actor::Actor;
use super::{Context, Error, ErrorKind};
use crate::store::model::AuthorityState;

/// The root, if it may go: nothing that still counts stands below it.
///
/// # Errors
/// When there is no such root, an authority that is not retired ends at it, or the store is away.
pub async fn check_remove(
    context: &Context,
    trust_domain: &TrustDomain,
    sha256: &Digest,
) -> Result<Certificate, Error> {
    let bundle = context.store.bundle(trust_domain).await?;
    let der = bundle
        .roots
        .iter()
        .find(|der| crypto::sha256(der) == *sha256)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "root",
                format!(
                    "trust domain {trust_domain} believes in no root with SHA-256 {}",
                    crypto::hex(sha256)
                ),
            )
        })?;
    let mut below = Vec::new();
    for row in context.store.authorities().await? {
        let cluster = context.store.cluster(&row.cluster).await?;
        let is_of_domain = cluster.is_some_and(|cluster| cluster.trust_domain == *trust_domain);
        let counts = !matches!(
            row.state,
            AuthorityState::Retired | AuthorityState::Requested | AuthorityState::Revoked
        );
        if is_of_domain && counts && row.chain.last() == Some(der) {
            below.push(format!("{} ({})", row.id, row.state));
        }
    }
    if !below.is_empty() {
        return Err(Error::new(
            ErrorKind::Conflict,
            "in-use",
            format!(
                "authorities stand below it: {}; their certificates would be believed by nobody",
                below.join(", ")
            ),
        ));
    }
    Certificate::parse(der).map_err(Error::internal)
}

/// Takes a root out of a bundle.
///
/// # Errors
/// As [`check_remove`].
pub async fn remove_root(
    context: &Context,
    trust_domain: &TrustDomain,
    sha256: &Digest,
    actor: &Actor,
) -> Result<u64, Error> {
    check_remove(context, trust_domain, sha256).await?;
    let now = context.clock.untrusted_now();
    let detail = json!({ "trust_domain": trust_domain, "sha256": crypto::hex(sha256) });
    let audit = actor.did(now, "root.remove", &detail);
    Ok(context
        .store
        .remove_root(trust_domain, sha256, std::slice::from_ref(&audit))
        .await?)
}
