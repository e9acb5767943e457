//! Entries of the audit trail: one hash chain per replica, and what shows that a chain is whole.
//!
//! An entry's hash is SHA-256 of its encoding, which is versioned and never changes once written; integers are big-endian,
//! texts are UTF-8:
//!
//! ```text
//! 13   "signet audit\0"
//! u8   version   0x01
//! u32  length, replica
//! u64  position in the replica's chain, from 0
//! u64  when, seconds since 1970
//! u32  length, kind
//! u32  length, who did it
//! u32  length, from where
//! u32  length, by which rule
//! u32  length, request id
//! u32  length, detail (JSON)
//! 32   hash of the entry before it; zeros for the first
//! ```
//!
//! The hashes alone show that nothing inside was changed, taken out or put in. That the end was not cut off is shown by the
//! sealed head (see [`Mark::message`]), by what other chains say of this one ([`links`]), and by a head that was remembered
//! elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crypto::{Digest, digest_from_hex, hex, sha256};
use crate::time::Timestamp;

const TAG: &[u8] = b"signet audit\0";
const HEAD_TAG: &[u8] = b"signet audit head\0";
const VERSION: u8 = 0x01;
/// What the first entry of a chain follows.
pub const BEGINNING: Digest = [0; 32];
/// The kind of an entry that tells of other chains' heads.
pub const KIND_HEADS: &str = "heads";

/// An entry of the trail. Its serialization is the exported line: times as RFC 3339, hashes as lower-case hexadecimal, and
/// `detail` as the text that was hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose chain.
    pub replica: String,
    /// Its place there, from 0, without gaps.
    pub position: u64,
    /// When.
    #[serde(with = "text")]
    pub at: Timestamp,
    /// What, such as `cluster.apply`.
    pub kind: String,
    /// Who.
    pub actor: String,
    /// From where.
    pub remote: String,
    /// What allowed it, or refused it.
    pub rule: String,
    /// The call's id in logs.
    pub request_id: String,
    /// The rest, as JSON.
    pub detail: String,
    /// The hash of the entry before it; [`BEGINNING`] for the first.
    #[serde(with = "digest")]
    pub previous: Digest,
    /// The hash of this one.
    #[serde(with = "digest")]
    pub hash: Digest,
}

impl Entry {
    /// The entry's octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192 + self.detail.len());
        out.extend_from_slice(TAG);
        out.push(VERSION);
        put(&mut out, &self.replica);
        out.extend(self.position.to_be_bytes());
        out.extend(self.at.unix().to_be_bytes());
        for text in [
            &self.kind,
            &self.actor,
            &self.remote,
            &self.rule,
            &self.request_id,
            &self.detail,
        ] {
            put(&mut out, text);
        }
        out.extend_from_slice(&self.previous);
        out
    }

    /// What its hash has to be.
    #[must_use]
    pub fn computed_hash(&self) -> Digest {
        sha256(&self.encode())
    }

    /// The same with the hash that belongs to it.
    #[must_use]
    pub fn hashed(mut self) -> Self {
        self.hash = self.computed_hash();
        self
    }

    /// Its place and hash.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            replica: self.replica.clone(),
            position: self.position,
            hash: self.hash,
        }
    }
}

/// No text of ours comes near 4 GiB.
fn put(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend(length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// An entry's place and hash: how a head is remembered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// Whose chain.
    pub replica: String,
    /// The entry's place there.
    pub position: u64,
    /// Its hash.
    #[serde(with = "digest")]
    pub hash: Digest,
}

impl Mark {
    /// What the seal of a head authenticates: `"signet audit head\0"`, 0x01, u32 length and replica, u64 position, hash.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(HEAD_TAG);
        out.push(VERSION);
        put(&mut out, &self.replica);
        out.extend(self.position.to_be_bytes());
        out.extend_from_slice(&self.hash);
        out
    }

    /// Compares what was remembered of an entry with what is there now.
    ///
    /// # Errors
    /// [`Why::Forgotten`] when the entry is not there, [`Why::Rewritten`] when it is another one.
    pub fn compare(&self, found: Option<&Digest>, by: &str) -> Result<(), Fault> {
        let by = by.to_owned();
        let why = match found {
            Some(hash) if *hash == self.hash => return Ok(()),
            Some(_) => Why::Rewritten { by },
            None => Why::Forgotten { by },
        };
        Err(Fault::new(&self.replica, self.position, why))
    }
}

/// The detail of an entry of kind [`KIND_HEADS`].
#[must_use]
pub fn links_detail(heads: &[Mark]) -> String {
    let heads: BTreeMap<&str, Link> = heads
        .iter()
        .map(|mark| {
            let link = Link {
                position: mark.position,
                hash: mark.hash,
            };
            (mark.replica.as_str(), link)
        })
        .collect();
    serde_json::json!({ "heads": heads }).to_string()
}

/// What an entry says of other chains' heads; nothing for one of another kind.
///
/// # Errors
/// [`Why::NoLinks`] when its detail is not what [`links_detail`] writes.
pub fn links(entry: &Entry) -> Result<Vec<Mark>, Fault> {
    #[derive(Deserialize)]
    struct Detail {
        heads: BTreeMap<String, Link>,
    }
    if entry.kind != KIND_HEADS {
        return Ok(Vec::new());
    }
    let detail: Detail = serde_json::from_str(&entry.detail)
        .map_err(|_| Fault::new(&entry.replica, entry.position, Why::NoLinks))?;
    let mark = |(replica, link): (String, Link)| Mark {
        replica,
        position: link.position,
        hash: link.hash,
    };
    Ok(detail.heads.into_iter().map(mark).collect())
}

#[derive(Serialize, Deserialize)]
struct Link {
    position: u64,
    #[serde(with = "digest")]
    hash: Digest,
}

/// What is wrong with a chain, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chain {replica}, position {position}: {why}")]
pub struct Fault {
    /// Which chain.
    pub replica: String,
    /// The first place that is wrong.
    pub position: u64,
    /// What is wrong there.
    pub why: Why,
}

impl Fault {
    /// A fault.
    #[must_use]
    pub fn new(replica: &str, position: u64, why: Why) -> Self {
        Self {
            replica: replica.to_owned(),
            position,
            why,
        }
    }
}

/// What is wrong at a place of a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The head says that there is no such entry.
    #[error("the entry is past the chain's head: it was put in")]
    Beyond,
    /// Its contents do not have its hash.
    #[error("the entry was changed: its hash is another one")]
    Changed,
    /// The chain ends before its head.
    #[error("the entry is missing, and all after it: the chain's head is at position {head}")]
    Cut {
        /// The head's position.
        head: u64,
    },
    /// What was remembered of it is not there.
    #[error("the entry is gone: {by} knows of it")]
    Forgotten {
        /// Who remembers.
        by: String,
    },
    /// The entry is not there.
    #[error("the entry is missing: {count} in a row")]
    Missing {
        /// How many.
        count: u64,
    },
    /// There is no head to the entries.
    #[error("the chain has entries and no head: its head was deleted")]
    NoHead,
    /// An entry of kind `heads` that tells of none.
    #[error("the entry should tell of other chains' heads, and does not")]
    NoLinks,
    /// The head's seal is not ours.
    #[error("the chain's head was not sealed by this installation: it was rewritten")]
    NotSealed,
    /// An entry of another chain.
    #[error("the entry is of another chain, {0}")]
    OfAnother(String),
    /// An entry whose place was taken already.
    #[error("the entry is out of order: position {expected} was next")]
    OutOfOrder {
        /// The place that was next.
        expected: u64,
    },
    /// Its hash is its own, but not the one that the next entry, or the head, follows.
    #[error("the entry was replaced: what follows it follows another one")]
    Replaced,
    /// What was remembered of it is different.
    #[error("the entry is another one than {by} knows: the chain was rewritten")]
    Rewritten {
        /// Who remembers.
        by: String,
    },
}

/// A walk along a chain, from its first entry on.
#[derive(Clone, Debug)]
pub struct Walk {
    replica: String,
    next: u64,
    previous: Digest,
}

impl Walk {
    /// Begins.
    #[must_use]
    pub fn of(replica: &str) -> Self {
        Self {
            replica: replica.to_owned(),
            next: 0,
            previous: BEGINNING,
        }
    }

    /// The place that comes next; as many entries were walked, missing ones counted.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes the next entry. After a fault the walk goes on behind it, so that one fault does not hide another.
    ///
    /// # Errors
    /// What is wrong, at the place where it is.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Fault> {
        let fault = |position, why| Err(Fault::new(&self.replica, position, why));
        if entry.replica != self.replica {
            return fault(self.next, Why::OfAnother(entry.replica.clone()));
        }
        if entry.position < self.next {
            let expected = self.next;
            return fault(entry.position, Why::OutOfOrder { expected });
        }
        let outcome = if entry.position > self.next {
            let count = entry.position - self.next;
            fault(self.next, Why::Missing { count })
        } else if entry.computed_hash() != entry.hash {
            fault(entry.position, Why::Changed)
        } else if entry.previous != self.previous {
            match entry.position.checked_sub(1) {
                Some(before) => fault(before, Why::Replaced),
                None => fault(0, Why::Changed),
            }
        } else {
            Ok(())
        };
        self.next = entry.position + 1;
        self.previous = entry.hash;
        outcome
    }

    /// Ends the walk at the chain's head.
    ///
    /// # Errors
    /// When entries are missing before it, or it follows another entry.
    pub fn end(&self, head: &Mark) -> Result<(), Fault> {
        let fault = |position, why| Err(Fault::new(&self.replica, position, why));
        let last = self.next.checked_sub(1);
        match last {
            Some(last) if last == head.position && self.previous == head.hash => Ok(()),
            Some(last) if last == head.position => fault(last, Why::Replaced),
            Some(last) if last > head.position => fault(head.position + 1, Why::Beyond),
            _ => {
                let head = head.position;
                fault(self.next, Why::Cut { head })
            }
        }
    }
}

/// Verifies a whole chain up to its head, and tells how many entries it has.
///
/// # Errors
/// The first fault.
pub fn verify<E: std::borrow::Borrow<Entry>>(
    entries: impl IntoIterator<Item = E>,
    head: &Mark,
) -> Result<u64, Fault> {
    let mut walk = Walk::of(&head.replica);
    for entry in entries {
        walk.take(entry.borrow())?;
    }
    walk.end(head)?;
    Ok(walk.next())
}

mod digest {
    use super::{Deserialize, Deserializer, Digest, Serializer, digest_from_hex, hex};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&hex(digest))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        digest_from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 hexadecimal digits"))
    }
}

mod text {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
