//! The store on Postgres.
//!
//! Every connection has the settings that the statements rely on, set after connecting rather than at start-up: a
//! pooler in session mode would swallow them there.

mod administration;
mod administrators;
mod audit;
mod crls;
mod enrolments;
mod operations;
mod partitions;
mod records;
mod revocations;
mod search;
mod transfer;
mod trust;

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use pki::time::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection as _, Transaction};

use super::audit::Trail;
use super::{StoreError, migrations};

pub(super) use transfer::migrations;

/// Connections to a Postgres server.
#[derive(Clone)]
pub struct Postgres {
    /// For reading. Apart from the other, so that slow searches do not stop issuance.
    reads: PgPool,
    /// For recording and for administration.
    writes: PgPool,
    trail: Trail,
}

pub(super) type Connection = PgConnection;

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(migrations::postgres);

const READERS: u32 = 8;
const WRITERS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// A commit that is not yet on disk is no record, and the statements that record are written for READ COMMITTED: who
/// waited for a log's row sees its newest version. Compiling a plan costs more than any of ours takes to run.
const SETTINGS: &str = "SELECT set_config('statement_timeout', '5s', false), \
     set_config('lock_timeout', '3s', false), \
     set_config('idle_in_transaction_session_timeout', '10s', false), \
     set_config('default_transaction_isolation', 'read committed', false), \
     set_config('jit', 'off', false), \
     set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') \
         IN ('off', 'local') THEN 'on' ELSE current_setting('synchronous_commit') END, false)";

impl Postgres {
    pub(super) async fn open(options: &PgConnectOptions) -> Result<Self, StoreError> {
        let options = tidy(options);
        refuse_transaction_pooler(&options).await?;
        let store = Self {
            reads: pool(READERS, options.clone()),
            writes: pool(WRITERS, options),
            trail: Trail::default(),
        };
        store.require_schema().await?;
        Ok(store)
    }

    pub(super) async fn migrate(
        options: &PgConnectOptions,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let options = tidy(options);
        refuse_transaction_pooler(&options).await?;
        // Without the limits: a migration may take its time.
        let mut connection = PgConnection::connect_with(&options).await?;
        let before = applied(&mut connection).await?;
        MIGRATOR
            .run_direct(None, &mut connection, false)
            .await
            .map_err(migrate_error)?;
        let names = MIGRATOR
            .iter()
            .filter(|migration| !before.contains(&migration.version))
            .map(|m| format!("{:04} {}", m.version, m.description))
            .collect();
        connection.close().await?;
        let store = Self {
            reads: pool(1, options.clone()),
            writes: pool(1, options),
            trail: Trail::default(),
        };
        store.maintain_partitions(now).await?;
        store.close().await;
        Ok(names)
    }

    pub(super) async fn close(&self) {
        self.writes.close().await;
        self.reads.close().await;
    }

    /// A connection to write by.
    async fn writer(&self) -> Result<PoolConnection<sqlx::Postgres>, sqlx::Error> {
        match self.writes.acquire().await {
            Err(error) if self.make_room(&error) => self.writes.acquire().await,
            writer => writer,
        }
    }

    async fn begin(&self) -> Result<Transaction<'static, sqlx::Postgres>, sqlx::Error> {
        match self.writes.begin().await {
            Err(error) if self.make_room(&error) => self.writes.begin().await,
            begun => begun,
        }
    }

    /// Where Postgres has no connection to spare, those that read would keep what they have, and nothing would ever be
    /// recorded: an idle one gives way, and another attempt to write finds its place. Tells whether one did.
    fn make_room(&self, error: &sqlx::Error) -> bool {
        let has_none_to_come = matches!(error, sqlx::Error::PoolTimedOut);
        if has_none_to_come
            && self.writes.size() < WRITERS
            && self.reads.size() > 1
            && let Some(idle) = self.reads.try_acquire()
        {
            drop(idle.detach());
            return true;
        }
        false
    }

    /// A transaction whose reads all see the same state.
    async fn read(&self) -> Result<Transaction<'static, sqlx::Postgres>, sqlx::Error> {
        self.reads
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await
    }

    async fn require_schema(&self) -> Result<(), StoreError> {
        let mut connection = self.reads.acquire().await?;
        let applied = applied(&mut connection).await?;
        match MIGRATOR.iter().find(|m| !applied.contains(&m.version)) {
            Some(missing) => Err(StoreError::Schema {
                reason: format!(
                    "migration {:04} {} is missing",
                    missing.version, missing.description
                ),
            }),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Postgres(...)")
    }
}

/// Poolers refuse `extra_float_digits`, and we have no floats.
fn tidy(options: &PgConnectOptions) -> PgConnectOptions {
    options
        .clone()
        .extra_float_digits(None)
        .application_name("ca-server")
        .disable_statement_logging()
}

fn pool(size: u32, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::query(SETTINGS).execute(&mut *connection).await?;
                // After a failover the old primary may still answer: a standby is no store.
                let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
                    .fetch_one(&mut *connection)
                    .await?;
                if standby {
                    return Err(sqlx::Error::Protocol("the server is a standby".to_owned()));
                }
                Ok(())
            })
        })
        .connect_lazy_with(options)
}

/// The versions of the migrations that were applied; none when there is no such table.
async fn applied(connection: &mut PgConnection) -> Result<BTreeSet<i64>, StoreError> {
    let known: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !known {
        return Ok(BTreeSet::new());
    }
    let versions: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
            .fetch_all(&mut *connection)
            .await?;
    Ok(versions.into_iter().collect())
}

fn migrate_error(error: sqlx::migrate::MigrateError) -> StoreError {
    match error {
        sqlx::migrate::MigrateError::Execute(error) => error.into(),
        other => StoreError::Schema {
            reason: other.to_string(),
        },
    }
}

/// Two connections that are open at once never share a backend, unless a pooler lends one out by the transaction.
async fn refuse_transaction_pooler(options: &PgConnectOptions) -> Result<(), StoreError> {
    let check = async {
        let mut first = PgConnection::connect_with(options).await?;
        let before = backend(&mut first).await?;
        let mut second = PgConnection::connect_with(options).await?;
        sqlx::raw_sql("BEGIN").execute(&mut second).await?;
        let other = backend(&mut second).await?;
        let after = backend(&mut first).await?;
        second.close().await?;
        first.close().await?;
        Ok::<_, sqlx::Error>(before == other || before != after)
    };
    let shared = tokio::time::timeout(super::CALL_DEADLINE, check)
        .await
        .map_err(StoreError::unavailable)??;
    if shared {
        Err(StoreError::Pooler)
    } else {
        Ok(())
    }
}

/// By the simple protocol: a prepared statement is what such a pooler gets wrong.
async fn backend(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    use sqlx::{Executor, Row};
    let row = connection
        .fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()::text"))
        .await?;
    row.try_get(0)
}
