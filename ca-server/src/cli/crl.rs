//! `ca-server crl`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use pki::crl::Crl;
use pki::name::AuthorityId;
use pki::pem;

use crate::app::status::name_above;
use crate::app::status::root::{self, CERTIFICATE, PREVIOUS_CRL};
use crate::config::Config;
use crate::store::model::RootCrlRow;

#[derive(Debug, Subcommand)]
pub(super) enum CrlCommand {
    /// List the CRLs that are here: the authorities' and those of the CAs above them.
    List,
    /// Print an authority's CRL (PEM).
    Show {
        /// The authority.
        id: AuthorityId,
    },
    /// Take the CRL of an offline CA, as its ceremony made it: complete, in force, and newer than the one before it.
    Import {
        /// The CRL, PEM or DER; of several in one file all are taken, or none.
        file: PathBuf,
    },
    /// Write what the next CRL ceremony of an offline CA needs: a plan for ca-root, the CRL before it, and the CA's certificate.
    Request {
        /// A folder to write the files to; it is made, and nothing in it is overwritten.
        #[arg(long)]
        dir: PathBuf,
        /// An authority below the CA that is meant; not needed where there is one root.
        #[arg(long)]
        below: Option<AuthorityId>,
    },
}

pub(super) async fn run(command: CrlCommand, config: &Config) -> Result<()> {
    match command {
        CrlCommand::List => list(config).await,
        CrlCommand::Show { id } => {
            let crl = super::open_store(config).await?.crl(&id).await?;
            let crl = crl.with_context(|| format!("there is no CRL of {id}"))?;
            super::print(&pem::crl(&crl.der))
        }
        CrlCommand::Import { file } => import(config, &file).await,
        CrlCommand::Request { dir, below } => request(config, &dir, below).await,
    }
}

async fn list(config: &Config) -> Result<()> {
    let store = super::open_store(config).await?;
    let mut text = String::new();
    for row in store.authorities().await? {
        if let Some(crl) = store.crl(&row.id).await? {
            let entries = Crl::parse(&crl.der)?.revoked().len();
            text.push_str(&format!(
                "{:<24} number {:<6} {entries:>7} revoked  until {}\n",
                row.id, crl.number, crl.next_update
            ));
        }
    }
    for row in store.root_crls().await? {
        let crl = Crl::parse(&row.der)?;
        text.push_str(&format!(
            "{:<24} number {:<6} {:>7} revoked  until {}  {}\n",
            name_above(&row.root),
            row.number,
            crl.revoked().len(),
            row.next_update,
            pki::ceremony::name_words(crl.issuer()),
        ));
    }
    super::print(&text)
}

async fn import(config: &Config, file: &Path) -> Result<()> {
    let name = file.display();
    let bytes = std::fs::read(file).with_context(|| name.to_string())?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        bail!("{name} is empty: nothing was imported");
    }
    let ders = if bytes.windows(11).any(|w| w == b"-----BEGIN ") {
        pem::read_crls(&bytes).with_context(|| format!("{name}: nothing was imported"))?
    } else {
        vec![bytes]
    };
    let context = super::open(config).await?;
    let imported = root::import(&context, &ders, &super::actor()).await;
    let imported = imported.with_context(|| format!("{name}: nothing was imported"))?;
    let mut text = String::new();
    for crl in imported {
        let RootCrlRow {
            number,
            next_update,
            root,
            ..
        } = &crl.row;
        text.push_str(&format!(
            "CRL number {number} of {} imported, in force until {next_update}\n  \
             served as /crls/{name}.crl, the CA's certificate as /authorities/{name}.crt\n",
            crl.issuer,
            name = name_above(root)
        ));
        if crl.ends_soon {
            text.push_str(
                "  less than 60 days are left: hold the next ceremony (ca-server crl request)\n",
            );
        }
        for row in crl.revokes {
            text.push_str(&format!(
                "  it revokes {} ({:?}), which is {} here\n",
                row.id, row.subject, row.state
            ));
        }
        for serial in crl.dropped {
            text.push_str(&format!(
                "  it no longer lists {serial}, which the one before it revoked: is that certificate over?\n"
            ));
        }
    }
    super::print(&text)
}

async fn request(config: &Config, dir: &Path, below: Option<AuthorityId>) -> Result<()> {
    let context = super::open(config).await?;
    let row = match below {
        Some(id) => Some(crate::app::authority::find(&context, &id).await?),
        None => None,
    };
    let request = root::ceremony_request(&context, row.as_ref()).await?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let plan = dir.join("issue-crl.toml");
    super::write_new(&dir.join(CERTIFICATE), request.certificate.as_bytes())?;
    super::write_new(&dir.join(PREVIOUS_CRL), request.previous.as_bytes())?;
    super::write_new(&plan, request.plan.as_bytes())?;
    say!(
        "the next CRL of {}: {} certificate(s) are new on it",
        request.issuer,
        request.added
    );
    say!(
        "carry {} to the offline machine, put root.key beside it, then: ca-root run issue-crl.toml --transcript issue-crl.transcript",
        dir.display()
    );
    say!("carry the CRL back, then: ca-server crl import FILE");
    Ok(())
}
