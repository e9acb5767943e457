//! `status-load`: what telling of revocations costs, with many certificates on record and many of them revoked.
//!
//! Fills a private Postgres or SQLite, starts `ca-server`, revokes as an operator would while it runs, and has `wrk` ask
//! its OCSP responder. Load, server and database share the machine.

#![expect(
    clippy::unwrap_used,
    reason = "a load program fails by panicking, where it failed"
)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ca_server::store::Store;
use ca_server::store::model::{NewRecord, StatusChange};
use clap::Parser;
use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::crypto::sha256;
use pki::name::{AuthorityId, ClusterName, ProfileName};
use pki::ocsp::{CertId, HashAlgorithm};
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};
use ring::rand::{SecureRandom, SystemRandom};
use tests::fleet::{Fleet, Server};
use tests::http::get;
use tests::postgres::Postgres;
use tests::process::{output, resident_bytes};

/// Fills a store, revokes, asks, and prints what it cost.
#[derive(Debug, Parser)]
#[command(name = "status-load", version)]
struct Arguments {
    /// Keep records in SQLite instead of a private Postgres.
    #[arg(long)]
    sqlite: bool,
    /// Certificates on record.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// How many of them are revoked.
    #[arg(long, default_value_t = 100_000)]
    revoked: usize,
    /// How long each kind of OCSP request is sent.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The load's connections.
    #[arg(long, default_value_t = 64)]
    connections: u32,
}

/// Revocations that are timed one by one.
const TIMED: usize = 500;
/// Lists whose way to a reader is timed.
const LISTS: usize = 5;
/// Serial numbers that OCSP is asked for.
const HOT: usize = 1_000;

fn main() {
    let arguments = Arguments::parse();
    let postgres = (!arguments.sqlite).then(|| Postgres::start_with(&[]).unwrap());
    let fleet = match &postgres {
        Some(postgres) => Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"]),
        None => Fleet::on_sqlite(&["central"]),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ca_server::config::Config::load(&fleet.path("ca-server.toml")).unwrap();
    let context = runtime.block_on(ca_server::cli::open(&config)).unwrap();
    let load = Load {
        store: context.store.clone(),
        authority: AuthorityId::of_cluster(&ClusterName::parse("central").unwrap(), 1),
        now: tests::now(),
    };
    let began = Instant::now();
    let serials = runtime.block_on(load.fill(arguments.records));
    println!(
        "{} certificates on record after {:.0} s",
        serials.len(),
        began.elapsed().as_secs_f64()
    );
    let mut fresh = serials.iter().copied();
    let mut server = fleet.serve();
    let few = 1_000.min(arguments.revoked);
    runtime.block_on(load.measure(&server, &mut fresh, few));
    runtime.block_on(load.measure(&server, &mut fresh, arguments.revoked - few));
    println!(
        "server RSS {} MiB",
        resident_bytes(server.process().id()) >> 20
    );
    ask(&arguments, &fleet, &server, &runtime, &load, &serials);
    println!(
        "server RSS {} MiB",
        resident_bytes(server.process().id()) >> 20
    );
    assert!(server.process().terminate(), "the server stops cleanly");
}

struct Load {
    store: Store,
    authority: AuthorityId,
    now: Timestamp,
}

impl Load {
    async fn fill(&self, records: usize) -> Vec<Serial> {
        let random = SystemRandom::new();
        let mut serials = Vec::with_capacity(records);
        while serials.len() < records {
            let batch: Vec<_> = (serials.len()..records.min(serials.len() + 512))
                .map(|n| self.record(n, &random))
                .collect();
            for result in self.store.record_batch(&batch).await.unwrap() {
                result.unwrap();
            }
            serials.extend(batch.iter().map(|record| record.serial));
        }
        serials
    }

    fn record(&self, n: usize, random: &SystemRandom) -> NewRecord {
        let mut entropy = [0; 16];
        random.fill(&mut entropy).unwrap();
        let not_after = self.now.plus(Ttl::days(7));
        let digest = sha256(&n.to_be_bytes());
        NewRecord {
            authority: self.authority.clone(),
            cluster: ClusterName::parse("central").unwrap(),
            serial: Serial::issue(not_after, entropy),
            issued_at: self.now,
            not_before: self.now,
            not_after,
            names: vec![format!("URI:spiffe://cluster.local/ns/load/sa/{n}")],
            key_digest: digest,
            request_digest: digest,
            certificate_digest: digest,
            // As large as a workload's certificate.
            der: vec![0x30; 450],
            caller_kind: "service-account".to_owned(),
            caller: format!("sa:load/{}", n % 1_000),
            caller_detail: None,
            profile: ProfileName::parse("workload").unwrap(),
            asked_names: Vec::new(),
            asked_ttl: None,
            granted_ttl: 7 * 86_400,
            rule: "load".to_owned(),
            bundle_sequence: 1,
            request_id: String::new(),
            leaf_hash: digest,
        }
    }

    fn change(&self, serial: Serial) -> StatusChange {
        StatusChange {
            authority: self.authority.clone(),
            serial,
            at: self.now,
            reason: 4,
            actor: "load".to_owned(),
            leaf_hash: sha256(serial.as_bytes()),
        }
    }

    /// Revokes `many`, then times single ones, and lists on their way to a reader.
    async fn measure(
        &self,
        server: &Server,
        fresh: &mut impl Iterator<Item = Serial>,
        many: usize,
    ) {
        let timed = TIMED + LISTS;
        let all: Vec<_> = fresh
            .by_ref()
            .take(many.saturating_sub(timed))
            .map(|serial| self.change(serial))
            .collect();
        let began = Instant::now();
        for batch in all.chunks(512) {
            self.store.revoke(batch, &[]).await.unwrap();
        }
        println!(
            "{} revoked in batches after {:.1} s",
            all.len(),
            began.elapsed().as_secs_f64()
        );
        let mut took = Vec::new();
        for serial in fresh.by_ref().take(TIMED) {
            let began = Instant::now();
            self.store
                .revoke(&[self.change(serial)], &[])
                .await
                .unwrap();
            took.push(began.elapsed());
        }
        took.sort_unstable();
        println!(
            "a revocation: p50 {:.2} ms, p99 {:.2} ms",
            took[took.len() / 2].as_secs_f64() * 1e3,
            took[took.len() * 99 / 100].as_secs_f64() * 1e3
        );
        for _ in 0..LISTS {
            let serial = fresh.next().unwrap();
            let began = Instant::now();
            self.store
                .revoke(&[self.change(serial)], &[])
                .await
                .unwrap();
            let (crl, bytes) = self.listed(server, &serial);
            println!(
                "served after {:.2} s: CRL number {} of {} entries, {} bytes",
                began.elapsed().as_secs_f64(),
                crl.number().unwrap(),
                crl.revoked().len(),
                bytes
            );
        }
        let built = server.log().lines();
        let built = built
            .iter()
            .rev()
            .find(|line| line.contains("CRL published"));
        println!("{}", built.map_or("", |line| line.as_str()));
    }

    fn listed(&self, server: &Server, serial: &Serial) -> (Crl, usize) {
        let path = format!("/crls/{}.crl", self.authority);
        loop {
            let answer = get(server.public, &path).unwrap();
            let crl = Crl::parse(&answer.body).unwrap();
            if crl.lists(serial) {
                return (crl, answer.body.len());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Requests of which many are alike, which come from the cache, and with a nonce each, which are signed one by one.
fn ask(
    arguments: &Arguments,
    fleet: &Fleet,
    server: &Server,
    runtime: &tokio::runtime::Runtime,
    load: &Load,
    serials: &[Serial],
) {
    let row = runtime
        .block_on(load.store.authority(&load.authority))
        .unwrap()
        .unwrap();
    let issuer = Certificate::parse(&row.chain[0]).unwrap();
    let hot: Vec<String> = serials
        .iter()
        .step_by(serials.len().div_ceil(HOT))
        .map(|serial| hex(&id(&issuer, serial)))
        .collect();
    let ids = fleet.path("ids.txt");
    std::fs::write(&ids, hot.join("\n")).unwrap();
    for (what, nonce) in [("cached", "false"), ("signed", "true")] {
        let script = fleet.path("ask.lua");
        let text = SCRIPT
            .replace("IDS", &ids.display().to_string())
            .replace("NONCE", nonce);
        std::fs::write(&script, text).unwrap();
        println!("OCSP {what}: {}", wrk(arguments, server, &script));
    }
}

fn id(issuer: &Certificate, serial: &Serial) -> Vec<u8> {
    let key = issuer.public_key().unwrap();
    CertId::new(HashAlgorithm::Sha1, issuer.subject(), key.raw(), serial)
        .der()
        .to_vec()
}

fn hex(bytes: &[u8]) -> String {
    pki::crypto::hex(bytes)
}

fn wrk(arguments: &Arguments, server: &Server, script: &Path) -> String {
    let said = output(
        Command::new("wrk")
            .arg(format!("-c{}", arguments.connections))
            .arg("-t1")
            .arg(format!("-d{}s", arguments.seconds))
            .arg("--latency")
            .arg("-s")
            .arg(script)
            .arg(format!("http://{}/ocsp", server.public)),
    );
    let text = String::from_utf8_lossy(&said.stdout);
    let wanted = ["99%", "Requests/sec", "Non-2xx", "Socket errors"];
    let lines = text
        .lines()
        .filter(|line| wanted.iter().any(|word| line.contains(word)))
        .map(str::trim);
    lines.collect::<Vec<_>>().join("; ")
}

/// OCSPRequest around each CertID; with a nonce (RFC 9654) of 32 octets that are never the same where one is asked for.
const SCRIPT: &str = r#"
local ids = {}
local function tlv(tag, value)
  local n = #value
  if n < 128 then return string.char(tag, n) .. value end
  return string.char(tag, 0x81, n) .. value
end
for line in io.lines("IDS") do
  ids[#ids + 1] = line:gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end)
end
local list = {}
for i, id in ipairs(ids) do list[i] = tlv(0x30, tlv(0x30, id)) end
local oid = "\6\9\43\6\1\5\5\7\48\1\2"
local n = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/ocsp-request"
function request()
  n = n + 1
  local tbs = list[n % #list + 1]
  if NONCE then
    local nonce = string.format("%032d", n)
    tbs = tbs .. tlv(0xa2, tlv(0x30, tlv(0x30, oid .. tlv(4, tlv(4, nonce)))))
  end
  return wrk.format(nil, nil, nil, tlv(0x30, tlv(0x30, tbs)))
end
"#;
