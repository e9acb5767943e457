//! Writing and forgetting records.

use std::sync::LazyLock;

use pki::time::Timestamp;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

use super::{Connection, Sqlite};
use crate::store::error::BatchError;
use crate::store::model::NewRecord;
use crate::store::rows::{join_list, number, signed};
use crate::store::{RecordError, StoreError};

impl Sqlite {
    pub(in crate::store) async fn record_batch(
        &self,
        records: &[NewRecord],
    ) -> Result<Vec<Result<u64, RecordError>>, StoreError> {
        let mut results = vec![Err(NOT_OURS); records.len()];
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
            match self.record_part(&batch).await {
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
        let result = self.use_and_record(record, enrolment_id, now).await;
        match result {
            Ok(Some(index)) => Ok(index),
            Ok(None) => Err(self.why_not(enrolment_id, now).await),
            Err(BatchError::Row(error)) => Err(error),
            Err(BatchError::Store(error)) => Err(RecordError::unavailable(error)),
        }
    }

    async fn use_and_record(
        &self,
        record: &NewRecord,
        enrolment_id: &str,
        now: Timestamp,
    ) -> Result<Option<u64>, BatchError> {
        let mut tx = self.begin().await?;
        let used = sqlx::query(
            "UPDATE enrolment SET consumed_at = $2, key_digest = $3, authority = $4, serial = $5 \
             WHERE id = $1 AND revoked_at IS NULL AND expires_at > $2 AND consumed_at IS NULL",
        )
        .bind(enrolment_id)
        .bind(now.unix())
        .bind(record.key_digest.as_slice())
        .bind(record.authority.as_str())
        .bind(record.serial.as_bytes())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if used == 0 {
            return Ok(None);
        }
        let index = insert(&mut tx, &[record], Logs::Open)
            .await?
            .pop()
            .unwrap_or(Err(RecordError::LogClosed))
            .map_err(BatchError::Row)?;
        tx.commit().await?;
        Ok(Some(index))
    }

    /// Nothing was changed. What it was that stood in the way stays so: it can be read afterwards.
    async fn why_not(&self, enrolment_id: &str, now: Timestamp) -> RecordError {
        match self.enrolment(enrolment_id).await {
            Err(error) => RecordError::unavailable(error),
            Ok(None) => RecordError::Refused("there is no such enrolment"),
            Ok(Some(e)) if e.revoked_at.is_some() => RecordError::EnrolmentRevoked,
            Ok(Some(e)) if e.expires_at <= now => RecordError::EnrolmentExpired,
            Ok(Some(_)) => RecordError::EnrolmentSpent,
        }
    }

    /// One transaction: a crash before its commit leaves nothing of it.
    async fn record_part(
        &self,
        batch: &[&NewRecord],
    ) -> Result<Vec<Result<u64, RecordError>>, BatchError> {
        let mut tx = self.begin().await?;
        let results = insert(&mut tx, batch, Logs::Open).await?;
        tx.commit().await?;
        Ok(results)
    }

    pub(in crate::store) async fn record_responder(
        &self,
        record: &NewRecord,
    ) -> Result<u64, RecordError> {
        if record.serial.expires_day().is_none() {
            return Err(NOT_OURS);
        }
        let result = async {
            let mut tx = self.begin().await?;
            let results = insert(&mut tx, &[record], Logs::All).await?;
            tx.commit().await?;
            Ok(results)
        };
        match result.await {
            Ok(mut results) => results.pop().unwrap_or(Err(RecordError::LogClosed)),
            Err(BatchError::Row(error)) => Err(error),
            Err(BatchError::Store(error)) => Err(RecordError::unavailable(error)),
        }
    }

    pub(in crate::store) async fn drop_records(
        &self,
        expired_before: Timestamp,
    ) -> Result<(), StoreError> {
        let day = i64::from(expired_before.day());
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM certificate_name WHERE expires_day < $1")
            .bind(day)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM certificate WHERE expires_day < $1")
            .bind(day)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}

/// Which logs take a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Logs {
    All,
    Open,
}

/// Numbers and inserts a batch in the transaction that holds the write lock.
async fn insert(
    connection: &mut Connection,
    batch: &[&NewRecord],
    logs: Logs,
) -> Result<Vec<Result<u64, RecordError>>, BatchError> {
    let mut results = vec![Err(RecordError::LogClosed); batch.len()];
    let mut authorities: Vec<_> = batch.iter().map(|record| &record.authority).collect();
    authorities.sort();
    authorities.dedup();
    let mut numbered: Vec<(i64, &NewRecord)> = Vec::with_capacity(batch.len());
    for authority in authorities {
        let members = || (0..batch.len()).filter(|i| batch[*i].authority == *authority);
        let records = i64::try_from(members().count()).unwrap_or(i64::MAX);
        let after: Option<i64> = sqlx::query_scalar(
            "UPDATE issuance_log SET next_index = next_index + $2 \
             WHERE authority = $1 AND (NOT closed OR $3) RETURNING next_index",
        )
        .bind(authority.as_str())
        .bind(records)
        .bind(logs == Logs::All)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(after) = after else { continue };
        for (index, i) in (after - records..).zip(members()) {
            results[i] =
                number("issuance_log", "next_index", index).map_err(RecordError::unavailable);
            numbered.push((index, batch[i]));
        }
    }
    insert_certificates(connection, &numbered).await?;
    insert_names(connection, &numbered).await?;
    Ok(results)
}

async fn insert_certificates(
    connection: &mut Connection,
    numbered: &[(i64, &NewRecord)],
) -> Result<(), sqlx::Error> {
    static STATEMENTS: LazyLock<[(usize, String); 3]> = LazyLock::new(|| {
        statements(
            "INSERT INTO certificate (authority, expires_day, serial, cluster, log_index, \
             leaf_hash, issued_at, not_before, not_after, names, key_digest, request_digest, \
             certificate_digest, der, caller_kind, caller, caller_detail, profile, asked_names, \
             asked_ttl, granted_ttl, rule, bundle_sequence, request_id)",
            24,
        )
    });
    for (statement, rows) in portions(&STATEMENTS, numbered) {
        rows.iter()
            .fold(sqlx::query(statement), |query, (index, record)| {
                bind_record(query, *index, record)
            })
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn insert_names(
    connection: &mut Connection,
    numbered: &[(i64, &NewRecord)],
) -> Result<(), sqlx::Error> {
    static STATEMENTS: LazyLock<[(usize, String); 3]> = LazyLock::new(|| {
        statements(
            "INSERT INTO certificate_name (name, authority, expires_day, serial, issued_at)",
            5,
        )
    });
    let names: Vec<(&str, &NewRecord)> = numbered
        .iter()
        .flat_map(|(_, record)| record.names.iter().map(|name| (name.as_str(), *record)))
        .collect();
    for (statement, rows) in portions(&STATEMENTS, &names) {
        rows.iter()
            .fold(sqlx::query(statement), |query, (name, record)| {
                query
                    .bind((*name).to_owned())
                    .bind(record.authority.as_str().to_owned())
                    .bind(record.serial.expires_day().map(i64::from))
                    .bind(record.serial.as_bytes().to_vec())
                    .bind(record.issued_at.unix())
            })
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

type Statement = Query<'static, sqlx::Sqlite, SqliteArguments>;

fn bind_record(query: Statement, index: i64, record: &NewRecord) -> Statement {
    query
        .bind(record.authority.as_str().to_owned())
        .bind(record.serial.expires_day().map(i64::from))
        .bind(record.serial.as_bytes().to_vec())
        .bind(record.cluster.as_str().to_owned())
        .bind(index)
        .bind(record.leaf_hash.to_vec())
        .bind(record.issued_at.unix())
        .bind(record.not_before.unix())
        .bind(record.not_after.unix())
        .bind(join_list(&record.names))
        .bind(record.key_digest.to_vec())
        .bind(record.request_digest.to_vec())
        .bind(record.certificate_digest.to_vec())
        .bind(record.der.clone())
        .bind(record.caller_kind.clone())
        .bind(record.caller.clone())
        .bind(record.caller_detail.clone())
        .bind(record.profile.as_str().to_owned())
        .bind(join_list(&record.asked_names))
        .bind(record.asked_ttl)
        .bind(record.granted_ttl)
        .bind(record.rule.clone())
        .bind(signed(record.bundle_sequence))
        .bind(record.request_id.clone())
}

/// Inserts of 64, 8 and 1 rows: three texts that stay prepared, whatever the size of a batch.
fn statements(insert: &str, columns: usize) -> [(usize, String); 3] {
    let row = format!("({})", vec!["?"; columns].join(", "));
    [64, 8, 1].map(|rows| {
        let values = vec![row.as_str(); rows].join(", ");
        (rows, format!("{insert} VALUES {values}"))
    })
}

/// Cuts `rows` into as few portions as there are statements for.
fn portions<'a, T>(
    statements: &'static [(usize, String); 3],
    mut rows: &'a [T],
) -> Vec<(&'static str, &'a [T])> {
    let mut portions = Vec::new();
    for (size, statement) in statements {
        while rows.len() >= *size {
            let (portion, rest) = rows.split_at(*size);
            portions.push((statement.as_str(), portion));
            rows = rest;
        }
    }
    portions
}

const NOT_OURS: RecordError = RecordError::Refused("the serial number is not of our layout");
