//! `store-load`: what a store with many records costs its readers: pages of every search, backup and restore.
//!
//! Fills a private Postgres or SQLite, and prints what each took. Load, program and database share the machine.

#![expect(
    clippy::unwrap_used,
    reason = "a load program fails by panicking, where it failed"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ca_server::store::Store;
use ca_server::store::model::{NewRecord, RecordCursor, RecordFilter, RecordState, StatusChange};
use clap::Parser;
use pki::crypto::sha256;
use pki::name::{AuthorityId, ClusterName, ProfileName};
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};
use ring::rand::{SecureRandom, SystemRandom};
use tests::fleet::Fleet;
use tests::postgres::Postgres;
use tests::process::run;

/// Fills a store, and times pages, a backup and its restore.
#[derive(Debug, Parser)]
#[command(name = "store-load", version)]
struct Arguments {
    /// Keep records in SQLite instead of a private Postgres.
    #[arg(long)]
    sqlite: bool,
    /// Certificates on record.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// Leave the pages out.
    #[arg(long)]
    no_pages: bool,
    /// Leave backup and restore out.
    #[arg(long)]
    no_backup: bool,
    /// Leave the database as it is at the end, and wait for a line on standard input.
    #[arg(long)]
    hold: bool,
}

/// One in so many is of the rare cluster, caller and profile.
const RARE: usize = 10_000;
/// One in so many is revoked; one in a hundred of them is on hold.
const REVOKED: usize = 100;
/// Records of one second.
const PER_SECOND: usize = 20;
/// A page of the API.
const PAGE: u32 = 100;
/// The records of so many seconds fill the last pages.
const LAST_SECONDS: i64 = 20;

fn main() {
    let arguments = Arguments::parse();
    let postgres = (!arguments.sqlite).then(|| Postgres::start_with(&[]).unwrap());
    let clusters = ["central", "edge"];
    let fleet = match &postgres {
        Some(postgres) => Fleet::on_postgres(&postgres.create_database().unwrap(), &clusters),
        None => Fleet::on_sqlite(&clusters),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ca_server::config::Config::load(&fleet.path("ca-server.toml")).unwrap();
    let store = runtime
        .block_on(ca_server::cli::open(&config))
        .unwrap()
        .store;
    let now = tests::now();
    let began = Instant::now();
    runtime.block_on(fill(&store, arguments.records, now));
    println!(
        "{} records after {:.0} s",
        arguments.records,
        began.elapsed().as_secs_f64()
    );
    if !arguments.no_pages {
        for (what, filter) in filters(now) {
            runtime.block_on(pages(&store, what, &filter, begin(arguments.records, now)));
        }
    }
    if !arguments.no_backup {
        backup(&fleet, postgres.as_ref());
    }
    if arguments.hold {
        if let Some(postgres) = &postgres {
            println!(
                "psql -h {} -U postgres test_0",
                postgres.socket_directory().display()
            );
        }
        println!("{}", fleet.directory().display());
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
}

/// When the first record was issued.
fn begin(records: usize, now: Timestamp) -> Timestamp {
    let seconds = i64::try_from(records / PER_SECOND).unwrap();
    Timestamp::from_unix(now.unix() - seconds)
}

async fn fill(store: &Store, records: usize, now: Timestamp) {
    let random = SystemRandom::new();
    let begin = begin(records, now);
    for first in (0..records).step_by(512) {
        let batch: Vec<_> = (first..records.min(first + 512))
            .map(|n| record(n, begin, &random))
            .collect();
        for result in store.record_batch(&batch).await.unwrap() {
            result.unwrap();
        }
        let revoked: Vec<_> = batch
            .iter()
            .zip(first..)
            .filter(|(_, n)| n.is_multiple_of(REVOKED))
            .map(|(record, n)| StatusChange {
                authority: record.authority.clone(),
                serial: record.serial,
                at: now,
                reason: if n.is_multiple_of(100 * REVOKED) {
                    6
                } else {
                    4
                },
                actor: "load".to_owned(),
                leaf_hash: sha256(record.serial.as_bytes()),
            })
            .collect();
        store.revoke(&revoked, &[]).await.unwrap();
    }
}

/// Certificates of one to seven days, issued over half of one, ten thousand accounts renewing.
fn record(n: usize, begin: Timestamp, random: &SystemRandom) -> NewRecord {
    let mut entropy = [0; 16];
    random.fill(&mut entropy).unwrap();
    let rare = n % RARE == RARE / 2;
    let cluster = ClusterName::parse(if rare { "edge" } else { "central" }).unwrap();
    let seconds = i64::try_from(n / PER_SECOND).unwrap();
    let issued_at = Timestamp::from_unix(begin.unix() + seconds);
    let not_after = issued_at.plus(Ttl::days(u32::try_from(n % 7).unwrap() + 1));
    let digest = sha256(&n.to_be_bytes());
    let mut der = vec![0; 450];
    random.fill(&mut der).unwrap();
    NewRecord {
        authority: AuthorityId::of_cluster(&cluster, 1),
        cluster,
        serial: Serial::issue(not_after, entropy),
        issued_at,
        not_before: issued_at,
        not_after,
        names: vec![format!(
            "URI:spiffe://cluster.local/ns/load/sa/{}",
            n % 10_000
        )],
        key_digest: digest,
        request_digest: digest,
        certificate_digest: digest,
        der,
        caller_kind: "service-account".to_owned(),
        caller: format!("sa:load/{}", if rare { 0 } else { n % 10_000 + 1 }),
        caller_detail: Some(format!(
            "{{\"node\":\"node-{}\",\"pod\":\"load-{n}\"}}",
            n % 100
        )),
        profile: ProfileName::parse(if rare { "server" } else { "workload" }).unwrap(),
        asked_names: Vec::new(),
        asked_ttl: Some(86_400),
        granted_ttl: not_after.seconds_since(issued_at),
        rule: "default".to_owned(),
        bundle_sequence: 1,
        request_id: pki::crypto::hex(&entropy),
        leaf_hash: digest,
    }
}

fn filters(now: Timestamp) -> Vec<(&'static str, RecordFilter)> {
    let all = RecordFilter {
        limit: PAGE,
        ..RecordFilter::ever(now)
    };
    let state = |state| RecordFilter {
        state: Some(state),
        ..all.clone()
    };
    let cluster = |name| RecordFilter {
        cluster: Some(ClusterName::parse(name).unwrap()),
        ..all.clone()
    };
    let caller = |name: &str| RecordFilter {
        caller: Some(name.to_owned()),
        ..all.clone()
    };
    let profile = |name| RecordFilter {
        profile: Some(ProfileName::parse(name).unwrap()),
        ..all.clone()
    };
    let authority = |name| RecordFilter {
        authority: Some(AuthorityId::parse(name).unwrap()),
        ..all.clone()
    };
    let name = "URI:spiffe://cluster.local/ns/load/sa/77".to_owned();
    vec![
        ("all", all.clone()),
        (
            "recent",
            RecordFilter {
                limit: PAGE,
                ..RecordFilter::recent(now)
            },
        ),
        ("cluster central", cluster("central")),
        ("cluster edge (rare)", cluster("edge")),
        ("authority central-1", authority("central-1")),
        ("authority edge-1 (rare)", authority("edge-1")),
        ("caller", caller("sa:load/77")),
        ("caller (rare)", caller("sa:load/0")),
        ("caller (none)", caller("sa:load/x")),
        ("profile workload", profile("workload")),
        ("profile server (rare)", profile("server")),
        (
            "name",
            RecordFilter {
                names: vec![name],
                ..all.clone()
            },
        ),
        (
            "key",
            RecordFilter {
                key: Some(sha256(&77_usize.to_be_bytes())),
                ..all.clone()
            },
        ),
        ("valid", state(RecordState::Valid)),
        ("expired (none)", state(RecordState::Expired)),
        ("revoked", state(RecordState::Revoked)),
        ("held (rare)", state(RecordState::Held)),
        (
            "expires in 12 hours",
            RecordFilter {
                expires_from: now,
                expires_to: now.plus(Ttl::hours(12)),
                ..all.clone()
            },
        ),
        (
            "issued in the last minute",
            RecordFilter {
                issued_from: Some(now.minus(Ttl::minutes(1))),
                ..all.clone()
            },
        ),
        (
            "cluster edge, revoked",
            RecordFilter {
                state: Some(RecordState::Revoked),
                ..cluster("edge")
            },
        ),
    ]
}

/// The first page, the hundredth, and the last ones: of what has more than a hundred, those with the first seconds' records.
async fn pages(store: &Store, what: &str, filter: &RecordFilter, begin: Timestamp) {
    let mut filter = filter.clone();
    let (mut took, mut records) = (Vec::new(), 0);
    loop {
        let before = Instant::now();
        let page = store.search(&filter).await.unwrap();
        took.push(before.elapsed());
        records += page.records.len();
        let Some(next) = page.next else { break };
        filter.after = Some(next);
        if took.len() == 100 && next.issued_at.unix() > begin.unix() + LAST_SECONDS {
            filter.after = Some(RecordCursor {
                issued_at: Timestamp::from_unix(begin.unix() + LAST_SECONDS),
                ..next
            });
        }
    }
    let at = |i: usize| took.get(i).map_or("-".to_owned(), |took| ms(*took));
    println!(
        "{what:<30} {records:>6} in {:>3} pages; first {:>8}, 100th {:>8}, last {:>8}, slowest {:>8}",
        took.len(),
        at(0),
        at(99),
        at(took.len() - 1),
        ms(took.iter().max().copied().unwrap_or_default())
    );
}

fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

/// A backup into either engine again.
fn backup(fleet: &Fleet, postgres: Option<&Postgres>) {
    let file = fleet.path("load.backup");
    std::fs::write(
        fleet.path("backup.passphrase"),
        "a passphrase for backups only",
    )
    .unwrap();
    let with = |arguments: &[&str]| {
        let mut command = fleet.ca_server(arguments);
        command
            .arg(&file)
            .arg("--passphrase-file")
            .arg(fleet.path("backup.passphrase"));
        command
    };
    timed("backup", &mut with(&["backup", "--out"]));
    println!("{} MiB", std::fs::metadata(&file).unwrap().len() >> 20);
    timed("verify", &mut with(&["backup", "verify"]));
    let config = std::fs::read_to_string(fleet.path("ca-server.toml")).unwrap();
    let (_, rest) = config.split_once("url = \"").unwrap();
    let url = rest.split_once('"').unwrap().0;
    let new = match postgres {
        Some(postgres) => postgres.create_database().unwrap(),
        None => format!("sqlite://{}", fleet.path("restored.db").display()),
    };
    fleet.reconfigure(url, &new);
    if postgres.is_some() {
        run(&mut fleet.ca_server(&["migrate"]));
    }
    timed("restore", &mut with(&["restore"]));
    fleet.reconfigure(&new, url);
}

/// Runs it, and prints how long it took and the most memory that it had.
fn timed(what: &str, command: &mut Command) {
    let began = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut most = 0;
    let status = loop {
        let text =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        most = most.max(kib.unwrap_or(0_u64));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{what} failed");
    println!(
        "{what}: {:.1} s, at most {} MiB resident",
        began.elapsed().as_secs_f64(),
        most >> 10
    );
}
