//! The trail in a file and at a collector.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pki::audit::{Entry, Walk};
use proto::otlp::any_value::Value;
use proto::otlp::logs_service_server::{LogsService, LogsServiceServer};
use proto::otlp::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use tests::disturbance::SmallDisk;
use tests::fleet::Server;
use tests::http::get;
use tests::parts::repository;
use tests::process::{output, run};
use tests::requests::{KeyAndRequest, create_certificate};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::{HERE, Installation, PATIENCE, THERE, chain, entry};

/// What collects log records, when it does.
#[derive(Clone, Default)]
struct Collector {
    is_away: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<Entry>>>,
    news: Arc<Notify>,
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Status::unavailable("not now"));
        }
        for resource in request.into_inner().resource_logs {
            let attributes = resource.resource.unwrap().attributes;
            assert!(attributes.iter().any(|it| it.key == "service.name"));
            for record in resource
                .scope_logs
                .into_iter()
                .flat_map(|it| it.log_records)
            {
                let Some(Value::StringValue(line)) = record.body.unwrap().value else {
                    return Err(Status::invalid_argument("no line"));
                };
                let entry: Entry = serde_json::from_str(&line).unwrap();
                assert_eq!(record.event_name, entry.kind);
                assert_eq!(
                    record.time_unix_nano,
                    u64::try_from(entry.at.unix()).unwrap() * 1_000_000_000
                );
                self.taken.lock().unwrap().push(entry);
            }
        }
        self.news.notify_one();
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl Collector {
    /// Begins to listen, and tells where.
    fn start(&self) -> String {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = LogsServiceServer::new(self.clone());
        TaskTracker::new().spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        format!("http://{address}")
    }

    /// Waits until it has this entry.
    async fn has(&self, wanted: &Entry) {
        let arrived = async {
            while !self.taken.lock().unwrap().contains(wanted) {
                self.news.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.unwrap();
    }

    /// What it has of a chain, each once; that each was hashed as it is, and none is missing.
    fn chain(&self, replica: &str) -> usize {
        let taken = self.taken.lock().unwrap();
        let entries: BTreeSet<_> = taken
            .iter()
            .filter(|entry| entry.replica == replica)
            .map(|entry| (entry.position, serde_json::to_string(entry).unwrap()))
            .collect();
        let mut walk = Walk::of(replica);
        for (_, line) in &entries {
            walk.take(&serde_json::from_str(line).unwrap()).unwrap();
        }
        entries.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_every_entry_whoever_dies_meanwhile() {
    let installation = Installation::on_sqlite();
    let store = installation.store().await;
    let collector = Collector::default();
    let url = collector.start();
    let fleet = &installation.fleet;
    fleet.configure(&format!("[audit]\notlp = \"{url}\"\n"));
    run(&mut fleet.ca_server(&["config", "check"]));

    let mut server = fleet.serve();
    let started = entry(&store, |entry| entry.kind == "server.start").await;
    collector.has(&started).await;
    // What is done while it is away follows, that of others' chains too.
    collector.is_away.store(true, Ordering::SeqCst);
    installation.act_here();
    installation.act_there();
    server.log().wait_for(&["the audit trail is not handed on"]);
    assert!(metric(&server, "signet_audit_export_behind{sink=\"otlp\"}") > 0);
    server.process().kill();
    collector.is_away.store(false, Ordering::SeqCst);
    let mut server = fleet.serve();
    let done = chain(&store, THERE).await.pop().unwrap();
    collector.has(&done).await;
    let again = entry(&store, |entry| {
        entry.kind == "server.start" && entry.position > started.position
    })
    .await;
    collector.has(&again).await;
    assert!(collector.chain(HERE) > 3);
    assert_eq!(collector.chain(THERE), 1);
    assert!(server.process().terminate());
}

fn metric(server: &Server, name: &str) -> i64 {
    let text = get(server.ops, "/metrics").unwrap().text();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value
        .unwrap_or_else(|| panic!("no {name} in\n{text}"))
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_exported_file_stops_the_file_alone() {
    let test = "a_full_disk_under_the_exported_file_stops_the_file_alone";
    let Some(disk) = SmallDisk::of_megabytes(1) else {
        let reason = "this user may not mount a tmpfs; run it as root";
        return tests::parts::skip(test, reason);
    };
    let installation = Installation::on_sqlite();
    let store = installation.store().await;
    let fleet = &installation.fleet;
    let file = disk.path("audit.jsonl");
    fleet.configure(&format!("[audit]\nfile = \"{}\"\n", file.display()));
    let mut server = fleet.serve();
    wait_for_line(
        &file,
        &entry(&store, |entry| entry.kind == "server.start").await,
    )
    .await;
    disk.fill();
    installation.act_here();
    server
        .log()
        .wait_for(&["the audit trail is not handed on", "audit.jsonl"]);
    assert_eq!(metric(&server, "signet_audit_export_up{sink=\"file\"}"), 0);
    assert!(metric(&server, "signet_audit_export_behind{sink=\"file\"}") > 0);
    // The store takes what it takes, and certificates are issued.
    installation.act_here();
    let mut istio = server.istio().await;
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let csr = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/foo/sa/bar"]).pem();
    create_certificate(&mut istio, &token, "central", &csr, 0)
        .await
        .unwrap();
    let last = chain(&store, HERE).await.pop().unwrap();
    assert_eq!(last.kind, "enrolment.create");
    disk.make_room();
    server
        .log()
        .wait_for(&["the audit trail is handed on again"]);
    wait_for_line(&file, &last).await;
    assert!(server.process().terminate());

    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let (whole, said) = installation.verify(&["--against", file.to_str().unwrap()]);
    assert!(whole, "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let read = |line: &str| serde_json::from_str::<Entry>(line).unwrap();
    let mut walk = Walk::of(HERE);
    for entry in text.lines().map(read).filter(|it| it.replica == HERE) {
        walk.take(&entry).unwrap();
    }
    assert!(walk.next() > last.position);
    // The same lines by hand are the same lines, chain by chain.
    let by_hand = fleet.path("by-hand.jsonl");
    run(fleet.ca_server(&["audit", "export", "--out"]).arg(&by_hand));
    let exported = std::fs::read_to_string(&by_hand).unwrap();
    let exported: BTreeSet<_> = exported.lines().collect();
    assert!(text.lines().all(|line| exported.contains(line)));
    by_strangers(&file, &by_hand);
    // A line that was changed afterwards is told apart from a trail that was.
    let forged = text.replacen("cli:", "cli:x", 1);
    std::fs::write(&by_hand, forged).unwrap();
    let (whole, said) = installation.verify(&["--against", by_hand.to_str().unwrap()]);
    assert!(!whole);
    assert!(said.contains("the line itself was changed"), "{said}");
}

/// Waits until a file has an entry's line.
async fn wait_for_line(file: &Path, entry: &Entry) {
    let line = serde_json::to_string(entry).unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(file).is_ok_and(|text| text.contains(&line)) {
        assert!(begun.elapsed() < PATIENCE, "no {line}");
        // The file is written by another process, which says nothing of it.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Verifies both files by what docs/audit.md gives to those who do not have our programs.
fn by_strangers(file: &Path, by_hand: &Path) {
    let test = "a_full_disk_under_the_exported_file_stops_the_file_alone";
    if Command::new("python3").arg("--version").output().is_err() {
        return tests::parts::skip(test, "no python3; lines are verified by our own code alone");
    }
    let page = std::fs::read_to_string(repository().join("docs/audit.md")).unwrap();
    let (_, program) = page
        .split_once("Without any of our programs, then:\n")
        .unwrap();
    let lines = program.lines().skip(1);
    let program: Vec<_> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    let program = program.join("\n");
    for file in [file, by_hand] {
        let said = run(Command::new("python3").args(["-c", &program]).arg(file));
        assert!(said.contains(HERE), "{said}");
        let text = std::fs::read_to_string(file).unwrap();
        let broken = file.with_extension("broken");
        std::fs::write(&broken, text.replacen("cli:", "cli:x", 1)).unwrap();
        let refused = output(Command::new("python3").args(["-c", &program]).arg(&broken));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("is not whole at position"), "{said}");
    }
}
