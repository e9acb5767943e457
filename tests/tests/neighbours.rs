//! One identity asks for all that it may, as much at once as it can: its neighbours are served all the same.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tests::attacks::openssl_request;
use tests::disturbance::StopOnDrop;
use tests::fleet::{Fleet, Server};
use tests::requests::{KeyAndRequest, create_certificate};
use tokio::task::JoinSet;
use tonic::Code;

/// Calls in flight of the one that is greedy.
const AT_ONCE: usize = 50;
/// Calls of each neighbour, one after the other.
const CALLS: usize = 4;
const NEIGHBOURS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

/// The dearest requests that are granted: the largest RSA key, and a P-384 one.
fn dear_requests(fleet: &Fleet) -> Vec<String> {
    let folder = fleet.directory();
    let rsa = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096"];
    let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
    vec![
        openssl_request(folder, &rsa),
        openssl_request(folder, &p384),
    ]
}

/// Has one identity call without a pause while the neighbours call; tells what it was answered: certificates and refusals.
async fn crowd(fleet: &Fleet, server: &Server) -> (usize, usize) {
    let tokens = &fleet.clusters[0].tokens;
    let requests = Arc::new(dear_requests(fleet));
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let mut greedy = JoinSet::new();
    let client = server.istio().await;
    for n in 0..AT_ONCE {
        let (mut client, stop, requests) = (client.clone(), stop.clone(), requests.clone());
        let (answered, token) = (answered.clone(), tokens.token("foo", "greedy"));
        greedy.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let csr = &requests[n % requests.len()];
                let answer = create_certificate(&mut client, &token, "central", csr, 3600).await;
                if let Err(status) = &answer {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                }
                answered[usize::from(answer.is_err())].fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let stop = StopOnDrop(&stop);
    let so_far = || {
        answered
            .iter()
            .map(|n| n.load(Ordering::Relaxed))
            .sum::<usize>()
    };
    let crowding = async {
        // It is crowded before the first neighbour comes, and still when the last one has gone.
        while so_far() < AT_ONCE / 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, crowding).await.unwrap();
    let before = so_far();
    for neighbour in 0..NEIGHBOURS {
        let account = format!("neighbour-{neighbour}");
        let token = tokens.token("foo", &account);
        let id = format!("spiffe://cluster.local/ns/foo/sa/{account}");
        let mut client = server.istio().await;
        for call in 0..CALLS {
            let csr = KeyAndRequest::for_uris(&[&id]).pem();
            let answer = create_certificate(&mut client, &token, "central", &csr, 3600).await;
            answer.unwrap_or_else(|status| panic!("call {call} of {account}: {status:?}"));
        }
    }
    assert!(so_far() > before, "the greedy one was there all the time");
    drop(stop);
    while let Some(ended) = greedy.join_next().await {
        ended.unwrap();
    }
    let [issued, refused] = [0, 1].map(|i| answered[i].load(Ordering::Relaxed));
    (issued, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_dear_calls_at_once_leave_their_neighbours_served() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let (issued, refused) = crowd(&fleet, &server).await;
    assert!(issued > AT_ONCE, "{issued}");
    assert_eq!(refused, 0, "within its quota");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_its_quota_takes_no_turn_from_its_neighbours() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut serve = fleet.ca_server(&["serve"]);
    serve.env("SIGNET__LIMITS__IN_FLIGHT", "16");
    serve.env("SIGNET__LIMITS__PER_IDENTITY_PER_MINUTE", "60");
    let server = Server::start(&mut serve, &fleet);
    let (issued, refused) = crowd(&fleet, &server).await;
    assert!(
        issued > 0 && refused > 0,
        "{issued} issued, {refused} refused"
    );
}
