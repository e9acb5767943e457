//! SIGHUP: a changed file is put in force while the server runs, a faulty one changes nothing.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use rustix::process::Signal;
use tests::fleet::{Fleet, Server};
use tests::http::get;
use tests::requests::{KeyAndRequest, create_certificate};
use tokio::net::TcpStream;

/// Rewrites the configuration, has the server read it, and waits for what it says.
fn change(fleet: &Fleet, server: &mut Server, from: &str, to: &str, says: &[&str]) {
    let file = fleet.path("ca-server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
    server.process().signal(Signal::HUP);
    server.log().wait_for(says);
}

/// The Istio call of a caller that names no cluster.
async fn issue_without_a_cluster(fleet: &Fleet, server: &Server) -> Result<(), tonic::Code> {
    let token = fleet.clusters[0].tokens.token("foo", "bar");
    let request = KeyAndRequest::for_uris(&["spiffe://cluster.local/ns/foo/sa/bar"]);
    let mut istio = server.istio().await;
    let answer = create_certificate(&mut istio, &token, "", &request.pem(), 600).await;
    answer.map(drop).map_err(|status| status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_put_in_force_and_a_faulty_one_is_not() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let mut server = fleet.serve();
    let in_force = "configuration read again and in force";

    // Names: the serving certificate is issued again.
    let issued = server.log().count("serving certificate in force");
    let names = "names = [\"localhost\", ";
    change(
        &fleet,
        &mut server,
        names,
        "names = [\"localhost\", \"ca.changed.example\", ",
        &[in_force],
    );
    tests::istio::wait_until("the new serving certificate", || {
        (server.log().count("serving certificate in force") > issued).then_some(())
    });

    // Who names no cluster is of the default one, while there is one.
    assert_eq!(issue_without_a_cluster(&fleet, &server).await, Ok(()));
    change(
        &fleet,
        &mut server,
        "default_cluster = \"central\"",
        "",
        &[in_force],
    );
    tests::istio::wait_until("no default cluster", || {
        let asked = issue_without_a_cluster(&fleet, &server);
        let asked =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asked));
        (asked == Err(tonic::Code::Unauthenticated)).then_some(())
    });

    // Bounds on connections: one connection is kept, and there is no place for a second.
    change(
        &fleet,
        &mut server,
        "[listeners]",
        "[listeners]\nmax_connections_per_address = 1",
        &[in_force],
    );
    let kept = TcpStream::connect(server.public).await.unwrap();
    tests::istio::wait_until("a connection that is turned away", || {
        get(server.public, "/crls/central-1.crl")
            .is_err()
            .then_some(())
    });
    drop(kept);

    // What takes a restart is named; what else changed with it is in force.
    change(
        &fleet,
        &mut server,
        "public = \"127.0.0.1:0\"",
        "public = \"127.0.0.1:1\"",
        &["take a restart", "listeners.public"],
    );
    // A faulty file: every fault is told, and the server goes on as it was.
    change(
        &fleet,
        &mut server,
        "[limits]",
        "[limits]\nqueue_wait = \"soon\"",
        &["the configuration stays as it is", "limits.queue_wait"],
    );
    assert_eq!(get(server.ops, "/readyz").unwrap().status, 200);
    assert!(server.process().terminate());
}
