//! What the public listener serves of certificate status, ready to send.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pki::certificate::Certificate;
use pki::crl::Crl;
use pki::crypto::{self, Digest};
use pki::name::AuthorityId;
use pki::time::Timestamp;

use crate::app::state::Snapshot;
use crate::store::model::CrlRow;

/// Bytes with what HTTP says of them.
#[derive(Clone, Debug)]
pub struct Document {
    /// The bytes.
    pub body: Bytes,
    /// Their digest as an entity tag (RFC 9110 §8.8.3), quotes included.
    pub etag: String,
    /// Their media type.
    pub content_type: &'static str,
    /// When they were made; `None` where the second does not tell one version from the next.
    pub last_modified: Option<Timestamp>,
    /// When they are of no use any more.
    pub expires: Option<Timestamp>,
    /// Whether two versions may say that they were made at the same second.
    pub changes_within_a_second: bool,
}

impl Document {
    /// Names `body` by its digest.
    #[must_use]
    pub fn new(
        body: Vec<u8>,
        content_type: &'static str,
        last_modified: Option<Timestamp>,
        expires: Option<Timestamp>,
    ) -> Self {
        Self {
            etag: format!("\"{}\"", crypto::hex(&crypto::sha256(&body)[..16])),
            body: body.into(),
            content_type,
            last_modified,
            expires,
            changes_within_a_second: false,
        }
    }
}

/// RFC 2585 §4.2.
pub(crate) const PKIX_CRL: &str = "application/pkix-crl";
/// No standard names it; this is what servers send.
pub(crate) const PEM: &str = "application/x-pem-file";
/// RFC 2585 §4.1.
pub(crate) const PKIX_CERT: &str = "application/pkix-cert";

/// An authority's latest CRL.
#[derive(Debug)]
pub struct ServedCrl {
    /// Its number.
    pub number: u64,
    /// The log index that it covers.
    pub covers: Option<u64>,
    /// When it was made, as it says.
    pub this_update: Timestamp,
    /// When its successor is out at the latest.
    pub next_update: Timestamp,
    /// How many certificates it lists.
    pub entries: usize,
    /// The complete list.
    pub complete: Document,
    /// Shards and delta, by name.
    pub parts: HashMap<String, Document>,
}

impl ServedCrl {
    pub(super) fn new(row: CrlRow) -> Arc<Self> {
        let document =
            |der| Document::new(der, PKIX_CRL, Some(row.this_update), Some(row.next_update));
        let entries = Crl::parse(&row.der).map_or(0, |crl| crl.revoked().len());
        Arc::new(Self {
            number: row.number,
            covers: row.covers,
            this_update: row.this_update,
            next_update: row.next_update,
            entries,
            complete: document(row.der),
            parts: row
                .parts
                .into_iter()
                .map(|(part, der)| (part, document(der)))
                .collect(),
        })
    }
}

/// Everything that is served, of one moment.
#[derive(Debug)]
pub struct ServedSet {
    /// The snapshot's sequence that it belongs to.
    pub sequence: u64,
    /// Each authority's CRL.
    pub crls: HashMap<AuthorityId, Arc<ServedCrl>>,
    /// `ca-crl.pem`: the CRL of every root and of every intermediate.
    pub full: Result<Document, Incomplete>,
    /// The CAs above ours, by name.
    pub above: HashMap<String, ServedCa>,
    /// When it was put together.
    pub(super) gathered_at: Timestamp,
}

/// A CA above ours, which stays offline: what it would serve itself.
#[derive(Debug)]
pub struct ServedCa {
    /// Its certificate.
    pub certificate: Document,
    /// Its CRL, once it was imported.
    pub crl: Option<Document>,
}

/// What a CA above ours is called in URLs and metrics: its key's digest, so that it has one name however often it is
/// certified. No authority of ours has such an id: generations have ten digits at most.
#[must_use]
pub fn name_above(key: &Digest) -> String {
    format!("ca-{}", crypto::hex(&key[..8]))
}

/// Why there is no full set. Part of one would break every connection through the CAs that it lacks (Envoy refuses a peer
/// unless it has a CRL for each CA of the chain), so it is not served.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the set of CRLs is not complete, and part of one would break connections; missing or expired: {}", .0.join(", "))]
pub struct Incomplete(pub Vec<String>);

impl Default for ServedSet {
    fn default() -> Self {
        Self {
            sequence: 0,
            crls: HashMap::new(),
            full: Err(Incomplete::default()),
            above: HashMap::new(),
            gathered_at: Timestamp::EPOCH,
        }
    }
}

impl ServedSet {
    /// Puts the full set together from the authorities' CRLs and what came back from the roots' ceremonies.
    pub(super) fn gather(
        crls: HashMap<AuthorityId, Arc<ServedCrl>>,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Self {
        let above_ours = above(snapshot, now);
        let full = full(&crls, snapshot, &above_ours, now);
        let served = above_ours.iter().map(|ca| {
            let key = crypto::sha256(ca.spki());
            let crl = snapshot.root_crls.get(&key).map(|row| {
                let (made, ends) = (Some(row.this_update), Some(row.next_update));
                Document::new(row.der.clone(), PKIX_CRL, made, ends)
            });
            let (made, ends) = (Some(ca.not_before()), Some(ca.not_after()));
            let certificate = Document::new(ca.der().to_vec(), PKIX_CERT, made, ends);
            (name_above(&key), ServedCa { certificate, crl })
        });
        Self {
            sequence: snapshot.sequence,
            above: served.collect(),
            crls,
            full,
            gathered_at: now,
        }
    }

    /// Whether the full set is to be put together again though nothing was changed: a list in it has come to its end, or one
    /// that was missing may not be needed any more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        match &self.full {
            Ok(set) => set.expires.is_some_and(|end| end <= now),
            Err(_) => self.gathered_at != now,
        }
    }
}

fn full(
    crls: &HashMap<AuthorityId, Arc<ServedCrl>>,
    snapshot: &Snapshot,
    above: &[&Certificate],
    now: Timestamp,
) -> Result<Document, Incomplete> {
    let mut pem = String::new();
    let mut missing = Vec::new();
    let mut ends = None::<Timestamp>;
    let mut ours: Vec<_> = snapshot
        .authorities
        .iter()
        .filter(|authority| authority.answers(now))
        .collect();
    ours.sort_by(|a, b| a.id.cmp(&b.id));
    for authority in &ours {
        let Some(crl) = crls.get(&authority.id) else {
            missing.push(format!("authority {}", authority.id));
            continue;
        };
        if crl.next_update <= now {
            missing.push(format!("authority {} (its CRL has expired)", authority.id));
        }
        pem.push_str(&pki::pem::crl(&crl.complete.body));
        ends = Some(ends.map_or(crl.next_update, |end| end.min(crl.next_update)));
    }
    for ca in above {
        let Some(row) = snapshot.root_crls.get(&crypto::sha256(ca.spki())) else {
            let words = pki::ceremony::name_words(ca.subject());
            missing.push(format!("{words} (`ca-server crl import` takes its CRL)"));
            continue;
        };
        if row.next_update <= now {
            let words = pki::ceremony::name_words(ca.subject());
            missing.push(format!("{words} (its CRL has expired)"));
        }
        pem.push_str(&pki::pem::crl(&row.der));
        ends = Some(ends.map_or(row.next_update, |end| end.min(row.next_update)));
    }
    if missing.is_empty() && !pem.is_empty() {
        Ok(Document::new(pem.into_bytes(), PEM, None, ends))
    } else {
        Err(Incomplete(missing))
    }
}

/// The CAs whose CRLs come from elsewhere: the roots that are believed in, and what stands between them and us.
fn above(snapshot: &Snapshot, now: Timestamp) -> Vec<&Certificate> {
    let ours = |ca: &Certificate| {
        let mut authorities = snapshot.authorities.iter();
        authorities.any(|authority| authority.issuer.key().spki() == ca.spki())
    };
    let chains = snapshot
        .authorities
        .iter()
        .filter(|authority| authority.answers(now))
        .flat_map(|authority| authority.chain.iter().skip(1));
    let roots = snapshot
        .bundles
        .values()
        .flat_map(|published| published.bundle.roots());
    let mut found: Vec<(Digest, &Certificate)> = chains
        .chain(roots)
        .filter(|ca| ca.not_after() > now && !ours(ca))
        .map(|ca| (crypto::sha256(ca.spki()), ca))
        .collect();
    found.sort_by_key(|(digest, _)| *digest);
    found.dedup_by_key(|(digest, _)| *digest);
    found.into_iter().map(|(_, ca)| ca).collect()
}
