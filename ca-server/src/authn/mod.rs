//! Who asks: proof by certificate, by Kubernetes service-account token, or by enrolment token.
//!
//! A caller with a certificate belongs to the cluster of the authority that signed it, whatever its names say; its
//! expiry, its record and its revocation are checked on each call. A token's cluster is a claim that only chooses which
//! keys verify it. A certificate goes before a token, as in istiod.

pub mod administrator;
mod certificate;
pub mod oidc;
pub mod token;

use std::net::SocketAddr;
use std::sync::Arc;

use pki::name::{ClusterName, SpiffeId};
use pki::policy::Identity;

pub use certificate::PeerCertificate;

/// The record of a connection's certificate, when it may speak now.
///
/// # Errors
/// `Unauthenticated` without a certificate of ours, or when it has ended, is not on record or is revoked.
pub async fn record_of_peer(
    app: &App,
    peer: Option<&PeerCertificate>,
) -> Result<StoredRecord, Error> {
    match peer {
        Some(peer) => certificate::check(app, peer).await,
        None => Err(unauthenticated(
            "no-credential",
            "no client certificate of ours",
        )),
    }
}

use crate::app::caller::{Caller, Proof};
use crate::app::state::Cluster;
use crate::app::{App, Error, ErrorKind, enrolment};
use crate::store::model::StoredRecord;
use token::{ReviewError, ServiceAccount, TokenReason};

/// What a request brings to prove its caller.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The certificate of the connection, already verified by the handshake.
    pub peer: Option<Arc<PeerCertificate>>,
    /// The `authorization` header's bearer value.
    pub bearer: Option<String>,
    /// The cluster that the caller says it is in.
    pub cluster: Option<String>,
    /// The address of the connection: never a header's word for it.
    pub remote: SocketAddr,
}

/// Proves the caller.
///
/// # Errors
/// `Unauthenticated` when nothing proves it, with a reason class; `Unavailable` when the store or the reviewing API
/// server is away.
pub async fn authenticate(app: &App, evidence: &Evidence) -> Result<Caller, Error> {
    let by_certificate = match &evidence.peer {
        Some(peer) => Some(certificate::authenticate(app, peer, evidence.remote).await),
        None => None,
    };
    let caller = match (by_certificate, &evidence.bearer) {
        (Some(Ok(caller)), _) => caller,
        (Some(Err(error)), None) => return Err(error),
        (_, Some(bearer)) if bearer.starts_with(enrolment::PREFIX) => {
            by_enrolment(app, bearer, evidence.remote).await?
        }
        (_, Some(bearer)) => return by_service_account(app, bearer, evidence).await,
        (None, None) => {
            return Err(unauthenticated(
                "no-credential",
                "no token and no client certificate",
            ));
        }
    };
    // Its cluster is proven; one that it claims beside that can only be wrong.
    match evidence.cluster.as_deref() {
        Some(claimed) if !claimed.is_empty() && claimed != caller.cluster.name.as_str() => {
            Err(unauthenticated(
                "cluster",
                format!(
                    "the caller is of cluster {}, and says {claimed:?}",
                    caller.cluster.name
                ),
            ))
        }
        _ => Ok(caller),
    }
}

fn unauthenticated(reason: &'static str, detail: impl Into<String>) -> Error {
    let detail: String = detail.into();
    Error::new(
        ErrorKind::Unauthenticated,
        reason,
        format!("not authenticated: {reason}"),
    )
    .because(detail)
}

async fn by_enrolment(app: &App, bearer: &str, remote: SocketAddr) -> Result<Caller, Error> {
    let row = app
        .context()
        .store
        .enrolment_by_hash(&enrolment::hash(bearer))
        .await?;
    let row = row.ok_or_else(|| unauthenticated("enrolment", "no such enrolment token"))?;
    let now = app.context().clock.trusted_now()?;
    // One that was used in time may be shown again after its end: `App::issue` knows for how long.
    if row.revoked_at.is_some() || (row.expires_at <= now && row.consumed_at.is_none()) {
        return Err(unauthenticated(
            "expired",
            format!("enrolment token {} has expired or was revoked", row.id),
        ));
    }
    let cluster = cluster(app, &row.cluster)?;
    Ok(Caller {
        cluster,
        identity: Identity::OneOf(row.pattern),
        proof: Proof::Enrolment {
            id: row.id,
            profile: row.profile,
        },
        remote: remote.to_string(),
    })
}

fn cluster(app: &App, name: &ClusterName) -> Result<Arc<Cluster>, Error> {
    app.snapshot()
        .clusters
        .get(name)
        .cloned()
        .ok_or_else(|| unauthenticated("cluster", format!("there is no cluster {name}")))
}

async fn by_service_account(app: &App, bearer: &str, evidence: &Evidence) -> Result<Caller, Error> {
    let name = match evidence.cluster.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            ClusterName::parse(name).map_err(|e| unauthenticated("cluster", e.to_string()))?
        }
        None => app.turns().default_cluster.clone().ok_or_else(|| {
            unauthenticated(
                "cluster",
                "no clusterid, and no default cluster is configured",
            )
        })?,
    };
    let cluster = cluster(app, &name)?;
    let now = app.context().clock.trusted_now()?;
    let account = match app.tokens().authenticate(bearer, &cluster.issuers, now) {
        Ok(proven) => proven.account,
        // Only where no pinned key answers for the token: a refusal by a key that does is the last word, and strangers
        // cannot have the API server asked by sending what has expired.
        Err(error) => match &cluster.reviewer {
            Some(Ok(reviewer)) if is_unanswered(error.reason()) => reviewer
                .review(bearer, evidence.remote.ip())
                .await
                .map_err(review_failed)?,
            Some(Err(why)) if is_unanswered(error.reason()) => {
                return Err(review_failed(ReviewError::Unavailable(why.to_string())));
            }
            _ => return Err(token_refused(error.reason(), error)),
        },
    };
    caller_of(cluster, account, evidence.remote)
}

const fn is_unanswered(reason: TokenReason) -> bool {
    matches!(reason, TokenReason::Issuer | TokenReason::UnknownKey)
}

fn caller_of(
    cluster: Arc<Cluster>,
    account: ServiceAccount,
    remote: SocketAddr,
) -> Result<Caller, Error> {
    let id = SpiffeId::of_service_account(
        &cluster.policy.trust_domain,
        &account.namespace,
        &account.name,
    )
    .map_err(|error| unauthenticated("subject", error.to_string()))?;
    Ok(Caller {
        cluster,
        identity: Identity::Exactly(id),
        proof: Proof::ServiceAccount {
            account: format!("{}/{}", account.namespace, account.name),
            pod: account.pod.map(|pod| (pod.name, pod.uid)),
            node: account.node.map(|node| node.name),
            token_id: account.token_id,
        },
        remote: remote.to_string(),
    })
}

fn review_failed(error: ReviewError) -> Error {
    match error {
        ReviewError::Refused(error) => token_refused(error.reason(), error),
        error => Error::new(
            ErrorKind::Unavailable,
            "token-review",
            "the cluster's API server cannot be asked, try again",
        )
        .because(error),
    }
}

fn token_refused(
    reason: TokenReason,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let class = match reason {
        TokenReason::Audience => "audience",
        TokenReason::Issuer => "issuer",
        TokenReason::Expired => "expired",
        TokenReason::NotYetValid => "not-yet-valid",
        TokenReason::Signature | TokenReason::UnknownKey | TokenReason::Algorithm => "signature",
        TokenReason::Lifetime => "lifetime",
        TokenReason::Subject => "subject",
        TokenReason::Malformed => "malformed-token",
        TokenReason::Refused => "refused",
    };
    Error::new(
        ErrorKind::Unauthenticated,
        class,
        format!("not authenticated: {class}"),
    )
    .because(error)
}
