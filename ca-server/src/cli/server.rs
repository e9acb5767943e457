//! `ca-server serve`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::app::{Context, ErrorKind};
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::server;
use crate::store::StoreError;

/// How often a store that is away is looked for.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

type FilterHandle = reload::Handle<Targets, Registry>;

pub(super) async fn serve(config: Config, path: &Path) -> Result<()> {
    let filter = start_logging(&config)?;
    install_crypto_provider()?;
    let stop = CancellationToken::new();
    let (configuration, followed) = watch::channel(config);
    let running = async {
        match open(&followed, &stop).await? {
            Some(context) => server::run(followed, context, stop.clone()).await,
            None => Ok(()),
        }
    };
    let mut running = std::pin::pin!(running);
    tokio::select! {
        ended = running.as_mut() => return ended,
        () = wait_for_stop(&filter, path, &configuration) => stop.cancel(),
    }
    running.await
}

/// Opens the store, and waits for it where what was served last can be served meanwhile. `None` when stopped before.
async fn open(
    configuration: &watch::Receiver<Config>,
    stop: &CancellationToken,
) -> Result<Option<Context>> {
    let config = configuration.borrow().clone();
    let away = match super::open(&config).await {
        Ok(context) => return Ok(Some(context)),
        Err(error) => error,
    };
    let Some(folder) = config.status.copy_dir.as_deref().filter(|_| is_away(&away)) else {
        return Err(away);
    };
    tracing::warn!(error = %format!("{away:#}"), "the store does not open, it is tried again");
    let standing = server::StandBy::start(&config, folder, SystemClock).await?;
    let opened = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(None),
            () = tokio::time::sleep(REOPEN_EVERY) => {}
        }
        match super::open(&config).await {
            Ok(context) => break Ok(Some(context)),
            Err(error) if is_away(&error) => {}
            Err(error) => break Err(error),
        }
    };
    standing.end().await;
    opened
}

/// Whether the store cannot be reached: anything else that is wrong with it takes an operator.
fn is_away(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let by_store = cause.downcast_ref::<StoreError>();
        let by_app = cause.downcast_ref::<crate::app::Error>();
        by_store.is_some_and(|error| matches!(error, StoreError::Unavailable { .. }))
            || by_app.is_some_and(|error| error.kind() == ErrorKind::Unavailable)
    })
}

/// The one place that chooses the TLS library's cryptography.
///
/// # Errors
/// When another one was chosen before.
pub(super) fn install_crypto_provider() -> Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before"))
}

/// The configured filter. Of h2, unless it is named, errors alone: it warns of each frame that a peer should not have sent,
/// and a peer may send a million.
fn log_filter(config: &Config) -> Result<Targets> {
    let filter = format!("h2=error,{}", config.log.filter);
    config::targets(&filter).map_err(|error| anyhow!("log.filter: {error}"))
}

fn start_logging(config: &Config) -> Result<FilterHandle> {
    let filter = log_filter(config)?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    if config.log.json {
        registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .with_writer(std::io::stderr),
            )
            .init();
    } else {
        registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(false)
                    .with_writer(std::io::stderr),
            )
            .init();
    }
    Ok(handle)
}

/// Until SIGTERM or SIGINT; SIGHUP reads the configuration again.
async fn wait_for_stop(filter: &FilterHandle, path: &Path, configuration: &watch::Sender<Config>) {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hang_up)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        // Without handlers, the signals' default ends the process.
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = hang_up.recv() => reload(filter, path, configuration),
        }
    }
}

/// Clusters, authorities, keys and token keys live in the store and are taken up within a second; this is for the file. A
/// faulty one changes nothing.
fn reload(filter: &FilterHandle, path: &Path, configuration: &watch::Sender<Config>) {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(faults) => {
            let faults: Vec<_> = faults.0.iter().map(ToString::to_string).collect();
            tracing::error!(
                faults = faults.join("; "),
                "the configuration stays as it is"
            );
            return;
        }
    };
    let filtered = log_filter(&config).and_then(|new| Ok(filter.reload(new)?));
    if let Err(error) = filtered {
        tracing::error!(%error, "log.filter is faulty: the configuration stays as it is");
        return;
    }
    let left = configuration.borrow().takes_a_restart(&config);
    configuration.send_replace(config);
    if left.is_empty() {
        tracing::info!("configuration read again and in force");
    } else {
        tracing::warn!(
            keys = left.join(", "),
            "configuration read again: these keys changed and take a restart, the others are in force"
        );
    }
}
