//! What can go wrong with the store.

use std::sync::Arc;

use sqlx::error::{DatabaseError, ErrorKind};

/// Why the store did not do what was asked. No text of it carries a password or what is in a row.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What has to be audited was not done, because the trail cannot go on.
    #[error("the audit trail cannot go on: {0}")]
    Audit(&'static str),
    /// A compare-and-set was lost, a key is taken, or something that is referred to is missing or in use.
    #[error("conflict: {0}")]
    Conflict(&'static str),
    /// What the database holds does not parse.
    #[error("the {table} table has a row whose {column} does not parse")]
    Corrupt {
        /// Where the row lies.
        table: &'static str,
        /// The first column that does not parse.
        column: &'static str,
    },
    /// The database file cannot be made or opened.
    #[error("the database file {path}: {source}")]
    File {
        /// The path as configured.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database answered with an error that is none of the others: a fault in this program or in the database.
    #[error("the database refused a statement")]
    Internal {
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
    /// A pooler hands each transaction another session; prepared statements then run as other statements.
    #[error(
        "the database is behind a pooler in transaction mode, which runs the wrong statements: \
         use a direct address or session mode"
    )]
    Pooler,
    /// The schema is not what this program needs.
    #[error("the database's schema is not ready: {reason}; run `ca-server migrate`")]
    Schema {
        /// What is missing.
        reason: String,
    },
    /// The database cannot be used now; the same call may succeed later.
    #[error("the database is not available")]
    Unavailable {
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not a database URL.
    #[error("a store's URL is sqlite:///path/to/file.db or postgres://user@host/database: {0}")]
    Url(&'static str),
}

impl StoreError {
    /// Whether the same call may succeed later without anyone changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(super) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable {
            source: source.into(),
        }
    }

    pub(super) fn corrupt(table: &'static str, column: &'static str) -> Self {
        Self::Corrupt { table, column }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(db) => match class(db.as_ref()) {
                Class::Conflict(what) => Self::Conflict(what),
                Class::Schema => Self::Schema {
                    reason: "a table or a column is missing".to_owned(),
                },
                Class::Unavailable => Self::unavailable(error),
                Class::Other | Class::Value => Self::Internal { source: error },
            },
            // A protocol error is a connection that broke in the middle of a message.
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::BeginFailed
            | sqlx::Error::WorkerCrashed => Self::unavailable(error),
            _ => Self::Internal { source: error },
        }
    }
}

/// What a database's error means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Conflict(&'static str),
    Other,
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "SQLite is migrated as it is opened")
    )]
    Schema,
    Unavailable,
    /// A value that the database cannot take, such as a NUL in a text.
    Value,
}

fn class(error: &(dyn DatabaseError + 'static)) -> Class {
    match error.kind() {
        ErrorKind::UniqueViolation => return Class::Conflict("it exists already"),
        ErrorKind::ForeignKeyViolation => {
            return Class::Conflict("what it refers to is missing, or something refers to it");
        }
        ErrorKind::NotNullViolation | ErrorKind::CheckViolation => {
            return Class::Conflict("a value is outside its range");
        }
        _ => {}
    }
    let code = error.code().unwrap_or_default();
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return postgres_class(error.code());
    }
    sqlite_class(&code)
}

/// SQLSTATE, in the classes of the PostgreSQL manual, appendix A.
#[cfg(feature = "postgres")]
fn postgres_class(code: &str) -> Class {
    match code {
        // Read-only (a standby), serialization and deadlock, lock timeout.
        "25006" | "40001" | "40P01" | "55P03" => Class::Unavailable,
        "3F000" | "42P01" | "42703" => Class::Schema,
        _ => match code.get(..2) {
            // Connection, authorization (a password that rotates), resources, operator (restart, statement timeout),
            // system.
            Some("08" | "28" | "3D" | "53" | "57" | "58") => Class::Unavailable,
            // Data exceptions; a text too long for an index.
            Some("22" | "54") => Class::Value,
            _ => Class::Other,
        },
    }
}

/// SQLite's result code; the low byte is the primary one (<https://sqlite.org/rescode.html>).
fn sqlite_class(code: &str) -> Class {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL.
        Ok(5 | 6 | 7 | 8 | 9 | 10 | 13 | 14 | 15) => Class::Unavailable,
        // TOOBIG, MISMATCH.
        Ok(18 | 20) => Class::Value,
        _ => Class::Other,
    }
}

/// Why a certificate is not on record; nothing that was not recorded is handed out. Cheap to clone: the rows of a
/// batch share one cause.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// The authority has this serial number on record already. Draw another and sign again.
    #[error("the serial number is on record already")]
    Duplicate,
    /// The enrolment's time is over.
    #[error("the enrolment has expired")]
    EnrolmentExpired,
    /// An operator withdrew the enrolment.
    #[error("the enrolment was revoked")]
    EnrolmentRevoked,
    /// The enrolment was used with another key, or too long ago to repeat.
    #[error("the enrolment was used already")]
    EnrolmentSpent,
    /// The authority has no log, or a closed one: it was revoked.
    #[error("the authority's log is closed: it was revoked, or is gone")]
    LogClosed,
    /// The store will never take this record.
    #[error("the store refuses the record: {0}")]
    Refused(&'static str),
    /// The store cannot be reached, or does not keep up. Whether the record is there is not known: what was signed is
    /// thrown away, and the caller may ask again.
    #[error("the record could not be stored: {reason}")]
    Unavailable {
        /// What happened, for the log.
        reason: &'static str,
        /// The store's own error, if it came so far.
        #[source]
        source: Option<Arc<StoreError>>,
    },
}

impl RecordError {
    pub(super) fn unavailable(source: StoreError) -> Self {
        Self::Unavailable {
            reason: "the store failed",
            source: Some(Arc::new(source)),
        }
    }
}

/// How a batch failed.
#[derive(Debug)]
pub(super) enum BatchError {
    /// One of its rows is at fault; the others would have been taken.
    Row(RecordError),
    /// No row is.
    Store(StoreError),
}

impl From<sqlx::Error> for BatchError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(db) = &error else {
            return Self::Store(error.into());
        };
        match class(db.as_ref()) {
            Class::Conflict(_) if db.is_unique_violation() => Self::Row(RecordError::Duplicate),
            // SQLSTATE 23514 is a failed check and a missing partition alike.
            Class::Conflict(_) => Self::Row(RecordError::Refused(
                "no partition for its day of expiry, or a value outside its range",
            )),
            Class::Value => Self::Row(RecordError::Refused("a value cannot be stored")),
            Class::Other | Class::Schema | Class::Unavailable => Self::Store(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disks_restarts_and_standbys_are_retryable_and_bugs_are_not() {
        #[cfg(feature = "postgres")]
        for code in [
            "53100", "57P01", "57014", "25006", "55P03", "08006", "53300",
        ] {
            assert_eq!(postgres_class(code), Class::Unavailable, "{code}");
        }
        for code in ["5", "13", "1032", "778"] {
            assert_eq!(sqlite_class(code), Class::Unavailable, "{code}");
        }
        #[cfg(feature = "postgres")]
        for (code, class) in [("42601", Class::Other), ("42P01", Class::Schema)] {
            assert_eq!(postgres_class(code), class, "{code}");
        }
        assert_eq!(sqlite_class("1"), Class::Other);
        assert_eq!(sqlite_class("11"), Class::Other);
    }
}
