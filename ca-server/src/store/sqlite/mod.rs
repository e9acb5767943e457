//! The store on SQLite: one connection writes, a few read beside it (write-ahead log).

mod administration;
mod administrators;
mod audit;
mod crls;
mod enrolments;
mod operations;
mod records;
mod revocations;
mod search;
mod transfer;
mod trust;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection as _, Transaction};

use super::audit::Trail;
use super::{StoreError, migrations};

pub(super) use transfer::migrations;

/// Connections to a SQLite file.
#[derive(Clone)]
pub struct Sqlite {
    reads: SqlitePool,
    /// One connection: who writes waits here, not in SQLite's busy loop.
    writes: SqlitePool,
    trail: Trail,
}

pub(super) type Connection = SqliteConnection;

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(migrations::sqlite);

const READERS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// For another process that writes: a backup, a second server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl Sqlite {
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self::connect(path)?;
        store.apply().await?;
        Ok(store)
    }

    pub(super) async fn migrate(path: &Path) -> Result<Vec<String>, StoreError> {
        let store = Self::connect(path)?;
        let names = store.apply().await?;
        store.close().await;
        Ok(names)
    }

    fn connect(path: &Path) -> Result<Self, StoreError> {
        create_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on disk when it returns; NORMAL would lose the last ones with the power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        let pool = |size, options| {
            SqlitePoolOptions::new()
                .max_connections(size)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                // A full disk makes SQLite roll back by itself. The driver's own ROLLBACK then fails, and it goes on
                // believing in a transaction: such a connection could never begin another.
                .before_acquire(|connection, _| {
                    let clean = !connection.is_in_transaction();
                    Box::pin(async move { Ok(clean) })
                })
                .connect_lazy_with(options)
        };
        Ok(Self {
            reads: pool(READERS, options.clone().pragma("query_only", "1")),
            writes: pool(1, options),
            trail: Trail::default(),
        })
    }

    async fn apply(&self) -> Result<Vec<String>, StoreError> {
        let mut connection = self.writes.acquire().await?;
        let known: bool = sqlx::query_scalar(
            "SELECT count(*) > 0 FROM sqlite_schema WHERE name = '_sqlx_migrations'",
        )
        .fetch_one(&mut *connection)
        .await?;
        let before: Vec<i64> = if known {
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
                .fetch_all(&mut *connection)
                .await?
        } else {
            Vec::new()
        };
        MIGRATOR
            .run_direct(None, &mut *connection, false)
            .await
            .map_err(|error| match error {
                sqlx::migrate::MigrateError::Execute(error) => error.into(),
                other => StoreError::Schema {
                    reason: other.to_string(),
                },
            })?;
        Ok(MIGRATOR
            .iter()
            .filter(|migration| !before.contains(&migration.version))
            .map(|m| format!("{:04} {}", m.version, m.description))
            .collect())
    }

    pub(super) async fn close(&self) {
        self.reads.close().await;
        // Last: its end checkpoints the write-ahead log.
        self.writes.close().await;
    }

    /// Takes the write lock at once: a transaction that reads first and then writes could fail in its middle.
    async fn begin(&self) -> Result<Transaction<'static, sqlx::Sqlite>, sqlx::Error> {
        self.writes.begin_with("BEGIN IMMEDIATE").await
    }

    /// A transaction whose reads all see the same state.
    async fn read(&self) -> Result<Transaction<'static, sqlx::Sqlite>, sqlx::Error> {
        self.reads.begin().await
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sqlite(...)")
    }
}

/// Makes the file for its owner alone, if it is missing; SQLite gives the log beside it the same mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(|_| ())
        .map_err(|source| StoreError::File {
            path: path.display().to_string(),
            source,
        })
}
