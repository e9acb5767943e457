//! The running server: opens the store, starts the tasks, binds the listeners, and drains on a stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::status::{Lookup, copy};
use crate::app::{App, Context, authority};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::serve::Listener;
use crate::store::recorder::Recorder;
use crate::{grpc, http, tasks};

/// How long a connection that is cut off may hold up the store's closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until `stop`, then lets requests under way finish for as long as the configuration says. What may change without
/// a restart (see [`Config::takes_a_restart`]) is taken from `configuration` whenever it does. The TLS library's cryptography
/// is installed by the caller.
///
/// # Errors
/// When the store does not open, an address cannot be bound, or TLS cannot be set up.
pub async fn run(
    configuration: watch::Receiver<Config>,
    context: Context,
    stop: CancellationToken,
) -> Result<()> {
    let config = configuration.borrow().clone();
    let (tracker, recorders) = (TaskTracker::new(), TaskTracker::new());
    if let Err(error) = authority::reconcile(&context).await {
        tracing::warn!(error = %error.detail(), "authorities stay as they are for now");
    }
    // The recorder outlives every connection: what a request under way has signed still gets on record.
    let recorder_stop = CancellationToken::new();
    let recorder = Recorder::start(context.store.clone(), &recorders, recorder_stop.clone());
    let metrics = Arc::new(Metrics::new());
    let lookup = Lookup::start(context.store.clone(), &tracker, stop.clone());
    let store = context.store.clone();
    let app = Arc::new(App::start(context, recorder, lookup, &config, metrics).await?);
    app.note_start().await;
    // Before anyone can ask: a server that has just started must not deny the lists that the others serve.
    app.refresh_status().await?;
    if let Err(error) = app.keep_responders().await {
        tracing::warn!(error = %error.detail(), "nobody answers OCSP for some authorities yet");
    }
    tasks::start(&app, &config.audit, &tracker, &stop);
    tracker.spawn(tasks::tune(
        app.clone(),
        configuration.clone(),
        stop.clone(),
    ));

    let settings = &config.listeners;
    let public = http::public::router(&app);
    let public = Listener::bind("public", settings.public, None, public, settings).await?;
    let ops = http::ops::router(&app, &config.home_cluster);
    let ops = Listener::bind("ops", settings.ops, None, ops, settings).await?;
    for listener in [public, ops] {
        tracker.spawn(listener.follow(configuration.clone(), stop.clone()));
        tracker.spawn(listener.run(Some(app.clone()), stop.clone(), tracker.clone()));
    }
    let secured = serve_secured(
        app.clone(),
        configuration.clone(),
        stop.clone(),
        tracker.clone(),
    );
    let failed = {
        let secured = std::pin::pin!(secured);
        tokio::select! {
            result = async { secured.await?; std::future::pending::<Result<()>>().await } => result.err(),
            () = stop.cancelled() => None,
        }
    };
    let drain = configuration.borrow().drain;
    tracing::info!(
        drain_seconds = drain.as_secs(),
        "stopping: finishing what is under way"
    );
    stop.cancel();
    tracker.close();
    if tokio::time::timeout(drain, tracker.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time and are cut off");
    }
    // No request is under way any more that could be refused.
    match tokio::time::timeout(CLOSE_TIMEOUT, app.write_refusals(true)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(error = %error.detail(), "refusals of the last moments are not in the audit trail");
        }
        Err(_) => tracing::error!(
            "refusals of the last moments are not in the audit trail: the store does not answer"
        ),
    }
    // What the next start is held against is as new as the store.
    let remembered = async {
        app.link_chains().await?;
        app.refresh_status().await
    };
    if let Ok(Err(error)) = tokio::time::timeout(CLOSE_TIMEOUT, remembered).await {
        tracing::warn!(error = %error.detail(), "store.watermark_file stays as it was");
    }
    recorder_stop.cancel();
    recorders.close();
    recorders.wait().await;
    // SQLite moves its write-ahead log into the file: what is copied after a stop is whole.
    if tokio::time::timeout(CLOSE_TIMEOUT, store.close())
        .await
        .is_err()
    {
        tracing::warn!("the store is still in use: copy a SQLite file with its -wal file");
    }
    tracing::info!("stopped");
    failed.map_or(Ok(()), Err)
}

/// The public and the ops listener of a server that has no store yet: what was kept of the last one is served, and that it is
/// not ready is told.
pub struct StandBy {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl StandBy {
    /// Reads the copy in `folder` and begins to serve it.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn start(config: &Config, folder: &Path, clock: SystemClock) -> Result<Self> {
        let copy = copy::read(folder, clock.now());
        tracing::warn!(
            folder = %folder.display(), documents = copy.len(),
            "the store is away: what was served last is served, nothing is issued"
        );
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let settings = &config.listeners;
        let public = http::standby::public(copy, clock, config.status.cache_for);
        let public = Listener::bind("public", settings.public, None, public, settings).await?;
        let ops = http::standby::ops();
        let ops = Listener::bind("ops", settings.ops, None, ops, settings).await?;
        for listener in [public, ops] {
            tracker.spawn(listener.run(None, stop.clone(), tracker.clone()));
        }
        Ok(Self { stop, tracker })
    }

    /// Lets requests under way finish, and gives the addresses free.
    pub async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.tracker.wait()).await;
    }
}

/// The listeners that need a serving certificate: they begin once the home cluster has an active authority.
async fn serve_secured(
    app: Arc<App>,
    configuration: watch::Receiver<Config>,
    stop: CancellationToken,
    tracker: TaskTracker,
) -> Result<()> {
    let settings = &configuration.borrow().listeners.clone();
    let serving = tasks::Serving::first(app.clone(), configuration.clone()).await?;
    let issue = grpc::issue_services(&app);
    let issue = Listener::bind(
        "issue",
        settings.issue,
        Some(serving.issue_tls()),
        issue,
        settings,
    )
    .await?;
    let admin = http::api::router(&app);
    let admin = Listener::bind(
        "admin",
        settings.admin,
        Some(serving.admin_tls()),
        admin,
        settings,
    )
    .await?;
    app.note_serving();
    tracker.spawn(serving.keep(stop.clone()));
    for listener in [issue, admin] {
        tracker.spawn(listener.follow(configuration.clone(), stop.clone()));
        tracker.spawn(listener.run(Some(app.clone()), stop.clone(), tracker.clone()));
    }
    Ok(())
}
