//! A server's use cases in this process, under a clock that the test holds: what takes days takes no time.

use std::sync::Arc;

use ca_server::app::App;
use ca_server::app::status::{Lookup, OcspAnswer};
use ca_server::clock::{ClockGuard, ManualClock};
use ca_server::config::Config;
use ca_server::metrics::Metrics;
use ca_server::store::Recorder;
use pki::certificate::{Certificate, Issuer};
use pki::crl::Crl;
use pki::name::{AuthorityId, ClusterName};
use pki::ocsp::{BasicResponse, CertId, HashAlgorithm, Status};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fleet::Fleet;
use crate::tlv::sequence;

/// A replica without listeners and timers: the test does what its tasks would.
pub struct Inside {
    /// The use cases.
    pub app: Arc<App>,
    /// Its time.
    pub clock: Arc<ManualClock>,
    config: Config,
    stop: CancellationToken,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Inside {
    /// A replica of the fleet's, at the time that it is, with its responders.
    pub async fn of(fleet: &Fleet) -> Self {
        let inside = Self::without_responders(fleet).await;
        inside.app.keep_responders().await.unwrap();
        inside
    }

    /// The same, as it has just started.
    pub async fn without_responders(fleet: &Fleet) -> Self {
        let config = Config::load(&fleet.path("ca-server.toml")).unwrap();
        let mut context = ca_server::cli::open(&config).await.unwrap();
        let clock = Arc::new(ManualClock::at(crate::now()));
        context.clock = Arc::new(ClockGuard::new(clock.clone()));
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let recorder = Recorder::start(context.store.clone(), &tracker, stop.clone());
        let lookup = Lookup::start(context.store.clone(), &tracker, stop.clone());
        let metrics = Arc::new(Metrics::new());
        let app = App::start(context, recorder, lookup, &config, metrics);
        let app = Arc::new(app.await.unwrap());
        app.refresh_status().await.unwrap();
        Self {
            app,
            clock,
            config,
            stop,
        }
    }

    /// What the tasks do: authorities move on, and status is told.
    pub async fn turn(&self) {
        ca_server::app::authority::reconcile(self.app.context())
            .await
            .unwrap();
        self.app.reload().await.unwrap();
        self.tell().await;
        let _ = self.app.keep_responders().await;
    }

    /// Revocations are taken up and told, after the time in which they coalesce.
    pub async fn tell(&self) {
        self.app.refresh_status().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1_050)).await;
        self.app.publish_crls().await.unwrap();
    }

    /// A certificate of the home cluster's active authority: the server's own.
    pub async fn issue(&self) -> Certificate {
        self.issue_in(self.config.home_cluster.as_str()).await
    }

    /// The same of another cluster.
    pub async fn issue_in(&self, cluster: &str) -> Certificate {
        let cluster = ClusterName::parse(cluster).unwrap();
        let issued = self.app.issue_serving(&cluster, &self.config.names).await;
        issued.unwrap().0.certificate
    }

    /// An authority's list, as it is served.
    pub fn crl(&self, authority: &str) -> Crl {
        let served = self.app.status().served();
        let id = AuthorityId::parse(authority).unwrap();
        Crl::parse(&served.crls[&id].complete.body).unwrap()
    }

    /// How a certificate is named in a request.
    pub fn id(&self, authority: &str, certificate: &Certificate) -> CertId {
        let snapshot = self.app.snapshot();
        let authority = snapshot.authority(&AuthorityId::parse(authority).unwrap());
        let issuer: &Issuer = &authority.unwrap().issuer;
        CertId::new(
            HashAlgorithm::Sha256,
            issuer.name(),
            issuer.key().raw(),
            &certificate.serial(),
        )
    }

    /// What OCSP says of a certificate.
    pub async fn ocsp(&self, authority: &str, certificate: &Certificate) -> Status {
        let id = self.id(authority, certificate);
        match self.app.ocsp(&request(&[id])).await {
            OcspAnswer::Signed(document) => status(&document.body),
            answer => panic!("{answer:?}"),
        }
    }

    /// The metrics' lines that begin so.
    pub fn metrics(&self, line: &str) -> Vec<String> {
        let text = self.app.metrics().encode().unwrap();
        let lines = text.lines().filter(|found| found.starts_with(line));
        lines.map(str::to_owned).collect()
    }
}

/// The DER of an OCSP request for these certificates, without a nonce.
pub fn request(ids: &[CertId]) -> Vec<u8> {
    let singles: Vec<u8> = ids.iter().flat_map(|id| sequence(&[id.der()])).collect();
    sequence(&[&sequence(&[&sequence(&[&singles])])])
}

/// What a response says of its first certificate.
pub fn status(der: &[u8]) -> Status {
    BasicResponse::of_response_der(der).unwrap().statuses()[0].status
}
