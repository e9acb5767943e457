//! The README's "For real" section and its administration, run line by line as they are written; only the build is replaced by programs that are built already.
//! And what an operator copies from `deploy`, as it is read by what it is for.

#![expect(clippy::expect_used, reason = "what fails here is a failed test")]

use std::path::PathBuf;
use std::process::Command;

use base64ct::{Base64, Encoding};
use tempfile::TempDir;
use tests::fleet::Fleet;
use tests::parts::{repository, skip};
use tests::process::{output, program, run};

const README: &str = include_str!("../../README.md");

/// The shell blocks of the section, and of those on administration that go on from it, in order.
fn script() -> String {
    let section = README
        .split("\n## For real\n")
        .nth(1)
        .expect("the section is there");
    let section = section.split("\n### Istio\n").next().expect("it ends");
    let blocks = section.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().expect("a block ends"))
        .collect()
}

#[test]
fn the_ten_minute_section_works_as_written() {
    let script = script();
    assert!(script.lines().count() > 30, "the blocks were found");
    let place = TempDir::new().unwrap();
    let programs = program("ca-server").parent().unwrap().to_owned();
    // The server is the script's own child: it ends with the script.
    let script = format!(
        "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n{script}\ntest -s web/tls.key -a -s db/tls.key -a -s reference.html\n"
    );
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let said = run(Command::new("timeout")
        .args(["240", "bash", "-c", &script])
        .current_dir(place.path())
        .env("PATH", path)
        .env("XDG_CONFIG_HOME", place.path().join("config"))
        .env("XDG_STATE_HOME", place.path().join("state")));
    for expected in [
        "no faults",
        "cluster central created",
        "ok: everything is as the plan says",
        "ready",
        "spiffe://example.mesh/ns/default/sa/web",
        "cert:ada",
        "central-2",
        "\"token\":\"signet_enrol_",
    ] {
        assert!(
            said.contains(expected),
            "{expected:?} is missing in:\n{said}"
        );
    }
}

/// A sample of `deploy`.
fn sample(name: &str) -> PathBuf {
    repository().join("deploy").join(name)
}

#[test]
fn every_deployed_sample_has_a_test_here() {
    let mut samples: Vec<_> = std::fs::read_dir(sample(""))
        .expect("deploy is there")
        .map(|entry| entry.expect("it is read").file_name())
        .collect();
    samples.sort();
    assert_eq!(
        samples,
        [
            "ca-server.service",
            "ca-server.toml",
            "cluster.toml",
            "prometheus-rules.yaml"
        ]
    );
}

#[test]
fn the_sample_configuration_has_no_faults() {
    // The check looks for files too, and this machine has no /etc/signet.
    let place = TempDir::new().unwrap();
    let text = std::fs::read_to_string(sample("ca-server.toml")).expect("it is there");
    let here = place.path().to_str().expect("it is UTF-8");
    let text = text
        .replace("/var/lib/signet", here)
        .replace("/etc/signet", here);
    let file = place.path().join("ca-server.toml");
    std::fs::write(&file, text).expect("it is written");
    std::fs::write(place.path().join("passphrase"), "of this test alone").expect("it is written");
    let mut check = Command::new(program("ca-server"));
    let said = run(check.arg("--config").arg(file).args(["config", "check"]));
    assert!(said.contains("no faults"), "{said}");
}

/// The file with its commented keys and sections switched on.
fn everything_on(text: &str) -> String {
    let is_toml = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let lines = text.lines().map(|line| {
        let bare = line.strip_prefix("# ");
        bare.filter(is_toml).unwrap_or(line)
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_sample_cluster_is_applied_as_it_is_and_with_everything_on() {
    const KUBECONFIG: &str = r#"apiVersion: v1
kind: Config
current-context: central
contexts: [{ name: central, context: { cluster: central, user: signet } }]
clusters: [{ name: central, cluster: { server: "https://kubernetes.example", certificate-authority-data: CA } }]
users: [{ name: signet, user: { token: "a token" } }]
"#;
    let fleet = Fleet::on_sqlite(&["central"]);
    let text = std::fs::read_to_string(sample("cluster.toml")).expect("it is there");
    let own = "/etc/signet/central.kubeconfig";
    let kubeconfig = fleet.path("central.kubeconfig");
    let ca = Base64::encode_string(fleet.root_pem().as_bytes());
    std::fs::write(&kubeconfig, KUBECONFIG.replace("CA }", &format!("{ca} }}")))
        .expect("it is written");
    let all = everything_on(&text).replace(own, kubeconfig.to_str().expect("it is UTF-8"));
    assert_ne!(all, text);
    for text in [&text, &all] {
        let file = fleet.path("cluster.toml");
        std::fs::write(&file, text).expect("it is written");
        let said = run(fleet.ca_server(&["cluster", "apply"]).arg(&file));
        assert!(said.contains("cluster central"), "{said}");
    }
    let shown = run(&mut fleet.ca_server(&["cluster", "show", "central"]));
    for on in ["kubeconfig", "**.example.com", "istio-ca"] {
        assert!(shown.contains(on), "{on:?} is missing in:\n{shown}");
    }
}

#[test]
fn systemd_takes_the_sample_unit() {
    let test = "systemd_takes_the_sample_unit";
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        return skip(test, "no systemd-analyze; see tests/parts/install");
    }
    let text = std::fs::read_to_string(sample("ca-server.service")).expect("it is there");
    // It wants to see the program; ours is not installed here.
    let ours = program("ca-server");
    let text = text.replace(
        "/usr/local/bin/ca-server",
        ours.to_str().expect("it is UTF-8"),
    );
    let place = TempDir::new().expect("there is room");
    let unit = place.path().join("ca-server.service");
    std::fs::write(&unit, text).expect("it is written");
    let judged = output(Command::new("systemd-analyze").arg("verify").arg(&unit));
    let said = String::from_utf8_lossy(&judged.stderr);
    // It tells of other units of the machine too, and has a status of its own for that.
    let about_it: Vec<_> = said
        .lines()
        .filter(|line| line.contains("ca-server"))
        .collect();
    assert!(about_it.is_empty(), "{about_it:#?}");
}

/// No Prometheus here: what it would read is a metric of a running server, each.
#[test]
fn the_sample_alerts_are_on_metrics_that_there_are() {
    let rules = std::fs::read_to_string(sample("prometheus-rules.yaml")).expect("it is there");
    let source = std::fs::read_to_string(repository().join("ca-server/src/metrics.rs"))
        .expect("it is there");
    let of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut names: Vec<&str> = rules
        .split(|c| !of_name(c))
        .filter(|word| word.starts_with("signet_"))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        // What counts ends in _total where it is shown.
        let registered = name.trim_end_matches("_total");
        assert!(source.contains(&format!("\"{registered}\"")), "{name}");
    }
}
