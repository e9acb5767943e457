//! `ca certificate revoke`, `hold` and `lift`: which certificates are meant, what would be hit, and the act.

use anyhow::Result;
use ca_client::api::Call;
use clap::Args;
use pki::crl::Reason;
use pki::name::{AuthorityId, ClusterName, DnsName, SpiffeId};
use pki::serial::Serial;
use pki::time::Timestamp;
use serde_json::{Map, Value, json};

use super::authority::digest;
use super::session::Session;
use crate::cli::exit::{Exit, Usage};
use crate::cli::out::{self, Form};

/// Which certificates are meant.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// With these serial numbers, hexadecimal; no other choice beside them
    #[arg(value_name = "SERIAL", conflicts_with_all = ["spiffe_id", "dns", "public_key", "cluster", "authority", "issued_from", "issued_to"])]
    serials: Vec<Serial>,
    /// With this SPIFFE id
    #[arg(long, value_name = "URI")]
    spiffe_id: Option<SpiffeId>,
    /// With this host name
    #[arg(long, value_name = "NAME", conflicts_with = "spiffe_id")]
    dns: Option<DnsName>,
    /// With the key whose SubjectPublicKeyInfo has this SHA-256
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    public_key: Option<String>,
    /// Of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// By this authority
    #[arg(long, value_name = "ID")]
    authority: Option<AuthorityId>,
    /// Issued at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    issued_from: Option<Timestamp>,
    /// Issued before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    issued_to: Option<Timestamp>,
    /// Print what would be hit, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What is done with them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Revoke(Option<Reason>),
    Hold,
    Lift,
}

impl Act {
    const fn word(self) -> &'static str {
        match self {
            Self::Revoke(_) => "revoke",
            Self::Hold => "hold",
            Self::Lift => "lift",
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Revoke(_) => "revoke",
            Self::Hold => "put on hold",
            Self::Lift => "lift the hold of",
        }
    }

    /// Whether a certificate in this state shows that it was done.
    fn leads_to(self, state: &str) -> bool {
        match self {
            Self::Revoke(_) => state == "revoked",
            Self::Hold => state == "held",
            Self::Lift => state != "held" && state != "revoked",
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::Revoke(_) => "revoked",
            Self::Hold => "put on hold",
            Self::Lift => "lifted",
        }
    }
}

impl Selection {
    fn body(&self, act: Act, dry_run: bool) -> Result<Value> {
        let mut body = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(key.to_owned(), value);
            }
        };
        let serials: Vec<String> = self.serials.iter().map(ToString::to_string).collect();
        put("serials", (!serials.is_empty()).then(|| json!(serials)));
        put(
            "spiffe_id",
            self.spiffe_id.as_ref().map(|id| json!(id.to_string())),
        );
        put("dns", self.dns.as_ref().map(|name| json!(name.to_string())));
        put("key", self.public_key.as_ref().map(|key| json!(key)));
        put("cluster", self.cluster.as_ref().map(|name| json!(name)));
        put("authority", self.authority.as_ref().map(|id| json!(id)));
        put(
            "issued_from",
            self.issued_from.map(|time| json!(time.to_string())),
        );
        put(
            "issued_to",
            self.issued_to.map(|time| json!(time.to_string())),
        );
        if body.is_empty() {
            return Err(Usage(
                "which certificates? Give serial numbers, or --spiffe-id, --dns, --public-key, --cluster, --authority".to_owned(),
            )
            .into());
        }
        body.insert("action".to_owned(), json!(act.word()));
        body.insert("dry_run".to_owned(), json!(dry_run));
        if let Act::Revoke(Some(reason)) = act {
            body.insert("reason".to_owned(), json!(reason.to_string()));
        }
        Ok(Value::Object(body))
    }

    /// Shows what would be hit, asks, and does it. One serial number is done at once: nobody hits more by it than they named.
    pub(super) async fn run(self, session: &Session, act: Act) -> Result<Exit> {
        if let ([serial], false) = (self.serials.as_slice(), self.dry_run) {
            return one(session, serial, act).await;
        }
        let preview = Call::ask(&["revocations"], self.body(act, true)?);
        let found = session.send(&preview).await?.json()?;
        let shown = preview_text(act, &found);
        match session.output {
            Form::Table => out::put(shown.as_bytes())?,
            form if self.dry_run => out::json(&found, form)?,
            _ => out::note(shown.trim_end()),
        }
        if self.dry_run {
            return Ok(Exit::Done);
        }
        if found["found"] == json!(0) {
            if session.output != Form::Table {
                out::json(&found, session.output)?;
            }
            return Ok(Exit::Done);
        }
        let what = format!(
            "{} {} certificate(s)",
            act.verb(),
            out::text(&found["found"])
        );
        out::confirm(&what, self.yes)?;
        let call = Call::post(&["revocations"], self.body(act, false)?);
        session.act(call, |value| report(act, value)).await
    }
}

async fn one(session: &Session, serial: &Serial, act: Act) -> Result<Exit> {
    let body = match act {
        Act::Revoke(Some(reason)) => json!({ "reason": reason.to_string() }),
        _ => json!({}),
    };
    let text = serial.to_string();
    let call = Call::post(&["certificates", &text, act.word()], body);
    let value = session.send(&call).await?.json()?;
    let state = out::text(&value["state"]);
    // A revocation stands, whatever comes after it: the server answers with what is, not with what was asked.
    if act.leads_to(&state) {
        match session.output {
            Form::Table => out::say(&format!("certificate {text} {}", act.done()))?,
            form => out::json(&value, form)?,
        }
        return Ok(Exit::Done);
    }
    if session.output != Form::Table {
        out::json(&value, session.output)?;
    }
    out::note(&format!(
        "error: nothing was changed: certificate {text} is {state}, {}, and only a hold can be lifted or become a revocation",
        out::text(&value["reason"])
    ));
    Ok(Exit::Conflict)
}

fn preview_text(act: Act, found: &Value) -> String {
    let mut text = match found["found"].as_u64() {
        Some(0) => format!(
            "no certificate that lives fits; nothing to {}\n",
            act.verb()
        ),
        _ => format!(
            "{} certificate(s) to {}:\n",
            out::text(&found["found"]),
            act.verb()
        ),
    };
    for group in found["groups"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "  {:>8}  cluster {}, profile {}\n",
            out::text(&group["count"]),
            out::text(&group["cluster"]),
            out::text(&group["profile"])
        ));
    }
    let mut groups = found["groups"].as_array().into_iter().flatten();
    if groups.any(|group| group["profile"] == json!("admin")) {
        text.push_str("  administrators' certificates are among them: perhaps yours\n");
    }
    let first = found["first"].as_array();
    for certificate in first.into_iter().flatten() {
        text.push_str(&format!(
            "  {} {} until {}\n",
            out::text(&certificate["serial"]),
            out::text(&certificate["names"]),
            out::text(&certificate["not_after"])
        ));
    }
    let shown = u64::try_from(first.map_or(0, Vec::len)).unwrap_or(u64::MAX);
    let more = found["found"].as_u64().unwrap_or(0).saturating_sub(shown);
    if more > 0 && shown > 0 {
        text.push_str(&format!("  … and {more} more\n"));
    }
    if let Some(left_out @ 1..) = found["own_left_out"].as_u64() {
        text.push_str(&format!(
            "  left out: {left_out} of the server's own or administrators' (serving, ocsp-responder, admin), which are meant by serial number alone\n"
        ));
    }
    text
}

fn report(act: Act, value: &Value) -> String {
    let mut text = format!("{} {}", out::text(&value["changed"]), act.done());
    for (key, what) in [
        ("standing", "revoked or on hold already, left as they were"),
        ("not_held", "not on hold, left as they were"),
        ("gone", "no longer on record"),
    ] {
        if let Some(count @ 1..) = value[key].as_u64() {
            text.push_str(&format!("\n{count} {what}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_hit_is_told_group_by_group() {
        let found = json!({
            "found": 3, "own_left_out": 1,
            "groups": [{ "cluster": "central", "profile": "admin", "count": 3 }],
            "first": [{ "serial": "01", "names": ["URI:x"], "not_after": "2026-11-28T06:00:00Z" }],
        });
        let text = preview_text(Act::Hold, &found);
        assert_eq!(
            text,
            "3 certificate(s) to put on hold:\n         3  cluster central, profile admin\n  administrators' certificates are among them: perhaps yours\n  01 URI:x until 2026-11-28T06:00:00Z\n  \
             … and 2 more\n  left out: 1 of the server's own or administrators' (serving, ocsp-responder, admin), which are meant by serial number alone\n"
        );
        let text = report(Act::Lift, &json!({ "changed": 2, "not_held": 1 }));
        assert_eq!(text, "2 lifted\n1 not on hold, left as they were");
    }
}
