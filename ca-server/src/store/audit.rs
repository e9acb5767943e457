//! The audit trail: what is to be written, what is read back, and how a chain goes on.
//!
//! Each engine locks the head of the replica's chain in the transaction of the change that an entry tells of; what is
//! computed from it is here, for both. The key that seals heads comes from the installation's keys, which are opened after
//! the store: until [`Store::audit_as`] was called, nothing that has to be audited is done.

use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hsm::audit::{AuditKey, SEAL_BYTES};
use pki::audit::{BEGINNING, Entry, Mark};
use pki::time::Timestamp;

use super::{Store, StoreError, within_deadline};

/// An entry as it is kept.
pub type AuditRow = Entry;

/// Something to be written into the trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAudit {
    /// When.
    pub at: Timestamp,
    /// What, such as `cluster.apply`.
    pub kind: String,
    /// Who.
    pub actor: String,
    /// From where.
    pub remote: String,
    /// What allowed it, or refused it.
    pub rule: String,
    /// The call's id in logs.
    pub request_id: String,
    /// The rest, as JSON.
    pub detail: String,
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Its last entry.
    pub mark: Mark,
    /// The seal over it.
    pub seal: [u8; SEAL_BYTES],
    /// When the last entry was written.
    pub at: Timestamp,
}

/// What to look for in the trail. With a replica, entries come oldest first; without one newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of this chain alone.
    pub replica: Option<String>,
    /// Of exactly this kind.
    pub kind: Option<String>,
    /// By exactly this principal.
    pub actor: Option<String>,
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
    /// Only what comes after this one in the answer's order.
    pub after: Option<AuditCursor>,
    /// How many at most; more than [`AuditFilter::LIMIT_MAX`] counts as that.
    pub limit: u32,
}

impl AuditFilter {
    /// The most that one page has.
    pub const LIMIT_MAX: u32 = 500;
}

/// The last entry of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    /// When it was written.
    pub at: Timestamp,
    /// Whose chain it is in.
    pub replica: String,
    /// Its place there.
    pub position: u64,
}

impl AuditCursor {
    /// Where the next page begins after one that ended here.
    #[must_use]
    pub fn of(row: &AuditRow) -> Self {
        Self {
            at: row.at,
            replica: row.replica.clone(),
            position: row.position,
        }
    }
}

/// What a replica calls its chain: 1 to 63 of `a-z`, `0-9`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaName(String);

/// Not a replica's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a replica's name is 1 to 63 of a-z, 0-9, - and .")]
pub struct ReplicaNameError;

const REPLICA_NAME_MAX: usize = 63;

impl ReplicaName {
    /// The host's name in these letters; `replica` for a host that has none of them.
    #[must_use]
    pub fn of_host(name: &str) -> Self {
        let allowed = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '-' | '.') => c,
            _ => '-',
        };
        let name: String = name.chars().take(REPLICA_NAME_MAX).map(allowed).collect();
        Self::from_str(&name).unwrap_or_else(|_| Self("replica".to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReplicaName {
    type Err = ReplicaNameError;

    fn from_str(text: &str) -> Result<Self, ReplicaNameError> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        if (1..=REPLICA_NAME_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReplicaNameError)
        }
    }
}

impl std::fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who writes into the trail from this process: a chain's name, and the key that seals its head.
#[derive(Debug)]
pub struct Auditor {
    replica: ReplicaName,
    key: AuditKey,
    /// The chain's last entry that this process knows of.
    last: Mutex<Option<Mark>>,
}

impl Auditor {
    /// An auditor.
    #[must_use]
    pub fn new(replica: ReplicaName, key: AuditKey) -> Self {
        Self {
            replica,
            key,
            last: Mutex::new(None),
        }
    }

    /// Its chain.
    #[must_use]
    pub fn replica(&self) -> &ReplicaName {
        &self.replica
    }

    /// What seals heads, and other rows that only this installation writes.
    #[must_use]
    pub fn key(&self) -> &AuditKey {
        &self.key
    }

    /// Whether a head was sealed by this installation.
    #[must_use]
    pub fn has_sealed(&self, head: &AuditHead) -> bool {
        self.key.is_seal(&head.mark.message(), &head.seal)
    }

    /// The chain's next entries and its new head. A head that is not as it was left is not gone on from: what came next
    /// would be sealed, and hide what was done to it.
    pub(super) fn chain(
        &self,
        head: Option<&AuditHead>,
        entries: &[NewAudit],
    ) -> Result<(Vec<AuditRow>, AuditHead), StoreError> {
        if head.is_some_and(|head| !self.has_sealed(head)) {
            return Err(StoreError::Audit(
                "the chain's head was rewritten by someone who does not have the installation's keys",
            ));
        }
        {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let place = |mark: &Mark| (mark.position, mark.hash);
            let (known, found) = (last.as_ref().map(place), head.map(|head| place(&head.mark)));
            let gone_back = match (known, found) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some((known, hash)), Some((found, now))) => {
                    found < known || found == known && hash != now
                }
            };
            if gone_back {
                return Err(StoreError::Audit(
                    "the chain has gone back: entries that were written are missing",
                ));
            }
        }
        let mut rows: Vec<AuditRow> = Vec::with_capacity(entries.len());
        let mut next = head.map_or(0, |head| head.mark.position + 1);
        let mut previous = head.map_or(BEGINNING, |head| head.mark.hash);
        for new in entries {
            let row = Entry {
                replica: self.replica.0.clone(),
                position: next,
                at: new.at,
                kind: storable(&new.kind),
                actor: storable(&new.actor),
                remote: storable(&new.remote),
                rule: storable(&new.rule),
                request_id: storable(&new.request_id),
                detail: storable(&new.detail),
                previous,
                hash: BEGINNING,
            }
            .hashed();
            (next, previous) = (next + 1, row.hash);
            rows.push(row);
        }
        let last = rows
            .last()
            .ok_or(StoreError::Audit("there is nothing to append"))?;
        let mark = last.mark();
        let head = AuditHead {
            seal: self.key.seal(&mark.message()),
            at: last.at,
            mark,
        };
        Ok((rows, head))
    }

    /// Takes note of what was committed.
    pub(super) fn note(&self, head: &AuditHead) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last
            .as_ref()
            .is_none_or(|mark| mark.position < head.mark.position)
        {
            *last = Some(head.mark.clone());
        }
    }
}

/// A text as both databases take it: Postgres has no NUL.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// An engine's auditor, once there is one. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(Arc<OnceLock<Auditor>>);

impl Trail {
    pub(super) fn auditor(&self) -> Result<&Auditor, StoreError> {
        self.0.get().ok_or(StoreError::Audit(
            "the key that seals it has not been opened",
        ))
    }
}

/// The audit trail.
impl Store {
    fn trail(&self) -> &Trail {
        on_engine!(self, engine => engine.trail())
    }

    /// Says who writes into the trail by this handle and its clones. The first one stays.
    pub fn audit_as(&self, auditor: Auditor) {
        // A second one is another handle of the same process to the same chain.
        let _ = self.trail().0.set(auditor);
    }

    /// Who writes into the trail by this handle.
    ///
    /// # Errors
    /// [`StoreError::Audit`] before [`Store::audit_as`] was called.
    pub fn auditor(&self) -> Result<&Auditor, StoreError> {
        self.trail().auditor()
    }

    /// Appends to the trail what goes with no other change.
    ///
    /// # Errors
    /// [`StoreError::Audit`] when the chain does not stand as it was left, or when the store fails.
    pub async fn append_audit(&self, entries: &[NewAudit]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        call!(self.append_audit(entries))
    }

    /// Where each chain ends, by replica.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn audit_heads(&self) -> Result<Vec<AuditHead>, StoreError> {
        call!(self.audit_heads())
    }

    /// Whose chains have entries, with a head or without one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn audit_replicas(&self) -> Result<Vec<String>, StoreError> {
        let mut replicas: Vec<String> = Vec::new();
        loop {
            let after = replicas.last().map_or("", String::as_str);
            match call!(self.audit_replica_after(after))? {
                Some(replica) => replicas.push(replica),
                None => return Ok(replicas),
            }
        }
    }

    /// A chain's entries from `from` on, in order; `limit` of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn audit_entries(
        &self,
        replica: &str,
        from: u64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        call!(self.audit_entries(replica, from, limit))
    }

    /// How far each chain was handed on to `sink`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn audit_exported(&self, sink: &str) -> Result<Vec<Mark>, StoreError> {
        call!(self.audit_exported(sink))
    }

    /// Remembers that a chain was handed on to `sink` up to an entry.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn note_audit_exported(&self, sink: &str, mark: &Mark) -> Result<(), StoreError> {
        call!(self.note_audit_exported(sink, mark))
    }

    /// A page of the trail.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn search_audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, StoreError> {
        call!(self.search_audit(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_name_becomes_a_replicas() {
        for (host, replica) in [
            ("Edge_1.Example.COM", "edge-1.example.com"),
            ("", "replica"),
            (&"x".repeat(90), &"x".repeat(63)),
        ] {
            assert_eq!(ReplicaName::of_host(host).as_str(), replica);
        }
        for bad in ["", "A", "a b", &"x".repeat(64)] {
            assert_eq!(ReplicaName::from_str(bad), Err(ReplicaNameError));
        }
    }
}
