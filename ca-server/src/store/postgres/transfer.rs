//! Dumping and loading the whole store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::partitions::{Days, create, partitions};
use super::{MIGRATOR, Postgres, applied};
use crate::store::transfer::{
    BEGUN, Dumped, Give, Kind, LEFT_OUT, Loaded, Origin, Restoration, Table, Take, TransferError,
    Value, in_order, not_empty, refused, row_of, same,
};

/// What is sent to the database at once.
const PORTION: usize = 256 * 1024;

/// The columns of every table of ours: partitions are what their parent has, and those that were let go are no more.
const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, \
         format_type(a.atttypid, a.atttypmod) FROM pg_class c \
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'certificate'::regclass) \
     AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
     AND c.relname !~ '^certificate_[0-9]+_[0-9]+$' ORDER BY c.relname, a.attnum";

const REFERENCES: &str = "SELECT f.relname::text, t.relname::text FROM pg_constraint k \
     JOIN pg_class f ON f.oid = k.conrelid JOIN pg_class t ON t.oid = k.confrelid \
     WHERE k.contype = 'f'";

impl Postgres {
    pub(in crate::store) async fn tables(&self) -> Result<Vec<Table>, TransferError> {
        tables(&mut *self.reads.acquire().await?).await
    }

    pub(in crate::store) async fn dump(&self, take: &mut Take<'_>) -> Result<(), TransferError> {
        // One snapshot for all: whatever was acknowledged before it is in it.
        let mut tx = self.read().await?;
        patient(&mut tx).await?;
        let migrations = applied(&mut tx).await?;
        take(Dumped::Origin(&Origin {
            engine: "postgres".to_owned(),
            migrations: migrations.into_iter().collect(),
        }))?;
        for table in tables(&mut tx).await? {
            take(Dumped::Table(&table))?;
            // Names come from the catalogue, quoted.
            let statement = format!("SELECT {} FROM {}", columns(&table), quoted(&table.name));
            let mut rows = sqlx::query(AssertSqlSafe(statement))
                .persistent(false)
                .fetch(&mut *tx);
            while let Some(row) = rows.try_next().await? {
                take(Dumped::Row(&values(&table, &row)?))?;
            }
        }
        Ok(tx.rollback().await?)
    }

    pub(in crate::store) async fn load(
        &self,
        give: &mut Give<'_>,
        restoration: &Restoration,
    ) -> Result<(), TransferError> {
        let mut tx = self.begin().await?;
        patient(&mut tx).await?;
        let ours = tables(&mut tx).await?;
        begin(&mut tx, &ours).await?;
        let mut target: Option<Table> = None;
        let mut next = give()?;
        while let Some(item) = next {
            match item {
                Loaded::Table(table) => {
                    same(&ours, &table)?;
                    target = Some(table);
                    next = give()?;
                }
                Loaded::Row(row) => {
                    row_of(target.as_ref(), &row)?;
                    let Some(table) = &target else { break };
                    next = copy(&mut tx, table, row, give).await?;
                }
            }
        }
        finish(&mut tx, &ours, restoration).await?;
        Ok(self
            .commit(tx, std::slice::from_ref(&restoration.audit))
            .await?)
    }
}

/// Without the limits that other calls have: this takes its time.
async fn patient(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('statement_timeout', '0', true), \
         set_config('idle_in_transaction_session_timeout', '0', true)",
    )
    .execute(connection)
    .await
    .map(|_| ())
}

pub(in crate::store) fn migrations() -> Vec<i64> {
    MIGRATOR.iter().map(|migration| migration.version).collect()
}

async fn tables(connection: &mut PgConnection) -> Result<Vec<Table>, TransferError> {
    let columns: Vec<(String, String, String)> =
        sqlx::query_as(COLUMNS).fetch_all(&mut *connection).await?;
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for (name, column, kind) in columns {
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let kind = match kind.as_str() {
            "bigint" | "integer" | "smallint" | "boolean" => Kind::Integer,
            "text" => Kind::Text,
            "bytea" => Kind::Blob,
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

fn values(table: &Table, row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    let read = |(i, (_, kind)): (usize, &(String, Kind))| {
        Ok(match kind {
            Kind::Integer => integer(row, i)?.map_or(Value::Null, Value::Integer),
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

/// Of any of the types that a dump has as a number.
fn integer(row: &PgRow, i: usize) -> Result<Option<i64>, sqlx::Error> {
    use sqlx::{Column, TypeInfo};
    Ok(match row.column(i).type_info().name() {
        "BOOL" => row.try_get::<Option<bool>, _>(i)?.map(i64::from),
        "INT2" => row.try_get::<Option<i16>, _>(i)?.map(i64::from),
        "INT4" => row.try_get::<Option<i32>, _>(i)?.map(i64::from),
        _ => row.try_get(i)?,
    })
}

/// Refuses a store that has anything, and clears what its schema began with.
async fn begin(connection: &mut PgConnection, ours: &[Table]) -> Result<(), TransferError> {
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

/// Copies rows of a table, `row` first, and gives back what follows them.
async fn copy(
    connection: &mut PgConnection,
    table: &Table,
    row: Vec<Value>,
    give: &mut Give<'_>,
) -> Result<Option<Loaded>, TransferError> {
    let statement = format!(
        "COPY {} ({}) FROM STDIN",
        quoted(&table.name),
        columns(table)
    );
    // Records need a partition for their day: where one lacks it, copying begins again after it is made.
    let day = (table.name == "certificate")
        .then(|| table.column("expires_day"))
        .flatten();
    let mut covered = BTreeSet::new();
    let mut next = Some(row);
    while let Some(first) = next.take() {
        if let Some(day) = day_of(day, &first) {
            cover(connection, day).await?;
            covered.extend(days(connection).await?);
        }
        let mut portion = String::with_capacity(PORTION * 2);
        encode(&first, &mut portion);
        let mut out = connection.copy_in_raw(&statement).await?;
        loop {
            match give()? {
                Some(Loaded::Row(row)) => {
                    row_of(Some(table), &row)?;
                    if day_of(day, &row).is_some_and(|day| !covered.contains(&day)) {
                        next = Some(row);
                        break;
                    }
                    encode(&row, &mut portion);
                    if portion.len() >= PORTION {
                        out.send(portion.as_bytes()).await?;
                        portion.clear();
                    }
                }
                other => {
                    out.send(portion.as_bytes()).await?;
                    out.finish().await?;
                    return Ok(other);
                }
            }
        }
        out.send(portion.as_bytes()).await?;
        out.finish().await?;
    }
    Ok(None)
}

fn day_of(column: Option<usize>, row: &[Value]) -> Option<i32> {
    match row.get(column?)? {
        Value::Integer(day) => i32::try_from(*day).ok(),
        _ => None,
    }
}

/// The days that have a partition.
async fn days(connection: &mut PgConnection) -> Result<Vec<i32>, TransferError> {
    let have = partitions(connection).await?;
    Ok(have
        .into_iter()
        .flat_map(|(first, end)| first..end)
        .collect())
}

async fn cover(connection: &mut PgConnection, day: i32) -> Result<(), TransferError> {
    if !days(connection).await?.contains(&day) {
        create(connection, Days(day, day + 1)).await?;
    }
    Ok(())
}

/// A line of COPY's text format.
fn encode(row: &[Value], out: &mut String) {
    for (i, value) in row.iter().enumerate() {
        if i > 0 {
            out.push('\t');
        }
        match value {
            Value::Null => out.push_str("\\N"),
            // Writing into a string does not fail.
            Value::Integer(number) => drop(write!(out, "{number}")),
            Value::Text(text) => {
                for c in text.chars() {
                    match c {
                        '\\' => out.push_str("\\\\"),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        '\t' => out.push_str("\\t"),
                        c => out.push(c),
                    }
                }
            }
            Value::Blob(bytes) => {
                out.push_str("\\\\x");
                out.push_str(&pki::crypto::hex(bytes));
            }
        }
    }
    out.push('\n');
}

/// What makes a restored store one that does not go back.
async fn finish(
    connection: &mut PgConnection,
    ours: &[Table],
    restoration: &Restoration,
) -> Result<(), TransferError> {
    // Identities go on after what was copied.
    for Table { name, columns } in ours {
        for (column, _) in columns {
            let sequence: Option<String> =
                sqlx::query_scalar("SELECT pg_get_serial_sequence($1, $2)")
                    .bind(quoted(name))
                    .bind(column)
                    .fetch_one(&mut *connection)
                    .await?;
            if let Some(sequence) = sequence {
                let statement = format!(
                    "SELECT setval('{sequence}', (SELECT coalesce(max({0}), 0) + 1 FROM {1}), false)",
                    quoted(column),
                    quoted(name)
                );
                sqlx::query(AssertSqlSafe(statement))
                    .execute(&mut *connection)
                    .await?;
            }
        }
    }
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
