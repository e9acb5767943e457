//! Background work: reconcilers, idempotent and without input, woken by a timer or a change. Errors are logged and the
//! next turn tries again.

mod export;
mod serving;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use serving::Serving;

use crate::app::{App, Error, authority};
use crate::config::{AuditSettings, Config};
use crate::store::model::AuthorityState;

/// How often a server looks for changes that another process made in the store.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// How often authorities are moved on and the clock is compared.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
/// How often revocations and CRLs of other replicas are looked for. This process's own wake the publisher at once.
const STATUS_EVERY: Duration = Duration::from_millis(100);
/// How often refusals are written into the audit trail.
const REFUSALS_EVERY: Duration = Duration::from_secs(1);
/// How often each replica's audit chain tells of the others' heads.
const AUDIT_LINKS_EVERY: Duration = Duration::from_secs(60);
/// How often answers that many ask for are signed anew, where they grow stale.
const HOT_ANSWERS_EVERY: Duration = Duration::from_secs(60);
/// How often offline CAs' CRLs are looked at, beside whenever something changes; each that is about to end is complained of
/// once a day.
const ROOT_CRLS_EVERY: Duration = Duration::from_secs(3600);
/// How often Postgres' partitions are made ahead.
const PARTITIONS_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Starts what runs in every server.
pub fn start(
    app: &Arc<App>,
    audit: &AuditSettings,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) {
    describe(app);
    for sink in export::sinks(app, audit) {
        tracker.spawn(export::run(app.clone(), sink, stop.clone()));
    }
    let spawn = |name, period, work: fn(Arc<App>) -> Work| {
        tracker.spawn(every(name, period, app.clone(), stop.clone(), work));
    };
    spawn("reload", RELOAD_EVERY, |app| {
        Box::pin(async move { reload(&app).await })
    });
    spawn("reconcile", RECONCILE_EVERY, |app| {
        Box::pin(async move { reconcile(&app).await })
    });
    tracker.spawn(tell_status(app.clone(), stop.clone()));
    for token in app.context().tokens.iter() {
        tracker.spawn(tokens::watch(app.clone(), token.clone(), stop.clone()));
    }
    spawn("refusals", REFUSALS_EVERY, |app| {
        Box::pin(async move { app.write_refusals(false).await })
    });
    spawn("audit-links", AUDIT_LINKS_EVERY, |app| {
        Box::pin(async move { app.link_chains().await })
    });
    spawn("hot-answers", HOT_ANSWERS_EVERY, |app| {
        Box::pin(async move { app.refresh_hot_answers().await })
    });
    spawn("root-crls", ROOT_CRLS_EVERY, |app| {
        Box::pin(async move { watch_root_crls(&app) })
    });
    spawn("partitions", PARTITIONS_EVERY, |app| {
        Box::pin(async move {
            let now = app.context().clock.trusted_now()?;
            Ok(app.context().store.maintain_partitions(now).await?)
        })
    });
}

/// Puts the configured bounds on work in force whenever they change.
pub async fn tune(app: Arc<App>, mut config: watch::Receiver<Config>, stop: CancellationToken) {
    while tokio::select! {
        changed = config.changed() => changed.is_ok(),
        () = stop.cancelled() => false,
    } {
        app.tune(&config.borrow_and_update());
    }
}

type Work = std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

async fn every(
    name: &'static str,
    period: Duration,
    app: Arc<App>,
    stop: CancellationToken,
    work: fn(Arc<App>) -> Work,
) {
    let mut timer = tokio::time::interval(period);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let result = work(app.clone()).await;
        match &result {
            Ok(()) if failing => tracing::info!(task = name, "works again"),
            Ok(()) => {}
            // Once an outage, not once a second.
            Err(error) if !failing => {
                tracing::warn!(task = name, error = %error.detail(), "task failed, it goes on trying")
            }
            Err(_) => {}
        }
        failing = result.is_err();
    }
}

/// Follows revocations and publishes CRLs.
async fn tell_status(app: Arc<App>, stop: CancellationToken) {
    let mut timer = tokio::time::interval(STATUS_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
            () = app.status().changed() => {}
        }
        let done = async {
            app.refresh_status().await?;
            app.publish_crls().await?;
            app.keep_copy().await?;
            app.keep_responders().await
        };
        let result = done.await;
        match &result {
            Ok(()) if failing => tracing::info!(task = "status", "works again"),
            Ok(()) => {}
            Err(error) if !failing => tracing::warn!(
                task = "status", error = %error.detail(),
                "certificate status stands still: CRLs are served as they are, revocations are not heard of"
            ),
            Err(_) => {}
        }
        failing = result.is_err();
    }
}

/// A ceremony takes weeks to arrange: it is asked for in time.
fn watch_root_crls(app: &App) -> Result<(), Error> {
    let now = app.context().clock.trusted_now()?;
    for row in app.ending_root_crls(now) {
        tracing::warn!(
            crl.number = row.number,
            ca.key = %pki::crypto::hex(&row.root),
            next_update = %row.next_update,
            "a CRL of an offline CA ends soon: hold its ceremony (`ca-server crl request`) and import the new one"
        );
    }
    Ok(())
}

async fn reload(app: &App) -> Result<(), Error> {
    let context = app.context();
    if let Some((sequence, at)) = context.store.clock_acceptance().await?
        && app.note_clock_acceptance(sequence)
    {
        context.clock.accept();
        tracing::warn!(accepted_at = %at, "the clock is believed again: an operator said so");
    }
    let reloaded = app.reload().await;
    app.note_reload(reloaded.is_ok());
    if reloaded? {
        describe(app);
        watch_root_crls(app)?;
    }
    app.mend().await;
    Ok(())
}

/// Brings gauges in line with what is in force.
fn describe(app: &App) {
    let snapshot = app.snapshot();
    app.metrics()
        .set_authorities(snapshot.authorities.iter().map(AsRef::as_ref));
    for authority in snapshot
        .authorities
        .iter()
        .filter(|a| a.state == AuthorityState::Active)
    {
        tracing::info!(
            authority.id = %authority.id,
            cluster.id = %authority.cluster,
            not_after = %authority.issuer.not_after(),
            "authority in force"
        );
    }
}

async fn reconcile(app: &App) -> Result<(), Error> {
    watch_clock(app).await?;
    app.turns().shrink();
    app.administration().shrink();
    authority::reconcile(app.context()).await
}

/// Compares the clock with the store's, and with the latest time that the store has seen; what passes becomes the latest.
async fn watch_clock(app: &App) -> Result<(), Error> {
    let context = app.context();
    compare_clock(context).await?;
    let now = context.clock.trusted_now()?;
    let raised = context.store.raise_clock_high_water(now).await;
    // A full disk lets reads through: only a write tells.
    app.note_write(raised.is_ok());
    Ok(raised?)
}

/// Compares the clock with what the store knows of time.
///
/// # Errors
/// When the store is away.
pub async fn compare_clock(context: &crate::app::Context) -> Result<(), Error> {
    if let Some(clock) = context.store.clock().await? {
        context.clock.compare(clock, "the database's clock", true);
    }
    if let Some(latest) = context.store.clock_high_water().await? {
        context
            .clock
            .compare(latest, "the latest time on record", false);
    }
    Ok(())
}
