//! What keeps the servers in step: clocks, leases, and the change sequence.

use pki::time::Timestamp;

use super::Sqlite;
use crate::store::StoreError;
use crate::store::model::NewAudit;
use crate::store::rows::number;

impl Sqlite {
    pub(in crate::store) async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        // It has no clock but this machine's, which the caller knows.
        Ok(None)
    }

    pub(in crate::store) async fn clock_high_water(&self) -> Result<Option<Timestamp>, StoreError> {
        let seconds: i64 = sqlx::query_scalar("SELECT high_water FROM clock")
            .fetch_one(&self.reads)
            .await?;
        Ok((seconds > 0).then(|| Timestamp::from_unix(seconds)))
    }

    pub(in crate::store) async fn raise_clock_high_water(
        &self,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE clock SET high_water = $1 WHERE high_water < $1")
            .bind(now.unix())
            .execute(&self.writes)
            .await?;
        Ok(())
    }

    pub(in crate::store) async fn accept_clock(
        &self,
        now: Timestamp,
        by: &str,
        audit: &[NewAudit],
    ) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE clock SET high_water = $1")
            .bind(now.unix())
            .execute(&mut *tx)
            .await?;
        let sequence: i64 = sqlx::query_scalar(
            "INSERT INTO clock_acceptance (sequence, accepted_at, accepted_by) \
             SELECT coalesce(max(sequence), 0) + 1, $1, $2 FROM clock_acceptance WHERE true \
             RETURNING sequence",
        )
        .bind(now.unix())
        .bind(by)
        .fetch_one(&mut *tx)
        .await?;
        self.commit(tx, audit).await?;
        number("clock_acceptance", "sequence", sequence)
    }

    pub(in crate::store) async fn clock_acceptance(
        &self,
    ) -> Result<Option<(u64, Timestamp)>, StoreError> {
        let row: Option<(i64, i64)> = sqlx::query_as(
            "SELECT sequence, accepted_at FROM clock_acceptance ORDER BY sequence DESC LIMIT 1",
        )
        .fetch_optional(&self.reads)
        .await?;
        row.map(|(sequence, at)| {
            let sequence = number("clock_acceptance", "sequence", sequence)?;
            Ok((sequence, Timestamp::from_unix(at)))
        })
        .transpose()
    }

    pub(in crate::store) async fn change_sequence(&self) -> Result<u64, StoreError> {
        let sequence: i64 = sqlx::query_scalar("SELECT sequence FROM change_sequence")
            .fetch_one(&self.reads)
            .await?;
        number("change_sequence", "sequence", sequence)
    }

    pub(in crate::store) async fn try_lease(
        &self,
        name: &str,
        holder: &str,
        seconds: u32,
    ) -> Result<bool, StoreError> {
        let taken = sqlx::query(
            "INSERT INTO lease (name, holder, expires_at) \
             VALUES ($1, $2, unixepoch() + $3) \
             ON CONFLICT (name) DO UPDATE \
             SET holder = excluded.holder, expires_at = excluded.expires_at \
             WHERE lease.holder = excluded.holder \
             OR lease.expires_at <= excluded.expires_at - $3",
        )
        .bind(name)
        .bind(holder)
        .bind(i64::from(seconds))
        .execute(&self.writes)
        .await?
        .rows_affected();
        Ok(taken > 0)
    }
}
