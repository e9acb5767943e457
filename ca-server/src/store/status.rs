//! What the store knows of certificates after their issue: revocations, holds, and the CRLs that tell of them.

use pki::crypto::Digest;
use pki::name::AuthorityId;
use pki::serial::Serial;
use pki::time::Timestamp;

use super::model::{
    AuthorityRevocation, CrlRow, NewAudit, Revocation, RootCrlRow, StatusChange, StatusEvent,
    StatusOutcome, StatusPosition,
};
use super::{Store, StoreError, within_deadline};

/// CRLs.
impl Store {
    /// An authority's latest CRL, with its parts.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn crl(&self, authority: &AuthorityId) -> Result<Option<CrlRow>, StoreError> {
        call!(self.crl(authority))
    }

    /// Replaces the CRL number `expected_number` (`None`: the authority has no CRL yet), parts and all. Numbers only
    /// grow, and so do the revocations that a list covers.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another one is there, the number does not grow or it covers less, or when the store
    /// fails.
    pub async fn put_crl(
        &self,
        authority: &AuthorityId,
        crl: &CrlRow,
        expected_number: Option<u64>,
    ) -> Result<(), StoreError> {
        call!(self.put_crl(authority, crl, expected_number))
    }

    /// The offline roots' CRLs.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn root_crls(&self) -> Result<Vec<RootCrlRow>, StoreError> {
        call!(self.root_crls())
    }

    /// The CRL of the root whose SubjectPublicKeyInfo has this SHA-256.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn root_crl(&self, root: &Digest) -> Result<Option<RootCrlRow>, StoreError> {
        call!(self.root_crl(root))
    }

    /// Keeps roots' CRLs in place of ones with lower numbers and no later dates, all or none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when one with the same or a higher number or a later date is there, or when the store fails.
    pub async fn put_root_crls(
        &self,
        crls: &[RootCrlRow],
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        call!(self.put_root_crls(crls, audit))
    }
}

/// Revocations.
impl Store {
    /// Revokes certificates or puts them on hold, each at its place in its authority's log, all or none. A certificate may
    /// be named once. The cost does not depend on how many are revoked.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke(
        &self,
        changes: &[StatusChange],
        audit: &[NewAudit],
    ) -> Result<Vec<StatusOutcome>, StoreError> {
        call!(self.revoke(changes, audit))
    }

    /// Lifts holds, likewise.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lift_holds(
        &self,
        changes: &[StatusChange],
        audit: &[NewAudit],
    ) -> Result<Vec<StatusOutcome>, StoreError> {
        call!(self.lift_holds(changes, audit))
    }

    /// Revokes an authority that is still at `expected_version`: closes its log, so that nothing that it signs gets on
    /// record after this, and writes the log's last entry.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it has changed or is revoked already, or when the store fails.
    pub async fn revoke_authority(
        &self,
        id: &AuthorityId,
        expected_version: i64,
        revocation: &AuthorityRevocation,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        call!(self.revoke_authority(id, expected_version, revocation, audit))
    }

    /// Whether a serial number is revoked or on hold.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn is_revoked(
        &self,
        authority: &AuthorityId,
        serial: &Serial,
    ) -> Result<bool, StoreError> {
        Ok(self.revocation(authority, serial).await?.is_some())
    }

    /// When and why a serial number was revoked or put on hold.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revocation(
        &self,
        authority: &AuthorityId,
        serial: &Serial,
    ) -> Result<Option<Revocation>, StoreError> {
        call!(self.revocation(authority, serial))
    }

    /// What of an authority is revoked or on hold, by serial number; `limit` of them after `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revocations(
        &self,
        authority: &AuthorityId,
        after: Option<&Serial>,
        limit: u32,
    ) -> Result<Vec<Revocation>, StoreError> {
        call!(self.revocations(authority, after, limit))
    }

    /// How far each authority's status and CRL have come.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn status_positions(&self) -> Result<Vec<StatusPosition>, StoreError> {
        call!(self.status_positions())
    }

    /// What happened after the log index `after`, in order; `limit` of it. Indices are handed out under the log's lock:
    /// whoever has seen one has seen all before it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn status_events(
        &self,
        authority: &AuthorityId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, StatusEvent)>, StoreError> {
        call!(self.status_events(authority, after, limit))
    }

    /// An authority's certificates that are not over at `at`, with their ends, by serial number; `limit` of them after
    /// `after`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn live(
        &self,
        authority: &AuthorityId,
        at: Timestamp,
        after: Option<&Serial>,
        limit: u32,
    ) -> Result<Vec<(Serial, Timestamp)>, StoreError> {
        call!(self.live(authority, at, after, limit))
    }

    /// The last second of the last of an authority's certificates.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_expiry(
        &self,
        authority: &AuthorityId,
    ) -> Result<Option<Timestamp>, StoreError> {
        call!(self.last_expiry(authority))
    }

    /// Which of an authority's serial numbers that expire on `day` are on record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn on_record(
        &self,
        authority: &AuthorityId,
        day: u16,
        serials: &[Serial],
    ) -> Result<Vec<Serial>, StoreError> {
        call!(self.on_record(authority, day, serials))
    }

    /// Whose serial numbers that expire on `day` are, for those of them that are on record.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn issuers_of(
        &self,
        day: u16,
        serials: &[Serial],
    ) -> Result<Vec<(Serial, AuthorityId)>, StoreError> {
        call!(self.issuers_of(day, serials))
    }
}
