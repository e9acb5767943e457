//! `ca-server revoke`, `hold` and `lift`.

use anyhow::{Result, bail};
use clap::Args;
use pki::crl::Reason;
use pki::crypto::Digest;
use pki::name::{AuthorityId, ClusterName, DnsName, SpiffeId};
use pki::serial::Serial;
use pki::time::Timestamp;

use crate::app::revocation::{self, Found, Selection, Summary};
use crate::config::Config;

/// Which certificates are meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// With this serial number, hexadecimal; may be given several times.
    #[arg(long, value_name = "SERIAL", conflicts_with_all = ["spiffe_id", "dns", "key", "cluster", "authority", "issued_from", "issued_to"])]
    serial: Vec<Serial>,
    /// With this SPIFFE id.
    #[arg(long)]
    spiffe_id: Option<SpiffeId>,
    /// With this host name, in upper or lower case.
    #[arg(long, conflicts_with = "spiffe_id")]
    dns: Option<DnsName>,
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
    pub(super) dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

fn digest(text: &str) -> Result<Digest, String> {
    pki::crypto::digest_from_hex(text).ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

/// Why certificates are revoked. Other reasons there are say something else, and their refusal says what.
pub(super) fn reason(text: &str) -> Result<Reason, String> {
    const ACCEPTED: &str = "unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or \
                            privilegeWithdrawn";
    let why = match text {
        "certificateHold" => {
            "a hold can be lifted again: `ca-server hold` puts certificates on hold"
        }
        "removeFromCRL" => "it says that a hold was lifted: `ca-server lift` does that",
        "cACompromise" => "it is an authority's reason: `ca-server authority revoke` takes it",
        "aACompromise" => {
            "it is for attribute certificates, which are not issued here (RFC 5280 §5.3.1)"
        }
        text => match text.parse() {
            Ok(reason) => return Ok(reason),
            Err(_) => "it is no reason of RFC 5280 §5.3.1's",
        },
    };
    Err(format!("{why}; expected {ACCEPTED}"))
}

/// What is done with them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// For this reason; a dry run needs none.
    Revoke(Option<Reason>),
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
    let found = revocation::select(&context, &selection).await?;
    super::print(&preview(act, &found))?;
    if found.is_empty() || which.dry_run {
        return Ok(());
    }
    if !which.yes && !super::confirm(&format!("{} {} certificate(s)", act.verb(), found.len()))? {
        bail!("nothing was changed");
    }
    let actor = super::actor();
    let summary = match act {
        Act::Revoke(None) => bail!("--reason is needed"),
        Act::Revoke(Some(reason)) => revocation::revoke(&context, &found, reason, &actor).await?,
        Act::Hold => revocation::revoke(&context, &found, Reason::CertificateHold, &actor).await?,
        Act::Lift => revocation::lift(&context, &found, &actor).await?,
    };
    super::print(&report(act, summary))
}

fn preview(act: Act, found: &Found) -> String {
    let mut text = String::new();
    if found.is_empty() {
        text.push_str(&format!(
            "no certificate that lives fits; nothing to {}\n",
            act.verb()
        ));
    } else {
        text.push_str(&format!(
            "{} certificate(s) to {}:\n",
            found.len(),
            act.verb()
        ));
    }
    for ((cluster, profile), count) in &found.groups {
        text.push_str(&format!(
            "  {count:>8}  cluster {cluster}, profile {profile}\n"
        ));
    }
    for stored in &found.first {
        let record = &stored.record;
        let standing = match stored.revoked.map(|(_, reason)| Reason::from_code(reason)) {
            Some(Some(Reason::CertificateHold)) => "  (on hold)",
            Some(_) => "  (revoked already)",
            None => "",
        };
        text.push_str(&format!(
            "  {} {} until {}{standing}\n",
            record.serial,
            record.names.join(","),
            record.not_after
        ));
    }
    if found.len() > Found::SHOWN {
        text.push_str(&format!("  … and {} more\n", found.len() - Found::SHOWN));
    }
    if found.own_left_out > 0 {
        text.push_str(&format!(
            "  left out: {} of the server's own or administrators' (serving, ocsp-responder, admin), which are meant by --serial alone\n",
            found.own_left_out
        ));
    }
    text
}

fn report(act: Act, summary: Summary) -> String {
    let done = match act {
        Act::Revoke(_) => "revoked",
        Act::Hold => "put on hold",
        Act::Lift => "lifted",
    };
    let mut text = format!("{} {done}\n", summary.changed);
    for (count, what) in [
        (
            summary.standing,
            "revoked or on hold already, left as they were",
        ),
        (summary.not_held, "not on hold, left as they were"),
        (summary.gone, "no longer on record"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count} {what}\n"));
        }
    }
    text.push_str(
        "it is durable; running servers tell of it within a second, caches within public.cache_for\n",
    );
    text
}
