//! `ca-server` in this process: its configuration, its clusters with their authorities, and its listeners.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use ca_server::app::cluster::ClusterDefinition;
use ca_server::app::{Actor, Context, NewKey};
use ca_server::config::{self, Config, Listeners};
use ca_server::embedded;
use ca_server::store::model::{AuthorityRow, AuthorityState};
use pki::key::KeyAlgorithm;
use pki::name::ClusterName;
use pki::pem;
use pki::time::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::home::{self, Home};
use crate::root::OfflineRoot;

/// The configuration, as every `ca-server` command takes it.
pub(crate) const CONFIG: &str = "server/ca-server.toml";
/// What the server says.
pub(crate) const LOG: &str = "server/server.log";
/// The clusters; the first is the server's own.
pub(crate) const CLUSTERS: [&str; 2] = ["central", "edge"];
/// Who does all this, in the store's audit events.
pub(crate) const ACTOR: &str = "demo";
/// The documented ports: issue, admin, public, ops.
const PORTS: [u16; 4] = [8443, 8444, 8080, 8081];
/// How often other ports are tried, each ten further on.
const PORT_TRIES: u16 = 100;
/// Until the server issues: it makes its own certificate first.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the server's configuration, writing it when there is none: on the documented ports if they are free.
pub(crate) fn configure(home: &Home) -> Result<Config> {
    home.make("server")?;
    if !home.path("server/passphrase").exists() {
        home.write("server/passphrase", home::new_passphrase()?.as_bytes())?;
    }
    if !home.path(CONFIG).exists() {
        let ports = free_ports()?;
        home.write(CONFIG, configuration(home, ports).as_bytes())?;
    }
    Config::load(&home.path(CONFIG)).with_context(|| home.shown(CONFIG))
}

fn configuration(home: &Home, [issue, admin, public, ops]: [u16; 4]) -> String {
    let home_cluster = CLUSTERS[0];
    format!(
        r#"# The try-out's ca-server. See `ca-server config check`.
[server]
cluster = "{home_cluster}"
names = ["localhost", "127.0.0.1"]
drain = "3s"

[store]
url = "sqlite://{database}"

[keys]
passphrase_file = "{passphrase}"

[istio]
default_cluster = "{home_cluster}"

[listeners]
issue = "127.0.0.1:{issue}"
admin = "127.0.0.1:{admin}"
public = "127.0.0.1:{public}"
ops = "127.0.0.1:{ops}"
"#,
        database = home.path("server/ca.db").display(),
        passphrase = home.path("server/passphrase").display(),
    )
}

fn free_ports() -> Result<[u16; 4]> {
    (0..PORT_TRIES)
        .map(|i| PORTS.map(|port| port + 10 * i))
        .find(|ports| ports.iter().all(|port| is_free(loopback(*port))))
        .context("no free ports on 127.0.0.1")
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// The server's log goes to its file: the terminal is for the account.
pub(crate) fn start_log(home: &Home, config: &Config) -> Result<()> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.path(LOG))
        .with_context(|| home.shown(LOG))?;
    let filter = config::targets(&config.log.filter).map_err(|error| anyhow!(error))?;
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Arc::new(file));
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .init();
    Ok(())
}

/// An authority that signs, and whether this run made it.
pub(crate) type Made = (AuthorityRow, bool);

/// Makes sure that each cluster is there and has an authority that signs.
pub(crate) async fn prepare(
    home: &Home,
    context: &Context,
    root: &OfflineRoot,
    now: Timestamp,
) -> Result<Vec<Made>> {
    let actor = Actor::local(ACTOR);
    let mut made = Vec::new();
    for name in CLUSTERS {
        let cluster = ClusterName::parse(name)?;
        if !embedded::has_cluster(context, &cluster).await? {
            let text = format!(
                "# Change it, then: ca-server cluster apply {name}.toml\nname = \"{name}\"\ntrust_domain = \"demo.signet\"\n"
            );
            let definition: ClusterDefinition = toml::from_str(&text)?;
            home.write(&format!("server/{name}.toml"), text.as_bytes())?;
            embedded::apply_cluster(context, &definition, &actor).await?;
        }
        let is_new = active(context, &cluster).await?.is_none();
        if is_new {
            add_authority(context, &cluster, root, now).await?;
        }
        let row = active(context, &cluster).await?;
        let row = row.with_context(|| {
            format!("no authority of cluster {name} signs: --clean starts over")
        })?;
        made.push((row, is_new));
    }
    // A reader needs a CRL of every CA of a chain, the root's too.
    if !embedded::has_root_crl(context).await? {
        let crls = pem::read_crls(&root.crl()?)?;
        embedded::import_root_crls(context, &crls, &actor).await?;
    }
    Ok(made)
}

async fn active(context: &Context, cluster: &ClusterName) -> Result<Option<AuthorityRow>> {
    let rows = embedded::authorities(context).await?;
    Ok(rows
        .into_iter()
        .find(|row| &row.cluster == cluster && row.state == AuthorityState::Active))
}

/// Request, sign, import, publish, activate; what an earlier run has done is not done again.
async fn add_authority(
    context: &Context,
    cluster: &ClusterName,
    root: &OfflineRoot,
    now: Timestamp,
) -> Result<()> {
    use AuthorityState as S;
    let actor = Actor::local(ACTOR);
    let rows = embedded::authorities(context).await?;
    let next = rows.into_iter().find(|row| {
        &row.cluster == cluster && matches!(row.state, S::Requested | S::Imported | S::Published)
    });
    let row = match next {
        Some(row) => row,
        None => {
            let key = NewKey::InStore(KeyAlgorithm::EcdsaP256);
            embedded::request_authority(context, cluster, &key, &actor).await?
        }
    };
    if row.state == S::Requested {
        let request = pem::request(&row.request);
        let chain = root.sign(&row.id, request.as_bytes(), now)?;
        embedded::import_authority(context, &row.id, chain, &actor).await?;
    }
    embedded::reconcile_authorities(context).await?;
    // Whoever meets its leaves here starts after it, and has its CRL: it need not be published for long.
    let mut rows = embedded::authorities(context).await?.into_iter();
    if rows.any(|now| now.id == row.id && now.state == S::Published) {
        embedded::activate_authority(context, &row.id, &actor).await?;
    }
    Ok(())
}

/// The running server.
#[derive(Debug)]
pub(crate) struct Server {
    listeners: Listeners,
    stop: CancellationToken,
    running: JoinHandle<Result<()>>,
}

impl Server {
    /// Starts the listeners and waits until certificates are issued.
    pub(crate) async fn start(home: &Home, config: Config, context: Context) -> Result<Self> {
        let listeners = config.listeners;
        for address in [
            listeners.issue,
            listeners.admin,
            listeners.public,
            listeners.ops,
        ] {
            if !is_free(address) {
                bail!(
                    "{address} is taken by another program: end it, or give {} another port, or start over with --clean",
                    home.shown(CONFIG)
                );
            }
        }
        let stop = CancellationToken::new();
        let (_, configuration) = tokio::sync::watch::channel(config);
        let run = embedded::run(configuration, context, stop.clone());
        let running = TaskTracker::new().spawn(run);
        let mut server = Self {
            listeners,
            stop,
            running,
        };
        let until = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(listeners.issue)
            .await
            .is_err()
        {
            if server.running.is_finished() {
                server.ended().await?;
            }
            if Instant::now() > until {
                bail!("the server does not issue: {} says why", home.shown(LOG));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn listeners(&self) -> Listeners {
        self.listeners
    }

    /// The issuance listener's address, by a name that its certificate is good for.
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.listeners.issue.port())
    }

    /// Waits for its end, which nobody asked for.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        (&mut self.running).await??;
        Err(anyhow!("the server has stopped by itself"))
    }

    /// Lets requests under way finish, then stops it.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.running.await?
    }
}
