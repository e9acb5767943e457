//! The server's own certificate: replaced without a restart, at half its life and with the authority that signed it. New
//! connections see the new one, and old connections live on.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use pki::certificate::Certificate;
use pki::time::{Timestamp, Ttl};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use tests::attacks::{field, frame};
use tests::disturbance::{Clock, libfaketime, with_clock};
use tests::fleet::{Fleet, Server};
use tests::istio::wait_until;
use tests::process::run;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that is so many days ahead.
#[derive(Debug)]
struct DaysAhead(u32);

impl TimeProvider for DaysAhead {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(tests::now().plus(Ttl::days(self.0)).unix()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A new connection, by a client that believes in the fleet's root and lives so many days ahead.
async fn connect(fleet: &Fleet, server: &Server, days: u32) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let root = fleet.root.certificate().der().to_vec();
    roots.add(CertificateDer::from(root)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(DaysAhead(days)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.issue).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

/// What the server shows: its certificate, and who signed it.
async fn shown(fleet: &Fleet, server: &Server, days: u32) -> (Certificate, Certificate) {
    let stream = connect(fleet, server, days).await;
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    let [leaf, issuer] = [0, 1].map(|i| Certificate::parse(&chain[i]).unwrap());
    (leaf, issuer)
}

/// A connection that stays what it is: it never connects again.
struct Kept(SendRequest<Bytes>);

impl Kept {
    async fn new(fleet: &Fleet, server: &Server, tasks: &mut JoinSet<()>) -> Self {
        let stream = connect(fleet, server, 0).await;
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        Self(client)
    }

    /// A call on it is answered.
    async fn lives(&mut self) {
        let call = http::Request::post("https://localhost/ca.v1.CertificateService/GetTrustBundle")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut client = self.0.clone().ready().await.unwrap();
        let (answer, mut body) = client.send_request(call, false).unwrap();
        let message = frame(&field(1, b"cluster.local"));
        body.send_data(message.into(), true).unwrap();
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let mut body = answer.unwrap().unwrap().into_body();
        let data = body.data().await.unwrap().unwrap();
        assert!(data.len() > 5, "a bundle");
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_authority_signs_a_new_serving_certificate_and_old_connections_live_on() {
    let fleet = Fleet::on_sqlite(&["central"]);
    let server = fleet.serve();
    let mut tasks = JoinSet::new();
    let mut kept = Kept::new(&fleet, &server, &mut tasks).await;
    kept.lives().await;
    let (before, first) = shown(&fleet, &server, 0).await;
    let next = fleet.add_authority("central", Ttl::days(365));
    assert_eq!(
        shown(&fleet, &server, 0).await,
        (before.clone(), first.clone())
    );

    run(&mut fleet.ca_server(&["authority", "activate", &next]));
    let mut seen = shown(&fleet, &server, 0).await;
    let changing = async {
        while seen.0 == before {
            seen = shown(&fleet, &server, 0).await;
        }
    };
    let changed = tokio::time::timeout(PATIENCE, changing).await;
    assert!(changed.is_ok(), "the certificate stays as it was");
    let (after, second) = seen;
    assert_ne!(second, first, "by the authority that is active now");
    after.verify_by(&second.public_key().unwrap()).unwrap();
    assert_ne!(after.public_key().unwrap(), before.public_key().unwrap());
    kept.lives().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_serving_certificate_is_replaced_at_half_its_life_and_old_connections_live_on() {
    let Some(library) = libfaketime() else {
        let test =
            "the_serving_certificate_is_replaced_at_half_its_life_and_old_connections_live_on";
        let reason = "libfaketime is not installed; see tests/parts/install";
        return tests::parts::skip(test, reason);
    };
    let fleet = Fleet::on_sqlite(&["central"]);
    let clock = Clock::of(&fleet);
    let mut serve = with_clock(fleet.ca_server(&["serve"]), &library, &clock);
    let server = Server::start(&mut serve, &fleet);
    let mut tasks = JoinSet::new();
    let mut kept = Kept::new(&fleet, &server, &mut tasks).await;
    let (before, _) = shown(&fleet, &server, 0).await;
    let life = before.not_after().seconds_since(before.not_before());
    let half = Timestamp::from_unix(before.not_before().unix() + life / 2);
    // The clock is put on, and accepted as an operator does; then a change wakes who looks at the certificate's age.
    let days = u32::try_from(life / 2 / 86_400).unwrap();
    for (n, days) in [days - 1, days + 1].into_iter().enumerate() {
        clock.set(&format!("+{days}d"));
        wait_until("the step to be seen", || {
            let ready = tests::http::get(server.ops, "/readyz").ok()?;
            (ready.status == 503).then_some(())
        });
        run(&mut fleet.ca_server(&["clock", "accept"]));
        wait_until("the clock to be believed", || {
            (server.log().count("the clock is believed again") > n).then_some(())
        });
        let changes = server.log().count("authority in force");
        fleet.apply(0, &format!("default_ttl = \"{}h\"", n + 1));
        wait_until("the change to be taken up", || {
            (server.log().count("authority in force") > changes).then_some(())
        });
    }
    wait_until("a second certificate", || {
        (server.log().count("serving certificate in force") > 1).then_some(())
    });
    let (after, _) = shown(&fleet, &server, days + 1).await;
    assert_ne!(after.serial(), before.serial());
    assert!(after.not_before() > half.minus(Ttl::hours(1)), "not sooner");
    assert_eq!(server.log().count("serving certificate in force"), 2);
    kept.lives().await;
}
