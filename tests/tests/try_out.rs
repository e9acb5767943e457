//! The try-out, as somebody new runs it: once, again, from the beginning, and everything that it says to try next.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pki::certificate::Certificate;
use tests::parts::{repository, skip};
use tests::process::{output, outside_cargo, read, run, try_out};

/// One try-out at a time: each looks for the documented ports, and keeps what it found.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the try-out in `directory` up to its proof; gives what it said.
fn demo(directory: &Path, more: &[&str]) -> String {
    let mut command = Command::new(try_out());
    command.arg("--dir").arg(directory).arg("--exit").args(more);
    run(&mut command)
}

fn certificate(path: &Path) -> Certificate {
    Certificate::parse_pem(&read(path)).unwrap().remove(0)
}

/// The commands that were printed, in order; one may have several lines.
fn printed(said: &str) -> Vec<String> {
    let (_, next) = said.split_once("\n# Try next").unwrap();
    let parts = next.split("\n# ").map(|part| {
        let lines = part.lines().skip(1);
        let lines: Vec<_> = lines.map_while(|line| line.strip_prefix("  ")).collect();
        lines.join("\n")
    });
    parts.collect()
}

/// What each of the printed commands is to say, in their order.
const TRY_NEXT: [(&str, &str); 9] = [
    ("ca inspect", "spiffe://demo.signet/"),
    ("openssl verify", ": OK"),
    ("records list", "spiffe://demo.signet/"),
    ("ca-root verify", "ok"),
    ("/bundles/", "BEGIN CERTIFICATE"),
    ("revoke --spiffe-id", "superseded"),
    ("/metrics", "signet_"),
    ("ca renew", ""),
    ("ca enroll", ""),
];

/// Pastes a command into a shell in the repository.
fn paste(command: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(repository());
    run(outside_cargo(&mut shell))
}

#[test]
fn the_try_out_proves_continues_and_starts_over() {
    let _alone = alone();
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a demo");
    let root = directory.join("root.pem");
    let leaf = directory.join("workloads/sensor-edge/tls.crt");

    let first = demo(&directory, &[]);
    assert!(first.contains("new in"), "{first}");
    assert!(
        first.contains("refused: invalid peer certificate"),
        "{first}"
    );
    let (first_root, first_leaf) = (certificate(&root), certificate(&leaf));
    assert!(first.contains(&first_root.serial().to_string()), "{first}");
    assert!(first.contains(&first_leaf.serial().to_string()), "{first}");
    for secret in ["root-offline/passphrase", "server/passphrase"] {
        let secret = String::from_utf8(read(&directory.join(secret))).unwrap();
        assert!(!first.contains(secret.trim()), "a passphrase is printed");
    }
    assert!(!first.contains("signet_enrol_"), "a token is printed");

    let second = demo(&directory, &[]);
    assert!(second.contains("continuing in"), "{second}");
    assert_eq!(certificate(&root), first_root);
    assert_eq!(certificate(&leaf), first_leaf, "a good identity is kept");

    let third = demo(&directory, &["--clean"]);
    assert!(third.contains("new in"), "{third}");
    assert_ne!(certificate(&root), first_root);
    assert_ne!(certificate(&leaf), first_leaf);
    assert_eq!(printed(&third).len(), TRY_NEXT.len(), "{third}");
}

/// The try-out, serving on; dropped, it ends.
struct Serving(std::process::Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn everything_that_the_try_out_says_to_try_next_works_when_pasted() {
    let test = "everything_that_the_try_out_says_to_try_next_works_when_pasted";
    for program in ["openssl", "curl"] {
        if Command::new(program).arg("--help").output().is_err() {
            return skip(test, &format!("no {program}; see tests/parts/install"));
        }
    }
    let _alone = alone();
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a demo");
    let mut command = Command::new(try_out());
    command.arg("--dir").arg(&directory).stdout(Stdio::piped());
    let mut serving = Serving(command.stdin(Stdio::null()).spawn().unwrap());
    // The last line says that it serves on; when it ends before, so does what it says.
    let lines = BufReader::new(serving.0.stdout.take().unwrap()).lines();
    let mut said = String::new();
    for line in lines.map_while(Result::ok) {
        said.push_str(&line);
        said.push('\n');
        if line.starts_with("Serving until") {
            break;
        }
    }
    assert!(said.contains("\nServing until"), "{said}");
    let leaf = |name: &str| certificate(&directory.join(format!("workloads/{name}/tls.crt")));
    let (web, sensor) = (leaf("web-central"), leaf("sensor-edge"));
    let commands = printed(&said);
    assert_eq!(commands.len(), TRY_NEXT.len(), "{commands:#?}");
    for (command, (word, says)) in commands.iter().zip(TRY_NEXT) {
        assert!(command.contains(word), "{word:?} in {command}");
        let answer = paste(command);
        assert!(answer.contains(says), "{command}\nsaid: {answer}");
        match word {
            // On record, and on the list that is served.
            "records list" | "revoke --spiffe-id" => {
                assert!(answer.contains(&web.serial().to_string()), "{answer}");
            }
            "ca renew" => assert_ne!(leaf("sensor-edge"), sensor, "{answer}"),
            "ca enroll" => {
                let pump = leaf("pump-edge");
                assert_eq!(pump.issuer(), sensor.issuer());
            }
            _ => {}
        }
    }
}

#[test]
fn a_server_that_was_built_without_postgres_or_token_reviews_says_so() {
    let _alone = alone();
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a demo");
    let said = demo(&directory, &[]);
    let list = printed(&said).swap_remove(2);
    paste(&list);
    let path = |name: &str| directory.join("server").join(name);
    let text = |name: &str| String::from_utf8(read(&path(name))).unwrap();
    let refused = |config: &str, arguments: &[&str]| {
        let mut server = Command::new(try_out().with_file_name("ca-server"));
        server.arg("--config").arg(path(config)).args(arguments);
        let output = output(&mut server);
        assert!(!output.status.success(), "{arguments:?} in {config}");
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let sqlite = format!("sqlite://{}", path("ca.db").display());
    let elsewhere = text("ca-server.toml").replace(&sqlite, "postgres://ca@db.example/signet");
    std::fs::write(path("elsewhere.toml"), elsewhere).unwrap();
    let said = refused("elsewhere.toml", &["config", "check"]);
    assert!(said.contains("built without Postgres"), "{said}");
    let reviewed = text("edge.toml") + "[token_review.server]\nkubeconfig = \"/nowhere\"\n";
    std::fs::write(path("edge.toml"), reviewed).unwrap();
    let definition = path("edge.toml");
    let apply = ["cluster", "apply", definition.to_str().unwrap()];
    let said = refused("ca-server.toml", &apply);
    assert!(said.contains("built without TokenReview"), "{said}");
}

#[test]
fn the_try_out_cleans_nothing_that_it_has_not_made() {
    let parent = tempfile::tempdir().unwrap();
    let theirs = parent.path().join("precious");
    std::fs::write(&theirs, "precious").unwrap();
    let mut command = Command::new(try_out());
    command.arg("--dir").arg(parent.path());
    let refused = output(command.args(["--clean", "--exit"]));
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("nothing was touched"), "{said}");
    assert_eq!(read(&theirs), b"precious");
}
