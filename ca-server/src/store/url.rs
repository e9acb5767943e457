//! Where a store is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[cfg(feature = "postgres")]
use sqlx::postgres::PgConnectOptions;

use super::StoreError;

/// The address of a store: `sqlite:///path/to/file.db`, or `postgres://user:password@host/database` with the
/// parameters that libpq knows (`sslmode`, `sslrootcert`, `host` for a socket, …). What it prints has no password.
#[derive(Clone)]
pub struct StoreUrl(Engine);

#[derive(Clone)]
pub(super) enum Engine {
    #[cfg(feature = "postgres")]
    Postgres(Box<PgConnectOptions>),
    Sqlite(PathBuf),
}

impl StoreUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// When the scheme is another, the path is missing or the database is one in memory. The error does not repeat
    /// the URL.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            return match path {
                "" | "/" => Err(StoreError::Url("the path is missing")),
                _ if path.contains(['?', '#', '%']) => Err(StoreError::Url(
                    "a SQLite path has no parameters and no escapes",
                )),
                _ if path.contains(":memory:") => Err(StoreError::Url(
                    "a database in memory keeps no record of what was issued",
                )),
                _ => Ok(Self(Engine::Sqlite(PathBuf::from(path)))),
            };
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::Url("the scheme is neither of these"));
        }
        Self::parse_postgres(url)
    }

    #[cfg(feature = "postgres")]
    fn parse_postgres(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Url("the address or a parameter does not parse"))?;
        if options.get_database().is_none_or(str::is_empty) {
            return Err(StoreError::Url("the database's name is missing"));
        }
        Ok(Self(Engine::Postgres(Box::new(options))))
    }

    #[cfg(not(feature = "postgres"))]
    fn parse_postgres(_: &str) -> Result<Self, StoreError> {
        Err(StoreError::Url(
            "this program was built without Postgres (the feature `postgres`, on by default)",
        ))
    }

    /// The database file, for SQLite.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            #[cfg(feature = "postgres")]
            Engine::Postgres(_) => None,
            Engine::Sqlite(path) => Some(path),
        }
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.0
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            #[cfg(feature = "postgres")]
            Engine::Postgres(options) => {
                let user = options.get_username();
                let database = options.get_database().unwrap_or_default();
                match options.get_socket() {
                    Some(socket) => {
                        write!(f, "postgres://{user}@/{database}?host={}", socket.display())
                    }
                    None => write!(
                        f,
                        "postgres://{user}@{}:{}/{database}",
                        options.get_host(),
                        options.get_port()
                    ),
                }
            }
            Engine::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

impl FromStr for StoreUrl {
    type Err = StoreError;

    fn from_str(s: &str) -> Result<Self, StoreError> {
        Self::parse(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "postgres")]
    #[test]
    fn a_password_is_in_no_text() {
        for url in [
            "postgres://ca:hunter2@db.example/signet?sslmode=require",
            "postgres://ca@db.example/signet?password=hunter2",
        ] {
            let url = StoreUrl::parse(url).unwrap();
            assert!(!format!("{url} {url:?}").contains("hunter2"));
            assert!(url.to_string().contains("db.example"));
        }
        let error = StoreUrl::parse("postgres://ca:hunter2@db:port/x").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn what_keeps_nothing_or_is_no_store_is_refused() {
        for bad in [
            "",
            "sqlite://",
            "sqlite://:memory:",
            "sqlite:///x.db?mode=ro",
            "mysql://x/y",
            "postgres://ca@db/",
            "/var/lib/x.db",
        ] {
            assert!(StoreUrl::parse(bad).is_err(), "{bad}");
        }
        let url = StoreUrl::parse("sqlite:///var/lib/signet/ca.db").unwrap();
        assert_eq!(url.path(), Some(Path::new("/var/lib/signet/ca.db")));
    }
}
