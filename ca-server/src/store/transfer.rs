//! The whole store as rows that are of no engine: what a backup is made of, and what a restore writes.
//!
//! Which tables and columns there are is asked of the database, so that none can be forgotten. Values are integers, texts
//! and bytes; a boolean is 0 or 1.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::model::NewAudit;
use super::{Store, StoreError};

/// What is not taken along: leases are of those who hold them, and sqlx tells the schema itself.
pub const LEFT_OUT: [&str; 2] = ["lease", "_sqlx_migrations"];
/// What a schema without contents has a row in; a restore puts its own in its place.
pub(super) const BEGUN: [&str; 2] = ["change_sequence", "clock"];
/// Comes first: whether its key opens is known before anything is written.
const FIRST: &str = "installation";

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64 bits, signed.
    Integer,
    /// UTF-8.
    Text,
    /// Bytes.
    Blob,
}

impl Kind {
    /// Its name in a backup.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Text => "text",
            Self::Blob => "blob",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Integer, Self::Text, Self::Blob]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// A table's name, and its columns in the order of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Each column's name and what it holds.
    pub columns: Vec<(String, Kind)>,
}

impl Table {
    /// Where a column stands in a row.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(column, _)| column == name)
    }
}

/// What a row has in a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number, a time, a boolean.
    Integer(i64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// What the dumped store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `postgres` or `sqlite`.
    pub engine: String,
    /// The migrations that it had.
    pub migrations: Vec<i64>,
}

/// What a dump gives: first where it comes from, then each table before its rows.
#[derive(Debug)]
pub enum Dumped<'a> {
    /// What the store is.
    Origin(&'a Origin),
    /// The rows that follow are of this table.
    Table(&'a Table),
    /// A row of the table that came last.
    Row(&'a [Value]),
}

/// Takes what a dump gives.
pub type Take<'a> = dyn FnMut(Dumped<'_>) -> io::Result<()> + Send + 'a;

/// What is loaded: each table before its rows.
#[derive(Debug)]
pub enum Loaded {
    /// The rows that follow are of this table.
    Table(Table),
    /// A row of the table that came last.
    Row(Vec<Value>),
}

/// Gives what is loaded, and `None` when that was everything, and whole.
pub type Give<'a> = dyn FnMut() -> io::Result<Option<Loaded>> + Send + 'a;

/// What is done to a store in the transaction that fills it.
#[derive(Clone, Debug)]
pub struct Restoration {
    /// What numbers jump ahead by: more than any that was given out after the backup.
    pub ahead: i64,
    /// What the audit trail says of it, at the end of the chain that came back.
    pub audit: NewAudit,
}

/// Why a store was not dumped or loaded.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was read or written failed.
    #[error(transparent)]
    Stream(#[from] io::Error),
    /// The store is not one to restore into, or what is to be restored does not fit it.
    #[error("{0}")]
    Refused(String),
}

impl From<sqlx::Error> for TransferError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// There is no deadline for these: they take as long as the store is large.
impl Store {
    /// The tables that a dump has, in its order: each after those that it refers to.
    ///
    /// # Errors
    /// When the store fails, or a column is of a type that no dump has.
    pub async fn tables(&self) -> Result<Vec<Table>, TransferError> {
        on_engine!(self, engine => engine.tables().await)
    }

    /// Gives every row of one moment to `take`; others write meanwhile. A row at a time is in memory.
    ///
    /// # Errors
    /// When the store fails, or `take` does.
    pub async fn dump(&self, take: &mut Take<'_>) -> Result<(), TransferError> {
        on_engine!(self, engine => engine.dump(take).await)
    }

    /// Fills a store that is empty, and lets no number go back: CRLs, bundles and the change sequence go on from numbers that
    /// are ahead. All of it or nothing: it is one transaction.
    ///
    /// # Errors
    /// [`TransferError::Refused`] when the store is not empty or has other tables, [`StoreError::Audit`] before
    /// [`Store::audit_as`] was called, or when it or `give` fails.
    pub async fn load(
        &self,
        give: &mut Give<'_>,
        restoration: &Restoration,
    ) -> Result<(), TransferError> {
        on_engine!(self, engine => engine.load(give, restoration).await)
    }

    /// The migrations that this program knows.
    #[must_use]
    pub fn migrations(&self) -> Vec<i64> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => super::postgres::migrations(),
            Self::Sqlite(_) => super::sqlite::migrations(),
        }
    }
}

/// Puts each table after those that it refers to; `references` are pairs of who refers and to whom.
pub(super) fn in_order(
    mut tables: BTreeMap<String, Table>,
    references: &[(String, String)],
) -> Result<Vec<Table>, TransferError> {
    let mut order: Vec<Table> = tables.remove(FIRST).into_iter().collect();
    while !tables.is_empty() {
        let free = tables.keys().find(|name| {
            let waits = |(from, to): &&(String, String)| {
                from == *name && to != from && tables.contains_key(to)
            };
            !references.iter().any(|reference| waits(&reference))
        });
        let Some(table) = free.cloned().and_then(|name| tables.remove(&name)) else {
            let circle: Vec<_> = tables.into_keys().collect();
            return Err(refused(format!(
                "tables refer to each other: {}",
                circle.join(", ")
            )));
        };
        order.push(table);
    }
    Ok(order)
}

/// The table of the store that a loaded one stands for: the same columns, in any order.
pub(super) fn same<'a>(ours: &'a [Table], loaded: &Table) -> Result<&'a Table, TransferError> {
    let table = ours.iter().find(|table| table.name == loaded.name);
    let table = table.ok_or_else(|| refused(format!("the store has no table {}", loaded.name)))?;
    let columns = |table: &Table| -> BTreeSet<(String, &str)> {
        let columns = table.columns.iter();
        columns
            .map(|(name, kind)| (name.clone(), kind.as_str()))
            .collect()
    };
    if columns(table) != columns(loaded) {
        return Err(refused(format!(
            "the table {} has other columns in the store",
            loaded.name
        )));
    }
    Ok(table)
}

/// A row for `loaded`, of which there must be one before.
pub(super) fn row_of(loaded: Option<&Table>, row: &[Value]) -> Result<(), TransferError> {
    match loaded {
        Some(table) if table.columns.len() == row.len() => Ok(()),
        _ => Err(refused("a row does not fit its table".to_owned())),
    }
}

pub(super) fn refused(text: String) -> TransferError {
    TransferError::Refused(text)
}

pub(super) fn not_empty(table: &str) -> TransferError {
    refused(format!(
        "the store is not empty: its table {table} has rows. Restore into a new database"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(names: &[&str], references: &[(&str, &str)]) -> Option<Vec<String>> {
        let tables = names.iter().map(|name| {
            let (name, columns) = ((*name).to_owned(), Vec::new());
            (name.clone(), Table { name, columns })
        });
        let references: Vec<_> = references
            .iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
            .collect();
        let order = in_order(tables.collect(), &references).ok()?;
        Some(order.into_iter().map(|table| table.name).collect())
    }

    #[test]
    fn tables_come_after_those_that_they_refer_to() {
        let names = ["a", "b", "c", "installation"];
        let sorted = order(&names, &[("a", "c"), ("c", "b"), ("b", "b"), ("b", "gone")]).unwrap();
        assert_eq!(sorted, ["installation", "b", "c", "a"]);
        assert_eq!(order(&names, &[("a", "c"), ("c", "a")]), None);
    }
}
