//! The store goes away under load, and comes back: retryable refusals while it is away, none after, and nothing that a
//! client was given is missing. And the clock, which the store helps to watch.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ca_server::store::{Store, StoreUrl};
use pki::serial::Serial;
use sqlx::{Connection, PgConnection};
use tests::disturbance::{Clock, SmallDisk, libfaketime, with_clock};
use tests::fleet::{Fleet, Server};
use tests::load::Calls;
use tests::load::hammer::Hammer;
use tests::postgres::Postgres;
use tests::process::run;
use tonic::{Code, Status};

const CLIENTS: usize = 8;
/// A call's deadline is 10 s, and a busy machine may be a little late.
const LONGEST_ANSWER: Duration = Duration::from_secs(12);
/// As many as a small Postgres gives out, those for superusers included: we are one here.
const ALL_CONNECTIONS: usize = 20;

fn calls(fleet: &Fleet) -> Calls {
    Calls::prepare(&fleet.clusters[0], 40, 200)
}

fn postgres(test: &str) -> Option<Postgres> {
    if Postgres::binaries().is_none() {
        tests::parts::skip(test, "no Postgres; see tests/parts/install");
        return None;
    }
    Some(Postgres::start().unwrap())
}

/// The status code and body of `/readyz`.
async fn readiness(server: &Server) -> (u16, String) {
    let ops = server.ops;
    tokio::task::spawn_blocking(move || get(ops, "/readyz"))
        .await
        .unwrap()
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

fn assert_unavailable(refused: &[Status]) {
    assert!(!refused.is_empty(), "the outage was seen");
    for status in refused {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
}

async fn assert_on_record(url: &str, received: &[Serial]) {
    let store = Store::open(&StoreUrl::parse(url).unwrap()).await.unwrap();
    for serial in received {
        let record = store.record(serial).await.unwrap();
        assert!(
            record.is_some(),
            "{serial} was received and is not on record"
        );
    }
    store.close().await;
}

/// Clients are served again, and after that nobody is refused any more.
async fn assert_recovered(hammer: &Hammer) {
    hammer.more_certificates(1).await;
    hammer.turn_over().await;
    hammer.forget_refusals();
    hammer.more_certificates(50).await;
    hammer.turn_over().await;
    let refused = hammer.forget_refusals();
    assert!(refused.is_empty(), "after the outage: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_stops_and_starts_and_the_server_stays() {
    let Some(mut postgres) = postgres("postgres_stops_and_starts_and_the_server_stays") else {
        return;
    };
    let url = postgres.create_database().unwrap();
    let fleet = Fleet::on_postgres(&url, &["central"]);
    let mut server = fleet.serve();
    let hammer = Hammer::start(&server, calls(&fleet), CLIENTS).await;
    for _ in 0..2 {
        hammer.more_certificates(50).await;
        assert_eq!(readiness(&server).await.0, 200);
        assert!(hammer.forget_refusals().is_empty(), "before the outage");
        postgres.stop().unwrap();
        hammer.turn_over().await;
        let before = hammer.look(|seen| seen.received.len());
        assert_eq!(readiness(&server).await.0, 503);
        hammer.turn_over().await;
        let issued = hammer.look(|seen| seen.received.len()) - before;
        assert_eq!(issued, 0, "certificates while the store was away");
        postgres.start_again().unwrap();
        let away = hammer.forget_refusals();
        assert_unavailable(&away);
        assert_recovered(&hammer).await;
        assert_eq!(readiness(&server).await, (200, "ready\n".to_owned()));
    }
    let seen = hammer.stop().await;
    assert_on_record(&url, &seen.received).await;
    assert!(server.process().terminate(), "a stop is clean");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_hangs_is_not_waited_for_longer_than_a_call_may_take() {
    let name = "a_postgres_that_hangs_is_not_waited_for_longer_than_a_call_may_take";
    let Some(postgres) = postgres(name) else {
        return;
    };
    let url = postgres.create_database().unwrap();
    let fleet = Fleet::on_postgres(&url, &["central"]);
    let server = fleet.serve();
    let hammer = Hammer::start(&server, calls(&fleet), CLIENTS).await;
    hammer.more_certificates(50).await;
    hammer.forget_refusals();
    postgres.pause().unwrap();
    hammer.turn_over().await;
    assert_eq!(readiness(&server).await.0, 503);
    let slowest = hammer.look(|seen| seen.slowest);
    assert!(slowest < LONGEST_ANSWER, "an answer took {slowest:?}");
    postgres.resume().unwrap();
    assert_unavailable(&hammer.forget_refusals());
    assert_recovered(&hammer).await;
    let seen = hammer.stop().await;
    assert_on_record(&url, &seen.received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_an_outage_and_no_more() {
    let Some(postgres) = postgres("a_locked_table_is_an_outage_and_no_more") else {
        return;
    };
    let url = postgres.create_database().unwrap();
    let fleet = Fleet::on_postgres(&url, &["central"]);
    let server = fleet.serve();
    let hammer = Hammer::start(&server, calls(&fleet), CLIENTS).await;
    hammer.more_certificates(50).await;
    hammer.forget_refusals();
    let mut operator = PgConnection::connect(&url).await.unwrap();
    let mut held = operator.begin().await.unwrap();
    sqlx::query("LOCK TABLE certificate IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    hammer.turn_over().await;
    let slowest = hammer.look(|seen| seen.slowest);
    assert!(slowest < LONGEST_ANSWER, "an answer took {slowest:?}");
    held.rollback().await.unwrap();
    assert_unavailable(&hammer.forget_refusals());
    assert_recovered(&hammer).await;
    let seen = hammer.stop().await;
    assert_on_record(&url, &seen.received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_issuance_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        let reason = "this user may not mount a tmpfs; run it as root";
        return tests::parts::skip("a_full_disk_stops_issuance_until_there_is_room", reason);
    };
    let url = format!("sqlite://{}", disk.path("ca.db").display());
    // What it calls Postgres is the URL of any store.
    let fleet = Fleet::on_postgres(&url, &["central"]);
    let server = fleet.serve();
    let hammer = Hammer::start(&server, calls(&fleet), CLIENTS).await;
    hammer.more_certificates(50).await;
    hammer.forget_refusals();
    disk.fill();
    hammer
        .until("a refusal", |seen| !seen.refused.is_empty())
        .await;
    hammer.turn_over().await;
    let (code, said) = readiness(&server).await;
    assert_eq!(
        (code, said.contains("takes nothing")),
        (503, true),
        "{said}"
    );
    disk.make_room();
    assert_unavailable(&hammer.forget_refusals());
    assert_recovered(&hammer).await;
    let seen = hammer.stop().await;
    assert_on_record(&url, &seen.received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_postgres_stops_issuance_until_there_is_room() {
    let test = "a_full_disk_under_postgres_stops_issuance_until_there_is_room";
    if Postgres::binaries().is_none() {
        return tests::parts::skip(test, "no Postgres; see tests/parts/install");
    }
    let Some(disk) = SmallDisk::of_megabytes(160) else {
        let reason = "this user may not mount a tmpfs; run it as root";
        return tests::parts::skip(test, reason);
    };
    let settings = ["fsync=off", "full_page_writes=off", "max_wal_size=32MB"];
    let postgres = Postgres::start_in(&disk.path("."), &settings).unwrap();
    let url = postgres.create_database().unwrap();
    let fleet = Fleet::on_postgres(&url, &["central"]);
    let server = fleet.serve();
    let hammer = Hammer::start(&server, calls(&fleet), CLIENTS).await;
    hammer.more_certificates(50).await;
    hammer.forget_refusals();
    disk.fill();
    hammer
        .until("a refusal", |seen| !seen.refused.is_empty())
        .await;
    hammer.turn_over().await;
    assert_eq!(readiness(&server).await.0, 503);
    disk.make_room();
    assert_unavailable(&hammer.forget_refusals());
    assert_recovered(&hammer).await;
    let seen = hammer.stop().await;
    assert_on_record(&url, &seen.received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_whose_connections_others_hold_is_an_outage_and_no_more() {
    let test = "a_postgres_whose_connections_others_hold_is_an_outage_and_no_more";
    if Postgres::binaries().is_none() {
        return tests::parts::skip(test, "no Postgres; see tests/parts/install");
    }
    let settings = ["fsync=off", &format!("max_connections={ALL_CONNECTIONS}")];
    let postgres = Postgres::start_with(&settings).unwrap();
    let url = postgres.create_database().unwrap();
    let fleet = Fleet::on_postgres(&url, &["central"]);
    let server = fleet.serve();
    let hammer = Hammer::start(&server, calls(&fleet), CLIENTS).await;
    hammer.more_certificates(50).await;
    hammer.forget_refusals();
    let mut operator = PgConnection::connect(&url).await.unwrap();
    let mut others = Vec::new();
    // The server's are ended, and taken before it has them back: it may win a few times. One that it is just opening is in
    // no view yet, so what counts is that the others have all of them.
    let taking = async {
        while others.len() < ALL_CONNECTIONS - 1 {
            sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ca-server'")
                .execute(&mut operator)
                .await
                .unwrap();
            while let Ok(connection) = PgConnection::connect(&url).await {
                others.push(connection);
            }
        }
    };
    let taken = tokio::time::timeout(Duration::from_secs(60), taking).await;
    assert!(taken.is_ok(), "the server always has a connection");
    hammer.turn_over().await;
    hammer.forget_refusals();
    let before = hammer.look(|seen| seen.received.len());
    hammer.turn_over().await;
    assert_eq!(hammer.look(|seen| seen.received.len()), before);
    assert_eq!(readiness(&server).await.0, 503);
    let slowest = hammer.look(|seen| seen.slowest);
    assert!(slowest < LONGEST_ANSWER, "an answer took {slowest:?}");
    assert_unavailable(&hammer.forget_refusals());
    for connection in others {
        connection.close().await.unwrap();
    }
    assert_recovered(&hammer).await;
    let seen = hammer.stop().await;
    assert_on_record(&url, &seen.received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_connections_are_few_and_enough() {
    if Postgres::binaries().is_none() {
        let test = "three_connections_are_few_and_enough";
        return tests::parts::skip(test, "no Postgres; see tests/parts/install");
    }
    let settings = ["fsync=off", &format!("max_connections={ALL_CONNECTIONS}")];
    let postgres = Postgres::start_with(&settings).unwrap();
    let url = postgres.create_database().unwrap();
    let fleet = Fleet::on_postgres(&url, &["central"]);
    // Others hold the rest. Those of whoever set this up may take a moment to go.
    let mut others = Vec::new();
    let taking = async {
        while others.len() < ALL_CONNECTIONS - 3 {
            others.extend(PgConnection::connect(&url).await);
        }
    };
    let taken = tokio::time::timeout(Duration::from_secs(60), taking).await;
    assert!(taken.is_ok(), "no connections for others");
    let mut server = fleet.serve();
    let hammer = Hammer::start(&server, calls(&fleet), CLIENTS).await;
    hammer.more_certificates(100).await;
    // What it cannot do for want of a connection it says as of any outage; it goes on all the same.
    for status in hammer.forget_refusals() {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
    hammer.more_certificates(100).await;
    let seen = hammer.stop().await;
    assert!(server.process().terminate(), "a stop is clean");
    for connection in others {
        connection.close().await.unwrap();
    }
    assert_on_record(&url, &seen.received).await;
}

async fn clock_scenario() -> Option<(Fleet, Clock, Server, Hammer)> {
    let library = libfaketime()?;
    let fleet = Fleet::on_sqlite(&["central"]);
    let clock = Clock::of(&fleet);
    let mut serve = with_clock(fleet.ca_server(&["serve"]), &library, &clock);
    let server = Server::start(&mut serve, &fleet);
    let hammer = Hammer::start(&server, calls(&fleet), 2).await;
    hammer.more_certificates(10).await;
    assert!(hammer.forget_refusals().is_empty(), "before the step");
    Some((fleet, clock, server, hammer))
}

fn skip_clock(test: &str) {
    tests::parts::skip(
        test,
        "libfaketime is not installed; see tests/parts/install",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_stops_issuance_until_an_operator_accepts_it() {
    let Some((fleet, clock, server, hammer)) = clock_scenario().await else {
        return skip_clock("a_clock_that_steps_stops_issuance_until_an_operator_accepts_it");
    };
    for step in ["+2h", "-2d", "+400d"] {
        clock.set(step);
        hammer.turn_over().await;
        hammer.forget_refusals();
        let before = hammer.look(|seen| seen.received.len());
        hammer.turn_over().await;
        assert_eq!(hammer.look(|seen| seen.received.len()), before, "{step}");
        let refused = hammer.forget_refusals();
        assert_unavailable(&refused);
        assert!(refused[0].message().contains("clock"), "{:?}", refused[0]);
        let (code, why) = readiness(&server).await;
        assert_eq!(code, 503, "{step}");
        assert!(why.contains("ca-server clock accept"), "{why}");

        // A stop holds even when the clock is right again: nobody knows what it was meanwhile.
        clock.set("+0");
        hammer.turn_over().await;
        assert_unavailable(&hammer.forget_refusals());
        run(&mut fleet.ca_server(&["clock", "accept"]));
        assert_recovered(&hammer).await;
        assert_eq!(readiness(&server).await.0, 200, "{step}");
    }
    hammer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_corrections_of_the_clock_stop_nothing() {
    let Some((_fleet, clock, server, hammer)) = clock_scenario().await else {
        return skip_clock("small_corrections_of_the_clock_stop_nothing");
    };
    for step in ["+5", "-5", "+40", "+0"] {
        clock.set(step);
        hammer.turn_over().await;
        let before = hammer.look(|seen| seen.received.len());
        hammer.turn_over().await;
        assert!(hammer.look(|seen| seen.received.len()) > before, "{step}");
        let refused = hammer.forget_refusals();
        assert!(refused.is_empty(), "{step}: {refused:?}");
        assert_eq!(readiness(&server).await.0, 200, "{step}");
    }
    hammer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_the_database_contradicts_keeps_a_server_from_issuing_at_its_start() {
    let test = "a_clock_that_the_database_contradicts_keeps_a_server_from_issuing_at_its_start";
    let Some(library) = libfaketime() else {
        return skip_clock(test);
    };
    let Some(postgres) = postgres(test) else {
        return;
    };
    let fleet = Fleet::on_postgres(&postgres.create_database().unwrap(), &["central"]);
    let clock = Clock::of(&fleet);
    for step in ["-2d", "+400d"] {
        clock.set(step);
        let mut serve = with_clock(fleet.ca_server(&["serve"]), &library, &clock);
        let process = tests::process::Process::start(&mut serve);
        let told = process.log().wait_for(&["no serving certificate yet"]);
        assert!(told.contains("the database's clock"), "{step}: {told}");
        assert_eq!(process.log().count("listener=\"issue\""), 0);
        clock.set("+0");
        run(&mut fleet.ca_server(&["clock", "accept"]));
        process.log().wait_for(&["listening", "listener=\"issue\""]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_behind_the_record_keeps_a_server_from_issuing_at_its_start() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let url = format!("sqlite://{}", fleet.path("ca.db").display());
    let store = Store::open(&StoreUrl::parse(&url).unwrap()).await.unwrap();
    let later = tests::now().plus(pki::time::Ttl::days(2));
    store.raise_clock_high_water(later).await.unwrap();
    store.close().await;
    let process = tests::process::Process::start(&mut fleet.ca_server(&["serve"]));
    let told = process.log().wait_for(&["no serving certificate yet"]);
    assert!(told.contains("the latest time on record"), "{told}");
    assert_eq!(process.log().count("listener=\"issue\""), 0);
    run(&mut fleet.ca_server(&["clock", "accept"]));
    process.log().wait_for(&["listening", "listener=\"issue\""]);
}
