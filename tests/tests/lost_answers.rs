//! Networks lose answers, and machines lose power: an enrolment token is not burned by either.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::fleet::{Fleet, Server};
use tests::process::{output, program};

const GATEWAY: &str = "spiffe://cluster.local/edge/gateway-7";
/// A TLS record of application data.
const APPLICATION_DATA: u8 = 23;
/// What a server sends after the handshake is shorter (tickets, settings), an answer with its chain is longer.
const ANSWER: usize = 900;

/// Stands between `ca` and a server, and loses answers.
struct BadNetwork {
    port: u16,
    /// How many answers are still to be lost.
    losing: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    /// Whether a lost answer takes its connection with it, or leaves it open and silent.
    cuts: Arc<AtomicBool>,
}

impl BadNetwork {
    fn before(server: &Server, losing: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Self {
            port: listener.local_addr().unwrap().port(),
            losing: Arc::new(AtomicUsize::new(losing)),
            lost: Arc::default(),
            cuts: Arc::new(AtomicBool::new(true)),
        };
        let (losing, lost, cuts) = (
            network.losing.clone(),
            network.lost.clone(),
            network.cuts.clone(),
        );
        let server = server.issue;
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                let finished = Arc::new(AtomicBool::new(false));
                let (up, down) = (
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server, client),
                );
                let seen = finished.clone();
                std::thread::spawn(move || {
                    records(up.0, up.1, |record| {
                        // The client's part of the handshake ends with its first protected record.
                        seen.fetch_or(record[0] == APPLICATION_DATA, Ordering::SeqCst);
                        true
                    });
                });
                let (losing, lost, cuts) = (losing.clone(), lost.clone(), cuts.clone());
                std::thread::spawn(move || {
                    let mut silent = false;
                    records(down.0, down.1, |record| {
                        let answer = finished.load(Ordering::SeqCst)
                            && record[0] == APPLICATION_DATA
                            && record.len() > ANSWER;
                        let one_less = |left: usize| left.checked_sub(1);
                        if answer
                            && losing
                                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                                .is_ok()
                        {
                            lost.fetch_add(1, Ordering::SeqCst);
                            silent = true;
                        }
                        while silent && !cuts.load(Ordering::SeqCst) {
                            std::thread::sleep(std::time::Duration::from_millis(20));
                        }
                        !silent
                    });
                });
            }
        });
        network
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }
}

/// Passes TLS records on, until one end is closed or `passes` says no; then both are.
fn records(mut from: TcpStream, mut to: TcpStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut one = || {
        let mut record = vec![0; 5];
        from.read_exact(&mut record).ok()?;
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + length, 0);
        from.read_exact(&mut record[5..]).ok()?;
        Some(record)
    };
    while let Some(record) = one() {
        if !passes(&record) || to.write_all(&record).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A machine that has a token.
struct Machine {
    fleet: Fleet,
    server: Server,
}

impl Machine {
    fn new() -> Self {
        let fleet = Fleet::on_sqlite(&["central"]);
        let server = fleet.serve();
        std::fs::write(fleet.path("roots.pem"), fleet.root_pem()).unwrap();
        let token = fleet.enrolment_token("central", GATEWAY);
        std::fs::write(fleet.path("token"), token).unwrap();
        Self { fleet, server }
    }

    fn enroll(&self, url: &str, more: &[&str]) -> Command {
        let mut command = Command::new(program("ca"));
        command
            .args(["enroll", "--server", url, "--roots"])
            .arg(self.fleet.path("roots.pem"))
            .arg("--dir")
            .arg(self.identity())
            .arg("--enrolment-token-file")
            .arg(self.fleet.path("token"))
            .args(more)
            .env_remove("SIGNET_SERVER");
        command
    }

    fn identity(&self) -> PathBuf {
        self.fleet.path("identity")
    }

    /// The keys that wait for their answer, each its owner's alone.
    fn pending(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.identity()).unwrap();
        let pending: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.display().to_string().contains("pending"))
            .collect();
        for path in &pending {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path:?}");
        }
        pending
    }

    /// Enrolled, once, with nothing left over.
    fn check(&self, run: &Output) {
        assert!(run.status.success(), "{run:?}");
        assert_eq!(self.fleet.records().len(), 1, "one token, one certificate");
        assert!(self.pending().is_empty());
        let renewed = output(
            Command::new(program("ca"))
                .arg("renew")
                .arg("--dir")
                .arg(self.identity())
                .args(["--server", &self.server.url()]),
        );
        assert!(renewed.status.success(), "{renewed:?}");
    }
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    let machine = Machine::new();
    let network = BadNetwork::before(&machine.server, 1);
    let run = output(&mut machine.enroll(&network.url(), &[]));
    assert_eq!(network.lost(), 1);
    machine.check(&run);
}

#[test]
fn a_second_run_goes_on_with_the_key_of_the_first() {
    let machine = Machine::new();
    let network = BadNetwork::before(&machine.server, usize::MAX);
    let run = output(&mut machine.enroll(&network.url(), &["--timeout", "2s"]));
    let said = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert!(
        said.contains("same command again within ten minutes"),
        "{said}"
    );
    assert!(!said.contains("no connection"), "{said}");
    assert!(network.lost() >= 2, "{said}");
    assert_eq!(machine.pending().len(), 1);

    // Another token is another enrolment, and takes nothing from the first one.
    let first = std::fs::read(machine.fleet.path("token")).unwrap();
    let other = machine.fleet.enrolment_token("central", GATEWAY);
    std::fs::write(machine.fleet.path("token"), other).unwrap();
    let run = output(&mut machine.enroll("https://localhost:1", &[]));
    assert_eq!(run.status.code(), Some(3), "{run:?}");
    assert_eq!(machine.pending().len(), 2);
    std::fs::write(machine.fleet.path("token"), first).unwrap();

    network.losing.store(0, Ordering::SeqCst);
    machine.check(&output(&mut machine.enroll(&network.url(), &[])));
}

#[test]
fn a_kill_while_the_answer_is_on_its_way_burns_no_token() {
    let machine = Machine::new();
    let network = BadNetwork::before(&machine.server, usize::MAX);
    network.cuts.store(false, Ordering::SeqCst);
    let mut command = machine.enroll(&network.url(), &[]);
    let mut running = command.stderr(Stdio::null()).spawn().unwrap();
    machine.server.log().wait_for(&["certificate issued"]);
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(!machine.identity().join("tls.crt").exists());
    network.losing.store(0, Ordering::SeqCst);
    machine.check(&output(&mut machine.enroll(&network.url(), &[])));
}
