//! What a backup has, in a few lines: counted while its rows pass by, when it is made, verified and restored alike.

use std::collections::BTreeMap;

use pki::crypto;
use pki::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::transfer::{Table, Value};

/// What a backup has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// How many rows each table has.
    pub tables: BTreeMap<String, u64>,
    /// How far each authority had come, by its id.
    pub authorities: BTreeMap<String, Position>,
    /// The last entry of each chain of the audit trail, by the replica's name.
    pub audit_heads: BTreeMap<String, Head>,
    /// When its last certificate was issued, in seconds since 1970.
    pub last_issued: Option<i64>,
    /// The beginning of a digest of the sealed key-encryption key: which installation's, and since which rekeying.
    pub keys: Option<String>,
}

/// How far an authority had come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The length of its log.
    pub log_size: i64,
    /// The number of its latest CRL.
    pub crl_number: Option<i64>,
}

/// The last entry of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its position.
    pub position: i64,
    /// Its hash, hexadecimal.
    pub hash: String,
}

impl Summary {
    /// How many rows a table has.
    #[must_use]
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.get(table).copied().unwrap_or(0)
    }

    /// How many rows all tables have.
    #[must_use]
    pub fn all_rows(&self) -> u64 {
        self.tables.values().sum()
    }

    /// In lines, for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .tables
            .iter()
            .filter(|(_, rows)| **rows > 0)
            .map(|(table, rows)| format!("{table:<24} {rows} rows"))
            .collect();
        for (id, position) in &self.authorities {
            let number = position
                .crl_number
                .map_or("none".to_owned(), |n| format!("number {n}"));
            lines.push(format!(
                "{id:<24} {} log entries, CRL {number}",
                position.log_size
            ));
        }
        for (replica, head) in &self.audit_heads {
            lines.push(format!(
                "audit of {replica:<15} position {}, {}",
                head.position, head.hash
            ));
        }
        if let Some(at) = self.last_issued {
            lines.push(format!(
                "last certificate         {}",
                Timestamp::from_unix(at)
            ));
        }
        if let Some(keys) = &self.keys {
            lines.push(format!("keys                     {keys}"));
        }
        lines
    }
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Counter {
    summary: Summary,
    table: Option<(Table, Watch)>,
    rows: u64,
}

/// Where the columns are that a summary is made of.
#[derive(Debug)]
enum Watch {
    Installation(usize, usize),
    Log(usize, usize),
    Crl(usize, usize),
    Head(usize, usize, usize),
    Certificate(usize),
    Nothing,
}

impl Watch {
    fn of(table: &Table) -> Option<Self> {
        let at = |column| table.column(column);
        Some(match table.name.as_str() {
            "installation" => Self::Installation(at("salt")?, at("sealed_key")?),
            "issuance_log" => Self::Log(at("authority")?, at("next_index")?),
            "crl" => Self::Crl(at("authority")?, at("number")?),
            "audit_head" => Self::Head(at("replica")?, at("position")?, at("hash")?),
            "certificate" => Self::Certificate(at("issued_at")?),
            _ => return None,
        })
    }
}

impl Counter {
    /// The rows that follow are of this table.
    pub(super) fn table(&mut self, table: &Table) {
        self.close();
        let watch = Watch::of(table).unwrap_or(Watch::Nothing);
        self.table = Some((table.clone(), watch));
    }

    /// The table that came last.
    pub(super) fn current(&self) -> Option<&Table> {
        self.table.as_ref().map(|(table, _)| table)
    }

    fn close(&mut self) {
        if let Some((table, _)) = self.table.take() {
            *self.summary.tables.entry(table.name).or_default() += self.rows;
        }
        self.rows = 0;
    }

    pub(super) fn row(&mut self, row: &[Value]) {
        self.rows += 1;
        let Some((_, watch)) = &self.table else {
            return;
        };
        let summary = &mut self.summary;
        match *watch {
            Watch::Installation(salt, key) => {
                let digest = crypto::sha256(&[blob(row, salt), blob(row, key)].concat());
                summary.keys = Some(crypto::hex(&digest[..8]));
            }
            Watch::Log(id, size) => {
                let position = summary.authorities.entry(text(row, id)).or_default();
                position.log_size = integer(row, size);
            }
            Watch::Crl(id, number) => {
                let position = summary.authorities.entry(text(row, id)).or_default();
                position.crl_number = Some(integer(row, number));
            }
            Watch::Head(replica, position, hash) => {
                let (position, hash) = (integer(row, position), crypto::hex(blob(row, hash)));
                let head = Head { position, hash };
                summary.audit_heads.insert(text(row, replica), head);
            }
            Watch::Certificate(issued) => {
                summary.last_issued = summary.last_issued.max(Some(integer(row, issued)));
            }
            Watch::Nothing => {}
        }
    }

    pub(super) fn finish(&mut self) -> Summary {
        self.close();
        std::mem::take(&mut self.summary)
    }
}

/// A value of another kind counts as none: the rows were checked before.
pub(super) fn integer(row: &[Value], at: usize) -> i64 {
    match row.get(at) {
        Some(Value::Integer(number)) => *number,
        _ => 0,
    }
}

pub(super) fn text(row: &[Value], at: usize) -> String {
    match row.get(at) {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    }
}

pub(super) fn blob(row: &[Value], at: usize) -> &[u8] {
    match row.get(at) {
        Some(Value::Blob(bytes)) => bytes,
        _ => &[],
    }
}
