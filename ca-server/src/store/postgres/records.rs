//! Writing records.

use pki::name::AuthorityId;
use pki::time::Timestamp;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;

use super::Postgres;
use crate::store::error::BatchError;
use crate::store::model::NewRecord;
use crate::store::rows::{join_list, number, signed};
use crate::store::{RecordError, StoreError};

/// The statement that records a batch: one, and therefore one transaction, so that no client can be paused while it holds
/// the logs' rows. It locks them in the order of their authorities (two batches never wait for each other in a circle),
/// numbers the records from each log's next index, moves that on, and inserts. A record of an authority without a log
/// is left out, as is one whose log `$log` excludes. `$gate` is what must have been done before, `$open` the condition
/// that it was.
macro_rules! record_statement {
    ($gate:literal, $open:literal, $log:literal) => {
        concat!(
            "WITH ",
            $gate,
            "input AS (SELECT * FROM unnest($1::text[], $2::integer[], $3::bytea[], $4::text[], \
                 $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::bytea[], \
                 $11::bytea[], $12::bytea[], $13::bytea[], $14::text[], $15::text[], $16::text[], \
                 $17::text[], $18::text[], $19::bigint[], $20::bigint[], $21::text[], \
                 $22::bigint[], $23::text[]) \
                 WITH ORDINALITY AS t (authority, expires_day, serial, cluster, leaf_hash, \
                 issued_at, not_before, not_after, names, key_digest, request_digest, \
                 certificate_digest, der, caller_kind, caller, caller_detail, profile, \
                 asked_names, asked_ttl, granted_ttl, rule, bundle_sequence, request_id, place)",
            $open,
            "), wanted AS (SELECT authority, count(*) AS records FROM input GROUP BY authority), \
             locked AS (SELECT l.authority, l.next_index FROM issuance_log l \
                 WHERE l.authority IN (SELECT authority FROM wanted)",
            $log,
            " ORDER BY l.authority FOR UPDATE), \
             moved AS (UPDATE issuance_log l SET next_index = k.next_index + w.records \
                 FROM locked k JOIN wanted w ON w.authority = k.authority \
                 WHERE l.authority = k.authority), \
             numbered AS (SELECT i.*, k.next_index - 1 \
                     + row_number() OVER (PARTITION BY i.authority ORDER BY i.place) AS log_index \
                 FROM input i JOIN locked k ON k.authority = i.authority), \
             recorded AS (INSERT INTO certificate (authority, expires_day, serial, cluster, \
                     log_index, leaf_hash, issued_at, not_before, not_after, names, key_digest, \
                     request_digest, certificate_digest, der, caller_kind, caller, caller_detail, \
                     profile, asked_names, asked_ttl, granted_ttl, rule, bundle_sequence, \
                     request_id) \
                 SELECT authority, expires_day, serial, cluster, log_index, leaf_hash, issued_at, \
                     not_before, not_after, names, key_digest, request_digest, \
                     certificate_digest, der, caller_kind, caller, caller_detail, profile, \
                     asked_names, asked_ttl, granted_ttl, rule, bundle_sequence, request_id \
                 FROM numbered), \
             named AS (INSERT INTO certificate_name (name, authority, expires_day, serial, \
                     issued_at) \
                 SELECT n.name, r.authority, r.expires_day, r.serial, r.issued_at \
                 FROM numbered r \
                 JOIN unnest($24::bigint[], $25::text[]) AS n (place, name) ON n.place = r.place) \
             SELECT place, log_index FROM numbered"
        )
    };
}

/// A log that is closed while the statement waits for its lock is left out too: the condition is read again then.
const RECORD: &str = record_statement!("", "", " AND NOT l.closed");

/// A revoked authority still certifies who answers for it.
const RECORD_RESPONDER: &str = record_statement!("", "", "");

/// The enrolment is used first; its row lock lets one caller at a time see whether it still may be.
const RECORD_ENROLLED: &str = record_statement!(
    "used AS (UPDATE enrolment SET consumed_at = $27, key_digest = $28, \
         authority = ($1::text[])[1], serial = ($3::bytea[])[1] \
         WHERE id = $26 AND revoked_at IS NULL AND expires_at > $27 AND consumed_at IS NULL \
         AND EXISTS (SELECT 1 FROM issuance_log WHERE authority = ANY ($1::text[]) AND NOT closed) \
         RETURNING id), ",
    " WHERE EXISTS (SELECT 1 FROM used)",
    " AND NOT l.closed"
);

/// Where in the batch, and the index that it got.
type Placed = (i64, i64);

impl Postgres {
    pub(in crate::store) async fn record_batch(
        &self,
        records: &[NewRecord],
    ) -> Result<Vec<Result<u64, RecordError>>, StoreError> {
        let mut results = vec![Err(NOT_OURS); records.len()];
        // What carries no day of expiry has no partition; the others go on without it.
        let ours: Vec<usize> = (0..records.len())
            .filter(|i| records[*i].serial.expires_day().is_some())
            .collect();
        let mut parts = vec![ours];
        let mut recorded_any = false;
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let batch: Vec<&NewRecord> = part.iter().map(|i| &records[*i]).collect();
            match self.record_part(RECORD, &batch).await {
                Ok(outcome) => {
                    recorded_any = true;
                    for (i, result) in part.into_iter().zip(outcome) {
                        results[i] = result;
                    }
                }
                Err(BatchError::Row(error)) if part.len() == 1 => results[part[0]] = Err(error),
                // Someone in it is at fault, and nothing of it was recorded. The first half comes first: indices keep the
                // order of the batch.
                Err(BatchError::Row(_)) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push(second.to_vec());
                    parts.push(first.to_vec());
                }
                Err(BatchError::Store(error)) if !recorded_any => return Err(error),
                Err(BatchError::Store(error)) => {
                    let error = RecordError::unavailable(error);
                    for i in part.into_iter().chain(parts.drain(..).flatten()) {
                        results[i] = Err(error.clone());
                    }
                }
            }
        }
        Ok(results)
    }

    pub(in crate::store) async fn record_enrolled(
        &self,
        record: &NewRecord,
        enrolment_id: &str,
        now: Timestamp,
    ) -> Result<u64, RecordError> {
        if record.serial.expires_day().is_none() {
            return Err(NOT_OURS);
        }
        let writer = self.writer().await;
        let mut writer = writer.map_err(|error| RecordError::unavailable(error.into()))?;
        let placed: Vec<Placed> = bind_batch(sqlx::query_as(RECORD_ENROLLED), &[record])
            .bind(enrolment_id)
            .bind(now.unix())
            .bind(record.key_digest.as_slice())
            .fetch_all(&mut *writer)
            .await
            .map_err(|error| match BatchError::from(error) {
                BatchError::Row(error) => error,
                BatchError::Store(error) => RecordError::unavailable(error),
            })?;
        if let Some((_, index)) = placed.first() {
            return number("certificate", "log_index", *index).map_err(RecordError::unavailable);
        }
        // Nothing was changed. What it was that stood in the way stays so: it can be read afterwards.
        let enrolment = self
            .enrolment(enrolment_id)
            .await
            .map_err(RecordError::unavailable)?;
        Err(match enrolment {
            None => RecordError::Refused("there is no such enrolment"),
            Some(e) if e.revoked_at.is_some() => RecordError::EnrolmentRevoked,
            Some(e) if e.expires_at <= now => RecordError::EnrolmentExpired,
            Some(e) if e.consumed_at.is_some() => RecordError::EnrolmentSpent,
            Some(_) => RecordError::LogClosed,
        })
    }

    pub(in crate::store) async fn record_responder(
        &self,
        record: &NewRecord,
    ) -> Result<u64, RecordError> {
        if record.serial.expires_day().is_none() {
            return Err(NOT_OURS);
        }
        match self.record_part(RECORD_RESPONDER, &[record]).await {
            Ok(mut results) => results.pop().unwrap_or(Err(RecordError::LogClosed)),
            Err(BatchError::Row(error)) => Err(error),
            Err(BatchError::Store(error)) => Err(RecordError::unavailable(error)),
        }
    }

    async fn record_part(
        &self,
        statement: &'static str,
        batch: &[&NewRecord],
    ) -> Result<Vec<Result<u64, RecordError>>, BatchError> {
        let placed: Vec<Placed> = bind_batch(sqlx::query_as(statement), batch)
            .fetch_all(&mut *self.writer().await?)
            .await?;
        let mut results = vec![Err(RecordError::LogClosed); batch.len()];
        for (place, index) in placed {
            let slot = usize::try_from(place - 1)
                .ok()
                .and_then(|i| results.get_mut(i));
            if let Some(slot) = slot {
                *slot = number("certificate", "log_index", index).map_err(RecordError::unavailable);
            }
        }
        Ok(results)
    }
}

type Statement = QueryAs<'static, sqlx::Postgres, Placed, PgArguments>;

fn bind_batch(statement: Statement, batch: &[&NewRecord]) -> Statement {
    fn column<T>(batch: &[&NewRecord], get: impl Fn(&NewRecord) -> T) -> Vec<T> {
        batch.iter().map(|record| get(record)).collect()
    }
    let names = || {
        (1_i64..)
            .zip(batch)
            .flat_map(|(place, record)| record.names.iter().map(move |name| (place, name)))
    };
    statement
        .bind(column(batch, |r| id(&r.authority)))
        .bind(column(batch, |r| r.serial.expires_day().map(i32::from)))
        .bind(column(batch, |r| r.serial.as_bytes().to_vec()))
        .bind(column(batch, |r| r.cluster.as_str().to_owned()))
        .bind(column(batch, |r| r.leaf_hash.to_vec()))
        .bind(column(batch, |r| r.issued_at.unix()))
        .bind(column(batch, |r| r.not_before.unix()))
        .bind(column(batch, |r| r.not_after.unix()))
        .bind(column(batch, |r| join_list(&r.names)))
        .bind(column(batch, |r| r.key_digest.to_vec()))
        .bind(column(batch, |r| r.request_digest.to_vec()))
        .bind(column(batch, |r| r.certificate_digest.to_vec()))
        .bind(column(batch, |r| r.der.clone()))
        .bind(column(batch, |r| r.caller_kind.clone()))
        .bind(column(batch, |r| r.caller.clone()))
        .bind(column(batch, |r| r.caller_detail.clone()))
        .bind(column(batch, |r| r.profile.as_str().to_owned()))
        .bind(column(batch, |r| join_list(&r.asked_names)))
        .bind(column(batch, |r| r.asked_ttl))
        .bind(column(batch, |r| r.granted_ttl))
        .bind(column(batch, |r| r.rule.clone()))
        .bind(column(batch, |r| signed(r.bundle_sequence)))
        .bind(column(batch, |r| r.request_id.clone()))
        .bind(names().map(|(place, _)| place).collect::<Vec<_>>())
        .bind(names().map(|(_, name)| name.clone()).collect::<Vec<_>>())
}

fn id(authority: &AuthorityId) -> String {
    authority.as_str().to_owned()
}

const NOT_OURS: RecordError = RecordError::Refused("the serial number is not of our layout");
