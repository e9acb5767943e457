//! The try-out: an offline root, a central and an edge cluster, a running server, a workload in each cluster, and the
//! proof that the two trust each other and nobody else. Everything is on this machine and in one directory.
//!
//! Every step looks at what is there and does what is missing, so that a second run, or one after a crash, continues.

mod home;
mod peer;
mod proof;
mod report;
mod root;
mod server;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser;
use pki::time::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use home::Home;
use report::{Account, Report};
use root::OfflineRoot;
use server::Server;
use workload::Workload;

/// Signet's try-out: makes a root, two clusters and a workload in each, and proves that they trust each other.
///
/// Run it again to continue where it was. What it makes is for trying out: the passphrases lie beside the keys.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Arguments {
    /// Where everything goes; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "signet-demo")]
    dir: PathBuf,
    /// Remove what an earlier run made, and start over
    #[arg(long)]
    clean: bool,
    /// Stop after the proof instead of serving on
    #[arg(long)]
    exit: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Keys and passphrases are for their owner alone, whatever creates the file.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    ca_client::install_crypto_provider();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime did not start")
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let home = Home::open(&arguments.dir, arguments.clean)?;
    let (root, root_is_new) = OfflineRoot::open(&home, now())?;
    let config = server::configure(&home)?;
    server::start_log(&home, &config)?;
    let context = ca_server::embedded::open(&config).await.with_context(|| {
        let start_over = "--clean starts over";
        format!("the store in {} ({start_over})", home.shown("server"))
    })?;
    let authorities = server::prepare(&home, &context, &root, now()).await?;
    let server = Server::start(&home, config, context.clone()).await?;
    let proven = prove(&home, &server, &context, &root).await;
    let (workloads, proof) = match proven {
        Ok(proven) => proven,
        Err(error) => {
            // What failed is worth telling, not what the stop says after it.
            let _ = server.stop().await;
            return Err(error);
        }
    };
    let report = Report {
        home: &home,
        root: root.certificate(),
        root_is_new,
        authorities: &authorities,
        workloads: &workloads,
        proof: &proof,
        listeners: server.listeners(),
        took: started.elapsed(),
        goes_on: !arguments.exit,
        programs: programs()?,
    };
    report.print()?;
    if arguments.exit {
        return server.stop().await;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut server = server;
    tokio::select! {
        ended = server.ended() => return ended,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    eprintln!("stopping");
    server.stop().await
}

/// The directory that this program was built into, from here if it lies below.
fn programs() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let directory = program.parent().unwrap_or(&program);
    let here = std::env::current_dir()?;
    Ok(directory.strip_prefix(here).unwrap_or(directory).to_owned())
}

/// Enrols what has no identity, and lets the two talk.
async fn prove(
    home: &Home,
    server: &Server,
    context: &ca_server::app::Context,
    root: &OfflineRoot,
) -> Result<(Vec<Account>, proof::Proof)> {
    let mut identities = Vec::new();
    let mut accounts = Vec::new();
    for workload in Workload::both()? {
        let (identity, is_new) = workload.ensure(home, server, context, root, now()).await?;
        accounts.push(Account::new(&workload, &identity, is_new));
        identities.push((workload, identity));
    }
    let [web, sensor] = identities.as_slice() else {
        anyhow::bail!("there are two workloads");
    };
    let proof = proof::run((&web.0.spiffe_id, &web.1), (&sensor.0.spiffe_id, &sensor.1)).await?;
    Ok((accounts, proof))
}

/// The time, the only place where this program reads it.
#[expect(
    clippy::disallowed_methods,
    reason = "programs read the clock in main and pass it on"
)]
fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
}
