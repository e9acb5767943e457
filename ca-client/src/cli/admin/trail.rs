//! The audit trail, verified entry by entry: each replica's chain of hashes, what chains say of each other, and what this machine
//! remembers of them.

use std::collections::BTreeMap;

use pki::audit::{Entry, Fault, Mark, Walk, Why, links};
use pki::crypto::Digest;
use serde_json::{Value, json};

/// What is known of the trail so far.
#[derive(Default)]
pub(super) struct Trail {
    chains: BTreeMap<String, Chain>,
    /// What entries of kind `heads` say, each with who says it.
    said: Vec<(Mark, String)>,
    faults: Vec<Fault>,
}

struct Chain {
    walk: Walk,
    /// By position; `None` where an entry is missing.
    hashes: Vec<Option<Digest>>,
    entries: u64,
    head: Option<Mark>,
}

impl Chain {
    fn of(replica: &str) -> Self {
        Self {
            walk: Walk::of(replica),
            hashes: Vec::new(),
            entries: 0,
            head: None,
        }
    }

    fn at(&self, position: u64) -> Option<&Digest> {
        let place = usize::try_from(position).ok()?;
        self.hashes.get(place)?.as_ref()
    }
}

/// The longest gap of positions that is kept room for: a position out of nowhere does not fill the memory.
const LONGEST_GAP: u64 = 1_000_000;

impl Trail {
    /// The next entry of its replica's chain.
    pub(super) fn take(&mut self, entry: &Entry) {
        let chain = self.chain(&entry.replica);
        let next = chain.walk.next();
        chain.entries += 1;
        let taken = chain.walk.take(entry);
        if entry.position >= next && entry.position - next <= LONGEST_GAP {
            for _ in next..entry.position {
                chain.hashes.push(None);
            }
            chain.hashes.push(Some(entry.hash));
        }
        self.faults.extend(taken.err());
        match links(entry) {
            Ok(marks) => {
                let by = format!("chain {}, position {}", entry.replica, entry.position);
                self.said
                    .extend(marks.into_iter().map(|mark| (mark, by.clone())));
            }
            Err(fault) => self.faults.push(fault),
        }
    }

    /// Where a chain ends, as the server says; `sealed` is whether it knows the head for its own.
    pub(super) fn head(&mut self, head: Mark, sealed: bool) {
        if !sealed {
            let fault = Fault::new(&head.replica, head.position, Why::NotSealed);
            self.faults.push(fault);
        }
        let replica = head.replica.clone();
        self.chain(&replica).head = Some(head);
    }

    fn chain(&mut self, replica: &str) -> &mut Chain {
        self.chains
            .entry(replica.to_owned())
            .or_insert_with(|| Chain::of(replica))
    }

    /// Ends every chain at its head, and compares them with what they say of each other and what `remembered` says.
    pub(super) fn end(mut self, remembered: &[Mark]) -> Verified {
        for (replica, chain) in &self.chains {
            match &chain.head {
                Some(head) => self.faults.extend(chain.walk.end(head).err()),
                None => self.faults.push(Fault::new(replica, 0, Why::NoHead)),
            }
        }
        let found = |mark: &Mark| self.chains.get(&mark.replica)?.at(mark.position);
        let said = self.said.iter().map(|(mark, by)| (mark, by.as_str()));
        let known = remembered.iter().map(|mark| (mark, "this machine"));
        let differing = said
            .chain(known)
            .filter_map(|(mark, by)| mark.compare(found(mark), by).err());
        let mut faults = self.faults.clone();
        for fault in differing {
            // A head that is gone is told of by every later entry: once is enough.
            let is_new = !faults
                .iter()
                .any(|known| known.replica == fault.replica && known.position == fault.position);
            if is_new {
                faults.push(fault);
            }
        }
        faults.sort_by(|a, b| (&a.replica, a.position).cmp(&(&b.replica, b.position)));
        Verified {
            chains: self
                .chains
                .into_iter()
                .map(|(replica, chain)| (replica, chain.entries, chain.head))
                .collect(),
            faults,
        }
    }
}

/// What came of it.
pub(super) struct Verified {
    /// Each replica, how many entries its chain has, and where it ends.
    pub(super) chains: Vec<(String, u64, Option<Mark>)>,
    /// What is wrong, by replica and position.
    pub(super) faults: Vec<Fault>,
}

impl Verified {
    /// What is to be remembered: the heads of the chains that are whole, and of the others what was remembered before.
    pub(super) fn to_remember(&self, remembered: Vec<Mark>) -> Vec<Mark> {
        let is_whole = |replica: &str| self.faults.iter().all(|fault| fault.replica != replica);
        let mut marks: BTreeMap<String, Mark> = remembered
            .into_iter()
            .map(|mark| (mark.replica.clone(), mark))
            .collect();
        for (replica, _, head) in &self.chains {
            if let (Some(head), true) = (head, is_whole(replica)) {
                marks.insert(replica.clone(), head.clone());
            }
        }
        marks.into_values().collect()
    }

    pub(super) fn document(&self) -> Value {
        let chains: Vec<Value> = self
            .chains
            .iter()
            .map(|(replica, entries, head)| json!({ "replica": replica, "entries": entries, "head": head }))
            .collect();
        let faults: Vec<Value> = self
            .faults
            .iter()
            .map(|fault| {
                json!({ "replica": fault.replica, "position": fault.position, "why": fault.why.to_string() })
            })
            .collect();
        json!({ "chains": chains, "faults": faults })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::audit::{BEGINNING, KIND_HEADS, links_detail};
    use pki::time::Timestamp;

    fn chain(replica: &str, length: u64, link: Option<&Mark>) -> Vec<Entry> {
        let mut previous = BEGINNING;
        let mut entries = Vec::new();
        for position in 0..length {
            let is_link = position + 1 == length && link.is_some();
            let entry = Entry {
                replica: replica.to_owned(),
                position,
                at: Timestamp::from_unix(1_800_000_000),
                kind: if is_link { KIND_HEADS } else { "cluster.apply" }.to_owned(),
                actor: "cert:Ada".to_owned(),
                remote: "local".to_owned(),
                rule: "local".to_owned(),
                request_id: String::new(),
                detail: match link {
                    Some(mark) if is_link => links_detail(std::slice::from_ref(mark)),
                    _ => format!("{{\"n\":{position}}}"),
                },
                previous,
                hash: BEGINNING,
            }
            .hashed();
            previous = entry.hash;
            entries.push(entry);
        }
        entries
    }

    fn verify(entries: &[&[Entry]], heads: &[&Entry], remembered: &[Mark]) -> Verified {
        let mut trail = Trail::default();
        for head in heads {
            trail.head(head.mark(), true);
        }
        for entry in entries.iter().copied().flatten() {
            trail.take(entry);
        }
        trail.end(remembered)
    }

    fn places(verified: &Verified) -> Vec<(String, u64)> {
        let faults = verified.faults.iter();
        faults
            .map(|fault| (fault.replica.clone(), fault.position))
            .collect()
    }

    #[test]
    fn a_whole_trail_has_no_fault_and_is_remembered() {
        let a = chain("a", 5, None);
        let b = chain("b", 3, Some(&a[2].mark()));
        let verified = verify(&[&a, &b], &[&a[4], &b[2]], &[a[3].mark()]);
        assert_eq!(places(&verified), []);
        let marks = verified.to_remember(vec![a[3].mark()]);
        assert_eq!(marks, [a[4].mark(), b[2].mark()]);
    }

    #[test]
    fn a_chain_that_was_cut_with_its_head_is_known_by_the_others_and_by_this_machine() {
        let a = chain("a", 5, None);
        let b = chain("b", 3, Some(&a[4].mark()));
        let verified = verify(&[&a[..3], &b], &[&a[2], &b[2]], &[]);
        assert_eq!(places(&verified), [("a".to_owned(), 4)]);
        let verified = verify(&[&a[..3]], &[&a[2]], &[a[3].mark()]);
        assert_eq!(places(&verified), [("a".to_owned(), 3)]);
        // What was remembered of a chain with a fault stays.
        assert_eq!(verified.to_remember(vec![a[3].mark()]), [a[3].mark()]);
        // A whole chain that is gone.
        let verified = verify(&[], &[], &[a[3].mark()]);
        assert_eq!(places(&verified), [("a".to_owned(), 3)]);
    }

    #[test]
    fn a_chain_that_was_written_anew_is_not_the_one_that_is_remembered() {
        let a = chain("a", 5, None);
        let mut anew = chain("a", 5, None);
        anew[1].actor = "cert:Eve".to_owned();
        for i in 1..5 {
            anew[i].previous = anew[i - 1].hash;
            anew[i] = anew[i].clone().hashed();
        }
        let verified = verify(&[&anew], &[&anew[4]], &[]);
        assert_eq!(places(&verified), []);
        let verified = verify(&[&anew], &[&anew[4]], &[a[4].mark()]);
        assert_eq!(places(&verified), [("a".to_owned(), 4)]);
    }

    #[test]
    fn each_fault_is_named_by_its_chain_and_place() {
        let a = chain("a", 6, None);
        let mut changed = a.clone();
        changed[2].detail = "{}".to_owned();
        changed.remove(4);
        let verified = verify(&[&changed], &[&a[5]], &[]);
        assert_eq!(
            places(&verified),
            [("a".to_owned(), 2), ("a".to_owned(), 4)]
        );

        let mut trail = Trail::default();
        trail.head(a[5].mark(), false);
        a.iter().for_each(|entry| trail.take(entry));
        assert_eq!(places(&trail.end(&[])), [("a".to_owned(), 5)]);

        let verified = verify(&[&a], &[], &[]);
        assert!(matches!(verified.faults[0].why, Why::NoHead));

        let mut far = a[1].clone();
        far.position = u64::MAX - 1;
        let verified = verify(&[&a[..1], &[far]], &[&a[0]], &[]);
        assert!(!verified.faults.is_empty());
    }
}
