//! What became of certificates after their issue, as this replica knows it, and what it tells of it: CRLs, and answers by
//! OCSP.
//!
//! Each authority's revocations are held in memory and follow its log, from index to index: what another replica, or the
//! command line, writes into the store is known here a moment later. CRLs are built from there, stored, and only
//! then served, from memory: the public listener needs no store.

pub mod copy;
mod index;
mod lookup;
mod ocsp;
mod parts;
mod publish;
pub mod root;
mod served;
mod urls;
pub mod watermark;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use pki::crypto::Digest;
use pki::name::AuthorityId;
use pki::serial::Serial;
use pki::time::Timestamp;
use tokio::sync::{Notify, watch};

use super::state::Snapshot;
use super::{App, Error};
use crate::store::model::{AuditHead, StatusEvent, StatusPosition};
use index::AuthorityStatus;
pub use lookup::Lookup;
pub(crate) use ocsp::OCSP_RESPONSE;
use ocsp::Ocsp;
pub use ocsp::OcspAnswer;
pub use publish::first_crl;
pub use served::{Document, Incomplete, ServedCa, ServedCrl, ServedSet, name_above};
pub(crate) use served::{PEM, PKIX_CERT};
pub(super) use urls::urls;
use watermark::Watermark;

/// Rows that are read at a time.
const PAGE: u32 = 10_000;

/// The status of every certificate that this replica answers for.
#[derive(Debug, Default)]
pub struct Status {
    authorities: RwLock<HashMap<AuthorityId, AuthorityStatus>>,
    served: ArcSwap<ServedSet>,
    /// When this replica last built an authority's CRL.
    built: Mutex<HashMap<AuthorityId, Instant>>,
    /// Since when an authority's CRL waits to be built.
    waiting: Mutex<HashMap<AuthorityId, Instant>>,
    /// What deltas are made against.
    bases: Mutex<HashMap<AuthorityId, parts::Base>>,
    /// Wakes the publisher.
    changed: Notify,
    ocsp: Ocsp,
    watermark: Mutex<Watermark>,
    rolled_back: AtomicBool,
    /// Whether an audit chain is shorter than it was, or another one.
    chains_rolled_back: AtomicBool,
    /// The number of the CRL that the store has, where it is not the one that is served.
    stored: Mutex<HashMap<AuthorityId, Option<u64>>>,
    /// One refresh at a time.
    refreshing: tokio::sync::Mutex<()>,
    /// Which offline CAs' CRLs were said to end soon, by CA and number, and when.
    told_of_ends: Mutex<HashMap<(Digest, u64), Timestamp>>,
    /// What lies in `public.copy_dir`, and which snapshot and set it is of.
    copied: Mutex<copy::Kept>,
    copied_of: Mutex<Option<(u64, u64)>>,
    /// Grows whenever another set is served.
    served_revision: AtomicU64,
    /// Grows when certificates were revoked, held or lifted.
    revised: watch::Sender<u64>,
}

impl Status {
    /// Begins with what is known of the store from before.
    pub(super) fn new(watermark: Watermark) -> Self {
        Self {
            watermark: Mutex::new(watermark),
            ..Self::default()
        }
    }

    /// Whether the store has lost what it had: nothing is issued until someone has looked at it.
    pub fn has_gone_back(&self) -> bool {
        self.rolled_back.load(Ordering::Relaxed) || self.chains_rolled_back.load(Ordering::Relaxed)
    }

    /// What is served now.
    pub fn served(&self) -> arc_swap::Guard<Arc<ServedSet>> {
        self.served.load()
    }

    /// Wakes when certificates were revoked, held or lifted by anyone.
    pub fn revised(&self) -> watch::Receiver<u64> {
        self.revised.subscribe()
    }

    /// Whether a certificate is revoked or on hold, whatever became of its authority.
    pub fn is_revoked_itself(&self, authority: &AuthorityId, serial: &Serial) -> bool {
        let own = self.read(authority, |status| status.own_revocation(serial));
        own.flatten().is_some()
    }

    /// Waits until a revocation was made by this process.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reads what is known of an authority.
    fn read<T>(&self, id: &AuthorityId, read: impl FnOnce(&AuthorityStatus) -> T) -> Option<T> {
        let authorities = self.authorities.read();
        authorities
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .map(read)
    }

    fn write<T>(&self, write: impl FnOnce(&mut HashMap<AuthorityId, AuthorityStatus>) -> T) -> T {
        let authorities = self.authorities.write();
        write(&mut authorities.unwrap_or_else(PoisonError::into_inner))
    }
}

impl App {
    /// Takes up what has happened in the store since the last time: revocations of any replica, and CRLs.
    ///
    /// # Errors
    /// When the store is away; what is known and served stays.
    pub async fn refresh_status(&self) -> Result<(), Error> {
        let _one_at_a_time = self.status.refreshing.lock().await;
        let store = &self.context.store;
        let snapshot = self.snapshot.load_full();
        // First: a list comes to its end while the store is away too.
        self.drop_what_is_over(&snapshot);
        let before = self.status.served.load_full();
        let mut crls = before.crls.clone();
        crls.retain(|id, _| snapshot.authority(id).is_some());
        let mut changed = crls.len() != before.crls.len() || before.sequence != snapshot.sequence;
        let positions = store.status_positions().await?;
        self.watch_for_a_rollback(&positions).await?;
        for position in positions {
            let id = position.authority;
            if snapshot.authority(&id).is_none() {
                continue;
            }
            self.follow(&id, position.last).await?;
            lock(&self.status.stored).insert(id.clone(), position.crl_number);
            // Never a lower one, whatever the store has.
            if position.crl_number > crls.get(&id).map(|crl| crl.number)
                && let Some(row) = store.crl(&id).await?
            {
                crls.insert(id, ServedCrl::new(row));
                changed = true;
            }
        }
        if changed {
            self.serve(crls, &snapshot);
        }
        Ok(())
    }

    fn drop_what_is_over(&self, snapshot: &Snapshot) {
        let before = self.status.served.load_full();
        if before.is_over(self.context.clock.earliest_now()) {
            self.serve(before.crls.clone(), snapshot);
        }
    }

    /// Puts what is served together, and in place of what was.
    fn serve(&self, crls: HashMap<AuthorityId, Arc<ServedCrl>>, snapshot: &Snapshot) {
        let before = self.status.served.load_full();
        let served = ServedSet::gather(crls, snapshot, self.context.clock.earliest_now());
        let above = snapshot
            .root_crls
            .values()
            .map(|row| (name_above(&row.root), row.next_update.unix()));
        self.metrics.set_crls(&served, above);
        match (&before.full, &served.full) {
            (Ok(_), Err(incomplete)) => {
                self.metrics.crl_set_changed("incomplete");
                tracing::error!(%incomplete, "ca-crl.pem is not served any more");
            }
            (Err(_), Ok(_)) => {
                self.metrics.crl_set_changed("complete");
                tracing::info!("ca-crl.pem is complete and served");
            }
            _ => {}
        }
        self.status.served.store(Arc::new(served));
        self.status.served_revision.fetch_add(1, Ordering::Release);
    }

    /// Compares the store with what is known of it from before, and keeps that.
    async fn watch_for_a_rollback(&self, positions: &[StatusPosition]) -> Result<(), Error> {
        let (compared, due) = {
            let mut watermark = lock(&self.status.watermark);
            (watermark.advance(positions), watermark.due())
        };
        self.status
            .rolled_back
            .store(compared.is_err(), Ordering::Relaxed);
        compared?;
        if let Some((file, marks)) = due {
            let written = tokio::task::spawn_blocking(move || watermark::write(&file, &marks));
            if let Err(error) = written.await.map_err(Error::internal)? {
                tracing::warn!(%error, "store.watermark_file is not written: a store that goes back may go unnoticed");
            }
        }
        Ok(())
    }

    /// Compares where audit chains end with what is known of them from before, and keeps that.
    ///
    /// # Errors
    /// When one is shorter than it was, or ends in another entry.
    pub(super) fn watch_chains(&self, heads: &[AuditHead]) -> Result<(), Error> {
        let compared = lock(&self.status.watermark).advance_chains(heads);
        self.status
            .chains_rolled_back
            .store(compared.is_err(), Ordering::Relaxed);
        compared
    }

    /// Brings what is known of an authority up to the log index `last`.
    async fn follow(&self, id: &AuthorityId, last: Option<u64>) -> Result<(), Error> {
        let store = &self.context.store;
        let Some(mut known) = self.status.read(id, AuthorityStatus::position) else {
            // The position was read before the rows: what came between them is applied again, which changes nothing.
            let mut fresh = AuthorityStatus::at(last);
            if let Some(row) = store.authority(id).await? {
                fresh.set_authority_revoked(row.revoked);
            }
            loop {
                let page = store.revocations(id, fresh.last_serial(), PAGE).await?;
                let more = page.len() == PAGE as usize;
                fresh.extend(page);
                if !more {
                    break;
                }
            }
            self.status.write(|all| all.insert(id.clone(), fresh));
            return Ok(());
        };
        while known < last {
            let events = store.status_events(id, known, PAGE).await?;
            let Some((newest, _)) = events.last() else {
                break;
            };
            known = Some(*newest);
            let touched = touched(&events);
            self.status.write(|all| {
                if let Some(status) = all.get_mut(id) {
                    status.apply(events);
                }
            });
            // After: who signs an answer meanwhile sees the change, or its answer is forgotten here.
            match touched {
                Some(serials) => serials
                    .into_iter()
                    .for_each(|serial| self.status.ocsp.forget(id, serial)),
                None => self.status.ocsp.forget_all(),
            }
            self.status.revised.send_modify(|revision| *revision += 1);
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The certificates that events are about; `None` where they are about all.
fn touched(events: &[(u64, StatusEvent)]) -> Option<Vec<Serial>> {
    let serials = events.iter().map(|(_, event)| match event {
        StatusEvent::Revoked(revocation) => Some(revocation.serial),
        StatusEvent::Lifted(serial) => Some(*serial),
        StatusEvent::AuthorityRevoked { .. } => None,
    });
    serials.collect()
}
