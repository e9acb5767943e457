//! The audit trail as a whole: chains tell of each other each minute, and `verify` shows that none was changed, thinned or
//! cut.

mod evidence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use pki::audit::{Fault, KIND_HEADS, Mark, Walk, Why, links, links_detail};
use serde_json::json;

pub use evidence::verify_records;

use super::{Actor, App, Context, Error, ErrorKind};
use crate::store::Store;
use crate::store::model::{AuditHead, AuditRow, NewAudit};
use evidence::{InForce, Told, verify_revocations};

/// Entries that are read at a time.
const PAGE: u32 = 500;
/// Faults that are named; those above them are counted.
const FAULTS_MAX: usize = 200;

impl App {
    /// Writes down where other replicas' chains end, where they tell of something new, and remembers where all end. What is
    /// new is an entry that tells of more than heads: two replicas at rest write nothing.
    ///
    /// # Errors
    /// When the store is away, a chain has gone back, or this replica's cannot go on.
    pub async fn link_chains(&self) -> Result<(), Error> {
        let store = &self.context.store;
        let heads = store.audit_heads().await?;
        self.watch_chains(&heads)?;
        let auditor = store.auditor()?;
        let mut told = Vec::new();
        for head in &heads {
            let replica = &head.mark.replica;
            if !auditor.has_sealed(head) {
                tracing::error!(
                    replica,
                    "an audit chain's head was rewritten by someone who does not have the installation's keys"
                );
            } else if replica != auditor.replica().as_str() && self.is_news(&head.mark).await? {
                told.push(head.mark.clone());
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        let now = self.context.clock.untrusted_now();
        let entry = NewAudit {
            detail: links_detail(&told),
            ..Actor::itself("server").did(now, KIND_HEADS, &json!({}))
        };
        store.append_audit(&[entry]).await?;
        let mut linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
        linked.extend(told.into_iter().map(|mark| (mark.replica.clone(), mark)));
        Ok(())
    }

    async fn is_news(&self, head: &Mark) -> Result<bool, Error> {
        let before = {
            let linked = self.linked.lock().unwrap_or_else(PoisonError::into_inner);
            linked.get(&head.replica).cloned()
        };
        let Some(before) = before else {
            return Ok(true);
        };
        let (store, from) = (&self.context.store, before.position + 1);
        let since = store.audit_entries(&head.replica, from, PAGE).await?;
        let told = since
            .iter()
            .take_while(|entry| entry.position <= head.position);
        let heads_alone = told.clone().all(|entry| entry.kind == KIND_HEADS);
        Ok(!heads_alone || told.count() == PAGE as usize)
    }

    /// Writes down that this server has started: a chain has an entry as long as its replica has run.
    pub async fn note_start(&self) {
        let now = self.context.clock.untrusted_now();
        let detail =
            json!({ "version": env!("CARGO_PKG_VERSION"), "instance": self.context.instance });
        let start = Actor::itself("server").did(now, "server.start", &detail);
        if let Err(error) = self.context.store.append_audit(&[start]).await {
            let error = Error::from(error);
            tracing::error!(error = %error.detail(), "the audit trail does not take entries");
        }
    }
}

/// Begins the trail of an installation that is older than it: with what is in force now, whoever put it there.
///
/// # Errors
/// When the store is away.
pub async fn begin(context: &Context) -> Result<(), Error> {
    let store = &context.store;
    if !store.audit_heads().await?.is_empty() {
        return Ok(());
    }
    let InForce {
        clusters,
        authorities,
        bundles,
        // Roles are as old as the trail.
        bindings: _,
    } = InForce::read(store).await?;
    if clusters.is_empty() && authorities.is_empty() && bundles.is_empty() {
        return Ok(());
    }
    let stock = evidence::stock(&clusters, &authorities, &bundles)?;
    let now = context.clock.untrusted_now();
    let entry = Actor::itself("server").did(now, "audit.begin", &stock);
    Ok(store.append_audit(&[entry]).await?)
}

/// Compares entries with what was remembered of them.
///
/// # Errors
/// `rollback` for the first that is gone or is another one, or when the store is away.
pub async fn compare(store: &Store, remembered: &[Mark]) -> Result<(), Error> {
    for mark in remembered {
        if let Some(fault) = differs(store, mark, "store.watermark_file").await? {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "rollback",
                format!(
                    "the store has gone back: {fault}. Restore a newer copy, or take this one: ca-server store accept"
                ),
            ));
        }
    }
    Ok(())
}

async fn differs(store: &Store, mark: &Mark, by: &str) -> Result<Option<Fault>, Error> {
    let found = store.audit_entries(&mark.replica, mark.position, 1).await?;
    let found = found.iter().find(|entry| entry.position == mark.position);
    Ok(mark.compare(found.map(|entry| &entry.hash), by).err())
}

/// What a look at the whole trail found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Each chain, with how many entries it should have.
    pub chains: BTreeMap<String, u64>,
    /// How often one chain told of another's head.
    pub links: u64,
    /// How many heads were remembered outside of the store.
    pub remembered: usize,
    /// What is wrong, by chain and place, up to some two hundred.
    pub faults: Vec<Fault>,
    /// What the store has that the trail does not know of, or knows otherwise.
    pub contradictions: Vec<String>,
    /// How many more faults and contradictions there are.
    pub more_faults: u64,
}

impl Findings {
    /// Whether the trail is whole. One without any chain is not: it never was without one.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.contradictions.is_empty() && !self.chains.is_empty()
    }

    /// Adds a fault; above two hundred they are only counted.
    pub fn add(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.more_faults += 1;
        }
    }

    fn contradict(&mut self, what: String) {
        if self.contradictions.len() < FAULTS_MAX {
            self.contradictions.push(what);
        } else {
            self.more_faults += 1;
        }
    }
}

/// Reads the whole trail, holds what is in force against it, and checks each chain, its head's seal, what chains say of each other, and what was remembered
/// elsewhere. Its memory does not depend on how long the trail is. Servers may go on writing meanwhile: what comes after it
/// began is not looked at.
///
/// # Errors
/// When the store is away.
pub async fn verify(context: &Context, remembered: &[Mark]) -> Result<Findings, Error> {
    let store = &context.store;
    let auditor = store.auditor()?;
    // In this order: what is in force now was told of by then, and every entry up to the heads is there.
    let in_force = InForce::read(store).await?;
    let heads = store.audit_heads().await?;
    let mut findings = Findings {
        remembered: remembered.len(),
        ..Findings::default()
    };
    let mut told = Told::default();
    let mut replicas: BTreeSet<String> = store.audit_replicas().await?.into_iter().collect();
    replicas.extend(heads.iter().map(|head| head.mark.replica.clone()));
    for replica in replicas {
        let head = heads.iter().find(|head| head.mark.replica == replica);
        if let Some(head) = head.filter(|head| !auditor.has_sealed(head)) {
            findings.add(Fault::new(&replica, head.mark.position, Why::NotSealed));
        }
        verify_chain(store, &replica, head, &mut told, &mut findings).await?;
    }
    if !findings.chains.is_empty() {
        told.compare(&in_force, &mut findings);
    }
    for mark in remembered {
        if let Some(fault) = differs(store, mark, "store.watermark_file").await? {
            findings.add(fault);
        }
    }
    findings.faults.sort_by(|a, b| {
        (&a.replica, a.position, a.why.to_string()).cmp(&(
            &b.replica,
            b.position,
            b.why.to_string(),
        ))
    });
    findings.faults.dedup();
    Ok(findings)
}

async fn verify_chain(
    store: &Store,
    replica: &str,
    head: Option<&AuditHead>,
    told: &mut Told,
    findings: &mut Findings,
) -> Result<(), Error> {
    let mut walk = Walk::of(replica);
    let end = head.map(|head| head.mark.position);
    let mut last = None;
    loop {
        let from = last.map_or(0, |last: u64| last + 1);
        let page = store.audit_entries(replica, from, PAGE).await?;
        let Some(newest) = page.last() else { break };
        last = Some(newest.position);
        let mut is_over = false;
        for entry in &page {
            if end.is_some_and(|end| entry.position > end) {
                is_over = true;
                break;
            }
            if let Err(fault) = walk.take(entry) {
                findings.add(fault);
            }
            told.hear(entry);
            verify_links(store, entry, findings).await?;
            verify_revocations(store, entry, findings).await?;
        }
        if is_over {
            break;
        }
    }
    findings.chains.insert(replica.to_owned(), walk.next());
    let Some(head) = head else {
        // Its first entry may have been written since the heads were read.
        if find_head(store, replica).await?.is_none() {
            findings.add(Fault::new(replica, walk.next(), Why::NoHead));
        }
        return Ok(());
    };
    if let Err(fault) = walk.end(&head.mark) {
        findings.add(fault);
    }
    // What lies past the head was written since, or the head has not been told of it.
    let beyond = store
        .audit_entries(replica, head.mark.position + 1, 1)
        .await?;
    if let Some(entry) = beyond.first() {
        let now = find_head(store, replica).await?;
        if now.is_none_or(|now| now.mark.position < entry.position) {
            findings.add(Fault::new(replica, entry.position, Why::Beyond));
        }
    }
    Ok(())
}

async fn find_head(store: &Store, replica: &str) -> Result<Option<AuditHead>, Error> {
    let heads = store.audit_heads().await?;
    Ok(heads.into_iter().find(|head| head.mark.replica == replica))
}

async fn verify_links(
    store: &Store,
    entry: &AuditRow,
    findings: &mut Findings,
) -> Result<(), Error> {
    match links(entry) {
        Ok(marks) => {
            for mark in marks {
                findings.links += 1;
                let by = format!("{}, position {},", entry.replica, entry.position);
                if let Some(fault) = differs(store, &mark, &by).await? {
                    findings.add(fault);
                }
            }
        }
        Err(fault) => findings.add(fault),
    }
    Ok(())
}
