//! The server dies under load, again and again: whatever a client received is on record.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::collections::{BTreeSet, HashMap};

use ca_server::store::model::{RecordFilter, StoredRecord};
use ca_server::store::{Store, StoreUrl};
use pki::serial::Serial;
use tests::fleet::{Fleet, Server};
use tests::load::Calls;
use tests::load::hammer::Hammer;
use tests::postgres::Postgres;
use tonic::{Code, Status};

const CLIENTS: usize = 8;

/// Ten in CI, a hundred in `--long`.
fn rounds() -> usize {
    match std::env::var("SIGNET_TESTS") {
        Ok(size) if size == "long" => 100,
        _ => 10,
    }
}

fn calls(fleet: &Fleet) -> Calls {
    Calls::prepare(&fleet.clusters[0], 40, 200)
}

async fn open(url: &str) -> Store {
    Store::open(&StoreUrl::parse(url).unwrap()).await.unwrap()
}

fn sqlite_url(fleet: &Fleet) -> String {
    format!("sqlite://{}", fleet.path("ca.db").display())
}

async fn all_records(store: &Store) -> Vec<StoredRecord> {
    let mut filter = RecordFilter::recent(tests::now());
    filter.limit = RecordFilter::LIMIT_MAX;
    // The server's own certificates live for ninety days.
    filter.expires_to = filter.expires_to.plus(pki::time::Ttl::days(60));
    let mut records = Vec::new();
    loop {
        let page = store.search(&filter).await.unwrap();
        records.extend(page.records);
        if page.next.is_none() {
            return records;
        }
        filter.after = page.next;
    }
}

/// Every certificate received is on record, and each authority's log has every index from 0, once.
async fn check_records(url: &str, received: &[Serial]) {
    let store = open(url).await;
    for serial in received {
        let record = store.record(serial).await.unwrap();
        assert!(
            record.is_some(),
            "{serial} was received and is not on record"
        );
    }
    let records = all_records(&store).await;
    let distinct: BTreeSet<_> = received.iter().collect();
    assert_eq!(distinct.len(), received.len(), "no serial number twice");
    assert!(records.len() >= received.len());
    let mut logs: HashMap<_, Vec<u64>> = HashMap::new();
    for record in &records {
        let log = logs.entry(record.record.authority.clone()).or_default();
        log.push(record.log_index);
    }
    for (authority, mut log) in logs {
        log.sort_unstable();
        let gapless: Vec<u64> = (0..log.len() as u64).collect();
        assert_eq!(log, gapless, "the log of {authority}");
    }
    store.close().await;
}

async fn survives_kills(fleet: &Fleet, url: &str) {
    let mut server = fleet.serve();
    let hammer = Hammer::start(&server, calls(fleet), CLIENTS).await;
    for round in 0..rounds() {
        // Another number each time, so that the kill falls on other moments of a batch.
        hammer.more_certificates(20 + round * 37 % 100).await;
        server.process().kill();
        server = fleet.serve();
        hammer.aim(&server).await;
    }
    hammer.more_certificates(20).await;
    let seen = hammer.stop().await;
    check_records(url, &seen.received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_is_on_record_after_kills_on_sqlite() {
    let fleet = Fleet::on_sqlite(&["central"]);
    survives_kills(&fleet, &sqlite_url(&fleet)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_received_is_on_record_after_kills_on_postgres() {
    let Some(postgres) = postgres("what_was_received_is_on_record_after_kills_on_postgres") else {
        return;
    };
    let url = postgres.create_database().unwrap();
    let fleet = Fleet::on_postgres(&url, &["central"]);
    survives_kills(&fleet, &url).await;
}

fn postgres(test: &str) -> Option<Postgres> {
    if Postgres::binaries().is_none() {
        tests::parts::skip(test, "no Postgres; see tests/parts/install");
        return None;
    }
    Some(Postgres::start().unwrap())
}

/// The connection's last GOAWAY says up to which stream the server went; a later one it has not begun (RFC 9113 §6.8), and a
/// client may send it again elsewhere.
fn was_not_begun(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        }
        source = error.source();
    }
    false
}

/// A stop by SIGTERM under load: calls under way are answered, later ones are told to try again.
async fn stops_gracefully(fleet: &Fleet, url: &str) {
    let mut server = fleet.serve();
    let hammer = Hammer::start(&server, calls(fleet), CLIENTS).await;
    hammer.more_certificates(50).await;
    let stopped = tokio::task::spawn_blocking(move || {
        let clean = server.process().terminate();
        (server, clean)
    });
    let (server, clean) = stopped.await.unwrap();
    assert!(clean, "{}", server.log().lines().join("\n"));
    assert_eq!(
        server.log().count("cut off"),
        0,
        "the drain was long enough"
    );
    hammer.turn_over().await;
    let seen = hammer.stop().await;
    for status in &seen.refused {
        // CANCELLED is the client's own word for a call that it had not sent when the connection closed.
        let own = status.code() == Code::Cancelled && std::error::Error::source(status).is_some();
        let told = status.code() == Code::Unavailable || was_not_begun(status);
        assert!(own || told, "{status:?}");
    }
    check_records(url, &seen.received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_nothing_on_sqlite() {
    let fleet = Fleet::on_sqlite(&["central"]);
    stops_gracefully(&fleet, &sqlite_url(&fleet)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_nothing_on_postgres() {
    let Some(postgres) = postgres("a_stop_under_load_loses_nothing_on_postgres") else {
        return;
    };
    let url = postgres.create_database().unwrap();
    let fleet = Fleet::on_postgres(&url, &["central"]);
    stops_gracefully(&fleet, &url).await;
}

/// Two servers that began from one copy of a store draw their own randomness: no serial number is drawn twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_from_one_snapshot_draw_no_serial_number_twice() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut first = fleet.serve();
    assert!(
        first.process().terminate(),
        "the file alone is the snapshot"
    );
    let copy = fleet.path("copy.db");
    std::fs::copy(fleet.path("ca.db"), &copy).unwrap();
    let mut other = fleet.ca_server(&["serve"]);
    other.env("SIGNET__STORE__URL", format!("sqlite://{}", copy.display()));
    let servers = [fleet.serve(), Server::start(&mut other, &fleet)];
    let mut hammers = Vec::new();
    for server in &servers {
        hammers.push(Hammer::start(server, calls(&fleet), CLIENTS).await);
    }
    let mut drawn = BTreeSet::new();
    let mut received = 0;
    for hammer in hammers {
        hammer.more_certificates(500).await;
        let seen = hammer.stop().await;
        assert_eq!(seen.by_issuer.len(), 1, "one authority");
        received += seen.received.len();
        drawn.extend(seen.received);
    }
    assert_eq!(drawn.len(), received, "a serial number was drawn twice");
    // What tells them apart is 128 random bits: no bit is the same in all.
    let bits = |serial: &Serial| u128::from_be_bytes(serial.as_bytes()[3..19].try_into().unwrap());
    let (all, none) = drawn
        .iter()
        .map(bits)
        .fold((u128::MAX, 0), |(all, any), bits| (all & bits, any | bits));
    assert_eq!((all, none), (0, u128::MAX), "bits that never change");
}
