//! `ca authority`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use ca_client::KeyKind;
use ca_client::api::Call;
use clap::{Args, Subcommand, ValueEnum};
use pki::crl::Reason;
use pki::csr::VerifiedCsr;
use pki::name::{AuthorityId, ClusterName, KeyUri};
use pki::time::Ttl;
use serde_json::{Map, Value, json};

use super::files::{self, NewFile};
use super::session::{Paging, Session};
use super::{Verb, reason};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form};

const COLUMNS: &[Column] = &[
    Column::of("ID", "id"),
    Column::of("CLUSTER", "cluster"),
    Column::of("STATE", "state"),
    Column::of("KEY", "key"),
    Column::time("UNTIL", "not_after"),
];

const FIRST: &[&str] = &[
    "id",
    "cluster",
    "state",
    "subject",
    "key",
    "not_after",
    "waits_until",
];

#[derive(Debug, Subcommand)]
pub(crate) enum AuthorityVerb {
    /// List the authorities
    #[command(after_help = "Example:\n  ca authority list --cluster central --state active")]
    List {
        /// Of this cluster
        #[arg(long, value_name = "NAME")]
        cluster: Option<ClusterName>,
        /// In this state: requested, imported, published, active, retiring, retired or revoked
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Print an authority
    #[command(after_help = "Example:\n  ca authority show central-1")]
    Show {
        /// The authority
        id: AuthorityId,
    },
    /// Write an authority's request or its chain in PEM
    #[command(
        after_help = "Example:\n  ca authority get central-1 --form chain --out central-1.chain.pem"
    )]
    Get {
        /// The authority
        id: AuthorityId,
        /// What of it
        #[arg(long, value_enum, default_value_t = Part::Chain)]
        form: Part,
        /// File to write, which must not be there yet [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make the next authority of a cluster: its key, and the request that the root signs
    #[command(after_help = "\
Examples:
  ca authority request central --out central-2.csr.pem
  ca authority request central --token ca --out central-2.csr.pem")]
    Request(Request),
    /// Take the signed certificate back
    #[command(after_help = "\
Examples:
  ca authority import central-1 central-1.chain.pem
  ca authority import central-1 central-1.chain.pem --new-root \"$(openssl x509 -in root.pem -outform der | sha256sum | cut -c1-64)\"

It is published at once, and active as soon as it is due: not before it was published for authorities.publish_for.")]
    Import {
        /// The authority
        id: AuthorityId,
        /// PEM: its certificate, each CA's above it, and the root (which may be left out when it is known)
        chain: PathBuf,
        /// The SHA-256 of the chain's root (of its DER), where everyone is to believe in it beside the roots of before
        #[arg(long, value_name = "SHA256", value_parser = digest)]
        new_root: Option<String>,
    },
    /// Have the fleet's authority, which is online, sign a requested one, and take it in: in place of the way to the offline root
    #[command(after_help = "Example:\n  ca authority sign edge-7-1 --life 90d")]
    Sign {
        /// The authority
        id: AuthorityId,
        /// How long it lives; a year if nothing is said, and never longer than the fleet's
        #[arg(long, value_name = "TTL")]
        life: Option<Ttl>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Put an imported authority into everyone's bundles; it happens by itself within seconds
    #[command(after_help = "Example:\n  ca authority publish central-2")]
    Publish {
        /// The authority
        id: AuthorityId,
    },
    /// Make a published authority the one that signs, before it is due
    #[command(after_help = "Example:\n  ca authority activate central-2")]
    Activate {
        /// The authority
        id: AuthorityId,
    },
    /// Give up a requested authority whose request was lost or refused; its slot is free again
    #[command(after_help = "Example:\n  ca authority abandon central-2")]
    Abandon {
        /// The authority
        id: AuthorityId,
    },
    /// Retire an authority that came in and never signed; others retire by themselves
    #[command(after_help = "Example:\n  ca authority retire central-2")]
    Retire {
        /// The authority
        id: AuthorityId,
    },
    /// Revoke an authority: it signs nothing more, and everything that it issued is revoked with it
    #[command(after_help = "Example:\n  ca authority revoke central-1 --reason keyCompromise")]
    Revoke {
        /// The authority
        id: AuthorityId,
        /// Why (RFC 5280 §5.3.1): unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, cessationOfOperation or
        /// privilegeWithdrawn
        #[arg(long, value_name = "REASON", value_parser = reason::of_authority)]
        reason: Reason,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// What of an authority is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Its certificate and those above it
    Chain,
    /// The request that the root signs
    Request,
}

/// The next authority of a cluster.
#[derive(Debug, Args)]
pub(crate) struct Request {
    /// The cluster
    cluster: ClusterName,
    /// File for the request, which must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The kind of key: p256 or p384
    #[arg(
        long,
        value_name = "KIND",
        default_value = "p256",
        conflicts_with = "existing_key"
    )]
    key_kind: KeyKind,
    /// Make the key in the token of this label, in place of the store
    #[arg(long = "token", value_name = "LABEL", conflicts_with = "existing_key")]
    hardware: Option<String>,
    /// Take the key at this PKCS#11 URI
    #[arg(long, value_name = "URI")]
    existing_key: Option<KeyUri>,
    /// Cut the CRL into so many shards; 0 publishes one complete list, which every verifier reads. Never changed later
    #[arg(long, value_name = "N", default_value_t = 0)]
    crl_shards: u16,
    /// Publish a delta beside the complete CRL
    #[arg(long)]
    crl_delta: bool,
}

/// Hexadecimal, with colons or blanks or without, as the API takes it.
pub(super) fn digest(text: &str) -> Result<String, String> {
    let digits: String = text
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(digits)
    } else {
        Err("expected 64 hexadecimal digits".to_owned())
    }
}

impl Verb for AuthorityVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        let step = async |id: &AuthorityId, verb: &str, done: &str| {
            let segments = ["authorities", id.as_str(), verb];
            session
                .act(Call::post(&segments, json!({})), |value| {
                    standing(id, done, value)
                })
                .await
        };
        match self {
            Self::List {
                cluster,
                state,
                paging,
            } => {
                let call = Call::get(&["authorities"])
                    .query("cluster", cluster)
                    .query("state", state);
                session.list(call, paging, COLUMNS).await
            }
            Self::Show { id } => session.show(&["authorities", id.as_str()], FIRST).await,
            Self::Get { id, form, out } => {
                let part = match form {
                    Part::Chain => "chain",
                    Part::Request => "request",
                };
                let call =
                    Call::get(&["authorities", id.as_str(), part]).accept("application/x-pem-file");
                session.fetch(&call, false, out.as_deref()).await
            }
            Self::Request(wanted) => request(session, wanted).await,
            Self::Import {
                id,
                chain,
                new_root,
            } => {
                let mut body = Map::new();
                body.insert("chain".to_owned(), json!(files::read_text(&chain)?));
                if let Some(root) = new_root {
                    body.insert("new_root".to_owned(), json!(root));
                }
                let segments = ["authorities", id.as_str(), "import"];
                session
                    .act(Call::post(&segments, body.into()), |value| {
                        standing(&id, "imported", value)
                    })
                    .await
            }
            Self::Sign { id, life, yes } => sign(session, &id, life, yes).await,
            Self::Publish { id } => step(&id, "publish", "published").await,
            Self::Activate { id } => step(&id, "activate", "activated").await,
            Self::Abandon { id } => step(&id, "abandon", "abandoned").await,
            Self::Retire { id } => step(&id, "retire", "retired").await,
            Self::Revoke { id, reason, yes } => revoke(session, &id, reason, yes).await,
        }
    }
}

/// What was done, and what the authority is now.
fn standing(id: &AuthorityId, done: &str, value: &Value) -> String {
    match (&value["state"], &value["not_after"]) {
        (Value::Null, _) => format!("authority {id} {done}"),
        (state, Value::Null) => format!("authority {id} {done}: it is {}", out::text(state)),
        (state, until) => format!(
            "authority {id} {done}: it is {}, until {}",
            out::text(state),
            out::text(until)
        ),
    }
}

async fn request(session: &Session, wanted: Request) -> Result<Exit> {
    // First: a key whose request cannot be written would hold the cluster's slot for nothing.
    let place = NewFile::create(&wanted.out, 0o644)?;
    let body = json!({
        "cluster": wanted.cluster,
        "key": wanted.key_kind,
        "token": wanted.hardware,
        "existing_key": wanted.existing_key.as_ref().map(ToString::to_string),
        "crl_shards": wanted.crl_shards,
        "crl_delta": wanted.crl_delta,
    });
    let answer = session.send(&Call::post(&["authorities"], body)).await?;
    let value = answer.json()?;
    if answer.is_proposal() {
        return session.waits(&value);
    }
    let authority = &value["authority"];
    let id = out::text(&authority["id"]);
    let pem = value["request"].as_str().with_context(|| {
        format!("authority {id} was requested, and no request came: get it with `ca authority get {id} --form request`")
    })?;
    place.write(pem.as_bytes())?;
    match session.output {
        Form::Table => {
            out::say(&format!(
                "authority {id} requested: subject {}",
                out::text(&authority["subject"])
            ))?;
            if let Some(digest) = key_digest(pem) {
                out::say(&format!("key digest {digest}"))?;
            }
            out::say(&format!("key {}", out::text(&authority["key"])))?;
        }
        form => out::json(&value, form)?,
    }
    out::note(&format!(
        "carry {} to the root; then: ca authority import {id} CHAIN.pem",
        wanted.out.display()
    ));
    Ok(Exit::Done)
}

/// What both sides of the carrying compare.
fn key_digest(request: &str) -> Option<String> {
    let der = pki::pem::read_request(request.as_bytes()).ok()?;
    let csr = VerifiedCsr::parse(&der).ok()?;
    Some(pki::crypto::hex(&pki::crypto::sha256(csr.key().spki())))
}

async fn sign(session: &Session, id: &AuthorityId, life: Option<Ttl>, yes: bool) -> Result<Exit> {
    let segments = ["authorities", id.as_str(), "sign"];
    let (value, _) = session.read(&segments[..2]).await?;
    out::note(&format!(
        "sign {id} ({}), which is {} and of cluster {}",
        out::text(&value["subject"]),
        out::text(&value["state"]),
        out::text(&value["cluster"])
    ));
    out::confirm(&format!("have {id} signed by the fleet's authority"), yes)?;
    let call = Call::post(&segments, json!({ "life": life }));
    session
        .act(call, |value| standing(id, "signed", value))
        .await
}

async fn revoke(session: &Session, id: &AuthorityId, reason: Reason, yes: bool) -> Result<Exit> {
    let segments = ["authorities", id.as_str(), "revoke"];
    let (value, _) = session.read(&segments[..2]).await?;
    out::note(&format!(
        "revoke {id} ({}), which is {} and of cluster {}: everything that it issued goes with it",
        out::text(&value["subject"]),
        out::text(&value["state"]),
        out::text(&value["cluster"])
    ));
    let live = json!({ "authority": id, "action": "revoke", "dry_run": true });
    // Whoever may revoke an authority may not be let see its certificates; then the number is not told.
    if let Ok(answer) = session.send(&Call::ask(&["revocations"], live)).await {
        let found = answer.json()?;
        out::note(&format!(
            "  certificates of its that live: {}",
            out::text(&found["found"])
        ));
    }
    out::confirm(&format!("revoke authority {id}"), yes)?;
    let body = json!({ "reason": reason.to_string() });
    session
        .act(Call::post(&segments, body), |value| {
            standing(id, "revoked", value)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_taken_as_people_write_it() {
        let plain = "ab".repeat(32);
        assert_eq!(digest(&plain).unwrap(), plain);
        assert_eq!(digest(&["AB"; 32].join(":")).unwrap(), plain);
        assert!(digest("ab").is_err());
        assert!(digest(&"xy".repeat(32)).is_err());
    }
}
