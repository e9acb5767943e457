use super::*;
use crate::crypto::hex;
use proptest::prelude::*;

fn entry(replica: &str, position: u64, previous: Digest, detail: &str) -> Entry {
    Entry {
        replica: replica.to_owned(),
        position,
        at: Timestamp::from_unix(1_795_488_780),
        kind: "cluster.apply".to_owned(),
        actor: "cli:root".to_owned(),
        remote: "local".to_owned(),
        rule: "local".to_owned(),
        request_id: "r1".to_owned(),
        detail: detail.to_owned(),
        previous,
        hash: [0; 32],
    }
    .hashed()
}

fn chain(length: u64) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for position in 0..length {
        let previous = entries.last().map_or(BEGINNING, |entry| entry.hash);
        entries.push(entry("a", position, previous, "{}"));
    }
    entries
}

fn head(entries: &[Entry]) -> Mark {
    entries.last().unwrap().mark()
}

fn fault(entries: &[Entry], head: &Mark) -> (u64, Why) {
    let fault = verify(entries, head).unwrap_err();
    assert_eq!(fault.replica, "a");
    (fault.position, fault.why)
}

#[test]
fn test_vectors_of_version_one() {
    let first = entry("a", 0, BEGINNING, r#"{"x":1}"#);
    let expected = [
        &hex(b"signet audit\0"),
        "01",
        "0000000161",
        "0000000000000000",
        "000000006b04fc0c",
        "0000000d636c75737465722e6170706c79",
        "00000008636c693a726f6f74",
        "000000056c6f63616c",
        "000000056c6f63616c",
        "000000027231",
        "000000077b2278223a317d",
        &"00".repeat(32),
    ];
    assert_eq!(hex(&first.encode()), expected.concat());
    assert_eq!(hex(&first.hash), FIRST_HASH);
    let second = entry("a", 1, first.hash, "{}");
    assert_eq!(hex(&second.hash), SECOND_HASH);
    let expected = [
        &hex(b"signet audit head\0"),
        "01",
        "0000000161",
        "0000000000000001",
        SECOND_HASH,
    ];
    assert_eq!(hex(&second.mark().message()), expected.concat());
}

/// Both by Python's hashlib, from the encoding as it is written down.
const FIRST_HASH: &str = "7eeee8f338a781ca3045f709899ffa79c930a3a92177bb9b8f45c7ec8f1fc4ac";
const SECOND_HASH: &str = "747b7587899b5cb89237bde63f23f10b865016664d3aeb4b280ec916f0f8e104";

#[test]
fn a_whole_chain_verifies_and_its_lines_read_back() {
    let entries = chain(5);
    assert_eq!(verify(&entries, &head(&entries)), Ok(5));
    let line = serde_json::to_string(&entries[3]).unwrap();
    assert!(line.contains(r#""at":"2026-11-24T02:53:00Z""#), "{line}");
    assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entries[3]);
}

#[test]
fn each_fault_is_named_where_it_is() {
    let whole = chain(6);
    let end = head(&whole);

    let mut changed = whole.clone();
    changed[2].actor = "cli:mallory".to_owned();
    assert_eq!(fault(&changed, &end), (2, Why::Changed));
    changed[2] = changed[2].clone().hashed();
    assert_eq!(fault(&changed, &end), (2, Why::Replaced));
    let mut last = whole.clone();
    last[5].detail = r#"{"x":2}"#.to_owned();
    last[5] = last[5].clone().hashed();
    assert_eq!(fault(&last, &end), (5, Why::Replaced));

    let mut deleted = whole.clone();
    deleted.remove(3);
    assert_eq!(fault(&deleted, &end), (3, Why::Missing { count: 1 }));
    assert_eq!(fault(&whole[2..], &end), (0, Why::Missing { count: 2 }));
    assert_eq!(fault(&whole[..4], &end), (4, Why::Cut { head: 5 }));
    assert_eq!(fault(&[], &end), (0, Why::Cut { head: 5 }));

    let mut swapped = whole.clone();
    swapped.swap(1, 2);
    assert_eq!(fault(&swapped, &end), (1, Why::Missing { count: 1 }));
    let twice = [&whole[..3], &whole[2..]].concat();
    assert_eq!(fault(&twice, &end), (2, Why::OutOfOrder { expected: 3 }));
    let mut forged = whole.clone();
    forged.push(entry("a", 6, end.hash, "{}"));
    assert_eq!(fault(&forged, &end), (6, Why::Beyond));
    let mut strange = whole.clone();
    strange[1] = entry("b", 1, whole[0].hash, "{}");
    assert_eq!(fault(&strange, &end), (1, Why::OfAnother("b".to_owned())));
    let mut orphan = whole;
    orphan[0] = entry("a", 0, [7; 32], "{}");
    assert_eq!(fault(&orphan, &end), (0, Why::Changed));
}

#[test]
fn one_fault_does_not_hide_the_next() {
    let mut entries = chain(8);
    entries[1].rule = "none".to_owned();
    entries.remove(4);
    let mut walk = Walk::of("a");
    let faults: Vec<_> = entries.iter().filter_map(|e| walk.take(e).err()).collect();
    let places: Vec<_> = faults.iter().map(|fault| fault.position).collect();
    assert_eq!(places, [1, 4]);
    assert_eq!(walk.end(&head(&entries)), Ok(()));
}

#[test]
fn what_was_remembered_is_compared() {
    let entries = chain(3);
    let mark = entries[1].mark();
    assert_eq!(mark.compare(Some(&entries[1].hash), "b"), Ok(()));
    let by = || "b".to_owned();
    assert_eq!(
        mark.compare(None, "b").unwrap_err(),
        Fault::new("a", 1, Why::Forgotten { by: by() })
    );
    assert_eq!(
        mark.compare(Some(&entries[2].hash), "b").unwrap_err().why,
        Why::Rewritten { by: by() }
    );
}

#[test]
fn links_to_other_chains_read_back() {
    let marks = vec![
        entry("b", 7, [1; 32], "{}").mark(),
        entry("c", 0, BEGINNING, "{}").mark(),
    ];
    let mut telling = entry("a", 0, BEGINNING, &links_detail(&marks));
    assert_eq!(links(&telling), Ok(Vec::new()), "another kind");
    telling.kind = KIND_HEADS.to_owned();
    assert_eq!(links(&telling), Ok(marks));
    telling.detail = "{}".to_owned();
    assert_eq!(links(&telling).unwrap_err().why, Why::NoLinks);
}

fn texts() -> impl Strategy<Value = [String; 6]> {
    proptest::array::uniform6("\\PC{0,12}")
}

proptest! {
    #[test]
    fn no_two_entries_have_one_encoding(a in texts(), b in texts(), p in 0_u64..3, q in 0_u64..3) {
        let build = |position: u64, texts: &[String; 6]| {
            let [replica, kind, actor, remote, rule, detail] = texts.clone();
            Entry {
                replica, kind, actor, remote, rule, detail,
                request_id: String::new(),
                ..entry("a", position, BEGINNING, "")
            }
        };
        let same = a == b && p == q;
        prop_assert_eq!(build(p, &a).encode() == build(q, &b).encode(), same);
    }

    #[test]
    fn any_flipped_bit_of_a_hash_and_any_lost_entry_is_found(
        length in 1_u64..12, at in any::<prop::sample::Index>(), bit in 0_usize..256, lose in any::<bool>(),
    ) {
        let whole = chain(length);
        let end = head(&whole);
        let mut entries = whole;
        let at = at.index(entries.len());
        if lose {
            entries.remove(at);
        } else {
            entries[at].hash[bit / 8] ^= 1 << (bit % 8);
        }
        let fault = verify(&entries, &end).unwrap_err();
        prop_assert_eq!(fault.position, u64::try_from(at).unwrap());
    }
}
