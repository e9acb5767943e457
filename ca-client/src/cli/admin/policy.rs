//! `ca policy`: what a cluster allows, and what it would allow.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use ca_client::api::Call;
use clap::{ArgGroup, Args, Subcommand};
use pki::name::{ClusterName, ProfileName};
use pki::time::Ttl;
use serde_json::{Map, Value, json};

use super::session::Session;
use super::{Verb, definition, diff, files};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form, Table};

/// A replay reads every request of its days.
const REPLAY_TIME: Duration = Duration::from_secs(15 * 60);

const FIRST: &[&str] = &["default_ttl", "max_ttl", "strict", "rules"];

const STEPS: &[Column] = &[
    Column::of("RULE", "rule"),
    Column::of("OUTCOME", "outcome"),
    Column::of("WHY", "why"),
];

const DIFFERING: &[Column] = &[
    Column::of("CERTIFICATE OR REFUSAL", "which"),
    Column::of("AT", "at"),
    Column::of("CALLER", "caller"),
    Column::of("NAMES", "names"),
    Column::of("BEFORE", "before"),
    Column::of("AFTER", "after"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Print a cluster's policy
    #[command(after_help = "Example:\n  ca policy show central")]
    Show {
        /// The cluster
        cluster: ClusterName,
    },
    /// Put another policy in force; prints what changes
    #[command(after_help = "\
Examples:
  ca policy replay central --policy stricter.toml --days 7
  ca policy set central -f stricter.toml

The file says all of default_ttl, max_ttl, strict and [[rule]] (or rules = []), as TOML or JSON; the cluster's definition will do.
What gives more than before takes a security officer, and a second person where the configuration says so.")]
    Set {
        /// The cluster
        cluster: ClusterName,
        /// TOML or JSON
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Print what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Say what would be decided of a request, and why, rule by rule
    #[command(after_help = "\
Examples:
  ca policy dry-run central --identity spiffe://example.mesh/ns/web/sa/gateway --profile server --name www.example.com
  ca policy dry-run central --identity spiffe://example.mesh/ns/web/sa/web --csr web.csr --ttl 48h --policy stricter.toml")]
    DryRun(Box<Question>),
    /// Say which certificates of the last days another policy would have decided otherwise
    #[command(after_help = "Example:\n  ca policy replay central --policy stricter.toml --days 7")]
    Replay {
        /// The cluster
        cluster: ClusterName,
        /// The other policy: TOML or JSON, as for `ca policy set`
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// How many days, 90 at most
        #[arg(long, default_value_t = 7, value_name = "N")]
        days: u32,
        /// How many that differ are listed at most, 1000 at most
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u32,
    },
}

/// The request that a policy is asked about.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("who").required(true).args(["identity", "enrolment_pattern"]))]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["csr", "name"]))]
pub(crate) struct Question {
    /// The cluster
    cluster: ClusterName,
    /// Who would ask: a SPIFFE id
    #[arg(long, value_name = "URI")]
    identity: Option<String>,
    /// Who would ask: the holder of an enrolment token for this pattern
    #[arg(long, value_name = "PATTERN")]
    enrolment_pattern: Option<String>,
    /// The profile
    #[arg(long, default_value = "workload", value_name = "NAME")]
    profile: ProfileName,
    /// The request, PEM or DER
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    csr: Option<PathBuf>,
    /// A name that would be asked for, in place of a request: a SPIFFE id, a host name or an address; may be given several times
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The kind of key, in place of a request's: P-256, P-384 or RSA-2048 and so on
    #[arg(long, value_name = "KIND", default_value = "P-256")]
    key_kind: String,
    /// The lifetime that would be asked for
    #[arg(long, value_name = "TTL")]
    ttl: Option<Ttl>,
    /// Refuse a longer lifetime than there is, in place of shortening it
    #[arg(long)]
    exactly: bool,
    /// Ask another policy than the one in force: TOML or JSON
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl Question {
    fn body(&self) -> Result<Value> {
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| body.insert(key.to_owned(), value);
        if let Some(identity) = &self.identity {
            put("identity", json!(identity));
        }
        if let Some(pattern) = &self.enrolment_pattern {
            put("enrolment_pattern", json!(pattern));
        }
        put("profile", json!(self.profile));
        match &self.csr {
            Some(path) => put("csr", json!(files::read_pem(path, pki::pem::request)?)),
            None => {
                put("key", json!(self.key_kind));
                let names: Vec<String> = self.name.iter().map(|name| kind_and(name)).collect();
                put("names", json!(names))
            }
        };
        if let Some(ttl) = self.ttl {
            put("ttl", json!(ttl));
        }
        if self.exactly {
            put("exactly", json!(true));
        }
        if let Some(path) = &self.policy {
            let policy = definition::read_policy(path, self.cluster.as_str())?;
            put("policy", policy);
        }
        Ok(Value::Object(body))
    }
}

/// A row of the table: what was decided in words.
fn difference(difference: &Value) -> Value {
    let which = if difference["serial"].is_null() {
        &difference["refusal"]
    } else {
        &difference["serial"]
    };
    json!({
        "which": which,
        "at": difference["at"],
        "caller": difference["caller"],
        "names": difference["names"],
        "before": verdict(&difference["before"]),
        "after": verdict(&difference["after"]),
    })
}

fn verdict(verdict: &Value) -> String {
    if verdict["decision"] == json!("granted") {
        format!(
            "granted {} by {}",
            out::text(&verdict["ttl"]),
            out::text(&verdict["rule"])
        )
    } else {
        format!("refused: {}", out::text(&verdict["refusal"]))
    }
}

/// A name with its kind before it, as records show names.
fn kind_and(name: &str) -> String {
    let has_kind = ["URI:", "DNS:", "IP:"]
        .iter()
        .any(|kind| name.starts_with(kind));
    if has_kind {
        name.to_owned()
    } else if name.contains("://") {
        format!("URI:{name}")
    } else if name.parse::<std::net::IpAddr>().is_ok() {
        format!("IP:{name}")
    } else {
        format!("DNS:{name}")
    }
}

impl Verb for PolicyVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::Show { cluster } => {
                let segments = ["clusters", cluster.as_str(), "policy"];
                session.show(&segments, FIRST).await
            }
            Self::Set {
                cluster,
                file,
                dry_run,
            } => {
                let policy = definition::read_policy(&file, cluster.as_str())?;
                set(session, &cluster, policy, dry_run).await
            }
            Self::DryRun(question) => ask(session, &question).await,
            Self::Replay {
                cluster,
                policy,
                days,
                limit,
            } => {
                let policy = definition::read_policy(&policy, cluster.as_str())?;
                let body = json!({ "policy": policy, "days": days, "limit": limit });
                replay(session, &cluster, body).await
            }
        }
    }
}

async fn set(
    session: &Session,
    cluster: &ClusterName,
    policy: Value,
    dry_run: bool,
) -> Result<Exit> {
    let segments = ["clusters", cluster.as_str(), "policy"];
    let (before, etag) = session.read(&segments).await?;
    let normal = |policy: &Value| {
        let mut policy = policy.clone();
        if let Some(map) = policy.as_object_mut()
            && let Some(rules) = map.remove("rules")
        {
            map.insert("rule".to_owned(), rules);
        }
        definition::normal(&policy)
    };
    let lines = diff::lines(&normal(&before), &normal(&policy));
    for line in &lines {
        match session.output {
            Form::Table => out::say(line)?,
            _ => out::note(line),
        }
    }
    if lines.is_empty() || dry_run {
        match session.output {
            Form::Table if lines.is_empty() => out::say("unchanged")?,
            Form::Table => out::note("nothing was changed (--dry-run)"),
            form => out::json(&before, form)?,
        }
        return Ok(Exit::Done);
    }
    session
        .act(Call::put(&segments, &etag, policy), |_| {
            format!("the policy of cluster {cluster} changed")
        })
        .await
}

async fn ask(session: &Session, question: &Question) -> Result<Exit> {
    let segments = ["clusters", question.cluster.as_str(), "policy", "dry-run"];
    let call = Call::ask(&segments, question.body()?);
    let mut answer = session.send(&call).await?.json()?;
    if session.output != Form::Table {
        out::json(&answer, session.output)?;
        return Ok(Exit::Done);
    }
    let steps = answer.get_mut("steps").map(Value::take);
    if let Some(map) = answer.as_object_mut() {
        map.remove("steps");
    }
    session.print(
        &answer,
        &["decision", "refusal", "rule", "profile", "names", "ttl"],
    )?;
    if let Some(Value::Array(steps)) = steps {
        out::say("")?;
        out::put(Table::new(STEPS, session.now).rows(&steps).as_bytes())?;
    }
    Ok(Exit::Done)
}

async fn replay(session: &Session, cluster: &ClusterName, body: Value) -> Result<Exit> {
    let segments = ["clusters", cluster.as_str(), "policy", "replay"];
    out::note(&format!(
        "replaying {} day(s) of cluster {cluster} …",
        out::text(&body["days"])
    ));
    let call = Call::ask(&segments, body);
    let answer = session.send(&call.patiently(REPLAY_TIME)).await?.json()?;
    if session.output != Form::Table {
        out::json(&answer, session.output)?;
        return Ok(Exit::Done);
    }
    let differing = answer["differing"].as_array();
    let rows: Vec<Value> = differing.into_iter().flatten().map(difference).collect();
    if !rows.is_empty() {
        let mut table = Table::new(DIFFERING, session.now);
        out::put(table.rows(&rows).as_bytes())?;
    }
    let cut = if answer["truncated"] == json!(true) {
        "; there is more than was listed or looked at"
    } else {
        ""
    };
    let count = |key: &str| answer[key].as_u64().unwrap_or(0);
    out::say(&format!(
        "{} examined, {} the same, {} otherwise{cut}",
        count("examined"),
        count("same"),
        count("examined").saturating_sub(count("same")),
    ))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_names_kind_is_told_by_its_shape() {
        for (name, whole) in [
            ("spiffe://td/a", "URI:spiffe://td/a"),
            ("a.example", "DNS:a.example"),
            ("::1", "IP:::1"),
            ("DNS:10.0.0.1", "DNS:10.0.0.1"),
        ] {
            assert_eq!(kind_and(name), whole);
        }
    }
}
