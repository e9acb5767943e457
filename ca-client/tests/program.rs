//! The program `ca`, run as people run it.
#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::process::Stdio;

use support::{ID, Manner, World, now};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn ca(arguments: &[&str], stdin: &str) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ca"))
        .args(arguments)
        .env_remove("SIGNET_SERVER")
        .env_remove("SIGNET_ROOTS")
        .env_remove("SIGNET_DIR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A program that does not read its input closes it; that is no failure.
    let _ = input.write_all(stdin.as_bytes()).await;
    drop(input);
    let output = child.wait_with_output().await.unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn enrol_renew_and_inspect() {
    let world = World::start().await;
    let (roots, token, dir) = (
        world.path("roots.pem"),
        world.path("token"),
        world.path("id"),
    );
    let (roots, token, dir) = (
        roots.to_str().unwrap(),
        token.to_str().unwrap(),
        dir.to_str().unwrap(),
    );
    let run = ca(
        &[
            "enroll",
            "--server",
            &world.address,
            "--roots",
            roots,
            "--dir",
            dir,
            "--token-file",
            token,
            "--cluster",
            "Kubernetes",
            "--spiffe-id",
            ID,
            "--ttl",
            "2h",
            "--output",
            "json",
        ],
        "",
    )
    .await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let issued: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(issued["names"][0], format!("URI:{ID}"));
    let first = world
        .directory()
        .load()
        .unwrap()
        .leaf()
        .serial()
        .to_string();
    assert_eq!(issued["serial"], first);

    // What was told at enrolment is remembered: server, roots, lifetime.
    let run = ca(&["renew", "--dir", dir, "--hook", "echo to-stdout"], "").await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(world.server.last_seen().ttl_seconds, Some(7_200));
    assert!(world.server.last_seen().certificate.is_some());
    let second = world
        .directory()
        .load()
        .unwrap()
        .leaf()
        .serial()
        .to_string();
    assert_ne!(first, second);
    assert!(run.stdout.contains(&second), "{}", run.stdout);
    assert!(!run.stdout.contains("to-stdout") && run.stderr.contains("to-stdout"));

    let chain = std::fs::read_to_string(world.path("id/tls.crt")).unwrap();
    let run = ca(&["inspect"], &chain).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stdout.contains(&format!("workload {ID}")),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout.contains("the next certificate"),
        "{}",
        run.stdout
    );
    let run = ca(&["inspect", "--output", "json", "-"], &chain).await;
    let said: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(said[0]["serial"], second);
}

#[tokio::test]
async fn exit_codes_tell_refused_from_busy_and_errors_say_what_to_do() {
    let world = World::start().await;
    let roots = world.path("roots.pem");
    let dir = world.path("id");
    let enrol = [
        "enroll",
        "--server",
        &world.address,
        "--roots",
        roots.to_str().unwrap(),
        "--dir",
        dir.to_str().unwrap(),
        "--enrolment-token-file",
        "-",
    ];
    let run = ca(&enrol, "signet_enrol_stranger").await;
    assert_eq!(run.code, Some(4), "{}", run.stderr);
    assert!(run.stderr.contains("audience") && run.stderr.contains("what to do:"));
    assert!(!run.stderr.contains("stranger"), "{}", run.stderr);
    assert!(run.stdout.is_empty());

    world.server.behave(Manner::Away(u32::MAX));
    let short = [&enrol[..], &["--timeout", "1s"]].concat();
    let run = ca(&short, "signet_enrol_abc").await;
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    let again = run.stderr.contains("same command again within ten minutes");
    assert!(again, "{}", run.stderr);
    assert!(!run.stderr.contains('\u{1b}'), "{:?}", run.stderr);

    let run = ca(&enrol[..7], "").await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);

    let run = ca(&["renew", "--dir", "/nonexistent/identity"], "").await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("ca enroll"), "{}", run.stderr);

    // Twice not now, then a certificate, in one run.
    world.server.behave(Manner::Away(2));
    let run = ca(&enrol, "signet_enrol_abc").await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(world.directory().load().unwrap().leaf().is_valid_at(now()));
}

/// `ca enroll` with a token that the stand-in knows.
async fn enroll(world: &World, address: &str, more: &[&str]) -> Run {
    let (roots, dir) = (world.path("roots.pem"), world.path("id"));
    let mut words = vec!["enroll", "--server", address];
    words.extend(["--roots", roots.to_str().unwrap()]);
    words.extend(["--dir", dir.to_str().unwrap()]);
    words.extend(["--enrolment-token-file", "-"]);
    words.extend(more);
    ca(&words, "signet_enrol_abc").await
}

#[tokio::test]
async fn an_address_that_is_none_is_wrong_usage() {
    let world = World::start().await;
    for (address, more, words) in [
        ("http://localhost:1", &[][..], "without TLS"),
        ("localhost:1", &[], "https://"),
        (
            "https://localhost:1",
            &["--server-name", "a b"],
            "host name",
        ),
    ] {
        let run = enroll(&world, address, more).await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(words), "{}", run.stderr);
    }
    let run = ca(
        &["renew", "--dir", "/", "--server", "http://localhost:1"],
        "",
    )
    .await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
}

#[tokio::test]
async fn a_wrong_port_is_not_worth_trying_again() {
    let mut world = World::start().await;
    // What most ports do that are not ours: take whatever comes for HTTP.
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", plain.local_addr().unwrap().port());
    let answering = async {
        loop {
            let (mut stream, _) = plain.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    };
    let run = tokio::select! {
        run = enroll(&world, &address, &[]) => run,
        () = answering => unreachable!(),
    };
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("does not speak TLS"), "{}", run.stderr);
    assert!(run.stderr.contains("`issue` listener"), "{}", run.stderr);

    // As the `admin` listener: the handshake works, and then it does not go on.
    let closed = world.serve_to_clients_alone();
    for _ in 0..5 {
        let run = enroll(&world, &closed, &[]).await;
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        assert!(run.stderr.contains("client certificate"), "{}", run.stderr);
    }
}

#[tokio::test]
async fn a_server_that_is_not_believed_is_told_with_its_chain_and_our_roots() {
    let world = World::start().await;
    let foreign = world.path("foreign.pem");
    std::fs::write(&foreign, world.server.foreign.root.to_pem()).unwrap();
    let foreign = foreign.to_str().unwrap();
    let dir = world.path("id");
    let mut words = vec!["enroll", "--server", &world.address, "--roots", foreign];
    words.extend([
        "--dir",
        dir.to_str().unwrap(),
        "--enrolment-token-file",
        "-",
    ]);
    let run = ca(&words, "signet_enrol_abc").await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    for word in [foreign, "CN=cluster 1", "another key"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }
    assert!(!run.stderr.contains("UnknownIssuer"), "{}", run.stderr);

    let run = enroll(&world, &world.address, &["--server-name", "other.example"]).await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let words = "for DNS:localhost, not for other.example";
    assert!(run.stderr.contains(words), "{}", run.stderr);
}

#[tokio::test]
async fn a_directory_that_cannot_take_the_identity_costs_no_token() {
    let world = World::start().await;
    std::fs::create_dir(world.path("id")).unwrap();
    std::fs::write(world.path("id/tls.key"), "somebody's").unwrap();
    let run = enroll(&world, &world.address, &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("move it away"), "{}", run.stderr);
    assert!(world.server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_identity_always_knows_how_it_is_renewed() {
    let world = World::start().await;
    // Settings that cannot be written, as on a full disk.
    std::fs::create_dir_all(world.path("id/signet.toml")).unwrap();
    let run = enroll(&world, &world.address, &[]).await;
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(!world.path("id/tls.crt").exists());

    std::fs::remove_dir(world.path("id/signet.toml")).unwrap();
    let run = enroll(&world, &world.address, &[]).await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let dir = world.path("id");
    let run = ca(&["renew", "--dir", dir.to_str().unwrap()], "").await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[tokio::test]
async fn inspect_says_what_it_found_where_it_can_say_no_more() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    for (content, words) in [
        ("", "it is empty"),
        ("signet_enrol_abc", "an enrolment token"),
        ("{\"keys\": []}", "a JSON web key set"),
        ("nothing of the kind", "other text"),
    ] {
        std::fs::write(path("file"), content).unwrap();
        let run = ca(&["inspect", &path("file")], "").await;
        assert_eq!(run.code, Some(1), "{}", run.stderr);
        let said = run.stderr.contains(words) && run.stderr.contains("expected");
        assert!(said, "{words}: {}", run.stderr);
    }
    let run = ca(&["inspect", &path("")], "").await;
    assert!(run.stderr.contains("is a directory"), "{}", run.stderr);
    let run = ca(&["inspect"], "").await;
    assert!(run.stderr.contains("standard input"), "{}", run.stderr);
}

#[tokio::test]
async fn the_bundle_is_written_to_its_file() {
    let world = World::start().await;
    let (roots, out) = (world.path("roots.pem"), world.path("bundle.pem"));
    let run = ca(
        &[
            "bundle",
            "--server",
            &world.address,
            "--roots",
            roots.to_str().unwrap(),
            "--trust-domain",
            "td.test",
            "--out",
            out.to_str().unwrap(),
        ],
        "",
    )
    .await;
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let written = std::fs::read_to_string(out).unwrap();
    assert_eq!(written, world.server.authority.root.to_pem());
}

#[tokio::test]
async fn watching_ends_well_when_it_is_told_to() {
    let world = World::start().await;
    world.put_identity(now());
    let roots = world.path("roots.pem");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ca"))
        .args(["renew", "--watch", "--server", &world.address, "--roots"])
        .arg(&roots)
        .arg("--dir")
        .arg(world.path("id"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It is up once it says what it watches.
    let mut stderr = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut stderr, &mut line)
        .await
        .unwrap();
    assert!(line.contains("watching"), "{line}");
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    rustix::process::kill_process(id.unwrap(), rustix::process::Signal::TERM).unwrap();
    assert!(child.wait().await.unwrap().success());
}
