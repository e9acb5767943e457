//! The schema's migrations, forward only, as they stand in `migrations/`: both engines have the same ones.

use sqlx::migrate::{Migration, MigrationType, Migrator};

macro_rules! migrations {
    ($($name:literal,)*) => {
        /// Each one's number and name, and its text for each engine.
        const ALL: &[(&str, &str, &str)] = &[$((
            $name,
            include_str!(concat!("../../../migrations/postgres/", $name, ".sql")),
            include_str!(concat!("../../../migrations/sqlite/", $name, ".sql")),
        ),)*];
    };
}

migrations! {
    "0001_create_schema",
    "0002_revocation_and_status",
    "0003_envelope_keys",
    "0004_publication_and_ends",
    "0005_audit",
    "0006_search",
    "0007_administration",
}

/// Those of Postgres.
#[cfg(feature = "postgres")]
pub(super) fn postgres() -> Migrator {
    migrator(|(name, postgres, _)| (name, postgres))
}

/// Those of SQLite.
pub(super) fn sqlite() -> Migrator {
    migrator(|(name, _, sqlite)| (name, sqlite))
}

/// It takes a schema that is newer than this program: migrations keep the release before them working.
fn migrator(
    text: impl Fn((&'static str, &'static str, &'static str)) -> (&'static str, &'static str),
) -> Migrator {
    let migrations = ALL.iter().copied().map(text).filter_map(|(name, sql)| {
        let (number, description) = name.split_once('_')?;
        Some(Migration::new(
            number.parse().ok()?,
            description.replace('_', " ").into(),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(sql),
            false,
        ))
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.set_ignore_missing(true);
    migrator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_each_engine_is_a_migration() {
        let engines = [
            #[cfg(feature = "postgres")]
            ("postgres", postgres()),
            ("sqlite", sqlite()),
        ];
        for (engine, migrator) in engines {
            let folder = format!("{}/../migrations/{engine}", env!("CARGO_MANIFEST_DIR"));
            let mut files: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort_unstable();
            let known: Vec<_> = ALL.iter().map(|(name, ..)| format!("{name}.sql")).collect();
            assert_eq!(files, known, "{engine}");
            assert_eq!(migrator.iter().count(), known.len(), "{engine}");
        }
    }
}
