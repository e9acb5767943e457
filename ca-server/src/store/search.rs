//! How a search goes: the engines read in one order, newest first, from the index that fits the narrowest condition; what
//! else is asked for is looked at here, row by row. A page ends when it is full, or when enough rows were looked at: its
//! cost is bounded, whatever the filter and however many records there are.

use std::cmp::Reverse;
use std::collections::HashMap;

use pki::crypto::Digest;
use pki::name::{AuthorityId, ClusterName, ProfileName};
use pki::serial::Serial;
use pki::time::Timestamp;

use super::model::{RecordCursor, RecordFilter, RecordPage, RecordState, StoredRecord};
use super::{Store, StoreError};

/// Rows that are looked at for one page.
const BUDGET: usize = 4_000;
/// Rows that are read at once when the first ones did not fill the page.
const MORE: usize = 1_000;

/// The index that is read, and what it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum By<'a> {
    /// One certificate.
    Serial(&'a Serial),
    /// The names' table.
    Name(&'a str),
    Key(&'a Digest),
    Caller(&'a str),
    /// One of those that few certificates have; see [`COMMON`].
    Profile(&'a ProfileName),
    /// The table of revocations.
    Held,
    Revoked,
    Authority(&'a AuthorityId),
    Cluster(&'a ClusterName),
    /// Everything in the window.
    Time,
}

/// What nearly every certificate of a mesh has is not indexed (0006_search.sql): these profiles are looked for among all.
const COMMON: [&str; 2] = ["workload", "workload-ephemeral"];

impl<'a> By<'a> {
    /// The narrowest condition of a filter.
    pub(super) fn of(filter: &'a RecordFilter) -> Self {
        let rare = |profile: &&ProfileName| !COMMON.contains(&profile.as_str());
        if let Some(serial) = &filter.serial {
            Self::Serial(serial)
        } else if let Some(name) = filter.names.first() {
            Self::Name(name)
        } else if let Some(key) = &filter.key {
            Self::Key(key)
        } else if let Some(caller) = &filter.caller {
            Self::Caller(caller)
        } else if let Some(profile) = filter.profile.as_ref().filter(rare) {
            Self::Profile(profile)
        } else if filter.state == Some(RecordState::Held) {
            Self::Held
        } else if filter.state == Some(RecordState::Revoked) {
            Self::Revoked
        } else if let Some(authority) = &filter.authority {
            Self::Authority(authority)
        } else if let Some(cluster) = &filter.cluster {
            Self::Cluster(cluster)
        } else {
            Self::Time
        }
    }
}

/// What an engine read: at most as many rows as it was asked for, newest first.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Where each row stands, and the record, unless it is gone since and only its name or its revocation is left.
    pub(super) rows: Vec<(RecordCursor, Option<StoredRecord>)>,
    /// Whether nothing comes after them.
    pub(super) is_all: bool,
}

/// Between which times of issue, and before which row.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Only rows before this one, as time of issue and serial number.
    pub(super) before: (i64, Vec<u8>),
    /// Only rows that were issued at this time or later.
    pub(super) from: i64,
}

impl Span {
    pub(super) fn of(filter: &RecordFilter, after: Option<RecordCursor>) -> Self {
        // No serial number is empty: this is before the first of that second.
        let end = (
            filter.issued_to.map_or(i64::MAX, Timestamp::unix),
            Vec::new(),
        );
        let after = after.map(|last| (last.issued_at.unix(), last.serial.as_bytes().to_vec()));
        Self {
            before: after.map_or(end.clone(), |after| after.min(end)),
            from: filter.issued_from.map_or(0, Timestamp::unix),
        }
    }

    /// Whether a record is in it.
    pub(super) fn holds(&self, stored: &StoredRecord) -> bool {
        let RecordCursor { issued_at, serial } = stored.cursor();
        (issued_at.unix(), serial.as_bytes()) < (self.before.0, self.before.1.as_slice())
            && issued_at.unix() >= self.from
    }
}

impl Read {
    /// The records of keys that came back of a statement that was limited to `limit` rows; the keys' order is kept.
    pub(super) fn behind(
        keys: Vec<(AuthorityId, RecordCursor)>,
        records: Vec<StoredRecord>,
        limit: usize,
    ) -> Self {
        let mut found: HashMap<_, _> = records
            .into_iter()
            .map(|stored| {
                (
                    (stored.record.authority.clone(), stored.record.serial),
                    stored,
                )
            })
            .collect();
        Self {
            is_all: keys.len() < limit,
            rows: keys
                .into_iter()
                .map(|(authority, cursor)| (cursor, found.remove(&(authority, cursor.serial))))
                .collect(),
        }
    }

    /// What came back of a statement that was limited to `limit` rows.
    pub(super) fn of(records: Vec<StoredRecord>, limit: usize) -> Self {
        Self {
            is_all: records.len() < limit,
            rows: records.into_iter().map(|r| (r.cursor(), Some(r))).collect(),
        }
    }
}

/// Reads from the index that fits. Some clusters' records are read from each one's, so that nobody else's cost anything.
async fn read(
    store: &Store,
    filter: &RecordFilter,
    after: Option<RecordCursor>,
    size: usize,
) -> Result<Read, StoreError> {
    let (Some(clusters), By::Time) = (&filter.among, By::of(filter)) else {
        return on_engine!(store, engine => engine.read_records(filter, after, size).await);
    };
    let mut all = Read {
        is_all: true,
        ..Read::default()
    };
    for cluster in clusters {
        let of_one = RecordFilter {
            cluster: Some(cluster.clone()),
            ..filter.clone()
        };
        let part = on_engine!(store, engine => engine.read_records(&of_one, after, size).await?);
        all.is_all &= part.is_all;
        all.rows.extend(part.rows);
    }
    let place = |row: &(RecordCursor, _)| (row.0.issued_at.unix(), row.0.serial);
    all.rows.sort_by_key(|row| Reverse(place(row)));
    all.is_all &= all.rows.len() <= size;
    all.rows.truncate(size);
    Ok(all)
}

/// Puts a page together.
pub(super) async fn page(store: &Store, filter: &RecordFilter) -> Result<RecordPage, StoreError> {
    let limit = filter.limit.clamp(1, RecordFilter::LIMIT_MAX) as usize;
    let mut page = RecordPage {
        records: Vec::new(),
        next: filter.after,
    };
    let (mut looked_at, mut size) = (0, limit + 1);
    loop {
        let Read { rows, is_all } = read(store, filter, page.next, size).await?;
        let count = rows.len();
        looked_at += count;
        for (i, (cursor, stored)) in rows.into_iter().enumerate() {
            page.next = Some(cursor);
            page.records
                .extend(stored.filter(|stored| filter.takes(stored)));
            if page.records.len() == limit {
                if is_all && i + 1 == count {
                    page.next = None;
                }
                return Ok(page);
            }
        }
        if is_all {
            page.next = None;
        }
        if is_all || looked_at >= BUDGET {
            return Ok(page);
        }
        size = MORE;
    }
}

impl RecordFilter {
    /// The days of expiry that can hold what is asked for.
    pub(super) fn days(&self) -> (u16, u16) {
        let (mut from, mut to) = (self.expires_from, self.expires_to);
        match self.state {
            Some(RecordState::Valid) => from = from.max(self.at),
            Some(RecordState::Expired) => to = to.min(self.at),
            _ => {}
        }
        (from.day(), to.day())
    }

    /// Whether a record is what is asked for.
    fn takes(&self, stored: &StoredRecord) -> bool {
        fn is<T: PartialEq>(asked: Option<&T>, found: &T) -> bool {
            asked.is_none_or(|asked| asked == found)
        }
        let record = &stored.record;
        is(self.serial.as_ref(), &record.serial)
            && is(self.cluster.as_ref(), &record.cluster)
            && self
                .among
                .as_ref()
                .is_none_or(|among| among.contains(&record.cluster))
            && self.names.iter().all(|name| record.names.contains(name))
            && is(self.caller.as_ref(), &record.caller)
            && is(self.authority.as_ref(), &record.authority)
            && is(self.key.as_ref(), &record.key_digest)
            && is(self.profile.as_ref(), &record.profile)
            && self
                .state
                .is_none_or(|state| stored.state(self.at) == state)
            && self.issued_from.is_none_or(|from| record.issued_at >= from)
            && self.issued_to.is_none_or(|to| record.issued_at < to)
            && (self.expires_from..=self.expires_to).contains(&record.not_after)
    }
}
