//! Revocations and holds: entries of their authority's log, like the certificates themselves.

use pki::name::AuthorityId;
use pki::serial::Serial;
use pki::time::Timestamp;

use super::administration::changed;
use super::{Connection, Sqlite};
use crate::store::StoreError;
use crate::store::model::{
    AuthorityRevocation, NewAudit, Revocation, StatusChange, StatusEvent, StatusOutcome,
    StatusPosition,
};
use crate::store::rows::{
    RawRevocation, RawStatusEvent, RawStatusPosition, all, from_position, issuers, kind, number,
    serial,
};

impl Sqlite {
    pub(in crate::store) async fn revoke(
        &self,
        changes: &[StatusChange],
        audit: &[NewAudit],
    ) -> Result<Vec<StatusOutcome>, StoreError> {
        let mut tx = self.begin().await?;
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            // A hold becomes a revocation; nothing else replaces what stands.
            let done: Option<i64> = sqlx::query_scalar(
                "INSERT INTO revocation (authority, serial, revoked_at, reason, not_after, issued_at) \
                 SELECT authority, serial, $4, $5, not_after, issued_at FROM certificate \
                 WHERE authority = $1 AND expires_day = $2 AND serial = $3 \
                 ON CONFLICT (authority, serial) DO UPDATE \
                 SET revoked_at = excluded.revoked_at, reason = excluded.reason \
                 WHERE revocation.reason = 6 AND excluded.reason <> 6 \
                 RETURNING not_after",
            )
            .bind(change.authority.as_str())
            .bind(change.serial.expires_day().map(i64::from))
            .bind(change.serial.as_bytes())
            .bind(change.at.unix())
            .bind(i64::from(change.reason))
            .fetch_optional(&mut *tx)
            .await?;
            outcomes.push(match done {
                Some(end) => log(&mut tx, change, kind(change.reason), end).await?,
                None => why_unchanged(&mut tx, change).await?,
            });
        }
        self.commit(tx, audit).await?;
        Ok(outcomes)
    }

    pub(in crate::store) async fn lift_holds(
        &self,
        changes: &[StatusChange],
        audit: &[NewAudit],
    ) -> Result<Vec<StatusOutcome>, StoreError> {
        let mut tx = self.begin().await?;
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            let done: Option<i64> = sqlx::query_scalar(
                "DELETE FROM revocation WHERE authority = $1 AND serial = $2 AND reason = 6 \
                 RETURNING not_after",
            )
            .bind(change.authority.as_str())
            .bind(change.serial.as_bytes())
            .fetch_optional(&mut *tx)
            .await?;
            outcomes.push(match done {
                Some(end) => log(&mut tx, change, "lifted", end).await?,
                None => why_unchanged(&mut tx, change).await?,
            });
        }
        self.commit(tx, audit).await?;
        Ok(outcomes)
    }

    pub(in crate::store) async fn revoke_authority(
        &self,
        id: &AuthorityId,
        expected_version: i64,
        revocation: &AuthorityRevocation,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let updated = sqlx::query(
            "UPDATE authority SET state = 'revoked', revoked_at = $3, revoked_reason = $4, \
             version = version + 1 WHERE id = $1 AND version = $2 AND state <> 'revoked'",
        )
        .bind(id.as_str())
        .bind(expected_version)
        .bind(revocation.at.unix())
        .bind(i64::from(revocation.reason))
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if updated == 0 {
            return Err(StoreError::Conflict("the authority has changed or is gone"));
        }
        let index: i64 = sqlx::query_scalar(
            "UPDATE issuance_log SET closed = 1, next_index = next_index + 1, \
             last_revocation = next_index WHERE authority = $1 RETURNING last_revocation",
        )
        .bind(id.as_str())
        .fetch_one(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO revocation_log (authority, log_index, kind, at, reason, not_after, actor, \
             leaf_hash) VALUES ($1, $2, 'authority-revoked', $3, $4, $5, $6, $7)",
        )
        .bind(id.as_str())
        .bind(index)
        .bind(revocation.at.unix())
        .bind(i64::from(revocation.reason))
        .bind(revocation.not_after.unix())
        .bind(&revocation.actor)
        .bind(revocation.leaf_hash.as_slice())
        .execute(&mut *tx)
        .await?;
        changed(&mut tx).await?;
        self.commit(tx, audit).await
    }

    pub(in crate::store) async fn on_record(
        &self,
        authority: &AuthorityId,
        day: u16,
        serials: &[Serial],
    ) -> Result<Vec<Serial>, StoreError> {
        // SQLite has no arrays: a list of blobs goes in as JSON of hexadecimal text.
        let wanted: Vec<String> = serials.iter().map(ToString::to_string).collect();
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT serial FROM certificate WHERE authority = $1 AND expires_day = $2 \
             AND serial IN (SELECT unhex(value) FROM json_each($3))",
        )
        .bind(authority.as_str())
        .bind(i64::from(day))
        .bind(serde_json::Value::from(wanted).to_string())
        .fetch_all(&self.reads)
        .await?;
        rows.iter()
            .map(|bytes| serial("certificate", bytes))
            .collect()
    }

    pub(in crate::store) async fn issuers_of(
        &self,
        day: u16,
        serials: &[Serial],
    ) -> Result<Vec<(Serial, AuthorityId)>, StoreError> {
        let wanted: Vec<String> = serials.iter().map(ToString::to_string).collect();
        let rows: Vec<(Vec<u8>, String)> = sqlx::query_as(
            "SELECT serial, authority FROM certificate \
             WHERE authority IN (SELECT authority FROM issuance_log) AND expires_day = $1 \
             AND serial IN (SELECT unhex(value) FROM json_each($2))",
        )
        .bind(i64::from(day))
        .bind(serde_json::Value::from(wanted).to_string())
        .fetch_all(&self.reads)
        .await?;
        issuers(rows)
    }

    pub(in crate::store) async fn revocation(
        &self,
        authority: &AuthorityId,
        serial: &Serial,
    ) -> Result<Option<Revocation>, StoreError> {
        let row: Option<RawRevocation> = sqlx::query_as(
            "SELECT serial, revoked_at, reason, not_after FROM revocation \
             WHERE authority = $1 AND serial = $2",
        )
        .bind(authority.as_str())
        .bind(serial.as_bytes())
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn revocations(
        &self,
        authority: &AuthorityId,
        after: Option<&Serial>,
        limit: u32,
    ) -> Result<Vec<Revocation>, StoreError> {
        let rows: Vec<RawRevocation> = sqlx::query_as(
            "SELECT serial, revoked_at, reason, not_after FROM revocation \
             WHERE authority = $1 AND serial > $2 ORDER BY serial LIMIT $3",
        )
        .bind(authority.as_str())
        .bind(after.map_or(&[] as &[u8], Serial::as_bytes))
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn status_positions(
        &self,
    ) -> Result<Vec<StatusPosition>, StoreError> {
        let rows: Vec<RawStatusPosition> = sqlx::query_as(
            "SELECT l.authority, l.last_revocation, l.next_index, c.number FROM issuance_log l \
             LEFT JOIN crl c ON c.authority = l.authority ORDER BY l.authority",
        )
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn status_events(
        &self,
        authority: &AuthorityId,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<(u64, StatusEvent)>, StoreError> {
        let rows: Vec<RawStatusEvent> = sqlx::query_as(
            "SELECT log_index, kind, serial, at, reason, not_after FROM revocation_log \
             WHERE authority = $1 AND log_index > $2 ORDER BY log_index LIMIT $3",
        )
        .bind(authority.as_str())
        .bind(from_position(after))
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await?;
        all(rows)
    }

    pub(in crate::store) async fn live(
        &self,
        authority: &AuthorityId,
        at: Timestamp,
        after: Option<&Serial>,
        limit: u32,
    ) -> Result<Vec<(Serial, Timestamp)>, StoreError> {
        // Serial numbers begin with the day of expiry: their order is the primary key's.
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "SELECT serial, not_after FROM certificate \
             WHERE authority = $1 AND expires_day >= $2 AND serial > $3 AND not_after >= $4 \
             ORDER BY expires_day, serial LIMIT $5",
        )
        .bind(authority.as_str())
        .bind(i32::from(
            after
                .and_then(Serial::expires_day)
                .unwrap_or(0)
                .max(at.day()),
        ))
        .bind(after.map_or(&[] as &[u8], Serial::as_bytes))
        .bind(at.unix())
        .bind(i64::from(limit))
        .fetch_all(&self.reads)
        .await?;
        rows.into_iter()
            .map(|(bytes, end)| Ok((serial("certificate", &bytes)?, Timestamp::from_unix(end))))
            .collect()
    }

    pub(in crate::store) async fn last_expiry(
        &self,
        authority: &AuthorityId,
    ) -> Result<Option<Timestamp>, StoreError> {
        let end: Option<i64> = sqlx::query_scalar(
            "SELECT max(not_after) FROM certificate WHERE authority = $1 AND expires_day = \
             (SELECT max(expires_day) FROM certificate WHERE authority = $1)",
        )
        .bind(authority.as_str())
        .fetch_one(&self.reads)
        .await?;
        Ok(end.map(Timestamp::from_unix))
    }
}

/// Gives a change its place in the authority's log.
async fn log(
    connection: &mut Connection,
    change: &StatusChange,
    kind: &'static str,
    not_after: i64,
) -> Result<StatusOutcome, StoreError> {
    let index: i64 = sqlx::query_scalar(
        "UPDATE issuance_log SET next_index = next_index + 1, last_revocation = next_index \
         WHERE authority = $1 RETURNING last_revocation",
    )
    .bind(change.authority.as_str())
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO revocation_log (authority, log_index, kind, serial, at, reason, not_after, \
         actor, leaf_hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(change.authority.as_str())
    .bind(index)
    .bind(kind)
    .bind(change.serial.as_bytes())
    .bind(change.at.unix())
    .bind(i64::from(change.reason))
    .bind(not_after)
    .bind(&change.actor)
    .bind(change.leaf_hash.as_slice())
    .execute(connection)
    .await?;
    Ok(StatusOutcome::Done(number(
        "revocation_log",
        "log_index",
        index,
    )?))
}

async fn why_unchanged(
    connection: &mut Connection,
    change: &StatusChange,
) -> Result<StatusOutcome, StoreError> {
    let standing: Option<RawRevocation> = sqlx::query_as(
        "SELECT serial, revoked_at, reason, not_after FROM revocation \
         WHERE authority = $1 AND serial = $2",
    )
    .bind(change.authority.as_str())
    .bind(change.serial.as_bytes())
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(standing) = standing {
        return Ok(StatusOutcome::Standing(standing.try_into()?));
    }
    let on_record: bool = sqlx::query_scalar(
        "SELECT count(*) > 0 FROM certificate \
         WHERE authority = $1 AND expires_day = $2 AND serial = $3",
    )
    .bind(change.authority.as_str())
    .bind(change.serial.expires_day().map(i64::from))
    .bind(change.serial.as_bytes())
    .fetch_one(connection)
    .await?;
    Ok(if on_record {
        StatusOutcome::NotHeld
    } else {
        StatusOutcome::NotOnRecord
    })
}
