//! Enrolment tokens: how something that has no identity yet gets its first certificate.

use base64ct::{Base64UrlUnpadded, Encoding};
use pki::crypto::{self, Digest};
use pki::name::{ClusterName, ProfileName, SpiffePattern};
use pki::profile::Profile;
use pki::time::Ttl;

use super::cluster::{self, Role};
use super::{Actor, Context, Error, ErrorKind};
use crate::entropy;
use crate::store::model::EnrolmentRow;

/// What every enrolment token begins with, so that scanners find leaked ones and no token is taken for another kind.
pub const PREFIX: &str = "signet_enrol_";
/// The longest life of an enrolment token.
const MAX_TTL: Ttl = Ttl::days(90);

/// A new token: its row, and the token itself, which is shown once and kept nowhere.
pub struct NewEnrolment {
    /// What is kept: a hash.
    pub row: EnrolmentRow,
    /// The token.
    pub token: String,
}

/// Makes a token for one certificate of `pattern` in `cluster`.
///
/// # Errors
/// When there is no such cluster, the pattern is of another trust domain, or the store is away.
pub async fn create(
    context: &Context,
    cluster: &ClusterName,
    pattern: SpiffePattern,
    profile: ProfileName,
    ttl: Ttl,
    actor: &Actor,
) -> Result<NewEnrolment, Error> {
    let row = cluster::find(context, cluster).await?;
    if pattern.trust_domain() != row.trust_domain {
        return Err(Error::new(
            ErrorKind::Malformed,
            "enrolment",
            format!(
                "{pattern} is not in cluster {cluster}'s trust domain {}",
                row.trust_domain
            ),
        ));
    }
    if cluster::role(&row)? == Role::Fleet {
        return Err(Error::new(
            ErrorKind::Malformed,
            "enrolment",
            format!("cluster {cluster} signs authorities, not workloads"),
        ));
    }
    let profiles = [
        Profile::WORKLOAD,
        Profile::WORKLOAD_EPHEMERAL,
        Profile::SERVER,
        Profile::CLIENT,
    ];
    if !profiles
        .iter()
        .any(|known| known.as_str() == profile.as_str())
    {
        return Err(Error::new(
            ErrorKind::Malformed,
            "enrolment",
            format!(
                "a token is for profile workload, workload-ephemeral, server or client, not for {profile}"
            ),
        ));
    }
    if ttl > MAX_TTL {
        return Err(Error::new(
            ErrorKind::Malformed,
            "enrolment",
            format!("an enrolment token lives {MAX_TTL} at most, {ttl} was asked for"),
        ));
    }
    let secret: [u8; 32] = entropy::draw(&*context.entropy)?;
    let id: [u8; 6] = entropy::draw(&*context.entropy)?;
    let token = format!("{PREFIX}{}", Base64UrlUnpadded::encode_string(&secret));
    let now = context.clock.trusted_now()?;
    let row = EnrolmentRow {
        id: crypto::hex(&id),
        hash: hash(&token),
        cluster: cluster.clone(),
        pattern,
        profile,
        expires_at: now.plus(ttl),
        created_at: now,
        created_by: actor.name.clone(),
        consumed_at: None,
        key_digest: None,
        revoked_at: None,
        certificate: None,
    };
    let detail = serde_json::json!({
        "id": row.id, "cluster": cluster, "pattern": row.pattern, "profile": row.profile, "expires_at": row.expires_at,
    });
    let audit = [actor.did(now, "enrolment.create", &detail)];
    context.store.insert_enrolment(&row, &audit).await?;
    Ok(NewEnrolment { row, token })
}

/// Withdraws a token; `false` when there is none of this id, or it is withdrawn already.
///
/// # Errors
/// When the store is away.
pub async fn revoke(context: &Context, id: &str, actor: &Actor) -> Result<bool, Error> {
    let now = context.clock.untrusted_now();
    let detail = serde_json::json!({ "id": id });
    let audit = [actor.did(now, "enrolment.revoke", &detail)];
    Ok(context.store.revoke_enrolment(id, now, &audit).await?)
}

/// A token's name in the store: 256 random bits need no slow hash.
#[must_use]
pub fn hash(token: &str) -> Digest {
    crypto::sha256(token.as_bytes())
}
