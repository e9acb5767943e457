//! The whole way: key, request, answer, files.

use pki::extension::SubjectNames;
use pki::name::ProfileName;
use pki::time::{Timestamp, Ttl};

use crate::answer::SignedCertificate;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::files::IdentityDir;
use crate::identity::{KeyKind, NewKey};
use crate::sign::sign;

/// What is ordered beside the names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The profile; `workload` where absent.
    pub profile: Option<ProfileName>,
    /// The lifetime; the profile's default where absent.
    pub ttl: Option<Ttl>,
    /// What kind of key is made.
    pub key: KeyKind,
}

/// Makes a new key, gets its certificate and replaces the identity in `directory`. No names is a request for
/// whatever the server says the caller is.
///
/// # Errors
/// As [`ClientError`] says. Until the answer is checked nothing is written, and a failed write leaves the old identity.
pub async fn enroll(
    endpoint: &Endpoint,
    credentials: &Credentials,
    names: &SubjectNames,
    order: &Order,
    directory: &IdentityDir,
    now: Timestamp,
) -> Result<SignedCertificate, ClientError> {
    // First, so that no certificate is issued for a directory that cannot take it.
    directory.prepare()?;
    let new = NewKey::generate(order.key, names)?;
    let profile = order.profile.as_ref();
    let signed = sign(endpoint, credentials, new.csr(), profile, order.ttl, now).await?;
    directory.write(new.key_pem(), &signed, now)?;
    Ok(signed)
}
