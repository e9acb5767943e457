//! Revoking certificates, putting them on hold, and lifting holds; revoking authorities.

use std::collections::BTreeSet;

use pki::certificate::Certificate;
use pki::crl::Reason;
use pki::crypto::Digest;
use pki::log::{RevocationEntry, RevocationKind};
use pki::name::{AuthorityId, ClusterName};
use pki::profile::Profile;
use pki::serial::Serial;
use pki::time::Timestamp;

use super::{Context, Error, ErrorKind, authority, fleet};
use crate::store::model::{
    AuthorityRevocation, AuthorityRow, AuthorityState, RecordFilter, StatusChange, StatusOutcome,
    StoredRecord,
};

/// Changes in one transaction: it holds the authority's log, which whoever issues waits for.
const BATCH: usize = 200;

/// Which certificates are meant: those with one of the serial numbers, or all that live and fit every other choice.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Exactly these.
    pub serials: Vec<Serial>,
    /// With exactly this name: `URI:…`, `DNS:…`, `IP:…`.
    pub name: Option<String>,
    /// With the key whose SubjectPublicKeyInfo has this SHA-256.
    pub key: Option<Digest>,
    /// In this cluster.
    pub cluster: Option<ClusterName>,
    /// By this authority.
    pub authority: Option<AuthorityId>,
    /// Issued at this time or later.
    pub issued_from: Option<Timestamp>,
    /// Issued before this time.
    pub issued_to: Option<Timestamp>,
}

impl Selection {
    fn is_narrow(&self) -> bool {
        self.name.is_some()
            || self.key.is_some()
            || self.cluster.is_some()
            || self.authority.is_some()
    }
}

/// The certificates that `selection` means, as they stand.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a serial number that is not on record, [`ErrorKind::Malformed`] for a selection that names
/// nothing, or when the store is away.
pub async fn select(context: &Context, selection: &Selection) -> Result<Vec<StoredRecord>, Error> {
    if !selection.serials.is_empty() {
        let mut found = Vec::with_capacity(selection.serials.len());
        let unique: BTreeSet<_> = selection.serials.iter().collect();
        for serial in unique {
            let record = context.store.record(serial).await?;
            found.push(record.ok_or_else(|| not_on_record(serial))?);
        }
        return Ok(found);
    }
    if !selection.is_narrow() {
        return Err(Error::new(
            ErrorKind::Malformed,
            "selection",
            "name what to revoke: a serial number, a SPIFFE id, a host name, a key, a cluster or an authority",
        ));
    }
    let mut filter = RecordFilter {
        cluster: selection.cluster.clone(),
        authority: selection.authority.clone(),
        name: selection.name.clone(),
        key: selection.key,
        issued_from: selection.issued_from,
        issued_to: selection.issued_to,
        limit: RecordFilter::LIMIT_MAX,
        ..RecordFilter::live(context.clock.untrusted_now())
    };
    let mut found = Vec::new();
    loop {
        let page = context.store.search(&filter).await?;
        let more = page.len() == RecordFilter::LIMIT_MAX as usize;
        filter.after = page.last().map(StoredRecord::cursor);
        found.extend(page);
        if !more {
            return Ok(found);
        }
    }
}

fn not_on_record(serial: &Serial) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "serial",
        format!("no certificate {serial} is on record; nothing was revoked"),
    )
}

/// What came of a revocation, or of lifting holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many changed.
    pub changed: usize,
    /// How many were revoked, or on hold, already, and stay as they were.
    pub standing: usize,
    /// How many were not on hold, so that there was nothing to lift.
    pub not_held: usize,
    /// How many went off the record meanwhile.
    pub gone: usize,
}

/// Revokes certificates, or puts them on hold. What is revoked already stays as it is; a hold becomes a revocation. When
/// this returns, what it counts is durable; if it fails in the middle, doing it again does the rest.
///
/// # Errors
/// When the reason is not one that a certificate is revoked for, or the store is away.
pub async fn revoke(
    context: &Context,
    records: &[StoredRecord],
    reason: Reason,
    actor: &str,
) -> Result<Summary, Error> {
    refuse_authorities(records)?;
    if reason == Reason::RemoveFromCrl {
        return Err(Error::new(
            ErrorKind::Malformed,
            "reason",
            "removeFromCRL is no reason to revoke: lifting a hold is an act of its own",
        ));
    }
    let kind = match reason {
        Reason::CertificateHold => RevocationKind::Held,
        _ => RevocationKind::Revoked,
    };
    change(context, records, kind, reason, actor).await
}

/// An authority's certificate is revoked with everything that it issued, or not at all.
fn refuse_authorities(records: &[StoredRecord]) -> Result<(), Error> {
    let authority = |stored: &&StoredRecord| {
        Profile::builtin(&stored.record.profile).is_some_and(|profile| profile.is_authority())
    };
    match records.iter().find(authority) {
        None => Ok(()),
        Some(stored) => Err(Error::new(
            ErrorKind::Conflict,
            "authority",
            format!(
                "{} is an authority's certificate: `ca-server authority revoke` revokes it with all that it issued",
                stored.record.serial
            ),
        )),
    }
}

/// Puts an authority's certificate on the CRL of the authority of ours that signed it. Once it is there, it stays.
async fn at_our_issuer(
    context: &Context,
    issuer: &AuthorityRow,
    own: &Certificate,
    reason: Reason,
    actor: &str,
) -> Result<(), Error> {
    let stored = context.store.record_of(&issuer.id, &own.serial()).await?;
    let Some(stored) = stored else {
        return Ok(());
    };
    let at = context.clock.untrusted_now();
    let change = status_change(&stored, at, RevocationKind::Revoked, reason, actor);
    context.store.revoke(&[change]).await?;
    Ok(())
}

/// Lifts holds. What is revoked stays revoked.
///
/// # Errors
/// When the store is away.
pub async fn lift(
    context: &Context,
    records: &[StoredRecord],
    actor: &str,
) -> Result<Summary, Error> {
    change(
        context,
        records,
        RevocationKind::Lifted,
        Reason::Unspecified,
        actor,
    )
    .await
}

async fn change(
    context: &Context,
    records: &[StoredRecord],
    kind: RevocationKind,
    reason: Reason,
    actor: &str,
) -> Result<Summary, Error> {
    // A revocation does not wait for someone to look at the clock.
    let at = context.clock.untrusted_now();
    let mut summary = Summary::default();
    for batch in records.chunks(BATCH) {
        let changes: Vec<_> = batch
            .iter()
            .map(|stored| status_change(stored, at, kind, reason, actor))
            .collect();
        let outcomes = match kind {
            RevocationKind::Lifted => context.store.lift_holds(&changes).await?,
            _ => context.store.revoke(&changes).await?,
        };
        for (change, outcome) in changes.iter().zip(outcomes) {
            match outcome {
                StatusOutcome::Done(index) => {
                    summary.changed += 1;
                    tracing::info!(
                        cert.serial = %change.serial,
                        authority.id = %change.authority,
                        log.index = index,
                        actor,
                        reason = %reason,
                        "certificate {}",
                        kind.as_str()
                    );
                }
                StatusOutcome::Standing(_) => summary.standing += 1,
                StatusOutcome::NotHeld => summary.not_held += 1,
                StatusOutcome::NotOnRecord => summary.gone += 1,
            }
        }
    }
    let detail = serde_json::json!({
        "reason": reason.to_string(),
        "changed": summary.changed,
        "first_serial": records.first().map(|stored| stored.record.serial),
    });
    let kind = format!("certificate.{}", kind.as_str());
    context
        .store
        .append_event(at, actor, &kind, &detail.to_string())
        .await?;
    Ok(summary)
}

fn status_change(
    stored: &StoredRecord,
    at: Timestamp,
    kind: RevocationKind,
    reason: Reason,
    actor: &str,
) -> StatusChange {
    let (authority, serial) = (&stored.record.authority, stored.record.serial);
    let entry = RevocationEntry {
        kind,
        at,
        authority,
        serial: Some(serial),
        reason,
        actor,
    };
    StatusChange {
        authority: authority.clone(),
        serial,
        at,
        reason: reason as u8,
        actor: actor.to_owned(),
        leaf_hash: entry.leaf_hash(),
    }
}

/// Revokes an authority. From when this returns nothing that it signs gets on record any more, its next CRL lists each of
/// its certificates that lives, and nobody is let in by one of them.
///
/// # Errors
/// When it was never certified or is revoked already, the reason is none for an authority, or the store is away.
pub async fn revoke_authority(
    context: &Context,
    id: &AuthorityId,
    reason: Reason,
    actor: &str,
) -> Result<AuthorityRow, Error> {
    let row = authority::find(context, id).await?;
    let refuse = |text: String| Err(Error::new(ErrorKind::Conflict, "state", text));
    if matches!(reason, Reason::CertificateHold | Reason::RemoveFromCrl) {
        return Err(Error::new(
            ErrorKind::Malformed,
            "reason",
            format!("{reason} is no reason to revoke an authority: it cannot be taken back"),
        ));
    }
    match (row.state, row.chain.first()) {
        (AuthorityState::Revoked, _) => return refuse(format!("{id} is revoked already")),
        (AuthorityState::Requested, _) | (_, None) => {
            return refuse(format!("{id} has no certificate that could be revoked"));
        }
        (AuthorityState::Retired, _) => {
            return refuse(format!("{id} is retired: none of its certificates lives"));
        }
        _ => {}
    }
    let own = Certificate::parse(&row.chain[0]).map_err(Error::internal)?;
    // What stands below it falls with it, first: if we crash here, doing it again does the rest.
    for other in fleet::below(context, &row).await? {
        Box::pin(revoke_authority(context, &other.id, reason, actor)).await?;
    }
    if let Some(issuer) = fleet::issuer_of(context, &row).await? {
        at_our_issuer(context, &issuer, &own, reason, actor).await?;
    }
    let at = context.clock.untrusted_now();
    let entry = RevocationEntry {
        kind: RevocationKind::AuthorityRevoked,
        at,
        authority: id,
        serial: None,
        reason,
        actor,
    };
    let revocation = AuthorityRevocation {
        at,
        reason: reason as u8,
        not_after: own.not_after(),
        actor: actor.to_owned(),
        leaf_hash: entry.leaf_hash(),
    };
    context
        .store
        .revoke_authority(id, row.version, &revocation)
        .await?;
    let detail = serde_json::json!({ "authority": id, "cluster": row.cluster, "reason": reason.to_string() });
    context
        .store
        .append_event(at, actor, "authority.revoke", &detail.to_string())
        .await?;
    authority::find(context, id).await
}
