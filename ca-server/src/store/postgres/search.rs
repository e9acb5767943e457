//! Reading records.
//!
//! These statements are planned anew each time: a plan that is kept for all days locks all partitions.

use pki::name::AuthorityId;
use pki::serial::Serial;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;

use super::Postgres;
use crate::store::StoreError;
use crate::store::model::{RecordCursor, RecordFilter, StoredRecord};
use crate::store::rows::{RawKey, RawRecord, all};
use crate::store::search::{By, Read, Span};

macro_rules! select {
    ($from:literal) => {
        concat!(
            "SELECT c.authority, c.serial, c.cluster, c.log_index, c.leaf_hash, c.issued_at, \
             c.not_before, c.not_after, c.names, c.key_digest, c.request_digest, \
             c.certificate_digest, c.der, c.caller_kind, c.caller, c.caller_detail, c.profile, \
             c.asked_names, c.asked_ttl, c.granted_ttl, c.rule, c.bundle_sequence, c.request_id, \
             v.revoked_at, v.reason ",
            $from,
            // One probe of the key for each row: a planner that sees a small table of revocations would read it whole.
            "LEFT JOIN LATERAL (SELECT r.revoked_at, r.reason FROM revocation r \
                 WHERE r.authority = c.authority AND r.serial = c.serial LIMIT 1) AS v ON true "
        )
    };
}

/// Records that have what is asked for, newest first: an index has them in this order in each partition, and the planner
/// merges those of the days that are asked for.
macro_rules! newest {
    ($which:literal) => {
        concat!(
            select!("FROM certificate c "),
            "WHERE c.expires_day BETWEEN $1 AND $2 AND (c.issued_at, c.serial) < ($3, $4::bytea) \
             AND c.issued_at >= $5 AND ",
            $which,
            " ORDER BY c.issued_at DESC, c.serial DESC LIMIT $6"
        )
    };
}

const BY_KEY: &str = newest!("c.key_digest = $7");
const BY_CALLER: &str = newest!("c.caller = $7");
const BY_PROFILE: &str =
    newest!("c.profile = $7 AND c.profile <> 'workload' AND c.profile <> 'workload-ephemeral'");
const BY_AUTHORITY: &str = newest!("c.authority = $7");
const BY_CLUSTER: &str = newest!("c.cluster = $7");
const BY_TIME: &str = newest!("true");

/// Where records lie, from a table beside theirs.
macro_rules! keys {
    ($from:literal, $which:literal) => {
        concat!(
            "SELECT authority, serial, issued_at FROM ",
            $from,
            " WHERE (issued_at, serial) < ($1, $2::bytea) AND issued_at >= $3 AND ",
            $which,
            " ORDER BY issued_at DESC, serial DESC LIMIT $4"
        )
    };
}

const KEYS_OF_NAME: &str = keys!("certificate_name", "name = $5");
const KEYS_OF_HELD: &str = keys!("revocation", "reason = 6");
const KEYS_OF_REVOKED: &str = keys!("revocation", "reason <> 6");

type Records = QueryAs<'static, sqlx::Postgres, RawRecord, PgArguments>;
type Keys = QueryAs<'static, sqlx::Postgres, RawKey, PgArguments>;

impl Postgres {
    pub(in crate::store) async fn record(
        &self,
        serial: &Serial,
    ) -> Result<Option<StoredRecord>, StoreError> {
        let Some(day) = serial.expires_day() else {
            return Ok(None);
        };
        // The key begins with the authority: one probe for each that has a log.
        let row: Option<RawRecord> = sqlx::query_as(concat!(
            select!("FROM certificate c "),
            "WHERE c.authority = ANY (ARRAY(SELECT authority FROM issuance_log)) \
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
        let row: Option<RawRecord> = sqlx::query_as(concat!(
            select!("FROM certificate c "),
            "WHERE c.authority = $1 AND c.expires_day = $2 AND c.serial = $3"
        ))
        .persistent(false)
        .bind(authority.as_str())
        .bind(i32::from(day))
        .bind(serial.as_bytes())
        .fetch_optional(&self.reads)
        .await?;
        row.map(TryInto::try_into).transpose()
    }

    pub(in crate::store) async fn read_records(
        &self,
        filter: &RecordFilter,
        after: Option<RecordCursor>,
        limit: usize,
    ) -> Result<Read, StoreError> {
        let span = Span::of(filter, after);
        let size = i64::try_from(limit).unwrap_or(i64::MAX);
        let newest = |statement: &'static str| -> Records {
            let (from, to) = filter.days();
            sqlx::query_as(statement)
                .persistent(false)
                .bind(i32::from(from))
                .bind(i32::from(to))
                .bind(span.before.0)
                .bind(span.before.1.clone())
                .bind(span.from)
                .bind(size)
        };
        let keys = |statement: &'static str| -> Keys {
            sqlx::query_as(statement)
                .persistent(false)
                .bind(span.before.0)
                .bind(span.before.1.clone())
                .bind(span.from)
                .bind(size)
        };
        let records = match By::of(filter) {
            By::Serial(serial) => {
                let found = self.record(serial).await?;
                let found = found.filter(|stored| span.holds(stored));
                return Ok(Read::of(found.into_iter().collect(), usize::MAX));
            }
            By::Name(name) => {
                return self
                    .behind(keys(KEYS_OF_NAME).bind(name.to_owned()), limit)
                    .await;
            }
            By::Held => return self.behind(keys(KEYS_OF_HELD), limit).await,
            By::Revoked => return self.behind(keys(KEYS_OF_REVOKED), limit).await,
            By::Key(key) => newest(BY_KEY).bind(key.to_vec()),
            By::Caller(caller) => newest(BY_CALLER).bind(caller.to_owned()),
            By::Profile(profile) => newest(BY_PROFILE).bind(profile.as_str().to_owned()),
            By::Authority(id) => newest(BY_AUTHORITY).bind(id.as_str().to_owned()),
            By::Cluster(name) => newest(BY_CLUSTER).bind(name.as_str().to_owned()),
            By::Time => newest(BY_TIME),
        };
        Ok(Read::of(all(records.fetch_all(&self.reads).await?)?, limit))
    }

    /// The records that keys lead to.
    async fn behind(&self, keys: Keys, limit: usize) -> Result<Read, StoreError> {
        let keys: Vec<RawKey> = keys.fetch_all(&self.reads).await?;
        let mut places = Vec::with_capacity(keys.len());
        for key in keys {
            places.push(key.place()?);
        }
        // One probe of the key for each, in its own partition, as in `on_record`.
        let rows: Vec<RawRecord> = sqlx::query_as(select!(
            "FROM unnest($1::text[], $2::integer[], $3::bytea[]) AS k (authority, expires_day, serial) \
             CROSS JOIN LATERAL (SELECT * FROM certificate r WHERE r.authority = k.authority \
                 AND r.expires_day = k.expires_day AND r.serial = k.serial LIMIT 1) AS c "
        ))
        .persistent(false)
        .bind(places.iter().map(|place| place.0.as_str().to_owned()).collect::<Vec<_>>())
        .bind(places.iter().map(|place| place.1.serial.expires_day().map(i32::from)).collect::<Vec<_>>())
        .bind(places.iter().map(|place| place.1.serial.as_bytes().to_vec()).collect::<Vec<_>>())
        .fetch_all(&self.reads)
        .await?;
        Ok(Read::behind(places, all(rows)?, limit))
    }
}
