//! `ca admin`: an administrator's own key and certificate.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ca_client::api::{ApiIdentity, Call};
use ca_client::contexts::Contexts;
use ca_client::{KeyKind, NewKey};
use clap::{Args, Subcommand};
use pki::certificate::Certificate;
use pki::csr::VerifiedCsr;
use pki::name::DistinguishedName;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::connection::Connection;
use super::files::NewFile;
use super::session::Session;
use crate::cli::exit::{Exit, Usage};
use crate::cli::out::{self, Form};

/// Arguments of `ca admin`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: PersonVerb,
}

#[derive(Debug, Subcommand)]
enum PersonVerb {
    /// Make a key, and the request for its certificate, which `ca-server admin issue` signs on the server's machine
    #[command(after_help = "\
Example:
  ca admin request --name ada --out-key ada.key --out-csr ada.csr
  ca-server admin issue --name ada --csr ada.csr --out ada.pem --role operator   (on the server's machine)
  ca context add prod --url https://ca.example:8444 --root root.pem --cert ada.pem --key ada.key

The key stays here: the request is carried to the server's machine, and the certificate back.")]
    Request {
        /// Whom the certificate is for, by which roles are given (cert:NAME): 1 to 64 of a-z, A-Z, 0-9, . - _ @
        #[arg(long, value_name = "NAME", value_parser = name)]
        name: String,
        /// File for the key, which must not be there yet
        #[arg(long, value_name = "FILE")]
        out_key: PathBuf,
        /// File for the request, which must not be there yet
        #[arg(long, value_name = "FILE")]
        out_csr: PathBuf,
        /// The kind of key: p256 or p384
        #[arg(long, default_value = "p256", value_name = "KIND")]
        key_kind: KeyKind,
    },
    /// Renew the certificate that we show, while it is still good
    #[command(after_help = "\
Examples:
  ca admin renew
  ca admin renew --out-cert ada-2.pem --out-key ada-2.key

The certificate's file is replaced in one step, and its key stays; with --out-cert and --out-key the certificate is for a new
key, and nothing is replaced.")]
    Renew(Box<Renew>),
}

/// Arguments of `ca admin renew`.
#[derive(Debug, Args)]
struct Renew {
    #[command(flatten)]
    connection: Connection,
    /// File for the new certificate, which must not be there yet
    #[arg(long, value_name = "FILE", requires = "out_key")]
    out_cert: Option<PathBuf>,
    /// File for a new key, which must not be there yet
    #[arg(long, value_name = "FILE", requires = "out_cert")]
    out_key: Option<PathBuf>,
}

impl Arguments {
    pub(super) async fn run(self) -> Result<Exit> {
        match self.verb {
            PersonVerb::Request {
                name,
                out_key,
                out_csr,
                key_kind,
            } => request(&name, &out_key, &out_csr, key_kind),
            PersonVerb::Renew(arguments) => renew(&arguments).await,
        }
    }
}

/// What `ca-server admin issue` takes.
fn name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'@');
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 64 of a-z, A-Z, 0-9, . - _ @".to_owned())
    }
}

fn request(name: &str, out_key: &Path, out_csr: &Path, kind: KeyKind) -> Result<Exit> {
    let made = NewKey::generate_for_person(kind, name)?;
    let key = NewFile::create(out_key, 0o600)?;
    let csr = NewFile::create(out_csr, 0o644)?;
    key.write(made.key_pem().as_bytes())?;
    csr.write(pki::pem::request(made.csr()).as_bytes())?;
    out::say(&format!(
        "key in {}, request in {}",
        out_key.display(),
        out_csr.display()
    ))?;
    let digest = pki::crypto::sha256(VerifiedCsr::parse(made.csr())?.key().spki());
    out::say(&format!("key digest {}", pki::crypto::hex(&digest)))?;
    out::note(&format!(
        "on the server's machine, with the request carried there: ca-server admin issue --name {name} --csr {} --out CERT.pem --role ROLE",
        out_csr.display()
    ));
    Ok(Exit::Done)
}

async fn renew(arguments: &Renew) -> Result<Exit> {
    let contexts = match Contexts::default_path() {
        Ok(path) => Contexts::load(&path)?,
        Err(_) => Contexts::default(),
    };
    let target = arguments.connection.target(&contexts)?;
    let ApiIdentity::Certificate { chain, key } = target.identity else {
        return Err(Usage(
            "there is no certificate to renew: a token is renewed by who issued it".to_owned(),
        )
        .into());
    };
    let session = Session::open(&arguments.connection, crate::cli::now())?;
    let name = common_name(&chain)?;
    let new = match (&arguments.out_cert, &arguments.out_key) {
        (Some(cert), Some(key)) => {
            Some((NewFile::create(key, 0o600)?, NewFile::create(cert, 0o644)?))
        }
        _ => None,
    };
    let made = match &new {
        Some(_) => NewKey::generate_for_person(KeyKind::P256, &name)?,
        None => {
            let pem = std::fs::read_to_string(&key).map(Zeroizing::new);
            let pem = pem.with_context(|| format!("cannot read {}", key.display()))?;
            NewKey::from_pem_for_person(&pem, &name)
                .with_context(|| format!("cannot use the key {}", key.display()))?
        }
    };
    let body = json!({ "csr": pki::pem::request(made.csr()) });
    let answer = session
        .send(&Call::post(&["whoami", "renew"], body))
        .await?;
    let value = answer.json()?;
    let (pem, leaf) = checked(&value, &made)?;
    let until = leaf.not_after().to_string();
    match new {
        Some((key, cert)) => {
            key.write(made.key_pem().as_bytes())?;
            cert.write(pem.as_bytes())?;
        }
        None => ca_client::replace_certificate(&chain, pem.as_bytes())
            .with_context(|| format!("cannot write {}", chain.display()))?,
    }
    match session.output {
        Form::Table => out::say(&format!(
            "certificate {} for {} until {}",
            leaf.serial(),
            out::text(&json!(name)),
            out::annotated(&until, session.now)
        ))?,
        form => out::json(&value, form)?,
    }
    Ok(Exit::Done)
}

/// The name in our certificate.
fn common_name(chain: &Path) -> Result<String> {
    let pem = std::fs::read(chain).with_context(|| format!("cannot read {}", chain.display()))?;
    let certificates = Certificate::parse_pem(&pem)
        .with_context(|| format!("{} does not read", chain.display()))?;
    let name = certificates.first().and_then(|leaf| {
        let words = pki::describe::name(leaf.subject());
        let name = DistinguishedName::new(None, words.strip_prefix("CN=")?).ok()?;
        // The words are for people; that they say it all is told by writing them again.
        (name.to_der() == leaf.subject()).then(|| name.common_name().to_owned())
    });
    name.with_context(|| {
        format!(
            "the certificate in {} is no administrator's: its name is not a common name alone",
            chain.display()
        )
    })
}

/// The new chain, if it is for our key.
fn checked<'a>(value: &'a Value, made: &NewKey) -> Result<(&'a str, Certificate)> {
    let pem = ["certificate", "chain"]
        .iter()
        .find_map(|key| value[*key].as_str())
        .context("the server's answer has no certificate")?;
    let certificates = Certificate::parse_pem(pem.as_bytes())
        .context("the certificate in the server's answer does not read")?;
    let csr = VerifiedCsr::parse(made.csr())?;
    match certificates.into_iter().next() {
        Some(leaf) if leaf.spki() == csr.key().spki() => Ok((pem, leaf)),
        _ => bail!("the server answered with a certificate for another key; nothing was written"),
    }
}
