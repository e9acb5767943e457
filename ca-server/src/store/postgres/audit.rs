//! The audit trail.

use pki::audit::Mark;
use sqlx::Transaction;

use super::{Connection, Postgres};
use crate::store::StoreError;
use crate::store::audit::{AuditFilter, AuditHead, AuditRow, NewAudit, Trail};
use crate::store::rows::{RawAudit, RawAuditHead, RawMark, all, signed};

impl Postgres {
    pub(in crate::store) fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Commits a transaction with the entries that tell of it. They come last: whoever waits for the head holds every
    /// other lock that it needs, so that no two wait for each other.
    pub(super) async fn commit(
        &self,
        mut tx: Transaction<'static, sqlx::Postgres>,
        entries: &[NewAudit],
    ) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(tx.commit().await?);
        }
        let auditor = self.trail.auditor()?;
        let replica = auditor.replica().as_str();
        let mut head = lock_head(&mut tx, replica).await?;
        if head.is_none() {
            // There is no row yet that could be locked: the first entry of a chain has one writer, too.
            sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('audit ' || $1, 0))")
                .bind(replica)
                .execute(&mut *tx)
                .await?;
            head = lock_head(&mut tx, replica).await?;
        }
        let (rows, head) = auditor.chain(head.as_ref(), entries)?;
        for row in &rows {
            sqlx::query(
                "INSERT INTO audit (replica, position, at, kind, actor, remote, rule, request_id, \
                 detail, previous, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            )
            .bind(&row.replica)
            .bind(signed(row.position))
            .bind(row.at.unix())
            .bind(&row.kind)
            .bind(&row.actor)
            .bind(&row.remote)
            .bind(&row.rule)
            .bind(&row.request_id)
            .bind(&row.detail)
            .bind(row.previous.as_slice())
            .bind(row.hash.as_slice())
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query(
            "INSERT INTO audit_head (replica, position, hash, seal, at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (replica) DO UPDATE \
             SET position = excluded.position, hash = excluded.hash, seal = excluded.seal, \
             at = excluded.at",
        )
        .bind(replica)
        .bind(signed(head.mark.position))
        .bind(head.mark.hash.as_slice())
        .bind(head.seal.as_slice())
        .bind(head.at.unix())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        auditor.note(&head);
        Ok(())
    }

    pub(in crate::store) async fn append_audit(
        &self,
        entries: &[NewAudit],
    ) -> Result<(), StoreError> {
        let tx = self.begin().await?;
        self.commit(tx, entries).await
    }

    pub(in crate::store) async fn audit_heads(&self) -> Result<Vec<AuditHead>, StoreError> {
        let rows: Vec<RawAuditHead> = sqlx::query_as(
            "SELECT replica, position, hash, seal, at FROM audit_head ORDER BY replica",
        )
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn audit_replica_after(
        &self,
        replica: &str,
    ) -> Result<Option<String>, StoreError> {
        // One probe of the key for each: there are few replicas, and many entries.
        Ok(
            sqlx::query_scalar("SELECT min(replica) FROM audit WHERE replica > $1")
                .bind(replica)
                .fetch_one(&self.reads)
                .await?,
        )
    }

    pub(in crate::store) async fn audit_entries(
        &self,
        replica: &str,
        from: u64,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let rows: Vec<RawAudit> = sqlx::query_as(
            "SELECT replica, position, at, kind, actor, remote, rule, request_id, detail, \
             previous, hash FROM audit WHERE replica = $1 AND position >= $2 \
             ORDER BY position LIMIT $3",
        )
        .bind(replica)
        .bind(signed(from))
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn search_audit(
        &self,
        filter: &AuditFilter,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let statement = match filter.replica {
            Some(_) => OF_ONE_CHAIN,
            None => NEWEST_FIRST,
        };
        let after = filter.after.as_ref();
        let rows: Vec<RawAudit> = sqlx::query_as(statement)
            .bind(filter.kind.as_deref())
            .bind(filter.actor.as_deref())
            .bind(filter.from.map(pki::time::Timestamp::unix))
            .bind(filter.to.map(pki::time::Timestamp::unix))
            .bind(i64::from(filter.limit.min(AuditFilter::LIMIT_MAX)))
            .bind(after.map(|after| signed(after.position)))
            .bind(after.map(|after| after.at.unix()))
            .bind(match &filter.replica {
                Some(replica) => Some(replica.as_str()),
                None => after.map(|after| after.replica.as_str()),
            })
            .fetch_all(&self.reads)
            .await?;
        all(rows)
    }
}

impl Postgres {
    pub(in crate::store) async fn audit_exported(
        &self,
        sink: &str,
    ) -> Result<Vec<Mark>, StoreError> {
        let rows: Vec<RawMark> =
            sqlx::query_as("SELECT replica, position, hash FROM audit_export WHERE sink = $1")
                .bind(sink)
                .fetch_all(&self.reads)
                .await?;
        all(rows)
    }

    pub(in crate::store) async fn note_audit_exported(
        &self,
        sink: &str,
        mark: &Mark,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_export (sink, replica, position, hash) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (sink, replica) DO UPDATE \
             SET position = excluded.position, hash = excluded.hash",
        )
        .bind(sink)
        .bind(&mark.replica)
        .bind(signed(mark.position))
        .bind(mark.hash.as_slice())
        .execute(&mut *self.writer().await?)
        .await?;
        Ok(())
    }
}

/// The filter's conditions, then which chain and where, then the order.
macro_rules! page {
    ($where_and_order:literal) => {
        concat!(
            "SELECT replica, position, at, kind, actor, remote, rule, request_id, detail, \
             previous, hash FROM audit WHERE ($1::text IS NULL OR kind = $1) \
             AND ($2::text IS NULL OR actor = $2) AND ($3::bigint IS NULL OR at >= $3) \
             AND ($4::bigint IS NULL OR at < $4) ",
            $where_and_order,
            " LIMIT $5"
        )
    };
}

const OF_ONE_CHAIN: &str = page!(
    "AND replica = $8 AND ($6::bigint IS NULL OR position > $6) AND ($7::bigint IS NULL OR true) \
     ORDER BY position"
);
const NEWEST_FIRST: &str = page!(
    "AND ($7::bigint IS NULL OR (at, replica, position) < ($7, $8::text, $6::bigint)) \
     ORDER BY at DESC, replica DESC, position DESC"
);

async fn lock_head(
    connection: &mut Connection,
    replica: &str,
) -> Result<Option<AuditHead>, StoreError> {
    let head: Option<RawAuditHead> = sqlx::query_as(
        "SELECT replica, position, hash, seal, at FROM audit_head WHERE replica = $1 FOR UPDATE",
    )
    .bind(replica)
    .fetch_optional(connection)
    .await?;
    head.map(TryInto::try_into).transpose()
}
