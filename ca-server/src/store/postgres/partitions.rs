//! The partitions of `certificate`: by day of expiry for what expires soon, by thirty days beyond.
//!
//! Most certificates live for hours: their days are small tables that are dropped whole. The few that live for months
//! lie in blocks of [`BLOCK_DAYS`] days, aligned to multiples of it (days since 1970, so no calendar is needed). A
//! block that comes near is split into its days; by then it holds only what was issued more than [`DAILY`] days before
//! its expiry. A record whose day has no partition is refused, never misplaced.

use std::collections::BTreeMap;

use pki::time::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection};

use super::Postgres;
use crate::store::StoreError;

/// Days ahead that have a partition of their own.
const DAILY: i32 = 40;
/// Days ahead that have any: fifteen months.
const AHEAD: i32 = 456;
/// Days of a block.
const BLOCK_DAYS: i32 = 30;
/// Serializes maintenance among replicas; any number that nothing else in the database uses.
const ADVISORY_LOCK: i64 = 0x7369_676e_6574_0001;

/// A partition's days: from the first to the one before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Days(pub(super) i32, pub(super) i32);

impl Days {
    fn table(self) -> String {
        format!("certificate_{}_{}", self.0, self.1)
    }
}

/// Where the partitions are to end up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    create: Vec<Days>,
    split: Vec<Days>,
}

/// What is missing when `have` (first day → day after the last) is there and `today` is today. Yesterday counts too:
/// clocks differ.
fn plan(have: &BTreeMap<i32, i32>, today: i32) -> Plan {
    let mut plan = Plan::default();
    let mut day = today - 1;
    while day < today + AHEAD {
        let covering = have
            .range(..=day)
            .next_back()
            .filter(|(_, end)| **end > day);
        if let Some((&first, &end)) = covering {
            if end - first > 1 && first < today + DAILY {
                plan.split.push(Days(first, end));
            }
            day = end;
            continue;
        }
        let end = if day < today + DAILY {
            day + 1
        } else {
            (day / BLOCK_DAYS + 1) * BLOCK_DAYS
        };
        // Never over one that is there.
        let end = have
            .range(day..)
            .next()
            .map_or(end, |(first, _)| end.min(*first));
        plan.create.push(Days(day, end));
        day = end;
    }
    plan
}

impl Postgres {
    pub(in crate::store) async fn maintain_partitions(
        &self,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let today = i32::from(now.day());
        // One transaction: a crash leaves what was there.
        let mut tx = self.begin().await?;
        lock_maintenance(&mut tx).await?;
        let plan = plan(&partitions(&mut tx).await?, today);
        for days in plan.create {
            create(&mut tx, days).await?;
        }
        tx.commit().await?;
        for block in plan.split {
            self.split(block, today).await?;
        }
        Ok(())
    }

    /// Puts days in the place of a block. Nobody records meanwhile: the table is locked while the block's rows, which are
    /// few, are moved. All in one transaction; another replica may have done it before.
    async fn split(&self, block: Days, today: i32) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("SELECT set_config('statement_timeout', '60s', true)")
            .execute(&mut *tx)
            .await?;
        lock_maintenance(&mut tx).await?;
        if !plan(&partitions(&mut tx).await?, today)
            .split
            .contains(&block)
        {
            return Ok(());
        }
        let table = block.table();
        run(
            &mut tx,
            format!("ALTER TABLE certificate DETACH PARTITION {table}"),
        )
        .await?;
        for day in block.0..block.1 {
            create(&mut tx, Days(day, day + 1)).await?;
        }
        let columns: String = sqlx::query_scalar(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute \
             WHERE attrelid = 'certificate'::regclass AND attnum > 0 AND NOT attisdropped",
        )
        .fetch_one(&mut *tx)
        .await?;
        run(
            &mut tx,
            format!("INSERT INTO certificate ({columns}) SELECT {columns} FROM {table}"),
        )
        .await?;
        run(&mut tx, format!("DROP TABLE {table}")).await?;
        Ok(tx.commit().await?)
    }

    pub(in crate::store) async fn drop_records(
        &self,
        expired_before: Timestamp,
    ) -> Result<(), StoreError> {
        let before = i32::from(expired_before.day());
        let mut connection = self.writer().await?;
        // A session's lock: DETACH CONCURRENTLY runs in no transaction. It is let go with the connection, should we die.
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(ADVISORY_LOCK)
            .execute(&mut *connection)
            .await?;
        let result = drop_before(&mut connection, before).await;
        if result.is_ok() {
            sqlx::query("SELECT pg_advisory_unlock($1)")
                .bind(ADVISORY_LOCK)
                .execute(&mut *connection)
                .await?;
        } else {
            // Closed rather than given back with the lock in it.
            drop(connection.detach());
        }
        result
    }
}

async fn drop_before(connection: &mut PgConnection, before: i32) -> Result<(), StoreError> {
    // A detachment that was cut off by a crash has to be ended before another can begin.
    let pending: Option<String> = sqlx::query_scalar(
        "SELECT inhrelid::regclass::text FROM pg_inherits \
         WHERE inhparent = 'certificate'::regclass AND inhdetachpending",
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(table) = pending {
        run(
            connection,
            format!("ALTER TABLE certificate DETACH PARTITION {table} FINALIZE"),
        )
        .await?;
    }
    let past = partitions(connection).await?;
    for (&first, &end) in past.iter().filter(|(_, end)| **end <= before) {
        let table = Days(first, end).table();
        run(
            connection,
            format!("ALTER TABLE certificate DETACH PARTITION {table} CONCURRENTLY"),
        )
        .await?;
    }
    drop_detached(connection, before).await?;
    // Names after bodies: a name that leads nowhere is found by no search.
    sqlx::query("DELETE FROM certificate_name WHERE expires_day < $1")
        .bind(before)
        .execute(connection)
        .await?;
    Ok(())
}

/// Drops what was detached, now or before a crash.
async fn drop_detached(connection: &mut PgConnection, before: i32) -> Result<(), StoreError> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class c \
         WHERE c.relnamespace = (SELECT relnamespace FROM pg_class \
             WHERE oid = 'certificate'::regclass) \
         AND c.relkind = 'r' AND c.relname ~ '^certificate_[0-9]+_[0-9]+$' \
         AND NOT c.relispartition AND split_part(c.relname, '_', 3)::integer <= $1",
    )
    .bind(before)
    .fetch_all(&mut *connection)
    .await?;
    for table in tables {
        run(connection, format!("DROP TABLE {table}")).await?;
    }
    Ok(())
}

async fn lock_maintenance(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(ADVISORY_LOCK)
        .execute(connection)
        .await
        .map(|_| ())
}

/// What there is: first day → day after the last. The catalogue's bounds count, not the tables' names.
pub(super) async fn partitions(
    connection: &mut PgConnection,
) -> Result<BTreeMap<i32, i32>, StoreError> {
    let rows: Vec<(i32, i32)> = sqlx::query_as(
        "SELECT substring(b.bound FROM 'FROM \\((\\d+)\\)')::integer, \
             substring(b.bound FROM 'TO \\((\\d+)\\)')::integer \
         FROM (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i \
             JOIN pg_class c ON c.oid = i.inhrelid \
             WHERE i.inhparent = 'certificate'::regclass AND NOT i.inhdetachpending) b \
         WHERE b.bound LIKE 'FOR VALUES FROM (%) TO (%)'",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

/// By `LIKE` and `ATTACH`: who records meanwhile is not stopped, as `CREATE … PARTITION OF` would do.
pub(super) async fn create(connection: &mut PgConnection, days: Days) -> Result<(), StoreError> {
    let Days(first, end) = days;
    let table = days.table();
    run(
        connection,
        format!("CREATE TABLE {table} (LIKE certificate INCLUDING ALL)"),
    )
    .await?;
    run(
        connection,
        format!(
            "ALTER TABLE certificate ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({end})"
        ),
    )
    .await
}

/// The texts are made of numbers and of names that the catalogue quoted.
async fn run(connection: &mut PgConnection, statement: String) -> Result<(), StoreError> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: i32 = 20_781;

    fn apply(have: &mut BTreeMap<i32, i32>, plan: &Plan) {
        for block in &plan.split {
            have.remove(&block.0);
            have.extend((block.0..block.1).map(|day| (day, day + 1)));
        }
        have.extend(plan.create.iter().map(|days| (days.0, days.1)));
    }

    #[test]
    fn every_day_ahead_is_covered_once_and_near_ones_alone_however_days_pass() {
        for step in [1, 7, 45, 200, 1000] {
            let mut have = BTreeMap::new();
            for today in (TODAY..TODAY + 1500).step_by(step) {
                let next = plan(&have, today);
                apply(&mut have, &next);
                assert_eq!(
                    plan(&have, today),
                    Plan::default(),
                    "a second time does nothing"
                );
                let mut next = today - 1;
                for (&first, &end) in have.range(today - 1..) {
                    assert_eq!(first, next, "a gap or an overlap, step {step}");
                    assert!(end - first == 1 || first >= today + DAILY);
                    assert!(end - first <= BLOCK_DAYS);
                    next = end;
                }
                assert!(next >= today + AHEAD);
            }
        }
    }
}
