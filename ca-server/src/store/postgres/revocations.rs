//! Revocations and holds: entries of their authority's log, like the certificates themselves.

use pki::name::AuthorityId;
use pki::serial::Serial;
use pki::time::Timestamp;

use super::Postgres;
use super::administration::changed;
use crate::store::StoreError;
use crate::store::model::{
    AuthorityRevocation, NewAudit, Revocation, StatusChange, StatusEvent, StatusOutcome,
    StatusPosition,
};
use crate::store::rows::{
    RawRevocation, RawStatusEvent, RawStatusPosition, all, from_position, issuers, kind, number,
    serial,
};

/// One statement, and therefore one transaction, as records are written: it locks the logs' rows in the order of their
/// authorities, does what `$done` says, numbers what was done, and moves the logs on. Only what changed a row of
/// `revocation` gets an index.
macro_rules! change_statement {
    ($known:literal, $done:literal, $kind:literal) => {
        concat!(
            "WITH input AS (SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[], \
                 $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::bytea[]) \
                 WITH ORDINALITY \
                 AS t (authority, expires_day, serial, at, reason, kind, actor, leaf_hash, place)), \
             locked AS (SELECT l.authority, l.next_index FROM issuance_log l \
                 WHERE l.authority IN (SELECT authority FROM input) \
                 ORDER BY l.authority FOR UPDATE), \
             known AS (",
            $known,
            "), done AS (",
            $done,
            "), numbered AS (SELECT k.*, d.not_after, k.next_index - 1 \
                     + row_number() OVER (PARTITION BY k.authority ORDER BY k.place) AS log_index \
                 FROM known k JOIN done d ON d.authority = k.authority AND d.serial = k.serial), \
             logged AS (INSERT INTO revocation_log (authority, log_index, kind, serial, at, reason, \
                     not_after, actor, leaf_hash) \
                 SELECT authority, log_index, ",
            $kind,
            ", serial, at, reason, not_after, actor, leaf_hash FROM numbered), \
             moved AS (UPDATE issuance_log l \
                 SET next_index = n.last + 1, last_revocation = n.last \
                 FROM (SELECT authority, max(log_index) AS last FROM numbered \
                     GROUP BY authority) n \
                 WHERE l.authority = n.authority) \
             SELECT place, log_index FROM numbered"
        )
    };
}

/// A hold becomes a revocation; nothing else replaces what stands.
const REVOKE: &str = change_statement!(
    "SELECT i.*, k.next_index, c.not_after AS ends, c.issued_at FROM input i \
         JOIN locked k ON k.authority = i.authority \
         JOIN certificate c ON c.authority = i.authority AND c.expires_day = i.expires_day \
         AND c.serial = i.serial",
    "INSERT INTO revocation AS v (authority, serial, revoked_at, reason, not_after, issued_at) \
         SELECT authority, serial, at, reason, ends, issued_at FROM known \
         ON CONFLICT (authority, serial) DO UPDATE \
         SET revoked_at = excluded.revoked_at, reason = excluded.reason \
         WHERE v.reason = 6 AND excluded.reason <> 6 \
         RETURNING v.authority, v.serial, v.not_after",
    "kind"
);

const LIFT: &str = change_statement!(
    "SELECT i.*, k.next_index FROM input i JOIN locked k ON k.authority = i.authority",
    "DELETE FROM revocation v USING known k \
         WHERE v.authority = k.authority AND v.serial = k.serial AND v.reason = 6 \
         RETURNING v.authority, v.serial, v.not_after",
    "'lifted'"
);

impl Postgres {
    pub(in crate::store) async fn revoke(
        &self,
        changes: &[StatusChange],
        audit: &[NewAudit],
    ) -> Result<Vec<StatusOutcome>, StoreError> {
        self.change_status(REVOKE, changes, audit).await
    }

    pub(in crate::store) async fn lift_holds(
        &self,
        changes: &[StatusChange],
        audit: &[NewAudit],
    ) -> Result<Vec<StatusOutcome>, StoreError> {
        self.change_status(LIFT, changes, audit).await
    }

    async fn change_status(
        &self,
        statement: &'static str,
        changes: &[StatusChange],
        audit: &[NewAudit],
    ) -> Result<Vec<StatusOutcome>, StoreError> {
        fn column<T>(changes: &[StatusChange], get: impl Fn(&StatusChange) -> T) -> Vec<T> {
            changes.iter().map(get).collect()
        }
        let mut tx = self.begin().await?;
        // Planned anew each time: a plan that is kept for all days locks all partitions.
        let placed: Vec<(i64, i64)> = sqlx::query_as(statement)
            .persistent(false)
            .bind(column(changes, |c| c.authority.as_str().to_owned()))
            .bind(column(changes, |c| c.serial.expires_day().map(i32::from)))
            .bind(column(changes, |c| c.serial.as_bytes().to_vec()))
            .bind(column(changes, |c| c.at.unix()))
            .bind(column(changes, |c| i64::from(c.reason)))
            .bind(column(changes, |c| kind(c.reason).to_owned()))
            .bind(column(changes, |c| c.actor.clone()))
            .bind(column(changes, |c| c.leaf_hash.to_vec()))
            .fetch_all(&mut *tx)
            .await?;
        self.commit(tx, audit).await?;
        let mut outcomes = vec![None; changes.len()];
        for (place, index) in placed {
            let slot = usize::try_from(place - 1)
                .ok()
                .and_then(|i| outcomes.get_mut(i));
            if let Some(slot) = slot {
                *slot = Some(StatusOutcome::Done(number(
                    "revocation_log",
                    "log_index",
                    index,
                )?));
            }
        }
        let mut result = Vec::with_capacity(changes.len());
        for (change, outcome) in changes.iter().zip(outcomes) {
            result.push(match outcome {
                Some(done) => done,
                None => self.why_unchanged(change).await?,
            });
        }
        Ok(result)
    }

    async fn why_unchanged(&self, change: &StatusChange) -> Result<StatusOutcome, StoreError> {
        if let Some(standing) = self.revocation(&change.authority, &change.serial).await? {
            return Ok(StatusOutcome::Standing(standing));
        }
        let record = self.record_of(&change.authority, &change.serial).await?;
        Ok(record.map_or(StatusOutcome::NotOnRecord, |_| StatusOutcome::NotHeld))
    }

    pub(in crate::store) async fn revoke_authority(
        &self,
        id: &AuthorityId,
        expected_version: i64,
        revocation: &AuthorityRevocation,
        audit: &[NewAudit],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        // Waits for the batch that is being recorded; the next one finds the log closed.
        let index: Option<i64> = sqlx::query_scalar(
            "UPDATE issuance_log SET closed = true, next_index = next_index + 1, \
             last_revocation = next_index WHERE authority = $1 RETURNING last_revocation",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
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
        let (Some(index), 1) = (index, updated) else {
            return Err(StoreError::Conflict("the authority has changed or is gone"));
        };
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
        let wanted: Vec<Vec<u8>> = serials.iter().map(|s| s.as_bytes().to_vec()).collect();
        // Authority and day are its parameters, so that its plan reads one partition. One probe of the key for each: asked
        // with ANY, a planner without statistics, as each day's partition begins, reads the whole day.
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT wanted.serial FROM unnest($3::bytea[]) AS wanted (serial) \
             CROSS JOIN LATERAL (SELECT 1 FROM certificate c WHERE c.authority = $1 \
                 AND c.expires_day = $2 AND c.serial = wanted.serial LIMIT 1) AS found",
        )
        .persistent(false)
        .bind(authority.as_str())
        .bind(i32::from(day))
        .bind(wanted)
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
        let wanted: Vec<Vec<u8>> = serials.iter().map(|s| s.as_bytes().to_vec()).collect();
        // The key begins with the authority: one probe for each that has a log, as in `on_record`.
        let rows: Vec<(Vec<u8>, String)> = sqlx::query_as(
            "SELECT wanted.serial, l.authority FROM unnest($2::bytea[]) AS wanted (serial) \
             CROSS JOIN issuance_log l \
             CROSS JOIN LATERAL (SELECT 1 FROM certificate c WHERE c.authority = l.authority \
                 AND c.expires_day = $1 AND c.serial = wanted.serial LIMIT 1) AS found",
        )
        .persistent(false)
        .bind(i32::from(day))
        .bind(wanted)
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
        .persistent(false)
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
        .persistent(false)
        .bind(authority.as_str())
        .fetch_one(&self.reads)
        .await?;
        Ok(end.map(Timestamp::from_unix))
    }
}
