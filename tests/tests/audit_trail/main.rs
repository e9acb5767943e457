//! The audit trail of a real installation, on both engines: what is done to it behind the program's back is found and named;
//! what is handed on is whole, whatever becomes of who takes it.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod handed_on;
mod refusals;
mod tampering;

use std::time::{Duration, Instant};

use ca_server::store::model::AuditRow;
use ca_server::store::{Store, StoreUrl};
use tests::fleet::Fleet;
use tests::postgres::Postgres;
use tests::process::{output, run};

/// The chain of the server, and of its command line.
const HERE: &str = "ca-1";
/// The chain of a command line on another machine.
const THERE: &str = "desk";
/// Longer than anything here takes; what is waited for comes within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// An installation with a name for its chain.
struct Installation {
    fleet: Fleet,
    url: String,
    /// Runs as long as its database is needed.
    _postgres: Option<Postgres>,
}

impl Installation {
    fn on_sqlite() -> Self {
        Self::build(None)
    }

    /// `None` where there is no Postgres.
    fn on_postgres(test: &str) -> Option<Self> {
        if Postgres::binaries().is_none() {
            tests::parts::skip(test, "no Postgres; see tests/parts/install");
            return None;
        }
        Some(Self::build(Some(Postgres::start().unwrap())))
    }

    fn build(postgres: Option<Postgres>) -> Self {
        let url = postgres
            .as_ref()
            .map(|server| server.create_database().unwrap());
        let fleet = match &url {
            Some(url) => Fleet::on_postgres(url, &["central"]),
            None => Fleet::on_sqlite(&["central"]),
        };
        let sqlite = format!("sqlite://{}", fleet.path("ca.db").display());
        let installation = Self {
            url: url.unwrap_or(sqlite),
            fleet,
            _postgres: postgres,
        };
        let watermark = installation.fleet.path("watermark");
        installation.fleet.reconfigure(
            "[store]\n",
            &format!(
                "replica = \"{HERE}\"\n[store]\nwatermark_file = \"{}\"\n",
                watermark.display()
            ),
        );
        installation
    }

    async fn store(&self) -> Store {
        Store::open(&StoreUrl::parse(&self.url).unwrap())
            .await
            .unwrap()
    }

    /// Something that is audited, by the command line of another machine.
    fn act_there(&self) {
        let mut apply = self.fleet.ca_server(&["cluster", "apply"]);
        let file = self.fleet.path("more.toml");
        let ttl = self.act_number();
        let text = std::fs::read_to_string(self.fleet.path("cluster.toml")).unwrap();
        let changed = text.replacen("max_ttl = \"7d\"", &format!("max_ttl = \"{ttl}m\""), 1);
        std::fs::write(&file, changed).unwrap();
        run(apply.arg(file).env("SIGNET__SERVER__REPLICA", THERE));
    }

    /// Another one each time.
    fn act_number(&self) -> usize {
        let file = self.fleet.path("acts");
        let mut acts = std::fs::read_to_string(&file).unwrap_or_default();
        acts.push('.');
        std::fs::write(&file, &acts).unwrap();
        2_000 + acts.len()
    }

    /// Something that is audited, by the command line of the server's machine.
    fn act_here(&self) {
        let id = "spiffe://cluster.local/ns/foo/sa/bar";
        self.fleet.enrolment_token("central", id);
    }

    /// What `audit verify` says, and whether it says that all is well.
    fn verify(&self, more: &[&str]) -> (bool, String) {
        let mut command = self.fleet.ca_server(&["audit", "verify"]);
        let done = output(command.args(more));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = format!("{}{}", text(done.stdout), text(done.stderr));
        (done.status.success(), said)
    }
}

/// A chain from its beginning.
async fn chain(store: &Store, replica: &str) -> Vec<AuditRow> {
    store.audit_entries(replica, 0, 10_000).await.unwrap()
}

/// Waits until the trail has an entry like this, and gives it.
async fn entry(store: &Store, what: impl Fn(&AuditRow) -> bool) -> AuditRow {
    let begun = Instant::now();
    loop {
        for replica in store.audit_replicas().await.unwrap() {
            let found = chain(store, &replica).await.into_iter().find(&what);
            if let Some(entry) = found {
                return entry;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "no such entry");
        // Other processes write it: there is nothing here that would wake us.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
