//! Dumping and loading the whole store.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use super::{Connection, MIGRATOR, Sqlite};
use crate::store::transfer::{
    BEGUN, Dumped, Give, Kind, LEFT_OUT, Loaded, Origin, Restoration, Table, Take, TransferError,
    Value, in_order, not_empty, refused, row_of, same,
};

/// Rows of one statement.
const PORTION: usize = 64;

const COLUMNS: &str = "SELECT t.name, c.name, c.type FROM sqlite_schema t, pragma_table_info(t.name) c \
     WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY t.name, c.cid";

const REFERENCES: &str = "SELECT t.name, f.\"table\" FROM sqlite_schema t, \
     pragma_foreign_key_list(t.name) f WHERE t.type = 'table'";

impl Sqlite {
    pub(in crate::store) async fn tables(&self) -> Result<Vec<Table>, TransferError> {
        tables(&mut *self.reads.acquire().await?).await
    }

    pub(in crate::store) async fn dump(&self, take: &mut Take<'_>) -> Result<(), TransferError> {
        let mut tx = self.read().await?;
        // The snapshot is taken by the first statement.
        let migrations: Vec<i64> = sqlx::query_scalar(
            "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version",
        )
        .fetch_all(&mut *tx)
        .await?;
        take(Dumped::Origin(&Origin {
            engine: "sqlite".to_owned(),
            migrations,
        }))?;
        for table in tables(&mut tx).await? {
            take(Dumped::Table(&table))?;
            let statement = format!("SELECT {} FROM {}", columns(&table), quoted(&table.name));
            let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(&mut *tx);
            while let Some(row) = rows.try_next().await? {
                take(Dumped::Row(&values(&table, &row)?))?;
            }
        }
        tx.rollback().await?;
        Ok(())
    }

    pub(in crate::store) async fn load(
        &self,
        give: &mut Give<'_>,
        restoration: &Restoration,
    ) -> Result<(), TransferError> {
        let mut tx = self.begin().await?;
        let ours = tables(&mut tx).await?;
        begin(&mut tx, &ours).await?;
        let mut target: Option<Table> = None;
        let mut rows: Vec<Vec<Value>> = Vec::with_capacity(PORTION);
        while let Some(item) = give()? {
            match item {
                Loaded::Table(table) => {
                    insert(&mut tx, target.as_ref(), &mut rows).await?;
                    same(&ours, &table)?;
                    target = Some(table);
                }
                Loaded::Row(row) => {
                    row_of(target.as_ref(), &row)?;
                    rows.push(row);
                    if rows.len() == PORTION {
                        insert(&mut tx, target.as_ref(), &mut rows).await?;
                    }
                }
            }
        }
        insert(&mut tx, target.as_ref(), &mut rows).await?;
        finish(&mut tx, restoration).await?;
        Ok(self
            .commit(tx, std::slice::from_ref(&restoration.audit))
            .await?)
    }
}

pub(in crate::store) fn migrations() -> Vec<i64> {
    MIGRATOR.iter().map(|migration| migration.version).collect()
}

async fn tables(connection: &mut Connection) -> Result<Vec<Table>, TransferError> {
    let columns: Vec<(String, String, String)> =
        sqlx::query_as(COLUMNS).fetch_all(&mut *connection).await?;
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for (name, column, kind) in columns {
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let kind = match kind.as_str() {
            "INTEGER" => Kind::Integer,
            "TEXT" => Kind::Text,
            "BLOB" => Kind::Blob,
            other => {
                return Err(refused(format!(
                    "no dump has {name}.{column}: it is {other}"
                )));
            }
        };
        let columns = Vec::new();
        let table = tables
            .entry(name.clone())
            .or_insert(Table { name, columns });
        table.columns.push((column, kind));
    }
    let references: Vec<(String, String)> =
        sqlx::query_as(REFERENCES).fetch_all(connection).await?;
    in_order(tables, &references)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn columns(table: &Table) -> String {
    let names: Vec<_> = table.columns.iter().map(|(name, _)| quoted(name)).collect();
    names.join(", ")
}

fn values(table: &Table, row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    let read = |(i, (_, kind)): (usize, &(String, Kind))| {
        Ok(match kind {
            Kind::Integer => row
                .try_get::<Option<i64>, _>(i)?
                .map_or(Value::Null, Value::Integer),
            Kind::Text => row
                .try_get::<Option<String>, _>(i)?
                .map_or(Value::Null, Value::Text),
            Kind::Blob => row
                .try_get::<Option<Vec<u8>>, _>(i)?
                .map_or(Value::Null, Value::Blob),
        })
    };
    table.columns.iter().enumerate().map(read).collect()
}

/// Refuses a store that has anything, and clears what its schema began with.
async fn begin(connection: &mut Connection, ours: &[Table]) -> Result<(), TransferError> {
    for Table { name, .. } in ours {
        let table = quoted(name);
        if BEGUN.contains(&name.as_str()) {
            let statement = format!("DELETE FROM {table}");
            sqlx::query(AssertSqlSafe(statement))
                .execute(&mut *connection)
                .await?;
            continue;
        }
        let statement = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        let has_rows: bool = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(&mut *connection)
            .await?;
        if has_rows {
            return Err(not_empty(name));
        }
    }
    Ok(())
}

async fn insert(
    connection: &mut Connection,
    table: Option<&Table>,
    rows: &mut Vec<Vec<Value>>,
) -> Result<(), TransferError> {
    let Some(table) = table.filter(|_| !rows.is_empty()) else {
        return Ok(());
    };
    let row = format!("({})", vec!["?"; table.columns.len()].join(", "));
    let statement = format!(
        "INSERT INTO {} ({}) VALUES {}",
        quoted(&table.name),
        columns(table),
        vec![row; rows.len()].join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for value in rows.drain(..).flatten() {
        query = match value {
            Value::Null => query.bind(None::<i64>),
            Value::Integer(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Blob(bytes) => query.bind(bytes),
        };
    }
    query.execute(connection).await?;
    Ok(())
}

/// What makes a restored store one that does not go back.
async fn finish(
    connection: &mut Connection,
    restoration: &Restoration,
) -> Result<(), TransferError> {
    // A list without a time is due at once: the next one has a number that nobody has seen.
    sqlx::query("UPDATE crl SET number = number + $1, this_update = 0")
        .bind(restoration.ahead)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE bundle SET sequence = sequence + $1")
        .bind(restoration.ahead)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE change_sequence SET sequence = sequence + $1")
        .bind(restoration.ahead)
        .execute(&mut *connection)
        .await?;
    Ok(())
}
