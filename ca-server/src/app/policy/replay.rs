//! A changed policy on the requests that were recorded, before it is put in force.

use std::cmp::Reverse;

use pki::name::{ClusterName, NameError, SpiffeId, TrustDomain};
use pki::policy::{ClusterPolicy, Identity, decide};
use pki::profile::Profile;
use pki::time::{Timestamp, Ttl};
use serde::{Deserialize, Serialize};

use super::facts::{self, Facts};
use super::{Granted, Policies, PolicyDocument, RefusedRequest, Verdict, policies};
use crate::app::{Context, Error, ErrorKind};
use crate::store::model::{
    AuditCursor, AuditFilter, AuditRow, NewRecord, RecordFilter, StoredRecord,
};

/// What is to be tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRequest {
    /// The candidate.
    pub policy: PolicyDocument,
    /// The requests of how many days, 1 to 90.
    pub days: u32,
    /// How many differences are listed at most, 1 to 1,000.
    #[serde(default = "default_limit")]
    pub limit: usize,
}

const DAYS_MAX: u32 = 90;
const LIMIT_MAX: usize = 1_000;
/// The most records, and the most refusals, that one replay looks at, newest first: some half a minute's work.
const EXAMINED_MAX: u64 = 250_000;

/// The kind of the audit trail's entries of requests that policy refused.
const REFUSED: &str = "refusal.policy";

const fn default_limit() -> usize {
    100
}

/// What a changed policy would have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// How many requests were decided again.
    pub examined: u64,
    /// How many of them as they were.
    pub same: u64,
    /// The others, newest first; no more than were asked for.
    pub differing: Vec<Difference>,
    /// Whether more differ than are listed, or not all was looked at.
    pub truncated: bool,
    /// Since when everything was looked at.
    pub since: Timestamp,
}

/// A request that would be decided in another way than it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The certificate that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The refusal's entry in the audit trail, `replica/position`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// When it was decided.
    pub at: Timestamp,
    /// Who asked.
    pub caller: String,
    /// The names that were given; of a refusal those that were asked for.
    pub names: Vec<String>,
    /// What was decided.
    pub before: Verdict,
    /// What the candidate decides.
    pub after: Verdict,
    /// Whether the policy in force decides as the candidate does: it was changed since, and this change alters nothing.
    pub in_force_too: bool,
}

/// Decides the requests of the last days again, those that were refused too, and puts nothing in force. It reads by pages and
/// keeps the differences alone.
///
/// # Errors
/// When there is no such cluster, the candidate does not hold together, a bound is not kept, or the store is away.
pub async fn replay(
    context: &Context,
    cluster: &ClusterName,
    request: &ReplayRequest,
) -> Result<Replay, Error> {
    if !(1..=DAYS_MAX).contains(&request.days) || !(1..=LIMIT_MAX).contains(&request.limit) {
        return Err(Error::new(
            ErrorKind::Malformed,
            "replay",
            format!("expected 1 to {DAYS_MAX} days and a limit of 1 to {LIMIT_MAX}"),
        ));
    }
    let policies = policies(context, cluster, Some(&request.policy)).await?;
    let now = context.clock.untrusted_now();
    let mut found = Found {
        policies,
        limit: request.limit,
        replay: Replay {
            examined: 0,
            same: 0,
            differing: Vec::new(),
            truncated: false,
            since: now.minus(Ttl::days(request.days)),
        },
    };
    records(context, cluster, now, &mut found).await?;
    let of_records = std::mem::take(&mut found.replay.differing);
    refusals(context, cluster, &mut found).await?;
    let mut replay = found.replay;
    replay.differing.extend(of_records);
    replay
        .differing
        .sort_by_key(|difference| Reverse(difference.at));
    if replay.differing.len() > request.limit {
        replay.differing.truncate(request.limit);
        replay.truncated = true;
    }
    Ok(replay)
}

/// What was found so far.
struct Found {
    policies: Policies,
    limit: usize,
    replay: Replay,
}

impl Found {
    /// Decides a request again; `difference` makes the entry of one that differs.
    fn look_at(
        &mut self,
        decide: impl Fn(&ClusterPolicy) -> Verdict,
        before: Verdict,
        difference: impl FnOnce(Verdict, Verdict, bool) -> Difference,
    ) {
        let after = decide(&self.policies.tried);
        self.replay.examined += 1;
        if after.comes_to_the_same(&before) {
            self.replay.same += 1;
        } else if self.replay.differing.len() < self.limit {
            let in_force = decide(&self.policies.in_force);
            let in_force_too = in_force.comes_to_the_same(&after);
            let difference = difference(before, after, in_force_too);
            self.replay.differing.push(difference);
        } else {
            self.replay.truncated = true;
        }
    }
}

async fn records(
    context: &Context,
    cluster: &ClusterName,
    now: Timestamp,
    found: &mut Found,
) -> Result<(), Error> {
    let mut filter = RecordFilter {
        cluster: Some(cluster.clone()),
        issued_from: Some(found.replay.since),
        // What lived for a short time has ended since.
        expires_from: found.replay.since,
        limit: RecordFilter::LIMIT_MAX,
        ..RecordFilter::live(now)
    };
    loop {
        let page = context.store.search(&filter).await?;
        for stored in &page.records {
            if found.replay.examined >= EXAMINED_MAX {
                found.replay.truncated = true;
                // Others of this second may be left.
                found.replay.since = stored.record.issued_at.plus(Ttl::minutes(0));
                return Ok(());
            }
            one(context, stored, found).await?;
        }
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(()),
        }
    }
}

async fn one(context: &Context, stored: &StoredRecord, found: &mut Found) -> Result<(), Error> {
    let record = &stored.record;
    // The server's own certificates and authorities are no caller's: policy has not decided them.
    let trust_domain = &found.policies.in_force.trust_domain;
    let Some(identity) = identity(context, record, trust_domain).await? else {
        return Ok(());
    };
    let (Some(profile), Some(facts), Some(ttl), Ok(granted)) = (
        Profile::builtin(&record.profile),
        Facts::of_record(record),
        facts::asked_ttl(record),
        Ttl::from_seconds(record.granted_ttl),
    ) else {
        tracing::warn!(cert.serial = %record.serial, "a record cannot be decided again");
        return Ok(());
    };
    let again = |policy: &ClusterPolicy| -> Verdict {
        (&decide(policy, &identity, profile, facts.asked(), ttl)).into()
    };
    let before = Verdict::Granted(Granted {
        profile: record.profile.to_string(),
        names: record.names.clone(),
        ttl: granted,
        rule: record.rule.clone(),
    });
    found.look_at(again, before, |before, after, in_force_too| Difference {
        serial: Some(record.serial.to_string()),
        refusal: None,
        at: record.issued_at,
        caller: record.caller.clone(),
        names: record.names.clone(),
        before,
        after,
        in_force_too,
    });
    Ok(())
}

/// The requests that policy refused, as far as the audit trail has them: some of each caller's each hour.
async fn refusals(
    context: &Context,
    cluster: &ClusterName,
    found: &mut Found,
) -> Result<(), Error> {
    let mut filter = AuditFilter {
        kind: Some(REFUSED.to_owned()),
        from: Some(found.replay.since),
        limit: AuditFilter::LIMIT_MAX,
        ..AuditFilter::default()
    };
    let mut looked_at = 0;
    loop {
        let page = context.store.search_audit(&filter).await?;
        for row in &page {
            if looked_at >= EXAMINED_MAX {
                found.replay.truncated = true;
                let since = row.at.plus(Ttl::minutes(0));
                found.replay.since = found.replay.since.max(since);
                return Ok(());
            }
            looked_at += 1;
            one_refusal(row, cluster, found);
        }
        match page.last() {
            Some(last) if page.len() >= AuditFilter::LIMIT_MAX as usize => {
                filter.after = Some(AuditCursor::of(last));
            }
            _ => return Ok(()),
        }
    }
}

fn one_refusal(row: &AuditRow, cluster: &ClusterName, found: &mut Found) {
    // What was refused before its request was read, or to an administrator, was no decision of a policy.
    let Ok(refused) = serde_json::from_str::<RefusedRequest>(&row.detail) else {
        return;
    };
    if refused.cluster != *cluster || refused.decide(&found.policies.in_force).is_err() {
        return;
    }
    let again = |policy: &ClusterPolicy| {
        let refuse = |error: NameError| Verdict::Refused {
            refusal: error.to_string(),
        };
        refused.decide(policy).unwrap_or_else(refuse)
    };
    let before = Verdict::Refused {
        refusal: refused.text.clone(),
    };
    found.look_at(again, before, |before, after, in_force_too| Difference {
        serial: None,
        refusal: Some(format!("{}/{}", row.replica, row.position)),
        at: row.at,
        caller: row.actor.clone(),
        names: refused.asked_names.clone(),
        before,
        after,
        in_force_too,
    });
}

/// Who asked, as policy saw it; `None` where nobody did whom policy decides about.
async fn identity(
    context: &Context,
    record: &NewRecord,
    trust_domain: &TrustDomain,
) -> Result<Option<Identity>, Error> {
    let own = || {
        let names = record.names.iter();
        names
            .filter_map(|name| SpiffeId::parse(name.strip_prefix("URI:")?).ok())
            .map(Identity::Exactly)
            .next()
    };
    Ok(match record.caller_kind.as_str() {
        "service-account" => account(record, trust_domain).or_else(own),
        "administrator" => {
            let detail = record.caller_detail.as_deref().unwrap_or("{}");
            let detail: serde_json::Value = serde_json::from_str(detail).unwrap_or_default();
            let vouched_for = detail["vouched_for"].as_str();
            vouched_for
                .and_then(|id| SpiffeId::parse(id).ok())
                .map(Identity::Exactly)
        }
        "certificate" => SpiffeId::parse(&record.caller)
            .ok()
            .map(Identity::Exactly)
            .or_else(own),
        "enrolment" => {
            let id = record.caller.strip_prefix("enrolment:");
            let row = match id {
                Some(id) => context.store.enrolment(id).await?,
                None => None,
            };
            row.map(|row| Identity::OneOf(row.pattern)).or_else(own)
        }
        _ => None,
    })
}

/// The SPIFFE id of `sa:<namespace>/<name>`. A cluster stays in its trust domain.
fn account(record: &NewRecord, trust_domain: &TrustDomain) -> Option<Identity> {
    let (namespace, name) = record.caller.strip_prefix("sa:")?.split_once('/')?;
    SpiffeId::of_service_account(trust_domain, namespace, name)
        .ok()
        .map(Identity::Exactly)
}
