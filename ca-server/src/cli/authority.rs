//! `ca-server authority`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Subcommand, ValueEnum};
use pki::certificate::Certificate;
use pki::crl::Reason;
use pki::crypto::Digest;
use pki::key::KeyAlgorithm;
use pki::name::{AuthorityId, ClusterName, KeyUri};
use pki::time::Ttl;
use pki::{crypto, pem};

use crate::app::status::root::{self, AtItsIssuer};
use crate::app::{NewKey, authority, fleet, revocation};
use crate::config::Config;
use crate::store::model::{AuthorityRow, AuthorityState, CrlShape};

#[derive(Debug, Subcommand)]
pub(super) enum AuthorityCommand {
    /// Make the key of a cluster's next authority, and the request to carry to whoever signs it.
    Request {
        /// The cluster.
        cluster: ClusterName,
        /// Where to write the request (PEM); never overwritten.
        #[arg(long)]
        out: PathBuf,
        /// The key's kind.
        #[arg(long, value_enum, default_value = "p256")]
        key: Key,
        /// Make the key in the [[token]] of this label, labelled there as its authority. It cannot leave it.
        #[arg(long, value_name = "LABEL")]
        token: Option<String>,
        /// Take a key that is in a [[token]] already, as in pkcs11:token=ca;object=central-1.
        #[arg(long, value_name = "URI", conflicts_with_all = ["token", "key"])]
        existing_key: Option<KeyUri>,
        /// Cut its CRL into so many shards (2 to 256), beside the complete one, for lists that grow too large for small
        /// readers. Never changed later. Each certificate names its shard; who verifies with CRLs by file needs all of
        /// them, or the complete list. Envoy up to 1.33 (older BoringSSL) refuses any shard; Go takes one for the whole
        /// list; OpenSSL, rustls-webpki and Java read them.
        #[arg(long, value_name = "N", default_value_t = 0)]
        crl_shards: u16,
        /// Publish a delta beside the complete CRL: what has changed since an older list. OpenSSL (-use_deltas) and Java
        /// use it; rustls-webpki refuses it; Envoy (BoringSSL) and Go do not look at it.
        #[arg(long)]
        crl_delta: bool,
    },
    /// Sign a requested authority by the fleet's, which is online, and take it in: in place of the way to the offline root.
    Sign {
        /// The authority.
        id: AuthorityId,
        /// How long it lives, as in 365d; a year if nothing is said, and never longer than the fleet's.
        #[arg(long)]
        life: Option<Ttl>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Take the signed certificate back. It is published at once, and active as soon as it is due: not before it was published
    /// for authorities.publish_for, so that everyone has its CRL. The first of an installation does not wait.
    Import {
        /// The authority.
        id: AuthorityId,
        /// PEM: its certificate, each CA's above it, and the root (which may be left out when it is known).
        chain: PathBuf,
        /// The SHA-256 of the chain's root (of its DER), where everyone is to believe in it beside the roots of before.
        #[arg(long, value_name = "SHA256", value_parser = root_digest)]
        new_root: Option<Digest>,
    },
    /// Give up a requested authority whose request was lost or refused; its slot is free again.
    Abandon {
        /// The authority.
        id: AuthorityId,
    },
    /// Make a published authority the one that signs, before it is due and was published for long enough.
    Activate {
        /// The authority.
        id: AuthorityId,
    },
    /// Revoke an authority: it signs nothing more, and everything that it issued is revoked with it.
    Revoke {
        /// The authority.
        id: AuthorityId,
        /// Why (RFC 5280 §5.3.1): unspecified, keyCompromise, cACompromise, affiliationChanged, superseded,
        /// cessationOfOperation or privilegeWithdrawn.
        #[arg(long, value_parser = reason)]
        reason: Reason,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// List authorities.
    List,
    /// Print an authority, its chain in PEM.
    Show {
        /// The authority.
        id: AuthorityId,
    },
}

/// Why authorities are revoked.
fn reason(text: &str) -> Result<Reason, String> {
    match text {
        "certificateHold" | "removeFromCRL" => {
            Err("an authority is not put on hold: its revocation cannot be taken back".to_owned())
        }
        "cACompromise" => Ok(Reason::CaCompromise),
        text => super::revocation::reason(text)
            .map_err(|error| error.replace("keyCompromise,", "keyCompromise, cACompromise,")),
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Key {
    P256,
    P384,
}

pub(super) async fn run(command: AuthorityCommand, config: &Config) -> Result<()> {
    match command {
        AuthorityCommand::Request {
            cluster,
            out,
            key,
            token,
            existing_key,
            crl_shards,
            crl_delta,
        } => {
            // First: a key whose request cannot be written would hold the cluster's slot for nothing.
            let place = super::NewFile::create(&out)?;
            let context = super::open(config).await?;
            let algorithm = match key {
                Key::P256 => KeyAlgorithm::EcdsaP256,
                Key::P384 => KeyAlgorithm::EcdsaP384,
            };
            let new_key = match (existing_key, token) {
                (Some(uri), _) => NewKey::Existing(uri),
                (None, Some(label)) => NewKey::InToken(label, algorithm),
                (None, None) => NewKey::InStore(algorithm),
            };
            let shape = CrlShape {
                shards: crl_shards,
                delta: crl_delta,
            };
            let actor = super::actor();
            let row = authority::request(&context, &cluster, &new_key, shape, &actor).await?;
            place.write(pem::request(&row.request).as_bytes())?;
            say!("authority {} requested: subject {:?}", row.id, row.subject);
            print_key(&row);
            if row.key_uri.is_some() {
                say!(
                    "every server has to have that [[token]] in its configuration, and to have been started since, before this authority is imported"
                );
            }
            say!(
                "carry {} to the root; then: ca-server authority import {} CHAIN.pem",
                out.display(),
                row.id
            );
        }
        AuthorityCommand::Sign { id, life, yes } => sign(config, &id, life, yes).await?,
        AuthorityCommand::Import {
            id,
            chain,
            new_root,
        } => {
            let text = std::fs::read(&chain).with_context(|| chain.display().to_string())?;
            let chain =
                Certificate::parse_pem(&text).with_context(|| chain.display().to_string())?;
            let context = super::open(config).await?;
            authority::import(&context, &id, chain, new_root.as_ref(), &super::actor()).await?;
            authority::reconcile(&context).await?;
            // A second turn: what the first one published may be due.
            authority::reconcile(&context).await?;
            let row = authority::find(&context, &id).await?;
            print_line(&row);
            print_waiting(&context, &row).await?;
        }
        AuthorityCommand::Abandon { id } => {
            let context = super::open(config).await?;
            let row = authority::abandon(&context, &id, &super::actor()).await?;
            print_line(&row);
            if let Some(uri) = &row.key_uri {
                say!(
                    "its key is still in its token, which nobody but you can delete it from: {uri}"
                );
            }
        }
        AuthorityCommand::Activate { id } => {
            let context = super::open(config).await?;
            let row = authority::find(&context, &id).await?;
            if let Some(until) = authority::waits_until(&context, &row).await? {
                say!(
                    "it would have waited until {until} (authorities.publish_for): who has not fetched its CRL yet refuses its leaves"
                );
            }
            authority::activate(&context, &id, &super::actor()).await?;
            print_line(&authority::find(&context, &id).await?);
        }
        AuthorityCommand::Revoke { id, reason, yes } => revoke(config, &id, reason, yes).await?,
        AuthorityCommand::List => {
            let context = super::open(config).await?;
            for row in context.store.authorities().await? {
                print_line(&row);
                print_standing(&context, &row).await?;
            }
        }
        AuthorityCommand::Show { id } => {
            let context = super::open(config).await?;
            let row = authority::find(&context, &id).await?;
            print_line(&row);
            print_standing(&context, &row).await?;
            print_key(&row);
            for der in &row.chain {
                super::print(&pem::certificate(der))?;
            }
            if row.chain.is_empty() {
                super::print(&pem::request(&row.request))?;
            }
        }
    }
    Ok(())
}

/// Hexadecimal, with colons or blanks or without.
fn root_digest(text: &str) -> Result<Digest, String> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    let octet = |i: usize| {
        let pair = digits.get(i..i + 2)?;
        u8::from_str_radix(pair, 16).ok()
    };
    let octets: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(octet).collect();
    octets
        .and_then(|octets| Digest::try_from(octets).ok())
        .ok_or_else(|| "expected 64 hexadecimal digits".to_owned())
}

async fn sign(config: &Config, id: &AuthorityId, life: Option<Ttl>, yes: bool) -> Result<()> {
    let context = super::open(config).await?;
    let row = authority::find(&context, id).await?;
    say!("sign {id}: subject {:?}", row.subject);
    print_key(&row);
    if !yes && !super::confirm(&format!("sign {id} by the fleet's authority"))? {
        bail!("nothing was signed");
    }
    fleet::sign(&context, id, life, &super::actor()).await?;
    authority::reconcile(&context).await?;
    // A second turn: what the first one published may be due.
    authority::reconcile(&context).await?;
    let row = authority::find(&context, id).await?;
    print_line(&row);
    print_waiting(&context, &row).await
}

/// What keeps a published authority from signing, and how to have it sign now.
async fn print_waiting(context: &crate::app::Context, row: &AuthorityRow) -> Result<()> {
    if let Some(until) = authority::waits_until(context, row).await? {
        say!(
            "  published until {until} at least, so that everyone has its CRL (authorities.publish_for)\n  \
             sooner: ca-server authority activate {}",
            row.id
        );
    }
    Ok(())
}

async fn revoke(config: &Config, id: &AuthorityId, reason: Reason, yes: bool) -> Result<()> {
    let context = super::open(config).await?;
    let row = authority::find(&context, id).await?;
    let now = context.clock.untrusted_now();
    let live = context.store.live(id, now, None, 1_000).await?.len();
    let many = if live == 1_000 {
        "1000 or more"
    } else {
        &live.to_string()
    };
    say!(
        "revoke {id} ({:?}), which is {}: {many} certificate(s) of its live and go with it",
        row.subject,
        row.state
    );
    if row.state == AuthorityState::Active {
        say!(
            "cluster {} has no authority then until another is active, by itself once it was published for {}, or at once: \
             ca-server authority activate ID",
            row.cluster,
            context.settings.publish_for
        );
    }
    for below in fleet::below(&context, &row).await? {
        say!(
            "  with it: {} ({:?}), which is {}, and all that it issued",
            below.id,
            below.subject,
            below.state
        );
    }
    if !yes && !super::confirm(&format!("revoke {id}"))? {
        bail!("nothing was changed");
    }
    let row = revocation::revoke_authority(&context, id, reason, &super::actor()).await?;
    print_line(&row);
    print_standing(&context, &row).await
}

/// Where a revoked authority stands with the CA above it.
async fn print_standing(context: &crate::app::Context, row: &AuthorityRow) -> Result<()> {
    let Some((at, reason)) = row.revoked else {
        return Ok(());
    };
    let reason = Reason::from_code(reason).unwrap_or(Reason::Unspecified);
    match root::at_its_issuer(context, row).await? {
        Some(AtItsIssuer::AwaitingCeremony) => say!(
            "  revoked at {at}, {reason}; awaiting ceremony: the CA above it has to list it\n  \
             next: ca-server crl request --below {} --dir DIR",
            row.id
        ),
        Some(AtItsIssuer::Listed) => {
            say!("  revoked at {at}, {reason}; on the CRL of the CA above it")
        }
        None => {}
    }
    Ok(())
}

fn print_key(row: &AuthorityRow) {
    say!("key digest {}", crypto::hex(&crypto::sha256(&row.spki)));
    say!("key {}", row.key_place());
}

fn print_line(row: &AuthorityRow) {
    let end = row
        .not_after
        .map_or_else(|| "-".to_owned(), |end| end.to_string());
    say!(
        "{:<24} {:<10} {:<20} until {end}",
        row.id,
        row.state.to_string(),
        row.cluster
    );
}
