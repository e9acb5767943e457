//! `ca bundle`.

use std::path::PathBuf;

use anyhow::Result;
use ca_client::{Backoff, bundle};
use clap::Args;
use pki::bundle::Bundle;
use pki::name::TrustDomain;
use serde::Serialize;

use super::{Output, Server, print, stopped};

pub(super) const EXAMPLES: &str = "\
Examples:
  ca bundle --server https://ca.example:8443 --roots roots.pem --trust-domain example.org --out bundle.pem
  ca bundle ... --out bundle.pem --watch";

/// Arguments of `ca bundle`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// The trust domain
    #[arg(long, env = "SIGNET_TRUST_DOMAIN", value_name = "NAME")]
    trust_domain: TrustDomain,
    /// PEM file to write; a reader sees all of the old one or all of the new one
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Go on, and write the file again whenever the roots change
    #[arg(long)]
    watch: bool,
    /// How the result is printed (without --watch)
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Written {
    trust_domain: String,
    sequence: u64,
    roots: usize,
    file: PathBuf,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let endpoint = arguments.server.endpoint()?;
    let Arguments {
        trust_domain, out, ..
    } = &arguments;
    if arguments.watch {
        let on_bundle = |new: &Bundle| {
            bundle::write(out, new)?;
            tracing::info!(
                sequence = new.sequence(),
                roots = new.roots().len(),
                "written"
            );
            Ok(())
        };
        bundle::watch(
            &endpoint,
            trust_domain,
            &Backoff::default(),
            on_bundle,
            stopped()?,
        )
        .await;
        return Ok(());
    }
    let found = bundle::get(&endpoint, trust_domain).await?;
    bundle::write(out, &found)?;
    let written = Written {
        trust_domain: trust_domain.to_string(),
        sequence: found.sequence(),
        roots: found.roots().len(),
        file: out.clone(),
    };
    print(arguments.output, &written, || {
        format!(
            "{} root(s) of {trust_domain}, sequence {}, in {}",
            written.roots,
            written.sequence,
            out.display()
        )
    })
}
