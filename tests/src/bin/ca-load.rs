//! `ca-load`: how many certificates a second, and what each costs.
//!
//! Starts `ca-server` with a private Postgres or SQLite, sends it Istio's calls in a closed loop on a few kept connections,
//! and prints rates, latencies, CPU per certificate and the crypto floor of the same run. Load, server and database share
//! the machine: CPU per certificate is the figure to compare. SQLite runs inside the server, so that its store costs 0 here.
//! At the end every certificate that was handed out must be on record, or there is no measurement.

#![expect(
    clippy::unwrap_used,
    reason = "a load program fails by panicking, where it failed"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use sqlx::{Connection, PgConnection, SqliteConnection};
use tests::fleet::{Fleet, Server};
use tests::load::Calls;
use tests::load::floor::Floor;
use tests::postgres::Postgres;
use tests::process::{cpu_time, resident_bytes};
use tokio::task::JoinSet;

/// Puts load on a `ca-server` of its own and prints what came of it.
#[derive(Debug, Parser)]
#[command(name = "ca-load", version)]
struct Arguments {
    /// The store.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: StoreKind,
    /// Calls in flight.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// How long to measure, after two seconds of warming up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Service accounts, each with a token of its own.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    tokens: u16,
    /// Kept connections.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StoreKind {
    Sqlite,
    Postgres,
}

/// Distinct requests.
const REQUESTS: usize = 2_000;
const WARM_UP: Duration = Duration::from_secs(2);
/// Rounds of cryptography before and after the load.
const FLOOR_ROUNDS: usize = 3_000;

#[derive(Debug, serde::Serialize)]
struct Measured {
    /// Handed out while measuring.
    certificates: usize,
    /// Handed out at all, each of which is on record.
    on_record: usize,
    certificates_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    server_cpu_us_per_certificate: f64,
    store_cpu_us_per_certificate: f64,
    rss_bytes: u64,
    crypto_floor_us: f64,
}

fn main() {
    let arguments = Arguments::parse();
    tests::install_crypto_provider();
    // Syncs to disk, as in production.
    let postgres = match arguments.store {
        StoreKind::Sqlite => None,
        StoreKind::Postgres => Some(Postgres::start_with(&[]).unwrap()),
    };
    let database = postgres.as_ref().map(|p| p.create_database().unwrap());
    let fleet = match &database {
        None => Fleet::on_sqlite(&["central"]),
        Some(url) => Fleet::on_postgres(url, &["central"]),
    };
    let calls = Calls::prepare(&fleet.clusters[0], arguments.tokens.into(), REQUESTS);
    let calls = Arc::new(calls);
    let mut floor = Floor::new(&fleet.clusters[0].tokens);
    floor.measure(&calls, FLOOR_ROUNDS);
    let mut server = fleet.serve();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pid = server.process().id();
    let load = run(&arguments, pid, &server, &calls, postgres.as_ref());
    let mut measured = runtime.block_on(load);
    assert!(server.process().terminate(), "the server stops cleanly");
    let recorded = runtime.block_on(on_record(&fleet, database.as_deref()));
    assert_eq!(
        recorded, measured.on_record,
        "records, and certificates handed out"
    );
    drop(runtime);
    floor.measure(&calls, FLOOR_ROUNDS);
    measured.crypto_floor_us = floor.median_us();
    if arguments.json {
        println!("{}", serde_json::to_string(&measured).unwrap());
    } else {
        print(&measured);
    }
}

/// What the clients share.
#[derive(Default)]
struct Progress {
    measuring: AtomicBool,
    stop: AtomicBool,
    certificates: AtomicUsize,
    answers: AtomicUsize,
}

async fn run(
    arguments: &Arguments,
    pid: u32,
    server: &Server,
    calls: &Arc<Calls>,
    postgres: Option<&Postgres>,
) -> Measured {
    let mut channels = Vec::new();
    for _ in 0..arguments.connections {
        channels.push(server.connect().await);
    }
    let progress = Arc::new(Progress::default());
    let mut clients = JoinSet::new();
    for id in 0..usize::from(arguments.concurrency) {
        let channel = channels[id % channels.len()].clone();
        let mut client = IstioCertificateServiceClient::new(channel);
        let (progress, calls) = (progress.clone(), calls.clone());
        clients.spawn(async move {
            let mut latencies = Vec::new();
            // Clients begin far apart, so that no two share a request for long.
            let mut n = id * 31;
            while !progress.stop.load(Ordering::Relaxed) {
                n += 1;
                let began = Instant::now();
                client.create_certificate(calls.request(n)).await.unwrap();
                progress.answers.fetch_add(1, Ordering::Relaxed);
                if progress.measuring.load(Ordering::Relaxed) {
                    latencies.push(began.elapsed());
                    progress.certificates.fetch_add(1, Ordering::Relaxed);
                }
            }
            latencies
        });
    }
    let cpu = || {
        (
            cpu_time(pid),
            postgres.map_or(Duration::ZERO, |p| p.cpu_time().unwrap()),
        )
    };
    tokio::time::sleep(WARM_UP).await;
    let (server_before, store_before) = cpu();
    let began = Instant::now();
    progress.measuring.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let certificates = progress.certificates.load(Ordering::Relaxed);
    let elapsed = began.elapsed();
    let (server_after, store_after) = cpu();
    let rss_bytes = resident_bytes(pid);
    progress.stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        // One refused call spoils the measurement, and ends the program.
        latencies.extend(client.unwrap());
    }
    latencies.sort_unstable();
    let percentile = |percent: usize| {
        let at = (latencies.len() * percent / 100).min(latencies.len() - 1);
        latencies[at].as_secs_f64() * 1e3
    };
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let each = |total: Duration| total.as_secs_f64() * 1e6 / certificates.max(1) as f64;
    Measured {
        certificates,
        on_record: progress.answers.load(Ordering::Relaxed),
        certificates_per_second: 1e6 / each(elapsed),
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        server_cpu_us_per_certificate: each(server_after - server_before),
        store_cpu_us_per_certificate: each(store_after - store_before),
        rss_bytes,
        crypto_floor_us: 0.0,
    }
}

/// Workloads' certificates on record.
async fn on_record(fleet: &Fleet, postgres: Option<&str>) -> usize {
    const COUNT: &str = "SELECT count(*) FROM certificate WHERE profile = 'workload'";
    let count: i64 = match postgres {
        Some(url) => {
            let mut store = PgConnection::connect(url).await.unwrap();
            let count = sqlx::query_scalar(COUNT).fetch_one(&mut store).await;
            count.unwrap()
        }
        None => {
            let url = format!("sqlite://{}", fleet.path("ca.db").display());
            let mut store = SqliteConnection::connect(&url).await.unwrap();
            let count = sqlx::query_scalar(COUNT).fetch_one(&mut store).await;
            count.unwrap()
        }
    };
    usize::try_from(count).unwrap()
}

fn print(measured: &Measured) {
    let Measured {
        certificates,
        on_record,
        certificates_per_second,
        p50_ms,
        p99_ms,
        server_cpu_us_per_certificate: server,
        store_cpu_us_per_certificate: store,
        rss_bytes,
        crypto_floor_us: floor,
    } = measured;
    println!("{certificates} certificates, {on_record} with those of warming up, all on record");
    println!("{certificates_per_second:.0} certificates/s, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms");
    println!("CPU per certificate: server {server:.1} µs, store {store:.1} µs");
    println!(
        "crypto floor {floor:.1} µs, server CPU / floor {:.2}",
        server / floor
    );
    println!("server memory {} KiB", rss_bytes / 1024);
}
