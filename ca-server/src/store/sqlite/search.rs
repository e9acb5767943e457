//! Reading records.
//!
//! Each index has the day of expiry before the time of issue, as Postgres's partitions do: what lies outside of the window
//! is not read. The days are merged here.

use pki::name::AuthorityId;
use pki::serial::Serial;

use super::{Connection, Sqlite};
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
            "LEFT JOIN revocation v ON v.authority = c.authority AND v.serial = c.serial "
        )
    };
}

/// The days that have what is asked for, latest first: one step of the index each; and a day's rows, newest first.
macro_rules! by_day {
    ($which:literal) => {
        Statements {
            days: concat!(
                "WITH RECURSIVE found (day) AS (\
                 SELECT max(expires_day) FROM certificate WHERE ",
                $which,
                " AND expires_day <= $3 UNION ALL \
                 SELECT (SELECT max(expires_day) FROM certificate WHERE ",
                $which,
                " AND expires_day < found.day) FROM found WHERE found.day > $2) \
                 SELECT day FROM found WHERE day >= $2"
            ),
            of_day: concat!(
                "SELECT issued_at, serial, rowid FROM certificate WHERE ",
                $which,
                " AND expires_day = $2 AND (issued_at, serial) < ($3, $4) \
                 AND (issued_at, serial) >= ($5, $6) \
                 ORDER BY issued_at DESC, serial DESC LIMIT $7"
            ),
        }
    };
}

struct Statements {
    days: &'static str,
    of_day: &'static str,
}

const BY_KEY: Statements = by_day!("key_digest = $1");
const BY_CALLER: Statements = by_day!("caller = $1");
const BY_PROFILE: Statements =
    by_day!("profile = $1 AND profile <> 'workload' AND profile <> 'workload-ephemeral'");
const BY_AUTHORITY: Statements = by_day!("authority = $1");
const BY_CLUSTER: Statements = by_day!("cluster = $1");
const BY_TIME: Statements = by_day!("$1 IS NULL");

/// Where records lie, from a table beside theirs.
macro_rules! keys {
    ($from:literal, $which:literal) => {
        concat!(
            "SELECT authority, serial, issued_at FROM ",
            $from,
            " WHERE (issued_at, serial) < ($1, $2) AND issued_at >= $3 AND ",
            $which,
            " ORDER BY issued_at DESC, serial DESC LIMIT $4"
        )
    };
}

const KEYS_OF_NAME: &str = keys!("certificate_name", "name = $5");
const KEYS_OF_HELD: &str = keys!("revocation", "reason = 6");
const KEYS_OF_REVOKED: &str = keys!("revocation", "reason <> 6");

/// What an index is asked for.
enum Asked {
    Text(String),
    Bytes(Vec<u8>),
    Nothing,
}

/// When it was issued, its serial number, and its row.
type Place = (i64, Vec<u8>, i64);

impl Sqlite {
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
            "WHERE c.authority IN (SELECT authority FROM issuance_log) \
             AND c.expires_day = $1 AND c.serial = $2 LIMIT 1"
        ))
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
        let (statements, asked) = match By::of(filter) {
            By::Serial(serial) => {
                let found = self.record(serial).await?;
                let found = found.filter(|stored| span.holds(stored));
                return Ok(Read::of(found.into_iter().collect(), usize::MAX));
            }
            By::Name(name) => return self.behind(KEYS_OF_NAME, Some(name), &span, limit).await,
            By::Held => return self.behind(KEYS_OF_HELD, None, &span, limit).await,
            By::Revoked => return self.behind(KEYS_OF_REVOKED, None, &span, limit).await,
            By::Key(key) => (BY_KEY, Asked::Bytes(key.to_vec())),
            By::Caller(caller) => (BY_CALLER, Asked::Text(caller.to_owned())),
            By::Profile(profile) => (BY_PROFILE, Asked::Text(profile.as_str().to_owned())),
            By::Authority(id) => (BY_AUTHORITY, Asked::Text(id.as_str().to_owned())),
            By::Cluster(name) => (BY_CLUSTER, Asked::Text(name.as_str().to_owned())),
            By::Time => (BY_TIME, Asked::Nothing),
        };
        let mut tx = self.read().await?;
        let places = merge(&mut tx, &statements, &asked, filter.days(), span, limit).await?;
        let rows: Vec<i64> = places.iter().map(|place| place.2).collect();
        let records: Vec<RawRecord> = sqlx::query_as(concat!(
            select!("FROM certificate c "),
            "WHERE c.rowid IN (SELECT value FROM json_each($1)) \
             ORDER BY c.issued_at DESC, c.serial DESC"
        ))
        .bind(serde_json::Value::from(rows).to_string())
        .fetch_all(&mut *tx)
        .await?;
        Ok(Read::of(all(records)?, limit))
    }

    /// The records that keys lead to.
    async fn behind(
        &self,
        keys: &'static str,
        name: Option<&str>,
        span: &Span,
        limit: usize,
    ) -> Result<Read, StoreError> {
        let mut tx = self.read().await?;
        let keys = sqlx::query_as(keys)
            .bind(span.before.0)
            .bind(span.before.1.clone())
            .bind(span.from)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let keys: Vec<RawKey> = match name {
            Some(name) => keys.bind(name.to_owned()),
            None => keys,
        }
        .fetch_all(&mut *tx)
        .await?;
        let mut places = Vec::with_capacity(keys.len());
        for key in keys {
            places.push(key.place()?);
        }
        let wanted = places.iter().map(|(authority, cursor)| {
            let day = cursor.serial.expires_day();
            serde_json::json!([authority.as_str(), day, cursor.serial.to_string()])
        });
        let wanted = serde_json::Value::Array(wanted.collect()).to_string();
        // The order of the tables is the order of the loops: one probe of the key for each.
        let rows: Vec<RawRecord> = sqlx::query_as(select!(
            "FROM json_each($1) k CROSS JOIN certificate c ON c.authority = k.value ->> 0 \
             AND c.expires_day = k.value ->> 1 AND c.serial = unhex(k.value ->> 2) "
        ))
        .bind(wanted)
        .fetch_all(&mut *tx)
        .await?;
        Ok(Read::behind(places, all(rows)?, limit))
    }
}

/// The newest `limit` of all days. Once there are as many, a further day gives only what is newer than the last of them.
async fn merge(
    connection: &mut Connection,
    statements: &Statements,
    asked: &Asked,
    (from, to): (u16, u16),
    span: Span,
    limit: usize,
) -> Result<Vec<Place>, StoreError> {
    macro_rules! ask {
        ($query:expr) => {
            match asked {
                Asked::Text(text) => $query.bind(text.clone()),
                Asked::Bytes(bytes) => $query.bind(bytes.clone()),
                Asked::Nothing => $query.bind(None::<i64>),
            }
        };
    }
    let days: Vec<i64> = ask!(sqlx::query_scalar(statements.days))
        .bind(i64::from(from))
        .bind(i64::from(to))
        .fetch_all(&mut *connection)
        .await?;
    let mut newest: Vec<Place> = Vec::new();
    let mut oldest = (span.from, Vec::new());
    for day in days {
        let of_day: Vec<Place> = ask!(sqlx::query_as(statements.of_day))
            .bind(day)
            .bind(span.before.0)
            .bind(span.before.1.clone())
            .bind(oldest.0)
            .bind(oldest.1.clone())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        newest.extend(of_day);
        newest.sort_unstable_by(|a, b| (b.0, &b.1).cmp(&(a.0, &a.1)));
        newest.truncate(limit);
        if let Some(last) = newest.get(limit - 1) {
            oldest = (last.0, last.1.clone());
        }
    }
    Ok(newest)
}
