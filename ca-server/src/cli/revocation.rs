//! `ca-server revoke`, `hold` and `lift`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;
use pki::crl::Reason;
use pki::crypto::Digest;
use pki::name::{AuthorityId, ClusterName};
use pki::serial::Serial;
use pki::time::Timestamp;

use crate::app::revocation::{self, Selection, Summary};
use crate::config::Config;
use crate::store::model::StoredRecord;

/// How many certificates a preview prints.
const PREVIEW: usize = 10;

/// Which certificates are meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// With this serial number, hexadecimal; may be given several times.
    #[arg(long, value_name = "SERIAL", conflicts_with_all = ["spiffe_id", "dns", "key", "cluster", "authority", "issued_from", "issued_to"])]
    serial: Vec<Serial>,
    /// With this SPIFFE id.
    #[arg(long)]
    spiffe_id: Option<String>,
    /// With this host name.
    #[arg(long, conflicts_with = "spiffe_id")]
    dns: Option<String>,
    /// With the key whose SubjectPublicKeyInfo has this SHA-256, hexadecimal.
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    key: Option<Digest>,
    /// Of this cluster.
    #[arg(long)]
    cluster: Option<ClusterName>,
    /// By this authority.
    #[arg(long)]
    authority: Option<AuthorityId>,
    /// Issued at this time or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    issued_from: Option<Timestamp>,
    /// Issued before this time (RFC 3339).
    #[arg(long, value_name = "TIME")]
    issued_to: Option<Timestamp>,
    /// Print what would be hit, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

fn digest(text: &str) -> Result<Digest, String> {
    pki::crypto::from_hex(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

/// What is done with them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Revoke(Reason),
    Hold,
    Lift,
}

impl Act {
    fn verb(self) -> &'static str {
        match self {
            Self::Revoke(_) => "revoke",
            Self::Hold => "put on hold",
            Self::Lift => "lift the hold of",
        }
    }
}

pub(super) async fn run(act: Act, which: Which, config: &Config) -> Result<()> {
    if let Act::Revoke(Reason::CertificateHold) = act {
        bail!(
            "a hold can be lifted again, a revocation cannot: `ca-server hold` puts certificates on hold"
        );
    }
    let context = super::open(config).await?;
    let selection = Selection {
        serials: which.serial,
        name: which
            .spiffe_id
            .map(|id| format!("URI:{id}"))
            .or(which.dns.map(|name| format!("DNS:{name}"))),
        key: which.key,
        cluster: which.cluster,
        authority: which.authority,
        issued_from: which.issued_from,
        issued_to: which.issued_to,
    };
    let records = revocation::select(&context, &selection).await?;
    preview(act, &records);
    if records.is_empty() || which.dry_run {
        return Ok(());
    }
    if !which.yes && !super::confirm(&format!("{} {} certificate(s)", act.verb(), records.len()))? {
        bail!("nothing was changed");
    }
    let actor = super::actor();
    let summary = match act {
        Act::Revoke(reason) => revocation::revoke(&context, &records, reason, &actor).await?,
        Act::Hold => {
            revocation::revoke(&context, &records, Reason::CertificateHold, &actor).await?
        }
        Act::Lift => revocation::lift(&context, &records, &actor).await?,
    };
    report(act, summary);
    Ok(())
}

fn preview(act: Act, records: &[StoredRecord]) {
    if records.is_empty() {
        println!("no certificate that lives fits; nothing to {}", act.verb());
        return;
    }
    let mut groups: BTreeMap<(String, String), usize> = BTreeMap::new();
    for stored in records {
        let record = &stored.record;
        let group = (record.cluster.to_string(), record.profile.to_string());
        *groups.entry(group).or_default() += 1;
    }
    println!("{} certificate(s) to {}:", records.len(), act.verb());
    for ((cluster, profile), count) in groups {
        println!("  {count:>8}  cluster {cluster}, profile {profile}");
    }
    for stored in records.iter().take(PREVIEW) {
        let record = &stored.record;
        let standing = match stored.revoked.map(|(_, reason)| Reason::from_code(reason)) {
            Some(Some(Reason::CertificateHold)) => "  (on hold)",
            Some(_) => "  (revoked already)",
            None => "",
        };
        println!(
            "  {} {} until {}{standing}",
            record.serial,
            record.names.join(","),
            record.not_after
        );
    }
    if records.len() > PREVIEW {
        println!("  … and {} more", records.len() - PREVIEW);
    }
}

fn report(act: Act, summary: Summary) {
    let done = match act {
        Act::Revoke(_) => "revoked",
        Act::Hold => "put on hold",
        Act::Lift => "lifted",
    };
    println!("{} {done}", summary.changed);
    if summary.standing > 0 {
        println!(
            "{} revoked or on hold already, left as they were",
            summary.standing
        );
    }
    if summary.not_held > 0 {
        println!("{} not on hold, left as they were", summary.not_held);
    }
    if summary.gone > 0 {
        println!("{} no longer on record", summary.gone);
    }
    println!(
        "it is durable; running servers tell of it within a second, caches within public.cache_for"
    );
}
