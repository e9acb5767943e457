//! What the installation's keys rest under: changed from every kind to every other on both databases, under a running
//! server and under kills; what is no longer it opens nothing.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use tests::fleet::{Fleet, Server};
use tests::postgres::Postgres;
use tests::process::{Process, output, run};
use tests::requests::{KeyAndRequest, create_certificate};
use tests::softhsm::SoftHsm;

const FIRST: &str = "a passphrase for tests only";
const SECOND: &str = "quite another one, for tests too";

/// What `[keys]` may name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// A file of this name and its passphrase.
    Passphrase(&'static str, &'static str),
    /// A credential of this name and what is in it.
    Credential(&'static str, &'static str),
    /// A secret of this label in the token.
    Token(&'static str),
}

use Source::{Credential, Passphrase, Token};

struct Installation {
    fleet: Fleet,
    /// Where tokens are at hand.
    hsm: Option<SoftHsm>,
    /// As it stands in the configuration.
    line: String,
}

impl Installation {
    fn new(postgres: Option<&str>, hsm: Option<SoftHsm>) -> Self {
        let mut fleet = Fleet::build(postgres, &["central"], "");
        if let Some(hsm) = &hsm {
            fleet.set_environment(hsm.environment());
            fleet.configure(&hsm.token("ca", "81726354", ""));
        }
        let line = format!(
            "passphrase_file = \"{}\"",
            fleet.path("passphrase").display()
        );
        Self { fleet, hsm, line }
    }

    fn credentials(&self) -> std::path::PathBuf {
        self.fleet.path("credentials")
    }

    /// `ca-server`, as systemd would start it.
    fn ca_server(&self, arguments: &[&str]) -> Command {
        let mut command = self.fleet.ca_server(arguments);
        command.env("CREDENTIALS_DIRECTORY", self.credentials());
        command
    }

    /// Makes what `source` names, and gives its line of the configuration, and the argument that names it.
    fn prepare(&self, source: &Source) -> (String, [String; 2]) {
        match source {
            Passphrase(name, passphrase) => {
                let file = self.fleet.path(name);
                std::fs::write(&file, passphrase).unwrap();
                let mode = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(&file, mode).unwrap();
                let file = file.display().to_string();
                (
                    format!("passphrase_file = \"{file}\""),
                    ["--new-passphrase-file".to_owned(), file],
                )
            }
            Credential(name, passphrase) => {
                std::fs::create_dir_all(self.credentials()).unwrap();
                std::fs::write(self.credentials().join(name), passphrase).unwrap();
                (
                    format!("credential = \"{name}\""),
                    ["--new-credential".to_owned(), (*name).to_owned()],
                )
            }
            Token(label) => {
                let uri = format!("pkcs11:token=ca;object={label}");
                (
                    format!("token = \"{uri}\""),
                    ["--new-token".to_owned(), uri],
                )
            }
        }
    }

    fn rekey(&self, arguments: &[String; 2]) -> Command {
        let mut command = self.ca_server(&["keys", "rekey"]);
        command.args(arguments);
        command
    }

    fn configure(&mut self, line: &str) {
        self.fleet.reconfigure(&self.line, line);
        line.clone_into(&mut self.line);
    }

    /// Whether the configuration opens the keys; otherwise what is said.
    fn opens(&self) -> Result<(), String> {
        let done = output(&mut self.ca_server(&["authority", "list"]));
        if done.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8(done.stderr).unwrap())
        }
    }

    async fn issues(&self, server: &Server) {
        let token = self.fleet.clusters[0].tokens.token("foo", "bar");
        let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/foo/sa/bar"]);
        let mut istio = server.istio().await;
        create_certificate(&mut istio, &token, "central", &request.pem(), 600)
            .await
            .unwrap();
    }
}

/// From each source to the next: the running server goes on, what is configured no longer opens and says why, what was
/// given does, and the server starts with it.
async fn through(installation: &mut Installation, sources: &[Source]) {
    let serve = |installation: &Installation| {
        Server::start(&mut installation.ca_server(&["serve"]), &installation.fleet)
    };
    let mut kind = "passphrase";
    let mut server = serve(installation);
    for source in sources {
        let (line, arguments) = installation.prepare(source);
        run(&mut installation.rekey(&arguments));
        installation.issues(&server).await;

        let refused = installation.opens().unwrap_err();
        let new_kind = match source {
            Passphrase(..) => "passphrase",
            Credential(..) => "credential",
            Token(_) => "token",
        };
        assert!(
            refused.contains(new_kind) && refused.contains("since 20"),
            "{refused}"
        );
        if kind == new_kind {
            assert!(refused.contains("does not open"), "{refused}");
        }
        kind = new_kind;

        installation.configure(&line);
        installation.opens().unwrap();
        server = serve(installation);
        installation.issues(&server).await;

        let shown = run(&mut installation.ca_server(&["keys", "show"]));
        assert!(
            shown.contains(&format!("under a {kind} since 20")),
            "{shown}"
        );
    }
}

/// From every kind to every kind; without a token, to every other.
fn sources(hsm: Option<&SoftHsm>) -> Vec<Source> {
    let mut sources = vec![
        Passphrase("other", SECOND),
        Credential("signet-passphrase", SECOND),
        Credential("signet-other", FIRST),
        Passphrase("other", SECOND),
    ];
    if hsm.is_some() {
        sources.extend([
            Token("one"),
            Token("two"),
            Credential("signet-passphrase", SECOND),
            Token("one"),
            Passphrase("passphrase", FIRST),
        ]);
    }
    sources
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_under_something_else_and_nothing_else_changes_on_sqlite() {
    let hsm = SoftHsm::or_skip("keys_at_rest in a token on sqlite");
    let sources = sources(hsm.as_ref());
    let mut installation = Installation::new(None, hsm);
    let before = authorities(&installation);
    through(&mut installation, &sources).await;
    assert_eq!(
        authorities(&installation),
        before,
        "an authority was touched"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_under_something_else_and_nothing_else_changes_on_postgres() {
    if Postgres::binaries().is_none() {
        return tests::parts::skip("keys_at_rest on postgres", "no Postgres binaries");
    }
    let postgres = Postgres::start().unwrap();
    let url = postgres.create_database().unwrap();
    let hsm = SoftHsm::or_skip("keys_at_rest in a token on postgres");
    let sources = sources(hsm.as_ref());
    let mut installation = Installation::new(Some(&url), hsm);
    let before = authorities(&installation);
    through(&mut installation, &sources).await;
    assert_eq!(
        authorities(&installation),
        before,
        "an authority was touched"
    );
}

fn authorities(installation: &Installation) -> String {
    run(&mut installation.ca_server(&["authority", "show", "central-1"]))
}

#[test]
fn what_opens_nothing_says_so_in_one_way() {
    let mut installation = Installation::new(None, None);
    let wrong = [
        "wrong horse battery",
        "a passphrase for tests onlY",
        " a passphrase for tests only",
    ];
    let said: Vec<String> = wrong
        .iter()
        .map(|passphrase| {
            std::fs::write(installation.fleet.path("passphrase"), passphrase).unwrap();
            installation.opens().unwrap_err()
        })
        .collect();
    assert!(
        said[0].contains("keys.passphrase_file does not open"),
        "{}",
        said[0]
    );
    assert!(said.iter().all(|text| text == &said[0]), "{said:?}");
    for (bytes, part) in [
        (vec![], "12 to 1024 bytes"),
        (vec![b'x'; 1 << 20], "12 to 1024 bytes"),
        (b"\xff\xfe\x00 no UTF-8 at all".to_vec(), "does not open"),
    ] {
        std::fs::write(installation.fleet.path("passphrase"), bytes).unwrap();
        let text = installation.opens().unwrap_err();
        assert!(text.contains(part), "{text}");
    }
    std::fs::write(
        installation.fleet.path("passphrase"),
        format!("{FIRST}\r\n\n"),
    )
    .unwrap();
    installation.opens().unwrap();

    // A new one that is no passphrase leaves the old one in force, and so does one that is not there.
    for bad in [Passphrase("short", "short"), Credential("empty", "")] {
        let (_, arguments) = installation.prepare(&bad);
        let done = output(&mut installation.rekey(&arguments));
        assert!(!done.status.success());
        installation.opens().unwrap();
    }
    let absent = ["--new-credential".to_owned(), "absent".to_owned()];
    assert!(!output(&mut installation.rekey(&absent)).status.success());
    installation.opens().unwrap();

    // Outside of systemd a credential says what is missing, and a path is no credential's name.
    installation.configure("credential = \"signet-passphrase\"");
    let mut outside = installation.fleet.ca_server(&["authority", "list"]);
    let (line, arguments) = installation.prepare(&Passphrase("passphrase", FIRST));
    let done = output(outside.env_remove("CREDENTIALS_DIRECTORY"));
    let text = String::from_utf8(done.stderr).unwrap();
    assert!(text.contains("rest under a passphrase"), "{text}");
    installation.configure(&line);
    let to_credential = ["--new-credential".to_owned(), "x".to_owned()];
    let mut outside = installation.rekey(&to_credential);
    let done = output(outside.env_remove("CREDENTIALS_DIRECTORY"));
    let text = String::from_utf8(done.stderr).unwrap();
    assert!(text.contains("LoadCredentialEncrypted"), "{text}");
    let path = ["--new-credential".to_owned(), "../passphrase".to_owned()];
    assert_eq!(
        output(&mut installation.rekey(&path)).status.code(),
        Some(2)
    );
    run(&mut installation.rekey(&arguments));
    installation.opens().unwrap();
}

/// Killed at any moment, it has changed the keys or it has not: one of the two opens, and the other does not.
#[test]
fn a_kill_leaves_one_that_opens() {
    let mut installation = Installation::new(None, None);
    let (first, to_first) = installation.prepare(&Passphrase("passphrase", FIRST));
    let (second, to_second) = installation.prepare(&Passphrase("second", SECOND));
    let started = Instant::now();
    run(&mut installation.rekey(&to_second));
    let whole = started.elapsed();
    installation.configure(&second);
    let mut is_second = true;
    let (mut kept, mut changed) = (0, 0);
    // From before it has begun until after it was done, closer together towards its end, where the commit is.
    for percent in [
        0, 30, 60, 80, 90, 95, 100, 105, 110, 120, 140, 170, 250, 500, 1000,
    ] {
        let arguments = if is_second { &to_first } else { &to_second };
        let mut process = Process::start(&mut installation.rekey(arguments));
        std::thread::sleep(whole * percent / 100);
        process.kill();
        let before = installation.opens();
        installation.configure(if is_second { &first } else { &second });
        let after = installation.opens();
        assert!(before.is_ok() != after.is_ok(), "{before:?} {after:?}");
        if after.is_ok() {
            (is_second, changed) = (!is_second, changed + 1);
        } else {
            installation.configure(if is_second { &second } else { &first });
            kept += 1;
        }
        if changed == 3 {
            break;
        }
    }
    assert!(kept > 0 && changed > 0, "{kept} kept, {changed} changed");
}

/// A secret that can leave its token protects nothing; a token that is away opens nothing, and
/// says that it is away.
#[test]
fn a_token_has_to_be_there_and_its_secret_to_stay_in_it() {
    let test = "a_token_has_to_be_there_and_its_secret_to_stay_in_it";
    let Some(hsm) = SoftHsm::or_skip(test) else {
        return;
    };
    let mut installation = Installation::new(None, Some(hsm));
    let hsm = installation.hsm.as_ref().unwrap();
    let mut leaky = hsm.tool("ca");
    run(leaky.args([
        "--keygen",
        "--key-type",
        "GENERIC:32",
        "--label",
        "leaky",
        "--extractable",
    ]));
    let uri = |label: &str| {
        [
            "--new-token".to_owned(),
            format!("pkcs11:token=ca;object={label}"),
        ]
    };
    let done = output(&mut installation.rekey(&uri("leaky")));
    let text = String::from_utf8(done.stderr).unwrap();
    assert!(text.contains("can leave its token"), "{text}");
    let elsewhere = [
        "--new-token".to_owned(),
        "pkcs11:token=other;object=x".to_owned(),
    ];
    let done = output(&mut installation.rekey(&elsewhere));
    let text = String::from_utf8(done.stderr).unwrap();
    assert!(text.contains("no [[token]] labelled \"other\""), "{text}");
    installation.opens().unwrap();

    run(&mut installation.rekey(&uri("mine")));
    let away = hsm.take_away("ca");
    installation.configure("token = \"pkcs11:token=ca;object=mine\"");
    let text = installation.opens().unwrap_err();
    assert!(text.contains("no token fits"), "{text}");
    away.put_back();
    installation.opens().unwrap();
    installation.line = "token = \"pkcs11:token=ca;object=mine\"".to_owned();
    installation.configure("token = \"pkcs11:token=ca;object=absent\"");
    let text = installation.opens().unwrap_err();
    assert!(text.contains("no secret key in the token fits"), "{text}");
}

/// Memory is locked, or the process does not start and says what would let it.
#[test]
fn memory_is_locked_or_nothing_starts() {
    let installation = Installation::new(None, None);
    installation
        .fleet
        .reconfigure("[keys]", "[keys]\nlock_memory = true");
    // Where the harness itself may not lock, there is nothing to compare with.
    if !rustix::process::geteuid().is_root() {
        return tests::parts::skip("memory_is_locked_or_nothing_starts", "not root");
    }
    let mut server = Server::start(&mut installation.ca_server(&["serve"]), &installation.fleet);
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", server.process().id())).unwrap();
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(kib("VmLck:") > kib("VmRSS:") / 2, "{status}");

    let ours = installation.ca_server(&["authority", "list"]);
    let mut poor = Command::new("prlimit");
    poor.args([
        "--memlock=65536:65536",
        "setpriv",
        "--bounding-set=-ipc_lock",
        "--inh-caps=-ipc_lock",
        "--",
    ]);
    poor.arg(ours.get_program()).args(ours.get_args());
    let done = output(&mut poor);
    let text = String::from_utf8(done.stderr).unwrap();
    assert!(
        !done.status.success() && text.contains("LimitMEMLOCK"),
        "{text}"
    );
}

/// Of two that change the keys at once one does, and the other says so.
#[test]
fn of_two_changes_at_once_one_wins() {
    let installation = Installation::new(None, None);
    let (_, a) = installation.prepare(&Passphrase("a", FIRST));
    let (_, b) = installation.prepare(&Passphrase("b", SECOND));
    let mut commands = [installation.rekey(&a), installation.rekey(&b)];
    let mut children: Vec<_> = commands
        .iter_mut()
        .map(|command| {
            command
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let done: Vec<_> = children
        .drain(..)
        .map(|child| child.wait_with_output().unwrap())
        .collect();
    let lost: Vec<_> = done.iter().filter(|done| !done.status.success()).collect();
    assert_eq!(lost.len(), 1, "{done:?}");
    let text = String::from_utf8_lossy(&lost[0].stderr);
    assert!(
        text.contains("in the meantime") || text.contains("does not open"),
        "{text}"
    );
}
