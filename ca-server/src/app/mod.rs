//! The use cases, a file each. Transports translate into them; none of them knows gRPC, HTTP or SQL.

mod actor;
pub mod acts;
pub mod administration;
pub mod administrators;
pub mod audit;
pub mod authority;
pub mod backup;
pub mod bundle;
pub mod caller;
pub mod clock;
pub mod cluster;
pub mod enrolment;
mod error;
pub mod fleet;
pub mod idempotency;
pub mod issue;
pub mod keys;
mod new_key;
pub mod operations;
mod own;
pub mod permit;
pub mod policy;
pub mod proposals;
mod quota;
mod refusals;
pub mod revocation;
pub mod roles;
pub mod signing;
pub mod state;
pub mod status;
pub mod tokens;
pub mod trust;
mod turns;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use administration::{Administration, Replays};
use arc_swap::ArcSwap;
use hsm::audit::AuditKey;
use hsm::sealed::KeyEncryptionKey;
use pki::audit::Mark;
use tokio::sync::watch;

pub use actor::Actor;
pub use error::{Error, ErrorKind, chain, printable};
pub use new_key::NewKey;
pub use refusals::{Asker, Refused};

use crate::authn::token::TokenCache;
use crate::clock::ClockGuard;
use crate::config::{Config, StatusSettings};
use crate::entropy::Entropy;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::recorder::Recorder;
use refusals::Refusals;
use state::Snapshot;
use status::watermark::Watermark;
use status::{Lookup, Status};
use tokens::Tokens;
use turns::Turns;

/// What administration needs: of the running server and of the command line alike.
#[derive(Clone, Debug)]
pub struct Context {
    /// The records.
    pub store: Store,
    /// The time.
    pub clock: Arc<ClockGuard>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What authorities' keys are sealed under.
    pub key_encryption_key: Arc<KeyEncryptionKey>,
    /// The tokens that hold authorities' keys.
    pub tokens: Arc<Tokens>,
    /// How certificate status is told.
    pub settings: StatusSettings,
    /// A name for this process among the replicas, drawn at its start.
    pub instance: String,
}

/// The running authority.
pub struct App {
    context: Context,
    recorder: Recorder,
    snapshot: ArcSwap<Snapshot>,
    sequence: watch::Sender<u64>,
    turns: ArcSwap<Turns>,
    administration: ArcSwap<Administration>,
    metrics: Arc<Metrics>,
    clock_acceptance: AtomicU64,
    /// Whether `issue` and `admin` listen.
    serving: AtomicBool,
    /// Whether the last look at the store's changes failed.
    stale: AtomicBool,
    tokens: TokenCache,
    status: Status,
    lookup: Lookup,
    refusals: Refusals,
    replays: Replays,
    /// Other chains' heads, as this replica's chain last told of them.
    linked: Mutex<BTreeMap<String, Mark>>,
}

impl Context {
    /// What rows are sealed with that only this installation may have written.
    ///
    /// # Errors
    /// Before the installation's keys were opened.
    pub fn row_key(&self) -> Result<&AuditKey, Error> {
        Ok(self.store.auditor()?.key())
    }
}

impl App {
    /// Begins with what the store says now.
    ///
    /// # Errors
    /// When the store is away or has gone back, or a row does not hold together.
    pub async fn start(
        context: Context,
        recorder: Recorder,
        lookup: Lookup,
        config: &Config,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let snapshot = Snapshot::load(&context, None).await?;
        let mut watermark = Watermark::open(config.watermark_file.as_deref())?;
        watermark.advance(&context.store.status_positions().await?)?;
        audit::compare(&context.store, &watermark.chains()).await?;
        watermark.advance_chains(&context.store.audit_heads().await?)?;
        metrics.set_clusters(snapshot.clusters.values().map(AsRef::as_ref));
        let (sequence, _) = watch::channel(snapshot.sequence);
        // What an operator accepted before this start says nothing of the clock now.
        let accepted = context
            .store
            .clock_acceptance()
            .await?
            .map_or(0, |(sequence, _)| sequence);
        Ok(Self {
            context,
            recorder,
            snapshot: ArcSwap::from_pointee(snapshot),
            sequence,
            turns: ArcSwap::from_pointee(Turns::new(config)),
            administration: ArcSwap::from_pointee(Administration::new(config)?),
            metrics,
            clock_acceptance: AtomicU64::new(accepted),
            serving: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            tokens: TokenCache::new(),
            status: Status::new(watermark),
            lookup,
            refusals: Refusals::default(),
            replays: Replays::default(),
            linked: Mutex::default(),
        })
    }

    /// What is in force now.
    pub fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Takes up what has changed in the store; tells whether anything had.
    ///
    /// # Errors
    /// When the store is away or a row does not hold together; what was in force stays so.
    pub async fn reload(&self) -> Result<bool, Error> {
        let before = self.snapshot.load_full();
        if self.context.store.change_sequence().await? == before.sequence {
            return Ok(false);
        }
        let after = Snapshot::load(&self.context, Some(&before)).await?;
        let sequence = after.sequence;
        self.metrics
            .set_clusters(after.clusters.values().map(AsRef::as_ref));
        self.snapshot.store(Arc::new(after));
        self.sequence.send_replace(sequence);
        Ok(true)
    }

    /// Takes up files of this machine that were missing when the store was read.
    pub async fn mend(&self) {
        let before = self.snapshot.load_full();
        if let Some(whole) = before.with_reviewers().await {
            self.snapshot.store(Arc::new(whole));
        }
    }

    /// Whether callers are served: `issue` and `admin` listen.
    pub fn serves(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    /// Takes note that `issue` and `admin` listen.
    pub(crate) fn note_serving(&self) {
        self.serving.store(true, Ordering::Relaxed);
    }

    /// Whether what has changed in the store is in force, or will be within a second.
    pub fn follows_the_store(&self) -> bool {
        !self.stale.load(Ordering::Relaxed)
    }

    /// Takes note of whether the store's changes were taken up.
    pub(crate) fn note_reload(&self, done: bool) {
        self.stale.store(!done, Ordering::Relaxed);
    }

    /// Wakes when what is in force changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    /// Takes note of an operator's word on the clock; tells whether it is news.
    pub(crate) fn note_clock_acceptance(&self, sequence: u64) -> bool {
        self.clock_acceptance.fetch_max(sequence, Ordering::Relaxed) < sequence
    }

    /// Tokens whose signature was good a moment ago.
    pub(crate) fn tokens(&self) -> &TokenCache {
        &self.tokens
    }

    /// What became of certificates after their issue.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What administration needs.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Who may have what now, and when.
    pub(crate) fn turns(&self) -> Arc<Turns> {
        self.turns.load_full()
    }

    /// How the API is administered.
    pub fn administration(&self) -> Arc<Administration> {
        self.administration.load_full()
    }

    /// Puts other bounds in force. Who was counted by the old ones is not counted again.
    pub fn tune(&self, config: &Config) {
        let turns = self.turns.load();
        if !turns.are_those_of(config) {
            self.turns.store(Arc::new(Turns::new(config)));
        }
        if !self.administration.load().is_that_of(config) {
            match Administration::new(config) {
                Ok(new) => self.administration.store(Arc::new(new)),
                // Keys of issuers take a restart; what is in force stays.
                Err(error) => {
                    tracing::warn!(error = %error.detail(), "[admin] stays as it was");
                }
            }
        }
    }

    /// Whether the store took what was last written to it.
    pub fn writes(&self) -> bool {
        self.recorder.writes()
    }

    /// Takes note of whether the store took something that was written past the recorder.
    pub(crate) fn note_write(&self, taken: bool) {
        self.recorder.note_write(taken);
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("snapshot", &self.snapshot.load().sequence)
            .finish_non_exhaustive()
    }
}
