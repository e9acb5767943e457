//! `ca-load` on both stores, for a second: what it prints has every field, and what it counts is on record.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::process::Command;

use serde_json::Value;
use tests::postgres::Postgres;
use tests::process::{outside_cargo, run};

/// What whoever compares runs reads.
const FIELDS: [&str; 9] = [
    "certificates",
    "on_record",
    "certificates_per_second",
    "p50_ms",
    "p99_ms",
    "server_cpu_us_per_certificate",
    "store_cpu_us_per_certificate",
    "rss_bytes",
    "crypto_floor_us",
];

fn measure(store: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ca-load"));
    command.args(["--store", store, "--concurrency", "8", "--seconds", "1"]);
    command.args(["--tokens", "20", "--connections", "2", "--json"]);
    let said = run(outside_cargo(&mut command));
    let mut lines = said.lines();
    let measured: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(lines.next(), None, "one object and nothing else");
    for field in FIELDS {
        let value = measured[field].as_f64();
        let value = value.unwrap_or_else(|| panic!("no {field} in {measured}"));
        // SQLite's work is the server's.
        let free = store == "sqlite" && field == "store_cpu_us_per_certificate";
        assert_eq!(value > 0.0, !free, "{field} in {measured}");
    }
    measured
}

fn check(measured: &Value) {
    let number = |field: &str| measured[field].as_f64().unwrap();
    assert!(number("certificates") <= number("on_record"), "{measured}");
    assert!(number("p50_ms") <= number("p99_ms"), "{measured}");
}

#[test]
fn a_short_load_on_sqlite_measures_everything_and_is_on_record() {
    check(&measure("sqlite"));
}

#[test]
fn a_short_load_on_postgres_measures_everything_and_is_on_record() {
    if Postgres::binaries().is_none() {
        let test = "a_short_load_on_postgres_measures_everything_and_is_on_record";
        return tests::parts::skip(test, "no Postgres; see tests/parts/install");
    }
    check(&measure("postgres"));
}
