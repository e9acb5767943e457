//! The store: what outlives a restart. The only SQL of the program is in here.
//!
//! Two engines with one contract: Postgres for production, SQLite embedded. Each is written out plainly; the contract
//! suite (`tests/tests/store_contract/`) runs every case on both. Times come from the caller, except where the
//! database's own clock is what is asked for: [`Store::clock`] and [`Store::try_lease`].
//!
//! A call either did what it says, durably, or did nothing, with one exception that no database spares us: a
//! connection that breaks during a commit ([`StoreError::Unavailable`]) leaves open which of the two. Every call is
//! safe to repeat or tells by [`StoreError::Conflict`] that it was done.
//!
//! What changes something takes the entries of the audit trail that tell of it (`audit`) and writes both or neither; where
//! nothing changes, they are not written either. None are given where nobody has to hear of it.

/// Does the same with the engine of a store, whichever it is.
macro_rules! on_engine {
    ($store:expr, $engine:ident => $act:expr) => {
        match $store {
            #[cfg(feature = "postgres")]
            Store::Postgres($engine) => $act,
            Store::Sqlite($engine) => $act,
        }
    };
}

mod error;
mod migrations;
pub mod model;
#[cfg(feature = "postgres")]
mod postgres;
pub mod recorder;
mod rows;
mod search;
mod sqlite;
pub mod transfer;
mod url;

use std::time::Duration;

use pki::crypto::Digest;
use pki::name::{AuthorityId, ClusterName, TrustDomain};
use pki::serial::Serial;
use pki::time::Timestamp;

use model::{
    AuthorityRow, BundleRow, ClusterRow, EnrolmentRow, Installation, NewAudit, NewRecord,
    RecordFilter, RecordPage, StoredRecord,
};

pub use audit::{Auditor, ReplicaName, ReplicaNameError};
pub use error::{RecordError, StoreError};
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
pub use recorder::Recorder;
pub use sqlite::Sqlite;
pub use url::StoreUrl;

/// A store that is open. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub enum Store {
    /// A Postgres server.
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
    /// A SQLite file.
    Sqlite(Sqlite),
}

/// How long any call may take. The database has its own, shorter limits (2 s for a connection, 3 s for a lock, 5 s for a
/// statement); this one is for a database that does not answer at all, such as a stopped process or a dead peer.
const CALL_DEADLINE: Duration = Duration::from_secs(8);

macro_rules! call {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        within_deadline(async { on_engine!($self, engine => engine.$method($($argument),*).await) })
            .await
    };
}

pub mod administrators;
mod audit;
mod status;

impl Store {
    /// Opens a store. A SQLite file is made if it is missing (its directory must exist; mode 0600) and migrated.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when Postgres lacks a migration, [`StoreError::Pooler`] when it is reached through a
    /// pooler in transaction mode, [`StoreError::File`] when the file cannot be made, and as any call.
    pub async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        Ok(match url.engine() {
            #[cfg(feature = "postgres")]
            url::Engine::Postgres(options) => Self::Postgres(Postgres::open(options).await?),
            url::Engine::Sqlite(path) => Self::Sqlite(Sqlite::open(path).await?),
        })
    }

    /// Brings the schema up to date, makes the partitions that `now` calls for, and names the migrations that were
    /// applied. Replicas may do it at once: an advisory lock lets one at a time.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses a migration; what was applied before it stays.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "only Postgres has partitions")
    )]
    pub async fn migrate(url: &StoreUrl, now: Timestamp) -> Result<Vec<String>, StoreError> {
        match url.engine() {
            #[cfg(feature = "postgres")]
            url::Engine::Postgres(options) => Postgres::migrate(options, now).await,
            url::Engine::Sqlite(path) => Sqlite::migrate(path).await,
        }
    }

    /// Closes all connections; calls under way end first. Every later call is refused as unavailable.
    pub async fn close(&self) {
        on_engine!(self, engine => engine.close().await);
    }
}

/// The installation, clusters and authorities. A compare-and-set that is lost is [`StoreError::Conflict`].
impl Store {
    /// The key-encryption key as it rests; `None` before the first start.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        call!(self.installation())
    }

    /// Keeps the key-encryption key, at version 1. The first one wins.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is one, or when the store fails.
    pub async fn create_installation(&self, installation: &Installation) -> Result<(), StoreError> {
        call!(self.create_installation(installation))
    }

    /// Replaces the sealed key-encryption key that is still at `expected_version`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not, or when the store fails.
    pub async fn rewrap_installation(
        &self,
        installation: &Installation,
        expected_version: i64,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        call!(self.rewrap_installation(installation, expected_version, audit))
    }

    /// All clusters, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clusters(&self) -> Result<Vec<ClusterRow>, StoreError> {
        call!(self.clusters())
    }

    /// One cluster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn cluster(&self, name: &ClusterName) -> Result<Option<ClusterRow>, StoreError> {
        call!(self.cluster(name))
    }

    /// Adds a cluster, at version 1.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name is taken, or when the store fails.
    pub async fn insert_cluster(
        &self,
        cluster: &ClusterRow,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        call!(self.insert_cluster(cluster, audit))
    }

    /// Replaces a cluster that is still at `expected_version`, and tells its new version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not, or when the store fails.
    pub async fn update_cluster(
        &self,
        cluster: &ClusterRow,
        expected_version: i64,
        audit: &[NewAudit],
    ) -> Result<i64, StoreError> {
        call!(self.update_cluster(cluster, expected_version, audit))
    }

    /// Deletes a cluster and its enrolments; `false` when there is none of that name.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it has authorities, or when the store fails.
    pub async fn delete_cluster(
        &self,
        name: &ClusterName,
        audit: &[NewAudit],
    ) -> Result<bool, StoreError> {
        call!(self.delete_cluster(name, audit))
    }

    /// All authorities, by cluster and generation.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn authorities(&self) -> Result<Vec<AuthorityRow>, StoreError> {
        call!(self.authorities())
    }

    /// One authority.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn authority(&self, id: &AuthorityId) -> Result<Option<AuthorityRow>, StoreError> {
        call!(self.authority(id))
    }

    /// Adds an authority, at version 1, with an empty issuance log.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its id, its generation or its key is taken, its cluster is missing or has an active
    /// one already, or when the store fails.
    pub async fn insert_authority(
        &self,
        authority: &AuthorityRow,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        call!(self.insert_authority(authority, audit))
    }

    /// Replaces what may change of an authority that is still at `expected_version`, and tells its new version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not or its cluster has another active one, or when the store fails.
    pub async fn update_authority(
        &self,
        authority: &AuthorityRow,
        expected_version: i64,
        audit: &[NewAudit],
    ) -> Result<i64, StoreError> {
        call!(self.update_authority(authority, expected_version, audit))
    }

    /// Makes a published authority that is still at `expected_version` its cluster's active one, and the one that was
    /// retiring, at once. Both versions grow; `activate_at` becomes `now`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it has changed or another swap was faster, or when the store fails.
    pub async fn swap_active(
        &self,
        new: &AuthorityId,
        expected_version: i64,
        now: Timestamp,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        call!(self.swap_active(new, expected_version, now, audit))
    }
}

/// Bundles.
impl Store {
    /// The roots of a trust domain; sequence 0 and none for one that never had any.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bundle(&self, trust_domain: &TrustDomain) -> Result<BundleRow, StoreError> {
        call!(self.bundle(trust_domain))
    }

    /// All bundles, by trust domain.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn bundles(&self) -> Result<Vec<BundleRow>, StoreError> {
        call!(self.bundles())
    }

    /// Adds a root and tells the bundle's sequence; it does not grow when the root is there already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn add_root(
        &self,
        trust_domain: &TrustDomain,
        der: &[u8],
        now: Timestamp,
        audit: &[NewAudit],
    ) -> Result<u64, StoreError> {
        call!(self.add_root(trust_domain, der, now, audit))
    }

    /// Removes the root with this SHA-256 and tells the bundle's sequence; it does not grow when there is none. Sequences
    /// never begin again, not even after the last root.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_root(
        &self,
        trust_domain: &TrustDomain,
        sha256: &Digest,
        audit: &[NewAudit],
    ) -> Result<u64, StoreError> {
        call!(self.remove_root(trust_domain, sha256, audit))
    }
}

/// Enrolments.
impl Store {
    /// Adds an enrolment that was never used, whatever is given here.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its id or hash is taken or its cluster is missing, or when the store fails.
    pub async fn insert_enrolment(
        &self,
        enrolment: &EnrolmentRow,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        call!(self.insert_enrolment(enrolment, audit))
    }

    /// The enrolment of this id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn enrolment(&self, id: &str) -> Result<Option<EnrolmentRow>, StoreError> {
        call!(self.enrolment(id))
    }

    /// The enrolment whose token has this SHA-256.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn enrolment_by_hash(
        &self,
        hash: &Digest,
    ) -> Result<Option<EnrolmentRow>, StoreError> {
        call!(self.enrolment_by_hash(hash))
    }

    /// All enrolments, newest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn enrolments(&self) -> Result<Vec<EnrolmentRow>, StoreError> {
        call!(self.enrolments())
    }

    /// Withdraws an enrolment; `false` when there is none or it is withdrawn already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn revoke_enrolment(
        &self,
        id: &str,
        now: Timestamp,
        audit: &[NewAudit],
    ) -> Result<bool, StoreError> {
        call!(self.revoke_enrolment(id, now, audit))
    }
}

/// Records.
impl Store {
    /// Records certificates, each at the next index of its authority's log: gapless, from 0, in the order given. A row that
    /// the store refuses does not keep its neighbours out. [`Recorder::record`] is what the issuing path calls.
    ///
    /// # Errors
    /// When the store fails before anything was recorded. What fails later is the answer of each row that it concerns.
    pub async fn record_batch(
        &self,
        records: &[NewRecord],
    ) -> Result<Vec<Result<u64, RecordError>>, StoreError> {
        call!(self.record_batch(records))
    }

    /// Uses an enrolment and records the certificate that it was for, both or neither. An enrolment is used
    /// once; what it was used for stays with it.
    ///
    /// # Errors
    /// [`RecordError::EnrolmentExpired`], [`RecordError::EnrolmentRevoked`], [`RecordError::EnrolmentSpent`], and as for any
    /// record.
    pub async fn record_enrolled(
        &self,
        record: &NewRecord,
        enrolment_id: &str,
        now: Timestamp,
    ) -> Result<u64, RecordError> {
        let call = async {
            Ok(on_engine!(self, engine => engine.record_enrolled(record, enrolment_id, now).await))
        };
        within_deadline(call)
            .await
            .map_err(RecordError::unavailable)?
    }

    /// Records a responder's certificate, of a revoked authority too.
    ///
    /// # Errors
    /// As for any record, but for [`RecordError::LogClosed`].
    pub async fn record_responder(&self, record: &NewRecord) -> Result<u64, RecordError> {
        let call = async { Ok(on_engine!(self, engine => engine.record_responder(record).await)) };
        within_deadline(call)
            .await
            .map_err(RecordError::unavailable)?
    }

    /// The record with this serial number, of whichever authority. `None` for a serial number that is not of our layout.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn record(&self, serial: &Serial) -> Result<Option<StoredRecord>, StoreError> {
        call!(self.record(serial))
    }

    /// The record of an authority with this serial number.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn record_of(
        &self,
        authority: &AuthorityId,
        serial: &Serial,
    ) -> Result<Option<StoredRecord>, StoreError> {
        call!(self.record_of(authority, serial))
    }

    /// A page of records, newest first. It costs about the same, whatever is asked for, whichever page it is and however many
    /// records there are: it ends before it is full where too much would have to be looked at.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn search(&self, filter: &RecordFilter) -> Result<RecordPage, StoreError> {
        within_deadline(search::page(self, filter)).await
    }

    /// Makes the partitions that will be needed; nothing to do on SQLite. To be called each day; a month missed does no
    /// harm.
    ///
    /// # Errors
    /// When the store fails.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(unused_variables, reason = "only Postgres has partitions")
    )]
    pub async fn maintain_partitions(&self, now: Timestamp) -> Result<(), StoreError> {
        match self {
            // Its statements have their own limits: moving a month's rows may take longer than a call.
            #[cfg(feature = "postgres")]
            Self::Postgres(store) => store.maintain_partitions(now).await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Forgets the records of certificates that expired on a day before that of `expired_before`. On Postgres whole
    /// partitions go: one that also holds later days stays until they are past.
    ///
    /// # Errors
    /// When the store fails; what was dropped before stays dropped, and calling again goes on.
    pub async fn drop_records(&self, expired_before: Timestamp) -> Result<(), StoreError> {
        on_engine!(self, engine => engine.drop_records(expired_before).await)
    }
}

/// What keeps the servers in step.
impl Store {
    /// The database's clock; `None` on SQLite, which has none but this machine's.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        call!(self.clock())
    }

    /// The latest time that this installation has seen.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clock_high_water(&self) -> Result<Option<Timestamp>, StoreError> {
        call!(self.clock_high_water())
    }

    /// Notes that it is `now`; an earlier time changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn raise_clock_high_water(&self, now: Timestamp) -> Result<(), StoreError> {
        call!(self.raise_clock_high_water(now))
    }

    /// An operator says that it is `now`, even if that is earlier than what was seen. Tells the acceptance's number, which
    /// grows by one each time.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn accept_clock(
        &self,
        now: Timestamp,
        by: &str,
        audit: &[NewAudit],
    ) -> Result<u64, StoreError> {
        call!(self.accept_clock(now, by, audit))
    }

    /// The latest acceptance: its number, and the time that was accepted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clock_acceptance(&self) -> Result<Option<(u64, Timestamp)>, StoreError> {
        call!(self.clock_acceptance())
    }

    /// Grows with every change to clusters, authorities, roots, CRLs and revocations, of enrolments too. Whoever reads it
    /// first and the rest after it misses nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn change_sequence(&self) -> Result<u64, StoreError> {
        call!(self.change_sequence())
    }

    /// Takes or renews a lease for `seconds`; `false` while another holder has it. It saves double work, and only that.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn try_lease(
        &self,
        name: &str,
        holder: &str,
        seconds: u32,
    ) -> Result<bool, StoreError> {
        call!(self.try_lease(name, holder, seconds))
    }
}

/// What is dropped at the deadline gives its connection back; an open transaction is rolled back.
async fn within_deadline<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(CALL_DEADLINE, call)
        .await
        .map_err(StoreError::unavailable)?
}
