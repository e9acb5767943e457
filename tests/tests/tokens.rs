//! Authorities' keys in PKCS#11 tokens (real SoftHSM2): several tokens, tokens that go away and hang under load, rotation into a
//! token and out of it, replicas without one, and proof that a key cannot leave its token.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::time::{Duration, Instant};

use hsm::Signer;
use pki::certificate::Certificate;
use pki::key::KeyAlgorithm;
use pki::time::Ttl;
use tests::fleet::{Fleet, Server, TestCluster};
use tests::http::get;
use tests::istio::wait_until;
use tests::load::Calls;
use tests::load::hammer::{Hammer, Seen};
use tests::process::{output, run};
use tests::requests::{KeyAndRequest, create_certificate};
use tests::softhsm::SoftHsm;
use tonic::Code;

const PIN: &str = "73920461";
const CLIENTS: usize = 6;
/// What a request may take at most: its turn, its signature and its record, on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(10);

/// Clusters whose keys are in tokens of the same names.
fn in_tokens(hsm: &SoftHsm, clusters: &[&str]) -> Fleet {
    let mut fleet = Fleet::without_authorities(None, clusters, "");
    fleet.set_environment(hsm.environment());
    for cluster in clusters {
        fleet.configure(&hsm.token(cluster, PIN, "canary = \"1s\""));
        fleet.add_active_authority(cluster, &["--token", cluster]);
    }
    fleet
}

/// The first cluster's key in the store, the second one's in a token.
fn side_by_side(hsm: &SoftHsm) -> Fleet {
    let mut fleet = Fleet::without_authorities(None, &["central", "edge"], "");
    fleet.set_environment(hsm.environment());
    fleet.configure(&hsm.token("edge", PIN, "canary = \"1s\""));
    fleet.add_active_authority("central", &[]);
    fleet.add_active_authority("edge", &["--token", "edge"]);
    fleet
}

fn calls(cluster: &TestCluster) -> Calls {
    Calls::prepare(cluster, 10, 50)
}

async fn issue(server: &Server, cluster: &TestCluster) -> Result<Certificate, tonic::Status> {
    let token = cluster.tokens.token("foo", "bar");
    let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/foo/sa/bar"]);
    let mut istio = server.istio().await;
    let answer = create_certificate(&mut istio, &token, &cluster.name, &request.pem(), 600).await?;
    Ok(Certificate::parse_pem(answer.cert_chain[0].as_bytes())
        .unwrap()
        .remove(0))
}

/// Waits until the cluster's certificates come again.
async fn issues_again(server: &Server, cluster: &TestCluster) {
    let until = Instant::now() + Duration::from_secs(60);
    while let Err(status) = issue(server, cluster).await {
        assert!(Instant::now() < until, "{status:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn metric(server: &Server, line: &str) -> Option<String> {
    let text = get(server.ops, "/metrics").unwrap().text();
    let mut values = text.lines().filter_map(|l| l.strip_prefix(line));
    values.next().map(|value| value.trim().to_owned())
}

fn canary(server: &Server, cluster: &str) -> Option<String> {
    let labels = format!("{{authority=\"{cluster}-1\",token=\"{cluster}\"}}");
    metric(server, &format!("signet_token_canary_up{labels}"))
}

/// Every refusal may be tried again, and none took longer than its deadline.
fn check_refusals(seen: &Seen) {
    for status in &seen.refused {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }
    assert!(seen.slowest < DEADLINE, "{:?}", seen.slowest);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tokens_issue_under_load_and_one_that_goes_away_comes_back() {
    let Some(hsm) =
        SoftHsm::or_skip("two_tokens_issue_under_load_and_one_that_goes_away_comes_back")
    else {
        return;
    };
    let fleet = in_tokens(&hsm, &["central", "edge"]);
    let shown = run(&mut fleet.ca_server(&["authority", "show", "edge-1"]));
    let confined = "made in the token, cannot leave it and never could";
    assert!(
        shown.contains("pkcs11:token=edge;object=edge-1") && shown.contains(confined),
        "{shown}"
    );

    let server = fleet.serve();
    let central = Hammer::start(&server, calls(&fleet.clusters[0]), CLIENTS).await;
    let edge = Hammer::start(&server, calls(&fleet.clusters[1]), CLIENTS).await;
    central.more_certificates(50).await;
    edge.more_certificates(50).await;
    wait_until("good canaries", || {
        (canary(&server, "edge").as_deref() == Some("1")).then_some(())
    });

    for _ in 0..2 {
        let away = hsm.take_away("edge");
        edge.until("refusals", |seen| !seen.refused.is_empty())
            .await;
        wait_until("the canary's failure", || {
            (canary(&server, "edge").as_deref() == Some("0")).then_some(())
        });
        // While the one is away, the other signs.
        central.more_certificates(50).await;
        away.put_back();
        edge.more_certificates(50).await;
        wait_until("the canary's success", || {
            (canary(&server, "edge").as_deref() == Some("1")).then_some(())
        });
    }
    let (central, edge) = (central.stop().await, edge.stop().await);
    check_refusals(&edge);
    check_refusals(&central);
    let log = server.log();
    assert!(log.count("the key in its token does not sign") >= 2);
    assert!(log.count("the key in its token works again") >= 2);
    assert!(
        log.count("the key in its token does not sign") <= 6,
        "{:?}",
        log.lines()
    );
    let result = "{authority=\"edge-1\",token=\"edge\",result=\"failure\"}";
    assert!(
        metric(
            &server,
            &format!("signet_token_canary_signatures_total{result}")
        )
        .is_some()
    );
    let labels = "{authority=\"edge-1\",token=\"edge\"}";
    let name = "signet_token_canary_last_success_timestamp_seconds";
    let last: i64 = metric(&server, &format!("{name}{labels}"))
        .unwrap()
        .parse()
        .unwrap();
    assert!((tests::now().unix() - last).abs() < 60, "{last}");
}

/// Every file of a token that its module locks, locked: what calls the module hangs in it.
struct Hanging {
    _locked: Vec<std::fs::File>,
}

impl Hanging {
    fn token(hsm: &SoftHsm, label: &str) -> Self {
        let entries = std::fs::read_dir(hsm.directory_of(label)).unwrap();
        let files = entries.map(|entry| {
            let options = std::fs::File::options().read(true).write(true).to_owned();
            let file = options.open(entry.unwrap().path()).unwrap();
            rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
            file
        });
        Self {
            _locked: files.collect(),
        }
    }
}

fn threads(server: &mut Server) -> usize {
    let tasks = format!("/proc/{}/task", server.process().id());
    std::fs::read_dir(tasks).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_hangs_holds_nobody_up_past_the_deadline() {
    let Some(hsm) = SoftHsm::or_skip("a_token_that_hangs_holds_nobody_up_past_the_deadline") else {
        return;
    };
    let fleet = side_by_side(&hsm);
    let mut server = fleet.serve();
    issues_again(&server, &fleet.clusters[1]).await;
    let edge = Hammer::start(&server, calls(&fleet.clusters[1]), 40).await;
    edge.more_certificates(50).await;
    let before = threads(&mut server);
    let hanging = Hanging::token(&hsm, "edge");
    edge.until("refusals of all", |seen| seen.refused.len() > 200)
        .await;
    // Nobody else waits: the key in memory signs, artefacts are served.
    let began = Instant::now();
    issue(&server, &fleet.clusters[0]).await.unwrap();
    assert_eq!(get(server.public, "/crls/edge-1.crl").unwrap().status, 200);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    // However many have asked, as many threads wait for the token as it has places.
    assert!(
        threads(&mut server) < before + 20,
        "{} threads",
        threads(&mut server)
    );
    wait_until("the canary's failure", || {
        (canary(&server, "edge").as_deref() == Some("0")).then_some(())
    });
    drop(hanging);
    edge.more_certificates(50).await;
    check_refusals(&edge.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_away_at_the_start_is_taken_up_when_it_comes() {
    let Some(hsm) = SoftHsm::or_skip("a_token_that_is_away_at_the_start_is_taken_up_when_it_comes")
    else {
        return;
    };
    let fleet = side_by_side(&hsm);
    let away = hsm.take_away("edge");
    let server = fleet.serve();
    issue(&server, &fleet.clusters[0]).await.unwrap();
    let refused = issue(&server, &fleet.clusters[1]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    server
        .log()
        .wait_for(&["the key in its token does not sign", "no token fits"]);
    assert_eq!(get(server.public, "/crls/edge-1.crl").unwrap().status, 200);
    away.put_back();
    issues_again(&server, &fleet.clusters[1]).await;
    server.log().wait_for(&["the key in its token works again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_is_given_once() {
    let Some(hsm) = SoftHsm::or_skip("a_wrong_pin_is_given_once") else {
        return;
    };
    let fleet = side_by_side(&hsm);
    std::fs::write(hsm.pin_file("edge"), "00000000\n").unwrap();
    let server = fleet.serve();
    server
        .log()
        .wait_for(&["the key in its token does not sign", "refused the PIN"]);
    // With the right one in the file it would work, were it given again.
    std::fs::write(hsm.pin_file("edge"), format!("{PIN}\n")).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let refused = issue(&server, &fleet.clusters[1]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert_eq!(server.log().count("the key in its token does not sign"), 1);
    assert!(
        server
            .log()
            .lines()
            .iter()
            .all(|line| !line.contains("00000000"))
    );
    issue(&server, &fleet.clusters[0]).await.unwrap();
    drop(server);
    let server = fleet.serve();
    issues_again(&server, &fleet.clusters[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_moves_into_a_token_and_out_again_under_traffic() {
    let Some(hsm) = SoftHsm::or_skip("a_cluster_moves_into_a_token_and_out_again_under_traffic")
    else {
        return;
    };
    let mut fleet = Fleet::on_sqlite(&["central"]);
    fleet.set_environment(hsm.environment());
    fleet.configure(&hsm.token("central", PIN, "canary = \"1s\""));
    let server = fleet.serve();
    let hammer = Hammer::start(&server, calls(&fleet.clusters[0]), CLIENTS).await;
    for (id, more) in [
        ("central-2", &["--token", "central"][..]),
        ("central-3", &[]),
    ] {
        hammer.more_certificates(50).await;
        let made = fleet.add_authority_with("central", Ttl::days(300), more);
        assert_eq!(made, id);
        // Everyone trusts it before it signs; so does the server know that the token has its key.
        if !more.is_empty() {
            server.log().wait_for(&["the key in its token works", id]);
        }
        if !more.is_empty() {
            // As long as its token is away, the one before it goes on.
            let away = hsm.take_away("central");
            let done = output(&mut fleet.ca_server(&["authority", "activate", id]));
            let text = String::from_utf8(done.stderr).unwrap();
            assert!(
                !done.status.success() && text.contains("no token fits"),
                "{text}"
            );
            away.put_back();
            wait_until("the key in its token", || {
                let labels = format!("{{authority=\"{id}\",token=\"central\"}}");
                let up = metric(&server, &format!("signet_token_canary_up{labels}"));
                (up.as_deref() == Some("1")).then_some(())
            });
        }
        run(&mut fleet.ca_server(&["authority", "activate", id]));
        wait_until("the new authority signs", || {
            server
                .log()
                .lines()
                .iter()
                .any(|line| line.contains("authority in force") && line.contains(id))
                .then_some(())
        });
        let issued = issue(&server, &fleet.clusters[0]).await.unwrap();
        let name = format!("central cluster CA {}", id.trim_start_matches("central-"));
        let issuer = issued.issuer().to_vec();
        assert!(
            issuer.windows(name.len()).any(|w| w == name.as_bytes()),
            "{name}"
        );
    }
    hammer.more_certificates(50).await;
    let seen = hammer.stop().await;
    assert!(seen.refused.is_empty(), "{:?}", seen.refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_the_token_signs_the_rest_and_serves_it_all() {
    let Some(hsm) =
        SoftHsm::or_skip("a_replica_without_the_token_signs_the_rest_and_serves_it_all")
    else {
        return;
    };
    let fleet = side_by_side(&hsm);
    let with = fleet.serve();
    issues_again(&with, &fleet.clusters[1]).await;
    let config = std::fs::read_to_string(fleet.path("ca-server.toml")).unwrap();
    let (without, _) = config.split_once("[[token]]").unwrap();
    std::fs::write(fleet.path("ca-server.toml"), without).unwrap();
    let replica = fleet.serve();
    std::fs::write(fleet.path("ca-server.toml"), &config).unwrap();

    issue(&replica, &fleet.clusters[0]).await.unwrap();
    let refused = issue(&replica, &fleet.clusters[1]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused
            .message()
            .contains("does not hold the key of edge-1"),
        "{refused:?}"
    );
    for path in ["/crls/edge-1.crl", "/crls/central-1.crl"] {
        assert_eq!(get(replica.public, path).unwrap().status, 200, "{path}");
    }
    // A change of the store has the snapshot read again: what was said is not said again.
    let read = replica.log().count("authority in force");
    fleet.apply(0, "max_ttl = \"6d\"\n");
    wait_until("the snapshot after the change", || {
        (replica.log().count("authority in force") > read).then_some(())
    });
    let told = "does not name the token that holds the authority's key";
    assert_eq!(replica.log().count(told), 1, "{:?}", replica.log().lines());
    issue(&with, &fleet.clusters[1]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_confined_keys_gets_no_other() {
    let Some(hsm) = SoftHsm::or_skip("who_wants_confined_keys_gets_no_other") else {
        return;
    };
    let mut fleet = Fleet::without_authorities(None, &["central", "edge"], "");
    fleet.set_environment(hsm.environment());
    fleet.configure(&hsm.token("central", PIN, "canary = \"1s\""));
    let (signer, pkcs8) = hsm::SoftwareSigner::generate(KeyAlgorithm::EcdsaP256).unwrap();
    hsm.import("central", "brought", &pkcs8, signer.public_key().spki());
    let require = "[keys]\nrequire_confined = true";
    fleet.reconfigure("[keys]", require);

    let uri = "pkcs11:token=central;object=brought";
    let request = |arguments: &[&str]| {
        let mut command = fleet.ca_server(&["authority", "request", "edge", "--out"]);
        command.arg(fleet.path("edge.pem")).args(arguments);
        command
    };
    for arguments in [&["--existing-key", uri][..], &[]] {
        let done = output(&mut request(arguments));
        let text = String::from_utf8(done.stderr).unwrap();
        assert!(
            !done.status.success() && text.contains("require_confined"),
            "{text}"
        );
    }
    let done = output(&mut request(&["--existing-key", uri]));
    let text = String::from_utf8(done.stderr).unwrap();
    assert!(
        text.contains("brought into the token from outside"),
        "{text}"
    );

    // What the token made is taken; what it did not make is, where nobody wants that.
    fleet.add_authority_with("central", Ttl::days(365), &["--token", "central"]);
    fleet.reconfigure(require, "[keys]");
    fleet.add_active_authority("edge", &["--existing-key", uri]);
    let shown = run(&mut fleet.ca_server(&["authority", "show", "edge-1"]));
    assert!(
        shown.contains("object=brought") && shown.contains("brought into the token from outside"),
        "{shown}"
    );
    let server = fleet.serve();
    issues_again(&server, &fleet.clusters[1]).await;
    drop(server);

    // Who wants it later has what is not confined refused at the start, in words; the rest goes on.
    fleet.reconfigure("[keys]", require);
    let server = fleet.serve();
    server.log().wait_for(&[
        "edge-1",
        "brought into the token from outside",
        "require_confined",
    ]);
    issue(&server, &fleet.clusters[0]).await.unwrap();
    let refused = issue(&server, &fleet.clusters[1]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}
