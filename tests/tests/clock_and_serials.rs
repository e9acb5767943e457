//! The use case itself, on a real store, with a clock and a randomness that the test holds in its hand.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use ca_server::app::caller::{Caller, Proof, Shown};
use ca_server::app::issue::IssueRequest;
use ca_server::app::status::{Lookup, OcspAnswer};
use ca_server::app::{Actor, App, ErrorKind, enrolment};
use ca_server::authn::{self, Evidence};
use ca_server::clock::{ClockGuard, ManualClock};
use ca_server::config::Config;
use ca_server::entropy::{Entropy, NoEntropy, SystemEntropy};
use ca_server::metrics::Metrics;
use ca_server::store::recorder::Recorder;
use pki::certificate::Certificate;
use pki::name::{ClusterName, SpiffeId, SpiffePattern};
use pki::ocsp::{CertId, HashAlgorithm};
use pki::policy::{AskedTtl, Identity};
use pki::profile::Profile;
use pki::time::Ttl;
use tests::fleet::Fleet;
use tests::requests::KeyAndRequest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const ID: &str = "spiffe://cluster.local/ns/a/sa/b";

/// Gives what it was told to, and real randomness after that.
#[derive(Debug, Default)]
struct Scripted(Mutex<VecDeque<[u8; 16]>>);

impl Entropy for Scripted {
    fn fill(&self, out: &mut [u8]) -> Result<(), NoEntropy> {
        match self.0.lock().unwrap().pop_front() {
            Some(bytes) => out.copy_from_slice(&bytes[..out.len()]),
            None => SystemEntropy::default().fill(out)?,
        }
        Ok(())
    }
}

struct World {
    app: App,
    clock: Arc<ManualClock>,
    entropy: Arc<Scripted>,
    fleet: Fleet,
}

async fn world() -> World {
    let fleet = Fleet::on_sqlite(&["central"]);
    let config = Config::load(&fleet.path("ca-server.toml")).unwrap();
    let mut context = ca_server::cli::open(&config).await.unwrap();
    let clock = Arc::new(ManualClock::at(tests::now()));
    let entropy = Arc::new(Scripted::default());
    context.clock = Arc::new(ClockGuard::new(clock.clone()));
    context.entropy = entropy.clone();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let recorder = Recorder::start(context.store.clone(), &tasks, stop.clone());
    let lookup = Lookup::start(context.store.clone(), &tasks, stop);
    let metrics = Arc::new(Metrics::new());
    let app = App::start(context, recorder, lookup, &config, metrics)
        .await
        .unwrap();
    World {
        app,
        clock,
        entropy,
        fleet,
    }
}

fn request(app: &App) -> IssueRequest {
    let name = ClusterName::parse("central").unwrap();
    let cluster = app.snapshot().clusters[&name].clone();
    let caller = Caller {
        identity: Identity::Exactly(SpiffeId::parse(ID).unwrap()),
        proof: Proof::Certificate(Shown {
            authority: cluster.active.as_ref().unwrap().id.clone(),
            serial: "01".parse().unwrap(),
            checked_at: tests::now(),
        }),
        cluster,
        remote: "127.0.0.1:1".to_owned(),
    };
    IssueRequest {
        csr: KeyAndRequest::for_uris(&[ID]).der,
        profile: Profile::WORKLOAD,
        ttl: AskedTtl::Default,
        caller,
        request_id: "test".to_owned(),
    }
}

#[tokio::test]
async fn a_colliding_serial_number_is_drawn_again_and_never_overwrites() {
    let World {
        app,
        entropy,
        fleet,
        ..
    } = world().await;
    entropy
        .0
        .lock()
        .unwrap()
        .extend([[7; 16], [7; 16], [8; 16]]);
    let first = app.issue(&request(&app)).await.unwrap().certificate;
    let second = app.issue(&request(&app)).await.unwrap().certificate;
    assert_eq!(first.serial().as_bytes()[3..], [7; 16]);
    assert_eq!(
        second.serial().as_bytes()[3..],
        [8; 16],
        "the second draw of 7 was given up"
    );
    let stored = app
        .context()
        .store
        .record(&first.serial())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.record.certificate_digest, first.digest());
    assert_eq!(fleet.records().len(), 2);
}

#[tokio::test]
async fn broken_randomness_stops_issuance() {
    let World {
        app,
        entropy,
        fleet,
        ..
    } = world().await;
    entropy.0.lock().unwrap().extend([[7; 16]; 4]);
    app.issue(&request(&app)).await.unwrap();
    let error = app.issue(&request(&app)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(fleet.records().len(), 1);
}

#[tokio::test]
async fn a_stepped_clock_stops_issuance_until_it_is_accepted() {
    let World {
        app, clock, fleet, ..
    } = world().await;
    // So that a step back does not lead to before the authority began.
    clock.advance(86_400);
    app.issue(&request(&app)).await.unwrap();
    for step in [4_000, -8_000] {
        clock.step(step);
        let error = app.issue(&request(&app)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (ErrorKind::Unavailable, "clock")
        );
        app.context().clock.accept();
        app.issue(&request(&app)).await.unwrap();
    }
    assert_eq!(fleet.records().len(), 3);
}

/// The certificate that an OCSP response brings along.
fn certificate_in(response: &[u8]) -> Certificate {
    let mut starts =
        (0..response.len() - 4).filter(|at| response[*at..].starts_with(&[0x30, 0x82]));
    let found = starts.find_map(|at| {
        let length = usize::from(u16::from_be_bytes([response[at + 2], response[at + 3]]));
        Certificate::parse(response.get(at..at + 4 + length)?).ok()
    });
    found.unwrap()
}

#[tokio::test]
async fn the_ocsp_responder_is_replaced_long_before_it_ends() {
    let World {
        app,
        clock,
        fleet: _fleet,
        ..
    } = world().await;
    let issuer = app.snapshot().authorities[0].clone();
    let serial = app
        .issue(&request(&app))
        .await
        .unwrap()
        .certificate
        .serial();
    let key = issuer.issuer.key().raw();
    let id = CertId::new(HashAlgorithm::Sha256, issuer.issuer.name(), key, &serial);
    // OCSPRequest around one CertID.
    let sequence =
        |inner: Vec<u8>| [vec![0x30, u8::try_from(inner.len()).unwrap()], inner].concat();
    let asked = (0..4).fold(id.der().to_vec(), |inner, _| sequence(inner));
    let mut responders = Vec::new();
    for _ in 0..4 {
        app.refresh_status().await.unwrap();
        app.keep_responders().await.unwrap();
        let OcspAnswer::Signed(answer) = app.ocsp(&asked).await else {
            panic!("no answer")
        };
        let end = answer.expires.unwrap();
        assert!(end > app.context().clock.trusted_now().unwrap());
        let responder = certificate_in(&answer.body);
        assert!(
            responder.not_after() >= end,
            "the answer ends before its signer"
        );
        responders.push(responder.serial());
        // A responder lives for seven days.
        clock.advance(2 * 86_400);
    }
    responders.dedup();
    assert_eq!(
        responders.len(),
        2,
        "one that is used for half its life, and the next"
    );
}

#[tokio::test]
async fn nothing_is_signed_past_the_issuers_end() {
    // All of it: what is left out of the pattern would be gone at once, the store's directory too.
    let world = world().await;
    let (app, clock) = (&world.app, &world.clock);
    clock.advance(364 * 86_400);
    let last = app.issue(&request(app)).await.unwrap();
    assert!(last.certificate.not_after() <= last.authority.issuer.not_after());
    // Who asks for exactly so long is not given less.
    let mut exactly = request(app);
    exactly.ttl = AskedTtl::Exactly(Ttl::days(3));
    let error = app.issue(&exactly).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::Malformed, "ttl")
    );
    exactly.ttl = AskedTtl::Exactly(Ttl::hours(3));
    app.issue(&exactly).await.unwrap();
    clock.advance(86_400);
    let error = app.issue(&request(app)).await.unwrap_err();
    assert_eq!(error.reason(), "issuer-expired");
}

#[tokio::test]
async fn a_repeated_enrolment_outlives_its_tokens_end_by_its_ten_minutes() {
    let world = world().await;
    let (app, clock) = (&world.app, &world.clock);
    let pattern = SpiffePattern::parse(ID).unwrap();
    let (cluster, profile) = (
        ClusterName::parse("central").unwrap(),
        Profile::WORKLOAD.name().unwrap(),
    );
    let hour = Ttl::hours(1);
    let actor = Actor::local("test");
    let new = enrolment::create(app.context(), &cluster, pattern, profile, hour, &actor);
    let token = new.await.unwrap().token.to_string();
    let evidence = Evidence {
        peer: None,
        bearer: Some(token),
        cluster: None,
        remote: "127.0.0.1:1".parse().unwrap(),
    };
    let csr = KeyAndRequest::for_uris(&[ID]).der;
    let enrol = async || {
        let caller = authn::authenticate(app, &evidence).await?;
        let request = IssueRequest {
            csr: csr.clone(),
            caller,
            ..request(app)
        };
        app.issue(&request).await.map(|issued| issued.certificate)
    };
    clock.advance(59 * 60);
    let first = enrol().await.unwrap();
    clock.advance(2 * 60);
    assert_eq!(enrol().await.unwrap(), first, "the answer was lost");
    clock.advance(9 * 60);
    let error = enrol().await.unwrap_err();
    assert_eq!(error.reason(), "enrolment-spent");
}
