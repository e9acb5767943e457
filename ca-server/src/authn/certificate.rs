//! Proof by the caller's current certificate.

use std::net::SocketAddr;

use pki::certificate::Certificate;
use pki::name::{AuthorityId, SpiffeId};
use pki::policy::Identity;
use pki::serial::Serial;
use pki::time::Timestamp;

use super::unauthenticated;
use crate::app::caller::{Caller, Proof, Shown};
use crate::app::state::Snapshot;
use crate::app::{App, Error};
use crate::store::model::AuthorityState;

/// The client certificate of a connection: its signature was checked once, against the authority that it names. What
/// changes (expiry, record, revocation, the authority's state) is checked on each call.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    authority: AuthorityId,
    serial: Serial,
    digest: pki::crypto::Digest,
    spiffe_id: Option<SpiffeId>,
    common_name: Option<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl PeerCertificate {
    /// It, as it was looked at.
    #[must_use]
    pub fn shown(&self, checked_at: Timestamp) -> Shown {
        Shown {
            authority: self.authority.clone(),
            serial: self.serial,
            checked_at,
        }
    }

    /// Reads a connection's certificate; `None` when none of our authorities signed it.
    #[must_use]
    pub fn read(der: &[u8], snapshot: &Snapshot) -> Option<Self> {
        let certificate = Certificate::parse(der).ok()?;
        let authority = snapshot.signer_of(&certificate)?;
        Some(Self {
            authority: authority.id.clone(),
            serial: certificate.serial(),
            digest: certificate.digest(),
            spiffe_id: certificate.spiffe_id().ok(),
            common_name: certificate
                .alt_names()
                .is_empty()
                .then(|| certificate.common_name())
                .flatten(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    /// Its common name, where its subject is all the name it has, as an administrator's.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }
}

/// The record of the peer's certificate, when it may speak now.
pub(super) async fn check(
    app: &App,
    peer: &PeerCertificate,
) -> Result<crate::store::model::StoredRecord, Error> {
    let now = app.context().clock.trusted_now()?;
    if now < peer.not_before || now > peer.not_after {
        return Err(unauthenticated(
            "expired",
            format!("certificate {} ended at {}", peer.serial, peer.not_after),
        ));
    }
    let snapshot = app.snapshot();
    let authority = snapshot.authority(&peer.authority);
    if authority.is_some_and(|a| a.state == AuthorityState::Revoked) {
        return Err(unauthenticated(
            "authority-revoked",
            format!(
                "authority {} is revoked, and all that it issued",
                peer.authority
            ),
        ));
    }
    if !authority
        .is_some_and(|a| matches!(a.state, AuthorityState::Active | AuthorityState::Retiring))
    {
        return Err(unauthenticated(
            "certificate",
            format!("authority {} no longer counts", peer.authority),
        ));
    }
    let record = app
        .context()
        .store
        .record_of(&peer.authority, &peer.serial)
        .await?;
    let record = record
        .filter(|record| record.record.certificate_digest == peer.digest)
        .ok_or_else(|| {
            unauthenticated(
                "certificate",
                format!("certificate {} is not on record", peer.serial),
            )
        })?;
    if record.revoked.is_some() {
        return Err(unauthenticated(
            "revoked",
            format!("certificate {} is revoked", peer.serial),
        ));
    }
    Ok(record)
}

pub(super) async fn authenticate(
    app: &App,
    peer: &PeerCertificate,
    remote: SocketAddr,
) -> Result<Caller, Error> {
    let spiffe_id = peer.spiffe_id.clone().ok_or_else(|| {
        unauthenticated(
            "certificate",
            format!("certificate {} has no SPIFFE id", peer.serial),
        )
    })?;
    let checked_at = app.context().clock.trusted_now()?;
    let record = check(app, peer).await?;
    let of = record.record.cluster;
    let cluster = app
        .snapshot()
        .clusters
        .get(&of)
        .cloned()
        .ok_or_else(|| unauthenticated("cluster", format!("cluster {of} is gone")))?;
    Ok(Caller {
        cluster,
        identity: Identity::Exactly(spiffe_id),
        proof: Proof::Certificate(peer.shown(checked_at)),
        remote: remote.to_string(),
    })
}
