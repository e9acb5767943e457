//! CRLs and OCSP while things break: publishers are killed or sleep, the store is away, the disk full, the clock wrong.
//! Numbers never go back, nothing that was acknowledged is missing, and what is served is whole and in force.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::serial::Serial;
use rustix::process::Signal;
use serde_json::json;
use tests::admin::Admin;
use tests::disturbance::{Clock, SmallDisk, StopOnDrop, libfaketime, with_clock};
use tests::fleet::{Fleet, Server};
use tests::http::{get, request};
use tests::istio::wait_until;
use tests::postgres::Postgres;
use tests::process::{output, resident_bytes, run};
use tests::status::{crl, issue};

fn postgres(test: &str) -> Option<Postgres> {
    if Postgres::binaries().is_none() {
        tests::parts::skip(test, "no Postgres; see tests/parts/install");
        return None;
    }
    Some(Postgres::start().unwrap())
}

/// Whether the revocation was acknowledged; why not is on the test's stderr.
fn revoke(fleet: &Fleet, leaf: &Certificate) -> bool {
    let serial = leaf.serial().to_string();
    let reason = ["--reason", "superseded", "--yes"];
    let mut command = fleet.ca_server(&["revoke", "--serial", &serial]);
    let said = output(command.args(reason));
    if !said.status.success() {
        eprintln!("{serial}: {}", String::from_utf8_lossy(&said.stderr));
    }
    said.status.success()
}

/// The list once it has all of these.
fn until_listed(server: &Server, serials: &[Serial]) -> Crl {
    wait_until("everything on the list", || {
        let crl = crl(server, "central-1");
        serials
            .iter()
            .all(|serial| crl.lists(serial))
            .then_some(crl)
    })
}

fn metric(server: &Server, line: &str) -> String {
    let text = get(server.ops, "/metrics").unwrap().text();
    let found = text.lines().find(|found| found.starts_with(line));
    found.map_or_else(String::new, str::to_owned)
}

/// Looks at a server's list until told to stop: each is whole and in force, and no number goes back.
fn watch(server: &Server, stop: &AtomicBool) -> u64 {
    let (mut last, mut seen) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let crl = crl(server, "central-1");
        let number = crl.number().unwrap();
        assert!(number >= last, "{number} after {last}");
        assert!(crl.next_update() > Some(tests::now()));
        (last, seen) = (number, seen + 1);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_killed_or_sleeps_is_replaced_and_never_goes_back() {
    let test = "a_publisher_that_is_killed_or_sleeps_is_replaced_and_never_goes_back";
    let Some(postgres) = postgres(test) else {
        return;
    };
    let fleet = Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"]);
    let steady = fleet.serve();
    let mut leaves = Vec::new();
    for n in 0..12 {
        leaves.push(issue(&fleet, &steady, 0, &format!("a{n}")).await);
    }
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&steady, &stop));
        let stop = StopOnDrop(&stop);
        let mut acknowledged = Vec::new();
        let mut rest = leaves.iter();
        // Killed right after a revocation, while it may be anywhere between hearing of it and storing the list.
        for _ in 0..3 {
            let mut other = fleet.serve();
            for leaf in rest.by_ref().take(2) {
                assert!(revoke(&fleet, leaf));
                acknowledged.push(leaf.serial());
            }
            other.process().kill();
            until_listed(&steady, &acknowledged);
        }
        // Asleep while the others go on; when it wakes it takes up where they are.
        let mut sleeper = fleet.serve();
        until_listed(&sleeper, &acknowledged);
        sleeper.process().signal(Signal::STOP);
        for leaf in rest {
            assert!(revoke(&fleet, leaf));
            acknowledged.push(leaf.serial());
        }
        let newest = until_listed(&steady, &acknowledged).number();
        sleeper.process().signal(Signal::CONT);
        let woken = until_listed(&sleeper, &acknowledged);
        assert!(woken.number() >= newest);
        drop(stop);
        watcher.join().unwrap()
    });
    assert!(seen > 20, "{seen} looks are no watch");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_the_last_list_and_answers_are_served() {
    let test = "while_postgres_is_away_the_last_list_and_answers_are_served";
    let Some(mut postgres) = postgres(test) else {
        return;
    };
    let fleet = Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"]);
    fleet.import_root_crl(1, &[]);
    let server = fleet.serve();
    let known = issue(&fleet, &server, 0, "known").await;
    let revoked = issue(&fleet, &server, 0, "revoked").await;
    issue(&fleet, &server, 0, "never-asked").await;
    assert!(revoke(&fleet, &revoked));
    let before = until_listed(&server, &[revoked.serial()]);
    let ask = |account: &str| {
        let url = format!("http://{}/ocsp", server.public);
        let said = output(
            Command::new("openssl")
                .args(["ocsp", "-no_nonce", "-url", &url, "-issuer"])
                .arg(fleet.path("issuer.pem"))
                .arg("-cert")
                .arg(fleet.path(&format!("{account}.pem")))
                .arg("-CAfile")
                .arg(fleet.path("root.pem")),
        );
        String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned()
    };
    wait_until("an answer", || {
        ask("known").contains(": good").then_some(())
    });
    wait_until("the full set", || {
        get(server.public, "/ca-crl.pem")
            .ok()
            .filter(|set| set.status == 200)
    });
    postgres.stop().unwrap();
    assert!(!revoke(&fleet, &known), "not acknowledged");
    assert_eq!(crl(&server, "central-1"), before);
    assert_eq!(get(server.public, "/ca-crl.pem").unwrap().status, 200);
    assert!(ask("known").contains(": good"), "said before, and in force");
    assert!(
        ask("revoked").contains(": revoked"),
        "known without the store"
    );
    let said = ask("never-asked");
    assert!(said.contains("trylater"), "{said}");
    postgres.start_again().unwrap();
    wait_until("the store", || revoke(&fleet, &known).then_some(()));
    until_listed(&server, &[known.serial(), revoked.serial()]);
    wait_until("answers", || {
        ask("never-asked").contains(": good").then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_the_last_list_and_acknowledges_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        let test = "a_full_disk_leaves_the_last_list_and_acknowledges_nothing";
        return tests::parts::skip(test, "this user may not mount a tmpfs; run it as root");
    };
    let url = format!("sqlite://{}", disk.path("ca.db").display());
    // What it calls Postgres is the URL of any store.
    let fleet = Fleet::on_postgres(&url, &["central"]);
    let server = fleet.serve();
    let leaf = issue(&fleet, &server, 0, "a").await;
    let before = crl(&server, "central-1");
    disk.fill();
    assert!(!revoke(&fleet, &leaf), "not acknowledged");
    assert_eq!(crl(&server, "central-1"), before);
    wait_until("readiness to tell", || {
        get(server.ops, "/readyz")
            .ok()
            .filter(|answer| answer.status == 503)
    });
    disk.make_room();
    wait_until("room", || revoke(&fleet, &leaf).then_some(()));
    let after = until_listed(&server, &[leaf.serial()]);
    assert!(after.number() > before.number());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_neither_stops_a_revocation_nor_moves_a_list() {
    let Some(library) = libfaketime() else {
        let test = "a_clock_that_steps_neither_stops_a_revocation_nor_moves_a_list";
        return tests::parts::skip(
            test,
            "libfaketime is not installed; see tests/parts/install",
        );
    };
    for step in ["+2h", "-2h"] {
        let fleet = Fleet::on_sqlite(&["central"]);
        let clock = Clock::of(&fleet);
        let mut serve = with_clock(fleet.ca_server(&["serve"]), &library, &clock);
        let server = Server::start(&mut serve, &fleet);
        let leaf = issue(&fleet, &server, 0, "a").await;
        let other = issue(&fleet, &server, 0, "b").await;
        let before = crl(&server, "central-1");
        clock.set(step);
        wait_until("the step to be seen", || {
            metric(&server, "signet_clock_trusted")
                .ends_with(" 0")
                .then_some(())
        });
        assert!(
            revoke(&fleet, &leaf),
            "it waits for nobody to look at a clock"
        );
        let after = until_listed(&server, &[leaf.serial()]);
        assert!(after.number() > before.number(), "{step}");
        assert!(after.this_update() > before.this_update(), "{step}");
        assert!(after.this_update() <= tests::now(), "{step}");
        assert_eq!(after.next_update(), before.next_update(), "{step}");
        clock.set("+0");
        run(&mut fleet.ca_server(&["clock", "accept"]));
        assert!(revoke(&fleet, &other));
        let last = until_listed(&server, &[leaf.serial(), other.serial()]);
        assert!(last.next_update() >= before.next_update(), "{step}");
        assert!(last.this_update() > after.this_update(), "{step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_put_back_is_noticed_and_no_number_goes_back() {
    let fleet = Fleet::on_sqlite(&["central"]);
    // Where it is by default.
    let mark = fleet.path("ca.db.watermark");
    let database = fleet.path("ca.db");
    let mut server = fleet.serve();
    let leaf = issue(&fleet, &server, 0, "a").await;
    assert!(server.process().terminate());
    let log = fleet.path("ca.db-wal");
    assert!(!log.exists(), "after a stop the file alone is a backup");
    let backup = std::fs::read(&database).unwrap();

    let mut server = fleet.serve();
    assert!(revoke(&fleet, &leaf));
    let number = until_listed(&server, &[leaf.serial()]).number().unwrap();
    wait_until("the watermark", || {
        let text = std::fs::read_to_string(&mark).ok()?;
        text.contains(&format!("\"crl_number\": {number}"))
            .then_some(())
    });
    assert!(server.process().terminate());
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(fleet.path(&format!("ca.db{end}")));
    }
    std::fs::write(&database, &backup).unwrap();

    let refused = output(&mut fleet.ca_server(&["serve"]));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("the store has gone back"),
        "{said}"
    );
    assert!(said.contains("ca-server store accept"), "{said}");
    let asked = output(&mut fleet.ca_server(&["store", "accept"]));
    assert!(!asked.status.success(), "nobody there to ask");
    run(&mut fleet.ca_server(&["store", "accept", "--yes"]));
    let server = fleet.serve();
    assert!(revoke(&fleet, &leaf), "again, because it was forgotten");
    let after = until_listed(&server, &[leaf.serial()]);
    assert!(
        after.number().unwrap() > number,
        "{:?} after {number}",
        after.number()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_back_under_a_running_server_stops_it() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let officer = Admin::new(&fleet, "officer", Some("security-officer"), &[]);
    let leaf = issue(&fleet, &server, 0, "a").await;
    assert!(revoke(&fleet, &leaf));
    let before = until_listed(&server, &[leaf.serial()]);
    let said = output(
        Command::new("python3")
            .args(["-c", FORGET])
            .arg(fleet.path("ca.db")),
    );
    assert!(said.status.success(), "{said:?}");
    wait_until("readiness to tell", || {
        let answer = get(server.ops, "/readyz").ok()?;
        (answer.status == 503 && answer.text().contains("gone back")).then_some(())
    });
    server
        .log()
        .wait_for(&["the store has gone back", "central-1"]);
    assert_eq!(
        crl(&server, "central-1"),
        before,
        "a revoked serial never becomes good"
    );
    // Roles and revocations are what is left of them: they are looked at, and nobody acts upon them.
    assert_eq!(officer.get(server.admin, "/v1/clusters").status, 200);
    let role = json!({ "principal": "cert:mallory", "role": "viewer" });
    let bound = officer.post(server.admin, "/v1/role-bindings", &role);
    assert_eq!((bound.status, bound.reason().as_str()), (503, "rollback"));
}

/// What a backup of before the revocation lacks.
const FORGET: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=30)
db.execute("DELETE FROM revocation")
db.execute("DELETE FROM revocation_log")
db.execute("UPDATE issuance_log SET last_revocation = -1, next_index = next_index - 1")
db.execute("UPDATE crl SET number = 1")
db.commit()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_half_open_connections_leave_memory_flat() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut server = fleet.serve();
    let pid = server.process().id();
    let send = |rounds: usize| {
        let junk = |n: usize| {
            let bytes = sha(n);
            let kind = [("content-type", "application/ocsp-request")];
            let answer = request(server.public, "POST", "/ocsp", &kind, &bytes).unwrap();
            assert_eq!(answer.body, [0x30, 3, 0x0a, 1, 1], "malformedRequest");
            let path = format!("/ocsp/{}", pki::crypto::hex(&bytes));
            assert!(get(server.public, &path).unwrap().body.len() < 10);
        };
        (0..rounds).for_each(junk);
    };
    send(200);
    let half_open: Vec<_> = (0..400)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(server.public).unwrap();
            let head = b"POST /ocsp HTTP/1.1\r\nhost: x\r\ncontent-length: 4000\r\n\r\nx";
            std::io::Write::write_all(&mut stream, head).unwrap();
            stream
        })
        .collect();
    let before = resident_bytes(pid);
    send(2_000);
    let grown = resident_bytes(pid).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    drop(half_open);
    assert_eq!(get(server.ops, "/healthz").unwrap().status, 200);
}

fn sha(n: usize) -> [u8; 32] {
    pki::crypto::sha256(&n.to_be_bytes())
}
