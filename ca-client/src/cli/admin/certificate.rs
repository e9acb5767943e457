//! `ca certificate`.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use ca_client::api::Call;
use clap::{Args, Subcommand, ValueEnum};
use pki::crl::Reason;
use pki::name::{AuthorityId, ClusterName, DnsName, ProfileName, SpiffeId};
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};
use serde_json::{Map, json};

use super::authority::digest;
use super::files::{self, NewFile};
use super::selection::{Act, Selection};
use super::session::{Paging, Session};
use super::{Verb, reason};
use crate::cli::exit::{Exit, Usage};
use crate::cli::out::{self, Column, Form};

const COLUMNS: &[Column] = &[
    Column::of("SERIAL", "serial"),
    Column::of("AUTHORITY", "authority"),
    Column::of("PROFILE", "profile"),
    Column::of("STATE", "state"),
    Column::time("UNTIL", "not_after"),
    Column::of("NAMES", "names"),
    Column::of("CALLER", "caller"),
];

const FIRST: &[&str] = &[
    "serial",
    "state",
    "authority",
    "cluster",
    "profile",
    "rule",
    "names",
    "not_before",
    "not_after",
    "caller",
];

#[derive(Debug, Subcommand)]
pub(crate) enum CertificateVerb {
    /// List certificates on record
    #[command(after_help = "\
Examples:
  ca certificate list --cluster central --state valid
  ca certificate list --spiffe-id spiffe://example.mesh/ns/default/sa/web
  ca certificate list --all --output jsonl > certificates.jsonl")]
    List(Box<Filter>),
    /// Print a certificate's record
    #[command(after_help = "Example:\n  ca certificate show 014e9a…")]
    Show {
        /// Its serial number, hexadecimal
        serial: Serial,
    },
    /// Write a certificate as PEM, DER or text
    #[command(after_help = "Example:\n  ca certificate get 014e9a… --form der --out web.der")]
    Get {
        /// Its serial number, hexadecimal
        serial: Serial,
        /// In which form
        #[arg(long, value_enum, default_value_t = Written::Pem)]
        form: Written,
        /// File to write, which must not be there yet [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Have a request signed, on an operator's word
    #[command(after_help = "\
Example:
  ca certificate sign central --csr web.csr --spiffe-id spiffe://example.mesh/ns/default/sa/web --ttl 12h --out web.pem")]
    Sign(Box<Wanted>),
    /// Revoke certificates: for good, and told to everyone within a second
    #[command(after_help = "\
Examples:
  ca certificate revoke 014e9a… --reason keyCompromise
  ca certificate revoke --spiffe-id spiffe://example.mesh/ns/default/sa/web --reason superseded --dry-run

With one serial number it is done; anything else is shown and asked before. The server's own certificates are meant by serial
number alone.")]
    Revoke {
        #[command(flatten)]
        selection: Box<Selection>,
        /// Why (RFC 5280 §5.3.1): unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or
        /// privilegeWithdrawn
        #[arg(long, value_name = "REASON", value_parser = reason::of_certificate, required_unless_present = "dry_run")]
        reason: Option<Reason>,
    },
    /// Put certificates on hold: revoked, until it is lifted
    #[command(after_help = "Example:\n  ca certificate hold 014e9a…")]
    Hold(Box<Selection>),
    /// Lift holds
    #[command(after_help = "Example:\n  ca certificate lift 014e9a…")]
    Lift(Box<Selection>),
}

/// Which certificates are listed.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// With this serial number, hexadecimal
    #[arg(long, value_name = "SERIAL")]
    serial: Option<Serial>,
    /// With this SPIFFE id
    #[arg(long, value_name = "URI")]
    spiffe_id: Option<SpiffeId>,
    /// With this host name
    #[arg(long, value_name = "NAME")]
    dns: Option<DnsName>,
    /// With this address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// Of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// By this authority
    #[arg(long, value_name = "ID")]
    authority: Option<AuthorityId>,
    /// With the key whose SubjectPublicKeyInfo has this SHA-256
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    public_key: Option<String>,
    /// Asked for by this caller
    #[arg(long, value_name = "WHO")]
    caller: Option<String>,
    /// Of this profile
    #[arg(long, value_name = "NAME")]
    profile: Option<ProfileName>,
    /// In this state
    #[arg(long, value_enum, value_name = "STATE")]
    state: Option<State>,
    /// Issued at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    issued_from: Option<Timestamp>,
    /// Issued before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    issued_to: Option<Timestamp>,
    /// That expire at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    expires_from: Option<Timestamp>,
    /// That expire at this time or earlier (RFC 3339)
    #[arg(long, value_name = "TIME")]
    expires_to: Option<Timestamp>,
    #[command(flatten)]
    paging: Paging,
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    Valid,
    Expired,
    Revoked,
    Held,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Held => "held",
        }
    }
}

/// In which form a certificate is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Written {
    /// In PEM
    Pem,
    /// Binary
    Der,
    /// In words
    Text,
}

impl Written {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Pem => "application/x-pem-file",
            Self::Der => "application/pkix-cert",
            Self::Text => "text/plain",
        }
    }
}

/// A certificate on an operator's word.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// The cluster whose authority signs
    cluster: ClusterName,
    /// The request, PEM or DER: its key is taken, and of profile server or client its host names
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// Whom the certificate is for
    #[arg(long, value_name = "URI")]
    spiffe_id: SpiffeId,
    /// The profile
    #[arg(long, default_value = "workload", value_name = "NAME")]
    profile: ProfileName,
    /// The lifetime; refused where policy allows less [default: the profile's]
    #[arg(long, value_name = "TTL")]
    ttl: Option<Ttl>,
    /// File for the certificate and its chain, which must not be there yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Verb for CertificateVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List(filter) => list(session, *filter).await,
            Self::Show { serial } => {
                let serial = serial.to_string();
                session.show(&["certificates", &serial], FIRST).await
            }
            Self::Get { serial, form, out } => {
                let serial = serial.to_string();
                let call = Call::get(&["certificates", &serial]).accept(form.media_type());
                let is_binary = form == Written::Der;
                session.fetch(&call, is_binary, out.as_deref()).await
            }
            Self::Sign(wanted) => sign(session, *wanted).await,
            Self::Revoke { selection, reason } => selection.run(session, Act::Revoke(reason)).await,
            Self::Hold(selection) => selection.run(session, Act::Hold).await,
            Self::Lift(selection) => selection.run(session, Act::Lift).await,
        }
    }
}

async fn list(session: &Session, filter: Filter) -> Result<Exit> {
    for (name, from, to) in [
        ("issued", filter.issued_from, filter.issued_to),
        ("expires", filter.expires_from, filter.expires_to),
    ] {
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            return Err(Usage(format!("--{name}-from {from} is after --{name}-to {to}")).into());
        }
    }
    let call = Call::get(&["certificates"])
        .query("serial", filter.serial)
        .query("spiffe_id", filter.spiffe_id)
        .query("dns", filter.dns)
        .query("ip", filter.ip)
        .query("cluster", filter.cluster)
        .query("authority", filter.authority)
        .query("key", filter.public_key)
        .query("caller", filter.caller)
        .query("profile", filter.profile)
        .query("state", filter.state.map(State::as_str))
        .query("issued_from", filter.issued_from)
        .query("issued_to", filter.issued_to)
        .query("expires_from", filter.expires_from)
        .query("expires_to", filter.expires_to);
    session.list(call, filter.paging, COLUMNS).await
}

async fn sign(session: &Session, wanted: Wanted) -> Result<Exit> {
    let place = wanted
        .out
        .as_deref()
        .map(|path| NewFile::create(path, 0o644))
        .transpose()?;
    let mut body = Map::new();
    let mut put = |key: &str, value| body.insert(key.to_owned(), value);
    put("cluster", json!(wanted.cluster));
    put("profile", json!(wanted.profile));
    put(
        "csr",
        json!(files::read_pem(&wanted.csr, pki::pem::request)?),
    );
    put("spiffe_id", json!(wanted.spiffe_id.to_string()));
    if let Some(ttl) = wanted.ttl {
        put("ttl", json!(ttl));
    }
    let answer = session
        .send(&Call::post(&["certificates"], body.into()))
        .await?;
    let value = answer.json()?;
    if answer.is_proposal() {
        return session.waits(&value);
    }
    let chain = value["chain"].as_str().unwrap_or_default();
    match (place, session.output) {
        (Some(place), form) => {
            place.write(chain.as_bytes())?;
            match form {
                Form::Table => {
                    out::say(&format!(
                        "certificate {} for {}, until {}",
                        out::text(&value["serial"]),
                        wanted.spiffe_id,
                        out::annotated(&out::text(&value["not_after"]), session.now)
                    ))?;
                }
                form => out::json(&value, form)?,
            }
        }
        (None, Form::Table) => out::put(ca_client::printable::printable_lines(chain).as_bytes())?,
        (None, form) => out::json(&value, form)?,
    }
    Ok(Exit::Done)
}
