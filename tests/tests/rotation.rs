//! A cluster's intermediate changes under load, and whoever changes it dies in the middle: each certificate verifies by what came
//! with it, and there is always one way on.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::path::PathBuf;
use std::process::Command;

use ca_server::app::{Actor, Context, NewKey, authority};
use ca_server::config::Config;
use ca_server::store::model::{AuthorityRow, AuthorityState, CrlShape};
use pki::certificate::Certificate;
use pki::key::KeyAlgorithm;
use pki::name::{AuthorityId, ClusterName};
use pki::serial::Serial;
use pki::time::Ttl;
use tests::fleet::{Fleet, Server};
use tests::load::Calls;
use tests::load::hammer::Hammer;
use tests::process::{output, read, run};
use tests::status::{crl, issue};

const CLIENTS: usize = 8;
const ROTATIONS: usize = 3;

async fn context(fleet: &Fleet) -> Context {
    let config = Config::load(&fleet.path("ca-server.toml")).unwrap();
    ca_server::cli::open(&config).await.unwrap()
}

/// Central's, by generation.
async fn authorities(fleet: &Fleet) -> Vec<AuthorityRow> {
    let context = context(fleet).await;
    let rows = context.store.authorities().await.unwrap();
    context.store.close().await;
    rows
}

fn own(row: &AuthorityRow) -> Certificate {
    Certificate::parse(&row.chain[0]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_certificate_verifies_by_its_own_chain_while_authorities_change_under_load() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let calls = Calls::prepare(&fleet.clusters[0], 40, 200);
    let hammer = Hammer::start(&server, calls, CLIENTS).await;
    hammer.more_certificates(50).await;
    for _ in 0..ROTATIONS {
        let next = fleet.add_authority("central", Ttl::days(365));
        // Two at once: one wins, and the other is told.
        let activate = || fleet.ca_server(&["authority", "activate", &next]);
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| output(&mut activate()));
            let second = scope.spawn(|| output(&mut activate()));
            (first.join().unwrap(), second.join().unwrap())
        });
        let won = [&first, &second].map(|one| one.status.success());
        assert!(won[0] != won[1], "{first:?}\n{second:?}");
        let rows = authorities(&fleet).await;
        let signs = |row: &&AuthorityRow| row.state == AuthorityState::Active;
        let active: Vec<_> = rows.iter().filter(signs).collect();
        assert_eq!(active.len(), 1);
        assert_eq!(active[0].id.as_str(), next);
        let signer = own(active[0]).serial();
        hammer
            .until("certificates by the next authority", |seen| {
                seen.by_issuer.get(&signer).is_some_and(|&n| n > 20)
            })
            .await;
    }
    let refused = hammer.forget_refusals();
    assert!(refused.is_empty(), "{refused:?}");
    let seen = hammer.stop().await;
    assert_eq!(seen.by_issuer.len(), ROTATIONS + 1);
    for generation in 1..=ROTATIONS + 1 {
        crl(&server, &format!("central-{generation}"));
    }
}

/// Runs `ca-server` and kills it when it asks the `nth` time that what it wrote be made durable; false when it did not come to that.
fn kill_at_sync(fleet: &Fleet, nth: u32, arguments: &[&str]) -> bool {
    let ours = fleet.ca_server(arguments);
    let mut command = Command::new("strace");
    command
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fsync,fdatasync",
        ])
        .arg("-e")
        .arg(format!("inject=fsync,fdatasync:signal=KILL:when={nth}"))
        .arg(ours.get_program())
        .args(ours.get_args());
    let ended = output(&mut command);
    // strace ends as what it traces ended.
    let killed = ended.status.code().is_none_or(|code| code == 137);
    assert!(killed || ended.status.success(), "{ended:?}");
    killed
}

/// The store's files.
fn store_files(fleet: &Fleet) -> [PathBuf; 3] {
    ["ca.db", "ca.db-wal", "ca.db-shm"].map(|name| fleet.path(name))
}

/// The store as it stands while nobody has it open.
struct Backup(Vec<(PathBuf, Vec<u8>)>);

impl Backup {
    fn of(fleet: &Fleet) -> Self {
        let read = |path: PathBuf| Some((path.clone(), std::fs::read(path).ok()?));
        Self(store_files(fleet).into_iter().filter_map(read).collect())
    }

    fn restore(&self, fleet: &Fleet) {
        for path in store_files(fleet) {
            let _ = std::fs::remove_file(path);
        }
        for (path, octets) in &self.0 {
            std::fs::write(path, octets).unwrap();
        }
    }
}

/// Leads central's authority of this generation from wherever it is to where it signs, as an operator does who comes back.
async fn go_on(fleet: &Fleet, context: &Context, generation: u32) {
    let cluster = ClusterName::parse("central").unwrap();
    let id = AuthorityId::of_cluster(&cluster, generation);
    let mut before = None;
    loop {
        let rows = context.store.authorities().await.unwrap();
        let signing = rows
            .iter()
            .filter(|row| row.state == AuthorityState::Active);
        assert!(signing.count() <= 1);
        let row = rows.iter().find(|row| row.id == id);
        let state = row.map(|row| row.state);
        assert_ne!(before, Some(state), "{id} stays as it is");
        before = Some(state);
        match state {
            None => {
                let (key, shape) = (KeyAlgorithm::EcdsaP256, CrlShape::default());
                let requested = authority::request(
                    context,
                    &cluster,
                    &NewKey::InStore(key),
                    shape,
                    &Actor::local("test"),
                )
                .await;
                assert_eq!(requested.unwrap().id, id);
            }
            Some(AuthorityState::Requested) => {
                let signed = signed(fleet, row.unwrap());
                let chain = Certificate::parse_pem(signed.as_bytes()).unwrap();
                authority::import(context, &id, chain, None, &Actor::local("test"))
                    .await
                    .unwrap();
            }
            // What every server does as it starts, and each few seconds.
            Some(AuthorityState::Imported) => authority::reconcile(context).await.unwrap(),
            Some(AuthorityState::Published) => {
                authority::activate(context, &id, &Actor::local("test"))
                    .await
                    .unwrap();
            }
            Some(AuthorityState::Active) => return,
            Some(other) => panic!("{id} is {other}"),
        }
    }
}

/// What the root makes of an authority's request.
fn signed(fleet: &Fleet, row: &AuthorityRow) -> String {
    let request = pki::pem::request(&row.request);
    fleet.root.sign(request.as_bytes(), Ttl::days(365))
}

/// One authority signs, the others are past; each has its list, and what is issued verifies.
async fn is_sound(fleet: &Fleet) {
    let rows = authorities(fleet).await;
    let (last, past) = rows.split_last().unwrap();
    assert_eq!(last.state, AuthorityState::Active);
    assert!(past.iter().all(|row| row.state == AuthorityState::Retiring));
    let server: Server = fleet.serve();
    for row in &rows {
        crl(&server, row.id.as_str());
    }
    let leaf = issue(fleet, &server, 0, "after").await;
    leaf.verify_by(&own(last).public_key().unwrap()).unwrap();
    let serial: Serial = leaf.serial();
    let records = fleet.records();
    assert!(
        records
            .iter()
            .any(|line| line.starts_with(&serial.to_string()))
    );
}

fn strace(test: &str) -> bool {
    let there = Command::new("strace").arg("-V").output().is_ok();
    if !there {
        tests::parts::skip(test, "strace is not installed; see tests/parts/install");
    }
    there
}

/// Kills one step at each of its writes, and goes on from there each time.
async fn survives_kills_of(fleet: &Fleet, step: impl Fn(u32) -> bool) {
    let before = Backup::of(fleet);
    for nth in 1.. {
        before.restore(fleet);
        let killed = step(nth);
        let context = context(fleet).await;
        go_on(fleet, &context, 2).await;
        context.store.close().await;
        if !killed {
            assert!(nth > 2, "it was killed at {} syncs", nth - 1);
            break;
        }
    }
    is_sound(fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_killed_at_any_write_is_made_again_or_found() {
    if !strace("a_request_that_is_killed_at_any_write_is_made_again_or_found") {
        return;
    }
    let fleet = Fleet::on_sqlite(&["central"]);
    let out = fleet.path("killed.pem");
    survives_kills_of(&fleet, |nth| {
        let _ = std::fs::remove_file(&out);
        let out = out.to_str().unwrap();
        kill_at_sync(
            &fleet,
            nth,
            &["authority", "request", "central", "--out", out],
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_at_any_write_is_done_again_or_goes_on_by_itself() {
    if !strace("an_import_that_is_killed_at_any_write_is_done_again_or_goes_on_by_itself") {
        return;
    }
    let fleet = Fleet::on_sqlite(&["central"]);
    let out = fleet.path("next.pem");
    let mut request = fleet.ca_server(&["authority", "request", "central", "--out"]);
    run(request.arg(&out));
    let chain = fleet.path("next.chain.pem");
    let signed = fleet.root.sign(&read(&out), Ttl::days(365));
    std::fs::write(&chain, signed).unwrap();
    let chain = chain.to_str().unwrap();
    survives_kills_of(&fleet, |nth| {
        kill_at_sync(&fleet, nth, &["authority", "import", "central-2", chain])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_activation_that_is_killed_at_any_write_is_done_or_not_done() {
    if !strace("an_activation_that_is_killed_at_any_write_is_done_or_not_done") {
        return;
    }
    let fleet = Fleet::on_sqlite(&["central"]);
    let next = fleet.add_authority("central", Ttl::days(365));
    survives_kills_of(&fleet, |nth| {
        kill_at_sync(&fleet, nth, &["authority", "activate", &next])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_while_authorities_change_comes_back_with_one_that_signs() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut server = fleet.serve();
    let calls = Calls::prepare(&fleet.clusters[0], 40, 200);
    let hammer = Hammer::start(&server, calls, CLIENTS).await;
    for round in 0..ROTATIONS {
        hammer.more_certificates(20 + round * 37).await;
        let next = fleet.add_authority("central", Ttl::days(365));
        let mut activate = fleet.ca_server(&["authority", "activate", &next]);
        // The change and the end of who has to take it up, at once.
        let activating = std::thread::spawn(move || run(&mut activate));
        if round % 2 == 0 {
            activating.join().unwrap();
            server.process().kill();
        } else {
            server.process().kill();
            activating.join().unwrap();
        }
        server = fleet.serve();
        hammer.aim(&server).await;
        let rows = authorities(&fleet).await;
        let active = rows.iter().find(|row| row.id.as_str() == next).unwrap();
        assert_eq!(active.state, AuthorityState::Active);
        let signer = own(active).serial();
        hammer
            .until("certificates by the next authority", |seen| {
                seen.by_issuer.get(&signer).is_some_and(|&n| n > 20)
            })
            .await;
    }
    let seen = hammer.stop().await;
    assert_eq!(seen.by_issuer.len(), ROTATIONS + 1);
    let context = context(&fleet).await;
    for serial in &seen.received {
        let record = context.store.record(serial).await.unwrap();
        assert!(record.is_some(), "{serial} is not on record");
    }
}
