//! `ca-server admin`: administrators, on the server's own machine. The first one is made here; others may be made through the
//! API.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use pki::name::ClusterName;
use pki::pem;
use pki::time::Ttl;

use crate::app::administrators;
use crate::app::roles::{Role, Scope};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
    /// Sign an administrator's request (`ca admin request` makes one), and give the role.
    Issue {
        /// The administrator's name: 1 to 64 of a-z, A-Z, 0-9, . - _ @. The names in the request are not looked at.
        #[arg(long)]
        name: String,
        /// The request (PEM).
        #[arg(long)]
        csr: PathBuf,
        /// Where to write the certificate and those above it (PEM); never overwritten.
        #[arg(long)]
        out: PathBuf,
        /// A role to give with it: viewer, operator or security-officer.
        #[arg(long)]
        role: Option<Role>,
        /// The clusters in which the role holds; all, if none is named. May be given several times.
        #[arg(long, value_name = "CLUSTER", requires = "role")]
        cluster: Vec<ClusterName>,
        /// How long it lives, as in 30d, which is the default; 397d at most.
        #[arg(long)]
        ttl: Option<Ttl>,
    },
    /// Give a principal a role.
    Bind {
        /// cert:NAME, oidc:ISSUER#SUBJECT or oidc-group:ISSUER#GROUP.
        principal: String,
        /// viewer, operator or security-officer.
        #[arg(long)]
        role: Role,
        /// The clusters in which the role holds; all, if none is named. May be given several times.
        #[arg(long, value_name = "CLUSTER")]
        cluster: Vec<ClusterName>,
    },
    /// Take a role.
    Unbind {
        /// The binding's id, as `ca-server admin list` prints it.
        id: String,
    },
    /// List who has which role.
    List,
}

fn scope(clusters: Vec<ClusterName>) -> Scope {
    match clusters.is_empty() {
        true => Scope::All,
        false => Scope::Clusters(clusters.into_iter().collect::<BTreeSet<_>>()),
    }
}

pub(super) async fn run(command: AdminCommand, config: &Config) -> Result<()> {
    match command {
        AdminCommand::Issue {
            name,
            csr,
            out,
            role,
            cluster,
            ttl,
        } => {
            let text = std::fs::read(&csr).with_context(|| csr.display().to_string())?;
            let request = pem::read_request(&text).with_context(|| csr.display().to_string())?;
            let context = super::open(config).await?;
            let scope = scope(cluster);
            let principal = format!("cert:{name}");
            if role.is_some() {
                administrators::check_principal(&context, &principal, scope.clusters()).await?;
            }
            let file = super::NewFile::create(&out)?;
            let home = &config.home_cluster;
            let actor = super::actor();
            let issued =
                administrators::issue(&context, home, &name, &request, ttl, &actor).await?;
            file.write(issued.chain_pem().as_bytes())?;
            say!(
                "certificate {} of {name}, until {}: {}",
                issued.certificate.serial(),
                issued.certificate.not_after(),
                out.display()
            );
            match role {
                Some(role) => {
                    let row =
                        administrators::bind(&context, &principal, role, scope, &actor).await?;
                    say!("{principal} is {role}: binding {}", row.id);
                }
                None => say!("it has the roles that {principal} has (`ca-server admin list`)"),
            }
        }
        AdminCommand::Bind {
            principal,
            role,
            cluster,
        } => {
            let context = super::open(config).await?;
            let actor = super::actor();
            let row =
                administrators::bind(&context, &principal, role, scope(cluster), &actor).await?;
            say!("{principal} is {role}: binding {}", row.id);
        }
        AdminCommand::Unbind { id } => {
            let context = super::open(config).await?;
            let row = administrators::binding(&context, &id).await?;
            administrators::unbind(&context, &id, &super::actor()).await?;
            say!("{} is no {} any more", row.principal, row.role);
        }
        AdminCommand::List => {
            let rows = super::open_store(config).await?.bindings().await?;
            if rows.is_empty() {
                bail!(
                    "nobody has a role: `ca-server admin issue --help` says how the first one gets it"
                );
            }
            for row in rows {
                let place = row.scope.clusters().map_or_else(
                    || "everywhere".to_owned(),
                    |names| {
                        let names: Vec<_> = names.iter().map(ClusterName::as_str).collect();
                        format!("in {}", names.join(", "))
                    },
                );
                say!(
                    "{:<14} {:<40} {:<17} {place}",
                    row.id,
                    row.principal,
                    row.role
                );
            }
        }
    }
    Ok(())
}
