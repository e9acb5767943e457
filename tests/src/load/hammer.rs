//! Clients that call without a pause while a scenario breaks things, and remember every answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pki::certificate::Certificate;
use pki::serial::Serial;
use proto::istio::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use super::Calls;
use crate::fleet::Server;

/// How long a scenario waits for the clients to see something.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a client waits after a refusal.
const BACK_OFF: Duration = Duration::from_millis(20);

/// What the clients have seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Serial numbers of the certificates that they were given, each verified by the chain and the roots that came with it.
    pub received: Vec<Serial>,
    /// How many of them each intermediate has signed, by its serial number.
    pub by_issuer: HashMap<Serial, usize>,
    /// Every other answer.
    pub refused: Vec<Status>,
    /// The longest that an answer took.
    pub slowest: Duration,
    /// Answers, by client.
    pub answers: Vec<usize>,
}

/// Running clients; dropping it ends them.
pub struct Hammer {
    seen: Arc<Mutex<Seen>>,
    progress: watch::Sender<()>,
    target: watch::Sender<Channel>,
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

impl Hammer {
    /// Starts `clients` clients against `server`; each has one call in flight.
    pub async fn start(server: &Server, calls: Calls, clients: usize) -> Self {
        let calls = Arc::new(calls);
        let seen = Seen {
            answers: vec![0; clients],
            ..Seen::default()
        };
        let mut hammer = Self {
            seen: Arc::new(Mutex::new(seen)),
            progress: watch::channel(()).0,
            target: watch::channel(server.connect().await).0,
            stop: watch::channel(false).0,
            clients: JoinSet::new(),
        };
        for id in 0..clients {
            let (seen, calls) = (hammer.seen.clone(), calls.clone());
            let (target, stop) = (hammer.target.subscribe(), hammer.stop.subscribe());
            let progress = hammer.progress.clone();
            hammer.clients.spawn(async move {
                let mut n = id * 7919;
                while !*stop.borrow() {
                    let mut client = IstioCertificateServiceClient::new(target.borrow().clone());
                    n += 1;
                    let began = Instant::now();
                    let answer = client.create_certificate(calls.request(n)).await;
                    let took = began.elapsed();
                    let answer = answer.map(|answer| verified(&answer.get_ref().cert_chain));
                    let refused = answer.is_err();
                    {
                        let mut seen = seen.lock().unwrap();
                        seen.slowest = seen.slowest.max(took);
                        seen.answers[id] += 1;
                        match answer {
                            Ok((leaf, issuer)) => {
                                seen.received.push(leaf);
                                *seen.by_issuer.entry(issuer).or_default() += 1;
                            }
                            Err(status) => seen.refused.push(status),
                        }
                    }
                    progress.send_replace(());
                    if refused {
                        tokio::time::sleep(BACK_OFF).await;
                    }
                }
            });
        }
        hammer
    }

    /// Sends the calls that follow to this server.
    pub async fn aim(&self, server: &Server) {
        self.target.send_replace(server.connect().await);
    }

    /// Looks at what was seen so far.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    /// Forgets refusals and times, not certificates.
    pub fn forget_refusals(&self) -> Vec<Status> {
        let mut seen = self.seen.lock().unwrap();
        seen.slowest = Duration::ZERO;
        std::mem::take(&mut seen.refused)
    }

    /// Waits until the clients have seen something.
    pub async fn until(&self, what: &str, reached: impl Fn(&Seen) -> bool) {
        let mut progress = self.progress.subscribe();
        let waiting = async {
            while !self.look(&reached) {
                let _ = progress.changed().await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            let (received, last) =
                self.look(|seen| (seen.received.len(), seen.refused.last().cloned()));
            panic!("not seen: {what}; {received} certificates, last refusal {last:?}");
        }
    }

    /// Waits for `more` certificates from now on.
    pub async fn more_certificates(&self, more: usize) {
        let goal = self.look(|seen| seen.received.len()) + more;
        let what = format!("{more} more certificates");
        self.until(&what, |seen| seen.received.len() >= goal).await;
    }

    /// Waits until every client has had the answer of a call that it began after now.
    pub async fn turn_over(&self) {
        let before = self.look(|seen| seen.answers.clone());
        let reached = |seen: &Seen| {
            let mut both = seen.answers.iter().zip(&before);
            both.all(|(now, before)| *now >= before + 2)
        };
        self.until("two answers for each client", reached).await;
    }

    /// Lets the calls under way end, and no other begin; tells what was seen.
    pub async fn stop(mut self) -> Seen {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// The leaf's serial number and its issuer's, once the leaf is proven by nothing but what came with it.
fn verified(chain: &[String]) -> (Serial, Serial) {
    let certificates = |pem: &String| Certificate::parse_pem(pem.as_bytes()).unwrap();
    let [leaf, above @ .., roots] = chain else {
        panic!("no chain: {chain:?}")
    };
    let leaf = certificates(leaf).remove(0);
    let above: Vec<_> = above.iter().flat_map(certificates).collect();
    let roots = certificates(roots);
    let der = |certificate: &Certificate| CertificateDer::from(certificate.der().to_vec());
    let roots: Vec<_> = roots.iter().map(der).collect();
    let anchor = |root| webpki::anchor_from_trusted_cert(root).unwrap();
    let seconds = u64::try_from(crate::now().unix()).unwrap();
    let own = der(&leaf);
    webpki::EndEntityCert::try_from(&own)
        .unwrap()
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &roots.iter().map(anchor).collect::<Vec<_>>(),
            &above.iter().map(der).collect::<Vec<_>>(),
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .unwrap_or_else(|error| panic!("{}: {error}", leaf.serial()));
    (leaf.serial(), above[0].serial())
}
