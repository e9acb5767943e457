//! Configuration: one TOML file, environment overrides (`SIGNET__SECTION__KEY`), secrets by file.
//!
//! [`Config::load`] reads everything and lists every fault with its key's path; later code sees a [`Config`] or nothing.

mod admin;
mod keys;
mod log;
mod oidc;
mod reader;
mod status;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pki::extension::SubjectNames;
use pki::name::{ClusterName, DnsName};
use secrecy::{ExposeSecret, SecretString};

use crate::store::ReplicaName;
pub use admin::AdminSettings;
pub use keys::{CredentialName, CredentialNameError, KeySettings, TokenSettings, WrappingSource};
pub use log::{Log, targets};
pub use oidc::{OidcKeys, OidcSettings};
pub use reader::Fault;
use reader::{Section, merge_environment};
pub use status::{StatusSettings, UrlKinds};

/// Everything that `ca-server` is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster whose authority signs the server's own certificate.
    pub home_cluster: ClusterName,
    /// The name of this replica's audit chain: this host's by default.
    pub replica: ReplicaName,
    /// Names and addresses that the server is reached by.
    pub names: SubjectNames,
    /// How long a stop waits for requests under way.
    pub drain: Duration,
    /// Where records are kept; may hold a password.
    pub store_url: SecretString,
    /// Where it is kept, outside of the store, how far the store had come; beside the file by default on SQLite.
    pub watermark_file: Option<PathBuf>,
    /// The installation's keys.
    pub keys: KeySettings,
    /// The tokens that hold keys.
    pub tokens: Vec<TokenSettings>,
    /// The listeners.
    pub listeners: Listeners,
    /// The cluster of a caller that names none.
    pub default_cluster: Option<ClusterName>,
    /// Bounds on work.
    pub limits: Limits,
    /// How the API is administered.
    pub admin: AdminSettings,
    /// How certificate status is told.
    pub status: StatusSettings,
    /// Where the audit trail is handed on to.
    pub audit: AuditSettings,
    /// How to log.
    pub log: Log,
}

/// Where the audit trail is handed on to while the server runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSettings {
    /// A file of JSON lines, which is appended to.
    pub file: Option<PathBuf>,
    /// An OpenTelemetry collector, for OTLP over gRPC.
    pub otlp: Option<CollectorUrl>,
}

/// Where a collector listens: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorUrl(String);

impl CollectorUrl {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not a collector's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a collector's URL is like http://127.0.0.1:4317; there is no TLS to it: run one beside the server that goes on from there"
)]
pub struct CollectorUrlError;

impl std::str::FromStr for CollectorUrl {
    type Err = CollectorUrlError;

    fn from_str(text: &str) -> Result<Self, CollectorUrlError> {
        let uri: http::Uri = text.parse().map_err(|_| CollectorUrlError)?;
        let good = uri.scheme_str() == Some("http")
            && uri.host().is_some_and(|host| !host.is_empty())
            && !text.contains('@')
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && text.len() <= 200;
        if good {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(CollectorUrlError)
        }
    }
}

/// Where the server listens.
#[derive(Clone, Copy, Debug)]
pub struct Listeners {
    /// gRPC over TLS for workloads.
    pub issue: SocketAddr,
    /// Administration over TLS with a client certificate.
    pub admin: SocketAddr,
    /// Plain HTTP for signed things.
    pub public: SocketAddr,
    /// Plain HTTP for the platform.
    pub ops: SocketAddr,
    /// How long a connection may live, before clients reconnect and see new trust.
    pub connection_max_age: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// Connections at a time, a listener.
    pub max_connections: usize,
    /// Connections at a time from one address, a listener.
    pub max_connections_per_address: usize,
}

/// Bounds on work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are worked on at a time; others wait.
    pub in_flight: usize,
    /// How long a request waits for its turn.
    pub queue_wait: Duration,
    /// Certificates that one identity may have in a minute; others wait.
    pub per_identity_per_minute: u32,
}

/// A call ends after ten seconds: who waits longer for its turn has no time left to be served.
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(8);
/// Platforms kill what takes longer to stop.
const DRAIN_MAX: Duration = Duration::from_secs(600);
/// Trust that was removed lives as long on an open connection.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(7 * 86_400);
const HANDSHAKE_MAX: Duration = Duration::from_secs(60);

impl Config {
    /// Reads `path` and the environment.
    ///
    /// # Errors
    /// Every fault found.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let environment = reader::environment();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Faults(vec![Fault::new(
                &path.display().to_string(),
                format!("cannot be read: {error}"),
            )])
        })?;
        Self::parse(&text, &environment)
    }

    /// Reads a configuration's text; `environment` overrides it, `SIGNET__SECTION__KEY` each.
    ///
    /// # Errors
    /// Every fault found.
    pub fn parse(text: &str, environment: &BTreeMap<String, String>) -> Result<Self, Faults> {
        let mut table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| Faults(vec![reader::syntax(text, &error)]))?;
        let mut faults = merge_environment(&mut table, environment);
        let config = Self::from_table(table, environment, &mut faults);
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(Faults(faults)),
        }
    }

    fn from_table(
        table: toml::Table,
        environment: &BTreeMap<String, String>,
        faults: &mut Vec<Fault>,
    ) -> Option<Self> {
        let mut root = Section::root(table, faults);
        let mut server = root.section("server");
        let home_cluster = server.required::<ClusterName>("cluster");
        let replica = server
            .optional::<ReplicaName>("replica")
            .unwrap_or_else(host_replica);
        let names = server_names(&mut server);
        let drain = server.duration("drain", Duration::from_secs(10), DRAIN_MAX);
        server.finish();

        let mut store = root.section("store");
        let store_url = store_url(&mut store);
        let watermark_file = store
            .path("watermark_file")
            .or_else(|| beside_sqlite(store_url.as_ref()?, ".watermark"));
        store.finish();

        let keys = KeySettings::read(&mut root, environment);
        let tokens = TokenSettings::read_all(&mut root);

        let mut section = root.section("listeners");
        let listeners = Listeners {
            issue: section.address("issue", "127.0.0.1:8443"),
            admin: section.address("admin", "127.0.0.1:8444"),
            public: section.address("public", "127.0.0.1:8080"),
            ops: section.address("ops", "127.0.0.1:8081"),
            connection_max_age: section.duration(
                "connection_max_age",
                Duration::from_secs(3600),
                CONNECTION_AGE_MAX,
            ),
            handshake_timeout: section.duration(
                "handshake_timeout",
                Duration::from_secs(5),
                HANDSHAKE_MAX,
            ),
            max_connections: section.number("max_connections", 10_000, 1, 1_000_000),
            max_connections_per_address: section.number(
                "max_connections_per_address",
                1_000,
                1,
                1_000_000,
            ),
        };
        shared_addresses(&mut section, &listeners);
        section.finish();

        let mut istio = root.section("istio");
        let default_cluster = istio.optional::<ClusterName>("default_cluster");
        istio.finish();

        let mut section = root.section("limits");
        let limits = Limits {
            in_flight: section.number("in_flight", 1_024, 1, 65_536),
            queue_wait: section.duration("queue_wait", Duration::from_secs(2), QUEUE_WAIT_MAX),
            per_identity_per_minute: section.number("per_identity_per_minute", 600, 1, 1_000_000),
        };
        section.finish();

        let admin = AdminSettings::read(&mut root);
        let status = StatusSettings::read(&mut root);

        let mut section = root.section("audit");
        let audit = AuditSettings {
            file: section.path("file"),
            otlp: section.optional::<CollectorUrl>("otlp"),
        };
        section.finish();

        let log = Log::read(&mut root);
        root.finish();
        Some(Self {
            home_cluster: home_cluster?,
            replica,
            names: names?,
            drain,
            store_url: store_url?,
            watermark_file,
            keys: keys?,
            tokens,
            listeners,
            default_cluster,
            limits,
            admin,
            status,
            audit,
            log,
        })
    }

    /// What is wrong with the files that the configuration names: what a start would stumble over.
    #[must_use]
    pub fn file_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let parent = |file: &Path| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut folder = |key: &str, file: &Path| {
            let folder = parent(file);
            if !folder.is_dir() {
                let message = format!("{} is not a folder that is there", folder.display());
                faults.push(Fault::new(key, message));
            }
        };
        if let Some(file) = crate::store::StoreUrl::parse(self.store_url.expose_secret())
            .ok()
            .as_ref()
            .and_then(crate::store::StoreUrl::path)
        {
            folder("store.url", file);
        }
        if let Some(file) = &self.watermark_file {
            folder("store.watermark_file", file);
        }
        if let Some(file) = &self.audit.file {
            folder("audit.file", file);
        }
        let mut file = |key: &str, file: &Path| {
            if let Err(error) = std::fs::File::open(file) {
                faults.push(Fault::new(key, format!("{}: {error}", file.display())));
            }
        };
        // A credential is there only in the unit that it is given to.
        if let WrappingSource::Passphrase(passphrase) = &self.keys.wrapping {
            file("keys.passphrase_file", passphrase);
        }
        for token in &self.tokens {
            file(&format!("token {}: module", token.label), &token.module);
            file(&format!("token {}: pin_file", token.label), &token.pin_file);
        }
        for issuer in &self.admin.oidc {
            faults.extend(issuer.file_faults());
        }
        faults
    }

    /// The keys in which `new` differs and which a running server does not take up: of the listeners, whatever is no bound
    /// on connections, and what the store, the keys and certificate status are.
    #[must_use]
    pub fn takes_a_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old, l) = (self.listeners, new.listeners);
        let changed = [
            ("server.cluster", self.home_cluster != new.home_cluster),
            ("server.replica", self.replica != new.replica),
            (
                "store.url",
                self.store_url.expose_secret() != new.store_url.expose_secret(),
            ),
            (
                "store.watermark_file",
                self.watermark_file != new.watermark_file,
            ),
            ("keys", self.keys != new.keys),
            ("token", self.tokens != new.tokens),
            ("admin.oidc", self.admin.oidc != new.admin.oidc),
            ("listeners.issue", old.issue != l.issue),
            ("listeners.admin", old.admin != l.admin),
            ("listeners.public", old.public != l.public),
            ("listeners.ops", old.ops != l.ops),
            (
                "listeners.connection_max_age",
                old.connection_max_age != l.connection_max_age,
            ),
            (
                "listeners.handshake_timeout",
                old.handshake_timeout != l.handshake_timeout,
            ),
            ("audit", self.audit != new.audit),
            ("crl, authorities, ocsp, public", self.status != new.status),
            ("log.format", self.log.json != new.log.json),
        ];
        changed
            .into_iter()
            .filter_map(|(key, changed)| changed.then_some(key))
            .collect()
    }

    /// The configuration as it is in force, secrets masked, one `section.key = value` a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let Listeners {
            issue,
            admin,
            public,
            ops,
            ..
        } = self.listeners;
        let url = crate::store::StoreUrl::parse(self.store_url.expose_secret())
            .map_or_else(|error| error.to_string(), |url| url.to_string());
        let watermark = self.watermark_file.as_deref();
        let watermark =
            watermark.map_or_else(|| "(none)".into(), |file| file.display().to_string());
        let names = self.names.to_strings().join(", ");
        let tokens: String = self.tokens.iter().map(TokenSettings::describe).collect();
        let administration = self.admin.describe();
        format!(
            "server.cluster = {}\nserver.replica = {}\nserver.names = {names}\nserver.drain = {}s\nstore.url = {url}\nstore.watermark_file = {watermark}\nkeys.{}\nkeys.lock_memory = {}\nkeys.require_confined = {}\n{tokens}\
             listeners.issue = {issue}\nlisteners.admin = {admin}\nlisteners.public = {public}\nlisteners.ops = {ops}\n{administration}\
             istio.default_cluster = {}\nlimits.in_flight = {}\nlimits.queue_wait = {}s\nlimits.per_identity_per_minute = {}\n\
             crl.validity = {}\ncrl.refresh = {}\nauthorities.publish_for = {}\nocsp.validity = {}\npublic.url = {}\npublic.cache_for = {}\naudit.file = {}\naudit.otlp = {}\nlog.filter = {}\n",
            self.home_cluster,
            self.replica,
            self.drain.as_secs(),
            self.keys.wrapping,
            self.keys.lock_memory,
            self.keys.require_confined,
            self.default_cluster
                .as_ref()
                .map_or("(none)", ClusterName::as_str),
            self.limits.in_flight,
            self.limits.queue_wait.as_secs(),
            self.limits.per_identity_per_minute,
            self.status.crl_validity,
            self.status.crl_refresh,
            self.status.publish_for,
            self.status.ocsp_validity,
            self.status.public_url.as_deref().unwrap_or("(none)"),
            self.status.cache_for,
            self.audit
                .file
                .as_deref()
                .map_or_else(|| "(none)".into(), |file| file.display().to_string()),
            self.audit
                .otlp
                .as_ref()
                .map_or("(none)", CollectorUrl::as_str),
            self.log.filter,
        )
    }
}

/// Two listeners on one port: the second would not come up. Port 0 is another one each time.
fn shared_addresses(section: &mut Section<'_>, listeners: &Listeners) {
    let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
    for (name, address) in [
        ("issue", listeners.issue),
        ("admin", listeners.admin),
        ("public", listeners.public),
        ("ops", listeners.ops),
    ] {
        let overlaps = |other: &SocketAddr| {
            let any = other.ip().is_unspecified() || address.ip().is_unspecified();
            other.port() == address.port() && (any || other.ip() == address.ip())
        };
        match taken.iter().find(|(_, other)| overlaps(other)) {
            Some((other, _)) if address.port() != 0 => {
                section.fault(name, format!("{address} is the address of {other}, too"));
            }
            _ => taken.push((name, address)),
        }
    }
}

fn host_replica() -> ReplicaName {
    ReplicaName::of_host(&rustix::system::uname().nodename().to_string_lossy())
}

fn server_names(server: &mut Section<'_>) -> Option<SubjectNames> {
    let mut names = SubjectNames::default();
    for name in server.list("names") {
        if let Ok(address) = name.parse::<IpAddr>() {
            names.ip.push(address);
            continue;
        }
        match DnsName::parse(&name) {
            Ok(name) => names.dns.push(name),
            Err(error) => server.fault("names", error.to_string()),
        }
    }
    if names.is_empty() {
        server.fault(
            "names",
            "at least one name or address that clients reach the server by".to_owned(),
        );
        return None;
    }
    Some(names)
}

fn store_url(store: &mut Section<'_>) -> Option<SecretString> {
    let url = match (store.text("url"), store.path("url_file")) {
        (Some(url), None) => url,
        (None, Some(file)) => match std::fs::read_to_string(&file) {
            Ok(text) => text.trim_end().to_owned(),
            Err(error) => {
                store.fault("url_file", format!("{}: {error}", file.display()));
                return None;
            }
        },
        (Some(_), Some(_)) => {
            let both = "url and url_file are both given: which one is meant?";
            store.fault("url", both.to_owned());
            return None;
        }
        (None, None) => {
            store.fault(
                "url",
                "one of url and url_file is needed (sqlite:///… or postgres://…)".to_owned(),
            );
            return None;
        }
    };
    if let Err(error) = crate::store::StoreUrl::parse(&url) {
        store.fault("url", error.to_string());
    }
    Some(url.into())
}

/// A file beside a SQLite store's; a server of a Postgres has no folder that is its own.
fn beside_sqlite(url: &SecretString, end: &str) -> Option<PathBuf> {
    let url = crate::store::StoreUrl::parse(url.expose_secret()).ok()?;
    let mut name = url.path()?.as_os_str().to_owned();
    name.push(end);
    Some(name.into())
}

/// What is wrong with a configuration, all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [server]
        cluster = "central"
        names = ["ca.example.com", "127.0.0.1"]
        [store]
        url = "sqlite:///tmp/x.db"
        [keys]
        passphrase_file = "/run/passphrase"
    "#;

    #[test]
    fn the_least_configuration_has_loopback_defaults() {
        let config = Config::parse(GOOD, &BTreeMap::new()).unwrap();
        assert_eq!(config.listeners.issue, "127.0.0.1:8443".parse().unwrap());
        assert_eq!(
            config.names.to_strings(),
            ["DNS:ca.example.com", "IP:127.0.0.1"]
        );
        assert_eq!(
            config.watermark_file,
            Some("/tmp/x.db.watermark".into()),
            "a store that is put back is noticed"
        );
    }

    #[test]
    fn every_fault_is_listed_with_its_path() {
        let text = r#"
            typo = 1
            [server]
            cluster = "../x"
            names = []
            drain = "soon"
            [store]
            watermark_file = 7
            [listeners]
            issue = "nowhere"
            public = "0.0.0.0:8081"
            max_connections = 0
            [limits]
            queue_wait = "1h"
            [log]
            format = "xml"
            filter = "=,="
        "#;
        let faults = Config::parse(text, &BTreeMap::new()).unwrap_err();
        let paths: Vec<&str> = faults.0.iter().map(Fault::path).collect();
        for path in [
            "server.cluster",
            "server.names",
            "server.drain",
            "store.url",
            "keys.passphrase_file",
            "listeners.issue",
            "listeners.max_connections",
            "listeners.ops",
            "limits.queue_wait",
            "store.watermark_file",
            "log.format",
            "log.filter",
            "typo",
        ] {
            assert!(paths.contains(&path), "{path} is missing in {paths:?}");
        }
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let environment = BTreeMap::from([
            (
                "SIGNET__LISTENERS__ISSUE".to_owned(),
                "127.0.0.1:1".to_owned(),
            ),
            ("SIGNET__LIMITS__IN_FLIGHT".to_owned(), "7".to_owned()),
            (
                "SIGNET__SERVER__NAMES".to_owned(),
                "a.example.com,b.example.com".to_owned(),
            ),
        ]);
        let config = Config::parse(GOOD, &environment).unwrap();
        assert_eq!(config.listeners.issue.port(), 1);
        assert_eq!(config.limits.in_flight, 7);
        assert_eq!(config.names.dns.len(), 2);
        let nested = BTreeMap::from([
            (
                "SIGNET__PUBLIC__URL".to_owned(),
                "http://ca.example".to_owned(),
            ),
            (
                "SIGNET__PUBLIC__URLS__WORKLOAD".to_owned(),
                "issuer".to_owned(),
            ),
        ]);
        let config = Config::parse(GOOD, &nested).unwrap();
        let urls = config.status.urls_of(pki::profile::Profile::WORKLOAD);
        assert!(urls.issuer && !urls.crl && !urls.ocsp, "{urls:?}");
        let wrong = BTreeMap::from([("SIGNET__ISSUE".to_owned(), String::new())]);
        assert!(Config::parse(GOOD, &wrong).is_err());
    }

    #[test]
    fn what_waits_for_a_second_person_is_shown() {
        let text = format!(
            "{GOOD}\n[admin]\ntwo_person = [\"role\", \"authority.revoke\"]\nper_caller_per_minute = 77\n"
        );
        let shown = Config::parse(&text, &BTreeMap::new()).unwrap().describe();
        let lines =
            "\nadmin.two_person = authority.revoke, role\nadmin.per_caller_per_minute = 77\n";
        assert!(shown.contains(lines), "{shown}");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_password_is_never_shown() {
        let environment = BTreeMap::from([(
            "SIGNET__STORE__URL".to_owned(),
            "postgres://ca:hunter2@db/ca".to_owned(),
        )]);
        let config = Config::parse(GOOD, &environment).unwrap();
        assert!(!config.describe().contains("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
