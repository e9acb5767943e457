//! `ca-server records`.

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use pki::name::{ClusterName, DnsName, SpiffeId};
use pki::serial::Serial;
use pki::time::Timestamp;

use crate::config::Config;
use crate::store::model::{RecordFilter, StoredRecord};

#[derive(Debug, Subcommand)]
pub(super) enum RecordsCommand {
    /// List records, newest first where the store keeps them so.
    List(Filter),
    /// Print a record and its certificate.
    Show {
        /// The serial number, hexadecimal.
        serial: Serial,
    },
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Of this cluster.
    #[arg(long)]
    cluster: Option<ClusterName>,
    /// With this SPIFFE id.
    #[arg(long)]
    spiffe_id: Option<SpiffeId>,
    /// With this host name.
    #[arg(long, conflicts_with = "spiffe_id")]
    dns: Option<DnsName>,
    /// By this caller.
    #[arg(long)]
    caller: Option<String>,
    /// That expire from this time on (RFC 3339).
    #[arg(long)]
    expires_from: Option<Timestamp>,
    /// That expire before this time (RFC 3339).
    #[arg(long)]
    expires_to: Option<Timestamp>,
    /// At most so many, 500 at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(RecordFilter::LIMIT_MAX)))]
    limit: u32,
    /// What comes after this one: the serial number at the end of the page before.
    #[arg(long, value_name = "SERIAL")]
    after: Option<Serial>,
}

pub(super) async fn run(command: RecordsCommand, config: &Config) -> Result<()> {
    let store = super::open_store(config).await?;
    match command {
        RecordsCommand::List(filter) => {
            let name = filter
                .spiffe_id
                .map(|id| format!("URI:{id}"))
                .or(filter.dns.map(|name| format!("DNS:{name}")));
            if let Some(name) = &filter.cluster
                && store.cluster(name).await?.is_none()
            {
                bail!("there is no cluster {name} (`ca-server cluster list`)");
            }
            if let (Some(from), Some(to)) = (filter.expires_from, filter.expires_to)
                && from > to
            {
                bail!("--expires-from {from} is after --expires-to {to}");
            }
            let after = match &filter.after {
                Some(serial) => {
                    let stored = store.record(serial).await?;
                    let stored = stored.with_context(|| {
                        format!("--after: there is no certificate {serial} on record")
                    })?;
                    Some(stored.cursor())
                }
                None => None,
            };
            let recent = RecordFilter::recent(super::system_now());
            let mut filter = RecordFilter {
                cluster: filter.cluster,
                names: name.into_iter().collect(),
                caller: filter.caller,
                expires_from: filter.expires_from.unwrap_or(recent.expires_from),
                expires_to: filter.expires_to.unwrap_or(recent.expires_to),
                limit: filter.limit,
                after,
                ..recent
            };
            // A page ends early where there is much to look at: the next ones fill it up.
            let mut last = None;
            loop {
                let page = store.search(&filter).await?;
                super::print(&page.records.iter().map(line).collect::<String>())?;
                last = page.records.last().map(|it| it.record.serial).or(last);
                filter.limit -= u32::try_from(page.records.len()).unwrap_or(filter.limit);
                if page.next.is_none() {
                    break;
                }
                if let (0, Some(last)) = (filter.limit, last) {
                    eprintln!("there may be more: --after {last}");
                    break;
                }
                filter.after = page.next;
            }
        }
        RecordsCommand::Show { serial } => {
            let stored = store.record(&serial).await?;
            let stored =
                stored.with_context(|| format!("there is no certificate {serial} on record"))?;
            super::print(&show(&stored))?;
        }
    }
    Ok(())
}

fn line(stored: &StoredRecord) -> String {
    let record = &stored.record;
    let names = match record.names.join(",") {
        names if names.is_empty() => "-".to_owned(),
        names => names,
    };
    format!(
        "{} {:<20} {} {} {names} by {}\n",
        record.serial, record.authority, record.issued_at, record.not_after, record.caller
    )
}

fn show(stored: &StoredRecord) -> String {
    let record = &stored.record;
    let asked_ttl = match record.asked_ttl {
        Some(seconds) => format!("for {seconds} s"),
        None => "for no lifetime in particular".to_owned(),
    };
    let asked_names = match record.asked_names.join(", ") {
        names if names.is_empty() => "no name".to_owned(),
        names => names,
    };
    let revoked = match stored.revoked {
        Some((at, reason)) => format!("{at}, reason {reason}"),
        None => "no".to_owned(),
    };
    let lines = [
        ("serial", record.serial.to_string()),
        (
            "authority",
            format!("{} (log index {})", record.authority, stored.log_index),
        ),
        ("cluster", record.cluster.to_string()),
        (
            "profile",
            format!("{} by rule {}", record.profile, record.rule),
        ),
        ("names", record.names.join(", ")),
        ("asked", format!("{asked_names} {asked_ttl}")),
        ("granted", format!("{} s", record.granted_ttl)),
        ("bundle", format!("sequence {}", record.bundle_sequence)),
        ("certificate", pki::crypto::hex(&record.certificate_digest)),
        ("issued", record.issued_at.to_string()),
        (
            "valid",
            format!("{} to {}", record.not_before, record.not_after),
        ),
        (
            "caller",
            format!("{} ({})", record.caller, record.caller_kind),
        ),
        (
            "detail",
            record.caller_detail.clone().unwrap_or_else(|| "-".into()),
        ),
        ("key", pki::crypto::hex(&record.key_digest)),
        ("request", pki::crypto::hex(&record.request_digest)),
        ("leaf hash", pki::crypto::hex(&record.leaf_hash)),
        ("request id", record.request_id.clone()),
        ("revoked", revoked),
    ];
    let mut text: String = lines
        .iter()
        .map(|(key, value)| format!("{key:<12} {value}\n"))
        .collect();
    text.push_str(&pki::pem::certificate(&record.der));
    text
}
