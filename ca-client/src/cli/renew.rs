//! `ca renew`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ca_client::{
    Backoff, ClientError, Endpoint, EndpointError, FileNames, FilesError, Hook, IdentityDir, Order,
    Renewal, ServerAddress, ServerName, Settings,
};
use clap::Args;
use pki::time::Ttl;

use super::enroll::Issued;
use super::{Output, now, stopped};

pub(super) const EXAMPLES: &str = "\
Examples:
  Keep a certificate fresh, and tell nginx:
    ca renew --dir /var/lib/identity --watch --hook 'nginx -s reload'
  Renew once, now:
    ca renew --dir /var/lib/identity

The server and the rest are what `ca enroll` was told (signet.toml in the directory); flags override it.
--watch renews at half of each certificate's life, give or take 5 %, waits 1 s to 5 min after a failure and never
gives up. Once the certificate has expired, or where it is not good for TLS clients (profile server), the token file
of the enrolment is the proof, if it was a file that stays.
The hook runs by `sh -c` with SIGNET_DIR set, after the new files are in place; after 30 s it is killed.";

/// Arguments of `ca renew`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Directory of the identity
    #[arg(long, env = "SIGNET_DIR", value_name = "DIR")]
    dir: PathBuf,
    /// The CA's issuance listener, https://host:port
    #[arg(long, env = "SIGNET_SERVER", value_name = "URL")]
    server: Option<ServerAddress>,
    /// PEM file of the roots that vouch for the server
    #[arg(long, env = "SIGNET_ROOTS", value_name = "FILE")]
    roots: Option<PathBuf>,
    /// The name in the server's certificate, where it is not the host of --server
    #[arg(long, env = "SIGNET_SERVER_NAME", value_name = "NAME")]
    server_name: Option<ServerName>,
    /// Go on renewing until stopped
    #[arg(long)]
    watch: bool,
    /// Shell command to run after each renewal
    #[arg(long, value_name = "CMD")]
    hook: Option<String>,
    /// The lifetime, like 30m or 24h
    #[arg(long, value_name = "TTL")]
    ttl: Option<Ttl>,
    /// How the result is printed (without --watch)
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(arguments: Arguments) -> Result<()> {
    let (watch, output) = (arguments.watch, arguments.output);
    let renewal = renewal(arguments)?;
    if watch {
        Ok(renewal.watch(&now, stopped()?).await?)
    } else {
        let renewed = renewal.once(now()).await?;
        Issued::new(&renewed.signed, &renewal.directory).print(output)
    }
}

/// What was typed, over what was remembered.
fn renewal(arguments: Arguments) -> Result<Renewal> {
    let directory = IdentityDir::new(&arguments.dir, FileNames::default());
    let remembered = Settings::load(&arguments.dir)?;
    let mut order = Order::default();
    let (mut server, mut roots, mut server_name) =
        (arguments.server, arguments.roots, arguments.server_name);
    let (mut fallback, mut follow_bundle) = (None, false);
    if let Some(settings) = remembered {
        fallback = settings.fallback();
        // Other roots were given on purpose: then the remembered bundle has no say.
        follow_bundle = settings.follow_bundle && roots.is_none();
        // A name remembered for one server is not another one's.
        if server.is_none() {
            let remembered = settings.server_name.map(|name| name.parse());
            server_name = server_name.or(remembered.transpose().map_err(unusable)?);
            server = Some(settings.server.parse().map_err(unusable)?);
        }
        roots = roots.or(Some(settings.roots));
        order = Order {
            profile: settings.profile,
            ttl: settings.ttl,
            key: settings.key,
        };
    } else if let Err(error @ FilesError::NotEnrolled { .. }) = directory.load() {
        return Err(ClientError::Files(error).into());
    }
    order.ttl = arguments.ttl.or(order.ttl);
    let server = server.context("no server is remembered in the directory: give --server")?;
    let roots = roots.context("no roots are remembered in the directory: give --roots")?;
    Ok(Renewal {
        endpoint: Endpoint::with_roots_of(server, &roots, server_name).map_err(unusable)?,
        directory,
        follow_bundle,
        order,
        fallback,
        hook: arguments.hook.map(Hook::new),
        backoff: Backoff::default(),
    })
}

fn unusable(error: EndpointError) -> ClientError {
    error.into()
}
