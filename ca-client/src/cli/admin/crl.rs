//! `ca crl`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ca_client::api::Call;
use clap::{Subcommand, ValueEnum};
use pki::name::AuthorityId;
use serde_json::{Value, json};

use super::Verb;
use super::files::{self, NewFile};
use super::session::{Paging, Session};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form};

const COLUMNS: &[Column] = &[
    Column::of("AUTHORITY", "authority"),
    Column::of("OFFLINE", "offline"),
    Column::of("NUMBER", "number"),
    Column::of("ENTRIES", "entries"),
    Column::time("THIS UPDATE", "this_update"),
    Column::time("NEXT UPDATE", "next_update"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum CrlVerb {
    /// List the CRLs: the authorities', and those of the offline CAs above them
    #[command(after_help = "Example:\n  ca crl list")]
    List(Paging),
    /// Print what is known of a CRL
    #[command(after_help = "Example:\n  ca crl show central-1")]
    Show {
        /// The authority, or ca-KEY for an offline CA
        authority: AuthorityId,
    },
    /// Write a CRL as PEM or DER
    #[command(after_help = "\
Example:
  ca crl get central-1 --form der --out central-1.crl

It is on the public listener too, for everyone: /crls/central-1.crl")]
    Get {
        /// The authority, or ca-KEY for an offline CA
        authority: AuthorityId,
        /// In which form
        #[arg(long, value_enum, default_value_t = Written::Pem)]
        form: Written,
        /// File to write, which must not be there yet [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Write what the next CRL ceremony of an offline CA needs: a plan for ca-root, the CRL before it, and the CA's certificate
    #[command(after_help = "\
Example:
  ca crl request-root --dir next-crl
  (carry the folder to the root, run its plan there, carry root.crl.pem back)
  ca crl import-root root.crl.pem")]
    RequestRoot {
        /// A folder to write the files to; it is made, and nothing in it is written over
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// An authority below the CA that is meant; not needed where there is one root
        #[arg(long, value_name = "ID")]
        below: Option<AuthorityId>,
    },
    /// Take the CRL of an offline CA, as its ceremony made it: complete, in force, and newer than the one before it
    #[command(after_help = "Example:\n  ca crl import-root root.crl.pem")]
    ImportRoot {
        /// The CRL, PEM or DER; of several in one file all are taken, or none
        file: PathBuf,
    },
}

/// In which form a CRL is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Written {
    /// In PEM
    Pem,
    /// Binary
    Der,
}

impl Written {
    const fn media_type(self) -> &'static str {
        match self {
            Self::Pem => "application/x-pem-file",
            Self::Der => "application/pkix-crl",
        }
    }
}

impl Verb for CrlVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List(paging) => session.list(Call::get(&["crls"]), paging, COLUMNS).await,
            Self::Show { authority } => {
                let first = [
                    "authority",
                    "number",
                    "this_update",
                    "next_update",
                    "entries",
                ];
                session.show(&["crls", authority.as_str()], &first).await
            }
            Self::Get {
                authority,
                form,
                out,
            } => {
                let call = Call::get(&["crls", authority.as_str()]).accept(form.media_type());
                let is_binary = form == Written::Der;
                session.fetch(&call, is_binary, out.as_deref()).await
            }
            Self::RequestRoot { dir, below } => request(session, &dir, below).await,
            Self::ImportRoot { file } => {
                let pem = files::read_pem(&file, pki::pem::crl)?;
                let call = Call::post(&["root-crls"], json!({ "crl": pem }));
                session.act(call, imported).await
            }
        }
    }
}

async fn request(session: &Session, dir: &Path, below: Option<AuthorityId>) -> Result<Exit> {
    const FILES: [(&str, &str); 3] = [
        ("certificate", "root.pem"),
        ("previous", "previous.crl.pem"),
        ("plan", "issue-crl.toml"),
    ];
    let call = Call::get(&["root-crls", "request"]).query("below", below);
    let value = session.send(&call).await?.json()?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut parts = Vec::new();
    for (key, name) in FILES {
        let content = value[key]
            .as_str()
            .with_context(|| format!("the server's answer has no {key}"))?;
        parts.push((NewFile::create(&dir.join(name), 0o644)?, content));
    }
    for (place, content) in parts {
        place.write(content.as_bytes())?;
    }
    match session.output {
        Form::Table => out::say(&format!(
            "{}: the next CRL of {}, {} more certificate(s) on it",
            dir.display(),
            out::text(&value["issuer"]),
            out::text(&value["added"])
        ))?,
        form => out::json(&value, form)?,
    }
    out::note(&format!(
        "carry {} to the root and run issue-crl.toml there; then: ca crl import-root root.crl.pem",
        dir.display()
    ));
    Ok(Exit::Done)
}

fn imported(value: &Value) -> String {
    let mut lines = Vec::new();
    for crl in value["imported"].as_array().into_iter().flatten() {
        lines.push(format!(
            "CRL number {} of {} imported, in force until {}\n  served as /crls/{}.crl",
            out::text(&crl["number"]),
            out::text(&crl["issuer"]),
            out::text(&crl["next_update"]),
            out::text(&crl["name"])
        ));
        if crl["ends_soon"] == json!(true) {
            lines.push(
                "  less than 60 days are left: hold the next ceremony (ca crl request-root)"
                    .to_owned(),
            );
        }
        for id in crl["revokes"].as_array().into_iter().flatten() {
            lines.push(format!("  it revokes {}", out::text(id)));
        }
        for serial in crl["dropped"].as_array().into_iter().flatten() {
            lines.push(format!(
                "  it no longer lists {}, which the one before it revoked: is that certificate over?",
                out::text(serial)
            ));
        }
    }
    lines.join("\n")
}
