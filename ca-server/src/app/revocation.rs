//! Revoking certificates, putting them on hold, and lifting holds; revoking authorities.

use std::collections::{BTreeMap, BTreeSet};

use pki::certificate::Certificate;
use pki::crl::Reason;
use pki::crypto::Digest;
use pki::log::{RevocationEntry, RevocationKind};
use pki::name::{AuthorityId, ClusterName, ProfileName};
use pki::profile::Profile;
use pki::serial::Serial;
use pki::time::Timestamp;

use super::{Actor, Context, Error, ErrorKind, authority, cluster, fleet};
use crate::store::model::{
    AuthorityRevocation, AuthorityRow, AuthorityState, NewRecord, RecordFilter, StatusChange,
    StatusOutcome, StoredRecord,
};

/// Changes in one transaction: it holds the authority's log, which whoever issues waits for.
const BATCH: usize = 200;

/// Which certificates are meant: those with one of the serial numbers, or all that live and fit every other choice, the
/// server's own left out.
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

/// What a selection found: enough to act on, and to show.
#[derive(Debug, Default)]
pub struct Found {
    hits: Vec<(AuthorityId, Serial)>,
    /// How many there are of each cluster and profile.
    pub groups: BTreeMap<(ClusterName, ProfileName), usize>,
    /// The first of them, to be shown: [`Found::SHOWN`] at most.
    pub first: Vec<StoredRecord>,
    /// How many of the server's and its administrators' own certificates would have fitted. They are meant only by serial
    /// number: to revoke a cluster's workloads is not to take the CA off the network, and to silence who tells of it.
    pub own_left_out: usize,
    /// An authority's certificate among them, which is revoked in another way.
    authority: Option<Serial>,
}

impl Found {
    /// How many are kept to be shown.
    pub const SHOWN: usize = 10;

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hits.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    fn take(&mut self, stored: StoredRecord) {
        let record = &stored.record;
        self.hits.push((record.authority.clone(), record.serial));
        let group = (record.cluster.clone(), record.profile.clone());
        *self.groups.entry(group).or_default() += 1;
        if Profile::builtin(&record.profile).is_some_and(|profile| profile.is_authority()) {
            self.authority.get_or_insert(record.serial);
        }
        if self.first.len() < Self::SHOWN {
            self.first.push(stored);
        }
    }
}

/// Whether certificates of this profile are the server's own, or those of its administrators.
fn is_servers_own(record: &NewRecord) -> bool {
    let own = [Profile::SERVING, Profile::OCSP_RESPONDER, Profile::ADMIN];
    Profile::builtin(&record.profile).is_some_and(|profile| own.contains(&profile))
}

/// The certificates that `selection` means, as they stand.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a serial number that is not on record, a cluster or an authority that there is not,
/// [`ErrorKind::Malformed`] for a selection that names nothing or an empty time, or when the store is away.
pub async fn select(context: &Context, selection: &Selection) -> Result<Found, Error> {
    let mut found = Found::default();
    if !selection.serials.is_empty() {
        let unique: BTreeSet<_> = selection.serials.iter().collect();
        for serial in unique {
            let record = context.store.record(serial).await?;
            found.take(record.ok_or_else(|| not_on_record(serial))?);
        }
        return Ok(found);
    }
    check(context, selection).await?;
    let mut filter = RecordFilter {
        cluster: selection.cluster.clone(),
        authority: selection.authority.clone(),
        names: selection.name.iter().cloned().collect(),
        key: selection.key,
        issued_from: selection.issued_from,
        issued_to: selection.issued_to,
        limit: RecordFilter::LIMIT_MAX,
        ..RecordFilter::live(context.clock.untrusted_now())
    };
    loop {
        let page = context.store.search(&filter).await?;
        for stored in page.records {
            if is_servers_own(&stored.record) {
                found.own_left_out += 1;
            } else {
                found.take(stored);
            }
        }
        if page.next.is_none() {
            return Ok(found);
        }
        filter.after = page.next;
    }
}

/// A name that is mistyped would fit nothing, and be taken for good news.
async fn check(context: &Context, selection: &Selection) -> Result<(), Error> {
    let malformed = |text: String| Err(Error::new(ErrorKind::Malformed, "selection", text));
    if !selection.is_narrow() {
        return malformed(
            "name what to revoke: a serial number, a SPIFFE id, a host name, a key, a cluster or an authority"
                .to_owned(),
        );
    }
    if let (Some(from), Some(to)) = (selection.issued_from, selection.issued_to)
        && from >= to
    {
        return malformed(format!("no time is from {from} on and before {to}"));
    }
    if let Some(id) = &selection.authority {
        authority::find(context, id).await?;
    }
    if let Some(name) = &selection.cluster {
        cluster::find(context, name).await?;
    }
    Ok(())
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
    found: &Found,
    reason: Reason,
    actor: &Actor,
) -> Result<Summary, Error> {
    // An authority's certificate is revoked with everything that it issued, or not at all.
    if let Some(serial) = &found.authority {
        return Err(Error::new(
            ErrorKind::Conflict,
            "authority",
            format!(
                "{serial} is an authority's certificate: `ca-server authority revoke` revokes it with all that it issued"
            ),
        ));
    }
    let why_not = match reason {
        Reason::RemoveFromCrl => {
            "removeFromCRL is no reason to revoke: lifting a hold is an act of its own"
        }
        Reason::CaCompromise => {
            "cACompromise is an authority's reason: `ca-server authority revoke` takes it"
        }
        _ => "",
    };
    if !why_not.is_empty() {
        return Err(Error::new(ErrorKind::Malformed, "reason", why_not));
    }
    let kind = match reason {
        Reason::CertificateHold => RevocationKind::Held,
        _ => RevocationKind::Revoked,
    };
    change(context, &found.hits, kind, reason, actor).await
}

/// Puts an authority's certificate on the CRL of the authority of ours that signed it. Once it is there, it stays.
async fn at_our_issuer(
    context: &Context,
    issuer: &AuthorityRow,
    own: &Certificate,
    reason: Reason,
    actor: &Actor,
) -> Result<(), Error> {
    let stored = context.store.record_of(&issuer.id, &own.serial()).await?;
    if stored.is_none() {
        return Ok(());
    }
    let at = context.clock.untrusted_now();
    let which = (&issuer.id, own.serial());
    let change = status_change(which, at, RevocationKind::Revoked, reason, actor);
    let detail = serde_json::json!({
        "authority": issuer.id, "serial": own.serial(), "reason": reason.to_string(),
    });
    let audit = [actor.did(at, "certificate.revoke", &detail)];
    context.store.revoke(&[change], &audit).await?;
    Ok(())
}

/// Lifts holds. What is revoked stays revoked.
///
/// # Errors
/// When the store is away.
pub async fn lift(context: &Context, found: &Found, actor: &Actor) -> Result<Summary, Error> {
    change(
        context,
        &found.hits,
        RevocationKind::Lifted,
        Reason::Unspecified,
        actor,
    )
    .await
}

async fn change(
    context: &Context,
    hits: &[(AuthorityId, Serial)],
    kind: RevocationKind,
    reason: Reason,
    actor: &Actor,
) -> Result<Summary, Error> {
    // A revocation does not wait for someone to look at the clock.
    let at = context.clock.untrusted_now();
    let word = match kind {
        RevocationKind::Lifted => "certificate.lift",
        RevocationKind::Held => "certificate.hold",
        _ => "certificate.revoke",
    };
    let mut summary = Summary::default();
    for batch in hits.chunks(BATCH) {
        let changes: Vec<_> = batch
            .iter()
            .map(|(authority, serial)| status_change((authority, *serial), at, kind, reason, actor))
            .collect();
        // Each certificate's change is an entry of its authority's log; here is who had it made.
        let detail = serde_json::json!({
            "reason": reason.to_string(),
            "asked": batch.len(),
            "serials": batch.iter().map(|(_, serial)| serial).collect::<Vec<_>>(),
        });
        let audit = [actor.did(at, word, &detail)];
        let outcomes = match kind {
            RevocationKind::Lifted => context.store.lift_holds(&changes, &audit).await?,
            _ => context.store.revoke(&changes, &audit).await?,
        };
        for (change, outcome) in changes.iter().zip(outcomes) {
            match outcome {
                StatusOutcome::Done(index) => {
                    summary.changed += 1;
                    tracing::info!(
                        cert.serial = %change.serial,
                        authority.id = %change.authority,
                        log.index = index,
                        actor = %actor,
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
    Ok(summary)
}

fn status_change(
    (authority, serial): (&AuthorityId, Serial),
    at: Timestamp,
    kind: RevocationKind,
    reason: Reason,
    actor: &Actor,
) -> StatusChange {
    let entry = RevocationEntry {
        kind,
        at,
        authority,
        serial: Some(serial),
        reason,
        actor: &actor.name,
    };
    StatusChange {
        authority: authority.clone(),
        serial,
        at,
        reason: reason as u8,
        actor: actor.name.clone(),
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
    actor: &Actor,
) -> Result<AuthorityRow, Error> {
    let row = authority::find(context, id).await?;
    check_revoke_authority(&row, reason)?;
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
        actor: &actor.name,
    };
    let revocation = AuthorityRevocation {
        at,
        reason: reason as u8,
        not_after: own.not_after(),
        actor: actor.name.clone(),
        leaf_hash: entry.leaf_hash(),
    };
    let detail = serde_json::json!({ "authority": id, "cluster": row.cluster, "reason": reason.to_string() });
    let audit = [actor.did(at, "authority.revoke", &detail)];
    context
        .store
        .revoke_authority(id, row.version, &revocation, &audit)
        .await?;
    authority::find(context, id).await
}

/// Whether an authority may be revoked for this reason.
///
/// # Errors
/// When it was never certified, is revoked or over already, or the reason is none for an authority.
pub fn check_revoke_authority(row: &AuthorityRow, reason: Reason) -> Result<(), Error> {
    let id = &row.id;
    let refuse = |text: String| Err(Error::new(ErrorKind::Conflict, "state", text));
    if matches!(reason, Reason::CertificateHold | Reason::RemoveFromCrl) {
        return Err(Error::new(
            ErrorKind::Malformed,
            "reason",
            format!("{reason} is no reason to revoke an authority: it cannot be taken back"),
        ));
    }
    match (row.state, row.chain.first()) {
        (AuthorityState::Revoked, _) => refuse(format!("{id} is revoked already")),
        (AuthorityState::Requested, _) | (_, None) => {
            refuse(format!("{id} has no certificate that could be revoked"))
        }
        (AuthorityState::Retired, _) => {
            refuse(format!("{id} is retired: none of its certificates lives"))
        }
        _ => Ok(()),
    }
}
