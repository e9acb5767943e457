//! Reading records.
//!
//! These statements are planned anew each time: a plan that is kept for all days locks all partitions.

use pki::name::AuthorityId;
use pki::serial::Serial;
use pki::time::Timestamp;

use super::Postgres;
use crate::store::StoreError;
use crate::store::model::{RecordFilter, StoredRecord};
use crate::store::rows::{RawRecord, all};

macro_rules! select {
    ($from:literal) => {
        concat!(
            "SELECT c.authority, c.serial, c.cluster, c.log_index, c.leaf_hash, c.issued_at, \
             c.not_before, c.not_after, c.names, c.key_digest, c.request_digest, \
             c.certificate_digest, c.der, c.caller_kind, c.caller, c.caller_detail, c.profile, \
             c.asked_names, c.asked_ttl, c.granted_ttl, c.rule, c.bundle_sequence, c.request_id, \
             v.revoked_at, v.reason ",
            $from
        )
    };
}

/// A page of records: where they are looked for, the name's own condition, and the columns that order them.
macro_rules! page {
    ($from:literal, $which:literal, $at:literal) => {
        concat!(
            select!($from),
            "LEFT JOIN revocation v ON v.authority = c.authority AND v.serial = c.serial \
             WHERE c.expires_day BETWEEN $1 AND $2 ",
            $which,
            " AND ($3::text IS NULL OR c.cluster = $3) AND ($4::text IS NULL OR c.caller = $4) \
             AND ($9::text IS NULL OR c.authority = $9) \
             AND ($11::bigint IS NULL OR c.issued_at >= $11) \
             AND ($12::bigint IS NULL OR c.issued_at < $12) \
             AND ($5::bigint IS NULL OR (",
            $at,
            ".issued_at, ",
            $at,
            ".serial) < ($5, $6::bytea)) ORDER BY ",
            $at,
            ".issued_at DESC, ",
            $at,
            ".serial DESC LIMIT $7"
        )
    };
}

const BY_NAME: &str = page!(
    "FROM certificate_name n \
     JOIN certificate c ON c.authority = n.authority \
     AND c.expires_day = n.expires_day AND c.serial = n.serial ",
    "AND n.name = $8 AND n.expires_day BETWEEN $1 AND $2 \
     AND ($10::bytea IS NULL OR c.key_digest = $10)",
    "n"
);
const BY_KEY: &str = page!(
    "FROM certificate c ",
    "AND $8::text IS NULL AND c.key_digest = $10",
    "c"
);
const BY_TIME: &str = page!(
    "FROM certificate c ",
    "AND $8::text IS NULL AND $10::bytea IS NULL",
    "c"
);

impl Postgres {
    pub(in crate::store) async fn record(
        &self,
        serial: &Serial,
    ) -> Result<Option<StoredRecord>, StoreError> {
        let Some(day) = serial.expires_day() else {
            return Ok(None);
        };
        // The key begins with the authority: one probe for each that has a log.
        let row: Option<RawRecord> = sqlx::query_as(select!(
            "FROM certificate c \
             LEFT JOIN revocation v ON v.authority = c.authority AND v.serial = c.serial \
             WHERE c.authority = ANY (ARRAY(SELECT authority FROM issuance_log)) \
             AND c.expires_day = $1 AND c.serial = $2 LIMIT 1"
        ))
        .persistent(false)
        .bind(i32::from(day))
        .bind(serial.as_bytes())
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn record_of(
        &self,
        authority: &AuthorityId,
        serial: &Serial,
    ) -> Result<Option<StoredRecord>, StoreError> {
        let Some(day) = serial.expires_day() else {
            return Ok(None);
        };
        let row: Option<RawRecord> = sqlx::query_as(select!(
            "FROM certificate c \
             LEFT JOIN revocation v ON v.authority = c.authority AND v.serial = c.serial \
             WHERE c.authority = $1 AND c.expires_day = $2 AND c.serial = $3"
        ))
        .persistent(false)
        .bind(authority.as_str())
        .bind(i32::from(day))
        .bind(serial.as_bytes())
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn search(
        &self,
        filter: &RecordFilter,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let statement = match (&filter.name, &filter.key) {
            (Some(_), _) => BY_NAME,
            (None, Some(_)) => BY_KEY,
            (None, None) => BY_TIME,
        };
        let statement = sqlx::query_as(statement)
            .persistent(false)
            .bind(i32::from(filter.expires_from.day()))
            .bind(i32::from(filter.expires_to.day()))
            .bind(filter.cluster.as_ref().map(|cluster| cluster.as_str()))
            .bind(filter.caller.as_deref())
            .bind(filter.after.map(|after| after.issued_at.unix()))
            .bind(filter.after.map(|after| after.serial.as_bytes().to_vec()))
            .bind(i64::from(filter.limit.min(RecordFilter::LIMIT_MAX)))
            .bind(filter.name.as_deref())
            .bind(
                filter
                    .authority
                    .as_ref()
                    .map(|authority| authority.as_str()),
            )
            .bind(filter.key.map(|key| key.to_vec()))
            .bind(filter.issued_from.map(Timestamp::unix))
            .bind(filter.issued_to.map(Timestamp::unix));
        let rows: Vec<RawRecord> = statement.fetch_all(&self.reads).await?;
        all(rows)
    }
}
