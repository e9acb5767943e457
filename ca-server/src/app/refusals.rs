//! Refusals, on their way into the audit trail.
//!
//! Of a proven caller each is an entry of its own with what was asked, up to [`EACH_HOUR`] an hour; the rest is counted, and
//! the counts are an entry when the hour is over. Who is not known is only counted, an entry a minute: strangers decide
//! neither how much is written, nor what. A refusal that is on its way when the process is killed is lost; on a stop all
//! are written.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pki::csr::VerifiedCsr;
use pki::policy::{AskedTtl, Identity};
use pki::time::Timestamp;
use serde_json::{Value, json};

use super::caller::Caller;
use super::issue::IssueRequest;
use super::{Actor, App, Error, ErrorKind};
use crate::store::model::NewAudit;

/// Refusals of one caller that are written out in an hour.
const EACH_HOUR: u32 = 20;
/// Callers that are told apart in an hour; those above it share one bound.
const CALLERS_MAX: usize = 10_000;
/// Entries that wait for the store; what comes while so many wait is counted with its caller's rest.
const WAITING_MAX: usize = 1_000;
/// Entries in one transaction.
const BATCH: usize = 64;
const SECONDS_PER_HOUR: i64 = 3_600;
const SECONDS_PER_MINUTE: i64 = 60;

/// A proven caller, and what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its principal, or its label as records have it.
    pub actor: String,
    /// The cluster that it is of; empty for an administrator.
    pub scope: String,
    /// What it asked for.
    pub detail: Value,
}

impl Asker {
    /// A caller of whose request nothing is known yet.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        let (identity, pattern) = match &caller.identity {
            Identity::Exactly(id) => (Some(id.to_string()), None),
            Identity::OneOf(pattern) => (None, Some(pattern.to_string())),
        };
        Self {
            actor: caller.label(),
            scope: caller.cluster.name.to_string(),
            detail: json!({
                "cluster": caller.cluster.name, "identity": identity, "enrolment_pattern": pattern,
                "proof": caller.proof.kind(),
            }),
        }
    }

    /// The same, with what its request says: enough for a policy to decide again.
    #[must_use]
    pub(super) fn asking(request: &IssueRequest, csr: Option<&VerifiedCsr>) -> Self {
        let mut asker = Self::of(&request.caller);
        let (ttl, exactly) = match request.ttl {
            AskedTtl::Default => (None, None),
            AskedTtl::Exactly(ttl) => (Some(ttl), Some(true)),
            AskedTtl::AtMost(ttl) => (Some(ttl), Some(false)),
        };
        let detail = &mut asker.detail;
        detail["profile"] = request.profile.as_str().into();
        detail["ttl"] = json!(ttl);
        detail["exactly"] = json!(exactly);
        if let Some(csr) = csr {
            let names: Vec<_> = csr.alt_names().iter().map(ToString::to_string).collect();
            let purposes: Vec<_> = csr.purposes().iter().map(ToString::to_string).collect();
            detail["asked_names"] = json!(names);
            detail["common_names"] = json!(csr.common_names());
            detail["purposes"] = json!(purposes);
            detail["authority"] = csr.asks_for_authority().into();
            detail["key"] = csr.key().algorithm().to_string().into();
        }
        asker
    }
}

/// A call that was refused.
#[derive(Debug)]
pub struct Refused<'a> {
    /// Which call.
    pub call: &'static str,
    /// Why; who asked is in it, where that was proven.
    pub error: &'a Error,
    /// The address that it came from.
    pub remote: String,
    /// Its id in logs.
    pub request_id: &'a str,
}

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    state: Mutex<State>,
    /// One that writes at a time: batches stay in order.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<NewAudit>,
    callers: HashMap<(String, String), Hour>,
    anonymous: BTreeMap<&'static str, u64>,
    /// The minute that the anonymous are counted in.
    minute: i64,
}

/// A caller's refusals since the hour began.
#[derive(Debug)]
struct Hour {
    hour: i64,
    written: u32,
    rest: BTreeMap<&'static str, u64>,
}

/// What became of a refusal, for the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Anonymous,
    Suppressed,
    Written,
}

impl Kept {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Suppressed => "suppressed",
            Self::Written => "written",
        }
    }
}

impl State {
    fn take(&mut self, refused: &Refused<'_>, now: Timestamp) -> Kept {
        let reason = refused.error.reason();
        let Some(asker) = refused.error.asker() else {
            *self.anonymous.entry(reason).or_default() += 1;
            return Kept::Anonymous;
        };
        let mut who = (asker.scope.clone(), asker.actor.clone());
        if self.callers.len() >= CALLERS_MAX && !self.callers.contains_key(&who) {
            who = (String::new(), "others".to_owned());
        }
        let hour = now.unix() / SECONDS_PER_HOUR;
        let bound = self.callers.entry(who).or_insert_with(|| Hour {
            hour,
            written: 0,
            rest: BTreeMap::new(),
        });
        if bound.written >= EACH_HOUR || self.waiting.len() >= WAITING_MAX {
            *bound.rest.entry(reason).or_default() += 1;
            return Kept::Suppressed;
        }
        bound.written += 1;
        let mut detail = asker.detail.clone();
        detail["call"] = refused.call.into();
        detail["reason"] = reason.into();
        detail["text"] = refused.error.to_string().into();
        let actor = Actor {
            name: asker.actor.clone(),
            remote: refused.remote.clone(),
            rule: reason.to_owned(),
            request_id: refused.request_id.to_owned(),
        };
        let kind = format!("refusal.{reason}");
        self.waiting.push_back(actor.did(now, &kind, &detail));
        Kept::Written
    }

    /// Turns counts whose time is over into entries; all of them with `whole`.
    fn close(&mut self, now: Timestamp, whole: bool) {
        let minute = now.unix() / SECONDS_PER_MINUTE;
        if (whole || minute != self.minute) && !self.anonymous.is_empty() {
            let detail = json!({ "counts": std::mem::take(&mut self.anonymous) });
            let entry = Actor::itself("server").did(now, "refusal.anonymous", &detail);
            self.waiting.push_back(entry);
        }
        self.minute = minute;
        let hour = now.unix() / SECONDS_PER_HOUR;
        let waiting = &mut self.waiting;
        self.callers.retain(|(scope, actor), bound| {
            if !whole && bound.hour == hour {
                return true;
            }
            if !bound.rest.is_empty() {
                let detail = json!({ "cluster": scope, "counts": bound.rest });
                let entry = Actor::local(actor.clone()).did(now, "refusal.suppressed", &detail);
                waiting.push_back(NewAudit {
                    remote: String::new(),
                    rule: "suppressed".to_owned(),
                    ..entry
                });
            }
            false
        });
    }
}

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error is a refusal: what is away, or is our own fault, refuses nobody.
const fn is_refusal(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Internal | ErrorKind::Unavailable => false,
        ErrorKind::Conflict
        | ErrorKind::Denied
        | ErrorKind::Exhausted
        | ErrorKind::Malformed
        | ErrorKind::NotFound
        | ErrorKind::Unauthenticated => true,
    }
}

impl App {
    /// Takes note of a refusal; it is written into the audit trail within a second. Every transport calls it once for each
    /// call that it refuses.
    pub fn note_refusal(&self, refused: &Refused<'_>) {
        if !is_refusal(refused.error.kind()) {
            return;
        }
        let now = self.context.clock.untrusted_now();
        let kept = self.refusals.lock().take(refused, now);
        self.metrics.refusal_kept(kept.as_str());
    }

    /// Writes what waits; with `whole` the counts of the minute and the hour that are not over, too.
    ///
    /// # Errors
    /// When the store is away or the trail cannot go on; what waits is kept.
    pub async fn write_refusals(&self, whole: bool) -> Result<(), Error> {
        let _one_at_a_time = self.refusals.writing.lock().await;
        let now = self.context.clock.untrusted_now();
        self.refusals.lock().close(now, whole);
        loop {
            let batch: Vec<NewAudit> = {
                let state = self.refusals.lock();
                state.waiting.iter().take(BATCH).cloned().collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            self.context.store.append_audit(&batch).await?;
            self.refusals.lock().waiting.drain(..batch.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix(1_795_575_180);

    fn refused(error: &Error) -> Refused<'_> {
        Refused {
            call: "sign",
            error,
            remote: "192.0.2.1:5".to_owned(),
            request_id: "r1",
        }
    }

    fn by(actor: &str) -> Error {
        Error::new(ErrorKind::Malformed, "policy", "no").asked_by(|| Asker {
            actor: actor.to_owned(),
            scope: "central".to_owned(),
            detail: json!({ "cluster": "central" }),
        })
    }

    fn kinds(state: &State) -> Vec<&str> {
        let kinds = state.waiting.iter().map(|entry| entry.kind.as_str());
        kinds.collect()
    }

    #[test]
    fn a_callers_first_are_written_and_its_rest_is_counted() {
        let mut state = State::default();
        let (noisy, quiet) = (by("sa:a/noisy"), by("sa:a/quiet"));
        for n in 0..30 {
            let kept = state.take(&refused(&noisy), NOW);
            assert_eq!(kept == Kept::Written, n < 20, "{n}");
        }
        // Its neighbour has a bound of its own.
        assert_eq!(state.take(&refused(&quiet), NOW), Kept::Written);
        assert_eq!(state.waiting.len(), 21);
        let first = &state.waiting[0];
        assert_eq!(
            (first.kind.as_str(), first.rule.as_str()),
            ("refusal.policy", "policy")
        );
        assert_eq!(first.remote, "192.0.2.1:5");
        let detail: Value = serde_json::from_str(&first.detail).unwrap();
        assert_eq!(detail["call"], "sign");
        assert_eq!(detail["cluster"], "central");

        state.waiting.clear();
        state.close(NOW, false);
        assert!(state.waiting.is_empty(), "the hour is not over");
        let next = Timestamp::from_unix(NOW.unix() + 3_600);
        state.close(next, false);
        assert_eq!(kinds(&state), ["refusal.suppressed"]);
        assert_eq!(state.waiting[0].actor, "sa:a/noisy");
        assert!(state.waiting[0].detail.contains(r#"{"policy":10}"#));
        assert_eq!(state.take(&refused(&noisy), next), Kept::Written);
    }

    #[test]
    fn strangers_are_counted_a_minute_at_a_time() {
        let mut state = State::default();
        state.close(NOW, false);
        let error = Error::new(ErrorKind::Unauthenticated, "signature", "no");
        for _ in 0..1_000 {
            assert_eq!(state.take(&refused(&error), NOW), Kept::Anonymous);
        }
        state.close(NOW, false);
        assert!(state.waiting.is_empty(), "the minute is not over");
        state.close(Timestamp::from_unix(NOW.unix() + 60), false);
        assert_eq!(kinds(&state), ["refusal.anonymous"]);
        assert_eq!(state.waiting[0].detail, r#"{"counts":{"signature":1000}}"#);
        state.close(Timestamp::from_unix(NOW.unix() + 120), true);
        assert_eq!(state.waiting.len(), 1, "a minute without any has no entry");
    }

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let mut state = State::default();
        for n in 0..CALLERS_MAX + 50 {
            state.take(&refused(&by(&format!("sa:a/{n}"))), NOW);
        }
        assert_eq!(state.callers.len(), CALLERS_MAX + 1);
        assert_eq!(state.waiting.len(), WAITING_MAX);
        // Nothing is lost without a count.
        state.waiting.clear();
        state.close(NOW, true);
        let counted: u64 = state
            .waiting
            .iter()
            .map(|entry| serde_json::from_str::<Value>(&entry.detail).unwrap())
            .filter_map(|detail| detail["counts"]["policy"].as_u64())
            .sum();
        assert_eq!(
            usize::try_from(counted).unwrap(),
            CALLERS_MAX + 50 - WAITING_MAX
        );
    }

    #[test]
    fn a_fault_of_ours_is_no_refusal() {
        assert!(!is_refusal(ErrorKind::Internal));
        assert!(!is_refusal(ErrorKind::Unavailable));
        assert!(is_refusal(ErrorKind::Denied));
    }
}
