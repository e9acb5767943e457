//! Handing the audit trail on while the server runs: to a file of JSON lines, and to a collector.
//!
//! Each entry is handed on at least once and in its chain's order, from where the sink's position was left: nothing is lost
//! by a restart, or while the sink takes nothing. The store's trail goes on whatever becomes of a sink.

mod file;
mod otlp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pki::audit::Mark;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Error, ErrorKind};
use crate::config::AuditSettings;
use crate::store::model::{AuditHead, AuditRow};

/// How often a sink is brought up to date.
const EXPORT_EVERY: Duration = Duration::from_secs(1);
/// Entries that are handed on at a time.
const PAGE: u32 = 200;

/// Somewhere that the trail is handed on to.
pub(super) enum Sink {
    File(file::FileSink),
    Otlp(Box<otlp::OtlpSink>),
}

/// What the configuration names.
pub(super) fn sinks(app: &App, settings: &AuditSettings) -> Vec<Sink> {
    let file = settings.file.clone().map(file::FileSink::new);
    let otlp = settings
        .otlp
        .as_ref()
        .map(|url| otlp::OtlpSink::new(app.context(), url));
    let otlp = otlp.map(|sink| Sink::Otlp(Box::new(sink)));
    file.map(Sink::File).into_iter().chain(otlp).collect()
}

impl Sink {
    const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Otlp(_) => "otlp",
        }
    }

    /// Whether it is this server's turn.
    async fn is_ours(&mut self, app: &App) -> Result<bool, Error> {
        match self {
            Self::File(_) => Ok(true),
            Self::Otlp(sink) => sink.is_ours(app).await,
        }
    }

    async fn positions(&mut self, app: &App) -> Result<BTreeMap<String, Mark>, Error> {
        match self {
            Self::File(sink) => sink.positions().await,
            Self::Otlp(sink) => sink.positions(app).await,
        }
    }

    /// Hands entries on; when this returns they are where they should be, durably as far as the sink can say.
    async fn write(&mut self, app: &App, rows: &[AuditRow]) -> Result<(), Error> {
        match self {
            Self::File(sink) => sink.write(rows).await,
            Self::Otlp(sink) => sink.write(app, rows).await,
        }
    }

    async fn remember(&mut self, app: &App, mark: &Mark) -> Result<(), Error> {
        match self {
            Self::File(sink) => sink.remember(mark).await,
            Self::Otlp(sink) => sink.remember(app, mark).await,
        }
    }
}

/// Keeps a sink up to date until the server stops, and once more then.
pub(super) async fn run(app: Arc<App>, mut sink: Sink, stop: CancellationToken) {
    let mut timer = tokio::time::interval(EXPORT_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        let stopped = tokio::select! {
            () = stop.cancelled() => true,
            _ = timer.tick() => false,
        };
        let done = bring_up_to_date(&app, &mut sink).await;
        match &done {
            Ok(()) if failing => {
                tracing::info!(sink = sink.name(), "the audit trail is handed on again")
            }
            Ok(()) => {}
            Err(error) if !failing => tracing::error!(
                sink = sink.name(), error = %error.detail(),
                "the audit trail is not handed on; it goes on in the store, and the rest follows"
            ),
            Err(_) => {}
        }
        failing = done.is_err();
        if stopped {
            return;
        }
    }
}

async fn bring_up_to_date(app: &App, sink: &mut Sink) -> Result<(), Error> {
    if !sink.is_ours(app).await? {
        app.metrics().audit_exported(sink.name(), true, 0);
        return Ok(());
    }
    let heads = app.context().store.audit_heads().await?;
    let mut positions = sink.positions(app).await?;
    let mut outcome = Ok(());
    for head in &heads {
        outcome = hand_on(app, sink, head, &mut positions).await;
        if outcome.is_err() {
            break;
        }
    }
    let behind = heads.iter().map(|head| {
        let known = positions.get(&head.mark.replica);
        let next = known.map_or(0, |mark| mark.position + 1);
        (head.mark.position + 1).saturating_sub(next)
    });
    let up = outcome.is_ok();
    app.metrics().audit_exported(sink.name(), up, behind.sum());
    outcome
}

async fn hand_on(
    app: &App,
    sink: &mut Sink,
    head: &AuditHead,
    positions: &mut BTreeMap<String, Mark>,
) -> Result<(), Error> {
    let replica = &head.mark.replica;
    let store = &app.context().store;
    let known = positions.get(replica);
    if known == Some(&head.mark) {
        return Ok(());
    }
    let mut next = known.map_or(0, |mark| mark.position + 1);
    if let Some(known) = known {
        let rows = store.audit_entries(replica, next, 1).await?;
        let goes_on = match rows.first() {
            Some(row) => row.previous == known.hash,
            // Entries are missing at the end, which is told below.
            None => known.position < head.mark.position,
        };
        if !goes_on {
            // What was handed on stays where it is, and shows what was there before.
            tracing::error!(
                sink = sink.name(),
                replica,
                position = next,
                "the audit chain does not go on from what was handed on: it was changed or has gone back, and is handed on anew"
            );
            next = 0;
        }
    }
    while next <= head.mark.position {
        let mut rows = store.audit_entries(replica, next, PAGE).await?;
        rows.retain(|row| row.position <= head.mark.position);
        let Some(last) = rows.last().map(AuditRow::mark) else {
            let text = format!("entries of {replica}'s chain are missing from position {next} on");
            return Err(Error::new(ErrorKind::Unavailable, "audit-gap", text));
        };
        sink.write(app, &rows).await?;
        sink.remember(app, &last).await?;
        next = last.position + 1;
        positions.insert(replica.clone(), last);
    }
    Ok(())
}
