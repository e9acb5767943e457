//! What is in force, held against the trail: who has the database alone can put rows into it, but not the entries that say who
//! put them there. And records, held against the certificates that they are of, which nobody else can have signed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pki::audit::Entry;
use pki::certificate::Certificate;
use pki::crypto::{hex, sha256};
use pki::key::PublicKey;
use pki::log::Issued;
use pki::name::{AuthorityId, ClusterName};
use pki::serial::Serial;
use pki::time::{Timestamp, Ttl};
use serde_json::{Value, json};

use super::Findings;
use crate::app::{Context, Error};
use crate::store::Store;
use crate::store::administrators::BindingRow;
use crate::store::model::{
    AuthorityRow, AuthorityState, BundleRow, ClusterRow, RecordFilter, StoredRecord,
};

/// By how much the clocks of two replicas may differ: of two entries that are nearer, either may be the later one.
const CLOCKS_DIFFER: Ttl = Ttl::minutes(1);
/// The number of the CRLReason certificateHold.
const HOLD: u8 = 6;

/// What the trail says of what is in force: as much as there are things to administer, however long the trail is.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Clusters' definitions, the latest and what may be later.
    definitions: BTreeMap<String, Vec<(Timestamp, Value)>>,
    /// Authorities with the certificates that were imported for them.
    imported: BTreeSet<(String, String)>,
    activated: BTreeSet<String>,
    revoked: BTreeSet<String>,
    /// Role bindings as they were given; `None` for those that were taken.
    roles: BTreeMap<String, Option<(String, String, Value)>>,
    /// Roots with when each was last added and last removed.
    roots: BTreeMap<(String, String), (Timestamp, Option<Timestamp>)>,
}

impl Told {
    /// Takes an entry into account.
    pub(super) fn hear(&mut self, entry: &Entry) {
        if !matches!(
            entry.kind.split('.').next(),
            Some("audit" | "authority" | "cluster" | "role" | "root")
        ) {
            return;
        }
        let Ok(detail) = serde_json::from_str::<Value>(&entry.detail) else {
            return;
        };
        let text = |key: &str| detail[key].as_str().unwrap_or_default().to_owned();
        match entry.kind.as_str() {
            "audit.begin" => self.take_stock(&detail, entry.at),
            "cluster.apply" => self.define(text("cluster"), detail["definition"].clone(), entry.at),
            "authority.import" => {
                let imported = (text("authority"), text("certificate_sha256"));
                self.imported.insert(imported);
            }
            "authority.activate" => {
                self.activated.insert(text("authority"));
            }
            "authority.revoke" => {
                self.revoked.insert(text("authority"));
            }
            // Ids are drawn at random and never given again: taken is taken, whichever entry is read first.
            "role.bind" => {
                let given = (text("principal"), text("role"), detail["clusters"].clone());
                self.roles.entry(text("id")).or_insert(Some(given));
            }
            "role.unbind" => {
                self.roles.insert(text("id"), None);
            }
            "root.add" => {
                let root = (text("trust_domain"), text("sha256"));
                self.add_root(root, entry.at);
            }
            "root.remove" => {
                let root = (text("trust_domain"), text("sha256"));
                if let Some((_, removed)) = self.roots.get_mut(&root) {
                    *removed = (*removed).max(Some(entry.at));
                }
            }
            _ => {}
        }
    }

    fn define(&mut self, cluster: String, definition: Value, at: Timestamp) {
        let told = self.definitions.entry(cluster).or_default();
        told.push((at, definition));
        let latest = told.iter().map(|(at, _)| *at).max().unwrap_or(at);
        told.retain(|(at, _)| at.plus(CLOCKS_DIFFER) >= latest);
    }

    fn add_root(&mut self, root: (String, String), at: Timestamp) {
        let known = self.roots.entry(root).or_insert((at, None));
        known.0 = known.0.max(at);
    }

    /// What was there when the trail began.
    fn take_stock(&mut self, stock: &Value, at: Timestamp) {
        let pairs = |key: &str| -> Vec<(String, Value)> {
            let object = stock[key].as_object().cloned().unwrap_or_default();
            object.into_iter().collect()
        };
        for (cluster, definition) in pairs("clusters") {
            self.define(cluster, definition, at);
        }
        for (authority, it) in pairs("authorities") {
            let word = |key: &str| it[key].as_str().unwrap_or_default();
            let certificate = word("certificate_sha256").to_owned();
            match word("state") {
                "active" | "retiring" => _ = self.activated.insert(authority.clone()),
                "revoked" => _ = self.revoked.insert(authority.clone()),
                _ => {}
            }
            self.imported.insert((authority, certificate));
        }
        for (trust_domain, digests) in pairs("roots") {
            for digest in digests.as_array().into_iter().flatten() {
                let digest = digest.as_str().unwrap_or_default().to_owned();
                self.add_root((trust_domain.clone(), digest), at);
            }
        }
    }

    /// Compares what is in force with what was told of it.
    pub(super) fn compare(&self, in_force: &InForce, findings: &mut Findings) {
        for row in &in_force.clusters {
            let definition: Value = serde_json::from_str(&row.definition).unwrap_or_default();
            let told = self.definitions.get(row.name.as_str());
            if !told.is_some_and(|told| told.iter().any(|(_, it)| *it == definition)) {
                let name = &row.name;
                findings.contradict(format!("cluster {name}: nobody put it in force as it is"));
            }
        }
        for row in &in_force.authorities {
            if let Some(why) = self.why_not(row) {
                findings.contradict(format!("authority {}: {why}", row.id));
            }
        }
        for row in &in_force.bindings {
            let held = (
                row.principal.clone(),
                row.role.to_string(),
                json!(row.scope.clusters()),
            );
            if self.roles.get(&row.id) != Some(&Some(held)) {
                let (id, principal) = (&row.id, &row.principal);
                findings.contradict(format!(
                    "role binding {id} of {principal}: nobody gave it as it is, or it was taken"
                ));
            }
        }
        for bundle in &in_force.bundles {
            for der in &bundle.roots {
                let digest = hex(&sha256(der));
                let root = (bundle.trust_domain.to_string(), digest);
                let known = self.roots.get(&root);
                if !known.is_some_and(|(added, removed)| {
                    removed.is_none_or(|removed| added.plus(CLOCKS_DIFFER) >= removed)
                }) {
                    findings.contradict(format!(
                        "the bundle of {}: nobody had it believe in the root {}",
                        root.0, root.1
                    ));
                }
            }
        }
    }

    fn why_not(&self, row: &AuthorityRow) -> Option<&'static str> {
        use AuthorityState as S;
        let id = row.id.to_string();
        if let Some(der) = row.chain.first()
            && !self.imported.contains(&(id.clone(), hex(&sha256(der))))
        {
            return Some("nobody imported its certificate");
        }
        let was_revoked = self.revoked.contains(&id);
        match row.state {
            S::Active | S::Retiring if !self.activated.contains(&id) => Some("nobody activated it"),
            S::Retired => None,
            S::Revoked if !was_revoked => Some("nobody revoked it"),
            S::Revoked => None,
            _ if was_revoked => Some("it was revoked, and its row does not say so"),
            _ => None,
        }
    }
}

/// Holds what an entry says was revoked against the records: nothing becomes good again but what was on hold.
pub(super) async fn verify_revocations(
    store: &Store,
    entry: &Entry,
    findings: &mut Findings,
) -> Result<(), Error> {
    if entry.kind != "certificate.revoke" {
        return Ok(());
    }
    let detail: Value = serde_json::from_str(&entry.detail).unwrap_or_default();
    let many = detail["serials"].as_array().into_iter().flatten();
    let serials = many.chain(detail.get("serial"));
    for serial in serials.filter_map(Value::as_str) {
        let Ok(serial) = serial.parse::<Serial>() else {
            continue;
        };
        // What has left the record is revoked as far as anyone who asks can tell: it is unknown, or over.
        if let Some(stored) = store.record(&serial).await?
            && stored.revoked.is_none_or(|(_, reason)| reason == HOLD)
        {
            findings.contradict(format!(
                "certificate {serial}: it was revoked ({}, position {}), and the store does not say so",
                entry.replica, entry.position
            ));
        }
    }
    Ok(())
}

/// What is in force in the store.
pub(super) struct InForce {
    pub(super) clusters: Vec<ClusterRow>,
    pub(super) authorities: Vec<AuthorityRow>,
    pub(super) bundles: Vec<BundleRow>,
    pub(super) bindings: Vec<BindingRow>,
}

impl InForce {
    pub(super) async fn read(store: &Store) -> Result<Self, Error> {
        Ok(Self {
            clusters: store.clusters().await?,
            authorities: store.authorities().await?,
            bundles: store.bundles().await?,
            bindings: store.bindings().await?,
        })
    }
}

/// What there is, for the first entry of a trail that begins in an installation that is older.
pub(super) fn stock(
    clusters: &[ClusterRow],
    authorities: &[AuthorityRow],
    bundles: &[BundleRow],
) -> Result<Value, Error> {
    let definition = |row: &ClusterRow| {
        let read = serde_json::from_str(&row.definition).map_err(Error::internal)?;
        Ok((row.name.to_string(), read))
    };
    let definitions: Result<serde_json::Map<_, _>, Error> =
        clusters.iter().map(definition).collect();
    let authority = |row: &AuthorityRow| {
        let certificate = row.chain.first().map(|der| hex(&sha256(der)));
        let it = json!({ "state": row.state.as_str(), "certificate_sha256": certificate });
        (row.id.to_string(), it)
    };
    let authorities: serde_json::Map<_, _> = authorities.iter().map(authority).collect();
    let roots = |row: &BundleRow| {
        let digests: Vec<_> = row.roots.iter().map(|der| hex(&sha256(der))).collect();
        (row.trust_domain.to_string(), json!(digests))
    };
    let roots: serde_json::Map<_, _> = bundles.iter().map(roots).collect();
    Ok(json!({ "clusters": definitions?, "authorities": authorities, "roots": roots }))
}

/// An authority, as far as records are held against it.
struct Signer {
    cluster: ClusterName,
    key: PublicKey,
}

/// Holds each record of a certificate that lives against the certificate itself, and that against its authority's key. Tells
/// how many there were.
///
/// # Errors
/// When the store is away.
pub async fn verify_records(context: &Context, findings: &mut Findings) -> Result<u64, Error> {
    let mut signers = HashMap::new();
    for row in context.store.authorities().await? {
        let own = row.chain.first().map(|der| Certificate::parse(der));
        if let Some(Ok(own)) = own
            && let Ok(key) = own.public_key()
        {
            let cluster = row.cluster;
            signers.insert(row.id, Signer { cluster, key });
        }
    }
    let mut filter = RecordFilter {
        limit: RecordFilter::LIMIT_MAX,
        ..RecordFilter::live(context.clock.untrusted_now())
    };
    let mut count = 0;
    loop {
        let page = context.store.search(&filter).await?;
        for stored in &page.records {
            count += 1;
            if let Some(why) = what_is_wrong(stored, &signers) {
                findings.contradict(format!("certificate {}: {why}", stored.record.serial));
            }
        }
        if page.next.is_none() {
            return Ok(count);
        }
        filter.after = page.next;
    }
}

fn what_is_wrong(
    stored: &StoredRecord,
    signers: &HashMap<AuthorityId, Signer>,
) -> Option<&'static str> {
    let record = &stored.record;
    let Some(signer) = signers.get(&record.authority) else {
        return Some("there is no such authority");
    };
    let Ok(certificate) = Certificate::parse(&record.der) else {
        return Some("what is on record is no certificate");
    };
    if certificate.verify_by(&signer.key).is_err() {
        return Some("its authority did not sign what is on record");
    }
    let on_record: BTreeSet<&str> = record.names.iter().map(String::as_str).collect();
    let names = certificate.alt_names().iter().map(ToString::to_string);
    let names: BTreeSet<_> = names.collect();
    let same = certificate.serial() == record.serial
        && certificate.not_before() == record.not_before
        && certificate.not_after() == record.not_after
        && certificate.digest() == record.certificate_digest
        && sha256(certificate.spki()) == record.key_digest
        && names.iter().map(String::as_str).collect::<BTreeSet<_>>() == on_record;
    if !same {
        return Some("the record is not of the certificate that is kept with it");
    }
    if record.cluster != signer.cluster {
        return Some("its cluster is not its authority's");
    }
    let leaf = Issued {
        issued_at: record.issued_at,
        authority: &record.authority,
        serial: record.serial,
        not_before: record.not_before,
        not_after: record.not_after,
        certificate: record.certificate_digest,
        request: record.request_digest,
        key: record.key_digest,
        profile: record.profile.as_str(),
        caller: &record.caller,
        names: &record.names,
    };
    (leaf.leaf_hash() != record.leaf_hash).then_some("its entry in the issuance log is another one")
}
