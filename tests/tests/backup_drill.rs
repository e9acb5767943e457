//! The machine is lost: a backup, taken while everything went on, becomes a store elsewhere, on either engine, and nothing that
//! somebody has seen goes back.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ca_server::store::model::{AuditFilter, RecordFilter};
use ca_server::store::transfer::{Dumped, LEFT_OUT, Table, Value};
use ca_server::store::{Store, StoreUrl};
use pki::certificate::Certificate;
use pki::ocsp::{CertId, HashAlgorithm, Status};
use pki::serial::Serial;
use proto::istio::auth::IstioCertificateRequest;
use proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use sqlx::{Connection, PgConnection, SqliteConnection};
use tests::fleet::{Fleet, Server};
use tests::http::request;
use tests::inside::{request as ocsp_request, status};
use tests::istio::wait_until;
use tests::load::Calls;
use tests::load::hammer::Hammer;
use tests::postgres::Postgres;
use tests::process::{output, run};
use tests::requests::{KeyAndRequest, create_certificate};
use tests::status::{crl, crl_after, issue};

const SQLITE: bool = false;
const POSTGRES: bool = true;
const PASSPHRASE: &str = "a passphrase for backups only\n";

/// A Postgres, if one of these needs it; `None` when there is none and the test is to be skipped.
fn databases(test: &str, engines: [bool; 2]) -> Option<Option<Postgres>> {
    if !engines.contains(&POSTGRES) {
        return Some(None);
    }
    if Postgres::binaries().is_none() {
        tests::parts::skip(test, "no Postgres; see tests/parts/install");
        return None;
    }
    Some(Some(Postgres::start().unwrap()))
}

/// An installation on this engine, with a passphrase for backups.
fn installation(engine: bool, postgres: Option<&Postgres>) -> Fleet {
    let fleet = match (engine, postgres) {
        (POSTGRES, Some(postgres)) => {
            Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"])
        }
        _ => Fleet::on_sqlite(&["central"]),
    };
    std::fs::write(fleet.path("backup.passphrase"), PASSPHRASE).unwrap();
    fleet
}

fn url(fleet: &Fleet) -> String {
    let config = std::fs::read_to_string(fleet.path("ca-server.toml")).unwrap();
    let (_, rest) = config.split_once("url = \"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

async fn open(url: &str) -> Store {
    Store::open(&StoreUrl::parse(url).unwrap()).await.unwrap()
}

/// The same installation on a machine that has nothing yet but its configuration: a new database.
fn another_machine(fleet: &Fleet, engine: bool, postgres: Option<&Postgres>) {
    let folder = tempfile::tempdir_in(fleet.directory()).unwrap().keep();
    let new = match (engine, postgres) {
        (POSTGRES, Some(postgres)) => postgres.create_database().unwrap(),
        _ => format!("sqlite://{}/ca.db", folder.display()),
    };
    fleet.reconfigure(&url(fleet), &new);
    if engine == POSTGRES {
        run(&mut fleet.ca_server(&["migrate"]));
    }
}

fn command(fleet: &Fleet, arguments: &[&str], file: &str) -> Command {
    let mut command = fleet.ca_server(arguments);
    command
        .arg(fleet.path(file))
        .arg("--passphrase-file")
        .arg(fleet.path("backup.passphrase"));
    command
}

fn backup(fleet: &Fleet, file: &str) -> String {
    run(&mut command(fleet, &["backup", "--out"], file))
}

fn refused(command: &mut Command, why: &str) {
    let said = output(command);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        !said.status.success() && text.contains(why),
        "not {why:?}: {text}"
    );
}

/// A workload's certificate with its key.
struct Workload {
    key: KeyAndRequest,
    chain: Vec<String>,
}

impl Workload {
    async fn new(fleet: &Fleet, server: &Server, account: &str) -> Self {
        let key = KeyAndRequest::for_uris(&[&id(account)]);
        let token = fleet.clusters[0].tokens.token("ns", account);
        let mut client = server.istio().await;
        let answer = create_certificate(&mut client, &token, "central", &key.pem(), 3600).await;
        let chain = answer.unwrap().cert_chain;
        Self { key, chain }
    }

    fn certificate(&self) -> Certificate {
        Certificate::parse_pem(self.chain[0].as_bytes())
            .unwrap()
            .remove(0)
    }

    /// By the certificate alone.
    async fn renew(&self, server: &Server, account: &str) -> Result<Certificate, tonic::Status> {
        let (chain, key) = (self.chain[..2].concat(), self.key.key.serialize_pem());
        let channel = server.connect_as(Some((&chain, &key))).await.unwrap();
        let next = KeyAndRequest::for_uris(&[&id(account)]);
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: next.pem(),
            validity_duration: 3600,
            metadata: None,
        });
        let cluster = "central".parse().unwrap();
        request.metadata_mut().insert("clusterid", cluster);
        let mut client = IstioCertificateServiceClient::new(channel);
        let answer = client.create_certificate(request).await?.into_inner();
        Ok(Certificate::parse_pem(answer.cert_chain[0].as_bytes())
            .unwrap()
            .remove(0))
    }

    /// What OCSP says of it.
    fn status(&self, server: &Server) -> Status {
        let issuer = Certificate::parse_pem(self.chain[1].as_bytes())
            .unwrap()
            .remove(0);
        let key = issuer.public_key().unwrap();
        let serial = self.certificate().serial();
        let id = CertId::new(HashAlgorithm::Sha256, issuer.subject(), key.raw(), &serial);
        let headers = [("content-type", "application/ocsp-request")];
        let answer = request(
            server.public,
            "POST",
            "/ocsp",
            &headers,
            &ocsp_request(&[id]),
        );
        status(&answer.unwrap().body)
    }
}

fn id(account: &str) -> String {
    format!("spiffe://cluster.local/ns/ns/sa/{account}")
}

fn revoke(fleet: &Fleet, serial: Serial) {
    let serial = serial.to_string();
    let arguments = [
        "revoke",
        "--serial",
        &serial,
        "--reason",
        "superseded",
        "--yes",
    ];
    run(&mut fleet.ca_server(&arguments));
}

/// How many rows each table has, as a backup's summary tells.
fn rows(summary: &str) -> BTreeMap<String, u64> {
    let lines = summary
        .lines()
        .filter_map(|line| line.strip_suffix(" rows"));
    let counts = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let (table, rows) = (words.next()?, words.next()?);
        Some((table.to_owned(), rows.parse().ok()?))
    });
    counts.collect()
}

async fn drill(test: &str, from: bool, to: bool) {
    let Some(postgres) = databases(test, [from, to]) else {
        return;
    };
    let fleet = installation(from, postgres.as_ref());
    let mut server = fleet.serve();
    let (kept, revoked) = (
        Workload::new(&fleet, &server, "kept").await,
        Workload::new(&fleet, &server, "revoked").await,
    );
    revoke(&fleet, revoked.certificate().serial());
    crl_after(&server, "central-1", 1);
    let hammer = Hammer::start(&server, Calls::prepare(&fleet.clusters[0], 20, 100), 4).await;
    hammer.more_certificates(30).await;
    let acknowledged = hammer.look(|seen| seen.received.clone());
    let made = tokio::task::block_in_place(|| backup(&fleet, "signet.backup"));
    hammer.more_certificates(30).await;
    let refusals = hammer.forget_refusals();
    assert!(refusals.is_empty(), "while it was taken: {refusals:?}");
    hammer.stop().await;

    // What the backup does not know: a certificate, and a revocation.
    let lost = Workload::new(&fleet, &server, "lost").await;
    let number = crl(&server, "central-1").number().unwrap();
    revoke(&fleet, kept.certificate().serial());
    let number = crl_after(&server, "central-1", number).number().unwrap();
    server.process().kill();

    another_machine(&fleet, to, postgres.as_ref());
    let verified = run(&mut command(&fleet, &["backup", "verify"], "signet.backup"));
    assert_eq!(rows(&verified), rows(&made));
    let restored = run(&mut command(&fleet, &["restore"], "signet.backup"));
    assert!(
        restored.contains("central-1") && restored.contains("unknown"),
        "{restored}"
    );
    let again = backup(&fleet, "again.backup");
    let mut expected = rows(&made);
    *expected.entry("audit".to_owned()).or_default() += 1;
    assert_eq!(rows(&again), expected);

    let server = fleet.serve();
    let store = open(&url(&fleet)).await;
    for serial in acknowledged.iter().chain([&kept.certificate().serial()]) {
        assert!(
            store.record(serial).await.unwrap().is_some(),
            "{serial} is not on record"
        );
    }
    assert_eq!(
        store.record(&lost.certificate().serial()).await.unwrap(),
        None
    );
    // The next list comes by itself, with a number that nobody has seen.
    let list = crl_after(&server, "central-1", number);
    assert!(list.lists(&revoked.certificate().serial()));
    assert!(
        !list.lists(&kept.certificate().serial()),
        "nothing can know it"
    );
    assert_eq!(kept.status(&server), Status::Good);
    assert!(matches!(revoked.status(&server), Status::Revoked { .. }));
    assert_eq!(lost.status(&server), Status::Unknown);
    let renewed = kept.renew(&server, "kept").await.unwrap();
    assert!(store.record(&renewed.serial()).await.unwrap().is_some());
    assert!(revoked.renew(&server, "revoked").await.is_err());
    revoke(&fleet, kept.certificate().serial());
    let list = wait_until("the list", || {
        let list = crl(&server, "central-1");
        list.lists(&kept.certificate().serial()).then_some(list)
    });
    assert!(list.number().unwrap() > number + (1 << 16));
    let told = AuditFilter {
        kind: Some("store.restore".to_owned()),
        limit: 2,
        ..AuditFilter::default()
    };
    let told = store.search_audit(&told).await.unwrap();
    assert!(
        told.len() == 1 && told[0].detail.contains("taken_at"),
        "{told:?}"
    );
    store.close().await;
}

macro_rules! drills {
    ($($name:ident: $from:ident to $to:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            drill(stringify!($name), $from, $to).await;
        })*
    };
}

drills!(
    a_lost_sqlite_is_restored: SQLITE to SQLITE,
    a_lost_sqlite_is_restored_into_postgres: SQLITE to POSTGRES,
    a_lost_postgres_is_restored: POSTGRES to POSTGRES,
    a_lost_postgres_is_restored_into_sqlite: POSTGRES to SQLITE,
);

/// Every row of every table whose rows a restore leaves as they are.
async fn contents(url: &str) -> BTreeMap<String, BTreeSet<String>> {
    const MOVED_ON: [&str; 5] = ["crl", "bundle", "change_sequence", "audit", "audit_head"];
    let store = open(url).await;
    let mut contents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut table: Option<Table> = None;
    let mut take = |item: Dumped<'_>| {
        match item {
            Dumped::Origin(_) => {}
            Dumped::Table(next) => table = Some(next.clone()),
            Dumped::Row(row) => {
                let table = table.as_ref().unwrap();
                // By name: the engines' columns may stand in another order.
                let columns = table.columns.iter().map(|(name, _)| name.as_str());
                let row: BTreeMap<&str, &Value> = columns.zip(row).collect();
                let rows = contents.entry(table.name.clone()).or_default();
                rows.insert(format!("{row:?}"));
            }
        }
        Ok(())
    };
    store.dump(&mut take).await.unwrap();
    store.close().await;
    contents.retain(|table, _| !MOVED_ON.contains(&table.as_str()));
    contents
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_comes_back_on_the_other_engine() {
    let test = "every_row_comes_back_on_the_other_engine";
    let Some(postgres) = databases(test, [POSTGRES, SQLITE]) else {
        return;
    };
    let fleet = installation(SQLITE, postgres.as_ref());
    let mut server = fleet.serve();
    let (held, gone) = (
        issue(&fleet, &server, 0, "held").await,
        issue(&fleet, &server, 0, "gone").await,
    );
    revoke(&fleet, gone.serial());
    let serial = held.serial().to_string();
    run(&mut fleet.ca_server(&["hold", "--serial", &serial, "--yes"]));
    fleet.enrolment_token("central", &id("edge"));
    fleet.import_root_crl(7, &[gone.serial()]);
    assert!(server.process().terminate());
    fleet.configure("[public]\nurl = \"http://ca.example\"\n");
    fleet.add_authority_with("central", pki::time::Ttl::days(30), &["--crl-delta"]);
    let before = contents(&url(&fleet)).await;
    for table in [
        "certificate",
        "revocation_log",
        "enrolment",
        "root_crl",
        "installation",
    ] {
        assert!(before.contains_key(table), "no rows of {table} to look at");
    }
    for (round, engine) in [POSTGRES, SQLITE].into_iter().enumerate() {
        let file = format!("{round}.backup");
        backup(&fleet, &file);
        another_machine(&fleet, engine, postgres.as_ref());
        run(&mut command(&fleet, &["restore"], &file));
        assert!(contents(&url(&fleet)).await == before, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_has_every_table_of_the_schema() {
    let Some(postgres) = databases("a_dump_has_every_table_of_the_schema", [POSTGRES, SQLITE])
    else {
        return;
    };
    let mut dumps = Vec::new();
    for engine in [SQLITE, POSTGRES] {
        let fleet = installation(engine, postgres.as_ref());
        let url = url(&fleet);
        let store = open(&url).await;
        let mut tables = store.tables().await.unwrap();
        store.close().await;
        let live: Vec<String> = if engine == POSTGRES {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let statement = "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') \
                 AND relnamespace = 'public'::regnamespace AND NOT relispartition";
            sqlx::query_scalar(statement)
                .fetch_all(&mut connection)
                .await
                .unwrap()
        } else {
            let mut connection = SqliteConnection::connect(&url).await.unwrap();
            let statement = "SELECT name FROM sqlite_schema WHERE type = 'table' \
                 AND name NOT IN ('sqlite_sequence', 'sqlite_stat1')";
            sqlx::query_scalar(statement)
                .fetch_all(&mut connection)
                .await
                .unwrap()
        };
        let dumped = tables
            .iter()
            .map(|table| table.name.as_str())
            .chain(LEFT_OUT);
        let dumped: BTreeSet<_> = dumped.collect();
        assert_eq!(dumped, live.iter().map(String::as_str).collect());
        for table in &mut tables {
            table.columns.sort_by(|a, b| a.0.cmp(&b.0));
        }
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        dumps.push(tables);
    }
    assert_eq!(
        dumps[0], dumps[1],
        "what one engine has and the other has not"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_backup_of_this_installation_is_refused() {
    let fleet = installation(SQLITE, None);
    let server = fleet.serve();
    for account in ["a", "b", "c"] {
        issue(&fleet, &server, 0, account).await;
    }
    backup(&fleet, "good");
    let mode = std::fs::metadata(fleet.path("good")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o600
    );
    refused(
        &mut command(&fleet, &["backup", "--out"], "good"),
        "nothing is overwritten",
    );
    refused(
        &mut command(&fleet, &["restore"], "good"),
        "the store is not empty",
    );
    drop(server);
    another_machine(&fleet, SQLITE, None);
    let database = PathBuf::from(url(&fleet).strip_prefix("sqlite://").unwrap());

    let whole = std::fs::read(fleet.path("good")).unwrap();
    let header = whole
        .windows(4)
        .position(|bytes| bytes == b"\n---")
        .unwrap();
    let regions = [
        (3, "age's format"),
        (30, "age's format"),
        (45, "the passphrase is another one"),
        (header - 5, "the passphrase is another one"),
        (header + 20, "the passphrase is another one"),
        (header + 55, "changed or cut off"),
        (header + 90, "changed or cut off"),
        (whole.len() / 2, "changed or cut off"),
        (whole.len() - 1, "changed or cut off"),
    ];
    for (at, why) in regions {
        let mut bytes = whole.clone();
        // To another letter, where it is one.
        bytes[at] = if bytes[at] == b'B' { b'C' } else { b'B' };
        std::fs::write(fleet.path("bad"), bytes).unwrap();
        refused(&mut command(&fleet, &["restore"], "bad"), why);
    }
    for length in [0, 50, header + 60, whole.len() - 1] {
        std::fs::write(fleet.path("bad"), &whole[..length]).unwrap();
        refused(&mut command(&fleet, &["restore"], "bad"), "the backup: ");
    }
    refused(
        &mut command(&fleet, &["backup", "verify"], "bad"),
        "changed or cut off",
    );
    std::fs::write(fleet.path("backup.passphrase"), "another passphrase").unwrap();
    refused(
        &mut command(&fleet, &["restore"], "good"),
        "the passphrase is another one",
    );
    std::fs::write(fleet.path("backup.passphrase"), PASSPHRASE).unwrap();
    // Another installation's keys.
    let keys = std::fs::read(fleet.path("passphrase")).unwrap();
    std::fs::write(fleet.path("passphrase"), "of another installation").unwrap();
    refused(
        &mut command(&fleet, &["restore"], "good"),
        "does not open the installation's keys",
    );
    std::fs::write(fleet.path("passphrase"), keys).unwrap();
    assert!(
        !database.exists(),
        "a restore that fails leaves no store behind"
    );
    run(&mut command(&fleet, &["restore"], "good"));
    refused(
        &mut command(&fleet, &["restore"], "good"),
        "the store is not empty",
    );
    let store = open(&url(&fleet)).await;
    let page = store
        .search(&RecordFilter::recent(tests::now()))
        .await
        .unwrap();
    assert!(page.records.len() >= 3);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_to_an_older_state_is_noticed() {
    let test = "a_restore_to_an_older_state_is_noticed";
    let Some(postgres) = databases(test, [POSTGRES, SQLITE]) else {
        return;
    };
    for engine in [SQLITE, POSTGRES] {
        let fleet = installation(engine, postgres.as_ref());
        let mark = fleet.path("mark");
        let line = format!("watermark_file = \"{}\"\n[keys]", mark.display());
        fleet.reconfigure("[keys]", &line);
        let mut server = fleet.serve();
        let leaf = issue(&fleet, &server, 0, "a").await;
        backup(&fleet, "older");
        let before = crl(&server, "central-1").number().unwrap();
        issue(&fleet, &server, 0, "b").await;
        revoke(&fleet, leaf.serial());
        let number = crl_after(&server, "central-1", before).number().unwrap();
        wait_until("the watermark", || {
            let text = std::fs::read_to_string(&mark).ok()?;
            text.contains(&format!("\"crl_number\": {number}"))
                .then_some(())
        });
        server.process().kill();
        another_machine(&fleet, engine, postgres.as_ref());
        let said = run(&mut command(&fleet, &["restore"], "older"));
        let lost = said
            .lines()
            .find(|line| line.starts_with("lost of central-1"));
        let lost = lost.unwrap_or_else(|| panic!("{said}"));
        assert!(lost.contains("2 log entries"), "{lost}");
        assert!(
            lost.contains(&format!("CRL numbers {} to {number}", before + 1)),
            "{lost}"
        );
        refused(&mut fleet.ca_server(&["serve"]), "the store has gone back");
        run(&mut fleet.ca_server(&["store", "accept", "--yes"]));
        let server = fleet.serve();
        crl_after(&server, "central-1", number);
    }
}

/// Debian's `age`, or any other one, reads what we write: nobody needs us to open a backup.
#[test]
fn the_tool_age_opens_a_backup() {
    let test = "the_tool_age_opens_a_backup";
    if Command::new("age").arg("--version").output().is_err() {
        return tests::parts::skip(test, "no age; see tests/parts/install");
    }
    let fleet = installation(SQLITE, None);
    backup(&fleet, "signet.backup");
    // It asks on a terminal alone, which `script` makes; what is typed before it asks is lost.
    let decrypt = format!(
        "age -d -o contents {}",
        fleet.path("signet.backup").display()
    );
    let mut asking = Command::new("script")
        .args(["-qefc", &decrypt, "/dev/null"])
        .current_dir(fleet.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = asking.stdout.take().unwrap();
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"passphrase: ") {
        assert!(
            terminal.read(&mut byte).unwrap() > 0,
            "{}",
            String::from_utf8_lossy(&said)
        );
        said.push(byte[0]);
    }
    let mut keyboard = asking.stdin.take().unwrap();
    keyboard.write_all(PASSPHRASE.as_bytes()).unwrap();
    terminal.read_to_end(&mut said).unwrap();
    assert!(
        asking.wait().unwrap().success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    let contents = std::fs::read_to_string(fleet.path("contents")).unwrap();
    assert!(contents.starts_with("{\"format\":\"signet-backup\",\"version\":1,"));
    assert!(contents.lines().last().unwrap().starts_with("{\"end\":"));
}
